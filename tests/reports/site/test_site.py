"""The static site, read back as a browser would: links, sprites, numbers, names.

The oracle is the run itself: what a page shows is cut out of its sheets again and compared with the run's pictures.
"""

from __future__ import annotations

import errno
import io
import json
import math
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from filterscope.analyzer.run.layout import TaskKey
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import ImageInfo, LayerInfo, PreprocessingInfo, RunInfo
from filterscope.analyzer.run.writer import RunWriter
from filterscope.converters.errors import RunError
from filterscope.reports.page import colours, markup, sheets, words
from filterscope.reports.page.folder import Files
from filterscope.reports.page.units import UnitTable
from filterscope.reports.site import definitions, details, image_page, pictures, single, site, summary
from filterscope.reports.site.site import render, render_single
from support.pages import Element, Page, read
from support.synthetic_run import HOSTILE_NAMES, synthetic_run

RUNS = {  # name → what synthetic_run is given
    "plain": {},
    "hostile": {"layers": 6, "names": HOSTILE_NAMES, "images": 8},
    "partial": {"status": "partial", "unfinished": ["conv1"]},
    "running": {"status": "running", "unfinished": ["conv1", "conv2"], "certain": False},
    "without images": {"images": 0},
    "grey 28": {"size": (28, 28), "bands": 1, "images": 2},
    "five bands": {"bands": 5, "size": (24, 32), "images": 2},
    "large": {"picture": 90, "size": (240, 320), "layers": 2, "channels": 4, "images": 1},
    "more images than shown": {"images": 15, "layers": 2, "channels": 3},
    "studies": {"studies": True, "branches": True, "layers": 4, "images": 2},
    "diverse": {"diverse": 4, "layers": 2, "images": 1},
    "first pictures": {"first": ["conv0", "conv2"], "status": "partial", "images": 1},
    "hostile studies": {"studies": True, "layers": 2, "names": HOSTILE_NAMES, "images": 8},
}
SCRIPTS = {"layer.js", "maps.js", "unit.js", "enlarge.js", "graph.js", "image.js", "data.js", "find.js"}


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Each run with its rendered site, made once."""
    made = {}

    def get(name: str) -> tuple[Run, Path]:
        if name not in made:
            run = Run(synthetic_run(tmp_path_factory.mktemp("run") / "run", **RUNS[name]))
            made[name] = run, render(run).parent
        return made[name]

    return get


@pytest.fixture(params=RUNS)
def made(request, sites):
    return sites(request.param)


def pages_of(folder: Path) -> dict[str, Page]:
    return {path.name: read(path) for path in sorted(folder.glob("*.html"))}


def test_every_link_leads_to_a_file_of_the_site_and_to_an_id_in_it(made):
    _, folder = made
    pages = pages_of(folder)
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), f"{name}: an id stands twice"
        for element in page.elements:
            for attribute in ("href", "src"):
                target = element.attributes.get(attribute)
                if target is None:
                    continue
                file, _, anchor = unquote(target).partition("#")
                inside = (folder / (file or name)).resolve()
                assert inside.is_file(), f"{name}: {target} leads nowhere"
                assert folder.resolve() in inside.parents, f"{name}: {target} leads out of the site"
                assert not anchor or anchor in pages[file or name].ids, f"{name}: {target} has no such place"
    for sheet in (folder / "assets").glob("*.css"):
        for target in re.findall(r"url\(([^)]*)\)", sheet.read_text()):
            if target == "#heat":
                assert all("heat" in page.ids for page in pages.values())
            else:
                assert (sheet.parent / target).is_file(), f"{sheet.name}: {target} leads nowhere"


def test_no_page_holds_inline_style_or_script_or_reaches_out(made):
    _, folder = made
    for name, page in pages_of(folder).items():
        assert not page.select("style"), name
        for element in page.elements:
            assert "style" not in element.attributes, f"{name}: {element}"
            assert not [key for key in element.attributes if key.startswith("on")], f"{name}: {element}"
            if element.tag == "script":
                assert re.fullmatch(r"assets/[A-Za-z0-9-]+\.js", element.attributes["src"]), name
                assert not element.text, name
        policy = next(e for e in page.select("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy")
        assert policy.attributes["content"].startswith("default-src 'none'")
        assert "unsafe" not in policy.attributes["content"]
        assert "//" not in policy.attributes["content"]


def test_names_come_out_as_text_and_never_as_markup_or_paths(sites):
    run, folder = sites("hostile")
    for path in folder.rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9.-]+", path.name), path
    for name, page in pages_of(folder).items():
        assert all("src" in script.attributes for script in page.select("script")), name
        assert "49" not in page.select("h1")[0].text, "a template was run on a name"
    for layer in run.layers:
        if layer["analysed"]:
            heading = read(folder / f"layer-{layer['slug']}.html").select("h1")[0]
            assert heading.text == words.clean(layer["name"])
            assert not {e.tag for e in read(folder / f"layer-{layer['slug']}.html").select(within=heading)} - {"bdi"}


def test_every_layer_and_every_unit_is_there(made):
    run, folder = made
    index = read(folder / "index.html")
    assert len(index.select("li", "layer")) == sum(layer["analysed"] for layer in run.layers)
    for layer in run.layers:
        entry = next(e for e in index.select("li") if e.attributes.get("id") == f"layer-{layer['slug']}")
        assert words.shortened(layer["name"], 60)[:20] in entry.text
        if layer["analysed"]:
            page = read(folder / f"layer-{layer['slug']}.html")
            assert sorted(int(unit.attributes["id"]) for unit in page.select("a", "u")) == layer["channels"]
        else:
            assert entry in index.select("li", within=index.select("details", "others")[0])
            page = read(folder / f"layer-{layer['slug']}.html")
            assert f"{words.shortened(layer['name'])} was not analysed in this run." in page.text


def kinds_of_page(folder: Path, slug: str) -> list[tuple[str, str]]:
    told = json.loads((folder / "assets" / f"layer-{slug}.json").read_text(encoding="utf-8"))
    return [(kind["objective"], kind["method"]) for kind in told["kinds"]]


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def test_numbers_on_the_page_are_those_of_the_table(made):
    run, folder = made
    rows = {(r["layer"], r["channel"], r["objective"], r["method"]): r for r in run.units.to_pylist()}
    seen = 0
    for layer in filter(lambda layer: layer["analysed"], run.layers):
        page = read(folder / f"layer-{layer['slug']}.html")
        kinds = kinds_of_page(folder, layer["slug"])
        for tile in page.select("a", "u"):
            claims = {e.text for e in page.select("i", within=tile) if "first" not in e.classes}
            expected = set()
            for position, kind in enumerate(kinds):
                row = rows.get((layer["name"], int(tile.attributes["id"]), *kind))
                if kind[0].startswith("diversity"):  # shown together
                    seen += row is not None
                    continue
                text = tile.attributes[f"data-k{position}"]
                if row is None:
                    assert text == ""
                elif row["activation"] is None:
                    assert text == "–"
                else:
                    assert number(text) == pytest.approx(row["activation"], rel=5e-3)
                expected |= {row["status"]} - {"ok"} if row else set()
                seen += row is not None
            assert claims == expected
    assert seen == len(rows)


def test_json_beside_a_page_holds_the_table_exactly(made):
    run, folder = made
    rows = Counter()
    for layer in filter(lambda layer: layer["analysed"], run.layers):
        told = json.loads((folder / "assets" / f"layer-{layer['slug']}.json").read_text(encoding="utf-8"))
        for kind in told["kinds"]:
            columns = zip(told["channels"], kind["activation"], kind["status"], strict=True)
            for channel, activation, status in columns:
                if status is not None:
                    rows[layer["name"], channel, kind["objective"], kind["method"], activation] += 1
    names = ("layer", "channel", "objective", "method", "activation")
    assert rows == Counter(tuple(row[name] for name in names) for row in run.units.to_pylist())
    index = json.loads((folder / "assets" / "index.json").read_text(encoding="utf-8"))
    assert index["totals"]["pictures"] == sum(row["atlas"] is not None for row in run.units.to_pylist())
    assert [layer["slug"] for layer in index["layers"]] == [layer["slug"] for layer in run.layers]


def called(path: Path) -> list[Any]:
    """What a data file hands to the page's script."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("filterscope(")
    assert text.endswith(");\n")
    assert "<" not in text
    return list(json.loads(f"[{text[12:-3]}]"))


