"""The layers of a network, against counts made by hand, by PyTorch's own counter and by the networks' authors."""

import json
import math

import numpy as np
import pytest
import torch
from onnx import TensorProto
from torch.utils.flop_counter import FlopCounterMode

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.layers import conv_layers, layers_before, select
from filterscope.analyzer.network.receptive_fields import FieldWalk
from filterscope.converters.errors import SettingsError
from support.networks import MODELS, build, canonical, needs_data, normal

SAME = {"pads": [1, 1, 1, 1]}


def layers(nodes, constants, shape=("N", 3, 16, 16), **options):
    form = canonical(build(nodes, constants, shape=shape, **options))
    extents = (1, *form.input_shape[1:])
    return conv_layers(FieldWalk(form.graph, "x", (2, 3), form.shapes_at(extents)), form.layer_names, form.normalised)


# --- one layer

ONE = {  # operator, attributes, kernel; groups, in, out, output shape, MACs of a 16×16 image
    "plain": ("Conv", {}, (4, 3, 3, 3), 1, 3, 4, (4, 14, 14), 4 * 14 * 14 * 27),
    "padded": ("Conv", SAME, (4, 3, 3, 3), 1, 3, 4, (4, 16, 16), 4 * 256 * 27),
    "strided": ("Conv", {"strides": [2, 4]} | SAME, (4, 3, 3, 3), 1, 3, 4, (4, 8, 4), 4 * 32 * 27),
    "dilated": ("Conv", {"dilations": [2, 1]}, (4, 3, 3, 3), 1, 3, 4, (4, 12, 14), 4 * 168 * 27),
    "depthwise": ("Conv", {"group": 3}, (6, 1, 3, 3), 3, 3, 6, (6, 14, 14), 6 * 196 * 9),
    "transposed": ("ConvTranspose", {"strides": [2, 2]}, (3, 4, 2, 2), 1, 3, 4, (4, 32, 32), 256 * 3 * 4 * 4),
    "transposed, grouped": ("ConvTranspose", {"group": 3}, (3, 2, 3, 3), 3, 3, 6, (6, 18, 18), 256 * 3 * 2 * 9),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ONE)
