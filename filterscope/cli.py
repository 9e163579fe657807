"""The command line: reads options, calls the API, prints results on stdout and everything else on stderr.

Only this module and its commands print; exit codes are decided here. Heavy imports happen inside the commands.
"""

from __future__ import annotations

import codecs
import errno
import io
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from filterscope import interrupts, run_commands, unit_commands
from filterscope.errors import (
    DONE,
    INTERRUPTED,
    USERS_INPUT,
    Notes,
    fault_of_the_system,
    flush_output,
    our_fault,
    path_text,
    say,
    say_how_pictures_go,
)
from filterscope.labels import read_labels
from filterscope.options import JsonLog, Opening, Quiet, White, note_assumptions, opens_a_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.studies.study import Study
    from filterscope.converters.parity import Parity

app = typer.Typer(
    help="See what every filter of a trained convolutional network responds to.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Start with: filterscope demo    or: filterscope analyze model.onnx --images photos/",
)


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
    from filterscope import inspection
    from filterscope.converters.errors import ModelError, UnsupportedOperatorError

    try:
        network = opening.open()
    except UnsupportedOperatorError as error:
        if not error.convolutions:
            raise
        refusal = error.beside_the_layers()
        listed = json.dumps(inspection.raw_json(refusal), indent=1) if as_json else inspection.raw_table(refusal)
        typer.echo(listed)
        raise refusal from error
    parity: Parity | None = None
    failure: ModelError | None = None
    if not as_json:
        typer.echo(inspection.table(network))
        typer.echo(inspection.totals(network))
    try:
        parity = network.prove()
    except ModelError as error:
        failure = error.beside_the_layers() if isinstance(error, UnsupportedOperatorError) else error
    if as_json:
        typer.echo(json.dumps(inspection.as_json(network, parity, failure), indent=1))
    elif parity is not None:
        typer.echo(inspection.parity_lines(parity))
    if failure is not None:
        raise failure


@app.command()
@opens_a_model
def analyze(
    opening: Opening,
    images: Annotated[
        list[str] | None,
        typer.Option(help="Photos: a file, folder, glob, .npz or .npy (file.npz:0-99 for some). May be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: MODEL-filterscope).")] = None,
    quality: Annotated[str, typer.Option(help="draft, standard or fine: 32, 128 or 512 steps.")] = "draft",
    preset: Annotated[
        str, typer.Option(help="filterscope, distill, maco, yosinski, paper, notebook-2018.")
    ] = "filterscope",
    objective: Annotated[
        list[str] | None,
        typer.Option(help="channel, neuron, negative, diversity; may be repeated (default: channel)."),
    ] = None,
    layers: Annotated[list[str] | None, typer.Option(help="Names or globs; may be repeated (default: all).")] = None,
    channels: Annotated[str, typer.Option(help="auto, all, 16/layer, or numbers and ranges: 0,4,8-11.")] = "auto",
    time_budget: Annotated[
        str | None, typer.Option(help="90s, 10m, 1h for the ascent; steps are shared out where they help most.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.")] = 0,
    device: Annotated[
        str, typer.Option(help="auto or cuda: all GPUs share the work; cpu or cuda:1: that one alone.")
    ] = "auto",
    resize: Annotated[str, typer.Option(help="auto, crop, cover, squash or fit.")] = "auto",
    no_resize: Annotated[bool, typer.Option("--no-resize", help="Refuse images of another size.")] = False,
    white: White = None,
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
    from filterscope import attributing, insight, questions
    from filterscope.analyzer.execution.budget import seconds_of
    from filterscope.analyzer.execution.plan import Settings

    questions.check(tuning, truth, values or (), bool(images), bool(examples), white)
    settings = Settings(
        quality=quality,
        preset=preset,
        objectives=tuple(dict.fromkeys(objective or ["channel"])),
        layers=tuple(layers or ()),
        channels=channels,
        seed=seed,
        map_pictures=maps,
        resize="none" if no_resize else resize,
        time_budget=None if time_budget is None else seconds_of(time_budget),
    )
    pixels = attributing.studies(attribution, sanity)
    names = read_labels(labels) if labels else ()
    studies = _studies(examples, white)
    network = opening.open()
    insights = insight.studies(network, classes or (), inversion or (), groups or (), names, bool(images))
    folder = out or Path(f"{opening.stem}-filterscope")
    note_assumptions(network)
    say_how_pictures_go(network)
    asked = [*studies, *pixels, *insights, *questions.studies(network, tuning, truth, values or ())]
    _analyze(network, images or [], folder, settings, device, names, quiet, json_log, asked, white)


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
def convert(
    opening: Opening,
    out: Annotated[Path | None, typer.Option(help="The file to write (default: MODEL.onnx).")] = None,
    canonical: Annotated[
        bool, typer.Option("--canonical", help="The normal form that is analysed: float32, constants folded.")
    ] = False,
) -> None:
    """Write a Keras or PyTorch network as ONNX, proven to answer as its source does."""
    from filterscope import api

    typer.echo(api.convert(opening.open(), out or Path(f"{opening.stem}.onnx"), canonical=canonical))


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
    white: float | None = None,
) -> None:
    from filterscope import api
    from filterscope.progress import choose

    progress = choose(quiet, json_log)
    interrupts.set_line(f"interrupted; what is done is kept in {out}: run the same command again to go on")
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
            white=white,
        )
        progress.stage("making pages", 1)
        page = api.report(run)
        progress.advance()
    except KeyboardInterrupt as error:
        progress.close()
        if not (out / "run.json").is_file():
            interrupts.set_line("interrupted; nothing was written yet: run the same command again to go on")
        interrupts.say_line()
        raise typer.Exit(INTERRUPTED) from error
    finally:
        progress.close()
    typer.echo(path_text(page))


