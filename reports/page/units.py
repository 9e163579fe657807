"""The units of one layer as a page shows them: their pictures by kind, their maps on the images, their numbers.

Joins the run's tables and says where each picture lies in the page's sprite sheets. Knows the run's reader; knows
nothing of HTML or files.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeGuard, TypeVar

import numpy as np
import pyarrow as pa

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.rows import MapRow, UnitRow, rows_of
from filterscope.reports.page import sheets
from filterscope.reports.page.diversity import are_one

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

AnyRow = TypeVar("AnyRow", bound="DataclassInstance")

MAP_SIDE = 48  # pixels, of a map beside a unit: larger ones are reduced
GRID_SIDE = 112  # CSS pixels, of a picture in the grid of a layer

DIVERSITY = "diversity-"  # with which the objectives of diverse pictures begin
DIVERSE = 4  # pictures of a unit with the objective diversity
OTHERS_SHARE, DIVERSE_SHARE = 0.62, 0.58  # of the side at which channel pictures are held, where pictures are reduced

KINDS = {  # objective, method, space: title, what it is, section of the method page
    ("channel", "ascent", "image"): ("Channel", "found by ascent: the highest mean of the whole map", "channel"),
    ("channel", "accentuation", "image"): (
        "Accentuation",
        "what the channel likes, drawn into the patch of your images that excites it most",
        "accentuation",
    ),
    ("neuron", "ascent", "image"): ("Neuron", "found by ascent: the highest value of one neuron", "neuron"),
    ("negative", "ascent", "image"): ("Negative", "found by ascent: the lowest mean of the whole map", "negative"),
    **{
        (f"diversity-{k}", "ascent", "image"): (
            f"Diversity {k}",
            "found by ascent: the highest mean of the map, with a penalty for likeness to the others",
            "diversity",
        )
        for k in range(1, DIVERSE + 1)
    },
    ("neuron", "analytic", "image"): ("Analytic", "by formula: the exact best image of one neuron", "analytic"),
    ("neuron", "analytic", "input"): (
        "Analytic, own input",
        "by formula, in the layer's own input: one patch per input channel, white for high and black for low",
        "analytic",
    ),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of picture that a layer has, and how its pictures lie in sheets."""

    position: int  # in the layer's list; its style class is k0, k1, …
    objective: str
    method: str
    space: str
    title: str
    meaning: str  # follows the title after a colon
    anchor: str  # section of the method page
    pictured: bool  # whether any unit has such a picture
    size: tuple[int, int]  # (height, width) of the visible picture on the pages, pixels; (1, 1) where there is none
    bands: int  # of the visible picture: 1 grey, 3 RGB
    pixels: tuple[int, int]  # (height, width) of the picture itself, before planes were put side by side
    planes: int  # bands of the picture itself
    grid: sheets.Grid

    @property
    def id(self) -> tuple[str, str, str]:
        """What tells kinds apart in the table."""
        return self.objective, self.method, self.space

    @property
    def is_diverse(self) -> bool:
        """Whether it is one of the four of the objective diversity, which pages show together."""
        return self.objective.startswith(DIVERSITY)


@dataclass(frozen=True, slots=True)
class Picture:
    """One row of the unit table, and where its picture is."""

    kind: Kind
    row: UnitRow
    sheet: int | None  # null where there is no picture
    tile: int | None

    @property
    def share(self) -> float | None:
        """Activation as a share of the bound; null where it has no meaning, as below zero."""
        activation, bound = self.row.activation, self.row.bound
        if not (finite(activation) and finite(bound)) or bound <= 0 or activation < 0:
            return None
        return float(activation / bound)

    @property
    def is_first(self) -> bool:
        """Whether it is a first picture, which a finer one will replace."""
        return self.sheet is not None and bool(self.row.is_first)

    @property
    def lift(self) -> float:
        """How far the activation lies above the best random image, below it where it is to be low; −∞ where unknown."""
        activation, random = self.row.activation, self.row.random
        sense = -1 if self.kind.objective == "negative" else 1
        return sense * float(activation - random) if finite(activation) and finite(random) else -math.inf


