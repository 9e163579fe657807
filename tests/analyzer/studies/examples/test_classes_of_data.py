"""Classes in the pass over a data set, against ONNX Runtime on every image and NumPy on its answers."""

import numpy as np
import onnx
import pytest
from PIL import Image

from filterscope.analyzer.attribution.explain import Explainer
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.studies.examples import pass_over_data
from filterscope.analyzer.studies.examples.examples import Examples
from support.networks import answers, build, normal
from support.studies_of_data import performed

NAMES = ("cat", "dog", "fish", "owl", "fox", "cow", "bee")
FEATURES = [
    ("Conv", "x w", "maps", {"name": "first"}),
    ("Relu", "maps", "positive"),
    ("GlobalAveragePool", "positive", "pooled"),
]
FLAT = [*FEATURES, ("Flatten", "pooled", "flat"), ("MatMul", "flat dense", "scores")]
HEADS = {
    "scores": FLAT,
    "softmax": [*FLAT, ("Softmax", "scores", "y", {"axis": 1})],
    "log-softmax": [*FLAT, ("LogSoftmax", "scores", "y", {"axis": 1})],
    "sigmoid": [*FLAT, ("Sigmoid", "scores", "y")],
    "convolution": [*FEATURES, ("Conv", "pooled as_conv", "scores", {"name": "last"})],
}
TABLES = ("classes", "confusion", "reliability", "answers", "unit_classes")


def opened(tmp_path, nodes=FLAT, classes=7):
    dense = 4 * normal(6, classes, seed=4)
    dense -= dense.mean(axis=0)
    constants = {"w": normal(6, 3, 3, 3), "dense": dense, "as_conv": dense.T[:, :, None, None].copy()}
    used = {name for _, inputs, *_ in nodes for name in inputs.split()}
    model = build(nodes, {name: array for name, array in constants.items() if name in used}, shape=("N", 3, 12, 12))
    onnx.save(model, tmp_path / "net.onnx")
    return model, open_network(tmp_path / "net.onnx", InputOptions(preprocessing=preset("unit")))


def images(tmp_path, count=60, **arrays):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    pixels = (pixels * rng.uniform(0, 1, (count, 1, 1, 3)) ** 3).astype(np.uint8)
    np.savez(tmp_path / "set.npz", x=pixels, **arrays)
    return np.moveaxis(pixels, 3, 1).astype(np.float32) / np.float32(255)


def rows(run, name):
    return run.table(f"examples/{name}.parquet").to_pylist()


