"""`filterscope convert`: a network of another framework as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from filterscope.commands.opening import Opening, opens_a_model
from filterscope.commands.options import OUTPUT


@opens_a_model
def convert(
    opening: Opening,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file to write.", show_default="MODEL.onnx", rich_help_panel=OUTPUT),
    ] = None,
    canonical: Annotated[
        bool,
        typer.Option(
            "--canonical",
            help="The normal form that is analysed: float32, constants folded.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """Write a Keras or PyTorch network as ONNX, proven to answer as its source does."""
    from filterscope.requests.convert import ConvertRequest

    request = ConvertRequest(out=out or Path(f"{opening.stem}.onnx"), canonical=canonical)
    typer.echo(request.run(opening.open()))
