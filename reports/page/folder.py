"""Write a folder or a file whole: beside its place first, then moved there once complete.

Knows files; knows nothing of runs or pages.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from filterscope.analyzer.run import locks
from filterscope.converters.errors import RunError
from filterscope.converters.plain_text import escaped_json


class Files:
    """The files of a site, held in memory, as a report in one file needs them."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def write(self, relative: str, content: bytes) -> None:
        """Write a file."""
        self.contents[relative] = content

    def write_lines(self, relative: str, lines: Iterable[str]) -> None:
        """Write lines of text."""
        self.write(relative, "".join(f"{line}\n" for line in lines).encode())

    def write_json(self, relative: str, value: Any) -> None:
        """Write JSON; numbers that JSON lacks are null."""
        self.write(relative, as_json(value))


class NewFolder(Files):
    """A folder that is filled inside a `with` block and then replaces an older one.

    If the block or a write fails, the older folder stays as it was. Entering the block waits for another process that
    writes the same place.

    Args:
        place: where the folder shall be.
        mark: a file that every such folder has: a folder without it, or a page of ours, is somebody else's and is not
            replaced.
        own: whether nothing else may lie in this place, as inside a run: then what lies there is replaced.

    Raises:
        RunError: the place holds something else, or cannot be written.
    """

    def __init__(self, place: Path, mark: str, *, own: bool = False) -> None:
        super().__init__()
        self.place = place
        self._real = place.resolve()  # a link stays, and what it leads to is replaced
        if not self._real.name:
            raise RunError(f"{place}: is no place for a folder of its own; name another")
        self._mark, self._own = mark, own
        self._beside = self._real.with_name(f".{self._real.name}.part")
        self._old = self._real.with_name(f".{self._real.name}.old")
        self._turn = contextlib.ExitStack()
        self._refuse_foreign()

    def _refuse_foreign(self) -> None:
        place = self._real
        if not place.exists() or (place / self._mark).is_file():
            return
        if not place.is_dir() or not (self._own or not any(place.iterdir()) or _has_our_page(place)):
            raise RunError(f"{self.place}: holds something else, which would be lost; choose another folder")

    def __enter__(self) -> NewFolder:
        try:
            self._real.parent.mkdir(parents=True, exist_ok=True)
            self._turn.enter_context(turn(self._real))
        except OSError as error:
            raise self._translated(error) from error
        try:
            if not self._real.exists() and (self._old / self._mark).is_file():  # killed between two renames
                self._old.rename(self._real)
            self._refuse_foreign()  # it may be another's by now
            shutil.rmtree(self._beside, ignore_errors=True)  # left by a process that was killed
            self._beside.mkdir()
        except BaseException as error:
            self._turn.close()
            if isinstance(error, OSError):
                raise self._translated(error) from error
            raise
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
            self._turn.close()
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
        """Put the new folder in its place: in one step where the system can, so that no moment has neither."""
        shutil.rmtree(self._old, ignore_errors=True)
        if self._real.exists():
            if exchange(self._beside, self._real):
                return
            self._real.rename(self._old)
        try:
            self._beside.rename(self._real)
        except OSError:
            if self._old.exists():
                self._old.rename(self._real)
            raise
        shutil.rmtree(self._old, ignore_errors=True)

    def _translated(self, error: OSError) -> RunError:
        return _cannot_be_written(self.place, error, "folder")


@contextlib.contextmanager
def turn(place: Path) -> Iterator[None]:
    """Let one process at a time write a place; others wait. Meanwhile the file `.NAME.lock` is beside it.

    Args:
        place: a file or folder, which need not exist; its parent does.

    Raises:
        OSError: the lock cannot be written.
    """
    path = place.with_name(f".{place.name}.lock")
    with locks.wait_for_lock(path, f"{place}: another process is writing it; waiting for it"):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps a file that is open
                path.unlink()


def write_whole(file: Path, content: bytes) -> None:
    """Write a file beside its place, then move it there; wait for another process that writes it.

    Raises:
        RunError: it cannot be written.
    """
    real = file.resolve()
    try:
        if real.exists() and not real.is_file():  # a pipe, a terminal
            real.write_bytes(content)
            return
        with turn(real):
            beside = real.with_name(f".{real.name}.part")
            try:
                beside.write_bytes(content)
                beside.replace(real)
            finally:
                beside.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_be_written(file, error, "file") from error


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an old C library
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of renameat2(2)
    return bool(rename(*(here, os.fsencode(one)), *(here, os.fsencode(other)), swap) == 0)


def _has_our_page(folder: Path) -> bool:
    """Whether a page in it was made by filterscope, as its head says."""
    for path in folder.glob("*.html"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if b'name="generator" content="filterscope' in file.read(2000):
                return True
    return False


def _cannot_be_written(place: Path, error: OSError, what: str) -> RunError:
    return RunError(f"{place}: cannot be written ({error.strerror}); free some space or choose another {what}")


def as_json(value: Any) -> bytes:
    """Compact JSON; numbers that JSON lacks are null, invisible characters are escapes."""
    text = json.dumps(_without_nan(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return escaped_json(text).encode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
