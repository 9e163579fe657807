"""Keras models as ONNX: what is refused before it is loaded, what each way gives, and whose answers count.

What needs no framework is tested without one. The rest is converted from models that keras_models.py made in a process
of its own; the oracle is what Keras answered there.
"""

import io
import itertools
import json
import os
import subprocess
import sys
import warnings
import zipfile
from importlib.util import find_spec

import numpy as np
import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.converters.errors import FilterscopeError, ModelError
from filterscope.converters.normal_form.canonical import canonicalize
from filterscope.converters.sources import child_process, keras, keras_files
from filterscope.converters.sources.options import SourceOptions
from filterscope.converters.sources.read import read
from filterscope.converters.sources.scripts import keras_copy
from support.networks import DATA, answers, needs_data, opened_here
from support.paths import SUPPORT

TRUSTED = SourceOptions(trust=True)
REAL = DATA / "models" / "keras"
needs_keras = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("keras", "tensorflow", "tf2onnx")), reason="Keras is not installed"
)
needs_h5py = pytest.mark.skipif(find_spec("h5py") is None, reason="h5py, which comes with Keras, is not installed")
CONV = {"module": "keras.layers", "class_name": "Conv2D", "config": {"name": "conv2d", "filters": 8}}
LAMBDA = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "double", "function": "x"}}


def network(*layers):
    """A Sequential model's configuration."""
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": [CONV, *layers]}}


def archive(path, config, version="3.5.0"):
    """A .keras file of a configuration alone."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", json.dumps({"keras_version": version}))
    return path


def hdf5(path, config):
    """An HDF5 file of a configuration alone; None: of weights alone."""
    import h5py

    with h5py.File(path, "w") as file:
        file["conv2d/kernel"] = np.zeros((3, 3, 3, 8))
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
    return path


def layer(kind, module="keras.layers", **config):
    """A layer named "it"."""
    return {"module": module, "class_name": kind, "config": {"name": "it"} | config}


def function(name, module, registered=None):
    """A function as Keras 3 writes one."""
    return {"module": module, "class_name": "function", "config": name, "registered_name": registered or name}


BYTE_CODE = {"class_name": "__lambda__", "config": {"value": "marshalled"}}
PROGRAMS = [  # what stands beside a Conv2D, words of the refusal
    (LAMBDA, "the layer 'double' is a Lambda: a Lambda layer is Python code"),
    ({"class_name": "Lambda", "config": {"name": "old", "function_type": "lambda"}}, "'old' is a Lambda"),
    (network(LAMBDA), "'double' is a Lambda"),
    (layer("TimeDistributed", layer=LAMBDA), "'double' is a Lambda"),
    (
        layer("Other", registered_name="x") | {"registered_name": "a>Lambda"},
        "a Lambda layer is Python code|Python code",
    ),
    (layer("Conv2D", activation=BYTE_CODE), "a function in it is Python byte code"),
    (layer("Conv2D", activation={"function": ["code"], "function_type": "lambda"}), "Python byte code"),
    (layer("TorchModuleWrapper", module="pickle"), "'it' is a TorchModuleWrapper: it holds a pickled PyTorch module"),
    (layer("TFSMLayer", filepath="x"), "it runs a SavedModel"),
    (layer("TFOpLambda", function="io.write_file"), "calls tf.io.write_file, which may do anything"),
    (layer("TensorFlowOpLayer", node_def="x"), "a part of a TensorFlow graph"),
]
FOREIGN = [
    (layer("Scale", "my.layers"), "it has class Scale of my.layers .layer 'it'., which is not Keras' own"),
    (layer("Scale", None) | {"registered_name": "mine>Scale"}, "class Scale of mine"),
    (layer("Conv2D", activation=function("wave", "my.waves")), "the function wave of my.waves"),
    (layer("Conv2D", activation=function("wave", "builtins", "mine>wave")), "the function wave of builtins"),
    (layer("Conv2D", activation=function("system", "os")), "the function system of os"),
    (layer("Conv2D", activation=function("get_file", "keras.utils")), "the function get_file of keras.utils"),
]
HARMLESS = [
    layer("Conv2D", activation=function("relu", "keras.activations")),
    layer("Conv2D", activation=function("gelu", "builtins", "function")),
    layer("TFOpLambda", function="math.multiply"),
    layer("TFOpLambda", function="nn.relu6"),
    layer("Multiply", "keras.src.ops.numpy"),
    {"class_name": "Conv2D", "config": {"name": "old", "kernel_initializer": {"class_name": "Zeros", "config": {}}}},
    layer("Conv2D") | {"compile_config": {"loss": function("focal", "my.losses"), "metrics": [BYTE_CODE]}},
]


@pytest.fixture
def calls(monkeypatch):
    """The ways that are tried, each without success; nothing is run."""
    made = []

    def convert(script, request, shown, **told):
        made.append((request["way"], told["environment"]["KERAS_BACKEND"]))
        raise child_process.ExportError(f"{shown}: {request['way']} cannot")

    monkeypatch.setattr(child_process, "convert", convert)
    monkeypatch.setattr(keras, "_has", lambda module: True)
    monkeypatch.setattr(keras, "_has_keras_3", lambda: True)
    return made


@pytest.mark.parametrize(("beside", "words"), PROGRAMS + FOREIGN)
def test_what_would_run_code_of_the_file_is_refused_before_anything_is_loaded(beside, words, calls, tmp_path):
    path = archive(tmp_path / "model.keras", network(beside))
    with pytest.raises(ModelError, match=words):
        read(path)
    assert not calls
    with pytest.raises(ModelError, match="keras cannot"):
        read(path, TRUSTED)


@needs_h5py
@pytest.mark.parametrize(("beside", "words"), PROGRAMS)
def test_an_hdf5_file_is_looked_through_in_the_same_way(beside, words, calls, tmp_path):
    path = hdf5(tmp_path / "model.h5", network(beside))
    with pytest.raises(ModelError, match=words):
        read(path)
    assert not calls


@pytest.mark.parametrize("beside", HARMLESS)
def test_what_keras_itself_has_is_not_refused(beside, calls, tmp_path):
    with pytest.raises(ModelError, match="keras cannot"):
        read(archive(tmp_path / "model.keras", network(beside)))
    assert calls


def test_losses_and_metrics_never_reach_keras(tmp_path):
    inner = layer("Functional", layers=[CONV | {"compile_config": {"loss": "mine"}}])
    file = keras_files.read(archive(tmp_path / "model.keras", network(inner) | {"compile_config": {"loss": "mine"}}))
    assert "mine" not in json.dumps(file.config)
    assert "conv2d" in json.dumps(file.config)


def test_a_saved_model_is_refused_unless_trusted(calls, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(
        ModelError, match="a SavedModel is a program that TensorFlow runs; if you trust its author, `trust` runs it"
    ):
        read(tmp_path)
    assert not calls
    with pytest.raises(ModelError, match="saved_model cannot"):
        read(tmp_path, TRUSTED)
    assert calls == [("saved_model", "tensorflow")]


def whole():
    """The bytes of a .keras file."""
    content = io.BytesIO()
    archive(content, network())
    return content.getvalue()


def other_zip():
    """The bytes of a zip archive without a model."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("readme.txt", "hello")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "is no Keras file; save it again"),
        (whole()[:-40], "is only a part of a Keras file, or damaged"),
        (whole()[:60], "is only a part of a Keras file, or damaged"),
        (other_zip(), "without a Keras model's config.json; save the whole model"),
        (whole().replace(b'{"module"', b'["module"'), "damaged"),
    ],
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_damaged_file_says_so_in_one_line(content, words, suffix, calls, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words) as refusal:
        read(path)
    assert "\n" not in str(refusal.value)
    assert not calls


