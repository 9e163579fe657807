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
        self._session = network.session([layer.value], canvas.size, threads=1)  # tasks run side by side
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
        return self._run(self.network.input.to_model(pixels))

    def _run(self, x: np.ndarray) -> np.ndarray:
        """Objective of every unit on inputs in the model's own layout: (N, C_out)."""
        parts = [self._session.run(x[i : i + self._batch])[self.layer.value] for i in range(0, len(x), self._batch)]
        return np.concatenate([self._objective(maps) for maps in parts])

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
        x = self.network.input.to_model(pixels)
        units = np.arange(len(pixels))
        total = np.zeros(len(pixels))
        for down, right in draws:
            total += self._run(shifted(x, int(down), int(right), self.network.axes))[units, channels]
        return total / len(draws)

    def best_of_random(self) -> np.ndarray:
        """The best objective of each unit over 16 random domain images: (C_out,) float64."""
        return np.asarray(self.all_units(self.network.random_pixels(RANDOM_IMAGES, self.canvas.size, 1)).max(axis=0))


def jitters(size: tuple[int, int]) -> np.ndarray:
    """The 16 shifts by which robustness is measured: (16, 2) int, rows down and columns right."""
    reach = [round(JITTER * side) for side in size]
    rng = np.random.default_rng(20171107)  # fixed, so that pictures of different runs and tools are compared alike
    return np.stack([rng.integers(-r, r + 1, JITTERS) for r in reach], axis=1)


def shifted(x: np.ndarray, down: int, right: int, axes: tuple[int, int]) -> np.ndarray:
    """Images moved by whole pixels, their edges repeated: same shape.

    Args:
        x: images in any layout.
        axes: which axes are height and width.
    """
    rows = np.clip(np.arange(x.shape[axes[0]]) - down, 0, x.shape[axes[0]] - 1)
    columns = np.clip(np.arange(x.shape[axes[1]]) - right, 0, x.shape[axes[1]] - 1)
    return x.take(rows, axes[0]).take(columns, axes[1])
