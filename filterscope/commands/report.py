"""`filterscope report` and `filterscope clean`: the pages of a run made again, and a run removed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from filterscope.commands.options import OUTPUT, RunFolder
from filterscope.exit_codes import path_text


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

    typer.echo(path_text(ReportRequest(single_file=single_file, out=out, png=png).run(run)))


def clean(run: RunFolder) -> None:
    """Remove a run's files, and its folder when nothing else is in it."""
    from filterscope.analyzer.run.writer import remove

    remove(run)
