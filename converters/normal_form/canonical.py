"""The canonical model: any ONNX file in one normal form.

One opset, no functions, constants folded, a bias or BatchNorm that follows a convolution folded into it where that is
exact, the batch dimension free, every node and every shape named. Knows ONNX; knows nothing of torch or pictures.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnx import numpy_helper

from filterscope.converters import limits
from filterscope.converters.errors import LimitError, ModelError, UnsupportedOperatorError
from filterscope.converters.graph import Graph, Node, Shape
from filterscope.converters.normal_form import cut_head, extra_inputs, fold_affine
from filterscope.converters.normal_form.aliases import drop_aliases, hidden, settle_sizes
from filterscope.converters.normal_form.fold_constants import fold_several_outputs
from filterscope.converters.normal_form.fold_limits import FoldLimits, check_divisions, result_size, stored_bytes
from filterscope.converters.normal_form.fold_shapes import fold_extents, spell_reshapes
from filterscope.converters.normal_form.free_batch import fix_batch, free_batch
from filterscope.converters.normal_form.layer_names import layer_names
from filterscope.converters.normal_form.runnable import runnable
from filterscope.converters.normal_form.sequences import list_sequences
from filterscope.converters.normal_form.shapes import add_shapes, shapes_for
from filterscope.converters.normal_form.unroll_branches import write_out
from filterscope.converters.onnx_file import ModelFile
from filterscope.converters.operator_facts import CONTROL_FLOW, CONVOLUTIONS, FILE_CONVOLUTIONS
from filterscope.converters.rewrites.float32 import Plain, plain_form
from filterscope.converters.rewrites.opset_upgrade import opset_of, to_opset
from filterscope.converters.runtime import measured_shapes, shortened

BATCH = "N"  # the name of the free batch dimension
FOLD_LIMIT = 1 << 26  # elements of a constant that may be folded: a kernel behind a Transpose is large


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the normal form was made of, for the proof that both are one network."""

    original: onnx.ModelProto  # as it stood in the file
    plain: Plain  # the same said in float32 and standard operators, where that is not what it is


@dataclass(frozen=True, eq=False)
class CanonicalModel:
    """A network in normal form, and what was done to bring it there."""

    path: Path
    sha256: str
    proto: onnx.ModelProto = field(repr=False)  # normal form
    notes: tuple[str, ...]  # what was changed, a sentence each
    converted: bool  # whether the original is our export of another framework's model
    layer_names: Mapping[str, str]  # node name → the name its user knows, for each convolution
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
    def plain(self) -> Plain:
        """The original said in float32 and standard operators."""
        return self._evidence().plain

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
            known = {
                name: tuple(extent for extent in extents if isinstance(extent, int))
                for name, extents in values.items()
                if all(isinstance(extent, int) for extent in extents)
            }
            if any(name not in known for node in self.graph.nodes for name in node.outputs if name):
                raise
            return known | measured_shapes(part, shape)


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
    fed = extra_inputs.feed(file, image, feeds)
    file = runnable(fed.file)
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
        note = f"What follows the last convolutions was cut off, since all of it {_reason(error, file.path)}."
        return replace(model, evidence=Evidence(file.proto, model.plain), notes=(*model.notes, note))


def fixed_batch(model: CanonicalModel) -> int | None:
    """The batch size that the file itself declares; None where it is free."""
    value = next(value for value in model.original.graph.input if value.name == model.input)
    dimensions = value.type.tensor_type.shape.dim
    size = int(dimensions[0].dim_value) if dimensions else 0
    return size if size > 0 else None


