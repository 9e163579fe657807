"""Two runs side by side: which unit is which, and what changed, the most first.

For example two epochs, two seeds, or a float network and its quantised form. The numbers and pictures of the runs are
compared; weights are not, since runs do not hold them. Reads runs through their reader alone; `pages` makes the pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import StatisticsRow, UnitRow, rows_of
from filterscope.converters.errors import SettingsError, setting
from filterscope.reports.compare import caveats, matching
from filterscope.reports.compare.comparison import Comparison, KindId, KindPair, LayerPair, Pair
from filterscope.reports.compare.words import run_names
from filterscope.reports.page.units import KINDS, UnitTable

MATCHES = ("index", "activation")


def compare(a: Run, b: Run, match: str = "index") -> Comparison:
    """Compare two runs, finished or not.

    Args:
        a: one run.
        b: the other.
        match: index: the same number is the same unit (two epochs, float and quantised); activation: the unit that
            responds most alike to the images that both runs hold (two seeds).

    Raises:
        SettingsError: no such match, or no common images to match by.
        RunError: the runs have no comparable layer, or one is damaged.
    """
    if match not in MATCHES:
        raise SettingsError(f"{setting('match', match)}: give one of {', '.join(MATCHES)}", field="match", value=match)
    by_index = match == "index"
    matched = matching.match_layers(a, b, by_index=by_index)
    images = matching.common_images(a, b)
    if not by_index and not images:
        raise SettingsError(
            f"{setting('match', match)}: {a.folder} and {b.folder} hold no image in common (the same pixels at the "
            f"network's input); analyse both with the same {setting('images')}, or use {setting('match', 'index')}",
            field="match",
            value=match,
        )
    sides = _sides(a, b)
    compared = [_layer(sides, pair, images, by_index=by_index) for pair in matched.pairs]
    layers = tuple(layer for layer in compared if layer.pairs)
    if not layers:
        raise SettingsError(
            f"{setting('match', match)}: {a.folder} and {b.folder} have no channel in common; "
            "analyse the same channels in both" + ("" if by_index else f", with the same {setting('images')}"),
            field="match",
            value=match,
        )
    return Comparison(
        a=a,
        b=b,
        match=match,
        names=run_names(a, b),
        layers=layers,
        idle=tuple(layer.a.name for layer in compared if not layer.pairs),
        matched=matched,
        images=tuple(images),
        statements=tuple(caveats.statements(a, b, matched, layers, by_index=by_index, images=len(images))),
        cautions=tuple(caveats.cautions(a, b, compared_data=bool(sides[0].active))),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One of the two runs."""

    run: Run
    units: UnitTable
    active: dict[tuple[str, int], float | None]  # (layer, channel) → fraction of places above 0; empty: not comparable


def _sides(a: Run, b: Run) -> tuple[_Side, _Side]:
    """The two runs; their passes over data are read where both saw the same data in the same way."""
    passes = a.study("examples"), b.study("examples")
    same = passes[0] is not None and passes[1] is not None and passes[0].settings == passes[1].settings

    def side(run: Run) -> _Side:
        rows = rows_of(run.table("examples/units.parquet"), StatisticsRow) if same else []
        return _Side(run, UnitTable(run), {(row.layer, row.channel): row.active for row in rows})

    return side(a), side(b)


def _layer(
    sides: tuple[_Side, _Side],
    layers: tuple[LayerInfo, LayerInfo],
    images: Sequence[tuple[int, int]],
    *,
    by_index: bool,
) -> LayerPair:
    """The units of a layer of A and of the layer of B that it was matched with."""
    both = list(zip(sides, layers, strict=True))
    with_map_pictures = [matching.pictured(side.run, layer.slug) for side, layer in both]
    compared = [
        (one, other) for one, other in images if one in with_map_pictures[0] and other in with_map_pictures[1]
    ] or list(images)
    responses = [
        matching.responses(side.run, layer.slug, [pair[which] for pair in compared])
        for which, (side, layer) in enumerate(both)
    ]
    rows = [_by_kind(side.units.of(layer.name)) for side, layer in both]
    channels = [sorted({channel for of_kind in kinds.values() for channel in of_kind}) for kinds in rows]
    units = matching.match_units(channels[0], channels[1], *responses, by_index=by_index)
    kinds = _kinds(*rows)
    hashes = [_picture_hashes(side.run, own, other) for side, own, other in zip(sides, rows, rows[::-1], strict=True)]
    pairs = []
    for (one, other), correlation, spread in zip(units.pairs, units.correlation, units.spread, strict=True):
        kind_pairs = []
        for kind in kinds:
            pictures = hashes[0].get((kind, one)), hashes[1].get((kind, other))
            same = None if None in pictures else pictures[0] == pictures[1]
            kind_pairs.append(KindPair(kind, rows[0].get(kind, {}).get(one), rows[1].get(kind, {}).get(other), same))
        active = sides[0].active.get((layers[0].name, one)), sides[1].active.get((layers[1].name, other))
        pairs.append(
            Pair(
                a=one,
                b=other,
                correlation=correlation,
                spread=spread,
                kinds=tuple(kind_pairs),
                active=None if active[0] is None or active[1] is None else (active[0], active[1]),
            )
        )
    return LayerPair(
        a=layers[0],
        b=layers[1],
        kinds=kinds,
        pairs=tuple(sorted(pairs, key=lambda pair: pair.order)),
        only_a=units.only_a,
        only_b=units.only_b,
        chance=units.chance,
        images=units.images,
        of_places=units.of_places,
    )


def _by_kind(rows: Sequence[UnitRow]) -> dict[KindId, dict[int, UnitRow]]:
    """Kind → channel → row."""
    of_kind: dict[KindId, dict[int, UnitRow]] = {}
    for row in rows:
        of_kind.setdefault(row.kind, {})[row.channel] = row
    return of_kind


def _kinds(a: dict[KindId, dict[int, UnitRow]], b: dict[KindId, dict[int, UnitRow]]) -> tuple[KindId, ...]:
    """Of either run: those that both have first, each in the order of the report."""
    order = [*KINDS, *sorted((a.keys() | b.keys()) - KINDS.keys())]
    both = [kind for kind in order if kind in a and kind in b]
    return *both, *(kind for kind in order if kind in a.keys() ^ b.keys())


def _picture_hashes(
    run: Run, side: dict[KindId, dict[int, UnitRow]], other: dict[KindId, dict[int, UnitRow]]
) -> dict[tuple[KindId, int], str]:
    """(kind, channel) → a hash of the picture, of kinds that both runs have; each atlas is read once."""
    hashes = {}
    for kind in side.keys() & other.keys():
        rows = [row for row in side[kind].values() if row.has_picture]
        for row in sorted(rows, key=lambda row: (row.atlas, row.tile)):
            tile = run.tile(row)
            assert tile is not None
            pixels = np.ascontiguousarray(tile).tobytes()
            hashes[kind, row.channel] = hashlib.sha256(repr(tile.shape).encode() + pixels).hexdigest()
    return hashes
