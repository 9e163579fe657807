"""Every opset brought to 21: ONNX Runtime answers alike before and after.

Each case is a node in the words of an old or a new opset. The table of rules is also held against ONNX's own schemas:
wherever a version changed an operator's form, either a rule stands, or the case is listed here as one that needs none.
"""

import itertools
from collections import defaultdict
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from filterscope.converters.rewrites.opset_rules import LOWER, RULES
from filterscope.converters.rewrites.opset_site import OPSET
from filterscope.converters.rewrites.opset_upgrade import WRITTEN_OUT, opset_of, to_opset
from support.networks import normal

X = normal(2, 6, 5, 4)
BATCHNORM = [normal(6), normal(6, seed=1), normal(6, seed=2), np.abs(normal(6, seed=3)) + 0.5]
F, I = np.float32, np.int64  # noqa: E741


def model_of(
    op: str, opset: int, attributes: dict[str, Any], inputs: list[Any], outputs: int = 1, folded: bool = True
) -> onnx.ModelProto:
    """One node; its first input is fed, the others are constants (`folded`) or fed too; None: an absent one."""
    arrays = {f"in{index}": np.asarray(array) for index, array in enumerate(inputs) if array is not None}
    constants = {name: array for name, array in arrays.items() if folded and name != "in0"}
    node = helper.make_node(
        op,
        [f"in{index}" if array is not None else "" for index, array in enumerate(inputs)],
        [f"out{index}" for index in range(outputs)],
        name="the_node",
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "one node",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in arrays.items()
            if name not in constants
        ],
        [onnx.ValueInfoProto(name=f"out{index}") for index in range(outputs)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def answers(model: onnx.ModelProto, inputs: list[Any]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = [np.asarray(array) for array in inputs if array is not None]
    found: list[np.ndarray] = session.run(
        None, {value.name: array for value, array in zip(session.get_inputs(), given, strict=False)}
    )
    return found


UP = [  # operator, opset, attributes, inputs
    *(("Upsample", 7, {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]}, [X]) for mode in ("nearest", "linear")),
    *(("Upsample", 9, {"mode": mode}, [X, F([1, 1, 2, 1.6])]) for mode in ("nearest", "linear")),
    *(
        ("Resize", 10, {"mode": mode}, [X, F(scales)])
        for mode in ("nearest", "linear")
        for scales in ([1, 1, 2, 1.6], [1, 1, 0.5, 0.6])
    ),
    ("Resize", 10, {}, [X, F([1, 1, 0.6, 1.6])]),
    ("Resize", 11, {"coordinate_transformation_mode": "align_corners", "mode": "linear"}, [X, F([]), F([1, 1, 2, 2])]),
    *(
        (
            "Resize",
            11,
            {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"},
            [X, F([]), F(scales)],
        )
        for scales in ([1, 1, 2, 3], [1, 1, 0.5, 0.6])
    ),
    ("Resize", 18, {"mode": "cubic", "antialias": 1}, [X, None, F([1, 1, 0.5, 0.6])]),
    *(("BatchNormalization", opset, {}, [X, *BATCHNORM]) for opset in (7, 9, 14, 15)),
    ("GroupNormalization", 18, {"num_groups": 3}, [X, normal(3), normal(3, seed=1)]),
    *(
        (op, opset, attributes, [X])
        for op in ("Softmax", "LogSoftmax", "Hardmax")
        for opset in (7, 11, 12)
        for attributes in ({}, {"axis": 2}, {"axis": 3})
    ),
    ("Softmax", 11, {"axis": -2}, [X]),
    ("Clip", 6, {"min": -0.2, "max": 0.7}, [X]),
    ("Clip", 6, {"max": 0.7}, [X]),
    ("Clip", 6, {}, [X]),
    ("Slice", 1, {"starts": [1, 0], "ends": [3, -1], "axes": [1, 3]}, [X]),
    ("Slice", 1, {"starts": [0, 2], "ends": [2, 9]}, [X]),
    ("Pad", 2, {"pads": [0, 1, 2, 0, 0, 0, 1, 3], "value": 1.5}, [X]),
    ("Pad", 2, {"pads": [0, 0, 2, 0, 0, 0, 1, 3], "mode": "reflect"}, [X]),
    ("Squeeze", 7, {"axes": [0]}, [X[:1]]),
    ("Squeeze", 7, {}, [X[:1]]),
    ("Unsqueeze", 7, {"axes": [0, 3]}, [X]),
    ("Dropout", 7, {"ratio": 0.4}, [X]),
    ("Dropout", 10, {"ratio": 0.4}, [X]),
    ("TopK", 1, {"k": 2, "axis": 1}, [X]),
    ("TopK", 10, {"axis": 3}, [X, I([2])]),
    *(
        (op, opset, attributes, [np.abs(X)])
        for op in sorted(op for op in RULES if op.startswith("Reduce"))
        for opset, attributes in ((7, {"axes": [2, 3], "keepdims": 0}), (11, {"axes": [-1]}), (12, {}))
    ),
    ("Split", 2, {"axis": 1, "split": [2, 4]}, [X]),
    ("Split", 2, {"axis": 1}, [X]),
    ("Split", 13, {"axis": 1}, [X]),
    *(("AveragePool", opset, {"kernel_shape": [2, 2], "pads": [1, 0, 1, 0]}, [X]) for opset in (7, 10, 11, 19)),
    *(("MaxPool", opset, {"kernel_shape": [2, 2], "strides": [2, 2]}, [X]) for opset in (1, 8, 10, 12)),
    ("GridSample", 16, {"mode": "bicubic"}, [X, np.tanh(normal(2, 3, 3, 2))]),
    ("GridSample", 16, {}, [X, np.tanh(normal(2, 3, 3, 2))]),
    ("Scatter", 9, {"axis": 1}, [X[0, 0], I([[0, 2], [1, 3]]), F([[7, 8], [9, 10]])]),
    ("Gemm", 7, {"transB": 1, "alpha": 0.5}, [X[0, 0], X[0, 1], X[0, 2, 0][:4] @ np.eye(4, 5, dtype=F)]),
    ("Flatten", 9, {"axis": 2}, [X]),
    ("Cast", 9, {"to": TensorProto.INT32}, [9 * X]),
    ("Gather", 1, {"axis": 1}, [X, I([2, 0])]),
    ("ArgMax", 7, {"axis": 1}, [X]),
    ("OneHot", 9, {}, [I([[0, 2], [1, 1]]), I(3), F([-1, 1])]),
    ("PRelu", 7, {}, [X, normal(6, 1, 1)]),
    ("DepthToSpace", 1, {"blocksize": 2}, [normal(2, 8, 3, 4)]),
    ("InstanceNormalization", 6, {}, [X, normal(6), normal(6, seed=1)]),
    ("LpPool", 2, {"kernel_shape": [2, 2], "p": 3}, [X]),
    ("Pow", 7, {}, [np.abs(X), F(2.5)]),
    ("DFT", 17, {"axis": 2}, [X[..., :1]]),
    ("LSTM", 7, {"hidden_size": 3}, [normal(4, 2, 5), normal(1, 12, 5), normal(1, 12, 3)]),
]
DOWN = [
    ("Conv", 22, {"pads": [1, 1, 1, 1]}, [X, normal(4, 6, 3, 3)]),
    ("MaxPool", 22, {"kernel_shape": [2, 2]}, [X]),
    ("HardSwish", 22, {}, [X]),
    ("Reshape", 23, {}, [X, I([0, -1])]),
    ("Cast", 24, {"to": TensorProto.INT32}, [9 * X]),
    ("QuantizeLinear", 23, {"precision": TensorProto.FLOAT}, [X, F(0.5)]),
    ("DequantizeLinear", 23, {"output_dtype": TensorProto.FLOAT}, [np.uint8([3, 9]), F(0.5)]),
    ("RMSNormalization", 23, {"axis": -2}, [X, normal(5, 4)]),
    ("Swish", 24, {"alpha": 0.5}, [X]),
    ("Attention", 23, {}, [X, X + 1, X - 1]),
    ("Attention", 24, {"is_causal": 1, "softcap": 2.0}, [X, X + 1, X - 1]),
    ("RotaryEmbedding", 23, {}, [X, normal(9, 2), normal(9, 2, seed=1), I([[0, 1, 2, 3, 4], [8, 3, 2, 1, 0]])]),
    ("CenterCropPad", 21, {"axes": [2, 3]}, [X, I([7, 2])]),
]


def outputs_of(op: str, attributes: dict[str, Any]) -> int:
    return {"TopK": 2, "Split": 2, "LSTM": 2}.get(op, 1)


def name_of(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) else None


@pytest.mark.parametrize(("op", "opset", "attributes", "inputs"), [*UP, *DOWN], ids=name_of)
@pytest.mark.parametrize("folded", [True, False], ids=["constants", "computed"])
def test_a_node_answers_at_opset_21_as_at_its_own(
    op: str, opset: int, attributes: dict[str, Any], inputs: list[Any], folded: bool
) -> None:
    if not folded and (op, opset) == ("Resize", 10) and (inputs[1] < 1).any():
        pytest.skip("whether an axis shrinks has to be known")
    model = model_of(op, opset, attributes, inputs, outputs_of(op, attributes), folded)
    before = model.SerializeToString()
    raised, _ = to_opset(model)
    assert model.SerializeToString() == before
    assert opset_of(raised) == OPSET
    for mine, theirs in zip(answers(raised, inputs), answers(model, inputs), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


# ONNX Runtime runs nothing older than opset 7; there the oracle is the form that opset 7 gave the same node.
@pytest.mark.parametrize(
    ("old", "new", "inputs", "further"),
    [
        (("Add", {"broadcast": 1, "axis": 1}), ("Add", {}), [X, normal(6)], [normal(6)[:, None, None]]),
        (("Mul", {"broadcast": 1}), ("Mul", {}), [X, normal(4)], [normal(4)]),
        (("Sub", {"broadcast": 1, "axis": 2}), ("Sub", {}), [X, normal(5)], [normal(5)[:, None]]),
        (("PRelu", {"consumed_inputs": [0, 0]}), ("PRelu", {}), [X, normal(6)], [normal(6)[:, None, None]]),
        (("Relu", {"consumed_inputs": [0]}), ("Relu", {}), [X], []),
        (("Cast", {"to": "INT32"}), ("Cast", {"to": TensorProto.INT32}), [9 * X], []),
        (("Reshape", {"shape": [0, -1]}), ("Reshape", {}), [X], [I([0, -1])]),
        (("Concat", {}), ("Concat", {"axis": 1}), [X, X], [X]),
        (("Selu", {}), ("Selu", {"alpha": 1.6732, "gamma": 1.0507}), [X], []),
        (("LpPool", {"kernel_shape": [2, 2], "p": 3.0}), ("LpPool", {"kernel_shape": [2, 2], "p": 3}), [X], []),
        (("Pad", {"paddings": [0, 0, 1, 2, 0, 0, 0, 1]}), ("Pad", {"pads": [0, 0, 1, 2, 0, 0, 0, 1]}), [X], []),
        (("Split", {}), ("Split", {"axis": 0}), [X, I([1, 1])], [I([1, 1])]),
        (
            ("BatchNormalization", {"is_test": 1, "consumed_inputs": [0, 0, 0, 1, 1]}),
            ("BatchNormalization", {}),
            [X, *BATCHNORM],
            BATCHNORM,
        ),
        (("Gemm", {"broadcast": 1}), ("Gemm", {}), [X[0, 0], X[0, 0].T, normal(5)], [X[0, 0].T, normal(5)]),
        (
            ("Upsample", {"height_scale": 2.0, "width_scale": 3.0}),
            ("Upsample", {"scales": [1.0, 1.0, 2.0, 3.0]}),
            [X],
            [],
        ),
        (
            ("ImageScaler", {"scale": 2.0, "bias": [1.0, 2, 3, 4, 5, 6]}),
            ("Add", {}),
            [X],
            [X + np.arange(1, 7, dtype=F)[:, None, None]],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_what_is_older_than_onnx_runtime_takes_its_newer_form(
    old: tuple[str, dict[str, Any]], new: tuple[str, dict[str, Any]], inputs: list[Any], further: list[Any]
) -> None:
    outputs = outputs_of(*old)
    raised, _ = to_opset(model_of(old[0], 1, old[1], inputs, outputs))
    opset = {"Reshape": 7, "Pad": 7, "Split": 13}.get(new[0], 7)
    reference = model_of(new[0], opset, new[1], [inputs[0], *further], outputs)
    for mine, theirs in zip(answers(raised, inputs[:1]), answers(reference, inputs[:1]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_batch_normalization_of_each_position_by_itself() -> None:
    """`spatial` = 0; ONNX Runtime has it no more, so that the oracle is the formula."""
    scale, shift, mean, variance = (normal(6, 5, 4, seed=seed) for seed in range(4))
    inputs = [X, scale, shift, mean, np.abs(variance) + 0.5]
    raised, _ = to_opset(model_of("BatchNormalization", 7, {"spatial": 0, "epsilon": 0.01}, inputs))
    expected = (X - mean) / np.sqrt(np.abs(variance) + 0.5 + 0.01) * scale + shift
    np.testing.assert_allclose(answers(raised, inputs[:1])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fmod", [0, 1])
def test_a_remainder_of_floating_numbers_has_the_sign_that_opset_28_says(fmod: int) -> None:
    """ONNX Runtime knows no opset 28 yet."""
    a, b = F([-4.3, 7.2, 5.0, -3.0]), F([2.1, -3.4, 8.0, -2.0])
    raised, _ = to_opset(model_of("Mod", 28, {"fmod": fmod}, [a, b]))
    np.testing.assert_allclose(answers(raised, [a])[0], np.fmod(a, b) if fmod else np.mod(a, b), rtol=1e-5)


def test_space_to_depth_with_columns_first() -> None:
    x = normal(2, 3, 4, 6)
    raised, _ = to_opset(model_of("SpaceToDepth", 28, {"blocksize": 2, "mode": "CRD"}, [x]))
    expected = x.reshape(2, 3, 2, 2, 3, 2).transpose(0, 1, 3, 5, 2, 4).reshape(2, 12, 2, 3)
    np.testing.assert_array_equal(answers(raised, [x])[0], expected)


def test_nodes_inside_a_branch_are_brought_along() -> None:
    branch = helper.make_graph(
        [helper.make_node("Squeeze", ["x"], ["s"], axes=[0])], "branch", [], [onnx.ValueInfoProto(name="s")]
    )
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
            [onnx.ValueInfoProto(name="y")],
            [numpy_helper.from_array(np.array(True), "c")],
        ),
        opset_imports=[helper.make_opsetid("", 11)],
        ir_version=8,
    )
    x = normal(1, 3)
    np.testing.assert_array_equal(answers(to_opset(model)[0], [x])[0], x[0])


def test_nodes_of_the_default_domains_other_name_are_brought_along() -> None:
    model = model_of("Squeeze", 11, {"axes": [0]}, [X[:1]])
    model.graph.node[0].domain = "ai.onnx"
    raised, _ = to_opset(model)
    assert {node.domain for node in raised.graph.node} == {""}
    np.testing.assert_array_equal(answers(raised, [X[:1]])[0], X[0])


def test_functions_of_an_older_opset_are_written_out() -> None:
    model = model_of("Own", 11, {"domain": "own"}, [X[:1]])
    model.opset_import.append(helper.make_opsetid("own", 1))
    body = [helper.make_node("Squeeze", ["a"], ["s"], axes=[0]), helper.make_node("Neg", ["s"], ["b"])]
    model.functions.append(helper.make_function("own", "Own", ["a"], ["b"], body, model.opset_import))
    raised, notes = to_opset(model)
    assert "1 functions were written out." in notes
    assert [node.op_type for node in raised.graph.node if node.op_type != "Constant"] == ["Squeeze", "Neg"]
    np.testing.assert_array_equal(answers(raised, [X[:1]])[0], -X[0])


def without_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    for value in model.graph.input:
        value.type.tensor_type.ClearField("shape")
    return model


def test_groups_are_normalised_alike_where_the_number_of_channels_is_not_known() -> None:
    inputs = [X, normal(3), normal(3, seed=1)]
    model = without_shapes(model_of("GroupNormalization", 18, {"num_groups": 3}, inputs))
    expected = answers(model, inputs)[0]
    np.testing.assert_allclose(answers(to_opset(model)[0], inputs)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (model_of("TensorScatter", 24, {}, [X]), "TensorScatter of opset 24 has no form at opset 21."),
        (model_of("NeverHeardOf", 9, {}, [X]), "NeverHeardOf of opset 9 has no form at opset 21."),
        (model_of("Scan", 8, {}, [X]), "Scan of opset 8 has no form at opset 21: its inputs were others."),
        (model_of("Tile", 1, {}, [X, I([2]), I([0])]), "Tile of opset 1 has no form at opset 21: its repeats were"),
        (
            model_of("Resize", 11, {"coordinate_transformation_mode": "tf_half_pixel_for_nn"}, [X, F([]), F([1] * 4)]),
            "Resize of opset 11 has no form at opset 21: tf_half_pixel_for_nn with another rounding",
        ),
        (
            without_shapes(model_of("Add", 6, {"axis": 1, "broadcast": 1}, [X, normal(6)])),
            "Add of opset 6 has no form at opset 21: the ranks of its operands are not known",
        ),
        (
            without_shapes(model_of("PRelu", 6, {}, [X, normal(6)])),
            "PRelu of opset 6 has no form at opset 21: the ranks of its operands are not known",
        ),
        (model_of("LpPool", 1, {"p": 1.5}, [X]), "LpPool of opset 1 has no form at opset 21: its power is 1.5"),
        (
            model_of("QuantizeLinear", 28, {"novelty": 1}, [X, F(1)]),
            "QuantizeLinear of opset 28 has no form at opset 21: novelty is 1",
        ),
    ],
    ids=lambda value: value.graph.node[0].op_type if isinstance(value, onnx.ModelProto) else None,
)
def test_a_node_without_a_form_at_opset_21_is_left_as_it_was_and_noted(model: onnx.ModelProto, words: str) -> None:
    raised, notes = to_opset(model)
    assert list(raised.graph.node) == list(model.graph.node)
    assert any(note.startswith(f"the_node: {words}") for note in notes)


# Changes of form that need no rule: what is new is optional and its absence means what it meant, or what went was a
# training switch that ONNX Runtime never read. `consumed_inputs`, a hint of opset 1, goes for every operator at once.
HARMLESS = {
    ("ArgMax", 12),
    ("ArgMin", 12),
    ("AveragePool", 7),
    ("AveragePool", 10),
    ("AveragePool", 19),
    ("Cast", 19),
    ("CastLike", 19),
    ("Clip", 6),
    ("Constant", 11),
    ("Constant", 12),
    ("DepthToSpace", 11),
    ("DequantizeLinear", 13),
    ("DequantizeLinear", 21),
    ("Dropout", 7),
    ("GRU", 14),
    ("GatherND", 12),
    ("Gemm", 11),
    ("GroupNormalization", 21),
    ("LSTM", 14),
    ("LpPool", 18),
    ("MaxPool", 8),
    ("MaxPool", 10),
    ("OptionalHasElement", 18),
    ("Pad", 18),
    ("QuantizeLinear", 13),
    ("QuantizeLinear", 19),
    ("QuantizeLinear", 21),
    ("RNN", 14),
    ("Reshape", 14),
    ("Resize", 13),
    ("Resize", 18),
    ("ScatterElements", 16),
    ("ScatterND", 16),
    ("Shape", 15),
    ("Split", 2),
    ("TopK", 11),
}


def changes_of_form() -> set[tuple[str, int]]:
    """(operator, version) up to opset 21 wherever inputs, outputs or attributes are not the version's before."""
    versions: dict[str, dict[int, Any]] = defaultdict(dict)
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain and schema.since_version <= OPSET:
            versions[schema.name][schema.since_version] = schema

    def form(schema: Any) -> tuple[Any, ...]:
        attributes = {
            name: (str(entry.type), str(entry.default_value))
            for name, entry in schema.attributes.items()
            if name != "consumed_inputs"
        }
        return [str(i.option) for i in schema.inputs], len(schema.outputs), attributes, schema.deprecated

    found = set()
    for op, known in versions.items():
        ordered = sorted(known)
        found |= {(op, new) for old, new in itertools.pairwise(ordered) if form(known[old]) != form(known[new])}
    return found


def test_no_change_of_form_is_forgotten() -> None:
    ruled = {(op, since) for op, rules in RULES.items() for since, _ in rules}
    assert changes_of_form() - ruled == HARMLESS - ruled


def test_every_rule_stands_at_a_version_of_its_operator() -> None:
    for rules in RULES.values():
        versions = [since for since, _ in rules]
        assert versions == sorted(versions)
    assert all(since > OPSET for since, _ in LOWER.values())
    assert all(not onnx.defs.get_schema(op, OPSET).deprecated for op in WRITTEN_OUT)
