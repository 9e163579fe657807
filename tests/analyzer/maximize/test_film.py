"""The film of an ascent: an animated WebP that ends with the saved picture, and that a browser plays."""

import io

import numpy as np
import pytest
from PIL import Image

import filterscope as fs
from filterscope.analyzer.maximize import film as films
from filterscope.analyzer.maximize.film import Film, Recorder, filmed_steps, most_frames
from filterscope.analyzer.run import whole_file
from filterscope.converters.errors import SettingsError
from support.networks import build, normal
from support.photos import photo

SIDE = 24


@pytest.fixture(scope="module")
def network():
    nodes = [("Conv", "x w", "a", {"name": "one"}), ("Relu", "a", "r"), ("Conv", "r v", "y", {"name": "two"})]
    constants = {"w": normal(3, 3, 5, 5), "v": normal(4, 3, 3, 3)}
    return fs.open(build(nodes, constants, shape=(1, 3, SIDE, SIDE)), preprocess="unit")


def played(path):
    """Frames (n, H, W, 3) and the milliseconds that each stays, as a browser reads them."""
    with Image.open(path) as image:
        frames, stays = [], []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")))
            stays.append(image.info["duration"])
        assert image.info["loop"] == 0
    return np.stack(frames), stays


def recipe(steps, preset="filterscope"):
    return fs.Recipe.named(preset, "draft", steps=steps)


@pytest.mark.parametrize(
    ("steps", "frames"), [(1, 95), (8, 95), (32, 95), (128, 95), (512, 95), (100_000, 95), (512, 11)]
)
def test_early_steps_are_filmed_more_densely(steps, frames):
    chosen = filmed_steps(steps, frames)
    gaps = np.diff([*chosen, steps])
    assert chosen[0] == 0
    assert len(chosen) <= frames
    assert gaps.min() >= 1
    assert gaps[: len(gaps) // 3].sum() <= gaps[-(len(gaps) // 3 or 1) :].sum()


def test_the_film_shows_every_step_of_a_short_ascent_and_ends_with_the_saved_picture(network, tmp_path):
    portrait = fs.maximize(network, "two", 1, recipe=recipe(6), device="cpu", film=tmp_path / "out.webp")
    frames, stays = played(tmp_path / "out.webp")
    same = fs.maximize(network, "two", 1, recipe=recipe(6), device="cpu")

    assert len(frames) == 7
    assert stays == [500, 80, 80, 80, 80, 80, 1500]
    assert portrait.film.seconds == sum(stays) / 1000
    assert frames[0].std() < 3  # the recipe's own start: grey
    np.testing.assert_array_equal(frames[-1], portrait.tiles[0])
    np.testing.assert_array_equal(portrait.tiles, same.tiles)  # filming changes nothing
    assert same.film is None
    assert list(tmp_path.iterdir()) == [tmp_path / "out.webp"]


def test_a_frame_is_the_picture_that_as_many_steps_give(network, tmp_path):
    """Of a preset whose steps do not depend on how many there are."""
    fs.maximize(network, "two", 1, recipe=recipe(6, "yosinski"), device="cpu", film=tmp_path / "out.webp")
    frames, _ = played(tmp_path / "out.webp")
    for steps in (1, 4):
        short = fs.maximize(network, "two", 1, recipe=recipe(steps, "yosinski"), device="cpu")
        np.testing.assert_array_equal(frames[steps], short.tiles[0])


def test_a_long_ascent_is_thinned(network, tmp_path):
    fs.maximize(network, "two", 1, recipe=recipe(400, "yosinski"), device="cpu", film=tmp_path / "out.webp")
    frames, stays = played(tmp_path / "out.webp")
    assert 60 < len(frames) <= films.MOST_FRAMES
    assert 4 < sum(stays) / 1000 < 8
    assert min(stays) >= 40


@pytest.mark.parametrize(
    ("settings", "grid"),
    [({"objective": "diversity"}, (2, 2)), ({"channels": [0, 1]}, (2, 1)), ({"channels": [2, 0, 3]}, (2, 2))],
    ids=["diversity", "two", "three"],
)
def test_several_pictures_lie_as_in_the_saved_one(settings, grid, network, tmp_path):
    portrait = fs.maximize(network, "two", recipe=recipe(3), device="cpu", film=tmp_path / "a.webp", **settings)
    frames, _ = played(tmp_path / "a.webp")
    assert frames.shape[1:] == (grid[0] * SIDE, grid[1] * SIDE, 3)
    np.testing.assert_array_equal(frames[-1], np.asarray(Image.open(portrait.save(tmp_path / "a.png"))))


def test_pictures_that_climb_in_several_batches_are_one_film(network, tmp_path, monkeypatch):
    ask = {"channels": [0, 1, 2], "recipe": recipe(4), "device": "cpu"}
    whole = fs.maximize(network, "two", **ask, film=tmp_path / "whole.webp").film
    monkeypatch.setattr("filterscope.analyzer.maximize.engine.batch_size", lambda *_: 2)
    parts = fs.maximize(network, "two", **ask, film=tmp_path / "parts.webp").film
    for one, other in zip(whole.frames, parts.frames, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 2


def test_a_picture_that_is_done_waits_for_the_others():
    tiles = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (10, 20)])
    recorder = Recorder(2, tiles.shape)
    recorder.add(0, np.array([0, 1]), np.zeros_like(tiles))
    recorder.add(1, np.array([1]), np.full((1, 2, 2, 3), 15, np.uint8))
    shown = [frame[:, 0, 0, 0].tolist() for frame in recorder.film(tiles).frames]
    assert shown == [[0, 0], [10, 15], [10, 20]]


