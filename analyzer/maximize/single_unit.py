"""Maximise units of one layer and measure their pictures at once, without a run.

A request is a value, checked against the network before any work; the result can be shown and saved. Knows the
methods of maximisation and the meter; knows nothing of runs or HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from filterscope.analyzer.data.images import Photo
from filterscope.analyzer.maximize.accentuation import faded, on_canvas
from filterscope.analyzer.maximize.film import Film, Recorder
from filterscope.analyzer.maximize.presets import Quality, Recipe
from filterscope.analyzer.maximize.priors import Prior
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.whole_file import check_place, write_whole
from filterscope.analyzer.units.canvas import Canvas, bytes_on, canvas_for
from filterscope.analyzer.units.measure import Meter
from filterscope.analyzer.units.objectives import Objective, objective_for
from filterscope.converters import checks
from filterscope.converters.errors import FilterscopeError, SettingsError, setting
from filterscope.converters.memory import physical_memory

SHOWN_UNITS = 8  # in a portrait's one line
BYTES_A_PIXEL = 256  # of a picture with its coefficients, their gradient and the optimiser's moments
METHODS = ("ascent", "vertex", "analytic", "certified")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Portrait:
    """Pictures of units of one layer, and the activations measured on them."""

    __module__ = "filterscope"  # its public name

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
    film: Film | None = None  # of the ascent, where one was to be made

    def save(self, path: str | Path) -> Path:
        """Write the picture as PNG; several side by side.

        Raises:
            SettingsError: the file cannot be written.
        """
        return save(self.tiles, path)

    def to_json(self) -> list[dict[str, Any]]:
        """One row per picture; None where a number is not finite."""
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

    def __repr__(self) -> str:
        pairs = list(zip(self.units, self.activation, strict=True))
        numbers = ", ".join(f"{unit}: {activation:.4g}" for unit, activation in pairs[:SHOWN_UNITS])
        more = ", …" if len(pairs) > SHOWN_UNITS else ""
        height, width = self.tiles.shape[1:3]
        return f"<Portrait of {self.layer}, {self.objective} by {self.method}, {height}×{width}: {numbers}{more}>"

    def _repr_html_(self) -> str:
        from filterscope.analyzer.run.notebook import figure

        numbers = zip(self.units, self.activation, strict=True)
        captions = [f"{self.layer} {unit}: {activation:.4g}" for unit, activation in numbers]
        return "".join(figure(tile, caption) for tile, caption in zip(self.tiles, captions, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class UnitRequest:
    """A request to maximise units of one layer.

    objective: one of its own, or a name of analyzer.units.objectives; method: one of METHODS.
    """

    layer: Layer
    objective: str | Objective
    units: tuple[int, ...]
    recipe: Recipe
    method: str = "ascent"
    seed: int = 0
    device: str = "auto"
    canvas: tuple[int, int] | None = None  # height and width; None: fitted to what the unit sees
    seconds: float = 60.0  # for a proof
    start: Photo | None = None  # where the ascent begins; None: the recipe's own start
    film: bool = False  # whether the ascent is recorded

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingsError(
                f"{setting('method', self.method)}: give one of {', '.join(METHODS)}",
                field="method",
                value=self.method,
            )
        if self.method in ("analytic", "certified") and self.objective != "neuron":
            raise SettingsError(
                f"{setting('method', self.method)}: works on one neuron; add {setting('objective', 'neuron')}",
                field="method",
                value=self.method,
            )
        if not self.layer.has_maps:
            kind = f"{self.layer.rank}-d convolutions" if self.layer.rank != 2 else "layers without one map per channel"
            raise SettingsError(f"{self.layer.name}: {kind} are listed, but cannot be maximised")
        name = self.objective if isinstance(self.objective, str) else self.objective.name
        if self.layer.op == "Scores" and name in ("neuron", "diversity"):
            raise SettingsError(
                f"{setting('objective', name)}: needs the maps of a layer; class scores have none",
                field="objective",
                value=name,
            )
        if not self.units:
            raise SettingsError("no channel to maximise; give one or more")
        if self.seed < 0:
            raise SettingsError(f"{setting('seed', self.seed)}: give 0 or more", field="seed", value=self.seed)
        if not self.seconds > 0:
            raise SettingsError(
                f"{setting('seconds', self.seconds)}: give more than 0", field="seconds", value=self.seconds
            )


def answer(network: Network, request: UnitRequest, prior: Prior | None = None) -> Portrait:
    """Maximise the units of the request.

    Raises:
        SettingsError: a unit that the layer does not have, a canvas that does not fit it, a method that does not apply
            to it.
    """
    layer = request.layer
    canvas = _canvas(network, request)
    choice = request.objective
    objective = objective_for(choice, canvas) if isinstance(choice, str) else choice
    if request.method == "vertex" and objective.pictures > 1:
        raise SettingsError(
            f"{setting('method', 'vertex')}: makes one picture per unit, but {objective.name} needs several",
            field="method",
            value="vertex",
        )
    if request.start is not None and objective.pictures > 1:
        raise SettingsError(
            f"{setting('start')}: gives all of a unit's pictures one start, from which {objective.name} does not part "
            "them; leave one of the two out",
            field="start",
        )
    highest = objective.units(layer.out_channels) - 1
    for unit in request.units:
        if not 0 <= unit <= highest:
            raise SettingsError(
                f"{setting('channel', unit)}: {layer.name} has channels 0 to {highest}", field="channel", value=unit
            )
        objective.direction(unit, layer.out_channels)  # says so where it does not fit the layer
    tiles, bound, steps, film = _maximise(Problem(network, layer, canvas, objective), request, prior)
    units = np.repeat(np.array(request.units), objective.pictures)
    meter = Meter(network, layer, canvas, objective)
    activation, random = meter.activation(tiles, units), meter.best_of_random(units)
    return Portrait(
        layer=layer.name,
        objective=objective.name,
        method=request.method,
        units=tuple(units.tolist()),
        tiles=tiles,
        activation=activation,
        robust=meter.robust(tiles, units),
        random=random,
        bound=bound,
        steps=steps,
        status=tuple(_status(one, other, objective.sense) for one, other in zip(activation, random, strict=True)),
        film=film,
    )


def _canvas(network: Network, request: UnitRequest) -> Canvas:
    layer, size = request.layer, request.canvas
    name = request.objective if isinstance(request.objective, str) else request.objective.canvas
    full = (network.input.height, network.input.width)
    if layer.op == "Scores":
        if size not in (None, full):
            raise SettingsError(
                f"{setting('canvas')}: the scores are of whole images, {full[0]}x{full[1]}",
                field="canvas",
                value=size,
            )
        return Canvas(*full, None, None)
    if size is None:
        return canvas_for(network, layer, "neuron" if name == "neuron" else "channel", request.recipe.quality.cap)
    if name == "neuron":
        raise SettingsError(
            f"{setting('canvas')}: a neuron's canvas is its receptive field; leave it out", field="canvas", value=size
        )
    if bytes_on(network, layer, size) + BYTES_A_PIXEL * size[0] * size[1] > physical_memory():
        advice = "is more than this machine's memory holds; give a smaller one"
        checks.refuse("canvas", size, advice, text=f"{size[0]}x{size[1]}")
    meter = Meter(network, layer, Canvas(*size, None, None))
    try:
        meter.all_units(np.zeros((1, *size, network.input.channels), np.uint8))
    except FilterscopeError as error:
        least = canvas_for(network, layer, "channel", 1)
        raise SettingsError(
            f"{setting('canvas', f'{size[0]}x{size[1]}')}: {layer.name} does not run on it; "
            f"give {least.height}x{least.width} or more",
            field="canvas",
            value=size,
        ) from error
    return Canvas(*size, None, None)


def _maximise(
    problem: Problem, request: UnitRequest, prior: Prior | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Film | None]:
    """Pictures, upper bounds, steps, and the film of the ascent."""
    from filterscope.analyzer.compute.devices import choose_device, on
    from filterscope.analyzer.maximize.engine import ascend
    from filterscope.analyzer.maximize.vertex_jump import jump

    network, layer, units = problem.network, problem.layer, request.units
    count = len(units) * problem.objective.pictures
    unknown, none = np.full(count, np.inf), np.zeros(count, np.int32)
    if request.method == "analytic":
        from filterscope.analyzer.maximize.analytic import image_maximisers

        exact = image_maximisers(network, layer, units)
        return exact.tiles, exact.values, none, None
    device = choose_device(request.device)
    if request.method == "vertex":
        jumped = jump(problem, units, device)
        return jumped.tiles, unknown, jumped.steps, None
    recipe, photos = request.recipe, None
    if request.start is not None:
        photos = np.repeat(on_canvas(request.start, network.input, problem.canvas)[None], count, axis=0)
        recipe = recipe.accentuation
    recorder = None
    if request.film:
        recorder = Recorder(recipe.steps, (count, *problem.canvas.size, network.input.channels), photos)
    with on(device):
        climbed = ascend(
            problem,
            units,
            recipe,
            seed=request.seed,
            device=device,
            prior=prior,
            start=None if photos is None else faded(photos),
            recorder=recorder,
        )
    if request.method == "ascent":
        return climbed.tiles, unknown, climbed.steps, None if recorder is None else recorder.film(climbed.tiles)
    from filterscope.analyzer.certify.certifier import Certifier

    certifier = Certifier(network, layer, problem.canvas)
    proofs = [certifier.certify(unit, tile, request.seconds) for unit, tile in zip(units, climbed.tiles, strict=True)]
    return np.stack([p.image for p in proofs]), np.array([p.bound for p in proofs]), climbed.steps, None


def save(tiles: np.ndarray, path: str | Path) -> Path:
    """Write pictures as one PNG, side by side.

    Raises:
        SettingsError: the file cannot be written.
    """
    check_file(path)
    write_whole("out", path, atlas.to_png(atlas.pack(tiles)))
    return Path(path)


def check_file(path: str | Path) -> None:
    """Check, before any work, that a picture can be written there.

    Raises:
        SettingsError: the name is not of a PNG, or its folder cannot be written.
    """
    check_place("out", path, ".png")


def at_quality(request: UnitRequest, quality: Quality) -> UnitRequest:
    """The same request with a quality's steps and canvas, even where the preset sets its own steps; without a film."""
    return replace(request, recipe=Recipe(replace(request.recipe.preset, steps=None), quality), film=False)


def only_layer(network: Network, name: str) -> Layer:
    """The one layer of this name or glob.

    Raises:
        SettingsError: none, or several.
    """
    from filterscope.analyzer.network.layers import select

    matches: Sequence[Layer] = select(network.layers, [name], others=[value.name for value in network.values])
    if len(matches) > 1:
        listed = ", ".join(layer.name for layer in matches[:5]) + (", …" if len(matches) > 5 else "")
        raise SettingsError(
            f"{setting('layer', name)}: fits {len(matches)} layers, {listed}; name one", field="layer", value=name
        )
    return matches[0]


def _status(activation: float, random: float, sense: int) -> str:
    """The status of a picture; `random` is the best of random images, lowest where `sense` is −1."""
    if not np.isfinite(activation):
        return "diverged"
    return "ok" if sense * (activation - random) > 0 else "unraised"


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
