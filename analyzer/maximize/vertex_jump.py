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
from collections.abc import Sequence

import numpy as np
import torch

from filterscope.analyzer.compute.pixels import eight_bit
from filterscope.analyzer.maximize.engine import Ascent, batch_size
from filterscope.analyzer.maximize.objective_gradient import ObjectiveGradient, UnitDirections, select_directions
from filterscope.analyzer.maximize.problem import Problem

JUMPS = 12  # at most
HALVINGS = 4  # of the last step


def jump(problem: Problem, units: Sequence[int], device: torch.device, stop: threading.Event | None = None) -> Ascent:
    """Maximise some units of one layer by vertex jumps from mid grey.

    Args:
        problem: the layer, its objective and the size of the pictures.
        units: what the objective counts; one picture each.
        device: where to compute.
        stop: set by another thread, it ends the work at the next evaluation.

    Returns:
        8-bit pictures of the domain, one a unit: never below mid grey's objective but for what rounding to 8 bits
        takes. `steps` counts evaluations. No chance takes part: there is no seed.

    Raises:
        InterruptedError: `stop` was set.
    """
    started = time.perf_counter()
    size = batch_size(problem.network, problem.layer, problem.canvas)
    leap = _VertexJumps(problem, device, stop or threading.Event())
    parts = [leap.run(list(units[i : i + size])) for i in range(0, len(units), size)]
    tiles, steps, diverged = (np.concatenate([part[index] for part in parts]) for index in range(3))
    return Ascent(tiles=tiles, steps=steps, diverged=diverged, seconds=time.perf_counter() - started)


class _VertexJumps:
    """The jumps of one layer and objective, for batch after batch."""

    def __init__(self, problem: Problem, device: torch.device, stop: threading.Event) -> None:
        self.layer, self.device, self.stop = problem.layer, device, stop
        self.shape = (problem.network.input.channels, *problem.canvas.size)
        self.slope = ObjectiveGradient(problem, device, exact=True)  # signs are all that counts

    def run(self, units: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Jump with one batch: tiles, evaluations, diverged."""
        directions = self.slope.directions(units)
        count = len(units)
        x = torch.full((count, *self.shape), 0.5, device=self.device)
        best, value = x.clone(), torch.full((count,), -torch.inf, device=self.device)
        fallen = x.clone()  # where the objective was lower than at the best: the other end of the bisection
        steps = np.zeros(count, np.int32)
        diverged = torch.zeros(count, dtype=torch.bool, device=self.device)
        at = torch.arange(count, device=self.device)  # the units that still jump
        for _ in range(JUMPS):
            objective, gradient = self._gradient(x[at], select_directions(directions, at))
            asleep = ~gradient.flatten(1).any(dim=1)
            if bool(asleep.any()):  # behind closed ReLUs
                gradient[asleep] = self._gradient(
                    x[at[asleep]], select_directions(directions, at[asleep]), redirected=True
                )[1]
            steps[at.cpu().numpy()] += 1
            broken = ~(torch.isfinite(objective) & torch.isfinite(gradient).flatten(1).all(dim=1))
            diverged[at[broken]] = True
            better = (objective > value[at]) & ~broken
            fallen[at] = x[at]
            risen = at[better]
            best[risen], value[risen] = x[risen], objective[better]
            target = torch.where(gradient > 0, 1.0, torch.where(gradient < 0, 0.0, x[at]))
            moves = (target != x[at]).flatten(1).any(dim=1)
            x[at] = target
            at = at[better & moves]
            if not len(at):
                break
        steps += self._bisect(best, value, fallen, directions)
        return eight_bit(best), steps, diverged.cpu().numpy()

    def _bisect(
        self, best: torch.Tensor, value: torch.Tensor, fallen: torch.Tensor, directions: UnitDirections
    ) -> np.ndarray:
        """Between the best picture and the one after it that was worse, in place: evaluations of each picture, (B,)."""
        steps = np.zeros(len(best), np.int32)
        at = torch.nonzero((best != fallen).flatten(1).any(dim=1))[:, 0]
        for _ in range(HALVINGS if len(at) else 0):
            middle = (best[at] + fallen[at]) / 2
            with torch.no_grad():
                objective = self._value(middle, select_directions(directions, at))
            steps[at.cpu().numpy()] += 1
            better = objective > value[at]
            best[at[better]], value[at[better]] = middle[better], objective[better]
            fallen[at[~better]] = middle[~better]
        return steps

    def _gradient(
        self, x: torch.Tensor, directions: UnitDirections, redirected: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Objective (B,) and its gradient by the pictures, (B, C, H, W)."""
        x = x.detach().requires_grad_(True)
        objective = self._value(x, directions, redirected)
        (gradient,) = torch.autograd.grad(objective.sum(), x)
        return objective.detach(), gradient

    def _value(self, x: torch.Tensor, directions: UnitDirections, redirected: bool = False) -> torch.Tensor:
        if self.stop.is_set():
            raise InterruptedError(f"{self.layer.name}: stopped between two vertices")
        return self.slope.evaluate(x, directions, redirected)[0]
