"""The copy of a Keras file that is loaded, and the names that convolutions get back; no Keras is needed."""

import json
import zipfile
from copy import deepcopy

import numpy as np
import pytest

from filterscope.converters.errors import ModelError
from filterscope.converters.sources import keras_files
from filterscope.converters.sources.scripts import keras_copy, keras_layer_names
from filterscope.converters.sources.scripts.keras_layer_names import Kernel
from support.networks import build, normal

h5py = pytest.importorskip("h5py", exc_type=ImportError)


def policy(name):
    """A dtype policy as Keras 3 writes one."""
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": name}}


CONFIGURATIONS = [  # what stands in the file, what is loaded, words of the note
    ({"dtype": policy("mixed_float16")}, {"dtype": "float32"}, "float16 were made float32"),
    ({"inner": [{"dtype": "bfloat16"}]}, {"inner": [{"dtype": "float32"}]}, "bfloat16 were made float32"),
    ({"dtype": policy("float32")}, {"dtype": policy("float32")}, None),
    ({"batch_shape": [1, 32, 32, 3]}, {"batch_shape": [None, 32, 32, 3]}, None),
    ({"batch_input_shape": [8, None]}, {"batch_input_shape": [None, None]}, None),
    (
        {"class_name": "DepthwiseConv2D", "config": {"groups": 1, "depth_multiplier": 1}},
        {"class_name": "DepthwiseConv2D", "config": {"depth_multiplier": 1}},
        None,
    ),
    ({"class_name": "Conv2D", "config": {"groups": 1}}, {"class_name": "Conv2D", "config": {"groups": 1}}, None),
]


def operation(kind, *operands, name="sum", config=None):
    """An entry of a model's layers; operands are numbers, or names of layers whose output they are."""
    tensors = [{"keras_history": [each, 0, 0]} if isinstance(each, str) else each for each in operands]
    nodes = [{"args": tensors, "kwargs": {}}]
    return {"class_name": kind, "config": {"name": name} | (config or {}), "name": name, "inbound_nodes": nodes}


def rescaling(scale, offset, of="a"):
    return operation("Rescaling", of, config={"scale": scale, "offset": offset})


def merged(kind, *operands):
    entry = operation(kind, *operands)
    entry["inbound_nodes"][0]["args"] = [entry["inbound_nodes"][0]["args"]]
    return entry


CONFIGURATIONS += [  # an operation x + 3 bears the name of the layer that adds
    (operation("Add", "a", 3.0), rescaling(1.0, 3.0), None),
    (operation("Add", 3, "a"), rescaling(1.0, 3), None),
    (operation("Multiply", "a", 0.5), rescaling(0.5, 0.0), None),
    (operation("Subtract", "a", 2.0), rescaling(1.0, -2.0), None),
    (operation("Subtract", 2.0, "a"), rescaling(-1.0, 2.0), None),
    (operation("Subtract", "a", "b"), merged("Subtract", "a", "b"), None),
    (merged("Add", "a", "b"), merged("Add", "a", "b"), None),
    (operation("Add", "a", 3.0) | {"module": "keras.src.ops.numpy"},) * 2 + (None,),
]


