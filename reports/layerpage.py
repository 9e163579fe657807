"""The page of one layer: what its tiles can show, its pictures, and the numbers behind each channel's view.

Knows the run's reader, units and sheets; templates hold the markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analyzer.jitter import longest_shift
from analyzer.run import Run
from converters.plain_text import visible_values
from reports import pictures, sheets, words
from reports.details import Details, Studies, short
from reports.folder import Files, as_json
from reports.units import (
    Kind,
    LayerMaps,
    Picture,
    Unit,
    UnitTable,
    absent,
    count_statuses,
    finest,
    kinds_of,
    leading,
    units_of,
)

CHUNK = 64  # units a file of details


@dataclass(frozen=True, slots=True)
class Mode:
    """One thing that the tiles of a page can show."""

    value: str  # of its radio button; the class of its pictures
    title: str
    meaning: str
    anchor: str  # section of the method page
    size: tuple[int, ...] = ()  # pixels; none where they are not worth telling
    note: str = ""


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """A layer as the overview and its neighbours' pages name it."""

    layer: dict[str, Any]  # of layers.json
    page: str | None  # null where the layer was not analysed
    brief: list[str]
    lead: Sequence[Picture] = ()
    planned: int = 0  # units
    shown: int = 0  # of them on the page
    units: int = 0  # with at least one picture
    pictures: int = 0
    unraised: int = 0  # pictures
    dead: int = 0  # units
    diverged: int = 0  # pictures
    constant: int = 0  # units
    silent: tuple[int, ...] | None = None  # channels never above 0 on the data set; null where there was none
    on_page: frozenset[int] = frozenset()  # channels with a view
    absent: tuple[str, ...] = ()  # what an unfinished run lacks, in words
    reached: float | None = None  # median share of their bounds that its pictures of the first kind reach


@dataclass(slots=True, eq=False)
class LayerPage:
    """A layer's page, gathered and its pictures written."""

    layer: dict[str, Any]
    kinds: list[Kind]
    units: list[Unit]
    maps: LayerMaps
    details: Details
    modes: list[Mode]
    entry: LayerEntry
    fidelity: float  # dB, of its worst sheet
    image_modes: list[Mode] = field(default_factory=list)

    def numbers(self, unit: Unit) -> list[tuple[str, str]]:
        """The number of each mode, as (mode, words): what a unit's tile says above its picture."""
        found = [
            (f"k{kind.position}", words.figure(picture.row["activation"]) if picture else "")
            for kind, picture in zip(self.kinds, unit.pictures, strict=True)
        ]
        found += [(f"m{fact.image}", words.figure(fact.maximum)) for fact in unit.maps if fact]
        row = self.details.weights.get(unit.channel)
        if row and row["atlas"]:
            found.append(("w", f"norm {words.figure(row['norm'])}"))
        tuned = self.details.tuning.get(unit.channel)
        if tuned and tuned["atlas"]:
            found.append(("b", tuned["best"] or ""))
        return found

    def lacks(self, unit: Unit) -> list[str]:
        """Modes for which a unit has no picture."""
        missing = [f"k{k}" for k, picture in enumerate(unit.pictures) if picture is None or picture.sheet is None]
        for letter, rows in (("w", self.details.weights), ("b", self.details.tuning)):
            row = rows.get(unit.channel)
            missing += [letter] if row is None or row["atlas"] is None else []
        if self.maps.neurons is not None:
            missing += ["m"] if not any(unit.maps) else []
        return [mode for mode in missing if mode == "m" or mode in self._values]

    @property
    def _values(self) -> set[str]:
        return {mode.value for mode in self.modes}

    @property
    def unpictured(self) -> list[int]:
        """Channels without a picture of the first kind, which stands for a channel elsewhere too."""
        first = [(unit.channel, unit.pictures[0]) for unit in self.units if unit.pictures]
        return [channel for channel, picture in first if picture is None or picture.sheet is None]


