"""The vertex jump: from where a picture is, straight to the best corner of the domain as its gradient sees it.

Up to a neuron a network of ReLUs and poolings is piecewise linear, and a linear function is greatest at a vertex of
the box: white where the gradient is positive, black where it is negative. Jump there, and again from there, until the
objective falls or the picture repeats itself; then bisect between the last two. Some 3 to 9 evaluations: a method of
its own and a start for ascent. Where the layer sees the image, one jump is the closed form of analytic.py.
Further in it is a start at best: jumping on from the bisected picture was tried and gains nothing.

Knows torch; knows nothing of files or HTML.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from analyzer.canvas import Canvas
from analyzer.layers import ConvLayer
from analyzer.maximize.engine import Ascent, batch_size, input_map
from analyzer.maximize.gates import with_open_gates
from analyzer.maximize.objectives import Units
from analyzer.network import Network

JUMPS = 12  # at most
HALVINGS = 4  # of the last step


def jump(
    network: Network,
    layer: ConvLayer,
    canvas: Canvas,
    objective: str,
    channels: Sequence[int],
    device: torch.device,
    stop: threading.Event | None = None,
) -> Ascent:
    """Maximise some units of one layer by vertex jumps from mid grey.

    Args:
        objective: "neuron" or "channel".
        channels: the units.
        stop: set by another thread, it ends the work at the next evaluation.

    Returns:
        8-bit pictures of the domain, one a unit: never below mid grey's objective but for what rounding to 8 bits
        takes. `steps` counts evaluations. No chance takes part: there is no seed.

    Raises:
        InterruptedError: `stop` was set.
    """
    started = time.perf_counter()
    size = batch_size(network, layer, canvas)
    leap = _Leap(network, layer, canvas, objective, device, stop or threading.Event())
    parts = [leap.run(list(channels[i : i + size])) for i in range(0, len(channels), size)]
    tiles, steps, diverged = (np.concatenate([part[index] for part in parts]) for index in range(3))
    return Ascent(tiles, steps, diverged, time.perf_counter() - started)


class _Leap:
    """The jumps of one layer and objective, for batch after batch."""

    def __init__(
        self,
        network: Network,
        layer: ConvLayer,
        canvas: Canvas,
        objective: str,
        device: torch.device,
        stop: threading.Event,
    ) -> None:
        self.layer, self.canvas, self.objective, self.device, self.stop = layer, canvas, objective, device, stop
        self.shape = (network.input.channels, *canvas.size)
        self.to_model = input_map(network.input, device)
        self.last_alone = layer.op == "Conv" and layer.weight is not None
        target = layer.source if self.last_alone else layer.value
        self.before: Callable[..., Any] | None = None
        self.opened: Callable[..., Any] | None = None
        if target != network.input.name:
            cut = network.twin.cut([target]).to(device)
            self.before, self.opened = cut, with_open_gates(cut)

    def run(self, channels: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Jump with one batch: tiles, evaluations, diverged."""
        units = torch.tensor(channels, device=self.device)
        count = len(channels)
        x = torch.full((count, *self.shape), 0.5, device=self.device)
        best, value = x.clone(), torch.full((count,), -torch.inf, device=self.device)
        fallen = x.clone()  # where the objective was lower than at the best: the other end of the bisection
        steps = np.zeros(count, np.int32)
        diverged = torch.zeros(count, dtype=torch.bool, device=self.device)
        at = torch.arange(count, device=self.device)  # the units that still jump
        for _ in range(JUMPS):
            found, gradient = self._gradient(x[at], units[at], self.before)
            asleep = ~gradient.flatten(1).any(dim=1)
            if bool(asleep.any()):  # behind closed ReLUs
                gradient[asleep] = self._gradient(x[at[asleep]], units[at[asleep]], self.opened)[1]
            steps[at.cpu().numpy()] += 1
            broken = ~(torch.isfinite(found) & torch.isfinite(gradient).flatten(1).all(dim=1))
            diverged[at[broken]] = True
            better = (found > value[at]) & ~broken
            fallen[at] = x[at]
            risen = at[better]
            best[risen], value[risen] = x[risen], found[better]
            target = torch.where(gradient > 0, 1.0, torch.where(gradient < 0, 0.0, x[at]))
            moves = (target != x[at]).flatten(1).any(dim=1)
            x[at] = target
            at = at[better & moves]
            if not len(at):
                break
        self._bisect(best, value, fallen, units, steps)
        pixels = (best * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        return np.ascontiguousarray(pixels.cpu().numpy()), steps, diverged.cpu().numpy()

    def _bisect(
        self, best: torch.Tensor, value: torch.Tensor, fallen: torch.Tensor, units: torch.Tensor, steps: np.ndarray
    ) -> None:
        """Between the best picture and the one after it that was worse, in place."""
        at = torch.nonzero((best != fallen).flatten(1).any(dim=1))[:, 0]
        for _ in range(HALVINGS if len(at) else 0):
            middle = (best[at] + fallen[at]) / 2
            with torch.no_grad():
                found = self._value(middle, units[at], self.before)
            steps[at.cpu().numpy()] += 1
            better = found > value[at]
            best[at[better]], value[at[better]] = middle[better], found[better]
            fallen[at[~better]] = middle[~better]

    def _gradient(
        self, x: torch.Tensor, units: torch.Tensor, before: Callable[..., Any] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Objective (B,) and its gradient by the pictures, (B, C, H, W)."""
        x = x.detach().requires_grad_(True)
        found = self._value(x, units, before)
        (gradient,) = torch.autograd.grad(found.sum(), x)
        return found.detach(), gradient

    def _value(self, x: torch.Tensor, units: torch.Tensor, before: Callable[..., Any] | None) -> torch.Tensor:
        if self.stop.is_set():
            raise InterruptedError(f"{self.layer.name}: stopped between two vertices")
        source = self.to_model(x)
        if before is not None:
            source = before(source)
            source = source if torch.is_tensor(source) else source[0]
        if self.last_alone:
            maps = Units.of(self.layer, units, self.device).maps(source)
        else:
            maps = source[torch.arange(len(units), device=self.device), units]
        if self.canvas.row is None or self.canvas.column is None:
            return maps.mean(dim=(1, 2))
        return maps[:, self.canvas.row, self.canvas.column]