@dataclass(frozen=True, slots=True)
class MapFact:
    """A channel's response to an image."""

    image: int
    minimum: float
    mean: float
    maximum: float
    row: int  # where the maximum is
    column: int

    @classmethod
    def of(cls, row: MapRow) -> MapFact:
        """The numbers of a map; float32 is shown with the seven digits it holds, null as not a number."""
        low, mean, high = (
            math.nan if value is None else float(f"{value:.7g}") for value in (row.minimum, row.mean, row.maximum)
        )
        return cls(image=row.image, minimum=low, mean=mean, maximum=high, row=row.row, column=row.column)


@dataclass(frozen=True, slots=True)
class Unit:
    """One channel: its pictures, its maps and their numbers."""

    index: int  # among the layer's shown channels
    channel: int
    pictures: tuple[Picture | None, ...]  # one a kind; null where the run holds none
    maps: tuple[MapFact | None, ...]  # one a shown image; empty where the layer has no maps
    sheet: int  # of the layer's maps
    row: int  # its row in that sheet
    rows: int  # of each sheet
    strongest: MapFact | None  # the given image on which it fires most, of all images
    constant: bool = False  # whether it answered one number to all that was measured
    diverse: tuple[int, ...] = ()  # positions of the diverse kinds that are shown: one where all show the same

    @property
    def highest_diverse(self) -> float | None:
        """The highest activation of the diverse pictures that are shown; None where there are none."""
        pictures = (self.pictures[position] for position in self.diverse)
        values = [picture.row.activation for picture in pictures if picture]
        return max(filter(finite, values), default=None)

    @property
    def statuses(self) -> list[str]:
        """The statuses of its pictures, each once."""
        return sorted({self.status(picture) for picture in self.pictures if picture})

    def status(self, picture: Picture) -> str:
        """The status of one of its pictures; for a constant unit, `constant` replaces `ok` and `unraised`."""
        status = str(picture.row.status)
        return "constant" if self.constant and status in ("ok", "unraised") else status

    def answers(self) -> Iterator[float | None]:
        """Its activations on its pictures and on random images, and the extremes of its maps."""
        for picture in self.pictures:
            if picture and picture.kind.space == "image":
                yield from (picture.row.activation, picture.row.random)
        for fact in self.maps:
            yield from (fact.minimum, fact.maximum) if fact else ()


def finite(value: float | None) -> TypeGuard[float]:
    """Whether a number of a table is there and finite."""
    return value is not None and math.isfinite(value)


class ByLayer(Generic[AnyRow]):
    """A table with a column `layer`, by layer.

    Args:
        table: of a run.
        kind: of its rows, a class of analyzer.run.rows.
    """

    def __init__(self, table: pa.Table, kind: type[AnyRow]) -> None:
        self._table = table
        self._kind = kind
        self._places: dict[str, list[int]] = defaultdict(list)
        for index, name in enumerate(table["layer"].to_pylist()):
            self._places[name].append(index)

    def has(self, layer: str) -> bool:
        """Whether any row of a layer is there."""
        return layer in self._places

    def of(self, layer: str) -> list[AnyRow]:
        """The rows of one layer, in the table's order."""
        places = np.asarray(self._places.get(layer, []), np.int64)
        return rows_of(self._table.take(places), self._kind)


