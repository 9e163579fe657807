"""Run one task: make the pictures of some units, and measure them.

Knows the methods of maximisation and the meter; knows nothing of files or of who runs the task.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from filterscope.analyzer.bounds.interval_bounds import Interval, intervals
from filterscope.analyzer.execution.plan import Task
from filterscope.analyzer.execution.strongest_patches import StrongestPatches
from filterscope.analyzer.maximize.accentuation import faded
from filterscope.analyzer.maximize.analytic import image_maximisers, input_maximisers
from filterscope.analyzer.maximize.presets import Recipe
from filterscope.analyzer.maximize.priors import Prior
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.nonlinearity import PASSED
from filterscope.analyzer.units.canvas import Canvas, canvas_for
from filterscope.analyzer.units.measure import Meter
from filterscope.analyzer.units.objectives import OBJECTIVES, objective_for

if TYPE_CHECKING:
    import torch

    from filterscope.analyzer.bounds.linear_relaxation import SharedBounds
    from filterscope.analyzer.compute.devices import Devices
    from filterscope.analyzer.maximize.engine import Ascent

CLOSER = 1 << 17  # numbers in all values up to a layer, on a unit's canvas, up to which bounds are drawn closer


@dataclass(eq=False)
class Workshop:
    """A network with what its tasks share: canvases, bounds, meters, the best of random images.

    Args:
        network: the opened network.
        recipe: of the pictures that the run is asked for; a task has its own.
        seed: of the run.
        devices: where ascent computes.
    """

    network: Network
    recipe: Recipe
    seed: int
    devices: Devices
    prior: Prior | None = None  # colours and spectrum of the user's images
    patches: StrongestPatches | None = None  # of the user's images; None: there are none
    stop: threading.Event = field(default_factory=threading.Event)  # set: tasks end at their next step, unfinished
    _canvases: dict[tuple[str, str, int | None], Canvas] = field(default_factory=dict)
    _bounds: dict[str, Interval] | None = None
    _shared_bounds: SharedBounds | None = None
    _dead: dict[str, np.ndarray] = field(default_factory=dict)
    _meter: tuple[tuple[str, str, Canvas], Meter, np.ndarray] | None = None  # of the layer and objective at hand

    @property
    def device(self) -> torch.device:
        """Where this workshop's own ascents compute."""
        return self.devices.first

    def prepare(self) -> None:
        """Make what several threads would otherwise make at once."""
        _ = self.network.twin
        _ = self.shared_bounds

    def for_a_thread(self) -> Workshop:
        """The same workshop with a meter and one device of its own, to which the calling thread then keeps."""
        from filterscope.analyzer.compute.devices import Devices, keep_to

        device = self.devices.take()
        keep_to(device)
        return replace(self, devices=Devices([device]), _meter=None)

    def canvas(self, layer: Layer, objective: str, recipe: Recipe | None = None) -> Canvas:
        """Size of the pictures of a layer and objective by a recipe; None: the run's."""
        key = (layer.name, OBJECTIVES[objective].canvas, (recipe or self.recipe).quality.cap)
        if key not in self._canvases:
            self._canvases[key] = canvas_for(self.network, layer, *key[1:])
        return self._canvases[key]

    def bound(self, layer: Layer) -> Interval:
        """Interval of a layer's pre-activations, a value a channel."""
        return self._all_bounds()[layer.value]

    def source_bound(self, layer: Layer) -> Interval:
        """Interval of a layer's input, a value a channel."""
        return self._all_bounds()[layer.source]

    def dead(self, layer: Layer) -> np.ndarray:
        """Which units of a layer are proven never to pass the ReLU behind it: (C,) bool."""
        if layer.nonlinearity not in PASSED:  # behind these alone, a unit that can never exceed 0 is dead
            return np.zeros(layer.out_channels, bool)
        if layer.name not in self._dead:
            from filterscope.analyzer.bounds.dead_units import never_positive

            self._dead[layer.name] = never_positive(self.network, layer, self.shared_bounds, CLOSER)
        return self._dead[layer.name]

    @property
    def shared_bounds(self) -> SharedBounds:
        """The bounds that the relaxations of all layers share."""
        if self._shared_bounds is None:
            from filterscope.analyzer.bounds.linear_relaxation import SharedBounds

            self._shared_bounds = SharedBounds(self.network, self._all_bounds())
        return self._shared_bounds

    def _all_bounds(self) -> dict[str, Interval]:
        if self._bounds is None:
            bounds = intervals(self.network)
            for layer in self.network.layers:  # an interval may lie along another axis than the channels
                own = bounds.get(layer.value)
                if own is None or own.axis != 1 or len(own.low) != layer.out_channels:
                    ends = np.full(layer.out_channels, np.inf)
                    bounds[layer.value] = Interval(-ends, ends)
            self._bounds = bounds
        return self._bounds

    def meter(self, layer: Layer, objective: str, canvas: Canvas) -> tuple[Meter, np.ndarray]:
        """The layer's meter, and each channel's best objective over 16 random images."""
        key = (layer.name, objective, canvas)
        if self._meter is None or self._meter[0] != key:
            meter = Meter(self.network, layer, canvas, objective_for(objective, canvas))
            self._meter = (key, meter, meter.best_of_random(np.arange(layer.out_channels)))
        return self._meter[1], self._meter[2]


