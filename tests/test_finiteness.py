"""A network that holds NaN or infinity says so, wherever it is proven: forms that agree on NaN agree on nothing."""

import warnings

import numpy as np
import onnx
import pytest
from networks import build, normal

from analyzer.run import Run
from converters.finiteness import not_finite
from filterscope import cli
from reports.summary import parity_warnings

NODES = [
    ("Conv", "x k", "a", {"name": "one"}),
    ("Relu", "a", "r"),
    ("Conv", "r w", "b", {"name": "two"}),
    ("Conv", "b v", "c", {"name": "three"}),
]
NAN_WEIGHT = "two: one of its weights is NaN; what depends on it is no number either."
CASES = {  # weight of a layer → value, what is said first
    "NaN": (("w", np.nan), NAN_WEIGHT),
    "infinite": (("w", np.inf), NAN_WEIGHT.replace("NaN", "infinite")),
    "large": (("k", 3e38), "one: some of its values on random images are infinite (and of 2 more layers)."),
}


def saved(folder, name, value):
    constants = {"k": abs(normal(4, 3, 3, 3)), "w": normal(4, 4, 3, 3), "v": normal(2, 4, 3, 3)}
    constants[name][1, :2, 0, 0] = (value, value if np.isfinite(value) else 3e38)
    onnx.save(build(NODES, constants, shape=("N", 3, 12, 12)), folder / "net.onnx")
    return str(folder / "net.onnx")


@pytest.mark.parametrize("case", CASES)
def test_inspect_analyze_maximize_and_the_report_name_the_first_layer(case, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    weight, sentence = CASES[case]
    options = [saved(tmp_path, *weight), "--preprocess", "unit"]
    ascent = [*options, "--quality", "draft", "--device", "cpu"]

    assert cli._run(["inspect", *options]) == 0
    shown = capsys.readouterr()
    assert f"Warning: {sentence}" in shown.out
    assert f"note: {sentence}" in shown.err
    with warnings.catch_warnings(record=True) as leaks:
        warnings.simplefilter("always", RuntimeWarning)
        assert cli._run(["analyze", *ascent, "--out", "run", "--quiet"]) == 0
    assert [f"{leak.filename}:{leak.lineno}: {leak.message}" for leak in leaks] == []
    assert f"note: {sentence}" in capsys.readouterr().err
    assert parity_warnings(Run(tmp_path / "run").info)[0] == sentence
    assert sentence in (tmp_path / "run/site/index.html").read_text("utf-8")
    assert cli._run(["maximize", *ascent, "--layer", "three", "--channel", "0"]) == 0
    shown = capsys.readouterr()
    assert f"note: {sentence}" in shown.err
    assert "the network itself answers to random images with no finite number" in shown.out


def test_what_of_an_array_is_no_number():
    assert not_finite(np.array([1.0, 3e38, 3e38, 3e38], np.float32)) == ""  # their sum is infinite, none of them is
    assert not_finite(np.array([1.0, np.nan, -np.inf])) == "NaN or infinite"
    assert not_finite(np.array([1, 2])) == ""


def test_an_infinite_constant_that_is_no_weight_is_no_fault(tmp_path, monkeypatch, capsys):
    """A mask, say."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    nodes = [*NODES[:2], ("Max", "r low", "b"), ("Conv", "b w", "c", {"name": "two"})]
    constants = {"k": normal(4, 3, 3, 3), "w": normal(4, 4, 3, 3), "low": np.float32(-np.inf)}
    onnx.save(build(nodes, constants, shape=("N", 3, 12, 12)), tmp_path / "net.onnx")

    assert cli._run(["inspect", str(tmp_path / "net.onnx"), "--preprocess", "unit"]) == 0
    assert "infinite" not in "".join(capsys.readouterr())
