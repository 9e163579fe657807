"""The proof of an import: it passes what is equal, refuses what is not, and names where it began."""

import dataclasses
import json
import math
import re

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import numpy_helper
from torch import nn

from filterscope.analyzer.boundary import opening
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.network import open_here
from filterscope.commands.inspect import parity_lines
from filterscope.converters import cache
from filterscope.converters.batch_independence import compare_alone
from filterscope.converters.comparison import relative_error
from filterscope.converters.errors import ParityError
from filterscope.converters.onnx_file import model_file
from filterscope.converters.parity import AGREES, REFUSED, Parity, verify
from filterscope.converters.rewrites.opset_site import OPSET
from filterscope.converters.torch_import.importer import TorchTwin, import_torch
from support.networks import MODELS, build, canonical, needs_data, normal

SAME = {"pads": [1, 1, 1, 1]}
SAMPLES = normal(3, 3, 16, 16, seed=7)


HEAD = [("GlobalAveragePool", "s", "p"), ("Flatten", "p", "f"), ("Gemm", "f k", "y", {"name": "head"})]


def network(behind=HEAD, **options):
    """Two convolutions with a Split, a residual and a head between and behind them."""
    nodes = [
        ("Conv", "x first.weight", "c", SAME),
        ("Relu", "c", "r", {"name": "activation"}),
        ("Split", "r sizes", "a b", {"axis": 1, "name": "halves"}),
        ("Concat", "b a", "j", {"axis": 1, "name": "join"}),
        ("Conv", "j second.weight bias", "d", SAME),
        ("Add", "d r", "s", {"name": "sum"}),
        *behind,
    ]
    constants = {
        "first.weight": normal(4, 3, 3, 3),
        "second.weight": normal(4, 4, 3, 3),
        "bias": normal(4),
        "sizes": np.array([1, 3]),
        "third.weight": normal(2, 4, 3, 3),
        "k": normal(4, 5),
    }
    names = {name for node in nodes for name in node[1].split()}
    return build(nodes, {name: array for name, array in constants.items() if name in names}, **options)


# --- the error


def by_definition(found, expected):
    a, b = found.astype(np.float64), expected.astype(np.float64)
    return float(np.abs(a - b).max() / max(1e-6, np.abs(b).max()))


arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=5), elements=st.floats(-1e6, 1e6, width=32))


@given(arrays, st.floats(-1e-3, 1e-3))
def test_the_error_is_its_definition(expected, change):
    found = (expected * (1 + change)).astype(np.float32)
    error, want, got = relative_error(found, expected)
    assert error == pytest.approx(by_definition(found, expected), rel=1e-5, abs=1e-12)
    assert want in expected
    assert got in found


@given(arrays)
def test_what_is_equal_has_no_error(array):
    assert relative_error(array, array.copy())[0] == 0.0


NAN, INF = math.nan, math.inf
ERRORS = {  # found, expected, error
    "agree": ([1, 2], [1, 2], 0.0),
    "relative to the largest": ([1.5, 100], [1, 100], 0.005),
    "relative to the least": ([3e-7, 0], [0, 0], 0.3),
    "NaN on both sides": ([NAN, 1], [NAN, 1], 0.0),
    "NaN on both sides, error elsewhere": ([NAN, 1.5], [NAN, 1], 0.5),
    "NaN found": ([NAN, 1], [2, 1], INF),
    "NaN expected": ([2, 1], [NAN, 1], INF),
    "NaN in another place": ([NAN, 1], [1, NAN], INF),
    "infinite on both sides": ([INF, -INF, 1], [INF, -INF, 1], 0.0),
    "of another sign": ([INF], [-INF], INF),
    "infinite found": ([INF, 1], [1, 1], INF),
    "infinite expected": ([1, 1], [INF, 1], INF),
    "NaN for infinite": ([NAN], [INF], INF),
    "beyond float32 together": ([3e38], [-3e38], INF),
    "nothing but NaN": ([NAN, NAN], [NAN, NAN], 0.0),
    "nothing at all": ([], [], 0.0),
}


@pytest.mark.parametrize("name", ERRORS)
def test_the_error_of_a_pair_of_arrays(name):
    found, expected, error = ERRORS[name]
    measured, want, got = relative_error(np.array(found, np.float32), np.array(expected, np.float32))
    assert measured == pytest.approx(error, rel=1e-6)
    if error and not math.isnan(want):
        assert want in np.array(expected, np.float32)
    if found and not math.isnan(got):
        assert got in np.array(found, np.float32)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.float16, np.float64, np.uint8])
def test_other_types_of_number_are_compared_too(dtype):
    expected = np.array([0, 1, 1, 0]).astype(dtype)
    assert relative_error(expected, expected.copy())[0] == 0.0
    assert relative_error(1 - expected.astype(np.float32), expected)[0] == 1.0