def test_a_channels_view_gets_what_the_studies_found(sites):
    run, folder = sites("studies")
    layer = run.layers[1]
    kind, slug, part, units = called(folder / "assets" / f"{layer['slug']}-u0.js")
    assert (kind, slug, part) == ("units", layer["slug"], 0)
    kind, slug, told = called(folder / "assets" / f"{layer['slug']}.js")
    assert [unit["c"] for unit in units] == told["channels"] == layer["channels"]
    weights = {row["channel"]: row for row in run.weights(layer["slug"]).to_pylist()}
    examples = run.examples(layer["slug"]).to_pylist()
    tuning = {(r["layer"], r["channel"]): r for r in run.table("tuning/units.parquet").to_pylist()}
    for unit in units:
        channel = unit["c"]
        row = weights[channel]
        assert unit["w"][2] == row["inputs"]
        assert [told["names"][i] for i in unit["w"][4]] == row["sources"]
        assert unit["w"][5] == row["source_channels"]
        strongest = [r for r in examples if r["channel"] == channel]
        assert [e[0] for e in unit["e"]] == [r["example"] for r in strongest]
        assert [e[1] for e in unit["e"]] == [pytest.approx(r["activation"], rel=1e-3) for r in strongest]
        assert unit["t"][0] == tuning[layer["name"], channel]["words"]
    ways = called(folder / "assets" / "ways.js")[1]
    assert {name: way["page"] for name, way in ways.items()} == {
        one["name"]: f"layer-{one['slug']}.html" for one in run.layers if one["analysed"]
    }


def test_a_layer_shows_the_kernels_as_its_weights(sites):
    run, folder = sites("studies")
    for layer in run.layers[:2]:
        styles = Styles(folder / "assets" / f"{layer['slug']}.css")
        space = f".l{layer['index']}-"
        page = read(folder / f"layer-{layer['slug']}.html")
        rows = {row["channel"]: row for row in run.weights(layer["slug"]).to_pylist()}
        for tile in page.select("a", "u"):
            row = rows[int(tile.attributes["id"])]
            shown = cut(styles, of_tile(styles, space, "w", tile))
            expected = run.tile(row)
            assert expected is not None
            if row["bands"] == 3:
                np.testing.assert_array_equal(shown, expected)
            else:  # the strongest input's kernel stands first, twice as large, in signed colours
                np.testing.assert_array_equal(shown[:6:2, :6:2, :3], colours.signed(expected[:, :3]))
                assert (shown[6, :, 3] == 0).all()


# Sprites


