"""Reading files that strangers made: each bad one is refused in one line that says what is wrong with it."""

import hashlib
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper

from filterscope.converters.errors import ModelError
from filterscope.converters.onnx_file import model_file
from support.networks import DATA, MODELS, build, needs_data, normal


def small():
    return build([("Conv", "x w", "y")], {"w": normal(4, 3, 3, 3)})


def write(path, content):
    path.write_bytes(content)
    return path


# --- what is no model at all


def text(folder):
    return write(folder / "model.onnx", b"this is not a model, it is a letter\n" * 20)


def noise(folder):
    return write(folder / "model.onnx", np.random.default_rng(3).bytes(4096))


def another_message(folder):
    tensor = helper.make_tensor("weights", TensorProto.FLOAT, [2], [1.0, 2.0])
    return write(folder / "model.onnx", tensor.SerializeToString())


def without_nodes(folder):
    graph = helper.make_graph([], "g", [], [])
    return write(folder / "model.onnx", helper.make_model(graph).SerializeToString())


def pipe(folder):
    os.mkfifo(folder / "model.onnx")
    return folder / "model.onnx"


def of_another_framework(name):
    return lambda folder: write(folder / name, b"PK\x03\x04 whatever")


# --- models with one thing wrong


def changed(change):
    """A file that holds the small model after a change to it."""

    def write_changed(folder):
        model = small()
        change(model)
        return write(folder / "model.onnx", model.SerializeToString())

    return write_changed


def too_large(model):
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].dims[:] = [1 << 40]


def too_large_together(model):
    for index in range(3):
        tensor = model.graph.initializer.add(name=f"part{index}", data_type=TensorProto.FLOAT)
        tensor.dims[:] = [1 << 42, 1 << 18]


def too_large_inside_a_branch(model):
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1 << 40])
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "branch", [], [])
    model.graph.node.add(op_type="If", input=["x"]).attribute.append(helper.make_attribute("then_branch", branch))


def too_large_though_sparse(model):
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(TensorProto(name="sparse", data_type=TensorProto.FLOAT, dims=[1 << 40]))


def too_large_when_written_out(model):
    values = helper.make_tensor("few", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("places", TensorProto.INT64, [1], [7])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [1 << 20, 1 << 20]))


def shapeless_inputs(model):
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))
    model.graph.input[0].type.tensor_type.ClearField("shape")


def without_operator(model):
    model.graph.node.add()


def negative(model):
    model.graph.initializer[0].dims[:] = [4, -3, 3, 3]


def short(model):
    tensor = model.graph.initializer[0]
    tensor.raw_data = tensor.raw_data[:100]


def unreadable_name(folder):
    content = small().SerializeToString()
    return write(folder / "model.onnx", content.replace(b"Conv", b"C\xff\xfev"))


def dangling(model):
    model.graph.node[0].input[0] = "nobody"


def twice_one_function(model):
    for _ in range(2):
        node = helper.make_node("Relu", ["a"], ["b"])
        model.functions.append(helper.make_function("own", "Twin", ["a"], ["b"], [node], model.opset_import))


def text_as_bytes(model):
    model.graph.initializer.add(name="words", data_type=TensorProto.STRING, dims=[2], raw_data=b"abcdefgh")


def of_an_unknown_type(model):
    model.graph.initializer.add(name="strange", data_type=99, dims=[2], raw_data=bytes(8))


def of_no_type(model):
    model.graph.initializer.add(name="strange", dims=[2], raw_data=bytes(8))


def wider_than_memory(model):
    model.graph.value_info.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, ["N", 1 << 40, 1 << 20]))


def text_outside(folder):
    model = small()
    tensor = model.graph.initializer.add(name="words", data_type=TensorProto.STRING, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="words.bin")
    write(folder / "words.bin", bytes(8))
    return write(folder / "model.onnx", model.SerializeToString())


def no_opset(model):
    del model.opset_import[:]


# --- external data


def external(location, **entries):
    """A model whose weights are said to lie at `location`; nothing is written there."""

    def write_external(folder):
        model = small()
        tensor = model.graph.initializer[0]
        external_data_helper.set_external_data(tensor, location)
        for key, value in ({"length": 432} | entries).items():
            tensor.external_data.add(key=key, value=str(value))
        tensor.ClearField("raw_data")
        (folder / "model").mkdir()
        write(folder / "outside.bin", bytes(432))
        write(folder / "model" / "short.bin", bytes(431))
        write(folder / "model" / "whole.bin", bytes(432))
        (folder / "model" / "link.bin").symlink_to(folder / "outside.bin")
        return write(folder / "model" / "model.onnx", model.SerializeToString())

    return write_external


