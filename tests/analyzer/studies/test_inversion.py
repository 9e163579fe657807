"""Inversion and caricatures: an invertible layer gives the image back, and numbers are those of the saved picture."""

import json

import numpy as np
import pytest
from PIL import Image

import filterscope as fs
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.maximize.feature_inversion import Restraint
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.analyzer.studies.inversion import Inversion, invert, spread
from filterscope.converters.errors import SettingsError
from support.networks import answers, build, normal
from support.opened import opened
from support.photos import photo

SIDE = 24
FREE = Restraint(0.0, 0.0)


def mixing(bands=3):
    """A convolution whose kernel mixes the bands by a well-conditioned matrix: nothing is lost."""
    kernel = np.eye(bands, dtype=np.float32) + 0.3 * normal(bands, bands)
    return {"k": kernel[:, :, None, None], "b": normal(bands)}


def deep():
    """A mixing convolution, then one that throws all but the mean of each patch away, then a third."""
    nodes = [
        ("Conv", "x k b", "a", {"name": "first"}),
        ("Relu", "a", "r"),
        ("Conv", "r w", "c", {"name": "second", "pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("Relu", "c", "s"),
        ("Conv", "s v", "d", {"name": "third"}),
    ]
    constants = mixing() | {"w": normal(6, 3, 3, 3) / 5, "v": normal(4, 6, 3, 3) / 7}
    return build(nodes, constants, shape=("N", 3, SIDE, SIDE))


@pytest.fixture
def network(tmp_path):
    return opened(tmp_path, deep(), PRESETS["unit"], (SIDE, SIDE))


@pytest.mark.parametrize("bands", [1, 3, 5], ids=["grey", "colour", "five bands"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_an_invertible_layer_gives_the_image_back(bands, layout, tmp_path):
    nodes = [("Conv", "x k b", "a", {"name": "only"})]
    shape = ("N", bands, SIDE, SIDE)
    if layout == "NHWC":
        nodes = [
            ("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}),
            ("Conv", "t k b", "a", {"name": "only"}),
        ]
        shape = ("N", SIDE, SIDE, bands)
    model = build(nodes, mixing(bands), shape=shape)
    network = opened(tmp_path, model, PRESETS["symmetric"], (SIDE, SIDE), layout)
    picture = photo(bands=bands)
    found = invert(network, "only", picture, evaluations=500, restraint=FREE, device="cpu")

    away = np.abs(found.tile.astype(int) - picture)
    assert away.mean() < 5
    assert found.distance < 0.03
    assert found.cosine > 0.999


def test_distance_and_cosine_are_those_of_the_saved_picture(network, tmp_path):
    picture = photo()
    found = invert(network, "third", picture, quality="draft", device="cpu")
    Image.fromarray(found.tile).save(tmp_path / "tile.png")
    saved = np.asarray(Image.open(tmp_path / "tile.png"))
    own, wanted = (
        answers(deep(), (pixels.transpose(2, 0, 1)[None] / 255).astype(np.float32))["d"] for pixels in (saved, picture)
    )

    assert found.distance == pytest.approx(np.linalg.norm(own - wanted) / np.linalg.norm(wanted), rel=1e-4)
    expected = (own * wanted).sum() / np.linalg.norm(own) / np.linalg.norm(wanted)
    assert found.cosine == pytest.approx(expected, rel=1e-5)
    assert found.distance < 0.2


def test_more_evaluations_come_nearer_and_the_same_seed_gives_the_same_picture(network):
    picture = photo()
    far, near, again = (
        invert(network, "second", picture, evaluations=n, restraint=FREE, device="cpu") for n in (8, 200, 200)
    )
    assert near.distance < far.distance / 2
    np.testing.assert_array_equal(near.tile, again.tile)


def test_restraint_makes_pictures_smoother(network):
    def roughness(restraint):
        tile = invert(network, "third", photo(), evaluations=150, restraint=restraint, device="cpu").tile
        return np.abs(np.diff(tile.astype(int), axis=0)).mean() + np.abs(np.diff(tile.astype(int), axis=1)).mean()

    assert roughness(Restraint(20.0, 0.0)) < 0.7 * roughness(FREE)


def test_a_caricature_has_more_of_the_same_direction(network):
    picture = photo()
    found = invert(network, "third", picture, kind="caricature", quality="standard", device="cpu")
    own, wanted, noise = (
        answers(deep(), (pixels.transpose(2, 0, 1)[None] / 255).astype(np.float32))["d"].ravel()
        for pixels in (found.tile, picture, network.random_pixels(1, (SIDE, SIDE), 0)[0])
    )

    assert own @ wanted > wanted @ wanted
    assert found.cosine > noise @ wanted / np.linalg.norm(noise) / np.linalg.norm(wanted)


def test_a_layer_of_zeros_has_no_distance(tmp_path):
    nodes = [("Conv", "x k", "a", {"name": "dead"})]
    network = opened(tmp_path, build(nodes, {"k": np.zeros((2, 3, 1, 1), np.float32)}), PRESETS["unit"], (16, 16))
    found = invert(network, "dead", photo(16), quality="draft", device="cpu")
    assert np.isnan(found.distance)
    assert np.isnan(found.cosine)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"layer": "fourth"}, r"^no layer matches 'fourth'; nearest: first, third"),
        ({"kind": "cartoon"}, r"^`kind=cartoon`: give inversion or caricature$"),
        ({"quality": "best"}, r"^`quality=best`: give one of"),
        ({"picture": photo(12)}, r"^`picture=array of \(12, 12, 3\) uint8`: give an array of \(24, 24, 3\) uint8$"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call, message, network):
    given = {"layer": "first", "picture": photo()} | call
    with pytest.raises(SettingsError, match=message):
        invert(network, given.pop("layer"), given.pop("picture"), **given)


def test_layers_are_spread_evenly_with_first_and_last():
    assert spread(list(range(52)), 6) == [0, 10, 20, 31, 41, 51]
    assert spread([1, 2], 6) == [1, 2]
    assert spread([1, 2, 3], 1) == [3]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photo()).save(folder / "one.png")
    Image.fromarray(photo()[::-1]).save(folder / "two.png")
    return folder


def test_the_study_is_a_table_of_saved_pictures_and_is_done_once(network, photos, tmp_path):
    run = fs.analyze(
        network, photos, tmp_path / "run", settings=Settings(), device="cpu", studies=[Inversion(images=2)]
    )
    rows = run.table("inversion/inversions.parquet").to_pylist()

    assert [(row["layer"], row["image"], row["kind"]) for row in rows] == [
        (layer, image, kind)
        for layer in ("first", "second", "third")
        for image in (0, 1)
        for kind in ("inversion", "caricature")
    ]
    assert run.study("inversion")["settings"]["layers"] == ["first", "second", "third"]
    for row in rows:
        own, wanted = (
            answers(deep(), (pixels.transpose(2, 0, 1)[None] / 255).astype(np.float32), [value])[value].ravel()
            for pixels in (run.tile(row), run.image(row["image"]))
            for value in [{"first": "a", "second": "c", "third": "d"}[row["layer"]]]
        )
        length = np.linalg.norm(wanted)
        assert row["cosine"] == pytest.approx(own @ wanted / length / np.linalg.norm(own), rel=1e-4)
        distance = None if row["kind"] == "caricature" else np.linalg.norm(own - wanted) / length
        assert row["distance"] == (None if distance is None else pytest.approx(distance, rel=1e-3))
    stamp = (run.folder / "inversion" / "inversions.parquet").stat().st_mtime_ns
    fs.analyze(network, photos, tmp_path / "run", settings=Settings(), device="cpu", studies=[Inversion(images=2)])
    assert (run.folder / "inversion" / "inversions.parquet").stat().st_mtime_ns == stamp


def test_the_study_without_images_is_refused(network, tmp_path):
    with pytest.raises(SettingsError, match=r"^`inversion`: inverts activations of your images; give `images`$"):
        fs.analyze(network, (), tmp_path / "run", device="cpu", studies=[Inversion()])


def test_a_picture_that_a_layer_answers_with_zeros_has_no_cosine_and_is_noted(tmp_path):
    model = build([("Conv", "x k", "y", {"name": "only"})], {"k": normal(4, 3, 3, 3)}, shape=("N", 3, SIDE, SIDE))
    network = opened(tmp_path, model, PRESETS["unit"], (SIDE, SIDE))
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(tmp_path / "black.png")
    studies = [Inversion(evaluations=3, caricatures=False)]
    run = fs.analyze(network, tmp_path / "black.png", tmp_path / "run", device="cpu", studies=studies)
    notes = json.loads((run.folder / "inversion" / "study.json").read_text())["notes"]
    assert "no number where activations are 0 or not finite: only" in notes
    (row,) = run.table("inversion/inversions.parquet").to_pylist()
    assert (row["kind"], row["cosine"]) == ("inversion", None)
