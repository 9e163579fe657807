"""The run as a whole in words: what was imported, how sure the import is, how the input is understood, what it cost.

Reads run.json, of which an unfinished run may hold only a part. Knows nothing of HTML or pictures.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

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
OWN_OPTIONS = (  # of analyze, with a value: they do not decide what a picture is
    *("--layers", "--channels", "--out"),
    *("--examples", "--attribution", "--classes", "--inversion", "--groups", "--tuning", "--values"),
)
OWN_FLAGS = ("--sanity", "--truth", "--quiet", "-q", "--json-log")


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run holds, counted over its layers."""

    layers: int  # analysed
    units: int  # with at least one picture
    pictures: int
    unraised: int  # pictures
    dead: int  # units
    diverged: int  # pictures
    constant: int = 0  # units
    silent: int | None = None  # channels never above 0 on the data set; null where there was none


def verdict(totals: Totals) -> list[str]:
    """What the reader must know first, in a few sentences."""
    if not totals.pictures:
        return ["No pictures yet."]
    sentences = [
        f"{words.count(totals.pictures, 'picture')} of {words.count(totals.units, 'channel')} "
        f"in {words.count(totals.layers, 'layer')}."
    ]
    parts = []
    if totals.unraised:
        parts.append(f"{words.count(totals.unraised, 'picture')} did not rise above random images")
    if totals.constant:
        parts.append(f"{words.count(totals.constant, 'channel is', 'channels are')} constant")
    if totals.dead:
        parts.append(f"{words.count(totals.dead, 'channel is', 'channels are')} proven dead")
    if totals.diverged:
        parts.append(f"{words.count(totals.diverged, 'picture')} diverged")
    if parts:
        text = words.listed(parts)
        sentences.append(f"{text[0].upper()}{text[1:]}.")
    else:
        sentences.append("All rose above random images; no channel is proven dead, none diverged.")
    if totals.silent:
        silent = words.count(totals.silent, "channel is", "channels are")
        sentences.append(f"{silent} silent on the data set: never above 0 on any of its images.")
    elif totals.silent == 0:
        sentences.append("None is silent on the data set.")
    return sentences


def headline(info: dict[str, Any], totals: Totals, images: int) -> Facts:
    """The figures that tell the size of it all, each with its noun."""
    model = info.get("model") or {}
    figures = [
        (model.get("conv_layers"), "conv layer"),
        (model.get("conv_channels"), "channel"),
        (model.get("parameters"), "parameter"),
        (model.get("macs"), "multiply-add"),
        (totals.pictures, "picture"),
    ]
    told = [
        (words.large(number), noun if number == 1 else f"{noun}s") for number, noun in figures if number is not None
    ]
    return [*told, (f"{images:,}", "image of yours" if images == 1 else "images of yours")]


def model_facts(info: dict[str, Any]) -> Facts:
    """What the model file is."""
    model = info.get("model") or {}
    outputs = [f"{output['name']} ({words.times(output['shape'])})" for output in model.get("outputs", [])]
    return _known(
        ("File", model.get("name")),
        ("SHA-256", model.get("sha256")),
        ("Made by", model.get("producer")),
        ("ONNX opset", model.get("opset")),
        ("Convolution layers", _count(model.get("conv_layers"))),
        ("Channels in them", _count(model.get("conv_channels"))),
        ("Parameters", _count(model.get("parameters"))),
        ("Multiply-adds for one image", model.get("macs") and words.large(model["macs"])),
        ("Outputs", ", ".join(outputs)),
    )


def parity_sentence(info: dict[str, Any]) -> str:
    """How well the import agrees with the original, in one sentence."""
    parity = (info.get("model") or {}).get("parity")
    if not parity:
        return "How well the import agrees with the original is not recorded."
    worst = max(parity[part]["worst"] for part in ("original", "nodes") if parity.get(part))
    sentence = f"The import agrees with the original to {words.figure(worst, 1)}"
    if worst > parity["limit"]:
        sentence += f", worse than the {words.limit(parity['limit'])} that counts as agreement"
    sentence += f"; refused above {words.limit(parity['refuse'])}."
    end = (parity.get("end_to_end") or {}).get("worst") or 0.0
    if end > parity["limit"]:
        sentence += f" From image to layer, roundings add up to {words.figure(end, 1)}."
    return sentence


def alone_sentence(info: dict[str, Any]) -> str:
    """Why pictures were computed one at a time; empty where they went through the network together, or none knows."""
    alone = ((info.get("model") or {}).get("parity") or {}).get("alone") or {}
    return str(alone.get("why") or "")


def parity_facts(info: dict[str, Any]) -> Facts:
    """The comparisons one by one."""
    parity = (info.get("model") or {}).get("parity") or {}
    original, nodes, layers, alone = (parity.get(part) or {} for part in ("original", "nodes", "end_to_end", "alone"))
    compared = alone if alone.get("worst") is not None else {}
    return _known(
        ("Original and normal form, all outputs and layers", _worst(original, "value")),
        ("ONNX Runtime and torch, node by node", _worst(nodes, "node", nodes.get("op"))),
        ("ONNX Runtime and torch, from image to layer", _worst(layers, "layer")),
        ("A batch of pictures and each of them alone", _worst(compared, "layer")),
        ("Agreement, in each", parity and f"up to {words.limit(parity['limit'])}"),
        ("Refused, but for image to layer", parity and f"above {words.limit(parity['refuse'])}"),
        ("Compared at batch sizes", words.listed([str(size) for size in parity.get("batches", [])])),
    )


