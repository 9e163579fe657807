"""One unit asked for by name: its picture and its numbers at once, without a run.

What is asked for is a value, checked against the network before any work; the answer can be shown and saved. Knows the
ways of maximising and the meter; knows nothing of runs or HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analyzer import atlas
from analyzer.canvas import Canvas, canvas_for
from analyzer.layers import ConvLayer
from analyzer.maximize.objectives import Objective, objective_for
from analyzer.maximize.presets import Quality, Recipe
from analyzer.maximize.priors import Prior
from analyzer.measure import Meter
from analyzer.network import Network
from converters.errors import FilterscopeError, SettingsError

METHODS = ("ascent", "vertex", "analytic", "certified")


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """Pictures of units of one layer, and what they make the network answer."""

    layer: str
    objective: str
    method: str
    units: tuple[int, ...]  # of each picture
    tiles: np.ndarray  # (N, H, W, C) uint8
    activation: np.ndarray  # (N,) objective of the 8-bit picture, by ONNX Runtime
    robust: np.ndarray  # (N,) mean of it under small shifts; NaN where the canvas is too small to shift
    random: np.ndarray  # (N,) the best of 16 random images
    bound: np.ndarray  # (N,) no picture of the canvas raises the objective above it; ∞ where none is known
    steps: np.ndarray  # (N,)
    status: tuple[str, ...]  # of each picture: ok; unraised: not above the best random image; diverged: not finite

    def save(self, path: str | Path) -> Path:
        """Write the picture as PNG; several side by side.

        Raises:
            SettingsError: the file cannot be written.
        """
        return save(self.tiles, path)

    def to_json(self) -> list[dict[str, Any]]:
        """A row a picture; None where a number is not finite."""
        return [
            {
                "layer": self.layer,
                "unit": unit,
                "objective": self.objective,
                "method": self.method,
                "activation": _finite(self.activation[i]),
                "robust": _finite(self.robust[i]),
                "random": _finite(self.random[i]),
                "bound": _finite(self.bound[i]),
                "steps": int(self.steps[i]),
                "status": self.status[i],
                "height": self.tiles.shape[1],
                "width": self.tiles.shape[2],
            }
            for i, unit in enumerate(self.units)
        ]

    def _repr_html_(self) -> str:
        from analyzer.notebook import figure

        numbers = zip(self.units, self.activation, strict=True)
        captions = [f"{self.layer} {unit}: {activation:.4g}" for unit, activation in numbers]
        return "".join(figure(tile, caption) for tile, caption in zip(self.tiles, captions, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked for.

    objective: one of its own, or a name of analyzer.maximize.objectives; method: one of METHODS.
    """

    layer: ConvLayer
    objective: str | Objective
    units: tuple[int, ...]
    recipe: Recipe
    method: str = "ascent"
    seed: int = 0
    device: str = "auto"
    canvas: tuple[int, int] | None = None  # height and width; None: fitted to what the unit sees
    seconds: float = 60.0  # for a proof

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingsError(f"--method {self.method}: give one of {', '.join(METHODS)}")
        if self.method in ("analytic", "certified") and self.objective != "neuron":
            raise SettingsError(f"--method {self.method}: is of one neuron; add --objective neuron")
        if not self.layer.has_maps:
            kind = f"a {self.layer.rank}-d" if self.layer.rank != 2 else "with channels that stand as pictures, this"
            raise SettingsError(f"{self.layer.name}: {kind} convolution is listed and not maximised")
        name = self.objective if isinstance(self.objective, str) else self.objective.name
        if self.layer.op == "Scores" and name in ("neuron", "diversity"):
            raise SettingsError(f"--objective {name}: is of a layer's maps; class scores have none")
        if not self.units:
            raise SettingsError("no channel is asked for; give one or more")
        if self.seed < 0:
            raise SettingsError(f"--seed {self.seed}: give 0 or more")
        if not self.seconds > 0:
            raise SettingsError(f"--seconds {self.seconds}: give more than 0")


def answer(network: Network, question: Question, prior: Prior | None = None) -> Portrait:
    """Maximise what is asked for.

    Raises:
        SettingsError: a unit that the layer does not have, a canvas that does not fit it, a method that it is not for.
    """
    layer = question.layer
    canvas = _canvas(network, question)
    given = question.objective
    objective = objective_for(given, canvas) if isinstance(given, str) else given
    if question.method == "vertex" and objective.pictures > 1:
        raise SettingsError(f"--method vertex: makes one picture a unit, and {objective.name} asks for several")
    highest = objective.units(layer.out_channels) - 1
    for unit in question.units:
        if not 0 <= unit <= highest:
            raise SettingsError(f"--channel {unit}: {layer.name} has channels 0 to {highest}")
        objective.direction(unit, layer.out_channels)  # says so where it does not fit the layer
    tiles, bound, steps = _made(network, question, canvas, objective, prior)
    units = np.repeat(np.array(question.units), objective.pictures)
    meter = Meter(network, layer, canvas, objective)
    activation, random = meter.activation(tiles, units), meter.best_of_random(units)
    return Portrait(
        layer.name,
        objective.name,
        question.method,
        tuple(units.tolist()),
        tiles,
        activation,
        meter.robust(tiles, units),
        random,
        bound,
        steps,
        tuple(_status(one, other, objective.sense) for one, other in zip(activation, random, strict=True)),
    )


