"""The page of one image: its strongest channels, the pixels that speak for a prediction, what each layer represents.

Knows the run's reader and pixels; templates hold the markup.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import ImageInfo, LayerInfo
from filterscope.analyzer.run.rows import AttributionRow, GridRow, GroupRow, InversionRow, ValueRow, rows_of
from filterscope.reports.page import colours, heat, sheets, words
from filterscope.reports.page.folder import Files
from filterscope.reports.page.units import LayerMaps, MapFact
from filterscope.reports.site import contrast, pictures

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

AnyRow = TypeVar("AnyRow", bound="DataclassInstance")

MOST_ON_IMAGE = 8  # channels a layer
VALUES = 12  # layers other than convolutions
SIDE = 224  # pixels, of the pictures of studies: larger ones are reduced
CELL = 48  # pixels, of a place in a grid

RECTIFIERS = {"Relu", "Clip", "LeakyRelu", "PRelu"}  # keep the order of channels: behind a convolution they add nothing

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

    layer: LayerInfo
    page: str
    channels: list[tuple[int, MapFact, bool, int | None]]  # channel, numbers, is it on the page, tile


@dataclass(frozen=True, slots=True)
class StudyPicture:
    """A picture of a study, in a file of its own."""

    file: str
    size: tuple[int, int]  # (height, width), pixels
    title: str
    facts: tuple[tuple[str, str], ...]
    channels: tuple[int, ...] = ()  # the strongest of a group
    second: str = ""  # another file that stands beside it
    second_size: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class GridPart:
    """A layer's activation grid: one picture, and one link per place."""

    file: str
    size: tuple[int, int]
    name: str  # of the layer
    columns: int
    cells: tuple[tuple[str, str], ...]  # where it leads ("" for nowhere), what is told of it


@dataclass(frozen=True, slots=True)
class ValueSummary:
    """A layer that is no convolution, on one image."""

    value: str
    op: str
    layer: str | None
    page: str  # of that layer; empty where it is on none
    channels: int
    blank: int
    strongest: tuple[tuple[int, float | None, int | None], ...]  # channel, maximum, tile


@dataclass(frozen=True, slots=True)
class Contrast:
    """Which pixels speak for the answer rather than for another class."""

    picture: StudyPicture
    answer: str
    other: str
    sentence: str  # where they are; empty where nothing speaks for the answer


