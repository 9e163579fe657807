"""The passes that bring a network into normal form, in their order: `PASSES`.

Each pass names what must hold of the network before it (`requires`), what holds after it (`ensures`) and what it may
undo (`breaks`), and reports whether it changed the network, as PassBase of onnx-ir does. The first passes rewrite the
operators of the file in ONNX's protobuf, the next work on onnx-ir's graph, the last on protobuf again. What changes
the file's own network (fed inputs, training mode) comes before them all: the normal form is proven against that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import onnx
import onnx_ir as ir

from filterscope.converters.errors import ModelError
from filterscope.converters.normal_form import cut_head, extra_inputs, fold_affine
from filterscope.converters.normal_form.fold_constants import fold_constants
from filterscope.converters.normal_form.free_batch import BATCH, fix_batch, free_batch
from filterscope.converters.normal_form.inline_functions import inline_functions
from filterscope.converters.normal_form.layer_names import layer_names
from filterscope.converters.normal_form.module_outputs import module_outputs
from filterscope.converters.normal_form.shapes import add_shapes
from filterscope.converters.onnx_file import limits
from filterscope.converters.operator_facts import CONTROL_FLOW, CONVOLUTIONS
from filterscope.converters.rewrites.float32 import Float32Form, to_float32_form
from filterscope.converters.rewrites.opset_upgrade import to_opset

logger = logging.getLogger(__name__)


class Property(StrEnum):
    """A property that a network may have between two passes, in words."""

    RUNNABLE = "the image is the only input without an array, constants are dense, training mode is off"
    DECLARED_INPUTS = "inputs are no constants, and no shape of an inner value is declared"
    KNOWN_OPERATORS = "ONNX, ONNX Runtime or the model defines every operator"
    ONE_OPSET = "standard operators are those of opset 21"
    FLOAT32 = "numbers are float32, in ONNX's standard operators"
    IN_ONNX_IR = "the network is a graph of onnx-ir"
    IN_PROTOBUF = "the network is ONNX's protobuf"
    NO_FUNCTIONS = "no node calls a function of the model"
    UNIQUE_NODE_NAMES = "every node has a name of its own"
    FED_INPUTS_CONSTANT = "fed inputs are constants, held once"
    BATCH_DECIDED = "the input declares the batch dimension that the normal form has"
    CONSTANTS_FOLDED = "no node computes a constant, and no branch or loop is decided by one"
    FED_INPUTS_REPEATED = "fed inputs have the batch's size where an operator needs it"
    SORTED = "a node stands behind those whose results it reads"
    LAYERS_NAMED = "every convolution's name for its user is known"
    AFFINE_FOLDED = "factors and shifts of channels are part of the convolution before them"
    HAS_LAYERS = "a convolution leads from the image to the outputs"
    DECIDED_SHAPES = "behind the last convolution no result's shape or order depends on the picture"
    SHAPES_DECLARED = "every value's shape is declared, as far as it can be inferred"
    FITS_MEMORY = "no value is declared larger than memory"


@dataclass(slots=True, eq=False)
class Draft:
    """A network on its way into normal form: each pass reads and changes it in place."""

    proto: onnx.ModelProto  # while it is ONNX's protobuf; between, the float32 form that `model` was read from
    memory: int  # bytes that the user lets folding use; 0 where he does not say
    repeated: tuple[str, ...]  # fed inputs that have a batch dimension
    batch: int | None  # how many pictures it is to take; None: any number
    model: ir.Model = field(init=False)  # while it is a graph of onnx-ir
    float32_form: Float32Form = field(init=False)  # the file's network in float32, for the proof
    from_fed_inputs: frozenset[str] = frozenset()  # values that follow from `repeated` and constants alone
    layer_names: Mapping[str, str] = field(default_factory=dict)  # node name → its user's name, for each convolution
    module_outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # module path → values that it gives
    normalised: frozenset[str] = frozenset()  # nodes into which a BatchNorm was folded


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a pass."""

    modified: bool  # whether the network is another graph than before; the same in another notation is not
    notes: tuple[str, ...] = ()  # for the user, a sentence each


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One step on the way into normal form."""

    name: str
    run: Callable[[Draft], Result]
    requires: tuple[Property, ...]  # must hold before it
    ensures: tuple[Property, ...] = ()  # holds after it, until a pass that breaks it
    breaks: tuple[Property, ...] = ()  # may no longer hold after it


def _pass(
    requires: tuple[Property, ...], ensures: tuple[Property, ...] = (), breaks: tuple[Property, ...] = ()
) -> Callable[[Callable[[Draft], Result]], Pass]:
    """Make a pass of a function, under its name."""

    def declare(run: Callable[[Draft], Result]) -> Pass:
        return Pass(name=run.__name__.lstrip("_"), run=run, requires=requires, ensures=ensures, breaks=breaks)

    return declare


def run_passes(draft: Draft) -> list[str]:
    """Run all passes in order.

    Returns:
        Their notes, a sentence each.

    Raises:
        ModelError: a pass refuses the network; see each.
    """
    notes: list[str] = []
    for step in PASSES:
        result = step.run(draft)
        logger.debug("%s: %s", step.name, "changed the network" if result.modified else "nothing to change")
        notes.extend(result.notes)
    return notes


@_pass(requires=(Property.IN_PROTOBUF, Property.RUNNABLE), ensures=(Property.DECLARED_INPUTS,))
def _drop_declarations(draft: Draft) -> Result:
    """Copy the model without what it declares of constants and inner values."""
    before = draft.proto
    draft.proto = onnx.ModelProto()
    draft.proto.CopyFrom(before)
    graph = draft.proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    modified = len(inputs) < len(graph.input) or len(graph.value_info) > 0
    del graph.input[:]
    graph.input.extend(inputs)
    draft.proto.ir_version = max(draft.proto.ir_version, 4)  # before 4, every initializer had to be an input too
    del graph.value_info[:]  # what a file says of inner shapes may hold its own batch size
    return Result(modified)


@_pass(requires=(Property.IN_PROTOBUF,), ensures=(Property.KNOWN_OPERATORS,))
def _cut_unknown_operators(draft: Draft) -> Result:
    """Cut off operators that nothing defines; UnsupportedOperatorError where a convolution needs one."""
    return _noted(cut_head.cut_unknown(draft.proto))


@_pass(requires=(Property.IN_PROTOBUF, Property.KNOWN_OPERATORS), ensures=(Property.ONE_OPSET,))
def _raise_opset(draft: Draft) -> Result:
    """Rewrite every standard operator as of opset 21."""
    before = draft.proto
    draft.proto, notes = to_opset(before)
    modified = list(before.opset_import) != list(draft.proto.opset_import)
    return Result(modified or list(before.graph.node) != list(draft.proto.graph.node), tuple(notes))


@_pass(requires=(Property.IN_PROTOBUF, Property.ONE_OPSET), ensures=(Property.FLOAT32,))
def _rewrite_in_float32(draft: Draft) -> Result:
    """Rewrite 8-bit, half-precision and fused operators in float32 and standard operators."""
    draft.float32_form = to_float32_form(draft.proto)
    draft.proto = draft.float32_form.proto
    return _noted(draft.float32_form.notes)


@_pass(
    requires=(Property.IN_PROTOBUF, Property.DECLARED_INPUTS, Property.FLOAT32),
    ensures=(Property.IN_ONNX_IR,),
    breaks=(Property.IN_PROTOBUF,),
)
def _read_into_ir(draft: Draft) -> Result:
    """Read the protobuf into onnx-ir's graph."""
    draft.model = ir.from_proto(draft.proto)
    return Result(modified=False)


