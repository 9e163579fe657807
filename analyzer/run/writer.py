"""Writing a run: one process, whole files, a lock."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.differences import first_difference
from filterscope.analyzer.run.files import (
    gather_units,
    is_run,
    read_info,
    read_json,
    translated_errors,
)
from filterscope.analyzer.run.layout import LOCKS, OWN_FILES, OWN_FOLDERS, SCHEMA, TaskKey
from filterscope.analyzer.run.run_locks import REPORT_LOCK, REPORTING, locked_run
from filterscope.analyzer.run.tables import UNIT_SCHEMA
from filterscope.analyzer.run.wholeness import is_whole
from filterscope.converters.errors import RunError, setting

if TYPE_CHECKING:
    from filelock import BaseFileLock


class RunWriter:
    """The one process that writes a run. Use as a context manager: the lock is held inside it.

    Args:
        folder: made where it is missing; an existing folder must be an unfinished or finished run of the same plan.
        plan: hash of everything that decides the results.
        info: of the run as run.json will say it, to name what differs from a run that is there.

    Raises:
        RunError: the folder cannot be written, is no run, belongs to another plan, or another process writes it.
    """

    def __init__(self, folder: Path, plan: str, info: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.plan = plan
        self._info = info or {}
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> RunWriter:
        refuse_foreign(self.folder)
        with translated_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        lock = locked_run(self.folder)
        try:
            self._refuse_other_plan()
        except RunError:
            lock.release()
            raise
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.release()

    def _refuse_other_plan(self) -> None:
        if not is_run(self.folder):
            return
        before = read_info(self.folder)
        if before.get("plan") != self.plan:
            difference = first_difference(before, self._info)
            raise RunError(
                f"{self.folder}: holds a run with other settings, other images or another model{difference}; "
                f"choose another {setting('out')}, or remove it with `filterscope clean {self.folder}`"
            )

    def done(self, key: TaskKey) -> bool:
        """Whether the task's table is there and whole, with its pictures."""
        return self.has_whole(f"{key.stem}.parquet", UNIT_SCHEMA)

    def has(self, relative: str) -> bool:
        """Whether a file of the run is there."""
        return (self.folder / relative).is_file()

    def has_whole(self, relative: str, schema: pa.Schema | None = None) -> bool:
        """Whether a file of the run is there and can be used, with the pictures that it names."""
        return is_whole(self.folder, relative, schema)

    def holds_bytes(self, relative: str, content: bytes) -> bool:
        """Whether a file of the run holds just this."""
        try:
            return (self.folder / relative).read_bytes() == content
        except OSError:
            return False

    def files_of(self, study: str) -> list[str]:
        """Names of the tables and pictures in a study's folder."""
        names = sorted(path.name for path in (self.folder / study).glob("*"))
        own = (name for name in names if OWN_FILES.fullmatch(f"{study}/{name}"))
        return [name for name in own if name.endswith((".parquet", ".png"))]

    def write_task(self, key: TaskKey, rows: Sequence[dict[str, Any]], tiles: np.ndarray | None) -> None:
        """Save what a task found: pictures first, the table last, so that a table means a finished task.

        Args:
            key: the task.
            rows: one a unit, fields of UNIT_SCHEMA but for atlas and tile, which are filled in here.
            tiles: (len(rows), H, W, C) uint8, or None where the task has no pictures.
        """
        located = [dict(row) for row in rows]
        if tiles is not None:
            self.write_bytes(f"{key.stem}.png", atlas.to_png(atlas.pack(tiles)))
            for index, row in enumerate(located):
                row |= {
                    "atlas": f"{key.stem}.png",
                    "tile": index,
                    "height": tiles.shape[1],
                    "width": tiles.shape[2],
                    "bands": tiles.shape[3],
                }
        self.write_table(f"{key.stem}.parquet", pa.Table.from_pylist(located, UNIT_SCHEMA))

    def write_table(self, relative: str, table: pa.Table) -> None:
        """Write a Parquet table in one step."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self.write_bytes(relative, buffer.getvalue())

    def write_json(self, relative: str, value: Any) -> None:
        """Write JSON in one step; NaN is refused, since JSON has none."""
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
        self.write_bytes(relative, text.encode("utf-8", "backslashreplace"))

    def write_bytes(self, relative: str, content: bytes) -> None:
        """Write a file beside its place, flush it, rename it: it is whole, or it is not there.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        path = self.folder / relative
        beside = path.with_name(f".{path.name}.part")
        with translated_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with beside.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            except BaseException:  # an interrupt too
                beside.unlink(missing_ok=True)
                raise

    def read_json(self, relative: str) -> dict[str, Any]:
        """A JSON file of the run.

        Raises:
            RunError: missing, damaged, or of a newer schema.
        """
        return read_json(self.folder / relative)

    def read_json_if_whole(self, relative: str) -> dict[str, Any] | None:
        """A JSON file of the run; None where it is missing or damaged.

        Raises:
            RunError: of a newer schema.
        """
        return self.read_json(relative) if self.has_whole(relative) else None

    def remove_file(self, relative: str) -> None:
        """Delete one of the run's files, where it is there."""
        with translated_errors(self.folder):
            (self.folder / relative).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        """Delete the run's own files in a folder: of a study, or of a layer's first pictures."""
        with translated_errors(self.folder):
            for path in sorted((self.folder / name).glob("*"), key=lambda path: path.name != "study.json"):
                if OWN_FILES.fullmatch(f"{name}/{path.name}"):
                    path.unlink()

    def remove_first(self) -> None:
        """Delete the first pictures, all of which have been replaced."""
        with translated_errors(self.folder):
            for folder in sorted((self.folder / "first").glob("*")):
                self.remove_folder(f"first/{folder.name}")
                with contextlib.suppress(OSError):  # somebody else's files are in it: they stay
                    folder.rmdir()
            with contextlib.suppress(OSError):
                (self.folder / "first").rmdir()

    def write_info(self, info: dict[str, Any]) -> None:
        """Write run.json; `schema` and `plan` are added."""
        self.write_json("run.json", {"schema": SCHEMA, "plan": self.plan} | info)

    def write_units(self) -> pa.Table:
        """Gather the tasks' tables into units.parquet and return it."""
        table = gather_units(self.folder)
        self.write_table("units.parquet", table)
        return table


