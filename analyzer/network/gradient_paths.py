"""To which values of a graph a gradient leads from the image.

Whole numbers, truth values and strings have none, nor has what is made of them alone; but it passes the integers of an
activation in 8 bits, as converters.torch_import.ops.quantization computes them. Knows graphs; computes nothing.
"""

from __future__ import annotations

from filterscope.converters.graph import Graph
from filterscope.converters.operator_facts import PASS_INTEGERS

FLOATS = ("float16", "float32", "float64", "bfloat16")


def has_gradient(graph: Graph, value: str, image: str) -> bool:
    """Whether a value is a float and depends on the image through floats, or roundings of them, alone."""
    return _is_float(graph, value) and image in graph.ancestors(
        value, through=lambda name: _is_float(graph, name) or _is_passed(graph, name)
    )


def _is_float(graph: Graph, value: str) -> bool:
    return graph.dtypes.get(value, "float32") in FLOATS


def _is_passed(graph: Graph, value: str) -> bool:
    """Whether integers are a rounded float, and everything that reads them turns them into floats again."""
    source: str | None = value
    while source is not None:  # the way to the rounding
        node = graph.producer(source)
        if node is None or node.op not in (*PASS_INTEGERS, "QuantizeLinear"):
            return False
        origin, source = source, None if node.op == "QuantizeLinear" else node.inputs[0]
    waiting = [origin]
    while waiting:
        name = waiting.pop()
        if name in graph.outputs:
            return False
        for reader in graph.consumers(name):
            if reader.op in PASS_INTEGERS:
                waiting.append(reader.outputs[0])
            elif reader.op != "DequantizeLinear":
                return False
    return True
