"""Graphs made of nodes, without a file."""

import numpy as np

from filterscope.converters.graph import Graph, Node

KERNEL = np.zeros((8, 3, 3, 3), np.float32)


def graph_of(nodes, constants=None, shape=("N", 3, 32, 32)):
    """A graph whose image input is "x"; nodes are (operator, inputs, output), and attributes where there are some."""
    constants = {name: np.asarray(array) for name, array in (constants or {}).items()}
    built = tuple(
        Node(f"n{i}", op, "", tuple(inputs.split()), (output,), dict(*attributes))
        for i, (op, inputs, output, *attributes) in enumerate(nodes)
    )
    graph = Graph(built, ("x",), (built[-1].outputs[0],), constants, {"x": shape}, {"x": "float32"})
    graph.check()
    return graph
