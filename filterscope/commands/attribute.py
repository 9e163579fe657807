"""`filterscope attribute`: which pixels of a picture speak for a class, a channel or a neuron."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from filterscope.commands.opening import Opening, note_assumptions, opens_a_model
from filterscope.commands.options import (
    ATTRIBUTIONS,
    OUTPUT,
    RESULT,
    Json,
    NoResize,
    OneDevice,
    Quiet,
    Resize,
    TargetLabels,
    White,
    as_options,
    one_of,
)
from filterscope.converters.plain_text import visible
from filterscope.exit_codes import path_text, say_how_pictures_go

if TYPE_CHECKING:
    from filterscope.analyzer.attribution.explain import Explanation
    from filterscope.analyzer.attribution.explained import Answer


@opens_a_model
def attribute(
    opening: Opening,
    image: Annotated[
        str, typer.Argument(help="A photo; a folder, glob or array file for several.", show_default=False)
    ],
    resize: Resize = "auto",
    no_resize: NoResize = False,
    white: White = None,
    labels: TargetLabels = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="A class by number or (with --labels) by name, 'cat - dog' for one class rather than another, "
            "LAYER:CHANNEL or LAYER:CHANNEL@ROW,COLUMN of any layer or value. May be repeated.",
            show_default="what the network answers with",
            rich_help_panel=RESULT,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(ATTRIBUTIONS)}. May be repeated.",
            **one_of(*ATTRIBUTIONS, metavar="<method>"),
            show_default="all",
            rich_help_panel=RESULT,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Whose maps Grad-CAM weighs.",
            show_default="the last convolution before the target",
            rich_help_panel=RESULT,
        ),
    ] = None,
    sanity: Annotated[
        bool,
        typer.Option(
            "--sanity",
            help="Compare with randomised weights, layer by layer (Adebayo et al. 2018).",
            rich_help_panel=RESULT,
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same noise.", rich_help_panel=RESULT)] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder of the pictures.", show_default="IMAGE-attribution", rich_help_panel=OUTPUT
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    device: OneDevice = "auto",
) -> None:
    """Show which pixels of a picture speak for a class, a channel or a neuron, by eight methods."""
    from filterscope.analyzer.attribution.explained import check_folder
    from filterscope.commands.progress import choose
    from filterscope.requests.attribute import AttributeRequest
    from filterscope.requests.labels import read_labels

    request = AttributeRequest(
        image=[image],
        target=tuple(target or ()),
        method=tuple(method or ("all",)),
        layer=layer,
        labels=read_labels(labels) if labels else (),
        sanity=sanity,
        resize="none" if no_resize else resize,
        white=white,
        seed=seed,
        device=device,
    )
    folder = out or folder_of(image)
    check_folder(folder)  # what is wrong is said before the network is opened
    network = opening.open()
    note_assumptions(network)
    say_how_pictures_go(network)
    progress = choose(quiet, json_log=False)
    try:
        answer = request.run(network, progress)
    finally:
        progress.close()
    files = answer.save(folder)
    typer.echo(to_json(answer, files) if as_json else f"{table(answer)}\n{path_text(folder)}")


def table(answer: Answer) -> str:
    """The numbers of an answer, a block a picture and target, then the randomisation test."""
    lines = []
    for picture in answer.pictures:
        first = picture.explanations[0]
        lines.append(f"{visible(picture.image)}: {visible(first.target.name)}, {_number(first)} {first.score:.4g}")
        lines.append(f"  {'method':<22}{'lowest':>12}{'highest':>12}{'total':>12}  at")
        for explanation in picture.explanations:
            row = explanation.to_json()
            numbers = "".join(f"{row[key]:>12.4g}" for key in ("minimum", "maximum", "total"))
            lines.append(f"  {explanation.method:<22}{numbers}  {visible(explanation.at or '')}".rstrip())
    return "\n".join(
        [*lines, *_sanity_lines(answer.sanity), *(f"note: {visible(as_options(note))}" for note in answer.notes)]
    )


def _number(explanation: Explanation) -> str:
    """What the target's number is called."""
    target = explanation.target
    if target.layer is None:
        return "score" if target.minus is None else "difference"
    return "sum" if target.row is None else "value"


def to_json(answer: Answer, files: Sequence[Path]) -> str:
    """The numbers and the files, three an attribution."""
    content = answer.to_json()
    for index, row in enumerate(content["attributions"]):
        row["files"] = [str(file) for file in files[3 * index : 3 * index + 3]]
    return json.dumps(content, indent=1)


def _sanity_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line a depth, a column a method: the rank correlation with the trained network's maps."""
    if not rows:
        return []
    methods = list(dict.fromkeys(row["method"] for row in rows))
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    by_place = {(row["layer"], row["method"]): row for row in rows}
    names = {layer: visible(layer) for layer in layers}
    width = max(len(name) for name in (*names.values(), "down to"))
    lines = [
        f"Randomised from the output down, mean of {rows[0]['images']} image(s): rank correlation / SSIM with the "
        "trained network's maps; a method that depends on the weights falls to 0",
        f"  {'down to':<{width}}" + "".join(f"{name:>{max(14, len(name) + 2)}}" for name in methods),
    ]
    for layer in layers:
        line = f"  {names[layer]:<{width}}"
        for name in methods:
            cell = by_place[layer, name]
            numbers = f"{cell['similarity']:.2f} / {cell['ssim']:.2f}"
            line += f"{numbers:>{max(14, len(name) + 2)}}"
        lines.append(line)
    return lines


def folder_of(image: str) -> Path:
    """The folder of the pictures, where the user names none."""
    return Path(f"{Path(image).stem or 'pictures'}-attribution")
