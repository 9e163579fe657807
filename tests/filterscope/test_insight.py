"""Classes, inversion and groups on the command line: what is asked for is in the run, what is wrong is one line."""

import onnx
import pytest
from PIL import Image

from filterscope.analyzer.run.reader import Run
from filterscope.cli import _run
from support.classifier import classifier
from support.photos import photo


@pytest.fixture
def given(tmp_path):
    """A model file, a folder of two photos, and how they are named on the command line."""
    onnx.save(classifier(metadata={"names": "{0: 'bright', 1: 'dark', 2: 'red', 3: 'grey'}"}), tmp_path / "m.onnx")
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo(16)).save(tmp_path / "photos" / "one.png")
    return ["analyze", str(tmp_path / "m.onnx"), "--preprocess", "unit", "--out", str(tmp_path / "run"), "--quiet"]


def test_all_three_are_in_the_run(given, tmp_path, capsys):
    asked = ["--classes", "dark", "--classes", "2", "--inversion", "auto", "--groups", "look"]
    assert _run([*given, "--images", str(tmp_path / "photos"), *asked]) == 0
    run = Run(tmp_path / "run")
    assert run.table("classes/classes.parquet")["label"].to_pylist() == ["dark", "red"]
    assert set(run.table("inversion/inversions.parquet")["layer"].to_pylist()) == {"look"}
    assert set(run.table("groups/groups.parquet")["layer"].to_pylist()) == {"look"}
    assert len(run.table("groups/grid.parquet")) == 49
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--classes", "drak,1"], "--classes drak: no label is called that; did you mean dark?"),
        (["--inversion", "auto"], "--inversion: is of your images; give --images"),
        (["--groups", "auto"], "--groups: is of your images; give --images"),
        (["--labels", "imagenet"], "--labels: 1000 names for 4 outputs; give one name a line"),
        (["--images", "{photos}", "--inversion", "lok"], "no layer matches 'lok'; nearest: look"),
        (["--images", "{photos}", "--groups", "lok"], "no layer matches 'lok'; nearest: look"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_written(asked, message, given, tmp_path, capsys):
    asked = [part.format(photos=tmp_path / "photos") for part in asked]
    assert _run([*given, *asked]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
