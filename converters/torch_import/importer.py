"""The torch twin: the canonical graph as a torch.fx module, to take gradients from.

onnx2torch builds the module; our own table of converters (`ops`) stands before its table: a node whose
operator is in ours is shown to the builder under the domain "filterscope", which only our converters serve.
Knows torch and ONNX; knows nothing of layers or pictures.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import torch
from torch import fx, nn

from filterscope.converters.errors import STILL_LISTED, UnsupportedOperatorError
from filterscope.converters.normal_form.canonical import CanonicalModel
from filterscope.converters.operator_facts import CONVOLUTIONS
from filterscope.converters.rewrites.opset_upgrade import opset_of
from filterscope.converters.runtime import extract, shortened
from filterscope.converters.torch_import import ops
from filterscope.converters.torch_import.onnx2torch_loader import load

DOMAIN = "filterscope"
MOST_OUTPUTS = 8  # that are tried one by one where the whole network cannot be imported: each costs an import


@dataclass(frozen=True, eq=False)
class TorchTwin:
    """The canonical network in torch: eval mode, weights frozen, every value of it within reach."""

    module: fx.GraphModule
    values: dict[str, fx.Node]  # value name → the fx node that computes it
    calls: dict[str, fx.Node]  # name of a canonical node → the fx node that calls its module

    def cut(self, outputs: Sequence[str]) -> fx.GraphModule:
        """The part of the network that leads to some values.

        Args:
            outputs: value names.

        Returns:
            Module that takes the network's input (model's own layout) and returns a tuple, a tensor a value. It
            shares its weights with the twin.

        Raises:
            UnsupportedOperatorError: a value that the twin does not reach.
        """
        graph = fx.Graph()
        copied: dict[fx.Node, fx.Node] = {}
        ends = [self.node_of(name) for name in outputs]
        needed = ancestors(ends)
        for node in self.module.graph.nodes:
            if node in needed or node.op == "placeholder":
                copied[node] = graph.node_copy(node, lambda old: copied[old])
        graph.output(tuple(copied[end] for end in ends))
        return fx.GraphModule(self.module, graph)

    def node_of(self, value: str) -> fx.Node:
        """The fx node that computes a value.

        Raises:
            UnsupportedOperatorError: the twin is of a part of the network in which the value does not stand.
        """
        if value not in self.values:
            raise UnsupportedOperatorError(
                f"{value}: torch does not compute it: an operator between it and an output of the network has no "
                f"converter; name a value at or before the last convolution"
            )
        return self.values[value]

    def runs(self, shape: Sequence[int]) -> bool:
        """Whether it runs on a black image of this shape."""
        try:
            with torch.no_grad():
                self.module(torch.zeros(tuple(shape)))
        except (RuntimeError, ValueError, IndexError, TypeError):
            return False
        return True

    def answer(self, node: str, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Compute one node's outputs from its inputs.

        Args:
            node: name of a canonical node.
            inputs: the node's inputs that are not constants, by value name.

        Returns:
            One array an output.
        """
        call = self.calls[node]
        tensors = {self.values[name]: torch.from_numpy(np.array(array)) for name, array in inputs.items()}

        def argument(source: fx.Node) -> torch.Tensor:
            if source.op == "get_attr":
                constant = _attribute(self.module, str(source.target))
                assert isinstance(constant, torch.Tensor)
                return constant
            return tensors[self._canonical(source)]

        arguments = fx.map_arg((call.args, call.kwargs), argument)
        with torch.no_grad():
            result = self.module.get_submodule(str(call.target))(*arguments[0], **arguments[1])
        answers = result if isinstance(result, (tuple, list)) else (result,)
        return tuple(torch.as_tensor(answer).numpy() for answer in answers)

    def _canonical(self, source: fx.Node) -> fx.Node:
        """The fx node in `values` for an argument; the builder makes item nodes of its own for each reader."""
        return source if source.op != "call_function" else self._items[source.args]

    @cached_property
    def _items(self) -> dict[tuple[object, ...], fx.Node]:
        """The outputs of nodes with several, by node and index."""
        return {node.args: node for node in self.values.values() if node.op == "call_function"}


def import_torch(model: CanonicalModel, outputs: Sequence[str] = ()) -> TorchTwin:
    """Import the canonical graph, or the part of it that leads to `outputs`, into torch.

    Raises:
        UnsupportedOperatorError: a node that has no converter, named with its operator and opset.
    """
    return import_graph(extract(model.proto, outputs) if outputs else model.proto)


def import_with(model: CanonicalModel, values: Sequence[str]) -> TorchTwin:
    """The whole network; otherwise the part that leads to some values and to those of its first outputs that can be
    imported.

    Raises:
        UnsupportedOperatorError: a node on the way to the values has no converter.
    """
    with contextlib.suppress(UnsupportedOperatorError):
        return import_torch(model)
    twin, ends = import_torch(model, values), list(values)
    for output in model.graph.outputs[:MOST_OUTPUTS]:
        with contextlib.suppress(UnsupportedOperatorError):
            twin = import_torch(model, [*ends, output])
            ends.append(output)
    return twin