def write(
    run: Run,
    folder: Files,
    layer: dict[str, Any],
    table: UnitTable,
    studies: Studies,
    objectives: Sequence[str],
    images: int,
    most: int | None,
    lossless: bool,
    places: dict[str, dict[str, Any]],
) -> LayerPage:
    """Gather a layer and write its pictures, styles and numbers.

    Args:
        run: to read from.
        folder: of the site.
        layer: of layers.json.
        table: of the run's units.
        studies: of the run.
        objectives: that the run's settings ask for.
        images: shown by the site.
        most: channels on the page, the finest first; None for all.
        lossless: whether large pictures are kept without loss.
        places: layer → where its channels' pictures are, for pages of later layers; this one is added.
    """
    slug = layer["slug"]
    rows = table.of(layer["name"])
    planned = {*layer["channels"], *(row["channel"] for row in rows)}
    channels = layer["channels"]
    if most is not None:
        kept = set(finest(rows, most) or channels[:most])
        channels = [channel for channel in channels if channel in kept]
        rows = [row for row in rows if row["channel"] in kept]
    kinds = kinds_of(channels, rows, objectives)
    maps = LayerMaps(run, slug, images)
    count = len({*channels, *(row["channel"] for row in rows)})
    grid = kinds[0].grid if kinds else sheets.grid_for(max(1, count), 1, 1)
    units = units_of(channels, rows, kinds, maps, images, grid.tiles)
    details = Details(studies, layer, [unit.channel for unit in units])
    units = [details.with_constancy(unit) for unit in units]
    sets, worst = [], math.inf
    for kind in kinds:
        found, fidelity = pictures.kind_set(run, folder, slug, kind, units, lossless)
        sets.append(found)
        worst = min(worst, fidelity)
    lead = leading(kinds, units, pictures.STRIP)
    if lead:
        worst = min(worst, pictures.strip(run, folder, slug, lead, lossless))
    extra = [
        pictures.weight_set(run, folder, slug, details, units, grid),
        pictures.stimulus_set(run, folder, slug, details, units, grid),
    ]
    sets += [found for found in extra if found is not None]
    if maps.neurons is not None and units:
        tiles = [maps.tiles(image, units) for image in range(images)]  # image by image: each atlas is read once
        pictures.layer_maps(folder, slug, "m", units[0].rows, np.stack(tiles, 1), lossless)
    heats = pictures.heat_tiles(run, details, units)
    if heats is not None:
        pictures.layer_maps(folder, slug, "h", units[0].rows, heats, lossless)
    columns = 0 if heats is None else heats.shape[1]
    style = pictures.layer_style(layer["index"], slug, sets, units, maps, images, columns)
    folder.write_lines(f"assets/{slug}.css", style)
    entry = _entry(layer, kinds, units, lead, maps, len(planned), images)
    entry = replace(entry, silent=studies.silent(layer["name"]))
    page = LayerPage(layer, kinds, units, maps, details, _modes(kinds, sets), entry, worst)
    if units:
        places[layer["name"]] = _place(page)
    _write_numbers(folder, page, sets, columns, places)
    return page


def _place(page: LayerPage) -> dict[str, Any]:
    layer, channels = page.layer, [unit.channel for unit in page.units]
    return {
        "page": f"layer-{layer['slug']}.html",
        "slug": layer["slug"],
        "index": layer["index"],
        "tiles": page.units[0].rows,
        "channels": 0 if channels == list(range(len(channels))) else channels,
        "size": page.kinds[0].size if page.kinds and page.kinds[0].pictured else None,
        "unpictured": page.unpictured,
    }


def _entry(
    layer: dict[str, Any],
    kinds: Sequence[Kind],
    units: Sequence[Unit],
    lead: Sequence[Picture],
    maps: LayerMaps,
    planned: int,
    images: int,
) -> LayerEntry:
    counted = count_statuses(units)
    pictured = [[picture is not None and picture.sheet is not None for picture in unit.pictures] for unit in units]
    lacking = [
        f"{words.count(number, 'picture')} of {len(units):,} of the kind “{kind.title}”"
        for kind, number in absent(units, kinds)
    ]
    if images and not len(maps):
        lacking.append("all activation maps")
    shares = [unit.pictures[0].share for unit in units if unit.pictures and unit.pictures[0]]
    known = [share for share in shares if share is not None]
    return LayerEntry(
        layer=layer,
        page=f"layer-{layer['slug']}.html",
        brief=words.in_brief(layer),
        lead=lead,
        planned=planned,
        shown=len(units),
        units=sum(map(any, pictured)),
        pictures=sum(map(sum, pictured)),
        unraised=counted["unraised"],
        dead=sum("dead" in unit.statuses for unit in units),
        diverged=counted["diverged"],
        constant=sum(unit.constant for unit in units),
        on_page=frozenset(unit.channel for unit in units),
        absent=tuple(lacking),
        reached=float(np.median(known)) if known else None,
    )


