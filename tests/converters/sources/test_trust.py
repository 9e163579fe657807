"""Files that would run code, read other files or take all memory: refused by name before anything of them is loaded.

Each case is one public report, or a file of the first field test. Nothing of a refused file may be run: a canary file
that it would write must never appear.
"""

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from filterscope.converters.errors import ModelError
from filterscope.converters.sources import (
    child_process,
    keras,
    keras_classes,
    keras_files,
    pt2_files,
    pt2_operators,
    pytorch,
    size_expressions,
)
from filterscope.converters.sources.options import SourceOptions
from filterscope.converters.sources.read import read
from filterscope.converters.sources.scripts import file_limits
from support.paths import SUPPORT

h5py = pytest.importorskip("h5py", exc_type=ImportError)

CONV = {"module": "keras.layers", "class_name": "Conv2D", "config": {"name": "conv", "filters": 4}}


def network(*layers):
    """A Sequential model's configuration."""
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": [CONV, *layers]}}


def layer(kind, module="keras.layers", **config):
    """A layer named "it"."""
    return {"module": module, "class_name": kind, "config": {"name": "it"} | config}


def function(name, module):
    """A function as Keras 3 writes one."""
    return {"module": module, "class_name": "function", "config": name, "registered_name": "function"}


def members(path, contents):
    """A zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


def hdf5(path, config, **arrays):
    """An HDF5 file with a configuration."""
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[f"model_weights/{name}"] = value
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.12.0"
    return path


def weights(fill):
    """The bytes of an HDF5 file that `fill` writes into."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file)
    return content.getvalue()


@pytest.fixture(autouse=True)
def conversions(monkeypatch):
    """What is handed to a framework; nothing may be."""
    started = []

    def convert(script, request, shown, **options):
        started.append(request)
        raise child_process.ExportError(f"{shown}: was handed on")

    monkeypatch.setattr(child_process, "convert", convert)
    monkeypatch.setattr(keras, "_has", lambda module: True)
    monkeypatch.setattr(keras, "_has_keras_3", lambda: True)
    return started


# --- Keras: what a configuration may name


def class_method(canary):
    """The case make_cm.py: Keras 2 calls any public function of TensorFlow with constants of the file's choice."""
    call = {"name": "it", "cls_symbol": "io.write_file", "method_name": "__call__"}
    given = [[["_CONSTANT_VALUE", -1, str(canary), {"kwargs": {"contents": "written by the model file"}}]]]
    return {"class_name": "ClassMethod", "name": "it", "config": call, "inbound_nodes": given}


