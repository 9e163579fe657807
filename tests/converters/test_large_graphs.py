"""Graphs of many nodes: opened and proven in work that grows as they do.

Work is counted in calls of functions, at n and at 2n nodes; what ONNX Runtime does inside a call is seen in the models
that it is given.
"""

import cProfile
import pstats

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from filterscope.analyzer.network.network import open_here
from filterscope.converters import runtime
from filterscope.converters.errors import LimitError
from filterscope.converters.onnx_file import model_file
from filterscope.converters.parity import FORCED_NODES
from support.networks import build

MOST = 2.6  # times the work at twice the size: 2 where it grows as the graph does, 4 where it grows as its square
RNG = np.random.default_rng(0)


def kernel(inputs, outputs, size=1):
    return (RNG.standard_normal((outputs, inputs, size, size)) / (size * inputs**0.5)).astype(np.float32)


def small_nodes(count):
    """Relu, Add, Identity and Mul in turn between two convolutions."""
    kinds = (("Relu", ""), ("Add", " bias"), ("Identity", ""), ("Mul", " gain"))
    nodes = [("Conv", "x first", "v0")]
    nodes += [(kinds[i % 4][0], f"v{i}{kinds[i % 4][1]}", f"v{i + 1}") for i in range(count)]
    nodes += [("Conv", f"v{count} last", "y")]
    return build(
        nodes,
        {"first": kernel(3, 4, 3), "last": kernel(4, 4, 3), "bias": np.float32(1e-3), "gain": np.float32(0.999)},
    )


def convolutions(count):
    """3×3 convolutions with ReLUs, all in a row."""
    nodes, constants = [("Conv", "x k0", "v0", {"pads": [1] * 4})], {"k0": kernel(3, 4, 3)}
    for i in range(1, count):
        nodes += [("Relu", f"v{i - 1}", f"r{i}"), ("Conv", f"r{i} k{i}", f"v{i}", {"pads": [1] * 4})]
        constants[f"k{i}"] = kernel(4, 4, 3)
    return build(nodes, constants)


def readers(count):
    """One value that many nodes read."""
    nodes = [("Conv", "x first", "v"), *(("Relu", "v", f"r{i}") for i in range(count))]
    nodes += [("Sum", " ".join(f"r{i}" for i in range(count)), "s"), ("Conv", "s last", "y")]
    return build(nodes, {"first": kernel(3, 4), "last": kernel(4, 4)})


def constants_of_one_name(count):
    """Constants w, w_1, w_2, …, each added behind a ReLU."""
    nodes, constants = [("Conv", "x first", "v0")], {"first": kernel(3, 4), "last": kernel(4, 4)}
    for i in range(count):
        name = f"w_{i}" if i else "w"
        constants[name] = np.full((1, 4, 1, 1), i / count, np.float32)
        nodes += [("Relu", f"v{i}", f"r{i}"), ("Add", f"r{i} {name}", f"v{i + 1}")]
    return build([*nodes, ("Conv", f"v{count} last", "y")], constants)


def constant_nodes(count):
    nodes = [("Conv", "x first", "v0")]
    for i in range(count):
        value = numpy_helper.from_array(np.full((1, 4, 1, 1), i / count, np.float32))
        nodes += [("Constant", "", f"c{i}", {"value": value})]
        nodes += [("Sigmoid", f"v{i}", f"s{i}"), ("Add", f"s{i} c{i}", f"v{i + 1}")]
    return build([*nodes, ("Conv", f"v{count} last", "y")], {"first": kernel(3, 4), "last": kernel(4, 4)})


def branches(count):
    """Convolutions of one value, joined."""
    nodes, constants = [("Conv", "x first", "v")], {"first": kernel(3, 4)}
    for i in range(count):
        nodes += [("Conv", f"v k{i}", f"b{i}"), ("Relu", f"b{i}", f"r{i}")]
        constants[f"k{i}"] = kernel(4, 2)
    return build([*nodes, ("Concat", " ".join(f"r{i}" for i in range(count)), "y", {"axis": 1})], constants)


