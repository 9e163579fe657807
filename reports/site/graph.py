"""The architecture as a drawing: columns by depth, branches side by side, edges as curves.

A layered layout: what is drawn stands in the column of its depth (the longest path to it); within a column it keeps
near the middle of what feeds it. Two drawings are made: of the convolutions alone, and of the outline of the whole
network. Knows layers and outlines; knows nothing of SVG or files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from filterscope.analyzer.run.records import EntryInfo, GraphInfo, LayerInfo
from filterscope.reports.page import words

WIDTH, HEIGHT = 108, 152  # of the card of a layer with a page
SLIM = 28  # width of what has no pictures: its name runs upwards
DENSE = 46  # width of a dense layer, whose name and size run upwards
JOIN = 32  # width and height of a sum or a product
END = 44  # height of an input or an output
ACROSS, DOWN = 36, 20  # gaps between columns and between rows
CLOSE = 22  # gap between the columns of the outline
MARGIN = 22
TALLEST = 90  # that an arc bows out at most
ARC = 14  # how far an edge that skips columns bows out, a column
MOST = 2000  # nodes of a drawing
LETTERS = 22  # of a name that runs upwards
INPUT, OUTPUT = -1, -2  # keys of the ends in the drawing of the convolutions
SHORT = {"GlobalAveragePool": "GlobalPool", "AveragePool": "AvgPool"}  # operators whose names are long
SIGNS = {"Add": "+", "Sum": "+", "Sub": "−", "Mul": "×", "Div": "÷"}  # joins that are drawn as a sign


@dataclass(frozen=True, slots=True)
class Node:
    """A place in the drawing."""

    key: int
    kind: str  # card, slim, dense, sign, input or output
    layer: int | None  # index of the layer that it is
    x: float  # left
    y: float  # top
    width: float
    height: float
    text: str  # on it; empty on a card, whose layer says it
    sub: str  # below that
    hint: str  # all that is known, for a tooltip


@dataclass(frozen=True, slots=True)
class Edge:
    """A curve from the right side of one node to the left side of another."""

    source: int  # keys
    target: int
    path: str  # SVG path data
    skips: int  # columns that it passes over


@dataclass(frozen=True, slots=True)
class Drawing:
    """A network laid out."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


EMPTY = Drawing(2 * MARGIN, 2 * MARGIN, (), ())


@dataclass(frozen=True, slots=True)
class _Item:
    """What is to be drawn, before it has a place."""

    key: int
    kind: str
    sources: tuple[int, ...]  # keys; none of them stands behind it
    width: float
    height: float
    layer: int | None = None
    text: str = ""
    sub: str = ""
    hint: str = ""


def draw(layers: Sequence[LayerInfo], seen: Collection[int], ends: tuple[str, str] = ("", "")) -> Drawing:
    """Lay out a network's convolution layers; empty where there are none, or too many to be drawn.

    Args:
        layers: in graph order.
        seen: indices of those with a page, which are cards.
        ends: sizes of the input and of the output, in words.
    """
    if not 0 < len(layers) <= MOST:
        return EMPTY
    by_name = {layer.name: layer.index for layer in layers}
    feeds = {
        layer.index: tuple(by_name[n] for n in layer.predecessors if by_name.get(n, layer.index) < layer.index)
        for layer in layers
    }
    feeding = {source for sources in feeds.values() for source in sources}
    loose = tuple(index for index in feeds if index not in feeding)
    items = [
        _end(INPUT, "input", (), ends[0]),
        *(_layer(layer.index, layer, feeds[layer.index] or (INPUT,), seen) for layer in layers),
        _end(OUTPUT, "output", loose, ends[1]),
    ]
    return _laid_out(items, ACROSS)


def draw_outline(graph: GraphInfo | None, layers: Sequence[LayerInfo], seen: Collection[int]) -> Drawing:
    """Lay out the outline of a network; empty where the run has none, or too large a one.

    Args:
        graph: of the run.
        layers: in graph order.
        seen: indices of those with a page, which are cards.
    """
    if graph is None or not 0 < len(graph.entries) <= MOST:
        return EMPTY
    by_index = {layer.index: layer for layer in layers}
    items = [_entry(place, entry, graph.entries, by_index, seen=seen) for place, entry in enumerate(graph.entries)]
    return _laid_out(items, CLOSE)


def outline_sentence(graph: GraphInfo | None, drawing: Drawing) -> str:
    """What of the network the drawing of its outline folds or leaves out; empty where there is none."""
    if graph is None:
        return ""
    folded = [entry for entry in graph.entries if entry.nodes > 1]
    total = words.count(graph.nodes, "node")
    if not drawing.nodes:
        return f"The whole network has {total}, too many to be drawn; the convolutions alone are."
    if graph.left_out:
        return f"Of the network’s {total}, small operations between layers are left out."
    if not folded:
        return "All of the network’s operations are drawn."
    inner = sum(entry.nodes for entry in folded)
    return f"All of the network’s {total} are in it; {inner:,} of them are folded into {len(folded):,}."


def _layer(key: int, layer: LayerInfo, sources: tuple[int, ...], seen: Collection[int]) -> _Item:
    brief = f"{layer.name}: {', '.join(words.in_brief(layer))}"
    if layer.index in seen:
        return _Item(key, "card", sources, width=WIDTH, height=HEIGHT, layer=layer.index, hint=brief)
    text = words.shortened(layer.name, LETTERS)
    return _Item(
        key, "slim", sources, width=SLIM, height=HEIGHT, layer=layer.index, text=text, hint=f"{brief}; not analysed"
    )


