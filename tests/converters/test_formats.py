"""Files in other number formats: float16, bfloat16, 8 bits, and operators that ONNX Runtime's optimiser wrote.

Each is proven against the file itself, and what the normal form answers lies within the rounding of the file's format.
"""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import filterscope as fs
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.gradient_paths import has_gradient
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.analyzer.network.scores import scores
from filterscope.converters.comparison import Rounding, beyond_rounding, roundings
from filterscope.converters.errors import ModelError, ParityError
from filterscope.converters.normal_form.canonical import canonicalize
from filterscope.converters.onnx_file.model_file import read
from filterscope.converters.parity import verify
from filterscope.converters.runtime import Session
from filterscope.converters.torch_import.importer import import_torch
from support.networks import DATA, MODELS, answers, build, canonical, needs_data, normal, opened_here

SAME = {"pads": [1, 1, 1, 1]}
W, W2 = normal(8, 3, 3, 3), normal(8, 8, 3, 3)
SAMPLES = normal(3, 3, 16, 16, seed=7)


def proven(model, samples=SAMPLES):
    """The normal form of a model, and the proof of its import."""
    form = canonical(model)
    return form, verify(form, import_torch(form), samples)


def standard(form):
    return {(node.domain, node.op) for node in form.graph.nodes if node.domain}


# --- floats


def floats(dtype, kind, **options):
    """A convolution with a BatchNorm, a residual and a head, all of one type of float."""
    nodes = [
        ("Conv", "x w", "c", SAME),
        ("BatchNormalization", "c g b m v", "n"),
        ("Relu", "n", "r"),
        ("Conv", "r w2 b2", "d", SAME),
        ("Add", "d r", "s"),
        ("GlobalAveragePool", "s", "p"),
        ("Flatten", "p", "f"),
        ("Gemm", "f k", "y"),
    ]
    constants = {
        "w": W,
        "w2": W2 / 9,
        "b2": normal(8),
        "k": normal(8, 5),
        "g": 1 + normal(8) / 4,
        "b": normal(8, seed=1),
        "m": normal(8, seed=2),
        "v": 1 + normal(8, seed=3) ** 2,
    }
    return build(nodes, {n: a.astype(dtype) for n, a in constants.items()}, dtype=kind, **options)


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
@pytest.mark.parametrize("shape", [("N", 3, 16, 16), (1, 3, 16, 16), (2, 3, 16, 16)])
def test_float16_becomes_float32_and_differs_by_its_rounding_alone(opset, shape):
    model = floats(np.float16, TensorProto.FLOAT16, opset=opset, shape=shape)
    form, parity = proven(model)
    assert set(form.graph.dtypes.values()) <= {"float32", "int64"}
    assert max(parity.original.error, parity.nodes.error) < 1e-5
    x = SAMPLES[:2].astype(np.float16)
    expected = answers(model, x if shape[0] != 1 else x[:1])["y"]
    found = Session(form.proto).run(x[: len(expected)].astype(np.float32))["y"]
    np.testing.assert_allclose(found, expected, rtol=4e-3, atol=4e-3)
    assert any("computes in float16; the normal form computes in float32" in note for note in form.notes)


def test_casts_to_half_and_back_inside_a_float32_network_fall_away():
    nodes = [
        ("Cast", "x", "xh", {"to": TensorProto.FLOAT16}),
        ("Conv", "xh w", "ch", SAME),
        ("Cast", "ch", "c", {"to": TensorProto.FLOAT}),
        ("Relu", "c", "y"),
    ]
    form, parity = proven(build(nodes, {"w": W.astype(np.float16)}))
    assert [node.op for node in form.graph.nodes if node.op != "Cast"] == ["Conv", "Relu"]
    assert set(form.graph.dtypes.values()) == {"float32"}
    assert parity.original.error < 1e-5


@pytest.mark.parametrize(("name", "kind"), [("bfloat16", TensorProto.BFLOAT16), ("float64", TensorProto.DOUBLE)])
def test_formats_that_onnxruntime_does_not_compute_in_are_opened_and_it_is_said(name, kind):
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    form, parity = proven(floats(dtype, kind, opset=21))
    assert set(form.graph.dtypes.values()) <= {"float32", "int64"}
    assert parity.original.error < 1e-5
    assert any(f"does not compute in {name}" in note for note in form.notes)
    kernels = [array for array in form.graph.initializers.values() if array.shape == (8, 8, 3, 3)]
    np.testing.assert_array_equal(kernels[0], (W2 / 9).astype(dtype).astype(np.float32))


