"""What modules of these tests share: the command in this process, Chromium and Firefox.

`ask` runs in the folder that a module's fixture `place` is.
"""

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


@pytest.fixture(scope="module")
def browser():
    """Chromium, for modules marked with `support.chromium.IN_CHROMIUM`."""
    from support.chromium import CHROMIUM, sync_api  # skips a module that imports it: here only where it is used

    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    """Firefox; where there is none, the test is skipped."""
    from support.firefox import FIREFOX, Firefox

    if FIREFOX is None:
        pytest.skip("needs a Firefox on the PATH, or its path in FILTERSCOPE_FIREFOX")
    with Firefox(tmp_path_factory.mktemp("firefox")) as browser:
        yield browser
