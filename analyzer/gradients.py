"""To which values of a graph a gradient leads from the image.

Whole numbers, truth values and strings have none, nor has what is made of them alone. Knows graphs; computes nothing.
"""

from __future__ import annotations

from converters.graph import Graph

FLOATS = ("float16", "float32", "float64", "bfloat16")


def has_gradient(graph: Graph, value: str, image: str) -> bool:
    """Whether a value is a float and depends on the image through floats alone."""
    stack, seen = [value], set[str]()
    while stack:
        name = stack.pop()
        if name in seen or graph.dtypes.get(name, "float32") not in FLOATS:
            continue
        if name == image:
            return True
        seen.add(name)
        node = graph.producer(name)
        stack.extend(() if node is None else (part for part in node.inputs if part))
    return False
