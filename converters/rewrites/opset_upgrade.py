"""Rewrite operators of any opset, 1 to the newest, as operators of opset 21.

A node is rewritten by itself, step by step through the versions at which its operator's meaning or form changed
(`opset_rules` has the steps), so that no node can keep another from being read. What came after opset 21 is said in
older words where only types were added, and otherwise written out by the function that ONNX defines it with. Knows
ONNX's operators and their versions; knows nothing of networks.

onnx.version_converter is not used: it gives up on a whole file for one node, and it is silently wrong on some (it puts
pixels elsewhere in a Resize of opset 10, and leaves the axes of a Softmax of opset 12 as they are).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import onnx
import onnx.inliner
from onnx import helper

from filterscope.converters.rewrites import opset_rules
from filterscope.converters.rewrites.opset_site import OPSET, CannotSayError, Site

WRITTEN_OUT = frozenset({"CenterCropPad"})  # rare, and as good as its definition in simpler operators
# Attributes of newer versions that say how 16-bit and 8-bit floats are rounded; the normal form has none of these.
_ROUNDING = frozenset({"precision", "round_mode", "stash_type"})


def opset_of(model: onnx.ModelProto | onnx.FunctionProto) -> int:
    """The version of the standard operators that a model is written in."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def to_opset(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Rewrite a network in the operators of opset 21.

    Args:
        model: of any opset; it is not changed. Functions of its own are written out first.

    Returns:
        The network, and notes, a sentence each. A node that has no form at opset 21 stands as it was, with a note.
    """
    version = opset_of(model)
    notes = []
    if model.functions and version != OPSET:
        notes.append(f"{len(model.functions)} functions were written out.")
        model = onnx.inliner.inline_local_functions(model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    work = _Work(model, version)
    work.rewrite(result.graph)
    other_domains = [entry for entry in result.opset_import if entry.domain not in ("", "ai.onnx")]
    del result.opset_import[:]
    result.opset_import.extend([helper.make_opsetid("", OPSET), *other_domains])
    result.ir_version = min(max(result.ir_version, 4), 10)  # from 4 on, an initializer need not be an input; 10: 2024
    if version != OPSET:
        notes.append(f"Operators were brought from opset {version} to opset {OPSET}.")
    return result, notes + work.notes


class _Work:
    """One model being rewritten; `source` is it as it was."""

    def __init__(self, source: onnx.ModelProto, version: int) -> None:
        self.source = source
        self.version = version
        self.notes: list[str] = []
        self.numbers = itertools.count()
        self.constants: dict[str, onnx.TensorProto] = {}

    def rewrite(self, graph: onnx.GraphProto) -> None:
        """Every node of a graph, and of the graphs inside its nodes."""
        self.constants |= {tensor.name: tensor for tensor in graph.initializer}
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    self.rewrite(inner)
            if node.domain == "ai.onnx":
                node.domain = ""
            if not node.domain:
                nodes.extend(self.rewritten(node, self.version))
            else:
                nodes.append(node)
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
        if len(nodes) == len(graph.node) and all(new is old for new, old in zip(nodes, graph.node, strict=True)):
            return
        del graph.node[:]
        graph.node.extend(nodes)

    def rewritten(self, node: onnx.NodeProto, version: int) -> Iterator[onnx.NodeProto]:
        """The nodes, in order, that say at opset 21 what `node` says at `version`."""
        if version < 6:
            opset_rules.take(node, "consumed_inputs", None)
        for since, rule in opset_rules.RULES.get(node.op_type, ()):
            if version < since:
                site = Site(self)
                try:
                    rule(node, site)
                except CannotSayError as error:
                    self.leave(node, version, f": {error}")
                    yield node
                    return
                yield from site.before
                for rewritten_node in (node, *site.after):
                    yield from self.rewritten(rewritten_node, since)
                return
        if node.op_type in WRITTEN_OUT or not _exists(node.op_type, OPSET):
            body = self.written_out(node, max(version, OPSET))
            if body is None:
                self.leave(node, version)
                yield node
                return
            for inner in body[0]:
                yield from self.rewritten(inner, body[1])
            return
        if version > OPSET:
            yield from self.lowered(node, version)
        else:
            yield node

    def lowered(self, node: onnx.NodeProto, version: int) -> Iterator[onnx.NodeProto]:
        """The nodes that say at opset 21 what an operator that is older than that says at a newer version."""
        since, rule = opset_rules.LOWER.get(node.op_type, (version + 1, opset_rules.drop()))
        site = Site(self)
        if version >= since:
            rule(node, site)
        old = onnx.defs.get_schema(node.op_type, OPSET)
        new = onnx.defs.get_schema(node.op_type, min(version, onnx.defs.onnx_opset_version()))
        for attribute in [attribute for attribute in node.attribute if attribute.name not in old.attributes]:
            default = new.attributes[attribute.name].default_value if attribute.name in new.attributes else None
            value = helper.get_attribute_value(attribute)
            if attribute.name not in _ROUNDING and (default is None or value != helper.get_attribute_value(default)):
                self.leave(node, version, f": {attribute.name} is {value}")
            else:
                node.attribute.remove(attribute)
        yield from (*site.before, node, *site.after)

    def leave(self, node: onnx.NodeProto, version: int, why: str = "") -> None:
        """Note that a node stands as it was. Whether that matters shows when it is run or imported."""
        name = node.name or node.output[0]
        self.notes.append(f"{name}: {node.op_type} of opset {version} has no form at opset {OPSET}{why}.")

    def written_out(self, node: onnx.NodeProto, version: int) -> tuple[list[onnx.NodeProto], int] | None:
        """The nodes, and their opset, of the function that ONNX defines an operator with; None where there is none."""
        defined = min(version, onnx.defs.onnx_opset_version())
        if not _exists(node.op_type, defined):
            return None
        schema: Any = onnx.defs.get_schema(node.op_type, defined)  # Any: its stub leaves functions out
        if schema.function_opset_versions:
            body = schema.get_function_with_opset_version(schema.function_opset_versions[0])
        elif schema.context_dependent_function_opset_versions:
            types = [self.types.get(name, onnx.TypeProto()).SerializeToString() for name in node.input]
            body = schema.get_context_dependent_function_with_opset_version(
                schema.context_dependent_function_opset_versions[0], node.SerializeToString(), types
            )
        else:
            return None
        function = onnx.FunctionProto.FromString(body) if body else onnx.FunctionProto()
        if not function.node:  # it depends on types that are not known
            return None
        nodes = _called(function, node, schema, f"{node.name or node.output[0]}_{next(self.numbers)}")
        return nodes, opset_of(function)

    @cached_property
    def types(self) -> Mapping[str, onnx.TypeProto]:
        """The types of all values that ONNX can infer, at the model's own opset."""
        values = _inferred(self.source).values()
        return {value.name: value.type for value in values}


