"""The sizes of what pooling and resizing give, against those that ONNX Runtime gives."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from filterscope.converters.normal_form.output_sizes import output_extents, undisputed_extents

SHAPE = (2, 3, 13, 10)
POOLINGS = [  # attributes of a MaxPool
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 0, 1, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1},
    {"kernel_shape": [1, 1], "strides": [3, 4], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "dilations": [2, 3]},
    {"kernel_shape": [3, 2], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 2], "strides": [5, 4], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 2], "strides": [2, 3], "auto_pad": "VALID"},
]
RESIZES = [  # attributes, scales, sizes
    ({}, [1, 1, 2, 0.35], None),
    ({}, [1, 1, 1.7, 1], None),
    ({"axes": [3, 2]}, [1.7, 0.6], None),
    ({}, None, [2, 3, 5, 20]),
    ({"axes": [-1, -2]}, None, [5, 20]),
    ({"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, None, [7, 9]),
    ({"axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller"}, None, [7, 9]),
]


def shape_in_onnxruntime(op, attributes, further=()):
    """Of the output for an input of this shape."""
    inputs = ["x", *(f"in{index}" if array is not None else "" for index, array in enumerate(further))]
    constants = [numpy_helper.from_array(array, f"in{i}") for i, array in enumerate(further) if array is not None]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.zeros(SHAPE, np.float32)})[0].shape


@pytest.mark.parametrize("attributes", POOLINGS, ids=str)
def test_a_pooling_gives_as_many_windows_as_onnxruntimes(attributes):
    expected = shape_in_onnxruntime("MaxPool", attributes)
    assert tuple(output_extents("MaxPool", attributes, SHAPE)) == expected
    for computed, extent in zip(undisputed_extents("MaxPool", attributes, SHAPE), expected, strict=True):
        assert computed in (None, extent)


@pytest.mark.parametrize(("attributes", "scales", "sizes"), RESIZES)
def test_a_resize_gives_as_many_places_as_onnxruntimes(attributes, scales, sizes):
    scales = None if scales is None else np.array(scales, np.float32)
    sizes = None if sizes is None else np.array(sizes)
    expected = shape_in_onnxruntime("Resize", attributes, [None, scales, sizes])
    assert tuple(output_extents("Resize", attributes, SHAPE, scales=scales, sizes=sizes)) == expected


def test_what_is_not_known_of_the_input_is_not_known_of_the_output():
    pooling = {"kernel_shape": [3, 2], "strides": [2, 2]}
    assert output_extents("MaxPool", pooling, ("N", 3, None, 10)) == ["N", 3, None, 5]
    kept = {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}
    assert output_extents("Resize", kept, (2, 3, None, 10), sizes=np.array([5, 5])) == [2, 3, None, None]
    assert output_extents("Resize", {}, (2, 3, None, 10), scales=np.array([1, 1, 2, 2])) == [2, 3, None, 20]
    assert output_extents("Resize", {}, SHAPE) == [None] * 4  # to what is computed


@pytest.mark.parametrize(
    "wrong", [{"strides": [2]}, {"strides": [0, 1]}, {"pads": [0, 0]}, {"dilations": [1, 1, 1]}, {"kernel_shape": [3]}]
)
def test_what_onnx_does_not_allow_has_no_size(wrong):
    assert output_extents("MaxPool", {"kernel_shape": [3, 2]} | wrong, SHAPE) == [None] * 4
