"""Limits on the size of a network, checked on the file alone, before anything of it is evaluated.

Each limit lies far above every network that we know, and far below what would fill a machine. Knows ONNX's protobuf;
loads and computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.message import Message

from filterscope.converters.errors import LimitError

Nodes = onnx.GraphProto | onnx.FunctionProto

FEW_NODES = 5_000  # that functions may always come to; beyond it, GROWTH times what the file holds
GROWTH = 20
MOST_NODES = 50_000  # functions and loops written out; the largest exports that we know hold some 20,000
MOST_PARTS = 100_000  # tensors, inputs, attributes, notes: of one kind in one place; no export has more than nodes
LONGEST_NAME = 1 << 12  # characters; a module path of PyTorch takes 200
LONGEST_NAMES = 1 << 25  # of all names together; those of 20,000 nodes take 6 million
DEEPEST_NESTING = 16  # branches and loops inside one another; protobuf itself reads some 30
DEEPEST_CALLS = 32  # functions that call functions; exporters of PyTorch write four
LARGEST_WINDOW = 1 << 16  # kernel, stride, dilation, padding: no image is so wide
LARGEST_VALUE = 1 << 27  # elements of one value for one image, 512 MiB in float32
MOST_ELEMENTS = 1 << 40  # dimensions of a declared input beyond it are no picture's

PROSE = frozenset(("doc_string", "value", "dim_param"))  # texts that may be long: remarks, notes, sizes in symbols
WINDOW_ATTRIBUTES = frozenset(
    ("kernel_shape", "strides", "dilations", "pads", "output_padding", "output_shape", "blocksize")
)


def check_structure(proto: onnx.ModelProto) -> None:
    """Judge names, nesting, nodes, calls of functions, windows and declared inputs.

    Raises:
        LimitError: one of them is beyond its limit, or a name is not text. The message names no file.
    """
    _check_names(proto)
    _check_nesting(proto)
    _check_expansion(proto)
    for node in all_nodes(proto):
        _check_windows(node)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        _check_extents(value)


def all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Nodes of the graph, of its functions and of all graphs inside them."""
    waiting: list[Nodes] = [proto.graph, *proto.functions]
    while waiting:
        for node in waiting.pop().node:
            yield node
            waiting.extend(inner_graphs(node))


def all_messages(proto: Message) -> Iterator[Message]:
    """The message and all inside it, wherever they stand. Without recursion: the file decides how deep it is."""
    waiting = [proto]
    while waiting:
        message = waiting.pop()
        yield message
        for field, content in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                waiting.extend(reversed(content) if _is_repeated(content) else [content])


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Branches and bodies of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _check_nesting(proto: onnx.ModelProto) -> None:
    waiting: list[tuple[Nodes, int]] = [(graph, 0) for graph in (proto.graph, *proto.functions)]
    while waiting:
        graph, depth = waiting.pop()
        if depth > DEEPEST_NESTING:
            raise LimitError(
                f"its branches and loops are nested {depth} deep; at most {DEEPEST_NESTING} levels are read"
            )
        waiting.extend((inner, depth + 1) for node in graph.node for inner in inner_graphs(node))


