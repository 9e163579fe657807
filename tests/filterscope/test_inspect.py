"""The table of layers that `inspect` prints."""

import json

import onnx
from typer.testing import CliRunner

from filterscope.cli import app
from support.batch_networks import modulated, whole_maximum
from support.networks import build, normal
from support.value_network import value_network

SAME = {"pads": [1, 1, 1, 1]}


def inspected(folder, model, *options):
    onnx.save(model, folder / "model.onnx")
    shown = CliRunner().invoke(app, ["inspect", str(folder / "model.onnx"), "--preprocess", "unit", *options])
    assert shown.exit_code == 0, shown.stderr
    return shown.stdout


def test_a_kernels_size_stride_dilation_and_groups_are_shown(tmp_path):
    nodes = [
        ("Conv", "x a", "c", {"name": "plain", "pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("Conv", "c b", "d", {"name": "dilated", "pads": [2, 2, 2, 2], "dilations": [2, 2]}),
        ("Conv", "d e", "f", {"name": "depthwise", "group": 4}),
        ("Conv", "f g", "h", {"name": "grouped", "group": 2}),
        ("ConvTranspose", "h i", "j", {"name": "upwards", "strides": [2, 2]}),
        ("Reshape", "j s", "k"),
        ("Conv", "k l", "m", {"name": "line"}),
    ]
    constants = {"a": normal(4, 3, 3, 3), "b": normal(4, 4, 3, 3), "e": normal(4, 1, 1, 1), "g": normal(4, 2, 1, 1)}
    constants |= {"i": normal(4, 2, 2, 2), "s": [0, 2, -1], "l": normal(2, 2, 3)}
    out = inspected(tmp_path, build(nodes, constants, shape=("N", 3, 16, 16)))
    rows = {words[1]: line for line in out.splitlines() if len(words := line.split()) > 2}
    assert "3×3/2" in rows["plain"]
    assert "3×3 d2" in rows["dilated"]
    assert "1×1 dw" in rows["depthwise"]
    assert "1×1 g2" in rows["grouped"]
    assert "2×2/2 up" in rows["upwards"]
    assert "1-d" in rows["line"]


def test_all_values_stand_in_a_tree_of_modules(tmp_path):
    lines = inspected(tmp_path, value_network(), "--all").splitlines()
    start = next(place for place, line in enumerate(lines) if line == "layer1")
    shown = [line[:52].rstrip() for line in lines[start : start + 5]]
    assert shown == [
        "layer1",
        "  layer1.0",
        f"    {'layer1.0.conv':<30} {'conv':<17}".rstrip(),
        f"    {'c':<30} {'add':<17}".rstrip(),
        f"  {'layer1.0':<32} {'activation, block':<17}".rstrip(),
    ]
    values = json.loads(inspected(tmp_path, value_network(), "--all", "--json"))["values"]
    head = next(value for value in values if value["name"] == "head")
    assert (head["kind"], head["channels"], head["maps"], head["block"]) == ("dense", 5, [1, 1], False)


def test_what_is_computed_one_picture_at_a_time_is_noted(tmp_path):
    out = inspected(tmp_path, whole_maximum())
    assert "Note: " in out


def test_computed_kernels_are_named(tmp_path):
    out = inspected(tmp_path, modulated())
    assert "Kernel or bias computed by the network itself" in out
