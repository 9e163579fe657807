"""Attributions in a run: tables and pictures that fit each other, once, and with a note for what was left out."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from filterscope import api
from filterscope.analyzer.attribution.explain import Explainer
from filterscope.analyzer.attribution.methods import DEFAULT, METHODS
from filterscope.analyzer.attribution.pictures import absolute, overlay, signed_tile
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.writer import remove
from filterscope.analyzer.studies.attribution import CONTRAST, NO_CLASSES, Attribution
from support.networks import build, normal
from support.opened import opened

SIDE = 14
SETTINGS = Settings(layers=("second",), channels="0")
LABELS = ("cat", "dog", "crane", "zebra")
CONSTANTS = {"k": normal(6, 3, 3, 3), "w": normal(5, 6, 3, 3), "m": normal(5, 4)}
BODY = [
    ("Conv", "x k", "a", {"name": "first"}),
    ("Relu", "a", "r"),
    ("Conv", "r w", "c", {"name": "second"}),
    ("Relu", "c", "s"),
]
HEAD = [("GlobalAveragePool", "s", "p"), ("Flatten", "p", "f"), ("MatMul", "f m", "y")]
SILU = [BODY[0], ("Sigmoid", "a", "g"), ("Mul", "a g", "r"), BODY[2]]


def network_of(folder, nodes):
    used = {name for _, inputs, *_ in nodes for name in inputs.split()}
    kept = {name: array for name, array in CONSTANTS.items() if name in used}
    return opened(folder, build(nodes, kept, shape=("N", 3, SIDE, SIDE)), PRESETS["unit"], (SIDE, SIDE))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attribution")
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def analysed(place, network, study, out, images="*.png", labels=LABELS):
    given = [place / images] if images else []
    return api.analyze(network, given, out, settings=SETTINGS, device="cpu", labels=labels, studies=[study])


def test_a_run_holds_each_attribution_with_its_picture(place, tmp_path):
    network = network_of(tmp_path, BODY + HEAD)
    study = Attribution(tuple(METHODS), targets=("zebra", "first:2@1,3"), sanity=True, most=2)
    run = analysed(place, network, study, tmp_path / "run")
    rows = run.table("attribution/attributions.parquet").to_pylist()
    explainer = Explainer(network, LABELS)
    # Of "first" neither guided back-propagation nor the deconvnet nor Grad-CAM has anything to say.
    assert len(rows) == 2 * (len(METHODS) + len(METHODS) - 3)
    for row in rows:
        pixels = run.image(row["image"])
        target = explainer.target(pixels, "zebra" if row["layer"] is None else "first:2@1,3")
        found = explainer.explain(pixels, target, row["method"])
        assert (row["target"], row["label"], row["row"], row["column"], row["at"]) == (
            *(target.channel, target.label, target.row, target.column),
            found.at,
        )
        session = network.session([target.value]).run(network.input.to_model(pixels[None]))
        assert row["score"] == pytest.approx(float(target.of(session[target.value])[0]), rel=1e-5)
        tile = run.tile(row | {"bands": 1})[..., 0].astype(int)
        largest = max(-row["minimum"], row["maximum"])
        np.testing.assert_allclose((tile - 128) / 127 * largest, found.signed, atol=largest / 200)
        assert row["total"] == pytest.approx(float(found.signed.sum()), rel=1e-3, abs=1e-5)
    notes = run.study("attribution")["notes"]
    assert notes[0] == "The first 2 of 3 images are explained."
    assert sorted(note.partition(":")[0] for note in notes[1:]) == ["deconvnet", "grad-cam", "guided"]
    sanity = run.table("attribution/sanity.parquet").to_pylist()
    assert [row["layer"] for row in sanity[-16::8]] == ["second", "first"], "from the output down"
    assert {row["method"] for row in sanity} == set(METHODS)
    remove(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", CONTRAST)
def test_each_answer_is_held_against_the_class_that_is_next(method, place, tmp_path, monkeypatch):
    network = network_of(tmp_path, BODY + HEAD)
    if method != "grad-cam":
        monkeypatch.setattr(Explainer, "maps", lambda *_: None)  # no layer with maps stands before the scores
    study = Attribution(("saliency",))
    run = api.analyze(network, [place / "*.png"], tmp_path / "run", device="cpu", labels=LABELS, studies=[study])
    rows = [row for row in run.table("attribution/attributions.parquet").to_pylist() if row["minus"] is not None]
    assert [row["image"] for row in rows] == [0, 1, 2]
    explainer = Explainer(network, LABELS)
    for row in rows:
        pixels = run.image(row["image"])
        (scores,) = network.session(["y"]).run(network.input.to_model(pixels[None])).values()
        best, following = np.argsort(-scores[0])[:2].tolist()
        assert row["method"] == method
        assert (row["target"], row["label"], row["minus"], row["minus_label"]) == (
            *(best, LABELS[best]),
            *(following, LABELS[following]),
        )
        assert row["score"] == pytest.approx(float(scores[0, best]) - float(scores[0, following]), rel=1e-6)
        found = explainer.explain(pixels, explainer.contrast(pixels), row["method"])
        assert row["total"] == pytest.approx(float(found.signed.sum()), rel=1e-3, abs=1e-5)
    quiet = Attribution(("saliency",), contrast=False)
    run = api.analyze(network, [place / "*.png"], tmp_path / "run", device="cpu", labels=LABELS, studies=[quiet])
    assert [row["minus"] for row in run.table("attribution/attributions.parquet").to_pylist()] == [None] * 3


def test_a_network_without_classes_or_relu_says_so(place, tmp_path):
    run = analysed(place, network_of(tmp_path, SILU), Attribution(), tmp_path / "run", labels=())
    rows = run.table("attribution/attributions.parquet").to_pylist()
    assert {row["layer"] for row in rows} == {"second"}
    assert {row["method"] for row in rows} == set(DEFAULT) - {"guided"}
    notes = run.study("attribution")["notes"]
    assert notes[0] == NO_CLASSES
    assert notes[1].startswith("guided: no ReLU of any spelling stands before second:")


def test_a_run_without_images_says_so(place, tmp_path):
    run = analysed(place, network_of(tmp_path, BODY + HEAD), Attribution(), tmp_path / "run", images=None)
    assert len(run.table("attribution/attributions.parquet")) == 0
    assert run.study("attribution")["notes"] == ["No images were given, so that nothing is explained."]


def test_it_is_added_to_a_finished_run_and_done_again_when_asked_otherwise(place, tmp_path):
    network = network_of(tmp_path, BODY + HEAD)
    api.analyze(network, [place / "0.png"], tmp_path / "run", settings=SETTINGS, device="cpu")
    for names in (("saliency",), ("saliency",), ("guided", "grad-cam")):
        analysed(place, network, Attribution(names), tmp_path / "run", "0.png", labels=())
        rows = Run(tmp_path / "run").table("attribution/attributions.parquet").to_pylist()
        assert [row["method"] for row in rows if row["minus"] is None] == list(names)
    assert len(pq.read_table(tmp_path / "run" / "units.parquet")) > 0


def test_the_signed_tile_is_exact_and_the_views_show_what_they_say():
    signed = np.array([[-2.0, 0.0], [1.0, 0.0]])
    np.testing.assert_array_equal(signed_tile(signed)[..., 0], [[1, 128], [192, 128]])
    np.testing.assert_array_equal(signed_tile(np.zeros((2, 2)))[..., 0], [[128, 128], [128, 128]])
    picture = np.full((2, 2, 1), 255, np.uint8)
    shown = overlay(picture, signed)
    np.testing.assert_array_equal(shown[0, 1], [255, 255, 255])
    assert shown[0, 0, 2] > shown[0, 0, 0], "blue is against"
    assert shown[1, 0, 0] > shown[1, 0, 2], "red is for"
    np.testing.assert_array_equal(overlay(picture, np.zeros((2, 2))), np.full((2, 2, 3), 255))
    np.testing.assert_array_equal(absolute(np.array([[0.0, 5.0]]))[..., 0], [[0, 255]])
