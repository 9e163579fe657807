"""Networks that ONNX Runtime runs, opened: the oracle is a plain ONNX Runtime session on the file itself."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network import network
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.receptive_fields import FieldWalk
from filterscope.cli import app
from filterscope.converters.errors import ModelError, UnsupportedOperatorError
from filterscope.converters.normal_form.canonical import canonicalize
from filterscope.converters.onnx_file import model_file
from filterscope.converters.runtime import refusal
from support.networks import build, normal

SAME = {"pads": [1, 1, 1, 1]}
WEIGHTS = {"w": normal(4, 3, 3, 3), "v": normal(6, 4, 3, 3)}


def in_onnxruntime(path, names, x):
    """What a plain session makes of a file, for values of these names."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    model = onnx.load(path)
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: x}), strict=True))


def opened_as_onnxruntime_runs_it(path, names, **options):
    """Open and prove a file; its values of these names are ONNX Runtime's, in shape and in numbers."""
    network = open_network(path, **options)
    network.prove()
    x = normal(1, network.input.channels, network.input.height, network.input.width, seed=5)
    expected = in_onnxruntime(path, names, x)
    found = network.session(names).run(x)
    for name in names:
        assert network.shapes[name] == expected[name].shape
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    return network


# --- sizes come from a run


def between(op, attributes=None, constants=None, side=9, inputs="c", **more):
    """Conv → `op` → Conv at a fixed size."""
    nodes = [
        ("Conv", "x w", "c", SAME | {"name": "first"}),
        (op, inputs, "m", attributes or {}),
        ("Conv", "m v", "d", SAME | {"name": "second"}),
        ("Relu", "d", "y"),
    ]
    return build(nodes, WEIGHTS | (constants or {}), shape=("N", 3, side, side), **{"opset": 18} | more)


def scales(factor):
    return {"s": np.array([1, 1, factor, factor], np.float32)}


NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
ROUNDED = {
    "a pooling whose last window would begin in the padding": between(
        "MaxPool", {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1}, side=10
    ),
    "the same with padding": between(
        "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}
    ),
    "a mean that counts the padding": between(
        "AveragePool",
        {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1},
        side=8,
        opset=19,
    ),
    "a window of one": between("MaxPool", {"kernel_shape": [1, 1], "strides": [2, 2], "ceil_mode": 1}, side=8),
    "a norm": between("LpPool", {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1}, side=10),
    "a Resize by 0.7": between("Resize", NEAREST, scales(0.7), side=20, inputs="c _ s"),
    "a Resize by 0.6": between("Resize", NEAREST, scales(0.6), side=10, inputs="c _ s"),
    "a linear Resize by 1.3": between("Resize", {"mode": "linear"}, scales(1.3), side=10, inputs="c _ s"),
    "a Resize of TensorFlow's": between(
        "Resize",
        {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "ceil"},
        {"r": np.zeros(0, np.float32)} | scales(1.6),
        side=10,
        inputs="c r s",
        opset=11,
    ),
    "a Resize that keeps the aspect ratio": between(
        "Resize",
        {"mode": "nearest", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"},
        {"t": np.array([13, 5])},
        side=10,
        inputs="c _ _ t",
    ),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_sizes_are_those_that_onnx_runtime_computes(name, tmp_path):
    onnx.save(ROUNDED[name], tmp_path / "model.onnx")
    network = opened_as_onnxruntime_runs_it(tmp_path / "model.onnx", ["m", "d"])
    expected = in_onnxruntime(tmp_path / "model.onnx", ["m"], normal(1, *network.shapes["x"][1:]))["m"].shape
    assert tuple(network.model.graph.shapes["m"][1:]) == expected[1:]
    assert network.layer("second").output_shape == (6, *expected[2:])


def test_a_constant_that_is_computed_from_such_a_size_is_right(tmp_path):
    """Exporters read a map's size with Shape, and resize another map to it."""
    nodes = [
        ("Conv", "x w", "c", SAME),
        ("MaxPool", "c", "p", SAME | {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("Shape", "p", "size", {"start": 2}),
        ("Resize", "c _ _ size", "m", {"mode": "nearest", "axes": [2, 3]}),
        ("Concat", "p m", "j", {"axis": 1}),
        ("Conv", "j u", "d", SAME),
    ]
    model = build(nodes, {"w": WEIGHTS["w"], "u": normal(5, 8, 3, 3)}, shape=("N", 3, 9, 9), opset=18)
    onnx.save(model, tmp_path / "model.onnx")
    opened_as_onnxruntime_runs_it(tmp_path / "model.onnx", ["p", "m", "d"])


def test_sizes_that_inference_cannot_name_are_waited_for_once(tmp_path):
    """Each inference gives a dimension that it does not know a new name; telling it those never came to an end."""
    pooled = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
    nodes = [
        ("Reshape", "x s", "r"),
        ("Conv", "r w", "c", SAME),
        ("AveragePool", "c", "m", pooled),
        ("Conv", "m v", "d", SAME),
        ("MaxPool", "d", "y", pooled),
    ]
    onnx.save(build(nodes, WEIGHTS | {"s": np.array([-1, 3, 9, 9])}, shape=("N", 3, 9, 9)), tmp_path / "model.onnx")
    opened_as_onnxruntime_runs_it(tmp_path / "model.onnx", ["m", "d", "y"])


@pytest.mark.parametrize("name", ["the same with padding", "a Resize by 0.7", "a Resize by 0.6"])
def test_a_field_is_what_onnx_runtime_reads_there(name, tmp_path):
    model = ROUNDED[name]
    onnx.save(model, tmp_path / "model.onnx")
    network = open_network(tmp_path / "model.onnx")
    walk = FieldWalk(network.model.graph, "x", (2, 3), network.shapes)
    side = network.input.height
    x = normal(1, 3, side, side, seed=1)
    plain = in_onnxruntime(tmp_path / "model.onnx", ["m"], x)["m"]
    seen: dict[int, set[int]] = {place: set() for place in range(plain.shape[2])}
    for row in range(side):
        for change in (-100, 100):  # a maximum may hide one of them
            changed = x.copy()
            changed[:, :, row] += change
            differs = (in_onnxruntime(tmp_path / "model.onnx", ["m"], changed)["m"] != plain).any(axis=(0, 1, 3))
            for place in np.flatnonzero(differs):
                seen[int(place)].add(row)
    for place, rows in seen.items():
        first, count = walk.along("m", 0, place)
        assert rows == {row for row in range(first, first + count) if 0 <= row < side}


# --- a file is judged by ONNX Runtime, with the checker's word as a note


def plain_network(opset=17, ir_version=8):
    nodes = [("Conv", "x w b", "c", SAME | {"name": "first"}), ("Relu", "c", "r"), ("Conv", "r v", "y", SAME)]
    constants = WEIGHTS | {"b": normal(4)}
    return build(nodes, constants, shape=("N", 3, 12, 12), opset=opset, ir_version=ir_version)


def without_name(model):
    model.graph.ClearField("name")


def with_constants_apart(model):
    model.ir_version, model.opset_import[0].version = 3, 8


def with_old_ir_version(model):
    model.ir_version = 2


def with_ir_version_0(model):
    model.ir_version = 0


def backwards(model):
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node][::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def without_output_type(model):
    model.graph.output[0].ClearField("type")


def with_wrong_output_shape(model):
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 99]))


def with_a_constant_twice(model):
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(4, 3, np.float32), "b"))


def with_a_constant_unnamed(model):
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), ""))


def with_numbers_twice(model):
    model.graph.initializer[-1].float_data.extend([1.0] * 4)


def with_a_segment(model):
    model.graph.initializer[-1].segment.end = 4


def with_metadata_twice(model):
    for value in "ab":
        model.metadata_props.add(key="author", value=value)


def with_the_long_domain(model):
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"


def with_the_long_domain_in_nodes(model):
    for node in model.graph.node:
        node.domain = "ai.onnx"