def parity_warnings(info: dict[str, Any]) -> list[str]:
    """What the comparisons found worth a warning."""
    warnings: list[str] = ((info.get("model") or {}).get("parity") or {}).get("warnings") or []
    return warnings


def input_sentence(info: dict[str, Any]) -> str:
    """What the network is fed, in one sentence."""
    given = info.get("input")
    if not given:
        return "The input is not recorded yet."
    bands = {"rgb": "RGB", "grey": "grey", "multi": words.count(given["channels"], "band")}[given["bands"]]
    return f"{words.times([given['height'], given['width']])} px, {bands}; {preprocessing(given['preprocessing'])}."


def preprocessing(how: dict[str, Any]) -> str:
    """How 8-bit pixels become the network's numbers, as a phrase."""
    formula = "pixel" if how["high"] == 255 else "pixel ÷ 255"
    if how["high"] not in (1, 255):
        formula += f" × {how['high']:g}"
    if any(how["mean"]):
        formula += f" − {_vector(how['mean'])}"
    if any(value != 1 for value in how["std"]):
        formula = f"({formula}) ÷ {_vector(how['std'])}" if any(how["mean"]) else f"{formula} ÷ {_vector(how['std'])}"
    order = ", channels reversed to BGR" if how["order"] == "BGR" else ""
    return f"preprocessing “{how['name']}”: {formula}{order}"


def run_facts(info: dict[str, Any]) -> Facts:
    """What was done, with what, and what it cost."""
    settings, device, timings = (info.get(part) or {} for part in ("settings", "device", "timings"))
    machine = device.get("name") or device.get("kind")
    if machine and device.get("threads"):
        machine = f"{machine}, {words.count(device['threads'], 'thread')}"
    return _known(
        ("Quality", settings.get("quality")),
        ("Seed", info.get("seed")),
        ("Time", timings.get("total") and words.duration(timings["total"])),
        ("Peak memory", info.get("peak_memory_mib") and words.mebibytes(info["peak_memory_mib"])),
        ("Machine", machine),
        ("Started", words.moment(info.get("started"))),
    )


def timing_facts(info: dict[str, Any]) -> Facts:
    """Seconds by part of the work."""
    return [(name, words.duration(seconds)) for name, seconds in (info.get("timings") or {}).items()]


def settings_facts(info: dict[str, Any]) -> Facts:
    """Every setting of the run as it stands in run.json."""
    return [(name, _value(value)) for name, value in (info.get("settings") or {}).items()]


def version_facts(info: dict[str, Any]) -> Facts:
    """Name and version of each library that matters."""
    return [(name, str(version)) for name, version in (info.get("versions") or {}).items()]


def study_facts(study: dict[str, Any]) -> Facts:
    """The settings of a study, and what it cost."""
    told = [(name, _value(value)) for name, value in (study.get("settings") or {}).items()]
    return [*told, ("seconds", words.duration(study.get("seconds")))]


def unit_command(info: dict[str, Any], layer: dict[str, Any]) -> str:
    """The command that makes one channel's pictures again; it ends where the channel's number is to stand.

    That of the run with its layer alone, since the user's images and options decide what the pictures are; for a run
    that was not made by `analyze`, the nearest that the command line has.
    """
    given = [str(part) for part in info.get("command") or []]
    if given[1:2] == ["analyze"]:
        kept = _without(given[2:])
        parts = ["filterscope", "analyze", *kept, "--layers", str(layer["name"]), "--out", "again"]
        return f"{shlex.join(parts)} --channels "
    source = (info.get("model") or {}).get("name") or "MODEL"
    settings = info.get("settings") or {}
    parts = ["filterscope", "maximize", str(source), "--layer", str(layer["name"])]
    if settings.get("quality"):
        parts += ["--quality", str(settings["quality"])]
    if info.get("seed") is not None:
        parts += ["--seed", str(info["seed"])]
    return f"{shlex.join(parts)} --channel "


def _without(arguments: Sequence[str]) -> list[str]:
    """A command's arguments but for which units are asked about, where the run lies, and the studies."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if name in OWN_OPTIONS and not equals:
            next(rest, None)
        elif name not in (*OWN_OPTIONS, *OWN_FLAGS):
            kept.append(argument)
    return kept


def command(info: dict[str, Any]) -> str:
    """The command that makes the run again, quoted for a shell."""
    given = [str(part) for part in info.get("command") or []]
    if given:
        given[0] = PurePosixPath(given[0]).name
    return shlex.join(given)


def _known(*facts: tuple[str, Any]) -> Facts:
    return [(name, str(value)) for name, value in facts if value not in (None, "", {}, [])]


def _count(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _worst(part: dict[str, Any], where: str, kind: str | None = None) -> str:
    if not part:
        return ""
    place = part.get(where)
    named = f" at {place}" if place else ""
    return f"{words.figure(part['worst'], 2)}{named}{f' ({kind})' if kind else ''}"


def _vector(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else f"({', '.join(f'{value:g}' for value in values)})"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)
