"""Tables of a made-up run, written again with other values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def change_rows(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    """Write a table again, each row with what `change` says of it, and return the rows."""
    table = pq.read_table(path)
    rows = [row | change(row) for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    return rows


def change_columns(path: Path, **values: Callable[[dict[str, Any]], Any]) -> None:
    """Write a table again with other values in some columns: a function of the row for each."""
    change_rows(path, lambda row: {name: value(row) for name, value in values.items()})
