"""The two locks of a run: one is held by who writes it, the other by who makes its report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filterscope.analyzer.run import locks
from filterscope.analyzer.run.files import translated_errors
from filterscope.converters.errors import RunError, setting

if TYPE_CHECKING:
    from filelock import BaseFileLock

WRITE_LOCK, REPORT_LOCK = ".lock", ".report.lock"
WRITING = f"another process is writing this run; wait for it, or choose another {setting('out')}"
REPORTING = "another process is making this run's report; wait for it"


@contextlib.contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """Let one process at a time make a run's report; others wait. A folder without locks is not guarded.

    Raises:
        RunError: a file of the run is missing while another process writes the run.
    """
    with contextlib.ExitStack() as stack:
        message = "another process is making this run's report; waiting for it"
        with contextlib.suppress(OSError):  # read only
            stack.enter_context(locks.wait_for_lock(folder / REPORT_LOCK, message))
        try:
            yield
        except RunError as error:
            if is_being_written(folder):
                raise RunError(f"{folder}: another process is writing this run; wait for it") from error
            raise


def is_being_written(folder: Path) -> bool:
    """Whether a living process writes the run."""
    return locks.is_locked(folder / WRITE_LOCK)


def locked_run(folder: Path, name: str = WRITE_LOCK, refusal: str = WRITING) -> BaseFileLock:
    """A lock of the run, held until it is released, at the latest when the process ends.

    Raises:
        RunError: another process holds it, or the folder cannot be written.
    """
    with translated_errors(folder):
        lock = locks.try_lock(folder / name)
    if lock is None:
        raise RunError(f"{folder}: {refusal}")
    return lock