def import_as_far_as_possible(model: CanonicalModel) -> TorchTwin | None:
    """The network, at least as far as its convolutions; None where these cannot be imported."""
    with contextlib.suppress(UnsupportedOperatorError):
        return import_with(model, [node.outputs[0] for node in model.graph.nodes if node.op in CONVOLUTIONS])
    return None


def import_graph(proto: onnx.ModelProto) -> TorchTwin:
    """Import a graph of opset 21 whose nodes all have names of their own.

    Raises:
        UnsupportedOperatorError: a node that has no converter, named with its operator and opset.
    """
    load()
    ops.register()
    view = _view(proto)
    with _quiet():
        try:
            module = _build(view)
        except Exception as error:  # a converter of onnx2torch's raises whatever it meets
            raise UnsupportedOperatorError(_blame(proto, view, error)) from error
    module.eval()
    module.requires_grad_(False)
    calls = {str(node.target).rpartition("/")[2]: node for node in module.graph.nodes if node.op == "call_module"}
    by_name = {node.name: calls[shown.name] for node, shown in zip(proto.graph.node, view.graph.node, strict=True)}
    return TorchTwin(module, _values(view, module, calls), by_name)


def _build(view: onnx.ModelProto) -> fx.GraphModule:
    """The builder's module. At each constant it counts all before it, by `sum`: here it counts on instead."""
    from onnx2torch import converter

    numbers = itertools.count()
    converter.sum = lambda _: next(numbers)
    try:
        module: fx.GraphModule = converter.convert(view)
        return module
    finally:
        del converter.sum


def _view(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as the builder is shown it: nodes n0, n1, …; operators of our table in our domain; of the outputs those
    that a node writes, since it knows no others."""
    view = onnx.ModelProto()
    view.CopyFrom(proto)
    written = {name for node in proto.graph.node for name in node.output}
    ends = [output for output in proto.graph.output if output.name in written]
    if ends:
        del view.graph.output[:]
        view.graph.output.extend(ends)
    ours = ops.table()
    for index, node in enumerate(view.graph.node):
        node.name = f"n{index}"
        if not node.domain and node.op_type in ours:
            node.domain = DOMAIN
        while not node.output[-1]:  # the builder takes an unwanted output's place for a second output
            node.output.pop()
    view.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return view


def _values(view: onnx.ModelProto, module: fx.GraphModule, calls: dict[str, fx.Node]) -> dict[str, fx.Node]:
    values: dict[str, fx.Node] = {}
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    values.update(zip((value.name for value in view.graph.input), placeholders, strict=True))
    for node in view.graph.node:
        call = calls[node.name]
        if len(node.output) == 1:
            values[node.output[0]] = call
            continue
        for index, name in enumerate(node.output):
            if name:
                with module.graph.inserting_after(call):
                    values[name] = module.graph.call_function(_item, (call, index))
    return values


def _item(values: Sequence[torch.Tensor], index: int) -> torch.Tensor:
    return values[index]


def _attribute(module: nn.Module, path: str) -> object:
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def ancestors(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """These nodes and all that they are made from."""
    seen: set[fx.Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(node.all_input_nodes)
    return seen


def _blame(proto: onnx.ModelProto, view: onnx.ModelProto, error: Exception) -> str:
    """An error that names the node, its operator and opset; the builder's own errors name the operator at best."""
    stopped = _stopped_at(error)
    node = next(
        (real for real, shown in zip(proto.graph.node, view.graph.node, strict=True) if shown.name == stopped), None
    )
    why = f"cannot be imported into torch: {shortened(error)}"
    if node is None:
        return why
    if isinstance(error, UnsupportedOperatorError):  # from our own table, which knows the node by the view's name
        why = str(error).partition(": ")[2]
    elif "Converter is not implemented" in str(error):
        why = "has no converter into torch"
    domain = f" of {node.domain}" if node.domain else ""
    version = next((entry.version for entry in proto.opset_import if node.domain and entry.domain == node.domain), None)
    operator = f"operator {node.op_type}{domain} ({f'version {version}' if version else f'opset {opset_of(proto)}'})"
    return f"{node.name}: {operator} {why}{STILL_LISTED}"


def _stopped_at(error: Exception) -> str | None:
    """The view's name of the node at which the builder was when it failed: its loop's own variable."""
    trace = error.__traceback__
    while trace is not None:
        node = trace.tb_frame.f_locals.get("onnx_node")
        if node is not None:
            return str(node.name)
        trace = trace.tb_next
    return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the builder's warnings about operators that our table replaces."""
    logging.getLogger("onnx2torch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
