"""Comparison C against networks of which it is known whether pictures depend on each other; and what obeys it."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.execution.plan import Settings, selection
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.converters.batch_independence import one_at_a_time
from filterscope.converters.errors import ModelError
from filterscope.converters.parity import AGREES, Parity
from support.batch_networks import (
    DEPENDENT,
    ONLY_ALONE,
    SAME,
    batch_statistics,
    first_and_second,
    mixed_kernels,
    modulated,
    whole_maximum,
)
from support.networks import answers, build, normal

UNIT = InputOptions(preprocessing=preset("unit"))


def opened(model, tmp_path, options=UNIT):
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    return open_network(path, options)


def pictures(count=4, size=(24, 24)):
    """Of brightness and contrast of their own."""
    rng = np.random.default_rng(9)
    pixels = rng.integers(0, 256, (count, *size, 3)) * np.linspace(0.1, 1, count)[:, None, None, None]
    return pixels.astype(np.uint8)


def alone(model, x, name):
    """What ONNX Runtime makes of each picture by itself, from the file as it is."""
    return np.concatenate([answers(model, one[None], [name])[name] for one in x])


@pytest.mark.parametrize("name", DEPENDENT)
def test_values_that_depend_on_the_batch_are_found_and_computed_alone(name, tmp_path):
    model = DEPENDENT[name]()
    network = opened(model, tmp_path)
    assert network.one_at_a_time
    assert network.alone.difference.error > AGREES
    assert "A picture's values depend on the others in its batch" in network.alone.sentence
    x = network.input.to_model(pictures())
    for value in (*(layer.value for layer in network.layers), "y"):
        expected = alone(model, x, value)
        found = network.session([value]).run(x)[value]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ONLY_ALONE)
def test_a_network_that_takes_one_picture_only_is_opened_with_it(name, tmp_path):
    model = ONLY_ALONE[name]()
    network = opened(model, tmp_path)
    assert network.one_at_a_time
    assert "free batch" not in network.alone.sentence
    assert not network.prove().warnings
    x = network.input.to_model(pictures())
    for layer in network.layers:
        expected = alone(model, x, layer.value)
        found = network.session([layer.value], (24, 24)).run(x)[layer.value]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


INDEPENDENT = {
    "plain": lambda: first_and_second(("Relu", "r", "z")),
    "a gate of the picture's own": lambda: first_and_second(
        ("GlobalAveragePool", "r", "p"), ("Sigmoid", "p", "q"), ("Mul", "r q", "z")
    ),
    "the picture's own statistics": lambda: first_and_second(
        ("InstanceNormalization", "r s o", "z"), s=np.ones(8, np.float32), o=np.zeros(8, np.float32)
    ),
    "the picture's own maximum": lambda: first_and_second(
        ("ReduceMax", "r axes", "m", {"keepdims": 1}), ("Div", "r m", "z"), axes=np.array([1, 2, 3])
    ),
    "fixed at 2, and can be freed": lambda: first_and_second(("Relu", "r", "z"), shape=(2, 3, 24, 24)),
    "an answer along another axis": lambda: build(
        [
            ("Conv", "x w", "c", SAME | {"name": "first"}),
            ("ReduceMean", "c axes", "m", {"keepdims": 0}),
            ("Transpose", "m", "y", {"perm": [2, 0, 1]}),
        ],
        {"w": normal(4, 3, 3, 3), "axes": np.array([2])},
        shape=("N", 3, 24, 24),
    ),
    "an answer without pictures": lambda: build(
        [
            ("Conv", "x w", "c", SAME | {"name": "first"}),
            ("Shape", "c", "n", {"start": 1}),
            ("Cast", "n", "y", {"to": 1}),
        ],
        {"w": normal(4, 3, 3, 3)},
        shape=("N", 3, 24, 24),
        outputs=["c", "y"],
    ),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_pictures_that_do_not_depend_on_each_other_go_together(name, tmp_path):
    network = opened(INDEPENDENT[name](), tmp_path)
    assert not network.one_at_a_time
    assert network.alone.sentence == ""
    assert network.alone.difference.error < 1e-6


def test_a_channel_that_is_faint_beside_the_others_is_seen(tmp_path):
    """Its values are a millionth of the layer's: beside these the difference is rounding, within itself it is not."""
    loud = first_and_second(
        ("ReduceMax", "r", "m", {"keepdims": 1}),
        ("Div", "r m", "z"),
    )
    for tensor in loud.graph.initializer:
        if tensor.name == "w2":
            kernel = onnx.numpy_helper.to_array(tensor).copy()
            kernel[1:] = 0  # the others answer with their bias alone, large and the same for every picture
            tensor.CopyFrom(onnx.numpy_helper.from_array(kernel * np.float32(1e-2), "w2"))
    bias = np.array([0, *[3e4] * 5], np.float32)
    loud.graph.initializer.append(onnx.numpy_helper.from_array(bias, "b2"))
    next(node for node in loud.graph.node if node.name == "second").input.append("b2")
    del loud.graph.output[:]
    loud.graph.output.append(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, None))
    network = opened(loud, tmp_path)
    assert network.one_at_a_time


