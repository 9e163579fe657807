"""A time budget: how many steps the units of each layer get, so that an ascent ends in time and the time helps most.

What a picture gains falls with each step about as one over the steps so far, in all layers alike; a second helps most
where steps are cheap. Equal gain for the next second everywhere means steps in inverse proportion to their cost. What
a step costs is measured on a few layers and fitted to multiply-accumulates and pixels. Knows layers and the ascent;
knows nothing of runs.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from filterscope.analyzer.maximize.problem import Problem
from filterscope.converters.errors import SettingsError, setting

if TYPE_CHECKING:
    from filterscope.analyzer.execution.tasks import Workshop
    from filterscope.analyzer.network.layers import ConvLayer

FEWEST, MOST = 12, 1024  # steps
MEASURING = 10  # steps' worth of time that goes into measuring a finished picture
TIMED_LAYERS = 6  # layers on which a step is timed
TRIAL_STEPS = 3
UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one processor that a step of one picture takes."""

    per_mac: float
    per_pixel: float

    def seconds(self, macs: float, pixels: float) -> float:
        """Of a step that goes through so many multiply-accumulates with a picture of so many pixels."""
        return self.per_mac * macs + self.per_pixel * pixels


def seconds_of(text: str) -> float:
    """Seconds of a time such as 90s, 10m, 1.5h.

    Raises:
        SettingsError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h|)", text.strip(), re.ASCII)
    if not match or not float(match[1]):
        raise SettingsError(
            f"{setting('time_budget', text)}: give a time such as 90s, 10m or 1.5h", field="time_budget", value=text
        )
    return float(match[1]) * UNITS[match[2]]


def share_out(costs: Mapping[str, float], pictures: Mapping[str, int], seconds: float) -> dict[str, int]:
    """Steps of each layer, such that all pictures together take about so many seconds of one processor.

    Args:
        costs: layer → seconds that a step of one picture takes.
        pictures: layer → how many.

    Returns:
        Layer → steps, FEWEST to MOST: FEWEST everywhere where even that takes longer.
    """

    def steps(scale: float) -> dict[str, int]:
        return {name: int(min(MOST, max(FEWEST, scale / cost))) for name, cost in costs.items()}

    def total(scale: float) -> float:
        counts = steps(scale)
        return sum((counts[name] + MEASURING) * costs[name] * pictures[name] for name in costs)

    low, high = FEWEST * min(costs.values()), MOST * max(costs.values())
    for _ in range(60):  # total is monotonic in the scale
        middle = math.sqrt(low * high)
        low, high = (middle, high) if total(middle) <= seconds else (low, middle)
    return steps(low)


def steps_for(
    shop: Workshop,
    layers: Sequence[ConvLayer],
    objectives: Sequence[str],
    units: Mapping[str, int],
    seconds: float,
    workers: int,
) -> dict[str, int]:
    """Steps of each layer for a budget in seconds on the wall.

    Args:
        units: layer → how many of its channels are analysed.
        workers: tasks that run side by side, each as fast as the calling thread.
    """
    work = {layer.name: [_work(shop, layer, objective) for objective in objectives] for layer in layers}
    cost = _measure_cost(shop, layers, objectives[0])
    costs = {name: sum(cost.seconds(*one) for one in works) for name, works in work.items()}
    return share_out(costs, {layer.name: units[layer.name] for layer in layers}, seconds * workers)


def _work(shop: Workshop, layer: ConvLayer, objective: str) -> tuple[float, float]:
    """Multiply-accumulates and pixels of one pass with one picture."""
    network, canvas = shop.network, shop.canvas(layer, objective)
    part = canvas.height * canvas.width / (network.input.height * network.input.width)
    before = sum(other.macs for other in network.layers if other.index < layer.index and other.depth < layer.depth)
    return part * before, float(canvas.height * canvas.width)


def _measure_cost(shop: Workshop, layers: Sequence[ConvLayer], objective: str) -> Cost:
    """Steps on a few layers, timed, and the non-negative costs that fit them best."""
    from filterscope.analyzer.maximize.engine import ascend, batch_size

    chosen = [layers[round(place)] for place in np.linspace(0, len(layers) - 1, min(TIMED_LAYERS, len(layers)))]
    rows, spent = [], []
    for layer in dict.fromkeys(chosen):
        canvas = shop.canvas(layer, objective)
        count = min(batch_size(shop.network, layer, canvas), layer.out_channels)
        times = []
        for steps in (1, 1 + TRIAL_STEPS):  # their difference leaves out what is done once
            trial = shop.recipe.with_steps(steps)
            trial = replace(trial, quality=replace(trial.quality, patience=steps))  # nobody leaves early
            started = time.perf_counter()
            problem = Problem(shop.network, layer, canvas, shop.objective(layer, objective))
            ascend(problem, range(count), trial, seed=0, device=shop.device)
            times.append(time.perf_counter() - started)
        rows.append(_work(shop, layer, objective))
        spent.append(max(times[1] - times[0], 1e-6) / TRIAL_STEPS / count)
    work = np.array(rows)
    weights = 1 / np.array(spent)  # relative errors count, not those of the dearest layer
    (per_mac, per_pixel), *_ = np.linalg.lstsq(work * weights[:, None], np.ones(len(work)), rcond=None)
    if per_mac <= 0 or per_pixel <= 0:  # one of the two alone
        per_mac, per_pixel = (
            (0.0, 1 / np.mean(work[:, 1] * weights))
            if per_mac <= 0
            else (
                1 / np.mean(work[:, 0] * weights),
                1e-12,
            )
        )
    return Cost(float(per_mac), float(per_pixel))