class UnitTable(ByLayer[UnitRow]):
    """The run's unit table, by layer."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.units, UnitRow)

    def largest_side(self, pixels: float, least: int, *, diverse: int | None = None) -> int | None:
        """The side at which all pictures together have at most so many pixels; None where they have no more.

        It is that of the channel pictures; others are held at a share of it.

        Args:
            pixels: of all large pictures, three bands counted as one.
            least: side below which they are not reduced, whatever they have then.
            diverse: channels a layer whose diverse pictures count, at most; None for all.
        """
        if self.pixels() <= pixels:
            return None
        for side in range(int(max(map(np.max, self._sides()))), least, -1):
            if self.pixels_at(side, diverse=diverse) <= pixels:
                return side
        return least

    def pixels_at(self, side: int, *, diverse: int | None = None) -> float:
        """Pixels of all pictures where channel pictures are held at a side, and others at their share of it.

        Args:
            side: pixels.
            diverse: channels a layer whose diverse pictures count, at most; None for all.
        """
        height, width = self._sides()
        longest = np.maximum(np.maximum(height, width), 1)
        kinds, of_kind = self._kinds
        sides = np.array([share_side(kind, side) for kind in kinds], np.float64)[of_kind]
        pixels = height * width * (np.minimum(longest, sides) / longest) ** 2
        return float(pixels[self._counted(diverse)].sum())

    @cached_property
    def _kinds(self) -> tuple[list[tuple[str, str]], np.ndarray]:
        """The kinds of picture there are, as (objective, method), and the number of each row's kind."""
        keys = list(zip(self._table["objective"].to_pylist(), self._table["method"].to_pylist(), strict=True))
        kinds = sorted(set(keys))
        number = {kind: index for index, kind in enumerate(kinds)}
        return kinds, np.array([number[key] for key in keys], np.intp)

    def _counted(self, diverse: int | None) -> np.ndarray:
        """Which rows count where a layer has diverse pictures of so many channels at most: (rows,) bool."""
        kinds, of_kind = self._kinds
        if diverse is None:
            return np.ones(len(of_kind), bool)
        seen: Counter[tuple[str, str]] = Counter()
        counted = np.ones(len(of_kind), bool)
        is_diverse = np.array([objective.startswith(DIVERSITY) for objective, _ in kinds], bool)[of_kind]
        layers, objectives = self._table["layer"], self._table["objective"]
        for row in np.flatnonzero(is_diverse).tolist():
            key = layers[row].as_py(), objectives[row].as_py()
            seen[key] += 1
            counted[row] = seen[key] <= diverse
        return counted

    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        height, width = (np.nan_to_num(self._table[name].to_numpy().astype(np.float64)) for name in ("height", "width"))
        return height, width

    def pixels(self) -> int:
        """Pixels of all pictures large enough for a lossy file, three bands counted as one."""
        height, width, bands = (
            np.nan_to_num(self._table[name].to_numpy().astype(np.float64)) for name in ("height", "width", "bands")
        )
        large = np.maximum(height, width) >= sheets.PIXELATED
        return int(np.sum(np.where(large, height * width * np.ceil(bands / 3), 0)))


class LayerMaps:
    """Activation maps of one layer.

    Args:
        run: to read from.
        slug: of the layer.
        images: how many of the run's images the site shows; their maps have pictures.
    """

    def __init__(self, run: Run, slug: str, images: int) -> None:
        self._run = run
        self._images = images
        table = run.maps(slug)
        image = table["image"].to_numpy()
        self._channel = table["channel"].to_numpy()
        self._image = image
        self._maximum = np.nan_to_num(table["maximum"].to_numpy().astype(np.float64), nan=-np.inf)
        shown = np.flatnonzero(image < images)
        self._rows = {(row.image, row.channel): row for row in rows_of(table.take(shown), MapRow)}
        self._table = table
        pictured = next((row for row in self._rows.values() if row.has_picture), None)
        self.neurons: tuple[int, int] | None = None  # (height, width) of a map; null where none has a picture
        self.size = (1, 1)  # of `tiles`, pixels
        if pictured is not None:
            self.neurons = pictured.size[:2]
            self.size = sheets.within(*self.neurons, MAP_SIDE)

    def __len__(self) -> int:
        return len(self._image)

    def fact(self, image: int, channel: int) -> MapFact | None:
        """The response of `channel` to a shown image; None where the run has none."""
        row = self._rows.get((image, channel))
        return None if row is None else MapFact.of(row)

    def ends(self, channel: int) -> list[tuple[float, float]]:
        """(lowest, highest) value of a channel's map on each of the shown images."""
        facts = (self.fact(image, channel) for image in range(self._images))
        return [(fact.minimum, fact.maximum) for fact in facts if fact]

    def tile(self, image: int, channel: int, side: int) -> np.ndarray | None:
        """Its picture, (H, W, 1) uint8, at most `side` high and wide; None where there is none."""
        row = self._rows.get((image, channel))
        tile = None if row is None else self._run.tile(row)
        if tile is None:
            return None
        height, width = tile.shape[:2]
        return sheets.reduced(tile, *sheets.within(height, width, side))

    def tiles(self, image: int, units: Sequence[Unit]) -> np.ndarray:
        """The pictures of some units, (units, *size) uint8; black where there is none."""
        stack = np.zeros((len(units), *self.size), np.uint8)
        for index, unit in enumerate(units):
            tile = self.tile(image, unit.channel, MAP_SIDE)
            if tile is not None:
                stack[index] = sheets.reduced(tile, *self.size)[:, :, 0]
        return stack

    def strongest_channels(self, image: int, most: int) -> list[int]:
        """The channels with the highest maxima on an image, highest first, the lower channel before its equals."""
        here = np.flatnonzero(self._image == image)
        order = np.lexsort((self._channel[here], -self._maximum[here]))
        return [int(channel) for channel in self._channel[here][order[:most]]]

    @cached_property
    def strongest_images(self) -> dict[int, MapFact]:
        """Channel → the image of all given ones with the highest maximum."""
        order = np.lexsort((self._image, -self._maximum, self._channel))
        _, first = np.unique(self._channel[order], return_index=True)
        return {row.channel: MapFact.of(row) for row in rows_of(self._table.take(order[first]), MapRow)}


