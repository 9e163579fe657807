"""Activation maps against ONNX Runtime without any of our code."""

import numpy as np
import onnx
import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.execution import activation_maps
from filterscope.analyzer.execution.activation_maps import layer_groups, write_maps
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.run.layout import slugs
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.tables import MAP_SCHEMA
from filterscope.analyzer.run.writer import RunWriter
from support.listed_layers import listed_layers
from support.networks import answers, build, normal

HEIGHT, WIDTH, IMAGES, KEPT = 10, 12, 5, 3
KERNELS = {"one.weight": normal(4, 3, 3, 3), "two.weight": normal(6, 4, 3, 3), "three.weight": normal(2, 6, 1, 1)}
KERNELS["one.weight"][2] = 0  # its map is constant
NODES = [
    ("Conv", "x one.weight", "a", {"pads": [1, 1, 1, 1]}),
    ("Relu", "a", "r"),
    ("Conv", "r two.weight", "b", {"strides": [2, 1]}),
    ("Relu", "b", "s"),
    ("Conv", "s three.weight", "c"),
]
VALUES = {"one": "a", "two": "b", "three": "c"}


def opened(folder, nodes=NODES, constants=KERNELS, name="symmetric"):
    path = folder / "model.onnx"
    onnx.save(build(nodes, constants, shape=("N", 3, HEIGHT, WIDTH)), path)
    return open_network(path, InputOptions(preprocessing=preset(name)))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("activations"))


