"""The units of one layer as a page tells them: their pictures by kind, their maps on the images, their numbers.

Joins the run's tables and says where each picture lies in the page's sprite sheets. Knows the run's reader; knows
nothing of HTML or files.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.run.reader import Run
from filterscope.reports.page import sheets

MAP_SIDE = 48  # pixels, of a map beside a unit: larger ones are reduced
GRID_SIDE = 112  # CSS pixels, of a picture in the grid of a layer

DIVERSE = 4  # pictures of a unit with the objective diversity

KINDS = {  # objective, method, space: title, what it is, section of the method page
    ("channel", "ascent", "image"): ("Channel", "found by ascent: the highest mean of the whole map", "channel"),
    ("neuron", "ascent", "image"): ("Neuron", "found by ascent: the highest value of one neuron", "neuron"),
    ("negative", "ascent", "image"): ("Negative", "found by ascent: the lowest mean of the whole map", "negative"),
    **{
        (f"diversity-{k}", "ascent", "image"): (
            f"Diversity {k}",
            "found by ascent: the highest mean of the map, held back where it looks like the others",
            "diversity",
        )
        for k in range(1, DIVERSE + 1)
    },
    ("neuron", "analytic", "image"): ("Analytic", "by formula: the exact best image of one neuron", "analytic"),
    ("neuron", "analytic", "input"): (
        "Analytic, own input",
        "by formula, in the layer's own input: a patch an input channel, white for high and black for low",
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
    size: tuple[int, int]  # (height, width) of the visible picture, pixels; (1, 1) where there is none
    bands: int  # of the visible picture: 1 grey, 3 RGB
    pixels: tuple[int, int]  # (height, width) of the picture itself, before planes were put side by side
    planes: int  # bands of the picture itself
    grid: sheets.Grid

    @property
    def id(self) -> tuple[str, str, str]:
        """What tells kinds apart in the table."""
        return self.objective, self.method, self.space


@dataclass(frozen=True, slots=True)
class Picture:
    """One row of the unit table, and where its picture is."""

    kind: Kind
    row: dict[str, Any]  # of UNIT_SCHEMA
    sheet: int | None  # null where there is no picture
    tile: int | None

    @property
    def share(self) -> float | None:
        """Activation as a share of the bound; null where it has no meaning, as below zero."""
        activation, bound = self.row["activation"], self.row["bound"]
        if not (finite(activation) and finite(bound)) or bound <= 0 or activation < 0:
            return None
        return float(activation / bound)

    @property
    def lift(self) -> float:
        """How far the activation lies above the best random image, below it where it is to be low; −∞ where unknown."""
        activation, random = self.row["activation"], self.row["random"]
        sense = -1 if self.kind.objective == "negative" else 1
        return sense * float(activation - random) if finite(activation) and finite(random) else -math.inf


@dataclass(frozen=True, slots=True)
class MapFact:
    """What a channel answered to an image."""

    image: int
    minimum: float
    mean: float
    maximum: float
    row: int  # where the maximum is
    column: int


@dataclass(frozen=True, slots=True)
class Unit:
    """One channel with all that is known of it."""

    index: int  # among the layer's shown channels
    channel: int
    pictures: tuple[Picture | None, ...]  # one a kind; null where the run holds none
    maps: tuple[MapFact | None, ...]  # one a shown image; empty where the layer has no maps
    sheet: int  # of the layer's maps
    row: int  # its row in that sheet
    rows: int  # of each sheet
    strongest: MapFact | None  # the given image on which it fires most, of all images
    constant: bool = False  # whether it answered one number to all that was measured

    @property
    def statuses(self) -> list[str]:
        """What is claimed of it, each once."""
        return sorted({self.status(picture) for picture in self.pictures if picture})

    def status(self, picture: Picture) -> str:
        """What is claimed of one of its pictures: `constant` says more than that no picture raises it."""
        status = str(picture.row["status"])
        return "constant" if self.constant and status in ("ok", "unraised") else status

    def answers(self) -> Iterator[float | None]:
        """What it answered to its pictures, to random images and to the user's images; lowest and highest of maps."""
        for picture in self.pictures:
            if picture and picture.kind.space == "image":
                yield from (picture.row[name] for name in ("activation", "random"))
        for fact in self.maps:
            yield from (fact.minimum, fact.maximum) if fact else ()


