"""All numbers of one channel, for the script that opens its view.

Joins the studies' tables by channel and packs them tightly: a network has ten thousands of channels. Four significant
digits are kept, one more than a page shows; exact numbers stand in the run. Knows the run's reader; knows no HTML.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from filterscope.analyzer.bounds.constant_units import is_constant
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import (
    ExamplePictureRow,
    ExampleRow,
    PathRow,
    StatisticsRow,
    TruthRow,
    TuningRow,
    UnitClassRow,
    UnitRow,
    WeightRow,
    rows_of,
)
from filterscope.analyzer.units.jitter import longest_shift
from filterscope.reports.page import words
from filterscope.reports.page.units import ByLayer, MapFact, Unit
from filterscope.reports.site import answer

CLASSES = 3  # of the data that a unit tells best, at most
EXAMPLES = 9  # strongest places shown of a unit
BINS = 40  # of a histogram, at most

Packed = list[Any]


class _OfChannel(Protocol):
    """A row of a table that has a row a channel, or several."""

    @property
    def channel(self) -> int: ...


AnyRow = TypeVar("AnyRow", bound=_OfChannel)


def short(value: float | None) -> float | None:
    """A number with four significant digits; None where it is no finite number."""
    if value is None or not math.isfinite(value):
        return None
    if value == 0 or isinstance(value, int):
        return value
    rounded = round(value, 3 - math.floor(math.log10(abs(value))))
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def classes_of_channels(run: Run) -> pa.Table:
    """The classes of the data that channels tell best, a row each (analyzer.run.rows.UnitClassRow).

    Channels that are silent on the data are left out: of what stays below 0, no class can be said to raise it.
    """
    table = run.table("examples/unit_classes.parquet")
    statistics = run.table("examples/units.parquet")
    flags = (statistics[name].to_pylist() for name in ("layer", "channel", "dead"))
    silent = {(layer, channel) for layer, channel, is_silent in zip(*flags, strict=True) if is_silent}
    pairs = zip(table["layer"].to_pylist(), table["channel"].to_pylist(), strict=True)
    return table.take(np.flatnonzero([pair not in silent for pair in pairs]).astype(np.int64))


class Studies:
    """The tables of a run that have a row a unit, read once.

    Args:
        run: to read from.
        patches: strongest places of a unit that its page shows, at most.
    """

    def __init__(self, run: Run, patches: int = EXAMPLES) -> None:
        self.run, self.patches = run, patches
        self.statistics = ByLayer(run.table("examples/units.parquet"), StatisticsRow)
        self.channel_classes = classes_of_channels(run)
        self.unit_classes = ByLayer(self.channel_classes, UnitClassRow)
        self.tuning = ByLayer(run.table("tuning/units.parquet"), TuningRow)
        self.truth = ByLayer(run.table("truth/units.parquet"), TruthRow)
        self.paths = ByLayer(run.table("truth/paths.parquet"), PathRow)
        self.images = run.images
        examples = rows_of(run.table("examples/pictures.parquet"), ExamplePictureRow)
        self.labels = {row.example: row.label for row in examples}
        study = run.study("examples") if run.holds("examples") else None
        measured = study.settings.get("images") if study else None
        self.data_images = measured if isinstance(measured, int) else None
        counts = run.table("examples/classes.parquet")["images"].to_pylist()
        self.of_a_label = max((count for count in counts if count is not None), default=None)

    def silent(self, layer: str) -> tuple[int, ...] | None:
        """Channels of a layer that are never above 0 on the data set; None where there was none."""
        rows = self.statistics.of(layer)
        return tuple(row.channel for row in rows if row.dead) if rows else None

    def measured(self, layer: str) -> int:
        """Channels of a layer whose statistics on the data set are there."""
        return len(self.statistics.of(layer))


class Details:
    """What the studies say of the units of one layer.

    Args:
        studies: of the run.
        layer: of the run.
        channels: that the page shows; others are left out.
    """

    def __init__(self, studies: Studies, layer: LayerInfo, channels: Sequence[int]) -> None:
        run, name, slug = studies.run, layer.name, layer.slug
        self.studies = studies
        shown = set(channels)
        self.layer = layer
        self.statistics = _by_channel(studies.statistics.of(name), shown)
        self.unit_classes = _lists(studies.unit_classes.of(name), shown)
        self.tuning = _by_channel(studies.tuning.of(name), shown)
        self.weights = _by_channel(rows_of(run.weights(slug), WeightRow), shown)
        self.truth = _lists(studies.truth.of(name), shown)
        self.paths = _lists(studies.paths.of(name), shown)
        self.examples = {
            channel: sorted((row for row in rows if row.rank < EXAMPLES), key=lambda row: row.rank)
            for channel, rows in _lists(rows_of(run.examples(slug), ExampleRow), shown).items()
        }
        self.images = studies.images
        self.names: list[str] = []  # of layers that packed units mention by number

    def with_constancy(self, unit: Unit) -> Unit:
        """The unit, marked constant where every measurement gave one number, on the data set too."""
        seen = self.statistics.get(unit.channel)
        ends = [seen.minimum, seen.maximum] if seen else []
        return replace(unit, constant=is_constant([*unit.answers(), *ends]))

    @property
    def heat_ranks(self) -> int:
        """How many of a unit's strongest places have a picture of the map."""
        most = max((sum(row.has_picture for row in rows) for rows in self.examples.values()), default=0)
        return min(most, self.studies.patches)

    @property
    def is_selective(self) -> bool:
        """Whether any unit has a class selectivity: where the data set has classes."""
        return any(row.selectivity is not None for row in self.statistics.values())

    def columns(self, units: Sequence[Unit]) -> dict[str, Packed]:
        """What the channels can be ordered and filtered by, a number a unit."""
        columns: dict[str, Packed] = {}
        rows = [self.statistics.get(unit.channel) for unit in units]
        if self.statistics:
            columns["active"] = [row and short(row.active) for row in rows]
            columns["unseen"] = [int(bool(row and row.dead)) for row in rows]
        if self.is_selective:
            columns["selectivity"] = [short(row.selectivity) if row else None for row in rows]
        if self.weights or self.statistics:
            columns["alike"] = [self._nearest(unit.channel) for unit in units]
        if self.tuning:
            tuned = [self.tuning.get(unit.channel) for unit in units]
            columns["words"] = [(row and row.words) or "" for row in tuned]
        return columns

    def firsts(self, units: Sequence[Unit]) -> list[Packed | None] | None:
        """The strongest example of each unit; None where there is none at all."""
        rows = [self.examples.get(unit.channel) for unit in units]
        return [_example(row[0]) if row else None for row in rows] if self.examples else None

    def _nearest(self, channel: int) -> float | None:
        row = self.weights.get(channel)
        if row and row.cosines:
            return short(row.cosines[0])
        statistics = self.statistics.get(channel)
        return short(statistics.correlation) if statistics else None

    def packed(self, unit: Unit) -> dict[str, object]:
        """A unit as the script reads it (static/unit.js names the places); what the run lacks is left out."""
        channel = unit.channel
        strongest = unit.strongest
        packed = {
            "c": channel,
            "a": self._answer(unit),
            "p": [_picture(picture.row, unit.status(picture)) if picture else 0 for picture in unit.pictures],
            "d": list(unit.diverse),
            "m": [_map(fact) if fact else 0 for fact in unit.maps],
            "g": [strongest.image, *_map(strongest)[1:4], *self._image_name(unit)] if strongest else None,
            "e": [_example(row) for row in self.examples.get(channel, [])[: self.studies.patches]],
            "s": _statistics(self.statistics.get(channel)),
            "k": [[row.name, short(row.auc), short(row.mean)] for row in self._best_classes(channel)],
            "w": self._weights(self.weights.get(channel)),
            "t": _tuning(self.tuning.get(channel)),
            "r": [
                [row.objective, short(row.maximised), short(row.natural), short(row.ratio)]
                for row in self.truth.get(channel, [])
            ],
            "q": [
                [
                    self._number(row.through),
                    *map(short, (row.maximised_natural, row.natural_natural, row.random_natural)),
                ]
                for row in self.paths.get(channel, [])
            ],
        }
        return {name: value for name, value in packed.items() if value or name == "c"}

    def lead(self, unit: Unit) -> str:
        """The first sentence of its view: what it responds to."""
        return self._answered(unit).lead

    def _answer(self, unit: Unit) -> Packed:
        """The first sentences of its view: what it responds to, how sure that is, and why."""
        one = self._answered(unit)
        return [one.lead, one.level, " ".join(one.reasons)]

    def _answered(self, unit: Unit) -> answer.Answer:
        channel = unit.channel
        tuned = self.tuning.get(channel)
        return answer.answer(
            answer.UnitFacts(
                self.layer,
                unit,
                images=self.studies.data_images,
                of_a_label=self.studies.of_a_label,
                classes=[(row.name, row.auc) for row in self._best_classes(channel)],
                strongest=[(row, self.studies.labels.get(row.example)) for row in self.examples.get(channel, [])],
                statistics=self.statistics.get(channel),
                tuning=tuned.words if tuned else None,
                truth=self.truth.get(channel, []),
                paths=self.paths.get(channel, []),
            )
        )

    def _best_classes(self, channel: int) -> list[UnitClassRow]:
        """The classes of the data that a unit tells best, the best first."""
        return sorted(self.unit_classes.get(channel, []), key=lambda row: row.rank)[:CLASSES]

    def _image_name(self, unit: Unit) -> list[str]:
        """Name of the image on which a unit fires most, where no page says it."""
        image = unit.strongest.image if unit.strongest else 0
        has_no_page = len(unit.maps) <= image < len(self.images)
        return [words.shortened(str(self.images[image].name), 60)] if has_no_page else []

    def _weights(self, row: WeightRow | None) -> Packed | None:
        if row is None:
            return None
        sources = [None if name is None else self._number(name) for name in row.sources]
        norms, cosines = ([short(value) for value in values] for values in (row.norms, row.cosines))
        return [
            *(short(row.norm), short(row.bias), row.inputs, norms, sources, row.source_channels),
            *(row.alike, cosines, int(row.has_picture)),
            [short(value) for value in row.shares or []],
            *([self._number(name) for name in row.feeds or []], row.feeds_channels or []),
            [short(value) for value in row.feeds_shares or []],
        ]

    def _number(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)