@_pass(requires=(Property.IN_ONNX_IR,), ensures=(Property.NO_FUNCTIONS,))
def _inline_functions(draft: Draft) -> Result:
    """Put the bodies of the model's functions where they are called."""
    return _noted(inline_functions(draft.model))


@_pass(requires=(Property.IN_ONNX_IR, Property.NO_FUNCTIONS), ensures=(Property.UNIQUE_NODE_NAMES,))
def _name_nodes(draft: Draft) -> Result:
    """Give each node a name of its own: exporters leave them empty or use one twice."""
    names: set[str] = set()
    modified = False
    for index, node in enumerate(ir.traversal.RecursiveGraphIterator(draft.model.graph)):
        name = node.name or f"{node.op_type}_{index}"
        name = name if name not in names else f"{name}_{index}"
        modified |= name != node.name
        node.name = name
        names.add(name)
    return Result(modified)


@_pass(requires=(Property.IN_ONNX_IR, Property.NO_FUNCTIONS), ensures=(Property.FED_INPUTS_CONSTANT,))
def _make_fed_inputs_constant(draft: Draft) -> Result:
    """Make inputs that were fed an array plain constants."""
    draft.from_fed_inputs = extra_inputs.make_constant(draft.model, draft.repeated)
    return Result(modified=bool(draft.repeated))


