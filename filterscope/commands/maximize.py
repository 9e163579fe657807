"""`filterscope maximize`: one unit's picture and its numbers, at once and without a run."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from filterscope.commands.opening import Opening, note_assumptions, opens_a_model, sides
from filterscope.commands.options import (
    MACHINE,
    METHODS,
    OBJECTIVES,
    OUTPUT,
    PRESETS,
    QUALITIES,
    RESULT,
    Json,
    Labels,
    OneDevice,
    White,
    one_of,
)
from filterscope.converters.plain_text import visible
from filterscope.exit_codes import say, say_how_pictures_go

if TYPE_CHECKING:
    from filterscope.analyzer.maximize.presets import Recipe
    from filterscope.analyzer.maximize.single_unit import Portrait
    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.units.objectives import Direction
    from filterscope.requests.maximize import MaximizeRequest, Pair


@opens_a_model
def maximize(
    opening: Opening,
    labels: Labels = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Name of the layer, or a glob that fits one.", show_default="none", rich_help_panel=RESULT),
    ] = None,
    channel: Annotated[
        int | None, typer.Option(help="Which channel of it.", show_default="none", rich_help_panel=RESULT)
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Instead: a class, by number or (with --labels) by name.",
            show_default="none",
            rich_help_panel=RESULT,
        ),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option(
            help="Instead: A,B for half of two channels, A,B:5 for five steps from A to B.",
            show_default="none",
            rich_help_panel=RESULT,
        ),
    ] = None,
    direction: Annotated[
        Path | None,
        typer.Option(
            help="Instead: a .npy of one number a channel, or several rows of them.",
            show_default="none",
            rich_help_panel=RESULT,
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="What is maximised.", **one_of(*OBJECTIVES), rich_help_panel=RESULT)
    ] = "channel",
    method: Annotated[
        str,
        typer.Option(
            help="analytic and certified are of one neuron (need --objective neuron).",
            **one_of(*METHODS),
            rich_help_panel=RESULT,
        ),
    ] = "ascent",
    quality: Annotated[
        str, typer.Option(help="Steps of the ascent: 32, 128 or 512.", **one_of(*QUALITIES), rich_help_panel=RESULT)
    ] = "standard",
    preset: Annotated[
        str,
        typer.Option(
            help=f"Recipe of the ascent: {', '.join(PRESETS)}.",
            **one_of(*PRESETS, metavar="<preset>"),
            rich_help_panel=RESULT,
        ),
    ] = "filterscope",
    steps: Annotated[
        int | None,
        typer.Option(help="Of the ascent.", show_default="the quality's or the preset's", rich_help_panel=RESULT),
    ] = None,
    restrain: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=NUMBER: l2, lp, tv, decay, blur, small-norm, small-contribution. May be repeated.",
            show_default="the preset's",
            rich_help_panel=RESULT,
        ),
    ] = None,
    canvas: Annotated[
        str | None,
        typer.Option(
            help="HEIGHTxWIDTH of the picture.", show_default="fitted to what the unit sees", rich_help_panel=RESULT
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="A photo: what the unit likes of it is drawn into it, in 24 steps or --steps.",
            show_default="noise",
            rich_help_panel=RESULT,
        ),
    ] = None,
    white: White = None,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.", rich_help_panel=RESULT)] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The picture to write.",
            show_default="LAYER-UNIT.png, or LAYER-UNIT-OBJECTIVE-METHOD.png",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    film: Annotated[
        Path | None,
        typer.Option(
            help="The ascent as an animation: a name that ends in .webp.", show_default="none", rich_help_panel=OUTPUT
        ),
    ] = None,
    as_json: Json = False,
    device: OneDevice = "auto",
    seconds: Annotated[
        float, typer.Option(help="That a proof may take (--method certified).", rich_help_panel=MACHINE)
    ] = 60.0,
) -> None:
    """Maximise one unit and save its picture: a first one at once, then the one asked for."""
    from filterscope.analyzer.maximize.presets import Recipe
    from filterscope.analyzer.maximize.single_unit import check_file
    from filterscope.requests.labels import read_labels
    from filterscope.requests.maximize import MaximizeRequest, check_apart

    recipe = restrained(Recipe.named(preset, quality, steps), restrain or ())
    _check_units(layer, class_name, objective, options={"--channel": channel, "--pair": pair, "--direction": direction})
    vectors = None if direction is None else read_direction(direction)
    if out is not None:  # what is wrong is said before the network is opened
        check_file(out)
        check_apart("out", out, start)
    request = MaximizeRequest(
        layer=layer,
        channels=(channel or 0,) if vectors is None else range(len(vectors.vectors)),
        class_name=class_name,
        pair=None if pair is None else read_pair(pair),
        objective=objective if vectors is None else vectors,
        recipe=recipe,
        method=method,
        labels=read_labels(labels) if labels else (),
        seed=seed,
        device=device,
        canvas=None if canvas is None else sides("--canvas", canvas, "96x96"),
        seconds=seconds,
        start=start,
        white=white,
        film=film,
    )
    network = opening.open()
    note_assumptions(network)
    if direction is not None and vectors is not None:
        _check_direction(request, network, direction, vectors)
    file = out or Path(f"{file_stem(request, network, direction)}.png")
    check_file(file)
    check_apart("out", file, start)
    say_how_pictures_go(network)
    if method in ("ascent", "certified") and recipe.preset.stretched:
        say(f"note: preset {preset} shows its pictures with contrast stretched; the numbers are of what is shown")

    def show_first(portrait: Portrait) -> None:
        say(f"{portrait.save(file)}: a first picture, {portrait.activation[0]:.4g}; going on …")

    portrait = request.run(network, show_first, lambda portrait: portrait.save(file))
    typer.echo(json.dumps(portrait.to_json(), indent=1) if as_json else table(portrait, file))
    if film is not None and portrait.film is not None:
        line = (
            f"{film}: {len(portrait.film.frames)} frames of {portrait.steps.max()} steps, {portrait.film.seconds:.1f} s"
        )
        say(line) if as_json else typer.echo(visible(line))


def read_pair(text: str) -> Pair:
    """Two channels, and the steps between them, of text such as 3,17:5.

    Raises:
        SettingsError: it is not written so.
    """
    from filterscope.converters.errors import SettingsError
    from filterscope.requests.maximize import Pair

    match = re.fullmatch(r"(\d{1,9}),(\d{1,9})(?::(\d{1,3}))?", text, re.ASCII)
    if not match:
        raise SettingsError(f"--pair {text}: give A,B or A,B:STEPS (at most 999), such as 3,17:5")
    return Pair(first=int(match[1]), second=int(match[2]), steps=int(match[3] or 1))


def read_direction(path: Path) -> Direction:
    """The directions in a .npy file, a row each.

    Raises:
        SettingsError: the file cannot be read, or holds no directions.
    """
    import numpy as np

    from filterscope.analyzer.units.objectives import Direction
    from filterscope.converters.errors import SettingsError

    try:
        array = np.lib.format.read_array(io.BytesIO(path.read_bytes()), allow_pickle=False)
        if np.iscomplexobj(array):
            raise TypeError("complex numbers")
        array = array.astype(np.float32)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise SettingsError(f"--direction {path}: cannot be read as a .npy of numbers ({error})") from error
    try:
        return Direction(array)
    except SettingsError as error:
        raise SettingsError(_with_file(error, path)) from error


def restrained(recipe: Recipe, texts: Sequence[str]) -> Recipe:
    """A recipe with regularisers added.

    Args:
        texts: NAME=NUMBER each.

    Raises:
        SettingsError: no such regulariser, or one that does not suit the recipe.
    """
    from dataclasses import replace

    from filterscope.analyzer.maximize import regularisers
    from filterscope.converters.errors import SettingsError

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
    for text in texts:
        name, _, number = text.partition("=")
        if name not in kinds:
            raise SettingsError(f"--restrain {text}: give NAME=NUMBER, with one of {', '.join(kinds)}")
        try:
            regulariser = kinds[name](float(number))
        except ValueError as error:
            raise SettingsError(f"--restrain {text}: {number or 'nothing'} is no number") from error
        except SettingsError as error:
            raise SettingsError(f"--restrain {text}: {error}") from error
        (penalties if hasattr(regulariser, "penalty") else operations).append(regulariser)
    if len(operations) > len(recipe.preset.operations) and recipe.preset.parameters != "pixels":
        raise SettingsError(
            f"--restrain: decay, blur and clipping work on pixels; preset {recipe.preset.name} holds "
            f"{recipe.preset.parameters} coefficients, use paper, yosinski or notebook-2018"
        )
    return replace(recipe, preset=replace(recipe.preset, penalties=tuple(penalties), operations=tuple(operations)))


def file_stem(request: MaximizeRequest, network: Network, direction: Path | None = None) -> str:
    """The picture's name without suffix, where the user gives none.

    LAYER-UNIT, and then the objective and the method where they are not the usual ones. The unit of a pair is A-B, its
    objective pair, or pair-STEPS where there are several steps.

    Args:
        direction: the file that the objective was read from, where it was read from one.

    Raises:
        SettingsError: something does not fit the network.
    """
    question = request.question(network)
    unit = str(question.units[0])
    objective = request.objective if isinstance(request.objective, str) else request.objective.name
    if request.pair is not None:
        unit = f"{request.pair.first}-{request.pair.second}"
        objective = "pair" if request.pair.steps == 1 else f"pair-{request.pair.steps}"
    elif direction is not None:
        unit, objective = _slug(direction.stem), "direction"
    parts = [_slug(question.layer.name), *([] if objective == "layer" else [unit])]
    parts += [word for word, usual in ((objective, "channel"), (request.method, "ascent")) if word != usual]
    return "-".join(parts)


def _slug(name: str) -> str:
    """A name as it stands in a file's name."""
    from filterscope.analyzer.run.layout import slugs

    return slugs([name])[name]


