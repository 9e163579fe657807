"""The table of operator facts, against ONNX Runtime, ONNX's schemas, and the sets that modules wrote down before it."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from filterscope.analyzer.attribution import rectifiers, sanity, targets
from filterscope.analyzer.bounds import interval_arithmetic, interval_rules, piecewise_rules, subgraph
from filterscope.analyzer.network import inputs, layers, nonlinearity, receptive_fields, scores
from filterscope.analyzer.studies import values, weights
from filterscope.converters import operator_facts, runtime
from filterscope.converters.normal_form import cut_head, fold_limits, free_batch, output_sizes, sequences
from filterscope.converters.operator_facts import (
    OPERATORS,
    Broadcasting,
    Channels,
    Kind,
    Numbers,
    Place,
    operators,
)
from filterscope.converters.rewrites import half_precision

WRITTEN_OUT = [  # where it is used, the derived set, and the operators that stood there by name before
    ("converters: layers", operator_facts.CONVOLUTIONS, "Conv ConvTranspose"),
    ("analyzer.network.network", operator_facts.MATRIX_PRODUCTS, "MatMul Gemm"),
    ("converters.normal_form.canonical", operator_facts.CONTROL_FLOW, "If Loop Scan"),
    (
        "converters.normal_form.cut_head",
        operator_facts.FILE_CONVOLUTIONS,
        "Conv ConvTranspose QLinearConv ConvInteger FusedConv",
    ),
    (
        "converters.graph, torch_import.ops.quantization",
        operator_facts.PASS_INTEGERS,
        "Concat Flatten Identity MaxPool Reshape Slice Squeeze Transpose Unsqueeze",
    ),
    (
        "converters.normal_form.free_batch",
        free_batch.BROADCAST,
        "Add Sub Mul Div Pow Mod Min Max Mean Sum PRelu MatMul Where Expand And Or Xor Not Equal Greater "
        "GreaterOrEqual Less LessOrEqual",
    ),
    (
        "converters.normal_form.fold_limits",
        fold_limits.ELEMENTWISE,
        "Add Sub Mul Div Pow Mod Min Max Mean Sum PRelu Where And Or Xor Not Equal Greater GreaterOrEqual Less "
        "LessOrEqual",
    ),
    ("converters.normal_form.output_sizes", output_sizes.POOLINGS, "MaxPool AveragePool LpPool"),
    (
        "converters.rewrites.half_precision",
        half_precision.MOVES_NUMBERS,
        "Identity Transpose Reshape Squeeze Unsqueeze Flatten Slice Gather Split Expand Tile DepthToSpace SpaceToDepth",
    ),
    (
        "converters.normal_form.sequences",
        sequences.OPERATORS,
        "SequenceEmpty SequenceConstruct SequenceInsert SequenceErase SequenceMap SplitToSequence Optional "
        "OptionalGetElement",
    ),
    (
        "converters.runtime",
        runtime.PERHAPS_NO_TENSORS,
        "SequenceConstruct SequenceEmpty SequenceInsert SequenceErase SplitToSequence SequenceMap Optional "
        "OptionalGetElement If Loop ZipMap Identity",
    ),
    (
        "converters.normal_form.cut_head: undecided",
        cut_head.UNDECIDED,
        "NonMaxSuppression TopK NonZero Unique Compress If Loop Scan StringConcat StringSplit StringNormalizer "
        "RegexFullMatch TfIdfVectorizer ImageDecoder SequenceMap SequenceConstruct SequenceEmpty SequenceInsert "
        "SequenceErase SequenceAt SequenceLength SplitToSequence ConcatFromSequence Optional OptionalGetElement "
        "OptionalHasElement RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial",
    ),
    (
        "analyzer.network.inputs: channels",
        inputs.KEEP_CHANNELS,
        "Identity Cast Dropout Add Sub Mul Div Pow Clip Relu Pad Resize Upsample BatchNormalization "
        "InstanceNormalization QuantizeLinear DequantizeLinear DynamicQuantizeLinear MaxPool AveragePool LRN Transpose",
    ),
    (
        "analyzer.network.inputs: axes",
        inputs.KEEP_AXES,
        "Identity Cast Dropout Add Sub Mul Div Pow Clip Relu Pad Resize Upsample BatchNormalization "
        "InstanceNormalization QuantizeLinear DequantizeLinear DynamicQuantizeLinear MaxPool AveragePool LRN Transpose "
        "Slice Split Concat",
    ),
    ("analyzer.network.layers", layers.SAME_PIXELS, "Transpose Identity Cast"),
    (
        "analyzer.network.nonlinearity",
        nonlinearity.KEEPS_NUMBERS,
        "Identity Transpose Reshape Squeeze Unsqueeze Flatten Dropout DequantizeLinear",
    ),
    (
        "analyzer.network.scores: the same",
        scores.KEEPS_NUMBERS,
        "Identity Flatten Reshape Squeeze Unsqueeze Transpose Cast",
    ),
    ("analyzer.network.scores: rounding", scores.ROUNDING, "QuantizeLinear DequantizeLinear"),
    ("analyzer.network.scores: squashing", scores.SQUASHING, "Softmax LogSoftmax Sigmoid HardSigmoid"),
    ("receptive fields: windows", receptive_fields.WINDOWS, "Conv MaxPool AveragePool LpPool"),
    (
        "receptive fields: moving",
        receptive_fields.MOVING,
        "Conv MaxPool AveragePool LpPool Slice Pad SpaceToDepth",
    ),
    (
        "receptive fields: image-shaped",
        receptive_fields.IMAGE_SHAPED,
        "Conv MaxPool AveragePool LpPool ConvTranspose DepthToSpace SpaceToDepth",
    ),
    (
        "receptive fields: positions",
        frozenset(receptive_fields.POSITIONS),
        "Conv MaxPool AveragePool LpPool ConvTranspose Resize Slice Pad Concat DepthToSpace SpaceToDepth",
    ),
    (
        "receptive fields: axes",
        frozenset(receptive_fields.AXES),
        "Transpose Reshape Squeeze Unsqueeze MatMul LayerNormalization ReduceMean ReduceSum ReduceMax ReduceMin "
        "ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare Softmax LogSoftmax Hardmax "
        "LpNormalization Gather Split",
    ),
    (
        "receptive fields: broadcasting",
        receptive_fields.BROADCASTING,
        "Add Sub Mul Div Pow Min Max Sum Mean PRelu Where Mod Equal Greater Less GreaterOrEqual LessOrEqual And Or Xor "
        "Expand",
    ),
    (
        "receptive fields: whole maps",
        receptive_fields.WHOLE_MAP_STATISTICS,
        "InstanceNormalization GroupNormalization MeanVarianceNormalization",
    ),
    (
        "receptive fields: positional",
        receptive_fields.POSITIONAL,
        "Conv MaxPool AveragePool LpPool ConvTranspose Resize Slice Pad Concat DepthToSpace SpaceToDepth "
        "Relu Clip LeakyRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Gelu Mish Softplus Softsign "
        "ThresholdedRelu Shrink Swish InstanceNormalization GroupNormalization MeanVarianceNormalization "
        "Identity Cast Dropout BatchNormalization LRN Abs Neg Exp Log Sqrt Erf Reciprocal Floor Ceil Round Sign Sin "
        "Cos Not IsNaN IsInf DequantizeLinear QuantizeLinear",
    ),
    (
        "receptive fields: global",
        receptive_fields.GLOBAL,
        "GlobalAveragePool GlobalMaxPool GlobalLpPool Flatten Gemm Einsum",
    ),
    ("receptive fields: no data", receptive_fields.NO_DATA, "Shape Size ConstantOfShape"),
    (
        "analyzer.studies.weights: same",
        weights.SAME_CHANNELS,
        "Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Gelu Mish Softplus Softsign Swish "
        "ThresholdedRelu Clip Abs Neg Sqrt Exp Log Identity Cast Dropout MaxPool AveragePool LpPool Pad Resize "
        "Upsample LRN BatchNormalization InstanceNormalization GroupNormalization QuantizeLinear DequantizeLinear",
    ),
    ("analyzer.studies.weights: together", weights.TOGETHER, "Add Sub Mul Div Max Min Sum Mean"),
    (
        "analyzer.studies.values: pools",
        values.KINDS["pool"],
        "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool ReduceMean ReduceMax",
    ),
    (
        "analyzer.studies.values: activations",
        values.KINDS["activation"],
        "Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Gelu Mish Softplus Softsign Exp Swish "
        "ThresholdedRelu Clip Softmax LogSoftmax",
    ),
    ("analyzer.studies.values: dense", values.KINDS["dense"], "Gemm MatMul"),
    (
        "analyzer.attribution.targets",
        targets.LAYER_ENDS,
        "Relu LeakyRelu PRelu ThresholdedRelu Clip Max Elu Selu Celu Gelu Mish HardSwish Swish Softplus Tanh "
        "BatchNormalization",
    ),
    ("analyzer.attribution.sanity", sanity.WEIGHTED, "Conv ConvTranspose Gemm MatMul"),
    ("analyzer.attribution.rectifiers: leaky", rectifiers.LEAKY, "Relu LeakyRelu PRelu ThresholdedRelu"),
    (
        "analyzer.attribution.rectifiers: sums",
        rectifiers.SUMS,
        "Conv ConvTranspose Gemm MatMul Add Sum BatchNormalization",
    ),
    (
        "analyzer.bounds.subgraph",
        subgraph.EQUIVARIANT & frozenset(piecewise_rules.RULES),
        "Conv BatchNormalization Add Sub Sum Mul Div Neg Concat Identity Dropout Relu Clip LeakyRelu PRelu MaxPool "
        "AveragePool",
    ),
]


@pytest.mark.parametrize(("where", "derived", "names"), WRITTEN_OUT, ids=[where for where, *_ in WRITTEN_OUT])
def test_derived_sets_are_what_modules_wrote_out_before(where, derived, names):
    assert derived == set(names.split())


def test_names_of_activations_and_kernels_are_what_modules_wrote_out_before():
    assert nonlinearity.ACTIVATION_NAMES == {
        "Relu": "relu",
        "LeakyRelu": "leaky_relu",
        "PRelu": "prelu",
        "Elu": "elu",
        "Selu": "selu",
        "Celu": "celu",
        "Sigmoid": "sigmoid",
        "HardSigmoid": "hard_sigmoid",
        "HardSwish": "hardswish",
        "Tanh": "tanh",
        "Gelu": "gelu",
        "Mish": "mish",
        "Softplus": "softplus",
        "Softsign": "softsign",
        "Exp": "exponential",
        "Swish": "silu",
        "ThresholdedRelu": "thresholded_relu",
    }
    kernels = {name: facts.weights_input for name, facts in OPERATORS.items() if facts.kind is Kind.CONVOLUTION}
    assert kernels == {"Conv": 1, "ConvTranspose": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}


@pytest.mark.parametrize(
    "rules", [interval_arithmetic.ELEMENTWISE, interval_rules.RULES, piecewise_rules.RULES], ids=["1", "2", "3"]
)
def test_operators_that_have_a_rule_for_bounds_have_a_row(rules):
    others = {"GatherElements", "GatherND", "ReverseSequence"}  # any of their input's numbers, whatever the place
    assert set(rules) - others <= set(OPERATORS)


# --- against ONNX

SHAPE = (1, 4, 6, 6)
FLOATS, WHOLE = TensorProto.FLOAT, TensorProto.INT64
CASES = {  # operator → attributes, constant inputs; not listed: none
    "PRelu": ({}, [np.full((4, 1, 1), 0.2, np.float32)]),
    "BatchNormalization": ({}, [np.linspace(1, 2, 4, dtype=np.float32)] * 4),
    "InstanceNormalization": ({}, [np.ones(4, np.float32)] * 2),
    "GroupNormalization": ({"num_groups": 4}, [np.ones(4, np.float32)] * 2),
    "LRN": ({"size": 3}, []),
    "Cast": ({"to": TensorProto.DOUBLE}, []),
    "QuantizeLinear": ({}, [np.array(0.1, np.float32), np.array(7, np.uint8)]),
    "MaxPool": ({"kernel_shape": [1, 1]}, []),
    "AveragePool": ({"kernel_shape": [1, 1]}, []),
    "LpPool": ({"kernel_shape": [1, 1]}, []),
    "Conv": ({}, [np.ones((2, 4, 3, 3), np.float32)]),
    "ConvTranspose": ({}, [np.ones((4, 2, 3, 3), np.float32)]),
    "Pad": ({}, [np.zeros(8, np.int64)]),
    "Resize": ({}, [np.array([], np.float32), np.ones(4, np.float32)]),
    "Transpose": ({"perm": [0, 2, 3, 1]}, []),
    "Reshape": ({}, [np.array([4, -1])]),
    "Squeeze": ({}, [np.array([0])]),
    "Unsqueeze": ({}, [np.array([1])]),
    "Slice": ({}, [np.array([1]), np.array([5]), np.array([2])]),
    "Split": ({"axis": 1, "num_outputs": 2}, []),
    "Gather": ({"axis": 1}, [np.array([3, 1])]),
    "Tile": ({}, [np.array([1, 2, 1, 1])]),
    "Expand": ({}, [np.array([2, 4, 6, 6])]),
    "DepthToSpace": ({"blocksize": 2}, []),
    "SpaceToDepth": ({"blocksize": 2}, []),
    "Mod": ({"fmod": 1}, []),
    "Gemm": ({}, [np.ones((6, 2), np.float32)]),
}
OF_TRUTH_VALUES = ("Not", "And", "Or", "Xor")
NEWER = ("Swish",)  # than the opset used here: ONNX Runtime need not have it
SEVERAL = operators(lambda facts: facts.kind in (Kind.ARITHMETIC, Kind.LOGIC)) - {"Not"}


def answer(op, *arrays, opset=21):
    """First output of one node, computed by ONNX Runtime; the first inputs are `arrays`, the others its constants."""
    attributes, constants = CASES.get(op, ({}, []))
    names = [f"x{index}" for index in range(len(arrays) + len(constants))]
    outputs = [f"y{index}" for index in range(2 if op == "Split" else 1)]
    feeds = dict(zip(names, [*arrays, *constants], strict=True))
    declared = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
        if a.size
    ]
    graph = helper.make_graph(
        [helper.make_node(op, [n if feeds[n].size else "" for n in names], outputs, **attributes)],
        "one",
        declared,
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(outputs[:1], {name: array for name, array in feeds.items() if array.size})[0]


def operands(op, *arrays):
    """Inputs of the type that an operator takes."""
    if op in OF_TRUTH_VALUES:
        return [array > 0.5 for array in arrays]
    return [(array > 0.5) if op == "Where" and not index else array for index, array in enumerate(arrays)]


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_every_row_is_an_operator_of_onnx(op):
    if op != "FusedConv":  # ONNX Runtime's own
        assert onnx.defs.has(op)


@pytest.mark.parametrize("op", sorted({n for n, f in OPERATORS.items() if f.weights_input} - {"FusedConv"}))
def test_the_kernel_is_the_input_of_that_number(op):
    schema = onnx.defs.get_schema(op)
    assert schema.inputs[OPERATORS[op].weights_input].name.lower() == "w"


UNARY = sorted(
    operators(lambda f: (f.place is Place.SAME and f.broadcasting is Broadcasting.NONE) or f.activation == "prelu")
    - {"DequantizeLinear", *NEWER}
)


@pytest.mark.parametrize("op", UNARY)
def test_what_keeps_its_place_reads_its_own_place_alone(op):
    """One pixel of one channel is changed: what else changes tells what the operator reads."""
    facts = OPERATORS[op]
    before = drawn(*SHAPE)
    after = before.copy()
    after[0, 1, 2, 3] = {"IsNaN": np.nan, "IsInf": np.inf, "Sign": -1.0}.get(op, 0.05) if op != "Not" else 0.0
    before[0, 1, 2, 3] = 2.6
    one, other = (answer(op, *operands(op, array)) for array in (before, after))
    assert one.shape == SHAPE
    differs = ~((one == other) | ((one != one) & (other != other)))
    channels, rows, columns = (set(axis) for axis in np.nonzero(differs)[1:])
    assert 1 in channels
    if facts.reads_whole_map:
        assert len(rows) == len(columns) == 6
    else:
        assert (rows, columns) == ({2}, {3})
    if facts.channels is Channels.SAME and op != "LRN":  # which is normalised by its neighbours
        assert channels == {1}


@pytest.mark.parametrize("op", sorted(SEVERAL))
def test_an_axis_of_length_one_is_repeated(op):
    assert OPERATORS[op].broadcasting is Broadcasting.EVERY_AXIS
    small, large = drawn(1, 4, 1, 1), drawn(2, 4, 6, 6, seed=1)
    arrays = operands(op, *((small, large, small) if op == "Where" else (small, large)))
    repeated = [np.broadcast_to(array, large.shape).copy() for array in arrays]
    np.testing.assert_array_equal(answer(op, *arrays), answer(op, *repeated))


def test_a_matrix_product_repeats_leading_axes_alone():
    assert operators(lambda f: f.broadcasting is Broadcasting.LEADING_AXES) == {"MatMul"}
    assert answer("MatMul", drawn(1, 4, 6, 5), drawn(3, 1, 5, 2)).shape == (3, 4, 6, 2)
    with pytest.raises(Exception, match="dimension"):
        answer("MatMul", drawn(1, 4, 6, 5), drawn(3, 1, 1, 2))


@pytest.mark.parametrize("op", sorted(operators(lambda f: f.numbers is not Numbers.COMPUTED)))
def test_numbers_are_what_the_row_says(op):
    numbers = OPERATORS[op].numbers
    x = drawn(*SHAPE)
    if numbers is Numbers.RESTORED:
        x = np.arange(144, dtype=np.uint8).reshape(SHAPE)
        np.testing.assert_allclose(
            answer(op, x, np.array(0.5, np.float32), np.array(4, np.uint8)), (x.astype(float) - 4) / 2
        )
        return
    y = answer(op, x)
    if numbers is Numbers.SELECTED:
        assert set(y.ravel()) <= set(x.ravel())
    elif numbers is Numbers.ROUNDED:
        np.testing.assert_array_equal(y, np.rint(x / np.float32(0.1)) + 7)
    else:
        np.testing.assert_array_equal(np.sort(y.ravel()), np.sort(x.ravel()))


MOVED = sorted(operators(lambda f: f.channels is Channels.SAME and f.place is not Place.SAME and not f.is_rewritten))


@pytest.mark.parametrize("op", MOVED)
def test_channels_stay_where_places_move(op):
    before, after = drawn(*SHAPE), drawn(*SHAPE)
    after[0, 1] += 1
    changed = (answer(op, before) != answer(op, after)).any(axis=(0, 2, 3))
    assert list(changed) == [False, True, False, False]


@pytest.mark.parametrize("op", sorted(operators(lambda f: f.rectifies)))
def test_rectifiers_hand_on_what_is_positive(op):
    x = np.linspace(-3, 3, 144, dtype=np.float32).reshape(SHAPE)
    y = answer(op, x)
    np.testing.assert_array_equal(y[x > 1.1], x[x > 1.1])
    assert (np.abs(y[x < 0]) < np.abs(x[x < 0])).all()


@pytest.mark.parametrize("op", sorted(operators(lambda f: f.place is Place.LOST) - {"Einsum", "Gemm"}))
def test_what_loses_its_place_has_one_row_and_column(op):
    assert answer(op, drawn(*SHAPE)).shape in ((1, 4, 1, 1), (1, 144))