@_pass(requires=(Property.IN_ONNX_IR, Property.FED_INPUTS_CONSTANT))
def _fix_batch(draft: Draft) -> Result:
    """Declare the number of pictures where it is to be fixed."""
    return Result(draft.batch is not None and fix_batch(draft.model, draft.batch))


@_pass(
    requires=(Property.IN_ONNX_IR, Property.NO_FUNCTIONS, Property.ONE_OPSET, Property.FED_INPUTS_CONSTANT),
    ensures=(Property.CONSTANTS_FOLDED,),
    breaks=(Property.UNIQUE_NODE_NAMES,),
)
def _fold_constants(draft: Draft) -> Result:
    """Replace nodes that compute constants, and branches and loops that constants decide."""
    before = _wiring(draft.model)
    notes = fold_constants(draft.model, draft.memory)
    return Result(before != _wiring(draft.model), tuple(notes))


@_pass(requires=(Property.IN_ONNX_IR, Property.CONSTANTS_FOLDED), ensures=(Property.BATCH_DECIDED,))
def _free_batch(draft: Draft) -> Result:
    """Free the batch dimension where it is not fixed, and fold what the mended nodes read.

    Folding again takes a third of the time that all passes take: only where something changed.
    """
    notes = free_batch(draft.model, BATCH) if draft.batch is None else []
    if not notes:
        return Result(modified=False)
    return Result(modified=True, notes=(*notes, *fold_constants(draft.model, draft.memory)))


@_pass(
    requires=(Property.IN_ONNX_IR, Property.CONSTANTS_FOLDED, Property.BATCH_DECIDED),
    ensures=(Property.FED_INPUTS_REPEATED,),
)
def _repeat_fed_inputs(draft: Draft) -> Result:
    """Repeat fed arrays for each picture before operators that do not broadcast."""
    before = _wiring(draft.model)
    extra_inputs.repeat_for_batch(draft.model, draft.from_fed_inputs)
    return Result(before != _wiring(draft.model))


@_pass(requires=(Property.IN_ONNX_IR, Property.FED_INPUTS_REPEATED), ensures=(Property.SORTED,))
def _sort_nodes(draft: Draft) -> Result:
    """Put each node behind those whose results it reads."""
    before = list(draft.model.graph)
    draft.model.graph.sort()
    return Result(before != list(draft.model.graph))


@_pass(requires=(Property.IN_ONNX_IR, Property.UNIQUE_NODE_NAMES), ensures=(Property.LAYERS_NAMED,))
def _name_layers(draft: Draft) -> Result:
    """Find the name that each convolution has for its user, and what each of the user's modules gives."""
    draft.layer_names = layer_names(draft.model)
    draft.module_outputs = module_outputs(draft.model)
    return Result(modified=False)


@_pass(
    requires=(Property.IN_ONNX_IR, Property.CONSTANTS_FOLDED, Property.UNIQUE_NODE_NAMES, Property.LAYERS_NAMED),
    ensures=(Property.AFFINE_FOLDED,),
)
def _fold_affine(draft: Draft) -> Result:
    """Fold BatchNorms, biases and other factors and shifts of channels into the convolution before them."""
    notes, draft.normalised = fold_affine.fold_into_convolutions(draft.model)
    return _noted(notes)


@_pass(requires=(Property.IN_ONNX_IR, Property.CONSTANTS_FOLDED))
def _note_rounding(draft: Draft) -> Result:
    """Count the values that are still rounded to 8 bits."""
    rounded = sum(node.op_type == "QuantizeLinear" for node in draft.model.graph)
    if not rounded:
        return Result(modified=False)
    return Result(
        modified=False,
        notes=(f"{rounded} values are rounded to 8 bits as in the file; gradients pass them unchanged.",),
    )


