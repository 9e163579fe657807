"""The command line: reads options, calls the API, prints results on stdout and everything else on stderr.

Only this module prints and decides exit codes. Heavy imports happen inside the commands.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from filterscope.errors import DONE, INTERRUPTED, USERS_INPUT, Notes, our_fault, say
from filterscope.options import Opening, opens_a_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analyzer.network import Network
    from analyzer.studies import Study

app = typer.Typer(
    help="See what every filter of a trained convolutional network responds to.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Start with: filterscope demo    or: filterscope analyze model.onnx --images photos/",
)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JsonLog = Annotated[bool, typer.Option("--json-log", help="Progress as JSON lines.")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"filterscope {version('filterscope')}")
        raise typer.Exit


@app.callback()
def _root(
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """See what every filter of a trained convolutional network responds to."""


@app.command()
@opens_a_model
def inspect(
    opening: Opening,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON (docs/run-format.md).")] = False,
) -> None:
    """List a network's convolution layers, its input as understood, and the proof of its import."""
    from converters.errors import UnsupportedOperatorError
    from filterscope import inspection

    try:
        network = opening.open()
    except UnsupportedOperatorError as error:
        if error.convolutions and not as_json:
            typer.echo(inspection.raw_table(error.convolutions))
        raise
    parity, refusal = None, None
    if not as_json:
        typer.echo(inspection.table(network))
        typer.echo(inspection.totals(network))
    try:
        parity = network.prove()
    except UnsupportedOperatorError as error:
        refusal = error
    if as_json:
        typer.echo(json.dumps(inspection.as_json(network, parity), indent=1))
    elif parity is not None:
        typer.echo(inspection.parity_lines(parity))
    if refusal is not None:
        raise refusal


@app.command()
@opens_a_model
def analyze(
    opening: Opening,
    images: Annotated[
        list[str] | None,
        typer.Option(help="Photos: a file, folder, glob, .npz or .npy (file.npz:0-99 for some). May be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run [default: MODEL-filterscope].")] = None,
    quality: Annotated[str, typer.Option(help="draft, standard or fine: 32, 128 or 512 steps.")] = "draft",
    preset: Annotated[
        str, typer.Option(help="filterscope, distill, maco, yosinski, paper, notebook-2018.")
    ] = "filterscope",
    objective: Annotated[
        list[str] | None,
        typer.Option(help="channel, neuron, negative, diversity; may be repeated [default: channel]."),
    ] = None,
    layers: Annotated[list[str] | None, typer.Option(help="Names or globs; may be repeated [default: all].")] = None,
    channels: Annotated[str, typer.Option(help="auto, all, 16/layer, or numbers and ranges: 0,4,8-11.")] = "auto",
    time_budget: Annotated[
        str | None, typer.Option(help="90s, 10m, 1h for the ascent; steps are shared out where they help most.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resize: Annotated[str, typer.Option(help="auto, crop, cover, squash or fit.")] = "auto",
    labels: Annotated[
        Path | None, typer.Option(help="Class names, one a line (or a .csv with a name column), or imagenet.")
    ] = None,
    maps: Annotated[int, typer.Option(help="Images whose activation maps go into the pages.")] = 12,
    examples: Annotated[
        list[str] | None,
        typer.Option(
            help="A data set to find each unit's strongest images in: a folder (with one a class inside), .npz, .npy, "
            "files of CIFAR, MNIST, SVHN. May be repeated."
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            help="Pictures of classes: auto (10 at draft, 24, 100 at fine; those of your images first), all, how many, "
            "or numbers and names. May be repeated."
        ),
    ] = None,
    inversion: Annotated[
        list[str] | None,
        typer.Option(
            help="Images from activations alone: auto (3 layers of 1 image at draft, 6 of 3, 12 of 6 at fine), or "
            "names and globs of layers. May be repeated."
        ),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            help="Channels that act together on your images: auto (1 layer of 1 image at draft, 2 of 3, 3 of 6 at "
            "fine), or names and globs of layers. May be repeated."
        ),
    ] = None,
    attribution: Annotated[
        str | None, typer.Option(help="Which pixels speak for the answer: default, all, or methods by name, commas.")
    ] = None,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="With --attribution: again with randomised weights (Adebayo et al. 2018).")
    ] = False,
    tuning: Annotated[
        str, typer.Option(help="Responses to gratings, edges, bars, colours: auto (first layers), all or none.")
    ] = "auto",
    truth: Annotated[bool, typer.Option("--truth", help="Compare maximised pictures with your images.")] = False,
    values: Annotated[
        list[str] | None,
        typer.Option(help="Maps of other values: all, pool, activation, dense, an operator or a name; repeatable."),
    ] = None,
    quiet: Quiet = False,
    json_log: JsonLog = False,
) -> None:
    """Analyse a network and make its report. Run again in the same folder to go on where it stopped."""
    from analyzer.budget import seconds_of
    from analyzer.plan import Settings
    from filterscope import attributing, insight, questions

    questions.check(tuning, truth, values or (), bool(images), bool(examples))
    settings = Settings(
        quality=quality,
        preset=preset,
        objectives=tuple(dict.fromkeys(objective or ["channel"])),
        layers=tuple(layers or ()),
        channels=channels,
        seed=seed,
        map_pictures=maps,
        resize=resize,
        time_budget=None if time_budget is None else seconds_of(time_budget),
    )
    pixels = attributing.studies(attribution, sanity)
    names = _labels(labels) if labels else ()
    studies = _studies(examples)
    network = opening.open()
    insights = insight.studies(network, classes or (), inversion or (), groups or (), names, bool(images))
    folder = out or Path(f"{opening.stem}-filterscope")
    if not network.input.certain and opening.preprocess is None:
        say(f"note: {network.input.why}")
    asked = [*studies, *pixels, *insights, *questions.studies(network, tuning, truth, values or ())]
    _analyze(network, images or [], folder, settings, device, names, quiet, json_log, asked)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("demo-filterscope"),
    quality: Annotated[str, typer.Option(help="draft, standard or fine.")] = "standard",
    quiet: Quiet = False,
    json_log: JsonLog = False,
) -> None:
    """Analyse the bundled CIFAR-10 network on a handful of real photos."""
    from filterscope import demo as bundled
    from filterscope import questions

    network = bundled.network()
    settings = bundled.settings(quality)
    asked = questions.studies(network, "auto", True, ("all",))
    _analyze(network, bundled.photos(), out, settings, "auto", bundled.labels(), quiet, json_log, asked)


