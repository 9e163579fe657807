"""How much memory and time the opening of a model may take.

An honest file costs in proportion to its size, so the limits grow with it; what makes much of few bytes is stopped.
Knows the system's resource limits; knows nothing of models.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from filterscope.converters.errors import SettingsError, setting
from filterscope.converters.memory import physical_memory

# An 8-bit MobileNetV2 of 3.6 MB, the costliest for its size of the real networks at hand, takes 4.3 s and 1.1 GB of
# address space on an idle machine; a busy one counts up to three times as much for the same work. The proof holds
# pieces of 128 MiB of values, whatever the size of the file.
LEAST_MEMORY = 1536 << 20  # bytes
LEAST_SECONDS = 7.0
MEMORY_PER_BYTE = 24
SECONDS_PER_MB = 4.0
LARGEST_FILE = 4 << 30  # bytes that a worker may write into one file, where the model is small
LARGEST_MODEL = 1 << 40  # bytes, whatever a worker says of its external data
MOST_MEMORY = 1 << 50  # bytes, and the seconds, that may be set: beyond them the system's own counters run over
MOST_SECONDS = 500_000.0
WALL = 10.0  # times the processor seconds, and WALL_MORE: what waits for ever is stopped, what others slow down is not
WALL_MORE = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the opening of one model; None: chosen from its size.

    Raises:
        SettingsError: a limit that is not above 0, or beyond what a system counts.
    """

    memory: int | None = None  # bytes of address space beside what the program itself needs
    seconds: float | None = None  # of processor time

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory <= 0:
            raise _unfit("limit_memory", self.memory, "give a size above 0, such as 8G")
        if self.memory is not None and self.memory > MOST_MEMORY:
            raise _unfit("limit_memory", self.memory, f"at most {MOST_MEMORY >> 40}T can be set")
        if self.seconds is not None and self.seconds > MOST_SECONDS:
            raise _unfit("limit_seconds", f"{self.seconds:g}", f"at most {MOST_SECONDS:.0f} can be set")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise _unfit("limit_seconds", self.seconds, "give a number of seconds above 0, such as 60")

    def for_size(self, size: int) -> Allowance:
        """The limits of a model of this many bytes, its external data included."""
        memory = self.memory or min(LEAST_MEMORY + MEMORY_PER_BYTE * size, max(LEAST_MEMORY, physical_memory()))
        seconds = self.seconds or LEAST_SECONDS + SECONDS_PER_MB * size / 1e6
        return Allowance(memory, seconds, max(LARGEST_FILE, 8 * size))


@dataclass(frozen=True, slots=True)
class Allowance:
    """The memory and time that one worker may use."""

    memory: int  # bytes of address space beside what it holds when it begins
    seconds: float  # of processor time, from when it begins
    file_size: int  # bytes of the largest file that it writes

    @property
    def wall(self) -> float:
        """Seconds by the clock for one answer, where nothing is converted."""
        return WALL_MORE + WALL * self.seconds

    def impose(self) -> None:
        """Set soft limits for this process and what it starts; a conversion raises them (sources.child_process)."""
        if sys.platform == "win32":
            return
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = usage.ru_utime + usage.ru_stime
        _limit(resource.RLIMIT_CPU, int(used + self.seconds) + 1)  # in whole seconds: the fraction is the model's
        held = address_space()
        if held is not None:
            _limit(resource.RLIMIT_AS, held + self.memory)
        _limit(resource.RLIMIT_FSIZE, self.file_size)
        _limit(resource.RLIMIT_CORE, 0)


def parse_memory(text: str) -> int:
    """Bytes from a text such as 8G, 900M or 6.5GiB.

    Raises:
        SettingsError: another text.
    """
    import re

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise _unfit("limit_memory", text, "give a size such as 8G or 900M")
    return int(float(match[1]) * 1024 ** (1 + "KMGT".index(match[2].upper())))


def _unfit(field: str, value: object, fault: str) -> SettingsError:
    return SettingsError(f"{setting(field, value)}: {fault}", field=field, value=value)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; 0 where there is none."""
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return path.stat().st_size
    except OSError:
        return 0


def address_space() -> int | None:
    """Bytes of address space that this process holds; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _limit(which: int, number: int) -> None:
    """Set a soft limit, as far as the hard one lets it."""
    import resource

    _, highest = resource.getrlimit(which)
    soft = number if highest == resource.RLIM_INFINITY else min(number, highest)
    resource.setrlimit(which, (soft, highest))