def test_shapes_that_differ_are_an_infinite_error():
    assert relative_error(np.zeros((1, 4), np.float32), np.zeros((4,), np.float32))[0] == INF


# --- what agrees


def test_an_import_that_agrees_says_how_closely():
    model = canonical(network())
    parity = verify(model, import_torch(model), SAMPLES)
    assert max(parity.original.error, parity.nodes.error, parity.end_to_end.error) < 1e-5
    assert parity.warnings == ()
    names = [node.name for node in model.graph.nodes if node.op == "Conv"]
    assert sorted(parity.layers) == sorted(names)
    assert max(parity.layers.values()) == parity.end_to_end.error
    assert Parity.from_json(json.loads(json.dumps(parity.to_json()))) == parity


FORMS = {
    "free": {},
    "one picture": {"shape": (1, 3, 16, 16)},
    "two pictures": {"shape": (2, 3, 16, 16)},
    "any size": {"shape": ("N", 3, "H", "W")},
    "opset 13": {"opset": 13, "ir_version": 7},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_batch_size_of_the_file_is_compared(form):
    model = canonical(network(**FORMS[form]))
    parity = verify(model, import_torch(model), SAMPLES)
    assert parity.original.error < 1e-5
    assert parity.nodes.error < 1e-5


def test_a_batch_axis_that_is_not_the_first_is_found():
    nodes = [
        ("Conv", "x w", "c", SAME),
        ("Transpose", "c", "t", {"perm": [1, 2, 0, 3]}),
        ("Relu", "t", "r"),
        ("Transpose", "r", "back", {"perm": [2, 0, 1, 3]}),
        ("Shape", "back", "shape"),
        ("Reshape", "back shape", "y"),
    ]
    model = canonical(build(nodes, {"w": normal(4, 3, 3, 3)}, shape=(1, 3, "H", "W")))
    assert verify(model, import_torch(model), SAMPLES).original.error == 0.0


def test_values_that_do_not_fit_into_memory_together_are_compared_in_parts(monkeypatch):
    model = canonical(network())
    whole = verify(model, import_torch(model), SAMPLES)
    monkeypatch.setattr("filterscope.converters.parity.CHUNK_BYTES", 5000)
    parts = verify(model, import_torch(model), SAMPLES)
    assert parts.layers.keys() == whole.layers.keys()
    assert parts.nodes.error == pytest.approx(whole.nodes.error, abs=1e-6)


REAL = ["mnist_cntk", "cifar10_cnn4", "svhn_cnn6", "ppocr_v2_cls", "ultraface_slim_320_simplified"]
REAL += ["ultraface_rfb_320", "ppocr_v4_det", "mobilenetv2_fp32_dequant"]


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_a_real_file_is_proven(name):
    parity = open_network(MODELS / f"{name}.onnx").prove()
    assert max(parity.original.error, parity.nodes.error) <= AGREES
    assert parity.end_to_end.error <= AGREES
    assert parity.warnings == ()


# --- what does not


class Changed(nn.Module):
    """A module whose answers are changed."""

    def __init__(self, module, change):
        super().__init__()
        self.module, self.change = module, change

    def forward(self, *inputs):
        return self.change(self.module(*inputs))


def sabotage(twin, node, change):
    owner, _, name = str(twin.calls[node].target).rpartition(".")
    parent = twin.module.get_submodule(owner)
    parent.add_module(name, Changed(parent.get_submodule(name), change))


def one_weight(twin, node):
    module = twin.module.get_submodule(str(twin.calls[node].target))
    weight = next(tensor for tensor in module.state_dict().values() if tensor.ndim == 4)
    weight[1, 2, 0, 1] += 0.5


def with_nan(tensor):
    return torch.where(tensor == tensor.max(), torch.nan, tensor)


NUMBER = r"(nan|-?\d[\d.e+-]*)"


def on_black(tensor):
    return tensor + (tensor.abs().amax((1, 2, 3), keepdim=True) == 0)


SABOTAGES = {  # node; what is done to its module; as the message names it
    "a weight": ("node of second.weight", one_weight, r"second \(Conv"),
    "NaN": ("activation", lambda twin, node: sabotage(twin, node, with_nan), r"activation \(Relu"),
    "a shape": ("join", lambda twin, node: sabotage(twin, node, lambda y: y[:, :-1]), r"join \(Concat"),
    "a factor": ("join", lambda twin, node: sabotage(twin, node, lambda y: y * 1.002), r"join \(Concat"),
    "one of two outputs": (
        "halves",
        lambda twin, node: sabotage(twin, node, lambda parts: (parts[0], parts[1] + 1)),
        r"halves \(Split",
    ),
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_twin_that_differs_is_refused_and_the_first_node_is_named(name):
    node, change, shown = SABOTAGES[name]
    model = canonical(network())
    twin = import_torch(model)
    if node not in twin.calls:
        node = next(key for key, layer in model.layer_names.items() if f"{layer}.weight" in node)
    change(twin, node)
    words = (
        rf"^model.onnx: canonical form and torch first differ at {shown}, opset {OPSET}\): {NUMBER} against {NUMBER}"
    )
    with pytest.raises(ParityError, match=words) as refusal:
        verify(model, twin, SAMPLES)
    assert "limit 0.001; the model is not used" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_twin_that_fails_is_refused_and_the_node_is_named():
    model = canonical(network())
    twin = import_torch(model)
    sabotage(twin, "join", lambda tensor: tensor @ torch.ones(7))
    with pytest.raises(
        ParityError, match=r"^model.onnx: torch fails at join \(Concat, opset 21\): .*; the model is not"
    ):
        verify(model, twin, SAMPLES)


def test_the_users_image_is_compared_too():
    """It stands first, before the three that are drawn."""
    model = canonical(network())
    twin = import_torch(model)
    sabotage(twin, "activation", on_black)
    verify(model, twin, SAMPLES)
    with pytest.raises(ParityError, match=r"activation \(Relu, opset 21\): 0 against 1 at batch 1"):
        verify(model, twin, np.concatenate([np.zeros((1, 3, 16, 16), np.float32), SAMPLES]))


def changed_constant(model, name, change):
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    array = numpy_helper.to_array(tensor).copy()
    change(array)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return dataclasses.replace(model, proto=proto)


def test_a_canonical_form_that_differs_is_refused_and_the_first_node_is_named():
    def add(array):
        array[2] += 0.1

    model = changed_constant(canonical(network()), "bias", add)
    words = rf"original and canonical form first differ at second \(Conv, opset {OPSET}\): {NUMBER} against {NUMBER} at"
    with pytest.raises(ParityError, match=words):
        verify(model, import_torch(model), SAMPLES)


def attribute(op, name, value):
    def change(proto):
        node = [node for node in proto.graph.node if node.op_type == op][-1]
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    return change


def swapped(op):
    def change(proto):
        node = next(node for node in proto.graph.node if node.op_type == op)
        node.input[:] = node.input[::-1]

    return change


def reading(name, index, value):
    def change(proto):
        next(node for node in proto.graph.node if node.name == name).input[index] = value

    return change


def become(name, op):
    def change(proto):
        next(node for node in proto.graph.node if node.name == name).op_type = op

    return change


MUTATIONS = {  # what is changed in the canonical form; the node that is named
    "pads of the same sum": (attribute("Conv", "pads", [2, 2, 0, 0]), "third"),
    "dilations": (attribute("Conv", "dilations", [1, 1]), None),  # the same numbers
    "inputs exchanged": (swapped("Concat"), "join"),
    "an input from elsewhere": (reading("sum", 1, "j"), "sum"),
    "another operator": (become("sum", "Sub"), "sum"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_canonical_form_that_was_changed_is_refused_at_the_node(name):
    change, node = MUTATIONS[name]
    model = canonical(network(behind=[("Conv", "s third.weight", "y", SAME | {"name": "last"})]))
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    change(proto)
    wrong = dataclasses.replace(model, proto=proto)
    if node is None:
        verify(wrong, import_torch(model), SAMPLES)
        return
    with pytest.raises(ParityError, match=rf"original and canonical form first differ at {node} \("):
        verify(wrong, import_torch(model), SAMPLES)


def test_a_batch_size_that_cannot_be_freed_is_left_as_it_is():
    nodes = [
        ("Conv", "x w", "c", SAME),
        ("Transpose", "c", "turned", {"perm": [1, 2, 0, 3]}),
        ("Reshape", "turned t", "r"),
        ("Conv", "r k", "y"),
    ]
    constants = {"w": normal(4, 3, 3, 3), "t": np.array([4, 1, 16, 16]), "k": normal(2, 1, 3, 3)}
    proto = build(nodes, constants, shape=(1, 3, 16, 16))
    freed = canonical(proto)
    assert compare_alone(freed, SAMPLES).one_at_a_time
    with pytest.raises(ParityError) as caught:
        verify(freed, import_torch(freed), SAMPLES)
    assert "free batch" not in str(caught.value)
    fixed = canonical(proto, batch=1)
    parity = verify(fixed, import_torch(fixed), SAMPLES, compare_alone(fixed, SAMPLES))
    assert parity.original.error < 1e-6
    assert parity.nodes.error < 1e-5


@pytest.mark.parametrize("factor", [1 + 3e-4, 1 - 8e-4])
def test_a_small_difference_is_a_warning(factor):
    model = canonical(network())
    twin = import_torch(model)
    sabotage(twin, "head", lambda y: y * factor)
    parity = verify(model, twin, SAMPLES)
    assert AGREES < parity.nodes.error < REFUSED
    assert parity.nodes.node == "head"
    first = parity.warnings[0]
    assert re.match(rf"canonical form and torch differ by 0\.000\d at head \(Gemm, opset {OPSET}\): ", first)


@pytest.mark.parametrize("factor", [1 + 2e-5, 1 - 9e-5])
def test_what_is_within_rounding_is_no_warning(factor):
    model = canonical(network())
    twin = import_torch(model)
    sabotage(twin, "head", lambda y: y * factor)
    assert verify(model, twin, SAMPLES).warnings == ()


def test_a_network_that_amplifies_rounding_is_not_refused_for_it():
    """Differences of neighbours cancel all but the rounding, which a large factor then shows."""
    nodes = [
        ("Conv", "x w", "c", SAME),
        ("Mul", "c large", "m"),
        ("Add", "m huge", "h"),
        ("Sub", "h huge", "s"),
        ("Conv", "s v", "y", SAME),
    ]
    model = canonical(
        build(
            nodes,
            {
                "w": normal(4, 3, 3, 3),
                "v": normal(2, 4, 3, 3),
                "large": np.float32(1000),
                "huge": np.full((1, 4, 1, 1), 3e8, np.float32),
            },
        )
    )
    parity = verify(model, import_torch(model), SAMPLES)
    assert parity.nodes.error < AGREES
    assert parity.warnings == ()


@pytest.mark.parametrize(("factor", "warned"), [(8.4e-4, True), (5e-2, True), (3e-5, False)])
def test_what_adds_up_from_the_image_to_a_layer_is_judged_by_the_limit_that_is_printed(factor, warned, monkeypatch):
    """Each node by itself is right; on the whole way torch is off, as roundings that a network magnifies make it."""
    model = canonical(network())
    cut = TorchTwin.cut

    def off(twin, names):
        whole = cut(twin, names)
        return lambda x: [value * (1 + factor) for value in whole(x)]

    monkeypatch.setattr(TorchTwin, "cut", off)
    parity = verify(model, import_torch(model), SAMPLES)
    assert parity.end_to_end.error == pytest.approx(factor, rel=0.05)
    assert parity.nodes.error < AGREES
    assert len(parity.warnings) == warned
    for warning in parity.warnings:
        assert warning.startswith(f"From the image to {parity.end_to_end.node}, ")
        assert f"by {parity.end_to_end.error:.2g}, limit {AGREES:g}" in warning
    assert parity.summary()["limit"] == AGREES
    assert parity.summary()["warnings"] == list(parity.warnings)
    printed = parity_lines(parity)
    assert "Limit of each 1e-4; node by node, refused above 1e-3." in printed
    assert ("Warning: From the image" in printed) == warned


# --- the cache


@pytest.fixture
def proven(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save_model(network(), path)
    return path, open_network(path).prove()


@pytest.fixture
def without_import(monkeypatch):
    def refuse(*inputs):
        raise AssertionError("a worker was started, so the network was imported")

    monkeypatch.setattr(opening, "_worker", refuse)


def test_a_second_opening_is_proven_from_the_cache(proven, without_import):
    path, parity = proven
    assert open_network(path).prove() == parity


@pytest.mark.parametrize("change", ["file", "image", "library"])
def test_what_decides_the_proof_decides_the_entry(proven, without_import, change, monkeypatch):
    path, _ = proven
    first = None
    if change == "file":
        model = network()
        model.doc_string = "changed"
        onnx.save_model(model, path)
    elif change == "image":
        first = np.zeros((16, 16, 3), np.uint8)
    else:
        monkeypatch.setattr(cache, "versions", lambda: {"torch": "0.0"})
    with pytest.raises(AssertionError, match="was started"):
        open_network(path).prove(first)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"original": 1}', '{"layers": {}}', "\0\0", "null"])
def test_a_damaged_entry_is_ignored_and_mended(proven, content):
    path, parity = proven
    entries = [entry for entry in cache._folder().glob("*.json") if "layers" in json.loads(entry.read_text())]
    assert len(entries) == 1
    entries[0].write_text(content)
    assert open_network(path).prove() == parity
    assert json.loads(entries[0].read_text())["layers"] == parity.layers


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    monkeypatch.setattr(cache, "_folder", lambda: tmp_path / "taken" / "parity")
    cache.save("name", {})
    assert cache.load("name") is None


def test_a_refusal_is_not_kept(proven, monkeypatch):
    path, _ = proven
    model = network()
    model.doc_string = "another"
    onnx.save_model(model, path)
    opened = open_here(model_file.read(path))
    one_weight(opened.twin, opened.layers[1].node)
    assert not opened.one_at_a_time
    before = set(cache._folder().iterdir())
    with pytest.raises(ParityError):
        opened.prove()
    assert set(cache._folder().iterdir()) == before