class Styles:
    """The few kinds of rule that the generated style sheets hold."""

    def __init__(self, *paths: Path) -> None:
        self.folder = paths[0].parent
        self.rules: dict[str, dict[str, str]] = {}
        for path in paths:
            for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", path.read_text()):
                for selector in selectors.split(","):
                    pairs = [declaration.split(":", 1) for declaration in body.split(";")]
                    self.rules.setdefault(selector.strip(), {}).update(pairs)

    def get(self, *selectors: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for selector in selectors:
            found |= self.rules.get(selector, {})
        return found


def cut(styles: Styles, rules: dict[str, str]) -> np.ndarray:
    """What an element with these rules shows, at the sheet's own resolution, (H, W, bands)."""
    with Image.open(styles.folder / re.findall(r"url\((.*?)\)", rules["background-image"])[0]) as picture:
        sheet = np.asarray(picture if picture.mode == "RGBA" else picture.convert("RGB"))
    columns, rows = (int(part.rstrip("%")) // 100 for part in rules["background-size"].split())
    x, y = rules.get("background-position", "0 0").split()
    x, y = rules.get("background-position-x", x), rules.get("background-position-y", y)
    column, row = (float(at.rstrip("%")) / 100 * (count - 1) for at, count in ((x, columns), (y, rows)))
    assert column == pytest.approx(round(column), abs=1e-3)
    assert row == pytest.approx(round(row), abs=1e-3)
    assert sheet.shape[0] % rows == 0
    assert sheet.shape[1] % columns == 0
    height, width = sheet.shape[0] // rows, sheet.shape[1] // columns
    return sheet[round(row) * height :, round(column) * width :][:height, :width]


def test_kernels_of_a_layer_without_pictures_stand_at_their_channels(tmp_path):
    """Kernels and maps share the places of sheets where no picture was made yet, over several sheets too."""
    place = synthetic_run(tmp_path / "run", layers=1, channels=140, images=1, studies=True, status="partial")
    shutil.rmtree(place / "tasks")
    info = json.loads((place / "run.json").read_text(encoding="utf-8"))
    info["settings"]["objectives"] = []
    (place / "run.json").write_text(json.dumps(info), encoding="utf-8")
    run = Run(place)
    folder = render(run).parent
    layer = run.layers[0]
    styles = Styles(folder / "assets" / f"{layer['slug']}.css")
    tiles = read(folder / f"layer-{layer['slug']}.html").select("a", "u")
    for tile, row in zip(tiles, run.weights(layer["slug"]).to_pylist(), strict=True):
        shown = cut(styles, of_tile(styles, f".l{layer['index']}-", "w", tile))
        np.testing.assert_array_equal(shown, run.tile(row))


PLACE_NOTHING = ("cols-", "about-")


@pytest.mark.parametrize("name", ["plain", "studies", "large"])
def test_no_two_style_sheets_have_rules_for_one_class(name, sites):
    """A page may link several of them, and a single file holds all."""
    folder = sites(name)[1] / "assets"
    classes = {}
    for path in folder.glob("*.css"):
        selectors = re.findall(r"([^{}]+)\{", re.sub(r"/\*.*?\*/|url\([^)]*\)", "", path.read_text(), flags=re.S))
        own = {name for selector in selectors for name in re.findall(r"\.(-?[a-zA-Z][\w-]*)", selector)}
        classes[path.name] = {name for name in own if re.fullmatch(r"(\w+-)?[a-z]\d+", name)}
    base = classes.pop("site.css")
    several = Counter(name for own in classes.values() for name in own | (own & base))
    assert several
    assert [name for name, times in several.items() if times > 1 and not name.startswith(PLACE_NOTHING)] == []


def numbered(classes: set[str], letter: str) -> str:
    """The class of a style sheet, with its prefix, that is one letter and a number."""
    return next(name for name in classes if re.fullmatch(rf"\w+-{letter}\d+", name))


def of_tile(styles: Styles, space: str, letter: str, tile: Element) -> dict[str, str]:
    """How the style sheets draw a tile when its page shows the pictures of one kind."""
    sheet, place = (numbered(tile.classes, kind) for kind in "st")
    rules = styles.get(f"{space}{letter}", f"{space}{letter}.{sheet}", f".{place}")
    return rules | {"background-size": rules["--bs"], "background-position": f"{rules['--x']} {rules['--y']}"}


@pytest.mark.parametrize("name", ["plain", "hostile", "grey 28", "five bands", "large"])
def test_each_sprite_shows_its_own_unit(name, sites):
    run, folder = sites(name)
    rows = {(r["layer"], r["channel"], r["objective"], r["method"]): r for r in run.units.to_pylist()}
    compared = 0
    for layer in filter(lambda layer: layer["analysed"], run.layers):
        page = read(folder / f"layer-{layer['slug']}.html")
        styles = Styles(folder / "assets" / f"{layer['slug']}.css")
        space = f".l{layer['index']}-"
        for tile in page.select("a", "u"):
            for position, kind in enumerate(kinds_of_page(folder, layer["slug"])):
                row = rows[layer["name"], int(tile.attributes["id"]), *kind]
                shown = cut(styles, of_tile(styles, space, f"k{position}", tile))
                expected = run.tile(row)
                assert expected is not None
                if row["bands"] not in (1, 3):
                    shown = shown[: row["height"], : row["width"]]  # the first plane stands first
                    expected = expected[:, :, :1]
                np.testing.assert_array_equal(shown, np.broadcast_to(expected, shown.shape))
                compared += 1
    assert compared == len(rows)


def test_diverse_pictures_are_one_choice_and_one_picture_where_all_show_the_same(sites):
    run, folder = sites("diverse")
    rows = {(r["channel"], r["objective"]): r for r in run.units.to_pylist() if r["layer"] == run.layers[1]["name"]}
    names = [f"diversity-{number}" for number in range(1, 5)]
    page = read(folder / f"layer-{run.layers[1]['slug']}.html")
    choices = [label.text.strip() for label in page.select("label") if page.select("input", within=label)]
    assert choices[:4] == ["Channel", "Neuron", "Diversity", "Analytic, own input"]
    about = next(e.text for e in page.select("p", "about-mode") if "about-d" in e.classes)
    assert "of 4 of 6 channels; one picture where all four ascents came to the same" in about
    positions = {kind[0]: place for place, kind in enumerate(kinds_of_page(folder, run.layers[1]["slug"]))}
    styles = Styles(folder / "assets" / f"{run.layers[1]['slug']}.css")
    for tile in page.select("a", "u"):
        channel = int(tile.attributes["id"])
        pictures = page.select("span", "pic", within=tile)
        there = [rows[channel, name] for name in names if (channel, name) in rows]
        if channel % 2 and there:
            there = [max(there, key=lambda row: row["activation"])]
        assert len(pictures) == (0 if channel >= 4 else 1 if channel % 2 else 4)
        assert ("xd" in tile.classes) is (channel >= 4)
        if there:
            assert number(tile.attributes["data-d"]) == pytest.approx(max(r["activation"] for r in there), rel=5e-3)
        for picture, row in zip(pictures, there, strict=True):
            assert f"l1-k{positions[row['objective']]}" in picture.classes
            shown = cut(styles, of_tile(styles, ".l1-", f"k{positions[row['objective']]}", tile))
            np.testing.assert_array_equal(shown, run.tile(row))
    assert not page.select("p", "missing")


def test_diverse_pictures_are_missed_only_where_they_were_asked_for(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=2, images=0, diverse=4, status="partial")
    slug = Run(place).layers[1]["slug"]
    folder = render(Run(place)).parent
    assert "Missing here" not in read(folder / f"layer-{slug}.html").text
    info = json.loads((place / "run.json").read_text(encoding="utf-8"))
    info["settings"]["objectives"].append("diversity")
    (place / "run.json").write_text(json.dumps(info), encoding="utf-8")
    folder = render(Run(place)).parent
    assert "Missing here: “Diversity” pictures of 2 of 6 channels." in read(folder / f"layer-{slug}.html").text


def test_first_pictures_are_counted_and_named(sites):
    run, folder = sites("first pictures")
    index = read(folder / "index.html")
    assert "12 of 54 pictures are first ones; the same command goes on to finer ones." in index.text
    badges = {
        e.attributes["id"]: [b.text for b in index.select("span", "is-first", e)] for e in index.select("li", "layer")
    }
    assert list(badges.values()) == [["6 first"], [], ["6 first"]]
    for layer, first in zip(run.layers[:3], (True, False, True), strict=True):
        page = read(folder / f"layer-{layer['slug']}.html")
        assert ("6 of 18 pictures are first ones" in page.text) is first
        for tile in page.select("a", "u"):
            assert [e.text for e in page.select("i", "first", tile)] == (["first"] if first else [])
            assert ("fk0" in tile.classes) is first
            assert "fk1" not in tile.classes
        numbers = json.loads((folder / "assets" / f"layer-{layer['slug']}.json").read_text(encoding="utf-8"))
        assert set(numbers["kinds"][0]["is_first"]) == {first}
    assert [layer["first"] for layer in json.loads((folder / "assets" / "index.json").read_text())["layers"]] == [
        6,
        0,
        6,
        0,
    ]


def mixed_run(place: Path) -> Run:
    """A run whose channels from 64 on have first pictures, at half the size of the others."""
    run = Run(synthetic_run(place, layers=1, channels=67, images=0, picture=96, size=(96, 96), status="partial"))
    layer = run.layers[0]
    task, first = (TaskKey(layer.slug, "channel-ascent", 64, 66, is_first) for is_first in (False, True))
    rows = pq.read_table(place / f"{task.stem}.parquet").to_pylist()
    tiles = np.stack([run.tile(row)[::2, ::2] for row in rows])
    for suffix in ("parquet", "png"):
        (place / f"{task.stem}.{suffix}").unlink()
    with RunWriter(place, "plan") as writer:
        writer.write_task(first, rows, tiles)
    return Run(place)


def test_first_pictures_stand_among_finer_ones_of_another_size(tmp_path):
    run = mixed_run(tmp_path / "run")
    folder = render(run).parent
    layer = run.layers[0]
    page = read(folder / f"layer-{layer.slug}.html")
    assert "64 × 64 px; first pictures of 32 × 32 px are enlarged." in page.text.replace("\u00a0", " ")
    styles = Styles(folder / "assets" / f"{layer.slug}.css")
    rows = {r["channel"]: r for r in run.units.to_pylist() if r["objective"] == "channel"}
    assert {c for c, row in rows.items() if row["is_first"]} == {64, 65, 66}
    for tile in page.select("a", "u"):
        row = rows[int(tile.attributes["id"])]
        shown, stored = cut(styles, of_tile(styles, ".l0-", "k0", tile)), run.tile(row)
        assert shown.shape == (64, 64, 3)
        if row["is_first"]:
            assert np.abs(shown[::2, ::2].astype(int) - stored).mean() < 8
        else:
            np.testing.assert_array_equal(shown, stored)


@pytest.mark.parametrize("name", ["plain", "partial"])
def test_where_there_are_no_first_pictures_none_are_mentioned(name, sites):
    _, folder = sites(name)
    for path in (folder / "index.html", *folder.glob("layer-*.html")):
        assert "first one" not in read(path).text
        assert "first picture" not in read(path).text


@pytest.mark.parametrize(
    ("first", "pictures", "expected"),
    [
        (0, 9, ""),
        (1, 1200, "1 of 1,200 pictures is a first one; the same command goes on to finer ones."),
        (1200, 1200, "1,200 of 1,200 pictures are first ones; the same command goes on to finer ones."),
    ],
)
def test_the_sentence_on_first_pictures(first, pictures, expected):
    assert summary.first_sentence(first, pictures) == expected


@pytest.mark.parametrize("name", ["plain", "grey 28", "more images than shown"])
def test_each_map_is_that_of_its_image(name, sites):
    run, folder = sites(name)
    for layer in filter(lambda layer: layer["analysed"], run.layers):
        page = read(folder / f"layer-{layer['slug']}.html")
        styles = Styles(folder / "assets" / f"{layer['slug']}.css", folder / "assets" / "images.css")
        maps = {(r["image"], r["channel"]): r for r in run.maps(layer["slug"]).to_pylist()}
        space = f".l{layer['index']}-"
        shown_images = min(12, len(run.images))
        assert len(page.select("label", "on-image")) == shown_images
        for tile in page.select("a", "u"):
            sheet, place = (numbered(tile.classes, kind) for kind in "st")
            for image in range(shown_images):
                row = maps[image, int(tile.attributes["id"])]
                assert number(tile.attributes[f"data-m{image}"]) == pytest.approx(row["maximum"], rel=5e-3)
                rules = styles.get(f".pic{space}m", f"{space}m.{sheet}", f".{place}", f".images-i{image}")
                at = {"background-size": rules["--bs"], "background-position": f"{rules['--i']} {rules['--r']}"}
                shown = cut(styles, rules | at)[:, :, 0]
                expected = run.tile(row)
                assert expected is not None
                assert shown.shape == expected.shape[:2]  # below 48 pixels: not reduced
                np.testing.assert_array_equal(shown, expected[:, :, 0])
        for image in range(shown_images):
            rules = styles.get(".thumb", f".images-i{image}")
            thumb = cut(styles, rules | {"background-position": f"{rules['--i']} 0"})
            whole = run.image(image)
            assert np.abs(thumb.mean((0, 1)) - whole.mean((0, 1))).max() < 3


def test_the_strip_of_a_layer_shows_its_strongest_channels(sites):
    run, folder = sites("plain")
    page = read(folder / "index.html")
    styles = Styles(folder / "assets" / "index.css")
    for layer in filter(lambda layer: layer["analysed"], run.layers):
        rows = [r for r in run.units.to_pylist() if r["layer"] == layer["name"] and r["objective"] == "channel"]
        fine = sorted((r for r in rows if r["status"] == "ok"), key=lambda r: r["random"] - r["activation"])
        entry = next(e for e in page.select("li", "layer") if e.attributes["id"] == f"layer-{layer['slug']}")
        links = page.select("a", within=page.select("p", "strip", entry)[0])
        assert [link.text.strip() for link in links] == [str(row["channel"]) for row in fine]
        for link, row in zip(links, fine, strict=True):
            assert link.attributes["href"] == f"layer-{layer['slug']}.html#{row['channel']}"
            tile = numbered(page.select("span", "px", link)[0].classes, "t")
            shown = cut(styles, styles.get(f".px.strip-{layer['index']}", f".{tile}"))
            np.testing.assert_array_equal(shown, run.tile(row))


def test_an_images_page_shows_the_channels_that_fire_most_on_it(sites):
    run, folder = sites("plain")
    for image in range(len(run.images)):
        page = read(folder / f"image-{image}.html")
        styles = Styles(folder / "assets" / f"image-{image}.css")
        sections = page.select("section", "firing")
        assert len(sections) == 3
        for section, layer in zip(sections, run.layers, strict=False):
            rows = [row for row in run.maps(layer["slug"]).to_pylist() if row["image"] == image]
            best = sorted(rows, key=lambda row: (-row["maximum"], row["channel"]))[:8]
            strip = page.select("div", "strip", section)[0]
            links = page.select("a", within=strip)
            assert [link.attributes["href"].partition("#")[2] for link in links] == [str(r["channel"]) for r in best]
            for figure, row in zip(page.select("figure", within=strip), best, strict=True):
                sprite = page.select("span", "map-heat", figure)[0]
                rules = styles.get(f".px.o{image}-m", f".{numbered(sprite.classes, 't')}")
                shown = cut(styles, rules | {"background-position": f"{rules['--x']} {rules['--y']}"})
                tile = run.tile(row)
                assert tile is not None
                np.testing.assert_array_equal(shown[:, :, 0], tile[:, :, 0])
                assert f"highest {words.figure(row['maximum'])}" in figure.text
                assert f"mean {words.figure(row['mean'])}" in figure.text


# What is missing, and what is large


@pytest.mark.parametrize("name", ["partial", "running"])
def test_an_unfinished_run_says_what_is_missing(name, sites):
    run, folder = sites(name)
    index = read(folder / "index.html")
    banner = index.select("div", "banner")[0].text
    assert {"partial": "This run is partial", "running": "still under way"}[name] in banner
    done = run.info["tasks"]
    assert f"{done['done']} of {done['planned']} tasks done" in " ".join(banner.split())
    layer = run.layers[1]
    assert "“Neuron” pictures of all 6 channels and all activation maps" in " ".join(banner.split())
    page = read(folder / f"layer-{layer['slug']}.html")
    assert "Not finished" in page.select("div", "banner")[0].text
    assert len(page.select("a", "xk1")) == 6, "tiles without a neuron picture are drawn as such"
    whole = read(folder / f"layer-{run.layers[0]['slug']}.html")
    assert not whole.select("div", "banner")


def test_assumed_preprocessing_is_a_visible_warning(sites):
    for name, warned in (("plain", False), ("running", True)):
        banners = [e.text for e in read(sites(name)[1] / "index.html").select("div", "banner")]
        assert any("assumed, not known" in text for text in banners) == warned


def test_units_that_are_not_fine_are_said_to_be_so(sites):
    _, folder = sites("plain")
    index = " ".join(read(folder / "index.html").text.split())
    assert "Unraised 6 of 54 pictures did not rise above random images." in index
    assert "Dead 3 of 18 channels: no image can raise them above 0. This is proven." in index
    assert "Diverged 6 of 54 pictures diverged: there is no result." in index
    page = read(folder / "layer-features-0-conv.html")
    for channel, word in ((1, "unraised"), (2, "dead"), (3, "diverged")):
        tile = next(e for e in page.select("a", "u") if e.attributes["id"] == str(channel))
        assert f"is-{word}" in tile.classes
        assert word in tile.text


def test_images_without_a_page_are_counted(sites):
    run, folder = sites("more images than shown")
    assert len(list(folder.glob("image-*.html"))) == 12
    assert "Measured but not shown here: 3 images" in read(folder / "index.html").text
    far = [r for r in run.maps(run.layers[0]["slug"]).to_pylist() if r["image"] >= 12]
    assert far, "the synthetic run measures all of its images"


def test_a_run_that_has_hardly_begun_renders(tmp_path):
    with RunWriter(tmp_path / "run", "plan") as writer:
        writer.write_json("layers.json", {"schema": 1, "layers": []})
        writer.write_info({"status": "running"})
    page = read(render(Run(tmp_path / "run")))
    assert "No pictures yet." in page.text
    assert "still under way" in page.text


def test_many_units_render_and_each_atlas_is_read_once(tmp_path, monkeypatch):
    names: list[str] = []
    original = Run._read_picture
    monkeypatch.setattr(Run, "_read_picture", lambda run, name: names.append(name) or original(run, name))
    folder = synthetic_run(tmp_path, layers=1, channels=2000, images=2, size=(28, 28), bands=1, not_analysed=0)
    run = Run(folder)
    page = read(render(run).parent / "layer-features-0-conv.html")
    tiles = page.select("a", "u")
    assert len(tiles) == 2000
    most = max(Counter(names).values())
    assert most <= 4, "the pictures that stand for the layer or the network may need one again, and those as files"
    styles = Styles(folder / "site" / "assets" / "features-0-conv.css")
    shown = cut(styles, of_tile(styles, ".l0-", "k0", next(tile for tile in tiles if tile.attributes["id"] == "1999")))
    row = next(r for r in run.units.to_pylist() if r["channel"] == 1999 and r["objective"] == "channel")
    np.testing.assert_array_equal(shown, np.broadcast_to(run.tile(row), shown.shape))


def test_pictures_beyond_the_budget_are_lossy_and_the_method_says_so(tmp_path, monkeypatch):
    folder = synthetic_run(tmp_path, layers=2, channels=2, images=1, size=(128, 128), picture=100, not_analysed=0)
    run = Run(folder)
    assert "stored without loss" in read(render(run).parent / "method.html").text
    exact = (folder / "site" / "assets" / "features-1-conv-k0-0.webp").read_bytes()
    monkeypatch.setattr(site, "LOSSLESS_PIXELS", 0)
    text = " ".join(read(render(run).parent / "method.html").text.split())
    assert "WebP of quality 82" in text
    told = float(re.findall(r"the lowest ratio here is ([\d.]+) dB", text)[0])
    lossy = (folder / "site" / "assets" / "features-1-conv-k0-0.webp").read_bytes()
    assert len(lossy) < len(exact)
    a, b = (np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), float) for content in (exact, lossy))
    measured = 10 * math.log10(255**2 / ((a - b) ** 2).mean())
    assert 28 <= told <= measured + 0.06
    small = (folder / "site" / "assets" / "features-1-conv-k2-0.webp").read_bytes()
    assert b"VP8L" in small[:32], "pictures below 64 pixels stay lossless"


