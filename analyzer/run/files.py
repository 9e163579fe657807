"""Reading a run's files, each whole or refused by name."""

from __future__ import annotations

import contextlib
import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from filterscope.analyzer.run.layout import SCHEMA, SLUG
from filterscope.analyzer.run.tables import UNIT_SCHEMA
from filterscope.analyzer.run.wholeness import read_whole_table
from filterscope.converters.errors import RunError


def gather_units(folder: Path) -> pa.Table:
    """The union of the finished tasks' tables, in network order, then kind, then channel."""
    order = {}
    if (folder / "layers.json").is_file():
        order = {layer["name"]: layer["index"] for layer in read_layers(folder)}
    tables = [read_table(path, UNIT_SCHEMA) for path in sorted((folder / "tasks").glob("*/*.parquet"))]
    if not tables:
        return UNIT_SCHEMA.empty_table()
    table = pa.concat_tables(tables)
    position = pa.array([order.get(name, len(order)) for name in table["layer"].to_pylist()], pa.int32())
    keyed = table.append_column("_position", position)
    by = [(key, "ascending") for key in ("_position", "objective", "method", "channel")]
    return keyed.sort_by(by).drop_columns("_position")


def is_run(folder: Path) -> bool:
    try:
        return (folder / "run.json").is_file()
    except OSError:  # a name that no file can have
        return False


def read_info(folder: Path) -> dict[str, Any]:
    return read_json(folder / "run.json", f"remove the run with `filterscope clean {folder}`")


def read_layers(folder: Path) -> list[dict[str, Any]]:
    path = folder / "layers.json"
    layers = read_json(path).get("layers")
    try:
        if all(re.fullmatch(SLUG, layer["slug"]) for layer in layers or ()):  # slugs become paths
            return list(layers or ())
    except (TypeError, KeyError):
        pass
    raise RunError(f"{path}: damaged; delete it and run the same command again")


def read_json(path: Path, remedy: str = "delete it and run the same command again") -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content.get("schema", SCHEMA)
        newer = schema > SCHEMA
    except (OSError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise RunError(f"{path}: missing or damaged; {remedy}") from error
    if newer:
        raise RunError(
            f"{path}: written by a newer filterscope (format {schema}, this one reads up to {SCHEMA}); "
            "update filterscope"
        )
    return dict(content)


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        return read_whole_table(path).select(schema.names).cast(schema)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise RunError(f"{path}: damaged; delete it and run the same command again") from error


def remedy_of(relative: str) -> str:
    """What makes a picture of the run again: it belongs to a table or to facts, without which it counts as missing."""
    if relative.startswith("images/"):
        return "delete it and its .json and run the same command again"
    return "delete it and its .parquet and run the same command again"


@contextlib.contextmanager
def translated_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"{folder}: the disk is full; free some space and run the same command again, finished tasks are kept"
            ) from error
        raise RunError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error
