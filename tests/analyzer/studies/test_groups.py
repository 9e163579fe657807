"""Groups: detectors that never act together come out apart, and each group's picture is what its detectors look for."""

import json

import numpy as np
import pytest
from PIL import Image

import filterscope as fs
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.analyzer.studies.groups import Groups, factorise, spaced
from filterscope.converters.errors import SettingsError
from support.networks import answers, build, normal
from support.opened import opened

SIDE = 24
RED, BLUE = [0, 2], [1, 3]  # channels of the two detectors


def detectors():
    """Channels 0 and 2 see red, 1 and 3 see blue, the last nothing at all."""
    kernel = np.zeros((5, 3, 3, 3), np.float32)
    kernel[0, 0], kernel[0, 1:] = 0.1, -0.1
    kernel[2] = 2 * kernel[0]
    kernel[1, 2], kernel[1, :2] = 0.1, -0.1
    kernel[3] = 0.5 * kernel[1]
    nodes = [("Conv", "x k b", "a", {"name": "see", "pads": [1, 1, 1, 1], "strides": [2, 2]}), ("Relu", "a", "y")]
    bias = np.array([0, 0, 0, 0, -1], np.float32)
    return build(nodes, {"k": kernel, "b": bias}, shape=("N", 3, SIDE, SIDE))


