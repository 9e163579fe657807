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
    ({"method": "vertex"}, r"^`start`: is of `method=ascent`, not of `method=vertex`"),
    ({"method": "analytic", "objective": "neuron"}, r"^`start`: is of `method=ascent`, not of `method=analytic`"),
    ({"preset": "maco"}, "^`preset=maco`: holds phases and cannot begin at a picture; give `preset=filterscope`$"),
    ({"start": np.full((9, 9, 3), 700.0)}, "say what white is with `white`"),
    ({"start": np.zeros((9, 9, 5), np.uint8)}, "start: has 5 channels, the network takes 3"),
    ({"start": None, "white": 4095}, "^`white`: is of `start`; leave it out"),
    ({"white": 0}, "^`white=0`: the number that stands for white is above 0"),
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


def image(pixels, name, **settings):
    """A picture, written with these settings of Pillow's into a file of this name."""

    def write(folder):
        Image.fromarray(pixels).save(folder / name, **settings)
        return folder / name

    return write


def coarse(height, width, bands=3, dtype=np.uint8, white=255):
    """Numbers up to white, of a few soft spots."""
    rng = np.random.default_rng([height, width])
    planes = [Image.fromarray(rng.uniform(0, 1, (4, 4)).astype(np.float32)) for _ in range(bands)]
    resized = [np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR)) for plane in planes]
    return (np.stack(resized, axis=2).squeeze() * white).astype(dtype)


FORMS = {
    "landscape": image(coarse(90, 200), "p.jpg", quality=95),
    "portrait": image(coarse(300, 80), "p.png"),
    "one pixel": image(np.full((1, 1, 3), (200, 40, 90), np.uint8), "p.png"),
    "one row": image(coarse(1, 500), "p.png"),
    "grey": image(coarse(70, 70, 1), "p.jpg"),
    "grey with alpha": image(coarse(70, 70, 2), "p.png"),
    "transparent": image(coarse(70, 70, 4), "p.png"),
    "16-bit grey": image(coarse(70, 70, 1, np.uint16, 65535), "p.png"),
    "animated": image(
        coarse(70, 70), "p.webp", save_all=True, append_images=[Image.fromarray(255 - coarse(70, 70))], lossless=True
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("preset", ["filterscope", "paper", "yosinski", "distill"])
def test_a_photo_of_any_form_begins_the_ascent_of_any_preset_that_can(form, preset, network, tmp_path):
    recipe = fs.Recipe.named(preset, "draft", steps=2)
    path = FORMS[form](tmp_path)
    portrait = fs.maximize(
        network, network.layers[1].name, 1, recipe=recipe, device="cpu", start=path, film=tmp_path / "film.webp"
    )
    photo = portrait.film.frames[0][0]
    assert photo.shape == portrait.tiles.shape[1:] == (SIDE, SIDE, 3)
    expected = np.asarray(Image.open(path).convert("RGBA"), np.float64)  # an animation's first frame
    if form == "16-bit grey":
        expected = np.repeat(np.asarray(Image.open(path), np.float64)[..., None] / 257, 4, axis=2)
    elif "alpha" in form or form == "transparent":
        expected = expected[..., :3] * expected[..., 3:] / 255 + 255 - expected[..., 3:]
    side = min(expected.shape[:2])
    top, left = (expected.shape[0] - side) // 2, (expected.shape[1] - side) // 2
    middle = expected[top : top + side, left : left + side, :3]
    np.testing.assert_allclose(photo.mean(axis=(0, 1)), middle.mean(axis=(0, 1)), atol=4)
    assert np.isfinite(portrait.activation).all()


def test_a_network_of_grey_input_takes_a_colour_photo_and_a_grey_one(photo, tmp_path):
    grey = fs.open(
        build([("Conv", "x w", "y", {"name": "one"})], {"w": normal(2, 1, 3, 3)}, shape=(1, 1, 28, 28)),
        preprocess="unit",
    )
    for start in (photo, np.asarray(Image.fromarray(photo).convert("L"))):
        made = fs.maximize(grey, "one", 1, start=start, device="cpu", film=tmp_path / "film.webp")
        small = np.asarray(Image.fromarray(photo).convert("L").resize((28, 28), Image.Resampling.BILINEAR))
        assert likeness(made.film.frames[0][0], small) > 0.99


def test_white_is_said_of_a_photo_of_more_than_8_bits(network, photo, tmp_path, caplog):
    deep = photo.astype(np.uint16) * 16
    ask = {"device": "cpu", "film": tmp_path / "film.webp"}
    plain = fs.maximize(network, network.layers[1].name, 1, start=deep, white=4080, **ask)
    np.testing.assert_array_equal(plain.film.frames[0][0], photo)
    assert not caplog.messages
    fs.maximize(network, network.layers[1].name, 1, start=deep // 16, **ask)
    assert "say what white is with `white`" in caplog.text


@pytest.mark.parametrize("objective", ["neuron", "negative", "layer"])
def test_any_objective_begins_at_a_photo(objective, network, photo):
    made = fs.maximize(network, network.layers[1].name, 0, objective=objective, start=photo, device="cpu")
    assert made.status == ("ok",) * len(made.tiles)


def test_one_photo_does_not_part_the_pictures_of_diversity(network, photo):
    with pytest.raises(SettingsError, match=r"^`start`: gives all of a unit's pictures one start"):
        fs.maximize(network, network.layers[1].name, 0, objective="diversity", start=photo, device="cpu")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.jpg", b"no picture at all", "p.jpg: not an image, or of a kind that cannot be read"),
        ("p.jpg", b"", "p.jpg: the file is empty"),
        ("p.png", b"\x89PNG\r\n\x1a\n", "p.png: (not an image|truncated)"),
        ("p.npy", b"text", "p.npy: not a readable array file"),
    ],
    ids=["text", "empty", "cut off", "array"],
)
def test_a_file_that_is_no_photo_is_named_before_the_network_is_opened(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FilterscopeError, match=words):
        fs.maximize("no-such-network.onnx", "two", 0, start=tmp_path / name)


def test_the_photo_is_never_written_over(model, network, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    for name in ("p.png", f"{network.layers[1].name.replace('_', '-')}-1.png"):
        Image.fromarray(photo).save(name)
        options = ["--preprocess", "unit", "--layer", network.layers[1].name, "--channel", "1", "--start", name]
        place = ["-o", "p.png"] if name == "p.png" else []
        done = CliRunner().invoke(app, ["maximize", "m.onnx", *options, *place])
        assert str(done.exception) == f"`out={name}`: is the photo of `start`; give another name"
        np.testing.assert_array_equal(np.asarray(Image.open(name)), photo)


def test_the_command_draws_into_a_photo(model, network, photo, tmp_path):
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    Image.fromarray(photo).save(tmp_path / "p.png")
    options = ["--preprocess", "unit", "--layer", network.layers[1].name, "--channel", "1"]
    place = ["--start", str(tmp_path / "p.png"), "-o", str(tmp_path / "out.png")]
    done = CliRunner().invoke(app, ["maximize", str(tmp_path / "m.onnx"), *options, *place])
    assert done.exit_code == 0, done.output
    tile = np.asarray(Image.open(tmp_path / "out.png"))
    np.testing.assert_array_equal(tile, fs.maximize(network, network.layers[1].name, 1, start=photo).tiles[0])
