"""The canonical model: any ONNX file in one normal form.

One opset, no functions, constants folded, a bias or BatchNorm that follows a convolution folded into it where that is
exact, the batch dimension free, every node and every shape named. Knows ONNX; knows nothing of torch or pictures.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnx import numpy_helper

from converters import folding
from converters.batch import constant, free_batch
from converters.errors import ModelError
from converters.files import ModelFile
from converters.graph import Graph, Node, Shape
from converters.runtime import shortened

OPSET = 21  # the newest that ONNX Runtime's CUDA kernels cover; PyTorch's exporter of today writes 20
BATCH = "N"  # the name of the free batch dimension
FOLD_LIMIT = 1 << 26  # elements of a constant that may be folded: a kernel behind a Transpose is large
CONVOLUTIONS = ("Conv", "ConvTranspose")
QUANTISED = ("QLinearConv", "ConvInteger")


@dataclass(frozen=True, eq=False)
class CanonicalModel:
    """A network in normal form, and what was done to bring it there."""

    path: Path
    sha256: str
    original: onnx.ModelProto = field(repr=False)  # as it stood in the file
    proto: onnx.ModelProto = field(repr=False)  # normal form
    notes: tuple[str, ...]  # what was changed, a sentence each
    converted: bool  # whether `original` is our export of another framework's model
    layer_names: Mapping[str, str]  # node name → the name its user knows, for each convolution
    normalised: frozenset[str]  # nodes into which a BatchNorm was folded

    @property
    def input(self) -> str:
        """Name of the value that takes the image."""
        name: str = self.proto.graph.input[0].name
        return name

    @property
    def input_shape(self) -> Shape:
        """Declared shape of the input; its first dimension is free."""
        return _shape(self.proto.graph.input[0])

    @property
    def opset(self) -> int:
        """Opset of the file."""
        return _opset(self.original)

    @property
    def producer(self) -> str:
        """What wrote the file, as the file says."""
        return f"{self.original.producer_name} {self.original.producer_version}".strip()

    @property
    def metadata(self) -> dict[str, str]:
        """The file's own key and value pairs."""
        return {entry.key: entry.value for entry in self.original.metadata_props}

    @cached_property
    def graph(self) -> Graph:
        """The normal form as plain data."""
        return graph_of(self.proto)

    def shapes_at(self, shape: tuple[int, int, int, int]) -> dict[str, tuple[int, ...]]:
        """Concrete shape of every value for an input of this shape: inferred, and measured where that fails.

        Raises:
            ModelError: the model does not run at this size.
        """
        from converters.runtime import Session

        inferred = graph_of(onnx.shape_inference.infer_shapes(resized(self.proto, shape), data_prop=True))
        known = {name: extents for name, extents in inferred.shapes.items() if all(isinstance(e, int) for e in extents)}
        missing = [name for node in inferred.nodes for name in node.outputs if name and name not in known]
        if missing:
            values = Session(self.proto, missing).run(np.zeros(shape, np.float32))
            known |= {name: value.shape for name, value in values.items()}
        return {name: tuple(int(e) for e in extents if e is not None) for name, extents in known.items()}


def canonicalize(file: ModelFile) -> CanonicalModel:
    """Bring a model into normal form.

    Raises:
        ModelError: no image input, no convolution, or an operator set that cannot be raised.
    """
    _check_kind(file)
    notes = list(file.notes)
    raised = _raise_opset(file, notes)
    try:
        model = ir.from_proto(raised)
        for step in STEPS:
            notes.extend(step(model))
        names = layer_names(model)  # before folding: a folded convolution's output carries its follower's name
        folded, normalised = folding.fold_into_convolutions(model)
        notes.extend(folded)
        proto = ir.to_proto(model)
        del proto.graph.value_info[:]
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (ModelError, ir.serde.SerdeError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"{file.path}: cannot be brought into normal form: {shortened(error)}") from error
    return CanonicalModel(file.path, file.sha256, file.proto, proto, tuple(notes), file.converted, names, normalised)