@_pass(
    requires=(Property.IN_ONNX_IR, Property.UNIQUE_NODE_NAMES, Property.CONSTANTS_FOLDED),
    ensures=(Property.HAS_LAYERS,),
)
def _check_layers(draft: Draft) -> Result:
    """Refuse convolutions inside a branch or loop that the picture decides: not every picture passes such a layer."""
    graph = draft.model.graph
    if any(node.op_type in CONVOLUTIONS and not node.domain for node in graph):
        return Result(modified=False)
    undecided = [f"{node.name} ({node.op_type})" for node in graph if node.op_type in CONTROL_FLOW]
    if undecided:
        raise ModelError(
            f"its convolutions stand inside {undecided[0]}, where the picture decides whether they run; export the "
            "network without that branch or loop"
        )
    raise ModelError("no convolution leads from its image to its outputs")


@_pass(requires=(Property.IN_ONNX_IR, Property.SORTED), ensures=(Property.IN_PROTOBUF,), breaks=(Property.IN_ONNX_IR,))
def _write_protobuf(draft: Draft) -> Result:
    """Write onnx-ir's graph as protobuf."""
    draft.proto = ir.to_proto(draft.model)
    return Result(modified=False)


@_pass(requires=(Property.IN_PROTOBUF, Property.SORTED, Property.HAS_LAYERS), ensures=(Property.DECIDED_SHAPES,))
def _cut_undecided_results(draft: Draft) -> Result:
    """Cut off what stands behind the last convolutions and has no fixed shape or order."""
    return _noted(cut_head.cut_undecided(draft.proto))


@_pass(requires=(Property.IN_PROTOBUF, Property.SORTED, Property.ONE_OPSET), ensures=(Property.SHAPES_DECLARED,))
def _declare_shapes(draft: Draft) -> Result:
    """Infer the shape of every value."""
    before = list(draft.proto.graph.value_info)
    add_shapes(draft.proto)
    return Result(before != list(draft.proto.graph.value_info))


@_pass(requires=(Property.IN_PROTOBUF, Property.SHAPES_DECLARED), ensures=(Property.FITS_MEMORY,))
def _check_sizes(draft: Draft) -> Result:
    """Refuse a network with a value larger than any memory."""
    graph = draft.proto.graph
    limits.check_values([*graph.input, *graph.value_info, *graph.output])
    return Result(modified=False)


def _noted(notes: list[str] | tuple[str, ...]) -> Result:
    """Of a pass that has a note exactly where it changed something."""
    return Result(bool(notes), tuple(notes))


def _wiring(model: ir.Model) -> list[tuple[str, tuple[str | None, ...], tuple[str | None, ...]]]:
    """Operator, inputs and outputs of each node, by name."""
    return [
        (
            node.op_type,
            tuple(None if value is None else value.name for value in node.inputs),
            tuple(value.name for value in node.outputs),
        )
        for node in model.graph
    ]


BEFORE = (Property.RUNNABLE, Property.IN_PROTOBUF)  # as `feed_inputs` and `make_runnable` leave every file
PASSES: tuple[Pass, ...] = (
    _drop_declarations,
    _cut_unknown_operators,
    _raise_opset,
    _rewrite_in_float32,
    _read_into_ir,
    _inline_functions,
    _name_nodes,  # before folding, which names all nodes "node"
    _make_fed_inputs_constant,
    _fix_batch,  # after the fed inputs, which are repeated to the batch that the file declares
    _fold_constants,
    _free_batch,
    _repeat_fed_inputs,
    _sort_nodes,
    replace(_name_nodes, name="name_new_nodes", requires=(Property.IN_ONNX_IR, Property.FED_INPUTS_REPEATED)),
    _name_layers,  # before fold_affine: a folded convolution's output carries its follower's name
    _fold_affine,
    _note_rounding,
    _check_layers,
    _write_protobuf,
    _cut_undecided_results,
    _declare_shapes,
    _check_sizes,
)
