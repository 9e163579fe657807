"""`filterscope figure`: pictures of a run as a figure for print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from filterscope.commands.options import OUTPUT, RESULT, RunFolder, one_of
from filterscope.converters.plain_text import visible
from filterscope.exit_codes import say


def figure(
    run: RunFolder,
    layer: Annotated[
        str, typer.Option(help="Name of the layer, or a glob or #number that fits one.", rich_help_panel=RESULT)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file to write: .pdf, .svg or .png.", rich_help_panel=OUTPUT)
    ],
    channels: Annotated[
        str,
        typer.Option(help="all, or numbers and ranges in the order wanted: 0,4,8-11.", rich_help_panel=RESULT),
    ] = "all",
    objective: Annotated[
        str,
        typer.Option(
            help="channel, neuron, negative, diversity-1, …",
            autocompletion=one_of("channel", "neuron", "negative", "diversity-1")["autocompletion"],
            rich_help_panel=RESULT,
        ),
    ] = "channel",
    method: Annotated[
        str, typer.Option(help="How the pictures were made.", **one_of("ascent", "analytic"), rich_help_panel=RESULT)
    ] = "ascent",
    columns: Annotated[
        int | None, typer.Option(help="Of the grid.", show_default="nearly a square", rich_help_panel=OUTPUT)
    ] = None,
    captions: Annotated[
        str,
        typer.Option(
            "--captions",
            "--labels",
            help="What stands below each picture.",
            **one_of("none", "channel", "activation"),
            rich_help_panel=OUTPUT,
        ),
    ] = "channel",
    width: Annotated[str, typer.Option(help="Of the figure: 85mm, 3.3in.", rich_help_panel=OUTPUT)] = "85mm",
    dpi: Annotated[
        float,
        typer.Option(help="Pixels an inch, at least: a picture's pixels stay whole squares.", rich_help_panel=OUTPUT),
    ] = 300,
) -> None:
    """Write some units' pictures of a run as a figure for print."""
    from filterscope.reports.figures.figures import check_file
    from filterscope.requests.runs import FigureRequest

    check_file(out)
    request = FigureRequest(
        layer=layer,
        channels=channels,
        objective=objective,
        method=method,
        columns=columns,
        captions=captions,
        width=width,
        dpi=dpi,
    )
    drawing = request.run(run)
    for note in drawing.notes:
        say(f"note: {note}")
    typer.echo(f"{drawing.save(out)}: {visible(drawing.description())}")
