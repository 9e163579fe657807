"""To which values of a graph a gradient leads from the image.

Whole numbers, truth values and strings have none, nor has what is made of them alone; but a value that a network rounds
to 8 bits passes it on unchanged, as the twin computes it. Knows graphs; computes nothing.
"""

from __future__ import annotations

from converters.graph import Graph

EIGHT_BITS = ("int8", "uint8")
FLOATS = ("float16", "float32", "float64", "bfloat16")


def has_gradient(graph: Graph, value: str, image: str) -> bool:
    """Whether a value is a float, or rounded from one, and depends on the image through such values alone."""
    stack, seen = [value], set[str]()
    while stack:
        name = stack.pop()
        if name in seen or not (graph.dtypes.get(name, "float32") in FLOATS or _is_rounded(graph, name)):
            continue
        if name == image:
            return True
        seen.add(name)
        node = graph.producer(name)
        stack.extend(() if node is None else (part for part in node.inputs if part))
    return False


def _is_rounded(graph: Graph, value: str) -> bool:
    """Whether a value of 8 bits was rounded from a float, and perhaps moved or pooled since."""
    while graph.dtypes.get(value) in EIGHT_BITS:
        node = graph.producer(value)
        if node is None or not node.inputs:
            return False
        if node.op == "QuantizeLinear":
            return True
        value = node.inputs[0]
    return False
