"""The outline of a network: what stands by itself, what is folded, and how much a file of it may hold."""

import numpy as np
import pytest

from filterscope.analyzer.network import outline as module
from filterscope.analyzer.network.outline import outline, outline_json
from support.graphs import KERNEL, graph_of

K = {"k": KERNEL}
DENSE = {"w": np.zeros((4, 5), np.float32), "b": np.zeros(5, np.float32)}


def folded(nodes, constants=None, **more):
    """(kind, steps, sources) of each entry."""
    entries = outline(graph_of(nodes, constants or K, **more), [], {})
    return [(entry.kind, " ".join(entry.steps), list(entry.sources)) for entry in entries]


def test_small_operations_between_convolutions_are_one_entry():
    nodes = [("Conv", "x k", "a"), ("Relu", "a", "b"), ("MaxPool", "b", "c"), ("Conv", "c k", "d")]
    assert folded(nodes) == [
        ("input", "", []),
        ("layer", "Conv", [0]),
        ("chain", "relu MaxPool", [1]),
        ("layer", "Conv", [2]),
        ("output", "", [3]),
    ]


def test_a_value_that_something_else_reads_ends_a_chain():
    """A residual block with its activation first: the sum is read by the block and by the way around it."""
    nodes = [
        ("Conv", "x k", "a"),
        ("Relu", "a", "b"),
        ("MaxPool", "b", "c"),
        ("Conv", "b k", "d"),
        ("Add", "c d", "e"),
        ("Relu", "e", "f"),
    ]
    assert folded(nodes) == [
        ("input", "", []),
        ("layer", "Conv", [0]),
        ("chain", "relu", [1]),
        ("chain", "MaxPool", [2]),
        ("layer", "Conv", [2]),
        ("join", "Add", [3, 4]),
        ("chain", "relu", [5]),
        ("output", "", [6]),
    ]


SPELLINGS = [  # nodes that compute a non-linearity of `a`, what it is called
    ([("Sigmoid", "a", "b"), ("Mul", "a b", "c")], "silu"),
    (
        [("Add", "a three", "b"), ("Clip", "b zero six", "c"), ("Mul", "a c", "d"), ("Div", "d six", "e")],
        "hardswish",
    ),
    ([("Clip", "a zero six", "b")], "relu6"),
]
NUMBERS = K | {name: np.float32(value) for name, value in (("three", 3), ("zero", 0), ("six", 6))}


@pytest.mark.parametrize(("nodes", "name"), SPELLINGS)
def test_a_non_linearity_written_out_is_one_step(nodes, name):
    last = nodes[-1][2]
    spelt = folded([("Conv", "x k", "a"), *nodes, ("MaxPool", last, "p"), ("Conv", "p k", "q")], NUMBERS)
    assert [entry for entry in spelt if entry[0] == "chain"] == [("chain", f"{name} MaxPool", [1])]


def test_a_gate_is_a_join_of_what_is_gated_and_the_gate():
    nodes = [
        ("Conv", "x k", "a"),
        ("GlobalAveragePool", "a", "b"),
        ("Conv", "b k", "c"),
        ("Sigmoid", "c", "d"),
        ("Mul", "a d", "e"),
    ]
    assert folded(nodes)[-2:] == [("join", "Mul", [1, 4]), ("output", "", [5])]


def test_two_ends_of_one_operation_are_two_entries():
    nodes = [
        ("Conv", "x k", "a"),
        ("Relu", "a", "b"),
        ("MaxPool", "b", "c"),
        ("AveragePool", "b", "d"),
        ("Concat", "c d", "e"),
        ("Conv", "e k", "f"),
    ]
    ends = [("chain", "relu", [1]), ("chain", "MaxPool", [2]), ("chain", "AveragePool", [2])]
    assert folded(nodes)[2:6] == [*ends, ("join", "Concat", [3, 4])]
    nodes[4:] = [("Conv", "c k", "e"), ("Conv", "d k", "f"), ("Concat", "e f", "g")]
    assert [entry for entry in folded(nodes) if entry[0] == "chain"] == ends


def test_a_product_with_constant_weights_is_dense_and_holds_its_bias():
    nodes = [("Flatten", "x", "a"), ("MatMul", "a w", "c"), ("Add", "c b", "d"), ("Relu", "d", "e")]
    assert folded(nodes, DENSE)[1:] == [
        ("chain", "Flatten", [0]),
        ("dense", "MatMul Add", [1]),
        ("chain", "relu", [2]),
        ("output", "", [3]),
    ]


def test_what_only_reads_shapes_is_no_part_of_it():
    nodes = [("Shape", "x", "s"), ("Conv", "x k", "a"), ("Reshape", "a s", "b")]
    assert folded(nodes) == [
        ("input", "", []), ("layer", "Conv", [0]), ("chain", "Reshape", [1]), ("output", "", [2]),
    ]  # fmt: skip


def long_network(layers):
    nodes = [("Conv", "x k", "a0")]
    for i in range(layers):
        nodes += [("Relu", f"a{i}", f"b{i}"), ("Conv", f"b{i} k", f"a{i + 1}")]
    return graph_of(nodes, K)


@pytest.mark.parametrize(("most", "left_out", "entries"), [(100, "", 23), (20, "chains", 13), (5, "all", 0)])
def test_a_large_outline_is_left_out_in_part(most, left_out, entries):
    made = outline_json(long_network(10), [], {}, most=most)
    assert (made["left_out"], len(made["entries"]), made["nodes"]) == (left_out, entries, 21)
    for place, entry in enumerate(made["entries"]):
        assert all(source < place for source in entry["sources"])
        assert entry["kind"] == "input" or entry["sources"]


def test_an_outline_with_too_many_ways_is_left_out(monkeypatch):
    monkeypatch.setattr(module, "MOST_WAYS", 3)
    assert outline_json(long_network(10), [], {})["left_out"] == "all"


@pytest.mark.parametrize("skip", [False, True])
def test_twenty_thousand_nodes_are_outlined_in_seconds(skip):
    """Also where one operation at the end reads what the first has made, so that all between are one step."""
    nodes = [("Conv", "x k", "v0"), *(("Abs", f"v{i}", f"v{i + 1}") for i in range(20_000))]
    nodes += [("Add", "v20000 v1", "end")] if skip else []
    made = outline_json(graph_of(nodes, K), [], {})
    assert made["nodes"] == len(nodes)
    assert max(len(entry["steps"]) for entry in made["entries"]) == module.MOST_STEPS