def halves():
    """Red on the left, black in the middle, blue on the right."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[:, :8, 0] = 255
    picture[:, 14:, 2] = 255
    return picture


@pytest.fixture
def run(tmp_path):
    network = opened(tmp_path, detectors(), PRESETS["unit"], (SIDE, SIDE))
    Image.fromarray(halves()).save(tmp_path / "halves.png")
    study = Groups(groups=2, grid=3)
    return fs.analyze(
        network, tmp_path / "halves.png", tmp_path / "run", settings=Settings(), device="cpu", studies=[study]
    )


def test_two_disjoint_detectors_are_two_groups(run):
    rows = run.table("groups/groups.parquet").to_pylist()
    x = (halves().transpose(2, 0, 1)[None] / 255).astype(np.float32)
    maps = np.maximum(answers(detectors(), x, ["a"])["a"][0], 0)

    assert len(rows) == 2
    by_channels = {tuple(sorted(row["channels"])): row for row in rows}
    assert set(by_channels) == {tuple(RED), tuple(BLUE)}
    for channels, side in ((RED, np.s_[:, :3]), (BLUE, np.s_[:, 8:])):
        row = by_channels[tuple(channels)]
        mask = run.tile(row, "mask_")[:, :, 0] / 255
        own = maps[channels].sum(axis=0)
        np.testing.assert_allclose(mask, own / own.max(), atol=0.01)
        assert mask[side].min() > 0.3
        assert row["share"] == pytest.approx(maps[channels].sum() / maps.sum(), rel=1e-3)
        assert row["error"] < 1e-3
        expected = np.array([1, 2]) if channels == RED else np.array([2, 1])
        weights = np.array(row["weights"])[np.argsort(row["channels"])]
        np.testing.assert_allclose(weights, (expected / np.sqrt(5)), atol=1e-3)
    assert rows[0]["share"] >= rows[1]["share"]


def test_a_groups_picture_is_what_its_detectors_look_for_and_its_number_is_the_saved_pictures(run):
    for row in run.table("groups/groups.parquet").to_pylist():
        tile = run.tile(row)
        wanted = 0 if 0 in row["channels"] else 2
        colours = tile.reshape(-1, 3).mean(axis=0)
        assert colours[wanted] > 180 > 60 > max(np.delete(colours, wanted))
        model = detectors()
        for axis, extent in ((2, tile.shape[0]), (3, tile.shape[1])):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = extent
        model.graph.output[0].type.tensor_type.ClearField("shape")
        maps = answers(model, (tile.transpose(2, 0, 1)[None] / 255).astype(np.float32), ["a"])["a"][0]
        along = sum(w * maps[c].mean() for c, w in zip(row["channels"], row["weights"], strict=True))
        assert row["activation"] == pytest.approx(along, rel=1e-4)


def test_the_grid_says_what_each_place_saw(run):
    rows = run.table("groups/grid.parquet").to_pylist()
    x = (halves().transpose(2, 0, 1)[None] / 255).astype(np.float32)
    maps = np.maximum(answers(detectors(), x, ["a"])["a"][0], 0)

    assert [(row["row"], row["column"]) for row in rows] == [(r, c) for r in (2, 6, 10) for c in (2, 6, 10)]
    for row in rows:
        own = maps[:, row["row"], row["column"]]
        assert row["magnitude"] == pytest.approx(np.linalg.norm(own), rel=1e-4)
        np.testing.assert_allclose(row["activations"], own[row["channels"]], rtol=1e-4)
        assert row["channels"] == [int(c) for c in np.argsort(-own) if own[c] > 0]
        tile = run.tile(row)
        if not row["channels"]:
            assert tile is None
            continue
        assert tile.reshape(-1, 3).mean(axis=0).argmax() == (0 if row["column"] == 2 else 2)
    assert {row["column"] for row in rows if row["atlas"] is None} == {6}


def test_factors_of_a_product_give_it_back():
    rng = np.random.default_rng(0)
    maps = np.einsum("gc,ghw->chw", rng.gamma(0.3, size=(3, 12)), rng.gamma(0.3, size=(3, 5, 7)))
    found = factorise(maps, 3)
    np.testing.assert_allclose(np.einsum("gc,ghw->chw", found.directions, found.places), maps, atol=0.02 * maps.max())
    assert found.error < 0.02
    assert found.share.sum() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=1), 1)


@pytest.mark.parametrize(
    ("maps", "groups"), [(np.zeros((4, 3, 3)), 0), (-np.ones((4, 3, 3)), 0), (np.ones((4, 1, 1)), 1)]
)
def test_there_are_no_more_groups_than_something_to_group(maps, groups):
    assert len(factorise(maps, 6).share) == groups


@pytest.mark.parametrize(
    ("extent", "count", "expected"), [(7, 7, range(7)), (14, 7, range(1, 14, 2)), (3, 9, range(3)), (5, 1, [2])]
)
def test_places_are_as_far_from_one_edge_as_from_the_other(extent, count, expected):
    assert spaced(extent, count) == list(expected)


def test_default_layers_are_rectified_the_last_and_one_from_the_middle(tmp_path):
    nodes, constants = [], {}
    for index in range(7):
        constants[f"k{index}"] = normal(3, 3, 3, 3) / 5
        nodes.append(("Conv", f"v{index} k{index}" if index else "x k0", f"c{index}", {"name": f"conv{index}"}))
        nodes.append(("Identity" if index == 6 else "Relu", f"c{index}", f"v{index + 1}"))
    network = opened(tmp_path, build(nodes, constants, shape=("N", 3, 24, 24)), PRESETS["unit"], (24, 24))
    names = [layer.name for layer in network.layers]
    assert [layer.name for layer in Groups().chosen(network, names, 1)] == ["conv5"]
    assert [layer.name for layer in Groups().chosen(network, names, 2)] == ["conv2", "conv5"]
    assert [layer.name for layer in Groups(("conv6", "conv0")).chosen(network, names, 2)] == ["conv0", "conv6"]


def test_the_study_without_images_is_refused(tmp_path):
    network = opened(tmp_path, detectors(), PRESETS["unit"], (SIDE, SIDE))
    with pytest.raises(SettingsError, match=r"^`groups`: takes activations on your images apart; give `images`$"):
        fs.analyze(network, (), tmp_path / "run", device="cpu", studies=[Groups()])


def test_an_image_on_which_nothing_is_active_has_no_groups(tmp_path):
    network = opened(tmp_path, detectors(), PRESETS["unit"], (SIDE, SIDE))
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(tmp_path / "black.png")
    studies = [Groups(groups=2, grid=0)]
    run = fs.analyze(network, tmp_path / "black.png", tmp_path / "run", device="cpu", studies=studies)
    notes = json.loads((run.folder / "groups" / "study.json").read_text())["notes"]
    assert "see: no activation above 0 on image 0" in notes
    assert not any("grids" in note for note in notes)
    assert len(run.table("groups/groups.parquet")) == len(run.table("groups/grid.parquet")) == 0
