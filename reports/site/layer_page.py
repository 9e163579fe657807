"""The page of one layer: what its tiles can show, its pictures, and the numbers behind each channel's view.

Knows the run's reader, units and sheets; templates hold the markup.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import UnitRow, WeightRow, rows_of
from filterscope.analyzer.units.jitter import longest_shift
from filterscope.converters.plain_text import visible_values
from filterscope.reports.page import sheets, words
from filterscope.reports.page.folder import Files, as_json
from filterscope.reports.page.units import (
    DIVERSITY,
    Kind,
    LayerMaps,
    Picture,
    Unit,
    UnitTable,
    absent,
    count_statuses,
    highest_above_random,
    kinds_of,
    leading,
    units_of,
    with_diverse,
)
from filterscope.reports.site import likeness, pictures, ranking
from filterscope.reports.site.details import Details, Studies, short
from filterscope.reports.site.doubles import LIMIT, Doubles, compares_kernels, doubles_of
from filterscope.reports.site.search_index import Numbered, Speaks, speaks

CHUNK = 64  # units a file of details


@dataclass(frozen=True, slots=True)
class Mode:
    """One thing that the tiles of a page can show."""

    value: str  # of its radio button; the class of its pictures
    title: str
    meaning: str
    anchor: str  # section of the method page
    number: str  # what the number above each picture is
    size: tuple[int, ...] = ()  # pixels; none where they are not worth telling
    note: str = ""


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """A layer as the overview and its neighbours' pages name it."""

    layer: LayerInfo
    page: str | None  # null where the layer was not analysed
    brief: list[str]
    lead: Sequence[Picture] = ()
    planned: int = 0  # units
    shown: int = 0  # of them on the page
    units: int = 0  # with at least one picture
    pictures: int = 0
    first: int = 0  # pictures that finer ones will replace
    unraised: int = 0  # pictures
    dead: int = 0  # units
    diverged: int = 0  # pictures
    constant: int = 0  # units
    silent: tuple[int, ...] | None = None  # channels never above 0 on the data set; null where there was none
    on_page: frozenset[int] = frozenset()  # channels with a view
    absent: tuple[str, ...] = ()  # what an unfinished run lacks, in words
    reached: float | None = None  # median share of their bounds that its pictures of the first kind reach
    measured: int = 0  # channels whose statistics on the data set are there
    likeness: float | None = None  # median correlation of its pictures of the first kind, two by two; null: too few
    groups: tuple[tuple[int, ...], ...] = ()  # channels that are look-alikes of each other
    dead_channels: tuple[int, ...] = ()
    constant_channels: tuple[int, ...] = ()
    doubles: Doubles = field(default_factory=Doubles)

    @property
    def looks_alike(self) -> bool:
        """Whether most of its pictures look alike."""
        return self.likeness is not None and self.likeness > likeness.SAME


@dataclass(frozen=True, slots=True)
class LayerPlace:
    """Where the first pictures of a layer's channels are, for the scripts of other layers' pages."""

    page: str
    slug: str
    index: int
    tiles: int  # of a sheet
    channels: Sequence[int] | int  # on the page, in order; 0 where they are 0, 1, 2, …
    size: tuple[int, int] | None  # (height, width) of a picture; null where there are none
    unpictured: Sequence[int]  # channels without a picture

    def packed(self) -> dict[str, object]:
        """As the script reads it; its lists are not copied, since many pages hold them."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class LayerSource:
    """The sources of all layers' pages."""

    run: Run
    table: UnitTable
    studies: Studies
    objectives: Sequence[str]  # that the run's settings ask for
    images: int  # shown by the site
    most: int | None  # channels a page, those that rise highest first; None for all
    lossless: bool  # whether large pictures are kept without loss
    side: int | None  # at which larger channel pictures are held, others at a share of it; None for their own
    diverse: int | None  # channels a page whose diverse pictures are shown, those that rise highest; None for all

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(height, width) of the network's input, pixels; None where the run does not tell."""
        spec = self.run.info.input
        return (spec.height, spec.width) if spec else None

    def input_names(self, layer: LayerInfo) -> list[str] | None:
        """The colours of a layer's inputs where it reads a colour picture, in the order of its inputs."""
        spec = self.run.info.input
        if not (layer.sees_image and layer.in_channels == 3 and spec and spec.bands == "rgb" and spec.preprocessing):
            return None
        colours = ["red", "green", "blue"]
        return colours if spec.preprocessing.order == "RGB" else colours[::-1]


