"""Gradient ascent on the input: the picture that excites a unit most.

The graph is cut at the layer, the weights are frozen, and a batch of units climbs together, each on its own picture.
A unit that has converged leaves the batch. Knows torch; knows nothing of files or HTML.

Source: Erhan, Bengio, Courville & Vincent 2009, "Visualizing Higher-Layer Features of a Deep Network".
"""

from __future__ import annotations

import logging
import math
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from filterscope.analyzer.compute.pixels import eight_bit
from filterscope.analyzer.maximize.film import Recorder
from filterscope.analyzer.maximize.objective_gradient import ObjectiveGradient, UnitDirections, select_directions
from filterscope.analyzer.maximize.optimisers import Optimiser, optimiser
from filterscope.analyzer.maximize.parameterisations import Fourier, Maco, Parameters, Pixels
from filterscope.analyzer.maximize.presets import STRETCHED, Recipe
from filterscope.analyzer.maximize.priors import Prior
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.maximize.transforms import fitted
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.units.canvas import Canvas, bytes_on
from filterscope.converters.errors import SettingsError, setting

MEMORY = 1 << 30  # bytes of activations that a batch may hold
BATCH_PIXELS = 3 << 17  # of all canvases of a batch: 42 of 96 px, beyond which a processor gains nothing
LARGEST_BATCH = 128
REDIRECTED, FEWEST_REDIRECTED = 1 / 32, 4  # part of the steps in which ReLUs are redirected, and at least so many
GAIN = 0.005  # relative gain that counts as progress


@dataclass(frozen=True, slots=True, eq=False)
class Ascent:
    """Pictures of some units after gradient ascent."""

    tiles: np.ndarray  # (N, H, W, C) uint8
    steps: np.ndarray  # (N,) int, steps taken by each picture
    diverged: np.ndarray  # (N,) bool: NaN or infinity in the gradient
    seconds: float  # for the whole task


def ascend(
    problem: Problem,
    units: Sequence[int],
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    stop: threading.Event | None = None,
    prior: Prior | None = None,
    start: np.ndarray | None = None,
    recorder: Recorder | None = None,
) -> Ascent:
    """Maximise some units of one layer.

    Args:
        problem: the layer, its objective and the size of the pictures.
        units: what the objective counts: channels, or its own directions.
        recipe: how; what it says of this kind of canvas.
        seed: with the same plan on the same kind of machine, the same pictures.
        device: where to compute.
        stop: set by another thread, it ends the ascent at the next step.
        prior: colours and spectrum of the user's images; None: those of ImageNet, and 1/f.
        start: (N, H, W, C) uint8 pictures to begin at, one a picture; None: the recipe's own start.
        recorder: gets the pictures as they stand at the steps that it names; None: nothing is computed for it.

    Returns:
        8-bit pictures of the domain: `objective.pictures` of each unit, one after the other.

    Raises:
        InterruptedError: `stop` was set.
        SettingsError: the objective does not fit the layer, or the recipe's phases cannot begin at a picture.
    """
    started = time.perf_counter()
    together = problem.objective.pictures
    climb = _Climb(
        problem, recipe, seed=seed, device=device, prior=prior, stop=stop or threading.Event(), recorder=recorder
    )
    pictures = [(unit, index) for unit in units for index in range(together)]
    size = batch_size(problem.network, problem.layer, problem.canvas, together)
    parts: list[Part] = []
    first = 0
    while first < len(pictures):
        batch = slice(first, first + size)
        part = climb.run(pictures[batch], None if start is None else start[batch], first)
        if part is None:
            size = _smaller_batch(min(size, len(pictures) - first), together)
            continue
        parts.append(part)
        first += size
    tiles, steps, diverged = (np.concatenate([part[index] for part in parts]) for index in range(3))
    return Ascent(tiles=tiles, steps=steps, diverged=diverged, seconds=time.perf_counter() - started)


