"""The page of the classes: the image that raises each score, and what the network makes of it.

Knows the run's reader and sheets; templates hold the markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from filterscope.analyzer.run.reader import Run
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

    row: dict[str, Any]  # of CLASS_SCHEMA
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
    rows = sorted(run.table("classes/classes.parquet").to_pylist(), key=lambda row: row["klass"])[:most]
    if not rows:
        return None
    names = dict(enumerate(run.info.get("labels") or ())) | {row["klass"]: row["label"] for row in rows if row["label"]}
    first = next((row for row in rows if row["atlas"] is not None), None)
    size, grid = (1, 1), sheets.Grid(1, 1)
    if first is not None:
        size = sheets.within(*sheets.visible_size(first["height"], first["width"], first["bands"]), SIDE)
        grid = sheets.grid_for(len(rows), *size)
    exact = max(size) < sheets.PIXELATED
    used = []
    for number, start in enumerate(range(0, len(rows), grid.tiles)):
        found = [run.tile(row) for row in rows[start : start + grid.tiles]]
        if first is None or all(tile is None for tile in found):
            continue
        blank = np.zeros((*size, 3 if first["bands"] == 3 else 1), np.uint8)
        tiles = [blank if tile is None else sheets.reduced(sheets.visible(tile), *size) for tile in found]
        folder.write(f"assets/classes-c-{number}.webp", sheets.webp(grid.sheet(tiles), lossless=exact)[0])
        used.append(number)
    style = [*pictures.Set("c", size, grid, tuple(used)).rules("classes-", "classes")]
    height, width = sheets.shown_size(*size, pictures.CLASS_SIDE)
    style.append(f".classes-c{{--tw:{width}px;--th:{height}px}}")
    folder.write_lines("assets/classes.css", [*style, *grid.rules("classes-")])
    told = []
    for index, row in enumerate(rows):
        sheet, tile = divmod(index, grid.tiles)
        pictured = row["atlas"] is not None
        told.append(ClassTile(row, sheet if pictured else None, tile, _rivals(row, names)))
    wins = sum(row["rank"] == 0 for row in rows)
    heat, left_out = _heat(folder, rows)
    return ClassPage(tuple(told), wins, heat, left_out)


def _rivals(row: dict[str, Any], names: dict[int, str]) -> tuple[tuple[str, float], ...]:
    scores = np.asarray(row["distribution"] or [], np.float64)
    order = [int(i) for i in np.argsort(-scores, kind="stable")[:4] if i != row["klass"]]
    return tuple((names.get(i, f"class {i}"), float(scores[i])) for i in order[:3] if finite(scores[i]))


def _heat(folder: Files, rows: list[dict[str, Any]]) -> tuple[tuple[int, int] | None, int]:
    """A row a class's picture, a column a class that has one or that a picture raises; logarithmic.

    Returns:
        Height and width of the table, and how many classes have no column.
    """
    lists = [row["distribution"] for row in rows]
    if not all(lists) or len({len(found) for found in lists}) != 1:
        return None, 0
    scores = np.nan_to_num(np.asarray(lists, np.float64))
    if scores.min() < 0 or scores.max() > 1 + 1e-3:
        return None, 0
    shown = scores.max(axis=0) > RAISED
    shown[[row["klass"] for row in rows]] = True
    light = 1 - np.log10(scores[:, shown].clip(FLOOR, 1)) / np.log10(FLOOR)
    folder.write("assets/class-scores.webp", sheets.webp(colours.scale(light), lossless=True)[0])
    return (len(rows), int(shown.sum())), int((~shown).sum())
