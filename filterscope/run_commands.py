"""Commands that take a run as it lies on disk: its pages, its figures, another run beside it, its removal.

Read options, call the rooms that do the work, print what was found. Heavy imports happen inside the commands.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from filterscope.converters.plain_text import escaped_json, visible
from filterscope.errors import path_text, say


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    single_file: Annotated[
        bool, typer.Option("--single-file", help="One HTML file under 20 MB, to be sent: the finest channels.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder (default: RUN/site), or file [RUN/report.html].")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Also each maximised picture as a PNG file, in png/.")] = False,
) -> None:
    """Make the pages of a run again, also of one that is not finished."""
    from filterscope import api

    typer.echo(path_text(api.report(run, single_file=single_file, out=out, png=png)))


def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder of a run.")],
    run_b: Annotated[Path, typer.Argument(help="Folder of another.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the pages (default: compare; with --json none).")
    ] = None,
    match: Annotated[
        str, typer.Option(help="index: same number, same unit; activation: by what they answer to the same images.")
    ] = "index",
    as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON (docs/compare.md).")] = False,
) -> None:
    """Set two runs side by side, what changed most first: two epochs, two seeds, float and quantised."""
    from filterscope import api

    made = api.compare(run_a, run_b, match=match)
    folder = out or (None if as_json else Path("compare"))
    page = None if folder is None else made.save(folder)
    if as_json:
        typer.echo(escaped_json(json.dumps(made.to_json(), indent=1, ensure_ascii=False, allow_nan=False)))
    else:
        for sentence in made.sentences:
            typer.echo(visible(sentence))
        if page is not None:
            typer.echo(path_text(page))


def figure(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    layer: Annotated[str, typer.Option(help="Name of the layer, or a glob or #number that fits one.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .pdf, .svg or .png.")],
    channels: Annotated[str, typer.Option(help="all, or numbers and ranges in the order wanted: 0,4,8-11.")] = "all",
    objective: Annotated[str, typer.Option(help="channel, neuron, negative, diversity-1, …")] = "channel",
    method: Annotated[str, typer.Option(help="ascent or analytic.")] = "ascent",
    columns: Annotated[int | None, typer.Option(help="Of the grid (default: nearly a square).")] = None,
    labels: Annotated[str, typer.Option(help="none, channel or activation.")] = "channel",
    width: Annotated[str, typer.Option(help="Of the figure: 85mm, 3.3in.")] = "85mm",
    dpi: Annotated[float, typer.Option(help="Pixels an inch, at least: a picture's pixels stay whole squares.")] = 300,
) -> None:
    """Write some units' pictures of a run as a figure for print."""
    from filterscope import api
    from filterscope.reports.figures.figures import check_file

    check_file(out)
    made = api.figure(
        run,
        layer,
        channels,
        objective=objective,
        method=method,
        columns=columns,
        labels=labels,
        width=width,
        dpi=dpi,
    )
    for note in made.notes:
        say(f"note: {note}")
    typer.echo(f"{made.save(out)}: {visible(made.description())}")


def clean(run: Annotated[Path, typer.Argument(help="Folder of a run.")]) -> None:
    """Remove a run's files, and its folder when nothing else is in it."""
    from filterscope.analyzer.run.writer import remove

    remove(run)
