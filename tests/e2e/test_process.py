"""The command as a process among others: pipes that close, disks that are full, interrupts, names that are no text."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from support.networks import build, normal
from support.paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and devices of POSIX")

FILTERSCOPE = [sys.executable, "-m", "filterscope"]
SECONDS = 300  # machines that run tests may be busy
FULL = Path("/dev/full")
NOT_TEXT = os.fsdecode(b"\xff\xfe net")  # what a file may be called, and no UTF-8

SLOW = """
import pathlib, time
pathlib.Path("started").touch()
time.sleep(60)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small network, a photo and a finished run."""
    folder = tmp_path_factory.mktemp("process")
    nodes = [("Conv", "x w", "a", {"name": "conv1"}), ("Relu", "a", "y")]
    onnx.save(build(nodes, {"w": normal(4, 3, 3, 3)}, shape=(1, 3, 12, 12)), folder / "net.onnx")
    (folder / "slow.py").write_text(SLOW)
    (folder / "nets.py").write_text("from torch import nn\n\ndef net():\n    return nn.Conv2d(3, 2, 3)\n")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)).save(folder / "photo.png")
    ended = run(folder, "analyze", "net.onnx", "--images", "photo.png", "--out", "run")
    assert ended.returncode == 0, ended.stderr
    return folder


def environment(place):
    own = {"XDG_CACHE_HOME": str(place / ".cache"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "120"}
    return os.environ | own | {"PYTHONPATH": str(ROOT)}


def run(place, *arguments, **options):
    return subprocess.run(
        [*FILTERSCOPE, *arguments],
        cwd=place,
        env=environment(place),
        stdout=options.get("stdout", subprocess.PIPE),
        stderr=options.get("stderr", subprocess.PIPE),
        timeout=SECONDS,
    )


def closed_pipe():
    """The writing end of a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


PRINTING = {
    "help": ("--help",),
    "help of a command": ("maximize", "--help"),
    "version": ("--version",),
    "inspect": ("inspect", "net.onnx"),
    "inspect json": ("inspect", "net.onnx", "--json"),
    "maximize": (
        "maximize",
        "net.onnx",
        "--layer",
        "conv1",
        "--channel",
        "1",
        "--json",
        "--out",
        "one.png",
        "--quality",
        "draft",
    ),
    "report": ("report", "run"),
    "compare": ("compare", "run", "run", "--json"),
}


@pytest.mark.parametrize("name", PRINTING)
def test_a_reader_that_has_gone_ends_the_command_silently(place, name):
    pipe = closed_pipe()
    try:
        ended = run(place, *PRINTING[name], stdout=pipe)
    finally:
        os.close(pipe)
    assert ended.returncode in (0, 141)
    assert not re.search(rb"error|Error|fault|Traceback", ended.stderr), ended.stderr


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize("name", PRINTING)
def test_a_full_disk_under_stdout_is_one_line(place, name):
    with FULL.open("wb") as full:
        ended = run(place, *PRINTING[name], stdout=full)
    lines = ended.stderr.decode().splitlines()
    assert (ended.returncode, [line for line in lines if line.startswith("error:")]) == (2, lines[-1:])
    assert "No space left on device" in lines[-1]


WRITING = {  # what writes a file that the user names
    "figure": ("figure", "run", "--layer", "conv1", "--out", "{}.png"),
    "convert": ("convert", "net.onnx", "--canonical", "--out", "{}"),
    "maximize": ("maximize", "net.onnx", "--layer", "conv1", "--channel", "1", "--quality", "draft", "--out", "{}.png"),
    "report": ("report", "run", "--single-file", "--out", "{}"),
    "folder": ("report", "run", "--out", "{}/site"),
    "compare": ("compare", "run", "run", "--out", "{}/compare"),
    "analyze": ("analyze", "net.onnx", "--out", "{}/run"),
}


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize("name", WRITING)
def test_a_place_that_takes_no_bytes_is_one_line(place, name):
    """A device that is full, and a file where a folder should be: a link to the one is both."""
    for link in ("full", "full.png"):
        if not (place / link).is_symlink():
            (place / link).symlink_to(FULL)
    ended = run(place, *(argument.format("full") for argument in WRITING[name]))
    lines = ended.stderr.decode().splitlines()
    assert (ended.returncode, [line for line in lines if line.startswith("error:")]) == (2, lines[-1:]), lines


