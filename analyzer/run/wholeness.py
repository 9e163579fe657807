"""Whether files of a run are whole: there, readable, and with every picture that a table names.

Cheap: tables are small and read in full; of a picture, only its size and the checksums of its parts are checked.
Knows tables and PNG; knows nothing of what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL.PngImagePlugin import PngImageFile

from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.rows import StoredPicture
from filterscope.analyzer.run.tables import LATER

BROKEN = (OSError, ValueError, LookupError, SyntaxError, EOFError, TypeError, RecursionError, pa.ArrowException)


def is_whole(folder: Path, relative: str, schema: pa.Schema | None = None) -> bool:
    """Whether a file of a run can be used, with the pictures that belong to it.

    Args:
        folder: of the run.
        relative: path inside it: .parquet, .png or .json; of any other kind it is enough that it is there.
        schema: columns that a table must have, where they are decided.
    """
    path = folder / relative
    try:
        if path.suffix == ".parquet":
            return _is_table(folder, path, schema)
        return path.is_file() and CHECKS.get(path.suffix, lambda _: True)(path)
    except BROKEN:
        return False


def read_whole_table(path: Path) -> pa.Table:
    """A Parquet file, read by this thread alone: Arrow's own threads can abort a process that ends soon after.

    Raises:
        OSError, pyarrow.ArrowException: missing or damaged.
    """
    with path.open("rb") as file:  # by its name, Arrow takes only UTF-8
        return pq.ParquetFile(file, pre_buffer=False).read(use_threads=False)


def in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a schema in its order and types; those that older versions did not write are null.

    Raises:
        KeyError, pyarrow.ArrowException: another column is missing, or of another type.
    """
    for name in LATER & set(schema.names) - set(table.schema.names):
        table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
    return table.select(schema.names).cast(schema)


def is_picture(path: Path, height: int, width: int, bands: int) -> bool:
    """Whether a file is a whole PNG that holds a picture of this size."""
    try:
        _check_tile(picture_size(path), StoredPicture(atlas=str(path), tile=0, height=height, width=width, bands=bands))
    except BROKEN:
        return False
    return True


def picture_size(path: Path) -> tuple[int, int, int]:
    """Height, width and bands of a PNG all parts of which have the right checksum.

    Raises:
        OSError, SyntaxError, ValueError: missing or damaged.
    """
    with PngImageFile(path) as picture:
        size = picture.height, picture.width, len(picture.getbands())
        picture.verify()
    with path.open("rb") as file:  # verify is content with a file that ends before its end is said
        file.seek(-12, 2)
        if file.read()[4:8] != b"IEND":
            raise ValueError("truncated")
    return size


def _is_table(folder: Path, path: Path, schema: pa.Schema | None) -> bool:
    table = read_whole_table(path)
    if schema is not None:
        in_schema(table, schema)
    return all(
        _are_pictures(folder, table, prefix)
        for prefix in ("", "mask_")
        if {f"{prefix}atlas", f"{prefix}tile"} <= set(table.schema.names)
    )


def _are_pictures(folder: Path, table: pa.Table, prefix: str) -> bool:
    """Whether each atlas is whole and holds the tiles that rows of the table name."""
    bands = "bands" if not prefix and "bands" in table.schema.names else None
    names = [f"{prefix}{name}" for name in ("atlas", "tile", "height", "width")] + ([bands] if bands else [])
    rows = table.select(names)
    rows = rows.filter(pc.is_valid(rows[names[0]]))
    kinds = rows.group_by([names[0], *names[2:]], use_threads=False).aggregate([(names[1], "max")])
    sizes: dict[str, tuple[int, int, int]] = {}
    for row in kinds.to_pylist():
        name = str(row[names[0]])
        if name not in sizes:
            sizes[name] = picture_size(folder / name)
        last = StoredPicture(
            atlas=name,
            tile=row[f"{names[1]}_max"],
            height=row[names[2]],
            width=row[names[3]],
            bands=row[bands] if bands else 1,
        )
        _check_tile(sizes[name], last)
    return True


def _check_tile(size: tuple[int, int, int], picture: StoredPicture) -> None:
    """Check that an atlas holds a picture.

    Args:
        size: (height, width, bands) of the atlas.
        picture: in it.

    Raises:
        IndexError: it lies outside the atlas.
        TypeError: the picture has no place.
    """
    if picture.tile is None:
        raise TypeError("a picture without a place")
    sheet = np.broadcast_to(np.uint8(0), size[: 3 if size[2] == 3 else 2])
    height, width, bands = picture.size
    atlas.unpack(sheet, picture.tile, height, width, bands=bands)


def _is_json(path: Path) -> bool:
    return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)


def _is_png(path: Path) -> bool:
    return min(picture_size(path)) > 0


CHECKS: dict[str, Callable[[Any], bool]] = {".json": _is_json, ".png": _is_png}
