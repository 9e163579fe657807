"""The pictures of a site: which sheets a page needs, their files, and the style sheet that cuts them out.

Classes in the style sheets are numbers only: kN a kind of picture, sN a sheet, tN a tile in it; nN a sheet of maps,
mN a unit's row in it, iN an image's column. Knows units and sheets; knows nothing of HTML.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from analyzer.run import Run
from converters.errors import RunError
from reports import sheets
from reports.folder import NewFolder
from reports.units import CARD_SIDE, GRID_SIDE, SHOWN_SIDE, Kind, LayerMaps, Picture, Unit

STRIP = 8  # pictures that stand for a layer on the index
STRIP_SIDE = 96  # pixels and CSS pixels
FIRING_SIDE = 112  # pixels and CSS pixels, of a map on an image's page


def input_images(run: Run, folder: NewFolder, images: int) -> list[tuple[int, int]]:
    """Write the images as the network saw them and a sheet of their thumbnails.

    Returns:
        (height, width) of each in pixels.
    """
    pictures = [sheets.visible(run.image(index)) for index in range(images)]
    for index, picture in enumerate(pictures):
        folder.write(f"assets/image-{index}.webp", sheets.webp(picture, lossless=True)[0])
    if pictures:
        height, width = pictures[0].shape[:2]
        shown = sheets.shown_size(height, width, SHOWN_SIDE)
        size = sheets.within(height, width, SHOWN_SIDE)
        thumbs = sheets.Grid(images, 1).sheet([sheets.reduced(picture, *size) for picture in pictures])
        folder.write("assets/images.webp", sheets.webp(thumbs, lossless=True)[0])
        rules = [
            f".maps a::before{{{_box(shown)};background-image:url(images.webp);background-size:{images * 100}% 100%;"
            f"{sheets.rendering(*size)}}}"
        ]
        for index in range(images):
            column = sheets.offset(index, images)
            rules.append(f".i{index}::before,.i{index}::after{{background-position-x:{column}}}")
        folder.write_lines("assets/images.css", rules)
    return [picture.shape[:2] for picture in pictures]


def layer_pictures(
    run: Run,
    folder: NewFolder,
    slug: str,
    kinds: Sequence[Kind],
    units: Sequence[Unit],
    lead: Sequence[Picture],
    lossless: bool,
) -> float:
    """Write a layer's sheets, and the strip of the pictures in `lead`.

    Returns:
        What the worst sheet lost, in dB; infinite where nothing.
    """
    worst = math.inf
    strip: dict[int, np.ndarray] = {}  # channel → picture
    wanted = {picture.row["channel"] for picture in lead}
    for kind in kinds:
        exact = lossless or max(kind.size) < sheets.PIXELATED
        for number, part, tiles in _sheets(run, kind, units):
            content, fidelity = sheets.webp(kind.grid.sheet(tiles), lossless=exact)
            worst = min(worst, fidelity)
            folder.write(f"assets/layer-{slug}-{kind.position}-{number}.webp", content)
            if lead and lead[0].kind is kind:
                strip |= {unit.channel: tile for unit, tile in zip(part, tiles, strict=True) if unit.channel in wanted}
    if lead:
        size = sheets.within(*lead[0].kind.size, STRIP_SIDE)
        tiles = [sheets.reduced(strip[picture.row["channel"]], *size) for picture in lead]
        content, fidelity = sheets.webp(sheets.Grid(STRIP, 1).sheet(tiles), lossless=lossless)
        folder.write(f"assets/strip-{slug}.webp", content)
        worst = min(worst, fidelity)
    return worst


def layer_maps(folder: NewFolder, slug: str, rows: int, tiles: np.ndarray) -> None:
    """Write the sheets of a layer's maps: a row a unit, a column an image.

    Args:
        folder: of the site.
        slug: of the layer.
        rows: units a sheet.
        tiles: (units, images, H, W) uint8.
    """
    units, images, height, width = tiles.shape
    for number, first in enumerate(range(0, units, rows)):
        part = tiles[first : first + rows].transpose(0, 2, 1, 3).reshape(-1, images * width, 1)
        sheet = np.zeros((rows * height, images * width, 1), np.uint8)
        sheet[: len(part)] = part
        folder.write(f"assets/layer-{slug}-maps-{number}.webp", sheets.webp(sheet, lossless=True)[0])


def layer_style(slug: str, kinds: Sequence[Kind], units: Sequence[Unit], maps: LayerMaps, images: int) -> Iterator[str]:
    """The rules that cut the sheets of a layer."""
    pictured = [kind.size for kind in kinds if kind.pictured] or [(1, 1)]
    tall, grid_tall = (max(sheets.shown_size(*size, side)[0] for size in pictured) for side in (CARD_SIDE, GRID_SIDE))
    yield f".pictures{{--tall:{tall}px;--gtall:{grid_tall}px}}"
    for kind in kinds:
        here = [unit.pictures[kind.position] for unit in units]
        used = sorted({picture.sheet for picture in here if picture and picture.sheet is not None})
        if used:
            height, width = sheets.shown_size(*kind.size, CARD_SIDE)
            grid_height, grid_width = sheets.shown_size(*kind.size, GRID_SIDE)
            yield (
                f".f{kind.position}{{--h:{height}px;--w:{width}px;--gh:{grid_height}px;--gw:{grid_width}px}}"
                f".k{kind.position}{{background-size:{kind.grid.columns * 100}% {kind.grid.rows * 100}%;"
                f"{sheets.rendering(*kind.size)}}}"
            )
        for sheet in used:
            yield f".k{kind.position}.s{sheet}{{background-image:url(layer-{slug}-{kind.position}-{sheet}.webp)}}"
        chosen = f"main:has(#view-grid:checked):has(#kind-{kind.position}:checked)"
        yield f"{chosen} .units{{--tile:{sheets.shown_size(*kind.size, GRID_SIDE)[1]}px}}"
        yield f"{chosen} .unit:not(:target) figure:not(.f{kind.position}){{display:none}}"
    if kinds:
        yield from kinds[0].grid.rules()
    if maps.neurons is not None and units:
        rows = units[0].rows
        rendering = "pixelated" if maps.size == maps.neurons else "auto"
        yield (
            f".maps a::after{{{_box(sheets.shown_size(*maps.neurons, SHOWN_SIDE))};"
            f"background-size:{images * 100}% {rows * 100}%;image-rendering:{rendering}}}"
        )
        for row in range(rows):
            yield f".m{row} a::after{{background-position-y:{sheets.offset(row, rows)}}}"
        for sheet in range(units[-1].sheet + 1):
            yield f".n{sheet} a::after{{background-image:url(layer-{slug}-maps-{sheet}.webp)}}"


def strip_style(layers: Sequence[tuple[dict[str, Any], Sequence[Picture]]]) -> Iterator[str]:
    """The rules that cut the strips of the index: layers.json's entry of each layer with what stands for it."""
    for place in range(STRIP):
        yield f".strip .t{place}{{background-position:{sheets.offset(place, STRIP)} 0}}"
    for layer, lead in layers:
        if lead:
            size = lead[0].kind.size
            yield (
                f".j{layer['index']} .px{{{_box(sheets.shown_size(*size, STRIP_SIDE))};"
                f"background-image:url(strip-{layer['slug']}.webp);background-size:{STRIP * 100}% 100%;"
                f"{sheets.rendering(*size)}}}"
            )


