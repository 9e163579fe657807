"""Nodes hidden from onnxscript's optimiser because it rewrites them wrongly, and Identity nodes that it leaves behind.

An Identity is taken out where nothing but its name is lost. It stays where it gives a graph output that is also the
image, a constant or another output. Works on onnx-ir graphs; knows nothing of files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from filterscope.converters.normal_form.ir_values import constant
from filterscope.converters.normal_form.output_sizes import may_differ, undisputed_extents

HIDDEN = "filterscope.hidden"  # nodes of a domain without an opset are skipped by the optimiser


@contextlib.contextmanager
def hide_from_optimiser(model: ir.Model) -> Iterator[None]:
    """Hide from the optimiser the nodes that it rewrites wrongly.

    It would write out an If under names that may exist already, give a value that is two outputs one of the two
    names, and infer a size that a node does not give.
    """
    touched = [
        node
        for node in model.graph
        if not node.domain and (_must_stay(node) or node.op_type in ("If", "Loop") or _is_rounded(node))
    ]
    for node in touched:
        node.domain = HIDDEN
    try:
        yield
    finally:
        for node in touched:
            node.domain = ""


def remove_identities(model: ir.Model) -> None:
    """Remove each Identity that can be spared; a graph output keeps its name."""
    for node in list(model.graph):
        source = node.inputs[0] if node.inputs else None
        if node.op_type != "Identity" or node.domain or source is None or _must_stay(node):
            continue
        output = node.outputs[0]
        name, is_output = output.name, output.is_graph_output()
        source.shape, source.type = source.shape or output.shape, source.type or output.type
        output.replace_all_uses_with(source, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        if is_output:
            source.name = name


def declare_undisputed_sizes(model: ir.Model) -> int:
    """Declare the sizes on which ONNX's inference and ONNX Runtime agree; returns how many were not declared before."""
    news = 0
    for node in model.graph:
        source = node.inputs[0] if node.inputs else None
        if source is None or source.shape is None or not _is_rounded(node):
            continue
        attributes = _plain_attributes(node)
        extents = [extent if isinstance(extent, int) else None for extent in source.shape]
        scales, sizes = _input(node, 2), _input(node, 3)
        after = undisputed_extents(node.op_type, attributes, extents, scales=scales, sizes=sizes)
        if after and extents[0] is None:
            after[0] = source.shape[0]  # the batch by its name
        for output, kind in zip(node.outputs, (source.type, ir.TensorType(ir.DataType.INT64)), strict=False):
            if output.shape is None or list(output.shape) != after:
                output.shape, output.type = ir.Shape(after), output.type or kind
                news += 1
    return news


def _is_rounded(node: ir.Node) -> bool:
    return not node.domain and may_differ(node.op_type, _plain_attributes(node), _input(node, 2))


def _input(node: ir.Node, place: int) -> np.ndarray | None:
    """Scales or sizes of a Resize, where they are constant."""
    return constant(node.inputs[place]) if node.op_type == "Resize" and len(node.inputs) > place else None


def _plain_attributes(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _must_stay(node: ir.Node) -> bool:
    """Whether a node is an Identity that gives a graph output, and whose source has a name of its own to keep."""
    if node.op_type != "Identity" or not node.outputs[0].is_graph_output():
        return False
    source = node.inputs[0]
    while source is not None:
        producer = source.producer()
        if source.is_graph_output() or producer is None:  # another output, the image or a constant
            return True
        if producer.op_type != "Identity":
            return False
        source = producer.inputs[0]
    return False
