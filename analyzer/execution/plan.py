"""Plan a run: turn settings into an ordered list of tasks, small values that any executor may run.

Knows layers and settings; runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from filterscope.analyzer.data.images import RESIZES
from filterscope.analyzer.maximize.presets import Recipe, preset_named, quality_named
from filterscope.analyzer.network.layers import Layer, select
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.values import ALL_KINDS, DEFAULT_KINDS, is_of_kind, names_in
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
DIVERSE_UNITS = 16  # at most so many channels of a deep layer get diverse pictures unasked
DEEP = 0.5  # layers beyond this part of the network are deep
UNDECIDING = ("layers", "kinds", "channels", "time_budget")  # settings that decide no result of a unit


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run; `layers`, `kinds`, `channels` and `time_budget` decide no result of a unit."""

    quality: str = "standard"
    preset: str = "filterscope"
    objectives: tuple[str, ...] = ("channel",)  # of the ascent
    layers: tuple[str, ...] = ()  # names and globs; none: all
    kinds: tuple[str, ...] = DEFAULT_KINDS  # of layers that a glob fits, or all: of analyzer.network.values.KINDS
    channels: str = "auto"  # auto, all, a number a layer ("32 per layer" is "32/layer"), or a list such as "0,4,8-11"
    seed: int = 0
    map_pictures: int = 12  # images whose activation maps are kept as pictures
    resize: str = "auto"
    time_budget: float | None = None  # seconds for the pictures; the same command then goes on with the rest

    def __post_init__(self) -> None:
        for name, public in (("objectives", "objective"), ("layers", "layers"), ("kinds", "kinds")):
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
        for kind in self.kinds:
            if kind not in ALL_KINDS:
                advice = f"give some of {', '.join(ALL_KINDS)}"
                raise SettingsError(f"{setting('kinds', kind)}: {advice}", field="kinds", value=kind)
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
        """Whether the images are accentuated too: not in a draft, or by a published preset."""
        return "channel" in self.objectives and self._is_gradual

    @property
    def has_diversity(self) -> bool:
        """Whether deep layers get diverse pictures unasked: as accentuations, and not where they are asked for."""
        return "channel" in self.objectives and "diversity" not in self.objectives and self._is_gradual

    @property
    def first_recipe(self) -> Recipe | None:
        """How first pictures are made, before those that are asked for; None where there are none."""
        return replace(self.recipe, quality=quality_named(FIRST)) if self._is_gradual else None

    @property
    def _is_gradual(self) -> bool:
        """Whether pictures are made in several rounds; a draft is quick, and a published preset has no quick form."""
        return self.quality != FIRST and self.recipe.preset.steps is None