BAD = {  # name: what to open, the words of the refusal
    "no such file": (lambda folder: folder / "none.onnx", "none.onnx: no such file"),
    "no such folder": (lambda folder: folder / "a" / "b.onnx", "b.onnx: no such file"),
    "a folder": (lambda folder: folder, "is a folder; name the .onnx file itself"),
    "a file taken for a folder": (lambda folder: text(folder) / "x.onnx", r"cannot be read \(Not a directory\)"),
    "a name too long": (lambda folder: folder / ("x" * 400 + ".onnx"), r"cannot be read \(File name too long\)"),
    "a pipe": (pipe, "is no plain file"),
    "empty": (lambda folder: write(folder / "model.onnx", b""), "is empty"),
    "text": (text, "not an ONNX model"),
    "random bytes": (noise, "not an ONNX model"),
    "another protobuf": (another_message, "not an ONNX model"),
    "a graph without nodes": (without_nodes, "it holds no graph"),
    "Keras": (of_another_framework("m.keras"), "a Keras file cannot be opened yet; export it to ONNX"),
    "Keras in HDF5": (of_another_framework("m.H5"), "a Keras file cannot be opened yet"),
    "PyTorch": (of_another_framework("m.pt"), "a PyTorch file cannot be opened yet; export it to ONNX"),
    "PyTorch export": (of_another_framework("m.pt2"), "a PyTorch file cannot be opened yet"),
    "TensorFlow Lite": (of_another_framework("m.tflite"), "a TensorFlow Lite file cannot be opened yet"),
    "a tensor larger than memory": (changed(too_large), r"tensor 'w' declares \[1099511627776\] values; .* memory"),
    "sizes that overflow 64 bits": (changed(too_large_together), "tensor 'part0' declares .* would not fit"),
    "one hidden in a branch": (changed(too_large_inside_a_branch), "tensor 'hidden' declares .* would not fit"),
    "a sparse one": (changed(too_large_though_sparse), "tensor 'sparse' declares .* would not fit"),
    "a sparse one of few values": (changed(too_large_when_written_out), "tensor 'few' declares .* would not fit"),
    "two inputs without a shape": (changed(shapeless_inputs), "not a valid ONNX model: input 'x' declares no shape"),
    "a negative dimension": (changed(negative), r"tensor 'w' has a negative dimension \[4, -3, 3, 3\]"),
    "too few bytes in a tensor": (changed(short), "not a valid ONNX model"),
    "a value that nobody writes": (changed(dangling), "not a valid ONNX model: .*nobody"),
    "a name that is no text": (unreadable_name, "a node holds a name that is no text; the file is damaged"),
    "a node without an operator": (
        changed(without_operator),
        "a node has no operator or no output; the file is damaged",
    ),
    "a function that stands twice": (changed(twice_one_function), "its function 'Twin' is defined twice"),
    "text as raw bytes": (changed(text_as_bytes), "tensor 'words' .*holds text as raw bytes; the file is damaged"),
    "a type that is none": (changed(of_an_unknown_type), "tensor 'strange' .*is of type number 99, which cannot be"),
    "a tensor without a type": (changed(of_no_type), "tensor 'strange' .*is of type UNDEFINED, which cannot be read"),
    "a value larger than memory": (
        changed(wider_than_memory),
        r"value 'v' is declared \['N', 1099511627776, 1048576\]: more than any memory holds",
    ),
    "text outside the file": (text_outside, "tensor 'words' keeps text outside the file, which ONNX does not allow"),
    "no opset": (changed(no_opset), "not a valid ONNX model"),
    "external data missing": (external("gone.bin"), "its external data 'gone.bin' is missing; keep it"),
    "external data above": (
        external("../outside.bin"),
        "'../outside.bin', outside the model's folder; that",
    ),
    "external data elsewhere": (external("/etc/hostname"), "'/etc/hostname', outside the model's folder"),
    "a link that leads out": (external("link.bin"), "'link.bin', outside the model's folder"),
    "external data without a name": (external(""), "'', outside the model's folder"),
    "a name with a zero in it": (external("who\0le.bin", length=999), "'whole.bin' is shorter than tensor 'w' needs"),
    "external data too short": (external("short.bin"), "'short.bin' is shorter than tensor 'w' needs"),
    "an offset beyond its end": (external("whole.bin", offset=64), "'whole.bin' is shorter than tensor 'w' needs"),
    "a negative offset": (external("whole.bin", offset=-8), "does not say where in 'whole.bin' it begins and ends"),
    "an offset that is a word": (external("whole.bin", offset="here"), "does not say where in 'whole.bin'"),
    "a length that does not fit": (external("whole.bin", length=100), "not a valid ONNX model"),
}


