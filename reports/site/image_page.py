"""The page of one image: what fires on it, why the network answers so, what each layer keeps of it.

Knows the run's reader and pixels; templates hold the markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc

from filterscope.analyzer.run.reader import Run
from filterscope.reports.page import colours, sheets, words
from filterscope.reports.page.folder import Files
from filterscope.reports.page.units import LayerMaps, MapFact
from filterscope.reports.site import pictures

MOST_ON_IMAGE = 8  # channels a layer
VALUES = 12  # layers other than convolutions
SIDE = 224  # pixels, of the pictures of studies: larger ones are reduced
CELL = 48  # pixels, of a place in a grid

METHODS = {  # name in the run → as papers write it
    "saliency": "Gradient",
    "input-x-gradient": "Input × gradient",
    "integrated-gradients": "Integrated gradients",
    "smoothgrad": "SmoothGrad",
    "guided": "Guided backpropagation",
    "deconvnet": "DeconvNet",
    "grad-cam": "Grad-CAM",
    "guided-grad-cam": "Guided Grad-CAM",
    "layer-cam": "LayerCAM",
    "occlusion": "Occlusion",
    "deeplift": "DeepLIFT",
    "lrp": "Layer-wise relevance",
}


@dataclass(frozen=True, slots=True, eq=False)
class OnLayer:
    """The channels of a layer that fire most on an image."""

    layer: dict[str, Any]
    page: str
    channels: list[tuple[int, MapFact, bool, int | None]]  # channel, numbers, is it on the page, tile


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture of a study, in a file of its own."""

    file: str
    size: tuple[int, int]  # (height, width), pixels
    title: str
    facts: tuple[tuple[str, str], ...]
    row: dict[str, Any]
    second: str = ""  # another file that stands beside it
    second_size: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class GridPart:
    """What each place of a layer saw: one picture, and a link a place."""

    file: str
    size: tuple[int, int]
    layer: dict[str, Any] | None
    name: str
    columns: int
    cells: tuple[tuple[str, str], ...]  # where it leads ("" for nowhere), what is told of it


@dataclass(frozen=True, slots=True)
class ValueRow:
    """A layer that is no convolution, on one image."""

    value: str
    op: str
    layer: str | None
    channels: int
    blank: int
    strongest: tuple[tuple[int, float, int | None], ...]  # channel, maximum, tile


@dataclass(slots=True, eq=False)
class ImagePage:
    """What is gathered of one image while the layers go by."""

    index: int
    facts: dict[str, Any]  # of images/N.json
    pixels: tuple[int, int]  # (height, width) of its file
    size: tuple[int, int]  # CSS pixels on its own page
    layers: list[OnLayer] = field(default_factory=list)
    tiles: list[np.ndarray] = field(default_factory=list)
    attributions: list[Drawn] = field(default_factory=list)
    inversions: list[Drawn] = field(default_factory=list)
    caricatures: list[Drawn] = field(default_factory=list)
    groups: list[tuple[str, str | None, list[Drawn]]] = field(default_factory=list)  # layer, its page, its groups
    grids: list[GridPart] = field(default_factory=list)
    values: list[ValueRow] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The image's name, short enough to stand beside every unit."""
        return words.shortened(str(self.facts["name"]))

    def gather(self, layer: dict[str, Any], on_page: set[int], maps: LayerMaps) -> None:
        """Note the channels of a layer that fire most on it."""
        found = []
        for channel in maps.strongest_channels(self.index, MOST_ON_IMAGE):
            fact, tile = maps.fact(self.index, channel), maps.tile(self.index, channel, pictures.FIRING_SIDE)
            if fact is not None:
                found.append((channel, fact, channel in on_page, self._keep(tile)))
        if found:
            self.layers.append(OnLayer(layer, f"layer-{layer['slug']}.html", found))

    def _keep(self, tile: np.ndarray | None) -> int | None:
        if tile is None:
            return None
        self.tiles.append(tile)
        return len(self.tiles) - 1

    def gather_values(self, run: Run, table: Any) -> None:
        """Note what layers other than convolutions answered."""
        of_value: dict[str, list[dict[str, Any]]] = {}
        for row in _of_image(table, self.index):
            of_value.setdefault(row["value"], []).append(row)
        for value, rows in sorted(of_value.items(), key=lambda item: item[1][0]["order"])[:VALUES]:
            best = sorted(rows, key=lambda row: (-(row["maximum"] or 0.0), row["channel"]))[:MOST_ON_IMAGE]
            strongest = []
            for row in best:
                tile = run.tile(row)
                if tile is not None:
                    tile = sheets.at_most(tile, pictures.FIRING_SIDE)
                strongest.append((row["channel"], row["maximum"], self._keep(tile)))
            blank = sum(bool(row["blank"]) for row in rows)
            self.values.append(ValueRow(value, rows[0]["op"], rows[0]["layer"], len(rows), blank, tuple(strongest)))


