"""The few channels that tell most of a network: which they are, their pictures, and one sentence each.

The rule: where the data has classes, the channels that tell a class best from all others (AUC); otherwise those whose
pictures reach most times the activation of the strongest natural image; otherwise, spread evenly over the depth of
the network, those that rise highest above random images in their layer, of those that rise above 0. At most one a
layer, at most one a class.
Knows the run's reader, units and sheets; knows nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import ExamplePictureRow, ExampleRow, MapRow, TruthRow, UnitRow, rows_of
from filterscope.reports.page import sheets, words
from filterscope.reports.page.folder import Files
from filterscope.reports.page.units import UnitTable, finite, highest_above_random
from filterscope.reports.site import answer
from filterscope.reports.site.details import Studies
from filterscope.reports.site.layer_page import LayerEntry

MOST = 5
SIDE = 224  # pixels and CSS pixels, of each picture
RULES = {  # how they were chosen → the sentence above them
    "classes": "Of the channels analysed, those that tell one class of the data best: one a layer, one a class.",
    "truth": "Spread over the depth of the network, in each part the one whose picture outdoes natural images most.",
    "random": "Spread over the depth of the network, in each layer the one that rises highest above random images.",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of the page, a file of its own."""

    file: str
    size: tuple[int, int]  # (height, width), CSS pixels
    is_small: bool  # so that it is shown with hard pixels


@dataclass(frozen=True, slots=True)
class Telling:
    """One of the channels."""

    layer: LayerInfo
    channel: int
    page: str
    picture: Shown
    patch: Shown | None  # what it saw where it was strongest on natural images
    source: str  # of the patch, in words
    claim: str  # a sentence


@dataclass(frozen=True, slots=True)
class Candidate:
    """A channel that may be chosen."""

    layer: str
    channel: int
    why: str  # a sentence


def choose(run: Run, table: UnitTable, studies: Studies, entries: Sequence[LayerEntry]) -> tuple[str, list[Candidate]]:
    """The rule that was followed, a key of RULES, and the channels, the most telling first.

    Args:
        run: to read from.
        table: of its units.
        studies: of the run.
        entries: of all layers; only channels with a view and a picture that is fine are chosen.
    """
    seen = {entry.layer.name: entry.on_page for entry in entries if entry.page}
    rules = {
        "classes": _by_class(studies, seen),
        "truth": _by_truth(table, studies, seen),
        "random": _by_depth(table, entries),
    }
    for rule, candidates in rules.items():
        chosen: dict[str, Candidate] = {}
        for candidate in candidates:
            if len(chosen) < MOST and candidate.layer not in chosen and _row(table, candidate) is not None:
                chosen[candidate.layer] = candidate
        if chosen:
            return rule, list(chosen.values())
    return "", []


def write(
    run: Run, folder: Files, table: UnitTable, studies: Studies, *, entries: Sequence[LayerEntry], examples: bool
) -> tuple[str, list[Telling]]:
    """Choose the channels and write their pictures.

    Args:
        run: to read from.
        folder: of the site.
        table: of the run's units.
        studies: of the run.
        entries: of all layers.
        examples: whether pictures of the data set may be shown.

    Returns:
        How they were chosen, a sentence, and the channels, the most telling first.
    """
    rule, candidates = choose(run, table, studies, entries)
    pages = {entry.layer.name: entry for entry in entries}
    telling = []
    for place, candidate in enumerate(candidates):
        entry, row = pages[candidate.layer], _row(table, candidate)
        tile = None if row is None else run.tile(row)
        if tile is None:
            continue
        patch, source = _patch(run, entry.layer, candidate.channel, examples)
        tuning = next((one.words for one in studies.tuning.of(candidate.layer) if one.channel == candidate.channel), "")
        telling.append(
            Telling(
                layer=entry.layer,
                channel=candidate.channel,
                page=f"{entry.page}#{candidate.channel}",
                picture=_written(folder, f"telling-{place}", sheets.visible(tile)),
                patch=None if patch is None else _written(folder, f"telling-{place}-patch", sheets.visible(patch)),
                source=source,
                claim=f"{candidate.why} Tuning: {tuning}." if tuning else candidate.why,
            )
        )
    return RULES.get(rule, ""), telling


def _by_class(studies: Studies, seen: dict[str, frozenset[int]]) -> Iterator[Candidate]:
    """Units by how well they tell a class, the best first, each class once."""
    rows = [
        row for layer, channels in seen.items() for row in studies.unit_classes.of(layer) if row.channel in channels
    ]
    classes: set[int] = set()
    layers: set[str] = set()
    for row in sorted(rows, key=lambda row: (-row.auc, row.layer, row.channel)):
        if row.index in classes or row.layer in layers:
            continue
        classes.add(row.index)
        layers.add(row.layer)
        share = words.percent(row.auc)
        of = f"“{words.shortened(row.name)}”" if row.name else f"class {row.index}"
        yield Candidate(
            row.layer,
            row.channel,
            f"An image of {of} raises it more than one of another class {share} of the time (AUC).",
        )


