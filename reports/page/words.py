"""Numbers and facts as a reader wants them: three digits, units spelt out, sentences instead of field names.

Knows the run's vocabulary (docs/run-format.md); knows nothing of HTML, files or pictures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from filterscope.analyzer.run.records import LayerInfo
from filterscope.converters.plain_text import visible

NOTHING = "–"  # shown where a table has null
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

STATUSES = {  # status → what it claims, for a reader who knows CNNs but not this tool
    "ok": "The optimised value exceeds the best of 16 random images.",
    "unraised": (
        "The optimised value does not exceed the best of 16 random images: "
        "this picture says nothing about what the channel responds to."
    ),
    "constant": (
        "Every measurement gave one number: maximised pictures, random images, your images and data. "
        "As far as observed, the channel does not depend on the image."
    ),
    "dead": (
        "Proven: no image can make the pre-activation positive, so the ReLU after it always answers 0. "
        "What the picture shows has no effect on the network."
    ),
    "diverged": (
        "The optimisation ended in infinite or undefined numbers, or the network itself answers with them: "
        "there is no result."
    ),
}


def clean(text: str) -> str:
    """Text with invisible characters written out (converters.plain_text.visible); line ends and tabs stay."""
    return visible(text, keep="\n\t")


def shortened(text: str, limit: int = 40) -> str:
    """The text in at most `limit` characters, its middle left out: both ends of a file name matter."""
    text = clean(text)
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[-(limit - 1 - head) :]}"


def figure(value: float | None, digits: int = 3) -> str:
    """A measured number with `digits` significant digits.

    >>> figure(12.3456), figure(-0.00012), figure(1234567.0), figure(None)
    ('12.3', '−1.20·10⁻⁴', '1.23·10⁶', '–')
    """
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    power = int(exponent)
    if -3 <= power < 5:
        number = f"{float(f'{mantissa}e{exponent}'):,.{max(0, digits - 1 - power)}f}"
    else:
        number = f"{mantissa}·10{str(power).translate(_SUPERSCRIPTS)}"
    return f"−{number}" if value < 0 else number


def limit(value: float) -> str:
    """A limit as people set it: 10⁻⁴ rather than 1.00·10⁻⁴."""
    power = round(math.log10(value))
    if math.isclose(value, 10.0**power):
        return f"10{str(power).translate(_SUPERSCRIPTS)}"
    return figure(value, 2)


def percent(share: float | None) -> str:
    """A share of 1 as whole per cents; 0 % and 100 % are kept for what is exactly that, or beyond."""
    if share is None or not math.isfinite(share):
        return NOTHING
    if 0 < share < 0.01:
        return "under 1 %"
    if 0.995 <= share < 1:
        return f"{math.floor(share * 1000) / 10:.1f} %"
    return f"{'−' if round(share * 100) < 0 else ''}{abs(share):.0%}".replace("%", " %")


def count(number: int, one: str = "", many: str = "") -> str:
    """A whole number with its noun: count(1, "channel") is "1 channel", count(17056, "channel") "17,056 channels"."""
    noun = one if number == 1 else many or (one and f"{one}s")
    return f"{number:,} {noun}".strip()


def large(number: float) -> str:
    """A large count in thousands, millions, …: 3,487,816 is "3.49 million"."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}"


def times(sizes: Sequence[float]) -> str:
    """Sizes with a cross between, on one line: 3 × 3."""
    return "\u00a0×\u00a0".join(f"{size:g}" for size in sizes)


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 0.8 s, 48 s, 2 min 14 s, 1 h 03 min."""
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(iso: str | None) -> str:
    """An ISO 8601 moment as people write it: 2025-01-02 03:04 UTC."""
    if not iso:
        return NOTHING
    day, _, clock = iso.partition("T")
    zone = re.sub(r"^[\d:.]*", "", clock)
    return " ".join(filter(None, [day, clock[:5], {"+00:00": "UTC", "Z": "UTC"}.get(zone, zone)]))


def mebibytes(size: float) -> str:
    """A size in MiB, or in GiB from 1 GiB."""
    return f"{size / 1024:.1f} GiB" if size >= 1024 else f"{size:.0f} MiB"


def ranges(numbers: Sequence[int]) -> str:
    """Whole numbers in rising order as a command takes them: 0,4,8-11."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def listed(words: Sequence[str], most: int = 6) -> str:
    """Words in a sentence: "a, b and c"; more than `most` end in "and 12 more"."""
    if len(words) > most:
        return f"{', '.join(words[: most - 1])} and {len(words) - most + 1:,} more"
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


KINDS = {  # as layers.json calls them → in words
    "add": "sum",
    "concat": "concatenation",
    "pool": "pooling",
    "activation": "activation",
    "norm": "normalisation",
    "dense": "dense layer",
    "block": "end of a block",
}