def _picture(row: UnitRow, status: str) -> Packed:
    numbers = [short(value) for value in (row.activation, row.robust, row.random, row.bound)]
    first = [*row.size[:2], longest_shift(row.size[:2])] if row.is_first else None  # own size, and own shift in pixels
    rare = [first, row.image, short(row.highest)]
    while rare and rare[-1] is None:
        del rare[-1]
    return [*numbers, row.bound_kind, status, int(row.has_picture), *rare]


def _map(fact: MapFact) -> Packed:
    return [short(fact.minimum), short(fact.maximum), fact.row, fact.column, short(fact.mean)]


def _example(row: ExampleRow) -> Packed:
    field = [row.top, row.left, row.field_height, row.field_width]
    return [row.example, short(row.activation), *field, int(row.has_picture)]


def _statistics(row: StatisticsRow | None) -> Packed | None:
    if row is None:
        return None
    numbers = [short(value) for value in (row.minimum, row.mean, row.maximum, row.active, row.active_images)]
    bins, beyond = fewer(row.histogram or [])
    low, high = row.histogram_low, row.histogram_high
    end = high if low is None or high is None else high + beyond * (high - low)
    nearest = [row.nearest, short(row.correlation), row.firsts, int(bool(row.dead))]
    return [*numbers, *nearest, short(low), short(end), bins, short(row.selectivity)]