@dataclass(slots=True, eq=False)
class LayerPage:
    """A layer's page, gathered and its pictures written."""

    layer: LayerInfo
    kinds: list[Kind]
    units: list[Unit]
    maps: LayerMaps
    details: Details
    modes: list[Mode]
    entry: LayerEntry
    made_of: list[UnitRow]  # all of the layer's, also those of channels that the page does not show
    fidelity: float  # dB, of its worst sheet
    ranking: ranking.Ranking
    classes: Speaks  # channel → classes of the data that it tells apart
    input_size: tuple[int, int] | None = None  # (height, width) of the network's input
    no_diverse: str = ""  # why it has no diverse pictures, a sentence
    image_modes: list[Mode] = field(default_factory=list)

    @property
    def ranked(self) -> list[Unit]:
        """The units in the order of the page, the most interesting first."""
        return [self.units[place] for place in self.ranking.places]

    def ordered_by(self, unit: Unit) -> str:
        """The number that a unit has its place on the page by, with its unit; empty where there is none."""
        return ranking.number_of(self.ranking, unit)

    @property
    def statuses(self) -> list[str]:
        """The statuses that some of its units have and others do not, best first."""
        statuses = {status for unit in self.units for status in unit.statuses}
        return [status for status in words.STATUSES if status in statuses] if statuses != {"ok"} else []

    def numbers(self, unit: Unit) -> list[tuple[str, str]]:
        """The number of each mode, as (mode, words): what a unit's tile says above its picture."""
        numbers = [
            (f"k{kind.position}", words.figure(picture.row.activation) if picture else "")
            for kind, picture in zip(self.kinds, unit.pictures, strict=True)
            if not kind.is_diverse
        ]
        numbers += [("d", words.figure(unit.highest_diverse))] if unit.diverse else []
        numbers += [(f"m{fact.image}", words.figure(fact.maximum)) for fact in unit.maps if fact]
        row = self.details.weights.get(unit.channel)
        if row and row.has_picture:
            numbers.append(("w", f"norm {words.figure(row.norm)}"))
        tuned = self.details.tuning.get(unit.channel)
        if tuned and tuned.has_picture:
            numbers.append(("b", tuned.best or ""))
        return numbers

    def lacks(self, unit: Unit) -> list[str]:
        """Modes for which a unit has no picture."""
        missing = [f"k{k}" for k, picture in enumerate(unit.pictures) if picture is None or picture.sheet is None]
        for letter, row in (
            ("w", self.details.weights.get(unit.channel)),
            ("b", self.details.tuning.get(unit.channel)),
        ):
            missing += [letter] if row is None or not row.has_picture else []
        missing += [] if unit.diverse else ["d"]
        if self.maps.neurons is not None:
            missing += ["m"] if not any(unit.maps) else []
        return [mode for mode in missing if mode == "m" or mode in self._values]

    def firsts(self, unit: Unit) -> list[str]:
        """Modes in which a unit shows first pictures."""
        first = {picture.kind.position for picture in unit.pictures if picture and picture.is_first}
        of_diverse = ["d"] if first & set(unit.diverse) else []
        return [mode for mode in (*(f"k{position}" for position in sorted(first)), *of_diverse) if mode in self._values]

    @property
    def has_small_pictures(self) -> bool:
        """Whether some of its pictures are so small that their pixels can be told apart."""
        shown = (kind for kind in self.kinds if kind.pictured and kind.space == "image")
        return any(max(kind.size) < sheets.PIXELATED for kind in shown)

    @property
    def _values(self) -> set[str]:
        return {mode.value for mode in self.modes}

    @property
    def unpictured(self) -> list[int]:
        """Channels without a picture of the first kind, which stands for a channel elsewhere too."""
        first = [(unit.channel, unit.pictures[0]) for unit in self.units if unit.pictures]
        return [channel for channel, picture in first if picture is None or picture.sheet is None]


