"""Two runs side by side: which unit is which, and what changed, the most first.

Two epochs, two seeds, a float network and its quantised form: what is compared are the runs' own numbers and pictures;
weights are not, for runs do not hold them. Reads runs through their reader alone; `pages` makes the pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from filterscope.analyzer.run.reader import Run
from filterscope.converters.errors import SettingsError
from filterscope.reports.compare import caveats, matching
from filterscope.reports.compare.comparison import Comparison, KindId, LayerPair, Pair, Row, Shown
from filterscope.reports.compare.words import run_names
from filterscope.reports.page.units import KINDS, UnitTable

MATCHES = ("index", "activation")


def compare(a: Run, b: Run, match: str = "index") -> Comparison:
    """Compare two runs, finished or not.

    Args:
        a: one run.
        b: the other.
        match: index: the same number is the same unit (two epochs, float and quantised); activation: the unit that
            answers most alike on the images that both runs hold (two seeds, where numbers mean nothing).

    Raises:
        SettingsError: no such match, or no common images to match by.
        RunError: the runs have no comparable layer, or one is damaged.
    """
    if match not in MATCHES:
        raise SettingsError(f"--match {match}: give one of {', '.join(MATCHES)}")
    matched = matching.match_layers(a, b, by_index=match == "index")
    images = matching.common_images(a, b)
    if match == "activation" and not images:
        raise SettingsError(
            f"--match activation: {a.folder} and {b.folder} hold no image in common (the same pixels at the network's "
            "input); analyse both with the same --images, or use --match index"
        )
    tables = UnitTable(a), UnitTable(b)
    names = run_names(a, b)
    active = _active(a, b)
    found = [_layer(a, b, *pair, tables, images, active, match == "index") for pair in matched.pairs]
    layers = tuple(layer for layer in found if layer.pairs)
    idle = tuple(str(layer.a["name"]) for layer in found if not layer.pairs)
    if not layers:
        raise SettingsError(
            f"--match {match}: {a.folder} and {b.folder} have no unit in common; analyse the same channels in both"
            + (", with the same --images" if match == "activation" else "")
        )
    statements = tuple(caveats.statements(a, b, matched, layers, len(images), match))
    return Comparison(
        a,
        b,
        match,
        names,
        layers,
        idle,
        matched,
        tuple(images),
        statements,
        tuple(caveats.cautions(a, b, compared_data=bool(active))),
    )


def _layer(
    run_a: Run,
    run_b: Run,
    a: dict[str, Any],
    b: dict[str, Any],
    tables: tuple[UnitTable, UnitTable],
    images: Sequence[tuple[int, int]],
    active: dict[tuple[str, str, int], float],
    by_index: bool,
) -> LayerPair:
    both = matching.pictured(run_a, a["slug"]), matching.pictured(run_b, b["slug"])
    kept = [(one, other) for one, other in images if one in both[0] and other in both[1]] or list(images)
    said_a = matching.answers(run_a, a["slug"], [one for one, _ in kept])
    said_b = matching.answers(run_b, b["slug"], [other for _, other in kept])
    sides = [_by_kind(table.of(layer["name"])) for table, layer in zip(tables, (a, b), strict=True)]
    channels = [sorted({channel for rows in side.values() for channel in rows}) for side in sides]
    units = matching.match_units(channels[0], channels[1], said_a, said_b, by_index=by_index)
    kinds = _kinds(*sides)
    prints = [
        _prints(run, side, sides[1 - index])
        for index, (run, side) in enumerate(zip((run_a, run_b), sides, strict=True))
    ]
    pairs = []
    for (one, other), correlation, spread in zip(units.pairs, units.correlation, units.spread, strict=True):
        shown = []
        for kind in kinds:
            pictures = prints[0].get((kind, one)), prints[1].get((kind, other))
            same = None if None in pictures else pictures[0] == pictures[1]
            shown.append(Shown(kind, sides[0].get(kind, {}).get(one), sides[1].get(kind, {}).get(other), same))
        fractions = active.get(("a", a["name"], one)), active.get(("b", b["name"], other))
        known = None if fractions[0] is None or fractions[1] is None else (fractions[0], fractions[1])
        pairs.append(Pair(one, other, correlation, spread, tuple(shown), known))
    pairs.sort(key=lambda pair: pair.order)
    return LayerPair(a, b, kinds, tuple(pairs), units.only_a, units.only_b, units.chance, units.images, units.of_places)


def _by_kind(rows: Sequence[Row]) -> dict[KindId, dict[int, Row]]:
    found: dict[KindId, dict[int, Row]] = {}
    for row in rows:
        found.setdefault((row["objective"], row["method"], row["space"]), {})[row["channel"]] = row
    return found


def _kinds(a: dict[KindId, Any], b: dict[KindId, Any]) -> tuple[KindId, ...]:
    """Of either run: those that both have first, each in the order of the report."""
    order = [*KINDS, *sorted((a.keys() | b.keys()) - KINDS.keys())]
    both = [kind for kind in order if kind in a and kind in b]
    return *both, *(kind for kind in order if kind in a.keys() ^ b.keys())


def _prints(run: Run, side: dict[KindId, dict[int, Row]], other: dict[KindId, Any]) -> dict[tuple[KindId, int], str]:
    """(kind, channel) → a hash of the picture, of kinds that both runs have; each atlas is read once."""
    found = {}
    for kind in side.keys() & other.keys():
        rows = [row for row in side[kind].values() if row["atlas"] is not None]
        for row in sorted(rows, key=lambda row: (row["atlas"], row["tile"])):
            tile = run.tile(row)
            if tile is not None:
                pixels = np.ascontiguousarray(tile).tobytes()
                found[kind, int(row["channel"])] = hashlib.sha256(repr(tile.shape).encode() + pixels).hexdigest()
    return found


def _active(a: Run, b: Run) -> dict[tuple[str, str, int], float]:
    """(run, layer, channel) → fraction of places above 0, where both runs passed over the same data in the same way."""
    passes = a.study("examples"), b.study("examples")
    if passes[0] is None or passes[1] is None or passes[0]["settings"] != passes[1]["settings"]:
        return {}
    found: dict[tuple[str, str, int], float] = {}
    for name, run in (("a", a), ("b", b)):
        table = run.table("examples/units.parquet").select(["layer", "channel", "active"])
        found |= {(name, row["layer"], row["channel"]): row["active"] for row in table.to_pylist()}
    return found
