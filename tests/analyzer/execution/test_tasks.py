"""Tasks: the numbers beside the pictures, measured again by ONNX Runtime alone, and what their statuses claim."""

from dataclasses import replace

import numpy as np
import onnx
import onnx.utils
import pyarrow as pa
import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.compute.devices import choose_devices
from filterscope.analyzer.execution.plan import Settings, Task, make_plan
from filterscope.analyzer.execution.tasks import Workshop, run_task
from filterscope.analyzer.maximize.presets import PRESETS, QUALITIES, Recipe
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import custom
from filterscope.analyzer.run.layout import slugs
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.tables import UNIT_SCHEMA
from filterscope.analyzer.run.writer import RunWriter
from support.networks import answers, build, normal

SIDE = 20
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, -0.25)
PREPROCESSING = custom(1, MEAN, STD)
FEW = Recipe(PRESETS["filterscope"], replace(QUALITIES["draft"], steps=6))
VALUES = {"one": "a", "two": "b", "three": "c"}
DEAD, FLAT = 1, 3  # channels of "one" and "two": hugely negative before a ReLU; the same for every picture


def constants():
    found = {
        "one.weight": normal(6, 3, 3, 3),
        "one.bias": normal(6),
        "two.weight": normal(5, 6, 3, 3),
        "two.bias": normal(5),
        "three.weight": normal(4, 5, 3, 3),
        "three.bias": np.array([-1e6, 0, 0, 0], np.float32),  # no ReLU follows: not dead
    }
    for name in ("one", "two"):
        found[f"{name}.bias"][DEAD] = -1e6
        found[f"{name}.weight"][FLAT] = 0
        found[f"{name}.bias"][FLAT] = 0.25
    return found


NODES = [
    ("Conv", "x one.weight one.bias", "a", {"pads": [1, 1, 1, 1]}),
    ("Relu", "a", "r"),
    ("Conv", "r two.weight two.bias", "b", {"strides": [2, 2]}),
    ("Clip", "b low high", "s"),
    ("Conv", "s three.weight three.bias", "c"),
]
CLIP = {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}


def opened(folder, nodes=NODES, weights=None, preprocessing=PREPROCESSING):
    path = folder / "model.onnx"
    onnx.save(build(nodes, weights or constants() | CLIP, shape=("N", 3, "H", "W")), path)
    return open_network(path, InputOptions(size=(SIDE, SIDE), preprocessing=preprocessing))


def workshop(network):
    return Workshop(network, FEW, 0, choose_devices("cpu"))


def all_rows(network, objectives=("channel", "neuron")):
    """Rows and pictures of every task of every unit."""
    shop = workshop(network)
    settings = Settings(objectives=objectives, channels="all", quality="draft")
    plan = make_plan(network, settings, [], lambda layer, recipe: 64)
    found = []
    for task in plan.tasks:
        task = replace(task, recipe=FEW)
        rows, tiles = run_task(shop, task)
        found += [(row, tile) for row, tile in zip(rows, tiles, strict=True)]
    return found


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def units(network):
    return all_rows(network)


def of(units, **wanted):
    return [(row, tile) for row, tile in units if all(row[key] == value for key, value in wanted.items())]


