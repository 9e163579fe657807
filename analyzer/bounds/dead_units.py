"""Dead units: proven never to exceed 0, at any position of the map, padded borders included, whatever the picture.

Interval bounds first, then, for units that no random picture wakes, the relaxation of each position that intervals
leave open. Knows bounds; knows nothing of what follows a layer: whether such a unit matters is for the caller to say.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from filterscope.analyzer.bounds.linear_relaxation import LIMIT, STEPS, Relaxation, SharedBounds
from filterscope.analyzer.bounds.subgraph import subgraph_before
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.units.canvas import Canvas
from filterscope.analyzer.units.measure import RANDOM_IMAGES

WORK = 1 << 26  # numbers of coefficients that the open positions of a layer may take


def never_positive(
    network: Network, layer: Layer, shared: SharedBounds | None = None, limit: int = LIMIT
) -> np.ndarray:
    """Which units of a layer no picture of the model's input size can bring above 0.

    Args:
        layer: two-dimensional.
        shared: what the layers of the network share.
        limit: numbers in all values up to the layer beyond which interval bounds alone decide.

    Returns:
        (C,) bool; False says nothing. Where the network up to the layer holds more than `limit` numbers, the
        interval bounds alone decide; where more positions are open than WORK allows, the units with the fewest do.
    """
    shared = SharedBounds(network) if shared is None else shared
    size = (network.input.height, network.input.width)
    dead = shared.interval_bounds[layer.value].high <= 0
    subgraph = subgraph_before(network, layer, size)
    if subgraph.elements > limit:
        return np.asarray(dead)
    awake = _awake(network, layer, size)
    if (dead | awake).all():
        return np.asarray(dead)
    relaxation = Relaxation(subgraph, Canvas(*size, None, None), shared)
    upper = relaxation.bounds[layer.value].high[0]
    close = shared.element_bounds(layer.value, size, subgraph.shapes[layer.value])
    high = np.array((upper if close is None else torch.minimum(upper, close[1][0])).flatten(1).numpy())
    left = WORK
    for channel in np.argsort(np.sum(high > 0, axis=1), kind="stable"):
        if dead[channel] or awake[channel]:
            continue
        open_places = np.flatnonzero(high[channel] > 0)
        left -= len(open_places) * subgraph.elements
        if left < 0:
            break
        if len(open_places):
            highest = _highest(relaxation, int(channel), open_places)
            high[channel, open_places] = np.minimum(high[channel, open_places], highest)
    return np.asarray(dead | np.all(high <= 0, axis=1))


def _awake(network: Network, layer: Layer, size: tuple[int, int]) -> np.ndarray:
    """Units that some random picture brings above 0, so that they are not dead."""
    x = network.input.to_model(network.random_pixels(RANDOM_IMAGES, size, 1))
    maps = network.session([layer.value], size, threads=1).run(x)[layer.value]
    return np.asarray((maps > 0).any(axis=(0, 2, 3)))


def _highest(relaxation: Relaxation, channel: int, places: np.ndarray) -> np.ndarray:
    """Upper bounds of one unit at some places of its flat map, improved step by step where the budget allows it."""
    shape = relaxation.subgraph.shapes[relaxation.layer.value]
    seeds = torch.zeros(len(places), shape[1], math.prod(shape[2:]), dtype=torch.float64)
    seeds[torch.arange(len(places)), channel, torch.from_numpy(places)] = 1.0
    seeds = seeds.reshape(len(places), *shape[1:])
    steps = STEPS if len(places) * relaxation.subgraph.elements * 2 * STEPS <= WORK else 0
    return np.asarray(relaxation.maximum(relaxation.layer.value, seeds, steps).numpy())