def _by_truth(table: UnitTable, studies: Studies, seen: dict[str, frozenset[int]]) -> Iterator[Candidate]:
    """In each fifth of the depth the unit whose picture's activation is most times the strongest natural one."""
    measured = [layer for layer in seen if studies.truth.has(layer)]
    short = {
        (row.layer, row.channel)
        for layer in measured
        for row in studies.truth.of(layer)
        if row.objective == "neuron" and finite(row.ratio) and row.ratio < 1
    }
    best: dict[int, TruthRow] = {}
    for place, layer in enumerate(measured):
        part = place * MOST // len(measured)
        for row in studies.truth.of(layer):
            there = best.get(part)
            is_here = finite(row.ratio) and row.objective == "channel" and row.channel in seen[layer]
            if (
                is_here
                and (layer, row.channel) not in short
                and _is_robust(table, layer, row.channel)
                and (there is None or (row.ratio or 0) > (there.ratio or 0))
            ):
                best[part] = row
    for row in best.values():
        why = f"The mean of its map is {answer.times(row.ratio or 0)} that on the strongest cut of a natural image."
        yield Candidate(row.layer, row.channel, why)


def _by_depth(table: UnitTable, entries: Sequence[LayerEntry]) -> Iterator[Candidate]:
    """Layers spread evenly over the depth, in each the unit that rises highest above random images."""
    layers = [entry for entry in entries if entry.lead]
    spread = np.unique(np.linspace(0, len(layers) - 1, min(MOST, len(layers))).round().astype(int)) if layers else ()
    for place in spread:
        entry = layers[place]
        rows = [row for row in table.of(entry.layer.name) if row.channel in entry.on_page and _is_fine(row)]
        rows = [row for row in rows if finite(row.activation) and row.activation > 0] or rows
        for channel in highest_above_random(rows, 1):
            row = next(row for row in rows if row.channel == channel)
            reached, random = words.figure(row.activation), words.figure(row.random)
            yield Candidate(
                row.layer, channel, f"Its picture reaches {reached}; the best of 16 random images, {random}."
            )


def _is_robust(table: UnitTable, layer: str, channel: int) -> bool:
    """Whether the picture that stands for a unit keeps most of its activation when it is shifted."""
    row = _row(table, Candidate(layer, channel, ""))
    if row is None or not finite(row.activation) or not finite(row.robust):
        return row is not None
    return row.robust >= answer.ROBUST * row.activation


def _row(table: UnitTable, candidate: Candidate) -> UnitRow | None:
    """The picture that stands for a unit: of the whole map before others; None where none is fine."""
    rows = [row for row in table.of(candidate.layer) if row.channel == candidate.channel and _is_fine(row)]
    return min(rows, key=lambda row: row.objective != "channel", default=None)


def _is_fine(row: UnitRow) -> bool:
    is_highest = row.method == "ascent" and row.space == "image" and row.objective != "negative"
    return is_highest and row.status == "ok" and row.has_picture


def _patch(run: Run, layer: LayerInfo, channel: int, examples: bool) -> tuple[np.ndarray | None, str]:
    """What a unit saw where it was strongest on the data set, else on the user's images, and where that is from."""
    rows = [row for row in rows_of(run.examples(layer.slug), ExampleRow) if row.channel == channel and row.rank == 0]
    if rows and examples:
        pictures = rows_of(run.table("examples/pictures.parquet"), ExamplePictureRow)
        picture = next((one for one in pictures if one.example == rows[0].example), None)
        tile = run.tile(picture) if picture else None
        if picture is not None and tile is not None:
            row, of = rows[0], f" ({words.shortened(picture.label)})" if picture.label else ""
            return _cut(tile, row.top, row.left, (row.field_height, row.field_width)), f"strongest on the data{of}"
    maps = [row for row in rows_of(run.maps(layer.slug), MapRow) if row.channel == channel and finite(row.maximum)]
    best = max(maps, key=lambda row: (row.maximum, -row.image), default=None)
    field = layer.field
    if best is None or field.size is None or field.jump is None or field.start is None or best.image >= len(run.images):
        return None, ""
    top, left = (
        round(start + place * jump)
        for start, place, jump in zip(field.start, (best.row, best.column), field.jump, strict=True)
    )
    size = (field.size[0], field.size[1])
    patch = _cut(run.image(best.image), top, left, size)
    return patch, f"strongest on your images ({words.shortened(run.images[best.image].name, 30)})"


def _cut(picture: np.ndarray, top: int, left: int, size: tuple[int, int]) -> np.ndarray | None:
    """The part of a picture that a unit saw, (H, W, C) uint8; what lay beyond its edges is left out."""
    part = picture[max(0, top) : max(0, top + size[0]), max(0, left) : max(0, left + size[1])]
    return part if part.size else None


def _written(folder: Files, name: str, picture: np.ndarray) -> Shown:
    height, width = picture.shape[:2]
    is_small = max(height, width) < sheets.PIXELATED
    file = f"assets/{name}.webp"
    folder.write(file, sheets.webp(sheets.at_most(picture, SIDE), lossless=is_small)[0])
    return Shown(file, sheets.shown_size(height, width, SIDE), is_small)