def maps_of(network, row, pixels):
    """The maps of a row's unit on some pictures, by ONNX Runtime on the file alone: (pictures, H, W)."""
    x = ((pixels / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2).astype(np.float32)
    value = VALUES[row["layer"]]
    whole = onnx.shape_inference.infer_shapes(onnx.load(network.model.path))
    part = onnx.utils.Extractor(whole).extract_model(["x"], [value])  # a picture may be too small for the rest
    return answers(part, x)[value][:, row["channel"]].astype(np.float64)


def measured(network, row, pixels):
    """The objective of a row on some pictures: (pictures,)."""
    maps = maps_of(network, row, pixels)
    return maps.mean(axis=(1, 2)) if row["objective"] == "channel" else maps[:, row["row"], row["column"]]


def test_each_activation_is_what_onnxruntime_gives_for_the_picture(network, units):
    for row, tile in of(units, space="image"):
        assert measured(network, row, tile[None])[0] == pytest.approx(row["activation"], rel=1e-5, abs=1e-5)


def test_the_highest_place_of_a_channels_picture_is_what_onnxruntime_gives(network, units):
    for row, tile in of(units, objective="channel", method="ascent"):
        assert maps_of(network, row, tile[None]).max() == pytest.approx(row["highest"], rel=1e-5, abs=1e-5)
    assert {row.get("highest") for row, _ in of(units, objective="neuron")} == {None}


def test_random_is_the_best_of_sixteen_random_pictures(network, units):
    for row, tile in of(units, space="image"):
        pictures = network.random_pixels(16, tile.shape[:2], 1)
        assert measured(network, row, pictures).max() == pytest.approx(row["random"], rel=1e-5, abs=1e-5)


def test_every_unit_has_a_row_of_each_kind(network, units):
    found = {(row["layer"], row["objective"], row["method"], row["channel"]) for row, _ in units}
    kinds = (("neuron", "analytic"), ("channel", "ascent"), ("neuron", "ascent"))
    wanted = {(layer.name, *kind, c) for layer in network.layers for kind in kinds for c in range(layer.out_channels)}
    assert found == wanted
    assert len(units) == len(wanted)


def test_closed_forms_of_the_first_layer_reach_their_bound(units):
    exact = of(units, layer="one", method="analytic")
    assert len(exact) == 6
    for row, _ in exact:
        assert (row["space"], row["bound_kind"]) == ("image", "exact")
        assert row["gap"] == row["bound"] - row["activation"]
        assert abs(row["gap"]) <= 1e-5 * max(1, abs(row["bound"]))


def test_the_ascent_of_a_first_layer_neuron_is_held_against_the_exact_bound(units):
    exact = {row["channel"]: row["bound"] for row, _ in of(units, layer="one", method="analytic")}
    for row, _ in of(units, layer="one", objective="neuron", method="ascent"):
        assert row["bound_kind"] == "exact"
        assert row["bound"] == exact[row["channel"]]
    for row, _ in of(units, layer="one", objective="channel"):
        assert row["bound_kind"] in ("interval", "relaxation")


def test_no_activation_exceeds_its_bound(units):
    for row, _ in of(units, space="image"):
        slack = 1e-5 * max(1, abs(row["bound"])) if row["bound_kind"] == "exact" else 0
        for name in ("activation", "robust", "random"):
            assert row[name] is None or row[name] <= row["bound"] + slack


@pytest.mark.parametrize("seed", range(4))
def test_no_activation_of_a_random_network_exceeds_its_bound(tmp_path, seed):
    """Trained-like sizes of weights do not matter to soundness: wide and narrow, with and without padding."""
    weights = {
        "one.weight": normal(4, 3, 3, 3, seed=seed) * 10**seed,
        "one.bias": normal(4, seed=seed + 50),
        "two.weight": normal(3, 4, 3, 3, seed=seed + 90),
    }
    nodes = [("Conv", "x one.weight one.bias", "a", {"pads": [1, 0, 1, 0]}), ("Sigmoid", "a", "r")]
    nodes += [("Conv", "r two.weight", "b", {"pads": [1, 1, 1, 1]})]
    for row, _ in of(all_rows(opened(tmp_path, nodes, weights), ("neuron",)), space="image"):
        slack = 1e-5 * max(1, abs(row["bound"])) if row["bound_kind"] == "exact" else 0
        assert row["robust"] is None  # 4 pixels are too few to be shifted
        assert max(row["activation"], row["random"]) <= row["bound"] + slack


def test_statuses_say_what_is_proven_and_what_was_only_not_found(units):
    claimed = {(row["layer"], row["channel"]): row["status"] for row, _ in of(units, objective="channel")}
    for layer in ("one", "two"):
        assert claimed[layer, DEAD] == "dead"
        assert claimed[layer, FLAT] == "unraised"
    assert claimed["three", 0] in ("ok", "unraised"), "below 0 for every picture, but no ReLU cuts it off"
    for (layer, channel), status in claimed.items():
        if channel not in (DEAD, FLAT) and layer != "three":
            assert status == "ok"


def test_dead_is_claimed_before_a_relu_only_and_below_zero_only(network, units):
    for row, _ in of(units, space="image"):
        if row["status"] == "dead":
            assert network.layer(row["layer"]).nonlinearity in ("relu", "relu6")
            assert max(row["bound"], row["activation"], row["random"]) <= 0
        elif row["status"] == "unraised":
            assert row["activation"] <= row["random"]
        else:
            assert row["activation"] > row["random"]


def test_deep_closed_forms_are_patterns_of_the_layers_own_input(network, units):
    for layer in ("two", "three"):
        for row, tile in of(units, layer=layer, method="analytic"):
            assert (row["space"], row["row"], row["column"]) == ("input", None, None)
            assert set(np.unique(tile)) <= {0, 128, 255}
            found = [other["activation"] for other, _ in of(units, layer=layer, channel=row["channel"], space="image")]
            assert row["activation"] >= max(found) - 1e-5 * max(1, abs(row["activation"])), (
                "no image makes a better one"
            )


def test_a_network_that_gives_no_number_diverges_and_has_no_bound(tmp_path):
    """log(x − 2) is NaN for every picture."""
    nodes = [("Sub", "x two", "d"), ("Log", "d", "l"), ("Conv", "l one.weight", "a")]
    weights = {"two": np.array(2, np.float32), "one.weight": normal(2, 3, 3, 3)}
    network = opened(tmp_path, nodes, weights, custom(1, (0,), (1,)))
    found = all_rows(network)
    assert {row["status"] for row, _ in of(found, method="ascent")} == {"diverged"}
    for row, tile in found:
        assert row.get("bound") is None
        assert row.get("gap") is None
        assert tile.dtype == np.uint8


def test_rows_fit_the_schema_and_come_back_from_disk(units, network, tmp_path):
    names = set(UNIT_SCHEMA.names)
    for row, _ in units:
        assert set(row) <= names
        required = {"layer", "channel", "objective", "method", "space", "activation", "status"}
        assert required <= {name for name, value in row.items() if value is not None}
    shop = workshop(network)
    task = Task("two", "neuron", "ascent", (0, 2, 4), recipe=FEW)
    with RunWriter(tmp_path / "run", "p") as writer:
        writer.write_info({})
        rows, tiles = run_task(shop, task)
        writer.write_task(task.key(slugs(list(VALUES))), rows, tiles)
    table = Run(tmp_path / "run").units
    assert table.schema == UNIT_SCHEMA
    back = table.to_pylist()
    for row, found, tile in zip(rows, back, tiles, strict=True):
        assert pa.Table.from_pylist([row], UNIT_SCHEMA).num_rows == 1
        assert {name: found[name] for name in row} == row
        np.testing.assert_array_equal(Run(tmp_path / "run").tile(found), tile)


def test_a_task_of_some_channels_gives_their_own_numbers(network, units):
    for method, objective in (("ascent", "channel"), ("ascent", "neuron"), ("analytic", "neuron")):
        rows, _ = run_task(workshop(network), Task("one", objective, method, (2, 5), recipe=FEW))
        for row in rows:
            ((expected, _),) = of(units, layer="one", method=method, objective=objective, channel=row["channel"])
            assert (row["robust"] is None) == (objective == "neuron")  # whose picture is too small to shift
            for name in ("activation", "random", "bound"):
                assert row[name] == pytest.approx(expected[name], rel=1e-4)


def test_a_task_gives_the_same_whatever_was_done_before_it(network):
    """Tasks are values: another order, another workshop, the same rows but for the time they took."""
    tasks = [
        Task("two", "channel", "ascent", (0, 2), recipe=FEW),
        Task("one", "neuron", "ascent", (0,), recipe=FEW),
    ]
    shop = workshop(network)
    there = [run_task(shop, task) for task in tasks]
    back = [run_task(workshop(network), task) for task in reversed(tasks)][::-1]
    for (rows, tiles), (again, same) in zip(there, back, strict=True):
        assert [row | {"seconds": 0} for row in rows] == [row | {"seconds": 0} for row in again]
        np.testing.assert_array_equal(tiles, same)
