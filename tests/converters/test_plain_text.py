"""Names from files as people see them: nothing invisible, nothing that turns other text around."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from filterscope import cli
from filterscope.analyzer.run.notebook import figure
from filterscope.analyzer.run.reader import Run
from filterscope.converters.plain_text import escaped_json, visible
from filterscope.exit_codes import path_text, say
from filterscope.reports.compare.compare import compare
from filterscope.reports.site.site import render, render_single
from support.synthetic_run import synthetic_run

MARKS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u034f\ufe0f\u3164\U000e0041"
CONTROLS = "\x00\x07\x1b\x7f\x80\x85\x9b\u2028\u2029"
NAMES = tuple(f"n{i}{character}end" for i, character in enumerate(MARKS + ZERO_WIDTH + CONTROLS))


def unseen(text: str) -> set[str]:
    """The characters of a text that nobody sees, lines and tabs excepted."""
    return {
        character
        for character in text
        if character not in "\n\t"
        and (unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in ZERO_WIDTH)
    }


@pytest.mark.parametrize("character", MARKS + ZERO_WIDTH + CONTROLS, ids=lambda c: f"U+{ord(c):04X}")
def test_an_unseen_character_is_written_out(character):
    shown = visible(f"a{character}b")
    assert unseen(shown) == set()
    assert shown.startswith("a")
    assert shown.endswith("b")
    assert len(shown) > 2


@pytest.mark.parametrize("text", ["conv 1/Relu:0", "été 🦊", "شبكة", "层", "ü", "a b", "½ × 3²"])
def test_what_is_seen_stays(text):
    assert visible(text) == text


def test_marks_are_told_apart():
    assert visible("\u202e") == "‹U+202E›"
    assert len({visible(f"conv{mark}") for mark in MARKS}) == len(MARKS)
    assert visible("a\x00b\ud800c") == "a\ufffdb\ufffdc"
    assert visible("a\nb", keep="\n") == "a\nb"


def test_json_keeps_its_values_and_shows_each_character():
    value = {"names": [*NAMES, "é🦊\ud800"], "numbers": [1.5, None]}
    text = escaped_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert unseen(text) == set()
    assert json.loads(text) == value


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    place = tmp_path_factory.mktemp("marks")
    options = {"layers": 3, "channels": 4, "images": 12, "names": NAMES[::3], "studies": True}
    a, b = (Run(synthetic_run(place / name, **options)) for name in "ab")
    render_single(a)
    compare(a, b).save(place / "compare")
    render(a)
    return place


def test_no_file_of_a_report_holds_a_character_that_nobody_sees(pages):
    files = [path for path in pages.rglob("*") if path.suffix in (".html", ".js", ".css")]
    files += [*pages.glob("a/site/assets/*.json"), pages / "compare" / "compare.json"]
    assert len(files) > 20
    assert {path.name: unseen(path.read_text(encoding="utf-8")) for path in files} == {
        path.name: set() for path in files
    }
    text = (pages / "a" / "site" / "index.html").read_text(encoding="utf-8")
    assert "‹U+202A›" in text


def test_json_for_scripts_holds_the_names_themselves(pages):
    index = json.loads((pages / "a" / "site" / "assets" / "index.json").read_text(encoding="utf-8"))
    assert [layer["name"] for layer in index["layers"]] == [layer["name"] for layer in Run(pages / "a").layers]


def test_messages_and_notebooks_show_what_is_unseen(capsys):
    say("".join(NAMES))
    complaint = capsys.readouterr().err
    assert unseen(complaint) == set()
    assert complaint.count("\n") == 1
    assert "‹U+202E›" in complaint
    assert unseen(figure(None, "".join(NAMES))) == set()


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """A small classifier whose names turn text around, break lines and colour terminals."""
    rng = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.normal(size=(4, 3)).astype(np.float32), "m"),
    ]
    nodes = [
        helper.make_node("Conv", ["image\u2066", "w"], ["y\u202e"], "conv\u202e\n\x1b[31mevil\u200b"),
        helper.make_node("Relu", ["y\u202e"], ["z"], "relu"),
        helper.make_node("GlobalAveragePool", ["z"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "m"], ["out\u200f"], "dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "marked",
        [helper.make_tensor_value_info("image\u2066", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("out\u200f", TensorProto.FLOAT, ["N", 3])],
        constants,
    )
    place = tmp_path_factory.mktemp("marked")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, place / "marked.onnx")
    Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(place / "ph\u202eoto.png")
    (place / "labels.txt").write_text("cat\u202e\ndog\u2069\nelk\n", encoding="utf-8")
    return place


COMMANDS = [
    ["inspect"],
    ["inspect", "--json"],
    ["maximize", "--layer", "conv*", "--channel", "1", "--quality", "draft", "--device", "cpu"],
    ["attribute", "PHOTO", "--labels", "labels.txt", "--method", "saliency", "--device", "cpu"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_terminals_see_every_character_of_a_name(command, marked, monkeypatch, capsys):
    monkeypatch.chdir(marked)
    options = ["ph\u202eoto.png" if word == "PHOTO" else word for word in command[1:]]
    code = cli._run([command[0], "marked.onnx", *options, "--preprocess", "unit"])
    out, err = capsys.readouterr()
    assert code == 0, err
    lines = out.splitlines()
    if command[0] == "attribute":
        assert lines.pop() == "ph\u202eoto-attribution"  # a path, as a script needs it
    assert {character for line in lines for character in unseen(line)} == set()
    assert unseen(err) == set()
    assert "U+202E" in out or "\\u202e" in out


def test_a_path_is_itself_for_scripts_and_seen_at_a_terminal(monkeypatch):
    assert path_text(Path("ph\u202eoto")) == "ph\u202eoto"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert path_text(Path("ph\u202eoto")) == "ph‹U+202E›oto"
