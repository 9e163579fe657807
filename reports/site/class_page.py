"""The page of the classes: the image that raises each score, and the network's scores for it.

Knows the run's reader and sheets; templates hold the markup.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.rows import ClassRow, rows_of
from filterscope.reports.page import colours, sheets
from filterscope.reports.page.folder import Files
from filterscope.reports.page.units import finite
from filterscope.reports.site import pictures

SIDE = 96  # pixels, of a class's picture: larger ones are reduced
FLOOR = 1e-4  # probability that is drawn as dark as 0
RAISED = 1e-3  # probability that a class without a picture must have on one for a column of its own


@dataclass(frozen=True, slots=True)
class ClassTile:
    """A class on the page."""

    row: ClassRow
    sheet: int | None
    tile: int
    rivals: tuple[tuple[str, float], ...]  # the other classes that its picture raises most, with their probability


@dataclass(frozen=True, slots=True)
class ClassPage:
    """All classes of a run, their pictures written."""

    tiles: tuple[ClassTile, ...]
    wins: int  # classes whose picture the network answers with that class
    heat: tuple[int, int] | None  # (height, width) of the table of scores, a pixel a number; null where there is none
    left_out: int  # classes without a column: no picture is theirs, and none raises them


def write(run: Run, folder: Files, most: int | None) -> ClassPage | None:
    """Gather the classes and write their pictures; None where the run has none.

    Args:
        run: to read from.
        folder: of the site.
        most: classes shown; None for all.
    """
    rows = sorted(rows_of(run.table("classes/classes.parquet"), ClassRow), key=lambda row: row.klass)[:most]
    if not rows:
        return None
    names = dict(enumerate(run.info.labels)) | {row.klass: row.label for row in rows if row.label}
    first = next((row for row in rows if row.has_picture), None)
    size, grid = (1, 1), sheets.Grid(1, 1)
    if first is not None:
        size = sheets.within(*sheets.visible_size(*first.size), SIDE)
        grid = sheets.grid_for(len(rows), *size)
    exact = max(size) < sheets.PIXELATED
    used = []
    for number, start in enumerate(range(0, len(rows), grid.tiles)):
        part = [run.tile(row) for row in rows[start : start + grid.tiles]]
        if first is None or all(tile is None for tile in part):
            continue
        blank = np.zeros((*size, 3 if first.is_colour else 1), np.uint8)
        tiles = [blank if tile is None else sheets.reduced(sheets.visible(tile), *size) for tile in part]
        folder.write(f"assets/classes-c-{number}.webp", sheets.webp(grid.sheet(tiles), lossless=exact)[0])
        used.append(number)
    style = [*pictures.SheetSet("c", size, grid, tuple(used)).rules("classes-", "classes")]
    style.append(f".classes-c{{{sheets.tile_size(sheets.shown_size(*size, pictures.CLASS_SIDE))}}}")
    folder.write_lines("assets/classes.css", [*style, *grid.rules("classes-")])
    tiles_shown = []
    for index, row in enumerate(rows):
        sheet, tile = divmod(index, grid.tiles)
        tiles_shown.append(ClassTile(row, sheet if row.has_picture else None, tile, _rivals(row, names)))
    heat, left_out = _heat(folder, rows)
    return ClassPage(tiles=tuple(tiles_shown), wins=sum(row.rank == 0 for row in rows), heat=heat, left_out=left_out)


def _rivals(row: ClassRow, names: dict[int, str]) -> tuple[tuple[str, float], ...]:
    scores = np.asarray(row.distribution or [], np.float64)
    order = [int(i) for i in np.argsort(-scores, kind="stable")[:4] if i != row.klass]
    return tuple((names.get(i, f"class {i}"), float(scores[i])) for i in order[:3] if finite(scores[i]))


def _heat(folder: Files, rows: list[ClassRow]) -> tuple[tuple[int, int] | None, int]:
    """A row a class's picture, a column a class that has one or that a picture raises; logarithmic.

    Returns:
        Height and width of the table, and how many classes have no column.
    """
    lists = [row.distribution or [] for row in rows]
    if not all(lists) or len({len(scores) for scores in lists}) != 1:
        return None, 0
    scores = np.nan_to_num(np.asarray(lists, np.float64))
    if scores.min() < 0 or scores.max() > 1 + 1e-3:
        return None, 0
    shown = scores.max(axis=0) > RAISED
    shown[[row.klass for row in rows]] = True
    light = 1 - np.log10(scores[:, shown].clip(FLOOR, 1)) / np.log10(FLOOR)
    folder.write("assets/class-scores.webp", sheets.webp(colours.scale(light), lossless=True)[0])
    return (len(rows), int(shown.sum())), int((~shown).sum())
