"""The table of converters against ONNX Runtime: one node, one answer.

A case is an operator, its attributes, its data input and its further inputs. Each case is run twice, with the further
inputs as constants of the graph and as values that come at run time, and at two sizes with the module built once.
Gradients are held against finite differences in float64.
"""

import functools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from filterscope.converters.errors import UnsupportedOperatorError
from filterscope.converters.rewrites.opset_site import OPSET
from filterscope.converters.torch_import.importer import import_as_far_as_possible, import_graph
from filterscope.converters.torch_import.ops import DOMAIN, register, resize, table
from support.networks import build, canonical, normal
from support.operator_cases import CASES, IMAGE, K3, VALID, Case, case, f, scalar


def model_of(case: Case, folded: bool, domain: str = "") -> onnx.ModelProto:
    """One node of the case; its further inputs constants of the graph (`folded`) or inputs of it."""
    arrays = {f"input{position}": array for position, array in enumerate((case.x, *case.further)) if array is not None}
    names = [f"input{position}" if f"input{position}" in arrays else "" for position in range(1 + len(case.further))]
    constants = {name: array for name, array in arrays.items() if folded and name != "input0"}
    outputs = [f"output{position}" for position in range(case.outputs)]
    node = helper.make_node(
        case.op, names if case.x is not None else [], outputs, name="the_node", domain=domain, **case.attributes
    )
    graph = helper.make_graph(
        [node],
        "one node",
        [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(array.dtype),
                [None] * array.ndim if name == "input0" else array.shape,
            )
            for name, array in arrays.items()
            if name not in constants
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def torch_module(case: Case, folded: bool) -> nn.Module:
    register()
    from onnx2torch.converter import convert

    domain = DOMAIN if case.op in table() else ""  # the others are onnx2torch's own, which stand the same test
    module: nn.Module = convert(model_of(case, folded, domain)).eval().requires_grad_(False)
    return module


def fed(case: Case, x: np.ndarray | None, folded: bool) -> list[np.ndarray]:
    """What the graph takes, in order."""
    return [array for array in ((x,) if folded else (x, *case.further)) if array is not None]


def answers(case: Case, module: nn.Module, inputs: list[np.ndarray]) -> list[np.ndarray]:
    answer = module(*[torch.from_numpy(array) for array in inputs])
    return [tensor.numpy() for tensor in (answer if isinstance(answer, tuple) else (answer,))]


SIZED_BY_VALUES = ("Compress", "ConstantOfShape", "NonZero", "Range", "Unique")  # a device of shapes alone cannot


@functools.cache
def quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


@pytest.mark.parametrize("folded", [True, False], ids=["constants", "computed"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_torch_answers_as_onnxruntime_does(case: Case, folded: bool) -> None:
    session = onnxruntime.InferenceSession(
        model_of(case, folded).SerializeToString(), quiet(), providers=["CPUExecutionProvider"]
    )
    module = torch_module(case, folded)
    sizes = [case.x] if case.other is None else [case.x, np.resize(case.x, case.other)]
    for x in sizes:
        inputs = fed(case, x, folded)
        before = [array.copy() for array in inputs]
        expected = session.run(
            None, {value.name: array for value, array in zip(session.get_inputs(), inputs, strict=True)}
        )
        for mine, theirs in zip(answers(case, module, inputs), expected, strict=True):
            assert mine.dtype == theirs.dtype
            assert mine.shape == theirs.shape
            tolerance = 1e-5 * np.abs(theirs, where=np.isfinite(theirs), out=np.zeros(theirs.shape)).max(initial=0)
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=tolerance)
        for after, array in zip(inputs, before, strict=True):
            np.testing.assert_array_equal(after, array, err_msg="an input was written to")


@pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=str)
def test_the_gradient_is_the_derivative(case: Case) -> None:
    """Also where it arrives NHWC-strided, in which torch 2.13's own batch_norm is wrong on CPU."""
    module = torch_module(case, folded=True).double()
    draw = torch.Generator().manual_seed(1)
    x = torch.from_numpy(case.x).double().requires_grad_()

    def value(x: torch.Tensor) -> torch.Tensor:
        answer = module(x)
        return answer[0] if isinstance(answer, tuple) else answer

    y = value(x)
    weights = torch.randn(y.shape, generator=draw, dtype=torch.float64)
    direction = torch.randn(x.shape, generator=draw, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(y, x, weights, retain_graph=True)
    with torch.no_grad():
        step = 1e-6
        change = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    expected = (change * weights).sum()
    tolerance = 1e-6 * float((change * weights).abs().sum()) + 1e-9
    torch.testing.assert_close((gradient * direction).sum(), expected, rtol=0, atol=tolerance)
    if y.ndim == 4:
        (again,) = torch.autograd.grad(y, x, weights.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(again, gradient)


@pytest.mark.parametrize("case", [case for case in CASES if case.op not in SIZED_BY_VALUES], ids=str)
def test_a_module_follows_its_input_to_another_device(case: Case) -> None:
    module = torch_module(case, folded=True).to("meta")  # a device of shapes alone; two kinds mixed raise
    answer = module(*[torch.from_numpy(array).to("meta") for array in fed(case, case.x, folded=True)])
    for tensor in answer if isinstance(answer, tuple) else (answer,):
        assert tensor.device.type == "meta"


def graph_of(nodes: list[onnx.NodeProto], shape: tuple[int, ...], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Nodes from "x" to "y", as ONNX Runtime takes them."""
    graph = helper.make_graph(
        nodes,
        "some nodes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def imported(model: onnx.ModelProto) -> nn.Module:
    for index, node in enumerate(model.graph.node):
        node.name = f"node{index}"
    module: nn.Module = import_graph(model).module
    return module


@pytest.mark.parametrize("zero_point", [np.uint8(40), np.int8(-3), np.uint16(500), np.int16(7)], ids=str)
@pytest.mark.parametrize(
    "between",
    [
        [],
        [helper.make_node("Transpose", ["q"], ["r"], perm=[0, 2, 1]), helper.make_node("Identity", ["r"], ["s"])],
        [helper.make_node("MaxPool", ["q"], ["s"], kernel_shape=[1])],
    ],
    ids=["at once", "transposed", "pooled"],
)
def test_the_gradient_goes_straight_through_a_quantised_activation(
    zero_point: np.generic, between: list[onnx.NodeProto]
) -> None:
    scale = np.array([0.5, 0.125, 2.0], np.float32)
    constants = {"scale": scale, "zero": np.repeat(zero_point, 3)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=1),
        *between,
        helper.make_node(
            "DequantizeLinear",
            ["s" if between else "q", "scale", "zero"],
            ["y"],
            axis=2 if len(between) > 1 else 1,
        ),
    ]
    limits = np.iinfo(zero_point.dtype)
    # Levels beyond the range, at its ends, halfway between two, and anywhere.
    levels = np.array([limits.min - 3, limits.min, 0.5, 1.5, -2.5, 7.3, limits.max, limits.max + 3], np.float32)
    x = ((levels - np.float32(zero_point)) * scale[:, None])[None]
    model = graph_of(nodes, x.shape, constants)
    if len(between) == 1 and zero_point.dtype.itemsize > 1:
        pytest.skip("ONNX pools integers of 8 bits alone")
    session = onnxruntime.InferenceSession(model.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
    module = imported(model)
    given = torch.from_numpy(x).requires_grad_()
    y = module(given)
    np.testing.assert_array_equal(y.detach().numpy(), session.run(None, {"x": x})[0])
    (gradient,) = torch.autograd.grad(y.sum(), given)
    reached = x / scale[:, None]
    inside = (np.round(reached) + np.float32(zero_point) >= limits.min) & (
        np.round(reached) + np.float32(zero_point) <= limits.max
    )
    np.testing.assert_allclose(gradient.numpy(), inside, rtol=1e-6)


def test_quantised_values_that_something_else_reads_stay_integers() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"]),
        helper.make_node("Cast", ["q"], ["y"], to=TensorProto.FLOAT),
    ]
    module = imported(graph_of(nodes, (2, 3), {"scale": scalar(0.5)}))
    np.testing.assert_array_equal(module(torch.tensor([[0.3, 2.0, 900.0]])).numpy(), [[1, 4, 255]])


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("ConstantOfShape", ["s"], ["c"]),
            helper.make_node("Add", ["x", "c"], ["y"]),
        ],
        [
            helper.make_node("EyeLike", ["x"], ["e"], dtype=TensorProto.FLOAT),
            helper.make_node("MatMul", ["x", "e"], ["y"]),
        ],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_a_network_in_double_precision_stays_in_it(nodes: list[onnx.NodeProto]) -> None:
    module = imported(graph_of(nodes, (3, 3), {})).double()
    x = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), x, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (case("Conv", {"pads": [1, 1, 1, 1]}, IMAGE, f(4, 3, 3, 3), f(4)), nn.Conv2d),
        (case("Conv", VALID, f(1, 2, 9), f(4, 2, 3)), nn.Conv1d),
        (case("ConvTranspose", {"strides": [2, 2]}, IMAGE, f(3, 4, 3, 3), f(4)), nn.ConvTranspose2d),
        (case("Clip", {}, IMAGE, scalar(0.0), scalar(6.0)), nn.ReLU6),
        (case("Clip", {}, IMAGE, scalar(0.0)), nn.ReLU),
        (case("Clip", {}, IMAGE, scalar(0.0), scalar(np.finfo(np.float32).max)), nn.ReLU),
        (case("AveragePool", {**K3, "pads": [1, 1, 1, 1]}, IMAGE), nn.AvgPool2d),
    ],
    ids=str,
)
def test_a_plain_node_becomes_the_plain_torch_module(case: Case, kind: type[nn.Module]) -> None:
    module = torch_module(case, folded=True)
    assert any(type(part) is kind for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_what_is_no_module_of_torchs_shows_its_settings() -> None:
    shown = str(
        torch_module(case("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, IMAGE, f(4, 3, 3, 3)), folded=True)
    )
    assert "auto_pad=SAME_UPPER, pads=" in shown
    shown = str(torch_module(case("EyeLike", {"k": -1}, f(3, 4)), folded=True))
    assert "diagonal=-1" in shown


@pytest.mark.parametrize(
    ("attributes", "scale"),
    [
        ({"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}, 3.0),
        ({"nearest_mode": "round_prefer_floor"}, 2.0),
        ({"mode": "linear"}, 2.0),
        ({"mode": "linear"}, 0.5),
        ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, 1.5),
        ({"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}, 3.0),
    ],
)
@pytest.mark.parametrize("side", [8, 50, 226])
def test_where_torch_has_its_own_resize_it_equals_the_formula(
    attributes: dict[str, Any], scale: float, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = np.array([1, 1, scale, scale], np.float32)
    module = torch_module(case("Resize", attributes, f(1, 2, side, side), None, scales), folded=True).double()
    x = torch.randn(1, 2, side, side, dtype=torch.float64)
    with monkeypatch.context() as patch:
        patch.setattr(resize, "_resample", None)  # nothing calls it: torch's own is at work
        quick = module(x)
    monkeypatch.setattr(resize, "_is_spatial", lambda *_: False)
    torch.testing.assert_close(quick, module(x), rtol=0, atol=1e-4)  # torch's positions are float32


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            case("BatchNormalization", {}, IMAGE, f(3), f(3), f(3), f(3), outputs=3),
            "operator BatchNormalization (opset 21) only its first output",
        ),
        (case("Dropout", {}, IMAGE, scalar(0.5), scalar(True, np.bool_)), "drops at random"),
        (case("Cast", {"to": TensorProto.STRING}, IMAGE), "operator Cast (opset 21) casts to ONNX data type 8"),
        (case("Conv", {}, f(1, 2, 3, 3, 3, 3), f(1, 2, 1, 1, 1, 1)), "operator Conv (opset 21) has 4 spatial axes"),
        (
            case("ConvTranspose", {}, f(1, 2, 3, 3, 3, 3), f(2, 1, 1, 1, 1, 1)),
            "operator ConvTranspose (opset 21) has 4 spatial axes; 1 to 3 can be imported",
        ),
        (
            case("MaxPool", {"kernel_shape": [1, 1, 1, 1]}, f(1, 2, 3, 3, 3, 3)),
            "operator MaxPool (opset 21) has 4 spatial axes; 1 to 3 can be imported",
        ),
        (
            case("QuantizeLinear", {"output_dtype": TensorProto.UINT4}, IMAGE, scalar(0.5)),
            "operator QuantizeLinear (opset 21) quantises to ONNX data type 21, which torch lacks",
        ),
        (
            case("EyeLike", {"dtype": TensorProto.STRING}, f(3, 4)),
            "operator EyeLike (opset 21) makes ONNX data type 8, which torch lacks",
        ),
        (
            case("Pad", {"mode": "mirror"}, IMAGE, np.array([0, 0, 1, 2, 0, 0, 3, 0])),
            "operator Pad (opset 21) has the unknown mode 'mirror'",
        ),
        (
            case("Resize", {"mode": "lanczos"}, IMAGE, None, np.ones(4, np.float32)),
            "operator Resize (opset 21) has the unknown mode 'lanczos' or coordinates 'half_pixel'",
        ),
        (
            case("Resize", {"coordinate_transformation_mode": "polar"}, IMAGE, None, np.ones(4, np.float32)),
            "operator Resize (opset 21) has the unknown mode 'nearest' or coordinates 'polar'",
        ),
        (case("Constant", {"value_string": "text"}, None), "no tensor of numbers"),
        (case("TensorScatter", {}, IMAGE), "operator TensorScatter (opset 21) has no converter into torch"),
        (case("Gemm", {}, IMAGE), "operator Gemm (opset 21) cannot be imported into torch: tuple index out of range"),
    ],
    ids=str,
)
def test_what_cannot_be_imported_is_named(case: Case, words: str) -> None:
    with pytest.raises(UnsupportedOperatorError) as raised:
        import_graph(model_of(case, folded=True))
    assert str(raised.value).startswith("the_node: ")
    assert words in str(raised.value)
    assert str(raised.value).endswith("; `filterscope inspect` still lists the layers")
    assert "\n" not in str(raised.value)


def test_a_network_whose_convolutions_cannot_be_imported_has_no_twin_at_all() -> None:
    weights = {"w": normal(4, 3, 3, 3), "v": normal(2, 4, 3, 3)}
    nodes = [("Conv", "x w", "c"), ("Bernoulli", "c", "b", {"seed": 1.0}), ("Conv", "b v", "y")]
    assert import_as_far_as_possible(canonical(build(nodes, weights))) is None
    assert import_as_far_as_possible(canonical(build(nodes[:2], weights))) is not None


def test_every_operator_of_the_table_has_a_case() -> None:
    assert set(table()) <= {case.op for case in CASES}


@pytest.mark.parametrize("op", sorted(table()))
def test_every_operator_of_the_table_exists_in_onnx_at_our_opset(op: str) -> None:
    assert not onnx.defs.get_schema(op, OPSET).deprecated
