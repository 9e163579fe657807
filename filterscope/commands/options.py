"""How a command's options look: the groups of its help, choices that complete with TAB, and their names in messages.

The library's messages name settings, `input_size=64x64`, as the Python API calls them; `as_options` makes
--input-size 64x64 of it. Knows Typer; imports nothing else of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

INPUT = "Model and input"  # the groups of a command's help, in order
RESULT = "What is made"
DATA = "Data and studies"
OUTPUT = "Output"
MACHINE = "Machine"
GROUPS = (None, INPUT, RESULT, DATA, OUTPUT, MACHINE)  # None: arguments

PREPROCESSINGS = ("unit", "imagenet", "symmetric", "raw255", "caffe-bgr")  # literal, as --help waits for no import:
QUALITIES = ("draft", "standard", "fine")  # tests/filterscope/test_options.py sees that they are the library's
PRESETS = ("filterscope", "strong", "distill", "maco", "yosinski", "paper", "notebook-2018")
OBJECTIVES = ("channel", "neuron", "negative", "diversity", "layer")
KINDS = ("conv", "add", "concat", "pool", "activation", "norm", "dense", "block", "other", "all")  # of layers
METHODS = ("ascent", "vertex", "analytic", "certified")
ATTRIBUTIONS = (
    *("all", "default", "saliency", "input-x-gradient", "integrated-gradients", "smoothgrad", "guided", "deconvnet"),
    *("grad-cam", "occlusion"),
)
RESIZES = ("auto", "crop", "cover", "squash", "fit")
SETTINGS = frozenset(  # every option of every command, as the Python API spells it
    (
        *("attribution", "canonical", "canvas", "captions", "channel", "channels", "class", "classes"),
        *("columns", "device", "direction", "dpi", "examples", "feed", "film", "groups", "high", "images", "input"),
        *("all",),
        *("input_channels", "kinds", "input_size", "inversion", "json", "json_log", "labels", "layer", "layers"),
        *("layout", "limit_memory", "limit_seconds", "maps", "match", "mean", "method", "no_resize"),
        *("objective", "open", "order", "out", "pair", "png", "preprocess", "preset", "quality", "quiet", "resize"),
        *("restrain", "sanity", "seconds", "seed", "single_file", "start", "std", "steps", "target", "time_budget"),
        *("truth", "trust", "tuning", "values", "version", "watch", "weights", "white", "width"),
    )
)


def as_options(text: str) -> str:
    """The same message with the command line's options in place of settings.

    `name=value` between backticks becomes --name value, `name` and `name=True` become --name; whatever else stands
    between backticks, and no option is called so, stays as it is.
    """
    return re.sub(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`", _option, text)


def _option(match: re.Match[str]) -> str:
    name, value = match.groups()
    if name not in SETTINGS:
        return match[0]
    option = "--" + name.replace("_", "-")
    return option if value in (None, "True") else f"{option} {value}"


def one_of(*names: str, metavar: str | None = None) -> dict[str, Any]:
    """What an option says of its choices: in the help, and to whoever presses TAB.

    Args:
        metavar: what the help shows instead of the names, where they are too many.
    """
    return {"metavar": metavar or "|".join(names), "autocompletion": _completion(names)}


def _completion(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def examples(*lines: str) -> str:
    """The end of a command's help: one example a line."""
    return "\n\n".join(["Examples:", *lines])


class Command(TyperCommand):
    """A command whose help has its groups in order, and no type beside a switch."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, help's own included."""
        parameters = [_without_type(parameter) for parameter in super().get_params(ctx)]
        if parameters and parameters[-1].name == "help":
            parameters[-1].rich_help_panel = OUTPUT
        return sorted(parameters, key=lambda parameter: GROUPS.index(getattr(parameter, "rich_help_panel", None)))


class Group(TyperGroup):
    """All commands, whose help shows no type beside a switch."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, help's own included."""
        return [_without_type(parameter) for parameter in super().get_params(ctx)]


def _without_type(parameter: Any) -> Any:
    if getattr(parameter, "is_flag", False) and parameter.metavar is None:
        parameter.metavar = ""
    return parameter


Open = Annotated[
    bool,
    typer.Option("--open", help="Open the report in the browser, as soon as there is one.", rich_help_panel=OUTPUT),
]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Class names: a file with one a line, a .csv with a name column, or imagenet.",
        show_default="the model's own",
        rich_help_panel=INPUT,
    ),
]
TargetLabels = Annotated[
    Path | None,
    typer.Option(
        help="Class names: a file with one a line, a .csv with a name column, or imagenet.",
        show_default="none",
        rich_help_panel=INPUT,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="auto or cuda: all GPUs share the work; cpu or cuda:1: that one alone.",
        **one_of("auto", "cpu", "cuda", "cuda:1"),
        rich_help_panel=MACHINE,
    ),
]
OneDevice = Annotated[
    str,
    typer.Option(
        help="Where gradients are computed.", **one_of("auto", "cpu", "cuda", "cuda:1"), rich_help_panel=MACHINE
    ),
]
Resize = Annotated[
    str, typer.Option(help="How images come to the input's size.", **one_of(*RESIZES), rich_help_panel=INPUT)
]
NoResize = Annotated[bool, typer.Option("--no-resize", help="Refuse images of another size.", rich_help_panel=INPUT)]
White = Annotated[
    float | None,
    typer.Option(
        help="The number that is white in 16-bit and float pictures and arrays, such as 4095.",
        show_default="what the file states, else the most that its numbers can be",
        rich_help_panel=INPUT,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=OUTPUT)]
JsonLog = Annotated[bool, typer.Option("--json-log", help="Progress as JSON lines.", rich_help_panel=OUTPUT)]
Json = Annotated[bool, typer.Option("--json", help="The numbers as JSON.", rich_help_panel=OUTPUT)]
