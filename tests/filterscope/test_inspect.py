"""The table of layers that `inspect` prints."""

import onnx
from typer.testing import CliRunner

from filterscope.cli import app
from support.batch_networks import modulated, whole_maximum
from support.networks import build, normal

SAME = {"pads": [1, 1, 1, 1]}


def inspected(folder, model):
    onnx.save(model, folder / "model.onnx")
    shown = CliRunner().invoke(app, ["inspect", str(folder / "model.onnx"), "--preprocess", "unit"])
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


def test_what_is_computed_one_picture_at_a_time_is_noted(tmp_path):
    out = inspected(tmp_path, whole_maximum())
    assert "Note: " in out


def test_computed_kernels_are_named(tmp_path):
    out = inspected(tmp_path, modulated())
    assert "Kernel or bias computed by the network itself" in out
