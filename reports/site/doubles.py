"""Channels that do the same as another one of their layer: which ones, of which, and how nearly.

Knows the rows of a run; knows nothing of HTML.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import StatisticsRow, WeightRow
from filterscope.reports.page import words
from filterscope.reports.page.units import finite

LIMIT = 0.99  # correlation of activations on the data, or cosine of kernels, above which two channels are one
CORRELATION, COSINE = "correlation", "cosine"


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like two channels of a layer are."""

    channel: int
    other: int
    value: float  # at most 1
    measure: str  # CORRELATION or COSINE

    @property
    def in_words(self) -> str:
        """The measure with its number: cosine 0.994."""
        return f"{self.measure} {words.figure(self.value)}"


@dataclass(frozen=True, slots=True)
class Group:
    """Channels of a layer that all do the same."""

    channels: tuple[int, ...]
    weakest: Likeness  # of the links that hold the group together


@dataclass(frozen=True, slots=True)
class Doubles:
    """What is double in a layer."""

    compared: int = 0  # channels
    groups: tuple[Group, ...] = ()
    double: tuple[int, ...] = ()  # of the channels that were compared, those with a double
    closest: Likeness | None = None  # of all pairs; None where none was compared
    measures: frozenset[str] = frozenset()  # by which channels were compared


def compares_kernels(layer: LayerInfo) -> bool:
    """Whether the kernels of a layer read the same inputs: those of groups do not."""
    return layer.groups == 1


def doubles_of(layer: LayerInfo, weights: Sequence[WeightRow], statistics: Sequence[StatisticsRow]) -> Doubles:
    """The channels of a layer that do the same.

    They do where their activations on the data correlate above 0.99, or where their kernels read the same input and
    point the same way: a cosine above 0.99.

    Args:
        layer: of the run.
        weights: its rows of the study of weights.
        statistics: its rows of the study of the data set.
    """
    kernels = weights if compares_kernels(layer) else ()
    likenesses = [*_of_answers(statistics), *_of_kernels(kernels)]
    links = [one for one in likenesses if one.value > LIMIT]
    compared = {row.channel for row in statistics} | {row.channel for row in kernels}
    return Doubles(
        compared=len(compared),
        groups=tuple(_groups(links)),
        double=tuple(sorted({one.channel for one in links} | {one.other for one in links if one.other in compared})),
        closest=max(likenesses, key=lambda one: (one.value, -one.channel), default=None),
        measures=frozenset(one.measure for one in likenesses),
    )


def partners(doubles: Doubles) -> Mapping[int, tuple[int, ...]]:
    """Channel → those that do the same, of each that has a double."""
    return {c: tuple(o for o in group.channels if o != c) for group in doubles.groups for c in group.channels}


def none_sentence(layers: Mapping[str, Doubles]) -> str:
    """What was compared where no two channels are doubles; empty where some are, or nothing was compared.

    Args:
        layers: name → what is double in it.
    """
    closest = [(one.closest.value, one.closest, name) for name, one in layers.items() if one.closest]
    if not closest or any(one.groups for one in layers.values()):
        return ""
    rules = {
        CORRELATION: f"a correlation above {LIMIT} of their activations on the data",
        COSINE: f"a cosine above {LIMIT} of their kernels",
    }
    used = frozenset().union(*(one.measures for one in layers.values()))
    rule = " or ".join(text for measure, text in rules.items() if measure in used)
    _, nearest, where = max(closest, key=lambda one: one[0])
    count = words.count(sum(one.compared for one in layers.values()), "channel")
    return (
        f"No two channels are doubles: of {count}, no two of a layer have {rule}. "
        f"The closest pair, {nearest.channel} and {nearest.other} of {words.shortened(where)}, "
        f"has a {nearest.in_words}."
    )


def _of_answers(statistics: Sequence[StatisticsRow]) -> Iterator[Likeness]:
    for row in statistics:
        if row.nearest is not None and finite(row.correlation):
            yield Likeness(row.channel, row.nearest, row.correlation, CORRELATION)


def _of_kernels(weights: Sequence[WeightRow]) -> Iterator[Likeness]:
    for row in weights:
        for other, cosine in zip(row.alike, row.cosines, strict=True):
            if finite(cosine):
                yield Likeness(row.channel, other, cosine, COSINE)


def _groups(links: Sequence[Likeness]) -> Iterator[Group]:
    """Chains of channels, each the double of another one, in the order of their lowest channels."""
    root: dict[int, int] = {}

    def first(channel: int) -> int:
        while root.setdefault(channel, channel) != channel:
            channel = root[channel]
        return channel

    for link in links:
        root[first(link.other)] = first(link.channel)
    members: dict[int, list[int]] = defaultdict(list)
    for channel in sorted(root):
        members[first(channel)].append(channel)
    for channels in members.values():
        within = [link for link in links if link.channel in channels]
        yield Group(tuple(channels), min(within, key=lambda link: (link.value, link.channel)))