REFUSED = {  # name: what stands beside a convolution, words of the refusal
    "CVE-2025-1550, a function of any module": (
        layer("Conv2D", activation=function("system", "os")),
        "the function system of os",
    ),
    "CVE-2025-1550, a class of any module": (layer("Popen", "subprocess", args="true"), "class Popen of subprocess"),
    "CVE-2025-1550, one that Keras imports for itself": (
        layer("Popen", "keras.src.utils.subprocess", args="true"),
        "Popen 'it' is not one of Keras' layers that are known to run no foreign code",
    ),
    "CVE-2025-1550, a function of Keras that reads files": (
        layer("Conv2D", activation=function("get_file", "keras.utils")),
        "the function get_file of keras.utils",
    ),
    "CVE-2025-1550, one without a module": (
        layer("Conv2D", activation={"class_name": "function", "config": "get_file", "module": None}),
        "the function get_file",
    ),
    "CVE-2025-9905, a Lambda": (layer("Lambda", function="x"), "a Lambda layer is Python code"),
    "CVE-2025-9906, a call that ends safe mode": (
        layer("Conv2D", activation=function("enable_unsafe_deserialization", "keras.config")),
        "the function enable_unsafe_deserialization of keras.config",
    ),
    "ClassMethod": (class_method("x"), "'it' is a ClassMethod: it calls any function of TensorFlow"),
    "InstanceMethod": (layer("InstanceMethod", method_name="numpy"), "is a InstanceMethod"),
    "TFOpLambda that writes": (layer("TFOpLambda", function="io.write_file"), r"calls tf\.io\.write_file"),
    "TFOpLambda in a listed space": (layer("TFOpLambda", function="nn.experimental.x"), r"calls tf\.nn\.experimental"),
    "SlicingOpLambda": (layer("SlicingOpLambda", function="py_function"), r"calls tf\.py_function"),
    "TFSMLayer": (layer("TFSMLayer", filepath="elsewhere"), "it runs a SavedModel"),
    "a lookup that reads a file": (layer("StringLookup", vocabulary="/dev/zero"), "reads another file"),
    "another one": (layer("TextVectorization", idf_weights="/etc/passwd"), "reads another file"),
    "a lookup of what becomes a name": (
        layer("StringLookup", vocabulary={"class_name": "__numpy__", "config": {"value": "/dev/zero", "dtype": "str"}}),
        "reads another file",
    ),
    "a lookup of files": (layer("StringLookup", vocabulary=[{"class_name": "__bytes__"}]), "reads another file"),
    "a layer described by text": (layer("Dense") | {"config": '{"class_name": "Lambda"}'}, "described by text"),
    "a layer that takes functions": (layer("Map", "keras.src.ops.core"), "Map 'it' is not one of Keras' layers"),
    "a layer of feature columns": (layer("DenseFeatures", vocabulary_file="x"), "DenseFeatures 'it' is not one of"),
    "an optimizer": (layer("Adam", "keras.optimizers"), "class Adam of keras.optimizers"),
    "a type by its module": ({"class_name": "__typespec__", "spec_name": "x", "module": "os"}, "__typespec__"),
    "an initializer of another module": (
        layer("Conv2D", kernel_initializer=layer("Zeros", "mine.initializers")),
        "class Zeros of mine.initializers",
    ),
    "a listed name registered otherwise": (layer("Conv2D") | {"registered_name": "mine>Conv2D"}, "Conv2D of keras"),
    "a listed name registered as another": (layer("Conv2D") | {"registered_name": "Popen"}, "Conv2D of keras"),
    "a user's class of a listed name": (
        layer("Conv2D", None) | {"registered_name": "Custom>Conv2D"},
        "Conv2D of Custom",
    ),
    "a function that is no text": (layer("Conv2D", activation=function(["relu"], "builtins")), "the function .'relu'."),
    "a class that is no text": ({"class_name": ["Lambda"], "config": {}}, "something other than text"),
    "inside a wrapper": (layer("TimeDistributed", layer=layer("Map")), "Map 'it' is not one"),
    "inside a model inside a model": (network(network(layer("Map"))), "Map 'it' is not one"),
    "where nobody looks": (layer("Conv2D", name="a", anything=[{"deep": [layer("Map")]}]), "Map 'it' is not one"),
}


