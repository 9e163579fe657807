"""What follows the last convolutions, cut off where nothing here could compute or import it.

Detection and text networks end in operators that ONNX Runtime does not know (another program's own), or whose results
depend on the picture in shape and order. None of that may stop the analysis of the layers before it. Works on
protobuf; knows nothing of why a node is unwanted beyond its operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx

from filterscope.converters.errors import STILL_LISTED, Convolution, UnsupportedOperatorError
from filterscope.converters.known_operators import unknown_to
from filterscope.converters.operator_facts import FILE_CONVOLUTIONS, Kind, operators
from filterscope.converters.runtime import extract, reads

CLASSIC = "ai.onnx.ml"  # trees, tables and dictionaries
# Results that depend on the picture in shape or order, that are no tensors of numbers, or that are drawn at random.
UNDECIDED = operators(
    lambda facts: facts.kind in (Kind.SEQUENCE, Kind.CONTROL_FLOW, Kind.DATA_DEPENDENT, Kind.DECODING, Kind.RANDOM)
)


def cut_unknown(model: onnx.ModelProto) -> list[str]:
    """Cut off, in place, operators that neither ONNX nor ONNX Runtime nor the model itself defines.

    Returns:
        Notes, a sentence each.

    Raises:
        UnsupportedOperatorError: a convolution needs one; it lists all of them.
    """
    unknown = unknown_to(model)
    if not any(unknown(node) for node in model.graph.node):
        return []
    listed = convolutions(model)
    first, behind = _cut(model, unknown)
    layer = next((node for node in behind if node.op_type in FILE_CONVOLUTIONS), None)
    if layer is not None:
        domain = f" of {first.domain}" if first.domain else ""
        version = next((f" (version {e.version})" for e in model.opset_import if e.domain == first.domain), "")
        raise UnsupportedOperatorError(
            f"{first.name or first.output[0]}: operator {first.op_type}{domain}{version} is not known to ONNX Runtime, "
            f"and convolution {layer.name or layer.output[0]} needs what it computes{STILL_LISTED}",
            listed,
        )
    return [_note(first, len(behind), "which ONNX Runtime does not know")]


def convolutions(model: onnx.ModelProto) -> tuple[Convolution, ...]:
    """What nodes and weights alone tell of a model's convolutions, in the file's order."""
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type not in FILE_CONVOLUTIONS:
            continue
        own = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        place = 3 if node.op_type == "QLinearConv" else 1
        shape = tuple(int(extent) for extent in weights.get(node.input[place], ()))
        kernel = tuple(own.get("kernel_shape", shape[2:]))
        groups = int(own.get("group", 1))
        ends = (shape[0], shape[1] * groups) if shape else (None, None)
        before, after = ends if node.op_type == "ConvTranspose" else ends[::-1]
        held = [weights[name] for name in node.input[1:] if name in weights] if place == 1 else [shape]
        found.append(
            Convolution(
                node.name or node.output[0],
                node.op_type,
                kernel,
                tuple(own.get("strides", (1,) * len(kernel))),
                groups,
                before,
                after,
                sum(math.prod(int(extent) for extent in extents) for extents in held) if shape else None,
            )
        )
    return tuple(found)


def cut_undecided(model: onnx.ModelProto) -> list[str]:
    """Cut off, in place, what follows the last convolutions from operators on whose results depend on the picture.

    Returns:
        Notes, a sentence each.
    """
    producers = {name: node for node in model.graph.node for name in node.output if name}
    needed: set[str] = set()
    waiting = [name for node in model.graph.node if node.op_type in FILE_CONVOLUTIONS for name in reads(node)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(reads(producers[name]) if name in producers else ())

    def undecided(node: onnx.NodeProto) -> bool:
        unwanted = node.domain == CLASSIC or (node.op_type in UNDECIDED and not node.domain)
        return unwanted and needed.isdisjoint(node.output)

    if not any(undecided(node) for node in model.graph.node):
        return []
    first, behind = _cut(model, undecided)
    return [_note(first, len(behind), "whose result has no fixed shape, order or kind")]


def to_convolutions(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The part of a model that leads to its convolutions; None where that is all of it."""
    outputs = [node.output[0] for node in model.graph.node if node.op_type in FILE_CONVOLUTIONS]
    if not outputs:
        return None
    part = extract(model, outputs)
    if len(part.graph.node) == len(model.graph.node):
        return None
    part.producer_name, part.producer_version = model.producer_name, model.producer_version
    part.metadata_props.extend(model.metadata_props)
    return part


def _cut(
    model: onnx.ModelProto, unwanted: Callable[[onnx.NodeProto], bool]
) -> tuple[onnx.NodeProto, list[onnx.NodeProto]]:
    """Take out unwanted nodes and all that needs them; what they read of the network's values become outputs.

    Returns:
        The first node taken out, and all of them.
    """
    graph = model.graph
    gone: set[str] = set()
    from_layers: set[str] = set()
    kept, out = [], []
    for node in graph.node:
        read = list(reads(node))
        if unwanted(node) or not gone.isdisjoint(read):
            out.append(node)
            gone.update(node.output)
        else:
            kept.append(node)
            if node.op_type in FILE_CONVOLUTIONS or not from_layers.isdisjoint(read):
                from_layers.update(node.output)
    outputs = [value for value in graph.output if value.name not in gone]
    shown = {value.name for value in outputs}
    names = dict.fromkeys(name for node in out for name in reads(node))
    outputs += [onnx.ValueInfoProto(name=name) for name in names if name in from_layers and name not in shown]
    wanted = {value.name for value in outputs}
    leading = []
    for node in reversed(kept):
        if not wanted.isdisjoint(node.output):
            wanted.update(reads(node))
            leading.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in out]
    _replace(graph.output, outputs)
    _replace(graph.node, leading[::-1])
    return copies[0], copies


def _replace(field: object, items: list[onnx.NodeProto] | list[onnx.ValueInfoProto]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]  # type: ignore[attr-defined]
    field.extend(copies)  # type: ignore[attr-defined]


def _note(first: onnx.NodeProto, count: int, why: str) -> str:
    where = first.name or first.output[0]
    domain = f" of {first.domain}" if first.domain else ""
    return f"{count} nodes behind the last convolutions were cut off: {where} is a {first.op_type}{domain}, {why}."
