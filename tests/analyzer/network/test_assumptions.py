"""What the input's type, arithmetic and metadata say of it, and that what is assumed is said on every command."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from torch import nn
from typer.testing import CliRunner

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.inputs import guess_preprocessing
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS, custom
from filterscope.analyzer.network.ultralytics import export_of
from filterscope.cli import app
from filterscope.converters.errors import SettingsError
from support.graphs import KERNEL, graph_of
from support.networks import build, normal

YOLO = {
    "description": "Ultralytics YOLOv8n model trained on coco.yaml",
    "author": "Ultralytics",
    "version": "8.3.40",
    "stride": "32",
    "task": "detect",
    "batch": "1",
    "imgsz": "[96, 64]",
    "names": "{0: 'person', 1: 'bicycle', 2: 'car'}",
}
BODY = [("Conv", "x k", "a"), ("Relu", "a", "r"), ("GlobalAveragePool", "r", "p"), ("Flatten", "p", "y")]


def saved(folder, nodes=BODY, *, metadata=None, **options):
    constants = {"k": normal(4, options.pop("channels", 3), 3, 3), **options.pop("constants", {})}
    model = build(nodes, constants, **options)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def said(*arguments):
    """Exit code, standard output and standard error of a command."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return found.exit_code, found.stdout, found.stderr


# --- the input's type

CAST = [("Cast", "x", "f", {"to": TensorProto.FLOAT}), ("Conv", "f k", "a"), *BODY[1:]]


def test_unsigned_bytes_are_pixels_as_they_are(tmp_path):
    network = open_network(saved(tmp_path, CAST, dtype=TensorProto.UINT8))
    assert (network.input.preprocessing, network.input.certain) == (PRESETS["raw255"], True)
    assert "unsigned bytes" in network.input.why


def test_unsigned_bytes_whose_channels_the_graph_swaps_stay_rgb(tmp_path):
    nodes = [("Gather", "x bgr", "s", {"axis": 1}), ("Cast", "s", "f", {"to": TensorProto.FLOAT}), *CAST[1:]]
    file = saved(tmp_path, nodes, dtype=TensorProto.UINT8, constants={"bgr": np.array([2, 1, 0])})
    network = open_network(file)
    pixels = network.random_pixels(1, (16, 16), 0)
    answer = onnxruntime.InferenceSession(file).run(None, {"x": np.moveaxis(pixels, 3, 1)})[0]
    assert network.input.preprocessing == PRESETS["raw255"]
    np.testing.assert_allclose(network.session([]).run(network.input.to_model(pixels))["y"], answer, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "low", "words"),
    [("int8", -128, "signed bytes"), ("uint16", 0, "whole numbers .uint16"), ("int64", 0, "whole numbers")],
)
def test_other_whole_numbers_are_an_assumption_and_never_0_to_1(dtype, low, words):
    found, why, certain = guess_preprocessing(graph_of([("Conv", "x w", "y")], {"w": KERNEL}), {}, 3, 10, dtype=dtype)
    assert (0 - found.mean[0], found.high - found.mean[0], certain) == (low, low + 255, False)
    assert why.startswith("Assumed:")
    assert words.replace(".", "(") in why


def test_arithmetic_behind_whole_numbers_is_heard():
    graph = graph_of([("Div", "x a", "y"), ("Conv", "y w", "z")], {"a": 65535.0, "w": KERNEL})
    assert guess_preprocessing(graph, {}, 3, 10, dtype="uint16")[0].high == 65535
    assert guess_preprocessing(graph, {}, 3, 10, dtype="uint8")[0] == PRESETS["raw255"]


@pytest.mark.parametrize("name", ["unit", "imagenet", "symmetric", "caffe-bgr"])
def test_a_preprocessing_that_unsigned_bytes_cannot_hold_is_refused(tmp_path, name):
    with pytest.raises(SettingsError, match=f"`preprocess={name}`: makes pixels .*uint8, 0 to 255"):
        open_network(saved(tmp_path, CAST, dtype=TensorProto.UINT8), InputOptions(preprocessing=PRESETS[name]))


# --- arithmetic that fits no preset

