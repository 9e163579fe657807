"""`filterscope compare`: two runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from filterscope.commands.options import OUTPUT, RESULT, as_options, one_of
from filterscope.converters.plain_text import escaped_json, visible
from filterscope.exit_codes import path_text


def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)],
    run_b: Annotated[Path, typer.Argument(help="Folder of another.", show_default=False)],
    match: Annotated[
        str,
        typer.Option(
            help="index: same number, same unit; activation: by what they answer to the same images.",
            **one_of("index", "activation"),
            rich_help_panel=RESULT,
        ),
    ] = "index",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the pages.",
            show_default="compare; with --json none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The numbers as JSON (docs/compare.md).", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Set two runs side by side, what changed most first: two epochs, two seeds, float and quantised."""
    from filterscope.requests.runs import CompareRequest

    comparison = CompareRequest(match=match).run(run_a, run_b)
    folder = out or (None if as_json else Path("compare"))
    page = None if folder is None else comparison.save(folder)
    if as_json:
        content = json.dumps(comparison.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        typer.echo(escaped_json(content))
        return
    for sentence in comparison.sentences:
        typer.echo(visible(as_options(sentence)))
    if page is not None:
        typer.echo(path_text(page))
