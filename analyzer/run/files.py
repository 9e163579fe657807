"""Reading a run's files, each whole or refused by name."""

from __future__ import annotations

import contextlib
import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from filterscope.analyzer.run.layout import SCHEMA, SLUG
from filterscope.analyzer.run.records import GraphInfo, LayerInfo, Record, RunInfo
from filterscope.analyzer.run.tables import UNIT_SCHEMA
from filterscope.analyzer.run.wholeness import in_schema, read_whole_table
from filterscope.converters.errors import RunError, setting

AGAIN = "analyse again into the same folder, which mends it"  # any file but run.json

UNIT = ("layer", "channel", "objective", "method")  # columns that name a picture

AnyRecord = TypeVar("AnyRecord", bound=Record)


def gather_units(folder: Path) -> pa.Table:
    """The union of the finished tasks' tables, in network order, then kind, then channel.

    A unit's first picture stands there until its final one is done.
    """
    order = {}
    if (folder / "layers.json").is_file():
        order = {layer.name: layer.position for layer in read_layers(folder)}
    table = _gathered(folder / "tasks", is_first=False)
    first = _gathered(folder / "first", is_first=True)
    if len(first):
        final = set(zip(*(table[name].to_pylist() for name in UNIT), strict=True))
        remaining = [key not in final for key in zip(*(first[name].to_pylist() for name in UNIT), strict=True)]
        table = pa.concat_tables([table, first.filter(pa.array(remaining, pa.bool_()))])
    position = pa.array([order.get(name, len(order)) for name in table["layer"].to_pylist()], pa.int32())
    keyed = table.append_column("_position", position)
    by = [(key, "ascending") for key in ("_position", "objective", "method", "channel")]
    return keyed.sort_by(by).drop_columns("_position")


def _gathered(folder: Path, *, is_first: bool) -> pa.Table:
    """The tables of the tasks in a folder as one; which pictures are first ones, their folder says."""
    tables = [read_table(path, UNIT_SCHEMA) for path in sorted(folder.glob("*/*.parquet"))]
    table = pa.concat_tables(tables) if tables else UNIT_SCHEMA.empty_table()
    place = UNIT_SCHEMA.get_field_index("is_first")
    return table.set_column(place, UNIT_SCHEMA.field(place), pa.array([is_first] * len(table), pa.bool_()))


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    try:
        return (folder / "run.json").is_file()
    except OSError:  # a name that no file can have
        return False


def read_info(folder: Path) -> RunInfo:
    """Read run.json.

    Raises:
        RunError: it is missing, damaged, or of a newer schema.
    """
    return read_record(folder / "run.json", RunInfo, f"remove the run with `filterscope clean {folder}`")


def read_layers(folder: Path) -> list[LayerInfo]:
    """Read layers.json, in graph order.

    Raises:
        RunError: it is missing, damaged, of a newer schema, or names a layer's files as no file of a run is named.
    """
    path = folder / "layers.json"
    layers = read_json(path).get("layers")
    if not isinstance(layers, list | None):
        raise RunError(f"{path}: damaged; {AGAIN}")
    infos = [_as_record(path, layer, LayerInfo, AGAIN) for layer in layers or ()]
    if not all(isinstance(info.slug, str) and re.fullmatch(SLUG, info.slug) for info in infos):  # slugs become paths
        raise RunError(f"{path}: damaged; {AGAIN}")
    return infos


def read_graph(path: Path) -> GraphInfo:
    """Read graph.json.

    Raises:
        RunError: it is damaged, of a newer schema, or an entry is fed by one that does not stand before it.
    """
    graph = read_record(path, GraphInfo)
    for place, entry in enumerate(graph.entries):
        if not all(isinstance(source, int) and 0 <= source < place for source in entry.sources):
            raise RunError(f"{path}: damaged; {AGAIN}")
    return graph


def read_record(path: Path, kind: type[AnyRecord], remedy: str = AGAIN) -> AnyRecord:
    """A JSON file of a run as an object of its class.

    Raises:
        RunError: it is missing, damaged, or of a newer schema.
    """
    return _as_record(path, read_json(path, remedy), kind, remedy)


def _as_record(path: Path, content: Any, kind: type[AnyRecord], remedy: str) -> AnyRecord:
    try:
        return kind.read(content)
    except (AttributeError, TypeError, ValueError) as error:
        raise RunError(f"{path}: missing or damaged; {remedy}") from error


def read_json(path: Path, remedy: str = AGAIN) -> dict[str, Any]:
    """A JSON file of a run, which holds one object.

    Raises:
        RunError: it is missing, damaged, or of a newer schema.
    """
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
    """A Parquet file of a run.

    Raises:
        RunError: it is missing, damaged, or lacks a column of the schema.
    """
    try:
        return in_schema(read_whole_table(path), schema)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise RunError(f"{path}: {'damaged' if path.exists() else 'missing'}; {AGAIN}") from error


@contextlib.contextmanager
def translated_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system refuses in a run's folder into one line.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"{folder}: the disk is full; free some space and run the same command again, finished tasks are kept"
            ) from error
        raise RunError(f"{folder}: cannot be written ({error.strerror}); choose another {setting('out')}") from error
