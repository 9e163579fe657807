"""What the optimiser must leave alone, and what it leaves over: second names for one value, undecided branches.

An Identity is taken out where nothing but its name is lost. It stays where it gives a graph output that is also the
image, a constant or another output. Works on onnx-ir graphs; knows nothing of files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import onnx_ir as ir

HIDDEN = "filterscope.hidden"  # nodes of a domain without an opset are skipped by the optimiser


@contextlib.contextmanager
def hidden(model: ir.Model) -> Iterator[None]:
    """Keep the optimiser from nodes that it mends wrongly.

    It would write out an If under names that may exist already, and give a value that is two outputs one of the two
    names.
    """
    touched = [node for node in model.graph if _must_stay(node) or (node.op_type in ("If", "Loop") and not node.domain)]
    for node in touched:
        node.domain = HIDDEN
    try:
        yield
    finally:
        for node in touched:
            node.domain = ""


def drop_aliases(model: ir.Model) -> None:
    """Take out each Identity that can be spared; a graph output keeps its name."""
    for node in list(model.graph):
        source = node.inputs[0] if node.inputs else None
        if node.op_type != "Identity" or node.domain or source is None or _must_stay(node):
            continue
        output = node.outputs[0]
        name, kept = output.name, output.is_graph_output()
        source.shape, source.type = source.shape or output.shape, source.type or output.type
        output.replace_all_uses_with(source, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        if kept:
            source.name = name


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