@needs_h5py
def test_weights_alone_and_a_part_of_a_file_are_refused(calls, tmp_path):
    alone = hdf5(tmp_path / "model.weights.h5", None)
    with pytest.raises(ModelError, match=r"holds weights and no network; save the whole model, model\.save"):
        read(alone)
    part = tmp_path / "part.h5"
    part.write_bytes(hdf5(tmp_path / "model.h5", network()).read_bytes()[:1500])
    with pytest.raises(ModelError, match="is only a part of an HDF5 file, or damaged"):
        read(part)
    assert not calls


@needs_h5py
@pytest.mark.parametrize("kind", ["external link", "external data", "virtual data", "a group in itself"])
def test_weights_that_lie_in_another_file_are_refused(kind, tmp_path):
    import h5py

    path = hdf5(tmp_path / "model.h5", network())
    with h5py.File(path, "r+") as file:
        if kind == "external link":
            file["conv2d/bias"] = h5py.ExternalLink("other.h5", "/secret")
        elif kind == "external data":
            file.create_dataset("conv2d/bias", (8,), "f4", external=[(str(tmp_path / "other.bin"), 0, 32)])
        elif kind == "virtual data":
            layout = h5py.VirtualLayout((8,), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "secret", (8,))
            file.create_virtual_dataset("conv2d/bias", layout)
        else:
            file["conv2d/conv2d"] = file["conv2d"]
    (tmp_path / "copy").mkdir()
    with pytest.raises(keras_copy.file_limits.LimitError, match="that is refused"):
        keras_copy.write(path, "h5", network(), tmp_path / "copy")


