"""The options that say how a model is to be opened, shared by every command that takes one.

A command declares a parameter `opening: Opening` and is decorated with `opens_a_model`; the command line then shows
the fields of Opening in its place. Knows Typer; opens nothing before it is asked to.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from filterscope.errors import say

if TYPE_CHECKING:
    from analyzer.inputs import Preprocessing
    from analyzer.network import Network

LARGEST_SIDE = 1 << 14  # of --input-size and --canvas, pixels

White = Annotated[
    float | None,
    typer.Option(
        help="The number that is white in 16-bit and float pictures and arrays, such as 4095 (default: what the file "
        "states, else the most that its numbers can be)."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JsonLog = Annotated[bool, typer.Option("--json-log", help="Progress as JSON lines.")]


@dataclass(frozen=True)
class Opening:
    """What the user says of a model and its input."""

    model: Annotated[
        str,
        typer.Argument(
            help="The network: .onnx, .keras, .h5, a SavedModel folder, .pt2, TorchScript, package.module:factory or "
            "file.py:factory.",
            show_default=False,
        ),
    ]
    weights: Annotated[
        Path | None, typer.Option(help="Of a PyTorch factory: .pth, .pt or .safetensors, a state dict or a checkpoint.")
    ] = None
    trust: Annotated[
        bool, typer.Option("--trust", help="Run a model that is a program: Lambda layers, SavedModel, TorchScript.")
    ] = False
    preprocess: Annotated[
        str | None, typer.Option(help="unit, imagenet, symmetric, raw255 or caffe-bgr; otherwise found in the graph.")
    ] = None
    mean: Annotated[
        str | None, typer.Option(help="Subtracted from each channel, such as 0.5 or 0.485,0.456,0.406.")
    ] = None
    std: Annotated[
        str | None, typer.Option(help="Each channel is divided by it, such as 0.5 or 0.229,0.224,0.225.")
    ] = None
    high: Annotated[float | None, typer.Option(help="What white (8-bit 255) is before --mean and --std: 1 or 255.")] = (
        None
    )
    order: Annotated[str | None, typer.Option(help="Channel order of the network: RGB or BGR.")] = None
    layout: Annotated[str | None, typer.Option(help="NCHW or NHWC, where the graph does not tell.")] = None
    input_channels: Annotated[
        int | None, typer.Option(help="Channels of the input, where the graph does not tell.")
    ] = None
    input_size: Annotated[
        str | None,
        typer.Option(help="HEIGHTxWIDTH to analyse at, where the file leaves it open or the network runs at others."),
    ] = None
    limit_memory: Annotated[
        str | None, typer.Option(help="What opening the model may use, such as 8G (default: as its size suggests).")
    ] = None
    limit_seconds: Annotated[
        float | None, typer.Option(help="Processor time that opening it may use (default: as its size suggests).")
    ] = None
    input: Annotated[str | None, typer.Option(help="Name of the image input, where the network has several.")] = None
    feed: Annotated[list[str] | None, typer.Option(help="NAME=FILE.npy: what another input gets. May be repeated.")] = (
        None
    )

    @property
    def stem(self) -> str:
        """The model's name without folders and suffix: what a run's folder is called after."""
        from converters.sources import is_factory

        name = self.model.rpartition(":")[2] if is_factory(self.model) else self.model
        return Path(name).stem

    def open(self) -> Network:
        """The network.

        Raises:
            FilterscopeError: the model, or an option that does not fit it.
        """
        from analyzer.boundary import client
        from analyzer.boundary.limits import Limits, parse_memory

        if client.is_available():
            client.start_early(self.model)  # before the imports below, which take as long as its own
        from analyzer.network import InputOptions, open_network
        from converters.sources import is_converted

        preprocessing, size = self._preprocessing(), self._size()
        options = InputOptions(self.layout, self.input_channels, size, preprocessing, self.input, self._feeds())
        if is_converted(self.model):
            say(f"{self.model}: converting to ONNX …")
        memory = None if self.limit_memory is None else parse_memory(self.limit_memory)
        limits = Limits(memory, self.limit_seconds)
        return open_network(self.model, options, weights=self.weights, trust=self.trust, limits=limits)

    def _preprocessing(self) -> Preprocessing | None:
        from analyzer.inputs import custom, preset

        if self.mean is None and self.std is None and self.high is None and self.order is None:
            return None if self.preprocess is None else preset(self.preprocess)
        base = preset(self.preprocess or "unit")
        means, stds = _numbers("--mean", self.mean, base.mean), _numbers("--std", self.std, base.std)
        listed = max(len(means), len(stds))  # the network's own count is compared with it once it is open
        count = self.input_channels or (listed if listed > 1 else 3)
        high = base.high if self.high is None else self.high
        return custom(high, means, stds, (self.order or base.order).upper(), count)

    def _size(self) -> tuple[int, int] | None:
        if self.input_size is None:
            return None
        return sides("--input-size", self.input_size, "240x320")

    def _feeds(self) -> dict[str, Any]:
        import numpy as np

        from converters.errors import SettingsError

        feeds = {}
        for text in self.feed or ():
            name, separator, file = text.partition("=")
            if not separator or not name or not file:
                raise SettingsError(f"--feed {text}: give NAME=FILE.npy")
            try:
                feeds[name] = np.load(file, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise SettingsError(f"--feed {text}: {file} cannot be read as an .npy file") from error
            if not isinstance(feeds[name], np.ndarray):
                raise SettingsError(f"--feed {text}: {file} holds several arrays; give an .npy file, which holds one")
        return feeds


def sides(option: str, text: str, example: str) -> tuple[int, int]:
    """Height and width of an option.

    Raises:
        SettingsError: it has another form, or a side is too large.
    """
    from converters.errors import SettingsError

    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text, re.ASCII | re.IGNORECASE)
    if not found:
        raise SettingsError(f"{option} {text}: give HEIGHTxWIDTH, such as {example}")
    if max(map(len, found.groups())) > len(str(LARGEST_SIDE)) or max(map(int, found.groups())) > LARGEST_SIDE:
        raise SettingsError(f"{option} {text}: too large; a side has at most {LARGEST_SIDE} pixels")
    return int(found[1]), int(found[2])


def note_assumptions(network: Network) -> None:
    """Say what is merely assumed of the network's input."""
    for sentence in network.input.assumptions:
        say(f"note: {sentence}")


def opens_a_model(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of Opening as its first parameters, in place of `opening`."""
    own = inspect.signature(command, eval_str=True).parameters
    hints = get_type_hints(Opening, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default if field.name != "model" else inspect.Parameter.empty,
            annotation=hints[field.name],
        )
        for field in fields(Opening)
    ]
    rest = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, parameter in own.items() if name != "opening"
    ]

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        opening = Opening(**{field.name: given.pop(field.name) for field in fields(Opening)})
        command(opening=opening, **given)

    wrapped.__signature__ = inspect.Signature([*shared, *rest])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in [*shared, *rest]}
    del wrapped.__wrapped__  # or Typer would read the command's own hints
    return wrapped


def _numbers(option: str, text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    from converters.errors import SettingsError

    if text is None:
        return default
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"{option} {text}: give a number, or one a channel separated by commas") from error