@pytest.mark.parametrize("head", HEADS)
def test_the_tables_are_what_numpy_counts(tmp_path, head):
    model, network = opened(tmp_path, HEADS[head])
    labels = np.random.default_rng(0).integers(0, 7, 60)
    x = images(tmp_path, y=labels)
    run, info = performed(tmp_path, network, Examples(tmp_path / "set.npz"), labels=NAMES)
    values = answers(model, x, ["scores", "maps"])
    scores = values["scores"].reshape(60, 7).astype(np.float64)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    best = scores.argmax(axis=1)
    assert len(set(best)) > 2
    counts = ("name", "images", "right", "predicted")
    assert {row["index"]: tuple(row[name] for name in counts) for row in rows(run, "classes")} == {
        c: (NAMES[c], (labels == c).sum(), ((labels == c) & (best == c)).sum(), (best == c).sum()) for c in range(7)
    }  # fmt: skip
    for row in rows(run, "classes"):
        own = labels == row["index"]
        assert row["probability"] == pytest.approx(shares[own, row["index"]].mean(), rel=1e-4)
        among = (scores > scores[:, [row["index"]]]).sum(axis=1) < 5
        assert row["right_of_five"] == (own & among).sum()
    pairs = {(row["label"], row["predicted"]): row["images"] for row in rows(run, "confusion")}
    assert pairs == {(a, b): n for a in range(7) for b in range(7) if (n := int(((labels == a) & (best == b)).sum()))}
    for image, row in enumerate(rows(run, "answers")):
        assert (row["image"], row["name"], row["label"]) == (image, f"set.npz[{image}]", labels[image])
        assert row["best"] == np.argsort(-scores[image]).tolist()[:5]
        np.testing.assert_allclose(row["probability"], np.sort(shares[image])[::-1][:5], rtol=1e-3, atol=1e-6)
    reliability = rows(run, "reliability")
    assert sum(row["images"] for row in reliability) == 60
    weighted = sum(row["images"] * row["confidence"] for row in reliability if row["images"])
    assert weighted == pytest.approx(shares.max(axis=1).sum(), rel=1e-4)
    maxima = values["maps"].max(axis=(2, 3))
    for row in (row for row in rows(run, "unit_classes") if row["layer"] == "first"):
        own = labels == row["index"]
        unit = maxima[:, row["channel"]]
        assert row["auc"] == pytest.approx((unit[own][:, None] > unit[~own]).mean(), abs=1e-9)
        assert row["mean"] == pytest.approx(unit[own].mean(), rel=1e-4)
        assert (row["name"], row["images"]) == (NAMES[row["index"]], own.sum())
    rectified = np.maximum(values["maps"], 0).mean(axis=(2, 3))
    means = np.stack([rectified[labels == c].mean(axis=0) for c in range(7)])
    rest = (means.sum(axis=0) - means.max(axis=0)) / 6
    expected = (means.max(axis=0) - rest) / (means.max(axis=0) + rest)
    selectivity = [row["selectivity"] for row in rows(run, "units") if row["layer"] == "first"]
    np.testing.assert_allclose(selectivity, expected, rtol=1e-4)
    assert not [note for note in info["notes"] if "class" in note]


def test_names_of_the_data_set_find_their_class_whatever_its_number(tmp_path):
    model, network = opened(tmp_path)
    theirs = np.array(["owl", "cat", "unheard of"])
    labels = np.arange(60) % 3
    x = images(tmp_path, y=labels, classes=theirs)
    run, info = performed(tmp_path, network, Examples(tmp_path / "set.npz"), labels=NAMES)
    expected = np.array([3, 0, -1])[labels]
    assert [row["label"] for row in rows(run, "answers")] == [None if c < 0 else c for c in expected]
    best = answers(model, x, ["scores"])["scores"].argmax(axis=1)
    right = {row["index"]: row["right"] for row in rows(run, "classes") if row["images"]}
    assert right == {c: int(((expected == c) & (best == c)).sum()) for c in (0, 3)}
    assert any(note.startswith("20 images have no label that is a class") for note in info["notes"])


@pytest.mark.parametrize(
    ("labels", "arrays", "name"),
    [
        ((), {}, "class 2"),
        ((), {"classes": np.array(["a", "b", "c", "d", "e", "f", "g"])}, "c"),
        (("some", "others"), {}, "class 2"),  # names of another output
        (NAMES, {}, "fish"),
        (("owl", "owl", "c" * 300, *NAMES[:4]), {}, "c" * 300),
    ],
)
def test_numbers_are_classes_where_no_names_say_otherwise(tmp_path, labels, arrays, name):
    _, network = opened(tmp_path)
    images(tmp_path, y=np.full(60, 2), **arrays)
    run, _ = performed(tmp_path, network, Examples(tmp_path / "set.npz"), labels=labels)
    (row,) = (row for row in rows(run, "classes") if row["images"])
    assert (row["index"], row["name"], row["images"]) == (2, name, 60)
    assert not rows(run, "unit_classes"), "one class alone is told from nothing"