def operation(layer: LayerInfo) -> str:
    """What kind of layer it is, in a word or three."""
    if not layer.is_convolution:
        return KINDS.get(str(layer.kind), str(layer.op))
    kind = "transposed convolution" if layer.op == "ConvTranspose" else "convolution"
    if layer.rank != 2:
        return f"{layer.rank}-d {kind}"
    groups = layer.groups
    if groups > 1:
        return f"depthwise {kind}" if groups == layer.in_channels else f"{kind} in {groups:,} groups"
    return f"pointwise {kind}" if set(layer.kernel) == {1} else kind


def field(layer: LayerInfo, within: Sequence[int] | None = None) -> str:
    """The receptive field of a layer's neurons in a phrase.

    Args:
        layer: of a run.
        within: (height, width) of the network's input, pixels: a field as large as it is the whole input.
    """
    size = layer.field.size
    if size and within and len(size) == len(within) and all(map(int.__ge__, size, within)):
        return "the whole input"
    local = NOTHING if size is None else f"{times(size)}\u00a0px"
    if layer.field.is_global:
        return "the whole input" if size is None else f"the whole input; {local} without global operations"
    return local


NONLINEARITIES = {  # as layers.json calls them → as papers write them
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "leaky ReLU",
    "prelu": "PReLU",
    "elu": "ELU",
    "selu": "SELU",
    "celu": "CELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "hardswish": "hard swish",
    "none": "no non-linearity",
}


def step(name: str) -> str:
    """An operator, or a non-linearity of layers.json, as people write it."""
    return NONLINEARITIES.get(name, name.replace("_", " "))


def nonlinearity(layer: LayerInfo) -> str:
    """The non-linearity that follows, as papers write it."""
    return step(str(layer.nonlinearity))


def in_brief(layer: LayerInfo, within: Sequence[int] | None = None) -> list[str]:
    """A layer's facts for a line of a list.

    Args:
        layer: of a run.
        within: (height, width) of the network's input, pixels, where it is known.
    """
    if not layer.is_convolution:
        channels, maps = count(layer.out_channels, "channel"), f"maps of {times(layer.output_shape[1:])}"
        return [operation(layer), channels, maps, f"sees {field(layer, within)}", nonlinearity(layer)]
    kernel = times(layer.kernel)
    if any(step != 1 for step in layer.stride):
        kernel += f", stride {_one_or_all(layer.stride)}"
    if any(step != 1 for step in layer.dilation):
        kernel += f", dilation {_one_or_all(layer.dilation)}"
    return [
        operation(layer),
        kernel,
        f"{layer.in_channels:,} → {count(layer.out_channels, 'channel')}",
        f"maps of {times(layer.output_shape[1:])}",
        f"sees {field(layer, within)}",
        nonlinearity(layer),
    ]


def facts(layer: LayerInfo, within: Sequence[int] | None = None) -> list[tuple[str, str]]:
    """All facts of a layer as (name, words), but for its names and its neighbours.

    Args:
        layer: of a run.
        within: (height, width) of the network's input, pixels, where it is known.
    """
    pads = layer.pads
    rank = len(pads) // 2
    place = layer.field
    seen = field(layer, within)
    if place.size and seen == "the whole input":
        seen += f" ({times(place.size)}\u00a0px with what lies outside)"
    if place.jump is not None and not place.is_global:
        seen += f", one neuron every {times(place.jump)} px"
    of_maps = [
        ("Maps", f"{times(layer.output_shape[1:])} neurons a channel"),
        ("Followed by", nonlinearity(layer)),
        ("Receptive field", seen),
        ("Depth", f"{count(layer.depth, 'convolution')} before it"),
    ]
    if not layer.is_convolution:
        return [("Operation", f"{operation(layer)} ({layer.op})"), ("Channels", f"{layer.out_channels:,}"), *of_maps]
    return [
        ("Operation", operation(layer)),
        ("Kernel", times(layer.kernel)),
        ("Stride", times(layer.stride)),
        ("Dilation", times(layer.dilation)),
        ("Padding", _padding(pads[:rank], pads[rank:])),
        ("Groups", f"{layer.groups:,}"),
        ("Channels", f"{layer.in_channels:,} in, {layer.out_channels:,} out"),
        ("Parameters", f"{layer.parameters:,}"),
        ("Multiply-adds", large(layer.macs)),
        ("Bias", "yes" if layer.bias else "no"),
        ("Batch normalisation", "folded into the weights" if layer.batchnorm else "none"),
        *of_maps,
    ]


def _one_or_all(steps: Sequence[int]) -> str:
    return str(steps[0]) if len(set(steps)) == 1 else times(steps)


def _padding(begins: Sequence[int], ends: Sequence[int]) -> str:
    if not any((*begins, *ends)):
        return "none"
    if len({*begins, *ends}) == 1:
        return f"{begins[0]} on every side"
    return f"{times(begins)} before, {times(ends)} after"
