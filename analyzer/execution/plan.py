"""Plan a run: turn settings into an ordered list of tasks, small values that any executor may run.

Knows layers and settings; runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from filterscope.analyzer.data.images import RESIZES
from filterscope.analyzer.maximize.presets import Recipe, preset_named, quality_named
from filterscope.analyzer.network.layers import ConvLayer, select
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.run.layout import SCHEMA, TaskKey
from filterscope.analyzer.units.objectives import OBJECTIVES
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting

AUTO_ALL = 1024  # a network of at most so many channels is analysed whole
AUTO_PER_LAYER = 16
CHANNEL_OBJECTIVES = tuple(name for name in OBJECTIVES if name != "layer")  # a run has a row a channel
TASK_UNITS = 64  # about so many units an ascent task: a crash loses no more
ANALYTIC_UNITS = 512
FIRST = "draft"  # quality of first pictures


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run; all but `layers` and `channels` decide the results of each unit."""

    quality: str = "standard"
    preset: str = "filterscope"
    objectives: tuple[str, ...] = ("channel",)  # of the ascent
    layers: tuple[str, ...] = ()  # names and globs; none: all
    channels: str = "auto"  # auto, all, a number a layer ("32 per layer" is "32/layer"), or a list such as "0,4,8-11"
    seed: int = 0
    map_pictures: int = 12  # images whose activation maps are kept as pictures
    resize: str = "auto"
    time_budget: float | None = None  # seconds for the ascent; steps are then shared out (analyzer.execution.budget)

    def __post_init__(self) -> None:
        for name, public in (("objectives", "objective"), ("layers", "layers")):
            names = checks.listed(public, getattr(self, name))
            object.__setattr__(self, name, tuple(checks.text(public, one) for one in names))
        for name in ("quality", "preset", "channels", "resize"):
            checks.text(name, getattr(self, name))
        if not self.objectives:
            checks.refuse("objective", (), f"give one of {', '.join(CHANNEL_OBJECTIVES)}")
        for name, public in (("seed", "seed"), ("map_pictures", "maps")):
            object.__setattr__(self, name, checks.whole(public, getattr(self, name)))
        if self.time_budget is not None:
            object.__setattr__(self, "time_budget", checks.number("time_budget", self.time_budget))
        _ = self.recipe
        for objective in self.objectives:
            if objective not in CHANNEL_OBJECTIVES:
                raise SettingsError(
                    f"{setting('objective', objective)}: give one of {', '.join(CHANNEL_OBJECTIVES)}",
                    field="objective",
                    value=objective,
                )
        if self.resize not in RESIZES:
            raise SettingsError(
                f"{setting('resize', self.resize)}: give one of {', '.join(RESIZES)}",
                field="resize",
                value=self.resize,
            )
        _check_form(self.channels)
        if self.time_budget is not None and not 0 < self.time_budget < float("inf"):
            raise SettingsError(
                f"{setting('time_budget', self.time_budget)}: give more than 0 seconds",
                field="time_budget",
                value=self.time_budget,
            )

    @property
    def recipe(self) -> Recipe:
        """The preset at the quality."""
        return Recipe(preset_named(self.preset), quality_named(self.quality))

    @property
    def has_accentuations(self) -> bool:
        """Whether the images are accentuated too: not in a draft, under a time budget, or by a published preset."""
        return "channel" in self.objectives and self.quality != FIRST and self._is_free

    @property
    def _is_free(self) -> bool:
        """Whether neither a published preset nor a time budget says how many steps there are."""
        return self.time_budget is None and self.recipe.preset.steps is None

    @property
    def first_recipe(self) -> Recipe | None:
        """How first pictures are made, before those that are asked for; None where there are none.

        A published preset has no quicker form, and a time budget is shared out from the beginning.
        """
        if self.quality == FIRST or not self._is_free:
            return None
        return replace(self.recipe, quality=quality_named(FIRST))