def test_a_picture_that_a_lossy_file_would_spoil_stays_lossless():
    colour_noise = np.random.default_rng(0).integers(0, 2, (64, 64, 3)).astype(np.uint8) * 255
    content, fidelity = sheets.webp(colour_noise, lossless=False)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), colour_noise)
    assert fidelity == math.inf


# The folder


def test_the_same_run_gives_the_same_bytes(tmp_path, sites):
    run, folder = sites("hostile")
    again = render(run, tmp_path / "again").parent
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}


def test_the_architecture_draws_every_layer_and_every_way(sites):
    run, folder = sites("studies")
    page = read(folder / "index.html")
    whole, layers = page.select("div", "canvas")
    for drawing in (whole, layers):
        links = [e.attributes["href"] for e in page.select("a", within=drawing)]
        assert sorted(links) == sorted(f"layer-{la['slug']}.html" for la in run.layers if la["analysed"])
        assert all(e.attributes["href"][1:] in page.ids for e in page.select("use", within=drawing))
    ways = sum(len(layer["predecessors"]) or 1 for layer in run.layers)
    feeding = {name for layer in run.layers for name in layer["predecessors"]}
    ways += sum(layer["name"] not in feeding for layer in run.layers)
    assert len(page.select("path", within=page.select("g", "edges", layers)[0])) == ways
    sources = sum(len(entry.sources) for entry in run.graph.entries)
    assert len(page.select("path", within=page.select("g", "edges", whole)[0])) == sources
    hints = [e.text for e in page.select("title", within=whole)]
    assert sum("ReLU6 · MaxPool, gives 8" in hint for hint in hints) == len(run.layers)


