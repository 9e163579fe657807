"""The command line: puts the commands together and runs them; exit codes and interrupts are decided here.

Results go to stdout and everything else to stderr. Heavy imports happen inside the commands.
"""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from filterscope import interrupts
from filterscope.commands.analyze import analyze, demo
from filterscope.commands.attribute import attribute
from filterscope.commands.compare import compare
from filterscope.commands.convert import convert
from filterscope.commands.figure import figure
from filterscope.commands.inspect import inspect
from filterscope.commands.maximize import maximize
from filterscope.commands.options import Command, Group, examples
from filterscope.commands.report import clean, report
from filterscope.exit_codes import (
    DONE,
    INTERRUPTED,
    USERS_INPUT,
    Notes,
    fault_of_the_system,
    flush_output,
    our_fault,
    say,
)

OUT_OF_MEMORY = "this machine's memory does not hold it; give a smaller --input-size, --canvas or network"
EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {  # in the order in which the help lists the commands
    inspect: ("filterscope inspect model.onnx", "filterscope inspect model.onnx --input-size 240x320 --json"),
    analyze: (
        "filterscope analyze model.onnx --images photos/",
        "filterscope analyze model.onnx --images photos/ --quality standard --channels all --labels labels.txt",
        "filterscope analyze nets.py:Net --weights net.pth --preprocess imagenet --examples dataset/",
    ),
    demo: ("filterscope demo --open", "filterscope demo --layers conv4 --channels 16 --quality fine --out again"),
    convert: ("filterscope convert model.keras", "filterscope convert nets.py:Net --weights net.pth --out net.onnx"),
    maximize: (
        "filterscope maximize model.onnx --layer features.3 --channel 17",
        "filterscope maximize model.onnx --class zebra --labels labels.txt --quality fine",
        "filterscope maximize model.onnx --layer features.0 --channel 5 --objective neuron --method certified",
    ),
    attribute: (
        "filterscope attribute model.onnx photo.jpg",
        "filterscope attribute model.onnx photo.jpg --target cat --labels labels.txt",
        "filterscope attribute model.onnx photo.jpg --target features.3:17 --method grad-cam --sanity",
    ),
    report: (
        "filterscope report RUN",
        "filterscope report RUN --single-file -o report.html",
        "filterscope report RUN --watch --open",
    ),
    compare: (
        "filterscope compare RUN_A RUN_B -o compare/",
        "filterscope compare RUN_A RUN_B --match activation --json",
    ),
    figure: ("filterscope figure RUN --layer features.3 --channels 0,4,8-11 -o fig.pdf",),
    clean: (),
}

app = typer.Typer(
    cls=Group,
    help="See what every filter of a trained convolutional network responds to.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Start with: filterscope demo    or: filterscope analyze model.onnx --images photos/",
)


def _print_version(is_set: bool) -> None:
    if is_set:
        from importlib.metadata import version

        typer.echo(f"filterscope {version('filterscope')}")
        raise typer.Exit


@app.callback()
def _root(
    _show: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """See what every filter of a trained convolutional network responds to."""


for _command, _lines in EXAMPLES.items():
    app.command(cls=Command, epilog=examples(*_lines) if _lines else None)(_command)


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
        say(f"error: {OUT_OF_MEMORY}")
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
    assert isinstance(error, UnicodeEncodeError)  # stdout is only written
    part = error.object[error.start : error.end]
    is_undecoded = all("\udc80" <= character <= "\udcff" for character in part)
    return part.encode("ascii", "surrogateescape" if is_undecoded else "backslashreplace"), error.end