@pytest.mark.parametrize(
    ("labels", "arrays", "note"),
    [
        (NAMES, {"y": np.arange(60) % 2, "classes": np.array(["x", "y"])}, "No label of the data set is a class"),
        ((), {"y": np.arange(60) % 2, "classes": np.array(["x", "y"])}, "No label of the data set is a class"),
        (NAMES, {"y": np.arange(60) + 7}, "No label of the data set is a class"),
        (("owl",) * 7, {"y": np.arange(60) % 2, "classes": np.array(["owl", "y"])}, "No label of the data set"),
        (NAMES, {}, ""),
    ],
)
def test_labels_that_fit_no_class_leave_no_tables(tmp_path, labels, arrays, note):
    _, network = opened(tmp_path)
    images(tmp_path, **arrays)
    run, info = performed(tmp_path, network, Examples(tmp_path / "set.npz"), labels=labels)
    assert not [name for name in TABLES if (run.folder / "examples" / f"{name}.parquet").exists()]
    assert {row["selectivity"] for row in rows(run, "units")} == {None}
    assert [text for text in info["notes"] if "class" in text and "none of the network" not in text][:1] == [
        text for text in info["notes"] if note and text.startswith(note)
    ]


def test_a_network_without_class_output_says_so(tmp_path):
    _, network = opened(tmp_path, FEATURES[:2])
    images(tmp_path, y=np.arange(60) % 5)
    run, info = performed(tmp_path, network, Examples(tmp_path / "set.npz"))
    assert not (run.folder / "examples" / "classes.parquet").exists()
    assert any("no output of the network is a list of class scores" in note for note in info["notes"])


def test_some_numbers_outside_the_range_and_an_unlabelled_image_are_left_out(tmp_path):
    _, network = opened(tmp_path)
    images(tmp_path, y=np.arange(60) % 9)
    Image.new("RGB", (12, 12), (9, 99, 20)).save(tmp_path / "alone.png")
    sources = [tmp_path / "set.npz", tmp_path / "alone.png"]
    run, info = performed(tmp_path, network, Examples(sources), labels=NAMES)
    wrong = sum(number % 9 >= 7 for number in range(60))
    assert sum(row["images"] for row in rows(run, "classes")) == 60 - wrong
    assert [row["label"] for row in rows(run, "answers")][-1] is None
    assert any(note.startswith(f"{wrong + 1} images have no label") for note in info["notes"])


def test_folders_name_classes(tmp_path):
    _, network = opened(tmp_path)
    for number, label in enumerate(("cat", "Cat_", "1", "mouse")):
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12), (60 * number, 99, 20)).save(tmp_path / "set" / label / f"{number}.png")
    run, _ = performed(tmp_path, network, Examples(tmp_path / "set"), labels=NAMES)
    assert {row["name"]: row["label"] for row in rows(run, "answers")} == {
        "cat/0.png": 0, "Cat_/1.png": 0, "1/2.png": 1, "mouse/3.png": None
    }  # fmt: skip
    assert {row["name"]: row["label"] for row in rows(run, "pictures")} == {
        "cat/0.png": "cat", "Cat_/1.png": "cat", "1/2.png": "dog", "mouse/3.png": "mouse"
    }  # fmt: skip


def test_few_classes_have_no_five_highest(tmp_path):
    _, network = opened(tmp_path, classes=3)
    images(tmp_path, y=np.arange(60) % 3)
    run, _ = performed(tmp_path, network, Examples(tmp_path / "set.npz"))
    assert {row["right_of_five"] for row in rows(run, "classes")} == {None}
    assert {len(row["best"]) for row in rows(run, "answers")} == {3}


def test_the_surest_mistakes_keep_their_pictures(tmp_path, monkeypatch):
    _, network = opened(tmp_path)
    images(tmp_path, 300, y=np.arange(300) % 7)
    monkeypatch.setattr("filterscope.analyzer.studies.examples.examples.MISTAKES", 20)
    run, _ = performed(tmp_path, network, Examples(tmp_path / "set.npz", top=1), labels=NAMES)
    wrong = [row for row in rows(run, "answers") if row["best"][0] != row["label"]]
    surest = sorted(wrong, key=lambda row: -row["probability"][0])[:20]
    pictured = {row["image"] for row in rows(run, "pictures") if row["atlas"]}
    assert {row["image"] for row in surest} <= pictured
    assert len(pictured) < 40