def archive(path, members):
    """A zip archive."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return path


@pytest.mark.parametrize(("written", "loaded", "words"), CONFIGURATIONS)
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_what_is_loaded_is_the_configuration_that_was_looked_through_made_float32(
    written, loaded, words, kind, tmp_path
):
    source = tmp_path / "source.model"
    if kind == "keras":
        archive(source, [("config.json", "never looked through"), ("assets/it.txt", "kept")])
    else:
        with h5py.File(source, "w") as file:
            file["kernel"] = np.ones(3)
            file.attrs["model_config"] = "never looked through"
    copy, notes = keras_copy.write(source, kind, deepcopy(written), tmp_path)
    if kind == "keras":
        with zipfile.ZipFile(copy) as file:
            found, kept = json.loads(file.read("config.json")), file.read("assets/it.txt") == b"kept"
    else:
        with h5py.File(copy, "r") as file:
            found, kept = json.loads(file.attrs["model_config"]), file["kernel"][:].sum() == 3
    assert found == loaded
    assert kept
    assert copy.suffix == f".{kind}"
    assert [words in note for note in notes] == ([True] if words else [])


def linked(path, how):
    """An HDF5 file whose weights lie in another file."""
    with h5py.File(path.with_name("secret.h5"), "w") as file:
        file["kernel"] = np.zeros(3)
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d")
        if how == "link":
            group["kernel"] = h5py.ExternalLink("secret.h5", "kernel")
        elif how == "external":
            group.create_dataset("kernel", (3,), "u1", external=[(str(path.with_name("secret.h5")), 0, 3)])
        elif how == "virtual":
            layout = h5py.VirtualLayout((3,), "f8")
            layout[:] = h5py.VirtualSource("secret.h5", "kernel", (3,))
            group.create_virtual_dataset("kernel", layout)
        else:
            group["again"] = file["layers"]
    return path


@pytest.mark.parametrize("how", ["link", "external", "virtual", "cycle"])
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_weights_of_another_file_are_not_loaded(how, kind, tmp_path):
    source = linked(tmp_path / "weights.h5", how)
    if kind == "keras":
        source = archive(tmp_path / "m.keras", [("config.json", "{}"), (keras_copy.WEIGHTS, source.read_bytes())])
    with pytest.raises(
        keras_copy.file_limits.LimitError, match="contain each other" if how == "cycle" else "in another file"
    ):
        keras_copy.write(source, kind, {}, tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [["../it"], ["/etc/it"], ["a/../../it"], ["C:it"], ["..\\it"], ["config.json"]])
def test_an_archive_that_reaches_outside_itself_is_refused(names, tmp_path):
    path = archive(tmp_path / "m.keras", [("config.json", "{}"), *((name, "{}") for name in names)])
    with pytest.raises(ModelError, match="lies outside the archive or is in it twice"):
        keras_files.read(path)


def renamed(layers, *kernels, op="Conv", names=("a", "b")):
    """Names of a chain of convolutions after `rename`, and how many are scaled; kernels are (H, W, I, O)."""
    weights = {f"w{index}": kernel.transpose(3, 2, 0, 1) for index, kernel in enumerate(kernels)}
    nodes = [(op, f"{'x' if not i else f'v{i - 1}'} w{i}", f"v{i}", {"name": names[i]}) for i in range(len(kernels))]
    model = build(nodes, weights)
    scaled = keras_layer_names.rename(model, layers)
    return [node.name for node in model.graph.node], scaled


def test_a_kernel_is_found_again_behind_a_folded_batchnorm_of_either_sign():
    first, second = normal(3, 3, 3, 4), normal(3, 3, 4, 5)
    layers = [Kernel("second", "net/second", keras_layer_names.plain(second))]
    layers.append(Kernel("first", "net/first", keras_layer_names.plain(first)))
    scale = np.array([2, -0.5, 1, -3, 0.1], np.float32)
    assert renamed(layers, first, second * scale) == (["first/Conv", "second/Conv"], 1)


def test_layers_of_one_kernel_are_told_apart_by_the_old_name_then_by_their_order():
    kernel = normal(3, 3, 3, 3)
    layers = [Kernel(name, f"net/{name}", keras_layer_names.plain(kernel)) for name in ("one", "two")]
    assert renamed(layers, kernel, kernel, names=("net/two/mul", "net/one/mul"))[0] == ["two/Conv", "one/Conv"]
    assert renamed(layers, kernel, kernel, names=("a", "b"))[0] == ["one/Conv", "two/Conv"]


def test_layers_of_one_name_get_their_path_and_one_layer_used_twice_keeps_its_name():
    first, second = normal(3, 3, 3, 3, seed=1), normal(3, 3, 3, 3, seed=2)
    layers = [Kernel("conv", f"{net}/conv", keras_layer_names.plain(k)) for net, k in (("p", first), ("q", second))]
    assert renamed(layers, second, first)[0] == ["q/conv/Conv", "p/conv/Conv"]
    assert renamed(layers[:1], first, first)[0] == ["conv/Conv", "conv/Conv_1"]


def test_a_convolution_that_no_layer_has_keeps_its_name():
    layers = [Kernel("one", "one", keras_layer_names.plain(normal(3, 3, 3, 3, seed=1)))]
    assert renamed(layers, normal(3, 3, 3, 3, seed=2)) == (["a"], 0)
