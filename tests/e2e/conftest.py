"""The command in this process, for modules whose fixture `place` is a folder to run it in."""

import signal

import pytest

from filterscope import cli


@pytest.fixture
def ask(place, monkeypatch, capsys):
    """The command in this process: exit code, stdout, stderr."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "200")

    def asked(*arguments):
        code = cli._run(list(arguments))
        return code, *capsys.readouterr()

    return asked
