"""A network as plain data: nodes, values, constants.

What the analyzer reads of a model. Names, numbers and shapes only: it knows nothing of ONNX's protobuf, of torch or
of files, so that any floor may take it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from filterscope.converters.errors import ModelError

Shape = tuple[int | str | None, ...]  # int: known; str: a named free dimension; None: unknown


@dataclass(frozen=True, slots=True, eq=False)  # eq: arrays among the attributes compare element by element
class Node:
    """One operation: values in, values out."""

    name: str  # unique within the graph
    op: str  # "Conv", "Relu", …
    domain: str  # "" for the standard operators, otherwise such as "com.microsoft"
    inputs: tuple[str, ...]  # value names; "" where an optional input is absent
    outputs: tuple[str, ...]  # value names; "" where an optional output is not wanted
    attributes: Mapping[str, Any]  # ints, floats, str, lists of these, np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Nodes in an order in which they can run, and what is known of their values."""

    nodes: tuple[Node, ...]  # topological: a node stands after all that it reads
    inputs: tuple[str, ...]  # what the caller feeds; an initializer that a file also lists as input is not one
    outputs: tuple[str, ...]
    initializers: Mapping[str, np.ndarray]  # constants: weights, shapes, scales
    shapes: Mapping[str, Shape]  # inferred, of every value known
    dtypes: Mapping[str, str]  # as numpy names them: "float32", "int64"
    _producers: dict[str, Node] = field(init=False, repr=False)
    _consumers: dict[str, tuple[Node, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        producers = {value: node for node in self.nodes for value in node.outputs if value}
        consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                consumers.setdefault(value, []).append(node)
        object.__setattr__(self, "_producers", producers)
        object.__setattr__(self, "_consumers", {value: tuple(nodes) for value, nodes in consumers.items()})

    def producer(self, value: str) -> Node | None:
        """Node that writes `value`; None for a graph input, an initializer and the absent input ""."""
        return self._producers.get(value)

    def consumers(self, value: str) -> tuple[Node, ...]:
        """Nodes that read `value`, in graph order, each once however often it reads it."""
        return self._consumers.get(value, ()) if value else ()

    def ancestors(self, *values: str, through: Callable[[str], bool] = bool) -> set[str]:
        """Values that some values are computed from, these themselves, inputs and constants among them.

        Args:
            values: where to begin.
            through: whether a value counts; one that does not is left out, and what leads to it is not followed.
        """
        seen, pending = set[str](), list(values)
        while pending:
            value = pending.pop()
            if value and value not in seen and through(value):
                seen.add(value)
                node = self._producers.get(value)
                pending.extend(() if node is None else node.inputs)
        return seen

    def check(self) -> None:
        """Prove that the graph can be walked.

        Raises:
            ModelError: a node name is used twice, a value is written twice, a node reads what nothing before it
                gives, or a graph output that nothing gives.
        """
        names: set[str] = set()
        known = {*self.inputs, *self.initializers}
        for node in self.nodes:
            if node.name in names:
                raise ModelError(f"{node.name}: two nodes have this name; node names must be unique")
            names.add(node.name)
            for value in node.inputs:
                if value and value not in known:
                    raise ModelError(f"{node.name} ({node.op}): reads {value!r}, which no node before it writes")
            for value in node.outputs:
                if value and value in known:
                    raise ModelError(f"{node.name} ({node.op}): writes {value!r}, which exists already")
                known.add(value)
        for value in self.outputs:
            if value not in known:
                raise ModelError(f"graph output {value!r}: no node writes it")