def write(source: LayerSource, folder: Files, layer: LayerInfo, places: dict[str, LayerPlace]) -> LayerPage:
    """Gather a layer and write its pictures, styles and numbers.

    Args:
        source: to read from.
        folder: of the site.
        layer: of the run.
        places: layer → where its channels' pictures are, for other layers' pages; this one is added.
    """
    run, slug, images = source.run, layer.slug, source.images
    rows = source.table.of(layer.name)
    made_of = rows
    planned = {*layer.channels, *(row.channel for row in rows)}
    channels: Sequence[int] = layer.channels
    if source.most is not None:
        chosen = chosen_channels(layer, rows, source.most)
        _write_left_out(source, folder, layer, planned - chosen)
        channels = [channel for channel in channels if channel in chosen]
        rows = [row for row in rows if row.channel in chosen]
    rows = _shown_rows(rows, source.diverse)
    kinds = kinds_of(channels, rows, source.objectives, side=source.side)
    maps = LayerMaps(run, slug, images)
    count = len({*channels, *(row.channel for row in rows)})
    grid = kinds[0].grid if kinds else sheets.grid_for(max(1, count), 1, 1)
    units = units_of(channels, rows, kinds=kinds, maps=maps, images=images, tiles=grid.tiles)
    details = Details(source.studies, layer, [unit.channel for unit in units])
    units = [with_diverse(details.with_constancy(unit), run) for unit in units]
    compared = next((kind.position for kind in kinds if kind.pictured), 0)
    writer = pictures.LayerSheets(run, folder, slug, source.lossless, compared=compared)
    written = [writer.kind_set(kind, units) for kind in kinds]
    worst = min((fidelity for _, fidelity in written), default=math.inf)
    silent = source.studies.silent(layer.name) or ()
    last = {*writer.plain, *((kind.position, channel) for kind in kinds for channel in silent)}
    lead = leading(kinds, units, pictures.STRIP, last)
    if lead:
        worst = min(worst, writer.strip(lead))
    extra = [writer.weight_set(details, units, grid), writer.stimulus_set(details, units, grid)]
    sets = [*(sheet_set for sheet_set, _ in written), *(one for one in extra if one is not None)]
    if maps.neurons is not None and units:
        tiles = [maps.tiles(image, units) for image in range(images)]  # image by image: each atlas is read once
        writer.maps("m", units[0].rows, np.stack(tiles, 1))
    heats = pictures.heat_tiles(run, details, units)
    if heats is not None:
        writer.maps("h", units[0].rows, heats)
    columns = 0 if heats is None else heats.shape[1]
    style = pictures.layer_style(layer, sets, units, maps, images=images, heats=columns)
    diverse = pictures.diverse_style(layer, [kind for kind in kinds if kind.is_diverse])
    folder.write_lines(f"assets/{slug}.css", [*style, *diverse])
    page = LayerPage(
        layer=layer,
        kinds=kinds,
        units=units,
        maps=maps,
        details=details,
        modes=_modes(kinds, sets, units),
        entry=_entry(layer, kinds, units, maps, source=source),
        made_of=made_of,
        fidelity=worst,
        ranking=ranking.ranking(units, kinds, details.truth, details.statistics),
        classes=speaks(source.studies.unit_classes.of(layer.name)),
        input_size=source.input_size,
        no_diverse=_no_diverse(source, layer, kinds),
    )
    page.entry = replace(
        page.entry,
        lead=lead,
        planned=len(planned),
        silent=source.studies.silent(layer.name),
        measured=source.studies.measured(layer.name),
        doubles=doubles_in(run, source.studies, layer),
        likeness=likeness.median_correlation(writer.thumbnails),
        groups=tuple(map(tuple, _groups(page))),
    )
    if units:
        places[layer.name] = _place(page)
    _write_numbers(folder, page, sets, heats=columns, inputs=source.input_names(layer))
    return page


def doubles_in(run: Run, studies: Studies, layer: LayerInfo) -> Doubles:
    """What is double in a layer, of all its channels that the run knows."""
    weights = rows_of(run.weights(layer.slug), WeightRow) if layer.analysed else []
    return doubles_of(layer, weights, studies.statistics.of(layer.name))