def test_the_surest_mistakes_are_explained(tmp_path):
    _, network = opened(tmp_path)
    images(tmp_path, y=np.arange(60) % 7)
    run, info = performed(tmp_path, network, Examples(tmp_path / "set.npz"), labels=NAMES)
    wrong = [row for row in rows(run, "answers") if row["best"][0] != row["label"]]
    surest = sorted(wrong, key=lambda row: -row["probability"][0])[:12]
    explained = rows(run, "mistakes")
    assert [row["image"] for row in explained] == [row["image"] for row in surest]
    assert [row["target"] for row in explained] == [row["best"][0] for row in surest]
    explainer = Explainer(network, NAMES)
    with np.load(tmp_path / "set.npz") as archive:
        pixels = archive["x"]
    for row in explained[:3]:
        picture = pixels[row["image"]]
        signed = explainer.explain(picture, explainer.target(picture), row["method"]).signed
        tile = run.tile(row)[..., 0].astype(int) - 128
        assert row["method"] == "grad-cam"
        np.testing.assert_allclose(tile, 127 * signed / max(np.abs(signed).max(), 1e-30), atol=0.51)
    assert {"mistakes.parquet", "mistakes.png"} <= set(info["files"])


def test_without_mistakes_nothing_is_explained(tmp_path):
    model, network = opened(tmp_path)
    x = images(tmp_path)
    best = answers(model, x, ["scores"])["scores"].argmax(axis=1)
    images(tmp_path, y=best)
    run, _ = performed(tmp_path, network, Examples(tmp_path / "set.npz"), labels=NAMES)
    assert rows(run, "mistakes") == []
    assert not (run.folder / "examples" / "mistakes.png").exists()


def test_an_interrupted_pass_finds_the_same_classes(tmp_path, monkeypatch):
    _, network = opened(tmp_path)
    images(tmp_path, 250, y=np.arange(250) % 7)
    study = Examples(tmp_path / "set.npz")
    for name in ("PAUSE", "PATIENCE"):
        monkeypatch.setattr(f"filterscope.analyzer.studies.examples.examples.{name}", 0.0)
    whole, _ = performed(tmp_path, network, study, labels=NAMES, out="whole")
    measure, begun = pass_over_data.Survey._measure, []

    def interrupted(self, session, batch):
        begun.append(batch)
        if len(begun) == 4:
            raise KeyboardInterrupt
        measure(self, session, batch)

    monkeypatch.setattr(pass_over_data.Survey, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        performed(tmp_path, network, study, labels=NAMES)
    resumed, _ = performed(tmp_path, network, study, labels=NAMES)
    assert begun[4].numbers[0] == begun[3].numbers[0] > 0
    for name in TABLES:
        assert resumed.table(f"examples/{name}.parquet").equals(whole.table(f"examples/{name}.parquet")), name


def test_a_sample_is_said_to_be_one(tmp_path, monkeypatch):
    _, network = opened(tmp_path)
    images(tmp_path, y=np.arange(60) % 7)
    monkeypatch.setattr("filterscope.analyzer.studies.examples.unit_classes.SAMPLE_BYTES", 4 * 6 * 40)
    _, info = performed(tmp_path, network, Examples(tmp_path / "set.npz"), labels=NAMES)
    expected = "(AUC) is measured on 40 of the 60 labelled images"
    assert any(expected in note for note in info["notes"])


def test_labels_added_later_measure_the_classes(tmp_path):
    _, network = opened(tmp_path)
    images(tmp_path, y=np.arange(60) % 2, classes=np.array(["cat", "dog"]))
    run, first = performed(tmp_path, network, Examples(tmp_path / "set.npz"))
    assert not (run.folder / "examples" / "classes.parquet").exists()
    run, second = performed(tmp_path, network, Examples(tmp_path / "set.npz"), labels=NAMES)
    assert first["identity"] != second["identity"]
    assert [row["name"] for row in rows(run, "classes")[:2]] == ["cat", "dog"]