@app.command()
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
        str | None, typer.Option(help="HEIGHTxWIDTH of the picture [default: fitted to what the unit sees].")
    ] = None,
    seconds: Annotated[float, typer.Option(help="That a proof may take (--method certified).")] = 60.0,
    labels: Annotated[
        Path | None, typer.Option(help="Class names, one a line (or a .csv with a name column), or imagenet.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="The picture to write [default: LAYER-UNIT.png].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON.")] = False,
) -> None:
    """Maximise one unit and save its picture: a first one at once, then the one asked for."""
    from dataclasses import replace

    from analyzer.portrait import answer, at_quality, check_file
    from analyzer.scores import own_labels
    from filterscope import asking

    names = _labels(labels) if labels else ()
    asked = asking.Asked(
        *(layer, channel, klass, pair, direction, objective, names, quality, preset, steps, tuple(restrain or ())),
        *(method, seed, device, canvas, seconds),
    )
    recipe = asked.recipe()  # what is wrong with it is said before the network is opened
    if out is not None:
        check_file(out)
    network = opening.open()
    if klass is not None and not names:
        asked = replace(asked, labels=own_labels(network))
    question = asked.question(network)
    network.prove()
    file = out or Path(f"{asking.slug(question.layer.name)}-{question.units[0]}.png")
    if method in ("ascent", "certified") and recipe.preset.stretched:
        say(f"note: preset {preset} shows its pictures with contrast stretched; the numbers are of what is shown")
    if method == "ascent" and question.recipe.steps > asking.FIRST.steps:
        first = answer(network, at_quality(question, asking.FIRST))
        say(f"{first.save(file)}: a first picture, {first.activation[0]:.4g}; going on …")
    found = answer(network, question)
    found.save(file)
    typer.echo(json.dumps(found.to_json(), indent=1) if as_json else asking.told(found, file))


@app.command()
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
    labels: Annotated[Path | None, typer.Option(help="Class names, one a line (or a .csv with a name column).")] = None,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Compare with randomised weights, layer by layer (Adebayo et al. 2018).")
    ] = False,
    resize: Annotated[str, typer.Option(help="auto, crop, cover, squash or fit.")] = "auto",
    seed: Annotated[int, typer.Option(help="Same seed, same noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder of the pictures (default: IMAGE-attribution).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Show which pixels of a picture speak for a class, a channel or a neuron, by eight methods."""
    from filterscope import attributing
    from filterscope.progress import choose

    names = _labels(labels) if labels else ()
    given = (image, tuple(target or ()), tuple(method or ()), layer, names, sanity, seed, device, resize)
    asked = attributing.Asked(*given)
    folder = out or attributing.folder_of(image)
    asked.check(folder)  # what is wrong is said before the network is opened
    network = opening.open()
    if not network.input.certain and opening.preprocess is None:
        say(f"note: {network.input.why}")
    progress = choose(quiet, json_log=False)
    try:
        answer = asked.answer(network, progress)
    finally:
        progress.close()
    files = answer.save(folder)
    typer.echo(attributing.as_json(answer, files) if as_json else f"{attributing.told(answer)}\n{folder}")


@app.command()
@opens_a_model
def convert(
    opening: Opening,
    out: Annotated[Path | None, typer.Option(help="The file to write [default: MODEL.onnx].")] = None,
    canonical: Annotated[
        bool, typer.Option("--canonical", help="The normal form that is analysed: float32, constants folded.")
    ] = False,
) -> None:
    """Write a Keras or PyTorch network as ONNX, proven to answer as its source does."""
    from filterscope import api

    typer.echo(api.convert(opening.open(), out or Path(f"{opening.stem}.onnx"), canonical=canonical))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    single_file: Annotated[
        bool, typer.Option("--single-file", help="One HTML file under 20 MB, to be sent: the finest channels.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder [default: RUN/site], or file [RUN/report.html].")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Also each maximised picture as a PNG file, in png/.")] = False,
) -> None:
    """Make the pages of a run again, also of one that is not finished."""
    from filterscope import api

    typer.echo(api.report(run, single_file=single_file, out=out, png=png))


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder of a run.")],
    run_b: Annotated[Path, typer.Argument(help="Folder of another.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the pages [default: compare; with --json none].")
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
        typer.echo(json.dumps(made.to_json(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        for sentence in made.told:
            typer.echo(sentence)
        typer.echo(page)


@app.command()
def figure(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    layer: Annotated[str, typer.Option(help="Name of the layer, or a glob or #number that fits one.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .pdf, .svg or .png.")],
    channels: Annotated[str, typer.Option(help="all, or numbers and ranges in the order wanted: 0,4,8-11.")] = "all",
    objective: Annotated[str, typer.Option(help="channel, neuron, negative, diversity-1, …")] = "channel",
    method: Annotated[str, typer.Option(help="ascent or analytic.")] = "ascent",
    columns: Annotated[int | None, typer.Option(help="Of the grid [default: nearly a square].")] = None,
    labels: Annotated[str, typer.Option(help="none, channel or activation.")] = "channel",
    width: Annotated[str, typer.Option(help="Of the figure: 85mm, 3.3in.")] = "85mm",
    dpi: Annotated[float, typer.Option(help="Pixels an inch, at least: a picture's pixels stay whole squares.")] = 300,
) -> None:
    """Write some units' pictures of a run as a figure for print."""
    from filterscope import api
    from reports.figures import check_file

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
    typer.echo(f"{made.save(out)}: {made.told()}")


@app.command()
def clean(run: Annotated[Path, typer.Argument(help="Folder of a run.")]) -> None:
    """Remove a run's files, and its folder when nothing else is in it."""
    from analyzer.run import remove

    remove(run)


def _analyze(
    network: Network,
    images: list[str] | list[Path],
    out: Path,
    settings: Any,
    device: str,
    labels: Any,
    quiet: bool,
    json_log: bool,
    studies: Sequence[Study] = (),
) -> None:
    from filterscope import api
    from filterscope.progress import choose

    progress = choose(quiet, json_log)
    try:
        run = api.analyze(
            network,
            images,
            out,
            settings=settings,
            device=device,
            labels=labels,
            command=["filterscope", *sys.argv[1:]],
            progress=progress,
            studies=studies,
        )
        progress.stage("making pages", 1)
        page = api.report(run)
        progress.advance()
    except KeyboardInterrupt as error:
        progress.close()
        kept = f"what is done is kept in {out}" if (out / "run.json").is_file() else "nothing was written yet"
        say(f"interrupted; {kept}: run the same command again to go on")
        raise typer.Exit(INTERRUPTED) from error
    finally:
        progress.close()
    typer.echo(page)


def _studies(examples: list[str] | None) -> list[Study]:
    """What else is asked of the network; what is wrong with it is said before the long work."""
    if not examples:
        return []
    from analyzer.examples import Examples

    return [Examples(examples)]


def _labels(path: Path) -> list[str]:
    import csv

    from converters.errors import SettingsError

    if str(path) == "imagenet" and not path.exists():
        from analyzer.labels import imagenet

        return imagenet()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--labels {path}: cannot be read as text") from error
    if path.suffix.lower() != ".csv":
        names = [line.strip() for line in text.splitlines() if line.strip()]
        if not names:
            raise SettingsError(f"--labels {path}: is empty; give one name a line")
        return names
    try:
        rows = list(csv.DictReader(text.splitlines()))
    except csv.Error as error:
        raise SettingsError(f"--labels {path}: cannot be read as a table ({error})") from error
    column = next((name for name in ("name", "label", "class") if rows and name in rows[0]), None)
    if column is None:
        raise SettingsError(f"--labels {path}: no column is called name, label or class")
    return [row[column] or "" for row in rows]


def main() -> NoReturn:
    """Entry point of the command."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    from converters.errors import FilterscopeError

    signal.signal(signal.SIGTERM, _as_interrupt)
    logging.getLogger("filterscope").handlers = [Notes()]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads must not spin beside ONNX Runtime's
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a layer's name may hold what the terminal cannot show
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="filterscope", standalone_mode=False)
    except FilterscopeError as error:
        say(f"error: {error}")
        return USERS_INPUT
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        return INTERRUPTED
    except MemoryError:
        say("error: this machine's memory does not hold it; give a smaller --input-size, --canvas or network")
        return USERS_INPUT
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's own: a usage error
            error.show()
            return int(error.exit_code)
        return our_fault(error)
    return DONE if code is None else int(code)


def _as_interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