def table(portrait: Portrait, file: Path) -> str:
    """The numbers of a portrait, a line a picture, and where it is."""
    lines = []
    for i, row in enumerate(portrait.to_json()):
        bound = "" if row["bound"] is None else f", no picture can raise this neuron above {row['bound']:.4g}"
        lines.append(
            f"{visible(row['layer'])} {row['unit']} ({row['objective']}, {row['method']}): "
            f"{portrait.activation[i]:.4g}, {_robust(row)}, "
            f"best of 16 random images {portrait.random[i]:.4g}{bound}{_caveat(row)}"
        )
    return "\n".join([*lines, str(file)])


def _robust(row: dict[str, Any]) -> str:
    """The mean of the number under small shifts, in words."""
    from filterscope.analyzer.units.jitter import longest_shift

    pixels = longest_shift((row["height"], row["width"]))
    if not pixels:
        return "too small to shift"
    number = "no finite number" if row["robust"] is None else f"{row['robust']:.4g}"
    return f"shifted by up to {pixels} pixel{'s' if pixels > 1 else ''} {number}"


def _caveat(row: dict[str, Any]) -> str:
    """What the numbers do not allow to say of a picture; empty where it is what was looked for."""
    from filterscope.analyzer.bounds.constant_units import is_constant

    if row["random"] is None:
        return f"; {row['status']}: the network itself answers to random images with no finite number"
    if row["status"] == "unraised":
        if is_constant(_measurements(row)):
            return "; unraised: constant, pictures, their shifts and random images give one number"
        return "; unraised: it does not beat random images, and says nothing about what the unit responds to"
    return "" if row["status"] == "ok" else f"; {row['status']}: the optimisation left the finite numbers"


