"""One name for one thing on all pages: names that the report once had beside others stand nowhere."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.reports.compare.compare import compare
from filterscope.reports.compare.pages import render as render_comparison
from filterscope.reports.page.units import KINDS
from filterscope.reports.site.definitions import DEFINITIONS
from filterscope.reports.site.site import render
from support.pages import read
from support.synthetic_run import synthetic_run

RETIRED = {  # → the name that stands instead
    r"In your image\b": "Accentuation",
    r"Top patch": "Strongest on the data",
    r"Best input": "Analytic, own input",
    r"\b[Uu]nits\b": "channels",
    r"\bUnit\b": "Channel",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(synthetic_run(tmp_path_factory.mktemp("names") / "run", layers=2, channels=4, images=2, studies=True))


@pytest.mark.parametrize("name", RETIRED)
def test_a_retired_name_stands_on_no_page_and_in_no_script(run, tmp_path, name):
    pages = [*render(run, tmp_path / "site").parent.glob("*.html")]
    pages.append(render_comparison(compare(run, run), tmp_path / "comparison"))
    for page in pages:
        found = re.search(rf".{{0,60}}{name}.{{0,60}}", " ".join(read(page).text.split()))
        assert found is None, f"{page.name}: {found[0]}: say {RETIRED[name]}"
    for script in resources.files("filterscope.reports").joinpath("static").iterdir():
        if script.name.endswith(".js"):
            texts = re.findall(r"\"[^\"\n]*\"|`[^`]*`", script.read_text("utf-8"))
            shown = [
                text for text in texts if " " in text and re.search(name, text) and not re.search(r"[.#]units", text)
            ]
            assert shown == [], f"{script.name}: say {RETIRED[name]}"


def test_a_kind_of_picture_and_its_definition_share_their_name():
    titles = {definition.anchor: definition.title for definition in DEFINITIONS}
    for title, _, anchor in KINDS.values():
        first = re.split(r"[ ,]", title)[0]
        assert titles[anchor].startswith(first), (title, titles[anchor])
