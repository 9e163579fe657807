"""`filterscope attribute` as its user runs it: pictures, numbers, and a line for whatever does not fit."""

import json
import re

import numpy as np
import onnx
import pytest
from PIL import Image

import filterscope as fs
from filterscope.analyzer.attribution.methods import METHODS
from filterscope.converters.errors import SettingsError
from support.networks import build, normal

CLASSES = ["crane", "cane", "zebra"]
RUN = ("attribute", "net.onnx", "photo é.png", "--preprocess", "unit", "--quiet")
SIDE = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attribute")
    nodes = [
        ("Conv", "x k", "a", {"name": "one", "pads": [1, 1, 1, 1]}),
        ("Relu", "a", "r"),
        ("MaxPool", "r", "q", {"name": "pool", "kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Conv", "q w", "b", {"name": "two"}),
        ("GlobalAveragePool", "b", "p"),
        ("Flatten", "p", "s"),
        ("Softmax", "s", "y", {"axis": 1}),
    ]
    constants = {"k": normal(4, 3, 3, 3) / 5, "w": normal(3, 4, 3, 3) / 6}
    onnx.save(build(nodes, constants, shape=("N", 3, SIDE, SIDE)), folder / "net.onnx")
    smooth = [nodes[0], ("Sigmoid", "a", "r"), ("Conv", "r w", "y", {"name": "two"})]
    onnx.save(build(smooth, constants, shape=("N", 3, SIDE, SIDE)), folder / "smooth.onnx")
    (folder / "labels.txt").write_text("\n".join(CLASSES))
    (folder / "two-labels.txt").write_text("\n".join(CLASSES[:2]))
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for name in ("photo é.png", "photos/a.png", "photos/b.png"):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_three_pictures_a_method_and_a_table_of_numbers(ask, place):
    code, out, err = ask(*RUN, "--labels", "labels.txt", "--target", "zebra", "--out", "zebra")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("photo é.png: zebra, score ")
    assert [line.split()[0] for line in lines[2:10]] == list(METHODS)
    assert lines[8].split()[-1] == "two"
    assert lines[-1] == "zebra"
    files = sorted(path.name for path in (place / "zebra").iterdir())
    assert len(files) == 3 * len(METHODS)
    assert "photo-zebra-grad-cam-signed.png" in files
    with Image.open(place / "zebra" / "photo-zebra-guided.png") as picture:
        assert (picture.size, picture.mode) == ((SIDE, SIDE), "RGB")


def test_json_names_the_files_and_agrees_with_the_python_interface(ask, place):
    options = ("--target", "pool:1@2,3", "--method", "guided", "--method", "saliency", "--out", "j", "--json")
    code, out, err = ask(*RUN, *options)
    assert (code, err) == (0, "")
    told = json.loads(out)
    network = fs.open(place / "net.onnx", preprocess="unit")
    answer = fs.attribute(network, place / "photo é.png", "pool:1@2,3", ["guided", "saliency"])
    assert [row["method"] for row in told["attributions"]] == ["saliency", "guided"]
    for row, one in zip(told["attributions"], answer, strict=True):
        assert (row["layer"], row["target"], row["row"], row["column"]) == ("pool", 1, 2, 3)
        assert row["score"] == one.score
        assert row["maximum"] == pytest.approx(float(one.signed.max()))
        with Image.open(place / row["files"][2]) as picture:
            tile = np.asarray(picture).astype(int)
        largest = np.abs(one.signed).max()
        np.testing.assert_allclose((tile - 128) / 127 * largest, one.signed, atol=largest / 200)


def test_one_class_rather_than_another_is_a_target(ask, place):
    options = ("--target", "zebra - 0", "--method", "saliency", "--out", "d")
    code, out, err = ask(*RUN, "--labels", "labels.txt", *options)
    assert (code, err) == (0, "")
    assert re.match(r"photo é\.png: zebra - crane, difference -?[\d.e-]+\n", out), out
    code, out, _ = ask(*RUN, "--labels", "labels.txt", *options, "--json")
    (row,) = json.loads(out)["attributions"]
    assert (row["label"], row["minus"], row["minus_label"]) == ("zebra", 0, "crane")
    assert row["files"][0].endswith("-saliency.png")


def test_the_randomisation_test_is_printed_with_the_methods(ask):
    code, out, _ = ask(*RUN, "--method", "saliency,grad-cam", "--sanity", "--out", "s")
    assert code == 0
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Randomised from the output down"))
    assert lines[start + 1].split() == ["down", "to", "saliency", "grad-cam"]
    assert [line.split()[0] for line in lines[start + 2 : start + 4]] == ["two", "one"]


def test_a_folder_is_explained_picture_by_picture(ask, place):
    arguments = ("attribute", "net.onnx", "photos", *RUN[3:], "--method", "saliency", "--target", "0", "--target", "1")
    code, out, _ = ask(*arguments, "--out", "both")
    assert code == 0
    assert out.count("saliency") == 4
    assert len(list((place / "both").glob("*.png"))) == 12


def test_an_answer_shows_itself_in_a_notebook(place):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 16, 3), dtype=np.uint8)
    network = fs.open(place / "net.onnx", preprocess="unit")
    answer = fs.attribute(network, [pixels], labels=["<b>", "é", "&"], method="default", sanity=True)
    shown = answer._repr_html_()
    assert shown.count("<img") == 5
    assert "<b>" not in shown
    assert "rank correlation" in shown
    assert answer["guided"].signed.shape == (SIDE, SIDE)
    with pytest.raises(SettingsError, match="`method=occlusion`: this answer has saliency"):
        answer["occlusion"]


