"""The drawing of an architecture: where layers stand and how the curves between them run."""

import itertools
import re

import pytest

from filterscope.analyzer.run.records import GraphInfo, LayerInfo
from filterscope.reports.site import graph
from filterscope.reports.site.graph import (
    ACROSS,
    ARC,
    CLOSE,
    HEIGHT,
    INPUT,
    OUTPUT,
    TALLEST,
    WIDTH,
    draw,
    draw_outline,
    outline_sentence,
)

FACTS = {"op": "Conv", "rank": 2, "kernel": [3, 3], "in_channels": 3, "out_channels": 8, "groups": 1, "field": {}}


def network(*feeds):
    """Layers 0, 1, …, each with the layers that feed it."""
    return [
        LayerInfo.read(
            FACTS | {"index": index, "name": f"c{index}", "predecessors": [f"c{source}" for source in sources]}
        )
        for index, sources in enumerate(feeds)
    ]


def drawn(*feeds):
    """A network, each of whose layers has a page."""
    return draw(network(*feeds), range(len(feeds)))


def edges(drawing):
    return {(edge.source, edge.target): edge for edge in drawing.edges}


def heights(path):
    """The y of each point of a curve of absolute commands."""
    return [float(pair.split()[1]) for pair in re.findall(r"[\d.]+ [\d.]+", path)]


def test_a_chain_is_a_row_of_straight_curves():
    drawing = drawn([], [0], [1])
    assert [(edge.source, edge.target, edge.skips) for edge in drawing.edges] == [
        (INPUT, 0, 0), (0, 1, 0), (1, 2, 0), (2, OUTPUT, 0),
    ]  # fmt: skip
    assert len({y for edge in drawing.edges for y in heights(edge.path)}) == 1
    xs = [node.x for node in drawing.nodes if node.layer is not None]
    assert [b - a for a, b in itertools.pairwise(xs)] == [WIDTH + ACROSS] * 2


@pytest.mark.parametrize("skips", [1, 2, 5, 9])
def test_an_edge_over_layers_of_its_row_bows_out_above_them(skips):
    chain = [[], *([index] for index in range(skips)), [skips, 0]]
    drawing = drawn(*chain)
    edge = edges(drawing)[0, skips + 1]
    assert edge.skips == skips
    top = next(node.y for node in drawing.nodes if node.layer == 1)
    assert min(heights(edge.path)) == pytest.approx(top - min(ARC * skips, TALLEST))
    assert min(heights(edge.path)) > 0, "outside the drawing"
    start, end = (next(node for node in drawing.nodes if node.layer == layer) for layer in (0, skips + 1))
    assert edge.path.startswith(f"M{start.x + WIDTH:g} {start.y + HEIGHT / 2:g}C")
    assert edge.path.endswith(f"{end.x:g} {end.y + HEIGHT / 2:g}")
    assert ("H" in edge.path) == (skips > 0 and end.x - start.x - WIDTH > 180)


def test_an_edge_to_another_row_runs_beside_the_layers_between():
    """0 feeds 1 and 2, which stand side by side; 3 follows 1 alone and joins 2."""
    drawing = drawn([], [0], [0], [1], [3, 2])
    edge = edges(drawing)[2, 4]
    assert edge.skips == 1
    assert "H" not in edge.path
    rows = {node.layer: node.y for node in drawing.nodes}
    assert rows[1] != rows[2]


def test_no_layers_are_an_empty_drawing():
    drawing = draw([], [])
    assert (drawing.nodes, drawing.edges) == ((), ())


def test_a_layer_without_a_page_is_slim():
    drawing = draw(network([], [0], [1]), {0})
    kinds = {node.layer: (node.kind, node.width) for node in drawing.nodes if node.layer is not None}
    assert kinds == {0: ("card", WIDTH), 1: ("slim", graph.SLIM), 2: ("slim", graph.SLIM)}
    assert [node.text for node in drawing.nodes if node.kind == "slim"] == ["c1", "c2"]
    xs = [node.x for node in drawing.nodes]
    assert xs[3] - xs[2] == graph.SLIM + ACROSS


def test_more_layers_than_can_be_drawn_are_not(monkeypatch):
    monkeypatch.setattr(graph, "MOST", 2)
    assert draw(network([], [0], [1]), []) == graph.EMPTY


