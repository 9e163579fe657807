"""GridSample: the input read at positions that the network itself computes."""

from typing import TYPE_CHECKING

from torch.nn import functional as F

from converters.ops.common import attributes, bind

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

_MODES = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}  # ONNX → torch, whatever the rank


def grid_sample(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    given = attributes(node)
    return bind(
        node,
        graph,
        F.grid_sample,
        mode=_MODES[given.get("mode", "linear")],
        padding_mode=given.get("padding_mode", "zeros"),
        align_corners=bool(given.get("align_corners", 0)),
    )
