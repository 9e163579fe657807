"""The numbers printed beside a picture: measured in ONNX Runtime on the 8-bit picture that is saved.

Knows sessions and pictures; knows nothing of how a picture was made.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.units.canvas import Canvas
from filterscope.analyzer.units.jitter import jitters
from filterscope.analyzer.units.objectives import Objective, objective_for

RANDOM_IMAGES = 16
BATCH_BYTES = 1 << 27  # of maps fetched at a time


class Meter:
    """Objective values of pictures for the units of one layer on one canvas.

    Args:
        network: the opened network.
        layer: whose units.
        canvas: size of the pictures.
        objective: what is measured; None: what the canvas is made for, its neuron or the channel.
    """

    def __init__(self, network: Network, layer: Layer, canvas: Canvas, objective: Objective | None = None) -> None:
        self.network = network
        self.layer = layer
        self.canvas = canvas
        self.objective = objective or objective_for("channel" if canvas.row is None else "neuron", canvas)
        self._session = network.session([layer.value], canvas.size, threads=1)  # tasks run side by side
        down, right = layer.field.jump if layer.field else (1.0, 1.0)
        positions = canvas.height * canvas.width / max(1.0, down * right)
        self._batch = max(1, min(64, int(BATCH_BYTES // (4 * positions * layer.out_channels + 1))))

    def _maps(self, x: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """The layer's maps on inputs in the model's own layout, some at a time: (n, C_out, H, W) float64."""
        for first in range(0, len(x), self._batch):
            part = slice(first, first + self._batch)
            maps = self._session.run(x[part])[self.layer.value].astype(np.float64)
            yield part, maps.reshape(*maps.shape, *[1] * (4 - maps.ndim))  # scores are maps of one place

    def _measured(self, maps: np.ndarray, directions: np.ndarray | None) -> np.ndarray:
        """The printed number of maps, each in a direction of its own or as they are: (n,)."""
        return self._value(maps if directions is None else np.einsum("nchw,nc->nhw", maps, directions))

    def _value(self, seen: np.ndarray) -> np.ndarray:
        import torch

        return np.asarray(self.objective.sense * self.objective.value(torch.from_numpy(seen)).numpy())

    def _directions(self, units: np.ndarray) -> np.ndarray | None:
        directions = [self.objective.direction(int(unit), self.layer.out_channels) for unit in units]
        weights = [direction for direction in directions if direction is not None]
        return np.stack(weights) if weights else None

    def _run(self, x: np.ndarray, units: np.ndarray) -> np.ndarray:
        directions = self._directions(units)
        return np.concatenate(
            [self._measured(m, None if directions is None else directions[part]) for part, m in self._maps(x)]
        )

    def activation(self, pixels: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Objective of unit units[i] on picture i, (N, H, W, C) uint8: (N,) float64."""
        return self._run(self.network.input.to_model(pixels), units)

    def highest(self, pixels: np.ndarray, units: np.ndarray) -> np.ndarray:
        """The highest place of the map of unit units[i] on picture i, (N, H, W, C) uint8: (N,) float64."""
        x = self.network.input.to_model(pixels)
        return np.concatenate(
            [maps[np.arange(len(maps)), units[part]].max(axis=(1, 2)) for part, maps in self._maps(x)]
        )

    def all_units(self, pixels: np.ndarray) -> np.ndarray:
        """Objective of every channel, each by itself, on every picture: (N, C_out) float64."""
        values = []
        for _, maps in self._maps(self.network.input.to_model(pixels)):
            values.append(self._value(maps.reshape(-1, *maps.shape[2:])).reshape(maps.shape[:2]))
        return np.concatenate(values)

    def robust(self, pixels: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Mean objective over 16 fixed draws of jitter, ±4 % of the canvas, edges repeated: (N,) float64.

        NaN where the canvas is too small to shift: 4 % of it is less than half a pixel, and one pixel far more.
        """
        draws = jitters(self.canvas.size)
        if not draws.any():
            return np.full(len(pixels), np.nan)
        x = self.network.input.to_model(pixels)
        total = np.zeros(len(pixels))
        for down, right in draws:
            total += self._run(shifted(x, int(down), int(right), self.network.axes), units)
        return total / len(draws)

    def best_of_random(self, units: np.ndarray | None = None) -> np.ndarray:
        """The best objective of each unit over 16 random domain images: (N,) float64.

        Best is lowest where the objective is to be low.

        Args:
            units: None: every unit of the layer.
        """
        units = np.arange(self.objective.units(self.layer.out_channels)) if units is None else units
        pixels = self.network.random_pixels(RANDOM_IMAGES, self.canvas.size, 1)
        directions = self._directions(units)
        answers = []
        for _, maps in self._maps(self.network.input.to_model(pixels)):
            if directions is None:
                answers += [np.repeat(number, len(units)) for number in self._measured(maps, None)]
                continue
            for one in maps:
                with np.errstate(invalid="ignore", over="ignore"):  # a network's own NaN and infinities
                    seen = (directions @ one.reshape(len(one), -1)).reshape(len(units), *one.shape[1:])
                answers.append(self._value(seen))
        best = np.max if self.objective.sense > 0 else np.min
        return np.asarray(best(answers, axis=0))


def shifted(x: np.ndarray, down: int, right: int, axes: tuple[int, int]) -> np.ndarray:
    """Images moved by whole pixels, their edges repeated: same shape.

    Args:
        x: images in any layout.
        axes: which axes are height and width.
    """
    rows = np.clip(np.arange(x.shape[axes[0]]) - down, 0, x.shape[axes[0]] - 1)
    columns = np.clip(np.arange(x.shape[axes[1]]) - right, 0, x.shape[axes[1]] - 1)
    return x.take(rows, axes[0]).take(columns, axes[1])