@pytest.mark.parametrize("make", [modulated, mixed_kernels])
def test_a_file_that_takes_several_pictures_and_no_less_is_refused_with_what_to_do(make, tmp_path):
    with pytest.raises(
        ModelError, match="takes 3 pictures at a time and cannot be made to take one; export it for batch size 1"
    ) as caught:
        opened(make(3), tmp_path)
    assert "free batch" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [modulated, mixed_kernels])
def test_a_kernel_that_the_network_computes_is_listed_without_weights(make, tmp_path):
    stem, computed = opened(make(), tmp_path).layers
    assert stem.is_constant
    assert not computed.is_constant
    assert computed.weight is None
    assert (computed.in_channels, computed.out_channels, computed.kernel) == (8, 6, (3, 3))
    assert computed.to_json()["computed"]
    assert not stem.to_json()["computed"]
    assert computed.parameters == 0


def test_a_computed_bias_is_no_bias_of_zeros(tmp_path):
    nodes = [
        ("Conv", "x w", "c", SAME | {"name": "first"}),
        ("ReduceMean", "c all", "m", {"keepdims": 0}),
        ("Conv", "x w m", "y", SAME | {"name": "second"}),
    ]
    model = build(nodes, {"w": normal(4, 3, 3, 3), "all": np.array([0, 2, 3])}, shape=(1, 3, 24, 24))
    second = opened(model, tmp_path).layers[1]
    assert second.bias_vector is None
    assert second.bias
    assert not second.is_constant