@pytest.mark.parametrize(("beside", "words"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("kind", ["keras", "h5", "hdf5"])
def test_what_is_not_on_the_list_is_refused_before_keras_is_started(beside, words, kind, conversions, tmp_path):
    path = tmp_path / f"model.{kind}"
    if kind == "keras":
        members(path, {"config.json": json.dumps(network(beside)), "metadata.json": "{}"})
    else:
        hdf5(path, network(beside))
    with pytest.raises(ModelError, match=words) as refusal:
        read(path)
    assert "\n" not in str(refusal.value)
    assert not conversions


ALLOWED = {
    "a type": layer("Conv2D", dtype={"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}),
    "an initializer": layer("Conv2D", kernel_initializer=layer("HeNormal", "keras.initializers")),
    "a regularizer": layer("Conv2D", kernel_regularizer={"class_name": "L2", "config": {"l2": 1e-4}}),
    "an activation": layer("Activation", activation=function("gelu", "builtins")),
    "an operation": layer("Multiply", "keras.src.ops.numpy"),
    "a wrapper": layer("Bidirectional", layer=layer("LSTM")),
    "a lookup of words": layer("IntegerLookup", vocabulary=[1, 2]),
    "a lookup of words in assets": layer("StringLookup", vocabulary=None, idf_weights=[0.5]),
    "Keras 1's": {"class_name": "Sequential", "config": [{"class_name": "Dense", "config": {"name": "it"}}]},
    "a model": {"module": "keras.src.models.functional", "class_name": "Functional", "config": {"name": "inner"}},
    "Keras 2's": {"class_name": "BatchNormalizationV1", "config": {"name": "bn"}},
    "its function": layer("TFOpLambda", function="__operators__.getitem"),
    "ConvNeXt's": layer("LayerScale", "keras.src.applications.convnext", projection_dim=96),
    "InceptionResNetV2's": layer("CustomScaleLayer", "tf_keras.src.applications.inception_resnet_v2")
    | {"registered_name": "Custom>CustomScaleLayer"},
    "EfficientNetV2's": layer("Conv2D", bias_initializer=layer("Constant", "tensorflow.python.ops.init_ops_v2")),
    "a tensor": layer("Add", values={"class_name": "__keras_tensor__", "config": {"shape": [1]}}),
}


@pytest.mark.parametrize("beside", ALLOWED.values(), ids=ALLOWED)
def test_what_keras_computes_with_is_handed_on(beside, conversions, tmp_path):
    path = members(tmp_path / "model.keras", {"config.json": json.dumps(network(beside))})
    with pytest.raises(ModelError, match="was handed on"):
        read(path)
    assert conversions


@pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")
def test_the_lists_are_of_names_that_keras_has_and_leave_out_what_takes_a_program():
    code = """
import json, keras, inspect, pkgutil, importlib
import keras.src.ops
from keras.src.ops.operation import Operation
found = {name for space in (keras.layers, keras.initializers, keras.regularizers, keras.constraints,
    keras.dtype_policies, keras.quantizers, keras.activations) for name in dir(space) if name[0] != "_"}
for module in ("core", "numpy", "nn", "image", "linalg", "math"):
    module = importlib.import_module("keras.src.ops." + module)
    found |= {name for name, value in vars(module).items() if inspect.isclass(value) and issubclass(value, Operation)}
print(json.dumps(sorted(found)))
"""
    environment = {"KERAS_BACKEND": "torch", "PATH": "", "HOME": "/nonexistent"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-500:]
    found = set(json.loads(ended.stdout.splitlines()[-1]))
    listed = keras_classes.LAYERS | keras_classes.OPERATIONS | keras_classes.SETTINGS
    assert len(listed & found) > 400
    programs = {
        "Lambda",
        "TFSMLayer",
        "JaxLayer",
        "FlaxLayer",
        "TorchModuleWrapper",
        "Map",
        "Scan",
        "WhileLoop",
        "Cond",
    }
    assert not programs & keras_classes.CLASSES
    layers = {name for name in found if name.endswith(("1D", "2D", "3D")) or name in ("Dense", "ReLU", "PReLU")}
    assert layers <= keras_classes.LAYERS


# --- archives, JSON and HDF5 that would take all memory or time


def zeros(count):
    return bytes(count)


def too_many(path):
    return members(path, {"config.json": json.dumps(network())} | {f"assets/{index}": "" for index in range(60_000)})


def nested(count):
    return "[" * count + "]" * count


def linked_twice(file):
    """26 groups, each linked twice in the one before: 2^26 paths."""
    group = file.create_group("layers")
    for _ in range(26):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner


def unheld(file):
    file.create_dataset("layers/conv/vars/0", (1 << 20, 1 << 20), "f4", fillvalue=0)


def unheld_packed(file):
    file.create_dataset("layers/conv/vars/0", (1 << 20, 1 << 14), "f4", chunks=(1 << 10, 1 << 10), compression="gzip")


def soft_link(file):
    file["layers/conv/vars/0"] = h5py.SoftLink("/somewhere")


def external_link(file):
    file["layers/conv/vars/0"] = h5py.ExternalLink("other.h5", "/secret")


def external_data(file):
    file.create_dataset("layers/conv/vars/0", (8,), "f4", external=[("/etc/passwd", 0, 32)])


def virtual_data(file):
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (8,))
    file.create_virtual_dataset("layers/conv/vars/0", layout)


def texts(file):
    file.create_dataset("layers/conv/vars/0", (8,), h5py.string_dtype())


def type_as_item(file):
    file["layers/conv"] = np.dtype("f4")


def many_objects(file):
    for index in range(300):
        file.create_group(f"layers/{index}")


WEIGHTS = {  # name: what the weights hold, words of the refusal
    "CVE-2026-0897, a shape that the file does not hold": (unheld, r"declare \[1048576, 1048576\] values"),
    "CVE-2026-0897, in packed chunks": (unheld_packed, r"declare \[1048576, 16384\] values"),
    "26 groups linked twice": (linked_twice, "contain each other, or one group twice"),
    "a soft link": (soft_link, "in another file or under another name"),
    "a link to another file": (external_link, "in another file or under another name"),
    "data in another file": (external_data, "lie in another file"),
    "data of many files": (virtual_data, "lie in another file"),
    "texts": (texts, "are no numbers"),
    "a type": (type_as_item, "is no array"),
    "many objects": (many_objects, "more than 200 arrays and groups"),
}


@pytest.mark.parametrize(("fill", "words"), WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_weights_that_the_file_does_not_hold_are_refused_at_once(fill, words, kind, conversions, monkeypatch, tmp_path):
    monkeypatch.setattr(file_limits, "HDF5_OBJECTS", 200)
    path = tmp_path / f"model.{kind}"
    if kind == "keras":
        members(path, {"config.json": json.dumps(network()), "model.weights.h5": weights(fill)})
    else:
        hdf5(path, network())
        with h5py.File(path, "r+") as file:
            fill(file)
    with pytest.raises(ModelError, match=words) as refusal:
        read(path)
    assert "\n" not in str(refusal.value)
    assert not conversions


def test_weights_of_a_usual_file_are_read():
    def fill(file):
        file["layers/conv/vars/0"] = np.ones((3, 3, 3, 8), np.float32)
        file.create_dataset(
            "layers/conv/vars/1", data=np.zeros((64, 64)), chunks=True, compression="gzip", shuffle=True
        )
        file["seed"] = np.uint32(3)
        file["empty"] = np.zeros((0, 4))

    content = weights(fill)
    with h5py.File(io.BytesIO(content)) as file:
        file_limits.check_hdf5(file, h5py, len(content))


CONFIG = json.dumps(network())
ARCHIVES = {  # name: members, words of the refusal
    "a note of blanks": ({"config.json": CONFIG, "metadata.json": " " * (100 << 20)}, "would unpack to|bytes long"),
    "weights of zeros": ({"config.json": CONFIG, "model.weights.h5": zeros(100 << 20)}, "would unpack to"),
    "JSON thousands deep": ({"config.json": nested(5_000)}, "config.json is nested deeper than 100"),
    "JSON a hundred thousand deep": ({"config.json": nested(100_000)}, "config.json is nested deeper than 100"),
    "JSON deeper than we read": ({"config.json": '{"a": ' + nested(150) + "}"}, "config.json is nested deeper than"),
    "a deep note": ({"config.json": CONFIG, "metadata.json": nested(5_000)}, "metadata.json is nested deeper"),
    "bytes that are no text": ({"config.json": b"{\xff}"}, "config.json is not UTF-8"),
    "no JSON": ({"config.json": "{"}, "config.json is no JSON"),
    "JSON of millions of lists": ({"config.json": "[" + "[]," * 1_000_001 + "[]]"}, "more than 1000000 lists"),
    "a number without end": ({"config.json": "1" * 100_000}, "config.json is no JSON"),
    "a list for a model": ({"config.json": "[]"}, "its config.json describes no model"),
    "a list for a note": ({"config.json": CONFIG, "metadata.json": "[]"}, "its config.json describes no model"),
    "a name outside": ({"config.json": CONFIG, "assets/../../it": ""}, "outside the archive or is in it twice"),
    "a name in two cases": ({"config.json": CONFIG, "Config.json": CONFIG}, "outside the archive or is in it twice"),
}


@pytest.mark.parametrize(("contents", "words"), ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_that_would_take_all_memory_is_refused(contents, words, conversions, tmp_path):
    with pytest.raises(ModelError, match=words) as refusal:
        read(members(tmp_path / "model.keras", contents))
    assert "\n" not in str(refusal.value)
    assert not conversions


def test_a_version_that_is_a_list_is_refused(conversions, tmp_path):
    path = hdf5(tmp_path / "model.h5", network())
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = np.zeros(2)
    with pytest.raises(ModelError, match=r"model\.h5: .*its keras_version is no text, or longer than \d+ bytes"):
        read(path)
    assert not conversions


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_a_keras_file_that_may_not_be_read_is_named(kind, monkeypatch, tmp_path):
    path = members(tmp_path / f"model.{kind}", {"config.json": CONFIG})

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ModelError, match=rf"model\.{kind}: cannot be read \(Permission denied\)$"):
        keras_files.read(path)


def test_an_archive_of_sixty_thousand_members_is_refused(conversions, tmp_path):
    with pytest.raises(ModelError, match="60001 members; at most 10000 are read"):
        read(too_many(tmp_path / "model.keras"))
    assert not conversions


def test_a_list_of_members_that_is_too_long_is_not_read(monkeypatch, tmp_path):
    monkeypatch.setattr(file_limits, "DIRECTORY_BYTES", 100)
    with pytest.raises(file_limits.LimitError, match="the list of its members is"):
        file_limits.open_archive(members(tmp_path / "a.zip", {f"member{index}": "" for index in range(4)}))


def test_members_that_overlap_are_refused(tmp_path):
    path = members(tmp_path / "a.zip", {"a": np.random.default_rng(0).bytes(1000), "b": ""})
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\x01\x02", 0, content.rfind(b"PK\x01\x02"))
    content[place + 20 : place + 24] = struct.pack("<L", len(content) + 1)
    path.write_bytes(content)
    with pytest.raises(file_limits.LimitError, match="overlap"):
        file_limits.open_archive(path)


def test_how_a_model_was_trained_is_neither_read_nor_handed_on(tmp_path):
    from filterscope.converters.sources.scripts import keras_copy

    path = hdf5(tmp_path / "model.h5", network())
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = json.dumps({"loss": function("system", "os")})
    file = keras_files.read(path)
    assert not file.foreign
    (tmp_path / "copy").mkdir()
    copy, _ = keras_copy.write(path, "h5", dict(file.config), tmp_path / "copy")
    with h5py.File(copy) as file:
        assert "training_config" not in file.attrs


# --- PyTorch: exported programs


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (Path.write_text, (Path(self.path), "it ran"))


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The members of an exported convolution, as PyTorch writes it."""
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    exported = torch.export.export(nn.Conv2d(3, 4, 3).eval(), (torch.zeros(1, 3, 8, 8),))
    torch.export.save(exported, path, extra_files={"note.txt": "of its maker"})
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(program, path, change):
    """The archive with each member as `change(short name, bytes)` makes it; None leaves it as it is."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in program.items():
            new = change(name.partition("/")[2], content)
            archive.writestr(name, content if new is None else new)
    return path


def in_graph(old, new):
    """A change of the graph's text."""
    return lambda name, content: content.replace(old, new) if name == "models/model.json" else None


def pickled(canary, protocol):
    """The case make_pt2_usepickle.py: weights marked as pickled; protocol 0 does not begin with 0x80."""

    def change(name, content):
        if name.endswith("_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        return pickle.dumps(Planted(canary), protocol) if name.startswith("data/weights/weight") else None

    return change


def sample(canary, protocol):
    return lambda name, _: pickle.dumps(Planted(canary), protocol) if "sample_inputs" in name else None


def saved(canary):
    content = io.BytesIO()
    torch.save(Planted(canary), content)
    return lambda name, _: content.getvalue() if "sample_inputs" in name else None


def unfolding(canary):
    """Sample inputs that are 2^60 tuples: each holds the one before twice."""
    inputs = torch.ones(1)
    for _ in range(60):
        inputs = (inputs, inputs)
    file = io.BytesIO()
    torch.save(inputs, file)
    return lambda name, _: file.getvalue() if "sample_inputs" in name else None


EMPTY_TUPLE = pickle.dumps((), 2)


def sample_members(contents):
    """Sample inputs that are an archive of torch.save with these members."""
    content = io.BytesIO()
    members(content, {f"archive/{name}": each for name, each in contents.items()})
    return lambda name, _: content.getvalue() if "sample_inputs" in name else None


def config(change):
    """A change of every entry of the lists of tensors."""

    def changed(name, content):
        if not name.endswith("_config.json"):
            return None
        lists = json.loads(content)
        for entry in lists["config"].values():
            change(entry)
        return json.dumps(lists).encode()

    return changed


def imported(name, content):
    """A shape of inputs whose class torch would import."""
    tree = {"type": "collections.defaultdict", "context": json.dumps({"default_factory_module": "os"})}
    text = json.dumps(json.dumps([1, tree | {"children_spec": []}]))
    return in_graph(b'"in_spec": ', b'"in_spec": ' + text.encode() + b', "was": ')(name, content)


CONV2D = b"torch.ops.aten.conv2d.default"
PROGRAMS = {  # name: how the archive is changed, with the canary's place; words of the refusal
    "weights pickled, protocol 0": (lambda canary: pickled(canary, 0), "holds a pickle .*weight.*`trust`"),
    "weights pickled, protocol 4": (lambda canary: pickled(canary, 4), "holds a pickle .*weight.*`trust`"),
    "inputs pickled, protocol 0": (lambda canary: sample(canary, 0), "holds a pickle .*sample_inputs.*`trust`"),
    "inputs pickled, protocol 2": (lambda canary: sample(canary, 2), "holds a pickle .*sample_inputs.*`trust`"),
    "inputs pickled, protocol 5": (lambda canary: sample(canary, 5), "holds a pickle .*sample_inputs.*`trust`"),
    "inputs that unfold": (unfolding, "holds a pickle .*sample_inputs.*of more than tensors.*`trust`"),
    "inputs saved by torch.save": (saved, "holds a pickle .*sample_inputs.*of more than tensors.*`trust`"),
    "a function that loads": (lambda _: in_graph(CONV2D, b"torch.hub.load"), r"calls torch\.hub\.load.*`trust`"),
    "a function of os": (lambda _: in_graph(CONV2D, b"torch.os.system"), r"calls torch\.os\.system"),
    "an operator that writes": (lambda _: in_graph(CONV2D, b"torch.ops.aten.save.default"), r"aten\.save"),
    "an operator that reads": (lambda _: in_graph(CONV2D, b"torch.ops.aten.from_file.default"), r"aten\.from_file"),
    "an attribute": (lambda _: in_graph(CONV2D, b"torch.ops.aten.conv2d.__class__"), r"conv2d\.__class__"),
    "an extension": (lambda _: in_graph(CONV2D, b"#mine:op"), "calls #mine:op"),
    "a power of sizes": (lambda _: in_graph(CONV2D, b"_operator.pow"), r"calls _operator\.pow"),
    "a class to import": (lambda _: imported, r"are of collections\.defaultdict, which is a program"),
    "a tensor of no bytes": (
        lambda _: lambda name, _: b"" if name.startswith("data/weights/weight") else None,
        "declares .* values, of which it holds 0 bytes",
    ),
    "a tensor in no member": (
        lambda _: config(lambda entry: entry.update(path_name="../../weight_0")),
        "lies in '../../weight_0', which is no member",
    ),
    "a list that is none": (lambda _: lambda name, _: b"[]" if "weights_config" in name else None, "lists no tensors"),
    "a graph that is none": (
        lambda _: lambda name, _: b"[]" if name == "models/model.json" else None,
        "its graph describes no network",
    ),
    "a range of no symbol": (
        lambda _: in_graph(b'"range_constraints": {}', b'"range_constraints": {"open(0)": {}}'),
        "holds the range of a size that is no symbol, which may be a program",
    ),
    "an object of a class": (
        lambda _: in_graph(b'"custom_obj_values": {}', b'"custom_obj_values": {"a": "b"}'),
        "holds an object of a class of its own, which is a program",
    ),
    "inputs of no shape": (
        lambda _: in_graph(b'"in_spec": ', b'"in_spec": "[1, 3]", "was": '),
        "the shape of its inputs and outputs is not described",
    ),
    "a tensor of a negative size": (
        lambda _: config(lambda entry: entry["tensor_meta"].update(sizes=[{"as_int": -1}])),
        "its tensor .* is of no certain size",
    ),
    "a note that is no text": (
        lambda _: lambda name, _: b"\xff\x00" if name == "byteorder" else None,
        "its byteorder is no short text",
    ),
    "inputs with a program beside them": (
        lambda _: sample_members({"data.pkl": EMPTY_TUPLE, "code/it.py": b""}),
        r"holds a pickle .*sample_inputs.* with 'code/it\.py', which may be a program.*`trust`",
    ),
    "inputs cut off": (
        lambda _: sample_members({"data.pkl": EMPTY_TUPLE[:-1]}),
        "holds a pickle .*sample_inputs.*of more than tensors.*`trust`",
    ),
    "a list twice, protocol 4": (
        lambda _: sample_members({"data.pkl": pickle.dumps([[]] * 2, 4)}),
        "holds a pickle .*sample_inputs.*of more than tensors.*`trust`",
    ),
    "JSON that is none": (lambda _: in_graph(b'"target"', b'"target'), "is no JSON"),
    "text that is none": (lambda _: in_graph(b'"target"', b'"targ\xff"'), "is not UTF-8"),
    "JSON thousands deep": (
        lambda _: lambda name, _: nested(5000) if name.endswith("model.json") else None,
        "deeper than 100",
    ),
}


@pytest.mark.parametrize(("change", "words"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_that_would_run_more_than_operators_is_refused(change, words, program, conversions, tmp_path):
    canary = tmp_path / "canary"
    path = rewritten(program, tmp_path / "net.pt2", change(canary))
    with pytest.raises(ModelError, match=words) as refusal:
        read(path)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(str(path))
    assert not conversions
    assert not canary.exists()


def test_an_archive_without_a_graph_is_refused(program, conversions, tmp_path):
    rest = {name: content for name, content in program.items() if not name.endswith("models/model.json")}
    path = rewritten(rest, tmp_path / "net.pt2", lambda *_: None)
    with pytest.raises(
        ModelError,
        match=r"holds no model of torch\.export\.save\(program, file\); if you trust its author, `trust`",
    ):
        read(path)
    assert not conversions


def test_no_sample_inputs_are_copied_as_none(program, tmp_path):
    empty = rewritten(program, tmp_path / "net.pt2", lambda name, _: b"" if "sample_inputs" in name else None)
    pt2_files.write_copy(empty, tmp_path / "copy.pt2")
    with zipfile.ZipFile(tmp_path / "copy.pt2") as archive:
        assert [archive.read(name) for name in archive.namelist() if "sample_inputs" in name] == [b""]


@pytest.mark.parametrize(
    "name", ["data/aotinductor/model/it.so", "models/other.json", "data/constants/custom_obj_0", "x"]
)
def test_a_member_that_is_not_on_the_list_is_refused(name, program, conversions, tmp_path):
    path = tmp_path / "net.pt2"
    rewritten(program, path, lambda *_: None)
    folder = next(iter(program)).partition("/")[0]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{folder}/{name}", "{}")
    with pytest.raises(ModelError, match=f"holds '{name}', which is no part of a network alone"):
        read(path)
    assert not conversions


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("changed", [str, str.upper], ids=["the same name", "in capitals"])
@pytest.mark.parametrize("first", [True, False])
def test_a_member_that_stands_twice_is_refused(changed, first, program, conversions, tmp_path):
    """Torch reads the first, Python's zipfile the last; torch takes capitals for small letters."""
    canary = tmp_path / "canary"
    path = tmp_path / "net.pt2"
    name = next(name for name in program if "sample_inputs" in name)
    planted = [(changed(name), pickle.dumps(Planted(canary), 2))]
    with zipfile.ZipFile(path, "w") as archive:
        for place, content in [*(planted if first else []), *program.items(), *([] if first else planted)]:
            archive.writestr(place, content)
    with pytest.raises(ModelError, match=r"twice|one folder"):
        read(path)
    assert not conversions
    assert not canary.exists()


def test_an_archive_with_a_flipped_byte_is_read_or_refused_in_one_line(program, tmp_path):
    path = rewritten(program, tmp_path / "net.pt2", lambda *_: None)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    said = []
    for _ in range(300):
        damaged = bytearray(content)
        damaged[int(rng.integers(len(content)))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read(path)
        except ModelError as error:  # `conversions` hands nothing on
            said.append(str(error))
    assert len(said) == 300
    assert not [line for line in said if "\n" in line]
    assert sum("was handed on" not in line for line in said) > 200


def test_the_copy_that_is_loaded_has_no_guards_and_no_notes_but_layers(program, tmp_path):
    path = rewritten(program, tmp_path / "net.pt2", in_graph(b'"guards_code": []', b'"guards_code": ["print(1)"]'))
    pt2_files.write_copy(path, tmp_path / "copy.pt2")
    with zipfile.ZipFile(tmp_path / "copy.pt2") as archive:
        graph = json.loads(archive.read("program/models/model.json"))
        assert not [name for name in archive.namelist() if "extra" in name]
    assert graph["guards_code"] == []
    assert all(set(node["metadata"]) <= {"nn_module_stack"} for node in graph["graph_module"]["graph"]["nodes"])
    loaded = torch.export.load(tmp_path / "copy.pt2").module()
    x = torch.rand(1, 3, 8, 8)
    folder = next(iter(program)).partition("/")[0]
    kernel = torch.frombuffer(bytearray(program[f"{folder}/data/weights/weight_0"]), dtype=torch.float32)
    bias = torch.frombuffer(bytearray(program[f"{folder}/data/weights/weight_1"]), dtype=torch.float32)
    expected = torch.nn.functional.conv2d(x, kernel.reshape(4, 3, 3, 3), bias)
    torch.testing.assert_close(loaded(x), expected)


def test_torch_unpickles_nothing_where_the_gate_is_passed_by(program, tmp_path):
    """What the process that loads is told holds by itself."""
    canary = tmp_path / "canary"
    path = rewritten(program, tmp_path / "net.pt2", pickled(canary, 0))
    code = f"import torch; torch.export.load({str(path)!r})"
    for variables, ran in ((pytorch.TENSORS_ALONE, False), ({}, True)):
        environment = {"PYTHONPATH": str(SUPPORT.parent)} | variables
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
        assert canary.exists() is ran


def test_operators_are_pytorchs_own_and_take_no_files_name():
    schemas = {}
    for schema in torch._C._jit_get_all_schemas():
        schemas.setdefault(schema.name, []).append(schema)
    known = {name for name in pt2_operators.ATEN if {f"aten::{name}", f"aten::{name}_"} & set(schemas)}
    assert known == set(pt2_operators.ATEN)
    for name in pt2_operators.ATEN:
        for schema in schemas.get(f"aten::{name}", []):
            assert not {"filename", "path_name", "file"} & {argument.name for argument in schema.arguments}
    for name in ("save", "from_file", "warn", "_print", "__getitem__", "format"):
        assert not pt2_operators.is_allowed(f"torch.ops.aten.{name}.default")
    assert pt2_operators.is_allowed("torch.ops.aten.relu_.default")
    assert pt2_operators.is_allowed("torch.ops.prims.convert_element_type.default")
    assert not pt2_operators.is_allowed("torch.ops.prims.convert_element_type")
    assert not pt2_operators.is_allowed("torch.ops.prims.save.default")
    for name in pt2_operators.FUNCTIONS:
        assert pt2_operators.is_allowed(name)


EXPRESSIONS = [  # of a symbolic size, whether it is one
    ("Symbol('s31', positive=True, integer=True)", True),
    ("Mul(Integer(2), Symbol('s0', integer=True))", True),
    ("Add(FloorDiv(Add(Symbol('s0', positive=True, integer=True), Integer(-1)), Integer(2)), Integer(1))", True),
    ("Pow(Symbol('s0', positive=True, integer=True), Integer(2))", True),
    ("TruncToInt(Mul(Float('0.5', precision=53), ToFloat(Symbol('s0', integer=True))))", True),
    ("floor(s0/2) + 1", True),
    ("s0*s1 - 2", True),
    ("2*s0 >= 4", True),
    ("s0*0.5", True),
    ("s0 if True else 1", False),
    ("s0**-1", True),
    ("s0**-1000", False),
    ("(s0 >= 4) == True", True),
    ("1 + (" * 40 + "1" + ")" * 40, True),
    ("Pow(10, Pow(10, 9))", False),
    ("Pow(Integer(10), Integer(1000000000))", False),
    ("10**10**9", False),
    ("Pow(Pow(Pow(Pow(Pow(s0, 8), 8), 8), 8), 8)", False),
    ("PowByNatural(Integer(10), Symbol('s0'))", False),
    ("LShift(Integer(1), Integer(1000000000))", False),
    ("1 << 1000000000", False),
    ("factorial(99999)", False),
    ("99999!", False),
    ("Float('1e999999999')", False),
    ("Symbol('u99999999999')", False),
    ("Symbol('s0', __class__=True)", True),  # an assumption that sympy refuses
    ("Symbol('s0', integer=open)", False),
    ("__import__('os').system('true')", False),
    ("eval('1')", False),
    ("S(open)", False),
    ("open(s0)", False),
    ("[c for c in ()]", False),
    ("(lambda: 1)()", False),
    ("s0.__class__", False),
    ("Symbol('a b; c')", False),
    ("s0 if s1 else s2", False),
    ("(" * 5000 + ")" * 5000, False),
    ("-" * 9000 + "1", False),
    ("s0 + " * 5000 + "1", False),
    ("", False),
]


@pytest.mark.parametrize(("expression", "is_size"), EXPRESSIONS, ids=[text[:40] for text, _ in EXPRESSIONS])
def test_only_sizes_reach_sympy(expression, is_size, program, conversions, tmp_path):
    assert size_expressions.is_size(expression) is is_size
    value = b'{"as_expr": {"expr_str": %s}}' % json.dumps(expression).encode()
    path = rewritten(
        program, tmp_path / "net.pt2", in_graph(b'"sym_int_values": {}', b'"sym_int_values": {"a": %s}' % value)
    )
    with pytest.raises(ModelError, match="was handed on" if is_size else "holds an expression that is no size"):
        read(path)
    assert bool(conversions) is is_size


@pytest.mark.parametrize("as_weights", [True, False])
def test_weights_that_would_unpack_to_much_more_are_refused(as_weights, conversions, tmp_path):
    path = members(tmp_path / "net.pth", {"net/data.pkl": "", "net/data/0": zeros(100 << 20)})
    (tmp_path / "nets.py").write_text("")
    source = f"{tmp_path / 'nets.py'}:Net" if as_weights else path
    with pytest.raises(ModelError, match=r"net\.pth: .*would unpack to"):
        read(source, SourceOptions(weights=path if as_weights else None))
    assert not conversions


def test_an_archive_of_torch_2_7_loads_and_its_pickles_are_looked_through(conversions, tmp_path):
    from torch._export.serde.schema import SCHEMA_VERSION
    from torch._export.serde.serialize import serialize

    network = nn.Conv2d(3, 4, 3).eval()
    made = serialize(torch.export.export(network, (torch.zeros(1, 3, 8, 8),)))
    contents = {
        "version": ".".join(map(str, SCHEMA_VERSION)),
        "serialized_exported_program.json": made.exported_program,
        "serialized_state_dict.pt": made.state_dict,
        "serialized_constants.pt": made.constants,
        "serialized_example_inputs.pt": made.example_inputs,
    }
    path = members(tmp_path / "old.pt2", contents)
    pt2_files.write_copy(path, tmp_path / "copy.pt2")
    loaded = torch.export.load(tmp_path / "copy.pt2").module()
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(loaded(x), network(x))
    canary = tmp_path / "canary"
    members(path, contents | {"serialized_state_dict.pt": pickle.dumps(Planted(canary), 0)})
    with pytest.raises(ModelError, match=r"holds a pickle \(serialized_state_dict\.pt\)"):
        read(path)
    assert not conversions
    assert not canary.exists()