def _check_kind(file: ModelFile) -> None:
    graph = file.proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if not inputs:
        raise ModelError(f"{file.path}: has no input")
    if len(inputs) > 1:
        listed = ", ".join(value.name for value in inputs)
        raise ModelError(f"{file.path}: has several inputs ({listed}); networks with one image input are analysed")
    operators = [node.op_type for node in graph.node]
    operators += [node.op_type for function in file.proto.functions for node in function.node]
    if not any(op in CONVOLUTIONS for op in operators):
        quantised = sorted({op for op in operators if op in QUANTISED})
        if quantised:
            raise ModelError(
                f"{file.path}: its convolutions are 8-bit ({', '.join(quantised)}), which cannot be analysed yet; "
                "give the float32 model"
            )
        kinds = ", ".join(sorted(set(operators))[:8])
        raise ModelError(f"{file.path}: has no convolution layer; it holds {len(operators)} nodes: {kinds}")
    kind = inputs[0].type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        name = onnx.TensorProto.DataType.Name(kind).lower()
        raise ModelError(f"{file.path}: its input is {name}, which cannot be analysed yet; give the float32 model")


def _raise_opset(file: ModelFile, notes: list[str]) -> onnx.ModelProto:
    plain = onnx.ModelProto()
    plain.CopyFrom(file.proto)
    constants = {tensor.name for tensor in plain.graph.initializer}
    inputs = [value for value in plain.graph.input if value.name not in constants]
    del plain.graph.input[:]
    plain.graph.input.extend(inputs)
    plain.ir_version = max(plain.ir_version, 4)  # before 4, every initializer had to be an input too
    del plain.graph.value_info[:]  # what a file says of inner shapes may hold its own batch size
    opset = _opset(plain)
    if opset == OPSET:
        return plain
    try:
        raised = onnx.version_converter.convert_version(plain, OPSET)
    except Exception as error:  # the converter raises bare RuntimeErrors and its own kinds
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"{file.path}: opset {opset} cannot be brought to opset {OPSET}: {first[:200]}") from error
    if opset < 11:
        _place_pixels_as_before(raised)
    notes.append(f"Operators were brought from opset {opset} to opset {OPSET}.")
    return raised


def _place_pixels_as_before(raised: onnx.ModelProto) -> None:
    """Opset 11 made Resize's placing of pixels a choice; the converter leaves its default, not the old way."""
    for node in raised.graph.node:
        if node.op_type == "Resize":
            node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(onnx.helper.make_attribute("nearest_mode", "floor"))


def _opset(proto: onnx.ModelProto) -> int:
    return max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def _inline(model: ir.Model) -> list[str]:
    functions = len(model.functions)
    passes.InlinePass()(model)
    passes.RemoveInitializersFromInputsPass()(model)
    return [f"{functions} functions were written out."] if functions else []


def _fold_constants(model: ir.Model) -> list[str]:
    from onnxscript import optimizer

    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it reports each node that it leaves alone
    lift = passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    before = model.graph.num_nodes()
    lift(model)
    try:
        optimizer.fold_constants_ir(
            model,
            onnx_shape_inference=True,
            input_size_limit=FOLD_LIMIT,
            output_size_limit=FOLD_LIMIT,
            should_fold=_may_fold,
        )
    except Exception as error:  # it evaluates whatever the file says, and raises whatever comes of that
        raise ModelError(f"its constants cannot be worked out ({shortened(error)})") from error
    lift(model)
    passes.IdentityEliminationPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    after = model.graph.num_nodes()
    return [f"{before - after} nodes that compute constants were folded."] if after < before else []


def _may_fold(node: ir.Node) -> bool | None:
    """Whether a node of constants is folded; None leaves it to the optimiser, which looks at a result's size too late.

    It would keep ConstantOfShape, which stands before many an Expand, and DequantizeLinear, which hides a kernel.
    """
    if node.op_type == "ConstantOfShape":
        extents = constant(node.inputs[0])
        return extents is not None and math.prod(int(extent) for extent in extents) <= FOLD_LIMIT
    shape = node.outputs[0].shape
    if shape is not None and math.prod(extent for extent in shape if isinstance(extent, int)) > FOLD_LIMIT:
        return False
    return True if node.op_type == "DequantizeLinear" else None


def _free_batch(model: ir.Model) -> list[str]:
    return free_batch(model, BATCH)


