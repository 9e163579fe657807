"""Repair what ONNX Runtime reads although the standard does not allow it.

ONNX's checker is stricter than every runtime: it wants a name for the graph, nodes in order, constants of old files
among the inputs. Each repair mends one such thing in place and says so; none changes what is computed. They come when a
file is read, before the passes of the normal form: the repaired file is what the normal form is proven against. Knows
ONNX's protobuf alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx
from onnx import helper

from filterscope.converters.rewrites.opset_site import OPSET

FIRST_WITH_OPSETS = 3  # IR version that brought opset_import
FIRST_WITH_CONSTANTS_APART = 4  # IR version since which an initializer need not be an input too
VALUE_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def repair_irregularities(proto: onnx.ModelProto) -> list[str]:
    """Mend in place what ONNX's checker refuses and ONNX Runtime reads: `REPAIRS`, in their order.

    Returns:
        Notes, a sentence each.
    """
    return [note for repair in REPAIRS if (note := repair(proto))]


def _name_graph(proto: onnx.ModelProto) -> str:
    if proto.graph.name:
        return ""
    proto.graph.name = "graph"
    return "The graph has no name in the file; it was given one."


def _raise_ir_version(proto: onnx.ModelProto) -> str:
    graph = proto.graph
    listed = {value.name for value in graph.input}
    apart = any(tensor.name not in listed for tensor in graph.initializer)
    least = FIRST_WITH_CONSTANTS_APART if apart else FIRST_WITH_OPSETS
    if proto.ir_version >= least or not proto.opset_import:
        return ""
    written, proto.ir_version = proto.ir_version, least
    why = "its constants are not among its inputs" if apart else "it names its operator sets"
    return f"The file says IR version {written}, but {why}, as since version {least}; it was read as that."


def _drop_unnamed_constants(proto: onnx.ModelProto) -> str:
    tensors = list(proto.graph.initializer)
    named = [tensor for tensor in tensors if tensor.name]
    if len(named) == len(tensors):
        return ""
    _replace(proto.graph.initializer, named)
    return f"{len(tensors) - len(named)} constants without a name were left out."


def _drop_repeated_constants(proto: onnx.ModelProto) -> str:
    """ONNX Runtime takes the last of a name."""
    tensors = list(proto.graph.initializer)
    last = {tensor.name: tensor for tensor in tensors}
    if len(last) == len(tensors):
        return ""
    _replace(proto.graph.initializer, last.values())
    return f"{len(tensors) - len(last)} constants stand twice in the file; the last of a name was taken."


def _keep_one_kind_of_values(proto: onnx.ModelProto) -> str:
    """ONNX Runtime reads raw_data where there is some, whatever else there is; and a segment says nothing."""
    mended = 0
    for tensor in proto.graph.initializer:
        doubled = tensor.HasField("raw_data") and any(len(getattr(tensor, name)) for name in VALUE_FIELDS)
        if doubled:
            for name in VALUE_FIELDS:
                tensor.ClearField(name)
        if tensor.HasField("segment"):
            tensor.ClearField("segment")
            doubled = True
        mended += doubled
    return f"{mended} constants say their numbers twice, or in segments; the raw numbers were taken." if mended else ""


def _write_default_domain(proto: onnx.ModelProto) -> str:
    """ "ai.onnx" is the default domain's other name."""
    written = [entry for entry in proto.opset_import if entry.domain == "ai.onnx"]
    nodes = [node for node in proto.graph.node if node.domain == "ai.onnx"]
    plain = any(entry.domain == "" for entry in proto.opset_import)
    if not nodes and (plain or not written):
        return ""
    for entry in written:
        if not plain:
            entry.domain = ""
            plain = True
    for node in nodes:
        node.domain = ""
    return ""  # the same thing in other words


