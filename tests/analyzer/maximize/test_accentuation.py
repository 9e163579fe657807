"""A picture that begins at a photo still shows it, and excites the unit more."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import filterscope as fs
from filterscope.cli import app
from filterscope.converters.errors import FilterscopeError, SettingsError
from support.networks import build, normal

SIDE = 64


@pytest.fixture(scope="module")
def model():
    nodes = [("Conv", "x w", "a"), ("Relu", "a", "r"), ("Conv", "r v", "y")]
    return build(nodes, {"w": normal(3, 3, 5, 5), "v": normal(4, 3, 3, 3)}, shape=(1, 3, SIDE, SIDE))


@pytest.fixture(scope="module")
def network(model):
    return fs.open(model, preprocess="unit")


@pytest.fixture(scope="module")
def photo():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def likeness(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


def value(network, pixels, channel):
    layer = network.layers[1]
    return network.session([layer.value]).run(network.input.to_model(pixels[None]))[layer.value][0, channel].mean()


def test_the_photo_remains_and_the_unit_rises(network, photo):
    name = network.layers[1].name
    for channel in range(4):
        made = fs.maximize(network, name, channel, start=photo)
        assert likeness(made.tiles[0], photo) > likeness(fs.maximize(network, name, channel).tiles[0], photo) + 0.1
        assert made.activation[0] > value(network, photo, channel)
        assert made.activation[0] == pytest.approx(value(network, made.tiles[0], channel), rel=1e-4)
        assert made.steps[0] <= 24


def test_a_photo_of_another_size_is_cut_to_the_canvas(network, photo, tmp_path):
    large = np.asarray(Image.fromarray(photo).resize((3 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC))
    Image.fromarray(large).save(tmp_path / "photo.png")
    made = fs.maximize(network, network.layers[1].name, [0, 1], start=tmp_path / "photo.png", seed=3)
    middle = np.asarray(
        Image.fromarray(large[:, SIDE // 2 : -SIDE // 2]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    )
    assert made.tiles.shape == (2, SIDE, SIDE, 3)
    assert likeness(made.tiles[0], middle) > likeness(made.tiles[0], middle[:, ::-1]) + 0.1


def test_steps_of_ones_own_are_taken(network, photo):
    recipe = fs.Recipe.named("filterscope", "draft", steps=5)
    assert fs.maximize(network, network.layers[1].name, 0, recipe=recipe, start=photo).steps.tolist() == [5]


REFUSED = [
    ({"start": "there-is-none.png"}, "there-is-none.png"),
    ({"start": 3}, r"^`start=3`: give a path, or an array"),
    ({"start": np.zeros(5, np.uint8)}, "start: a picture is"),
    ({"method": "vertex"}, r"^`start`: is of `method=ascent`"),
    ({"preset": "maco"}, "cannot begin at a picture"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_no_photo_or_does_not_fit_is_refused(network, photo, change, message):
    with pytest.raises(FilterscopeError, match=message):
        fs.maximize(network, network.layers[1].name, 0, **({"start": photo} | change))


def test_several_photos_are_refused(network, photo, tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(photo).save(tmp_path / name)
    with pytest.raises(SettingsError, match=r"^`start=.*`: stands for 2 pictures; give one"):
        fs.maximize(network, network.layers[1].name, 0, start=tmp_path)


def test_the_command_draws_into_a_photo(model, network, photo, tmp_path):
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    Image.fromarray(photo).save(tmp_path / "p.png")
    options = ["--preprocess", "unit", "--layer", network.layers[1].name, "--channel", "1"]
    place = ["--start", str(tmp_path / "p.png"), "-o", str(tmp_path / "out.png")]
    done = CliRunner().invoke(app, ["maximize", str(tmp_path / "m.onnx"), *options, *place])
    assert done.exit_code == 0, done.output
    tile = np.asarray(Image.open(tmp_path / "out.png"))
    np.testing.assert_array_equal(tile, fs.maximize(network, network.layers[1].name, 1, start=photo).tiles[0])
