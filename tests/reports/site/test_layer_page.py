"""A layer's page: the order of its channels, look-alikes, what is said of it, and what can be found in all of them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filterscope.analyzer.run import tables
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo, RunInfo
from filterscope.analyzer.run.rows import StatisticsRow, WeightRow
from filterscope.reports.page import words
from filterscope.reports.site import likeness, summary
from filterscope.reports.site.site import render, render_single
from support.changed_tables import change_rows
from support.pages import Page, read
from support.synthetic_run import gabor, synthetic_run

UNIT_CLASSES = pa.schema(
    [
        ("layer", pa.string()),
        ("channel", pa.int32()),
        ("rank", pa.int32()),
        ("index", pa.int32()),
        ("name", pa.string()),
        ("auc", pa.float64()),
        ("mean", pa.float64()),
        ("images", pa.int32()),
    ]
)


def handed(folder: Path, file: str) -> Any:
    """The last value that a script hands to the page."""
    call = (folder / "assets" / file).read_text("utf-8")
    return json.loads("[" + re.fullmatch(r"filterscope\((.*)\);\n", call, re.DOTALL)[1] + "]")[-1]


def text_of(page: Page) -> str:
    return " ".join(page.text.replace("\u00a0", " ").split())


def channels_of(folder: Path, slug: str) -> list[int]:
    return [int(tile.attributes["id"]) for tile in read(folder / f"layer-{slug}.html").select("a", "u")]


# Order


def test_channels_stand_in_order_of_their_height_above_random_where_nothing_is_known_of_nature(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=15, images=0))
    folder = render(run).parent
    rows = [r for r in run.units.to_pylist() if r["objective"] == "channel"]
    fine = sorted((r for r in rows if r["status"] == "ok"), key=lambda r: (r["random"] - r["activation"], r["channel"]))
    channels = channels_of(folder, run.layers[0]["slug"])
    assert channels[: len(fine)] == [row["channel"] for row in fine]
    assert {row["status"] for row in rows if row["channel"] in channels[len(fine) :]} == {
        "unraised",
        "dead",
        "diverged",
    }
    page = read(folder / f"layer-{run.layers[0]['slug']}.html")
    assert "The pictures that rise highest above random images come first" in text_of(page)
    numbers = [f"{words.figure(row['activation'] - row['random'], 2)} above random" for row in fine]
    assert [small.text for small in page.select("small")][: len(fine)] == numbers
    options = [option.text for option in page.select("option")]
    assert options[0] == "height above random"
    assert options.count("height above random") == 1


def test_channels_stand_in_order_of_their_strength_against_nature_where_the_run_has_it(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=1, channels=8, images=1, studies=True, statuses={})
    ratios = [1.5, None, 9.0, 0.25, 4.0, 4.0, 30.0, 2.0]
    change_rows(place / "truth/units.parquet", lambda row: {"ratio": ratios[row["channel"]]})
    run = Run(place)
    folder = render(run).parent
    slug = run.layers[0]["slug"]
    lift = {r["channel"]: r["activation"] - r["random"] for r in run.units.to_pylist() if r["objective"] == "channel"}
    equal = sorted([4, 5], key=lambda channel: -lift[channel])
    assert channels_of(folder, slug) == [6, 2, *equal, 7, 0, 3, 1]
    page = read(folder / f"layer-{slug}.html")
    assert "The “Channel” pictures that outdo natural images most come first" in text_of(page)
    assert page.select("option")[0].text == "strength against nature"
    assert [small.text for small in page.select("small")][:2] == ["30 × nature", "9.0 × nature"]
    assert page.select("small")[-1].text == "no ratio"


def test_without_that_study_a_neurons_picture_is_compared_with_the_highest_place_of_the_data(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=1, channels=6, images=1, studies=True, statuses={})
    for path in (place / "truth").iterdir():
        path.unlink()
    (place / "truth").rmdir()
    highest = [8.0, 1.0, 0.0, 2.0, 4.0, 16.0]
    change_rows(place / "examples/units.parquet", lambda row: {"maximum": highest[row["channel"]]})
    run = Run(place)
    rows = [r for r in run.units.to_pylist() if r["objective"] == "neuron" and r["space"] == "image"]
    best = [max(r["activation"] for r in rows if r["channel"] == channel) for channel in range(6)]
    expected = sorted((c for c in range(6) if highest[c] > 0), key=lambda c: -best[c] / highest[c])
    folder = render(run).parent
    assert channels_of(folder, run.layers[0]["slug"]) == [*expected, 2], "what nature does not raise has no strength"
    numbers = [small.text for small in read(folder / f"layer-{run.layers[0]['slug']}.html").select("small")]
    assert numbers[0] == f"{words.figure(best[expected[0]] / highest[expected[0]], 2)} × nature"


def test_a_strength_that_few_channels_have_makes_no_order(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=1, channels=8, images=1, studies=True, statuses={})
    change_rows(place / "truth/units.parquet", lambda row: {"ratio": 2.0 if row["channel"] < 3 else None})
    change_rows(place / "examples/units.parquet", lambda row: {"maximum": 0.0})
    page = read(render(Run(place)).parent / "layer-features-0-conv.html")
    assert page.select("option")[0].text == "height above random"


# Look-alikes


def layer_of(**facts: Any) -> LayerInfo:
    return LayerInfo.read({"out_channels": 8, "groups": 1} | facts)


def weights_of(**alike: tuple[list[int], list[float]]) -> dict[int, WeightRow]:
    blank = dict.fromkeys(("atlas", "tile", "height", "width", "bands", "bias"))
    lists = {"inputs": [], "norms": [], "sources": [], "source_channels": [], "norm": 1.0}
    lists |= dict.fromkeys(("shares", "feeds", "feeds_channels", "feeds_shares"))
    return {
        int(name[1:]): WeightRow(**blank, **lists, channel=int(name[1:]), alike=others, cosines=cosines)
        for name, (others, cosines) in alike.items()
    }


def statistics_of(**nearest: tuple[int | None, float | None]) -> dict[int, StatisticsRow]:
    nothing = dict.fromkeys(StatisticsRow.__dataclass_fields__)
    return {
        int(name[1:]): StatisticsRow(**nothing | {"channel": int(name[1:]), "nearest": other, "correlation": value})
        for name, (other, value) in nearest.items()
    }


def test_look_alikes_are_joined_by_kernels_and_by_the_data():
    weights = weights_of(c0=([3, 5], [0.97, 0.94]), c3=([0], [0.97]), c6=([7], [1.0]))
    statistics = statistics_of(c3=(1, 0.951), c4=(5, 0.95), c2=(None, None))
    assert likeness.groups_of(range(8), layer_of(), weights, statistics) == [[0, 1, 3], [6, 7]]
    assert likeness.groups_of([0, 2, 3, 6], layer_of(), weights, statistics) == [[0, 3]], "channels that are not shown"
    assert likeness.groups_of(range(8), layer_of(), {}, {}) == []


def test_equal_kernels_that_read_different_inputs_are_no_look_alikes():
    weights = weights_of(c0=([1, 2], [1.0, 1.0]))
    assert likeness.groups_of(range(8), layer_of(groups=8), weights, {}) == []
    assert likeness.groups_of(range(8), layer_of(groups=4), weights, {}) == [[0, 1]]


def test_the_likeness_of_pictures_is_the_median_correlation_of_their_pairs():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    unlike = [rng.integers(0, 256, (40, 40, 3)).astype(np.uint8) for _ in range(6)]
    small = [likeness.thumbnail(picture) for picture in unlike]
    assert small[0].shape == (16, 16, 3)
    pairs = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for i, a in enumerate(small) for b in small[:i]]
    assert likeness.median_correlation(small) == pytest.approx(np.median(pairs), abs=1e-5)
    assert likeness.median_correlation([likeness.thumbnail(base)] * 5) == pytest.approx(1)
    flat = [np.full((16, 16, 3), 9, np.uint8)] * 4
    assert likeness.median_correlation(flat) == 0, "a picture of one colour is like none"
    assert likeness.median_correlation(small[:3]) is None


def test_the_page_and_its_numbers_say_how_many_are_alike(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=2, channels=6, images=0, studies=True, statuses={})
    cosines = {0: ([4, 1], [0.99, 0.1]), 4: ([0], [0.99])}

    def twins(row: dict[str, Any]) -> dict[str, Any]:
        others, values = cosines.get(row["channel"], ([], []))
        return {"alike": others, "cosines": values}

    change_rows(place / "weights/features-0-conv.parquet", twins)
    folder = render(Run(place)).parent
    page = text_of(read(folder / "layer-features-0-conv.html"))
    assert "2 of 6 channels are look-alikes, in 1 group" in page
    assert handed(folder, "features-0-conv.js")["groups"] == [[0, 4]]
    assert "look-alikes" not in text_of(read(folder / "layer-features-1-conv.html")), "depthwise: other inputs"
    assert len(channels_of(folder, "features-0-conv")) == 6, "all are there without script"


def test_a_layer_whose_pictures_look_alike_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("support.synthetic_run.gabor", lambda seed, index, size, bands: alike(index, size, bands))
    folder = render(Run(synthetic_run(tmp_path / "run", layers=1, channels=6, images=0, statuses={}))).parent
    value = handed(folder, "features-0-conv.js")["likeness"]
    assert value > 0.9
    page = text_of(read(folder / "layer-features-0-conv.html"))
    assert f"Pictures of this layer look alike: median correlation {words.figure(value, 2)}." in page
    monkeypatch.undo()
    folder = render(Run(synthetic_run(tmp_path / "other", layers=1, channels=6, images=0, statuses={}))).parent
    assert "look alike" not in text_of(read(folder / "layer-features-0-conv.html"))


def alike(index: int, size: list[int], bands: int) -> np.ndarray:
    """A picture like all others but for one pixel."""
    picture = gabor(1, 1, size, bands).copy()
    picture.reshape(-1)[index] ^= 255
    return picture


# What is said


def test_a_field_as_large_as_the_input_is_the_whole_input():
    layer = LayerInfo.read(
        {"field": {"size": [363, 363], "jump": [32, 32], "local": True}, "kernel": [1, 1], "output_shape": [8, 7, 7]}
        | {"in_channels": 3, "out_channels": 8, "groups": 1, "parameters": 1, "macs": 1, "depth": 1, "rank": 2}
        | {"pads": [0, 0, 0, 0]}
    )
    assert words.field(layer, (224, 224)) == "the whole input"
    assert words.field(layer, (448, 224)) == "363\u00a0×\u00a0363\u00a0px"
    assert words.field(layer) == "363\u00a0×\u00a0363\u00a0px"
    seen = dict(words.facts(layer, (224, 224)))["Receptive field"].replace("\u00a0", " ")
    assert seen == "the whole input (363 × 363 px with what lies outside), one neuron every 32 × 32 px"


@pytest.mark.parametrize(("order", "names"), [("RGB", ["red", "green", "blue"]), ("BGR", ["blue", "green", "red"])])
def test_the_inputs_of_the_first_layer_are_named_by_their_colours(tmp_path, order, names):
    place = synthetic_run(tmp_path / "run", layers=2, channels=3, images=0, studies=True)
    info = json.loads((place / "run.json").read_text("utf-8"))
    info["input"]["preprocessing"]["order"] = order
    (place / "run.json").write_text(json.dumps(info), "utf-8")
    folder = render(Run(place)).parent
    assert handed(folder, "features-0-conv.js")["inputs"] == names
    assert handed(folder, "features-1-conv.js")["inputs"] is None


def test_silent_channels_are_counted_among_all_that_were_measured(tmp_path):
    folder = render(Run(synthetic_run(tmp_path / "run", layers=1, channels=15, images=0, studies=True))).parent
    assert "2 of 15 channels silent on the data" in text_of(read(folder / "layer-features-0-conv.html"))


def test_a_layer_without_diverse_pictures_says_why(tmp_path):
    for settings, reason in (
        ({"quality": "draft"}, "a draft has them only where they are asked for"),
        ({"quality": "standard"}, "only the later half of the layers has them"),
        ({"objectives": ["channel", "diversity"]}, ""),
    ):
        place = synthetic_run(tmp_path / str(len(reason)), layers=3, channels=3, images=0)
        info = json.loads((place / "run.json").read_text("utf-8"))
        info["settings"] |= settings
        (place / "run.json").write_text(json.dumps(info), "utf-8")
        page = text_of(read(render(Run(place)).parent / "layer-features-0-conv.html"))
        assert ("No diverse pictures" in page) is bool(reason)
        assert reason in page


def test_only_statuses_that_some_channels_have_can_be_chosen(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=6, images=0, statuses={2: "dead"}))
    page = read(render(run).parent / "layer-features-0-conv.html")
    assert [option.text for option in page.select("option")][-3:] == ["all", "ok", "dead"]
    run = Run(synthetic_run(tmp_path / "fine", layers=1, channels=6, images=0, statuses={}))
    page = read(render(run).parent / "layer-features-0-conv.html")
    label = next(e for e in page.select("label") if "Only" in e.text)
    assert "hidden" in label.attributes


# What was not analysed


def test_a_layer_that_was_not_analysed_gives_the_command_that_would(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=1, channels=4, images=0, not_analysed=2)
    layers = json.loads((place / "layers.json").read_text("utf-8"))
    layers["layers"][1] |= {"rank": 2, "name": "it's\nb", "kernel": [3, 3], "stride": [1, 1], "dilation": [1, 1]}
    layers["layers"][1] |= {"pads": [1, 1, 1, 1], "output_shape": [4, 8, 8]}
    (place / "layers.json").write_text(json.dumps(layers), "utf-8")
    run = Run(place)
    folder = render(run).parent
    page = read(folder / f"layer-{run.layers[1]['slug']}.html")
    command = page.select("code")[0].text
    assert shlex.split(command) == shlex.split(summary.layer_command(run.info, run.layers[1]))
    assert shlex.split(command)[-4:] == ["--layers", "it's\nb", "--out", "again"]
    other = read(folder / f"layer-{run.layers[2]['slug']}.html")
    assert not other.select("code")
    assert "Convolutions over 1 axis are listed only" in text_of(other)


def test_a_command_for_a_layer_is_that_for_its_channels_without_a_choice_of_them():
    layer = LayerInfo.read({"name": "conv 1"})
    info = RunInfo.read({"command": ["filterscope", "analyze", "m.onnx", "--channels", "all"]})
    assert summary.layer_command(info, layer) == "filterscope analyze m.onnx --layers 'conv 1' --out again"
    info = RunInfo.read({"model": {"name": "m.onnx"}})
    assert summary.layer_command(info, layer) == "filterscope maximize m.onnx --layer 'conv 1'"


def test_a_page_knows_how_many_channels_its_layer_has(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=4, images=0))
    main = read(render(run).parent / "layer-features-0-conv.html").select("main")[0]
    assert main.attributes["data-count"] == "4"
    assert main.attributes["data-command"].endswith(" --channels ")
    assert "data-excerpt" not in main.attributes


# Search


@pytest.fixture
def with_classes(tmp_path, monkeypatch):
    """A run whose data set has classes."""
    monkeypatch.setitem(tables.TABLES, "examples/unit_classes.parquet", UNIT_CLASSES)
    place = synthetic_run(tmp_path / "run", layers=2, channels=5, images=1, studies=True, statuses={})
    rows = [
        {"layer": "features.1.conv", "channel": channel, "rank": rank, "index": rank, "name": name, "auc": auc}
        | {"mean": 1.0, "images": 4}
        for channel, rank, name, auc in (
            (3, 1, "tabby cat", 0.91),
            (3, 0, "great dane", 0.98),
            (1, 0, "great dane", 0.875),
            (1, 3, "sea lion", 0.7),
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows, UNIT_CLASSES), place / "examples/unit_classes.parquet")
    return Run(place)


def test_the_index_holds_each_word_once(with_classes):
    index = handed(render(with_classes).parent, "search.js")
    assert [layer["name"] for layer in index["layers"]] == [f"features.{i}.conv" for i in range(3)]
    assert index["words"] == ["edges at 45°, of any colour"]
    assert index["names"] == ["great dane", "tabby cat"], "of each channel the three best"
    first, second, unseen = index["layers"]
    assert first["words"] == second["words"] == [0, -1, 0, -1, 0]
    assert "classes" not in first
    assert second["classes"] == [[], [0, 875], [], [0, 980, 1, 910], []]
    assert (second["shown"], second["count"], second["channels"]) == (5, 5, 0)
    assert unseen == {"name": "features.2.conv", "slug": "features-2-conv", "count": 5, "shown": 0}


def test_the_channels_of_a_layer_are_found_by_class_too(with_classes):
    order = handed(render(with_classes).parent, "features-1-conv.js")["order"]
    assert [[order["names"][i] for i in one] for one in order["classes"]] == [
        [],
        ["great dane"],
        [],
        ["great dane", "tabby cat"],
        [],
    ]


def test_the_index_of_many_channels_is_small(tmp_path):
    folder = render(Run(synthetic_run(tmp_path / "run", layers=1, channels=1000, images=0))).parent
    assert (folder / "assets" / "search.js").stat().st_size < 2000


def test_a_single_file_holds_the_index_and_says_that_it_is_an_excerpt(with_classes, tmp_path):
    page = render_single(with_classes, tmp_path / "report.html").read_text("utf-8")
    block = re.search(r'<script type="application/json" data-file="search.js">(.*?)</script>', page)[1]
    assert json.loads(block)[0] == "search"
    assert len(json.loads(block)[1]["layers"]) == 3
    assert 'class="search"' in page
