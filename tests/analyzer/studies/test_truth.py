"""Truth and values: by hand, from saved pictures and images, without the modules' own code."""

from pathlib import Path

import numpy as np
import onnx
import pyarrow.compute as pc
import pytest
from PIL import Image

from filterscope.analyzer.analysis import Analysis
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.data.images import find
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.studies.truth import TruthStudy
from filterscope.analyzer.studies.values import ValueStudy, chosen_values, is_blank, values_of
from filterscope.converters.errors import SettingsError
from support.networks import answers, build, normal

SIDE = 20
NODES = [
    ("Conv", "x one", "a", {"pads": [1, 1, 1, 1]}),
    ("Relu", "a", "r"),
    ("MaxPool", "r", "p", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Conv", "p two", "b"),
    ("Relu", "b", "s"),
    ("GlobalAveragePool", "s", "g"),
    ("Flatten", "g", "f"),
    ("Gemm", "f dense", "d"),
]
WEIGHTS = {"one": normal(5, 3, 3, 3), "two": normal(4, 5, 3, 3), "dense": normal(4, 7)}
WEIGHTS["one"][2] = 0  # a blank map


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for index in range(6):
        coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("truth") / "m.onnx"
    onnx.save(build(NODES, WEIGHTS, shape=("N", 3, SIDE, SIDE)), path)
    return open_network(path, InputOptions(preprocessing=preset("symmetric")))


@pytest.fixture(scope="module")
def run(network, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    settings = Settings(objectives=("channel", "neuron"), map_pictures=2)
    studies = [TruthStudy(), ValueStudy()]
    Analysis(network, settings, find([photos]), out, studies=studies).run()
    return Run(out)


@pytest.fixture(scope="module")
def answered(network, run):
    """What ONNX Runtime by itself answers to the user's images."""
    pixels = np.stack([run.image(index) for index in range(6)])
    x = ((pixels / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2).astype(np.float32)
    return answers(onnx.load(network.model.path), x, ["a", "b", "r", "p", "s", "g", "d"])


def test_ratios_compare_the_strongest_neurons(run, answered):
    rows = run.table("truth/units.parquet").to_pylist()
    assert {row["objective"] for row in rows} == {"channel", "neuron"}
    names = [layer["name"] for layer in run.layers]
    for row in rows:
        if row["objective"] != "neuron" or row["channel"] == 2:
            continue
        maps = answered["ab"[names.index(row["layer"])]]
        assert row["natural"] == pytest.approx(maps[:, row["channel"]].max(), rel=1e-5)
        own = run.units.filter(pc.equal(run.units["layer"], row["layer"])).to_pylist()
        saved = [u for u in own if u["channel"] == row["channel"] and u["objective"] == "neuron" and u["atlas"]]
        assert row["maximised"] >= max(u["activation"] for u in saved if u["space"] == "image") - 1e-4
        assert row["ratio"] == pytest.approx(row["maximised"] / row["natural"])


def test_channel_ratios_are_of_pictures_of_one_size(network, run):
    """Where the canvas is the whole input, the natural side is the mean of the map over the whole images."""
    rows = [row for row in run.table("truth/units.parquet").to_pylist() if row["objective"] == "channel"]
    ascents = [u for u in run.units.to_pylist() if (u["objective"], u["method"]) == ("channel", "ascent")]
    maximised = {(u["layer"], u["channel"]): u for u in ascents}
    for row in rows:
        saved = maximised[row["layer"], row["channel"]]
        assert row["maximised"] == pytest.approx(saved["activation"])
        if row["natural"] is None:
            continue
        best = -np.inf
        value = network.layer(row["layer"]).value
        for index in range(6):  # every cut of every image: none may lie above, and one is the natural one
            pixels = run.image(index)
            height, width = saved["height"], saved["width"]
            tops, lefts = SIDE - height + 1, SIDE - width + 1
            cuts = [pixels[i : i + height, j : j + width] for i in range(tops) for j in range(lefts)]
            session = network.session([value], (height, width))
            means = session.run(network.input.to_model(np.stack(cuts)))[value][:, row["channel"]].mean(axis=(1, 2))
            best = max(best, means.max())
            if np.abs(means - row["natural"]).min() < 1e-4:
                break
        else:
            pytest.fail(f"{row}: no cut has this mean")
        assert row["natural"] <= best + 1e-4


def test_paths_are_rank_correlations_with_their_yardsticks(run):
    rows = run.table("truth/paths.parquet").to_pylist()
    first, second = (layer["name"] for layer in run.layers)
    assert {(row["layer"], row["through"]) for row in rows} == {(second, first)}  # the first has nothing before it
    for row in rows:
        for name in ("maximised_natural", "natural_natural", "random_natural"):
            assert -1 <= row[name] <= 1


def test_paths_by_hand_where_the_picture_is_as_large_as_the_image(tmp_path):
    weights = {"one": normal(5, 3, 3, 3, seed=1), "two": normal(4, 5, 3, 3)}
    onnx.save(build([*NODES[:2], ("Conv", "r two", "b")], weights, shape=("N", 3, 5, 5)), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx", InputOptions(preprocessing=preset("symmetric")))
    drawn = np.random.default_rng(1).integers(0, 256, (9, 5, 5, 3), dtype=np.uint8)
    for index, pixels in enumerate(drawn):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    Analysis(network, Settings(), find([tmp_path / "*.png"]), tmp_path / "run", studies=[TruthStudy()]).run()
    run = Run(tmp_path / "run")
    rows = run.table("truth/paths.parquet").to_pylist()
    assert len(rows) == 4

    def maps(pixels, name):
        x = ((np.stack(pixels) / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2).astype(np.float32)
        return answers(onnx.load(network.model.path), x, [name])[name]

    for row in rows:
        saved = next(
            unit
            for unit in run.units.to_pylist()
            if (unit["layer"], unit["channel"], unit["method"]) == (row["layer"], row["channel"], "ascent")
        )
        assert (saved["height"], saved["width"]) == (5, 5)
        strongest = np.argsort(-maps(drawn, "b")[:, row["channel"]].max(axis=(1, 2)))
        ranked = maps([run.tile(saved), *drawn[strongest]], "a").mean(axis=(2, 3)).argsort(1).argsort(1)
        alike = np.corrcoef(ranked)
        assert row["maximised_natural"] == pytest.approx(alike[0, 1:5].mean(), abs=1e-3)
        assert row["natural_natural"] == pytest.approx((alike[1:5, 1:5].sum() - 4) / 12, abs=1e-3)
        assert row["random_natural"] == pytest.approx(alike[5:, 1:5].mean(), abs=1e-3)


def test_ranks_are_spearman_with_ties():
    from filterscope.analyzer.studies.truth import _ranks

    values = np.array([[1.0, 2, 2, 5, 0], [3, 1, 1, 1, 9], [4, 4, 4, 4, 4]])
    product = _ranks(values) @ _ranks(values).T
    expected = np.corrcoef([[2, 3.5, 3.5, 5, 1], [4, 2, 2, 2, 5]])[0, 1]  # ranks by hand
    assert product[0, 1] == pytest.approx(expected)
    assert product[0, 0] == pytest.approx(1)
    assert product[2].tolist() == [0, 0, 0]


def test_truth_needs_natural_images(network, tmp_path):
    with pytest.raises(SettingsError, match="`images`"):
        Analysis(network, Settings(), [], tmp_path / "run", studies=[TruthStudy()]).run()


def test_values_are_what_onnx_runtime_holds(run, answered):
    rows = run.table("values/values.parquet").to_pylist()
    names = [layer["name"] for layer in run.layers]
    follows = {row["value"]: row["layer"] for row in rows}
    assert follows == {"r": names[0], "p": names[0], "s": names[1], "g": names[1], "d": names[1]}
    assert list(follows) == ["r", "p", "s", "g", "d"]  # in network order
    assert len(rows) == sum(6 * answered[name].shape[1] for name in follows)
    for row in rows:
        own = answered[row["value"]][row["image"], row["channel"]]
        found = (row["minimum"], row["mean"], row["maximum"])
        assert found == pytest.approx((own.min(), own.mean(), own.max()), rel=1e-4, abs=1e-5)
        assert row["blank"] == (own.size > 1 and bool(np.ptp(own) == 0))
        if row["image"] >= 2 or own.size == 1:
            assert row["atlas"] is None
            continue
        shown = run.tile(row)[..., 0] / 255 * np.ptp(own) + own.min()
        assert np.abs(shown - own).max() <= np.ptp(own) / 255 + 1e-6
    assert any(row["blank"] for row in rows)


def test_values_are_chosen_by_kind_operator_and_name(network):
    def chosen(*wanted):
        return [value.name for value in chosen_values(network, wanted)]

    assert chosen("pool") == ["p", "g"]
    assert chosen("dense", "r") == ["r", "d"]
    assert chosen("Relu") == ["r", "s"]
    assert {value.name for value in values_of(network)} == {"r", "p", "s", "g", "f", "d"}
    with pytest.raises(SettingsError, match="nope"):
        chosen("nope")


def test_channels_last_values(tmp_path):
    nodes = [("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}), ("Conv", "t w", "c"), ("Relu", "c", "r")]
    nodes += [("Transpose", "r", "l", {"perm": [0, 2, 3, 1]}), ("Sigmoid", "l", "g")]
    onnx.save(build(nodes, {"w": normal(5, 3, 3, 3)}, shape=("N", 12, 12, 3)), tmp_path / "m.onnx")
    found = {value.op: value.channels for value in values_of(open_network(tmp_path / "m.onnx"))}
    assert found["Sigmoid"] == found["Relu"] == 5


def test_blank_maps_are_those_that_hold_one_number():
    low, high = np.float32([0, 1, -3, 0, 1]), np.float32([0, 1 + 1e-7, -3, 1e-9, 1.01])
    assert is_blank(low, high).tolist() == [True, True, True, False, False]
