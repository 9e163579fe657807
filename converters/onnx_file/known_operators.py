"""The operators that ONNX, ONNX Runtime or the model's own functions define."""

from __future__ import annotations

from collections.abc import Callable

import onnx


def unknown_to(model: onnx.ModelProto) -> Callable[[onnx.NodeProto], bool]:
    """A test for nodes whose operator neither ONNX, nor ONNX Runtime, nor the model itself defines."""
    own = {(function.domain, function.name) for function in model.functions}
    theirs: set[tuple[str, str]] = set()

    def unknown(node: onnx.NodeProto) -> bool:
        if not isinstance(node.op_type, str):  # bytes that are no text; the checker says so
            return False
        domain = "" if node.domain == "ai.onnx" else node.domain
        if (node.domain, node.op_type) in own or (not domain and onnx.defs.has(node.op_type)):
            return False
        if not theirs:
            from onnxruntime.capi import onnxruntime_pybind11_state

            theirs.update((s.domain, s.name) for s in onnxruntime_pybind11_state.get_all_operator_schema())
        return (domain, node.op_type) not in theirs

    return unknown
