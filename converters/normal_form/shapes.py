"""Shapes of all values of a graph, inferred without its weights.

ONNX's inference takes a model as bytes; a network's weights are a hundred times what it needs to know of them. Where
it would round otherwise than ONNX Runtime computes, the size is ours (converters.normal_form.output_sizes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from filterscope.converters.normal_form.aliases import HIDDEN
from filterscope.converters.normal_form.output_sizes import may_differ, output_extents

LARGE = 1024  # elements of a constant from which on its numbers cannot be a shape


def add_shapes(proto: onnx.ModelProto) -> None:
    """Declare, in place, the shape of every value, as far as it can be inferred."""
    inferred = _inferred(proto)
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(inferred.graph.value_info)
    for value, output in zip(proto.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(output)


def shapes_for(proto: onnx.ModelProto, shape: Sequence[int]) -> list[onnx.ValueInfoProto]:
    """The inferred shapes of inner values and outputs for an input of this shape, whatever the model declares."""
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
    return _with_our_sizes(bare)


def _with_our_sizes(bare: onnx.ModelProto) -> onnx.ModelProto:
    """What ONNX infers where it is told the sizes that it would round wrongly; `bare` is changed."""
    numbers = {tensor.name: tensor for tensor in bare.graph.initializer}
    sites = [site for node in bare.graph.node if (site := _site(node, numbers)) is not None]
    if sites:
        bare.opset_import.append(helper.make_opsetid(HIDDEN, 1))
    for node, *_ in sites:
        node.domain = HIDDEN  # what ONNX does not know, it leaves to us
    outputs = {value.name: value for value in bare.graph.output}
    # Every inference gives what it does not know a new name: told those, it would never come to an end.
    declared = {d.dim_param for value in bare.graph.input for d in value.type.tensor_type.shape.dim}
    settled: dict[str, list[Any]] = {}
    for _ in range(len(sites) + 1):  # a round settles one more of them at least
        inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(bare, data_prop=True)
        types = {value.name: value.type.tensor_type for value in (*inferred.graph.input, *inferred.graph.value_info)}
        is_new = False
        for node, op, attributes, scales, sizes in sites:
            source = types.get(node.input[0])
            if source is None or not source.HasField("shape"):
                continue
            extents = [_extent(dimension, declared) for dimension in source.shape.dim]
            after = output_extents(op, attributes, extents, scales=scales, sizes=sizes)
            if settled.get(node.output[0]) == after:
                continue
            settled[node.output[0]], is_new = after, True
            for name, kind in zip(node.output, (source.elem_type, onnx.TensorProto.INT64), strict=False):
                if name not in outputs:
                    outputs[name] = bare.graph.value_info.add()
                outputs[name].CopyFrom(helper.make_tensor_value_info(name, kind, after))
        if not is_new:
            break
    return inferred


def _extent(dimension: onnx.TensorShapeProto.Dimension, declared: set[str]) -> int | str | None:
    if dimension.HasField("dim_value"):
        return int(dimension.dim_value)
    return str(dimension.dim_param) if dimension.dim_param in declared - {""} else None


Site = tuple[onnx.NodeProto, str, Mapping[str, Any], np.ndarray | None, np.ndarray | None]


def _site(node: onnx.NodeProto, numbers: Mapping[str, onnx.TensorProto]) -> Site | None:
    """A node whose size ONNX could infer wrongly: it, its operator, attributes, scales and sizes."""
    if node.domain:
        return None
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    scales, sizes = (
        numpy_helper.to_array(numbers[node.input[place]])
        if node.op_type == "Resize" and len(node.input) > place and node.input[place] in numbers
        else None
        for place in (2, 3)
    )
    return (node, node.op_type, attributes, scales, sizes) if may_differ(node.op_type, attributes, scales) else None
