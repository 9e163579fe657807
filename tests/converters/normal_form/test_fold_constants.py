"""Kernels that a graph computes from constants by nodes of several outputs."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from filterscope.converters.errors import LimitError, ModelError
from filterscope.converters.normal_form import fold_constants, fold_limits, unroll_branches
from support.networks import build, canonical

KERNEL = np.random.default_rng(0).normal(2, 3, (4, 3, 3, 3)).astype(np.float32)


def kernel_of(model):
    (conv,) = [node for node in model.graph.nodes if node.op == "Conv"]
    return model.graph.initializers[conv.inputs[1]]


def test_a_standardised_kernel_is_a_constant_with_mean_0_and_variance_1():
    """As timm's StdConv2d is exported: a BatchNormalization of the kernel in training mode."""
    flat = KERNEL.reshape(1, 4, 27)
    constants = {
        "flat": flat,
        "one": np.ones(4, np.float32),
        "zero": np.zeros(4, np.float32),
        "mean": flat.mean((0, 2)),
        "var": flat.var((0, 2)),
        "shape": np.array(KERNEL.shape),
    }
    nodes = [
        ("BatchNormalization", "flat one zero mean var", "n m v", {"training_mode": 1, "epsilon": 1e-6}),
        ("Reshape", "n shape", "k"),
        ("Conv", "x k", "y"),
    ]
    kernel = kernel_of(canonical(build(nodes, constants)))
    expected = (KERNEL - KERNEL.mean((1, 2, 3), keepdims=True)) / KERNEL.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-6)


def test_a_kernel_that_is_one_part_of_a_packed_one_is_a_constant():
    nodes = [
        ("Split", "packed", "a b", {"axis": 0, "num_outputs": 2}),
        ("Conv", "x b", "y"),
    ]
    packed = np.concatenate([KERNEL, KERNEL + 1])
    np.testing.assert_array_equal(kernel_of(canonical(build(nodes, {"packed": packed}))), KERNEL + 1)


def test_a_constant_larger_than_what_is_folded_stays_computed(monkeypatch):
    model = build([("Neg", "w", "n"), ("Conv", "x n", "y")], {"w": KERNEL})
    monkeypatch.setattr(fold_constants, "FOLD_LIMIT", KERNEL.size)
    assert [node.op for node in canonical(model).graph.nodes] == ["Conv"]
    monkeypatch.setattr(fold_constants, "FOLD_LIMIT", KERNEL.size - 1)
    assert [node.op for node in canonical(model).graph.nodes] == ["Neg", "Conv"]


def test_whatever_the_evaluation_of_constants_raises_is_said_in_one_line(monkeypatch):
    def failing(*_):
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr(fold_constants, "fold_several_outputs", failing)
    with pytest.raises(ModelError, match=r"^model\.onnx: .*its constants cannot be worked out \(.*by nothing.*\)$"):
        canonical(build([("Neg", "w", "n"), ("Conv", "x n", "y")], {"w": KERNEL}))


def test_a_loop_that_would_be_too_many_nodes_is_refused(monkeypatch):
    """Five trips of two nodes each."""
    step = helper.make_graph(
        [helper.make_node("Relu", ["h"], ["h_out"]), helper.make_node("Identity", ["go"], ["go_out"])],
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h_out", TensorProto.FLOAT, None),
        ],
    )
    nodes = [("Conv", "x w", "c"), ("Loop", "five yes c", "y", {"name": "again", "body": step})]
    model = build(nodes, {"w": KERNEL, "five": np.array(5), "yes": np.array(True)})
    assert [node.op for node in canonical(model).graph.nodes] == ["Conv", *["Relu"] * 5]
    monkeypatch.setattr(unroll_branches, "MOST_NODES", 11)
    with pytest.raises(LimitError, match=r"its loops come to 12 nodes when the 5 trips of 'again' are written out; at"):
        canonical(model)


SIZES = [  # operator, attributes, inputs: an array or None where it is not constant; elements, None: not known
    ("Expand", {}, [None, np.array([2, 3])], None),
    ("Expand", {}, [np.ones((3, 1)), np.array([2, 1, 4])], 24),
    ("Range", {}, [np.array(0), None, np.array(1)], None),
    ("Resize", {}, [None, None, np.ones(2, np.float32)], None),
    ("Resize", {}, [np.ones((2, 3)), None, None], None),
    ("Pad", {}, [np.ones((2, 3)), None], None),
    ("Pad", {}, [np.ones((2, 3)), np.array([1, 2]), None, np.array([7])], 6),
    ("Gather", {}, [None, np.array([1])], None),
    ("Gather", {"axis": 5}, [np.ones((2, 3)), np.array([1])], None),
    ("MatMul", {}, [np.ones((2, 3)), None], None),
    ("OneHot", {}, [np.zeros((2, 3)), None, None], None),
    ("Add", {}, [np.ones((5, 1)), np.ones((4, 1, 3))], 60),
    ("Conv", {}, [np.ones((5, 1)), np.ones((4, 1, 3))], None),
]


@pytest.mark.parametrize(("op", "attributes", "arrays", "expected"), SIZES)
def test_the_size_of_a_result_is_told_where_the_inputs_tell_it_and_nothing_was_inferred(
    op, attributes, arrays, expected
):
    values = [
        ir.Value(name=f"v{index}", const_value=None if array is None else ir.tensor(array))
        for index, array in enumerate(arrays)
    ]
    node = ir.node(op, values, attributes)
    assert fold_limits.result_size(node) == expected