def kinds_of(
    channels: Sequence[int], rows: Sequence[UnitRow], objectives: Sequence[str], *, side: int | None = None
) -> list[Kind]:
    """The kinds of picture of one layer, known kinds first.

    Args:
        channels: that the run analyses.
        rows: of the unit table.
        objectives: that the run's settings ask for: they have a kind even before the first row is there.
        side: at which the pages hold larger channel pictures, others at a share of it; None for their own.
    """
    present = {row.kind for row in rows}
    several = {"diversity": [f"diversity-{k}" for k in range(1, DIVERSE + 1)]}
    present |= {(kind, "ascent", "image") for objective in objectives for kind in several.get(objective, [objective])}
    order = [*(key for key in KINDS if key in present), *sorted(present - KINDS.keys())]
    pixels = {key: _pixels(key, rows) for key in order}
    sides = {key: None if side is None else share_side(key[:2], side) for key in order}
    sizes = [_on_pages(*size, sides[key]) for key, size in pixels.items() if size]
    tallest, widest = (max((size[axis] for size in sizes), default=1) for axis in (0, 1))
    grid = sheets.grid_for(len({*channels, *(row.channel for row in rows)}), tallest, widest)
    kinds = []
    for position, key in enumerate(order):
        title, meaning, anchor = KINDS.get(key, (f"{key[0]}, {key[1]}", f"in {key[2]} space", "activation"))
        height, width, planes = pixels[key] or (1, 1, 1)
        kinds.append(
            Kind(
                position=position,
                objective=key[0],
                method=key[1],
                space=key[2],
                title=title,
                meaning=meaning,
                anchor=anchor,
                pictured=pixels[key] is not None,
                size=_on_pages(height, width, planes, sides[key]),
                bands=3 if planes == 3 else 1,
                pixels=(height, width),
                planes=planes,
                grid=grid,
            )
        )
    return kinds


def share_side(kind: tuple[str, str], side: int) -> int:
    """The side at which pages hold pictures of a kind (objective, method), where they hold channel pictures at `side`.

    Diverse pictures are shown four a tile, and other kinds stand second: they stay recognisable at less. None gets so
    small that its pixels are shown.
    """
    is_diverse, is_main = kind[0].startswith(DIVERSITY), kind == ("channel", "ascent")
    share = DIVERSE_SHARE if is_diverse else 1 if is_main else OTHERS_SHARE
    return min(side, max(sheets.PIXELATED, round(share * side)))


def _on_pages(height: int, width: int, planes: int, side: int | None) -> tuple[int, int]:
    """(height, width) at which pages hold a picture; mosaics of many bands stay as they are."""
    size = sheets.visible_size(height, width, planes)
    return size if side is None or planes not in (1, 3) else sheets.within(*size, side)


def highest_above_random(rows: Sequence[UnitRow], most: int) -> list[int]:
    """The channels whose first kind of picture rises highest above random images; those without status ok last."""
    first: dict[int, tuple[bool, float]] = {}
    for row in rows:
        sense = -1 if row.objective == "negative" else 1
        lift = sense * (row.activation - row.random) if finite(row.activation) and finite(row.random) else -math.inf
        first.setdefault(row.channel, (row.status != "ok", -lift))
    return sorted(sorted(first, key=lambda channel: (*first[channel], channel))[:most])


