"""Two runs side by side, against runs whose relation is known: the same, one unit changed, channels in another order.

The oracle for correlations is numpy.corrcoef on the maps' pictures; the pages are read back as a browser would.
"""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import filterscope as fs
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.reader import Run
from filterscope.cli import app
from filterscope.converters.errors import RunError, SettingsError
from filterscope.reports.compare import matching
from filterscope.reports.compare.compare import compare
from filterscope.reports.compare.comparison import Comparison
from filterscope.reports.compare.matching import Responses, match_units
from support.pages import read
from support.synthetic_run import HOSTILE_NAMES, synthetic_run

CHANNELS = 9


def shuffled(folder, channels: int = CHANNELS) -> np.ndarray:
    """Put a run's channels into another order, everywhere; new channel i is old channel order[i]."""
    order = np.random.default_rng(5).permutation(channels)
    now = np.argsort(order)  # old → new
    for path in [folder / "units.parquet", *folder.glob("tasks/*/*.parquet"), *folder.glob("maps/*.parquet")]:
        table = pq.read_table(path)
        moved = now[table["channel"].to_numpy()].astype(np.int32)
        pq.write_table(table.set_column(table.schema.get_field_index("channel"), "channel", [moved]), path)
    return order


def edited(folder, layer: str, channel: int, **values) -> None:
    """Write other numbers into a channel's rows of the unit table."""
    path = folder / "units.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        if row["layer"] == layer and row["channel"] == channel:
            row.update(values)
    pq.write_table(type(table).from_pylist(rows, table.schema), path)


def info_edited(folder, **parts) -> None:
    path = folder / "run.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    for name, values in parts.items():
        info[name] = info[name] | values if isinstance(values, dict) else values
    path.write_text(json.dumps(info), encoding="utf-8")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("compare") / "first", channels=CHANNELS)


@pytest.fixture
def other(original, tmp_path):
    return shutil.copytree(original, tmp_path / "second")


@pytest.mark.parametrize("match", ["index", "activation"])
def test_a_run_has_not_changed_against_itself(original, other, match):
    made = fs.compare(original, other, match=match)
    assert made.unchanged
    assert made.median == 1
    assert made.idle == ("features.3.conv",)  # listed only
    assert all(pair.a == pair.b for _, pair in made.pairs)
    assert sum(1 for _ in made.pairs) == 3 * CHANNELS
    assert made.sentences == [
        "Nothing changed: every number and picture that both runs hold is the same, in 27 channels of 3 layers."
    ]


def test_channels_in_another_order_are_found_by_what_they_answer(original, other):
    order = shuffled(other)
    made = fs.compare(original, other, match="activation")
    for layer in made.layers:
        assert {pair.b: pair.a for pair in layer.pairs} == dict(enumerate(order.tolist()))
        assert layer.quantile(0) > 0.9999
        assert layer.chance < 0.9
    assert all(
        kind_pair.same in (True, None) and not kind_pair.status_changed
        for _, pair in made.pairs
        for kind_pair in pair.kinds
    )
    by_index = fs.compare(original, other)
    assert not by_index.unchanged
    assert by_index.median < 0.9
    chances = sorted(layer.chance for layer in by_index.layers)
    assert by_index.sentences[0] == (
        "27 channels of 3 layers were compared; half of them respond to the same images with a correlation of "
        f"{by_index.median:.3f} or more; by chance it would be {chances[1]:.2f}."
    )
    lowest = min(by_index.layers, key=lambda layer: layer.quantile(0.5))
    assert by_index.sentences[1] == (
        f"The networks differ most in {lowest.a.name}, "
        f"where half of the channels stay below {lowest.quantile(0.5):.3f}."
    )


def test_correlation_is_numpys_over_the_places_of_the_maps(original, other):
    shuffled(other)
    a, b = Run(original), Run(other)
    layer = compare(a, b).layers[0]
    for pair in layer.pairs:
        maps = []
        for run, channel in ((a, pair.a), (b, pair.b)):
            rows = [row for row in run.maps(layer.a["slug"]).to_pylist() if row["channel"] == channel]
            values = [row["minimum"] + (row["maximum"] - row["minimum"]) * run.tile(row) / 255.0 for row in rows]
            assert values[0].shape == (24, 32, 1)  # wider than the limit: means of neighbours are compared
            edges = np.arange(matching.PLACES) * 32 // matching.PLACES
            counts = np.diff([*edges, 32])
            maps.append(np.stack([np.add.reduceat(value[..., 0], edges, 1) / counts for value in values]).ravel())
        assert pair.correlation == pytest.approx(np.corrcoef(*maps)[0, 1], abs=2e-6)
        assert pair.spread == pytest.approx(maps[1].std() / maps[0].std(), rel=1e-5)


