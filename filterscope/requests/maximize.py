"""The request to maximise some units of one layer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from filterscope.analyzer.maximize.presets import Quality, Recipe
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting

if TYPE_CHECKING:
    import numpy as np

    from filterscope.analyzer.data.images import Photo
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
    start: str | Path | np.ndarray | Photo | None = None  # where the ascent begins, read at birth; None: noise
    white: float | None = None  # of a photo of more than 8 bits; None: what its file states, or the most it can hold
    film: str | Path | None = None  # where the ascent is written as an animated WebP; None: nowhere

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
        self._check_film()
        self._check_start()
        if len(self.labels) and self.class_name is None:
            raise SettingsError(f"{setting('labels')}: names classes, and goes with {setting('class')}", field="labels")
        if self.pair is not None and self.objective != "channel":
            raise SettingsError(f"maximize: {setting('pair')} is an objective itself; leave {setting('objective')} out")

    def _check_film(self) -> None:
        """Check that there is something to be filmed, and a place for it."""
        from filterscope.analyzer.maximize.film import check_file

        if self.film is None:
            return
        film = checks.path("film", self.film)
        object.__setattr__(self, "film", film)
        self._check_ascent("film")
        check_file(film)
        check_apart("film", film, self.start)

    def _check_start(self) -> None:
        """Check how the ascent begins, and read the photo."""
        from filterscope.analyzer.data.images import Photo
        from filterscope.analyzer.data.white import check_white
        from filterscope.analyzer.maximize.accentuation import read_photo

        check_white(self.white)
        if self.start is None:
            if self.white is not None:
                raise SettingsError(f"{setting('white')}: is of {setting('start')}; leave it out", field="white")
            return
        if not isinstance(self.start, Photo):
            checks.array("start", self.start)
            object.__setattr__(self, "start", read_photo(self.start, self.white))
        self._check_ascent("start")
        preset = self.recipe.preset
        if preset.parameters == "maco":
            text = f"holds phases and cannot begin at a picture; give {setting('preset', 'filterscope')}"
            raise SettingsError(f"{setting('preset', preset.name)}: {text}", field="preset", value=preset.name)

    def _check_ascent(self, field: str) -> None:
        if self.method != "ascent":
            one, other = setting("method", "ascent"), setting("method", self.method)
            raise SettingsError(f"{setting(field)}: is of {one}, not of {other}; leave one of the two out", field=field)

    def question(self, network: Network) -> UnitRequest:
        """What is maximised, for this network.

        Raises:
            SettingsError: something does not fit the network.
        """
        from filterscope.analyzer.maximize.single_unit import UnitRequest, only_layer
        from filterscope.analyzer.network.scores import class_index, own_labels, scores
        from filterscope.analyzer.units.objectives import between

        layer = scores(network) if self.layer is None else only_layer(self._with_layer(network), self.layer)
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
            start=self._photo,
            film=self.film is not None,
        )

    def run(
        self,
        network: Network,
        on_first: Callable[[Portrait], None] | None = None,
        on_last: Callable[[Portrait], object] | None = None,
    ) -> Portrait:
        """Maximise the units, and write their film; the import of the network is proven first.

        Args:
            network: the opened network.
            on_first: gets quick first pictures, where an ascent takes many more steps than those do.
            on_last: gets the pictures before the film is written, which may fail.

        Raises:
            FilterscopeError: the proof fails, something does not fit the network, or the film cannot be written.
        """
        from filterscope.analyzer.maximize.single_unit import answer, at_quality

        network = self._with_layer(network)
        question = self.question(network)
        self._warn_of_dark_photo()
        network.prove()
        has_quick = self.method == "ascent" and self.start is None
        if on_first is not None and has_quick and self.recipe.steps > FIRST.steps:
            on_first(answer(network, at_quality(question, FIRST)))
        portrait = answer(network, question)
        if on_last is not None:
            on_last(portrait)
        if self.film is not None and portrait.film is not None:
            portrait.film.save(self.film)
        return portrait

    def _with_layer(self, network: Network) -> Network:
        """The network with the layer that is named, where it is another value than a convolution."""
        return network if self.layer is None else network.with_values([self.layer])

    @property
    def _photo(self) -> Photo | None:
        """Where the ascent begins."""
        from filterscope.analyzer.data.images import Photo

        return self.start if isinstance(self.start, Photo) else None

    def _warn_of_dark_photo(self) -> None:
        """Say where the photo uses little of its range."""
        from filterscope.analyzer.data.images import add_levels
        from filterscope.analyzer.data.white import Levels

        if self._photo is not None:
            levels = Levels()
            add_levels(levels, self._photo)
            for warning in levels.warnings():
                logging.getLogger("filterscope").warning("%s", warning)


def check_apart(field: str, path: Path, photo: object) -> None:
    """Check that what is written does not replace the photo where the ascent begins.

    Args:
        field: the setting that names the file to write.
        photo: what the ascent begins at; of anything but a file's name there is nothing to check.

    Raises:
        SettingsError: it is the same file.
    """
    if isinstance(photo, (str, PathLike)) and path.exists() and Path(photo).exists() and path.samefile(photo):
        checks.refuse(field, str(path), f"is the photo of {setting('start')}; give another name")
