"""The drawing of an architecture: where layers stand and how the curves between them run."""

import itertools
import re

import pytest

from filterscope.analyzer.run.records import LayerInfo
from filterscope.reports.site.graph import ACROSS, ARC, HEIGHT, TALLEST, WIDTH, draw


def network(*feeds):
    """Layers 0, 1, …, each with the layers that feed it."""
    return [
        LayerInfo.read({"index": index, "name": f"c{index}", "predecessors": [f"c{source}" for source in sources]})
        for index, sources in enumerate(feeds)
    ]


def edges(drawing):
    return {(edge.source, edge.target): edge for edge in drawing.edges}


def heights(path):
    """The y of each point of a curve of absolute commands."""
    return [float(pair.split()[1]) for pair in re.findall(r"[\d.]+ [\d.]+", path)]


def test_a_chain_is_a_row_of_straight_curves():
    drawing = draw(network([], [0], [1]))
    assert [(edge.source, edge.target, edge.skips) for edge in drawing.edges] == [
        (None, 0, 0), (0, 1, 0), (1, 2, 0), (2, None, 0),
    ]  # fmt: skip
    assert len({y for edge in drawing.edges for y in heights(edge.path)}) == 1
    xs = [node.x for node in drawing.nodes if node.layer is not None]
    assert [b - a for a, b in itertools.pairwise(xs)] == [WIDTH + ACROSS] * 2


@pytest.mark.parametrize("skips", [1, 2, 5, 9])
def test_an_edge_over_layers_of_its_row_bows_out_above_them(skips):
    chain = [[], *([index] for index in range(skips)), [skips, 0]]
    drawing = draw(network(*chain))
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
    drawing = draw(network([], [0], [0], [1], [3, 2]))
    edge = edges(drawing)[2, 4]
    assert edge.skips == 1
    assert "H" not in edge.path
    rows = {node.layer: node.y for node in drawing.nodes}
    assert rows[1] != rows[2]


def test_no_layers_are_an_empty_drawing():
    drawing = draw([])
    assert (drawing.nodes, drawing.edges) == ((), ())
