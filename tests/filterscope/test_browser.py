"""The report in the user's browser: started apart from us, and only where somebody can see it."""

import os
import sys
import time

import pytest

from filterscope import cli
from filterscope.commands import browser
from support.synthetic_run import synthetic_run


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A small run, and an environment that says nothing of browsers."""
    for name in ("CI", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    return synthetic_run(tmp_path / "a run", layers=1, channels=2, images=0, not_analysed=0)


def own_browser(tmp_path, monkeypatch, code):
    """A program that stands for the user's browser."""
    program = tmp_path / "browser.py"
    program.write_text(code, encoding="utf-8")
    monkeypatch.setenv("BROWSER", f"{sys.executable} {program} %s")


@pytest.mark.parametrize(
    ("environment", "system", "reason"),
    [
        ({"DISPLAY": ":0"}, "linux", ""),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", ""),
        ({"BROWSER": "lynx"}, "linux", ""),
        ({}, "darwin", ""),
        ({}, "win32", ""),
        ({"CI": "false", "DISPLAY": ":0"}, "linux", ""),
        ({}, "linux", "there is no display (neither DISPLAY nor BROWSER is set)"),
        ({"CI": "true", "DISPLAY": ":0"}, "linux", "this is a CI job"),
        ({"CI": "1"}, "darwin", "this is a CI job"),
    ],
)
def test_a_page_is_opened_where_somebody_can_see_it(environment, system, reason):
    assert browser.why_not(environment, system) == reason


@pytest.mark.skipif(os.name != "posix", reason="BROWSER is read on POSIX alone")
@pytest.mark.parametrize(
    ("options", "page"), [([], "site/index.html"), (["--watch"], "site/index.html"), (["--single-file"], "report.html")]
)
def test_the_browser_gets_the_files_address_and_cannot_write_into_our_output(
    run, tmp_path, monkeypatch, capfd, options, page
):
    own_browser(
        tmp_path,
        monkeypatch,
        "import sys, pathlib; print('noise'); pathlib.Path(__file__).with_suffix('.txt').write_text(sys.argv[1])",
    )
    assert cli._run(["report", str(run), *options, "--open"]) == 0
    out, err = capfd.readouterr()
    assert out == f"{run / page}\n"
    assert "note" not in err
    assert (tmp_path / "browser.txt").read_text(encoding="utf-8") == (run / page).as_uri()
    assert "a%20run" in (run / page).as_uri()


@pytest.mark.skipif(os.name != "posix", reason="BROWSER is read on POSIX alone")
def test_a_browser_that_stays_is_not_waited_for(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(browser, "PATIENCE", 0.5)
    own_browser(tmp_path, monkeypatch, "import time; time.sleep(3)")
    started = time.monotonic()
    browser.show_page(run / "site" / "index.html")
    assert time.monotonic() - started < 2.5
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "there is no display (neither DISPLAY nor BROWSER is set)"),
        ({"BROWSER": "/no/such/browser"}, "no browser could be started"),
        ({"CI": "true"}, "this is a CI job"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a display and a browser")
def test_where_no_browser_is_a_sentence_says_so_and_the_report_is_there(run, monkeypatch, capsys, variables, reason):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", "/no/such/folder")
    assert cli._run(["report", str(run), "--open"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{run / 'site' / 'index.html'}\n"
    assert err == f"note: the report is not opened: {reason}\n"
