"""Shapes of all values of a graph, inferred without its weights.

ONNX's inference takes a model as bytes; a network's weights are a hundred times what it needs to know of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import helper

LARGE = 1024  # elements of a constant from which on its numbers cannot be a shape


def add_shapes(proto: onnx.ModelProto) -> None:
    """Say, in place, of every value what shape it has, as far as that can be inferred."""
    inferred = _inferred(proto)
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(inferred.graph.value_info)
    for value, known in zip(proto.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(known)


def shapes_for(proto: onnx.ModelProto, shape: Sequence[int]) -> list[onnx.ValueInfoProto]:
    """What is inferred of inner values and outputs for an input of this shape, whatever the model says of them."""
    inferred = _inferred(proto, shape).graph
    return [*inferred.input[:1], *inferred.value_info, *inferred.output]


def _inferred(proto: onnx.ModelProto, shape: Sequence[int] | None = None) -> onnx.ModelProto:
    bare = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    bare.graph.name = proto.graph.name
    bare.graph.node.extend(proto.graph.node)
    bare.graph.input.extend(proto.graph.input)
    bare.graph.output.extend(proto.graph.output)
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) < LARGE:
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    if shape is not None:
        image = bare.graph.input[0]
        image.CopyFrom(helper.make_tensor_value_info(image.name, image.type.tensor_type.elem_type, shape))
        for output in bare.graph.output:
            output.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(bare, data_prop=True)