@pytest.mark.parametrize(("make", "words"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_in_one_line(make, words, tmp_path):
    path = make(tmp_path)
    with pytest.raises(ModelError, match=words) as refusal:
        model_file.read(path)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(str(path))
    assert len(str(refusal.value)) < len(str(path)) + 450


@pytest.mark.parametrize(
    "name", [pytest.param("mnist_cntk", marks=needs_data), pytest.param("svhn_cnn6", marks=needs_data)]
)
def test_a_real_model_cut_off_anywhere_is_refused(name, tmp_path):
    content = (MODELS / f"{name}.onnx").read_bytes()
    last = len(content) - 1
    cuts = {*range(1, 60), *np.linspace(60, last - 40, 120, dtype=int), *range(last - 40, last + 1)}
    path = tmp_path / "model.onnx"
    for cut in sorted(cuts):
        path.write_bytes(content[:cut])
        with pytest.raises(ModelError):
            model_file.read(path)


@needs_data
def test_a_real_model_with_flipped_bytes_is_read_or_refused_and_nothing_else(tmp_path):
    content = (MODELS / "mnist_cntk.onnx").read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 4):
            damaged[place] ^= int(rng.integers(1, 256))
        try:
            model_file.read(write(tmp_path / "model.onnx", damaged))
        except ModelError:
            refused += 1
    assert refused


@pytest.mark.parametrize("strange", [False, True])
def test_reading_changes_nothing(strange, tmp_path):
    model = small()
    if strange:  # what the checker alone refuses
        model.graph.output[0].type.tensor_type.ClearField("shape")
        model.graph.node.add(op_type="Convolute", input=["y"], output=["z"])
    found = model_file.read(write(tmp_path / "model.onnx", model.SerializeToString()))
    assert found.proto == model
    assert found.path == tmp_path / "model.onnx"
    assert found.sha256 == hashlib.sha256(model.SerializeToString()).hexdigest()


def test_the_bytes_beside_a_model_are_those_of_its_files_each_once(tmp_path):
    path = external("whole.bin")(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer.append(model.graph.initializer[0])
    model.graph.initializer[1].name = "again"
    write(path, model.SerializeToString())
    assert model_file.external_bytes(path) == 432
    assert model_file.external_bytes(write(tmp_path / "model.h5", path.read_bytes())) == 0
    assert model_file.external_bytes(write(tmp_path / "alone.onnx", small().SerializeToString())) == 0
    assert model_file.external_bytes(text(tmp_path)) == 0
    assert model_file.external_bytes(tmp_path / "none.onnx") == 0


def test_data_beside_the_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = external("whole.bin")(tmp_path)

    def refused(file, flags):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("filterscope.converters.onnx_file.external_data.os.open", refused)
    with pytest.raises(ModelError, match=r"its external data 'whole\.bin' cannot be read \(Permission denied\)"):
        model_file.read(path)


def test_a_pipe_put_in_the_place_of_data_is_refused(tmp_path, monkeypatch):
    """Between the look at its name and the opening."""
    path = external("whole.bin")(tmp_path)
    opening = os.open

    def exchanged(file, flags):
        file.unlink()
        os.mkfifo(file)
        return opening(file, flags)

    monkeypatch.setattr("filterscope.converters.onnx_file.external_data.os.open", exchanged)
    with pytest.raises(ModelError, match=r"its external data 'whole\.bin' is no plain file"):
        model_file.read(path)


@pytest.mark.parametrize("location", ["weights.bin", "sub/weights.bin", "./sub/../weights.bin"])
def test_external_data_inside_the_folder_is_read_in(location, tmp_path):
    model, weights = small(), normal(4, 3, 3, 3)
    tensor = model.graph.initializer[0]
    external_data_helper.set_external_data(tensor, location, offset=16, length=weights.nbytes)
    tensor.ClearField("raw_data")
    (tmp_path / "sub").mkdir()
    write(tmp_path / location, bytes(16) + weights.tobytes())
    found = model_file.read(write(tmp_path / "model.onnx", model.SerializeToString()))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(found.proto.graph.initializer[0]), weights)


def test_the_hash_follows_the_external_data(tmp_path):
    onnx.save_model(small(), tmp_path / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    first = model_file.read(tmp_path / "model.onnx").sha256
    assert model_file.read(tmp_path / "model.onnx").sha256 == first
    content = bytearray((tmp_path / "w.bin").read_bytes())
    content[7] ^= 1
    write(tmp_path / "w.bin", content)
    assert model_file.read(tmp_path / "model.onnx").sha256 != first


@needs_data
@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_every_real_model_is_read(path):
    assert model_file.read(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@needs_data
@pytest.mark.parametrize("folder", ["keras", "pytorch"])
def test_real_models_of_other_frameworks_are_told_to_be_exported(folder):
    for path in (DATA / "models" / folder).iterdir():
        with pytest.raises(ModelError, match="export it to ONNX"):
            model_file.read(path)
