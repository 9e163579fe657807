"""The architecture as a drawing: columns by depth, branches side by side, edges as curves.

A layered layout: a layer stands in the column of its depth (convolutions before it on the longest path); within a
column layers keep near the middle of what feeds them. Knows layers; knows nothing of SVG or files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from filterscope.analyzer.run.records import LayerInfo

WIDTH, HEIGHT = 108, 152  # of a node
ACROSS, DOWN = 36, 20  # gaps between columns and between rows
MARGIN = 22
TALLEST = 90  # that an arc bows out at most
ARC = 14  # how far an edge that skips columns bows out, a column


@dataclass(frozen=True, slots=True)
class Node:
    """A place in the drawing."""

    layer: int | None  # index of the layer; null for the input (before all) and the output (after all)
    x: float  # left
    y: float  # top


@dataclass(frozen=True, slots=True)
class Edge:
    """A curve from the right side of one node to the left side of another."""

    source: int | None
    target: int | None
    path: str  # SVG path data
    skips: int  # columns that it passes over


@dataclass(frozen=True, slots=True)
class Drawing:
    """A network laid out."""

    width: float
    height: float
    nodes: tuple[Node, ...]  # the input first, then the layers, the output last
    edges: tuple[Edge, ...]


def draw(layers: Sequence[LayerInfo]) -> Drawing:
    """Lay out a network's convolution layers, in graph order."""
    if not layers:
        return Drawing(2 * MARGIN, 2 * MARGIN, (), ())
    by_name = {layer.name: layer.index for layer in layers}
    feeds = {layer.index: [by_name[n] for n in layer.predecessors if n in by_name] for layer in layers}
    rows, columns = _places(layers, feeds)
    last = max(columns.values()) + 1
    tallest = max(abs(row) for row in rows.values())
    arcs = max((columns[b] - columns[a] - 1 for b, sources in feeds.items() for a in sources), default=0)
    bow = min(ARC * max(0, arcs), TALLEST)
    middle = MARGIN + bow + tallest * (HEIGHT + DOWN) + HEIGHT / 2

    def place(column: int, row: float) -> tuple[float, float]:
        return MARGIN + column * (WIDTH + ACROSS), middle + row * (HEIGHT + DOWN) - HEIGHT / 2

    spots: dict[int | None, tuple[float, float]] = {i: place(columns[i] + 1, rows[i]) for i in rows}
    nodes = [Node(None, *place(0, 0)), *(Node(i, *spots[i]) for i in rows), Node(None, *place(last + 1, 0))]
    edges = []
    for target, sources in feeds.items():
        for source in sources or (None,):
            start, skips = place(0, 0), columns[target]
            if source is not None:
                start, skips = spots[source], columns[target] - columns[source] - 1
            edges.append(Edge(source, target, _curve(start, spots[target], skips), skips))
    feeding = {source for sources in feeds.values() for source in sources}
    ends = [index for index in rows if index not in feeding]
    for source in ends:
        skips = last - columns[source] - 1
        edges.append(Edge(source, None, _curve(spots[source], place(last + 1, 0), skips), skips))
    width = 2 * MARGIN + (last + 2) * (WIDTH + ACROSS) - ACROSS
    height = middle + tallest * (HEIGHT + DOWN) + HEIGHT / 2 + MARGIN
    return Drawing(width, height, tuple(nodes), tuple(edges))


def _places(layers: Sequence[LayerInfo], feeds: dict[int, list[int]]) -> tuple[dict[int, float], dict[int, int]]:
    """Row (0 is the middle) and column of each layer."""
    columns: dict[int, int] = {}
    for layer in layers:  # graph order: what feeds a layer stands before it
        index = layer.index
        columns[index] = max((columns[i] + 1 for i in feeds[index] if i in columns), default=0)
    inside: dict[int, list[int]] = defaultdict(list)
    for index, column in columns.items():
        inside[column].append(index)
    rows: dict[int, float] = {}
    for column in sorted(inside):
        middles = {}
        for index in inside[column]:
            feeding = [rows[i] for i in feeds[index] if i in rows]
            middles[index] = sum(feeding) / len(feeding) if feeding else 0.0
        ordered = sorted(inside[column], key=lambda index: (middles[index], index))
        for position, index in enumerate(ordered):
            rows[index] = position - (len(ordered) - 1) / 2
    return {layer.index: rows[layer.index] for layer in layers}, columns


def _curve(start: tuple[float, float], end: tuple[float, float], skips: int) -> str:
    """SVG path data from the right side of a node to the left side of another.

    Args:
        start: (left, top) of the one.
        end: (left, top) of the other.
        skips: columns between them; a curve that would run through their nodes bows out over them.
    """
    x1, y1, x2, y2 = start[0] + WIDTH, start[1] + HEIGHT / 2, end[0], end[1] + HEIGHT / 2
    if skips > 0 and abs(y1 - y2) < 1:  # over the nodes between
        top = y1 - HEIGHT / 2 - min(ARC * skips, TALLEST)
        bend = min(60.0, (x2 - x1) / 2)
        flat = (x2 - x1) > 3 * bend
        if flat:
            return (
                f"M{x1:g} {y1:g}C{x1 + ACROSS / 2:g} {y1:g} {x1 + ACROSS / 2:g} {top:g} {x1 + bend:g} {top:g}"
                f"H{x2 - bend:g}C{x2 - ACROSS / 2:g} {top:g} {x2 - ACROSS / 2:g} {y2:g} {x2:g} {y2:g}"
            )
        return f"M{x1:g} {y1:g}C{x1 + ACROSS:g} {top:g} {x2 - ACROSS:g} {top:g} {x2:g} {y2:g}"
    bend = max(ACROSS / 2, (x2 - x1) / 2)
    return f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
