"""Networks whose outputs are no list of scores: nothing assumes their rank, their type or that they are finite."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import filterscope as fs
from analyzer.analysis import prediction
from analyzer.attribution.targets import Values
from analyzer.gradients import has_gradient
from analyzer.network import open_network
from analyzer.plan import Settings
from analyzer.scores import answer_of, scores
from converters.errors import SettingsError
from tests.output_kinds import KINDS, SIDE, network

CLASSIFIERS = {"half", "NaN", "infinite", "whole numbers", "scalar, then scores"}  # whose classes can be raised
ANSWERING = CLASSIFIERS | {"bool", "none at all"}  # NonZero is cut off, what stands before it answers


@pytest.fixture
def opened(tmp_path):
    def open_kind(kind):
        onnx.save(network(kind), tmp_path / "model.onnx")
        return open_network(tmp_path / "model.onnx")

    return open_kind


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_what_a_gradient_leads_to_and_else_one_line_says_what_to_do(opened, kind):
    net = opened(kind)
    if kind in CLASSIFIERS:
        found = scores(net)
        assert found.out_channels == 4
        assert has_gradient(net.model.graph, found.value, net.input.name)
    else:
        with pytest.raises(SettingsError, match=r"^--class: the network is no classifier, .*--layer '#0'") as caught:
            scores(net)
        assert "\n" not in str(caught.value)
    assert (answer_of(net) is not None) == (kind in ANSWERING)


@pytest.mark.parametrize("kind", ["scalar", "class number", "bool", "sequence", "strings", "scalar, then scores"])
def test_a_report_comes_whatever_the_output_is(tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    onnx.save(network(kind), tmp_path / "model.onnx")
    run = fs.analyze(tmp_path / "model.onnx", tmp_path / "a.png", tmp_path / "run", settings=Settings(channels="0"))
    assert fs.report(run).is_file()
    told = json.loads((tmp_path / "run/images/0.json").read_text())["prediction"]
    if kind == "scalar, then scores":
        x = open_network(tmp_path / "model.onnx").input.to_model(pixels[None])
        expected = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(["z"], {"x": x})[0][0]
        assert [row["index"] for row in told["top"]] == np.argsort(-expected).tolist()
        np.testing.assert_allclose([row["score"] for row in told["top"]], np.sort(expected)[::-1], rtol=1e-5)
    elif kind != "bool":
        assert told is None


@pytest.mark.parametrize(
    "output",
    [
        np.float32(3),
        np.array(3.0),
        np.zeros(4, np.float32),
        np.zeros((1, 1), np.float32),
        np.zeros((1, 0), np.float32),
        np.zeros((0, 4), np.float32),
        np.zeros((2, 4), np.float32),
        np.zeros((1, 4, 3, 3), np.float32),
        np.array([["a", "b"]], object),
        np.array([["a", "b"]]),
        np.full((1, 4), np.nan),
        np.array([[np.inf, 0, 1]]),
        [np.zeros((1, 4))],
        [{0: 0.5, 1: 0.5}],
        None,
    ],
)
def test_what_is_no_list_of_finite_scores_is_no_prediction(output):
    assert prediction(output, ["a", "b", "c", "d"]) is None


def test_names_of_another_number_of_classes_are_not_taken():
    told = prediction(np.float16([[1, 5]]), ["a", "b", "c"])
    assert told == {"kind": "score", "top": [{"index": i, "label": None, "score": s} for i, s in ((1, 5.0), (0, 1.0))]}


@pytest.mark.parametrize(("kind", "value"), [("class number", "y"), ("bool", "y"), ("strings", "i")])
def test_a_target_without_a_gradient_is_refused_in_one_line(opened, kind, value):
    with pytest.raises(SettingsError, match=rf"--target {value}:0: (no gradient leads to|.* has no channels)"):
        Values(opened(kind)).target(f"{value}:0")


@pytest.mark.parametrize(("kind", "words"), [("scalar", "no output of the network is a list of scores: y \\[\\]")])
def test_labels_for_a_network_without_classes_are_refused(tmp_path, kind, words):
    onnx.save(network(kind), tmp_path / "model.onnx")
    with pytest.raises(SettingsError, match=f"--labels: {words}"):
        fs.analyze(tmp_path / "model.onnx", (), tmp_path / "run", labels=["a", "b"])