def _end(key: int, kind: str, sources: tuple[int, ...], size: str, *, name: str = "") -> _Item:
    hint = ": ".join(filter(None, [f"{kind} {name}".strip(), size]))
    return _Item(key, kind, sources, width=WIDTH, height=END, text=kind, sub=words.shortened(size, 20), hint=hint)


def _entry(
    key: int, entry: EntryInfo, entries: Sequence[EntryInfo], layers: Mapping[int, LayerInfo], *, seen: Collection[int]
) -> _Item:
    """What is drawn of one entry of the outline."""
    size, sources = words.times(entry.shape), tuple(entry.sources)
    if entry.kind in ("input", "output"):
        return _end(key, entry.kind, sources, size, name=entry.name)
    layer = layers.get(entry.layer) if entry.layer is not None else None
    if layer is not None:
        return _layer(key, layer, sources, seen)
    steps = " · ".join(words.step(name) for name in entry.steps)
    more = f" and {entry.nodes - len(entry.steps):,} more" if entry.nodes > len(entry.steps) == 8 else ""
    hint = f"{steps}{more}, gives {size}" if size else f"{steps}{more}"
    if entry.kind == "dense":
        inputs = [entries[source].shape[-1:] for source in entry.sources]
        sub = " → ".join(words.times(shape) for shape in (*inputs[:1], entry.shape[-1:]) if shape)
        return _Item(
            key, "dense", sources, width=DENSE, height=HEIGHT, text="Dense", sub=sub, hint=f"Dense layer ({hint})"
        )
    sign = SIGNS.get(entry.steps[0]) if entry.kind == "join" and entry.steps else None
    if sign:
        return _Item(key, "sign", sources, width=JOIN, height=JOIN, text=sign, hint=hint)
    text = _short([SHORT.get(name, words.step(name)) for name in entry.steps])
    return _Item(key, "slim", sources, width=SLIM, height=HEIGHT, text=text, hint=hint)


def _short(steps: Sequence[str]) -> str:
    """As many steps as a slim node has room for; the rest is in its tooltip."""
    for count in range(len(steps), 0, -1):
        text = " · ".join([*steps[:count], *(["…"] if count < len(steps) else [])])
        if len(text) <= LETTERS:
            return text
    return words.shortened(steps[0], LETTERS) if steps else ""


def _laid_out(items: Sequence[_Item], across: float) -> Drawing:
    """Places and curves of items, each of which stands behind its sources."""
    columns = _columns(items)
    rows = _rows(items, columns)
    widths: dict[int, float] = defaultdict(float)
    for item in items:
        widths[columns[item.key]] = max(widths[columns[item.key]], item.width)
    lefts, left = {}, float(MARGIN)
    for column in range(max(widths) + 1):
        lefts[column] = left
        left += widths[column] + across
    tallest = max(abs(row) for row in rows.values())
    arcs = max((columns[item.key] - columns[s] - 1 for item in items for s in item.sources), default=0)
    middle = MARGIN + min(ARC * max(0, arcs), TALLEST) + tallest * (HEIGHT + DOWN) + HEIGHT / 2
    nodes = {
        item.key: Node(
            key=item.key,
            kind=item.kind,
            layer=item.layer,
            x=lefts[columns[item.key]] + (widths[columns[item.key]] - item.width) / 2,
            y=middle + rows[item.key] * (HEIGHT + DOWN) - item.height / 2,
            width=item.width,
            height=item.height,
            text=item.text,
            sub=item.sub,
            hint=item.hint,
        )
        for item in items
    }
    edges = []
    for item in items:
        for source in item.sources:
            skips = columns[item.key] - columns[source] - 1
            edges.append(Edge(source, item.key, _curve(nodes[source], nodes[item.key], skips), skips))
    height = middle + tallest * (HEIGHT + DOWN) + HEIGHT / 2 + MARGIN
    return Drawing(left - across + MARGIN, height, tuple(nodes.values()), tuple(edges))


def _columns(items: Sequence[_Item]) -> dict[int, int]:
    """Column of each item: behind all that feed it, the outputs in the last one."""
    columns: dict[int, int] = {}
    for item in items:
        columns[item.key] = max((columns[source] + 1 for source in item.sources), default=0)
    last = max(columns.values())
    return columns | {item.key: last for item in items if item.kind == "output"}


def _rows(items: Sequence[_Item], columns: Mapping[int, int]) -> dict[int, float]:
    """Row of each item, 0 in the middle; halves where a column has an even number."""
    inside: dict[int, list[_Item]] = defaultdict(list)
    for item in items:
        inside[columns[item.key]].append(item)
    rows: dict[int, float] = {}
    for column in sorted(inside):
        middles = {}
        for item in inside[column]:
            feeding = [rows[source] for source in item.sources]
            middles[item.key] = sum(feeding) / len(feeding) if feeding else 0.0
        ordered = sorted(inside[column], key=lambda item: (middles[item.key], item.key))
        for position, item in enumerate(ordered):
            rows[item.key] = position - (len(ordered) - 1) / 2
    return rows


def _curve(source: Node, target: Node, skips: int) -> str:
    """SVG path data from the right side of a node to the left side of another.

    Args:
        skips: columns between them; a curve that would run through their nodes bows out over them.
    """
    x1, y1 = source.x + source.width, source.y + source.height / 2
    x2, y2 = target.x, target.y + target.height / 2
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
    bend = max(CLOSE / 2, (x2 - x1) / 2)
    return f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