def chosen_channels(layer: LayerInfo, rows: Sequence[UnitRow], most: int) -> set[int]:
    """The channels of a layer that an excerpt shows: those whose pictures rise highest above random images."""
    return set(highest_above_random(rows, most) or layer.channels[:most])


def _shown_rows(rows: list[UnitRow], diverse: int | None) -> list[UnitRow]:
    """The rows without diverse pictures of all but so many channels, those whose pictures rise highest above random."""
    if diverse is None:
        return rows
    chosen = set(highest_above_random(rows, diverse))
    return [row for row in rows if row.channel in chosen or not row.objective.startswith(DIVERSITY)]


def _write_left_out(source: LayerSource, folder: Files, layer: LayerInfo, channels: set[int]) -> None:
    """The first sentences of the channels that an excerpt leaves out, for whoever opens their addresses.

    Equal sentences are written once: texts, and channel → its text.
    """
    if not channels:
        return
    rows = [row for row in source.table.of(layer.name) if row.channel in channels]
    kinds = kinds_of(sorted(channels), rows, source.objectives, side=source.side)
    maps = LayerMaps(source.run, layer.slug, source.images)
    units = units_of(sorted(channels), rows, kinds=kinds, maps=maps, images=source.images, tiles=1)
    details = Details(source.studies, layer, sorted(channels))
    texts = Numbered()
    of_channel = {unit.channel: texts.number(details.lead(details.with_constancy(unit))) for unit in units}
    folder.write(f"assets/{layer.slug}-left.js", call("left", layer.slug, texts.texts, of_channel))


def _groups(page: LayerPage) -> list[list[int]]:
    details = page.details
    channels = [unit.channel for unit in page.units]
    return likeness.groups_of(channels, page.layer, details.weights, details.statistics)


def _no_diverse(source: LayerSource, layer: LayerInfo, kinds: Sequence[Kind]) -> str:
    """Why a layer has no diverse pictures, or few; empty where it has all, or the page says that they are missing."""
    if source.diverse is not None and any(kind.is_diverse for kind in kinds) and layer.channels[source.diverse :]:
        return (
            f"Diverse pictures of {source.diverse:,} channels at most are shown, those whose pictures rise highest "
            "above random images: with all of them this report would be too large. The run holds them all."
        )
    if any(kind.is_diverse for kind in kinds) or "diversity" in source.objectives or "channel" not in source.objectives:
        return ""
    if source.run.info.settings.quality == "draft":
        return "No diverse pictures: a draft has them only where they are asked for."
    if layer.position < len(source.run.layers) / 2:
        return "No diverse pictures: unless they are asked for, only the later half of the layers has them."
    return "No diverse pictures yet." if source.run.info.status != "complete" else ""


def _place(page: LayerPage) -> LayerPlace:
    channels = [unit.channel for unit in page.units]
    return LayerPlace(
        page=f"layer-{page.layer.slug}.html",
        slug=page.layer.slug,
        index=page.layer.index,
        tiles=page.units[0].rows,
        channels=0 if channels == list(range(len(channels))) else channels,
        size=page.kinds[0].size if page.kinds and page.kinds[0].pictured else None,
        unpictured=page.unpictured,
    )


def _entry(
    layer: LayerInfo, kinds: Sequence[Kind], units: Sequence[Unit], maps: LayerMaps, *, source: LayerSource
) -> LayerEntry:
    """A layer's entry on the overview, from its units."""
    counted = count_statuses(units)
    pictured = [[picture is not None and picture.sheet is not None for picture in unit.pictures] for unit in units]
    of_all = words.count(len(units), "channel")
    lacking = [
        f"“{title}” pictures of {'all' if number == len(units) else f'{number:,} of'} {of_all}"
        for title, number in absent(units, kinds, source.objectives)
        if source.diverse is None or title != "Diversity"
    ]
    if source.images and not len(maps):
        lacking.append("all activation maps")
    shares = [unit.pictures[0].share for unit in units if unit.pictures and unit.pictures[0]]
    shares_of_bound = [share for share in shares if share is not None]
    return LayerEntry(
        layer=layer,
        page=f"layer-{layer.slug}.html",
        brief=words.in_brief(layer, source.input_size),
        shown=len(units),
        units=sum(map(any, pictured)),
        pictures=sum(map(sum, pictured)),
        first=sum(picture.is_first for unit in units for picture in unit.pictures if picture),
        unraised=counted["unraised"],
        dead=sum("dead" in unit.statuses for unit in units),
        diverged=counted["diverged"],
        constant=sum(unit.constant for unit in units),
        dead_channels=tuple(unit.channel for unit in units if "dead" in unit.statuses),
        constant_channels=tuple(unit.channel for unit in units if unit.constant),
        on_page=frozenset(unit.channel for unit in units),
        absent=tuple(lacking),
        reached=float(np.median(shares_of_bound)) if shares_of_bound else None,
    )


