"""The run as a whole in words: what was imported, how sure the import is, how the input is understood, what it cost.

Reads run.json, of which an unfinished run may hold only a part. Knows nothing of HTML or pictures.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath, PureWindowsPath

from filterscope.analyzer.run.records import (
    ErrorInfo,
    LayerInfo,
    Prediction,
    PreprocessingInfo,
    RunInfo,
)
from filterscope.reports.page import words

Facts = list[tuple[str, str]]  # (name, words)

STUDIES = {  # folder in the run → what it is called
    "weights": "Weights",
    "examples": "Data set",
    "attribution": "Attribution",
    "classes": "Classes",
    "inversion": "Inversion",
    "groups": "Groups",
    "tuning": "Tuning",
    "truth": "Natural and maximised",
    "values": "Other layers",
}
STAGES = {  # key of run.json's timings, beside those of studies → what it is called
    "images": "Reading your images",
    "prove": "Comparing the import with the original",
    "activations": "Activation maps",
    "maximize": "Maximised pictures",
    "total": "All together",
}
OPTION = "--"  # with which a shell command's options begin
OWN_OPTIONS = (  # of analyze, with a value: they decide nothing that stands on a channel's page
    *("layers", "channels", "out", "time-budget"),
    *("attribution", "classes", "inversion", "groups", "values"),
)
FILES = ("images", "examples", "weights")  # options of analyze that name files
OWN_FLAGS = ("sanity", "quiet", "json-log", "open")
SHORT_FLAGS = ("-q",)
SHORT_OPTIONS = ("-o",)
SETTINGS = frozenset(  # that sentences of the pages and of a run may name between backticks
    (
        *("attribution", "channels", "classes", "examples", "feed", "groups", "high", "images", "input"),
        *("input_channels", "input_size", "inversion", "labels", "layers", "maps", "mean", "order", "preprocess"),
        *("quality", "resize", "seed", "std", "time_budget", "trust", "truth", "tuning", "values", "white"),
    )
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run holds, counted over its layers."""

    layers: int  # analysed
    units: int  # with at least one picture
    pictures: int
    unraised: int  # pictures
    dead: int  # units
    diverged: int  # pictures
    first: int = 0  # pictures that finer ones will replace
    constant: int = 0  # units
    silent: int | None = None  # channels never above 0 on the data set; null where there was none


def ends(info: RunInfo) -> tuple[str, str]:
    """The sizes of the network's input and of its first output, in words; empty where they are not recorded."""
    spec, outputs = info.input, info.model.outputs
    size = words.times([spec.channels, spec.height, spec.width]) if spec else ""
    return size, words.times(outputs[0].shape[1:]) if outputs else ""


def extent(totals: Totals) -> str:
    """How much of the network the report shows, in a sentence."""
    if not totals.pictures:
        return "No pictures yet."
    return (
        f"Shown here: {words.count(totals.pictures, 'picture')} of {words.count(totals.units, 'channel')} "
        f"in {words.count(totals.layers, 'layer')}."
    )


def nothing_odd(totals: Totals) -> str:
    """What was looked for, where nothing odd was found."""
    if not totals.pictures:
        return ""
    data = "" if totals.silent is None else ", none is silent on the data"
    return f"Nothing odd: every picture rose above random images, no channel is proven dead or constant{data}."


def first_sentence(first: int, pictures: int) -> str:
    """How many pictures finer ones will replace; empty where none."""
    if not first:
        return ""
    of_all = f"{first:,} of {words.count(pictures, 'picture')}"
    return f"{of_all} {'is a first one' if first == 1 else 'are first ones'}; the same command goes on to finer ones."


def headline(info: RunInfo, totals: Totals, images: int) -> Facts:
    """The main counts of the run, each with its noun."""
    model = info.model
    figures = [
        (model.conv_layers, "conv layer"),
        (model.conv_channels, "channel"),
        (model.parameters, "parameter"),
        (model.macs, "multiply-add"),
        (totals.pictures, "picture"),
    ]
    facts = [
        (words.large(number), noun if number == 1 else f"{noun}s") for number, noun in figures if number is not None
    ]
    return [*facts, (f"{images:,}", "input image" if images == 1 else "input images")]


def model_facts(info: RunInfo) -> Facts:
    """Facts about the model file."""
    model = info.model
    outputs = [f"{output.name} ({words.times(output.shape)})" for output in model.outputs]
    return _without_blanks(
        [
            ("File", model.name),
            ("SHA-256", model.sha256),
            ("Made by", model.producer),
            ("ONNX opset", model.opset),
            ("Convolution layers", _count(model.conv_layers)),
            ("Channels in them", _count(model.conv_channels)),
            ("Parameters", _count(model.parameters)),
            ("Multiply-adds for one image", model.macs and words.large(model.macs)),
            ("Outputs", ", ".join(outputs)),
        ]
    )


