"""The outline of a network: its graph as a reader wants to see it drawn, small operations folded.

Inputs, outputs, convolution layers, dense layers and joins are entries of their own. What lies between them, such as
an activation and a pool, is folded into one entry, unless others read a value in its midst. Knows graphs; knows
nothing of drawings or files.

Example: Conv → Relu → MaxPool → Conv becomes layer → "relu, MaxPool" → layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.nonlinearity import ACTIVATION_NAMES, LIMITS, nonlinearity
from filterscope.converters.graph import Graph, Node
from filterscope.converters.operator_facts import CONVOLUTIONS, MATRIX_PRODUCTS, Kind, operators

MOST = 2000  # entries; of a larger outline, the folded ones are left out, and of one still larger all are
MOST_WAYS = 10_000  # ways between them
MOST_STEPS = 8  # operations that an entry names
LONGEST_STEP = 24  # nodes that may be one non-linearity written out
SCALED = ("gelu", "hardswish")  # non-linearities that end in a factor
ROUNDS = 20  # in which places to cut are looked for: each sees those that the last one made
READS_SHAPES = operators(lambda facts: facts.kind is Kind.SHAPE)

LEFT_OUT = ("", "chains", "all")  # what an outline lacks, from nothing to everything


@dataclass(slots=True)
class Entry:
    """One place of the outline."""

    kind: str  # input, layer, dense, join, chain or output
    name: str  # of its first node, or of the input or output
    steps: tuple[str, ...]  # operators, and non-linearities as layers.json calls them
    layer: int | None  # index of the layer
    shape: tuple[int, ...]  # of what it gives, for one image
    sources: tuple[int, ...]  # entries that feed it, in the order in which it reads them
    nodes: int  # of the normal form that it stands for; 0 for inputs and outputs

    def to_json(self) -> dict[str, Any]:
        """As graph.json says it (docs/run-format.md)."""
        return {
            "kind": self.kind,
            "name": self.name,
            "steps": list(self.steps),
            "layer": self.layer,
            "shape": list(self.shape),
            "sources": list(self.sources),
            "nodes": self.nodes,
        }


@dataclass(slots=True)
class _Group:
    """Nodes that become one entry, in graph order."""

    kind: str
    nodes: list[Node] = field(default_factory=list)


def outline_json(
    graph: Graph, layers: Sequence[Layer], shapes: Mapping[str, tuple[int, ...]], *, most: int = MOST
) -> dict[str, Any]:
    """The outline as graph.json says it, in at most `most` entries.

    Args:
        graph: in normal form.
        layers: its convolution layers.
        shapes: of its values, for one image.
        most: entries.
    """
    entries = outline(graph, layers, shapes)
    total = sum(entry.nodes for entry in entries)
    left_out = LEFT_OUT[0]
    if _is_too_large(entries, most):
        entries, left_out = _without_chains(entries), LEFT_OUT[1]
    if _is_too_large(entries, most):
        entries, left_out = [], LEFT_OUT[2]
    return {"nodes": total, "left_out": left_out, "entries": [entry.to_json() for entry in entries]}


def outline(graph: Graph, layers: Sequence[Layer], shapes: Mapping[str, tuple[int, ...]]) -> list[Entry]:
    """Every entry of a network's outline, each behind those that feed it; the outputs last.

    Args:
        graph: in normal form.
        layers: its convolution layers.
        shapes: of its values, for one image.
    """
    flow = _Flow(graph)
    entries = [_end(graph, "input", name, shapes) for name in graph.inputs if name in flow.values]
    owner = {entry.name: place for place, entry in enumerate(entries)}
    index = {layer.node: layer.index for layer in layers}
    for group in flow.groups():
        inner = {value for node in group.nodes for value in node.outputs}
        sources = [v for node in group.nodes for v in node.inputs if v in flow.values and v not in inner]
        for value in inner:
            owner[value] = len(entries)
        last = group.nodes[-1]
        entries.append(
            Entry(
                kind=group.kind,
                name=group.nodes[0].name,
                steps=tuple(islice(_steps(graph, group.nodes, flow.values), MOST_STEPS)),
                layer=index.get(group.nodes[0].name) if group.kind == "layer" else None,
                shape=_shape(shapes, last.outputs[0]),
                sources=_places(sources, owner),
                nodes=len(group.nodes),
            )
        )
    for name in graph.outputs:
        end = _end(graph, "output", name, shapes)
        end.sources = _places([name], owner)
        entries.append(end)
    return entries


class _Flow:
    """The part of a graph that carries the image to the outputs, cut into groups."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        needed = graph.ancestors(*graph.outputs)
        self.values = {name for name in graph.inputs if name in needed}
        self.nodes: list[Node] = []
        for node in graph.nodes:
            if node.op in READS_SHAPES or not self.values.intersection(node.inputs):
                continue
            if needed.intersection(node.outputs):
                self.nodes.append(node)
                self.values.update(filter(None, node.outputs))
        self.place = {node.name: place for place, node in enumerate(self.nodes)}

    def groups(self) -> list[_Group]:
        """The nodes, group by group, each behind those that feed it."""
        cuts = {value for value in self.graph.inputs if value in self.values}
        kinds: dict[str, str] = {}
        members: dict[int, list[Node]] = {}
        for _ in range(ROUNDS):
            kinds, roots = self._roots(cuts)
            members = self._members(cuts, kinds)
            further = {*self._exits(kinds, roots, members)} - cuts
            if not further:
                break
            cuts |= further
        groups = [_Group(kinds[nodes[0].name], nodes) for nodes in members.values()]
        return _with_biases(self, sorted(groups, key=lambda group: self.place[group.nodes[-1].name]))

    def _roots(self, cuts: set[str]) -> tuple[dict[str, str], dict[str, str]]:
        """What each node is, and from which cut value each value alone is made."""
        roots = {value: value for value in self.graph.inputs}
        kinds = {}
        for node in self.nodes:
            read = dict.fromkeys(value for value in node.inputs if value in self.values)
            sources = read if node.op == "Concat" else dict.fromkeys(roots[value] for value in read)
            kinds[node.name] = kind = self._kind(node, len(sources))
            for value in filter(None, node.outputs):
                roots[value] = value if kind != "chain" or value in cuts else next(iter(sources))
        return kinds, roots

    def _kind(self, node: Node, sources: int) -> str:
        if node.op in CONVOLUTIONS and not node.domain:
            return "layer"
        if sources > 1:
            return "join"
        return "dense" if node.op in MATRIX_PRODUCTS and not node.domain else "chain"

    def _members(self, cuts: set[str], kinds: Mapping[str, str]) -> dict[int, list[Node]]:
        """Nodes that belong together: small operations between which no value is cut."""
        leader = list(range(len(self.nodes)))

        def first(place: int) -> int:
            while leader[place] != place:
                leader[place] = leader[leader[place]]
                place = leader[place]
            return place

        for place, node in enumerate(self.nodes):
            if kinds[node.name] != "chain":
                continue
            for value in node.inputs:
                source = self.graph.producer(value) if value not in cuts and value in self.values else None
                if source is not None and kinds[source.name] == "chain":
                    a, b = sorted((first(self.place[source.name]), first(place)))
                    leader[b] = a
        members: dict[int, list[Node]] = defaultdict(list)
        for place, node in enumerate(self.nodes):
            members[first(place)].append(node)
        return members

    def _exits(
        self, kinds: Mapping[str, str], roots: Mapping[str, str], members: Mapping[int, list[Node]]
    ) -> Iterator[str]:
        """Values of small operations that something outside reads, and those at which a group with two ends splits."""
        outputs = set(self.graph.outputs)
        for nodes in members.values():
            if kinds[nodes[0].name] != "chain":
                continue
            inside = {node.name for node in nodes}
            ends, forks = [], []
            for node in nodes:
                for value in filter(None, node.outputs):
                    readers = [reader for reader in self.graph.consumers(value) if reader.name in self.place]
                    if value in outputs or any(reader.name not in inside for reader in readers):
                        ends.append(value)
                    if len(readers) > 1:
                        forks.append(value)
            yield from ends
            yield from forks if len(ends) > 1 else ()


