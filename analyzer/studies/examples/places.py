"""Which part of the image a unit saw at one place of its map. Knows receptive fields; knows nothing of data sets."""

from __future__ import annotations

import numpy as np

from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.receptive_fields import ROUNDING

UPSAMPLING = ("ConvTranspose", "Resize", "DepthToSpace")  # behind these, neighbours see fields of different sizes


class Places:
    """Exact receptive fields of single neurons.

    Args:
        network: the opened network.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._uneven = _behind(network, UPSAMPLING)
        self._sides: dict[tuple[str, int, int], tuple[int, int] | None] = {}

    def fields(self, layer: Layer, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """What some neurons of a layer see; all of the image where only global operations lead to it.

        Args:
            rows: (n,) of the map.
            columns: (n,).

        Returns:
            (n, 4) int64: first row and column, height and width in pixels of the input; may lie partly outside it.
        """
        field = layer.field
        if field is None:
            return np.tile([0, 0, self.network.input.height, self.network.input.width], (len(rows), 1))
        ends = []
        for axis, places in enumerate((rows, columns)):
            first = np.floor(field.start[axis] + places * field.jump[axis] + ROUNDING).astype(np.int64)
            extent = np.full(len(places), field.size[axis])
            if layer.value in self._uneven:
                seen = [self._side(layer.value, axis, int(place)) for place in places]
                first = np.array([own if one is None else one[0] for own, one in zip(first, seen, strict=True)])
                extent = np.array([field.size[axis] if one is None else one[1] for one in seen])
            ends += [first, extent]
        return np.stack([ends[0], ends[2], ends[1], ends[3]], axis=1)

    def _side(self, value: str, axis: int, place: int) -> tuple[int, int] | None:
        """First pixel and extent along one axis, which does not depend on the place along the other."""
        key = (value, axis, place)
        if key not in self._sides:
            self._sides[key] = self.network.walk.along(value, axis, place)
        return self._sides[key]


def _behind(network: Network, operators: tuple[str, ...]) -> set[str]:
    """Values that such an operator leads to."""
    values: set[str] = set()
    for node in network.model.graph.nodes:
        if node.op in operators or not values.isdisjoint(node.inputs):
            values.update(node.outputs)
    return values