def test_a_run_of_an_older_version_has_the_drawing_of_its_convolutions_alone(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", outline=False, layers=2, images=0))
    assert run.graph is None
    page = read(render(run))
    assert len(page.select("div", "canvas")) == 1
    assert not [e for e in page.select("input") if e.attributes.get("name") == "drawing"]


def test_an_image_page_shows_its_studies(sites):
    run, folder = sites("studies")
    page = read(folder / "image-0.html")
    ids = set(page.ids)
    assert {"why", "fire", "groups", "grid", "kept", "values"} <= ids
    rows = [r for r in run.table("attribution/attributions.parquet").to_pylist() if r["image"] == 0]
    stacks = page.select("figure", "stack")
    assert len(stacks) == len(rows)
    overlaid = page.select("img", "over", stacks[1])[0].attributes["src"]  # behind that of the contrast
    with Image.open(folder / overlaid) as picture:
        shown = np.asarray(picture)
    tile = run.tile(rows[0])
    assert tile is not None
    assert (shown[..., 3] == colours.overlay(tile)[..., 3]).all()
    positive = tile[:, :, 0] > 140
    assert (shown[positive][:, 0] > shown[positive][:, 2]).all(), "red speaks for the class"
    cells = page.select("div", "cells")
    grid = [r for r in run.table("groups/grid.parquet").to_pylist() if r["image"] == 0]
    assert len(page.select("a", within=cells[0])) == len(grid)


def test_the_classes_have_a_page_where_the_run_has_them(sites):
    run, folder = sites("studies")
    page = read(folder / "classes.html")
    rows = run.table("classes/classes.parquet").to_pylist()
    assert len(page.select("li", "class-tile")) == len(rows)
    table = page.select("table", "confusion")[0]
    body = [row for row in page.select("tr", within=table) if page.select("th", within=row)][1:]
    cells = [[cell.text for cell in page.select("td", within=row)] for row in body]
    for number, row in enumerate(cells):
        assert row[number] == "80 %", "each made-up picture is its class's own"
        assert set(row[:number] + row[number + 1 :]) == {"2 %"}
    assert not (sites("plain")[1] / "classes.html").exists()


def test_every_definition_is_two_sentences_or_three_and_links_lead_to_it(sites):
    _, folder = sites("studies")
    page = read(folder / "method.html")
    terms = page.select("dt", within=page.select("dl", "glossary")[0])
    assert len(terms) == len(definitions.DEFINITIONS)
    for one in definitions.DEFINITIONS:
        sentences = re.findall(r"[.;:](?=\s|$)", re.sub(r"et al\. ", "", one.text))
        assert 2 <= len([mark for mark in sentences if mark == "."]) <= 2, one.anchor


def test_a_setting_in_a_sentence_is_shown_as_code():
    assert (
        markup.coded("use `match=activation`, or `a<b`") == "use <code>match=activation</code>, or <code>a&lt;b</code>"
    )
    assert markup.coded("one ` alone & <b>") == "one ` alone &amp; &lt;b&gt;"
    assert markup.coded(None) == ""


@pytest.mark.parametrize("first", [(), ("conv0",)])
def test_pictures_beyond_the_most_pixels_are_reduced_and_the_method_says_so(tmp_path, monkeypatch, first):
    options = {"size": (300, 300), "picture": 270, "not_analysed": 0, "first": first}
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=0, **options))
    slug = run.layers[0]["slug"]

    def size() -> list[int]:
        assets = render(run, png=False).parent / "assets"
        assert called(assets / f"{slug}.js")[2]["kinds"][0]["pixels"] == [180, 180], "the picture is as large as it was"
        return called(assets / f"{slug}.js")[2]["kinds"][0]["size"]

    assert size() == [180, 180]
    monkeypatch.setattr(site, "MOST_PIXELS", UnitTable(run).pixels_at(170))
    assert size() == [170, 170]
    monkeypatch.setattr(site, "MOST_PIXELS", 0)
    assert size() == [site.LEAST_SIDE] * 2
    folder = run.folder / "site"
    assert f"at no more than {site.LEAST_SIDE} pixels a side" in (folder / "method.html").read_text(encoding="utf-8")
    styles = Styles(folder / "assets" / f"{slug}.css")
    page = read(folder / f"layer-{slug}.html")
    for tile in page.select("a", "u"):
        row = next(
            r
            for r in run.units.to_pylist()
            if r["channel"] == int(tile.attributes["id"]) and r["objective"] == "channel"
        )
        shown = cut(styles, of_tile(styles, f".l{run.layers[0]['index']}-", "k0", tile))
        expected = np.asarray(
            Image.fromarray(run.tile(row)).resize((site.LEAST_SIDE, site.LEAST_SIDE), Image.Resampling.BICUBIC)
        )
        np.testing.assert_array_equal(shown, expected)