def nested_functions(count):
    """Calls of a function that calls another, three deep."""
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "F0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], imports)]
    for depth in (1, 2):
        inner = helper.make_node(f"F{depth - 1}", ["a"], ["t"], domain="own")
        body = [inner, helper.make_node("Sigmoid", ["t"], ["b"])]
        functions.append(helper.make_function("own", f"F{depth}", ["a"], ["b"], body, imports))
    calls = [("F2", f"v{i}", f"v{i + 1}", {"domain": "own"}) for i in range(count)]
    nodes = [("Conv", "x first", "v0"), *calls, ("Conv", f"v{count} last", "y")]
    model = build(nodes, {"first": kernel(3, 4), "last": kernel(4, 4)})
    model.functions.extend(functions)
    model.opset_import.append(imports[1])
    return model


def opened(path, model):
    onnx.save(model, path)
    return open_here(model_file.read(path))


def proven(path, model):
    network = opened(path, model)
    parity = network.prove_here(network.random_pixels(3, (network.input.height, network.input.width), 0))
    return network, parity


def calls(work):
    profile = cProfile.Profile()
    profile.runcall(work)
    return pstats.Stats(profile).total_calls


@pytest.mark.parametrize(
    ("graph", "count"),
    [
        (small_nodes, 400),
        (convolutions, 100),
        (readers, 300),
        (constants_of_one_name, 200),
        (constant_nodes, 200),
        (branches, 100),
        (nested_functions, 100),
    ],
)
def test_work_grows_as_the_graph_does(tmp_path, graph, count):
    proven(tmp_path / "first.onnx", graph(8))  # what is imported and filled once
    work = [calls(lambda n=n: proven(tmp_path / f"{n}.onnx", graph(n))) for n in (count, 2 * count)]
    assert work[1] < MOST * work[0]


def test_fields_of_a_chain_of_convolutions(tmp_path):
    layers = opened(tmp_path / "chain.onnx", convolutions(300)).layers
    assert [layer.field.size for layer in layers] == [(3 + 2 * i, 3 + 2 * i) for i in range(300)]
    assert [layer.field.start for layer in layers] == [(-1.0 - i, -1.0 - i) for i in range(300)]
    assert [layer.depth for layer in layers] == list(range(300))
    assert [layer.predecessors for layer in layers[1:]] == [(layer.name,) for layer in layers[:-1]]


def test_fields_where_many_ways_meet(tmp_path):
    """x + conv(x) over and over, halved in between: all ways lead to one base, and the hull is the deepest way's."""
    nodes, constants = [("Conv", "x k", "v0", {"pads": [1] * 4})], {"k": kernel(3, 4, 3), "r": kernel(4, 4, 3)}
    for i in range(40):
        if i == 20:
            nodes += [("MaxPool", f"v{i}", "half", {"kernel_shape": [2, 2], "strides": [2, 2]})]
        source = "half" if i == 20 else f"v{i}"
        nodes += [("Conv", f"{source} r", f"c{i}", {"pads": [1] * 4}), ("Add", f"c{i} {source}", f"v{i + 1}")]
    layers = opened(tmp_path / "ways.onnx", build(nodes, constants)).layers
    sizes = [3 + 2 * i for i in range(21)] + [3 + 2 * 20 + 1 + 4 * i for i in range(1, 21)]
    assert [layer.field.size[0] for layer in layers] == sizes
    assert [layer.field.jump[0] for layer in layers] == [1.0] * 21 + [2.0] * 20
    assert layers[20].predecessors == tuple(layer.name for layer in layers[:20])


