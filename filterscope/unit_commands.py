"""Commands that look at one thing in a network: a unit's picture, an image's attribution.

Read options, call the rooms that do the work, print what was found. Heavy imports happen inside the commands.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from filterscope.errors import path_text, say, say_how_pictures_go
from filterscope.labels import read_labels
from filterscope.options import Opening, Quiet, White, note_assumptions, opens_a_model


@opens_a_model
def maximize(
    opening: Opening,
    layer: Annotated[str | None, typer.Option(help="Name of the layer, or a glob that fits one.")] = None,
    channel: Annotated[int | None, typer.Option(help="Which channel of it.")] = None,
    klass: Annotated[
        str | None, typer.Option("--class", help="Instead: a class, by number or (with --labels) by name.")
    ] = None,
    pair: Annotated[
        str | None, typer.Option(help="Instead: A,B for half of two channels, A,B:5 for five steps from A to B.")
    ] = None,
    direction: Annotated[
        Path | None, typer.Option(help="Instead: a .npy of one number a channel, or several rows of them.")
    ] = None,
    objective: Annotated[str, typer.Option(help="channel, neuron, negative, diversity or layer.")] = "channel",
    method: Annotated[
        str, typer.Option(help="ascent, vertex; of a neuron also analytic and certified (needs --objective neuron).")
    ] = "ascent",
    quality: Annotated[str, typer.Option(help="draft, standard or fine: 32, 128 or 512 steps.")] = "standard",
    preset: Annotated[
        str, typer.Option(help="filterscope, distill, maco, yosinski, paper, notebook-2018.")
    ] = "filterscope",
    steps: Annotated[int | None, typer.Option(help="Instead of the quality's or the preset's.")] = None,
    restrain: Annotated[
        list[str] | None,
        typer.Option(help="NAME=NUMBER: l2, lp, tv, decay, blur, small-norm, small-contribution. May be repeated."),
    ] = None,
    canvas: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH of the picture (default: fitted to what the unit sees).")
    ] = None,
    seconds: Annotated[float, typer.Option(help="That a proof may take (--method certified).")] = 60.0,
    labels: Annotated[
        Path | None, typer.Option(help="Class names, one a line (or a .csv with a name column), or imagenet.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="The picture to write (default: LAYER-UNIT.png, or LAYER-UNIT-OBJECTIVE-METHOD.png)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON.")] = False,
) -> None:
    """Maximise one unit and save its picture: a first one at once, then the one asked for."""
    from dataclasses import replace

    from analyzer.portrait import answer, at_quality, check_file
    from analyzer.scores import own_labels
    from filterscope import asking

    names = read_labels(labels) if labels else ()
    asked = asking.Asked(
        *(layer, channel, klass, pair, direction, objective, names, quality, preset, steps, tuple(restrain or ())),
        *(method, seed, device, canvas, seconds),
    )
    recipe = asked.recipe()  # what is wrong with it is said before the network is opened
    if out is not None:
        check_file(out)
    network = opening.open()
    note_assumptions(network)
    if klass is not None and not names:
        asked = replace(asked, labels=own_labels(network))
    question = asked.question(network)
    network.prove()
    say_how_pictures_go(network)
    file = out or asked.file(question)
    if method in ("ascent", "certified") and recipe.preset.stretched:
        say(f"note: preset {preset} shows its pictures with contrast stretched; the numbers are of what is shown")
    if method == "ascent" and question.recipe.steps > asking.FIRST.steps:
        first = answer(network, at_quality(question, asking.FIRST))
        say(f"{first.save(file)}: a first picture, {first.activation[0]:.4g}; going on …")
    found = answer(network, question)
    found.save(file)
    typer.echo(json.dumps(found.to_json(), indent=1) if as_json else asking.told(found, file))


@opens_a_model
def attribute(
    opening: Opening,
    image: Annotated[
        str, typer.Argument(help="A photo; a folder, glob or array file for several.", show_default=False)
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="A class by number or (with --labels) by name, LAYER:CHANNEL or LAYER:CHANNEL@ROW,COLUMN of any layer "
            "or value; may be repeated (default: what the network answers with)."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="all, default, saliency, input-x-gradient, integrated-gradients, smoothgrad, guided, deconvnet, "
            "grad-cam, occlusion; may be repeated (default: all)."
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Whose maps Grad-CAM weighs (default: the last convolution before the target).")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Class names, one a line (or a .csv with a name column), or imagenet.")
    ] = None,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Compare with randomised weights, layer by layer (Adebayo et al. 2018).")
    ] = False,
    resize: Annotated[str, typer.Option(help="auto, crop, cover, squash or fit.")] = "auto",
    no_resize: Annotated[bool, typer.Option("--no-resize", help="Refuse images of another size.")] = False,
    white: White = None,
    seed: Annotated[int, typer.Option(help="Same seed, same noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder of the pictures (default: IMAGE-attribution).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Show which pixels of a picture speak for a class, a channel or a neuron, by eight methods."""
    from filterscope import attributing
    from filterscope.progress import choose

    names = read_labels(labels) if labels else ()
    given = (
        image,
        tuple(target or ()),
        tuple(method or ()),
        layer,
        names,
        sanity,
        seed,
        device,
        "none" if no_resize else resize,
        white,
    )
    asked = attributing.Asked(*given)
    folder = out or attributing.folder_of(image)
    asked.check(folder)  # what is wrong is said before the network is opened
    network = opening.open()
    note_assumptions(network)
    say_how_pictures_go(network)
    progress = choose(quiet, json_log=False)
    try:
        answer = asked.answer(network, progress)
    finally:
        progress.close()
    files = answer.save(folder)
    typer.echo(attributing.as_json(answer, files) if as_json else f"{attributing.told(answer)}\n{path_text(folder)}")