def test_messages_that_nobody_can_read_do_not_stop_the_work(place):
    with FULL.open("wb") as full:
        ended = run(place, "analyze", "net.onnx", "--images", "photo.png", "--out", "unheard", stderr=full)
        refused = run(place, "inspect", "absent.onnx", stderr=full)
    assert (ended.returncode, refused.returncode) == (0, 2)
    assert (place / "unheard" / "site" / "index.html").is_file()


def test_standard_files_that_are_shut_are_no_files_of_ours(place):
    """The next file that is opened gets the lowest free number: what is printed must not reach it."""
    command = " ".join(FILTERSCOPE)
    for redirection in (">&-", "2>&-", "<&- >&- 2>&-"):
        shell = f"{command} analyze net.onnx --images photo.png --out shut {redirection}"
        ended = subprocess.run(shell, shell=True, cwd=place, env=environment(place), timeout=SECONDS)
        assert ended.returncode == 0
    assert (place / "shut" / ".lock").read_bytes() == b""


# --- interrupts


def interrupted(place, *arguments, when, pause=0.05, program=None):
    """What a process ends with that is interrupted twice as soon as `when` says so."""
    (place / "started").unlink(missing_ok=True)
    process = subprocess.Popen(
        program or [*FILTERSCOPE, *arguments],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + SECONDS
    while not when(process):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    return process.returncode, out, [line for line in said.decode().splitlines() if line]


def assert_interrupted(answer):
    code, _, lines = answer
    assert code == 130, lines
    assert [line for line in lines if line.startswith("interrupted")] == lines[-1:], lines
    assert not [line for line in lines if "Traceback" in line or "Error" in line], lines


# Stops inside the import of a module, before or after its code runs.
IMPORTING = """
import os, tempfile, sys, time, pathlib
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            pathlib.Path("started").touch()
            time.sleep(30)
sys.meta_path.insert(0, Finder())
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # what was opened before imports less
sys.argv = ["filterscope", "inspect", "net.onnx"]
from filterscope.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["typer", "numpy", "onnx", "torch", "filterscope.analyzer.network.network"])
@pytest.mark.parametrize("pause", [0.02, 0.3])
def test_two_interrupts_during_imports_end_with_130(place, name, pause):
    program = [sys.executable, "-c", IMPORTING.format(name=name)]
    assert_interrupted(interrupted(place, when=lambda _: (place / "started").exists(), pause=pause, program=program))


@pytest.mark.parametrize("pause", [0.01, 0.2, 0.6])
def test_two_interrupts_while_another_process_converts_end_with_130(place, pause):
    answer = interrupted(place, "inspect", "slow.py:net", when=lambda _: (place / "started").exists(), pause=pause)
    assert_interrupted(answer)


def test_two_interrupts_of_an_analysis_end_with_130(place):
    model = str(ROOT / "filterscope" / "data" / "cifar10_cnn.onnx")
    for index, pause in enumerate((0.01, 0.1, 0.5)):
        out = f"interrupted-{index}"
        answer = interrupted(
            place,
            *("analyze", model, "--quality", "fine", "--out", out),
            when=lambda _, out=out: (place / out / "tasks").is_dir(),
            pause=pause,
        )
        assert_interrupted(answer)
        assert answer[2][-1] == f"interrupted; what is done is kept in {out}: run the same command again to go on"


# Stops while the report is made, in its folder.
REPORTING = """
import sys, time, pathlib
from filterscope.reports.site import site
write = site.Site.write
def slow(self):
    pathlib.Path("started").touch()
    time.sleep(30)
site.Site.write = slow
sys.argv = ["filterscope", *sys.argv[1:]]
from filterscope.cli import main
main()
"""


@pytest.mark.parametrize(
    "arguments", [("report", "run"), ("analyze", "net.onnx", "--images", "photo.png", "--out", "run")]
)
def test_two_interrupts_during_the_report_end_with_130_and_leave_the_old_one(place, arguments):
    before = (place / "run" / "site" / "index.html").read_bytes()
    program = [sys.executable, "-c", REPORTING, *arguments]
    assert_interrupted(interrupted(place, when=lambda _: (place / "started").exists(), program=program))
    assert (place / "run" / "site" / "index.html").read_bytes() == before
    assert run(place, "report", "run").returncode == 0


def test_one_interrupt_of_any_command_says_so(place):
    program = [sys.executable, "-c", REPORTING, "report", "run"]
    code, _, lines = interrupted(place, when=lambda _: (place / "started").exists(), program=program, pause=0)
    assert (code, lines) == (130, ["interrupted"])


# --- names that are no text


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes only UTF-8")
def test_names_that_are_no_utf8_work(place):
    model, photo, out = f"{NOT_TEXT}.onnx", f"{NOT_TEXT}.png", f"{NOT_TEXT} run"
    (place / model).write_bytes((place / "net.onnx").read_bytes())
    (place / photo).write_bytes((place / "photo.png").read_bytes())
    data = place / f"{NOT_TEXT} data"
    data.mkdir(exist_ok=True)
    (data / photo).write_bytes((place / "photo.png").read_bytes())
    ended = run(place, "analyze", model, "--images", photo, "--out", out, "--examples", data.name)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == os.fsencode(f"{out}/site/index.html\n"), "the path as the system spells it"
    assert b"\xff" not in ended.stderr
    for arguments in (
        ("inspect", model),
        ("inspect", model, "--json"),
        ("report", out),
        ("report", out, "--single-file"),
        ("report", out, "--out", f"{NOT_TEXT} site", "--png"),
        ("maximize", model, "--layer", "conv1", "--channel", "1", "--quality", "draft", "--out", f"{NOT_TEXT} max.png"),
        ("figure", out, "--layer", "conv1", "--out", f"{NOT_TEXT} figure.pdf"),
        ("figure", out, "--layer", "conv1", "--out", f"{NOT_TEXT} figure.svg"),
        ("compare", out, "run", "--out", f"{NOT_TEXT} compare"),
        ("convert", model, "--canonical", "--out", f"{NOT_TEXT} copy.onnx"),
        ("attribute", model, photo, "--out", f"{NOT_TEXT} attribution"),
        ("clean", out),
    ):
        ended = run(place, *arguments)
        lines = ended.stderr.splitlines()
        assert (ended.returncode, lines[-1:] if ended.returncode else []) in ((0, []), (2, lines[-1:])), (
            arguments,
            lines,
        )
        assert b"fault" not in ended.stderr
        assert b"Traceback" not in ended.stderr
        if ended.returncode == 2:
            assert lines[-1].startswith(b"error: "), lines
            assert arguments[0] == "attribute", (arguments, lines)  # the network has no scores
    assert not (place / out).exists()
    for arguments in (("inspect", f"{NOT_TEXT} absent.onnx"), ("report", f"{NOT_TEXT} absent"), (NOT_TEXT,)):
        ended = run(place, *arguments)
        assert ended.returncode == 2
        assert b"fault" not in ended.stderr


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes only UTF-8")
def test_a_factory_in_a_file_of_such_a_name_is_one_line_or_works(place):
    (place / f"{NOT_TEXT}.py").write_text("from torch import nn\n\ndef net():\n    return nn.Conv2d(3, 2, 3)\n")
    ended = run(place, "inspect", f"{NOT_TEXT}.py:net", "--input-size", "16x16")
    assert ended.returncode in (0, 2)
    assert b"fault" not in ended.stderr


# --- folders that are not what they were


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_line(place, tmp_path):
    tmp_path.chmod(0o500)
    for name, arguments in WRITING.items():
        ended = run(place, *(argument.format(tmp_path / "new") for argument in arguments))
        lines = ended.stderr.splitlines()
        assert (ended.returncode, lines[-1][:7]) == (2, b"error: "), name
    tmp_path.chmod(0o700)


VANISHING = """
import os, shutil, sys
from filterscope.analyzer.run.writer import RunWriter
from filterscope.cli import main
write = RunWriter.write_bytes
def vanished(self, name, content):
    if name.startswith("tasks/"):
        shutil.rmtree(self.folder, ignore_errors=True)
        {instead}
    write(self, name, content)
RunWriter.write_bytes = vanished
sys.argv = ["filterscope", "analyze", "net.onnx", "--out", "vanishing", "--quiet"]
main()
"""


@pytest.mark.parametrize("instead", ["pass", "open(self.folder, 'w').close()"], ids=["nothing", "a file"])
def test_a_run_whose_folder_vanishes_is_one_line_or_made_again(place, instead):
    (place / "vanishing").unlink(missing_ok=True) if (place / "vanishing").is_file() else None
    ended = subprocess.run(
        [sys.executable, "-c", VANISHING.format(instead=instead)],
        cwd=place,
        env=environment(place),
        capture_output=True,
        timeout=SECONDS,
    )
    lines = ended.stderr.decode().splitlines()
    assert (ended.returncode, len([line for line in lines if line.startswith("error:")])) == (2, 1), lines
    assert "fault" not in ended.stderr.decode()
