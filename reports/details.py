"""Everything known of one channel, as numbers for the script that opens its view.

Joins the studies' tables by channel and packs them tightly: a network has ten thousands of channels. Four significant
digits are kept, one more than a page shows; exact numbers stand in the run. Knows the run's reader; knows no HTML.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analyzer.constancy import is_constant
from analyzer.run import Run
from reports import words
from reports.units import ByLayer, MapFact, Unit

EXAMPLES = 9  # strongest places shown of a unit
BINS = 40  # of a histogram, at most

Packed = list[Any]


def short(value: float | None) -> float | None:
    """A number with four significant digits; None where it is no finite number."""
    if value is None or not math.isfinite(value):
        return None
    if value == 0 or isinstance(value, int):
        return value
    rounded = round(value, 3 - math.floor(math.log10(abs(value))))
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


class Studies:
    """The tables of a run that have a row a unit, read once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.statistics = ByLayer(run.table("examples/units.parquet"))
        self.tuning = ByLayer(run.table("tuning/units.parquet"))
        self.truth = ByLayer(run.table("truth/units.parquet"))
        self.paths = ByLayer(run.table("truth/paths.parquet"))
        self.images = run.images

    def silent(self, layer: str) -> tuple[int, ...] | None:
        """Channels of a layer that are never above 0 on the data set; None where there was none."""
        rows = self.statistics.of(layer)
        return tuple(row["channel"] for row in rows if row["dead"]) if rows else None


class Details:
    """What the studies say of the units of one layer.

    Args:
        studies: of the run.
        layer: of layers.json.
        channels: that the page shows; others are left out.
    """

    def __init__(self, studies: Studies, layer: dict[str, Any], channels: Sequence[int]) -> None:
        run, name = studies.run, layer["name"]
        shown = set(channels)
        self.layer = layer
        self.statistics = _by_channel(studies.statistics.of(name), shown)
        self.tuning = _by_channel(studies.tuning.of(name), shown)
        self.weights = _by_channel(run.weights(layer["slug"]).to_pylist(), shown)
        self.truth = _lists(studies.truth.of(name), shown)
        self.paths = _lists(studies.paths.of(name), shown)
        self.examples = {
            channel: sorted((row for row in rows if row["rank"] < EXAMPLES), key=lambda row: row["rank"])
            for channel, rows in _lists(run.examples(layer["slug"]).to_pylist(), shown).items()
        }
        self.images = studies.images
        self.names: list[str] = []  # of layers that packed units mention by number

    def with_constancy(self, unit: Unit) -> Unit:
        """The unit, marked where it answered one number to all that was measured, the data set included."""
        seen = self.statistics.get(unit.channel)
        ends = [seen["minimum"], seen["maximum"]] if seen else []
        return replace(unit, constant=is_constant([*unit.answers(), *ends]))

    @property
    def heat_ranks(self) -> int:
        """How many of a unit's strongest places have a picture of the map."""
        return max((sum(row["atlas"] is not None for row in rows) for rows in self.examples.values()), default=0)

    def columns(self, units: Sequence[Unit]) -> dict[str, Packed]:
        """What the channels can be ordered and filtered by, a number a unit."""
        found: dict[str, Packed] = {}
        if self.statistics:
            rows = [self.statistics.get(unit.channel) for unit in units]
            found["active"] = [row and short(row["active"]) for row in rows]
            found["unseen"] = [int(bool(row and row["dead"])) for row in rows]
        if self.weights or self.statistics:
            found["alike"] = [self._nearest(unit.channel) for unit in units]
        if self.tuning:
            found["words"] = [(self.tuning.get(unit.channel) or {}).get("words") or "" for unit in units]
        return found

    def firsts(self, units: Sequence[Unit]) -> list[Packed | None] | None:
        """The strongest example of each unit; None where there is none at all."""
        rows = [self.examples.get(unit.channel) for unit in units]
        return [_example(row[0]) if row else None for row in rows] if self.examples else None

    def _nearest(self, channel: int) -> float | None:
        row = self.weights.get(channel)
        if row and row["cosines"]:
            return short(row["cosines"][0])
        statistics = self.statistics.get(channel)
        return short(statistics["correlation"]) if statistics else None

    def packed(self, unit: Unit) -> dict[str, Any]:
        """A unit as the script reads it (static/unit.js names the places); what is not known is left out."""
        channel = unit.channel
        strongest = unit.strongest
        told: dict[str, Any] = {
            "c": channel,
            "p": [_picture(picture.row, unit.status(picture)) if picture else 0 for picture in unit.pictures],
            "m": [_map(fact) if fact else 0 for fact in unit.maps],
            "g": [strongest.image, *_map(strongest)[1:], *self._name(unit)] if strongest else None,
            "e": [_example(row) for row in self.examples.get(channel, [])],
            "s": _statistics(self.statistics.get(channel)),
            "w": self._weights(self.weights.get(channel)),
            "t": _tuning(self.tuning.get(channel)),
            "r": [
                [row["objective"], *(short(row[name]) for name in ("maximised", "natural", "ratio"))]
                for row in self.truth.get(channel, [])
            ],
            "q": [
                [
                    self._number(row["through"]),
                    *(short(row[name]) for name in ("maximised_natural", "natural_natural", "random_natural")),
                ]
                for row in self.paths.get(channel, [])
            ],
        }
        return {name: value for name, value in told.items() if value or name == "c"}

    def _name(self, unit: Unit) -> list[str]:
        """Name of the image on which a unit fires most, where no page says it."""
        image = unit.strongest.image if unit.strongest else 0
        known = len(unit.maps) <= image < len(self.images)
        return [words.shortened(str(self.images[image]["name"]), 60)] if known else []

    def _weights(self, row: dict[str, Any] | None) -> Packed | None:
        if row is None:
            return None
        sources = [None if name is None else self._number(name) for name in row["sources"]]
        norms, cosines = ([short(value) for value in row[name]] for name in ("norms", "cosines"))
        return [
            *(short(row["norm"]), short(row["bias"]), row["inputs"], norms, sources, row["source_channels"]),
            *(row["alike"], cosines, int(row["atlas"] is not None)),
        ]

    def _number(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)


