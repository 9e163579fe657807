"""The canonical model: any ONNX file in one normal form.

One opset, no functions, constants folded, a bias or BatchNorm that follows a convolution folded into it where that is
exact, the batch dimension free, every node and every shape named (`passes.PASSES` lists how, in order). Knows ONNX;
knows nothing of torch or pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from filterscope.converters.errors import LimitError, ModelError, UnsupportedOperatorError
from filterscope.converters.graph import Graph, Node, Shape
from filterscope.converters.normal_form import cut_head, extra_inputs, views
from filterscope.converters.normal_form.passes import Draft, run_passes
from filterscope.converters.normal_form.runnable import make_runnable
from filterscope.converters.normal_form.shapes import add_shapes, shapes_for
from filterscope.converters.normal_form.views import View
from filterscope.converters.onnx_file import limits
from filterscope.converters.onnx_file.model_file import ModelFile
from filterscope.converters.operator_facts import FILE_CONVOLUTIONS
from filterscope.converters.rewrites.float32 import Float32Form
from filterscope.converters.rewrites.opset_upgrade import opset_of
from filterscope.converters.runtime import measured_shapes, shortened


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The model before it was brought into normal form, to prove that both compute the same."""

    original: onnx.ModelProto  # as it stood in the file
    float32_form: Float32Form  # the same in float32 and standard operators


@dataclass(frozen=True, eq=False)
class CanonicalModel:
    """A network in normal form, and what was done to bring it there."""

    path: Path
    sha256: str
    proto: onnx.ModelProto = field(repr=False)  # normal form
    notes: tuple[str, ...]  # what was changed, a sentence each
    converted: bool  # whether the original is our export of another framework's model
    layer_names: Mapping[str, str]  # node name → the name its user knows, for each convolution
    module_outputs: Mapping[str, tuple[str, ...]]  # path of a user's module → the values that it gives, in graph order
    normalised: frozenset[str]  # nodes into which a BatchNorm was folded
    opset: int  # of the file
    producer: str  # what wrote the file, as the file says
    metadata: Mapping[str, str]  # the file's own key and value pairs
    batch: int | None = None  # how many pictures it takes, where that was left as the file has it; None: any number
    external: tuple[str, ...] = ()  # files beside it that hold its tensors, from its folder
    evidence: Evidence | None = field(default=None, repr=False)  # None: the model was opened in another process
    export: bytes | None = field(default=None, repr=False)  # then, where it was converted, the original's bytes
    _shapes: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = field(default_factory=dict, init=False, repr=False)

    @property
    def original(self) -> onnx.ModelProto:
        """The model as it stood in the file."""
        return self._evidence().original

    @property
    def float32_form(self) -> Float32Form:
        """The original in float32 and standard operators."""
        return self._evidence().float32_form

    def _evidence(self) -> Evidence:
        if self.evidence is None:
            raise RuntimeError(f"{self.path}: was opened in another process, and its original is there")
        return self.evidence

    def exported(self) -> bytes:
        """The original as the bytes of an ONNX file, where it was converted."""
        if self.export is not None:
            return self.export
        content: bytes = self.original.SerializeToString(deterministic=True)
        return content

    @property
    def input(self) -> str:
        """Name of the value that takes the image."""
        name: str = self.proto.graph.input[0].name
        return name

    @property
    def input_shape(self) -> Shape:
        """Declared shape of the input; its first dimension is free, or 1."""
        return _shape(self.proto.graph.input[0])

    @cached_property
    def graph(self) -> Graph:
        """The normal form as plain data."""
        return graph_of(self.proto)

    def without_head(self) -> CanonicalModel:
        """The network up to its last convolutions; itself where nothing follows them."""
        part = cut_head.to_convolutions(self.proto)
        if part is None:
            return self
        add_shapes(part)
        return replace(self, proto=part)

    def with_views(self, of: Mapping[str, View]) -> CanonicalModel:
        """The model with maps of some values, each under the value's name and the view's suffix."""
        if not of:
            return self
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        views.add_views(proto, of)
        add_shapes(proto)
        return replace(self, proto=proto)

    def check_values(self, shape: tuple[int, int, int, int]) -> None:
        """Judge the values of the network for an input of this shape, before it is run.

        Raises:
            ModelError: one of them would fill the memory.
        """
        limits.check_values(shapes_for(self.proto, shape))

    def shapes_at(self, shape: tuple[int, int, int, int]) -> dict[str, tuple[int, ...]]:
        """Concrete shape of every value for an input of this shape: as a run has them.

        What does not run is inferred, where it stands behind the last convolutions.

        Raises:
            ModelError: the model does not run at this size.
        """
        if shape not in self._shapes:
            self.check_values(shape)
            constants = {name: array.shape for name, array in self.graph.initializers.items()}
            self._shapes[shape] = constants | self._measured(shape)
        return self._shapes[shape]

    def _measured(self, shape: tuple[int, int, int, int]) -> dict[str, tuple[int, ...]]:
        try:
            return measured_shapes(self.proto, shape)
        except ModelError:
            part = cut_head.to_convolutions(self.proto)
            if part is None:
                raise
            values = {value.name: _shape(value) for value in shapes_for(self.proto, shape) if _has_shape(value)}
            inferred = {
                name: tuple(extent for extent in extents if isinstance(extent, int))
                for name, extents in values.items()
                if all(isinstance(extent, int) for extent in extents)
            }
            if any(name not in inferred for node in self.graph.nodes for name in node.outputs if name):
                raise
            return inferred | measured_shapes(part, shape)