def _canvas(network: Network, question: Question) -> Canvas:
    layer, given = question.layer, question.canvas
    name = question.objective if isinstance(question.objective, str) else question.objective.canvas
    full = (network.input.height, network.input.width)
    if layer.op == "Scores":
        if given not in (None, full):
            raise SettingsError(f"--canvas: the scores are of whole images, {full[0]}x{full[1]}")
        return Canvas(*full, None, None)
    if given is None:
        return canvas_for(network, layer, "neuron" if name == "neuron" else "channel", question.recipe.quality.cap)
    if name == "neuron":
        raise SettingsError("--canvas: a neuron's canvas is its receptive field; leave it out")
    meter = Meter(network, layer, Canvas(*given, None, None))
    try:
        meter.all_units(np.zeros((1, *given, network.input.channels), np.uint8))
    except FilterscopeError as error:
        least = canvas_for(network, layer, "channel", 1)
        raise SettingsError(
            f"--canvas {given[0]}x{given[1]}: {layer.name} does not run on it; "
            f"give {least.height}x{least.width} or more"
        ) from error
    return Canvas(*given, None, None)


def _made(
    network: Network, question: Question, canvas: Canvas, objective: Objective, prior: Prior | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, upper bounds and steps."""
    from analyzer.devices import choose_device, on
    from analyzer.maximize.engine import ascend
    from analyzer.maximize.vertex import jump

    layer, units = question.layer, question.units
    count = len(units) * objective.pictures
    unknown, none = np.full(count, np.inf), np.zeros(count, np.int32)
    if question.method == "analytic":
        from analyzer.analytic import image_maximisers

        exact = image_maximisers(network, layer, units)
        return exact.tiles, exact.values, none
    device = choose_device(question.device)
    if question.method == "vertex":
        jumped = jump(network, layer, canvas, objective, units, device)
        return jumped.tiles, unknown, jumped.steps
    with on(device):
        climbed = ascend(network, layer, canvas, objective, units, question.recipe, question.seed, device, prior=prior)
    if question.method == "ascent":
        return climbed.tiles, unknown, climbed.steps
    from analyzer.certified import Certifier

    certifier = Certifier(network, layer, canvas)
    proofs = [certifier.certify(unit, tile, question.seconds) for unit, tile in zip(units, climbed.tiles, strict=True)]
    return np.stack([p.image for p in proofs]), np.array([p.bound for p in proofs]), climbed.steps


def save(tiles: np.ndarray, path: str | Path) -> Path:
    """Write pictures as one PNG, side by side.

    Raises:
        SettingsError: the file cannot be written.
    """
    check_file(path)
    try:
        Path(path).write_bytes(atlas.to_png(atlas.pack(tiles)))
    except OSError as error:
        raise SettingsError(f"--out {path}: cannot be written ({error.strerror})") from error
    return Path(path)


def check_file(path: str | Path) -> None:
    """See, before any work, whether a picture could be written there.

    Raises:
        SettingsError: the name is not of a PNG, or there is no such folder.
    """
    if Path(path).suffix.lower() != ".png":
        raise SettingsError(f"--out {path}: give a name that ends in .png")
    if not Path(path).parent.is_dir():
        raise SettingsError(f"--out {path}: cannot be written (no folder {Path(path).parent})")


def at_quality(question: Question, quality: Quality) -> Question:
    """The same question, answered with a quality's steps and canvas, also where the preset has steps of its own."""
    return replace(question, recipe=Recipe(replace(question.recipe.preset, steps=None), quality))


def only_layer(network: Network, wanted: str) -> ConvLayer:
    """The one layer of this name or glob.

    Raises:
        SettingsError: none, or several.
    """
    from analyzer.layers import select

    found: Sequence[ConvLayer] = select(network.layers, [wanted])
    if len(found) > 1:
        listed = ", ".join(layer.name for layer in found[:5]) + (", …" if len(found) > 5 else "")
        raise SettingsError(f"--layer {wanted}: fits {len(found)} layers, {listed}; name one")
    return found[0]


def _status(activation: float, random: float, sense: int) -> str:
    """What may be claimed of a picture; `random` is the best of random images, lowest where `sense` is −1."""
    if not np.isfinite(activation):
        return "diverged"
    return "ok" if sense * (activation - random) > 0 else "unraised"


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
