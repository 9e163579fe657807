"""What a comparison of two runs found: layers, pairs of units, their pictures, and how each changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import UnitRow
from filterscope.analyzer.run.tables import UNIT_SCHEMA
from filterscope.reports.compare import matching
from filterscope.reports.page.units import finite

SCHEMA = 1  # of compare.json
NO_RESULT = (
    "layer",
    "channel",
    "atlas",
    "tile",
    "seconds",
    "is_first",
    "image",
)  # of a row: stands elsewhere, or is no result
RESULTS = tuple(name for name in UNIT_SCHEMA.names if name not in NO_RESULT)
JsonObject = dict[str, object]
KindId = tuple[str, str, str]  # objective, method, space


@dataclass(frozen=True, slots=True, eq=False)
class KindPair:
    """One kind of picture of two units that were matched."""

    kind: KindId
    a: UnitRow | None
    b: UnitRow | None
    same: bool | None  # whether the pictures are equal, pixel by pixel; None where either has none

    @property
    def change(self) -> float | None:
        """Change of the activation, relative to the larger of the two: 0 no change, 1 from nothing, 2 from −x to x."""
        if self.a is None or self.b is None:
            return None
        one, other = self.a.activation, self.b.activation
        if not (finite(one) and finite(other)):
            return None
        scale = max(abs(one), abs(other))
        return abs(other - one) / scale if scale else 0.0

    @property
    def status_changed(self) -> bool:
        """Whether B's picture has another status than A's."""
        return self.a is not None and self.b is not None and self.a.status != self.b.status


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A unit of A and the unit of B that it was matched with."""

    a: int
    b: int
    correlation: float | None  # of their responses to the common images
    spread: float | None  # standard deviation of B's responses ÷ that of A's
    kinds: tuple[KindPair, ...]  # one per kind that either run has of the layer
    active: tuple[float, float] | None  # fraction of places above 0 in the same pass over data, in A and in B

    @property
    def change(self) -> float | None:
        """Change of the activation, of the first kind that both runs have."""
        return next((kind_pair.change for kind_pair in self.kinds if kind_pair.change is not None), None)

    @property
    def order(self) -> tuple[float, ...]:
        """Sort key: lowest correlation first, then largest change of the activation, then lowest number.

        Correlations are rounded to what the 8-bit maps hold.
        """
        differs = -1.0 if self.correlation is None else round(1 - self.correlation, 4)
        return -differs, -1.0 * (-1.0 if self.change is None else self.change), self.a

    @property
    def leading(self) -> KindPair | None:
        """The first kind of which both runs have a picture; None where there is none."""
        return next((kind_pair for kind_pair in self.kinds if kind_pair.same is not None), None)

    @property
    def unchanged(self) -> bool:
        """Whether all numbers and pictures that both runs hold are the same."""
        both = [kind_pair for kind_pair in self.kinds if kind_pair.a and kind_pair.b]
        same = all(kind_pair.same is not False and _results(kind_pair.a) == _results(kind_pair.b) for kind_pair in both)
        return same and (self.correlation is None or (self.correlation == 1 and round(self.spread or 1, 5) == 1))


