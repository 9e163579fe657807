"""A folder that appears whole: written beside its place, put there when everything is in it.

Knows files; knows nothing of runs or pages.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from converters.errors import RunError


class Files:
    """Where the files of a site go; by default they are kept in memory.

    Not a thing of the disk: a single page takes its parts from here.
    """

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def write(self, relative: str, content: bytes) -> None:
        """Write a file."""
        self.kept[relative] = content

    def write_lines(self, relative: str, lines: Iterable[str]) -> None:
        """Write lines of text."""
        self.write(relative, "".join(f"{line}\n" for line in lines).encode())

    def write_json(self, relative: str, value: Any) -> None:
        """Write JSON; numbers that JSON lacks are null."""
        self.write(relative, as_json(value))


class NewFolder(Files):
    """Write files into it inside a `with` block; at its end the folder takes the place of an older one.

    Where the block or a write fails, the older folder stays as it was.

    Args:
        place: where the folder shall be.
        mark: a file that every such folder has: a folder without it is somebody else's and is not replaced.

    Raises:
        RunError: the place holds something else, or cannot be written.
    """

    def __init__(self, place: Path, mark: str) -> None:
        super().__init__()
        self.place = place
        self._beside = place.with_name(f".{place.name}.part")
        if place.exists() and not (place / mark).is_file() and (not place.is_dir() or any(place.iterdir())):
            raise RunError(f"{place}: holds something else, which would be lost; choose another folder")

    def __enter__(self) -> NewFolder:
        shutil.rmtree(self._beside, ignore_errors=True)  # left by a process that was killed
        try:
            self._beside.mkdir(parents=True)
        except OSError as error:
            raise self._translated(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._swap()
        except OSError as failure:
            raise self._translated(failure) from failure
        finally:
            shutil.rmtree(self._beside, ignore_errors=True)
        if isinstance(error, OSError):
            raise self._translated(error) from error

    def path(self, relative: str) -> Path:
        """Where a file of the folder is to be written; its parent exists."""
        path = self._beside / relative
        path.parent.mkdir(exist_ok=True)
        return path

    def write(self, relative: str, content: bytes) -> None:
        """Write a file."""
        self.path(relative).write_bytes(content)

    def _swap(self) -> None:
        old = self.place.with_name(f".{self.place.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.place.exists():
            self.place.rename(old)
        try:
            self._beside.rename(self.place)
        except OSError:
            if old.exists():
                old.rename(self.place)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _translated(self, error: OSError) -> RunError:
        return RunError(f"{self.place}: cannot be written ({error.strerror}); free some space or choose another folder")


def as_json(value: Any) -> bytes:
    """Compact JSON; numbers that JSON lacks are null."""
    text = json.dumps(_without_nan(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
