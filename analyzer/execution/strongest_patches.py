"""The patches of the user's images that excite units most, cut as large as the units' pictures.

An accentuation begins there. Measures by ONNX Runtime; knows nothing of files or ascent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.units.canvas import Canvas

BATCH = 16  # images that are measured together
MOST_IMAGES = 64  # that are measured: each task sees them again


@dataclass(frozen=True, slots=True, eq=False)
class StrongestPatches:
    """Patches of some images.

    Args:
        network: whose units are asked about.
        images: (H, W, C) uint8 each, at the network's input size; the first MOST_IMAGES count.
    """

    network: Network
    images: Sequence[np.ndarray]

    def of(self, layer: Layer, channels: Sequence[int], canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
        """For each channel the patch over which the mean of its map is highest.

        Returns:
            (N, H, W, C) uint8 of the canvas's size, as they are in the images; the number of each one's image, (N,).
        """
        session = self.network.session([layer.value], threads=1)
        best = np.full(len(channels), -np.inf)
        patches = np.zeros((len(channels), *canvas.size, self.network.input.channels), np.uint8)
        numbers = np.zeros(len(channels), np.int64)
        for first in range(0, min(len(self.images), MOST_IMAGES), BATCH):
            images = self.images[first : min(first + BATCH, MOST_IMAGES)]
            maps = session.run(self.network.input.to_model(np.stack(images)))[layer.value][:, list(channels)]
            full = images[0].shape[:2]
            window = [_extent(layer, axis, maps.shape[2 + axis], full[axis] - canvas.size[axis]) for axis in (0, 1)]
            means, places = strongest_windows(maps, (window[0], window[1]))
            for index in np.flatnonzero(means > best):
                image, row, column = places[index]
                best[index], numbers[index] = means[index], first + int(image)
                patches[index] = _cut(images[int(image)], layer, canvas, (row, column))
        return patches, numbers


def strongest_windows(maps: np.ndarray, window: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where the mean over a window is highest, of each channel.

    Args:
        maps: (N, C, H, W).
        window: rows and columns, at most H and W.

    Returns:
        The means, float64 (C,), −∞ where a map holds numbers that are not finite; image, middle row and middle column
        of the window, float64 (C, 3).
    """
    sums = np.pad(maps.astype(np.float64), ((0, 0), (0, 0), (1, 0), (1, 0))).cumsum(axis=2).cumsum(axis=3)
    tall, wide = window
    means = (
        sums[:, :, tall:, wide:] - sums[:, :, :-tall, wide:] - sums[:, :, tall:, :-wide] + sums[:, :, :-tall, :-wide]
    )
    by_channel = np.moveaxis(np.nan_to_num(means / (tall * wide), nan=-np.inf, posinf=-np.inf), 1, 0)
    highest = by_channel.reshape(len(by_channel), -1).argmax(axis=1)
    image, row, column = np.unravel_index(highest, by_channel.shape[1:])
    places = np.stack([image, row + (tall - 1) / 2, column + (wide - 1) / 2], axis=1)
    return by_channel.reshape(len(by_channel), -1).max(axis=1), places


def _extent(layer: Layer, axis: int, extent: int, less: int) -> int:
    """Neurons along one axis of the map of a canvas.

    Args:
        extent: those of the map of a whole image.
        less: pixels by which the canvas is shorter than the image.
    """
    return extent if layer.field is None else max(1, extent - round(less / layer.field.jump[axis]))


def _cut(image: np.ndarray, layer: Layer, canvas: Canvas, place: tuple[float, float]) -> np.ndarray:
    """The patch of an image whose middle is that of a neuron's field, moved where it would leave the image."""
    corners = []
    for axis in (0, 1):
        spare = image.shape[axis] - canvas.size[axis]
        middle = image.shape[axis] / 2
        if layer.field is not None:
            field = layer.field
            middle = field.start[axis] + place[axis] * field.jump[axis] + field.size[axis] / 2
        corners.append(int(np.clip(round(middle - canvas.size[axis] / 2), 0, spare)))
    patch: np.ndarray = image[corners[0] : corners[0] + canvas.height, corners[1] : corners[1] + canvas.width]
    return patch