def _measurements(row: dict[str, Any]) -> list[float | None]:
    """The numbers that were measured: a picture too small to shift has one less."""
    from filterscope.analyzer.units.jitter import longest_shift

    is_shifted = longest_shift((row["height"], row["width"])) > 0
    return [row["activation"], row["random"], *([row["robust"]] if is_shifted else [])]


def _check_units(layer: str | None, class_name: str | None, objective: str, options: dict[str, Any]) -> None:
    """Check that the options name one thing to maximise.

    Args:
        options: by name those that name units of a layer; None where they are not used.
    """
    from filterscope.converters.errors import SettingsError

    count = sum(value is not None for value in options.values()) + (class_name is not None)
    if count + (objective == "layer") != 1:
        raise SettingsError("maximize: give one of --channel, --class, --pair, --direction, --objective layer")
    if (layer is None) == (class_name is None):
        raise SettingsError("maximize: give --layer, or --class for the network's own scores")
    if objective != "channel" and (options["--pair"] is not None or options["--direction"] is not None):
        raise SettingsError("maximize: --pair and --direction are objectives themselves; leave --objective out")


def _check_direction(request: MaximizeRequest, network: Network, path: Path, vectors: Direction) -> None:
    from filterscope.converters.errors import SettingsError

    channels = request.question(network).layer.out_channels
    try:
        vectors.direction(0, channels)
    except SettingsError as error:
        raise SettingsError(_with_file(error, path)) from error


def _with_file(error: Exception, path: Path) -> str:
    """The message about a direction, with the file that it was read from."""
    return re.sub("^`?direction`?:", lambda _: f"--direction {path}:", str(error))
