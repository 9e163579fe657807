"""What `maximize` is asked, from options to a question: which unit, which objective, which recipe.

Knows options and their words; computes nothing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.constancy import is_constant
from analyzer.jitter import longest_shift
from analyzer.maximize.presets import Quality
from converters.errors import SettingsError
from converters.plain_text import visible
from filterscope.options import sides

if TYPE_CHECKING:
    import numpy as np

    from analyzer.maximize.objectives import Objective
    from analyzer.maximize.presets import Recipe
    from analyzer.network import Network
    from analyzer.portrait import Portrait, Question

FIRST = Quality("first", 12, 0.3, 96, 12)  # shown at once: a dozen long steps


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `maximize` as they were typed."""

    layer: str | None
    channel: int | None
    klass: str | None
    pair: str | None
    direction: Path | None
    objective: str
    labels: Sequence[str]
    quality: str
    preset: str
    steps: int | None
    restrain: Sequence[str]
    method: str
    seed: int
    device: str
    canvas: str | None
    seconds: float

    def question(self, network: Network) -> Question:
        """What is asked of a network.

        Raises:
            SettingsError: options that do not go together, or that do not fit the network.
        """
        from analyzer.portrait import Question, only_layer
        from analyzer.scores import class_index, scores

        named = [self.channel is not None, self.klass is not None, self.pair is not None, self.direction is not None]
        if sum(named) + (self.objective == "layer") != 1:
            raise SettingsError("maximize: give one of --channel, --class, --pair, --direction, --objective layer")
        if (self.layer is None) == (self.klass is None):
            raise SettingsError("maximize: give --layer, or --class for the network's own scores")
        if self.objective != "channel" and (self.pair is not None or self.direction is not None):
            raise SettingsError("maximize: --pair and --direction are objectives themselves; leave --objective out")
        layer = scores(network) if self.layer is None else only_layer(network, self.layer)
        objective, units = self._objective(layer.out_channels)
        if self.klass is not None:
            units = (class_index(self.klass, self.labels, layer.out_channels),)
        size = None if self.canvas is None else sides("--canvas", self.canvas, "96x96")
        recipe = self.recipe()
        return Question(layer, objective, units, recipe, self.method, self.seed, self.device, size, self.seconds)

    def file(self, question: Question) -> Path:
        """The picture's file where none is named: LAYER-UNIT, with the objective and method that are not the usual."""
        unit, name = str(question.units[0]), self.objective
        if self.pair is not None:
            unit, name = re.sub(r"\D", "-", self.pair), "pair"
        elif self.direction is not None:
            unit, name = slug(self.direction.stem), "direction"
        parts = [slug(question.layer.name), *([] if name == "layer" else [unit])]
        parts += [word for word, usual in ((name, "channel"), (self.method, "ascent")) if word != usual]
        return Path(f"{'-'.join(parts)}.png")

    def _objective(self, channels: int) -> tuple[str | Objective, tuple[int, ...]]:
        """The objective, and which of its units."""
        from analyzer.maximize.objectives import Direction, between

        if self.pair is not None:
            numbers = re.fullmatch(r"(\d{1,9}),(\d{1,9})(?::(\d{1,3}))?", self.pair, re.ASCII)
            if not numbers:
                raise SettingsError(f"--pair {self.pair}: give A,B or A,B:STEPS (at most 999), such as 3,17:5")
            steps = int(numbers[3] or 1)
            return between(int(numbers[1]), int(numbers[2]), steps, channels), tuple(range(steps))
        if self.direction is not None:
            try:
                vectors = Direction(_array(self.direction))
                vectors.direction(0, channels)
            except SettingsError as error:
                raise SettingsError(str(error).replace("direction", f"--direction {self.direction}", 1)) from error
            return vectors, tuple(range(len(vectors.vectors)))
        return self.objective, (self.channel or 0,)

    def recipe(self) -> Recipe:
        """Preset, quality and what the options change of them."""
        from analyzer.maximize.presets import Recipe, preset_named, quality

        recipe = Recipe(preset_named(self.preset), quality(self.quality))
        if self.steps is not None:
            if self.steps < 1:
                raise SettingsError(f"--steps {self.steps}: give 1 or more")
            recipe = recipe.with_steps(self.steps)
        return self._restrained(recipe)

    def _restrained(self, recipe: Recipe) -> Recipe:
        from analyzer.maximize import regularisers

        kinds = {
            "l2": regularisers.L2,
            "lp": regularisers.Lp,
            "tv": regularisers.TotalVariation,
            "decay": regularisers.Decay,
            "blur": regularisers.Blur,
            "small-norm": regularisers.ClipSmallNorm,
            "small-contribution": regularisers.ClipSmallContribution,
        }
        penalties, operations = list(recipe.preset.penalties), list(recipe.preset.operations)
        for text in self.restrain:
            name, _, number = text.partition("=")
            if name not in kinds:
                raise SettingsError(f"--restrain {text}: give NAME=NUMBER, with one of {', '.join(kinds)}")
            try:
                made = kinds[name](float(number))
            except ValueError as error:
                raise SettingsError(f"--restrain {text}: {number or 'nothing'} is no number") from error
            except SettingsError as error:
                raise SettingsError(f"--restrain {text}: {error}") from error
            (penalties if hasattr(made, "penalty") else operations).append(made)
        if len(operations) > len(recipe.preset.operations) and recipe.preset.parameters != "pixels":
            raise SettingsError(
                f"--restrain: decay, blur and clipping work on pixels; preset {recipe.preset.name} holds "
                f"{recipe.preset.parameters} coefficients, use paper, yosinski or notebook-2018"
            )
        return replace(recipe, preset=replace(recipe.preset, penalties=tuple(penalties), operations=tuple(operations)))