def _inferred(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """All values of the main graph whose types are known, without the weights having to be copied for it."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = light.graph
    graph.name = "types"
    graph.node.extend(model.graph.node)
    graph.value_info.extend(model.graph.value_info)
    graph.output.extend(model.graph.output)
    constants = {tensor.name for tensor in model.graph.initializer}
    graph.input.extend(value for value in model.graph.input if value.name not in constants)
    for tensor in model.graph.initializer:
        if tensor.ByteSize() < 1 << 10:  # numbers, such as the target of a Reshape
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    with contextlib.suppress(onnx.shape_inference.InferenceError, RuntimeError):  # what it cannot tell stays unknown
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    values = [*light.graph.value_info, *light.graph.input, *light.graph.output]
    return {value.name: value for value in values}


def _called(
    function: onnx.FunctionProto, node: onnx.NodeProto, schema: onnx.defs.OpSchema, prefix: str
) -> list[onnx.NodeProto]:
    """A function's nodes with the arguments of one call in them."""
    passed = {attribute.name: attribute for attribute in node.attribute}
    defaults = {name: entry.default_value for name, entry in schema.attributes.items() if entry.default_value.name}
    names = dict(itertools.zip_longest(function.input, node.input[: len(function.input)], fillvalue=""))
    names |= {formal: actual for formal, actual in zip(function.output, node.output, strict=False) if actual}
    nodes = list(function.node)
    _rename(nodes, names, prefix)
    for inner in nodes:
        _put_in_attributes(inner, {**defaults, **passed})
    return nodes


def _rename(nodes: Iterable[onnx.NodeProto], names: dict[str, str], prefix: str) -> None:
    for index, inner in enumerate(nodes):
        inner.name = f"{prefix}_{inner.op_type}_{index}"
        for written in inner.output:
            names.setdefault(written, f"{prefix}_{written}" if written else "")
        inner.input[:] = [names.get(name, name) for name in inner.input]
        inner.output[:] = [names[name] for name in inner.output]
        for attribute in inner.attribute:
            for graph in (attribute.g, *attribute.graphs):
                own = {value.name: f"{prefix}_{value.name}" for value in graph.input}
                for value in graph.input:
                    value.name = own[value.name]
                inside = {**names, **own}
                _rename(graph.node, inside, f"{prefix}_{index}")
                for value in graph.output:
                    value.name = inside.get(value.name, value.name)


def _put_in_attributes(node: onnx.NodeProto, values: Mapping[str, onnx.AttributeProto]) -> None:
    """Attributes that refer to the call's get its values; those that the call leaves out go."""
    for attribute in list(node.attribute):
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                _put_in_attributes(inner, values)
        if not attribute.ref_attr_name:
            continue
        value = values.get(attribute.ref_attr_name)
        name = attribute.name
        if value is None:
            node.attribute.remove(attribute)
        else:
            attribute.CopyFrom(value)
            attribute.name = name


def _exists(op: str, version: int) -> bool:
    try:
        return not onnx.defs.get_schema(op, version).deprecated
    except onnx.defs.SchemaError:
        return False