def _modes(kinds: Sequence[Kind], sets: Sequence[pictures.SheetSet], units: Sequence[Unit]) -> list[Mode]:
    modes = []
    diverse = [kind for kind in kinds if kind.is_diverse]
    for kind in kinds:
        if kind.is_diverse:
            modes += [_diverse_mode(diverse, units)] if kind is diverse[0] else []
            continue
        planes = f"{kind.planes} bands, side by side in grey" if kind.planes not in (1, 3) else ""
        size = kind.pixels if kind.pictured else ()
        notes = "; ".join(filter(None, [planes, _enlarged(kind, units)]))
        number = "the activation of that neuron" if kind.objective == "neuron" else "the mean of the map"
        modes.append(
            Mode(f"k{kind.position}", kind.title, kind.meaning, kind.anchor, number=number, size=size, note=notes)
        )
    letters = {one.letter for one in sets}
    if "w" in letters:
        modes.append(
            Mode(
                "w",
                "Weights",
                "the kernel itself: red raises the channel, blue lowers it; up to nine inputs",
                "weights",
                number="the size (norm) of the kernel",
            )
        )
    if "b" in letters:
        meaning = "of gratings, edges, corners and colours, the strongest"
        modes.append(Mode("b", "Best stimulus", meaning, "tuning", number="its sort"))
    return modes


def _enlarged(kind: Kind, units: Sequence[Unit]) -> str:
    """What is to be said of first pictures that are smaller than the others of their kind."""
    pictures = [unit.pictures[kind.position] for unit in units]
    sizes = {picture.row.size[:2] for picture in pictures if picture and picture.is_first}
    return next((f"first pictures of {words.times(size)} px are enlarged" for size in sizes if size != kind.pixels), "")


def _diverse_mode(diverse: Sequence[Kind], units: Sequence[Unit]) -> Mode:
    """The diverse pictures of a channel together."""
    several = sum(len(unit.diverse) > 1 for unit in units)
    alike = sum(len(unit.diverse) == 1 for unit in units)
    there = several + alike
    notes = [] if there == len(units) else [f"of {there:,} of {words.count(len(units), 'channel')}"]
    notes += ["one picture where all four ascents came to the same"] if alike else []
    kind = next((kind for kind in diverse if kind.pictured), diverse[0])
    meaning = "found together: the highest mean of the map, with a penalty for likeness to the others"
    size = kind.pixels if kind.pictured else ()
    number = "the highest mean of the map that any of them reaches"
    return Mode("d", "Diversity", meaning, kind.anchor, number=number, size=size, note="; ".join(notes))