def slug(name: str) -> str:
    """A layer's name as a file's."""
    from analyzer.run import slugs

    return slugs([name])[name]


def told(found: Portrait, file: Path) -> str:
    """The numbers of a portrait, a line a picture, and where it is."""
    lines = []
    for i, row in enumerate(found.to_json()):
        bound = "" if row["bound"] is None else f", no picture can raise this neuron above {row['bound']:.4g}"
        lines.append(
            f"{visible(row['layer'])} {row['unit']} ({row['objective']}, {row['method']}): {found.activation[i]:.4g}, "
            f"{_shifted(row)}, best of 16 random images {found.random[i]:.4g}{bound}{_claim(row)}"
        )
    return "\n".join([*lines, str(file)])


def _shifted(row: dict[str, Any]) -> str:
    """What is left of the number under small shifts."""
    pixels = longest_shift((row["height"], row["width"]))
    if not pixels:
        return "too small to shift"
    number = "no finite number" if row["robust"] is None else f"{row['robust']:.4g}"
    return f"shifted by up to {pixels} pixel{'s' if pixels > 1 else ''} {number}"


def _claim(row: dict[str, Any]) -> str:
    """What the numbers do not allow to say of a picture; empty where it is what was looked for."""
    if row["random"] is None:
        return f"; {row['status']}: the network itself answers to random images with no finite number"
    if row["status"] == "unraised":
        if is_constant(_answers(row)):
            return "; unraised: constant, pictures, their shifts and random images give one number"
        return "; unraised: it does not beat random images, and says nothing about what the unit responds to"
    return "" if row["status"] == "ok" else f"; {row['status']}: the optimisation left the finite numbers"


def _answers(row: dict[str, Any]) -> list[float | None]:
    """The numbers that were measured: a picture too small to shift has one less."""
    is_shifted = longest_shift((row["height"], row["width"])) > 0
    return [row["activation"], row["random"], *([row["robust"]] if is_shifted else [])]


def _array(path: Path) -> np.ndarray:
    import numpy as np

    try:
        return np.lib.format.read_array(io.BytesIO(path.read_bytes()), allow_pickle=False).astype(np.float32)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise SettingsError(f"direction: cannot be read as a .npy of numbers ({error})") from error
