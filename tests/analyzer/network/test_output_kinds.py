"""Networks whose outputs are no list of scores: nothing assumes their rank, their type or that they are finite."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import filterscope as fs
from filterscope.analyzer.analysis import prediction
from filterscope.analyzer.attribution.targets import Values
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.gradient_paths import has_gradient
from filterscope.analyzer.network.scores import classifier_output, scores
from filterscope.converters.errors import SettingsError, UnsupportedOperatorError
from support.networks import answers, build, normal
from support.output_kinds import KINDS, SIDE, network

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
        with pytest.raises(SettingsError, match=r"^`class`: the network is no classifier, .*`layer='#0'`") as caught:
            scores(net)
        assert "\n" not in str(caught.value)
    assert (classifier_output(net) is not None) == (kind in ANSWERING)


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
    with pytest.raises(SettingsError, match=rf"`target={value}:0`: (no gradient leads to|.* has no channels)"):
        Values(opened(kind)).target(f"{value}:0")


@pytest.mark.parametrize(("kind", "words"), [("scalar", "no output of the network is a list of scores: y \\[\\]")])
def test_labels_for_a_network_without_classes_are_refused(tmp_path, kind, words):
    onnx.save(network(kind), tmp_path / "model.onnx")
    with pytest.raises(SettingsError, match=f"`labels`: {words}"):
        fs.analyze(tmp_path / "model.onnx", (), tmp_path / "run", labels=["a", "b"])


LAYER = [("Conv", "x w", "c", {"name": "layer"}), ("GlobalAveragePool", "c", "g"), ("Flatten", "g", "y")]
WEIGHTS = {"w": normal(4, 3, 3, 3)}


@pytest.mark.parametrize("further", ["w", "x", "spectrum"])
def test_classes_are_raised_beside_an_output_that_torch_does_not_compute(tmp_path, further):
    """A constant, the input itself, and what an operator without a converter makes."""
    nodes, weights = LAYER, WEIGHTS
    if further == "spectrum":
        nodes = [*LAYER, ("Unsqueeze", "y axis", "u"), ("STFT", "u step _ length", "spectrum")]
        weights = {**WEIGHTS, "axis": np.array([2]), "step": np.array(1), "length": np.array(2)}
    model = build(nodes, weights, outputs=["y", further])
    if further == "x":
        model.graph.output[1].CopyFrom(model.graph.input[0])
    onnx.save(model, tmp_path / "net.onnx")
    network = open_network(tmp_path / "net.onnx")
    found = fs.maximize(network, None, [2], quality="draft", device="cpu")
    x = network.input.to_model(found.tiles)
    np.testing.assert_allclose(found.activation[0], answers(model, x, ["y"])["y"][0, 2], rtol=1e-5, atol=1e-6)


def test_a_value_that_torch_does_not_reach_is_refused_in_one_line(tmp_path):
    nodes = [*LAYER, ("Unsqueeze", "y axis", "u"), ("STFT", "u step _ length", "spectrum")]
    constants = {**WEIGHTS, "axis": np.array([2]), "step": np.array(1), "length": np.array(2)}
    onnx.save(build(nodes, constants), tmp_path / "net.onnx")
    network = open_network(tmp_path / "net.onnx")
    with pytest.raises(UnsupportedOperatorError, match=r"^u: torch does not compute it"):
        network.twin.cut(["u"])