def _name_nodes(model: ir.Model) -> list[str]:
    """Give each node a name of its own: exporters leave them empty or use one twice."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph):
        wanted = node.name or f"{node.op_type}_{index}"
        node.name = wanted if wanted not in taken else f"{wanted}_{index}"
        taken.add(node.name)
    return []


def _sort(model: ir.Model) -> list[str]:
    model.graph.sort()
    return []


STEPS: tuple[Callable[[ir.Model], list[str]], ...] = (  # in this order; each returns its notes
    _inline,
    _fold_constants,
    _free_batch,
    _fold_constants,
    _sort,
    _name_nodes,
)


def resized(proto: onnx.ModelProto, shape: tuple[int, int, int, int]) -> onnx.ModelProto:
    """The model with its input declared to have this shape, and nothing said of inner values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.value_info[:]
    value = copy.graph.input[0]
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    return copy


def graph_of(proto: onnx.ModelProto) -> Graph:
    """A model in normal form as plain data."""
    graph = proto.graph
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = [*graph.input, *graph.output, *graph.value_info]
    shapes = {value.name: _shape(value) for value in values if value.type.tensor_type.HasField("shape")}
    dtypes = {value.name: _dtype(value) for value in values if value.type.tensor_type.elem_type}
    for name, array in initializers.items():
        shapes[name] = array.shape
        dtypes[name] = str(array.dtype)
    nodes = tuple(
        Node(
            name=node.name,
            op=node.op_type,
            domain=node.domain,
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            attributes={attribute.name: _attribute(attribute) for attribute in node.attribute},
        )
        for node in graph.node
    )
    result = Graph(
        nodes=nodes,
        inputs=tuple(value.name for value in graph.input if value.name not in initializers),
        outputs=tuple(value.name for value in graph.output),
        initializers=initializers,
        shapes=shapes,
        dtypes=dtypes,
    )
    result.check()
    return result


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value


def _shape(value: onnx.ValueInfoProto) -> Shape:
    dimensions: list[int | str | None] = []
    for dimension in value.type.tensor_type.shape.dim:
        if dimension.HasField("dim_value") and dimension.dim_value > 0:
            dimensions.append(dimension.dim_value)
        else:  # PaddlePaddle writes −1 or an empty name for "any"
            dimensions.append(dimension.dim_param or None)
    return tuple(dimensions)


def _dtype(value: onnx.ValueInfoProto) -> str:
    try:
        return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)))
    except (KeyError, TypeError):
        return "unknown"


def layer_names(model: ir.Model) -> dict[str, str]:
    """The name that each convolution has for its user, by node name.

    The module path is looked for in the kernel's name (PyTorch: "layer1.0.conv1.weight"), then in the node's, then in
    the output's (PaddlePaddle: "conv2d_53.tmp_0"). A name that two layers would share gets the node's beside it.
    """
    convolutions = [node for node in model.graph if node.op_type in CONVOLUTIONS and not node.domain]
    names = {
        str(node.name): _user_name(str(node.inputs[1].name), str(node.name), str(node.outputs[0].name))
        for node in convolutions
        if node.inputs[1] is not None
    }
    counts = Counter(names.values())
    return {node: name if counts[name] == 1 else f"{name} ({node})" for node, name in names.items()}


def _user_name(kernel: str, node: str, output: str) -> str:
    module = re.fullmatch(r"(.+?)[./](weight|kernel)(:0)?", kernel)
    if module and not module[1].startswith("onnx::"):
        return module[1]
    path = re.fullmatch(r"(/?)(.+?)/(Conv|ConvTranspose|Conv2D|convolution|BiasAdd)(_\d+)?", node)
    if path:
        return _module_path(path[2]) if path[1] else path[2]
    numbered = re.fullmatch(r"(p2o\.)?(Conv|ConvTranspose)[_.@]\d+", node)
    paddle = re.fullmatch(r"(.+)\.tmp_\d+", output)
    return paddle[1] if numbered and paddle else node


def _module_path(scopes: str) -> str:
    """PyTorch's scopes as its module path: "layer1/layer1.0/conv1", where a scope may repeat the one that holds it."""
    path: list[str] = []
    for scope in scopes.split("/"):
        if path and scope.startswith(f"{path[-1]}."):
            path.pop()
        path.append(scope)
    return ".".join(path)
