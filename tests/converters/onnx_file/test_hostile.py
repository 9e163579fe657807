"""Files that were made to harm: each is refused in one line, before its sizes or numbers reach anybody."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from filterscope.analyzer.boundary.opening import open_network
from filterscope.converters.errors import FilterscopeError, LimitError, ModelError
from filterscope.converters.normal_form.canonical import canonicalize
from filterscope.converters.onnx_file import model_file
from filterscope.converters.onnx_file.model_file import ModelFile
from filterscope.converters.onnx_file.tensor_content import check_content
from support.networks import build, normal
from support.paths import HOSTILE, ROOT

FILES = sorted(HOSTILE.glob("*.onnx"))
SECONDS = 10  # of processor time


def ends_with(path):
    """Exit code of `inspect` in a process of its own, and its seconds and bytes."""
    code = "from filterscope.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "inspect", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS)),
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_hostile_file_is_refused_at_once(path):
    code, seconds, peak = ends_with(path)
    assert code == 2
    assert seconds < SECONDS
    assert peak < 2 << 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_refusal_is_one_line(path):
    with pytest.raises(FilterscopeError) as refusal:
        open_network(path).prove()
    assert "\n" not in str(refusal.value)


# --- a tensor and what it declares

KINDS = [kind for name, kind in TensorProto.DataType.items() if name not in ("UNDEFINED", "STRING")]


def typed(kind, count):
    return helper.make_tensor("t", kind, [count], typed_array(kind, count))


def raw(kind, count):
    return helper.make_tensor("t", kind, [count], numpy_helper.from_array(typed_array(kind, count)).raw_data, raw=True)


def typed_array(kind, count):
    return np.ones(count).astype(helper.tensor_dtype_to_np_dtype(kind))


READABLE = [kind for kind in KINDS if "FLOAT6" not in TensorProto.DataType.Name(kind)]


@pytest.mark.parametrize("make", [raw, typed])
@pytest.mark.parametrize("kind", READABLE, ids=TensorProto.DataType.Name)
def test_what_onnx_itself_writes_is_read_and_nothing_more_or_less(kind, make):
    for count in (0, 1, 5, 8):
        tensor = make(kind, count)
        check_content(tensor)
        tensor.dims[:] = [count + 16]
        with pytest.raises(ValueError, match=r"declares .* and holds"):
            check_content(tensor)
    tensor = make(kind, 24)
    tensor.dims[:] = [2, 2]
    with pytest.raises(ValueError, match=r"declares .* and holds"):
        check_content(tensor)


def test_strings_are_counted_and_are_text():
    tensor = helper.make_tensor("t", TensorProto.STRING, [2], [b"a", b"b"])
    check_content(tensor)
    tensor.string_data.append(b"c")
    with pytest.raises(ValueError, match="holds 3"):
        check_content(tensor)
    with pytest.raises(ValueError, match="not UTF-8"):
        check_content(helper.make_tensor("t", TensorProto.STRING, [1], [b"\xff"]))


def test_numbers_in_two_places_are_refused():
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [3], normal(3))
    tensor.int64_data.append(1)
    with pytest.raises(ValueError, match="more than one place"):
        check_content(tensor)


def too_long(array):
    tensor = numpy_helper.from_array(array, "long")
    tensor.raw_data += bytes(4)
    return tensor


def in_a_constant(model):
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=too_long(normal(3))))


def in_a_branch(model):
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=too_long(normal(3)))], "b", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))


def in_a_branch_s_initializers(model):
    branch = helper.make_graph([], "b", [], [], [too_long(normal(3))])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))


def in_a_function(model):
    node = helper.make_node("Constant", [], ["c"], value=too_long(normal(3)))
    model.functions.append(helper.make_function("own", "F", [], ["c"], [node], [helper.make_opsetid("", 21)]))


def in_a_sparse_tensor(model):
    indices = numpy_helper.from_array(np.arange(3))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(too_long(normal(3)), indices, [9]))


@pytest.mark.parametrize(
    "place", [in_a_constant, in_a_branch, in_a_branch_s_initializers, in_a_function, in_a_sparse_tensor]
)
def test_too_long_a_tensor_is_refused_wherever_it_stands(place, tmp_path):
    model = build([("Conv", "x w", "y")], {"w": normal(4, 3, 3, 3)})
    place(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"tensor 'long' declares .* 12 bytes, and holds 16"):
        model_file.read(tmp_path / "m.onnx")


# --- external data, a case for each published hole


def with_data_at(folder, location, **entries):
    model = build([("Conv", "x w", "y")], {"w": normal(4, 3, 3, 3)})
    tensor = model.graph.initializer[0]
    external_data_helper.set_external_data(tensor, location, length=432)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    tensor.ClearField("raw_data")
    (folder / "model").mkdir()
    (folder / "secret").write_bytes(bytes(432))
    (folder / "model" / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "model" / "m.onnx"


@pytest.mark.parametrize("location", ["../secret", "a/../../secret", "./../secret"])
def test_cve_2022_25882_and_2024_27318_a_way_up_is_refused(location, tmp_path):
    with pytest.raises(ModelError, match="outside the model's folder"):
        model_file.read(with_data_at(tmp_path, location))


def test_an_absolute_path_is_refused(tmp_path):
    with pytest.raises(ModelError, match="outside the model's folder"):
        model_file.read(with_data_at(tmp_path, str(tmp_path / "secret")))


def as_a_functions_default(model, tensor):
    constant = helper.make_node("Constant", [], ["k"])
    constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, ref_attr_name="t")
    function = helper.make_function(
        "f", "F", ["p"], ["q"], [constant, helper.make_node("Add", ["p", "k"], ["q"])], model.opset_import[:1]
    )
    function.attribute_proto.add(name="t", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
    model.functions.append(function)
    model.opset_import.add(domain="f", version=1)
    model.graph.node.add(op_type="F", domain="f", input=["y"], output=["z"])
    model.graph.output[0].name = "z"


def in_training(model, tensor):
    model.training_info.add().algorithm.initializer.append(tensor)


@pytest.mark.parametrize("place", [as_a_functions_default, in_training])
def test_data_outside_the_folder_is_refused_wherever_the_tensor_stands(place, tmp_path, monkeypatch):
    path = with_data_at(tmp_path, "../secret")
    model = onnx.load(path, load_external_data=False)
    tensor = onnx.TensorProto()
    tensor.CopyFrom(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(normal(4, 3, 3, 3), "w"))
    place(model, tensor)
    path.write_bytes(model.SerializeToString())
    monkeypatch.chdir(path.parent)  # where a library would look
    with pytest.raises(ModelError, match="outside the model's folder"):
        model_file.read(path)


@pytest.mark.parametrize("location", ["x" * 5000, "sub/" * 2000, "loop", "loop/data"])
def test_what_is_no_files_name_is_refused_in_one_line(location, tmp_path):
    path = with_data_at(tmp_path, location)
    (path.parent / "loop").symlink_to("loop")
    with pytest.raises(ModelError, match=r"which is no file's name|is missing") as raised:
        model_file.read(path)
    assert len(str(raised.value)) < 300 + len(str(path))


def test_cve_2026_27489_a_symbolic_link_is_refused(tmp_path):
    path = with_data_at(tmp_path, "link")
    (path.parent / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="outside the model's folder"):
        model_file.read(path)


@pytest.mark.parametrize("place", ["link", "link/x", "link/../../secret"])
def test_links_in_a_circle_are_refused(place, tmp_path):
    path = with_data_at(tmp_path, place)
    (path.parent / "link").symlink_to("other")
    (path.parent / "other").symlink_to("link")
    with pytest.raises(ModelError, match=r"is missing|outside the model's folder"):
        model_file.read(path)


def test_cve_2026_34447_a_link_to_a_folder_on_the_way_is_refused(tmp_path):
    path = with_data_at(tmp_path, "link/secret")
    (path.parent / "link").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="outside the model's folder"):
        model_file.read(path)


def test_cve_2026_34446_a_hard_link_is_refused(tmp_path):
    path = with_data_at(tmp_path, "link")
    os.link(tmp_path / "secret", path.parent / "link")
    with pytest.raises(ModelError, match="is a hard link"):
        model_file.read(path)


def test_cve_2026_34445_keys_of_the_file_change_nothing(tmp_path):
    path = with_data_at(tmp_path, "w.bin", basepath=str(tmp_path), __class__="x", file_path="../secret")
    weights = normal(4, 3, 3, 3)
    (path.parent / "w.bin").write_bytes(weights.tobytes())
    tensor = model_file.read(path).proto.graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), weights)
    assert not tensor.external_data


def test_data_without_a_length_is_read_as_long_as_it_is_declared(tmp_path):
    path = with_data_at(tmp_path, "w.bin")
    model = onnx.load(path, load_external_data=False)
    del model.graph.initializer[0].external_data[1:]
    path.write_bytes(model.SerializeToString())
    (path.parent / "w.bin").write_bytes(bytes(432 + 64))
    assert len(model_file.read(path).proto.graph.initializer[0].raw_data) == 432


# --- constants that are never made

TAIL = [
    ("ReduceMax", "k", "m", {"keepdims": 0}),
    ("Cast", "m", "f", {"to": 1}),
    ("Conv", "x w", "c"),
    ("Add", "c f", "y"),
]
ONE = np.ones(1, np.float32)
MANY = {  # operator, its inputs, constants
    "ConstantOfShape": ("ConstantOfShape", "a", {"a": np.array([1 << 27])}),
    "two axes that overflow": ("ConstantOfShape", "a", {"a": np.array([1 << 32, 1 << 32])}),
    "Expand": ("Expand", "a b", {"a": ONE, "b": np.array([1 << 14, 1 << 14])}),
    "Tile": ("Tile", "a b", {"a": ONE, "b": np.array([1 << 28])}),
    "Range": ("Range", "a b d", {"a": np.array(0), "b": np.array(1 << 40), "d": np.array(1)}),
    "Range without end": ("Range", "a b d", {"a": np.array(0), "b": np.array(9), "d": np.array(0)}),
    "Resize by scales": ("Resize", "a _ b", {"a": ONE, "b": np.array([2.0**28], np.float32)}),
    "Resize to sizes": ("Resize", "a _ _ b", {"a": ONE, "b": np.array([1 << 28])}),
    "Pad": ("Pad", "a b", {"a": ONE, "b": np.array([1 << 28, 0])}),
    "broadcast": ("Add", "a b", {"a": np.ones((1 << 15, 1)), "b": np.ones((1, 1 << 15))}),
    "batches of products": ("MatMul", "a b", {"a": np.ones((1 << 14, 1, 2)), "b": np.ones((1, 2, 1 << 14))}),
    "products that are broadcast": (
        "MatMul",
        "a b",
        {"a": np.ones((1 << 9, 1, 1 << 9, 1)), "b": np.ones((1 << 9, 1, 1 << 5))},
    ),
    "OneHot": (
        "OneHot",
        "a b d",
        {"a": np.zeros(1 << 14, np.int64), "b": np.array(1 << 14), "d": np.array([0, 1], np.float32)},
    ),
    "infinite scales": ("Resize", "a _ b", {"a": ONE, "b": np.array([np.inf], np.float32)}),
    "product": ("MatMul", "a b", {"a": np.ones((1 << 15, 1)), "b": np.ones((1, 1 << 15))}),
    "Gather": ("Gather", "a b", {"a": np.ones((1, 1 << 15)), "b": np.zeros(1 << 15, np.int64)}),
}


def graph_with(op, inputs, constants, tail=TAIL):
    nodes = [(op, inputs, "k"), *tail]
    built = [
        helper.make_node(op, [n if n != "_" else "" for n in i.split()], [o], **dict(*a)) for op, i, o, *a in nodes
    ]
    graph = helper.make_graph(
        built,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 16))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in (constants | {"w": normal(4, 3, 3, 3)}).items()],
    )
    return ModelFile(Path("m.onnx"), "0" * 64, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


@pytest.mark.parametrize("case", MANY.values(), ids=MANY)
def test_a_constant_far_larger_than_the_file_is_never_made(case):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LimitError):
        canonicalize(graph_with(*case))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 18  # KiB


def test_constants_that_are_large_only_together_are_refused():
    """Nine of 64 MiB each, made of a few numbers; what all together may take is 512 MiB."""
    nodes = [("ConstantOfShape", "side", f"k{index}") for index in range(9)]
    nodes += [("ReduceMax", f"k{index}", f"m{index}", {"keepdims": 0}) for index in range(9)]
    nodes += [("Sum", " ".join(f"m{index}" for index in range(9)), "f"), ("Conv", "x w", "c"), ("Add", "c f", "y")]
    model = build(nodes, {"side": np.array([1 << 24]), "w": normal(4, 3, 3, 3)})
    with pytest.raises(LimitError, match=r"ConstantOfShape.*: its constants come to more than 512 MiB, far more than"):
        canonicalize(ModelFile(Path("m.onnx"), "0" * 64, model))


def test_functions_that_multiply_are_counted_and_not_written_out(tmp_path):
    """Six levels, each of ten calls of the one below: a million nodes in a file of seventy."""
    model = build([("Conv", "x w", "c"), ("F6", "c", "y", {"domain": "own"})], {"w": normal(4, 3, 3, 3)})
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    for level in range(7):
        kind = {"domain": "own"} if level else {}
        operator = f"F{level - 1}" if level else "Relu"
        nodes = [helper.make_node(operator, [f"v{i}"], [f"v{i + 1}"], **kind) for i in range(10)]
        model.functions.append(helper.make_function("own", f"F{level}", ["v0"], ["v10"], nodes, opsets))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LimitError, match=r"its 72 nodes come to 10,000,001 with its functions written out; at most "):
        model_file.read(tmp_path / "m.onnx")


LEAST = np.iinfo(np.int64).min


@pytest.mark.parametrize(
    ("op", "dividend", "divisor"), [("Div", LEAST, -1), ("Mod", LEAST, -1), ("Div", 7, 0), ("Mod", 7, 0)]
)
def test_a_division_that_the_processor_cannot_do_is_refused(op, dividend, divisor):
    with pytest.raises(LimitError, match="divides"):
        canonicalize(graph_with(op, "a b", {"a": np.array([dividend]), "b": np.array([divisor])}))


@pytest.mark.parametrize(("op", "result"), [("Div", -3), ("Mod", 1)])
def test_other_divisions_are_worked_out(op, result):
    tail = [("Cast", "k", "f", {"to": 1}), ("Conv", "x w", "c"), ("Add", "c f", "y")]
    model = canonicalize(graph_with(op, "a b", {"a": np.array([-6 if op == "Div" else 7]), "b": np.array([2])}, tail))
    assert any((array == result).all() for array in model.graph.initializers.values())


# --- structure


def test_branches_inside_one_another_have_a_limit(tmp_path):
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "b", [], [])
    for _ in range(20):
        branch = helper.make_graph([helper.make_node("If", ["x"], ["z"], then_branch=branch)], "b", [], [])
    model = build([("Conv", "x w", "y")], {"w": normal(4, 3, 3, 3)})
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="deep"):
        model_file.read(tmp_path / "m.onnx")


def test_functions_that_call_themselves_are_refused(tmp_path):
    model = build([("Conv", "x w", "c"), ("F", "c", "y", {"domain": "own"})], {"w": normal(4, 3, 3, 3)})
    call = helper.make_node("F", ["a"], ["b"], domain="own")
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], [call], [helper.make_opsetid("own", 1)]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LimitError, match="without end"):
        model_file.read(tmp_path / "m.onnx")


@pytest.mark.parametrize("attribute", ["pads", "strides", "dilations", "kernel_shape"])
def test_a_window_wider_than_any_image_is_refused(attribute, tmp_path):
    model = build([("Conv", "x w", "y")], {"w": normal(4, 3, 3, 3)})
    model.graph.node[0].attribute.append(helper.make_attribute(attribute, [1 << 30] * 2))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LimitError, match=f"its {attribute} 1073741824 is wider"):
        model_file.read(tmp_path / "m.onnx")


def many_attributes(model):
    model.graph.node[1].attribute.extend(helper.make_attribute(f"a{index}", 1) for index in range(100_001))


def many_tensors(model):
    model.graph.initializer.extend(
        onnx.TensorProto(name=f"t{index}", data_type=1, dims=[0]) for index in range(100_001)
    )


def many_notes(model):
    model.metadata_props.extend(onnx.StringStringEntryProto(key=str(index)) for index in range(100_001))


def a_long_name(model):
    model.graph.node[0].name = "n" * 4097


def long_names(model):
    for index in range(8200):
        model.graph.node.add(op_type="Relu", input=["c"], output=[f"{index:04096}"])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (many_attributes, "100,001 parts of the kind attribute"),
        (many_tensors, "parts of the kind initializer"),
        (many_notes, "parts of the kind metadata_props"),
        (a_long_name, "a name of 4,097 characters"),
        (long_names, "names of 33,55"),
    ],
)
def test_parts_and_names_have_limits(change, word, tmp_path):
    model = build([("Conv", "x w", "c"), ("Relu", "c", "y")], {"w": normal(4, 3, 3, 3)})
    change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(LimitError, match=word):
        model_file.read(path)


def test_remarks_and_notes_may_be_long(tmp_path):
    model = build([("Conv", "x w", "c"), ("Relu", "c", "y")], {"w": normal(4, 3, 3, 3)})
    model.graph.node[0].doc_string = "a stack " * 10_000
    model.metadata_props.add(key="names", value="a class, " * 20_000)
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path)
    assert model_file.read(path).notes == ()


def test_cve_2024_5187_nothing_is_downloaded_or_unpacked():
    """onnx's download of test data unpacks an archive where it likes; nothing here downloads or unpacks a tar."""
    code = [
        file for room in ("converters", "analyzer", "reports", "filterscope") for file in (ROOT / room).rglob("*.py")
    ]
    assert len(code) > 150
    for file in code:
        assert not re.search(r"tarfile|onnx\.hub|download_model|urlretrieve|urlopen", file.read_text("utf-8")), file