@dataclass(frozen=True, slots=True)
class Task:
    """Some units of one layer, maximised in one way."""

    layer: str
    objective: str  # one of CHANNEL_OBJECTIVES
    method: str  # ascent, analytic or accentuation
    channels: tuple[int, ...]
    recipe: Recipe
    is_first: bool = False  # whether it makes first pictures, which others replace

    def key(self, slugs: dict[str, str]) -> TaskKey:
        """The files that the task owns."""
        kind = f"{self.objective}-{self.method}"
        return TaskKey(slugs[self.layer], kind, min(self.channels), max(self.channels), is_first=self.is_first)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All tasks of a run in the order in which they are done, and the hash of everything that decides its results."""

    identity: str
    tasks: tuple[Task, ...]
    first: tuple[Task, ...] = ()  # of first pictures, done before the others
    channels: dict[str, tuple[int, ...]] = field(default_factory=dict)  # analysed layer → its analysed channels
    recipe: str = ""  # hash of all recipes: where it differs, another version of the program made the pictures


def make_plan(
    network: Network,
    settings: Settings,
    images: Sequence[str],
    batch: Callable[[Layer, Recipe], int],
) -> Plan:
    """Tasks for a network.

    Args:
        settings: what the user asked for.
        images: a hash an image, in order.
        batch: how many pictures of a layer's channels climb together; a task is a whole number of such batches.

    Raises:
        SettingsError: a layer or channel that does not exist.
    """
    chosen = selection(network.layers, settings)
    layers = [layer for layer in network.layers if layer.name in chosen]
    first: list[Task] = []
    tasks: list[Task] = []
    places = {layer.name: place for place, layer in enumerate(network.layers)}
    for layer in layers:
        channels, place = chosen[layer.name], places[layer.name]
        if settings.first_recipe is not None:
            quick = _ascents(layer, settings.objectives, channels, settings.first_recipe, batch=batch)
            first += [replace(task, is_first=True) for task in quick]
        if layer.is_constant:
            tasks += _tasks(layer.name, "neuron", "analytic", _parts(channels, ANALYTIC_UNITS), recipe=settings.recipe)
        if images and settings.has_accentuations:
            climbs = _ascents(layer, ["channel"], channels, settings.recipe.accentuation, batch=batch)
            tasks += [replace(task, method="accentuation") for task in climbs]
        tasks += _ascents(layer, settings.objectives, channels, settings.recipe, batch=batch)
        if settings.has_diversity and place >= DEEP * len(network.layers):
            few = tuple(channels[index] for index in evenly_spaced(len(channels), DIVERSE_UNITS))
            tasks += _ascents(layer, ["diversity"], few, settings.recipe.diverse, batch=batch)
    own = settings.recipe
    recipe = _hash([repr(one) for one in (own, settings.first_recipe, own.accentuation, own.diverse)])
    content = {
        "schema": SCHEMA,
        "model": network.model.sha256,
        "input": network.input.identity,
        "settings": {key: value for key, value in asdict(settings).items() if key not in UNDECIDING},
        "channels": chosen,
        "images": list(images),
        "recipe": recipe,  # an older program's pictures are not mixed in
    }
    gains = {layer.name: _gains_field(layer, settings) for layer in layers}
    tasks.sort(key=lambda task: _turn(task, gains_field=gains[task.layer]))
    return Plan(_hash(content), tuple(tasks), tuple(first), channels=chosen, recipe=recipe)


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _turn(task: Task, *, gains_field: bool) -> int:
    """When a task is done: those of one turn follow the network, where the cheapest layers come first.

    The order is that in which a second helps most, by the two-way choice of docs/maximisation.md: accentuations are
    short and help in all layers; longer ascents help where the first picture showed a part of the field alone.
    """
    if task.method == "analytic":
        return 0
    if task.method == "accentuation":
        return 1
    if task.objective == "diversity":
        return 4
    return 2 if gains_field else 3


def _gains_field(layer: Layer, settings: Settings) -> bool:
    """Whether first pictures are smaller than what a layer's units see, and those that are asked for larger."""
    cap = None if settings.first_recipe is None else settings.first_recipe.quality.cap
    return cap is not None and (layer.field is None or max(layer.field.size) > cap)


def _ascents(
    layer: Layer,
    objectives: Sequence[str],
    channels: tuple[int, ...],
    recipe: Recipe,
    *,
    batch: Callable[[Layer, Recipe], int],
) -> list[Task]:
    """The ascents of one layer by one recipe."""
    together = batch(layer, recipe)
    parts = _parts(channels, max(1, TASK_UNITS // together) * together)
    return [task for objective in objectives for task in _tasks(layer.name, objective, "ascent", parts, recipe=recipe)]


def _tasks(layer: str, objective: str, method: str, parts: Sequence[tuple[int, ...]], *, recipe: Recipe) -> list[Task]:
    return [Task(layer, objective, method, part, recipe=recipe) for part in parts]


def selection(layers: Sequence[Layer], settings: Settings, others: Sequence[str] = ()) -> dict[str, tuple[int, ...]]:
    """Which layers are analysed, in network order, and which channels of each.

    Args:
        layers: convolutions, and the values that the settings mean.
        others: names of other values, for the message.

    Raises:
        SettingsError: a layer or channel that does not exist, or only layers that are not two-dimensional.
    """
    named = [layer for layer in select(layers, settings.layers, others=others) if layer.has_maps]
    names = names_in(settings.layers)
    analysed = [layer for layer in named if is_of_kind(layer.kind, settings.kinds) or layer.is_called(names)]
    if not analysed:
        raise SettingsError("no two-dimensional convolution is among the layers chosen; others are listed only")
    return choose_channels(analysed, settings.channels)


def choose_channels(layers: Sequence[Layer], channels: str) -> dict[str, tuple[int, ...]]:
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
