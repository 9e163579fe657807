"""The project's own table of converters, ONNX → torch: what onnx2torch lacks or has wrong.

A converter takes a node of the canonical graph (one opset, 21) and gives a torch module that computes it at any batch
and any size, on any device, differentiably. The importer moves each node named here into the domain `DOMAIN`, where
these converters are registered; so they stand before onnx2torch's own without touching them. A new operator is a
function in the file of its family, a row here, and a case in tests/test_ops.py.
"""

import functools
from typing import TYPE_CHECKING

from converters.onnx2torch_loader import load
from converters.ops import (
    activations,
    comparisons,
    convolution,
    grid_sample,
    indexing,
    normalization,
    pooling,
    reductions,
    resize,
    selection,
    shapes,
    values,
)

if TYPE_CHECKING:
    from converters.ops.common import Converter

DOMAIN = "filterscope"
OPSET = 21  # of the operators' meaning; in `DOMAIN` itself there is one version, 1

_TABLE: "dict[str, Converter]" = {
    "AveragePool": pooling.average_pool,
    "BatchNormalization": normalization.batch_normalization,
    "Cast": values.cast,
    "CastLike": values.cast_like,
    "Celu": activations.celu,
    "Clip": activations.clip,
    "Constant": values.constant_,
    "ConstantOfShape": values.constant_of_shape,
    "Conv": convolution.conv,
    "ConvTranspose": convolution.conv_transpose,
    "CumSum": indexing.cumulative_sum,
    "DepthToSpace": shapes.depth_to_space,
    "DequantizeLinear": values.dequantize_linear,
    "Dropout": values.dropout,
    "Elu": activations.elu,
    "Equal": comparisons.equal,
    "Expand": shapes.expand,
    "Flatten": shapes.flatten,
    "Gather": selection.gather,
    "GatherElements": indexing.gather_elements,
    "Gelu": activations.gelu,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalLpPool": pooling.global_lp_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "GreaterOrEqual": comparisons.greater_or_equal,
    "GridSample": grid_sample.grid_sample,
    "GroupNormalization": normalization.group_normalization,
    "HardSigmoid": activations.hard_sigmoid,
    "HardSwish": activations.hard_swish,
    "Hardmax": indexing.hardmax,
    "Identity": values.identity,
    "InstanceNormalization": normalization.instance_normalization,
    "IsInf": comparisons.is_inf,
    "IsNaN": comparisons.is_nan,
    "LessOrEqual": comparisons.less_or_equal,
    "LpNormalization": normalization.lp_normalization,
    "LpPool": pooling.lp_pool,
    "MaxPool": pooling.max_pool,
    "MeanVarianceNormalization": normalization.mean_variance_normalization,
    "Mish": activations.mish,
    "NonZero": indexing.non_zero,
    "OneHot": indexing.one_hot,
    "Pad": selection.pad,
    "QuantizeLinear": values.quantize_linear,
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
    "ScatterElements": indexing.scatter_elements,
    "ScatterND": indexing.scatter_nd,
    "Selu": activations.selu,
    "Shape": shapes.shape,
    "Shrink": activations.shrink,
    "Size": shapes.size,
    "Slice": selection.slice_,
    "Softplus": activations.softplus,
    "Softsign": activations.softsign,
    "SpaceToDepth": shapes.space_to_depth,
    "Split": selection.split,
    "Squeeze": shapes.squeeze,
    "ThresholdedRelu": activations.thresholded_relu,
    "Tile": selection.tile,
    "Transpose": shapes.transpose,
    "Trilu": indexing.trilu,
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
