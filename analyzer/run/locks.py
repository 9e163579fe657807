"""Locks on files: one process at a time, and the operating system lets go of a lock with the process that holds it.

The library `filelock` does the work; it is imported with the first lock, for it takes as long as all the rest. Where a
file system has no locks, nothing is guarded. Knows files; knows nothing of what a lock is for.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

PATIENCE = 0.1  # seconds between two looks at a lock
LONG = 5.0  # seconds after which it is looked whether the file can be there at all
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what file systems without locks answer


def try_lock(path: Path) -> BaseFileLock | None:
    """A file of this name, made where it is missing and locked until `release()`; None where another holds it.

    Raises:
        OSError: it cannot be written.
    """
    # The file may be removed between its opening and its lock: a second look finds the new one.
    return _acquired(path, timeout=0) or _acquired(path, timeout=0)


@contextlib.contextmanager
def wait_for_lock(path: Path, message: str) -> Iterator[None]:
    """Hold a lock; where another process has it, warn with a message and wait until it is done.

    Raises:
        OSError: the file cannot be written.
    """
    lock = try_lock(path)
    if lock is None:
        logging.getLogger("filterscope").warning(message)
        while lock is None:
            lock = _acquired(path, timeout=LONG)
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock; the file is not made."""
    try:
        lock = try_lock(path) if path.is_file() else None
    except OSError:
        return False
    if lock is None:
        return path.is_file()
    lock.release()
    return False


def _acquired(path: Path, timeout: float) -> BaseFileLock | None:
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False, preserve_lock_file=True, poll_interval=PATIENCE)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        path.touch()  # where no file can be made, /proc among others, filelock would wait for ever
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return lock