def canonicalize(
    file: ModelFile,
    image: str | None = None,
    feeds: Mapping[str, np.ndarray] | None = None,
    batch: int | None = None,
) -> CanonicalModel:
    """Bring a model into normal form.

    Args:
        file: the model.
        image: name of the input that takes the image, where there are several.
        feeds: what each other input gets, by name: with a batch dimension of 1 or with none.
        batch: how many pictures it is to take; None: any number.

    Raises:
        ModelError: no image input, no convolution, or an operator set that cannot be raised.
        SettingsError: `image` or `feeds` do not fit the inputs.
    """
    _check_kind(file)
    fed = extra_inputs.feed_inputs(file, image, feeds)
    file = make_runnable(fed.file)
    try:
        return _in_normal_form(file, fed.repeated, batch)
    except LimitError:  # ONNX Runtime would still be given the whole file
        raise
    except ModelError as error:
        part = cut_head.to_convolutions(file.proto)
        if part is None:
            raise
        try:
            model = _in_normal_form(replace(file, proto=part), fed.repeated, batch)
        except ModelError:
            raise error from None
        reason = _reason(error, file.path)
        note = f"What follows the last convolutions was cut off; with it, the network cannot be opened: {reason}."
        return replace(model, evidence=Evidence(file.proto, model.float32_form), notes=(*model.notes, note))


def fixed_batch(model: CanonicalModel) -> int | None:
    """The batch size that the file itself declares; None where it is free."""
    value = next(value for value in model.original.graph.input if value.name == model.input)
    dimensions = value.type.tensor_type.shape.dim
    size = int(dimensions[0].dim_value) if dimensions else 0
    return size if size > 0 else None


def _reason(error: ModelError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _in_normal_form(file: ModelFile, repeated: tuple[str, ...], batch: int | None) -> CanonicalModel:
    """Run the passes on the file's model.

    Raises:
        LimitError, UnsupportedOperatorError, ModelError: with the file's name before what a pass says.
    """
    draft = Draft(proto=file.proto, memory=file.memory, repeated=repeated, batch=batch)
    try:
        notes = run_passes(draft)
    except LimitError as error:
        raise LimitError(f"{file.path}: {error}") from error
    except UnsupportedOperatorError as error:
        raise UnsupportedOperatorError(f"{file.path}: {error}", error.convolutions) from error
    except (ModelError, ir.serde.SerdeError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"{file.path}: cannot be brought into normal form: {shortened(error)}") from error
    return CanonicalModel(
        path=file.path,
        sha256=file.sha256,
        proto=draft.proto,
        notes=(*file.notes, *notes),
        converted=file.converted,
        layer_names=draft.layer_names,
        module_outputs=draft.module_outputs,
        normalised=draft.normalised,
        opset=opset_of(file.proto),
        producer=f"{file.proto.producer_name} {file.proto.producer_version}".strip(),
        metadata={entry.key: entry.value for entry in file.proto.metadata_props},
        batch=batch,
        external=file.external,
        evidence=Evidence(file.proto, draft.float32_form),
    )


def _check_kind(file: ModelFile) -> None:
    graph = file.proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    if all(value.name in constants for value in graph.input):
        raise ModelError(f"{file.path}: has no input")
    operators = list(_operators([graph, *file.proto.functions]))
    if not any(op in FILE_CONVOLUTIONS for op in operators):
        counts = ", ".join(f"{count} {op}" for op, count in Counter(operators).most_common(8))
        raise ModelError(f"{file.path}: has no convolution layer; it holds {len(operators)} nodes: {counts}")


def _operators(graphs: Iterable[onnx.GraphProto | onnx.FunctionProto]) -> Iterator[str]:
    """Operators of all nodes, those inside branches and loops among them."""
    for graph in graphs:
        for node in graph.node:
            yield node.op_type
            yield from _operators(attribute.g for attribute in node.attribute if attribute.HasField("g"))


def graph_of(proto: onnx.ModelProto) -> Graph:
    """A model in normal form as plain data."""
    graph = proto.graph
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = [*graph.output, *graph.value_info, *graph.input]
    shapes = {value.name: _shape(value) for value in values if _has_shape(value)}
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


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    has_shape: bool = value.type.tensor_type.HasField("shape")
    return has_shape


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
