"""The project's own table of converters, ONNX → torch: what onnx2torch lacks or has wrong.

A converter takes a node of the canonical graph (one opset, 21) and gives a torch module that computes it at any batch
and any size, on any device, differentiably. The importer moves each node named here into the domain `DOMAIN`, where
these converters are registered; so they stand before onnx2torch's own without touching them. A new operator is a
function in the file of its family, a row here, and a case in tests/support/operator_cases.py.
"""

import functools
from typing import TYPE_CHECKING

from filterscope.converters.torch_import.onnx2torch_loader import load
from filterscope.converters.torch_import.ops import (
    activations,
    arithmetic,
    comparisons,
    convolution,
    deformable,
    indexing,
    normalization,
    ordering,
    pooling,
    quantization,
    reductions,
    resize,
    selection,
    shapes,
    spectra,
    values,
)

if TYPE_CHECKING:
    from filterscope.converters.torch_import.ops.common import Converter

DOMAIN = "filterscope"

_TABLE: "dict[str, Converter]" = {
    "Acosh": arithmetic.acosh,
    "Add": arithmetic.add,
    "AffineGrid": deformable.affine_grid,
    "Asinh": arithmetic.asinh,
    "Atanh": arithmetic.atanh,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": normalization.batch_normalization,
    "BitShift": arithmetic.bit_shift,
    "BitwiseAnd": arithmetic.bitwise_and,
    "BitwiseNot": arithmetic.bitwise_not,
    "BitwiseOr": arithmetic.bitwise_or,
    "BitwiseXor": arithmetic.bitwise_xor,
    "Cast": values.cast,
    "CastLike": values.cast_like,
    "Celu": activations.celu,
    "Clip": activations.clip,
    "Col2Im": convolution.columns_to_image,
    "Compress": ordering.compress,
    "Constant": values.constant_,
    "ConstantOfShape": values.constant_of_shape,
    "Conv": convolution.conv,
    "ConvTranspose": convolution.conv_transpose,
    "Cosh": arithmetic.cosh,
    "CumSum": indexing.cumulative_sum,
    "DFT": spectra.discrete_fourier,
    "DeformConv": deformable.deformable_conv,
    "DepthToSpace": shapes.depth_to_space,
    "DequantizeLinear": quantization.dequantize_linear,
    "Det": arithmetic.determinant,
    "Div": arithmetic.divide,
    "Dropout": values.dropout,
    "DynamicQuantizeLinear": quantization.dynamic_quantize_linear,
    "Elu": activations.elu,
    "Equal": comparisons.equal,
    "Expand": shapes.expand,
    "EyeLike": values.eye_like,
    "Flatten": shapes.flatten,
    "Gather": selection.gather,
    "GatherElements": indexing.gather_elements,
    "GatherND": indexing.gather_nd,
    "Gelu": activations.gelu,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalLpPool": pooling.global_lp_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "Greater": comparisons.greater,
    "GreaterOrEqual": comparisons.greater_or_equal,
    "GridSample": deformable.grid_sample,
    "GroupNormalization": normalization.group_normalization,
    "HardSigmoid": activations.hard_sigmoid,
    "HardSwish": activations.hard_swish,
    "Hardmax": indexing.hardmax,
    "Identity": values.identity,
    "InstanceNormalization": normalization.instance_normalization,
    "IsInf": comparisons.is_inf,
    "IsNaN": comparisons.is_nan,
    "LayerNormalization": normalization.layer_normalization,
    "Less": comparisons.less,
    "LessOrEqual": comparisons.less_or_equal,
    "LpNormalization": normalization.lp_normalization,
    "LpPool": pooling.lp_pool,
    "Max": arithmetic.maximum,
    "MaxPool": pooling.max_pool,
    "MaxUnpool": pooling.max_unpool,
    "Mean": arithmetic.mean,
    "MeanVarianceNormalization": normalization.mean_variance_normalization,
    "Min": arithmetic.minimum,
    "Mish": activations.mish,
    "Mod": arithmetic.modulo,
    "Mul": arithmetic.multiply,
    "NonZero": indexing.non_zero,
    "OneHot": indexing.one_hot,
    "PRelu": activations.parametric_relu,
    "Pad": selection.pad,
    "Pow": arithmetic.power,
    "QuantizeLinear": quantization.quantize_linear,
    "Range": values.range_,
    "ReduceL1": reductions.reduce_l1,
    "ReduceL2": reductions.reduce_l2,
    "ReduceLogSum": reductions.reduce_log_sum,
    "ReduceLogSumExp": reductions.reduce_log_sum_exp,
    "ReduceMax": reductions.reduce_max,
    "ReduceMean": reductions.reduce_mean,
    "ReduceMin": reductions.reduce_min,
    "ReduceProd": reductions.reduce_prod,
    "ReduceSum": reductions.reduce_sum,
    "ReduceSumSquare": reductions.reduce_sum_square,
    "Reshape": shapes.reshape,
    "Resize": resize.resize,
    "ReverseSequence": ordering.reverse_sequence,
    "Round": quantization.round_,
    "ScatterElements": indexing.scatter_elements,
    "ScatterND": indexing.scatter_nd,
    "Selu": activations.selu,
    "Shape": shapes.shape,
    "Shrink": activations.shrink,
    "Sinh": arithmetic.sinh,
    "Size": shapes.size,
    "Slice": selection.slice_,
    "Softplus": activations.softplus,
    "Softsign": activations.softsign,
    "SpaceToDepth": shapes.space_to_depth,
    "Split": selection.split,
    "Squeeze": shapes.squeeze,
    "Sub": arithmetic.subtract,
    "Sum": arithmetic.total,
    "ThresholdedRelu": activations.thresholded_relu,
    "Tile": selection.tile,
    "TopK": ordering.top_k,
    "Transpose": shapes.transpose,
    "Trilu": indexing.trilu,
    "Unique": ordering.unique,
    "Unsqueeze": shapes.unsqueeze,
}


def table() -> "dict[str, Converter]":
    """Operator name → the function that makes a torch module of a node."""
    return dict(_TABLE)


@functools.cache
def register() -> None:
    """Make onnx2torch's builder find the table under `DOMAIN`, version 1. A second call does nothing."""
    load()
    from onnx2torch.node_converters.registry import add_converter

    for operator, converter in _TABLE.items():
        add_converter(operator, version=1, domain=DOMAIN)(converter)
