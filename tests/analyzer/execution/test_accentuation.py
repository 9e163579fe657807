"""Accentuations begin at the patch of the user's images that excites a unit most."""

import numpy as np
import onnx
import pytest
from PIL import Image

from filterscope.analyzer.analysis import Analysis
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.data.images import find
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.execution.strongest_patches import StrongestPatches, strongest_windows
from filterscope.analyzer.maximize.accentuation import CONTRAST, faded
from filterscope.analyzer.maximize.presets import Recipe
from filterscope.analyzer.units.canvas import Canvas
from support.networks import build, normal

SIDE = 96


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Two layers that see 7 × 7 pixels, on images of 96."""
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    nodes = [("Conv", "x w", "a"), ("Relu", "a", "r"), ("Conv", "r v", "y")]
    constants = {"w": normal(3, 3, 5, 5), "v": normal(4, 3, 3, 3)}
    onnx.save(build(nodes, constants, shape=(1, 3, SIDE, SIDE)), path)
    return open_network(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def job(network, photos, tmp_path_factory):
    made = Analysis(network, Settings(quality="standard"), find([photos]), tmp_path_factory.mktemp("out") / "run")
    made.run()
    return made


def test_the_strongest_window_is_the_one_that_a_search_finds():
    rng = np.random.default_rng(3)
    maps = rng.normal(size=(2, 3, 7, 9))
    means, places = strongest_windows(maps, (3, 4))
    for channel in range(3):
        found = {
            (image, row + 1, column + 1.5): maps[image, channel, row : row + 3, column : column + 4].mean()
            for image in range(2)
            for row in range(5)
            for column in range(6)
        }
        assert tuple(places[channel]) == max(found, key=found.get)
        assert means[channel] == pytest.approx(max(found.values()))
    maps[:, 0, 0, 0] = np.nan
    means, _ = strongest_windows(maps, (3, 4))
    assert means[0] == -np.inf
    assert np.isfinite(means[1:]).all()


def test_the_patch_of_a_channel_excites_it_more_than_others_do(network, photos):
    """The network pads nothing: a patch's map is a part of its image's."""
    layer = network.layers[1]
    images = [np.asarray(Image.open(path)) for path in sorted(photos.glob("*.png"))]
    canvas = Canvas(32, 32, None, None)
    patches, _ = StrongestPatches(network, images).of(layer, range(4), canvas)
    session = network.session([layer.value], canvas.size)

    def means(pixels):
        return session.run(network.input.to_model(pixels))[layer.value].mean((2, 3))

    corners = np.random.default_rng(0).integers(0, SIDE - 32, (40, 2))
    others = np.concatenate([[image[top : top + 32, left : left + 32] for top, left in corners] for image in images])
    own = means(patches)[range(4), range(4)]
    assert (own >= means(others).max(axis=0)).all()


def test_fading_keeps_the_mean_and_lowers_the_contrast():
    patch = np.zeros((1, 4, 4, 3), np.uint8)
    patch[:, :2] = 200
    np.testing.assert_array_equal(np.unique(faded(patch)), [100 - 100 * CONTRAST, 100 + 100 * CONTRAST])


def test_every_channel_has_one_from_the_image_with_its_strongest_neuron(job, network):
    from filterscope.analyzer.run.reader import Run

    run = Run(job.out)
    drawn = [row for row in run.units.to_pylist() if row["method"] == "accentuation"]
    assert len(drawn) == 7
    for row in drawn:
        layer = network.layer(row["layer"])
        canvas = job.shop.canvas(layer, "channel")
        (start,), (image,) = StrongestPatches(network, job.pictures).of(layer, (row["channel"],), canvas)
        assert row["image"] == image
        cuts = np.lib.stride_tricks.sliding_window_view(job.pictures[image], start.shape)
        assert (cuts == start).all(axis=(3, 4, 5)).any(), "the patch is a part of that image"
        tile = run.tile(row)
        alike = np.corrcoef(tile.ravel(), start.ravel())[0, 1]
        others = [np.corrcoef(tile.ravel(), picture[9:73, 9:73].ravel())[0, 1] for picture in job.pictures]
        assert alike > max(0.2, *others)
        on_canvas = network.session([layer.value], canvas.size).run(network.input.to_model(tile[None]))
        assert row["activation"] == pytest.approx(on_canvas[layer.value][0, row["channel"]].mean(), rel=1e-4)
        before = network.session([layer.value], canvas.size).run(network.input.to_model(start[None]))
        assert row["activation"] > before[layer.value][0, row["channel"]].mean()
        assert row["steps"] <= Recipe.named().accentuation.steps


@pytest.mark.parametrize(
    ("settings", "images"),
    [
        ({"quality": "draft"}, True),
        ({"preset": "paper"}, True),
        ({"quality": "standard"}, False),
    ],
)
def test_drafts_published_presets_and_runs_without_images_have_none(network, photos, tmp_path, settings, images):
    run = Analysis(network, Settings(**settings), find([photos]) if images else [], tmp_path / "run").run()
    assert "accentuation" not in run.units["method"].to_pylist()
