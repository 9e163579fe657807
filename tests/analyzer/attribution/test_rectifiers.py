"""Every spelling of ReLU is found, and what flows back through it is what the papers say."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from filterscope.analyzer.attribution.explain import Explainer
from filterscope.analyzer.attribution.rectifiers import rectifiers
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.converters.errors import SettingsError
from support.networks import MODELS, build, needs_data, normal
from support.opened import opened

SIDE = 10
CONSTANTS = {
    "k": normal(4, 3, 3, 3),
    "w": normal(5, 4, 3, 3, seed=1) / 3,
    "b": normal(4, seed=2),
    "zero": np.float32(0),
    "zeros": np.zeros((1, 4, 1, 1), np.float32),
    "six": np.float32(6),
    "huge": np.float32(3.4028235e38),
    "tenth": np.float32(0.1),
    "half": np.float32(0.5),
    "slopes": np.array([0.1, 0.5, -0.2, 0], np.float32).reshape(4, 1, 1),
    "step": np.float32(0.02),
    "none": np.uint8(0),
    "low": np.int8(-128),
    "one": np.float32(1),
}


def relu(x):
    return x.clamp(min=0)


def relu6(x):
    return x.clamp(0, 6)


def leaky(x):
    return torch.where(x < 0, 0.1 * x, x)


def prelu(x):
    return torch.where(x < 0, torch.from_numpy(CONSTANTS["slopes"]) * x, x)


def eight_bit(x):
    return x.clamp(0, 255 * 0.02)  # rounding apart, through which gradients pass


SPELLINGS = {  # nodes from a to r, the function, its open slope
    "Relu": ([("Relu", "a", "r")], relu),
    "Clip 0 6": ([("Clip", "a zero six", "r")], relu6),
    "Clip 0": ([("Clip", "a zero", "r")], relu),
    "Clip 0 huge": ([("Clip", "a zero huge", "r")], relu),
    "Clip 0 0.5": ([("Clip", "a zero half", "r")], lambda x: x.clamp(0, 0.5)),
    "Max": ([("Max", "a zero", "r")], relu),
    "Max, the other way": ([("Max", "zeros a", "r")], relu),
    "LeakyRelu": ([("LeakyRelu", "a", "r", {"alpha": 0.1})], leaky),
    "PRelu": ([("PRelu", "a slopes", "r")], prelu),
    "ThresholdedRelu": ([("ThresholdedRelu", "a", "r", {"alpha": 0.5})], lambda x: torch.where(x > 0.5, x, 0 * x)),
    "x · (x > 0)": ([("Greater", "a zero", "m"), ("Cast", "m", "c", {"to": 1}), ("Mul", "a c", "r")], relu),
    "x · (0 < x)": ([("Less", "zero a", "m"), ("Cast", "m", "c", {"to": 1}), ("Mul", "c a", "r")], relu),
    "Where above": ([("Greater", "a zero", "m"), ("Where", "m a zeros", "r")], relu),
    "Where below": ([("Less", "a zero", "m"), ("Mul", "a tenth", "t"), ("Where", "m t a", "r")], leaky),
    "Max of a part": ([("Mul", "tenth a", "t"), ("Max", "t a", "r")], leaky),
    "Min of Max": ([("Max", "a zero", "t"), ("Min", "t six", "r")], relu6),
    "Max of Min": ([("Min", "a six", "t"), ("Max", "t zero", "r")], relu6),
    "Clip behind Relu": ([("Relu", "a", "t"), ("Clip", "t _ six", "r")], relu6),
    "half of x + |x|": ([("Abs", "a", "t"), ("Add", "a t", "s"), ("Mul", "s half", "r")], relu),
    "8 bits": ([("QuantizeLinear", "a step none", "q"), ("DequantizeLinear", "q step none", "r")], eight_bit),
    "signed 8 bits": ([("QuantizeLinear", "a step low", "q"), ("DequantizeLinear", "q step low", "r")], eight_bit),
    "one of several outputs": (
        [
            *(("Split", "a", "u v", {"axis": 1, "num_outputs": 2}), ("Relu", "u", "p"), ("Relu", "v", "o")),
            ("Concat", "p o", "r", {"axis": 1}),
        ],
        relu,
    ),
}
OTHERS = {  # what is no rectifier
    "SiLU": [("Sigmoid", "a", "s"), ("Mul", "a s", "r")],
    "ELU": [("Elu", "a", "r")],
    "hard swish": [("Add", "a three", "s"), ("Clip", "s zero six", "c"), ("Mul", "a c", "p"), ("Div", "p six", "r")],
    "Clip −1 1": [("Clip", "a minus one", "r")],
    "Min alone": [("Min", "a six", "r")],
    "Max with 1": [("Max", "a one", "r")],
    "Max of three": [("Max", "a zero one", "r")],
    "Min with its opposite": [("Neg", "a", "n"), ("Min", "a n", "r")],
    "Where, of its opposite": [("Greater", "a zero", "m"), ("Neg", "a", "n"), ("Where", "m n a", "r")],
    "Where it is no number": [("IsNaN", "a", "m"), ("Where", "m zeros a", "r")],
    "8 bits with a step for each channel": [
        ("QuantizeLinear", "a steps nones", "q", {"axis": 1}),
        ("DequantizeLinear", "q steps nones", "r", {"axis": 1}),
    ],
    "8 bits with a sign": [("QuantizeLinear", "a step middle", "q"), ("DequantizeLinear", "q step middle", "r")],
}


def network_of(tmp_path, nodes):
    """Two convolutions, the spelling between them."""
    constants = CONSTANTS | {"three": np.float32(3), "minus": np.float32(-1), "middle": np.int8(0)}
    constants |= {"steps": np.array([0.1, 0.2, 0.3, 0.4], np.float32), "nones": np.zeros(4, np.uint8)}
    used = {name for _, inputs, *_ in nodes for name in inputs.split()}
    kept = {name: array for name, array in constants.items() if name in {*used, "k", "w", "b"}}
    around = [("Conv", "x k b", "a"), *nodes, ("Conv", "r w", "y")]
    return opened(tmp_path, build(around, kept, shape=("N", 3, SIDE, SIDE)), PRESETS["unit"], (SIDE, SIDE))


def by_hand(pixels, function, rule, channel, row, column):
    """The gradient of one neuron of the second convolution, written out step by step."""
    u = torch.from_numpy(np.moveaxis(pixels, -1, 0)[None] / np.float32(255))
    k, w, b = (torch.from_numpy(CONSTANTS[name]) for name in "kwb")
    a = F.conv2d(u, k, b).requires_grad_(True)
    rectified = function(a)
    (slope,) = torch.autograd.grad(rectified.sum(), a)
    above = torch.zeros(F.conv2d(rectified, w).shape)
    above[0, channel, row, column] = 1
    g = conv2d_input(rectified.shape, w, above)
    if rule == "guided":
        g = (g * slope).clamp(min=0)
    elif rule == "deconvnet":
        g = g.clamp(min=0)
    else:
        g = g * slope
    return conv2d_input(u.shape, k, g)[0].numpy()


@pytest.mark.parametrize("rule", ["saliency", "guided", "deconvnet"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_flows_back_is_what_is_written_out_by_hand(spelling, rule, tmp_path):
    nodes, function = SPELLINGS[spelling]
    network = network_of(tmp_path, nodes)
    pixels = network.random_pixels(1, (SIDE, SIDE), 5)[0]
    explainer = Explainer(network)
    for channel, row, column in ((0, 2, 3), (4, 1, 1)):
        target = explainer.target(pixels, f"y:{channel}@{row},{column}")
        found = explainer.explain(pixels, target, rule)
        expected = by_hand(pixels, function, rule, channel, row, column)
        np.testing.assert_allclose(found.signed, expected.sum(0), rtol=0, atol=1e-5 * np.abs(expected).max())
        np.testing.assert_allclose(found.strength, np.abs(expected).sum(0), rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_looks_like_a_rectifier_is_none(name, tmp_path):
    network = network_of(tmp_path, OTHERS[name])
    assert rectifiers(network.model.graph) == []
    explainer = Explainer(network)
    pixels = network.random_pixels(1, (SIDE, SIDE), 5)[0]
    target = explainer.target(pixels, "y:0")
    assert explainer.why_not("guided", target) == (
        "guided: no ReLU of any spelling stands before y:0, it would be the plain gradient."
    )
    with pytest.raises(SettingsError, match=r"^guided: no ReLU of any spelling .* the plain gradient$"):
        explainer.explain(pixels, target, "guided")


@needs_data
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mobilenetv2_fp32_dequant", 35),
        ("mobilenetv2_int8_qlinear", 35),
        ("squeezenet1.0_fp16", 26),
        ("svhn_cnn6", 7),
        ("ultraface_rfb_320", 37),
        ("ppocr_v2_cls", 15),  # its 18 hard swishes are none
    ],
)
def test_real_networks_have_as_many_rectifiers_as_their_papers_say(name, count):
    assert len(rectifiers(open_network(MODELS / f"{name}.onnx").model.graph)) == count