def _picture(row: dict[str, Any], status: str) -> Packed:
    numbers = [short(row[name]) for name in ("activation", "robust", "random", "bound")]
    return [*numbers, row["bound_kind"], status, int(row["atlas"] is not None)]


def _map(fact: MapFact) -> Packed:
    return [short(fact.minimum), short(fact.maximum), fact.row, fact.column]


def _example(row: dict[str, Any]) -> Packed:
    place = [row[name] for name in ("top", "left", "field_height", "field_width")]
    return [row["example"], short(row["activation"]), *place, int(row["atlas"] is not None)]


def _statistics(row: dict[str, Any] | None) -> Packed | None:
    if row is None:
        return None
    numbers = [short(row[name]) for name in ("minimum", "mean", "maximum", "active", "active_images")]
    ends = [short(row["histogram_low"]), short(row["histogram_high"])]
    nearest = [row["nearest"], short(row["correlation"]), row["firsts"], int(bool(row["dead"]))]
    return [*numbers, *nearest, *ends, fewer(row["histogram"] or [])]


def fewer(histogram: Sequence[int], most: int = BINS) -> list[int]:
    """A histogram in at most `most` equal bins, each as a whole per mille of the highest; a bin with any has 1."""
    counts = np.asarray(histogram, np.float64)
    if not counts.size or counts.max() <= 0:
        return []
    step = -(-counts.size // most)
    while counts.size % step:
        step += 1
    joined = counts.reshape(-1, step).sum(1)
    return [int(value) for value in np.ceil(1000 * joined / joined.max())]


def _tuning(row: dict[str, Any] | None) -> Packed | None:
    if row is None:
        return None
    names = ("response", "orientation", "orientation_selectivity", "period", "phase_modulation", "hue")
    curves = [[short(value) for value in row[name] or []] for name in ("orientation_curve", "period_curve", "periods")]
    return [
        *(row["words"], row["best"], *(short(row[name]) for name in names), short(row["colour_selectivity"])),
        *(*curves, [short(value) for value in row["hue_curve"] or []], int(row["atlas"] is not None)),
    ]


def _by_channel(rows: Sequence[dict[str, Any]], shown: set[int]) -> dict[int, dict[str, Any]]:
    return {row["channel"]: row for row in rows if row["channel"] in shown}


def _lists(rows: Sequence[dict[str, Any]], shown: set[int]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["channel"] in shown:
            found[row["channel"]].append(row)
    return found
