"""What a request refuses, and the files that it reads."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from filterscope.analyzer.maximize.presets import Recipe
from filterscope.cli import _run
from filterscope.converters.errors import SettingsError
from filterscope.requests.convert import ConvertRequest
from filterscope.requests.labels import read_labels
from filterscope.requests.maximize import MaximizeRequest, Pair
from filterscope.requests.runs import ReportRequest

RECIPE = Recipe.named("filterscope", "draft")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ReportRequest(single_file=True, png=True), "`png`: a single file holds no files"),
        (lambda: ReportRequest(single_file=True, out=Path("folder")), "`out=folder`: the single file is HTML"),
        (
            lambda: MaximizeRequest(recipe=RECIPE, layer="conv1", class_name="cat"),
            "maximize: give `layer`, or `class` for the network's own scores",
        ),
        (
            lambda: MaximizeRequest(recipe=RECIPE, layer="conv1", pair=Pair(first=3, second=17), objective="neuron"),
            "maximize: `pair` is an objective itself; leave `objective` out",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(make, words):
    with pytest.raises(SettingsError, match=re.escape(words)):
        make()


def test_a_pair_is_written_as_it_is_given():
    assert str(Pair(first=3, second=17, steps=5)) == "3,17:5"


def test_a_model_that_is_onnx_is_converted_into_its_normal_form_alone(tmp_path):
    network = SimpleNamespace(model=SimpleNamespace(converted=False, path="m.onnx"))
    with pytest.raises(SettingsError, match=r"m\.onnx: is ONNX already; `canonical` writes its normal form"):
        ConvertRequest(out=tmp_path / "out.onnx").run(network)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id,name\n0,cat\n1,dog\n", ["cat", "dog"]),
        ("class\ncat\ndog\n", ["cat", "dog"]),
        ('\ufefflabel,name\nno,"cat, black"\nno,\n', ["cat, black", ""]),
        ("id,label\n0,cat\n1\n", ["cat", ""]),
    ],
)
def test_a_table_gives_the_names_of_its_column(tmp_path, text, names):
    (tmp_path / "labels.CSV").write_text(text, encoding="utf-8")
    assert read_labels(tmp_path / "labels.CSV") == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,animal\n0,cat\n", "no column is called name, label or class"),
        ("name\n", "no column is called name, label or class"),
        ("", "no column is called name, label or class"),
        (f"name\n{'x' * 200_000}\n", "cannot be read as a table (field larger than field limit"),
    ],
)
def test_a_table_without_names_is_refused(tmp_path, text, words):
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=re.escape(f"labels.csv`: {words}")):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ("scale", "--feed scale: give NAME=FILE.npy"),
        ("=a.npy", "--feed =a.npy: give NAME=FILE.npy"),
        ("scale=", "--feed scale=: give NAME=FILE.npy"),
        ("scale=none.npy", "--feed scale=none.npy: none.npy cannot be read as an .npy file"),
        ("scale=text.npy", "--feed scale=text.npy: text.npy cannot be read as an .npy file"),
        ("scale=two.npz", "--feed scale=two.npz: two.npz holds several arrays; give an .npy file, which holds one"),
    ],
)
def test_what_cannot_be_fed_is_refused(tmp_path, monkeypatch, capsys, feed, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.npy").write_text("no array")
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    assert _run(["inspect", "model.onnx", "--feed", feed]) == 2
    assert capsys.readouterr().err == f"error: {words}\n"


def test_white_needs_pictures_to_be_of(tmp_path, capsys):
    assert _run(["analyze", str(tmp_path / "m.onnx"), "--white", "4095"]) == 2
    assert capsys.readouterr().err == "error: --white: is of your pictures; give --images or --examples\n"
