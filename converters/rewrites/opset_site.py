"""Where a rule of the opset upgrade is applied: one node, its versions, and what is known of its values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import helper, numpy_helper


class ModelFacts(Protocol):
    """The known types, shapes and constants of the model being rewritten."""

    numbers: itertools.count[int]  # of new names
    constants: dict[str, onnx.TensorProto]  # by the name of the value

    @property
    def types(self) -> Mapping[str, onnx.TypeProto]:
        """The inferred types of values, by name."""


class Site:
    """One node being rewritten: what a rule may look up, and where it puts nodes of its own."""

    def __init__(self, facts: ModelFacts) -> None:
        self._facts = facts
        self.before: list[onnx.NodeProto] = []  # in the words of opset 21
        self.after: list[onnx.NodeProto] = []  # in the words of the version at which the rule holds

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """The known part of a value's shape; None where not even its rank is known."""
        tensor = self._facts.constants.get(name)
        if tensor is not None:
            return tuple(tensor.dims)
        kind = self._facts.types.get(name, onnx.TypeProto()).tensor_type
        if not kind.HasField("shape"):
            return None
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)

    def dtype(self, name: str) -> np.dtype[Any] | None:
        """A value's type; None where it is not known."""
        tensor = self._facts.constants.get(name)
        kind = tensor.data_type if tensor is not None else 0
        kind = kind or self._facts.types.get(name, onnx.TypeProto()).tensor_type.elem_type
        return np.dtype(helper.tensor_dtype_to_np_dtype(kind)) if kind else None

    def constant(self, name: str) -> np.ndarray | None:
        """The array that a value always is, where the file says it."""
        tensor = self._facts.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def array(self, numbers: Any, dtype: Any = np.int64) -> str:
        """A new constant; returns its name."""
        return self.op("Constant", value=numpy_helper.from_array(np.array(numbers, dtype)))

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """A new node before the one at hand; returns its output's name."""
        output = self.name(op_type)
        self.before.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def then(self, op_type: str, *inputs: str, output: str, **attributes: Any) -> None:
        """A new node after the one at hand."""
        self.after.append(helper.make_node(op_type, inputs, [output], name=self.name(op_type), **attributes))

    def name(self, op_type: str) -> str:
        """A name that nothing has."""
        return f"opset{OPSET}_{op_type}_{next(self._facts.numbers)}"


class CannotSayError(Exception):
    """A node whose old form has no new one, or whose new form only a run could decide. The node stays as it was."""


OPSET = 21  # the newest that ONNX Runtime's CUDA kernels cover; PyTorch's exporter of today writes 20
