"""Figures, read back: the pictures in each file are the run's own, pixel by pixel, and the labels are text.

The oracle for PDF is PDFium, the engine that browsers print with; what needs no engine is parsed here.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import filterscope as fs
from filterscope.analyzer.run.reader import Run
from filterscope.cli import app
from filterscope.converters.errors import SettingsError
from filterscope.reports.figures import figures, pdf
from filterscope.reports.figures.figures import Figure
from support.changed_tables import change_rows
from support.synthetic_run import HOSTILE_NAMES, synthetic_run

SVG = "{http://www.w3.org/2000/svg}"
LAYER = "features.1.conv"
CHANNELS = [5, 0, 4]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(synthetic_run(tmp_path_factory.mktemp("figures") / "run", channels=6))


def pictures_of(run: Run, layer: str, channels: list[int], objective: str = "channel") -> list[np.ndarray]:
    rows = [row for row in run.units.to_pylist() if row["layer"] == layer and row["objective"] == objective]
    by_channel = {row["channel"]: row for row in rows if row["method"] == "ascent"}
    return [run.tile(by_channel[channel]) for channel in channels]


def every(factor: int, pixels: np.ndarray) -> np.ndarray:
    """A picture whose pixels are squares of `factor`, made small again; fails where they are no squares."""
    small = pixels[::factor, ::factor]
    np.testing.assert_array_equal(pixels, small.repeat(factor, 0).repeat(factor, 1))
    return small


def images_in(document: bytes) -> list[np.ndarray]:
    """The image objects of a PDF of ours."""
    facts = rb"/Subtype/Image/Width (\d+)/Height (\d+)/ColorSpace/(DeviceRGB|DeviceGray).*?/Length (\d+)>>\nstream\n"
    found = []
    for match in re.finditer(facts, document):
        content = zlib.decompress(document[match.end() : match.end() + int(match[4])])
        found.append(np.frombuffer(content, np.uint8).reshape(int(match[2]), int(match[1]), -1))
    return found


def test_a_pdf_holds_the_runs_pictures_pixel_by_pixel(run):
    made = fs.figure(run, LAYER, CHANNELS)
    for found, expected in zip(images_in(made.pdf()), pictures_of(run, LAYER, CHANNELS), strict=True):
        np.testing.assert_array_equal(every(made.factor, found), expected)


def test_the_table_of_a_pdf_says_where_each_object_begins(run):
    document = fs.figure(run, LAYER, CHANNELS).pdf()
    table = int(document.rsplit(b"startxref\n", 1)[1].split(b"\n")[0])
    assert document[table:].startswith(b"xref\n")
    places = re.findall(rb"(\d{10}) 00000 n \n", document[table:])
    assert len(places) == 8 + len(CHANNELS)
    for number, place in enumerate(places, 1):
        assert document[int(place) :].startswith(b"%d 0 obj\n" % number)


def test_pdfium_draws_the_pictures_where_the_layout_says_and_reads_the_labels(run):
    pdfium = pytest.importorskip("pypdfium2", reason="needs pypdfium2 (extra dev)")
    made = fs.figure(run, LAYER, CHANNELS, columns=2, captions="activation", width="60mm")
    document = pdfium.PdfDocument(made.pdf())
    page = document[0]
    np.testing.assert_allclose(np.array(page.get_size()) / pdf.POINTS, (60, made.height), atol=1e-3)
    assert page.get_textpage().get_text_range().split() == " ".join(tile.label for tile in made.tiles).split()
    assert document.get_metadata_value("Title") == made.title
    scale = 8  # pixels a millimetre
    drawn = np.asarray(page.render(scale=scale / pdf.POINTS).to_pil())
    height, width = made.shape
    for index, expected in enumerate(pictures_of(run, LAYER, CHANNELS)):
        left, top = made.place(index)
        rows = (top + (np.arange(height) + 0.5) * made.tile[0] / height) * scale
        columns = (left + (np.arange(width) + 0.5) * made.tile[1] / width) * scale
        np.testing.assert_array_equal(drawn[np.ix_(rows.astype(int), columns.astype(int))], expected)
    document.close()


def test_an_svg_holds_the_pictures_and_real_text(run):
    made = fs.figure(run, LAYER, CHANNELS, width=120)
    root = ET.fromstring(made.svg())
    assert root.get("width") == "120mm"
    assert [text.text for text in root.iter(f"{SVG}text")] == ["5", "0", "4"]
    for image, expected in zip(root.iter(f"{SVG}image"), pictures_of(run, LAYER, CHANNELS), strict=True):
        assert float(image.get("width")) / float(image.get("height")) == pytest.approx(1)
        data = base64.b64decode(image.get("href").removeprefix("data:image/png;base64,"))
        np.testing.assert_array_equal(every(made.factor, np.asarray(Image.open(io.BytesIO(data)))), expected)


def test_a_png_states_its_resolution_and_enlarges_by_whole_numbers(run):
    made = fs.figure(run, LAYER, CHANNELS, columns=3, width="50mm", dpi=200)
    with Image.open(io.BytesIO(made.png())) as picture:
        dpi, pixels = picture.info["dpi"][0], np.asarray(picture)
    assert dpi >= 200
    assert pixels.shape[1] / dpi * 25.4 == pytest.approx(50, rel=1e-3)
    side = made.factor * made.shape[1]
    gap = (pixels.shape[1] - 3 * side) // 2
    for index, expected in enumerate(pictures_of(run, LAYER, CHANNELS)):
        left = index * (side + gap)
        np.testing.assert_array_equal(every(made.factor, pixels[:side, left : left + side]), expected)


def test_labels_are_drawn_on_a_png_and_left_out_on_demand(run):
    def ink(made: Figure) -> int:
        pixels = np.asarray(Image.open(io.BytesIO(made.png())))
        return int((pixels[made.factor * made.shape[0] :] < 128).sum())

    assert ink(fs.figure(run, LAYER, [0], captions="channel")) > 50
    assert ink(fs.figure(run, LAYER, [0], captions="none")) == 0


@pytest.mark.parametrize("form", [Figure.pdf, Figure.svg, Figure.png])
def test_the_same_run_gives_the_same_bytes(run, form):
    assert form(fs.figure(run.folder, LAYER, "0-2")) == form(fs.figure(Run(run.folder), LAYER, [0, 1, 2]))


@pytest.mark.parametrize("bands", [1, 5])
def test_other_inputs_than_colour_become_grey_figures(tmp_path, bands):
    run = Run(synthetic_run(tmp_path / "run", bands=bands, size=(24, 32), channels=3))
    made = fs.figure(run, LAYER, [0])
    assert {image.shape[2] for image in images_in(made.pdf())} == {1}
    assert Image.open(io.BytesIO(made.png())).mode == "L"
    assert bool(made.notes) == (bands == 5)


def test_names_from_a_model_are_data(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=len(HOSTILE_NAMES), channels=1, names=HOSTILE_NAMES, images=0))
    for layer in run.layers[: len(HOSTILE_NAMES)]:
        made = figures.figure(run, layer["slug"], [0])
        title = ET.fromstring(made.svg()).find(f"{SVG}title").text
        assert title.endswith(", channels 0: channel, by ascent")
        assert images_in(made.pdf())


def test_a_figure_says_which_units_claim_nothing(run):
    notes = " ".join(fs.figure(run, LAYER, [0, 1, 2]).notes)
    assert "unraised: 1; " in notes
    assert "dead: 2; " in notes
    assert fs.figure(run, LAYER, [0, 4]).notes == ()


def test_the_widest_label_fits_below_its_picture(run):
    made = fs.figure(run, LAYER, "0-5", columns=6, captions="activation", width="43mm")
    widest = max(pdf.text_width(tile.label) for tile in made.tiles) * made.font / pdf.POINTS
    assert made.font < figures.FONT
    assert widest <= made.tile[1] + figures.GAP


WIDTHS = [("85mm", 85), ("3.3in", 83.82), ("8.5 cm", 85), ("72pt", 25.4), (100, 100), ("60", 60)]


@pytest.mark.parametrize(("given", "expected"), WIDTHS)
def test_a_width_may_be_given_in_the_units_of_print(given, expected):
    assert figures.length(given) == pytest.approx(expected)


MISTAKES = [  # options, message
    ({"layer": "features.9.conv"}, r"^`layer=features.9.conv`: .* has no such layer; nearest: features\.\d\.conv"),
    ({"layer": "features.*"}, r"fits 4 layers, features.0.conv, .*; name one$"),
    ({"layer": "features.3.conv"}, r"was not analysed in"),
    ({"channels": "4,17"}, r"^`channels=17`: is not in the run; of features.1.conv it has 0, 1, 2, 3, 4 and 5$"),
    ({"channels": "4-x"}, r"^`channels=4-x`: give all, or numbers and ranges"),
    ({"channels": "8-3"}, r"^`channels=8-3`: give all, or numbers and ranges"),
    ({"objective": "negative"}, r"it has `objective=channel` `method=ascent`, `objective=neuron`"),
    ({"method": "vertex"}, r"^`objective=channel` `method=vertex`: features.1.conv has no such pictures"),
    ({"captions": "all"}, r"^`captions=all`: give one of none, channel, activation$"),
    (
        {"captions": "activation", "columns": 6, "width": "22mm"},
        r"^`captions=activation`: do not fit .* `captions=none`$",
    ),
    ({"width": "85 miles"}, r"^`width=85 miles`: give 5mm to 2000mm"),
    ({"width": "nan"}, r"^`width=nan`: give 5mm"),
    ({"dpi": 1e6}, r"^`dpi=1e\+06`: give 36 to 2400$"),
    ({"columns": 0}, r"^`columns=0`: give 1 to 28 for a width of 85 mm$"),
    ({"columns": 99}, r"^`columns=99`: give 1 to 28"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[message[:24] for _, message in MISTAKES])
def test_a_mistake_is_answered_in_one_line(run, options, message):
    with pytest.raises(SettingsError, match=message) as caught:
        figures.figure(run, **{"layer": LAYER, "channels": "0-5"} | options)
    assert "\n" not in str(caught.value)


def test_a_unit_without_a_picture_is_named(run, monkeypatch):
    monkeypatch.setattr(Run, "tile", lambda *_: None)
    with pytest.raises(SettingsError, match=r"^`channels=2`: has no picture \(dead\); choose other channels"):
        figures.figure(run, LAYER, "2")


def changed(folder, change, **info):
    """The run with other rows of its unit table, and other settings."""
    change_rows(folder / "units.parquet", change)
    told = json.loads((folder / "run.json").read_text("utf-8"))
    told["settings"] |= info
    (folder / "run.json").write_text(json.dumps(told), encoding="utf-8")
    return Run(folder)


def test_a_layer_without_pictures_has_no_figure(run, tmp_path):
    other = changed(shutil.copytree(run.folder, tmp_path / "run"), lambda row: {"atlas": None, "tile": None})
    with pytest.raises(SettingsError, match=r"^`channels=all`: features\.1\.conv has no such picture; choose another"):
        figures.figure(other, LAYER, "all")


def test_pictures_of_several_sizes_make_no_figure(run, tmp_path):
    other = changed(
        shutil.copytree(run.folder, tmp_path / "run"),
        lambda row: {"height": 3, "width": 3} if row["channel"] == 4 else {},
    )
    with pytest.raises(
        SettingsError, match=r"pictures of features\.1\.conv differ in size; choose channels of one size"
    ):
        figures.figure(other, LAYER, [0, 4])
    assert len(figures.figure(other, LAYER, [0, 5]).tiles) == 2


def test_a_figure_says_what_was_done_to_its_pictures(run, tmp_path):
    stretched = changed(shutil.copytree(run.folder, tmp_path / "run"), lambda row: {}, stretched=True)
    said_of_ascent = "the run's preset stretched the contrast of these pictures; say so beside the figure"
    assert figures.figure(stretched, LAYER, [0, 4]).notes == (said_of_ascent,)
    formula = figures.figure(stretched, LAYER, [0, 4], objective="neuron", method="analytic")
    assert formula.notes == (
        "shown in the layer's own input: one patch per input channel, white for high and black for low",
    )


def test_a_notebook_shows_the_figure_as_its_svg(run):
    made = fs.figure(run, LAYER, [0, 4])
    assert made._repr_svg_() == made.svg().decode()


@pytest.mark.parametrize(("name", "message"), [("fig.jpg", "ends in .pdf, .svg, .png"), ("no/fig.pdf", "lies in none")])
def test_a_file_that_cannot_be_is_refused_before_the_work(run, tmp_path, name, message):
    with pytest.raises(SettingsError, match=message):
        figures.check_file(tmp_path / name)


def test_a_png_beyond_all_measure_is_refused(run):
    with pytest.raises(SettingsError, match=r"^`dpi=2400`: .* pixels are too many"):
        fs.figure(run, LAYER, "0", width="2000mm", dpi=2400).png()


def test_the_command_writes_the_file_and_says_what_it_is(run, tmp_path):
    file = tmp_path / "fig.pdf"
    command = ["figure", str(run.folder), "--layer", LAYER, "--channels", "0,4-5", "--width", "40mm", "-o", str(file)]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0
    assert answer.stdout.strip().replace("\n", "").startswith(f"{file}: 3 pictures of 20 × 20 pixels, 40 × ")
    assert file.read_bytes() == fs.figure(run, LAYER, [0, 4, 5], width=40).pdf()