def test_a_layer_says_what_it_is(name, bias):
    op, attributes, kernel, groups, inputs, outputs, output_shape, macs = ONE[name]
    constants = {"w": normal(*kernel)} | ({"b": normal(outputs)} if bias else {})
    (layer,) = layers([(op, "x w b" if bias else "x w", "y", attributes)], constants)
    assert (layer.op, layer.rank, layer.kernel) == (op, 2, kernel[2:])
    assert (layer.groups, layer.in_channels, layer.out_channels) == (groups, inputs, outputs)
    assert layer.output_shape == output_shape
    assert layer.macs == macs
    assert layer.parameters == math.prod(kernel) + (outputs if bias else 0)
    assert layer.bias == bias
    assert layer.stride == tuple(attributes.get("strides", (1, 1)))
    assert layer.dilation == tuple(attributes.get("dilations", (1, 1)))
    assert layer.pads == tuple(attributes.get("pads", (0, 0, 0, 0)))
    assert layer.weight.shape == (outputs, inputs // groups, *kernel[2:])
    assert layer.bias_vector.shape == (outputs,)
    assert (layer.value, layer.source, layer.depth, layer.predecessors) == ("y", "x", 0, ())
    assert layer.sees_image
    json.dumps(layer.to_json())


@pytest.mark.parametrize("name", [name for name in ONE if name.startswith("transposed")])
def test_a_transposed_kernel_is_turned_to_output_channels_first(name):
    """A single lit pixel of channel i answers, in channel o, with the kernel weight[o, i]."""
    _, attributes, kernel, groups, inputs, outputs, *_ = ONE[name]
    weight = normal(*kernel)
    (layer,) = layers([("ConvTranspose", "x w", "y", attributes)], {"w": weight})
    for channel in range(inputs):
        image = torch.zeros(1, inputs, 1, 1)
        image[0, channel] = 1
        answer = torch.nn.functional.conv_transpose2d(image, torch.from_numpy(weight), groups=groups)[0].numpy()
        group = channel // (inputs // groups)
        for output in range(outputs):
            own = output // (outputs // groups) == group
            seen = layer.weight[output, channel % (inputs // groups)] if own else np.zeros(kernel[2:])
            np.testing.assert_allclose(answer[output], seen, atol=1e-6)


@pytest.mark.parametrize(
    ("auto_pad", "kernel", "stride", "pads"),
    [
        ("VALID", 3, 1, (0, 0, 0, 0)),
        ("SAME_UPPER", 3, 1, (1, 1, 1, 1)),
        ("SAME_UPPER", 3, 2, (0, 0, 1, 1)),
        ("SAME_LOWER", 3, 2, (1, 1, 0, 0)),
        ("SAME_UPPER", 4, 1, (1, 1, 2, 2)),
        ("SAME_LOWER", 4, 1, (2, 2, 1, 1)),
        ("SAME_UPPER", 1, 3, (0, 0, 0, 0)),
    ],
)
def test_automatic_padding_is_worked_out(auto_pad, kernel, stride, pads):
    attributes = {"auto_pad": auto_pad, "strides": [stride, stride]}
    (layer,) = layers([("Conv", "x w", "y", attributes)], {"w": normal(2, 3, kernel, kernel)})
    assert layer.pads == pads
    assert layer.auto_pad == auto_pad


def test_a_bias_of_zeros_is_none():
    (layer,) = layers([("Conv", "x w b", "y")], {"w": normal(2, 3, 3, 3), "b": np.zeros(2, np.float32)})
    assert not layer.bias
    assert layer.parameters == 2 * 27 + 2


def test_a_folded_batchnorm_is_told():
    norm = {name: np.abs(normal(4, seed=seed)) for seed, name in enumerate("gbmv")}
    nodes = [("Conv", "x w", "c"), ("BatchNormalization", "c g b m v", "n"), ("Relu", "n", "r"), ("Conv", "r u", "y")]
    first, second = layers(nodes, {"w": normal(4, 3, 3, 3), "u": normal(2, 4, 1, 1)} | norm)
    assert (first.batchnorm, first.value, first.nonlinearity) == (True, "n", "relu")
    assert (second.batchnorm, second.nonlinearity) == (False, "none")
    scale = norm["g"] / np.sqrt(norm["v"] + 1e-5)
    np.testing.assert_allclose(first.weight, normal(4, 3, 3, 3) * scale[:, None, None, None], rtol=1e-5)


def test_convolutions_of_other_ranks_are_listed():
    nodes = [
        ("Conv", "x w", "c", {"pads": [1, 1, 1, 1]}),
        ("ReduceMean", "c axis", "row", {"keepdims": 0}),
        ("Conv", "row along", "l"),
        ("Unsqueeze", "c depth", "volume"),
        ("Conv", "volume cube", "v", {"strides": [1, 2, 2]}),
    ]
    constants = {
        "w": normal(4, 3, 3, 3),
        "axis": np.array([2]),
        "along": normal(5, 4, 3),
        "depth": np.array([2]),
        "cube": normal(2, 4, 1, 3, 3),
    }
    plain, line, volume = layers(nodes, constants, outputs=["l", "v"])
    assert (plain.rank, line.rank, volume.rank) == (2, 1, 3)
    assert (line.kernel, line.output_shape, line.macs) == ((3,), (5, 14), 5 * 14 * 12)
    assert (volume.kernel, volume.output_shape, volume.stride) == ((1, 3, 3), (2, 1, 7, 7), (1, 2, 2))
    assert line.field is None
    assert volume.field is None
    json.dumps([line.to_json(), volume.to_json()])


def test_a_kernel_that_is_made_at_run_time_has_no_weights():
    nodes = [
        ("GlobalAveragePool", "x", "p"),
        ("Conv", "p first", "k", {"name": "maker"}),
        ("Reshape", "k shape", "kernel"),
        ("Conv", "x kernel", "y", {"name": "made"}),
    ]
    form = canonical(build(nodes, {"first": normal(54, 3, 1, 1), "shape": np.array([2, 3, 3, 3])}))
    shapes = form.shapes_at((1, 3, 16, 16))
    maker, made = conv_layers(FieldWalk(form.graph, "x", (2, 3), shapes), form.layer_names, form.normalised)
    assert maker.weight is not None
    assert made.weight is None
    assert (made.kernel, made.out_channels, made.is_global) == ((3, 3), 2, True)


# --- how layers follow each other


def test_depth_and_predecessors_follow_the_branches():
    nodes = [
        ("Conv", "x in", "a", SAME | {"name": "a"}),
        ("Relu", "a", "ra"),
        ("Conv", "ra w", "b", SAME | {"name": "b"}),
        ("Conv", "ra w", "c", SAME | {"name": "c"}),
        ("Relu", "c", "rc"),
        ("Conv", "rc w", "d", SAME | {"name": "d"}),
        ("Add", "b d", "s"),
        ("Relu", "s", "rs"),
        ("Concat", "rs ra", "j", {"axis": 1}),
        ("Conv", "j wide", "e", SAME | {"name": "e"}),
        ("GlobalAveragePool", "e", "p"),
        ("Conv", "p point", "f", {"name": "f"}),
        ("Sigmoid", "f", "gate"),
        ("Mul", "e gate", "m"),
        ("Conv", "m w", "g", SAME | {"name": "g"}),
    ]
    constants = {
        "in": normal(4, 3, 3, 3),
        "w": normal(4, 4, 3, 3),
        "wide": normal(4, 8, 3, 3),
        "point": normal(4, 4, 1, 1),
    }
    found = {layer.node: layer for layer in layers(nodes, constants)}
    assert [layer.index for layer in found.values()] == list(range(7))
    depths = {"a": 0, "b": 1, "c": 1, "d": 2, "e": 3, "f": 4, "g": 5}
    assert {name: layer.depth for name, layer in found.items()} == depths
    assert {name: layer.predecessors for name, layer in found.items()} == {
        "a": (),
        "b": ("a",),
        "c": ("a",),
        "d": ("c",),
        "e": ("a", "b", "d"),
        "f": ("e",),
        "g": ("e", "f"),
    }
    assert [name for name, layer in found.items() if layer.sees_image] == ["a"]
    assert [name for name, layer in found.items() if layer.is_global] == ["f", "g"]
    assert found["f"].field is None
    assert found["g"].field is not None


SEES = {  # what stands between the image and the convolution; whether it is an affine map of each pixel
    "nothing": ([], True),
    "a scale": ([("Mul", "x number", "s")], True),
    "a mean and a deviation": ([("Sub", "x channel", "m"), ("Div", "m channel", "s")], True),
    "the mean less the image": ([("Sub", "number x", "s")], True),
    "a cast": ([("Cast", "x", "s", {"to": TensorProto.FLOAT})], True),
    "a number by the image": ([("Div", "number x", "s")], False),
    "a square": ([("Mul", "x x", "s")], False),
    "pooling": ([("MaxPool", "x", "s", {"kernel_shape": [2, 2]})], False),
    "a clip": ([("Relu", "x", "s")], False),
}


@pytest.mark.parametrize("name", SEES)
def test_a_layer_sees_the_image_through_affine_maps_of_a_pixel_alone(name):
    nodes, sees = SEES[name]
    constants = {"number": np.float32(3), "channel": np.abs(normal(1, 3, 1, 1)) + 1, "w": normal(4, 3, 3, 3)}
    read = {value for node in nodes for value in node[1].split()} | {"w"}
    constants = {key: array for key, array in constants.items() if key in read}
    (layer,) = layers([*nodes, ("Conv", "s w" if nodes else "x w", "y")], constants)
    assert layer.sees_image == sees


# --- the non-linearity

NONLINEARITIES = {  # what reads the convolution's output "c"
    "relu": [("Relu", "c", "y")],
    "leaky_relu": [("LeakyRelu", "c", "y")],
    "prelu": [("PRelu", "c slope", "y")],
    "sigmoid": [("Sigmoid", "c", "y")],
    "tanh": [("Tanh", "c", "y")],
    "hard_sigmoid": [("HardSigmoid", "c", "y")],
    "elu": [("Elu", "c", "y")],
    "elu (three times as large)": [("Elu", "c", "e", {"alpha": 1.6732632}), ("Mul", "e three", "y")],
    "selu (by Elu)": [("Elu", "c", "e", {"alpha": 1.6732632}), ("Mul", "e lambda", "y")],
    "softplus": [("Softplus", "c", "y")],
    "relu6": [("Clip", "c zero six", "y")],
    "relu (as Clip)": [("Clip", "c zero", "y")],
    "relu (as Clip with an end)": [("Clip", "c zero largest", "y")],
    "relu (as Max)": [("Max", "c zero", "y")],
    "clip": [("Clip", "c three six", "y")],
    "clip (at 3)": [("Clip", "c zero three", "y")],
    "silu": [("Sigmoid", "c", "s"), ("Mul", "c s", "y")],
    "silu (the other way)": [("Sigmoid", "c", "s"), ("Mul", "s c", "y")],
    "hardswish": [("HardSwish", "c", "y")],
    "hardswish (HardSigmoid)": [("HardSigmoid", "c", "s"), ("Mul", "c s", "y")],
    "hardswish (written out)": [
        ("Add", "c three", "a"),
        ("Clip", "a zero six", "k"),
        ("Mul", "c k", "m"),
        ("Div", "m six", "y"),
    ],
    "gelu": [("Gelu", "c", "y")],
    "gelu (by Erf)": [
        ("Div", "c three", "d"),
        ("Erf", "d", "e"),
        ("Add", "e one", "a"),
        ("Mul", "c a", "m"),
        ("Mul", "m half", "y"),
    ],
    "gelu (by Erf, by Mul)": [
        ("Mul", "c half", "d"),
        ("Erf", "d", "e"),
        ("Add", "e one", "a"),
        ("Mul", "c a", "m"),
        ("Mul", "m half", "y"),
    ],
    "mish": [("Mish", "c", "y")],
    "mish (written out)": [("Softplus", "c", "s"), ("Tanh", "s", "t"), ("Mul", "c t", "y")],
    "relu (of 8 bits)": [("QuantizeLinear", "c half low", "q"), ("DequantizeLinear", "q half low", "y")],
    "relu6 (of 8 bits)": [("QuantizeLinear", "c sixth low", "q"), ("DequantizeLinear", "q sixth low", "y")],
    "relu6 (of whole sums)": [
        ("Div", "c half", "d"),
        ("Round", "d", "r"),
        ("Mul", "r quotient", "m"),
        ("QuantizeLinear", "m one low", "y"),
    ],
    "relu (behind 8 bits)": [
        ("QuantizeLinear", "c half middle", "q"),
        ("DequantizeLinear", "q half middle", "d"),
        ("Relu", "d", "y"),
    ],
    "none (behind 8 bits)": [
        ("QuantizeLinear", "c half middle", "q"),
        ("DequantizeLinear", "q half middle", "y"),
    ],
    "none": [("Add", "c x3", "y")],
    "none (the end)": [("Identity", "c", "y")],
    "none (a pool)": [("MaxPool", "c", "y", {"kernel_shape": [2, 2]})],
    "none (two readers)": [("Relu", "c", "r"), ("Add", "r c", "y")],
    "none (its square)": [("Mul", "c c", "y")],
    "none (a scale)": [("Mul", "c half", "y")],
    "gelu (by tanh)": [
        *(("Pow", "c three", "p"), ("Mul", "p small", "q"), ("Add", "c q", "s"), ("Mul", "s half", "u")),
        *(("Tanh", "u", "t"), ("Add", "t one", "o"), ("Mul", "c o", "y")),
    ],
    "relu (times whether it is above 0)": [
        *(("Greater", "c zero", "g"), ("Cast", "g", "m", {"to": 1}), ("Mul", "c m", "y")),
    ],
    "thresholded_relu (times whether it is above a half)": [
        *(("Greater", "c half", "g"), ("Cast", "g", "m", {"to": 1}), ("Mul", "c m", "y")),
    ],
    "none (times whether it is below 0)": [
        *(("Greater", "zero c", "g"), ("Cast", "g", "m", {"to": 1}), ("Mul", "c m", "y")),
    ],
    "none (times whether it is above another)": [
        *(("Greater", "c x3", "g"), ("Cast", "g", "m", {"to": 1}), ("Mul", "c m", "y")),
    ],
    "none (its opposite squashed)": [
        *(("Relu", "c", "p"), ("Neg", "c", "n"), ("Sigmoid", "n", "q"), ("Sub", "p q", "y")),
    ],
    "none (its opposite's relu squashed)": [
        *(("Relu", "c", "p"), ("Neg", "c", "n"), ("Relu", "n", "r"), ("Tanh", "r", "q"), ("Sub", "p q", "y")),
    ],
    "none (softplus of its opposite)": [("Neg", "c", "n"), ("Softplus", "n", "s"), ("Sigmoid", "s", "y")],
    "none (rounded to halves)": [("Div", "c half", "d"), ("Round", "d", "r"), ("Relu", "r", "y")],
    "none (rounded to steps of another)": [
        *(("Div", "c x3", "d"), ("Round", "d", "r"), ("Mul", "r quotient", "m")),
        *(("QuantizeLinear", "m sixth low", "q"), ("DequantizeLinear", "q sixth low", "y")),
    ],
    "relu6 (in the second of two roundings)": [
        *(("QuantizeLinear", "c sixth middle", "p"), ("DequantizeLinear", "p sixth middle", "d")),
        *(("QuantizeLinear", "d sixth low", "q"), ("DequantizeLinear", "q sixth low", "y")),
    ],
    "none (another's gate)": [("Sigmoid", "x3", "s"), ("Mul", "c s", "y")],
}


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_the_non_linearity_that_follows_is_named(name):
    nodes = [("Conv", "x w", "c"), ("Conv", "x v", "x3"), *NONLINEARITIES[name]]
    constants = {
        "w": normal(4, 3, 3, 3),
        "v": normal(4, 3, 3, 3, seed=1),
        "slope": normal(4, 1, 1),
        "zero": np.float32(0),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "small": np.float32(0.044715),
        "lambda": np.float32(1.0507009),
        "three": np.float32(3),
        "six": np.float32(6),
        "largest": np.float32(3.4e38),
        "sixth": np.float32(6 / 255),
        "quotient": np.float32(0.5 / (6 / 255)),
        "low": np.uint8(0),
        "middle": np.uint8(114),
    }
    read = {value for node in nodes for value in node[1].split()}
    found = layers(nodes, {key: array for key, array in constants.items() if key in read})
    assert found[0].nonlinearity == name.partition(" ")[0]


# --- choosing layers


@pytest.fixture(scope="module")
def named():
    constants = {f"{name}.weight": normal(3, 3, 1, 1) for name in ("stem", "block1.conv1", "block1.conv2", "block2[0]")}
    values = ["x", "a", "b", "c", "y"]
    nodes = [("Conv", f"{values[i]} {name}", values[i + 1]) for i, name in enumerate(constants)]
    return layers(nodes, constants)


CHOICES = [  # patterns, indices
    ([], [0, 1, 2, 3]),
    (["stem"], [0]),
    (["block1.*"], [1, 2]),
    (["*conv2", "stem"], [0, 2]),
    (["#3", "#0"], [0, 3]),
    (["block2[0]"], [3]),
    (["a"], [0]),
    (["block?.conv1", "block1.conv1"], [1]),
    (["block1.conv1, #3", "stem"], [0, 1, 3]),
]


@pytest.mark.parametrize(("patterns", "indices"), CHOICES)
def test_layers_are_chosen_by_name_glob_and_number(named, patterns, indices):
    assert [layer.index for layer in select(named, patterns)] == indices


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("block1.conv3", r"no layer matches 'block1.conv3'; nearest: block1.conv[12], block1.conv[12]"),
        ("Stem", "no layer matches 'Stem'; nearest: stem"),
        ("#9", "no layer matches '#9'; nearest: "),
        ("", "no layer matches ''; nearest: stem, block1.conv1, block1.conv2"),
    ],
)
def test_a_layer_that_is_not_there_is_answered_with_the_nearest(named, pattern, words):
    with pytest.raises(SettingsError, match=words):
        select(named, ["stem", pattern])


# --- real networks

REAL = {  # convolutions, MACs, parameters where their authors give them (rounded)
    "mobilenetv2_fp32_dequant": (52, 300e6, 3.4e6),
    "svhn_cnn6": (6, None, None),
    "cifar10_cnn4": (4, None, None),
    "mnist_cntk": (2, None, None),
    "ppocr_v2_cls": (53, None, None),
}


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_a_real_network_is_counted_as_pytorch_counts_it(name):
    count, macs, parameters = REAL[name]
    network = open_network(MODELS / f"{name}.onnx")
    assert len(network.layers) == count
    pixels = network.random_pixels(1, (network.input.height, network.input.width), 0)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.twin.module(torch.from_numpy(network.input.to_model(pixels)))
    assert counter.get_total_flops() == 2 * network.macs
    if macs is not None:
        assert network.macs == pytest.approx(macs, rel=0.01)
        assert network.parameters == pytest.approx(parameters, rel=0.05)


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_every_layer_of_a_real_network_is_told_whole(name):
    network = open_network(MODELS / f"{name}.onnx")
    names = [layer.name for layer in network.layers]
    assert len(set(names)) == len(names)
    for layer in network.layers:
        told = json.loads(json.dumps(layer.to_json()))
        assert told["name"] == layer.name
        assert select(network.layers, [layer.name]) == [layer]
        assert layer.weight.shape == (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel)
        assert len(layer.output_shape) == 3
        assert set(layer.predecessors) <= set(names)
        assert layer.depth == 0 or layer.predecessors
    assert network.layers[0].sees_image


def test_layers_before_a_layer_are_those_that_lead_to_it():
    nodes = [
        ("Conv", "x a", "p", SAME),
        ("Conv", "p b", "q", SAME),
        ("Conv", "p c", "r", SAME),
        ("Add", "q r", "s"),
        ("Conv", "s d", "y", SAME),
        ("Conv", "r e", "z", SAME),
    ]
    constants = {"a": normal(4, 3, 3, 3)} | {name: normal(4, 4, 3, 3) for name in "bcde"}
    found = layers(nodes, constants, outputs=["y", "z"])
    before = {layer.value: [each.value for each in layers_before(found, layer)] for layer in found}
    assert before == {"p": [], "q": ["p"], "r": ["p"], "y": ["p", "q", "r"], "z": ["p", "r"]}
