"""The network as plain data: what leads to a value, against a walk over all nodes."""

import numpy as np
import pytest

from filterscope.converters.errors import ModelError
from filterscope.converters.graph import Graph, Node

NODES = [  # operator, inputs, outputs: a diamond, an absent input, a second output, and a part that leads nowhere
    ("Conv", ("x", "w"), ("c",)),
    ("Relu", ("c",), ("r",)),
    ("Clip", ("c", "", "most"), ("p", "q")),
    ("Add", ("r", "p"), ("s",)),
    ("Shape", ("x",), ("extents",)),
    ("Conv", ("s", "v"), ("y",)),
]
CONSTANTS = {name: np.zeros(1, np.float32) for name in ("w", "most", "v")}


@pytest.fixture
def graph():
    nodes = tuple(Node(f"n{i}", op, "", inputs, outputs, {}) for i, (op, inputs, outputs) in enumerate(NODES))
    return Graph(nodes, ("x",), ("y",), CONSTANTS, {}, {})


ANCESTORS = {  # values → what they are computed from, themselves among it
    "x": "x",
    "w": "w",
    "c": "c x w",
    "q": "q c most x w",
    "s": "s r p c most x w",
    "y": "y v s r p c most x w",
    "extents r": "extents r c x w",
    "": "",
}


@pytest.mark.parametrize("values", ANCESTORS)
def test_ancestors_are_all_that_a_value_is_computed_from(graph, values):
    assert graph.ancestors(*values.split()) == set(ANCESTORS[values].split())


def test_ancestors_are_what_a_node_by_node_walk_finds(graph):
    leads = {"y"}
    for node in reversed(graph.nodes):
        if leads & set(node.outputs):
            leads |= {name for name in node.inputs if name}
    assert graph.ancestors("y") == leads


def test_ancestors_do_not_go_past_a_value_that_does_not_count(graph):
    assert graph.ancestors("y", through=lambda name: name != "s") == {"y", "v"}
    assert graph.ancestors("s", through=lambda name: name not in ("r", "most")) == {"s", "p", "c", "x", "w"}
    assert graph.ancestors("y", through=lambda name: name != "y") == set()


def test_a_deep_graph_needs_no_recursion():
    nodes = tuple(Node(f"n{i}", "Relu", "", (f"v{i}",), (f"v{i + 1}",), {}) for i in range(20000))
    graph = Graph(nodes, ("v0",), ("v20000",), {}, {}, {})
    assert len(graph.ancestors("v20000")) == 20001


BROKEN = {  # nodes as (name, inputs, outputs), the error
    "two of one name": ([("a", "x", "c"), ("a", "c", "y")], "^a: two nodes have this name"),
    "read before it is written": ([("a", "c", "y"), ("b", "x", "c")], r"^a \(Relu\): reads 'c', which no node before"),
    "written twice": ([("a", "x", "y"), ("b", "x", "y")], r"^b \(Relu\): writes 'y', which exists already"),
    "written over an initializer": ([("a", "x", "w"), ("b", "x", "y")], r"^a \(Relu\): writes 'w', which exists"),
    "an output that nobody writes": ([("a", "x", "c")], "^graph output 'y': no node writes it"),
}


@pytest.mark.parametrize(("nodes", "words"), BROKEN.values(), ids=BROKEN)
def test_a_graph_that_cannot_run_names_the_node(nodes, words):
    built = tuple(Node(name, "Relu", "", (read,), (written,), {}) for name, read, written in nodes)
    with pytest.raises(ModelError, match=words):
        Graph(built, ("x",), ("y",), CONSTANTS, {}, {}).check()


def test_an_absent_input_or_output_is_nobodys():
    node = Node("a", "Clip", "", ("x", "", "w"), ("y", ""), {})
    Graph((node, Node("b", "Clip", "", ("y", ""), ("z", ""), {})), ("x",), ("y",), CONSTANTS, {}, {}).check()
