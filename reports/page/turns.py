"""One process at a time at one place: the second waits until the first is done.

Knows files and locks of the operating system, which let go with the process; knows nothing of what is written.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
from pathlib import Path
from types import TracebackType

from filterscope.analyzer.run.locks import try_lock

EVERY = 0.1  # seconds between two looks


class Turn:
    """Holds a place inside a `with` block. A file `.NAME.lock` stands beside it meanwhile.

    Args:
        place: a file or folder, which need not exist; its parent does.

    Raises:
        OSError: the lock cannot be written.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._path = place.with_name(f".{place.name}.lock")
        self._file: io.TextIOWrapper | None = None

    def __enter__(self) -> Turn:
        self._file = try_lock(self._path)
        if self._file is None:
            logging.getLogger("filterscope").warning(f"{self.place}: another process is writing it; waiting for it")
        while self._file is None:
            time.sleep(EVERY)
            self._file = try_lock(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            self._path.unlink()
        if self._file is not None:
            self._file.close()
