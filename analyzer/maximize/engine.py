"""Gradient ascent on the input: the picture that excites a unit most.

The graph is cut at the layer, the weights are frozen, and a batch of units climbs together, each on its own picture.
A unit that has converged leaves the batch. Knows torch; knows nothing of files or HTML.

Source: Erhan, Bengio, Courville & Vincent 2009, "Visualizing Higher-Layer Features of a Deep Network"; Adam: Kingma &
Ba 2015.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analyzer.canvas import Canvas
from analyzer.inputs import InputSpec
from analyzer.layers import ConvLayer
from analyzer.maximize import objectives
from analyzer.maximize.gates import with_open_gates
from analyzer.maximize.parameters import Fourier, Pixels
from analyzer.maximize.presets import Quality
from analyzer.maximize.transforms import transform
from analyzer.network import Network
from converters.errors import SettingsError

MEMORY = 1 << 30  # bytes of activations that a batch may hold
BATCH_PIXELS = 1 << 17  # of all canvases of a batch: more no longer fits the processor's caches
LARGEST_BATCH = 128
SMALLEST_FOURIER = 12  # pixels a side; a smaller canvas is held as pixels
OPEN_GATES = 1 / 32  # part of the steps in which gradients pass closed ReLUs
GAIN = 0.005  # relative gain that counts as progress
BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Ascent:
    """What a task's units reached."""

    tiles: np.ndarray  # (N, H, W, C) uint8
    steps: np.ndarray  # (N,) int, steps taken by each unit
    diverged: np.ndarray  # (N,) bool: NaN or infinity in the gradient
    seconds: float  # for the whole task


def ascend(
    network: Network,
    layer: ConvLayer,
    canvas: Canvas,
    objective: str,
    channels: Sequence[int],
    quality: Quality,
    seed: int,
    device: torch.device,
    stop: threading.Event | None = None,
) -> Ascent:
    """Maximise some units of one layer.

    Args:
        objective: "channel" or "neuron".
        channels: the units.
        seed: with the same plan on the same kind of machine, the same pictures.
        stop: set by another thread, it ends the ascent at the next step.

    Returns:
        8-bit pictures of the domain, one a unit.

    Raises:
        InterruptedError: `stop` was set.
    """
    started = time.perf_counter()
    climb = _Climb(network, layer, canvas, objective, quality, seed, device, stop or threading.Event())
    size = batch_size(network, layer, canvas)
    parts = [climb.run(list(channels[i : i + size])) for i in range(0, len(channels), size)]
    tiles, steps, diverged = (np.concatenate([part[index] for part in parts]) for index in range(3))
    return Ascent(tiles, steps, diverged, time.perf_counter() - started)


