"""Put a torch function in a node's place: what every converter needs.

A node's inputs are of three kinds: absent, numbers (axes, shapes, pads: Python values, bound at build time where the
graph holds them as constants), and tensors, which come at run time. `bind` sorts them out; the function sees them in
ONNX's own order. Knows nothing of single operators.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import nn

from filterscope.converters.errors import UnsupportedOperatorError
from filterscope.converters.torch_import.onnx2torch_loader import load

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

    Converter = Callable[[OnnxNode, OnnxGraph], OperationConverterResult]


class Operation(nn.Module):
    """A function of a node's inputs, some of which are constants."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        count: int,
        constants: dict[int, Any],
        numbers: frozenset[int],
        options: dict[str, Any],
        typed: bool = False,
    ) -> None:
        """`count` inputs in all; `constants` by position; those at `numbers` become Python values at run time.

        A `typed` function is given `like`, an empty tensor of the type that float32 has in this module: after
        `.double()` it is float64.
        """
        super().__init__()
        if typed:
            self.register_buffer("like", torch.empty(0), persistent=False)
        self.function = function
        self.count = count
        self.constants = constants
        self.numbers = numbers
        self.options = options
        self.typed = typed

    def forward(self, *values: torch.Tensor) -> Any:
        """`values`: the inputs that are no constants, in the node's order."""
        arriving = iter(values)
        arguments = []
        for position in range(self.count):
            if position in self.constants:
                arguments.append(self.constants[position])
            elif position in self.numbers:
                arguments.append(next(arriving).tolist())
            else:
                arguments.append(next(arriving))
        if self.typed:
            return self.function(*arguments, like=self.like, **self.options)
        return self.function(*arguments, **self.options)

    def extra_repr(self) -> str:
        return ", ".join([self.function.__name__, *(f"{name}={value}" for name, value in self.options.items())])


def bind(
    node: "OnnxNode",
    graph: "OnnxGraph",
    function: Callable[..., Any],
    *,
    numbers: Collection[int] = (),
    typed: bool = False,
    **options: Any,
) -> "OperationConverterResult":
    """The node as `function(*inputs, **options)`; absent inputs are None, those at `numbers` plain Python values."""
    constants: dict[int, Any] = {}
    arriving = []
    for position, name in enumerate(node.input_values):
        if not name:
            constants[position] = None
        elif position in numbers and name in graph.initializers:
            constants[position] = graph.initializers[name].to_torch().tolist()
        else:
            arriving.append(name)
    module = Operation(
        function,
        count=len(node.input_values),
        constants=constants,
        numbers=frozenset(numbers),
        options=options,
        typed=typed,
    )
    return result(node, module, arriving)


def result(node: "OnnxNode", module: nn.Module, inputs: Collection[str]) -> "OperationConverterResult":
    """What onnx2torch's builder takes: the module, and which values it reads and writes."""
    load()
    from onnx2torch.utils.common import OnnxMapping, OperationConverterResult

    return OperationConverterResult(module, OnnxMapping(inputs=tuple(inputs), outputs=tuple(node.output_values)))


def attributes(node: "OnnxNode") -> dict[str, Any]:
    """The node's attributes; onnx2torch hands an empty list on as its protobuf message, which is mended here."""
    return {name: [] if type(value).__name__ == "AttributeProto" else value for name, value in node.attributes.items()}


def constant(node: "OnnxNode", graph: "OnnxGraph", position: int) -> torch.Tensor | None:
    """The input at `position` where the graph holds it as a constant; None where it is absent or computed."""
    if not present(node, position) or node.input_values[position] not in graph.initializers:
        return None
    tensor: torch.Tensor = graph.initializers[node.input_values[position]].to_torch()
    return tensor


def present(node: "OnnxNode", position: int) -> bool:
    """Whether the node has an input at `position`."""
    return position < len(node.input_values) and bool(node.input_values[position])


def single_output(node: "OnnxNode") -> None:
    """Refuse a node of which more than the first output is asked for."""
    if any(node.output_values[1:]):
        refuse(node, f"only its first output can be imported, and the graph reads {node.output_values[1]!r}")


def refuse(node: "OnnxNode", why: str) -> NoReturn:
    raise UnsupportedOperatorError(f"{node.name or node.output_values[0]} ({node.operation_type}): {why}")