def image_maps(folder: NewFolder, image: int, tiles: Sequence[np.ndarray]) -> None:
    """Write the maps shown on one image's page, of whatever size, and the rules that cut them out."""
    if not tiles:
        return
    columns = math.ceil(math.sqrt(len(tiles)))
    grid = sheets.Grid(columns, math.ceil(len(tiles) / columns))
    sheet = grid.sheet([sheets.cell(tile, FIRING_SIDE) for tile in tiles])
    folder.write(f"assets/maps-{image}.webp", sheets.webp(sheet, lossless=True)[0])
    size = f"{grid.columns * 100}% {grid.rows * 100}%"
    rule = f".px{{background-image:url(maps-{image}.webp);background-size:{size};image-rendering:pixelated}}"
    folder.write_lines(f"assets/image-{image}.css", [rule, *grid.rules()])


def _sheets(run: Run, kind: Kind, units: Sequence[Unit]) -> Iterator[tuple[int, Sequence[Unit], list[np.ndarray]]]:
    """(number, units, pictures) of each sheet of a kind; a sheet without any picture is left out."""
    blank = np.zeros((*kind.size, kind.bands), np.uint8)
    for number, first in enumerate(range(0, len(units), kind.grid.tiles)):
        part = units[first : first + kind.grid.tiles]
        rows = [unit.pictures[kind.position] for unit in part]
        if all(picture is None or picture.sheet is None for picture in rows):
            continue
        found = [run.tile(picture.row) if picture else None for picture in rows]
        tiles = [blank if tile is None else sheets.visible(tile) for tile in found]
        if any(tile.shape != blank.shape for tile in tiles):
            raise RunError(f"{run.folder}: pictures of one layer and kind differ in size; delete the run and run again")
        yield number, part, tiles


def _box(size: tuple[int, int]) -> str:
    return f"width:{size[1]}px;height:{size[0]}px"