def _check_expansion(proto: onnx.ModelProto) -> None:
    """Count the nodes that there would be with every function written out, without writing any out."""
    functions = {}
    for function in proto.functions:
        key = (function.domain, function.name, function.overload)
        if key in functions:
            raise LimitError(f"its function {function.name[:60]!r} is defined twice; the file is damaged")
        functions[key] = function
    sizes: dict[tuple[str, str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        if depth > DEEPEST_CALLS + DEEPEST_NESTING:
            raise LimitError(f"its functions call one another more than {DEEPEST_CALLS} deep, or without end")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            if key in functions:
                if key not in sizes:
                    sizes[key] = size(functions[key].node, depth + 1)
                total += sizes[key]
            else:
                total += 1
            total += sum(size(graph.node, depth + 1) for graph in inner_graphs(node))
        return total

    for function in proto.functions:
        size(function.node, 0)
    total = size(proto.graph.node, 0)
    stored = sum(1 for _ in all_nodes(proto))
    if total > MOST_NODES or total > max(FEW_NODES, GROWTH * stored):
        raise LimitError(
            f"its {stored:,} nodes come to {total:,} with its functions written out; at most "
            f"{min(MOST_NODES, max(FEW_NODES, GROWTH * stored)):,} are analysed"
        )


def _check_windows(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name not in WINDOW_ATTRIBUTES:
            continue
        for number in (attribute.i, *attribute.ints):
            if abs(number) > LARGEST_WINDOW:
                raise LimitError(
                    f"{node.op_type} {(node.name or ' '.join(node.output))[:60]!r}: its {attribute.name} {number} is "
                    f"wider than any image; at most {LARGEST_WINDOW} is read"
                )


def _check_extents(value: onnx.ValueInfoProto) -> None:
    total = 1
    for dimension in value.type.tensor_type.shape.dim:
        extent = dimension.dim_value
        total *= extent if extent > 0 else 1
        if total > MOST_ELEMENTS:
            extents = [each.dim_value or each.dim_param for each in value.type.tensor_type.shape.dim]
            raise LimitError(f"value {value.name[:60]!r} is declared {extents[:8]}: more than any memory holds")


def check_values(values: Iterable[onnx.ValueInfoProto]) -> None:
    """Judge the values of a network by their inferred shapes; a free dimension counts as 1.

    Raises:
        LimitError: one of them would not fit. The message names no file.
    """
    for value in values:
        extents = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        check_extents(value.name, [extent for extent in extents if extent])


def check_extents(name: str, extents: Iterable[int]) -> None:
    """Judge one value for one image; a negative extent is for ONNX Runtime to refuse.

    Raises:
        LimitError: it would not fit.
    """
    total = 1
    extents = list(extents)
    for extent in extents:
        total *= max(int(extent), 0)
        if total > LARGEST_VALUE:
            raise LimitError(
                f"value {name[:60]!r} would have the shape {extents[:8]} for one image; more than "
                f"{LARGEST_VALUE:,} numbers in one value are not computed"
            )


def _check_names(proto: onnx.ModelProto) -> None:
    """Every text of the file is UTF-8: protobuf gives bytes, or fails, where it is not. Names are short, lists too.

    Walks all messages but the numbers in tensors. Without recursion: the file decides how deep it is.
    """
    waiting: list[Message] = [proto]
    total = 0
    while waiting:
        message = waiting.pop()
        try:
            fields = message.ListFields()
        except UnicodeDecodeError as error:
            raise LimitError("holds a name that is no text; the file is damaged") from error
        for field, content in fields:
            if field.type == field.TYPE_MESSAGE:
                waiting.extend(_parts(field.name, content) if _is_repeated(content) else [content])
            elif field.type == field.TYPE_STRING:
                longest, length = _lengths(content)
                if field.name in PROSE:
                    continue
                total += length
                if longest > LONGEST_NAME or total > LONGEST_NAMES:
                    raise LimitError(
                        f"holds a name of {longest:,} characters, and names of {total:,}; at most {LONGEST_NAME:,} and "
                        f"{LONGEST_NAMES:,} are read"
                    )


def _is_repeated(content: object) -> bool:
    return not isinstance(content, Message)


def _parts(kind: str, content: object) -> list[Message]:
    """The messages of a repeated field, if they are not too many."""
    parts: list[Message] = list(content)  # type: ignore[call-overload]
    if len(parts) > MOST_PARTS:
        raise LimitError(f"holds {len(parts):,} parts of the kind {kind} in one place; at most {MOST_PARTS:,} are read")
    return parts


def _lengths(content: object) -> tuple[int, int]:
    """Characters of the longest text, and of all together."""
    longest = total = 0
    for text in [content] if isinstance(content, (str, bytes)) else content:  # type: ignore[attr-defined]
        if not isinstance(text, str):
            raise LimitError("a node holds a name that is no text; the file is damaged")
        longest, total = max(longest, len(text)), total + len(text)
    return longest, total