def outlined(*entries, left_out=""):
    """An outline of (kind, steps, layer, sources, nodes); each gives (8, 4, 4), or 8 numbers behind a dense layer."""
    rows = [
        {"kind": kind, "name": kind, "steps": steps.split(), "layer": layer, "sources": sources, "nodes": nodes}
        | {"shape": [8] if kind == "dense" else [8, 4, 4]}
        for kind, steps, layer, sources, nodes in entries
    ]
    nodes = sum(row["nodes"] for row in rows)
    return GraphInfo.read({"nodes": nodes, "left_out": left_out, "entries": rows})


BLOCK = outlined(
    ("input", "", None, [], 0),
    ("layer", "Conv", 0, [0], 1),
    ("chain", "relu6 MaxPool", None, [1], 2),
    ("layer", "Conv", 1, [2], 1),
    ("join", "Add", None, [2, 3], 1),
    ("join", "Concat", None, [4, 3], 1),
    ("dense", "Gemm", None, [5], 1),
    ("output", "", None, [6], 0),
)


def test_the_outline_draws_every_entry_by_its_kind():
    drawing = draw_outline(BLOCK, network([], [0]), {0})
    assert [(node.kind, node.text) for node in drawing.nodes] == [
        ("input", "input"),
        ("card", ""),
        ("slim", "ReLU6 · MaxPool"),
        ("slim", "c1"),
        ("sign", "+"),
        ("slim", "Concat"),
        ("dense", "Dense"),
        ("output", "output"),
    ]
    assert [node.layer for node in drawing.nodes] == [None, 0, None, 1, None, None, None, None]
    assert drawing.nodes[2].hint == "ReLU6 · MaxPool, gives 8\u00a0×\u00a04\u00a0×\u00a04"
    assert drawing.nodes[6].sub == "4 → 8"
    ways = {(edge.source, edge.target): edge.skips for edge in drawing.edges}
    assert ways == {(0, 1): 0, (1, 2): 0, (2, 3): 0, (2, 4): 1, (3, 4): 0, (4, 5): 0, (3, 5): 1, (5, 6): 0, (6, 7): 0}


def test_no_two_nodes_of_a_drawing_overlap():
    for drawing in (draw_outline(BLOCK, network([], [0]), {0, 1}), drawn([], [0], [0], [0, 1], [3, 2], [2])):
        for one, other in itertools.combinations(drawing.nodes, 2):
            apart = one.x + one.width <= other.x or other.x + other.width <= one.x
            assert apart or one.y + one.height <= other.y or other.y + other.height <= one.y, (one, other)
        assert all(node.x >= 0 and node.x + node.width <= drawing.width for node in drawing.nodes)
        assert all(node.y >= 0 and node.y + node.height <= drawing.height for node in drawing.nodes)


def test_columns_are_as_wide_as_what_stands_in_them():
    xs = [node.x for node in draw_outline(BLOCK, network([], [0]), {0}).nodes]
    assert xs[3] - xs[2] == graph.SLIM + CLOSE
    assert xs[2] - xs[1] == WIDTH + CLOSE


@pytest.mark.parametrize("outline", [None, outlined(left_out="all")])
def test_a_run_without_an_outline_has_no_drawing_of_it(outline):
    assert draw_outline(outline, network([]), {0}) == graph.EMPTY


SENTENCES = [
    (BLOCK, "All of the network’s 7 nodes are in it; 2 of them are folded into 1."),
    (outlined(("input", "", None, [], 0), ("layer", "Conv", 0, [0], 1)), "All of the network’s operations are drawn."),
    (outlined(("input", "", None, [], 0), left_out="chains"), "small operations between layers are left out"),
    (outlined(left_out="all"), "too many to be drawn"),
    (None, ""),
]


@pytest.mark.parametrize(("outline", "expected"), SENTENCES)
def test_what_is_folded_or_left_out_is_said(outline, expected):
    assert expected in outline_sentence(outline, draw_outline(outline, network([]), {0}))


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ("relu6 GlobalAveragePool Reshape", "ReLU6 · GlobalPool · …"),
        ("relu MaxPool", "ReLU · MaxPool"),
        ("BatchNormalization relu", "BatchNormalization · …"),
        ("MeanVarianceNormalization relu", "MeanVarian…rmalization"),
        ("", ""),
    ],
)
def test_a_slim_node_names_as_many_steps_as_it_has_room_for(steps, text):
    outline = outlined(("input", "", None, [], 0), ("chain", steps, None, [0], 1))
    node = draw_outline(outline, [], []).nodes[1]
    assert node.text == text
    assert len(node.text) <= graph.LETTERS
    assert "gives 8" in node.hint
