"""Matrices of classes as pictures with named axes. Knows names and where they go; knows nothing of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.reports.page import colours, sheets, words
from filterscope.reports.page.folder import Files

NAMED = 50  # rows or columns that are named, at most
LONGEST = 22  # characters of a name

Ticks = tuple[tuple[float, str], ...]  # middle of a row or column, and its name


@dataclass(frozen=True, slots=True)
class Matrix:
    """A picture with a pixel a cell, and the names of its rows and columns."""

    file: str
    rows: int
    columns: int
    down: Ticks  # names of rows
    across: Ticks  # names of columns
    font: float  # size of the names, in rows


def write(folder: Files, name: str, shares: np.ndarray, *, down: Sequence[str], across: Sequence[str]) -> Matrix:
    """Write a matrix as a picture.

    Args:
        folder: of the site.
        name: of the file, without its ending.
        shares: (rows, columns) from 0 (dark) to 1 (light).
        down: names of the rows.
        across: names of the columns.
    """
    folder.write(f"assets/{name}.webp", sheets.webp(colours.scale(shares), lossless=True)[0])
    step = max(-(-max(shares.shape) // NAMED), 1)
    return Matrix(
        file=f"assets/{name}.webp",
        rows=shares.shape[0],
        columns=shares.shape[1],
        down=_ticks(down, step),
        across=_ticks(across, step),
        font=round(0.8 * step, 3),
    )


def _ticks(names: Sequence[str], step: int) -> Ticks:
    return tuple((place + 0.5, words.shortened(names[place], LONGEST)) for place in range(0, len(names), step))