def units_of(
    channels: Sequence[int],
    rows: Sequence[UnitRow],
    *,
    kinds: Sequence[Kind],
    maps: LayerMaps,
    images: int,
    tiles: int,
) -> list[Unit]:
    """The units of one layer, in order of their channels.

    Args:
        channels: that the run analyses; those of `rows` are added.
        rows: of the unit table.
        kinds: of this layer.
        maps: of this layer.
        images: how many images the site shows.
        tiles: of a sheet, of whatever shows a picture a unit.
    """
    of_unit: dict[int, dict[tuple[str, str, str], UnitRow]] = {channel: {} for channel in channels}
    for row in rows:
        of_unit.setdefault(row.channel, {})[row.kind] = row
    units = []
    for index, channel in enumerate(sorted(of_unit)):
        sheet, tile = divmod(index, tiles)
        pictures = tuple(_picture(kind, of_unit[channel].get(kind.id), index) for kind in kinds)
        facts = tuple(maps.fact(image, channel) for image in range(images)) if len(maps) else ()
        units.append(
            Unit(
                index=index,
                channel=channel,
                pictures=pictures,
                maps=facts,
                sheet=sheet,
                row=tile,
                rows=tiles,
                strongest=maps.strongest_images.get(channel),
            )
        )
    return units


def with_diverse(unit: Unit, run: Run) -> Unit:
    """The unit, with what is to be shown of its diverse pictures: all, or the highest where all show the same."""
    pictured = [one for one in unit.pictures if one and one.kind.is_diverse and one.sheet is not None]
    stored = [run.tile(one.row) for one in pictured]
    if len(pictured) > 1 and are_one([sheets.visible(tile) for tile in stored if tile is not None]):
        pictured = [max(pictured, key=lambda one: one.row.activation if finite(one.row.activation) else -math.inf)]
    return replace(unit, diverse=tuple(one.kind.position for one in pictured))


def leading(
    kinds: Sequence[Kind], units: Sequence[Unit], most: int, last: Collection[tuple[int, int]] = ()
) -> list[Picture]:
    """The pictures that stand for a layer: those that rise highest above random images, of the first kind that has any.

    Units that are unraised, dead or diverged are left out. Ties go to the lower channel.

    Args:
        kinds: of the layer's pictures.
        units: of the layer.
        most: pictures.
        last: kind and channel of pictures that tell little, and come behind all others.
    """
    for kind in kinds:
        of_kind = [unit.pictures[kind.position] for unit in units]
        pictured = [picture for picture in of_kind if picture and picture.sheet is not None]
        fine = [picture for picture in pictured if picture.row.status == "ok"]
        if fine:

            def order(picture: Picture) -> tuple[bool, float, int]:
                channel = picture.row.channel
                return (picture.kind.position, channel) in last, -picture.lift, channel

            return sorted(fine, key=order)[:most]
    return []


def count_statuses(units: Sequence[Unit]) -> Counter[str]:
    """How many pictures have each status."""
    return Counter(unit.status(picture) for unit in units for picture in unit.pictures if picture)


def absent(units: Sequence[Unit], kinds: Sequence[Kind], objectives: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Titles of kinds found by ascent that some units lack, with how many units lack them.

    Diverse pictures count as one kind, and only where `objectives`, those of the run's settings, ask for them:
    otherwise some units of a layer have them and others never will.
    """
    titles: dict[str, int] = {}
    for kind in kinds:
        lacking = sum(unit.pictures[kind.position] is None for unit in units)
        is_due = not kind.is_diverse or "diversity" in objectives
        if lacking and kind.method == "ascent" and is_due:
            titles.setdefault("Diversity" if kind.is_diverse else kind.title, lacking)
    yield from titles.items()


def _picture(kind: Kind, row: UnitRow | None, index: int) -> Picture | None:
    if row is None or not row.has_picture:
        return None if row is None else Picture(kind, row, None, None)
    return Picture(kind, row, *divmod(index, kind.grid.tiles))


def _pixels(key: tuple[str, str, str], rows: Sequence[UnitRow]) -> tuple[int, int, int] | None:
    """(height, width, bands) of a kind's pictures, of first ones only where there are no others; None: no picture."""
    pictured = [row for row in rows if row.kind == key and row.has_picture]
    return next((row.size for row in pictured if not row.is_first), pictured[0].size if pictured else None)
