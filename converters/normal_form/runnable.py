"""Bring the file's model into a form that every library reads and runs.

Sparse constants become dense ones; node names that stand twice are dropped; BatchNorms and Dropouts that were left in
training mode are switched to inference, which does change what is computed and is said. Knows ONNX's protobuf alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from filterscope.converters.errors import ModelError
from filterscope.converters.onnx_file.model_file import ModelFile

Nodes = onnx.GraphProto | onnx.FunctionProto


def make_runnable(file: ModelFile) -> ModelFile:
    """The file with sparse constants made dense, repeated node names dropped and training mode switched off.

    Raises:
        ModelError: a sparse constant is not what it should be, or a statistic of training is read.
    """
    if not _is_strange(file.proto):
        return file
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    try:
        _write_densely(proto)
        switched = _switch_to_inference(proto)
    except (ModelError, ValueError, IndexError) as error:
        raise ModelError(f"{file.path}: {error}") from error
    _drop_repeated_names(proto)
    notes = [f"{count} {op} nodes left in training mode are evaluated as in inference." for op, count in switched]
    return replace(file, proto=proto, notes=(*file.notes, *notes))


def _is_strange(proto: onnx.ModelProto) -> bool:
    """Whether there may be something to do: the copy that this takes holds all weights."""
    names = [node.name for node in proto.graph.node if node.name]
    if len(set(names)) < len(names):
        return True
    graphs = list(_graphs(proto))
    sparse = any(len(getattr(graph, "sparse_initializer", ())) for graph in graphs)
    return sparse or any(_is_odd(node) for graph in graphs for node in graph.node)


def _is_odd(node: onnx.NodeProto) -> bool:
    if node.op_type == "BatchNormalization":
        return _trains(node)
    if node.op_type == "Dropout":
        return len(node.input) > 2
    return any(attribute.type == onnx.AttributeProto.SPARSE_TENSOR for attribute in node.attribute)


def _write_densely(proto: onnx.ModelProto) -> None:
    for graph in _graphs(proto):
        if isinstance(graph, onnx.GraphProto):
            for sparse in graph.sparse_initializer:
                graph.initializer.append(numpy_helper.from_array(_dense(sparse), sparse.values.name))
            del graph.sparse_initializer[:]
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                    array = _dense(attribute.sparse_tensor)
                    attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(array)))


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """Indices are (n,), counted through the whole array, or (n, rank)."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def _switch_to_inference(proto: onnx.ModelProto) -> list[tuple[str, int]]:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if _is_flag(tensor)}
    for node in proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value" and _is_flag(attribute.t):
                constants[node.output[0]] = numpy_helper.to_array(attribute.t)
    switched: Counter[str] = Counter()
    for graph in _graphs(proto):
        read = {name for node in graph.node for name in node.input} | {_name(value) for value in graph.output}
        for node in graph.node:
            if node.op_type == "BatchNormalization" and _trains(node):
                statistics = read.intersection(node.output[1:])
                if statistics:
                    raise ModelError(
                        f"{node.name or node.output[0]}: its statistic {min(statistics)!r} is read as in training; "
                        "export the network in inference mode"
                    )
                del node.output[1:]
                remaining = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
                del node.attribute[:]
                node.attribute.extend(remaining)
                switched["BatchNormalization"] += 1
            elif node.op_type == "Dropout" and len(node.input) > 2 and constants.get(node.input[2], np.False_).any():
                node.input[2] = ""
                switched["Dropout"] += 1
    return sorted(switched.items())


def _trains(norm: onnx.NodeProto) -> bool:
    """By its attribute since opset 14; by its further outputs before."""
    modes = [attribute.i for attribute in norm.attribute if attribute.name == "training_mode"]
    return bool(modes and modes[0]) or any(norm.output[1:])


def _is_flag(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_type == onnx.TensorProto.BOOL)


def _name(value: onnx.ValueInfoProto | str) -> str:
    """Of an output: a function lists names alone."""
    return value if isinstance(value, str) else str(value.name)


def _drop_repeated_names(proto: onnx.ModelProto) -> None:
    """ONNX Runtime refuses a name that two nodes have."""
    counts = Counter(node.name for node in proto.graph.node)
    for node in proto.graph.node:
        if counts[node.name] > 1:
            node.ClearField("name")


def _graphs(proto: onnx.ModelProto) -> Iterator[Nodes]:
    """The graph, the functions, and all graphs inside them."""
    waiting: list[Nodes] = [proto.graph, *proto.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting.extend(attribute.g for attribute in node.attribute if attribute.HasField("g"))
