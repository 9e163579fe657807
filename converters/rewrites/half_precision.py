"""Networks in other floats than 32 bits, said in float32.

float16 and bfloat16 everywhere, float64 where the convolutions or the image are float64: constants, inputs, outputs
and the types that operators are told. An image input of integers takes floats of the same values. Works on protobuf;
comparison A (converters.parity) proves it, allowing for the rounding of the file's own format.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from filterscope.converters.operator_facts import CONVOLUTIONS, Numbers, operators
from filterscope.converters.rewrites.rewriting import Page, bodies, replace_nodes

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
WORDS: dict[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
TYPES = {"to", "dtype", "output_dtype"}  # attributes that name a type
# Operators that hand numbers on as they are: none of their other inputs has to have the image's type.
MOVES_NUMBERS = operators(lambda facts: facts.numbers in (Numbers.SAME, Numbers.SELECTED))


def formats(model: onnx.ModelProto) -> list[str]:
    """The formats that `widen` would replace, as they are called."""
    narrow = _narrow(model)
    kinds = {tensor.data_type for body in bodies(model) for tensor in _tensors(body)}
    kinds |= {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    kinds |= {a.i for body in bodies(model) for node in body.node for a in node.attribute if _names_type(node, a)}
    return [WORDS[kind] for kind in sorted(kinds & narrow)]


def widen(model: onnx.ModelProto) -> list[str]:
    """Say a network in float32, in place.

    Returns:
        Notes, a sentence each.
    """
    narrow = _narrow(model)
    found = formats(model)
    for body in bodies(model):
        for tensor in _tensors(body):
            if tensor.data_type in narrow:
                tensor.CopyFrom(_widened(tensor))
        for node in body.node:
            for attribute in node.attribute:
                if attribute.i in narrow and _names_type(node, attribute):
                    attribute.i = TensorProto.FLOAT
        if isinstance(body, onnx.GraphProto):
            for value in (*body.input, *body.output, *body.value_info):
                if value.type.tensor_type.elem_type in narrow:
                    value.type.tensor_type.elem_type = TensorProto.FLOAT
    notes = []
    if found:
        notes.append(f"The file computes in {' and '.join(found)}; the normal form computes in float32.")
    return notes + _float_image(model)


def _narrow(model: onnx.ModelProto) -> set[int]:
    """Half floats; and doubles, where the image or a kernel is of these and not only some sum on the way."""
    kernels = {node.input[1] for node in model.graph.node if node.op_type in CONVOLUTIONS}
    doubles = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.DOUBLE}
    doubles |= {value.name for value in model.graph.input if value.type.tensor_type.elem_type == TensorProto.DOUBLE}
    doubles |= {n.output[0] for n in model.graph.node for a in n.attribute if a.t.data_type == TensorProto.DOUBLE}
    image = model.graph.input[0].name
    return {*HALVES, TensorProto.DOUBLE} if doubles & {*kernels, image} else set(HALVES)


def _names_type(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> bool:
    """Whether an attribute names a type of floats; QuantizeLinear's names that of its integers."""
    return attribute.name in TYPES and node.op_type != "QuantizeLinear"


def _tensors(body: onnx.GraphProto | onnx.FunctionProto) -> Iterator[TensorProto]:
    yield from getattr(body, "initializer", ())
    for sparse in getattr(body, "sparse_initializer", ()):
        yield sparse.values
    for node in body.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _widened(tensor: TensorProto) -> TensorProto:
    with np.errstate(over="ignore"):  # a float64 beyond float32, such as the least number of all for "no limit"
        array = numpy_helper.to_array(tensor).astype(np.float32)
    return numpy_helper.from_array(array, tensor.name)


def _float_image(model: onnx.ModelProto) -> list[str]:
    """An image input of integers becomes one of floats, which are made integers where an operator insists."""
    image = model.graph.input[0]
    kind = image.type.tensor_type.elem_type
    integers = (TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.INT32)
    if kind not in (*integers, TensorProto.INT64):
        return []
    image.type.tensor_type.elem_type = TensorProto.FLOAT
    page = Page(model.graph)
    floats = {image.name}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        touched = [name for name in node.input if name in floats]
        if not touched or node.op_type in ("Cast", "Shape"):
            nodes.append(node)
        elif node.op_type == "DequantizeLinear":
            nodes += _dequantised(node, page)
        elif node.op_type in MOVES_NUMBERS:
            floats.update(node.output)
            nodes.append(node)
        else:
            for name in dict.fromkeys(touched):
                cast = page.fresh(f"{name}::integers")
                nodes.append(onnx.helper.make_node("Cast", [name], [cast], name=cast, to=kind))
                node.input[:] = [cast if read == name else read for read in node.input]
            nodes.append(node)
    replace_nodes(model.graph, nodes)
    word = TensorProto.DataType.Name(kind).lower()
    return [f"The input is {word} in the file; the normal form takes the same numbers as float32."]


def _dequantised(node: onnx.NodeProto, page: Page) -> list[onnx.NodeProto]:
    """(x − zero point) · scale for an x that is a float already; for one scale, which is all an image has."""
    make = onnx.helper.make_node
    x, scale, *zero = node.input
    if not zero or not zero[0]:
        return [make("Mul", [x, scale], node.output, name=node.name)]
    shift, moved = page.fresh(f"{node.output[0]}::zero"), page.fresh(f"{node.output[0]}::moved")
    return [
        make("Cast", [zero[0]], [shift], name=shift, to=TensorProto.FLOAT),
        make("Sub", [x, shift], [moved], name=moved),
        make("Mul", [moved, scale], node.output, name=node.name),
    ]