def run_task(shop: Workshop, task: Task) -> tuple[list[dict[str, Any]], np.ndarray | None]:
    """Rows (fields of UNIT_SCHEMA) and pictures of a task: (N, H, W, C) uint8, or None."""
    layer = shop.network.layer(task.layer)
    if task.method in ("ascent", "accentuation"):
        return _ascent(shop, layer, task)
    if layer.sees_image and layer.op == "Conv":
        return _analytic_image(shop, layer, task)
    return _analytic_input(shop, layer, task)


def _ascent(shop: Workshop, layer: Layer, task: Task) -> tuple[list[dict[str, Any]], np.ndarray]:
    from filterscope.analyzer.maximize.engine import ascend

    recipe = task.recipe
    canvas = shop.canvas(layer, task.objective, recipe)
    objective = objective_for(task.objective, canvas)
    start, images = None, None
    if task.method == "accentuation":
        assert shop.patches is not None
        patches, images = shop.patches.of(layer, task.channels, canvas)
        start = faded(patches)
    problem = Problem(shop.network, layer, canvas, objective)
    climbed = ascend(
        problem,
        task.channels,
        recipe,
        seed=shop.seed,
        device=shop.device,
        stop=shop.stop,
        prior=shop.prior,
        start=start,
    )
    channels = np.repeat(np.array(task.channels), objective.pictures)
    meter, random = shop.meter(layer, task.objective, canvas)
    activation = meter.activation(climbed.tiles, channels)
    if (
        start is None and recipe.has_second_try and objective.canvas != "neuron" and not objective.together
    ):  # neurons had no other
        low = np.flatnonzero(~(objective.sense * (activation - random[channels]) > 0) & ~climbed.diverged)
        _try_again(shop, problem, recipe.second_try, climbed, channels=channels, low=low, activation=activation)
    robust = meter.robust(climbed.tiles, channels)
    highest = meter.highest(climbed.tiles, channels) if objective.canvas != "neuron" else None
    bound, kinds = _upper_bounds(shop, layer, task, canvas)
    dead = shop.dead(layer)
    rows = []
    for index, channel in enumerate(channels.tolist()):
        limit = _finite(bound[index // objective.pictures])
        raised = objective.sense * (activation[index] - random[channel]) > 0
        rows.append(
            _row(task, channel, "image", canvas)
            | {
                "objective": objective.label(index % objective.pictures),
                "activation": activation[index],
                "robust": _finite(robust[index]),
                "random": random[channel],
                "bound": limit,
                "bound_kind": kinds[index // objective.pictures],
                "gap": None if limit is None else limit - activation[index],
                "status": _status(
                    bool(climbed.diverged[index] or not np.isfinite(activation[index])),
                    bool(dead[channel]),
                    raised,
                ),
                "image": None if images is None else int(images[index]),
                "highest": None if highest is None else _finite(highest[index]),
                "steps": int(climbed.steps[index]),
                "seconds": climbed.seconds / len(channels),
            }
        )
    return rows, climbed.tiles


def _try_again(
    shop: Workshop,
    problem: Problem,
    recipe: Recipe,
    climbed: Ascent,
    *,
    channels: np.ndarray,
    low: np.ndarray,
    activation: np.ndarray,
) -> None:
    """Maximise once more, as pixels held still, units that did not rise above random images; keep the better picture.

    Such a unit responds to fine noise, which a smooth picture under movements cannot show. They occur in networks
    that were trained for few steps, and among the last kinds of channel of trained ones.

    Args:
        recipe: of the second climb.
        climbed: what the first climb reached; changed in place.
        channels: (N,) of each picture.
        low: indices of the pictures that are tried again.
        activation: (N,) of each picture; changed in place.
    """
    from filterscope.analyzer.maximize.engine import ascend

    if not low.size:
        return
    again = ascend(problem, channels[low].tolist(), recipe, seed=shop.seed, device=shop.device, stop=shop.stop)
    meter, _ = shop.meter(problem.layer, problem.objective.name, problem.canvas)
    reached = meter.activation(again.tiles, channels[low])
    better = problem.objective.sense * (reached - activation[low]) > 0
    improved = low[better]
    climbed.tiles[improved], activation[improved] = again.tiles[better], reached[better]
    climbed.steps[low] += again.steps


def _upper_bounds(shop: Workshop, layer: Layer, task: Task, canvas: Canvas) -> tuple[np.ndarray, list[str | None]]:
    """Upper bounds on the objective of any picture of the canvas, and how each was found.

    Exact for a neuron of a layer that sees the image; the relaxation's where the network up to the layer is small
    enough for it to be cheap beside the ascent, the interval's elsewhere. None for what is to be low.
    """
    from filterscope.analyzer.bounds.linear_relaxation import upper_bounds

    channels = list(task.channels)
    if OBJECTIVES[task.objective].sense < 0:
        return np.full(len(channels), np.inf), [None] * len(channels)
    if task.objective == "neuron" and layer.sees_image and layer.op == "Conv" and layer.is_constant:
        return image_maximisers(shop.network, layer, channels).values, ["exact"] * len(channels)
    bound = shop.bound(layer).high[channels]
    kinds: list[str | None] = ["interval" if np.isfinite(limit) else None for limit in bound]
    kind = OBJECTIVES[task.objective].canvas
    closer = upper_bounds(shop.network, layer, canvas, kind, channels=channels, shared=shop.shared_bounds, limit=CLOSER)
    for index in np.flatnonzero(closer < bound):
        bound[index], kinds[index] = closer[index], "relaxation"
    return bound, kinds


def _analytic_image(shop: Workshop, layer: Layer, task: Task) -> tuple[list[dict[str, Any]], np.ndarray]:
    units = image_maximisers(shop.network, layer, task.channels)
    canvas = shop.canvas(layer, "neuron")
    tiles = units.tiles
    meter, random = shop.meter(layer, "neuron", canvas)
    channels = np.array(task.channels)
    activation = meter.activation(tiles, channels)
    robust = meter.robust(tiles, channels)
    dead = shop.dead(layer)
    rows = [
        _row(task, channel, "image", canvas)
        | {
            "activation": activation[index],
            "robust": _finite(robust[index]),
            "random": random[channel],
            "bound": units.values[index],
            "bound_kind": "exact",
            "gap": units.values[index] - activation[index],
            "status": _status(
                False,
                bool(dead[channel]),
                activation[index] > random[channel],
            ),
        }
        for index, channel in enumerate(task.channels)
    ]
    return rows, tiles


def _analytic_input(shop: Workshop, layer: Layer, task: Task) -> tuple[list[dict[str, Any]], np.ndarray]:
    units = input_maximisers(shop.network, layer, task.channels, shop.source_bound(layer))
    rows = [
        _row(task, channel, "input", None) | {"activation": _finite(units.values[index]), "status": "ok"}
        for index, channel in enumerate(task.channels)
    ]
    return rows, units.tiles


def _row(task: Task, channel: int, space: str, canvas: Canvas | None) -> dict[str, Any]:
    return {
        "layer": task.layer,
        "channel": channel,
        "objective": task.objective,
        "method": task.method,
        "space": space,
        "row": None if canvas is None else canvas.row,
        "column": None if canvas is None else canvas.column,
    }


def _status(diverged: bool, dead: bool, raised: bool) -> str:
    if diverged:
        return "diverged"
    if dead:
        return "dead"
    return "ok" if raised else "unraised"


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