@dataclass(frozen=True, slots=True)
class Task:
    """Some units of one layer, maximised in one way."""

    layer: str
    objective: str  # one of CHANNEL_OBJECTIVES
    method: str  # ascent, analytic or accentuation
    channels: tuple[int, ...]
    steps: int | None = None  # of an ascent with a time budget; None: the recipe's
    is_first: bool = False  # whether it makes first pictures, which others replace

    def key(self, slugs: dict[str, str]) -> TaskKey:
        """The files that the task owns."""
        kind = f"{self.objective}-{self.method}"
        return TaskKey(slugs[self.layer], kind, min(self.channels), max(self.channels), is_first=self.is_first)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All tasks of a run, and the hash of everything that decides its results."""

    identity: str
    tasks: tuple[Task, ...]
    channels: dict[str, tuple[int, ...]] = field(default_factory=dict)  # analysed layer → its analysed channels


def make_plan(
    network: Network,
    settings: Settings,
    images: Sequence[str],
    batch: dict[str, int],
    steps: Mapping[str, int] | None = None,
) -> Plan:
    """Tasks for a network.

    Args:
        settings: what the user asked for.
        images: a hash an image, in order.
        batch: layer name → units that climb together; a task is a whole number of such batches.
        steps: layer name → steps, where a time budget shares them out.

    Raises:
        SettingsError: a layer or channel that does not exist.
    """
    chosen = selection(network.layers, settings)
    tasks: list[Task] = []
    for layer in network.layers:
        if layer.name not in chosen:
            continue
        channels = chosen[layer.name]
        tasks += [
            Task(layer.name, "neuron", "analytic", part)
            for part in _parts(channels, ANALYTIC_UNITS)
            if layer.is_constant
        ]
        own = None if steps is None else steps[layer.name]
        climbs = ascents(settings, layer.name, channels, batch[layer.name])
        if images and settings.has_accentuations:
            tasks += [replace(task, method="accentuation") for task in climbs if task.objective == "channel"]
        tasks += [replace(task, steps=own) for task in climbs]
    content = {
        "schema": SCHEMA,
        "model": network.model.sha256,
        "input": network.input.identity,
        "settings": {key: value for key, value in asdict(settings).items() if key not in ("layers", "channels")},
        "channels": chosen,
        "images": list(images),
        "steps": None if steps is None else dict(steps),
        "recipe": repr(settings.recipe),  # an older program's pictures are not mixed with this one's
    }
    identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Plan(identity, tuple(tasks), chosen)


def ascents(settings: Settings, layer: str, channels: tuple[int, ...], batch: int) -> list[Task]:
    """The ascents of one layer.

    Args:
        batch: units that climb together; a task is a whole number of such batches.
    """
    size = max(1, TASK_UNITS // batch) * batch
    return [
        Task(layer, objective, "ascent", part) for objective in settings.objectives for part in _parts(channels, size)
    ]


def selection(layers: Sequence[ConvLayer], settings: Settings) -> dict[str, tuple[int, ...]]:
    """Which layers are analysed, in network order, and which channels of each.

    Raises:
        SettingsError: a layer or channel that does not exist, or only layers that are not two-dimensional.
    """
    analysed = [layer for layer in select(layers, settings.layers) if layer.has_maps]
    if not analysed:
        raise SettingsError("no two-dimensional convolution is among the layers chosen; others are listed only")
    return choose_channels(analysed, settings.channels)


def choose_channels(layers: Sequence[ConvLayer], channels: str) -> dict[str, tuple[int, ...]]:
    """Which channels of each layer are analysed.

    Args:
        channels: "auto": all of a network of at most 1,024 channels, else 16 a layer, evenly spaced; "all"; "N/layer";
            or a list of numbers and ranges that every layer must have.

    Raises:
        SettingsError: not of these forms, or a channel that a layer does not have.
    """
    if channels == "auto":
        channels = "all" if sum(layer.out_channels for layer in layers) <= AUTO_ALL else f"{AUTO_PER_LAYER}/layer"
    if channels == "all":
        return {layer.name: tuple(range(layer.out_channels)) for layer in layers}
    _check_form(channels)
    count, slash, _ = channels.partition("/")
    if slash:
        return {layer.name: evenly_spaced(layer.out_channels, int(count)) for layer in layers}
    ranges = [(int(first), int(last or first)) for first, _, last in (p.partition("-") for p in channels.split(","))]
    highest = max(last for _, last in ranges)
    for layer in layers:
        if highest >= layer.out_channels:
            raise SettingsError(
                f"{setting('channels', channels)}: {layer.name} has channels 0 to {layer.out_channels - 1}; "
                f"choose its layer with {setting('layers')}, or other channels",
                field="channels",
                value=channels,
            )
    listed = tuple(sorted({channel for first, last in ranges for channel in range(first, last + 1)}))
    return {layer.name: listed for layer in layers}


def evenly_spaced(total: int, count: int) -> tuple[int, ...]:
    """At most `count` of 0 … total − 1, evenly spaced, the first among them."""
    if count >= total:
        return tuple(range(total))
    return tuple(index * total // count for index in range(count))


def _check_form(channels: str) -> None:
    if channels in ("auto", "all") or re.fullmatch(r"[1-9]\d{0,8}/layer", channels, re.ASCII):
        return
    for part in channels.split(","):
        numbers = re.fullmatch(r" *(\d{1,9})(?:-(\d{1,9}))? *", part, re.ASCII)
        if not numbers or int(numbers[2] or numbers[1]) < int(numbers[1]):
            raise SettingsError(
                f"{setting('channels', channels)}: give auto, all, 16/layer, or numbers and ranges such as 0,4,8-11",
                field="channels",
                value=channels,
            )


def _parts(channels: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    return [channels[start : start + size] for start in range(0, len(channels), size)]


def settings_json(settings: Settings) -> dict[str, Any]:
    """Settings for run.json."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()}
