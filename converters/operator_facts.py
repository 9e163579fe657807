"""Facts about each ONNX operator, in one row: what it does to channels, places and numbers.

Modules of every room derive their sets of operators from these rows with `operators`. How an operator is computed,
bounded or imported stands in the tables of the modules that do so. Knows names alone: no graphs, ONNX or torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial


class Kind(Enum):
    """Family of an operator."""

    CONVOLUTION = auto()
    POOLING = auto()  # over a window
    GLOBAL_POOLING = auto()
    MATRIX_PRODUCT = auto()
    CONTRACTION = auto()  # sums over axes that an equation names
    ACTIVATION = auto()  # a non-linearity, element by element
    FUNCTION = auto()  # of one tensor, element by element
    ARITHMETIC = auto()  # of several tensors, element by element
    LOGIC = auto()  # truth values, element by element
    NORMALIZATION = auto()
    SOFTMAX = auto()
    REDUCTION = auto()
    REARRANGEMENT = auto()  # elements in another order, fewer of them, or repeated
    RESAMPLING = auto()
    CONVERSION = auto()  # the same numbers in another type, rounded where it is narrower
    SHAPE = auto()  # reads shapes and no elements
    SEQUENCE = auto()  # of sequences of tensors, or of tensors that may be absent
    CONTROL_FLOW = auto()
    DATA_DEPENDENT = auto()  # the shape or order of the result depends on the numbers
    DECODING = auto()  # of texts or of picture files
    RANDOM = auto()


class Channels(Enum):
    """What axis 1 of the result holds."""

    OTHER = auto()  # channels of its own, or not followed
    SAME = auto()  # channel c of the first input is channel c of the result
    COMBINED = auto()  # channel c of every full-sized input meets in channel c of the result
    REGROUPED = auto()  # whole channels, but fewer or more of them


class Place(Enum):
    """Which rows and columns of its input a row and column of the result reads."""

    NOT_FOLLOWED = auto()
    SAME = auto()  # its own
    WINDOW = auto()  # those of a sliding kernel
    SHIFTED = auto()  # p · step + offset
    SPREAD = auto()  # of a coarser grid, so that neighbours read differently
    JOINED = auto()  # its own, unless inputs are joined along rows or columns
    BY_AXIS = auto()  # depends on which axes the operator works on
    LOST = auto()  # the result has no rows and columns


class Numbers(Enum):
    """How the numbers of the result relate to those of the first input."""

    COMPUTED = auto()
    SAME = auto()  # each once, in an order that shapes and axes alone decide
    SAME_IN_INFERENCE = auto()  # each once, but in training mode
    SELECTED = auto()  # each is one of them
    CONVERTED = auto()  # each once, in another type
    ROUNDED = auto()  # each once, as an integer on a scale
    RESTORED = auto()  # integers on a scale, back to what they stand for


class Broadcasting(Enum):
    """Whether axes of length 1 are repeated to the length of another input."""

    NONE = auto()
    LEADING_AXES = auto()  # all but the last two
    EVERY_AXIS = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFacts:
    """Facts about one operator.

    A fact at its default does not hold, or no module needs to know it: receptive fields, for one, are not followed
    through every operator that keeps its place.
    """

    kind: Kind
    channels: Channels = Channels.OTHER
    place: Place = Place.NOT_FOLLOWED
    numbers: Numbers = Numbers.COMPUTED
    broadcasting: Broadcasting = Broadcasting.NONE
    reads_whole_map: bool = False  # beside its own place: it computes statistics of the whole map
    has_image_axes: bool = False  # rows and columns, along which it moves, have to be axes 2 and 3
    is_rewritten: bool = False  # the normal form has another operator in its place
    weights_input: int | None = None  # number of the input that holds a convolution's kernel
    activation: str = ""  # what its users call the non-linearity
    rectifies: bool = False  # passes what is above 0 (or a threshold), and weakens the rest or sets it to 0
    gives_probabilities: bool = False  # or their logarithms
    gives_pre_activations: bool = False  # sums of either sign, such as a ReLU follows
    ends_layer: bool = False  # a layer's maps are shown after it, where it follows the layer directly
    precedes_first_layer: bool = False  # may stand between the image and the first convolution; axes keep their meaning
    gives_no_tensor: bool = False  # its result is a sequence, or may be absent
    passes_integers: bool = False  # an 8-bit network's integers pass through it, whatever their type


# What the operators of a family have in common; a row adds to it, or says otherwise.
_convolution = partial(OperatorFacts, kind=Kind.CONVOLUTION, has_image_axes=True)
_pooling = partial(OperatorFacts, kind=Kind.POOLING, channels=Channels.SAME, place=Place.WINDOW, has_image_axes=True)
_global_pooling = partial(OperatorFacts, kind=Kind.GLOBAL_POOLING, place=Place.LOST)
_activation = partial(OperatorFacts, kind=Kind.ACTIVATION, channels=Channels.SAME, place=Place.SAME)
_function = partial(OperatorFacts, kind=Kind.FUNCTION, place=Place.SAME)
_arithmetic = partial(
    OperatorFacts,
    kind=Kind.ARITHMETIC,
    channels=Channels.COMBINED,
    place=Place.SAME,
    broadcasting=Broadcasting.EVERY_AXIS,
)
_logic = partial(OperatorFacts, kind=Kind.LOGIC, place=Place.SAME, broadcasting=Broadcasting.EVERY_AXIS)
_normalization = partial(OperatorFacts, kind=Kind.NORMALIZATION, channels=Channels.SAME, place=Place.SAME)
_softmax = partial(OperatorFacts, kind=Kind.SOFTMAX, place=Place.BY_AXIS)
_reduction = partial(OperatorFacts, kind=Kind.REDUCTION, place=Place.BY_AXIS)
_same_numbers = partial(
    OperatorFacts, kind=Kind.REARRANGEMENT, place=Place.BY_AXIS, numbers=Numbers.SAME, passes_integers=True
)
_selection = partial(OperatorFacts, kind=Kind.REARRANGEMENT, numbers=Numbers.SELECTED)
_resampling = partial(
    OperatorFacts, kind=Kind.RESAMPLING, channels=Channels.SAME, place=Place.SPREAD, precedes_first_layer=True
)
_conversion = partial(
    OperatorFacts, kind=Kind.CONVERSION, channels=Channels.SAME, place=Place.SAME, precedes_first_layer=True
)
_shape = partial(OperatorFacts, kind=Kind.SHAPE)
_sequence = partial(OperatorFacts, kind=Kind.SEQUENCE)
_data_dependent = partial(OperatorFacts, kind=Kind.DATA_DEPENDENT)
_decoding = partial(OperatorFacts, kind=Kind.DECODING)
_random = partial(OperatorFacts, kind=Kind.RANDOM)

OPERATORS: dict[str, OperatorFacts] = {
    # convolutions
    "Conv": _convolution(place=Place.WINDOW, weights_input=1, gives_pre_activations=True),
    "ConvTranspose": _convolution(place=Place.SPREAD, weights_input=1, gives_pre_activations=True),
    "FusedConv": _convolution(weights_input=1, is_rewritten=True),  # ONNX Runtime's own
    "ConvInteger": _convolution(weights_input=1, is_rewritten=True),
    "QLinearConv": _convolution(weights_input=3, is_rewritten=True),
    # poolings
    "MaxPool": _pooling(precedes_first_layer=True, passes_integers=True),
    "AveragePool": _pooling(precedes_first_layer=True),
    "LpPool": _pooling(),
    "GlobalAveragePool": _global_pooling(),
    "GlobalMaxPool": _global_pooling(),
    "GlobalLpPool": _global_pooling(),
    # products
    "Gemm": OperatorFacts(kind=Kind.MATRIX_PRODUCT, place=Place.LOST, gives_pre_activations=True),
    "MatMul": OperatorFacts(
        kind=Kind.MATRIX_PRODUCT,
        place=Place.BY_AXIS,
        broadcasting=Broadcasting.LEADING_AXES,
        gives_pre_activations=True,
    ),
    "Einsum": OperatorFacts(kind=Kind.CONTRACTION, place=Place.LOST),
    # activations
    "Relu": _activation(activation="relu", rectifies=True, ends_layer=True, precedes_first_layer=True),
    "LeakyRelu": _activation(activation="leaky_relu", rectifies=True, ends_layer=True),
    "PRelu": _activation(
        activation="prelu", rectifies=True, ends_layer=True, broadcasting=Broadcasting.EVERY_AXIS
    ),  # broadcasts its slopes
    "ThresholdedRelu": _activation(activation="thresholded_relu", rectifies=True, ends_layer=True),
    "Clip": _activation(ends_layer=True, precedes_first_layer=True),  # its limits decide what it is called
    "Elu": _activation(activation="elu", ends_layer=True),
    "Selu": _activation(activation="selu", ends_layer=True),
    "Celu": _activation(activation="celu", ends_layer=True),
    "Gelu": _activation(activation="gelu", ends_layer=True),
    "Mish": _activation(activation="mish", ends_layer=True),
    "Swish": _activation(activation="silu", ends_layer=True),
    "HardSwish": _activation(activation="hardswish", ends_layer=True),
    "Softplus": _activation(activation="softplus", ends_layer=True),
    "Tanh": _activation(activation="tanh", ends_layer=True),
    "Softsign": _activation(activation="softsign"),
    "Sigmoid": _activation(activation="sigmoid", gives_probabilities=True),
    "HardSigmoid": _activation(activation="hard_sigmoid", gives_probabilities=True),
    "Shrink": _activation(channels=Channels.OTHER),
    "Softmax": _softmax(gives_probabilities=True),
    "LogSoftmax": _softmax(gives_probabilities=True),
    "Hardmax": _softmax(),
    # functions of one tensor, element by element
    "Abs": _function(channels=Channels.SAME),
    "Neg": _function(channels=Channels.SAME),
    "Exp": _function(channels=Channels.SAME, activation="exponential"),
    "Log": _function(channels=Channels.SAME),
    "Sqrt": _function(channels=Channels.SAME),
    "Reciprocal": _function(),
    "Erf": _function(),
    "Floor": _function(),
    "Ceil": _function(),
    "Round": _function(),
    "Sign": _function(),
    "Sin": _function(),
    "Cos": _function(),
    "Atan": _function(place=Place.NOT_FOLLOWED),
    "IsNaN": _function(),
    "IsInf": _function(),
    # arithmetic of several tensors
    "Add": _arithmetic(precedes_first_layer=True, gives_pre_activations=True),
    "Sum": _arithmetic(gives_pre_activations=True),
    "Mean": _arithmetic(),
    "Sub": _arithmetic(precedes_first_layer=True),
    "Mul": _arithmetic(precedes_first_layer=True),
    "Div": _arithmetic(precedes_first_layer=True),
    "Pow": _arithmetic(precedes_first_layer=True, channels=Channels.OTHER),
    "Min": _arithmetic(),
    "Max": _arithmetic(ends_layer=True),
    "Mod": _arithmetic(channels=Channels.OTHER),
    "Where": _arithmetic(channels=Channels.OTHER),
    # truth values
    "Equal": _logic(),
    "Greater": _logic(),
    "GreaterOrEqual": _logic(),
    "Less": _logic(),
    "LessOrEqual": _logic(),
    "And": _logic(),
    "Or": _logic(),
    "Xor": _logic(),
    "Not": _logic(broadcasting=Broadcasting.NONE),
    # normalizations
    "BatchNormalization": _normalization(precedes_first_layer=True, gives_pre_activations=True, ends_layer=True),
    "InstanceNormalization": _normalization(precedes_first_layer=True, reads_whole_map=True),
    "GroupNormalization": _normalization(reads_whole_map=True),
    "MeanVarianceNormalization": _normalization(channels=Channels.OTHER, reads_whole_map=True),
    "LRN": _normalization(precedes_first_layer=True),
    "LayerNormalization": _normalization(channels=Channels.OTHER, place=Place.BY_AXIS),
    "LpNormalization": _normalization(channels=Channels.OTHER, place=Place.BY_AXIS),
    # reductions
    "ReduceMean": _reduction(),
    "ReduceSum": _reduction(),
    "ReduceMax": _reduction(),
    "ReduceMin": _reduction(),
    "ReduceProd": _reduction(),
    "ReduceL1": _reduction(),
    "ReduceL2": _reduction(),
    "ReduceLogSum": _reduction(),
    "ReduceLogSumExp": _reduction(),
    "ReduceSumSquare": _reduction(),
    # the same elements, in another order or another shape
    "Identity": _same_numbers(channels=Channels.SAME, place=Place.SAME, precedes_first_layer=True),
    "Transpose": _same_numbers(precedes_first_layer=True),
    "Reshape": _same_numbers(),
    "Squeeze": _same_numbers(),
    "Unsqueeze": _same_numbers(),
    "Flatten": _same_numbers(place=Place.LOST),
    # some of the elements, several times perhaps
    "Slice": _selection(
        channels=Channels.REGROUPED, place=Place.SHIFTED, precedes_first_layer=True, passes_integers=True
    ),
    "Split": _selection(channels=Channels.REGROUPED, place=Place.BY_AXIS, precedes_first_layer=True),
    "Gather": _selection(place=Place.BY_AXIS),
    "Tile": _selection(),
    "Expand": _selection(place=Place.SAME, broadcasting=Broadcasting.EVERY_AXIS),
    "DepthToSpace": _selection(place=Place.SPREAD, has_image_axes=True),
    "SpaceToDepth": _selection(place=Place.SHIFTED, has_image_axes=True),
    "Concat": OperatorFacts(
        kind=Kind.REARRANGEMENT,
        channels=Channels.REGROUPED,
        place=Place.JOINED,
        precedes_first_layer=True,
        passes_integers=True,
    ),
    # other sizes
    "Resize": _resampling(),
    "Upsample": _resampling(place=Place.NOT_FOLLOWED, is_rewritten=True),
    "Pad": _resampling(place=Place.SHIFTED),
    # other types
    "Cast": _conversion(numbers=Numbers.CONVERTED),
    "QuantizeLinear": _conversion(numbers=Numbers.ROUNDED),
    "DequantizeLinear": _conversion(numbers=Numbers.RESTORED),
    "DynamicQuantizeLinear": _conversion(
        channels=Channels.OTHER, place=Place.NOT_FOLLOWED, is_rewritten=True
    ),  # its scale comes from the whole tensor
    "Dropout": _conversion(numbers=Numbers.SAME_IN_INFERENCE),
    # shapes
    "Shape": _shape(),
    "Size": _shape(),
    "ConstantOfShape": _shape(),
    # sequences, and tensors that may be absent
    "SequenceConstruct": _sequence(gives_no_tensor=True),
    "SequenceEmpty": _sequence(gives_no_tensor=True),
    "SequenceInsert": _sequence(gives_no_tensor=True),
    "SequenceErase": _sequence(gives_no_tensor=True),
    "SequenceMap": _sequence(gives_no_tensor=True),
    "SplitToSequence": _sequence(gives_no_tensor=True),
    "SequenceAt": _sequence(),
    "SequenceLength": _sequence(),
    "ConcatFromSequence": _sequence(),
    "Optional": _sequence(gives_no_tensor=True),
    "OptionalGetElement": _sequence(gives_no_tensor=True),
    "OptionalHasElement": _sequence(),
    # graphs inside the graph
    "If": OperatorFacts(kind=Kind.CONTROL_FLOW),
    "Loop": OperatorFacts(kind=Kind.CONTROL_FLOW),
    "Scan": OperatorFacts(kind=Kind.CONTROL_FLOW),
    # results whose shape or order depends on the numbers
    "NonMaxSuppression": _data_dependent(),
    "TopK": _data_dependent(),
    "NonZero": _data_dependent(),
    "Unique": _data_dependent(),
    "Compress": _data_dependent(),
    # texts and picture files
    "StringConcat": _decoding(),
    "StringSplit": _decoding(),
    "StringNormalizer": _decoding(),
    "RegexFullMatch": _decoding(),
    "TfIdfVectorizer": _decoding(),
    "ImageDecoder": _decoding(),
    # drawn at random
    "RandomNormal": _random(),
    "RandomNormalLike": _random(),
    "RandomUniform": _random(),
    "RandomUniformLike": _random(),
    "Bernoulli": _random(),
    "Multinomial": _random(),
}


def operators(holds: Callable[[OperatorFacts], bool]) -> frozenset[str]:
    """Names of all operators whose facts satisfy a condition."""
    return frozenset(name for name, facts in OPERATORS.items() if holds(facts))


CONVOLUTIONS = operators(lambda facts: facts.kind is Kind.CONVOLUTION and not facts.is_rewritten)  # the layers
FILE_CONVOLUTIONS = operators(lambda facts: facts.kind is Kind.CONVOLUTION)  # with those that the normal form rewrites
MATRIX_PRODUCTS = operators(lambda facts: facts.kind is Kind.MATRIX_PRODUCT)
CONTROL_FLOW = operators(lambda facts: facts.kind is Kind.CONTROL_FLOW)  # hold graphs of their own
PASS_INTEGERS = operators(lambda facts: facts.passes_integers)