def _write_numbers(
    folder: Files, page: LayerPage, sets: Sequence[pictures.SheetSet], *, heats: int, inputs: list[str] | None
) -> None:
    """What the page's script reads: the layer at once, its units in parts, when a channel is opened."""
    layer, units, slug = page.layer, page.units, page.layer.slug
    parts = [units[first : first + CHUNK] for first in range(0, len(units), CHUNK)]
    for number, part in enumerate(parts):
        folder.write(f"assets/{slug}-u{number}.js", call("units", slug, number, [page.details.packed(u) for u in part]))
    numbers = {
        "name": layer.name,
        "index": layer.index,
        "chunk": CHUNK,
        "tiles": units[0].rows if units else 1,
        "channels": [unit.channel for unit in units],
        "unpictured": page.unpictured,
        "kinds": [
            {
                "title": kind.title,
                "objective": kind.objective,
                "method": kind.method,
                "space": kind.space,
                "anchor": kind.anchor,
                "size": kind.size,
                "letter": f"k{kind.position}",
                "diverse": kind.is_diverse,
                "pictured": kind.pictured,
                "pixels": kind.pixels if kind.pictured else None,
                "shift": longest_shift(kind.pixels) if kind.pictured and kind.space == "image" else 0,
            }
            for kind in page.kinds
        ],
        "sizes": {one.letter: one.size for one in sets},
        "maps": page.maps.neurons,
        "map": page.maps.size,
        "heats": heats,
        "relu": str(layer.nonlinearity).startswith("relu"),
        "order": {
            "activation": [  # a list a kind, then one of the diverse pictures
                *(
                    [short(picture.row.activation) if picture else None for picture in _of_kind(units, kind)]
                    for kind in page.kinds
                ),
                [short(unit.highest_diverse) for unit in units],
            ],
            "lift": [
                [short(picture.lift) if picture else None for picture in _of_kind(units, kind)] for kind in page.kinds
            ],
            "share": [
                [short(picture.share) if picture else None for picture in _of_kind(units, kind)] for kind in page.kinds
            ],
        }
        | page.details.columns(units)
        | _class_columns(page),
        "status": [" ".join(unit.statuses) for unit in units],
        "names": page.details.names,
        "first": page.details.firsts(units),
        "inputs": inputs,  # names of the layer's inputs where it reads a colour picture
        "likeness": short(page.entry.likeness),
        "groups": _group_places(page),
        "together": _together(page.made_of),
        "double": [LIMIT, int(compares_kernels(layer))],  # and whether its kernels read the same inputs
    }
    folder.write(f"assets/{slug}.js", call("layer", slug, numbers))
    folder.write_json(f"assets/layer-{slug}.json", {"schema": 1, "layer": layer.json, **_columns(page)})


def _together(rows: Sequence[UnitRow]) -> dict[str, list[int]]:
    """Which channels of the first kind of picture climbed together: as a choice of channels → those channels.

    With the same ones beside it a channel's picture comes out the same to the bit: arithmetic on a batch rounds by its
    size. Those that climbed alone are left out.
    """
    first = next((row.kind for row in rows), None)
    of_atlas: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row.kind == first and row.atlas is not None:
            of_atlas[row.atlas].append(row.channel)
    return {words.ranges(sorted(some)): sorted(some) for some in of_atlas.values() if len(some) > 1}


def _group_places(page: LayerPage) -> list[list[int]]:
    """The groups of look-alikes as places in the list of channels."""
    place = {unit.channel: unit.index for unit in page.units}
    return [[place[channel] for channel in group] for group in page.entry.groups]


def _class_columns(page: LayerPage) -> dict[str, object]:
    """The names of the classes that the channels tell apart, to find them by; nothing where there are none."""
    if not page.classes:
        return {}
    names = Numbered()
    of = [[names.number(name) for name, _ in page.classes.get(unit.channel, ())] for unit in page.units]
    return {"names": names.texts, "classes": of}


def _of_kind(units: Sequence[Unit], kind: Kind) -> list[Picture | None]:
    return [unit.pictures[kind.position] for unit in units]


def _columns(page: LayerPage) -> dict[str, object]:
    """The numbers of a page for scripts, exact, a list a column."""
    columns = ("activation", "robust", "random", "bound", "bound_kind", "status", "is_first", "image")
    return {
        "channels": [unit.channel for unit in page.units],
        "kinds": [
            {"objective": kind.objective, "method": kind.method, "space": kind.space}
            | {
                name: [getattr(picture.row, name) if picture else None for picture in _of_kind(page.units, kind)]
                for name in columns
            }
            for kind in page.kinds
        ],
    }


def call(*arguments: Any) -> bytes:
    """A script that hands values to the page's own script, as it shows them; no markup can end it."""
    inner = b",".join(as_json(visible_values(argument)) for argument in arguments)
    return b"filterscope(" + inner.replace(b"<", b"\\u003c") + b");\n"
