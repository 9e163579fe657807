"""What went wrong becomes one line and an exit code, and only our own faults leave a traceback."""

import errno
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from filterscope import cli, exit_codes, interrupts
from filterscope.converters.errors import SettingsError


@pytest.fixture
def ends_with(monkeypatch, tmp_path):
    """A function that runs a command which raises an exception, or calls a function."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(end):
        def main(*_, **__):
            if isinstance(end, BaseException):
                raise end
            end()

        monkeypatch.setattr(typer.main, "get_command", lambda app: SimpleNamespace(main=main))
        return cli._run([])

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SettingsError("`quality=best`: give draft"), "error: --quality best: give draft\n"),
        (MemoryError(), "error: "),
        (OSError(errno.ENOSPC, "No space left"), "error: the disk is full (No space left); free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "a.npy"), "error: a.npy: Permission denied; see that it"),
        (PermissionError(errno.EACCES, "Permission denied", b"a.npy"), "error: a.npy: Permission denied; see that it"),
        (OSError(errno.EEXIST, "File exists", "a", None, "b"), "error: a → b: File exists; see that it is there"),
        (OSError(errno.EMFILE, "Too many open files"), "error: a file: Too many open files; see that it is there"),
        (
            UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"),
            "error: a name is not UTF-8 ('a\\udcff'); rename it\n",
        ),
    ],
)
def test_what_the_user_can_mend_is_one_line(ends_with, capsys, tmp_path, error, line):
    assert ends_with(error) == exit_codes.USERS_INPUT
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        ValueError("what\nand more"),
        ValueError(),
        OSError(errno.EINVAL, "Invalid argument"),
        UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range(128)"),
    ],
)
def test_what_is_our_fault_leaves_its_traceback_in_a_file(ends_with, capsys, tmp_path, error):
    assert ends_with(error) == exit_codes.OUR_FAULT
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"filterscope failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    (file,) = tmp_path.iterdir()
    assert second == f"This is our fault, not yours. The traceback is in {file}; please report it."
    assert file.read_text(encoding="utf-8").startswith("Traceback (most recent call last)")


def test_a_traceback_that_cannot_be_saved_is_no_second_failure(ends_with, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert ends_with(ValueError("what")) == exit_codes.OUR_FAULT
    assert "The traceback could not be saved (No such file or directory)." in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupt_has_its_own_code(ends_with, capfd, error):
    assert ends_with(error) == exit_codes.INTERRUPTED
    assert capfd.readouterr().err.startswith("interrupted")


def test_an_interrupt_that_a_library_made_another_error_of_stays_one(ends_with, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(interrupts, "was_interrupted", lambda: True)
    assert ends_with(ValueError("of the library")) == exit_codes.INTERRUPTED
    assert "of the library" not in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_reader_who_has_gone_is_no_error(ends_with, capsys):
    assert ends_with(BrokenPipeError(errno.EPIPE, "Broken pipe")) == exit_codes.DONE
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_output_that_cannot_be_written_is_an_error(ends_with, capsys, monkeypatch):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert ends_with(lambda: print("the result")) == exit_codes.USERS_INPUT
    assert capsys.readouterr().err.startswith("error: standard output: the disk is full")


def test_output_that_is_shut_is_no_error(ends_with, monkeypatch, tmp_path):
    with (tmp_path / "out.txt").open("w", encoding="utf-8") as file:
        pass
    monkeypatch.setattr(sys, "stdout", file)
    assert exit_codes.flush_output() is None
