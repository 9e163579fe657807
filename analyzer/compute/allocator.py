"""Memory that has been freed stays with the process, for the next step to use.

glibc gives large blocks back to the system at once, and every step of an ascent asks for the same ones again, which
then come page by page, emptied: a seventh of a step's time on two processors. One arena for all threads keeps the peak
no higher than it was. Elsewhere than on glibc nothing is changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from functools import cache

# mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX, and what they are set to.
OPTIONS = ((-3, 1 << 30), (-1, (1 << 31) - 1), (-8, 1))


@cache
def keep_freed_memory() -> None:
    """Tell glibc, once a process; to be called before threads begin, which otherwise get arenas of their own."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        for option, value in OPTIONS:
            library.mallopt(option, value)