@dataclass(slots=True, eq=False)
class ImagePage:
    """The contents of one image's page, gathered layer by layer."""

    index: int
    facts: ImageInfo
    pixels: tuple[int, int]  # (height, width) of its file
    size: tuple[int, int]  # CSS pixels on its own page
    layers: list[OnLayer] = field(default_factory=list)
    tiles: list[pictures.MapTile] = field(default_factory=list)
    attributions: list[StudyPicture] = field(default_factory=list)
    contrast: Contrast | None = None
    inversions: list[StudyPicture] = field(default_factory=list)
    caricatures: list[StudyPicture] = field(default_factory=list)
    groups: list[tuple[str, str | None, list[StudyPicture]]] = field(
        default_factory=list
    )  # layer, its page, its groups
    grids: list[GridPart] = field(default_factory=list)
    values: list[ValueSummary] = field(default_factory=list)
    repeated: int = 0  # values left out: the rectified maps of convolutions that are shown already

    @property
    def name(self) -> str:
        """The image's name, short enough to stand beside every unit."""
        return words.shortened(str(self.facts.name))

    @property
    def source(self) -> str:
        """The file it came from; of an image in a file of many, with its number there, as a data set names it."""
        number = re.search(r"\[\d+\]$", self.facts.name)
        file = str(self.facts.source)
        return file if number is None or file.endswith(number[0]) else file + number[0]

    @property
    def page(self) -> str:
        """The file of its page."""
        return f"image-{self.index}.html"

    @property
    def is_explained(self) -> bool:
        """Whether its page shows which pixels speak for its answer."""
        return bool(self.attributions) or self.contrast is not None

    def answer(self, labels: Sequence[str]) -> str:
        """What the network answered, and whether that is right, in a sentence or two; empty where it gave no scores.

        Args:
            labels: names of the classes, in order.
        """
        prediction = self.facts.prediction
        if not prediction or not prediction.top:
            return ""
        named = [one.label or f"class {one.index}" for one in prediction.top]
        is_probability = prediction.kind == "probability"
        scores = [words.percent(one.score) if is_probability else words.figure(one.score) for one in prediction.top]
        text = f"Answered {words.shortened(named[0], 60)} ({'' if is_probability else 'score '}{scores[0]})"
        text += f", then {words.shortened(named[1], 60)} ({scores[1]})." if len(named) > 1 else "."
        own = self.truth(labels)
        if not own:
            return text
        is_right = self.facts.label == prediction.top[0].index
        return f"{text} It is {words.shortened(own, 60)}: {'right' if is_right else 'wrong'}."

    def truth(self, labels: Sequence[str]) -> str:
        """The class that the data set gives it; empty where it gives none.

        Args:
            labels: names of the classes, in order.
        """
        label = self.facts.label
        if label is None:
            return ""
        return labels[label] if 0 <= label < len(labels) else f"class {label}"

    @property
    def has_maps(self) -> bool:
        """Whether any map of a convolution on it is stored."""
        return any(tile is not None for on in self.layers for *_, tile in on.channels)

    def gather(self, layer: LayerInfo, on_page: set[int], maps: LayerMaps) -> None:
        """Note the channels of a layer that fire most on it."""
        channels = []
        is_rectified = str(layer.nonlinearity).startswith("relu")
        for channel in maps.strongest_channels(self.index, MOST_ON_IMAGE):
            fact, tile = maps.fact(self.index, channel), maps.tile(self.index, channel, pictures.FIRING_SIDE)
            if fact is not None:
                scale = heat.shared_scale(maps.ends(channel), is_rectified=is_rectified)
                ends = fact.minimum, fact.maximum
                shared = heat.rescaling(ends, scale) if scale and all(map(math.isfinite, ends)) else ""
                channels.append((channel, fact, channel in on_page, self._keep(tile, shared)))
        if channels:
            self.layers.append(OnLayer(layer, f"layer-{layer.slug}.html", channels))

    def _keep(self, tile: np.ndarray | None, shared: str = "") -> int | None:
        if tile is None:
            return None
        self.tiles.append(pictures.MapTile(tile, shared))
        return len(self.tiles) - 1

    def gather_values(self, run: Run, table: pa.Table) -> None:
        """Note what layers other than convolutions answered, but for rectified maps that repeat a convolution's."""
        page_of = {on.layer.name: on.page for on in self.layers}
        of_value: dict[str, list[ValueRow]] = {}
        for row in _of_image(table, self.index, ValueRow):
            of_value.setdefault(row.value, []).append(row)
        in_order = sorted(of_value.items(), key=lambda item: item[1][0].order)
        others = [item for item, repeats in zip(in_order, self._repeats(in_order), strict=True) if not repeats]
        self.repeated = len(in_order) - len(others)
        for value, rows in others[:VALUES]:
            best = sorted(rows, key=lambda row: (-(row.maximum or 0.0), row.channel))[:MOST_ON_IMAGE]
            strongest = []
            for row in best:
                tile = run.tile(row)
                if tile is not None:
                    tile = sheets.at_most(tile, pictures.FIRING_SIDE)
                strongest.append((row.channel, row.maximum, self._keep(tile)))
            blank = sum(bool(row.blank) for row in rows)
            self.values.append(
                ValueSummary(
                    value=value,
                    op=rows[0].op,
                    layer=rows[0].layer,
                    page=page_of.get(rows[0].layer or "", ""),
                    channels=len(rows),
                    blank=blank,
                    strongest=tuple(strongest),
                )
            )

    def _repeats(self, in_order: Sequence[tuple[str, Sequence[ValueRow]]]) -> Iterator[bool]:
        """Whether each value is the rectified map of a convolution whose channels are shown above it."""
        widths = {on.layer.name: on.layer.out_channels for on in self.layers}
        followed: set[str] = set()  # convolutions behind which a value stands already: what comes later is another's
        for _, rows in in_order:
            first = rows[0]
            is_next = first.layer is not None and first.layer not in followed
            yield is_next and first.op in RECTIFIERS and widths.get(str(first.layer)) == len(rows)
            followed.add(str(first.layer))


