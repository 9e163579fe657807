"""The numbers printed beside a picture: measured in ONNX Runtime on the 8-bit picture that is saved.

Knows sessions and pictures; knows nothing of how a picture was made.
"""

from __future__ import annotations

import numpy as np

from analyzer.canvas import Canvas
from analyzer.layers import ConvLayer
from analyzer.network import Network

RANDOM_IMAGES = 16
JITTERS = 16
JITTER = 0.04  # of the canvas, to each side
BATCH_BYTES = 1 << 27  # of maps fetched at a time


class Meter:
    """Objective values of pictures for the units of one layer on one canvas.

    Args:
        network: the opened network.
        layer: whose units.
        canvas: size of the pictures; with a position the objective is that neuron, else the mean of the map.
    """

    def __init__(self, network: Network, layer: ConvLayer, canvas: Canvas) -> None:
        self.network = network
        self.layer = layer
        self.canvas = canvas
        self._session = network.session([layer.value], canvas.size)
        down, right = layer.field.jump if layer.field else (1.0, 1.0)
        positions = canvas.height * canvas.width / max(1.0, down * right)
        self._batch = max(1, min(64, int(BATCH_BYTES // (4 * positions * layer.out_channels + 1))))

    def all_units(self, pixels: np.ndarray) -> np.ndarray:
        """Objective of every unit of the layer on every picture.

        Args:
            pixels: (N, H, W, C) uint8.

        Returns:
            (N, C_out) float64.
        """
        parts = []
        for start in range(0, len(pixels), self._batch):
            x = self.network.input.to_model(pixels[start : start + self._batch])
            maps = self._session.run(x)[self.layer.value]
            parts.append(self._objective(maps))
        return np.concatenate(parts)

    def _objective(self, maps: np.ndarray) -> np.ndarray:
        if self.canvas.row is None:
            return np.asarray(maps.mean(axis=(2, 3), dtype=np.float64))
        return maps[:, :, self.canvas.row, self.canvas.column].astype(np.float64)

    def activation(self, pixels: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Objective of unit channels[i] on picture i: (N,) float64."""
        return np.asarray(self.all_units(pixels)[np.arange(len(pixels)), channels])

    def robust(self, pixels: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Mean objective over 16 fixed draws of jitter, ±4 % of the canvas, edges repeated: (N,) float64."""
        draws = jitters(self.canvas.size)
        if not draws.any():  # 4 % of a canvas this small is less than half a pixel
            return self.activation(pixels, channels)
        total = np.zeros(len(pixels))
        for down, right in draws:
            total += self.activation(shifted(pixels, int(down), int(right)), channels)
        return total / len(draws)

    def best_of_random(self) -> np.ndarray:
        """The best objective of each unit over 16 random domain images: (C_out,) float64."""
        return np.asarray(self.all_units(self.network.random_pixels(RANDOM_IMAGES, self.canvas.size, 1)).max(axis=0))


def jitters(size: tuple[int, int]) -> np.ndarray:
    """The 16 shifts by which robustness is measured: (16, 2) int, rows down and columns right."""
    reach = [round(JITTER * side) for side in size]
    rng = np.random.default_rng(20171107)  # fixed, so that pictures of different runs and tools are compared alike
    return np.stack([rng.integers(-r, r + 1, JITTERS) for r in reach], axis=1)


def shifted(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Pictures moved by whole pixels, their edges repeated: same shape."""
    height, width = pixels.shape[1:3]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return pixels[:, rows][:, :, columns]