def remove(folder: Path) -> None:
    """Delete a run's own files, and the folder when nothing else is in it.

    Raises:
        RunError: the folder is no run, another process is writing it, or a file cannot be deleted.
    """
    if not is_run(folder):
        raise RunError(f"{folder}: is not a run of filterscope (it has no run.json); nothing was removed")
    with locked_run(folder), locked_run(folder, REPORT_LOCK, REPORTING), translated_errors(folder):
        for root, _, names in os.walk(folder, topdown=False):  # run.json is in the last of them; links are not followed
            inner = Path(root).relative_to(folder)
            for name in sorted(names, key="run.json".__eq__):
                plain = name[1:-5] if name.startswith(".") and name.endswith(".part") else name
                if OWN_FILES.fullmatch((inner / plain).as_posix()):
                    Path(root, name).unlink()
            if OWN_FOLDERS.fullmatch(inner.as_posix()):
                with contextlib.suppress(OSError):  # somebody else's files are in it: they stay
                    Path(root).rmdir()
        for name in reversed(LOCKS):  # while they are held: who waits for one sees that it is gone
            with contextlib.suppress(OSError):
                (folder / name).unlink()
    with contextlib.suppress(OSError):
        for name in LOCKS:  # where an open file cannot be removed
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def refuse_foreign(folder: Path) -> None:
    """Check that a run may be written into a folder, as far as that is known without writing.

    Raises:
        RunError: it is a file, cannot be looked at, or holds something else.
    """
    with translated_errors(folder):
        if folder.is_file():
            raise RunError(f"{folder}: is a file; {setting('out')} names a folder")
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise RunError(f"{folder}: cannot be written below {nearest}; choose another {setting('out')}")
        own = (*LOCKS, ".run.json.part")  # of a run that died at once
        if nearest == folder and not is_run(folder) and any(path.name not in own for path in folder.iterdir()):
            raise RunError(f"{folder}: is not empty and not a run; choose another {setting('out')}")