def test_an_integer_image_is_taken_as_floats_of_the_same_numbers():
    nodes = [
        ("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}),
        ("Cast", "t", "f", {"to": TensorProto.FLOAT}),
        ("Div", "f d", "u"),
        ("Conv", "u w", "y", SAME),
    ]
    model = build(nodes, {"w": W, "d": np.float32(255)}, dtype=TensorProto.UINT8, shape=("N", 16, 16, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    form, parity = proven(model, pixels.astype(np.float32))
    assert parity.original.error < 1e-6
    found = Session(form.proto).run(pixels.astype(np.float32))["y"]
    np.testing.assert_allclose(found, answers(model, pixels)["y"], rtol=1e-5, atol=1e-6)


def test_a_dequantised_integer_image_is_a_linear_function_of_it():
    nodes = [("DequantizeLinear", "x s z", "u"), ("Conv", "u w", "y", SAME)]
    model = build(nodes, {"w": W, "s": np.float32(0.02), "z": np.uint8(114)}, dtype=TensorProto.UINT8)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16)).astype(np.uint8)
    form, parity = proven(model, pixels.astype(np.float32))
    assert parity.original.error < 1e-5
    assert [node.op for node in form.graph.nodes] == ["Sub", "Mul", "Conv"]


def test_an_integer_image_without_a_zero_point_is_scaled_alone():
    nodes = [("DequantizeLinear", "x s", "u"), ("Conv", "u w", "y", SAME)]
    model = build(nodes, {"w": W, "s": np.float32(0.02)}, dtype=TensorProto.UINT8)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16)).astype(np.uint8)
    form, parity = proven(model, pixels.astype(np.float32))
    assert parity.original.error < 1e-5
    assert [node.op for node in form.graph.nodes] == ["Mul", "Conv"]
    found = Session(form.proto).run(pixels.astype(np.float32))["y"]
    np.testing.assert_allclose(found, answers(model, pixels)["y"], rtol=1e-5, atol=1e-5)


def test_an_integer_image_is_made_integers_where_an_operator_takes_nothing_else():
    nodes = [
        ("Mod", "x seven", "m"),
        ("Add", "m x", "s"),
        ("Cast", "s", "f", {"to": TensorProto.FLOAT}),
        ("Conv", "f w", "y", SAME),
    ]
    model = build(nodes, {"w": W, "seven": np.int32(7)}, dtype=TensorProto.INT32)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16)).astype(np.int32)
    form = canonical(model)
    assert [node.op for node in form.graph.nodes].count("Cast") >= 2
    found = Session(form.proto).run(pixels.astype(np.float32))["y"]
    np.testing.assert_allclose(found, answers(model, pixels)["y"], rtol=1e-5, atol=1e-3)


# --- what rounding explains


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1000.0, 3e5])
def test_half_a_unit_in_the_last_place_is_no_difference_and_more_is_the_rest(scale):
    exact = (normal(1000) * scale).astype(np.float32)
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float16)
    found, expected = beyond_rounding(exact, rounded)
    np.testing.assert_array_equal(found, expected)
    finite = np.isfinite(rounded)
    with np.errstate(over="ignore", invalid="ignore"):
        off = (exact + np.spacing(rounded)).astype(np.float32)  # by a whole unit
    found, expected = beyond_rounding(off[finite], rounded[finite])
    gap = np.abs(found - expected) / np.spacing(np.abs(rounded[finite])).astype(np.float64)
    assert (gap > 0).mean() > 0.9
    assert gap.max() <= 1.01


STEP = Rounding("v", 0.5, 10, 0, 255)
ROUNDED = [  # before rounding, the integer, what is left of the difference
    (0.0, 10, 0.0),
    (0.24, 10, 0.0),
    (0.25, 11, 0.0),
    (0.2, 11, 0.05),
    (-5.0, 0, 0.0),
    (-80.0, 0, 0.0),  # below the range
    (1e9, 255, 0.0),
    (1e9, 254, 0.25),
    (0.0, 12, 0.75),
]


@pytest.mark.parametrize(("before", "integer", "left"), ROUNDED)
def test_half_a_step_is_no_difference_and_an_end_of_the_range_takes_all_beyond(before, integer, left):
    found, expected = STEP.apart(np.array([before], np.float32), np.array([integer], np.uint8))
    assert abs(found - expected)[0] == pytest.approx(left, abs=1e-6)


