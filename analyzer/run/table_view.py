"""A table that shows itself: the first rows in a terminal and in a notebook, without pandas.

It passes everything else on to the pyarrow table. Knows tables; knows nothing of runs.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import Any

import pyarrow as pa

from filterscope.converters.errors import SettingsError
from filterscope.converters.plain_text import visible

SHOWN_ROWS = 10
WIDTH = 120  # characters of a line in a terminal
NARROW = 24  # characters of a cell


class TableView:
    """A pyarrow table that shows its first rows.

    Args:
        table: any; `view.table` is this table, and all other attributes of the view are the table's.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def to_pandas(self, **options: Any) -> Any:
        """The table as a pandas.DataFrame.

        Raises:
            SettingsError: pandas is not installed.
        """
        try:
            import_module("pandas")
        except ImportError as error:
            raise SettingsError("to_pandas: pandas is not installed; install it with: pip install pandas") from error
        return self.table.to_pandas(**options)

    def __getattr__(self, name: str) -> Any:
        if name == "table":  # a copy under way has none yet
            raise AttributeError(name)
        return getattr(self.table, name)

    def __getitem__(self, key: Any) -> Any:
        return self.table[key]

    def __len__(self) -> int:
        return len(self.table)

    def equals(self, other: TableView | pa.Table) -> bool:
        """Whether another table holds the same."""
        return bool(self.table.equals(other.table if isinstance(other, TableView) else other))

    def __repr__(self) -> str:
        titles, rows = self._cells()
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (titles, *rows)
        ]
        shown = [line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines]
        names = textwrap.wrap(f"columns: {', '.join(titles)}", WIDTH) if shown != lines else []
        return "\n".join([*shown, *names, self._size()])

    def _repr_html_(self) -> str:
        titles, rows = self._cells()
        head = "".join(f"<th>{escape(title)}</th>" for title in titles)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><tr>{head}</tr>{body}</table><p>{self._size()}</p>"

    def _size(self) -> str:
        return f"{len(self.table):,} rows, {len(self.table.column_names)} columns"

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """The titles, and the first rows as text."""
        titles: Sequence[str] = self.table.column_names
        rows = self.table.slice(0, SHOWN_ROWS).to_pylist()
        return list(titles), [[_text(row[title]) for title in titles] for row in rows]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    text = visible(f"{value:.4g}" if isinstance(value, float) else str(value))
    return text if len(text) <= NARROW else f"{text[: NARROW - 1]}…"