UNUSUAL = [  # nodes, constants, what white may be, words
    ([("Sub", "x a", "y")], {"a": 1200.0}, 2400, "Sub at node 'n0' subtracts 1200"),
    ([("Sub", "x a", "t"), ("Div", "t s", "y")], {"a": 1200.0, "s": 500.0}, 2400, "divides by 500"),
    ([("Add", "x a", "y")], {"a": np.float32([-900, -1000, -1500]).reshape(3, 1, 1)}, 3000, "adds -900, -1000, -1500"),
    ([("Div", "x a", "y")], {"a": 10000.0}, 10000, "divides by 10000"),
    ([("Mul", "x a", "y")], {"a": 1 / 65535}, 65535, "multiplies by 1.526e-05"),
    ([("Sub", "x a", "t"), ("Div", "t s", "y")], {"a": 127.0, "s": 5000.0}, 255, "divides by 5000"),
    (
        [("BatchNormalization", "x g g m v", "y")],
        {"g": [1.0] * 3, "m": [1000.0] * 3, "v": [250000.0] * 3},
        2500,
        "running mean of 1000",
    ),
    ([("QuantizeLinear", "x s z", "y")], {"s": np.float32(3), "z": np.uint8(0)}, 765, "holds 0 to 765"),
]


@pytest.mark.parametrize(("nodes", "constants", "high", "words"), UNUSUAL)
def test_arithmetic_that_fits_no_preset_is_said_and_high_asked_for(nodes, constants, high, words):
    graph = graph_of([*nodes, ("Conv", "y w", "out")], {**constants, "w": KERNEL})
    found, why, certain = guess_preprocessing(graph, {}, 3, 1000)
    assert (found.high, set(found.mean), set(found.std), certain) == (high, {0.0}, {1.0}, False)
    assert why.startswith(f"Assumed: pixels from 0 to {high}")
    assert words in why
    assert "`high`" in why


@pytest.mark.parametrize("nodes", [[("Add", "x a", "y")], [("Mul", "x a", "y")]])
def test_arithmetic_that_tells_nothing_is_named(nodes):
    graph = graph_of([*nodes, ("Conv", "y w", "z")], {"a": 1.0, "w": KERNEL})
    found, why, certain = guess_preprocessing(graph, {}, 3, 10)
    assert (found.name, certain) == ("unit", False)
    assert f"{nodes[0][0]} at node 'n0'" in why


# --- Ultralytics


def test_metadata_of_ultralytics_say_size_range_and_classes(tmp_path):
    file = saved(tmp_path, metadata=YOLO, shape=("N", 3, "h", "w"))
    network = open_network(file)
    assert (network.input.height, network.input.width, network.input.preprocessing) == (96, 64, PRESETS["unit"])
    assert network.input.assumptions == ()
    code, out, _ = said("inspect", file)
    assert code == 0
    assert "The size is from the file's metadata: imgsz is 96x64." in out
    assert (
        "Metadata of Ultralytics: task detect, imgsz 96x64, stride 32, batch 1, 3 classes (person, bicycle, car)."
        in out
    )


def test_a_fixed_size_and_the_options_come_before_the_metadata(tmp_path):
    fixed = open_network(saved(tmp_path, metadata=YOLO, shape=("N", 3, 48, 48)))
    assert (fixed.input.height, fixed.input.width) == (48, 48)
    asked = open_network(saved(tmp_path, metadata=YOLO, shape=("N", 3, "h", "w")), InputOptions(size=(40, 56)))
    assert (asked.input.height, asked.input.width) == (40, 56)
    partly = open_network(saved(tmp_path, metadata=YOLO, shape=("N", 3, 48, "w")))
    assert (partly.input.height, partly.input.size_certain) == (48, False)


@pytest.mark.parametrize(
    ("metadata", "certain"),
    [
        (YOLO, True),
        (YOLO | {"task": "classify"}, True),
        (YOLO | {"task": "classify", "version": "8.0.20"}, False),  # normalised by ImageNet's mean then
        ({"names": "['a', 'b']", "stride": "32"}, True),  # YOLOv5
        ({"names": "['a', 'b']"}, False),
    ],
)
def test_what_ultralytics_networks_take_is_certain_where_it_is(metadata, certain):
    graph = graph_of([("Conv", "x w", "y")], {"w": KERNEL})
    assert guess_preprocessing(graph, metadata, 3, None)[2] == certain


def test_arithmetic_comes_before_the_metadata():
    graph = graph_of([("Div", "x a", "y"), ("Conv", "y w", "z")], {"a": 255.0, "w": KERNEL})
    assert guess_preprocessing(graph, YOLO, 3, None)[0] == PRESETS["raw255"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"imgsz": "640"}, (640, 640)),
        ({"imgsz": "[640]"}, (640, 640)),
        ({"imgsz": "[0, 640]"}, None),
        ({"imgsz": "[640, 640, 3]"}, None),
        ({"imgsz": "[99999999, 32]"}, None),
        ({"imgsz": "True"}, None),
        ({"imgsz": "__import__('os').getcwd()"}, None),
        ({"imgsz": "[" * 5000}, None),
        ({"stride": "x", "batch": "-1", "task": "\n", "names": "7", "version": "v"}, (96, 64)),
    ],
)
def test_metadata_that_make_no_sense_are_passed_over(changed, expected):
    found = export_of(YOLO | changed)
    assert found is not None
    assert found.size == expected
    assert export_of({"imgsz": "[640, 640]"}) is None