def test_what_differs_in_shape_is_not_moved_towards_the_other():
    before = np.array([0.2, 0.3], np.float32)
    found, expected = STEP.apart(before, np.array([10, 10, 10], np.uint8))
    np.testing.assert_allclose(found, before)
    assert expected.shape == (3,)


def test_steps_of_one_scale_and_integers_are_known_by_what_they_round():
    nodes = [
        ("QuantizeLinear", "x s z", "a"),
        ("QuantizeLinear", "x s", "b"),
        ("QuantizeLinear", "x many", "c", {"axis": 1}),
        ("QuantizeLinear", "x s f8", "d"),
        ("Abs", "s", "computed"),
        ("QuantizeLinear", "x computed", "e"),
    ]
    model = build(nodes, {"s": np.float32(0.5), "z": np.int8(-3), "many": np.ones(3, np.float32)})
    model.graph.initializer.append(helper.make_tensor("f8", TensorProto.FLOAT8E4M3FN, [], [0]))
    steps = {name: dataclasses.astuple(step) for name, step in roundings(model).items()}
    assert steps == {"a": ("x", 0.5, -3, -128, 127), "b": ("x", 0.5, 0, 0, 255)}


# --- 8 bits, as ONNX Runtime's own quantiser writes them


def small(opset=13):
    nodes = [
        ("Conv", "x w b", "c", {"name": "conv1", **SAME}),
        ("Relu", "c", "r"),
        ("Conv", "r w2 b2", "d", {"name": "conv2", "group": 4}),
        ("Add", "d r", "e"),
        ("MaxPool", "e", "p", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("GlobalAveragePool", "p", "g"),
        ("Flatten", "g", "f"),
        ("MatMul", "f m", "y0"),
        ("Add", "y0 mb", "y"),
    ]
    constants = {
        "w": W,
        "b": normal(8),
        "w2": normal(8, 2, 1, 1),
        "b2": normal(8, seed=1),
        "m": normal(8, 10),
        "mb": normal(10),
    }
    return build(nodes, constants, opset=opset)


def by_the_quantiser(tmp_path, form, per_channel):
    from onnxruntime import quantization as q

    class Calibration(q.CalibrationDataReader):
        def __init__(self):
            self.images = iter([{"x": normal(1, 3, 16, 16, seed=seed)} for seed in range(4)])

        def get_next(self):
            return next(self.images, None)

    onnx.save(small(), tmp_path / "float.onnx")
    kinds = {"weight_type": q.QuantType.QInt8 if per_channel else q.QuantType.QUInt8, "per_channel": per_channel}
    source, target = tmp_path / "float.onnx", tmp_path / "quantised.onnx"
    if form == "dynamic":
        q.quantize_dynamic(source, target, **kinds)
    else:
        chosen = {"quant_format": q.QuantFormat[form], "activation_type": q.QuantType.QUInt8}
        q.quantize_static(source, target, Calibration(), **chosen, **kinds)
    return onnx.load(target)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("form", ["dynamic", "QDQ", "QOperator"])
def test_a_quantised_network_is_proven_and_its_kernels_are_those_of_the_float_network(tmp_path, form, per_channel):
    opened, parity = proven(by_the_quantiser(tmp_path, form, per_channel))
    assert max(parity.original.error, parity.nodes.error) < 1e-5
    assert sorted(opened.layer_names.values()) == ["conv1", "conv2"]
    convolutions = [node for node in opened.graph.nodes if node.op == "Conv"]
    for node, kernel in zip(convolutions, (W, normal(8, 2, 1, 1)), strict=True):
        step = 2 * np.abs(kernel).max() / 254
        np.testing.assert_allclose(opened.graph.initializers[node.inputs[1]], kernel, rtol=0, atol=0.51 * step)
    expected = answers(small(), SAMPLES)["y"]
    found = Session(opened.proto).run(SAMPLES)["y"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05 * np.abs(expected).max())


def test_activations_rounded_by_the_range_they_happen_to_have_are_left_unrounded(tmp_path):
    form, _ = proven(by_the_quantiser(tmp_path, "dynamic", False))
    assert [node.op for node in form.graph.nodes if "Quant" in node.op or node.op == "Round"] == []
    session = Session(form.proto)
    alone = np.concatenate([session.run(x[None])["y"] for x in SAMPLES])
    np.testing.assert_allclose(session.run(SAMPLES)["y"], alone, rtol=1e-5, atol=1e-5)
    assert any("left unrounded" in note for note in form.notes)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_activations_rounded_in_fixed_steps_are_rounded_as_in_the_file(tmp_path, form):
    model = by_the_quantiser(tmp_path, form, False)
    opened, _ = proven(model)
    assert any("rounded to 8 bits as in the file" in note for note in opened.notes)
    step = next(float(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer if tensor.name == "y_scale")
    gap = Session(opened.proto).run(SAMPLES)["y"] - answers(model, SAMPLES)["y"]
    assert np.abs(gap).max() <= 3.01 * step  # a value at the edge of two steps moves those behind it
    assert np.median(np.abs(gap)) < 1e-3 * step


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_classes_of_a_network_of_8_bits_are_raised_and_explained(tmp_path, form):
    model = by_the_quantiser(tmp_path, form, False)
    network = open_network(tmp_path / "quantised.onnx", InputOptions(preprocessing=PRESETS["unit"]))
    assert scores(network).out_channels == 10
    portrait = fs.maximize(network, None, [3, 7], quality="draft", device="cpu")
    assert portrait.status == ("ok", "ok")
    expected = answers_alone(model, portrait.tiles)[[0, 1], [3, 7]]
    step = next(float(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer if tensor.name == "y_scale")
    np.testing.assert_allclose(portrait.activation, expected, rtol=0, atol=3.01 * step)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    answer = fs.attribute(network, pixels, 3, ["saliency"], device="cpu")
    assert answer["saliency"].strength.max() > 0
    units = fs.attribute(network, pixels, "conv2:1", ["saliency"], device="cpu")
    assert units["saliency"].strength.max() > 0


def answers_alone(model, tiles):
    """What ONNX Runtime makes of each of (N, H, W, 3) uint8 pictures, as (N, classes)."""
    x = np.moveaxis(tiles, -1, 1).astype(np.float32) / np.float32(255)
    return np.concatenate([answers(model, one[None])["y"] for one in x])


def test_of_a_squashing_that_is_rounded_what_stands_before_it_is_the_score(tmp_path):
    nodes = [
        ("Conv", "x w", "c", {"name": "conv", **SAME}),
        ("GlobalAveragePool", "c", "g"),
        ("QuantizeLinear", "g step zero", "gq"),
        ("Reshape", "gq flat", "fq"),
        ("DequantizeLinear", "fq step zero", "f"),
        ("Softmax", "f", "s"),
        ("QuantizeLinear", "s fine none", "sq"),
        ("DequantizeLinear", "sq fine none", "y"),
    ]
    constants = {"step": np.float32(0.01), "zero": np.int8(3), "fine": np.float32(1 / 256), "none": np.uint8(0)}
    onnx.save(build(nodes, {"w": W, "flat": np.array([0, -1]), **constants}), tmp_path / "net.onnx")
    assert scores(open_network(tmp_path / "net.onnx")).value == "f"
    # An integer that something else reads, too, is one for torch: no gradient passes.
    nodes[-3:] = [("Cast", "fq", "other", {"to": 1}), ("Add", "f other", "y")]
    onnx.save(build(nodes, {"w": W, "flat": np.array([0, -1]), **constants}), tmp_path / "net.onnx")
    network = open_network(tmp_path / "net.onnx")
    assert not has_gradient(network.model.graph, "f", "x")


# --- 8 bits, operator by operator

MS = {"domain": "com.microsoft"}
S, Z = "xs xz", "ys yz"
SCALES = {
    "xs": np.float32(0.03),
    "xz": np.uint8(120),
    "ys": np.float32(0.11),
    "yz": np.uint8(130),
    "ws": np.float32(0.02),
    "wz": np.uint8(131),
    "wsc": (np.arange(1, 9) / 200).astype(np.float32),
    "wzc": np.zeros(8, np.int8),
    "ps": np.float32(1 / 256),
    "pz": np.uint8(0),
    "w": np.random.default_rng(0).integers(0, 256, (8, 3, 3, 3)).astype(np.uint8),
    "wi": np.random.default_rng(1).integers(-127, 128, (8, 3, 3, 3)).astype(np.int8),
    "b": np.random.default_rng(2).integers(-3000, 3000, 8).astype(np.int32),
    "k": np.random.default_rng(3).integers(0, 256, (16, 8)).astype(np.uint8),
    "kt": np.random.default_rng(3).integers(0, 256, (8, 16)).astype(np.uint8),
    "c": np.random.default_rng(4).integers(-3000, 3000, 8).astype(np.int32),
    "bias": normal(8),
    "one": np.float32(0.7),
    "yes": np.arange(16) % 3 > 0,
}
BODY = [  # operators on x's integers q; the last conv makes the network one that can be opened
    ("QLinearConv", f"q {S} w ws wz {Z} b", SAME),
    ("QLinearConv", f"q {S} wi wsc wzc {Z}", {"strides": [2, 2]}),
    ("QLinearConv", f"q {S} w ws wz {Z} b", {"auto_pad": "SAME_UPPER", "strides": [3, 3]}),
    ("QLinearMatMul", f"q {S} k ws wz {Z}", {}),
    ("QLinearAdd", f"q {S} q {S} {Z}", MS),
    ("QLinearMul", f"q {S} q {S} {Z}", MS),
    ("QLinearGlobalAveragePool", f"q {S} {Z}", MS),
    ("QLinearAveragePool", f"q {S} {Z}", {**MS, "kernel_shape": [2, 2], "strides": [2, 2]}),
    ("QLinearAveragePool", f"q {S} {Z}", {**MS, "kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("QLinearLeakyRelu", f"q {S} {Z}", {**MS, "alpha": 0.2}),
    ("QLinearSigmoid", f"q {S} ps pz", MS),
    ("QLinearSoftmax", f"q {S} ps pz", {**MS, "axis": 3, "opset": 13}),
    ("QLinearSoftmax", f"q {S} ps pz", {**MS, "axis": 2, "opset": 12}),
    ("QLinearConcat", f"{Z} q {S} q {S}", {**MS, "axis": 1}),
    ("QLinearWhere", f"yes q {S} q {S} {Z}", MS),
    ("NhwcMaxPool", "q", {**MS, "kernel_shape": [2, 2], "strides": [2, 1]}),
    ("MaxPool", "q", {"kernel_shape": [2, 2]}),
]


@pytest.mark.parametrize("case", range(len(BODY)), ids=[f"{op}-{i}" for i, (op, *_) in enumerate(BODY)])
def test_an_8_bit_operator_rounds_as_onnxruntime_does(case):
    op, inputs, attributes = BODY[case]
    made = f"{op}_made"
    of_y = "ps pz" if "ps" in inputs.split() else S if "MaxPool" in op else Z
    nodes = [
        ("QuantizeLinear", "x xs xz", "q"),
        ("Conv", "x float", "other", {"pads": [0, 0, 0, 0]}),
        (op, inputs, made, attributes),
        ("DequantizeLinear", f"{made} {of_y}", "y"),
    ]
    names = {name for _, text, *_ in nodes for name in text.split()}
    constants = {name: array for name, array in SCALES.items() if name in names} | {"float": W}
    model = build(nodes, constants, outputs=["y", "other"], opset=13, ir_version=8)
    form, parity = proven(model, SAMPLES * 2)
    assert standard(form) == set()
    assert max(parity.original.error, parity.nodes.error) < 1e-5
    step = {"ps pz": 1 / 256, S: 0.03, Z: 0.11}[of_y]
    gap = np.abs(Session(form.proto).run(SAMPLES)["y"] - answers(model, SAMPLES)["y"])
    assert gap.max() <= 1.01 * step
    assert (gap > 0.01 * step).mean() < 0.01  # at the edge of two steps


GEMMS = [
    ("QGemm", f"q {S} k ws wz c {Z}", {**MS, "transB": 0, "alpha": 1.0}, True),
    ("QGemm", f"q {S} kt ws wz c _ _", {**MS, "transB": 1, "alpha": 0.5}, False),
    ("QGemm", f"q {S} k ws wz _ {Z}", {**MS, "transB": 0, "alpha": 1.0}, True),
    ("DynamicQuantizeMatMul", "f k ws wz bias", MS, False),
    ("DynamicQuantizeMatMul", "f k ws wz", MS, False),
    ("MatMulIntegerToFloat", "q k xs ws xz wz", MS, False),
    ("MatMulIntegerToFloat", "q k xs ws xz wz bias", MS, False),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "rounds"), GEMMS)
def test_an_8_bit_product_of_matrices_is_a_float_one(op, inputs, attributes, rounds):
    nodes = [
        ("Conv", "x float", "other", {"pads": [0, 0, 0, 0]}),
        ("ReduceMean", "x", "m", {"axes": [1, 2], "keepdims": 0}),
        ("Mul", "m one", "f"),
        ("QuantizeLinear", "f xs xz", "q"),
        (op, inputs, "made" if rounds else "y", attributes),
    ]
    nodes += [("DequantizeLinear", f"made {Z}", "y")] if rounds else []
    names = {name for _, text, *_ in nodes for name in text.split()}
    constants = {name: array for name, array in SCALES.items() if name in names} | {"float": W}
    model = build(nodes, constants, outputs=["y", "other"], opset=13, ir_version=8)
    form, parity = proven(model)
    assert standard(form) == set()
    assert max(parity.original.error, parity.nodes.error) < 1e-5


@pytest.mark.parametrize("zeros", ["xz wz", "xz", "_ wz", ""])
def test_integer_products_whose_scaling_is_not_known_are_computed_exactly(zeros):
    nodes = [
        ("QuantizeLinear", "x xs xz", "q"),
        ("ConvInteger", f"q w {zeros}", "i", SAME),
        ("Cast", "i", "f", {"to": TensorProto.FLOAT}),
        ("Mul", "f one", "y"),
    ]
    names = {name for _, text, *_ in nodes for name in text.split()}
    model = build(nodes, {name: array for name, array in SCALES.items() if name in names}, opset=13)
    form, parity = proven(model)
    assert parity.original.error < 1e-5
    np.testing.assert_array_equal(Session(form.proto).run(SAMPLES)["y"], answers(model, SAMPLES)["y"])


def test_8_bit_convolutions_with_the_channels_last_are_turned_around(tmp_path):
    saved = optimised(by_the_quantiser(tmp_path, "QOperator", False), "ALL")
    if not any(node.op_type == "QLinearConv" and node.domain for node in saved.graph.node):
        pytest.skip("ONNX Runtime does not move the channels for this processor")
    form, parity = proven(saved)
    assert standard(form) == set()
    assert max(parity.original.error, parity.nodes.error) < 1e-5


# --- a wrong rewriting is found

CHANGES = {  # constant of the plain form: how it is made wrong
    "ys": lambda a: a * np.float32(1.02),
    "yz": lambda a: a + np.uint8(1),
    "xz": lambda a: a + np.uint8(1),
    "ws": lambda a: a * np.float32(1.02),
    "wz": lambda a: a + np.uint8(1),
    "b": lambda a: a + np.int32(400),
    "w": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 30, a + np.uint8(40), a),
}


def with_plain(form, exact):
    """The canonical model with another plain form as its evidence."""
    evidence = dataclasses.replace(form.evidence, float32_form=dataclasses.replace(form.float32_form, rounding=exact))
    return dataclasses.replace(form, evidence=evidence)


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_constant_in_the_plain_form_is_refused_at_its_node(name):
    nodes = [
        ("QuantizeLinear", "x s0 z0", "q"),
        ("QLinearConv", f"q {S} w ws wz {Z} b", "made", {"name": "the conv", **SAME}),
        ("DequantizeLinear", "made s9 z9", "y"),
    ]
    wide = {"ys": np.float32(0.5), "s0": SCALES["xs"], "z0": SCALES["xz"], "s9": np.float32(0.5), "z9": SCALES["yz"]}
    constants = {name: SCALES[name] for name in ("xs", "xz", "w", "ws", "wz", "yz", "b")}
    form = canonical(build(nodes, constants | wide, opset=13))
    plain = onnx.ModelProto()
    plain.CopyFrom(form.float32_form.rounding)
    tensor = next(tensor for tensor in plain.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(CHANGES[name](numpy_helper.to_array(tensor)), name))
    wrong = with_plain(form, plain)
    with pytest.raises(ParityError, match="original and canonical form first differ at made"):
        verify(wrong, import_torch(form), SAMPLES * 2)


def test_a_wrong_weight_in_the_plain_form_of_a_float16_file_is_refused_at_its_node():
    form = canonical(floats(np.float16, TensorProto.FLOAT16))
    plain = onnx.ModelProto()
    plain.CopyFrom(form.float32_form.rounding)
    tensor = next(tensor for tensor in plain.graph.initializer if tensor.name == "b2")
    array = numpy_helper.to_array(tensor).copy()
    array[3] += 0.2
    tensor.CopyFrom(numpy_helper.from_array(array, "b2"))
    wrong = with_plain(form, plain)
    with pytest.raises(ParityError, match=r"first differ at \S+ \(Conv"):
        verify(wrong, import_torch(form), SAMPLES)


# --- what ONNX Runtime's optimiser writes


def optimised(model, level):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
        options.optimized_model_filepath = str(Path(folder) / "o.onnx")
        source = model if isinstance(model, str) else model.SerializeToString()
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return onnx.load(Path(folder) / "o.onnx")


GELU = [("Div", "c root", "a"), ("Erf", "a", "e"), ("Add", "e one", "f"), ("Mul", "c f", "g"), ("Mul", "g half", "y")]
FUSED = {  # nodes behind a convolution "c" of 8 channels, what the optimiser makes of them
    "relu": ([("Relu", "c", "y")], "FusedConv"),
    "leaky": ([("LeakyRelu", "c", "y", {"alpha": 0.3})], "FusedConv"),
    "clip": ([("Clip", "c zero six", "y")], "FusedConv"),
    "sigmoid": ([("Sigmoid", "c", "y")], "FusedConv"),
    "tanh": ([("Tanh", "c", "y")], "FusedConv"),
    "hard sigmoid": ([("HardSigmoid", "c", "y", {"alpha": 0.1, "beta": 0.4})], "FusedConv"),
    "gelu": (GELU, "Gelu"),
    "gemm": (
        [("GlobalAveragePool", "c", "p"), ("Flatten", "p", "f"), ("Gemm", "f k kb", "h"), ("Relu", "h", "y")],
        "FusedGemm",
    ),
    "transposed product": (
        [("Transpose", "c", "t", {"perm": [0, 1, 3, 2]}), ("MatMul", "t c", "m"), ("Mul", "m half", "y")],
        "FusedMatMul",
    ),
}
NUMBERS = {
    "zero": np.float32(0),
    "six": np.float32(1),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "root": np.float32(2**0.5),
    "k": normal(8, 5),
    "kb": normal(5),
}


def test_a_fused_product_that_exchanges_the_pictures_is_refused():
    nodes = [("Conv", "x w", "c", SAME), ("FusedMatMul", "c c", "m", {**MS, "name": "it", "transBatchA": 1})]
    nodes += [("Conv", "m w2", "y", SAME)]
    with pytest.raises(ModelError, match="it: FusedMatMul with transBatchA or transBatchB is not known"):
        canonical(build(nodes, {"w": W, "w2": W2}, opset=17, ir_version=8))


@pytest.mark.parametrize("name", FUSED)
def test_what_the_optimiser_fuses_is_written_out(name):
    nodes, fused = FUSED[name]
    names = {read for _, text, *_ in nodes for read in text.split()}
    constants = {key: array for key, array in NUMBERS.items() if key in names}
    model = build([("Conv", "x w", "c", SAME), *nodes], {"w": W, **constants}, opset=17, ir_version=8)
    saved = optimised(model, "EXTENDED")
    assert fused in {node.op_type for node in saved.graph.node}  # else this tests nothing
    form, parity = proven(saved)
    assert standard(form) == set()
    assert max(parity.original.error, parity.nodes.error) < 1e-5
    np.testing.assert_allclose(
        Session(form.proto).run(SAMPLES)["y"], answers(model, SAMPLES)["y"], rtol=1e-4, atol=1e-5
    )


CONTRIB = [  # operator, inputs, outputs, attributes; "c" is (N, 8, 16, 16)
    ("FusedConv", "c w2 b8 c", "y", {"activation": "Relu", **SAME}),
    ("FusedConv", "c w2 b8 c", "y", SAME),
    ("FusedMatMul", "c c", "y", {"transB": 1, "alpha": 0.1}),
    ("FusedMatMul", "c c", "y", {"transA": 1}),
    ("BiasGelu", "c b16", "y", {}),
    ("FastGelu", "c b16", "y", {}),
    ("FastGelu", "c", "y", {}),
    ("QuickGelu", "c", "y", {"alpha": 1.2}),
    ("SkipLayerNormalization", "c c g16 b16", "y", {"epsilon": 1e-3}),
    ("SkipLayerNormalization", "c c g16 b16 a16", "y _ _ sum", {"epsilon": 1e-3}),
    ("SkipSimplifiedLayerNormalization", "c c g16 a16", "y", {"epsilon": 1e-3}),
    ("SimplifiedLayerNormalization", "c g16", "y", {"domain": "", "axis": -1, "epsilon": 1e-3}),
]
SIDE = {"w2": W2 / 9, "b8": normal(8), "g16": normal(16), "b16": normal(16, seed=1), "a16": normal(16, seed=2)}


@pytest.mark.parametrize("case", range(len(CONTRIB)), ids=[f"{op}-{i}" for i, (op, *_) in enumerate(CONTRIB)])
def test_a_fused_operator_is_its_formula(case):
    op, inputs, outputs, attributes = CONTRIB[case]
    before = [("Conv", "x w", "d", SAME)]
    if "SkipL" in op or "SkipS" in op:  # takes three axes
        before += [("Reshape", "d three", "c")]
    else:
        before += [("Relu", "d", "c")]
    names = {*inputs.split(), *(["three"] if "Skip" in op else [])}
    constants = {"w": W / 9} | {n: a for n, a in {**SIDE, "three": np.array([0, -1, 16])}.items() if n in names}
    shown = [name for name in outputs.split() if name != "_"]
    model = build(
        [*before, (op, inputs, outputs, {**MS, **attributes})], constants, outputs=shown, opset=17, ir_version=8
    )
    form, parity = proven(model)
    assert standard(form) == set()
    assert max(parity.original.error, parity.nodes.error) < 1e-4
    found, expected = Session(form.proto).run(SAMPLES), answers(model, SAMPLES)
    for name in shown:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)


@needs_data
def test_a_file_rearranged_for_one_processor_is_refused_in_one_line():
    saved = optimised(str(MODELS / "svhn_cnn6.onnx"), "ALL")
    if not any(node.domain == "com.microsoft.nchwc" for node in saved.graph.node):
        pytest.skip("ONNX Runtime does not rearrange weights for this processor")
    with pytest.raises(ModelError, match=r"optimised for one kind of processor, .*; give the model as it was before"):
        canonical(saved)


# --- real files


@needs_data
@pytest.mark.parametrize(("name", "layers"), [("squeezenet1.0_fp16", 26), ("mobilenetv2_int8_qlinear", 52)])
def test_a_real_file_in_another_format_is_proven(name, layers):
    network = open_network(MODELS / f"{name}.onnx")
    assert len(network.layers) == layers
    parity = network.prove()
    assert max(parity.original.error, parity.nodes.error) < 1e-5
    assert parity.warnings == ()


@needs_data
@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
@pytest.mark.parametrize("name", ["mobilenetv2_fp32_dequant", "ppocr_v2_cls", "ultraface_slim_320_simplified"])
def test_a_real_file_saved_by_the_optimiser_has_the_same_layers(tmp_path, name, level):
    plain = canonicalize(read(MODELS / f"{name}.onnx"))
    saved = optimised(str(MODELS / f"{name}.onnx"), level)
    form = canonical(saved)
    assert standard(form) <= {("com.microsoft", "MatMulNBits")}
    kernels = [
        sorted(f.graph.initializers[node.inputs[1]].shape for node in f.graph.nodes if node.op == "Conv")
        for f in (plain, form)
    ]
    assert kernels[0] == kernels[1]


def top(network, proto, count=(1, 5)):
    """How many of the hundred photos have their class among the first so many answers."""
    from filterscope.analyzer.data import images

    session = Session(proto)
    right = [0] * len(count)
    for photo, pixels in images.load(images.find([DATA / "images" / "imagenet_mini_100"]), network.input):
        logits = session.run(network.input.to_model(pixels[None]))[session.outputs[0]].ravel()
        order = np.argsort(-logits, kind="stable").tolist()
        place = order.index(int(photo.name.rpartition("/")[2].partition("_")[0]))
        right = [number + (place < first) for number, first in zip(right, count, strict=True)]
    return right


ACCURACIES = {  # preprocessing, the file's own numbers through our reading, as the README has them
    "mobilenetv2_fp32_dequant": ("imagenet", [83, 95]),
    "squeezenet1.0_fp16": ("caffe-bgr", [63, 86]),
    "mobilenetv2_int8_qlinear": ("imagenet", [67, 91]),
}


@needs_data
@pytest.mark.parametrize("name", ACCURACIES)
def test_a_real_network_is_as_good_as_its_readme_says(name):
    preset, expected = ACCURACIES[name]
    network = opened_here(MODELS / f"{name}.onnx", InputOptions(preprocessing=PRESETS[preset]))
    if name != "mobilenetv2_int8_qlinear":
        assert top(network, network.model.proto) == expected
        return
    assert top(network, network.model.original) == expected
    # In this network one value that is rounded the other way, of ten million, changes logits by several steps.
    assert np.abs(np.subtract(top(network, network.model.proto), expected)).max() <= 2