@pytest.fixture(scope="module")
def images():
    drawn = np.random.default_rng(3).integers(0, 256, (IMAGES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    drawn[1] = 77  # a plain wall
    return list(drawn)


@pytest.fixture(scope="module")
def expected(network, images):
    """Maps of each layer and image, by another way: (images, C, H, W)."""
    x = (np.stack(images).astype(np.float64) / 255 - 0.5) / 0.5
    original = build(NODES, KERNELS, shape=("N", 3, HEIGHT, WIDTH))
    found = answers(original, x.transpose(0, 3, 1, 2).astype(np.float32), list(VALUES.values()))
    return {layer: found[value] for layer, value in VALUES.items()}


def written(network, images, folder, pictures=KEPT):
    """All maps, written in as many groups as GROUP_BYTES asks for."""
    names = slugs([layer.name for layer in network.layers])
    with RunWriter(folder, "p") as writer:
        writer.write_info({})
        writer.write_json("layers.json", listed_layers(network))
        for group in layer_groups(network, network.layers, len(images)):
            write_maps(network, group, images, slugs=names, writer=writer, pictures=pictures)
    return Run(folder)


@pytest.fixture(scope="module")
def run(network, images, tmp_path_factory):
    return written(network, images, tmp_path_factory.mktemp("maps") / "run")


def test_statistics_are_those_of_onnxruntimes_maps(run, expected):
    for layer, maps in expected.items():
        table = run.maps(layer)
        assert table.schema == MAP_SCHEMA
        rows = table.to_pylist()
        assert [(row["image"], row["channel"]) for row in rows] == list(np.ndindex(maps.shape[:2]))
        for row in rows:
            one = maps[row["image"], row["channel"]]
            assert row["minimum"] == pytest.approx(one.min(), rel=1e-5, abs=1e-5)
            assert row["mean"] == pytest.approx(one.mean(dtype=np.float64), rel=1e-5, abs=1e-5)
            assert row["maximum"] == pytest.approx(one.max(), rel=1e-5, abs=1e-5)
            assert one[row["row"], row["column"]] == pytest.approx(row["maximum"], rel=1e-5, abs=1e-5)
            assert (row["height"], row["width"]) == one.shape


def test_pictures_go_from_black_at_the_minimum_to_white_at_the_maximum(run, expected):
    for layer, maps in expected.items():
        for row in run.maps(layer).to_pylist():
            tile = run.tile(row)
            if row["image"] >= KEPT:
                assert tile is None
                continue
            one = maps[row["image"], row["channel"]].astype(np.float64)
            spread = one.max() - one.min()
            if spread < 1e-4:
                continue
            assert (tile.min(), tile.max()) == (0, 255)
            np.testing.assert_allclose(tile[..., 0], (one - one.min()) / spread * 255, atol=0.51)


def test_a_constant_map_is_black(run):
    constant = [row for row in run.maps("one").to_pylist() if row["channel"] == 2]
    assert len(constant) == IMAGES
    for row in constant:
        assert row["minimum"] == row["mean"] == row["maximum"] == 0
        assert (row["row"], row["column"]) == (0, 0)
        assert row["image"] >= KEPT or not run.tile(row).any()


def test_only_the_first_images_have_pictures_and_all_have_numbers(run):
    for layer in VALUES:
        rows = run.maps(layer).to_pylist()
        assert {row["image"] for row in rows} == set(range(IMAGES))
        assert {row["image"] for row in rows if row["atlas"] is not None} == set(range(KEPT))
        assert all((row["tile"] is None) == (row["atlas"] is None) for row in rows)
        pictures = sorted(path.name for path in (run.folder / "maps").glob(f"{layer}-*.png"))
        assert pictures == [f"{layer}-{index}.png" for index in range(KEPT)]


def test_no_picture_is_kept_where_none_is_asked_for(network, images, tmp_path):
    found = written(network, images[:2], tmp_path / "run", pictures=0)
    assert not list((tmp_path / "run" / "maps").glob("*.png"))
    assert found.maps("one").num_rows == 8


GROUPS = [  # bytes held at a time, groups of layers
    (1 << 28, [["one", "two", "three"]]),
    (1, [["one"], ["two"], ["three"]]),
    (4 * (4 * 10 * 12 + 6 * 4 * 10) + 20 * IMAGES * (4 + 6), [["one", "two"], ["three"]]),
    (4 * (4 * 10 * 12 + 6 * 4 * 10) + 20 * IMAGES * (4 + 6) - 1, [["one"], ["two", "three"]]),
]


@pytest.mark.parametrize(("limit", "groups"), GROUPS)
def test_layers_are_grouped_by_the_memory_that_their_maps_take(network, monkeypatch, limit, groups):
    monkeypatch.setattr(activation_maps, "GROUP_BYTES", limit)
    found = [[layer.name for layer in group] for group in layer_groups(network, network.layers, IMAGES)]
    assert found == groups


def test_no_layers_are_no_groups(network):
    assert list(layer_groups(network, [], IMAGES)) == []


def test_groups_decide_nothing(network, images, run, monkeypatch, tmp_path):
    monkeypatch.setattr(activation_maps, "GROUP_BYTES", 1)
    alone = written(network, images, tmp_path / "run")
    for layer in VALUES:
        assert alone.maps(layer).equals(run.maps(layer))
    for path in sorted((run.folder / "maps").glob("*.png")):
        assert (alone.folder / "maps" / path.name).read_bytes() == path.read_bytes()


def test_maps_that_are_no_numbers_are_kept_as_such_and_black(tmp_path, images):
    """log of black is −∞, and −∞ times a weight of 0 is NaN."""
    constants = {"log.weight": np.concatenate([np.ones((1, 3, 1, 1)), np.zeros((1, 3, 1, 1))]).astype(np.float32)}
    network = opened(tmp_path, [("Log", "x", "l"), ("Conv", "l log.weight", "a")], constants, "unit")
    black = images[0].copy()
    black[2, 3] = 0
    run = written(network, [black], tmp_path / "run")
    minus_infinity, nan = run.maps("log").to_pylist()
    assert (minus_infinity["minimum"], minus_infinity["maximum"] < 0) == (-np.inf, True)
    assert np.isnan(nan["mean"])
    for row in (minus_infinity, nan):
        assert run.tile(row).shape == (HEIGHT, WIDTH, 1)
        assert not run.tile(row).any()