def _reason(error: ModelError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _in_normal_form(file: ModelFile, repeated: tuple[str, ...], batch: int | None) -> CanonicalModel:
    notes = list(file.notes)
    raised = _raise_opset(file, notes)
    try:
        plain = plain_form(raised)
        notes.extend(plain.notes)
        model = ir.from_proto(plain.proto)
        notes.extend(_inline(model))
        _name_nodes(model)  # before folding, which names them all "node"
        following = extra_inputs.settle(model, repeated)
        if batch is not None:
            fix_batch(model, batch)
        for step in STEPS:
            if batch is None or step is not _free_batch:
                notes.extend(step(model, file.memory))
        extra_inputs.spread(model, following)
        _sort(model)
        _name_nodes(model)
        names = layer_names(model)  # before folding: a folded convolution's output carries its follower's name
        folded, normalised = fold_affine.fold_into_convolutions(model)
        notes.extend(folded)
        rounded = sum(node.op_type == "QuantizeLinear" for node in model.graph)
        if rounded:
            notes.append(f"{rounded} values are rounded to 8 bits as in the file; gradients pass them unchanged.")
        _check_layers(model)
        proto = ir.to_proto(model)
        notes.extend(cut_head.cut_undecided(proto))
        add_shapes(proto)
        limits.check_values([*proto.graph.input, *proto.graph.value_info, *proto.graph.output])
    except LimitError as error:
        raise LimitError(f"{file.path}: {error}") from error
    except (ModelError, ir.serde.SerdeError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"{file.path}: cannot be brought into normal form: {shortened(error)}") from error
    return CanonicalModel(
        path=file.path,
        sha256=file.sha256,
        proto=proto,
        notes=tuple(notes),
        converted=file.converted,
        layer_names=names,
        normalised=normalised,
        opset=opset_of(file.proto),
        producer=f"{file.proto.producer_name} {file.proto.producer_version}".strip(),
        metadata={entry.key: entry.value for entry in file.proto.metadata_props},
        batch=batch,
        external=file.external,
        evidence=Evidence(file.proto, plain),
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


def _raise_opset(file: ModelFile, notes: list[str]) -> onnx.ModelProto:
    plain = onnx.ModelProto()
    plain.CopyFrom(file.proto)
    constants = {tensor.name for tensor in plain.graph.initializer}
    inputs = [value for value in plain.graph.input if value.name not in constants]
    del plain.graph.input[:]
    plain.graph.input.extend(inputs)
    plain.ir_version = max(plain.ir_version, 4)  # before 4, every initializer had to be an input too
    del plain.graph.value_info[:]  # what a file says of inner shapes may hold its own batch size
    try:
        notes.extend(cut_head.cut_unknown(plain))
        raised, done = to_opset(plain)
    except UnsupportedOperatorError as error:
        raise UnsupportedOperatorError(f"{file.path}: {error}", error.convolutions) from error
    except ModelError as error:
        raise ModelError(f"{file.path}: {error}") from error
    notes.extend(done)
    return raised


def _check_layers(model: ir.Model) -> None:
    """Convolutions inside a branch or a loop that the picture decides are no layers that each picture passes."""
    if any(node.op_type in CONVOLUTIONS and not node.domain for node in model.graph):
        return
    undecided = [f"{node.name} ({node.op_type})" for node in model.graph if node.op_type in CONTROL_FLOW]
    if undecided:
        raise ModelError(
            f"its convolutions stand inside {undecided[0]}, where the picture decides whether they run; export the "
            "network without that branch or loop"
        )
    raise ModelError("no convolution leads from its image to its outputs")


def _inline(model: ir.Model) -> list[str]:
    functions = len(model.functions)
    with _names_counted_on():
        passes.InlinePass()(model)
    passes.RemoveInitializersFromInputsPass()(model)
    return [f"{functions} functions were written out."] if functions else []


@contextlib.contextmanager
def _names_counted_on() -> Iterator[None]:
    """Let onnx-ir's inliner find a free name where it left off; it tries all numbers again at each call."""
    from onnx_ir.passes.common import inliner

    theirs = getattr(inliner, "_make_unique_name", None)
    if theirs is None:  # another version, which may count by itself
        yield
        return
    last: dict[tuple[int, str], int] = {}

    def unique(name: str, callstack: list[str], used_names: set[str]) -> str:
        key, candidate = (id(used_names), name), name
        number = last.get(key, 1)
        if number > 1:
            candidate = f"{name}_{number}"
        while candidate in used_names:
            number += 1
            candidate = f"{name}_{number}"
        last[key] = number
        used_names.add(candidate)
        return candidate

    inliner._make_unique_name = unique
    try:
        yield
    finally:
        inliner._make_unique_name = theirs


def _fold_constants(model: ir.Model, memory: int) -> list[str]:
    """Fold constants, and write out the branches and loops that they decide, until nothing is left of either."""
    sizes = FoldLimits(stored_bytes(model), memory)
    folded, branches, loops = _fold(model, sizes), 0, 0
    while any(found := (fold_extents(model) + list_sequences(model), *write_out(model), spell_reshapes(model))):
        branches, loops = branches + found[1], loops + found[2]
        folded += found[0] + _fold(model, sizes)
    check_divisions(model)
    notes = [f"{folded} nodes that compute constants were folded."] if folded else []
    if branches:
        notes.append(f"{branches} branches whose condition is constant were written out.")
    if loops:
        notes.append(f"{loops} loops whose trip count is constant were written out.")
    return notes


def _fold(model: ir.Model, sizes: FoldLimits) -> int:
    """Fold constants once; how many nodes that saves."""
    from onnxscript import optimizer

    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it reports each node that it leaves alone
    lift = passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    before = model.graph.num_nodes()
    is_new = True
    while is_new:
        lift(model)
        try:
            with hidden(model):
                optimizer.fold_constants_ir(
                    model,
                    onnx_shape_inference=True,
                    input_size_limit=FOLD_LIMIT,
                    output_size_limit=FOLD_LIMIT,
                    should_fold=lambda node: _may_fold(node, sizes),
                )
            is_new = fold_several_outputs(model, sizes) + settle_sizes(model) > 0
        except LimitError:
            raise
        except Exception as error:  # it evaluates whatever the file says, and raises whatever comes of that
            raise ModelError(f"its constants cannot be worked out ({shortened(error)})") from error
    lift(model)
    drop_aliases(model)
    passes.RemoveUnusedNodesPass()(model)
    return max(0, before - model.graph.num_nodes())


def _may_fold(node: ir.Node, sizes: FoldLimits) -> bool | None:
    """Whether a node of constants is folded; None leaves it to the optimiser, which looks at a result's size too late.

    It would keep ConstantOfShape, which stands before many an Expand, and DequantizeLinear, which hides a kernel.

    Raises:
        ModelError: evaluating it, here or later in ONNX Runtime, would fill the memory or end the process.
    """
    sizes.check(node)
    elements = result_size(node)
    if elements is not None and elements > FOLD_LIMIT:
        return False
    return True if node.op_type in ("DequantizeLinear", "ConstantOfShape") else None


def _free_batch(model: ir.Model, memory: int) -> list[str]:
    """Folding again takes a third of the time that all of this takes: only where something changed."""
    notes = free_batch(model, BATCH)
    return [*notes, *_fold_constants(model, memory)] if notes else []


def _name_nodes(model: ir.Model) -> list[str]:
    """Give each node a name of its own: exporters leave them empty or use one twice."""
    taken: set[str] = set()
    for index, node in enumerate(ir.traversal.RecursiveGraphIterator(model.graph)):
        wanted = node.name or f"{node.op_type}_{index}"
        node.name = wanted if wanted not in taken else f"{wanted}_{index}"
        taken.add(node.name)
    return []


def _sort(model: ir.Model) -> list[str]:
    model.graph.sort()
    return []


# In this order; each is given `ModelFile.memory` and returns its notes.
STEPS: tuple[Callable[[ir.Model, int], list[str]], ...] = (
    _fold_constants,
    _free_batch,
)


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
    known: bool = value.type.tensor_type.HasField("shape")
    return known


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
