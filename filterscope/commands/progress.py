"""Progress on stderr: a bar with rate and time left at a terminal, plain lines elsewhere, JSON lines on request."""

from __future__ import annotations

import json
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from filterscope.exit_codes import write_stderr

EVERY = 10.0  # seconds between plain lines


class Terminal:
    """A bar that the stages share."""

    def __init__(self) -> None:
        name, rate = TextColumn("{task.description:<18}"), TextColumn("{task.fields[rate]}")
        columns = (name, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._started = 0.0
        self._task = self._bar.add_task("opening", total=None, rate="")
        self._bar.start()

    def stage(self, name: str, total: int) -> None:
        """A stage begins."""
        self._started = time.monotonic()
        self._bar.reset(self._task, description=name, total=total, rate="")

    def advance(self, count: int = 1) -> None:
        """Some of it is done."""
        done = self._bar.tasks[0].completed + count
        seconds = max(1e-3, time.monotonic() - self._started)
        self._bar.update(self._task, advance=count, rate=f"{done / seconds:.1f}/s")

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


class Lines:
    """A plain or JSON line at the start of a stage, at its end, and every ten seconds."""

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self._name, self._total, self._done = "", 0, 0
        self._started = self._reported = time.monotonic()

    def stage(self, name: str, total: int) -> None:
        """A stage begins."""
        self._name, self._total, self._done = name, total, 0
        self._started = self._reported = time.monotonic()
        self._report()

    def advance(self, count: int = 1) -> None:
        """Some of it is done."""
        self._done += count
        now = time.monotonic()
        if now - self._reported >= EVERY or self._done >= self._total:
            self._reported = now
            self._report()

    def close(self) -> None:
        """Nothing is left open."""

    def _report(self) -> None:
        seconds = time.monotonic() - self._started
        rate = self._done / seconds if seconds > 0 and self._done else 0.0
        left = (self._total - self._done) / rate if rate else None
        if self._as_json:
            record = {"stage": self._name, "done": self._done, "total": self._total, "seconds": round(seconds, 1)}
            write_stderr(json.dumps(record | {"left": None if left is None else round(left, 1)}) + "\n")
            return
        tail = f", {rate:.1f}/s, {left:.0f} s left" if left is not None and self._done < self._total else ""
        write_stderr(f"{self._name}: {self._done}/{self._total}{tail}\n")


class Quiet:
    """No progress at all."""

    def stage(self, name: str, total: int) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


Reporter = Terminal | Lines | Quiet


def choose(quiet: bool, json_log: bool) -> Reporter:
    """The progress that suits the options and the terminal."""
    if quiet:
        return Quiet()
    return Terminal() if sys.stderr.isatty() and not json_log else Lines(json_log)
