"""The request to maximise some units of one layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filterscope.analyzer.maximize.presets import Quality, Recipe
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from filterscope.analyzer.maximize.single_unit import Portrait, UnitRequest
    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.units.objectives import Objective

FIRST = Quality("first", steps=12, rate=0.3, cap=96, patience=12)  # shown at once: a dozen long steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two channels, and how many pictures lead from one to the other."""

    first: int
    second: int
    steps: int = 1

    def __str__(self) -> str:
        return f"{self.first},{self.second}:{self.steps}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaximizeRequest:
    """Units of a layer, what is raised of them, and how.

    Raises:
        SettingsError: a layer and a class are named, or a pair and another objective, or a field is not of its type.
    """

    layer: str | None = None  # its name, or a glob that fits one; None: the scores of the classes
    channels: Sequence[int] = (0,)
    class_name: str | None = None  # instead of channels: a class by number or label
    pair: Pair | None = None  # instead of channels
    objective: str | Objective = "channel"
    recipe: Recipe
    method: str = "ascent"
    labels: Sequence[str] = ()  # class names in order, or none
    seed: int = 0
    device: str = "auto"
    canvas: tuple[int, int] | None = None  # height and width; None: fitted to what the unit sees
    seconds: float = 60.0  # that a proof may take, each unit
    start: str | Path | np.ndarray | None = None  # a photo where the ascent begins; None: noise

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", checks.wholes("channels", self.channels, least=None))
        object.__setattr__(self, "seed", checks.whole("seed", self.seed, least=None))
        object.__setattr__(self, "seconds", checks.number("seconds", self.seconds))
        if self.canvas is not None:
            object.__setattr__(self, "canvas", checks.size("canvas", self.canvas))
        if self.layer is not None:
            checks.text("layer", self.layer)
        if not isinstance(self.recipe, Recipe):
            checks.refuse("recipe", self.recipe, "give fs.Recipe.named(preset, quality)")
        if not isinstance(self.objective, str) and not hasattr(self.objective, "direction"):
            checks.refuse("objective", self.objective, "give a name, or an object of fs.objectives")
        if self.class_name is not None and self.layer is not None:
            raise SettingsError(
                f"maximize: give {setting('layer')}, or {setting('class')} for the network's own scores"
            )
        if self.start is not None:
            checks.array("start", self.start)
            if self.method != "ascent":
                raise SettingsError(f"{setting('start')}: is of {setting('method', 'ascent')}", field="start")
        if len(self.labels) and self.class_name is None:
            raise SettingsError(f"{setting('labels')}: names classes, and goes with {setting('class')}", field="labels")
        if self.pair is not None and self.objective != "channel":
            raise SettingsError(f"maximize: {setting('pair')} is an objective itself; leave {setting('objective')} out")

    def question(self, network: Network) -> UnitRequest:
        """What is maximised, for this network.

        Raises:
            SettingsError: something does not fit the network.
        """
        from filterscope.analyzer.maximize.single_unit import UnitRequest, only_layer
        from filterscope.analyzer.network.scores import class_index, own_labels, scores
        from filterscope.analyzer.units.objectives import between

        layer = scores(network) if self.layer is None else only_layer(network, self.layer)
        objective, units = self.objective, tuple(self.channels)
        if self.class_name is not None:
            units = (class_index(self.class_name, self.labels or own_labels(network), layer.out_channels),)
        if self.pair is not None:
            objective = between(self.pair.first, self.pair.second, steps=self.pair.steps, channels=layer.out_channels)
            units = tuple(range(self.pair.steps))
        return UnitRequest(
            layer=layer,
            objective=objective,
            units=units,
            recipe=self.recipe,
            method=self.method,
            seed=self.seed,
            device=self.device,
            canvas=self.canvas,
            seconds=self.seconds,
            start=self.start,
        )

    def run(self, network: Network, on_first: Callable[[Portrait], None] | None = None) -> Portrait:
        """Maximise the units; the import of the network is proven first.

        Args:
            network: the opened network.
            on_first: gets quick first pictures, where an ascent takes many more steps than those do.

        Raises:
            FilterscopeError: the proof fails, or something does not fit the network.
        """
        from filterscope.analyzer.maximize.single_unit import answer, at_quality

        question = self.question(network)
        network.prove()
        has_quick = self.method == "ascent" and self.start is None
        if on_first is not None and has_quick and self.recipe.steps > FIRST.steps:
            on_first(answer(network, at_quality(question, FIRST)))
        return answer(network, question)