def _with_biases(flow: _Flow, groups: Iterable[_Group]) -> list[_Group]:
    """The groups, the bias of a matrix product in its group rather than in the one behind it."""
    biased: list[_Group] = []
    dense: dict[str, _Group] = {}
    for group in groups:
        first = group.nodes[0]
        source = next((dense[value] for value in first.inputs if value in dense), None)
        if group.kind == "chain" and first.op == "Add" and source and len(flow.graph.consumers(_result(source))) == 1:
            source.nodes.append(first)
            dense[first.outputs[0]] = source
            group = _Group("chain", group.nodes[1:])
        if group.kind == "dense":
            dense[group.nodes[0].outputs[0]] = group
        if group.nodes:
            biased.append(group)
    return biased


def _result(group: _Group) -> str:
    return group.nodes[-1].outputs[0]


def _steps(graph: Graph, nodes: Sequence[Node], values: set[str]) -> Iterator[str]:
    """What the nodes of a group do, one after the other; non-linearities by name, in however many nodes."""
    remaining = {node.name for node in nodes}
    entry = next((value for node in nodes for value in node.inputs if value in values), "")
    part: list[Node] = []
    last = ""
    for node in nodes:
        part.append(node)
        remaining.discard(node.name)
        inner = {entry, *(value for one in part[:-1] for value in one.outputs)}
        is_open = any(reader.name in remaining for value in inner for reader in graph.consumers(value))
        if is_open and len(part) < LONGEST_STEP:
            continue  # something further on reads what this step began with
        is_factor = len(part) == 1 and node.op in ("Mul", "Div") and last in SCALED
        last = "" if is_factor else _named(graph, entry, part)
        if not is_factor:
            yield from [last] if last else [one.op for one in part]
        entry, part = node.outputs[0], []
    yield from (one.op for one in part)


def _named(graph: Graph, entry: str, part: Sequence[Node]) -> str:
    """The non-linearity that some nodes are; empty where they are none."""
    may_be = len(part) > 1 or part[0].op in (*ACTIVATION_NAMES, *LIMITS)
    name = nonlinearity(graph, entry) if may_be else "none"
    return "" if name == "none" else name


def _end(graph: Graph, kind: str, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Entry:
    return Entry(kind=kind, name=name, steps=(), layer=None, shape=_shape(shapes, name), sources=(), nodes=0)


def _shape(shapes: Mapping[str, tuple[int, ...]], value: str) -> tuple[int, ...]:
    """Without the axis of pictures."""
    return tuple(int(side) for side in shapes.get(value, ())[1:])


def _places(values: Sequence[str], owner: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(owner[value] for value in values if value in owner))


def _is_too_large(entries: Sequence[Entry], most: int) -> bool:
    return len(entries) > most or sum(len(entry.sources) for entry in entries) > MOST_WAYS


def _without_chains(entries: Sequence[Entry]) -> list[Entry]:
    """The entries but the folded ones; what these fed is fed by what fed them."""
    left: list[Entry] = []
    feeding: list[tuple[int, ...]] = []  # of each entry, what stands for it
    for entry in entries:
        sources = tuple(dict.fromkeys(place for source in entry.sources for place in feeding[source]))
        if entry.kind == "chain":
            feeding.append(sources)
            continue
        entry.sources = sources
        feeding.append((len(left),))
        left.append(entry)
    return left