class ImageStudies:
    """The tables of a run that tell of single images.

    Args:
        run: to read from.
        folder: of the site.
        pages: layer → its page and the channels on it.
    """

    def __init__(self, run: Run, folder: Files, pages: dict[str, tuple[str, set[int]]]) -> None:
        self._run, self._folder, self._pages = run, folder, pages
        names = ("attribution/attributions", "inversion/inversions", "groups/groups", "groups/grid", "values/values")
        self._tables = {name: run.table(f"{name}.parquet") for name in names}

    def add(self, page: ImagePage) -> None:
        """Write an image's pictures and note them on its page."""
        rows = {name: _of_image(table, page.index) for name, table in self._tables.items() if name != "values/values"}
        image = sheets.visible(self._run.image(page.index))
        page.attributions = self._attributions(page.index, rows["attribution/attributions"])
        for row in rows["inversion/inversions"]:
            drawn = self._inversion(page.index, row)
            if drawn is not None:
                (page.caricatures if row["kind"] == "caricature" else page.inversions).append(drawn)
        page.groups = self._groups(page.index, image, rows["groups/groups"])
        page.grids = self._grids(page.index, rows["groups/grid"])
        page.gather_values(self._run, self._tables["values/values"])

    def _put(self, name: str, picture: np.ndarray, *, lossless: bool = True) -> tuple[str, tuple[int, int]]:
        small = sheets.at_most(picture, SIDE)
        content = sheets.webp(small, lossless=lossless or max(small.shape[:2]) < sheets.PIXELATED)[0]
        self._folder.write(f"assets/{name}.webp", content)
        return f"assets/{name}.webp", (small.shape[0], small.shape[1])

    def _attributions(self, image: int, rows: Sequence[dict[str, Any]]) -> list[Drawn]:
        found = []
        for number, row in enumerate(rows):
            tile = self._run.tile(row)
            if tile is None:
                continue
            file, size = self._put(f"image-{image}-a{number}", colours.overlay(tile))
            target = row["label"] or (f"class {row['target']}" if row["layer"] is None else f"channel {row['target']}")
            where = f" of {words.shortened(row['layer'])}" if row["layer"] else ""
            facts = [("for", f"{words.shortened(target)}{where}"), ("score", words.figure(row["score"]))]
            facts += [("at", words.shortened(row["at"]))] if row["at"] else []
            facts += [("sum", words.figure(row["total"]))]
            title = METHODS.get(row["method"], str(row["method"]))
            found.append(Drawn(file, size, title, tuple(facts), row))
        return found

    def _inversion(self, image: int, row: dict[str, Any]) -> Drawn | None:
        tile = self._run.tile(row)
        if tile is None:
            return None
        name = f"image-{image}-{row['kind'][:3]}-{self._slug(row['layer'])}"
        file, size = self._put(name, sheets.visible(tile), lossless=False)
        facts = [("distance", words.percent(row["distance"]))] if row["distance"] is not None else []
        facts.append(("cosine", words.figure(row["cosine"])))
        return Drawn(file, size, row["layer"], tuple(facts), row)

    def _groups(
        self, image: int, picture: np.ndarray, rows: Sequence[dict[str, Any]]
    ) -> list[tuple[str, str | None, list[Drawn]]]:
        found: dict[str, list[Drawn]] = {}
        for row in sorted(rows, key=lambda row: (self._order(row["layer"]), row["group"])):
            tile, mask = self._run.tile(row), self._run.tile(row, "mask_")
            if mask is None:
                continue
            stem = f"image-{image}-g{row['group']}-{self._slug(row['layer'])}"
            lit, size = self._put(f"{stem}-lit", colours.spotlight(picture, mask), lossless=False)
            second = ("", (1, 1)) if tile is None else self._put(stem, sheets.visible(tile), lossless=False)
            facts = (("share", words.percent(row["share"])), ("activation", words.figure(row["activation"])))
            drawn = Drawn(lit, size, f"Group {row['group'] + 1}", facts, row, *second)
            found.setdefault(row["layer"], []).append(drawn)
        return [(layer, self._pages.get(layer, (None,))[0], groups) for layer, groups in found.items()]

    def _grids(self, image: int, rows: Sequence[dict[str, Any]]) -> list[GridPart]:
        of_layer: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            of_layer.setdefault(row["layer"], []).append(row)
        return [self._grid(image, layer, cells) for layer, cells in of_layer.items()]

    def _grid(self, image: int, layer: str, rows: Sequence[dict[str, Any]]) -> GridPart:
        height, width = (1 + max(row[name] for row in rows) for name in ("row", "column"))
        mosaic = np.full((height * CELL, width * CELL, 3), 128, np.uint8)
        told = {}
        page, on_page = self._pages.get(layer, ("", set()))
        for row in rows:
            tile = self._run.tile(row)
            top, left = row["row"] * CELL, row["column"] * CELL
            if tile is not None:
                shown = sheets.visible(tile)
                small = sheets.at_most(shown, CELL)
                factor = max(1, CELL // max(small.shape[:2]))
                large = np.kron(small, np.ones((factor, factor, 1), np.uint8))
                mosaic[top : top + large.shape[0], left : left + large.shape[1]] = large
            strongest = [
                f"{channel} ({words.figure(value)})"
                for channel, value in zip(row["channels"], row["activations"], strict=False)
            ]
            first = row["channels"][0] if row["channels"] else None
            link = f"{page}#{first}" if first in on_page else ""
            text = f"row {row['row']}, column {row['column']}: channels {words.listed(strongest)}"
            told[row["row"], row["column"]] = (link, text)
        content = sheets.compact(mosaic, False, {"quality": 90, "method": 1})
        file = f"assets/image-{image}-grid-{self._slug(layer)}.webp"
        self._folder.write(file, content)
        cells = tuple(told.get((r, c), ("", "")) for r in range(height) for c in range(width))
        known = next((one for one in self._run.layers if one["name"] == layer), None)
        return GridPart(file, (height * CELL, width * CELL), known, layer, width, cells)

    def _slug(self, layer: str) -> str:
        return next((one["slug"] for one in self._run.layers if one["name"] == layer), "other")

    def _order(self, layer: str) -> int:
        return next((one["index"] for one in self._run.layers if one["name"] == layer), len(self._run.layers))


def _of_image(table: Any, image: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["image"], image)).to_pylist()
    return rows