@needs_h5py
def test_the_copy_that_is_loaded_is_float32_with_a_free_batch_and_the_configuration_that_was_read(tmp_path):
    import h5py

    half = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_bfloat16"}}
    config = network(layer("InputLayer", batch_shape=[4, 8, 8, 3]), layer("Conv2D", dtype=half), layer("Old"))
    config["config"]["layers"][-1] = {"class_name": "DepthwiseConv2D", "config": {"groups": 1, "dtype": "float16"}}
    (tmp_path / "copy").mkdir()
    copy, notes = keras_copy.write(hdf5(tmp_path / "model.hdf5", network(LAMBDA)), "h5", config, tmp_path / "copy")
    assert notes == ["Layers that compute in bfloat16, float16 were made float32."]
    with h5py.File(copy) as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"][1:]
    assert [each["config"] for each in layers] == [
        {"name": "it", "batch_shape": [None, 8, 8, 3]},
        {"name": "it", "dtype": "float32"},
        {"dtype": "float32"},
    ]


@pytest.mark.parametrize("name", ["../config.txt", "/etc/passwd", "C:\\windows", "metadata.json"])
def test_an_archive_that_would_be_read_in_two_ways_is_not_opened(name, calls, tmp_path):
    path = archive(tmp_path / "model.keras", network())
    with zipfile.ZipFile(path, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, of a name that is there twice
        file.writestr(name, "{}")
    with pytest.raises(ModelError, match="lies outside the archive or is in it twice"):
        read(path)
    assert not calls


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"none\.keras: no such file"):
        read(tmp_path / "none.keras")


ALL = {"keras", "tensorflow", "tf2onnx", "tf_keras"}
INSTALL = r"to open it, pip install 'filterscope\[keras\]'"
WAYS = [  # version and data format of the file, what is installed, ways tried, words of the refusal
    ("3.5.0", "channels_last", ALL, ["keras", "torch"], "keras cannot$"),
    ("2.15.0", "channels_last", ALL, ["keras", "tf_keras", "torch"], "keras cannot$"),
    (
        "2.15.0",
        "channels_last",
        ALL - {"tf_keras"},
        ["keras", "torch"],
        r"keras cannot; pip install 'tf_keras==2\.20\.\*'",
    ),
    ("3.5.0", "channels_first", ALL, ["torch"], "torch cannot$"),
    (
        "3.5.0",
        "channels_last",
        {"keras"},
        ["torch"],
        r"torch cannot; pip install 'filterscope\[keras\]' installs another",
    ),
    (
        "2.15.0",
        "channels_last",
        {"keras"},
        ["torch"],
        r"; pip install 'filterscope\[keras\]' tf_keras installs another",
    ),
    ("3.5.0", "channels_last", ALL - {"keras"}, [], INSTALL),
    ("3.5.0", "channels_last", set(), [], INSTALL),
]


