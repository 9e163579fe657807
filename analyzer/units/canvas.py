"""The canvas: how large a picture must be for a unit, and which neuron of its map is looked at.

A neuron's canvas holds its receptive field where no padded value is seen; a channel's canvas is the smallest of 64
pixels or more on which the map has three by three neurons and the field is covered. Neither is ever larger than the
model's input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.converters.errors import ModelError

SIDE_IN_NEURONS = 3  # of a channel's map, at least
LEAST = 64  # pixels a side of a channel's picture, where the input has them: a smaller one is a mosaic


@dataclass(frozen=True, slots=True)
class Canvas:
    """Size of the pictures of one layer and objective."""

    height: int
    width: int
    row: int | None  # of the neuron in the canvas's map; None where the objective is the whole map
    column: int | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


def canvas_for(network: Network, layer: Layer, objective: str, cap: int | None = None) -> Canvas:
    """The canvas of a layer's units.

    Args:
        objective: "neuron" or "channel".
        cap: pixels a side up to which the canvas covers a channel's field, to save time; the map has three by three
            neurons in any case.

    Raises:
        ModelError: the network up to this layer runs at no size, not even its own.
    """
    full = (network.input.height, network.input.width)
    sides = [_side(network, layer, objective, axis=axis, cap=cap) for axis in (0, 1)]
    for size in _sizes(sides, full):
        shape = _map_shape(network, layer, size)
        if shape is None:
            continue
        position = _position(layer, shape, size, full) if objective == "neuron" else (None, None)
        if position is not None:
            return Canvas(*size, *position)
    raise ModelError(f"{layer.name}: the network up to this layer does not run at its own input size {full}")


def bytes_on(network: Network, layer: Layer, size: tuple[int, int]) -> float:
    """About how much memory all values up to a layer take on one picture of this size, in float32, with gradients."""
    graph = network.model.graph
    before = (name for name in graph.ancestors(layer.value) if graph.producer(name) is not None)
    elements = sum(math.prod(network.shapes[name]) for name in before if name in network.shapes)
    part = size[0] * size[1] / (network.input.height * network.input.width)
    return 8 * part * elements


def _side(network: Network, layer: Layer, objective: str, *, axis: int, cap: int | None) -> int:
    """Pixels along one axis that a canvas needs."""
    full = (network.input.height, network.input.width)[axis]
    field = layer.field
    if field is None:
        return full
    jump, start, size = field.jump[axis], field.start[axis], field.size[axis]
    if objective == "neuron":
        first = max(0, math.ceil(-start / jump))
        margin = 0 if float(jump).is_integer() else 1  # after upsampling a field's size depends on its position
        return full if layer.is_global else min(full, math.floor(start + first * jump) + size + margin)
    neurons = layer.output_shape[1 + axis]
    three = math.ceil(full - max(0, neurons - SIDE_IN_NEURONS) * jump)
    step = max(1, round(jump))
    three = math.ceil(three / step) * step
    covered = full if layer.is_global else size
    if cap is not None:
        covered = min(covered, cap)
    least = LEAST if cap is None else min(LEAST, cap)
    return min(full, max(three, math.ceil(max(covered, least) / step) * step))


def _sizes(sides: list[int], full: tuple[int, int]) -> list[tuple[int, int]]:
    """The size itself, then rounded up to what networks with several scales accept, then the model's own."""
    sizes = [(sides[0], sides[1])]
    for multiple in (8, 32):
        rounded = [min(extent, math.ceil(side / multiple) * multiple) for side, extent in zip(sides, full, strict=True)]
        sizes.append((rounded[0], rounded[1]))
    return list(dict.fromkeys([*sizes, full]))


def _map_shape(network: Network, layer: Layer, size: tuple[int, int]) -> tuple[int, int] | None:
    x = network.input.to_model(np.zeros((1, *size, network.input.channels), np.uint8))
    try:
        shape = network.session([layer.value], size).run(x)[layer.value].shape
    except ModelError:
        return None
    return (shape[2], shape[3]) if len(shape) == 4 and min(shape) > 0 else None


def _position(
    layer: Layer, shape: tuple[int, int], size: tuple[int, int], full: tuple[int, int]
) -> tuple[int, int] | None:
    if size == full or layer.field is None or layer.is_global:
        return shape[0] // 2, shape[1] // 2
    places = []
    for axis in (0, 1):
        if size[axis] == full[axis]:
            places.append(shape[axis] // 2)
            continue
        place = max(0, math.ceil(-layer.field.start[axis] / layer.field.jump[axis]))
        if place >= shape[axis]:
            return None
        places.append(place)
    return places[0], places[1]
