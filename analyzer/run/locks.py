"""Locks of the operating system on files: they let go with the process that holds them.

Knows files; knows nothing of what a lock is for.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path


def try_lock(path: Path) -> io.TextIOWrapper | None:
    """A file of this name, made where it is missing and locked as long as it is open.

    Returns:
        None where another process has it, or has just removed it: the lock would be on a file that nobody finds.

    Raises:
        OSError: it cannot be written.
    """
    file = path.open("a")
    if lock(file) and is_still(file, path):
        return file
    file.close()
    return None


def is_still(file: io.TextIOWrapper, path: Path) -> bool:
    """Whether an open file is still the one of its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    def lock(file: io.TextIOWrapper) -> bool:
        """Lock an open file; False where another process has it."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def lock(file: io.TextIOWrapper) -> bool:
        """Lock an open file; False where another process has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # some file systems have no locks
            return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
        return True