def _studies(examples: list[str] | None, white: float | None) -> list[Study]:
    """What else is asked of the network; what is wrong with it is said before the long work."""
    if not examples:
        return []
    from filterscope.analyzer.studies.examples.examples import Examples

    return [Examples(examples, white=white)]


for command in (
    unit_commands.maximize,
    unit_commands.attribute,
    run_commands.report,
    run_commands.compare,
    run_commands.figure,
    run_commands.clean,
):
    app.command()(command)


def main() -> NoReturn:
    """The command; does not come back."""
    _open_standard_files()
    code = _run(sys.argv[1:])
    if code == INTERRUPTED:
        interrupts.end_now()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    interrupts.listen()
    logging.getLogger("filterscope").handlers = [Notes()]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads must not spin beside ONNX Runtime's
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("filterscope", _as_bytes)
        sys.stdout.reconfigure(errors="filterscope")
    code = _exit_code(arguments)
    failure = flush_output()
    if failure is not None and code == DONE and not isinstance(failure, BrokenPipeError):
        say(f"error: standard output: {fault_of_the_system(failure) or failure.strerror}")
        return USERS_INPUT
    return code


def _exit_code(arguments: list[str]) -> int:
    """Run a command; every exception ends here."""
    from filterscope.converters.errors import FilterscopeError

    try:
        code = typer.main.get_command(app).main(arguments, prog_name="filterscope", standalone_mode=False)
    except FilterscopeError as error:
        say(f"error: {error}")
        return USERS_INPUT
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except MemoryError:
        say("error: this machine's memory does not hold it; give a smaller --input-size, --canvas or network")
        return USERS_INPUT
    except SystemExit as error:  # of typer and rich, whose reader has gone
        code = DONE if isinstance(error.__context__, BrokenPipeError) else int(error.code or 0)
    except BrokenPipeError:  # whoever read our output has had enough
        return DONE
    except Exception as error:
        if interrupts.was_interrupted():  # a library made another exception of it
            code = INTERRUPTED
        elif hasattr(error, "show") and hasattr(error, "exit_code"):  # click's own: a usage error
            error.show()
            return int(error.exit_code)
        else:
            return _of_the_system(error) or our_fault(error)
    if code == INTERRUPTED:
        interrupts.say_line()
    return DONE if code is None else int(code)


def _of_the_system(error: Exception) -> int | None:
    """What files, folders and names on the user's machine did not let us do."""
    if isinstance(error, OSError):
        line = fault_of_the_system(error)
    elif isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        line = f"a name is not UTF-8 ({ascii(error.object)[:80]}); rename it"
    else:
        line = ""
    if not line:
        return None
    say(f"error: {line}")
    return USERS_INPUT


def _open_standard_files() -> None:
    """Put the null device where a standard file is shut: the next file opened, such as one of a run, would be it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError as error:
            if error.errno == errno.EBADF:
                os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def _as_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """A path that is not UTF-8 is printed as the system spells it; whatever else the terminal cannot show, escaped."""
    if isinstance(error, UnicodeEncodeError):
        part = error.object[error.start : error.end]
        is_undecoded = all("\udc80" <= character <= "\udcff" for character in part)
        return part.encode("ascii", "surrogateescape" if is_undecoded else "backslashreplace"), error.end
    raise error
