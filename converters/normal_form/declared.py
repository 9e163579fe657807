"""The type and size that a file declares of an input; the size can be freed where the network does not need it.

Knows ONNX; knows nothing of pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx

from filterscope.converters.onnx_file.model_file import ModelFile


def input_dtype(proto: onnx.ModelProto, name: str) -> str:
    """NumPy's name of an input's type; float32 where the file declares none."""
    kind = next((value.type.tensor_type.elem_type for value in proto.graph.input if value.name == name), 0)
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))) if kind else "float32"


def with_free_sides(file: ModelFile, name: str, axes: Sequence[int]) -> ModelFile:
    """The file with these axes of an input free, and no shape written that may follow from them."""
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    del proto.graph.value_info[:]
    for value in proto.graph.input:
        if value.name == name:
            for axis in axes:
                value.type.tensor_type.shape.dim[axis].dim_param = f"side {axis}"
    for output in proto.graph.output:
        for axis, side in enumerate(output.type.tensor_type.shape.dim):
            if side.dim_value > 1:
                side.dim_param = f"{output.name} {axis}"
    return dataclasses.replace(file, proto=proto)