def _modes(kinds: Sequence[Kind], sets: Sequence[pictures.Set]) -> list[Mode]:
    modes = []
    for kind in kinds:
        planes = f"{kind.planes} bands, side by side in grey" if kind.planes not in (1, 3) else ""
        size = kind.pixels if kind.pictured else ()
        modes.append(Mode(f"k{kind.position}", kind.title, kind.meaning, kind.anchor, size, planes))
    letters = {found.letter for found in sets}
    if "w" in letters:
        modes.append(
            Mode(
                "w",
                "Weights",
                "the kernel itself: red raises the channel, blue lowers it; up to nine inputs",
                "weights",
            )
        )
    if "b" in letters:
        modes.append(Mode("b", "Best stimulus", "of gratings, edges, corners and colours, the strongest", "tuning"))
    return modes


def _write_numbers(
    folder: Files, page: LayerPage, sets: Sequence[pictures.Set], heats: int, places: dict[str, dict[str, Any]]
) -> None:
    """What the page's script reads: the layer at once, its units in parts, when a channel is opened."""
    layer, units, slug = page.layer, page.units, page.layer["slug"]
    parts = [units[first : first + CHUNK] for first in range(0, len(units), CHUNK)]
    for number, part in enumerate(parts):
        folder.write(f"assets/{slug}-u{number}.js", call("units", slug, number, [page.details.packed(u) for u in part]))
    shown = {found.letter: found for found in sets}
    told = {
        "name": layer["name"],
        "index": layer["index"],
        "chunk": CHUNK,
        "tiles": units[0].rows if units else 1,
        "channels": [unit.channel for unit in units],
        "unpictured": page.unpictured,
        "kinds": [
            {
                "title": kind.title,
                "objective": kind.objective,
                "method": kind.method,
                "anchor": kind.anchor,
                "size": kind.size,
                "letter": f"k{kind.position}",
                "pictured": kind.pictured,
                "pixels": kind.pixels if kind.pictured else None,
                "shift": longest_shift(kind.pixels) if kind.pictured and kind.space == "image" else 0,
            }
            for kind in page.kinds
        ],
        "sizes": {letter: found.size for letter, found in shown.items()},
        "maps": page.maps.neurons,
        "map": page.maps.size,
        "heats": heats,
        "relu": str(layer["nonlinearity"]).startswith("relu"),
        "order": {
            "activation": [
                [short(picture.row["activation"]) if picture else None for picture in _of_kind(units, kind)]
                for kind in page.kinds
            ],
            "lift": [
                [short(picture.lift) if picture else None for picture in _of_kind(units, kind)] for kind in page.kinds
            ],
            "share": [
                [short(picture.share) if picture else None for picture in _of_kind(units, kind)] for kind in page.kinds
            ],
        }
        | page.details.columns(units),
        "status": [" ".join(unit.statuses) for unit in units],
        "names": page.details.names,
        "ways": {number: places[name] for number, name in enumerate(page.details.names) if name in places},
        "first": page.details.firsts(units),
    }
    folder.write(f"assets/{slug}.js", call("layer", slug, told))
    folder.write_json(f"assets/layer-{slug}.json", {"schema": 1, "layer": layer, **_columns(page)})


def _of_kind(units: Sequence[Unit], kind: Kind) -> list[Picture | None]:
    return [unit.pictures[kind.position] for unit in units]


def _columns(page: LayerPage) -> dict[str, Any]:
    """The numbers of a page for scripts, exact, a list a column."""
    told = ("activation", "robust", "random", "bound", "bound_kind", "status")
    return {
        "channels": [unit.channel for unit in page.units],
        "kinds": [
            {"objective": kind.objective, "method": kind.method, "space": kind.space}
            | {
                name: [picture.row[name] if picture else None for picture in _of_kind(page.units, kind)]
                for name in told
            }
            for kind in page.kinds
        ],
    }


def call(*arguments: Any) -> bytes:
    """A script that hands values to the page's own script, as it shows them; no markup can end it."""
    inner = b",".join(as_json(visible_values(argument)) for argument in arguments)
    return b"filterscope(" + inner.replace(b"<", b"\\u003c") + b");\n"
