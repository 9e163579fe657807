"""The page of the classes: the image that raises each score, and the network's scores for it.

Knows the run's reader and sheets; templates hold the markup.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.rows import ClassRow, rows_of
from filterscope.reports.page import sheets, words
from filterscope.reports.page.folder import Files
from filterscope.reports.page.units import finite
from filterscope.reports.site import matrices, pictures
from filterscope.reports.site.matrices import Matrix

SIDE = 192  # pixels, of a class's picture: larger ones are reduced
MOST_CELLS = 30  # classes across up to which the matrix is a table with a number in each cell
STEPS = (0.01, 0.1, 0.3, 0.6)  # probabilities where the colour of a cell steps
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
class Cell:
    """The probability of a class on a picture."""

    text: str
    tone: str  # style class: which colour, from 1 to 5; empty where there is next to nothing


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """The probabilities of the classes on the picture of one."""

    klass: int
    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class ClassPage:
    """All classes of a run, their pictures written."""

    tiles: tuple[ClassTile, ...]
    wins: int  # classes whose picture the network answers with that class
    columns: tuple[tuple[int, str], ...]  # number and name of the classes across
    cells: tuple[MatrixRow, ...]  # empty where there are too many classes, or no probabilities
    matrix: Matrix | None  # the same as a picture, where there are many
    left_out: int  # classes without a column: no picture is theirs, and none raises them
    not_pictured: int  # classes of the network without a picture in the run


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
    scores, columns = _probabilities(rows)
    is_small = len(columns) <= MOST_CELLS
    named = tuple((klass, names.get(klass, f"class {klass}")) for klass in columns)
    return ClassPage(
        tiles=tuple(tiles_shown),
        wins=sum(row.rank == 0 for row in rows),
        columns=named,
        cells=_cells(rows, scores, columns, names=names) if is_small and columns else (),
        matrix=None if is_small else _matrix(folder, rows, scores, names=named),
        left_out=scores.shape[1] - len(columns),
        not_pictured=max(len(run.info.labels), scores.shape[1], len(rows)) - len(rows),
    )


def _rivals(row: ClassRow, names: dict[int, str]) -> tuple[tuple[str, float], ...]:
    scores = np.asarray(row.distribution or [], np.float64)
    order = [int(i) for i in np.argsort(-scores, kind="stable")[:4] if i != row.klass]
    return tuple((names.get(i, f"class {i}"), float(scores[i])) for i in order[:3] if finite(scores[i]))


def _probabilities(rows: list[ClassRow]) -> tuple[np.ndarray, list[int]]:
    """The probability of every class on every picture, (pictures, classes), and the classes that have a column.

    Those are the classes that have a picture and those that a picture raises. Both are empty where not every picture
    has probabilities.
    """
    lists = [row.distribution or [] for row in rows]
    nothing: tuple[np.ndarray, list[int]] = np.zeros((len(rows), 0)), []
    if not all(lists) or len({len(scores) for scores in lists}) != 1:
        return nothing
    scores = np.nan_to_num(np.asarray(lists, np.float64))
    if scores.min() < 0 or scores.max() > 1 + 1e-3:
        return nothing
    shown = scores.max(axis=0) > RAISED
    shown[[row.klass for row in rows]] = True
    return scores, np.flatnonzero(shown).tolist()


def _cells(
    rows: list[ClassRow], scores: np.ndarray, columns: list[int], names: dict[int, str]
) -> tuple[MatrixRow, ...]:
    """The matrix as a table: a row a picture, a column a class."""
    return tuple(
        MatrixRow(
            row.klass,
            names.get(row.klass, f"class {row.klass}"),
            tuple(_cell(float(own[klass]), is_own=klass == row.klass) for klass in columns),
        )
        for row, own in zip(rows, scores, strict=True)
    )


def _cell(probability: float, *, is_own: bool) -> Cell:
    if probability < RAISED:
        return Cell("", "")
    step = 1 + sum(probability >= limit for limit in STEPS)
    return Cell(words.percent(probability), f"{'right' if is_own else 'wrong'}-{step}")


def _matrix(folder: Files, rows: list[ClassRow], scores: np.ndarray, names: tuple[tuple[int, str], ...]) -> Matrix:
    """The matrix as a picture; logarithmic."""
    light = 1 - np.log10(scores[:, [klass for klass, _ in names]].clip(FLOOR, 1)) / np.log10(FLOOR)
    of_class = dict(names)
    down = [of_class[row.klass] for row in rows]
    return matrices.write(folder, "class-scores", light, down=down, across=[name for _, name in names])