def test_what_changed_stands_first(original, other):
    edited(other, "features.1.conv", 4, activation=50.0)
    edited(other, "features.2.conv", 6, status="dead")
    made = fs.compare(original, other)
    layer, pair = made.most_changed[0]
    assert (layer.a["name"], pair.a) == ("features.1.conv", 4)
    before = next(
        row for row in Run(original).units.to_pylist() if row["layer"] == layer.a["name"] and row["channel"] == 4
    )
    assert pair.change == pytest.approx(1 - before["activation"] / 50)
    assert not made.unchanged
    assert dict(made.layers[2].status_changes) == {("ok", "dead"): 3}
    assert any("changed in status" in sentence for sentence in made.sentences)


def test_a_changed_picture_is_seen(original, other):
    path = next((other / "tasks").glob("features-1-conv/channel-ascent-*.png"))
    picture = np.asarray(atlas.Image.open(path)).copy()
    picture[0, 0] ^= 1
    path.write_bytes(atlas.to_png(atlas.Image.fromarray(picture)))
    made = fs.compare(original, other)
    wrong = [
        (layer.a["name"], pair.a) for layer, pair in made.pairs for kind_pair in pair.kinds if kind_pair.same is False
    ]
    assert wrong == [("features.1.conv", 0)]


def test_other_names_in_the_same_order_are_matched_by_order(original, tmp_path):
    renamed = synthetic_run(tmp_path / "renamed", channels=CHANNELS, names=["a", "b", "c", "d"])
    made = fs.compare(original, renamed)
    assert made.matched.how == "order"
    assert [(layer.a["name"], layer.b["name"]) for layer in made.layers][1] == ("features.1.conv", "b")
    assert "4 layers were matched by order: names differ, but" in " ".join(made.statements)


def test_layers_of_one_run_only_are_listed(original, tmp_path):
    longer = synthetic_run(tmp_path / "longer", layers=5, channels=CHANNELS)
    made = fs.compare(original, longer)
    assert (made.matched.only_a, made.matched.only_b) == ((), ("features.4.conv", "features.5.conv"))
    assert "The networks are not of one architecture" in " ".join(made.statements)
    assert made.matched.differing[0][0] == "features.3.conv"  # one-dimensional in the shorter run


def test_a_layer_of_another_rank_is_listed_and_the_networks_are_still_of_one_architecture(original, tmp_path):
    deeper = synthetic_run(tmp_path / "deeper", layers=4, channels=CHANNELS, not_analysed=0)
    made = fs.compare(original, deeper)
    assert [names[:2] for names in made.matched.differing] == [("features.3.conv", "features.3.conv")]
    told = " ".join(made.statements)
    assert "1 layer could not be compared, as listed below." in told
    assert "architecture" not in told


def test_a_kind_of_picture_of_one_run_only_has_no_change(original, other):
    path = other / "units.parquet"
    table = pq.read_table(path)
    rows = [row for row in table.to_pylist() if row["objective"] != "neuron"]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    made = fs.compare(original, other)
    shown = {kind.kind[0]: kind for kind in made.layers[0].pairs[0].kinds}
    assert shown["neuron"].change is None
    assert shown["channel"].change == 0
    told = made.to_json()["layers"][0]["units"][0]["kinds"]
    assert [kind["b"] is None for kind in told] == [kind["objective"] == "neuron" for kind in told]
    assert all(kind["a"] for kind in told)


def test_runs_of_other_channels_are_refused_in_one_line(original, other):
    """Channel 0 alone here, every other there."""
    for folder, first in ((original, False), (other, True)):
        copy = folder if first else shutil.copytree(folder, other.parent / "rest")
        table = pq.read_table(copy / "units.parquet")
        rows = [row for row in table.to_pylist() if (row["channel"] == 0) == first]
        pq.write_table(pa.Table.from_pylist(rows, table.schema), copy / "units.parquet")
        shutil.rmtree(copy / "maps")
    with pytest.raises(SettingsError, match=r"^`match=index`: .* have no channel in common; analyse the same channels"):
        fs.compare(other.parent / "rest", other)


def test_pictures_of_one_kind_that_differ_in_size_are_refused(original, other, tmp_path):
    edited(other, "features.1.conv", 4, height=3, width=3)
    with pytest.raises(RunError, match="second: pictures of one layer and kind differ in size; delete the run"):
        fs.compare(original, other).save(tmp_path / "out")