def test_where_there_are_too_many_pictures_the_second_kinds_shrink_first(tmp_path, monkeypatch):
    run = Run(synthetic_run(tmp_path / "run", layers=2, channels=6, images=0, diverse=6, picture=150, size=(300, 300)))
    slug = run.layers[1]["slug"]
    table = UnitTable(run)
    whole = table.pixels_at(10**6)
    assert table.pixels_at(10**6, diverse=6) == whole >= table.pixels()
    fewer = table.pixels_at(10**6, diverse=2)
    assert whole - fewer == 4 * 4 * 150**2, "four channels lose their four diverse pictures"

    def kinds() -> dict[str, tuple[list[int], int]]:
        folder = render(run, png=False).parent
        layer, units = (called(folder / "assets" / f"{slug}{end}.js") for end in ("", "-u0"))
        pictured = [[bool(unit["p"][k]) for unit in units[3]] for k in range(len(layer[2]["kinds"]))]
        return {kind["objective"]: (kind["size"], sum(pictured[k])) for k, kind in enumerate(layer[2]["kinds"])}

    assert kinds()["diversity-1"] == ([150, 150], 6)
    monkeypatch.setattr(site, "MOST_PIXELS", table.pixels_at(120))
    assert (kinds()["channel"], kinds()["diversity-1"]) == (([120, 120], 6), ([70, 70], 6))
    monkeypatch.setattr(site, "MOST_PIXELS", table.pixels_at(site.LEAST_SIDE) - 1)
    monkeypatch.setattr(site, "MOST_DIVERSE", 2)
    assert kinds()["channel"][0][0] >= site.LEAST_SIDE
    assert kinds()["diversity-1"][1] == 2, "those of the channels that rise highest"
    page = read(run.folder / "site" / f"layer-{slug}.html").text
    assert "Diverse pictures of 2 channels at most are shown" in page


def test_each_picture_is_a_png_of_its_own_where_all_are_small_or_one_asks_for_it(tmp_path, monkeypatch):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=3, images=0))
    assert (render(run).parent / "png").exists()
    assert not (render(run, png=False).parent / "png").exists()
    monkeypatch.setattr(site, "MOST_PNG_BYTES", run.size_of_pictures() - 1)
    folder = render(run).parent
    assert not (folder / "png").exists()
    assert "filterscope report RUN --png" in next(folder.glob("layer-*.html")).read_text(encoding="utf-8")
    folder = render(run, png=True).parent
    row = next(r for r in run.units.to_pylist() if r["channel"] == 2 and r["objective"] == "channel")
    with Image.open(folder / "png" / "features-0-conv-2-k0.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), run.tile(row))
    assert len(list((folder / "png").iterdir())) == 9


# One file


@pytest.mark.parametrize("name", ["plain", "hostile studies", "partial", "without images"])
def test_a_single_file_holds_the_whole_report(name, sites, tmp_path):
    run, folder = sites(name)
    page = read(render_single(run, tmp_path / "report.html"))
    assert len(page.ids) == len(set(page.ids)), "an id stands twice"
    assert {e.attributes["id"] for e in page.select("main")} == {path.stem for path in folder.glob("*.html")}
    for element in page.elements:
        for attribute in ("href", "src"):
            target = element.attributes.get(attribute, "#")
            assert target.startswith(("#", "data:")), f"{target} leads out of the file"
            if target not in ("#", "#main"):
                assert target.startswith("data:") or target[1:] in page.ids, f"{target} leads nowhere"
    tiles = sum(len(read(path).select("a", "u")) for path in folder.glob("layer-*.html"))
    assert len(page.select("a", "u")) == tiles
    policy = next(e for e in page.select("meta") if "Content-Security-Policy" in e.attributes.get("http-equiv", ""))
    assert "unsafe" not in policy.attributes["content"]
    style = page.select("style")[0].text
    assert single._hash(style) in policy.attributes["content"]
    assert not re.search(r"url\((?!data:|#heat\))", style)


def test_a_single_file_that_would_be_too_large_is_an_excerpt_and_says_so(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=2, channels=40, images=3, size=(96, 96), picture=60))

    def made(excerpt: single.Excerpt) -> dict[str, bytes]:
        files = Files()
        site.Site(run, files, site.extent_of(excerpt)).write()
        return files.contents

    whole = single.Excerpt(40, examples=False)
    limit = len(single.bundled(made(whole))) // 2
    page = single.fitted(made, whole, limit)
    assert len(page) <= limit
    (tmp_path / "page.html").write_bytes(page)
    shown = read(tmp_path / "page.html")
    kept = len(shown.select("a", "u")) // 2
    assert 1 <= kept < 40
    assert f"{2 * kept} of 80 channels, at most {kept} channels a layer" in " ".join(shown.text.split())
    with pytest.raises(RunError, match="send the folder instead"):
        single.fitted(made, whole, 1000)


WEIGHTS = {  # of a made-up site, in bytes: each is a part of what an excerpt holds
    "channels": lambda excerpt: 100 * excerpt.channels,
    "images": lambda excerpt: (10 if excerpt.thrifty else 40) * excerpt.images,
    "patches": lambda excerpt: 80 * excerpt.patches * excerpt.examples,
}
LADDER = [  # bytes that fit, excerpts tried: channels, images, patches (0: none), whether the rest is fine
    (2400, [(12, 12, 9, True)]),
    (2100, [(12, 12, 9, True), (12, 12, 9, False)]),
    (1700, [(12, 12, 9, True), (12, 12, 9, False), (12, 12, 4, False)]),
    (1500, [(12, 12, 9, True), (12, 12, 9, False), (12, 12, 4, False), (10, 12, 4, False)]),
]


@pytest.mark.parametrize(("fits", "tries"), LADDER)
def test_what_nobody_misses_is_left_out_of_a_single_file_first(monkeypatch, fits, tries):
    made = []

    def make(excerpt: single.Excerpt) -> dict[str, bytes]:
        made.append(excerpt)
        return {"page": bytes(sum(weight(excerpt) for weight in WEIGHTS.values()))}

    monkeypatch.setattr(single, "bundled", lambda contents: contents["page"])
    assert len(single.fitted(make, single.Excerpt(12), fits)) <= fits
    assert [(one.channels, one.images, one.patches * one.examples, not one.thrifty) for one in made] == tries


def test_the_last_channels_and_images_go_only_when_nothing_else_is_left(monkeypatch):
    made = []

    def make(excerpt: single.Excerpt) -> dict[str, bytes]:
        made.append(excerpt)
        return {"page": bytes(1000)}

    monkeypatch.setattr(single, "bundled", lambda contents: contents["page"])
    with pytest.raises(RunError, match="does not hold this network; send the folder instead"):
        single.fitted(make, single.Excerpt(8), 990)
    order = [(one.channels, one.images, one.examples) for one in made]
    assert order[2:] == sorted(order[2:], key=lambda one: (not one[2], -one[0] - one[1])), "less and less"
    assert order.index((4, 6, False)) > order.index((4, 6, True)) > order.index((4, 12, True))


def test_a_sheet_of_pictures_stands_once_in_a_single_file(tmp_path):
    files = Files()
    run = Run(synthetic_run(tmp_path / "run", layers=2, channels=6, images=2, studies=True))
    site.Site(run, files, site.extent_of(single.Excerpt(6))).write()
    text = single.bundled(files.contents).decode()
    sheets_of_layers = {
        name: files.contents[name] for name in files.contents if re.search(r"-[kwbmh]\d*-\d+.webp$", name)
    }
    assert len(sheets_of_layers) > 8
    for name, content in sheets_of_layers.items():
        same = list(sheets_of_layers.values()).count(content)
        assert text.count(single._data(name, content)) <= same, name


def test_a_thrifty_single_file_is_smaller_and_shows_the_same(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=6, images=2, size=(128, 128), studies=True))
    pages = []
    for thrifty in (False, True):
        files = Files()
        site.Site(run, files, site.extent_of(single.Excerpt(6, thrifty=thrifty))).write()
        pages.append(files.contents)
    fine, small = pages
    assert {name for name in fine if "maps-" not in name} == {name for name in small if "maps-" not in name}
    assert len(small["assets/image-0.webp"]) < len(fine["assets/image-0.webp"])
    maps = [sum(len(files[name]) for name in files if "maps-" in name) for files in (fine, small)]
    assert maps[1] < maps[0]
    for name in (name for name in fine if name.endswith(".html") and name != "index.html"):
        assert small[name] == fine[name], name