def parity_sentence(info: RunInfo) -> str:
    """How well the import agrees with the original, in one sentence."""
    parity = info.model.parity
    if not parity:
        return "How well the import agrees with the original is not recorded."
    worst = max(part.worst or 0.0 for part in (parity.original, parity.nodes) if part)
    sentence = f"The import agrees with the original to {words.figure(worst, 1)}"
    if worst > parity.limit:
        sentence += f", worse than the {words.limit(parity.limit)} that counts as agreement"
    sentence += f"; refused above {words.limit(parity.refuse)}."
    end = (parity.end_to_end.worst if parity.end_to_end else None) or 0.0
    if end > parity.limit:
        sentence += f" From image to layer, roundings add up to {words.figure(end, 1)}."
    return sentence


def alone_sentence(info: RunInfo) -> str:
    """Why pictures were computed one at a time; empty where they went through the network together."""
    parity = info.model.parity
    return str((parity and parity.alone and parity.alone.why) or "")


def parity_facts(info: RunInfo) -> Facts:
    """The comparisons one by one."""
    parity = info.model.parity
    if not parity:
        return []
    nodes, alone = parity.nodes, parity.alone
    compared = alone if alone and alone.worst is not None else None
    return _without_blanks(
        [
            ("Original and normal form, all outputs and layers", _worst(parity.original, "value")),
            ("ONNX Runtime and torch, node by node", _worst(nodes, "node", nodes.op if nodes else None)),
            ("ONNX Runtime and torch, from image to layer", _worst(parity.end_to_end, "layer")),
            ("A batch of pictures and each of them alone", _worst(compared, "layer")),
            ("Agreement, in each", f"up to {words.limit(parity.limit)}"),
            ("Refused, but for image to layer", f"above {words.limit(parity.refuse)}"),
            ("Compared at batch sizes", words.listed([str(size) for size in parity.batches])),
        ]
    )


def parity_warnings(info: RunInfo) -> Sequence[str]:
    """What the comparisons found worth a warning."""
    return info.model.parity.warnings if info.model.parity else ()


def input_sentence(info: RunInfo) -> str:
    """The network's input, in one sentence."""
    spec = info.input
    if not spec:
        return "The input is not recorded yet."
    bands = {"rgb": "RGB", "grey": "grey", "multi": words.count(spec.channels, "band")}[spec.bands]
    how = preprocessing(spec.preprocessing) if spec.preprocessing else "preprocessing not recorded"
    return f"{words.times([spec.height, spec.width])} px, {bands}; {how}."


def preprocessing(how: PreprocessingInfo) -> str:
    """How 8-bit pixels become the network's numbers, as a phrase."""
    formula = "pixel" if how.high == 255 else "pixel ÷ 255"
    if how.high not in (1, 255):
        formula += f" × {how.high:g}"
    if any(how.mean):
        formula += f" − {_vector(how.mean)}"
    if any(value != 1 for value in how.std):
        formula = f"({formula}) ÷ {_vector(how.std)}" if any(how.mean) else f"{formula} ÷ {_vector(how.std)}"
    order = ", channels reversed to BGR" if how.order == "BGR" else ""
    return f"preprocessing “{how.name}”: {formula}{order}"


def run_facts(info: RunInfo) -> Facts:
    """What was done, with what, and what it cost."""
    device, total, memory = info.device, info.timings.get("total"), info.peak_memory_mib
    machine = device and (device.name or device.kind)
    if device and machine and device.threads:
        machine = f"{machine}, {words.count(device.threads, 'thread')}"
    return _without_blanks(
        [
            ("Quality", info.settings.quality),
            ("Seed", info.seed),
            ("Time of the last session", total and words.duration(total)),
            ("Peak memory", memory and words.mebibytes(memory)),
            ("Machine", machine),
            ("Started", words.moment(info.started)),
        ]
    )


def timing_facts(info: RunInfo) -> Facts:
    """What each stage of the run's last session took; not its total, nor studies, whose own section says it."""
    stages = ((name, seconds) for name, seconds in info.timings.items() if name not in (*STUDIES, "total"))
    return [(STAGES.get(name, name), words.duration(seconds)) for name, seconds in stages]


def version_facts(info: RunInfo) -> Facts:
    """Name and version of each library that matters."""
    return [(name, str(version)) for name, version in info.versions.items()]