class ImageStudies:
    """The tables of a run that tell of single images.

    Args:
        run: to read from.
        folder: of the site.
        pages: layer → its page and the channels on it.
        thrifty: whether space is short: then what lies over an image is stored with a small loss.
    """

    def __init__(
        self, run: Run, folder: Files, pages: dict[str, tuple[str, set[int]]], *, thrifty: bool = False
    ) -> None:
        self._run, self._folder, self._pages, self._thrifty = run, folder, pages, thrifty
        self._attribution_table = run.table("attribution/attributions.parquet")
        self._inversion_table = run.table("inversion/inversions.parquet")
        self._group_table = run.table("groups/groups.parquet")
        self._grid_table = run.table("groups/grid.parquet")
        self._value_table = run.table("values/values.parquet")

    def add(self, page: ImagePage) -> None:
        """Write an image's pictures and note them on its page."""
        image = sheets.visible(self._run.image(page.index))
        explained = _of_image(self._attribution_table, page.index, AttributionRow)
        page.attributions = self._attributions(page.index, [row for row in explained if row.minus is None])
        page.contrast = self._contrast(page.index, [row for row in explained if row.minus is not None])
        for row in _of_image(self._inversion_table, page.index, InversionRow):
            drawn = self._inversion(page.index, row)
            if drawn is not None:
                (page.caricatures if row.kind == "caricature" else page.inversions).append(drawn)
        page.groups = self._groups(page.index, image, _of_image(self._group_table, page.index, GroupRow))
        page.grids = self._grids(page.index, _of_image(self._grid_table, page.index, GridRow))
        page.gather_values(self._run, self._value_table)

    def _put(self, name: str, picture: np.ndarray, *, lossless: bool = True) -> tuple[str, tuple[int, int]]:
        small = sheets.at_most(picture, SIDE)
        content = sheets.webp(small, lossless=lossless or max(small.shape[:2]) < sheets.PIXELATED)[0]
        self._folder.write(f"assets/{name}.webp", content)
        return f"assets/{name}.webp", (small.shape[0], small.shape[1])

    def _attributions(self, image: int, rows: Sequence[AttributionRow]) -> list[StudyPicture]:
        drawings = []
        for number, row in enumerate(rows):
            tile = self._run.tile(row)
            if tile is None:
                continue
            file, size = self._put(f"image-{image}-a{number}", colours.overlay(tile), lossless=not self._thrifty)
            target = row.label or (f"class {row.target}" if row.layer is None else f"channel {row.target}")
            where = f" of {words.shortened(row.layer)}" if row.layer else ""
            facts = [("for", f"{words.shortened(target)}{where}"), ("score", words.figure(row.score))]
            facts += [("at", words.shortened(row.at))] if row.at else []
            facts += [("sum", words.figure(row.total))]
            drawings.append(StudyPicture(file, size, METHODS.get(row.method, row.method), tuple(facts)))
        return drawings

    def _contrast(self, image: int, rows: Sequence[AttributionRow]) -> Contrast | None:
        """The first attribution of a difference of two classes, drawn."""
        drawn = ((row, self._run.tile(row)) for row in rows)
        row, tile = next(((row, tile) for row, tile in drawn if tile is not None), (None, None))
        if row is None or tile is None:
            return None
        file, size = self._put(f"image-{image}-contrast", colours.overlay(tile))
        classes = ((row.label, row.target), (row.minus_label, row.minus))
        answer, other = (words.shortened(label or f"class {number}") for label, number in classes)
        facts = [("difference of scores", words.figure(row.score))]
        facts += [("at", words.shortened(row.at))] if row.at else []
        picture = StudyPicture(file, size, METHODS.get(row.method, row.method), tuple(facts))
        return Contrast(picture, answer, other, contrast.sentence(tile, answer, other))

    def _inversion(self, image: int, row: InversionRow) -> StudyPicture | None:
        tile = self._run.tile(row)
        if tile is None:
            return None
        name = f"image-{image}-{row.kind[:3]}-{self._slug(row.layer)}"
        file, size = self._put(name, sheets.visible(tile), lossless=False)
        facts = [("distance", words.percent(row.distance))] if row.distance is not None else []
        facts.append(("cosine", words.figure(row.cosine)))
        return StudyPicture(file, size, row.layer, tuple(facts))

    def _groups(
        self, image: int, picture: np.ndarray, rows: Sequence[GroupRow]
    ) -> list[tuple[str, str | None, list[StudyPicture]]]:
        of_layer: dict[str, list[StudyPicture]] = {}
        for row in sorted(rows, key=lambda row: (self._order(row.layer), row.group)):
            tile, mask = self._run.tile(row), self._run.tile(row.mask)
            if mask is None:
                continue
            stem = f"image-{image}-g{row.group}-{self._slug(row.layer)}"
            lit, size = self._put(f"{stem}-lit", colours.spotlight(picture, mask), lossless=False)
            second = ("", (1, 1)) if tile is None else self._put(stem, sheets.visible(tile), lossless=False)
            facts = (("share", words.percent(row.share)), ("activation", words.figure(row.activation)))
            drawn = StudyPicture(
                file=lit,
                size=size,
                title=f"Group {row.group + 1}",
                facts=facts,
                channels=tuple(row.channels),
                second=second[0],
                second_size=second[1],
            )
            of_layer.setdefault(row.layer, []).append(drawn)
        return [(layer, self._pages.get(layer, (None,))[0], groups) for layer, groups in of_layer.items()]

    def _grids(self, image: int, rows: Sequence[GridRow]) -> list[GridPart]:
        of_layer: dict[str, list[GridRow]] = {}
        for row in rows:
            of_layer.setdefault(row.layer, []).append(row)
        return [self._grid(image, layer, cells) for layer, cells in of_layer.items()]

    def _grid(self, image: int, layer: str, rows: Sequence[GridRow]) -> GridPart:
        height, width = 1 + max(row.row for row in rows), 1 + max(row.column for row in rows)
        mosaic = np.full((height * CELL, width * CELL, 3), 128, np.uint8)
        cells = {}
        page, on_page = self._pages.get(layer, ("", set()))
        for row in rows:
            tile = self._run.tile(row)
            top, left = row.row * CELL, row.column * CELL
            if tile is not None:
                shown = sheets.visible(tile)
                small = sheets.at_most(shown, CELL)
                factor = max(1, CELL // max(small.shape[:2]))
                large = np.kron(small, np.ones((factor, factor, 1), np.uint8))
                mosaic[top : top + large.shape[0], left : left + large.shape[1]] = large
            strongest = [
                f"{channel} ({words.figure(value)})"
                for channel, value in zip(row.channels, row.activations, strict=False)
            ]
            first = row.channels[0] if row.channels else None
            link = f"{page}#{first}" if first in on_page else ""
            text = f"row {row.row}, column {row.column}: channels {words.listed(strongest)}"
            cells[row.row, row.column] = (link, text)
        content = sheets.compact(mosaic, False, {"quality": 90, "method": 1})
        file = f"assets/image-{image}-grid-{self._slug(layer)}.webp"
        self._folder.write(file, content)
        return GridPart(
            file=file,
            size=(height * CELL, width * CELL),
            name=layer,
            columns=width,
            cells=tuple(cells.get((r, c), ("", "")) for r in range(height) for c in range(width)),
        )

    def _slug(self, layer: str) -> str:
        return next((one.slug for one in self._run.layers if one.name == layer), "other")

    def _order(self, layer: str) -> int:
        return next((one.index for one in self._run.layers if one.name == layer), len(self._run.layers))


def _of_image(table: pa.Table, image: int, kind: type[AnyRow]) -> list[AnyRow]:
    return rows_of(table.filter(pc.equal(table["image"], image)), kind)