def test_an_excerpt_keeps_the_first_sentence_of_what_it_leaves_out(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=12, images=1, studies=True))
    layer = run.layers[0]
    everything, excerpt = Files(), Files()
    site.Site(run, everything, site.extent_of(single.Excerpt(12))).write()
    site.Site(run, excerpt, site.extent_of(single.Excerpt(3))).write()
    name = f"assets/{layer.slug}-left.js"
    assert name not in everything.contents
    _, slug, texts, places = json.loads(single._as_list(excerpt.contents[name].decode()))
    _, _, _, units = json.loads(single._as_list(everything.contents[f"assets/{layer.slug}-u0.js"].decode()))
    assert slug == layer.slug
    assert len(places) == 9
    assert len(texts) == len(set(texts))
    leads = {unit["c"]: unit["a"][0] for unit in units}
    assert {int(channel): texts[place] for channel, place in places.items()} == {
        channel: lead for channel, lead in leads.items() if str(channel) in places
    }


def test_an_excerpt_shows_the_patches_of_its_own_channels_alone(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=12, images=1, studies=True))
    layer = run.layers[0]
    files = Files()
    site.Site(run, files, site.extent_of(single.Excerpt(2, patches=1))).write()
    units = json.loads(single._as_list(files.contents[f"assets/{layer.slug}-u0.js"].decode()))[3]
    examples = json.loads(single._as_list(files.contents["assets/examples.js"].decode()))[1]
    assert [len(unit["e"]) for unit in units] == [1, 1]
    wrong = set(run.table("examples/mistakes.parquet")["image"].to_pylist())
    rows = run.table("examples/pictures.parquet").to_pylist()
    shown = {row["example"] for row in rows if row["image"] in wrong} | {unit["e"][0][0] for unit in units}
    assert set(map(int, examples["places"])) == {row["example"] for row in rows if row["example"] in shown}


PICTURES = [  # table, assets that hold its pictures
    ("attribution/attributions", "image-0-a0.webp"),
    ("classes/classes", "classes-c-0.webp"),
    ("examples/features-0-conv", "features-0-conv-h-0.webp"),
    ("groups/groups", "image-0-g0-*.webp"),
    ("inversion/inversions", "image-0-inv-features-0-conv.webp"),
    ("maps/features-0-conv", "features-0-conv-m-0.webp"),
    ("tuning/units", "features-0-conv-b-0.webp"),
    ("weights/features-0-conv", "features-0-conv-w-0.webp"),
]


@pytest.mark.parametrize(("table", "asset"), PICTURES, ids=[table for table, _ in PICTURES])
def test_a_study_without_pictures_has_its_numbers_shown_alone(sites, tmp_path, table, asset):
    run, before = sites("studies")
    path = shutil.copytree(run.folder, tmp_path / "run") / f"{table}.parquet"
    rows = pq.read_table(path)
    absent = {name: None for name in rows.schema.names if name.endswith(("atlas", "tile"))}
    pq.write_table(pa.Table.from_pylist([row | absent for row in rows.to_pylist()], rows.schema), path)
    after = render(Run(tmp_path / "run")).parent
    assert list((before / "assets").glob(asset))
    assert not list((after / "assets").glob(asset))
    assert {page.name for page in after.glob("*.html")} == {page.name for page in before.glob("*.html")}
    for page in after.glob("*.html"):
        shown = {element.attributes.get("src") for element in read(page).select("img")} - {None}
        assert all((after / file).is_file() for file in shown)


def test_scores_that_are_no_probabilities_have_no_table(sites, tmp_path):
    run, before = sites("studies")
    path = shutil.copytree(run.folder, tmp_path / "run") / "classes" / "classes.parquet"
    rows = pq.read_table(path)
    for changed in ({"distribution": [-2.0, 7.0]}, {"distribution": None}):
        pq.write_table(pa.Table.from_pylist([row | changed for row in rows.to_pylist()], rows.schema), path)
        after = render(Run(tmp_path / "run")).parent
        assert read(before / "classes.html").select("table", "confusion")
        assert not read(after / "classes.html").select("table", "confusion")
        assert not (after / "assets" / "class-scores.webp").exists()


def test_pictures_of_one_kind_that_differ_in_size_are_refused(tmp_path):
    folder = synthetic_run(tmp_path / "run", layers=1, channels=2, images=0)
    path = folder / "units.parquet"
    rows = pq.read_table(path)
    changed = [row | ({"height": 3, "width": 3} if row["channel"] else {}) for row in rows.to_pylist()]
    pq.write_table(pa.Table.from_pylist(changed, rows.schema), path)
    with pytest.raises(RunError, match="run: pictures of one layer and kind differ in size; delete the run and run"):
        render(Run(folder))


def disk_is_full(path: Path, content: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failure_leaves_the_old_site(tmp_path, monkeypatch):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=1))
    page = render(run)
    before = page.read_bytes()
    failures = [
        ((words, "facts", lambda layer, within: 1 / 0), pytest.raises(ZeroDivisionError)),
        ((Path, "write_bytes", disk_is_full), pytest.raises(RunError, match=r"cannot be written.*free some space")),
    ]
    for broken, raises in failures:
        with monkeypatch.context() as patched:
            patched.setattr(*broken)
            with raises:
                render(run)
    assert page.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if "site" in path.name) == ["site"]


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=0))
    for name in (".site.part", ".site.old"):
        (tmp_path / "run" / name / "assets").mkdir(parents=True)
    render(run)
    render(run)
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if "site" in path.name) == ["site"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=0))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "index.html").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("thesis", "file"):
        with pytest.raises(RunError, match=f"{name}: holds something else"):
            render(run, tmp_path / name)
    assert (tmp_path / "thesis" / "index.html").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert render(run, tmp_path / "empty").is_file()


def test_a_missing_picture_is_named(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=0))
    (tmp_path / "run" / "tasks" / "features-0-conv" / "channel-ascent-0-1.png").unlink()
    with pytest.raises(RunError, match=r"channel-ascent-0-1\.png: missing or damaged"):
        render(run)
    assert not (tmp_path / "run" / "site").exists()


# Words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (12.3456, "12.3"),
        (9.996, "10.0"),
        (-0.0123, "−0.0123"),
        (1234.5, "1,230"),
        (99999.0, "1.00·10⁵"),
        (1.5e6, "1.50·10⁶"),
        (-1.2e-4, "−1.20·10⁻⁴"),
        (float("nan"), "not a number"),
        (float("-inf"), "−∞"),
    ],
)
def test_a_number_has_three_digits_and_no_e(value, text):
    assert words.figure(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.394, "39 %"),
        (1.0, "100 %"),
        (0.9999, "99.9 %"),
        (0.0, "0 %"),
        (1e-9, "under 1 %"),
        (-0.001, "0 %"),
        (-0.25, "−25 %"),
        (None, "–"),
    ],
)
def test_a_share_is_0_or_100_only_where_it_is_nothing_or_all(share, text):
    assert words.percent(share) == text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: words.count(1, "channel"), "1 channel"),
        (lambda: words.count(17056, "channel"), "17,056 channels"),
        (lambda: words.large(3_487_816), "3.49 million"),
        (lambda: words.duration(0.84), "0.8 s"),
        (lambda: words.duration(59.6), "1 min 00 s"),
        (lambda: words.duration(3780), "1 h 03 min"),
        (lambda: words.duration(None), "–"),
        (lambda: words.mebibytes(2048), "2.0 GiB"),
        (lambda: words.limit(1e-3), "10⁻³"),
        (lambda: words.limit(2.5e-4), "2.5·10⁻⁴"),
        (lambda: words.listed(["a"]), "a"),
        (lambda: words.listed(["a", "b", "c"]), "a, b and c"),
        (lambda: words.listed(list("abcdefgh")), "a, b, c, d, e and 3 more"),
        (lambda: words.shortened("x" * 300, 9), "xxxx…xxxx"),
        (lambda: words.clean("a\x00b\ud800c"), "a\ufffdb\ufffdc"),
        (lambda: words.moment("2025-01-02T03:04:05+00:00"), "2025-01-02 03:04 UTC"),
    ],
)
def test_quantities_are_said_as_people_say_them(call, text):
    assert call() == text


