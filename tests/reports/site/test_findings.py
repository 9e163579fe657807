"""The verdict of the overview: what a network is, how often it is right, what is odd about it."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from filterscope.analyzer.run import tables
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import RunInfo
from filterscope.analyzer.run.rows import ConfusionRow, DataClassRow
from filterscope.analyzer.run.writer import RunWriter
from filterscope.reports.site import findings
from filterscope.reports.site.findings import accuracy_sentences, network_sentence
from filterscope.reports.site.site import render
from support.pages import read
from support.synthetic_run import synthetic_run

INPUT = {"channels": 3, "height": 224, "width": 224, "bands": "rgb", "preprocessing": None}
MODEL = {"conv_layers": 52, "conv_channels": 17_056, "parameters": 3_487_816}


def info(outputs, labels=(), spec=INPUT):
    shown = [{"name": f"out{index}", "shape": shape} for index, shape in enumerate(outputs)]
    return RunInfo.read({"model": MODEL | {"outputs": shown}, "input": spec, "labels": labels})


SENTENCES = [
    (info([[1, 10]], ["cat", "dog"]), "A classifier of 2 classes: cat and dog."),
    (
        info([[1, 1000]], [f"class {index}" for index in range(1000)]),
        "A classifier of 1,000 classes, from class 0 to class 999.",
    ),
    (info([[1, 1000]]), "A network with 1,000 scores, one a class if it is a classifier."),
    (info([[1, 10, 1, 1]]), "A network with 10 scores"),
    (info([[1, 4420, 2], [1, 4420, 4]]), "A network with 2 outputs, of 4420 × 2 and 4420 × 4 numbers."),
    (info([[1, 1, 224, 224]]), "A network with 1 output, of 1 × 224 × 224 numbers."),
    (info([]), "It takes RGB images"),
]


@pytest.mark.parametrize(("run", "expected"), SENTENCES)
def test_the_first_sentence_says_what_the_network_is(run, expected):
    text = network_sentence(run).replace("\u00a0", " ")
    assert text.startswith(expected)
    assert text.endswith(
        "It takes RGB images of 224 × 224 pixels. "
        "Inside: 52 convolution layers, 17,056 channels and 3.49 million parameters."
    )


def test_an_unfinished_run_may_know_nothing_of_its_network():
    assert network_sentence(RunInfo.read({})) == ""


CLASSES = [
    DataClassRow(0, "plane", 20, 19, 20, 21, None),
    DataClassRow(1, "cat", 20, 10, 18, 15, None),
    DataClassRow(2, "dog", 20, 15, 19, 24, None),
    DataClassRow(3, "emu", 2, 0, 2, 0, None),
]


def test_accuracy_names_the_best_class_the_worst_and_what_is_mixed_up():
    """A class of two images is neither the best nor the worst."""
    mixed = [ConfusionRow(1, 1, 10), ConfusionRow(1, 2, 8), ConfusionRow(2, 1, 3), ConfusionRow(3, 9, 2)]
    assert accuracy_sentences(CLASSES, mixed) == [
        "It is right on 71 % of the 62 images of the data set; "
        "the right class is among its first five answers for 95 %.",
        "Best at plane (95 %), worst at cat (50 %).",
        "Most often mixed up: cat taken for dog, 8 of 20 times.",
    ]


def test_accuracy_leaves_out_what_it_cannot_say():
    few = [replace(row, right_of_five=None, name=None) for row in CLASSES[:1]]
    assert accuracy_sentences(few) == ["It is right on 95 % of the 20 images of the data set."]
    assert accuracy_sentences(few, [ConfusionRow(0, 1, 1)]) == accuracy_sentences(few)
    assert accuracy_sentences([]) == []


@pytest.mark.parametrize(("right", "is_chance"), [((0, 0), True), ((0, 2), True), ((1, 2), False)])
def test_a_network_no_better_than_one_answer_for_all_is_doubted(right, is_chance):
    rows = [DataClassRow(index, f"class {index}", 2, one, None, 2, None) for index, one in enumerate(right)]
    assert ("Always answering class" in " ".join(accuracy_sentences(rows))) == is_chance


def test_only_images_of_black_and_white_are_saturated():
    grey = np.full((8, 8, 3), 128, np.uint8)
    half = grey.copy()
    half[:4] = 255
    assert findings.saturation(grey) == 0
    assert findings.saturation(half) == 0.5
    half[4, 0] = 0
    assert findings.saturation(half) > findings.SATURATED


@pytest.fixture
def labelled(tmp_path):
    """Writes a run whose data set has classes."""

    def write(unit_classes, **more):
        folder = synthetic_run(tmp_path / "run", images=1, studies=True, statuses={}, **more)
        rows = {
            "examples/classes.parquet": [
                {"index": row.index, "name": row.name, "images": row.images, "right": row.right}
                | {"right_of_five": row.right_of_five, "predicted": row.predicted, "probability": 0.5}
                for row in CLASSES
            ],
            "examples/confusion.parquet": [{"label": 1, "predicted": 2, "images": 8}],
            "examples/unit_classes.parquet": [{"mean": 1.0, "images": 20} | row for row in unit_classes],
        }
        with RunWriter(folder, "plan") as writer:
            for name, values in rows.items():
                writer.write_table(name, pa.Table.from_pylist(values, tables.TABLES[name]))
        return Run(folder)

    return write


def best(layer, channel, index, name, auc):
    return {"layer": layer, "channel": channel, "rank": 0, "index": index, "name": name, "auc": auc}


def told(run):
    """(link, sentence) of each of the most telling channels on the overview."""
    page = read(render(run))
    items = page.select("li", within=page.select("ul", "telling")[0])
    return [(page.select("a", within=one)[0].attributes["href"], page.select("p", within=one)[0].text) for one in items]


def test_the_most_telling_channels_are_those_that_tell_classes_one_a_layer_and_one_a_class(labelled):
    run = labelled([], layers=3)
    names = [layer.name for layer in run.layers]
    slugs = [layer.slug for layer in run.layers]
    rows = [
        best(names[0], 3, 0, "plane", 0.81),
        best(names[1], 4, 1, "cat", 0.99),
        best(names[1], 5, 2, "dog", 0.98),  # a layer that is there already
        best(names[2], 1, 1, "cat", 0.97),  # a class that is there already
        best(names[2], 3, 2, "dog", 0.75),
    ]
    with RunWriter(run.folder, "plan") as writer:
        name = "examples/unit_classes.parquet"
        whole = [{"mean": 1.0, "images": 20} | row for row in rows]
        writer.write_table(name, pa.Table.from_pylist(whole, tables.TABLES[name]))
    shown = told(Run(run.folder))
    assert [link for link, _ in shown] == [
        f"layer-{slugs[1]}.html#4",
        f"layer-{slugs[0]}.html#3",
        f"layer-{slugs[2]}.html#3",
    ]
    assert [text.split(" Tuning")[0] for _, text in shown] == [
        f"An image of “{name}” raises it more than one of another class {share} % of the time (AUC)."
        for name, share in (("cat", 99), ("plane", 81), ("dog", 75))
    ]


def test_the_overview_says_how_often_a_network_is_right(labelled):
    text = " ".join(read(render(labelled([]))).text.split())
    assert "It is right on 71 % of the 62 images" in text
    assert "cat taken for dog, 8 of 20 times" in text


def test_without_classes_the_most_telling_outdo_natural_images_each_in_its_part_of_the_depth(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", images=1, studies=True, statuses={}))
    with RunWriter(run.folder, "plan") as writer:
        name = "examples/unit_classes.parquet"
        writer.write_table(name, tables.TABLES[name].empty_table())
    run = Run(run.folder)
    rows = [row for row in run.table("truth/units.parquet").to_pylist() if row["ratio"]]
    shown = told(run)
    assert 1 <= len(shown) <= 5
    layers = [layer for layer in run.layers if any(row["layer"] == layer.name for row in rows)]
    assert len(shown) == min(5, len(layers))
    for (link, _), layer in zip(shown, layers, strict=True):
        best = max(
            (row for row in rows if row["layer"] == layer.name and row["objective"] == "channel"),
            key=lambda row: row["ratio"],
        )
        assert link == f"layer-{layer.slug}.html#{best['channel']}"
    assert all("times that on the strongest cut of a natural image" in text for _, text in shown)


def test_without_data_they_are_spread_over_the_depth(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=9, channels=2, images=0, statuses={}))
    shown = told(run)
    slugs = [layer.slug for layer in run.layers]
    assert [link.partition("#")[0] for link, _ in shown] == [f"layer-{slugs[index]}.html" for index in (0, 2, 4, 6, 8)]
    for (_, text), index in zip(shown, (0, 2, 4, 6, 8), strict=True):
        rows = [r for r in run.units.to_pylist() if r["layer"] == run.layers[index].name and r["method"] == "ascent"]
        assert text.startswith("Its picture reaches ")
        assert max(row["activation"] for row in rows) > 0


def test_a_run_in_which_nothing_is_odd_says_so_and_what_it_does_not_know(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=3, images=0, statuses={}))
    text = " ".join(read(render(run)).text.split())
    assert "Nothing odd: every picture rose above random images, no channel is proven dead or constant." in text
    assert "Not known: which channels are silent, or double, on real data (--examples)." in text


def test_channels_that_correlate_are_double_and_kernels_of_groups_are_not_compared(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=2, images=0, studies=True, statuses={}))
    name = "examples/units.parquet"
    rows = run.table(name).to_pylist()
    for row in rows:
        row["correlation"] = 0.995 if row["channel"] in (1, 4) and row["layer"] == run.layers[0].name else 0.3
    with RunWriter(run.folder, "plan") as writer:
        writer.write_table(name, pa.Table.from_pylist(rows, tables.TABLES[name]))
        for layer in run.layers[:2]:
            kernels = run.weights(layer.name).to_pylist()
            for row in kernels:
                row["cosines"] = [1.0 if layer.groups > 1 else 0.2] * len(row["alike"])
            writer.write_table(
                f"weights/{layer.slug}.parquet", pa.Table.from_pylist(kernels, run.weights(layer.name).schema)
            )
    page = read(render(Run(run.folder)))
    odd = next(one for one in page.select("li") if one.text.startswith("Double"))
    text = " ".join(odd.text.split())
    assert "4 of 12 channels: do the same as another channel of their layer, in 2 groups" in text
    assert "1 = 2 (correlation 0.995); 4 = 5 (correlation 0.995)" in text
    assert [e.attributes["href"] for e in page.select("a", within=odd)][2:] == [
        f"layer-{run.layers[0].slug}.html#{channel}" for channel in (1, 2, 4, 5)
    ]


def test_layers_that_were_not_analysed_are_one_line(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=2, images=0, not_analysed=40))
    page = read(render(run))
    (folded,) = page.select("details", "others")
    assert "40 more layers were not analysed" in page.select("summary", within=folded)[0].text
    assert len(page.select("li", within=folded)) == 40


def test_a_plot_shows_from_which_depth_on_classes_are_told_apart(labelled):
    run = labelled([], layers=3)
    names = [layer.name for layer in run.layers]
    rows = [best(names[0], 3, 0, "plane", 0.8), best(names[1], 4, 0, "plane", 0.9), best(names[1], 5, 1, "cat", 0.7)]
    with RunWriter(run.folder, "plan") as writer:
        name = "examples/unit_classes.parquet"
        whole = [{"mean": 1.0, "images": 20} | row for row in rows]
        writer.write_table(name, pa.Table.from_pylist(whole, tables.TABLES[name]))
    plots = read(render(Run(run.folder))).select("figure", "plot")
    plot = next(one for one in plots if "Tells classes" in one.text)
    assert f"{names[0]}: 65 %" in plot.text, "0.8 and, for the class that nothing tells, 0.5"
    assert f"{names[1]}: 80 %" in plot.text
