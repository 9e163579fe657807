"""The two locks of a run: one is held by who writes it, the other by who makes its report."""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from filterscope.analyzer.run import locks
from filterscope.analyzer.run.files import translated_errors
from filterscope.converters.errors import RunError

WRITING = "another process is writing this run; wait for it, or choose another --out"
REPORTING = "another process is making this run's report; wait for it"
PATIENCE = 0.2  # seconds between two looks at a lock


@contextlib.contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """The one process that makes a run's report; others wait for it. A folder that takes no lock is not guarded.

    Raises:
        RunError: a file of the run is missing while another process writes the run.
    """
    lock = _waited_for(folder, ".report.lock")
    try:
        yield
    except RunError as error:
        if is_being_written(folder):
            raise RunError(f"{folder}: another process is writing this run; wait for it") from error
        raise
    finally:
        if lock is not None:
            lock.close()


def is_being_written(folder: Path) -> bool:
    """Whether a living process writes the run."""
    try:
        with (folder / ".lock").open("r+") as file:
            return not locks.lock(file)
    except OSError:
        return False


def _waited_for(folder: Path, name: str) -> io.TextIOWrapper | None:
    is_told = False
    while True:
        try:
            file = locks.try_lock(folder / name)
        except OSError:  # read only
            return None
        if file is not None:
            return file
        if not is_told:
            logging.getLogger("filterscope").warning("another process is making this run's report; waiting for it")
            is_told = True
        time.sleep(PATIENCE)
        if not folder.is_dir():
            return None


def locked_run(folder: Path, name: str = ".lock", refusal: str = WRITING) -> io.TextIOWrapper:
    """A lock of the run, held as long as the file is open; the operating system lets it go with the process."""
    while True:
        with translated_errors(folder):
            file = (folder / name).open("a")
        if not locks.lock(file):
            file.close()
            raise RunError(f"{folder}: {refusal}")
        if locks.is_still(file, folder / name):
            return file
        file.close()