def test_a_layer_says_its_dilation_and_a_padding_that_differs_from_side_to_side():
    layer = LayerInfo.read(
        {"kernel": [3, 3], "dilation": [2, 2], "pads": [0, 1, 2, 3], "output_shape": [4, 8, 8]}
        | {"in_channels": 3, "out_channels": 4, "groups": 1, "parameters": 1, "macs": 1, "depth": 1, "rank": 2}
    )
    assert words.in_brief(layer)[1] == "3\u00a0×\u00a03, dilation 2"
    assert dict(words.facts(layer))["Padding"] == "0\u00a0×\u00a01 before, 2\u00a0×\u00a03 after"


@pytest.mark.parametrize(
    ("node", "image", "expected"),
    [
        (2e-7, 1.4e-6, "to 3·10⁻⁷; refused above 10⁻³."),
        (5e-4, 1.4e-6, "to 5·10⁻⁴, worse than the 10⁻⁴ that counts as agreement; refused above 10⁻³."),
        (2e-7, 2e-3, "to 3·10⁻⁷; refused above 10⁻³. From image to layer, roundings add up to 0.002."),
    ],
)
def test_the_import_is_said_to_agree_as_well_as_it_does(node, image, expected):
    errors = {"original": {"worst": 3e-7}, "nodes": {"worst": node}, "end_to_end": {"worst": image}}
    info = RunInfo.read({"model": {"parity": {"limit": 1e-4, "refuse": 1e-3, **errors}}})
    assert summary.parity_sentence(info) == f"The import agrees with the original {expected}"


@pytest.mark.parametrize(
    ("histogram", "expected"),
    [
        ([], ([], 0)),
        ([0, 0], ([], 0)),
        ([4, 0, 1], ([1000, 0, 250], 0)),
        ([1, 1, 0, 4, 0, 0, 0, 0, 8], ([250, 500, 1000], 0)),  # 9 bins in at most 4: three by three
        ([3, 3, 1, 0, 2, 1, 0], ([1000, 167, 500, 0], 1 / 7)),  # 7 in at most 4: two by two, the last with nothing
    ],
)
def test_a_histogram_has_few_equal_bins(histogram, expected):
    assert details.fewer(histogram, most=4) == expected


@pytest.mark.parametrize(
    ("how", "formula"),
    [
        ({"high": 1.0, "mean": [0.0], "std": [1.0]}, "pixel ÷ 255"),
        ({"high": 255.0, "mean": [0.0], "std": [1.0]}, "pixel"),
        ({"high": 1.0, "mean": [0.5], "std": [0.5]}, "(pixel ÷ 255 − 0.5) ÷ 0.5"),
        ({"high": 1.0, "mean": [0.0], "std": [2.0]}, "pixel ÷ 255 ÷ 2"),
        ({"high": 255.0, "mean": [104.0, 117.0, 123.0], "std": [1.0]}, "pixel − (104, 117, 123)"),
        ({"high": 2.0, "mean": [0.0], "std": [1.0]}, "pixel ÷ 255 × 2"),
    ],
)
def test_preprocessing_is_told_as_a_formula(how, formula):
    assert (
        site.summary.preprocessing(PreprocessingInfo.read({"name": "some", "order": "RGB"} | how))
        == f"preprocessing “some”: {formula}"
    )
    reversed_order = PreprocessingInfo.read({"name": "some", "order": "BGR"} | how)
    assert site.summary.preprocessing(reversed_order).endswith("channels reversed to BGR")


@pytest.mark.parametrize(("height", "width", "target"), [(3, 3, 112), (20, 20, 112), (240, 320, 112), (63, 7, 64)])
def test_pictures_keep_their_shape_and_small_ones_grow_by_whole_factors(height, width, target):
    shown = sheets.shown_size(height, width, target)
    assert max(shown) <= target
    assert shown[0] / shown[1] == pytest.approx(height / width, rel=0.02)
    if max(height, width) <= target:
        assert shown[0] % height == 0
        assert shown[1] % width == 0
        assert max(shown) > target / 2


@pytest.mark.parametrize(("side", "shown"), [(3, 126), (32, 128), (64, 128), (65, 65), (112, 112), (224, 112)])
def test_small_pictures_are_shown_large_in_the_grid_of_a_layer(side, shown):
    rules = pictures.SheetSet("a", (side, side), sheets.Grid(1, 1), (0,)).grid_rules("l0", "l0-", "x")
    (size,) = (rule for rule in rules if "--tw" in rule)
    assert f"--tw:{shown}px" in size


@pytest.mark.parametrize(("size", "expected"), [((7, 7), (112, 112)), ((60, 80), (84, 112)), ((300, 100), (112, 37))])
def test_maps_fill_their_tile(size, expected):
    assert sheets.filled_size(*size, 112) == expected


def test_a_channels_command_is_the_runs_with_its_layer_alone():
    told = "filterscope analyze m.onnx --preprocess imagenet --images a --channels all --out=x --truth --tuning all"
    told += " --examples data --groups auto --classes 3 --open"
    made = summary.unit_command(RunInfo.read({"command": told.split()}), LayerInfo.read({"name": "conv 1"}))

    assert (
        made == "filterscope analyze m.onnx --preprocess imagenet --images a --truth --tuning all --examples data "
        "--layers 'conv 1' --out again --channels "
    )
    typed = "filterscope demo --out x -q --quality draft --layers conv1"
    demo = RunInfo.read({"command": typed.split()})
    line = summary.unit_command(demo, LayerInfo.read({"name": "conv4"}))
    assert line == "filterscope demo --quality draft --layers conv4 --out again --channels "
    info, layer = RunInfo.read({"model": {"name": "m.onnx"}}), LayerInfo.read({"name": "c"})
    assert summary.unit_command(info, layer).startswith("filterscope maximize m.onnx")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("filterscope analyze m.onnx", True),
        ("filterscope analyze /m.onnx --images a", True),
        ("filterscope analyze /m.onnx --images /a --examples b --seed 1", True),
        ("filterscope analyze /m.onnx --images /a --channels all", False),
        (r"filterscope analyze C:\m.onnx", False),
        ("filterscope demo --out x", False),
        ("", False),
    ],
)
def test_a_command_that_names_files_from_its_folder_is_recognised(typed, expected):
    assert summary.names_relative_files(RunInfo.read({"command": typed.split()})) is expected


def test_an_image_begins_with_the_networks_answer_and_whether_it_is_right():
    top = [{"index": 5, "label": "dog", "score": 5.11}, {"index": 3, "label": None, "score": 4.79}]
    facts = {"name": "a.png", "index": 0, "prediction": {"kind": "score", "top": top}}
    labels = ["", "", "", "cat", "", "dog"]

    def told(**more) -> str:
        return image_page.ImagePage(0, ImageInfo.read(facts | more), (1, 1), (1, 1)).answer(labels)

    assert told() == "Answered dog (score 5.11), then class 3 (4.79)."
    assert told(label=3) == "Answered dog (score 5.11), then class 3 (4.79). It is cat: wrong."
    assert told(label=5).endswith("It is dog: right.")
    assert told(label=9).endswith("It is class 9: wrong.")
    sure = {"kind": "probability", "top": [top[0] | {"score": 0.93}]}
    assert told(prediction=sure) == "Answered dog (93 %)."
    assert told(prediction=None) == ""