@pytest.mark.parametrize(("version", "data_format", "installed", "tried", "words"), WAYS)
def test_ways_follow_the_file_and_what_is_installed(
    version, data_format, installed, tried, words, calls, monkeypatch, tmp_path
):
    monkeypatch.setattr(keras, "_has", lambda module: module in installed)
    monkeypatch.setattr(keras, "_has_keras_3", lambda: "keras" in installed)
    monkeypatch.setattr(keras.importlib.metadata, "version", lambda name: {"tensorflow": "2.20.1"}[name])
    path = archive(tmp_path / "model.keras", network(layer("Conv2D", data_format=data_format)), version)
    with pytest.raises(ModelError, match=words):
        read(path)
    backends = {"keras": "tensorflow", "tf_keras": "tensorflow", "torch": "torch"}
    assert calls == [(way, backends[way]) for way in tried]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder that keras_models.py fills."""
    folder = tmp_path_factory.mktemp("keras")
    script = SUPPORT / "keras_models.py"
    ended = subprocess.run(
        [sys.executable, str(script), str(folder)], env=os.environ | keras.QUIET, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return folder


def assert_answers_as_keras_did(file, told):
    """The export, run by ONNX Runtime alone, against the arrays that keras_models.py wrote."""
    with np.load(told) as arrays:
        given = dict(arrays)
    found = answers(file.proto, given["x0"])
    for index, name in enumerate(found):
        np.testing.assert_allclose(found[name], given[f"y{index}"], rtol=1e-4, atol=1e-4)


CONVERSIONS = [  # file, trusted, names of its layers, words of its notes
    (
        "kinds.keras",
        False,
        "down dw sep/depthwise sep/pointwise up dil twice.(twice/Conv) twice.(twice/Conv_1) last",
        "on TensorFlow",
    ),
    (
        "saved",
        True,
        "down dw sep/depthwise sep/pointwise up dil twice.(twice/Conv) twice.(twice/Conv_1) last",
        "from a SavedModel on TensorFlow",
    ),
    ("lambdas.h5", True, "stem", "on TensorFlow"),
    ("keras_2.h5", False, "stem dw", "from tf_keras"),
    ("operations.h5", False, "stem side head", "on TensorFlow"),
]


@needs_keras
@pytest.mark.parametrize(("name", "trusted", "layers", "words"), CONVERSIONS)
def test_converted_model_answers_as_keras_does_under_keras_own_layer_names(name, trusted, layers, words, models, capfd):
    if name == "keras_2.h5" and find_spec("tf_keras") is None:
        pytest.skip("tf_keras is not installed")
    file = read(models / name, SourceOptions(trust=trusted))
    assert_answers_as_keras_did(file, (models / name).with_suffix(".npz"))
    assert [each.replace(" ", ".") for each in canonicalize(file).layer_names.values()] == layers.split()
    assert words in " ".join(file.notes)
    assert capfd.readouterr() == ("", "")


@needs_keras
def test_preprocessing_half_precision_and_several_inputs_are_exported(models):
    network = open_network_with_extra(models / "prepared.keras")
    assert [layer.name for layer in network.layers] == ["stem", "grouped"]
    assert network.model.original.graph.input[0].name == "image"
    assert len(network.model.original.graph.output) == 2
    assert "Layers that compute in float16 were made float32." in network.model.notes
    assert network.prove().nodes.error <= 1e-4


def open_network_with_extra(path):
    """Opened at 32×32, with zeros for the other input."""
    from filterscope.analyzer.network.network import InputOptions

    return opened_here(path, InputOptions(size=(32, 32), feeds={"extra": np.zeros((1, 4), np.float32)}))


@needs_keras
def test_what_tensorflow_cannot_run_goes_through_pytorch_and_says_so(models):
    file = read(models / "first.keras")
    assert list(canonicalize(file).layer_names.values()) == ["stem"]
    assert "on PyTorch" in file.notes[0]


@needs_keras
def test_operations_that_hdf5_cannot_hold_are_refused_with_what_to_do(models):
    words = r"HDF5 cannot hold the operations between its layers \(TrueDivide\); .* model.save\('model.keras'\)"
    with pytest.raises(ModelError, match=words):
        read(models / "divided.h5")


@needs_keras
def test_a_model_of_the_users_own_class_is_refused_by_its_name(models):
    with pytest.raises(FilterscopeError, match="it has class Unnamed, which is not Keras' own; export it"):
        read(models / "own.keras")


def cifar10():
    """2,000 test images (N, H, W, 3) float32, 0..255, and their labels."""
    from PIL import Image

    with np.load(DATA / "cifar10" / "cifar10_test_2000_lossless_webp.npz") as file:
        data, offsets, labels = file["data"], file["offsets"], file["labels"]
    images = [
        np.asarray(Image.open(io.BytesIO(data[start:end].tobytes())).convert("RGB"), np.float32)
        for start, end in itertools.pairwise(offsets)
    ]
    return np.stack(images), labels


def answer(network, images):
    """The network's first output for images as it takes them."""
    found = network.session([network.model.graph.outputs[0]]).run(images)
    return next(iter(found.values()))


@needs_keras
@needs_data
@pytest.mark.parametrize(
    ("name", "scale", "right"),  # of 2,000: 88.1 % and 71.6 %
    [("resnet8_cifar10_keras2.4.h5", 1.0, 1761), ("cifar10_cnn_keras3.5.keras", 1 / 255, 1432)],
)
def test_real_network_reproduces_its_accuracy(name, scale, right):
    images, labels = cifar10()
    found = answer(open_network(REAL / name), images * np.float32(scale))
    assert (found.argmax(axis=1) == labels).sum() == right


@needs_keras
@needs_data
def test_emotion_network_of_keras_2_sees_the_astronaut_smile():
    pytest.importorskip("skimage")
    from PIL import Image
    from skimage import data

    face = Image.fromarray(data.astronaut()).convert("L").crop((160, 50, 290, 180)).resize((64, 64))
    image = (np.asarray(face, np.float32)[None, :, :, None] / 255 - 0.5) * 2
    network = open_network(REAL / "emotion_minixception_keras2.0.hdf5")
    assert len(network.layers) == 7 + 2 * 8
    assert answer(network, image)[0, 3] == pytest.approx(1.0, abs=5e-3)  # happy