@dataclass(frozen=True, slots=True, eq=False)
class LayerPair:
    """A layer of A and the layer of B that it was matched with."""

    a: LayerInfo
    b: LayerInfo
    kinds: tuple[KindId, ...]
    pairs: tuple[Pair, ...]  # what changed most first
    only_a: tuple[int, ...]  # channels
    only_b: tuple[int, ...]
    chance: float | None  # the correlation expected by chance: see reports.compare.matching.match_units
    images: int
    of_places: bool

    @property
    def correlations(self) -> np.ndarray:
        """The correlations of pairs that could be measured, lowest first."""
        measured = [pair.correlation for pair in self.pairs if pair.correlation is not None]
        return np.sort(np.array(measured, np.float64))

    def quantile(self, share: float) -> float | None:
        """A quantile of the correlations, from 0 to 1; None where none could be measured."""
        correlations = self.correlations
        return round(float(np.quantile(correlations, share)), 6) if len(correlations) else None

    @property
    def status_changes(self) -> Counter[tuple[str, str]]:
        """(status in A, status in B) → pictures, where the two differ."""
        return Counter(
            (kind_pair.a.status, kind_pair.b.status)
            for pair in self.pairs
            for kind_pair in pair.kinds
            if kind_pair.status_changed and kind_pair.a and kind_pair.b
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparison:
    """What two runs have in common and where they differ."""

    a: Run
    b: Run
    match: str  # index or activation
    names: tuple[str, str]  # of the runs, to tell them apart
    layers: tuple[LayerPair, ...]  # in network order
    idle: tuple[str, ...]  # layers, as A names them, of which the runs know no unit in common
    matched: matching.LayerMatch
    images: tuple[tuple[int, int], ...]  # common ones: numbers in A and in B
    statements: tuple[str, ...]  # what is compared, a sentence each
    cautions: tuple[str, ...]  # what differs beside the networks themselves, a sentence each

    def __repr__(self) -> str:
        return f"<filterscope comparison of {self.names[0]} and {self.names[1]}: {' '.join(self.sentences)}>"

    @property
    def pairs(self) -> Iterator[tuple[LayerPair, Pair]]:
        """All pairs of units, layer by layer."""
        return ((layer, pair) for layer in self.layers for pair in layer.pairs)

    @property
    def most_changed(self) -> list[tuple[LayerPair, Pair]]:
        """The pairs with pictures on both sides, of all layers, what changed most first."""
        return sorted(((layer, pair) for layer, pair in self.pairs if pair.leading), key=lambda both: both[1].order)

    @property
    def unchanged(self) -> bool:
        """Whether every number and picture that both runs hold is the same."""
        return all(pair.unchanged for _, pair in self.pairs)

    @property
    def median(self) -> float | None:
        """Median of all correlations."""
        correlations = np.concatenate([layer.correlations for layer in self.layers])
        return round(float(np.median(correlations)), 6) if len(correlations) else None

    @property
    def sentences(self) -> list[str]:
        """The result in a few sentences, then the cautions."""
        from filterscope.reports.compare.caveats import verdict

        return [*verdict(self), *self.cautions]

    def save(self, folder: str | Path) -> Path:
        """Write the pages and compare.json; returns the path of the first page.

        Raises:
            RunError: the folder holds something else or cannot be written, or a file of a run is damaged.
        """
        from filterscope.reports.compare.pages import render

        return render(self, Path(folder))

    def to_json(self) -> JsonObject:
        """All numbers; null where a run does not hold one."""
        return {
            "schema": SCHEMA,
            "match": self.match,
            "layers_by": self.matched.how,
            "runs": [_run_json(run, name) for run, name in zip((self.a, self.b), self.names, strict=True)],
            "statements": self.statements,
            "cautions": self.cautions,
            "images": [{"a": a, "b": b, "name": self.a.images[a].name} for a, b in self.images],
            "unchanged": self.unchanged,
            "correlation": self.median,
            "layers": [_layer_json(layer) for layer in self.layers],
            "differing": [{"a": a, "b": b, "why": why} for a, b, why in self.matched.differing],
            "idle": self.idle,
            "only_a": self.matched.only_a,
            "only_b": self.matched.only_b,
        }


def _results(row: UnitRow | None) -> JsonObject | None:
    """What was measured on a unit's picture, null for the numbers that JSON lacks; None where there is no row."""
    if row is None:
        return None
    values = {name: getattr(row, name) for name in RESULTS}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def _run_json(run: Run, name: str) -> JsonObject:
    of_model = ("sha256", "parameters", "conv_layers", "conv_channels", "notes")
    of_run = ("status", "seed", "settings", "filterscope")
    identity: JsonObject = {"name": name, "folder": run.folder.name, "model": run.info.model.name}
    return (
        identity
        | {key: run.info.model.json.get(key) for key in of_model}
        | {key: run.info.json.get(key) for key in of_run}
    )


def _layer_json(layer: LayerPair) -> JsonObject:
    quantiles = {name: layer.quantile(share) for name, share in (("median", 0.5), ("low", 0.1), ("lowest", 0.0))}
    return {
        "a": layer.a.name,
        "b": layer.b.name,
        "correlation": quantiles | {"chance": layer.chance, "images": layer.images, "of_places": layer.of_places},
        "only_a": layer.only_a,
        "only_b": layer.only_b,
        "units": [
            {
                "a": pair.a,
                "b": pair.b,
                "correlation": pair.correlation,
                "spread": pair.spread,
                "change": pair.change,
                "active": pair.active,
                "kinds": [
                    dict(zip(("objective", "method", "space"), kind_pair.kind, strict=True))
                    | {"a": _results(kind_pair.a), "b": _results(kind_pair.b), "same_picture": kind_pair.same}
                    for kind_pair in pair.kinds
                    if kind_pair.a or kind_pair.b
                ],
            }
            for pair in layer.pairs
        ],
    }