def fewer(histogram: Sequence[int], most: int = BINS) -> tuple[list[int], float]:
    """A histogram in at most `most` equal bins, each as a whole per mille of the highest; a bin with any has 1.

    Returns:
        The bins, and by how much the last one ends beyond the histogram, in widths of the whole of it.
    """
    counts = np.asarray(histogram, np.float64)
    if not counts.size or counts.max() <= 0:
        return [], 0.0
    step = -(-counts.size // most)
    lacking = -counts.size % step  # a number of bins that is prime is no reason to show one
    joined = np.pad(counts, (0, lacking)).reshape(-1, step).sum(1)
    return [int(value) for value in np.ceil(1000 * joined / joined.max())], lacking / counts.size


def _tuning(row: TuningRow | None) -> Packed | None:
    if row is None:
        return None
    numbers = (row.response, row.orientation, row.orientation_selectivity, row.period, row.phase_modulation, row.hue)
    curves = (row.orientation_curve, row.period_curve, row.periods, row.hue_curve)
    return [
        *(row.words, row.best, *map(short, numbers), short(row.colour_selectivity)),
        *([short(value) for value in curve or []] for curve in curves),
        int(row.has_picture),
    ]


def _by_channel(rows: Sequence[AnyRow], shown: set[int]) -> dict[int, AnyRow]:
    return {row.channel: row for row in rows if row.channel in shown}


def _lists(rows: Sequence[AnyRow], shown: set[int]) -> dict[int, list[AnyRow]]:
    lists: dict[int, list[AnyRow]] = defaultdict(list)
    for row in rows:
        if row.channel in shown:
            lists[row.channel].append(row)
    return lists