def test_the_film_of_an_accentuation_begins_at_the_photo(network, tmp_path):
    start = np.asarray(photo(SIDE))
    portrait = fs.maximize(network, "two", 1, start=start, device="cpu", film=tmp_path / "out.webp")
    frames, stays = played(tmp_path / "out.webp")
    np.testing.assert_array_equal(frames[0], start)
    assert stays[0] == 500
    assert frames[1].std() < 0.8 * start.std()  # it fades before it climbs
    np.testing.assert_array_equal(frames[-1], portrait.tiles[0])


@pytest.mark.parametrize("bands", [1, 5])
def test_other_bands_are_filmed_as_they_are_saved(bands, tmp_path):
    model = build([("Conv", "x w", "y", {"name": "one"})], {"w": normal(2, bands, 3, 3)}, shape=(1, bands, 12, 12))
    portrait = fs.maximize(
        fs.open(model, preprocess="unit"), "one", recipe=recipe(3), device="cpu", film=tmp_path / "a.webp"
    )
    saved = np.asarray(Image.open(portrait.save(tmp_path / "a.png")))
    frames, _ = played(tmp_path / "a.webp")
    np.testing.assert_array_equal(frames[-1], np.repeat(saved[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("shape", "most"),
    [((1, 64, 64, 3), 96), ((4, 224, 224, 3), 83), ((1, 1024, 1024, 3), 16), ((1, 16_000, 64, 3), 16)],
)
def test_large_pictures_have_fewer_frames(shape, most):
    assert most_frames(shape) == most


@pytest.mark.parametrize("shape", [(1, 1300, 1300, 3), (1, 16_384, 8, 3), (200, 224, 224, 3), (1, 600, 600, 5)])
def test_frames_that_a_browser_does_not_play_are_refused(shape):
    with pytest.raises(
        SettingsError, match=r"^`film`: frames of .* pixels are more than a browser plays; give a smaller"
    ):
        Recorder(10, shape)


@pytest.mark.parametrize("frames", [2, 3, 50, 96])
def test_a_film_takes_a_few_seconds(frames):
    film = Film((np.zeros((1, 2, 2, 3), np.uint8),) * frames)
    assert len(film.durations) == frames
    assert 2 <= film.seconds <= 6
    assert all(40 <= stay <= 80 for stay in film.durations[1:-1])  # 12.5 to 25 a second


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=repr)
def test_what_stops_the_writing_leaves_the_older_file_whole(error, tmp_path, monkeypatch):
    path = tmp_path / "out.webp"
    path.write_bytes(b"older")

    def broken(self, target):
        raise error

    monkeypatch.setattr(whole_file.Path, "replace", broken)
    film = Film((np.zeros((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2, 3), np.uint8)))
    with pytest.raises((KeyboardInterrupt, SettingsError)) as caught:
        film.save(path)
    if isinstance(error, OSError):
        assert "cannot be written (No space left on device)" in str(caught.value)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link_and_a_long_name_is_no_hindrance(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.webp").symlink_to(tmp_path / "folder" / "real.webp")
    film = Film((np.zeros((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2, 3), np.uint8)))
    film.save(tmp_path / "link.webp")
    assert (tmp_path / "link.webp").is_symlink()
    assert (tmp_path / "folder" / "real.webp").read_bytes() == film.webp()
    film.save(tmp_path / f"{'x' * 250}.webp")


def test_without_a_film_nothing_is_computed_for_one(network, monkeypatch):
    monkeypatch.setattr("filterscope.analyzer.maximize.engine._State.pictures", lambda self: 1 / 0)
    fs.maximize(network, "two", 1, recipe=recipe(3), device="cpu")


REFUSED = [
    ({"film": 3}, "^`film=3`: give a path"),
    ({"film": "out.gif"}, r"^`film=out.gif`: give a name that ends in \.webp"),
    ({"film": "out"}, r"give a name that ends in \.webp"),
    ({"film": "away/out.webp"}, r"^`film=away/out.webp`: cannot be written \(no folder away\)"),
    ({"film": "folder.webp"}, "^`film=folder.webp`: is a folder; give another name"),
    ({"method": "vertex"}, "^`film`: is of `method=ascent`, not of `method=vertex`"),
    ({"method": "analytic", "objective": "neuron"}, "^`film`: is of `method=ascent`, not of `method=analytic`"),
    ({"method": "certified", "objective": "neuron"}, "^`film`: is of `method=ascent`, not of `method=certified`"),
    ({"start": "photo.webp", "film": "photo.webp"}, "^`film=photo.webp`: is the photo of `start`; give another name"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_is_no_film_is_refused_before_the_network_is_opened(change, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.webp").mkdir()
    Image.fromarray(photo(SIDE)).save(tmp_path / "photo.webp")
    with pytest.raises(SettingsError, match=words):
        fs.maximize("no-such-network.onnx", "two", 1, **({"film": "out.webp"} | change))


def test_a_film_is_lossless_and_small_enough_to_be_sent():
    rng = np.random.default_rng(0)
    frames = tuple(rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8) for _ in range(3))
    read, _ = played(io.BytesIO(Film(frames).webp()))
    np.testing.assert_array_equal(read, np.concatenate(frames))
