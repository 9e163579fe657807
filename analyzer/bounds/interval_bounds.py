"""Interval bounds: two numbers between which each channel of each value stays, for every 8-bit image.

One pass through the graph with interval arithmetic, one interval a channel, of all positions together, padding counted
in. Soundness is the contract: no image of the domain leaves an interval in ONNX Runtime's float32. An operator without
a rule gives (−∞, ∞), which is always true. Knows graphs; knows nothing of ONNX Runtime or pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.bounds.interval_arithmetic import (
    ELEMENTWISE,
    PIECES,
    Pair,
    largest,
    outward,
    pieces,
    settled,
    unbounded,
)
from filterscope.analyzer.bounds.interval_rules import LARGE, RuleContext, bounds_of
from filterscope.analyzer.network.inputs import LAYOUTS
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.receptive_fields import NO_DATA
from filterscope.converters.graph import Node

CHAIN = 8  # elementwise operators followed back where a value may meet a function of itself


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """Lower and upper bound of a value, channel by channel."""

    low: np.ndarray  # (C,) float64, may be −∞
    high: np.ndarray  # (C,) float64, may be ∞
    axis: int = 1  # of the value, along which the channels lie: 3 for NHWC values before they are transposed

    def __post_init__(self) -> None:
        if self.low.ndim != 1 or self.low.shape != self.high.shape or not np.all(self.low <= self.high):
            raise ValueError(f"an interval is a low and a high end for each channel, got {self.low} and {self.high}")


def intervals(network: Network) -> dict[str, Interval]:
    """The interval of every value that depends on the image.

    Args:
        network: every image of its input's domain is considered, at the network's own size. The intervals of
            convolutions hold for smaller canvases too: convolutions and poolings do not ask for the size.

    Returns:
        Value name → interval. What depends on the image's size alone is left out.
    """
    walk = _Walk(network)
    with np.errstate(all="ignore"):  # infinities meet zeros; `settled` makes the best of it
        for node in network.model.graph.nodes:
            walk.visit(node)
    return {name: _per_channel(pair, network.shapes[name]) for name, pair in walk.pairs.items()}


def _per_channel(pair: Pair, shape: tuple[int, ...]) -> Interval:
    """An interval for each index of the one axis on which intervals differ; of axis 1 where there is no such axis."""
    low, high = pair
    if not shape:
        return Interval(low.reshape(1), high.reshape(1), 0)
    differing = [axis for axis in range(low.ndim) if low.shape[axis] > 1]
    axis = differing[0] if len(differing) == 1 else min(1, len(shape) - 1)
    others = tuple(other for other in range(low.ndim) if other != axis)
    ends = (np.broadcast_to(end, max(shape[axis], low.shape[axis])) for end in (low.min(others), high.max(others)))
    low, high = (np.ascontiguousarray(end) for end in ends)
    return Interval(low, high, axis)


class _Walk:
    """One pass through a graph that bounds its values, from the image on."""

    def __init__(self, network: Network) -> None:
        spec = network.input
        shape = [1, 1, 1, 1]
        shape[LAYOUTS[spec.layout]] = spec.channels
        low, high = (end.reshape(shape) for end in spec.domain())
        self.pairs: dict[str, Pair] = {spec.name: outward(low, high, largest((low, high)))}
        self.graph = network.model.graph
        self.shapes = network.shapes
        self.context = RuleContext(self.graph, self.shapes, self.pairs)

    def visit(self, node: Node) -> None:
        """Bound a node's outputs."""
        if node.op in NO_DATA or not any(name in self.pairs for name in node.inputs):
            return
        outputs: Sequence[Pair] = ()
        if node.domain in ("", "ai.onnx"):
            if node.op in ELEMENTWISE:
                pairs = [self._elementwise(node, self.pairs), *self._meeting(node)]
                outputs = [
                    (np.maximum.reduce([low for low, _ in pairs]), np.minimum.reduce([high for _, high in pairs]))
                ]
            else:
                outputs = bounds_of(self.context, node)
        for index, name in enumerate(node.outputs):
            if name in self.shapes:
                rank = len(self.shapes[name])
                self.pairs[name] = settled(outputs[index]) if index < len(outputs) else unbounded(rank)

    # elementwise operators, and values that meet a function of themselves

    def _elementwise(self, node: Node, pairs: Mapping[str, Pair]) -> Pair:
        rank = len(self.shapes[node.outputs[0]])
        low, high = ELEMENTWISE[node.op](node, self._operands(node, pairs))
        missing = (1,) * (rank - low.ndim)  # an operand of unknown numbers may be the one with the most axes
        low, high = np.broadcast_arrays(low, high)
        return settled((low.reshape(missing + low.shape), high.reshape(missing + high.shape)))

    def _operands(self, node: Node, pairs: Mapping[str, Pair]) -> list[Pair | None]:
        """Intervals of a node's inputs; constants, reduced over the axes on which the values have one interval."""
        rank = len(self.shapes[node.outputs[0]])
        collapsed = set()
        for name in node.inputs:
            if name in self.pairs:
                extents, own = self.shapes[name], self.pairs[name][0].shape
                first = rank - len(extents)
                collapsed |= {first + a for a, (n, length) in enumerate(zip(extents, own, strict=True)) if length < n}
        return [self._operand(name, rank, collapsed, pairs) for name in node.inputs]

    def _operand(self, name: str, rank: int, collapsed: set[int], pairs: Mapping[str, Pair]) -> Pair | None:
        if not name:
            return None
        if name in pairs:
            return pairs[name]
        constant = self.graph.initializers.get(name)
        if constant is None:
            return unbounded(0)
        if constant.size == 0:
            return None  # older files give an absent input like that
        axes = tuple(a for a in range(constant.ndim) if a + rank - constant.ndim in collapsed)
        exact = constant.astype(np.float64)
        return exact.min(axes, keepdims=True), exact.max(axes, keepdims=True)

    def _meeting(self, node: Node) -> list[Pair]:
        """The interval of f(x, g(x)), such as x · sigmoid(x), piece by piece of x; empty where there is none."""
        dependent = [name for name in node.inputs if name in self.pairs]
        if len(dependent) != 2:
            return []
        chains = [self._chain(name) for name in dependent]
        root = next((name for name in chains[0] if name in chains[1]), None)
        if root is None:
            return []
        low, high = self.pairs[root]
        if low.size * PIECES > LARGE or not (np.isfinite(low).all() and np.isfinite(high).all()):
            return []
        parts = {root: pieces(low, high)}
        for chain in chains:
            for name in reversed(chain[: chain.index(root)]):
                producer = self.graph.producer(name)
                assert producer is not None
                parts[name] = self._elementwise(producer, parts)
        low, high = self._elementwise(node, parts)
        return [(low.min(axis=0), high.max(axis=0))]

    def _chain(self, value: str) -> list[str]:
        """A value, the value that it is an elementwise function of, and so on, up to where two branches meet."""
        chain, rank = [value], len(self.shapes[value])
        while len(chain) < CHAIN:
            node = self.graph.producer(chain[-1])
            if node is None or node.op not in ELEMENTWISE or node.domain not in ("", "ai.onnx"):
                break
            sources = [name for name in node.inputs if name in self.pairs]
            if len(sources) != 1 or len(self.shapes[sources[0]]) != rank:
                break
            chain.append(sources[0])
        return chain