def batch_size(network: Network, layer: Layer, canvas: Canvas, together: int = 1) -> int:
    """Pictures that climb together: by speed, and as many as fit into MEMORY by the sizes of the values on the way.

    Depends on the plan alone, never on the machine, so that the same plan gives the same pictures.

    Args:
        together: pictures that may not be parted; the size is a multiple of it.
    """
    by_speed = max(4, BATCH_PIXELS // (canvas.height * canvas.width))
    size = max(1, min(LARGEST_BATCH, by_speed, int(MEMORY / (bytes_on(network, layer, canvas.size) + 1))))
    return max(1, size // together) * together


def _smaller_batch(size: int, together: int) -> int:
    """The next smaller batch after one that the device had no memory for.

    Raises:
        SettingsError: there is none.
    """
    smaller = size // together // 2 * together
    if not smaller:
        raise SettingsError(
            "this device has too little memory for the ascent of one picture; "
            f"give {setting('device', 'cpu')} or a smaller {setting('canvas')}"
        )
    torch.cuda.empty_cache()
    _warn_once("a batch did not fit into the device's memory; smaller batches follow")
    return smaller


@cache
def _warn_once(text: str) -> None:
    logging.getLogger("filterscope").warning(text)


Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # tiles, steps taken, diverged


class _Climb:
    """Gradient ascent on one problem, one batch of units after another."""

    def __init__(
        self,
        problem: Problem,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
        prior: Prior | None,
        stop: threading.Event,
        recorder: Recorder | None,
    ) -> None:
        self.stop, self.recorder = stop, recorder
        self.layer, self.canvas, self.objective = problem.layer, problem.canvas, problem.objective
        field = None if problem.layer.field is None else problem.layer.field.size
        self.longest = recipe.longest_wave(self.canvas.size, field)
        side = self.longest or min(self.canvas.size)
        self.recipe = recipe.on(self.objective.canvas, side, None if field is None else max(field))
        self.seed, self.device = seed, device
        self.prior = None if prior is None else prior.fitted(self.canvas.size)
        self.bands = problem.network.input.channels
        self.slope = ObjectiveGradient(problem, device)
        self.moved = fitted(self.recipe.preset.transforms, self.recipe.steps)
        seen = self.moved.seen(self.canvas.size)
        if seen != self.canvas.size and (self.objective.canvas == "neuron" or not self.slope.runs_on(seen)):
            self.moved = replace(self.moved, whole=True)

    def run(self, units: list[tuple[int, int]], start: np.ndarray | None, first: int) -> Part | None:
        """Climb with one batch of (unit, number of its picture); None if the GPU's memory is too small for it.

        Args:
            first: place of the batch's first picture among all of the ascent.
        """
        try:
            return self._run(units, start, first)
        except torch.OutOfMemoryError:
            return None  # the exception, which holds the batch's tensors, ends here

    def _run(self, units: list[tuple[int, int]], start: np.ndarray | None, first: int) -> Part:
        state = _State(
            self._initial_parameters(units, start), self.recipe, self.slope.directions([unit for unit, _ in units])
        )
        tiles = np.zeros((len(units), *self.canvas.size, self.bands), np.uint8)
        steps = np.zeros(len(units), np.int32)
        diverged = np.zeros(len(units), bool)
        for step in range(self.recipe.steps):
            if self.stop.is_set():
                raise InterruptedError(f"{self.layer.name}: stopped at step {step}")
            if self.recorder is not None and step in self.recorder.steps:
                self.recorder.add(step, first + state.places, eight_bit(self._shown(state.pictures())))
            values, gradient = self._gradient(state, step)
            broken = ~torch.isfinite(gradient.flatten(1).sum(dim=1))
            state.climb(gradient, step)
            last = step == self.recipe.steps - 1
            finished = state.finished(values, broken, last, whole=self.objective.together)
            if finished.any():
                places, pictures = state.leave(finished)
                tiles[places] = eight_bit(self._shown(pictures))
                steps[places] = step + 1
                diverged[places] = broken[finished].cpu().numpy()
            if not len(state):
                break
        return tiles, steps, diverged

    def _initial_parameters(self, units: list[tuple[int, int]], start: np.ndarray | None) -> Parameters:
        preset = self.recipe.preset
        shape = (self.bands, *self.canvas.size)
        if start is not None:
            if preset.parameters == "maco":
                raise SettingsError(f"preset {preset.name}: holds phases and cannot begin at a picture")
            pictures = torch.tensor(start, dtype=torch.float32, device=self.device).permute(0, 3, 1, 2) / 255
            if preset.parameters == "fourier":
                return Fourier.start_from(pictures.contiguous(), self.prior, preset.exponent, self.longest)
            return Pixels.start_from(pictures.contiguous())
        objective = zlib.crc32(self.objective.name.encode())
        seeds = [[self.seed, self.layer.index, unit, objective, which] for unit, which in units]
        if preset.parameters == "fourier":
            return Fourier(
                seeds,
                shape,
                self.device,
                prior=self.prior,
                start=preset.start,
                exponent=preset.exponent,
                longest=self.longest,
            )
        kind = Maco if preset.parameters == "maco" else Pixels
        return kind(seeds, shape, self.device, prior=self.prior, start=preset.start)

    def _gradient(self, state: _State, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The objective of each picture, (B,), and its gradient by the parameters.

        In the first steps it may be that of redirected ReLUs: of all pictures, or of those that have none otherwise.
        """
        first_steps = max(FEWEST_REDIRECTED, self.recipe.steps * REDIRECTED)
        redirect = self.recipe.preset.redirect if step < first_steps else "never"
        raised, climbed = self._climbed(state, step, redirected=redirect == "always")
        values = state.parameters.values
        if redirect != "blocked":
            return raised.detach(), torch.autograd.grad(climbed.sum(), values)[0]
        (gradient,) = torch.autograd.grad(raised.sum(), values, retain_graph=climbed is not raised)
        asleep = ~gradient.flatten(1).any(dim=1)
        if climbed is not raised:
            (gradient,) = torch.autograd.grad(climbed.sum(), values)
        if bool(asleep.any()):
            _, climbed = self._climbed(state, step, redirected=True)
            gradient[asleep] = torch.autograd.grad(climbed.sum(), values)[0][asleep]
        return raised.detach(), gradient

    def _climbed(self, state: _State, step: int, *, redirected: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """The objective of each picture, (B,), and the same less the penalties."""
        pictures = state.parameters.pictures()
        moved = self.moved(pictures, self.seed, step)
        raised, source = self.slope.evaluate(moved, state.directions, redirected)
        copies = self.moved.copies
        raised = raised.reshape(copies, -1).mean(dim=0)
        climbed = raised
        held_back = self.objective.penalty(source)
        if held_back is not None:
            climbed = climbed - raised.detach().abs() * held_back.reshape(copies, -1).mean(dim=0)
        for penalty in self.recipe.preset.penalties:
            climbed = climbed - penalty.penalty(pictures)
        return raised, climbed

    def _shown(self, pictures: torch.Tensor) -> torch.Tensor:
        """The pictures, or their stretched view where that is what the recipe's source shows."""
        if not self.recipe.preset.stretched:
            return pictures
        mean, spread = STRETCHED
        flat = pictures.flatten(1)
        centred = (flat - flat.mean(dim=1, keepdim=True)) / (flat.std(dim=1, keepdim=True) + 1e-5)
        return (centred * spread + mean).reshape(pictures.shape)


class _State:
    """The units that still climb: their pictures, the optimiser's moments, and their best values so far."""

    def __init__(self, parameters: Parameters, recipe: Recipe, directions: UnitDirections) -> None:
        self.parameters, self.recipe, self.directions = parameters, recipe, directions
        count, device = len(parameters.values), parameters.values.device
        self.optimiser: Optimiser = optimiser(recipe.preset.optimiser, parameters.values)
        self.places = np.arange(count)
        self.best = torch.full((count,), -math.inf, device=device)
        self.since = torch.zeros(count, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return len(self.places)

    def pictures(self) -> torch.Tensor:
        """The pictures that still climb, as they stand, (B, C, H, W)."""
        with torch.no_grad():
            return self.parameters.decode(self.parameters.values)

    def climb(self, gradient: torch.Tensor, step: int) -> None:
        """One step upwards, and what the recipe does to pictures after it."""
        preset = self.recipe.preset
        with torch.no_grad():
            move = self.optimiser.step(gradient, self.recipe.rate_at(step))
            values = self.parameters.values.detach() + torch.nan_to_num(move, posinf=0.0, neginf=0.0)
            for operation in preset.operations:
                values = operation.apply(values, gradient, step)
            self.parameters.values = values.requires_grad_(True)
        if preset.boxed:
            self.parameters.constrain()

    def finished(self, values: torch.Tensor, broken: torch.Tensor, last: bool, whole: bool) -> torch.Tensor:
        """Which pictures are done: broken, at the last step, or without a gain for the recipe's patience: (B,) bool.

        Args:
            whole: pictures stay until all are done, since they look at each other.
        """
        better = values > self.best + GAIN * self.best.abs()
        better |= torch.isinf(self.best)
        self.best = torch.where(better, values, self.best)
        self.since = torch.where(better, 0, self.since + 1)
        done = (self.since >= self.recipe.patience) | broken
        if whole:
            done = done.all().expand(len(done))
        return torch.ones_like(done) if last else done

    def leave(self, finished: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
        """Take finished units out: their places in the batch, and their pictures."""
        places = self.places[finished.cpu().numpy()]
        with torch.no_grad():
            pictures = self.parameters.decode(self.parameters.values[finished])
        remaining = ~finished
        self.parameters.values = self.parameters.values.detach()[remaining].requires_grad_(True)
        self.optimiser.keep(remaining)
        self.directions = select_directions(self.directions, remaining)
        self.best, self.since = self.best[remaining], self.since[remaining]
        self.places = self.places[remaining.cpu().numpy()]
        return places, pictures
