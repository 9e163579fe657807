"""`filterscope report` and `filterscope clean`: the pages of a run made again, and a run removed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filterscope import interrupts
from filterscope.commands.browser import show_page
from filterscope.commands.options import OUTPUT, Open, RunFolder
from filterscope.exit_codes import path_text, say

if TYPE_CHECKING:
    from filterscope.analyzer.run.reader import Run
    from filterscope.requests.runs import ReportRequest


def report(
    run: RunFolder,
    single_file: Annotated[
        bool,
        typer.Option(
            "--single-file",
            help="One HTML file under 20 MB, to be sent; where not all fits, the channels whose pictures rise highest "
            "above random images.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Make it again whenever the run has changed, until the run is complete or Ctrl-C.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    open_page: Open = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder or file of the report.",
            show_default="RUN/site, or RUN/report.html",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    png: Annotated[
        bool | None,
        typer.Option(
            "--png/--no-png",
            help="Also each maximised picture as a PNG file, in png/.",
            show_default="where they take under 50 MB",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Make the pages of a run again, also of one that is not finished."""
    from filterscope.requests.runs import ReportRequest

    request = ReportRequest(single_file=single_file, out=out, png=png)
    if watch:
        _watch(run, request, open_page)
        return
    page = request.run(run)
    typer.echo(path_text(page))
    if open_page:
        show_page(page)


def clean(run: RunFolder) -> None:
    """Remove a run's files, and its folder when nothing else is in it."""
    from filterscope.analyzer.run.writer import remove

    remove(run)


def _watch(folder: Path, request: ReportRequest, opens: bool) -> None:
    """Make the report as its run goes on; say each time what is there, and the page's path the first time."""
    from filterscope.analyzer.run.run_locks import is_being_written
    from filterscope.requests.watch import COMPLETE, WatchRequest

    is_shown = False

    def show(page: Path, run: Run) -> None:
        nonlocal is_shown
        say(f"{datetime.now():%H:%M:%S} {state_in_words(run)}")
        if run.info.status != COMPLETE and not is_being_written(folder):
            say("no process works on this run now; waiting for one, until Ctrl-C")
        if not is_shown:
            is_shown = True
            typer.echo(path_text(page))
            if opens:
                show_page(page)

    interrupts.set_line("no longer watching; the report stays as it is")
    WatchRequest(report=request).run(folder, show)


def state_in_words(run: Run) -> str:
    """What a run holds, in a line: its pictures, its studies, and whether it is complete."""
    first = sum(bool(row) for row in run.units["is_first"].to_pylist())
    parts = [f"{len(run.units):,} pictures{f', {first:,} of them first ones' if first else ''}"]
    studies = [path.parent.name for path in sorted(run.folder.glob("*/study.json"))]
    if studies:
        parts.append(f"studies: {', '.join(studies)}")
    return "; ".join([*parts, f"the run is {run.info.status}"])