def with_opsets_twice(model):
    model.opset_import.append(helper.make_opsetid("", model.opset_import[0].version))
    model.opset_import.append(helper.make_opsetid("com.example", 3))


def with_an_opset_of_others_alone(model):
    """ONNX Runtime takes its newest opset, where Softmax is along the last axis; it was along all from 1 on."""
    model.graph.node.append(helper.make_node("Softmax", [model.graph.output[0].name], ["softmax"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("softmax", TensorProto.FLOAT, None))
    model.opset_import[0].domain = "com.example"


def with_a_reference_to_no_function(model):
    """ONNX Runtime takes the value that stands beside it."""
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("strides", [2, 2]))
    node.attribute[0].ref_attr_name = "w"


def with_wrong_values(model):
    for shape in (["N", 9, 5, 5], ["N", 8]):
        model.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, shape))


def without_input_shape(model):
    model.graph.input[0].type.tensor_type.ClearField("shape")


NOTED = {  # what is done to a file that ONNX Runtime runs all the same, and words of the note
    without_name: "no name",
    with_constants_apart: "IR version 3",
    with_old_ir_version: "IR version 2",
    with_ir_version_0: "IR version 0",
    backwards: "sorted",
    without_output_type: "",
    with_wrong_output_shape: "",
    with_a_constant_twice: "twice",
    with_a_constant_unnamed: "without a name",
    with_numbers_twice: "numbers twice",
    with_a_segment: "segments",
    with_metadata_twice: "Metadata",
    with_the_long_domain: "",
    with_the_long_domain_in_nodes: "",
    with_opsets_twice: "",
    with_wrong_values: "",
    with_a_reference_to_no_function: "outside any function",
    with_an_opset_of_others_alone: "read as opset 21",
    without_input_shape: "declares no shape",
}


@pytest.mark.parametrize("spoil", NOTED, ids=lambda spoil: spoil.__name__)
def test_what_the_checker_refuses_and_onnx_runtime_runs_is_opened_with_a_note(spoil, tmp_path):
    model = plain_network()
    spoil(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    size = InputOptions(size=(12, 12)) if spoil is without_input_shape else None
    values = list(dict.fromkeys(["c", "y", model.graph.output[0].name]))
    network = opened_as_onnxruntime_runs_it(tmp_path / "model.onnx", values, options=size)
    assert NOTED[spoil] in " ".join(network.model.notes)


def test_what_neither_the_checker_nor_onnx_runtime_allows_is_refused(tmp_path):
    model = plain_network()
    model.graph.node[0].attribute.append(helper.make_attribute("strength", 1))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="not a valid ONNX model: Unrecognized attribute: strength"):
        open_network(tmp_path / "model.onnx")


# --- operators that ONNX took back

EXPERIMENTAL = [  # operator, attributes, constant inputs, opset
    ("ImageScaler", {"scale": 2.0, "bias": [-123.0, -116.0, -103.0, 7.0]}, {}, 7),
    ("Crop", {"border": [1, 2, 3, 0]}, {}, 8),
    ("Crop", {"border": [1, 2, 3, 0], "scale": [4, 5]}, {}, 9),
    ("Affine", {"alpha": 150.0, "beta": -3.0}, {}, 7),
    ("ParametricSoftplus", {"alpha": 2.0, "beta": -1.5}, {}, 7),
    ("Scale", {"scale": 3.0}, {}, 7),
    ("ScaledTanh", {"alpha": 2.0, "beta": 0.5}, {}, 9),
    ("ThresholdedRelu", {"alpha": 0.5}, {}, 7),
    ("DynamicSlice", {}, {"s": np.array([1, 2]), "e": np.array([9, 10]), "a": np.array([2, 3])}, 8),
    ("MeanVarianceNormalization", {}, {}, 8),
    ("MeanVarianceNormalization", {"across_channels": 1}, {}, 7),
    ("MeanVarianceNormalization", {"normalize_variance": 0}, {}, 7),
    ("Upsample", {"scales": [1.0, 1.0, 2.0, 3.0]}, {}, 7),
    ("Upsample", {"mode": "linear"}, {"s": np.array([1, 1, 2, 3], np.float32)}, 9),
    ("BatchNormalization", {"spatial": 1}, {name: np.abs(normal(4, seed=ord(name))) + 0.1 for name in "efgh"}, 8),
]