def test_first_pictures_are_compared_at_the_size_of_finer_ones(original, other, tmp_path):
    for channel in range(3):
        edited(other, "features.1.conv", channel, height=10, width=10, is_first=True)
    assert fs.compare(original, other).save(tmp_path / "out").is_file()


def test_networks_without_a_common_layer_are_refused(original, tmp_path):
    alien = synthetic_run(tmp_path / "alien", layers=1, names=["x", "y"])
    with pytest.raises(RunError, match=r"no layer in common .*4 convolutions from features.0.conv against 2 .*from x"):
        fs.compare(original, alien)


def test_other_numbers_of_channels_are_compared_by_activation_alone(original, tmp_path):
    pruned = synthetic_run(tmp_path / "pruned", channels=CHANNELS - 2)
    with pytest.raises(RunError, match=r"9 channels against 7, .*use `match=activation`"):
        fs.compare(original, pruned)
    made = fs.compare(original, pruned, match="activation")
    assert [(len(layer.pairs), len(layer.only_a), len(layer.only_b)) for layer in made.layers] == [(7, 2, 0)] * 3


def test_runs_without_common_images_are_compared_by_index_alone(original, tmp_path):
    blind = synthetic_run(tmp_path / "blind", channels=CHANNELS, images=0)
    made = fs.compare(original, blind)
    assert made.median is None
    assert all(pair.correlation is None and pair.change == 0 for _, pair in made.pairs if pair.leading and pair.a != 3)
    assert "no image in common" in " ".join(made.statements)
    with pytest.raises(SettingsError, match="hold no image in common"):
        fs.compare(original, blind, match="activation")


def test_images_are_found_by_their_pixels_in_whatever_order(original, tmp_path):
    turned = synthetic_run(tmp_path / "turned", channels=CHANNELS)
    for suffix in ("png", "json"):
        first, last = (turned / "images" / f"{index}.{suffix}" for index in (0, 2))
        content = first.read_bytes(), last.read_bytes()
        first.write_bytes(content[1])
        last.write_bytes(content[0])
    assert matching.common_images(Run(original), Run(turned)) == [(0, 2), (1, 1), (2, 0)]


def test_without_pictures_of_maps_the_numbers_of_three_images_are_needed(tmp_path):
    for images, known in ((16, True), (2, False)):
        folder = synthetic_run(tmp_path / f"run{images}", layers=1, channels=4, images=images)
        path = next((folder / "maps").glob("*.parquet"))
        table = pq.read_table(path)
        rows = [row | {"atlas": None, "tile": None} for row in table.to_pylist()]
        pq.write_table(type(table).from_pylist(rows, table.schema), path)
        layer = fs.compare(folder, folder).layers[0]
        assert (layer.images, layer.of_places) == ((16, False) if known else (0, False))
        assert all((pair.correlation is not None) == known for pair in layer.pairs)


def test_a_constant_unit_has_no_correlation_and_one_that_became_constant_has_none_left():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 2, 50)).astype(np.float32)
    b = a * 2 + 1
    a[2], b[2] = 0.5, 0.5
    b[1] = 7
    channels = np.arange(3)
    units = match_units([], [], Responses(channels, a, True), Responses(channels, b, True), by_index=True)
    assert units.correlation == (1, 0, None)
    assert units.spread == (pytest.approx(2, rel=1e-5), 0, None)


def test_chance_is_what_matching_finds_in_noise():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, 40, 4, 25)).astype(np.float32)
    channels = np.arange(40)
    units = match_units([], [], *(Responses(channels, side, True) for side in values), by_index=False)
    found = float(np.median(units.correlation))
    assert found > 0.1  # forty noisy units find partners
    assert units.chance == pytest.approx(found, abs=0.03)


CAUTIONS = [  # what differs in run.json, the sentence
    ({"seed": 1}, "seed 0 against 1"),
    ({"settings": {"quality": "fine", "steps": 512}}, "quality draft against fine; steps 32 against 512"),
    ({"input": {"preprocessing": {"name": "unit"}}}, "The preprocessing differs (imagenet against unit)"),
    ({"input": {"height": 96}}, "The inputs differ in size: 48"),
    ({"status": "partial"}, "Run B is not finished"),
    ({"settings": {"images_of_prior": 9}}, "Run B took the colours and the spectrum of its pictures from its images"),
    ({"settings": {"objectives": ["channel"]}}, "objectives channel, neuron against channel."),
    (
        {"model": {"parity": {"alone": {"one_at_a_time": True}}}},
        "Network B was computed one picture at a time, since a picture's values may depend on others.",
    ),
    ({"filterscope": "0.2.0"}, "made by filterscope 0.1.0 and 0.2.0"),
]