def test_what_does_not_suit_the_network_is_left_out_with_a_note(ask):
    code, out, _ = ask("attribute", "smooth.onnx", *RUN[2:], "--out", "n")
    assert code == 0
    assert "note: guided: no ReLU of any spelling stands before two:" in out
    assert "occlusion" in out


WRONG = {
    "cranes": (
        ["--target", "cranes", "--labels", "labels.txt"],
        "--target cranes: no label is called that; did you mean",
    ),
    "no labels": (["--target", "crane"], "--target crane: give a number from 0 to 2, or names with --labels"),
    "too few labels": (
        ["--target", "crane", "--labels", "two-labels.txt"],
        "--labels: 2 names for a network of 3 classes",
    ),
    "layer": (["--layer", "tow"], "--layer: no layer or value is called 'tow'; near: two"),
    "no maps": (["--layer", "s"], "--layer s: s has no maps, only [1, 3]"),
    "method": (["--method", "lime"], "--method lime: give all, default or some of saliency"),
    "unsuited": (
        ["--method", "guided", "--target", "one:0"],
        "--method guided: no ReLU of any spelling stands before one:0",
    ),
    "out": (["--out", "labels.txt"], "--out labels.txt: labels.txt is a file; give a folder"),
    "device": (["--device", "abacus"], "--device abacus: not to be had"),
    "channel": (["--target", "two:3"], "--target two:3: two has channels 0 to 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_is_one_line_and_exit_code_2(name, ask):
    options, said = WRONG[name]
    code, out, err = ask(*RUN, *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1


def test_a_missing_photo_is_named(ask):
    code, _, err = ask("attribute", "net.onnx", "none.png", *RUN[3:])
    assert (code, err) == (2, "error: none.png: no such file or folder\n")


def test_analyze_adds_attributions_to_its_run(ask, place):
    options = ("--images", "photos", "--out", "run", "--channels", "0", "--preprocess", "unit", "--quiet")
    code, _, err = ask("analyze", "net.onnx", *options, "--attribution", "saliency,grad-cam", "--sanity")
    assert (code, err) == (0, "")
    run = fs.Run(place / "run")
    rows = run.table("attribution/attributions.parquet").to_pylist()
    assert [row["method"] for row in rows if row["minus"] is None] == ["saliency", "grad-cam"] * 2
    assert [row["method"] for row in rows if row["minus"] is not None] == ["grad-cam"] * 2
    assert len(run.table("attribution/sanity.parquet")) == 4
    code, _, err = ask("analyze", "net.onnx", *options, "--attribution", "lime")
    assert (code, err[:27]) == (2, "error: --attribution lime: ")
    code, _, err = ask("analyze", "net.onnx", *options, "--sanity")
    assert (code, err) == (2, "error: --sanity: is of the attributions you choose; give --attribution default too\n")