@pytest.mark.parametrize(("op", "attributes", "constants", "opset"), EXPERIMENTAL)
def test_operators_that_onnx_took_back_are_rewritten(op, attributes, constants, opset, tmp_path, capfd):
    model = between(op, attributes, constants, 12, " ".join(["c", *constants]), opset=opset, ir_version=3, listed=True)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    opened_as_onnxruntime_runs_it(tmp_path / "model.onnx", ["m", "d"])
    assert capfd.readouterr() == ("", "")


# --- 8 bits by the range that a picture happens to have


def dynamically_quantised(name, source, channels, groups=1, bias="constant", weights="integers"):
    """Nodes and constants of a convolution as ONNX Runtime's quantiser writes it, its bias added behind."""
    floats = normal(channels, (4 if groups == 1 else channels) // groups, 3, 3, seed=channels) / 6
    step = np.float32(np.abs(floats).max() / 127)
    constants = {f"{name}.zero": np.uint8(128), f"{name}.step": step, f"{name}.target": np.array([1, -1, 1, 1])}
    nodes = [("DynamicQuantizeLinear", source, f"{name}.q {name}.qs {name}.qz")]
    if weights == "integers":
        constants[f"{name}.w"] = np.clip(np.rint(floats / step) + 128, 0, 255).astype(np.uint8)
    else:  # quantised when the network runs
        constants[f"{name}.float"] = floats
        nodes.append(("DynamicQuantizeLinear", f"{name}.float", f"{name}.w {name}.step {name}.zero"))
        del constants[f"{name}.zero"], constants[f"{name}.step"]
    nodes += [
        ("ConvInteger", f"{name}.q {name}.w {name}.qz {name}.zero", f"{name}.sum", SAME | {"group": groups}),
        ("Cast", f"{name}.sum", f"{name}.cast", {"to": TensorProto.FLOAT}),
        ("Mul", f"{name}.qs {name}.step", f"{name}.scales"),
        ("Mul", f"{name}.cast {name}.scales", f"{name}.product" if bias else name),
    ]
    if bias == "constant":
        constants[f"{name}.bias"] = normal(channels, seed=3)
        nodes.append(("Reshape", f"{name}.bias {name}.target", f"{name}.b"))
    elif bias == "in steps":  # integers in steps of both scales, as the quantiser writes them for a static input
        constants[f"{name}.bias"] = np.arange(-channels, channels, 2, dtype=np.int32) * 20
        nodes += [
            ("Cast", f"{name}.bias", f"{name}.whole", {"to": TensorProto.FLOAT}),
            ("Mul", f"{name}.whole {name}.scales", f"{name}.scaled"),
            ("Reshape", f"{name}.scaled {name}.target", f"{name}.b"),
        ]
    if bias:
        nodes.append(("Add", f"{name}.product {name}.b", name))
    return nodes, constants


@pytest.mark.parametrize("weights", ["integers", "floats"])
@pytest.mark.parametrize(("batch", "bias"), [("N", "constant"), ("N", "in steps"), ("N", ""), (1, "constant"), (1, "")])
@pytest.mark.parametrize("groups", [1, 8])
def test_dynamically_quantised_networks_open_with_their_biases(batch, groups, bias, weights, tmp_path):
    first, constants = dynamically_quantised("first", "r", 8, 1, bias, weights)
    second, more = dynamically_quantised("second", "relu", 8, 8 if groups == 8 else 2, bias, weights)
    nodes = [("Conv", "x w", "c", SAME), ("Relu", "c", "r"), *first, ("Relu", "first", "relu"), *second]
    model = build(nodes, {"w": WEIGHTS["w"]} | constants | more, shape=(batch, 3, 12, 12), opset=13)
    onnx.save(model, tmp_path / "model.onnx")
    network = open_network(tmp_path / "model.onnx")
    network.prove()
    assert [layer.out_channels for layer in network.layers] == [4, 8, 8]
    x = np.random.default_rng(0).random((1, 3, 12, 12), np.float32)
    expected = in_onnxruntime(tmp_path / "model.onnx", ["first", "second", "first.qs", "first.scales"], x)
    layer = network.layers[1]
    found = network.session([layer.value]).run(x)[layer.value]
    # Left unrounded: each of 36 terms may be off by half a step of the input's rounding.
    step = float(expected["first.qs"]) / 2
    assert np.abs(found - expected["first"]).max() <= step * np.abs(layer.weight).sum(axis=(1, 2, 3)).max()
    assert np.abs(found - expected["first"]).max() < 0.1 * np.abs(expected["first"]).max()


def test_a_bias_of_a_file_of_one_picture_keeps_its_shape(tmp_path):
    """Its Reshape to (1, C, 1, 1) says no batch, though it begins with the batch's size."""
    nodes = [
        ("ReduceMean", "x all", "mean", {"keepdims": 0}),
        ("Conv", "x w", "c", SAME),
        ("Mul", "mean b", "moved"),  # no constant, so that it is not folded
        ("Reshape", "moved target", "bias"),
        ("Add", "c bias", "m"),
        ("Conv", "m v", "d", SAME),
    ]
    constants = WEIGHTS | {"b": normal(4), "all": np.array([0, 1, 2, 3]), "target": np.array([1, -1, 1, 1])}
    model = build(nodes, constants, shape=(1, 3, 12, 12), opset=18)
    onnx.save(model, tmp_path / "model.onnx")
    network = open_network(tmp_path / "model.onnx")
    x = normal(1, 3, 12, 12)
    expected = in_onnxruntime(tmp_path / "model.onnx", ["d"], x)["d"]
    np.testing.assert_allclose(network.session(["d"]).run(x)["d"], expected, rtol=1e-4, atol=1e-5)
    network.session(["d"]).run(normal(3, 3, 12, 12))  # the freed batch runs


# --- what cannot be imported is listed all the same


def recurrent_in_the_middle(domain=""):
    nodes = [
        ("Conv", "x w", "c", SAME | {"name": "first"}),
        ("Transpose", "c", "t", {"perm": [2, 3, 0, 1]}),
        ("Reshape", "t columns", "s"),
        ("LSTM", "s wz rz", "h", {"hidden_size": 4, "name": "lstm", "domain": domain}),
        ("Reshape", "h places", "b"),
        ("Transpose", "b", "i", {"perm": [2, 3, 0, 1]}),
        ("Conv", "i v", "y", SAME | {"name": "second"}),
    ]
    places = {"columns": np.array([64, -1, 4]), "places": np.array([8, 8, -1, 4])}
    return build(nodes, WEIGHTS | places | {"wz": normal(1, 16, 4), "rz": normal(1, 16, 4)}, shape=("N", 3, 8, 8))


@pytest.mark.parametrize("domain", ["", "nobody.knows"])
def test_inspect_lists_a_network_with_a_recurrent_layer_between_its_convolutions(domain, tmp_path):
    path = str(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(recurrent_in_the_middle(domain).SerializeToString())
    shown = CliRunner().invoke(app, ["inspect", path])
    assert [line.split()[2:4] for line in shown.stdout.splitlines()[1:3]] == [["3×3", "3→4"], ["3×3", "4→6"]]
    as_json = CliRunner().invoke(app, ["inspect", path, "--json"])
    content = json.loads(as_json.stdout)
    assert [(layer["in_channels"], layer["out_channels"]) for layer in content["layers"]] == [(3, 4), (4, 6)]
    assert content["parity"] is None
    for result in (shown, as_json):
        assert isinstance(result.exception, UnsupportedOperatorError)
        assert str(result.exception).endswith("the network's layers are listed, and cannot be analysed")
        assert "lstm" in str(result.exception)
        assert "filterscope inspect" not in str(result.exception)
    assert content["refusal"] == str(as_json.exception)


# --- a free size is one that runs in ONNX Runtime and in torch


def test_a_size_that_torch_refuses_is_not_taken(tmp_path):
    """At 32×32 the pooling is higher than its map, which ONNX Runtime lets pass."""
    nodes = [
        ("Conv", "x w", "c", SAME | {"strides": [16, 4]}),
        ("AveragePool", "c", "p", {"kernel_shape": [3, 2], "strides": [3, 2]}),
        ("Conv", "p u", "d", {"pads": [0, 1, 0, 1]}),
        ("Squeeze", "d axis", "q"),
        ("Transpose", "q", "y", {"perm": [0, 2, 1]}),
    ]
    constants = {"w": WEIGHTS["w"], "u": normal(6, 4, 1, 3), "axis": np.array([2])}
    onnx.save(build(nodes, constants, shape=("N", 3, "H", "W"), opset=17), tmp_path / "model.onnx")
    network = opened_as_onnxruntime_runs_it(tmp_path / "model.onnx", ["p", "d", "y"])
    assert network.shapes["y"][2] == 6
    assert (network.input.height, network.input.width) == (64, 64)
    wide = opened_as_onnxruntime_runs_it(tmp_path / "model.onnx", ["y"], options=InputOptions(size=(48, 320)))
    assert (wide.input.height, wide.input.width) == (48, 320)


# --- files older than ONNX Runtime runs


@pytest.mark.parametrize("opset", [1, 5, 6])
def test_a_file_too_old_for_onnx_runtime_is_refused_by_that_name(opset, tmp_path):
    norm = {name: np.abs(normal(4, seed=ord(name))) + 0.1 for name in "efgh"}
    model = between("BatchNormalization", {"is_test": 1}, norm, 8, "c e f g h", opset=opset, ir_version=3, listed=True)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    words = rf"opset {opset} is older than 7, .*convert it with onnx.version_converter"
    with pytest.raises(ModelError, match=words) as refused:
        open_network(tmp_path / "model.onnx").prove()
    assert "batch" not in str(refused.value)


def test_a_file_of_opset_6_that_onnx_runtime_runs_is_opened(tmp_path):
    nodes = [("Conv", "x w", "c", SAME), ("Relu", "c", "m"), ("Conv", "m v", "d", SAME)]
    model = build(nodes, WEIGHTS, shape=("N", 3, 8, 8), opset=6, ir_version=3, listed=True)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    opened_as_onnxruntime_runs_it(tmp_path / "model.onnx", ["m", "d"])


# --- where our copy is at fault, the message says so


@pytest.mark.parametrize("side", [12, "S"])
def test_a_fault_of_our_copy_is_not_put_on_the_file(side, tmp_path, monkeypatch):
    model = build(
        [("Conv", "x w", "c", SAME), ("Relu", "c", "m"), ("Conv", "m v", "y")], WEIGHTS, shape=(1, 3, side, side)
    )
    onnx.save(model, tmp_path / "model.onnx")

    def spoilt(*arguments):
        form = canonicalize(*arguments)
        form.proto.graph.node[1].op_type = "Crop"
        return form

    monkeypatch.setattr(network, "canonicalize", spoilt)
    with pytest.raises(ModelError, match=r"the file itself runs, but not our copy of it at opset 21.*Crop"):
        network.open_here(model_file.read(tmp_path / "model.onnx"))


def test_nothing_is_printed_of_a_file_that_onnx_runtime_cannot_read(capfd):
    """Its Python layer prints that it tries the same processor again."""
    content = bytearray(plain_network().SerializeToString())
    content[content.rfind(b"\x0a\x01y") + 2] = 0xBD  # the name of the output is no text
    assert "can't decode byte 0xbd" in refusal(onnx.ModelProto.FromString(bytes(content)))
    assert capfd.readouterr() == ("", "")