def finite(value: float | None) -> bool:
    """Whether a table's number can be shown and reckoned with."""
    return value is not None and math.isfinite(value)


class ByLayer:
    """A table with a column `layer`, by layer."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._rows: dict[str, list[int]] = defaultdict(list)
        for index, name in enumerate(table["layer"].to_pylist()):
            self._rows[name].append(index)

    def has(self, layer: str) -> bool:
        """Whether any row of a layer is there."""
        return layer in self._rows

    def of(self, layer: str) -> list[dict[str, Any]]:
        """The rows of one layer, in the table's order."""
        rows: list[dict[str, Any]] = self._table.take(np.asarray(self._rows.get(layer, []), np.int64)).to_pylist()
        return rows


class UnitTable(ByLayer):
    """The run's unit table, by layer."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.units)

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
        table = run.maps(slug)
        image = table["image"].to_numpy()
        self._channel = table["channel"].to_numpy()
        self._image = image
        self._maximum = np.nan_to_num(table["maximum"].to_numpy().astype(np.float64), nan=-np.inf)
        shown = np.flatnonzero(image < images)
        self._rows: dict[tuple[int, int], dict[str, Any]] = {
            (row["image"], row["channel"]): row for row in table.take(shown).to_pylist()
        }
        self._table = table
        pictured = next((row for row in self._rows.values() if row["atlas"] is not None), None)
        self.neurons: tuple[int, int] | None = None  # (height, width) of a map; null where none has a picture
        self.size = (1, 1)  # of `tiles`, pixels
        if pictured is not None:
            self.neurons = pictured["height"], pictured["width"]
            self.size = sheets.within(*self.neurons, MAP_SIDE)

    def __len__(self) -> int:
        return len(self._image)

    def fact(self, image: int, channel: int) -> MapFact | None:
        """What `channel` answered to a shown image."""
        row = self._rows.get((image, channel))
        return None if row is None else _fact(row)

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
        found = np.zeros((len(units), *self.size), np.uint8)
        for index, unit in enumerate(units):
            tile = self.tile(image, unit.channel, MAP_SIDE)
            if tile is not None:
                found[index] = sheets.reduced(tile, *self.size)[:, :, 0]
        return found

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
        return {row["channel"]: _fact(row) for row in self._table.take(order[first]).to_pylist()}


def kinds_of(channels: Sequence[int], rows: Sequence[dict[str, Any]], objectives: Sequence[str]) -> list[Kind]:
    """The kinds of picture of one layer, known kinds first.

    Args:
        channels: that the run analyses.
        rows: of the unit table.
        objectives: that the run's settings ask for: they have a kind even before the first row is there.
    """
    found = {(row["objective"], row["method"], row["space"]) for row in rows}
    several = {"diversity": [f"diversity-{k}" for k in range(1, DIVERSE + 1)]}
    found |= {(kind, "ascent", "image") for objective in objectives for kind in several.get(objective, [objective])}
    order = [*(key for key in KINDS if key in found), *sorted(found - KINDS.keys())]
    pixels = {key: _pixels(key, rows) for key in order}
    sizes = [sheets.visible_size(*known) for known in pixels.values() if known]
    tallest, widest = (max((size[axis] for size in sizes), default=1) for axis in (0, 1))
    grid = sheets.grid_for(len({*channels, *(row["channel"] for row in rows)}), tallest, widest)
    kinds = []
    for position, key in enumerate(order):
        title, meaning, anchor = KINDS.get(key, (f"{key[0]}, {key[1]}", f"in {key[2]} space", "activation"))
        height, width, planes = pixels[key] or (1, 1, 1)
        size = sheets.visible_size(height, width, planes)
        bands = 3 if planes == 3 else 1
        pictured = pixels[key] is not None
        kinds.append(Kind(position, *key, title, meaning, anchor, pictured, size, bands, (height, width), planes, grid))
    return kinds


def finest(rows: Sequence[dict[str, Any]], most: int) -> list[int]:
    """The channels whose first kind of picture rises highest above random images, those that are not fine last."""
    first: dict[int, tuple[bool, float]] = {}
    for row in rows:
        sense = -1 if row["objective"] == "negative" else 1
        known = finite(row["activation"]) and finite(row["random"])
        lift = sense * (row["activation"] - row["random"]) if known else -math.inf
        first.setdefault(row["channel"], (row["status"] != "ok", -lift))
    return sorted(sorted(first, key=lambda channel: (*first[channel], channel))[:most])


def units_of(
    channels: Sequence[int],
    rows: Sequence[dict[str, Any]],
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
    of_unit: dict[int, dict[tuple[str, str, str], dict[str, Any]]] = {channel: {} for channel in channels}
    for row in rows:
        of_unit.setdefault(row["channel"], {})[row["objective"], row["method"], row["space"]] = row
    units = []
    for index, channel in enumerate(sorted(of_unit)):
        sheet, tile = divmod(index, tiles)
        pictures = tuple(_picture(kind, of_unit[channel].get(kind.id), index) for kind in kinds)
        facts = tuple(maps.fact(image, channel) for image in range(images)) if len(maps) else ()
        strongest = maps.strongest_images.get(channel)
        units.append(Unit(index, channel, pictures, facts, sheet, tile, tiles, strongest))
    return units


def leading(kinds: Sequence[Kind], units: Sequence[Unit], most: int) -> list[Picture]:
    """The pictures that stand for a layer: those that rise highest above random images, of the first kind that has any.

    Units that are unraised, dead or diverged are left out. Ties go to the lower channel.
    """
    for kind in kinds:
        of_kind = [unit.pictures[kind.position] for unit in units]
        pictured = [picture for picture in of_kind if picture and picture.sheet is not None]
        fine = [picture for picture in pictured if picture.row["status"] == "ok"]
        if fine:
            return sorted(fine, key=lambda picture: (-picture.lift, picture.row["channel"]))[:most]
    return []


def count_statuses(units: Sequence[Unit]) -> Counter[str]:
    """How many pictures have each status."""
    return Counter(unit.status(picture) for unit in units for picture in unit.pictures if picture)


def absent(units: Sequence[Unit], kinds: Sequence[Kind]) -> Iterator[tuple[Kind, int]]:
    """Kinds found by ascent that some units lack, with how many lack them."""
    for kind in kinds:
        lacking = sum(unit.pictures[kind.position] is None for unit in units)
        if lacking and kind.method == "ascent":
            yield kind, lacking


def _picture(kind: Kind, row: dict[str, Any] | None, index: int) -> Picture | None:
    if row is None or row["atlas"] is None:
        return None if row is None else Picture(kind, row, None, None)
    return Picture(kind, row, *divmod(index, kind.grid.tiles))


def _pixels(key: tuple[str, str, str], rows: Sequence[dict[str, Any]]) -> tuple[int, int, int] | None:
    """(height, width, bands) of the pictures of a kind; None where there is none."""
    for row in rows:
        if (row["objective"], row["method"], row["space"]) == key and row["atlas"] is not None:
            return row["height"], row["width"], row["bands"]
    return None


def _fact(row: dict[str, Any]) -> MapFact:
    """A map's numbers; float32 is shown with the seven digits it holds."""
    low, mean, high = (
        math.nan if row[name] is None else float(f"{row[name]:.7g}") for name in ("minimum", "mean", "maximum")
    )
    return MapFact(row["image"], low, mean, high, row["row"], row["column"])
