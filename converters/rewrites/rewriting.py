"""Apply a table of rewriting rules, node by node.

A rule writes the nodes that stand for one node; their last result has the name of the result that they replace, so
that it can still be found in the original file. Knows ONNX's protobuf; what the rules say is their own business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Body = onnx.GraphProto | onnx.FunctionProto  # what holds nodes


class Writer:
    """Writes the nodes that stand for one node."""

    def __init__(self, node: onnx.NodeProto, page: Page) -> None:
        self.node = node
        self.output = node.output[0]
        self.attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.nodes: list[onnx.NodeProto] = []
        self._page = page

    def input(self, index: int) -> str:
        """Name of an input; "" where it is absent."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def add(self, op: str, inputs: Iterable[str], output: str = "", name: str = "", **attributes: Any) -> str:
        """Write a node of the standard operators and return the name of its result."""
        output = output or self._page.fresh(f"{self.output}::{op}")
        names = list(inputs)
        while names and not names[-1]:
            names.pop()
        self.nodes.append(helper.make_node(op, names, [output], name=name or output, **attributes))
        return output

    def constant(self, array: np.ndarray | np.generic) -> str:
        """Write a constant and return its name."""
        name = self._page.fresh(f"{self.output}::constant")
        return self.add("Constant", [], name, value=numpy_helper.from_array(np.asarray(array), name))

    def fresh(self, name: str) -> str:
        """This name, or one like it that nothing in the graph has."""
        return self._page.fresh(name)

    def once(self, key: tuple[str, ...], write: Callable[[], str]) -> str:
        """The value that was written under this key earlier in the same graph, or else what `write` writes now."""
        return self._page.once(key, write)

    def like_the_node(self, *but: str) -> dict[str, Any]:
        """The node's own attributes, but for these."""
        return {name: value for name, value in self.attributes.items() if name not in but}


Rule = Callable[[Writer], None]


class Page:
    """One list of nodes being rewritten."""

    def __init__(self, body: Body) -> None:
        self.names = {name for node in body.node for name in (*node.input, *node.output)}
        self.names.update(tensor.name for tensor in getattr(body, "initializer", ()))
        self._written: dict[tuple[str, ...], str] = {}

    def fresh(self, name: str) -> str:
        """This name, or one like it that nothing in the graph has; it counts as one of the graph's from then on."""
        unique, index = name, 1
        while unique in self.names:
            unique, index = f"{name}_{index}", index + 1
        self.names.add(unique)
        return unique

    def once(self, key: tuple[str, ...], write: Callable[[], str]) -> str:
        """See Writer.once."""
        if key not in self._written:
            self._written[key] = write()
        return self._written[key]


def rewrite(model: onnx.ModelProto, rules: Mapping[tuple[str, str], Rule]) -> Counter[str]:
    """Replace, in place, each node that has a rule, in functions and inner graphs too.

    Args:
        rules: by domain and operator.

    Returns:
        How many nodes of which operator were replaced.
    """
    done: Counter[str] = Counter()
    for body in bodies(model):
        page = Page(body)
        nodes: list[onnx.NodeProto] = []
        for node in body.node:
            rule = rules.get((domain_of(node), node.op_type))
            if rule is None:
                nodes.append(node)
                continue
            writer = Writer(node, page)
            rule(writer)
            nodes += writer.nodes
            done[node.op_type] += 1
        if done:
            replace_nodes(body, nodes)
    return done


def replace_nodes(body: Body, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give a graph or function these nodes, old ones among them."""
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del body.node[:]
    body.node.extend(copies)


def bodies(model: onnx.ModelProto) -> list[Body]:
    """The graph, the functions, and the graphs inside nodes."""
    every_body: list[Body] = []
    waiting: list[Body] = [model.graph, *model.functions]
    while waiting:
        body = waiting.pop()
        every_body.append(body)
        for node in body.node:
            for attribute in node.attribute:
                waiting.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)
    return every_body


def domain_of(node: onnx.NodeProto) -> str:
    """The node's domain; the standard one is ""."""
    return "" if node.domain == "ai.onnx" else str(node.domain)


def listed(counts: Mapping[str, int]) -> str:
    """Operators with their numbers, in words."""
    return ", ".join(f"{number} {op}" for op, number in sorted(counts.items()))