def choose_device(name: str) -> torch.device:
    """`auto`: a GPU where there is one; else the device named.

    Raises:
        SettingsError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"--device {name}: not to be had on this machine; give auto or cpu") from error
    return device


def batch_size(network: Network, layer: ConvLayer, canvas: Canvas) -> int:
    """Units that climb together: by speed, and as many as fit into MEMORY by the sizes of all values before the layer.

    Depends on the plan alone, never on the machine, so that the same plan gives the same pictures.
    """
    part = canvas.height * canvas.width / (network.input.height * network.input.width)
    before = _values_before(network, layer)
    elements = sum(math.prod(network.shapes[name]) for name in before if name in network.shapes)
    by_speed = max(4, BATCH_PIXELS // (canvas.height * canvas.width))
    return max(1, min(LARGEST_BATCH, by_speed, int(MEMORY / (8 * part * elements + 1))))


def _values_before(network: Network, layer: ConvLayer) -> set[str]:
    graph, found, stack = network.model.graph, set[str](), [layer.value]
    while stack:
        name = stack.pop()
        node = graph.producer(name)
        if name not in found and node is not None:
            found.add(name)
            stack.extend(node.inputs)
    return found


class _Climb:
    """The ascent of one layer and objective, for batch after batch."""

    def __init__(
        self,
        network: Network,
        layer: ConvLayer,
        canvas: Canvas,
        objective: str,
        quality: Quality,
        seed: int,
        device: torch.device,
        stop: threading.Event,
    ) -> None:
        self.stop = stop
        self.layer, self.canvas, self.objective = layer, canvas, objective
        self.quality, self.seed, self.device = quality, seed, device
        self.bands = network.input.channels
        self.to_model = input_map(network.input, device)
        self.last_alone = layer.op == "Conv" and layer.weight is not None
        target = layer.source if self.last_alone else layer.value
        self.before: Callable[..., Any] = _identity
        self.first_steps: Callable[..., Any] = _identity
        if target != network.input.name:
            cut = network.twin.cut([target]).to(device)
            _channels_last(cut)
            self.before, self.first_steps = cut, with_open_gates(cut)
        self.strength = quality.strength_for(objective)

    def run(self, channels: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Climb with one batch: tiles, steps taken, diverged."""
        state = _State(self._start(channels), channels)
        tiles = np.zeros((len(channels), *self.canvas.size, self.bands), np.uint8)
        taken = np.zeros(len(channels), np.int32)
        diverged = np.zeros(len(channels), bool)
        for step in range(self.quality.steps):
            if self.stop.is_set():
                raise InterruptedError(f"{self.layer.name}: stopped at step {step}")
            values, gradient = self._gradient(state, step)
            broken = ~torch.isfinite(gradient).flatten(1).all(dim=1)
            state.climb(gradient, self._rate(state, step))
            finished = state.finished(values, self.quality.patience) | broken
            if step == self.quality.steps - 1:
                finished |= True
            if finished.any():
                places, pictures = state.leave(finished)
                tiles[places] = _eight_bit(pictures)
                taken[places] = step + 1
                diverged[places] = broken[finished].cpu().numpy()
            if not len(state):
                break
        return tiles, taken, diverged

    def _start(self, channels: list[int]) -> Fourier | Pixels:
        seeds = [[self.seed, self.layer.index, channel, len(self.objective)] for channel in channels]
        shape = (self.bands, *self.canvas.size)
        large = min(self.canvas.size) >= SMALLEST_FOURIER and self.objective == "channel"
        return (Fourier if large else Pixels)(seeds, shape, self.device)

    def _rate(self, state: _State, step: int) -> float:
        """A half cosine down to a tenth."""
        fallen = 0.5 * (1 + math.cos(math.pi * step / self.quality.steps))
        base = self.quality.rate if isinstance(state.held, Fourier) else Pixels.rate
        return base * (0.1 + 0.9 * fallen)

    def _gradient(self, state: _State, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        values = state.held.values
        moved = transform(state.held.pictures(), self.strength, self.seed, step)
        before = self.first_steps if step < self.quality.steps * OPEN_GATES else self.before
        source = before(self.to_model(moved))
        objective = self._objective(source if torch.is_tensor(source) else source[0], state.channels)
        (gradient,) = torch.autograd.grad(objective.sum(), values)
        return objective.detach(), gradient

    def _objective(self, source: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
        if self.last_alone:
            maps = objectives.Units.of(self.layer, channels, self.device).maps(source)
        else:
            maps = source[torch.arange(len(channels), device=self.device), channels]
        if self.canvas.row is None or self.canvas.column is None:
            return objectives.channel(maps)
        return objectives.neuron(maps, self.canvas.row, self.canvas.column)


class _State:
    """The units still climbing: their pictures, Adam's moments, and how each is getting on."""

    def __init__(self, held: Fourier | Pixels, channels: list[int]) -> None:
        self.held = held
        device = held.values.device
        self.channels = torch.tensor(channels, device=device)
        self.places = np.arange(len(channels))
        self.first = torch.zeros_like(held.values)
        self.second = torch.zeros_like(held.values)
        self.step = 0
        self.best = torch.full((len(channels),), -math.inf, device=device)
        self.since = torch.zeros(len(channels), dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return len(self.places)

    def climb(self, gradient: torch.Tensor, rate: float) -> None:
        """One step of Adam, upwards."""
        self.step += 1
        with torch.no_grad():
            self.first.lerp_(gradient, 1 - BETA1)
            self.second.lerp_(gradient * gradient, 1 - BETA2)
            mean = self.first / (1 - BETA1**self.step)
            spread = (self.second / (1 - BETA2**self.step)).sqrt_()
            # Gradients of deep units can be far below any fixed epsilon: it is taken relative to the unit's own.
            floor = EPSILON + 1e-6 * spread.flatten(1).amax(dim=1).reshape(-1, *[1] * (spread.ndim - 1))
            self.held.values.add_(torch.nan_to_num(mean / (spread + floor)), alpha=rate)
        self.held.constrain()

    def finished(self, values: torch.Tensor, patience: int) -> torch.Tensor:
        """Which units have not gained for `patience` steps: (B,) bool."""
        better = values > self.best + GAIN * self.best.abs()
        better |= torch.isinf(self.best)
        self.best = torch.where(better, values, self.best)
        self.since = torch.where(better, 0, self.since + 1)
        return self.since >= patience

    def leave(self, finished: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
        """Take finished units out: their places in the batch, and their pictures."""
        places = self.places[finished.cpu().numpy()]
        with torch.no_grad():
            pictures = self.held.decode(self.held.values[finished])
        kept = ~finished
        self.held.values = self.held.values.detach()[kept].requires_grad_(True)
        self.first, self.second = self.first[kept], self.second[kept]
        self.best, self.since, self.channels = self.best[kept], self.since[kept], self.channels[kept]
        self.places = self.places[kept.cpu().numpy()]
        return places, pictures


def input_map(spec: InputSpec, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """From pictures u in [0, 1], (B, C, H, W) in RGB order, to the model's input."""
    scale, offset = (
        torch.tensor(array, dtype=torch.float32, device=device)[None, :, None, None] for array in spec.affine()
    )
    reverse = spec.channels == 3 and spec.preprocessing.order == "BGR"

    def to_model(pictures: torch.Tensor) -> torch.Tensor:
        x = (pictures.flip(1) if reverse else pictures) * scale + offset
        if spec.layout == "NHWC":
            return x.permute(0, 2, 3, 1)
        return x.contiguous(memory_format=torch.channels_last)

    return to_model


def _channels_last(module: torch.nn.Module) -> None:
    """Kernels in NHWC order, in place: convolutions run up to twice as fast on a CPU."""
    for weight in module.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x


def _eight_bit(pictures: torch.Tensor) -> np.ndarray:
    """(B, C, H, W) in [0, 1] → (B, H, W, C) uint8, rounded."""
    scaled = torch.nan_to_num(pictures, nan=0.5) * 255
    return np.asarray(scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