# --- the size


@pytest.mark.parametrize("command", ["inspect", "maximize", "analyze", "attribute"])
def test_an_assumed_size_is_said_on_every_command(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path, shape=("N", 3, "h", "w"))
    np.save(tmp_path / "a.npy", np.zeros((1, 224, 224, 3), np.uint8))
    options = {
        "inspect": [],
        "maximize": ["--layer", "#0", "--channel", "99"],  # refused after the network is opened
        "analyze": ["--layers", "none"],
        "attribute": ["a.npy", "--target", "nothing:0"],
    }[command]
    _, out, err = said(command, file, *options)
    assert "Assumed: an input of 224x224, the first size tried" in " ".join((out + err).split())
    assert "--input-size sets another" in " ".join((out + err).split())
    _, out, err = said(command, file, *options, "--input-size", "32x40")
    assert "Assumed: an input" not in " ".join((out + err).split())


def test_inspect_says_the_size_in_its_json(tmp_path):
    _, out, _ = said("inspect", saved(tmp_path, shape=("N", 3, "h", "w")), "--json")
    assert json.loads(out)["input"]["size_certain"] is False


def freed(file):
    """The same network, its size freed by hand."""
    model = onnx.load(file)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"s{axis}"
    return model.SerializeToString()


@pytest.mark.parametrize("size", [(24, 24), (32, 40), (16, 48)])
def test_a_traced_size_can_be_overridden_where_the_network_runs(tmp_path, size):
    file = saved(tmp_path, shape=(1, 3, 16, 16))
    network = open_network(file, InputOptions(size=size))
    assert (network.input.height, network.input.width) == size
    assert any("declares its input as 16x16" in note for note in network.model.notes)
    pixels = network.random_pixels(1, size, 0)
    x = network.input.to_model(pixels)
    expected = onnxruntime.InferenceSession(freed(file)).run(None, {"x": x})[0]
    np.testing.assert_allclose(network.session([]).run(x)["y"], expected, rtol=1e-5, atol=1e-6)
    assert network.prove().original.error < 1e-4
    assert network.layers[0].output_shape == (4, size[0] - 2, size[1] - 2)


def test_the_size_that_the_file_declares_changes_nothing(tmp_path):
    network = open_network(saved(tmp_path, shape=(1, 3, 16, 16)), InputOptions(size=(16, 16)))
    assert network.input.fixed_size
    assert not any("declares its input" in note for note in network.model.notes)


@pytest.mark.parametrize(
    "end",
    [
        [("Flatten", "r", "f"), ("MatMul", "f m", "y")],  # the dense layer is of one size
        [("Reshape", "r t", "y")],  # what becomes several answers is no answer to one picture
    ],
    ids=["dense", "reshape"],
)
def test_a_network_of_one_size_is_refused_another(tmp_path, end):
    constants = {"m": normal(4 * 14 * 14, 5), "t": np.array([-1, 4 * 14 * 14])}
    file = saved(tmp_path, [*BODY[:2], *end], constants=constants, shape=(1, 3, 16, 16))
    with pytest.raises(SettingsError, match=r"`input_size=30x30`: the file fixes input 'x' to 16x16") as caught:
        open_network(file, InputOptions(size=(30, 30)))
    assert "\n" not in str(caught.value)


def test_classes_that_suggest_imagenet_still_do_at_another_size(tmp_path):
    constants = {"m": normal(4, 1000)}
    file = saved(tmp_path, [*BODY[:3], ("Flatten", "p", "f"), ("MatMul", "f m", "y")], constants=constants)
    assert open_network(file, InputOptions(size=(24, 24))).input.preprocessing == PRESETS["imagenet"]


def test_high_given_for_a_graph_that_subtracts_is_taken(tmp_path):
    file = saved(tmp_path, [("Sub", "x a", "s"), ("Conv", "s k", "y")], constants={"a": np.float32(1200)})
    network = open_network(file, InputOptions(preprocessing=custom(4000, [0], [1])))
    assert (network.input.preprocessing.high, network.input.assumptions) == (4000, ())


class TakesAnySize(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


def test_the_size_that_an_export_assumed_is_an_assumption():
    spec = open_network(TakesAnySize()).input
    assert (spec.height, spec.width, spec.size_certain) == (224, 224, False)
    assert "Assumed: an input of 224x224, the first size that runs; `input_size` sets another." in spec.assumptions
    spec = open_network(TakesAnySize(), InputOptions(size=(32, 32))).input
    assert (spec.height, spec.size_certain) == (32, True)