def test_gradients_of_a_picture_do_not_depend_on_the_others():
    class Divided(torch.nn.Module):
        def forward(self, x):
            return (x / x.max(), x.sum((1, 2, 3)).mean())

    x = torch.rand(3, 2, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(one_at_a_time(Divided())(x)[0].square().sum(), x)
    for index in range(3):
        own = x[index : index + 1].detach().requires_grad_(True)
        (expected,) = torch.autograd.grad(Divided()(own)[0].square().sum(), own)
        torch.testing.assert_close(gradient[index : index + 1], expected)
    assert one_at_a_time(Divided())(x)[1].shape == (3,)


def test_what_was_found_is_kept_and_read_again(tmp_path):
    network = opened(whole_maximum(), tmp_path)
    parity = network.prove()
    again = Parity.from_json(json.loads(json.dumps(parity.to_json())))
    assert again == parity
    assert again.alone.one_at_a_time
    assert parity.summary()["alone"]["one_at_a_time"]
    assert parity.summary()["batches"] == [1]
    content = parity.to_json()
    del content["alone"]  # as it was written before there was a comparison C
    assert Parity.from_json(content) == replace(parity, alone=None)
    assert Parity.from_json(content).summary()["alone"] is None


def test_the_proof_covers_networks_with_batch_statistics(tmp_path):
    parity = opened(batch_statistics(), tmp_path).prove()
    assert parity.nodes.error < 1e-5
    assert parity.end_to_end.error < 1e-5
    assert parity.nodes.batch == 1


def test_clips_that_need_several_pictures_are_refused_with_what_to_do(tmp_path):
    """A temporal shift over clips of 4: its Reshape takes whole clips only."""
    model = first_and_second(
        ("Reshape", "r clips", "v"),
        ("ReduceMean", "v axis", "m"),
        ("Sub", "v m", "d"),
        ("Reshape", "d pictures", "z"),
        shape=(4, 3, 24, 24),
        clips=np.array([1, 4, 8, 24, 24]),
        axis=np.array([1]),
        pictures=np.array([4, 8, 24, 24]),
    )
    with pytest.raises(ModelError, match="takes 4 pictures at a time and cannot be made to take one") as caught:
        opened(model, tmp_path).prove()
    assert "free batch" not in str(caught.value)


def test_convolutions_inside_functions_are_compared_too(tmp_path):
    """Their values have no names in the file itself: the normal form has them."""
    body = whole_maximum()
    inside = ("ReduceMax", "Div", "GlobalAveragePool")
    inner = [node for node in body.graph.node if node.name == "second" or node.op_type in inside]
    outer = [node for node in body.graph.node if node not in inner]
    domain = [onnx.helper.make_opsetid("", 21)]
    function = onnx.helper.make_function("own", "Block", ["r", "w2"], ["g"], inner, domain)
    call = onnx.helper.make_node("Block", ["r", "w2"], ["g"], "block", domain="own")
    at = next(index for index, node in enumerate(outer) if node.op_type == "Relu") + 1
    del body.graph.node[:]
    body.graph.node.extend([*outer[:at], call, *outer[at:]])
    body.functions.append(function)
    body.opset_import.append(onnx.helper.make_opsetid("own", 1))
    network = opened(body, tmp_path)
    assert len(network.layers) == 2
    assert network.one_at_a_time
    assert network.alone.of == "canonical"


CHANNELS_AS_PICTURES = {
    "any batch": (("N", 3, 16, 16), [("Reshape", "c t", "r")], [-1, 1, 16, 16]),
    "one picture": ((1, 3, 16, 16), [("Transpose", "c", "u", {"perm": [1, 2, 0, 3]}), ("Reshape", "u t", "r")], None),
}


@pytest.mark.parametrize("name", CHANNELS_AS_PICTURES)
def test_a_layer_that_takes_channels_for_pictures_is_listed_only(name, tmp_path):
    shape, between, target = CHANNELS_AS_PICTURES[name]
    nodes = [("Conv", "x w", "c", SAME | {"name": "first"}), *between, ("Conv", "r k", "y", {"name": "second"})]
    constants = {"w": normal(4, 3, 3, 3), "t": np.array(target or [4, 1, 16, 16]), "k": normal(2, 1, 3, 3)}
    first, second = opened(build(nodes, constants, shape=shape), tmp_path).layers
    assert first.has_maps
    assert not second.has_maps
    network = open_network(tmp_path / "net.onnx", UNIT)
    assert list(selection(network.layers, Settings())) == ["first"]


class Normalised(torch.nn.Module):
    """BatchNorm that keeps no running statistics: PyTorch exports it in training mode."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 6, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, x):
        return self.second(self.norm(self.first(x)).relu()).mean((2, 3))


class Styled(torch.nn.Module):
    """StyleGAN2's convolution as it is written in PyTorch: a group for each picture."""

    def __init__(self):
        super().__init__()
        self.first, self.style = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Linear(8, 8)
        self.weight = torch.nn.Parameter(torch.randn(1, 6, 8, 3, 3) / 8)

    def forward(self, x):
        y = self.first(x).relu()
        weight = self.weight * self.style(y.mean((2, 3))).view(len(x), 1, 8, 1, 1)
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        y = torch.nn.functional.conv2d(
            y.reshape(1, -1, *y.shape[2:]), weight.reshape(-1, 8, 3, 3), padding=1, groups=len(x)
        )
        return y.reshape(len(x), 6, *y.shape[2:]).mean((2, 3))


@pytest.mark.parametrize("kind", [Normalised, Styled])
def test_a_pytorch_module_is_computed_one_picture_at_a_time(kind):
    torch.manual_seed(2)
    module = kind().eval()
    network = open_network(module, replace(UNIT, size=(24, 24), channels=3))
    assert network.one_at_a_time
    assert network.prove().nodes.error < 1e-5
    x = network.input.to_model(pictures())
    expected = torch.cat([module(torch.from_numpy(one[None])) for one in x]).detach().numpy()
    name = network.model.graph.outputs[0]
    np.testing.assert_allclose(network.session([name]).run(x)[name], expected, rtol=1e-4, atol=1e-6)
    pulled = network.apart(network.twin.cut([name]))(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(pulled, expected, rtol=1e-4, atol=1e-6)