def test_a_graph_of_thousands_of_nodes_opens_as_it_computes(tmp_path):
    model = small_nodes(3000)
    network, parity = proven(tmp_path / "thousands.onnx", model)
    assert [layer.kernel for layer in network.layers] == [(3, 3), (3, 3)]
    assert max(parity.nodes.error, parity.original.error) < 1e-5
    image = RNG.standard_normal((2, 3, 16, 16)).astype(np.float32)
    expected = ort.InferenceSession(model.SerializeToString()).run(None, {"x": image})[0]
    found = network.session([network.layers[-1].value]).run(image)[network.layers[-1].value]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_onnx_runtime_gets_no_model_on_which_it_takes_square_time(tmp_path, monkeypatch):
    """No free axis without a name; none in its priority-based order; few nodes at a time that read given values."""
    seen = []

    class Spy(ort.InferenceSession):
        def __init__(self, content, options, **rest):
            seen.append((onnx.load_from_string(content), options))
            super().__init__(content, options, **rest)

    monkeypatch.setattr(ort, "InferenceSession", Spy)
    model = constants_of_one_name(2 * FORCED_NODES)
    for axis in model.graph.input[0].type.tensor_type.shape.dim[:1]:
        axis.Clear()
    proven(tmp_path / "axes.onnx", model)
    assert len(seen) > 4
    for proto, options in seen:
        axes = [axis for value in proto.graph.input for axis in value.type.tensor_type.shape.dim]
        assert all(axis.HasField("dim_value") or axis.dim_param for axis in axes)
        if options.execution_order == ort.ExecutionOrder.PRIORITY_BASED:
            assert not any(axis.dim_param for axis in axes)
        assert len(proto.graph.input) <= 2 * FORCED_NODES + 1


def test_free_axes_get_names_and_the_file_stays_as_it_is():
    model = build([("Relu", "x", "y")], shape=(None, 3, -1, "W"))
    named = runtime.with_named_axes(model).graph.input[0].type.tensor_type.shape.dim
    assert len({axis.dim_param for axis in (named[0], named[2], named[3])} - {""}) == 3
    assert (named[1].dim_value, named[3].dim_param) == (3, "W")
    assert not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    known = build([("Relu", "x", "y")])
    assert runtime.with_named_axes(known) is known


def test_a_scan_that_runs_too_often_is_refused_before_it_runs(tmp_path):
    """A Scan over the rows of a constant that is wide enough for hours, behind which a convolution's map is added."""
    nodes = [helper.make_node("Tanh", [f"t{i}" if i else "state"], [f"t{i + 1}"]) for i in range(20)]
    nodes.append(helper.make_node("Add", ["t20", "row"], ["next"]))
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("state", "row", "next")]
    body = helper.make_graph(nodes, "body", values[:2], values[2:])
    scan = ("Scan", "zero rows", "sum", {"body": body, "num_scan_inputs": 1, "name": "long"})
    shape = np.array([1_000_000, 1], np.int64)
    model = build(
        [("ConstantOfShape", "shape", "rows"), scan, ("Conv", "x first", "v"), ("Add", "v sum", "y")],
        {"shape": shape, "zero": np.zeros(1, np.float32), "first": kernel(3, 4)},
    )
    with pytest.raises(LimitError, match=r"its scan 'long' runs 1,000,000 times"):
        opened(tmp_path / "scan.onnx", model)


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_the_least_integer_is_not_divided_by_what_a_picture_decides(tmp_path, op):
    """ONNX Runtime ends the process at -2147483648 / -1; no picture of the opening need give that -1."""
    nodes = [("Conv", "x first", "v"), ("Cast", "v", "i", {"to": onnx.TensorProto.INT32}), (op, "least i", "q")]
    constants = {"first": kernel(3, 4), "least": np.array(np.iinfo(np.int32).min, np.int32)}
    with pytest.raises(LimitError, match=f"{op} .* divides the least integer of its type by numbers that may be -1"):
        opened(tmp_path / "least.onnx", build(nodes, constants))
