"""Class pictures: planted classes are found, and the table says what ONNX Runtime alone says of the saved picture."""

import json

import numpy as np
import pytest
from PIL import Image

import filterscope as fs
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.analyzer.network.scores import own_labels
from filterscope.analyzer.studies.classes import Classes, entropy, softmax
from filterscope.converters.errors import SettingsError
from support.classifier import SIDE, classifier
from support.networks import answers, build, normal
from support.opened import opened

LABELS = ["bright", "dark", "red", "any, thing"]


def network_of(folder, **options):
    return opened(folder, classifier(**options), PRESETS["unit"], (SIDE, SIDE))


def analysed(network, folder, wanted, photos=(), quality="draft", **options):
    study, settings = Classes(wanted), Settings(quality)
    return fs.analyze(network, photos, folder / "run", settings=settings, device="cpu", studies=[study], **options)


def photo(folder, colour):
    Image.new("RGB", (SIDE, SIDE), colour).save(folder / f"{colour}.png")
    return folder / f"{colour}.png"


@pytest.mark.parametrize("end", ["", "Softmax", "Sigmoid"])
def test_the_table_says_what_onnx_runtime_says_of_the_saved_picture(end, tmp_path):
    run = analysed(network_of(tmp_path, end=end), tmp_path, "all", labels=LABELS)
    rows = run.table("classes/classes.parquet").to_pylist()

    assert [(row["klass"], row["label"]) for row in rows] == list(enumerate(LABELS))
    for row in rows:
        Image.fromarray(run.tile(row)).save(tmp_path / "saved.png")
        x = (np.asarray(Image.open(tmp_path / "saved.png")).transpose(2, 0, 1)[None] / 255).astype(np.float32)
        own = answers(classifier(end), x, ["s"])["s"][0].astype(np.float64)
        expected = np.exp(own) / np.exp(own).sum()
        if end == "Softmax":
            expected = answers(classifier(end), x)["y"][0].astype(np.float64)
        np.testing.assert_allclose(row["distribution"], expected, rtol=1e-4, atol=1e-6)
        assert row["score"] == pytest.approx(own[row["klass"]], rel=1e-5)
        assert row["probability"] == pytest.approx(expected[row["klass"]], rel=1e-4)
        assert row["rank"] == int((own > own[row["klass"]]).sum())
        assert row["entropy"] == pytest.approx(-(expected * np.log2(expected + 1e-300)).sum(), abs=1e-3)
    notes = run.study("classes")["notes"]
    assert notes[0] == "4 of 4 classes"
    assert len(notes) == (2 if end == "Sigmoid" else 1)


def test_planted_classes_are_found(tmp_path):
    run = analysed(network_of(tmp_path), tmp_path, ("0", "dark", "2"), quality="standard", labels=LABELS)
    bright, dark, red = run.table("classes/classes.parquet").to_pylist()

    assert run.tile(bright).mean() > 200
    assert run.tile(dark).mean() < 55
    colours = run.tile(red).reshape(-1, 3).mean(axis=0)
    assert colours[0] > 150 > 80 > max(colours[1:])
    assert all(row["rank"] == 0 and row["status"] == "ok" and row["score"] > row["random"] for row in (bright, dark))


def test_few_of_many_classes_begin_with_what_the_images_are(tmp_path):
    network = network_of(tmp_path, classes=40)
    run = analysed(network, tmp_path, "auto", [photo(tmp_path, "white"), photo(tmp_path, "black")])
    chosen = run.table("classes/classes.parquet")["klass"].to_pylist()
    own = set()
    for colour in (255, 0):
        x = np.full((1, 3, SIDE, SIDE), colour / 255, np.float32)
        own.add(int(answers(classifier(classes=40), x, ["s"])["s"].argmax()))

    assert len(chosen) == 10
    assert chosen == sorted(chosen)
    assert own < set(chosen)
    # The rest are evenly spaced.
    assert set(chosen) - own <= set(range(0, 40, 4))
    assert run.study("classes")["notes"] == [f"10 of 40 classes, {len(own)} of them answers to the user's images"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("all", (0, 1, 2, 3)),
        ("2", (0, 2)),
        ("9", (0, 1, 2, 3)),
        ("3,", (3,)),
        ("red,0", (0, 2)),
        ("any, thing", (3,)),
        (("any, thing", "DARK"), (1, 3)),
    ],
)
def test_classes_by_number_by_name_or_by_how_many(wanted, expected, tmp_path):
    assert Classes(wanted).chosen(network_of(tmp_path), LABELS, None) == expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("brigth,1", r"^`classes=brigth`: no label is called that; did you mean bright\?$"),
        (("7",), r"^`classes=7`: the network has classes 0 to 3$"),
        ("0", r"^`classes=0`: give how many"),
        (" , ", r"^`classes`: names no class"),
    ],
)
def test_a_class_that_does_not_exist_is_refused_in_one_line(wanted, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        Classes(wanted).check(network_of(tmp_path), LABELS)


def test_a_network_without_scores_is_refused(tmp_path):
    network = opened(tmp_path, build([("Conv", "x k", "y")], {"k": normal(2, 3, 3, 3)}), PRESETS["unit"], (16, 16))
    with pytest.raises(SettingsError, match=r"^`classes`: the network is no classifier"):
        Classes().check(network, ())


def test_labels_come_from_the_models_metadata_unless_given(tmp_path):
    network = network_of(tmp_path, metadata={"id2label": json.dumps(dict(enumerate(LABELS)))})
    assert own_labels(network) == LABELS
    run = analysed(network, tmp_path, "dark,", [photo(tmp_path, "white")])
    assert run.table("classes/classes.parquet")["label"].to_pylist() == ["dark"]
    assert run.images[0]["prediction"]["top"][0]["label"] == "bright"
    other = analysed(network, tmp_path, "all", [photo(tmp_path, "white")], labels=["a", "b", "c", "d"])
    assert other.table("classes/classes.parquet")["label"].to_pylist() == ["a", "b", "c", "d"]


def test_labels_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"^`labels`: 2 names for 4 outputs; give one name a line$"):
        analysed(network_of(tmp_path), tmp_path, "all", labels=["a", "b"])


def test_entropy_and_softmax():
    assert entropy(np.full(8, 1 / 8)) == pytest.approx(3)
    assert entropy(np.array([1.0, 0, 0])) == 0
    np.testing.assert_allclose(softmax(np.array([1000.0, 1000.0, -1000.0])), [0.5, 0.5, 0])