def _import_standard_operators(proto: onnx.ModelProto) -> str:
    """ONNX Runtime takes its newest version where a file names others' operators alone."""
    if not proto.opset_import or any(entry.domain == "" for entry in proto.opset_import):
        return ""
    proto.opset_import.append(helper.make_opsetid("", OPSET))
    return f"The file does not say which opset it uses; it was read as opset {OPSET}, as ONNX Runtime reads it."


def references_in(proto: onnx.ModelProto) -> list[onnx.AttributeProto]:
    """Attributes outside any function that refer to an attribute of the function that they would stand in."""
    nodes = [node for graph in _graphs(proto.graph) for node in graph.node]
    return [attribute for node in nodes for attribute in node.attribute if attribute.ref_attr_name]


def _drop_references(proto: onnx.ModelProto) -> str:
    """ONNX Runtime takes the values that stand beside them."""
    references = references_in(proto)
    for attribute in references:
        attribute.ClearField("ref_attr_name")
    return (
        f"{len(references)} attributes refer to a function's, outside any function; their own values were taken."
        if references
        else ""
    )


def _declare_image(proto: onnx.ModelProto) -> str:
    """An only input without a shape is an image, or nothing that is analysed here."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    if len(inputs) != 1 or not inputs[0].type.HasField("tensor_type"):
        return ""
    image = inputs[0]
    if image.type.tensor_type.HasField("shape"):
        return ""
    kind = image.type.tensor_type.elem_type
    image.CopyFrom(helper.make_tensor_value_info(image.name, kind, [None] * 4))
    return f"Input {image.name} declares no shape in the file; it was taken to have the four axes of an image."


def _drop_repeated_metadata(proto: onnx.ModelProto) -> str:
    """ONNX Runtime takes the last of a key."""
    last = {entry.key: entry for entry in proto.metadata_props}
    if len(last) == len(proto.metadata_props):
        return ""
    _replace(proto.metadata_props, last.values())
    return "Metadata keys stand twice in the file; the last of a key was taken."


def _sort(proto: onnx.ModelProto) -> str:
    """Nodes in an order in which they can run: each as early as what it reads allows."""
    moved = sum(_sorted_graph(graph) for graph in reversed(_graphs(proto.graph)))  # inner ones first, as sorting copies
    return "The nodes stand in the file in an order in which they cannot run; they were sorted." if moved else ""


def _graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """The graph and all inside its nodes."""
    graphs, waiting = [], [graph]
    while waiting:
        graphs.append(waiting.pop())
        for node in graphs[-1].node:
            for attribute in node.attribute:
                waiting.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)
    return graphs


def _sorted_graph(graph: onnx.GraphProto) -> bool:
    """Sort the nodes of one graph; whether one had to move. A cycle is left as it is."""
    from filterscope.converters.runtime import reads

    nodes = list(graph.node)
    writer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needed = [{writer[name] for name in reads(node) if name in writer} for node in nodes]
    if all(index > max(before, default=-1) for index, before in enumerate(needed)):
        return False
    readers: list[list[int]] = [[] for _ in nodes]
    for index, before in enumerate(needed):
        for source in before:
            readers[source].append(index)
    missing = [len(before) for before in needed]
    ready = [index for index, count in enumerate(missing) if not count]
    order: list[int] = []
    for index in ready:  # grows while it is read
        order.append(index)
        for reader in readers[index]:
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    if len(order) < len(nodes):
        return False
    _replace(graph.node, [nodes[index] for index in order])
    return True


def _replace(field: object, items: Iterable[object]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in items]  # type: ignore[attr-defined]
    del field[:]  # type: ignore[attr-defined]
    field.extend(copies)  # type: ignore[attr-defined]


REPAIRS: tuple[Callable[[onnx.ModelProto], str], ...] = (  # each returns a note, or "" where there was nothing to say
    _name_graph,
    _drop_unnamed_constants,
    _drop_repeated_constants,
    _keep_one_kind_of_values,
    _raise_ir_version,
    _write_default_domain,
    _import_standard_operators,
    _drop_references,
    _declare_image,
    _drop_repeated_metadata,
    _sort,
)
