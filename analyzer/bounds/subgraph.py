"""A network up to one layer, on one canvas, as pieces: what bounds and exact programs are made from.

Knows graphs; knows nothing of bounds, solvers or pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.bounds.piecewise import Box, Piece
from filterscope.analyzer.bounds.piecewise_rules import Reader
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.receptive_fields import NO_DATA
from filterscope.converters.operator_facts import Place, operators

EQUIVARIANT = operators(  # one function of what they read, wherever in the map it is
    lambda facts: facts.place in (Place.SAME, Place.WINDOW, Place.JOINED)
)


@dataclass(frozen=True, slots=True, eq=False)
class Subgraph:
    """All pieces that a layer's pre-activations are computed from, on one canvas."""

    network: Network
    layer: Layer
    pieces: Mapping[str, Piece]  # value name → how it comes to be; in an order in which they can be computed
    shapes: Mapping[str, tuple[int, ...]]  # for one image of the canvas's size

    @property
    def elements(self) -> int:
        """Numbers in all values together, for one image."""
        return sum(math.prod(self.shapes[name]) for name in self.pieces)

    def image_shape(self) -> tuple[int, ...]:
        """Shape of the network's input."""
        return self.shapes[self.network.input.name]


def subgraph_before(network: Network, layer: Layer, size: tuple[int, int]) -> Subgraph:
    """The pieces of a network up to a layer.

    Args:
        size: height and width of the canvas.

    Raises:
        ModelError: the network up to this layer does not run at this size.
    """
    graph = network.model.graph
    needed = graph.ancestors(layer.value)
    nodes = [node for node in graph.nodes if not needed.isdisjoint(node.outputs)]
    names = [name for node in nodes for name in node.outputs if name]
    image = network.input.to_model(np.zeros((1, *size, network.input.channels), np.uint8))
    values = network.session(names, size, threads=1).run(image)
    shapes = {name: array.shape for name, array in graph.initializers.items()}
    shapes |= {name: np.shape(value) for name, value in values.items()} | {network.input.name: image.shape}
    reader = Reader(network, shapes, {network.input.name})
    pieces: dict[str, Piece] = {}
    for node in nodes:
        if node.op in NO_DATA or reader.depends.isdisjoint(node.inputs):
            continue
        piece = reader.read(node)
        for index, name in enumerate(node.outputs):
            if name:
                pieces[name] = piece if index == 0 else Box(node)
                reader.depends.add(name)
    return Subgraph(network, layer, pieces, shapes)


def is_translation_equivariant(subgraph: Subgraph) -> bool:
    """Whether neurons that see no padding compute one function of their pixels, at every position of every canvas."""
    constants, image = subgraph.network.model.graph.initializers, subgraph.network.input.name
    for piece in subgraph.pieces.values():
        node = piece.node
        if node.op == "Transpose" and node.inputs[0] == image:
            continue
        if isinstance(piece, Box) or node.op not in EQUIVARIANT or len(subgraph.shapes[node.outputs[0]]) != 4:
            return False
        if str(node.attributes.get("auto_pad", "")).startswith("SAME"):
            return False  # which rows a neuron sees depends on the canvas's size
        if node.op not in ("Conv", "BatchNormalization"):
            for name in node.inputs:  # numbers that differ from channel to channel, not from place to place
                if name in constants and any(extent > 1 for extent in constants[name].shape[-2:]):
                    return False
    return True