@pytest.mark.parametrize(("parts", "sentence"), CAUTIONS, ids=[sentence[:20] for _, sentence in CAUTIONS])
def test_what_differs_beside_the_networks_is_said(original, other, parts, sentence):
    info_edited(other, **parts)
    assert sentence in " ".join(fs.compare(original, other).cautions)


def test_a_network_in_8_bits_is_not_taken_for_a_float_one(original, other):
    note = "8-bit operators were written as float operators on dequantised weights: 52 QLinearConv."
    info_edited(other, model={"notes": [note], "sha256": "f" * 64})
    told = " ".join(fs.compare(original, other).statements)
    assert "two different files" in told
    assert "Network B computes in 8 bits. Its convolutions are compared by their values in floats" in told


def test_passes_over_the_same_data_are_compared(original, other):
    statistics = fs.Run(original).table("examples/units.parquet").schema
    for folder, shift in ((original, 0.0), (other, 0.25)):
        rows = [
            dict.fromkeys(statistics.names) | {"layer": "features.0.conv", "channel": c, "active": c / 20 + shift}
            for c in range(CHANNELS)
        ]
        (folder / "examples").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, statistics), folder / "examples" / "units.parquet")
        (folder / "examples" / "study.json").write_text('{"schema": 1, "settings": {"data": "x"}}')
    try:
        made = fs.compare(original, other)
        first = {pair.a: pair.active for pair in made.layers[0].pairs}
        assert first[2] == (0.1, 0.35)
        (other / "examples" / "study.json").write_text('{"schema": 1, "settings": {"data": "y"}}')
        made = fs.compare(original, other)
        assert all(pair.active is None for _, pair in made.pairs)
        assert "passed over different data" in " ".join(made.cautions)
    finally:
        shutil.rmtree(original / "examples")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A comparison of two runs with hostile names, written out."""
    folder = tmp_path_factory.mktemp("pages")
    a = synthetic_run(folder / "a", layers=len(HOSTILE_NAMES), channels=5, names=HOSTILE_NAMES)
    b = shutil.copytree(a, folder / "b")
    shuffled(b, 5)
    info_edited(b, seed=3)
    made = fs.compare(a, b, match="activation")
    return made, made.save(folder / "out").parent


def test_the_pages_hold_no_script_and_no_style_of_their_own(pages):
    _, folder = pages
    for path in folder.glob("*.html"):
        page = read(path)
        assert not page.select("script")
        assert not [
            e for e in page.elements if "style" in e.attributes or any(a.startswith("on") for a in e.attributes)
        ]
        policies = [e.attributes["content"] for e in page.select("meta") if "http-equiv" in e.attributes]
        assert len(policies) == 1
        assert policies[0].startswith("default-src 'none'")


def test_every_link_and_every_file_is_there(pages):
    _, folder = pages
    for path in folder.glob("*.html"):
        page = read(path)
        assert len(page.ids) == len(set(page.ids))
        for element in page.elements:
            target = element.attributes.get("href")
            if target is None:
                continue
            file, _, anchor = target.partition("#")
            assert (folder / file).is_file() if file else True, target
            if anchor:
                assert anchor in read(folder / file if file else path).ids, target
    for style in folder.glob("assets/*.css"):
        for file in re.findall(r"url\(([^)]+)\)", style.read_text(encoding="utf-8")):
            assert file.startswith("#") or (folder / "assets" / file).is_file()


def test_each_picture_on_a_page_is_cut_from_a_sheet_that_holds_it(pages):
    made, folder = pages
    for layer in made.layers:
        page = read(folder / f"layer-{layer.a['slug']}.html")
        style = (folder / "assets" / f"compare-{layer.a['slug']}.css").read_text(encoding="utf-8")
        sprites = [element for element in page.select("span", "cmp-px") if "cmp-none" not in element.classes]
        assert len(sprites) == 2 * 3 * 5
        for sprite in sprites:
            for name in sprite.classes - {"cmp-px"}:
                assert f".{name}{{" in style


def test_a_sheet_holds_the_runs_pictures(pages):
    made, folder = pages
    layer = made.layers[1]
    for side, run in (("a", made.a), ("b", made.b)):
        name = f"c{layer.a['index']}-0{side}-0"
        style = (folder / "assets" / f"compare-{layer.a['slug']}.css").read_text(encoding="utf-8")
        file, columns = re.search(rf"\.{name}{{.*?url\(([^)]+)\);background-size:(\d+)%", style).groups()
        sheet = np.asarray(atlas.Image.open(folder / "assets" / file))
        rows = [pair.kinds[0].a if side == "a" else pair.kinds[0].b for pair in layer.pairs]
        expected = [run.tile(row) for row in sorted(rows, key=lambda row: row.tile)]
        height, width = expected[0].shape[:2]
        for index, tile in enumerate(expected):
            row, column = divmod(index, int(columns) // 100)
            found = sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
            np.testing.assert_array_equal(found, tile)


def test_names_from_models_are_escaped(pages):
    _, folder = pages
    for path in folder.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<script>" not in text
        assert "<b>'" not in text
        assert "49" not in read(path).select("title")[0].text  # {{ 7*7 }} is data


def test_the_pages_use_colours_and_classes_that_there_are(pages):
    _, folder = pages
    site, own = ((folder / "assets" / name).read_text(encoding="utf-8") for name in ("site.css", "compare.css"))
    for variable in set(re.findall(r"var\((--[a-z-]+)\)", own)):
        assert f"{variable}:" in site
    used = {name for path in folder.glob("*.html") for element in read(path).elements for name in element.classes}
    drawn = {name for name in used if not re.fullmatch(r"[ct]\d+-\d+[ab](-\d+)?", name)} - {"compare", "cmp-names"}
    for name in drawn:
        assert f".{name}" in site + own, name


def test_the_same_runs_give_the_same_bytes(pages, tmp_path):
    made, folder = pages
    again = compare(Run(made.a.folder), Run(made.b.folder), "activation").save(tmp_path / "again").parent
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((folder / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_somebody_elses_folder_is_not_replaced(original, other, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(RunError, match="holds something else"):
        fs.compare(original, other).save(tmp_path / "mine")


def test_the_current_folder_is_not_swapped(original, other, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"^\.: is the current folder; name one inside it$"):
        fs.compare(original, other).save(".")


def test_a_comparison_is_written_over_an_older_one(original, other, tmp_path):
    for _ in range(2):
        assert fs.compare(original, other).save(tmp_path / "out").is_file()


def test_json_holds_the_numbers(original, other):
    edited(other, "features.1.conv", 4, activation=float("nan"), status="diverged")
    made = fs.compare(original, other)
    told = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert told["runs"][0]["folder"] == "first"
    layer = next(layer for layer in told["layers"] if layer["a"] == "features.1.conv")
    assert layer["correlation"] | {"chance": 0} == {
        "median": 1, "low": 1, "lowest": 1, "chance": 0, "images": 3, "of_places": True,
    }  # fmt: skip
    unit = next(unit for unit in layer["units"] if unit["a"] == 4)
    assert unit["kinds"][0]["b"]["activation"] is None
    assert unit["kinds"][0]["a"]["activation"] is not None
    assert unit["kinds"][0]["same_picture"] is True


@pytest.mark.parametrize("json_too", [False, True])
def test_the_command_writes_pages_or_prints_json(original, other, tmp_path, json_too):
    out = tmp_path / "out"
    command = ["compare", str(original), str(other), *(["--json"] if json_too else ["-o", str(out)])]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0
    if json_too:
        assert json.loads(answer.stdout)["unchanged"] is True
        assert not out.exists()
    else:
        assert answer.stdout.startswith("Nothing changed")
        assert (out / "index.html").is_file()


def test_an_unknown_match_is_refused(original):
    with pytest.raises(SettingsError, match=r"^`match=weights`: give one of index, activation$"):
        fs.compare(original, original, match="weights")


def test_a_comparison_of_two_runs_with_the_same_names_tells_them_apart(original, tmp_path):
    twin = shutil.copytree(original, tmp_path / "first")
    made = fs.compare(original, twin)
    assert isinstance(made, Comparison)
    assert made.names == ("first (A)", "first (B)")


def test_many_large_pictures_take_several_sheets(tmp_path):
    """32 pictures of more than 200 pixels do not fit into one."""
    options = {"layers": 1, "channels": 34, "images": 0, "size": (260, 260), "picture": 375, "not_analysed": 0}
    a, b = (Run(synthetic_run(tmp_path / name, **options)) for name in "ab")
    folder = compare(a, b).save(tmp_path / "out").parent
    slug = a.layers[0]["slug"]
    assert {path.name for path in (folder / "assets").glob(f"pairs-{slug}-0a-*.webp")} == {
        f"pairs-{slug}-0a-{number}.webp" for number in range(2)
    }