def unit_command(info: RunInfo, layer: LayerInfo) -> str:
    """The command that makes one channel's page again, up to the channel's number, which follows it.

    It is the run's own command with this layer alone, since the user's images and options decide the pictures, and
    data, truth and tuning the numbers; for a run that neither `analyze` nor `demo` made, it is the nearest `maximize`
    command.
    """
    arguments = [str(part) for part in info.command]
    if arguments[1:2] in (["analyze"], ["demo"]):
        own = _without_choice_of_units(arguments[2:])
        parts = ["filterscope", arguments[1], *own, _option("layers"), layer.name, _option("out"), "again"]
        return f"{shlex.join(parts)} {_option('channels')} "
    parts = ["filterscope", "maximize", info.model.name or "MODEL", _option("layer"), layer.name]
    if info.settings.quality:
        parts += [_option("quality"), str(info.settings.quality)]
    if info.seed is not None:
        parts += [_option("seed"), str(info.seed)]
    return f"{shlex.join(parts)} {_option('channel')} "


def names_relative_files(info: RunInfo) -> bool:
    """Whether the command of a run names files from the folder in which it was run: a model, or a folder of images."""
    arguments = [str(part) for part in info.command]
    if arguments[1:2] != ["analyze"]:
        return False
    options = [_option(name) for name in FILES]
    named = [value for option, value in pairwise(arguments[2:]) if option in options]
    return not all(
        any(kind(part).is_absolute() for kind in (PurePosixPath, PureWindowsPath)) for part in (*arguments[2:3], *named)
    )


def pngs_command() -> str:
    """The command that writes each picture as a file; RUN stands for the run's folder."""
    return f"filterscope report RUN {_option('png')}"


def layer_command(info: RunInfo, layer: LayerInfo) -> str:
    """The command that analyses one layer: that of its channels, without a choice of them."""
    return unit_command(info, layer).rpartition(f" {_option('channel')}")[0]


def in_form(info: RunInfo, sentence: str | None) -> str:
    """A sentence whose settings, `name` or `name=value`, are named as whoever made the run knows them.

    They become options where a command line made the run; where Python did, they stay.
    """
    text = sentence or ""
    if not info.command:
        return text

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in SETTINGS:
            return match[0]
        return f"`{_option(name.replace('_', '-'))}{f' {value}' if value not in (None, 'True') else ''}`"

    return re.sub(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`", option, text)


def answer_sentence(predictions: Sequence[Prediction | None]) -> str:
    """What the number beside a class is, in one sentence; empty where nothing was predicted."""
    kinds = {prediction.kind for prediction in predictions if prediction and prediction.top}
    if kinds == {"probability"}:
        return "The number beside it is its probability."
    if kinds:
        return "Its score is the network’s output as it is, before any softmax (a logit)."
    return ""


def has_nameless_answers(predictions: Sequence[Prediction | None]) -> bool:
    """Whether a class is shown by its number, since nobody has given its name."""
    return any(not one.label for prediction in predictions if prediction for one in prediction.top[:1])


def _option(name: str) -> str:
    """An option of a shell command that a page shows."""
    return f"{OPTION}{name}"


def _without_choice_of_units(arguments: Sequence[str]) -> list[str]:
    """A command's arguments without its choice of units, the place of the run, and studies of other pages."""
    rest = iter(arguments)
    own = []
    for argument in rest:
        name, equals, _ = argument.partition("=")
        bare = name.removeprefix(OPTION)
        is_option = name.startswith(OPTION) or name in SHORT_FLAGS
        if (is_option and bare in OWN_OPTIONS and not equals) or name in SHORT_OPTIONS:
            next(rest, None)
        elif not (is_option and (bare in (*OWN_OPTIONS, *OWN_FLAGS) or name in SHORT_FLAGS)):
            own.append(argument)
    return own


def command(info: RunInfo) -> str:
    """The command that repeats the run, quoted for a shell."""
    arguments = [str(part) for part in info.command]
    if arguments:
        arguments[0] = PurePosixPath(arguments[0]).name
    return shlex.join(arguments)


def _without_blanks(facts: Sequence[tuple[str, object]]) -> Facts:
    """The facts that have a value."""
    return [(name, str(value)) for name, value in facts if value is not None and value != ""]


def _count(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _worst(part: ErrorInfo | None, where: str, kind: str | None = None) -> str:
    if not part:
        return ""
    place = getattr(part, where)
    named = f" at {place}" if place else ""
    return f"{words.figure(part.worst, 2)}{named}{f' ({kind})' if kind else ''}"


def _vector(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else f"({', '.join(f'{value:g}' for value in values)})"
