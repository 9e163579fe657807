"""The request for a report that is made again as its run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from filterscope.analyzer.run.files import is_run, read_info
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.run_locks import is_being_written
from filterscope.analyzer.run.state import State, state_of
from filterscope.converters.errors import RunError, setting
from filterscope.requests.runs import ReportRequest

PAUSE = 3.0  # seconds between two looks at the run
SHARE = 10  # rendering takes at most a part in so many of the time, but for the last
MOST_FAILURES = 5  # reports in a row that fail because a file is just being replaced
COMPLETE = "complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """Which report is made again, whenever its run has changed on disk."""

    report: ReportRequest = field(default_factory=ReportRequest)

    def run(self, folder: Path, show: Callable[[Path, Run], None]) -> None:
        """Make the report, and make it again until the run is complete.

        Args:
            folder: of the run, finished or not; another process may write it.
            show: gets the page and the run after each rendering.

        Raises:
            RunError: no run is there yet, it is damaged, or the report's place cannot be written.
        """
        if not is_run(folder):
            raise RunError(f"{folder}: holds no run yet (no run.json); {setting('watch')} follows one that has begun")
        shown: State | None = None
        failures = 0
        while True:
            before, started = state_of(folder), time.monotonic()
            seconds = PAUSE
            if before != shown:
                try:
                    run = Run(folder)
                    page = self.report.run(run)
                except RunError as error:
                    failures += 1
                    if failures == MOST_FAILURES or not is_being_written(folder):
                        raise _cause(error) from error
                else:
                    shown, failures = before, 0
                    show(page, run)
                    if run.info.status == COMPLETE:
                        return
                    seconds = max(PAUSE, (SHARE - 1) * (time.monotonic() - started))
            _wait(folder, seconds)


def _wait(folder: Path, seconds: float) -> None:
    """Wait, but not longer than until the run is complete."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(PAUSE, left))
        if is_run(folder) and read_info(folder).status == COMPLETE:
            return


def _cause(error: RunError) -> RunError:
    """What was wrong, where a message says only that another process is writing the run."""
    return error.__cause__ if isinstance(error.__cause__, RunError) else error
