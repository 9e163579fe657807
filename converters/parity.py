"""The comparisons that a model must pass before it is used.

A. original ↔ canonical, both in ONNX Runtime: every value that exists in both, the outputs and the convolutions'
   outputs among them.
B. canonical ↔ torch.
C. a batch ↔ each picture alone (converters.batch_independence): where it fails, pictures are computed one at a time,
   and A and B are made on single pictures.

A and B go node by node: a node gets the reference's inputs of that node, so that each answers for itself and an
ill-conditioned network is not refused for amplifying rounding. How far rounding adds up from the image to a layer is a
number of its own, judged by the same limit: above it there is a warning, and no refusal.

The error of a value is max |a − b| ÷ max(1e-6, max |b|). Knows ONNX Runtime and torch; knows nothing of pictures.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from filterscope.converters.comparison import beyond_rounding, relative_error, roundings
from filterscope.converters.errors import ModelError, ParityError
from filterscope.converters.finiteness import not_finite, sentences, weight_sentence
from filterscope.converters.graph import Shape
from filterscope.converters.grouping import groups_within
from filterscope.converters.normal_form.canonical import CanonicalModel, fixed_batch
from filterscope.converters.normal_form.free_batch import BATCH
from filterscope.converters.normal_form.sequences import OPERATORS as SEQUENCES
from filterscope.converters.operator_facts import CONVOLUTIONS
from filterscope.converters.runtime import Session, reads, shortened

if TYPE_CHECKING:
    from filterscope.converters.torch_import.importer import TorchTwin

AGREES = 1e-4  # relative error up to which two values agree
REFUSED = 1e-3  # above it a model is not used; between the two it is used with a warning
CHUNK_BYTES = 1 << 27  # of values fetched from ONNX Runtime at a time; larger ones are slower too
FORCED_NODES = 500  # that read given values and are optimised together: ONNX Runtime takes n² steps for n of them
BATCHES = (1, 3)
# ONNX Runtime's own Sigmoid is off by up to 1.2e-7 whatever the value, so that where all answers are tiny (a text
# detector on a picture without text) it is compared on its range, 1.
RANGES = {"Sigmoid": 1.0}


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one value is off, in the worst place."""

    value: str  # name of the value
    node: str  # the node that writes it, as its user knows it
    op: str
    batch: int
    error: float
    expected: float  # the two numbers at the worst place
    actual: float

    def to_json(self) -> dict[str, Any]:
        """Everything, for the cache."""
        content = asdict(self)
        return content | {"found": content.pop("actual")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Difference:
        """Inverse of to_json.

        Raises:
            TypeError, KeyError: it is no such content.
        """
        fields = {**content}
        return cls(actual=fields.pop("found"), **fields)


@dataclass(frozen=True, slots=True)
class Alone:
    """The result of comparison C (converters.batch_independence)."""

    difference: Difference | None  # worst between a batch and each picture alone; None where no batch was run
    of: str  # the model that was run: original, canonical; "" where none was
    reason: str  # why pictures are computed one at a time, without its full stop; "" where batches may be used

    @property
    def one_at_a_time(self) -> bool:
        """Whether pictures must be computed one at a time."""
        return bool(self.reason)

    @property
    def sentence(self) -> str:
        """The sentence that tells the user; empty where batches may be used."""
        return f"{self.reason}: everything is computed one picture at a time." if self.reason else ""

    def to_json(self) -> dict[str, Any]:
        """Everything, for the cache."""
        worst = None if self.difference is None else self.difference.to_json()
        return {"difference": worst, "of": self.of, "reason": self.reason}

    def summary(self) -> dict[str, Any]:
        """The entry in run.json (docs/run-format.md)."""
        worst = self.difference
        return {
            "worst": None if worst is None or not math.isfinite(worst.error) else worst.error,
            "layer": None if worst is None else worst.node,
            "one_at_a_time": self.one_at_a_time,
            "why": self.sentence,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Alone:
        """Inverse of to_json."""
        worst = content["difference"]
        return cls(None if worst is None else Difference.from_json(worst), content["of"], content["reason"])


@dataclass(frozen=True, slots=True)
class Parity:
    """The results of all comparisons."""

    original: Difference  # worst of comparison A
    nodes: Difference  # worst of comparison B
    end_to_end: Difference  # worst convolution output when torch runs the whole network by itself
    layers: dict[str, float]  # end-to-end error of each convolution's output, by node name
    warnings: tuple[str, ...]  # agreement worse than AGREES, a sentence each
    alone: Alone | None = None  # comparison C; None: not made, as in runs of older versions
    not_finite: tuple[str, ...] = ()  # sentences on weights and values that are no numbers

    def to_json(self) -> dict[str, Any]:
        """Everything, for the cache."""
        return {
            "original": self.original.to_json(),
            "nodes": self.nodes.to_json(),
            "end_to_end": self.end_to_end.to_json(),
            "layers": dict(self.layers),
            "warnings": self.warnings,
            "alone": None if self.alone is None else self.alone.to_json(),
            "not_finite": self.not_finite,
        }

    def summary(self) -> dict[str, Any]:
        """The entry in run.json (docs/run-format.md)."""
        ends = self.end_to_end
        return {
            "limit": AGREES,
            "refuse": REFUSED,
            "batches": [1] if self.alone is not None and self.alone.one_at_a_time else list(BATCHES),
            "original": {"worst": self.original.error, "value": self.original.value, "node": self.original.node},
            "nodes": {"worst": self.nodes.error, "node": self.nodes.node, "op": self.nodes.op},
            "end_to_end": {"worst": ends.error, "layer": ends.node},
            "alone": None if self.alone is None else self.alone.summary(),
            "warnings": [*self.not_finite, *self.warnings],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Parity:
        """Inverse of to_json; also of what it wrote before there was a comparison C."""
        differences = {key: Difference.from_json(content[key]) for key in ("original", "nodes", "end_to_end")}
        alone = content.get("alone")
        return cls(
            **differences,
            layers=content["layers"],
            warnings=tuple(content["warnings"]),
            alone=None if alone is None else Alone.from_json(alone),
            not_finite=tuple(content.get("not_finite", ())),
        )


def verify(model: CanonicalModel, twin: TorchTwin, samples: np.ndarray, alone: Alone | None = None) -> Parity:
    """Run comparisons A and B at batch 1 (the first sample) and at batch 3 (the last three).

    Args:
        model: the canonical model with its original.
        twin: its import.
        samples: (N ≥ 3, …) float32 in the model's own layout, drawn from the input's domain.
        alone: comparison C; where it failed, A and B are run on the first and the last three samples, each alone.

    Raises:
        ParityError: a value is off by more than 1e-3, or NaN on one side only; the first such node is named.
        ModelError: the original, or its canonical form, does not run at batch 3.
    """
    samples = as_taken(model, samples)
    batches = [samples[:1] if batch == 1 else samples[-batch:] for batch in BATCHES]
    if alone is not None and alone.one_at_a_time:
        batches = [picture[None] for batch in batches for picture in batch]
    try:
        return replace(_verify(model, twin, batches), alone=alone)
    except ModelError as error:
        part = model.without_head()
        if part is model:
            raise
        try:
            parity = replace(_verify(part, twin, batches), alone=alone)
        except ModelError:
            raise error from None
        reason = str(error).removeprefix(f"{model.path}: ")
        warning = (
            f"What follows the last convolutions cannot be proven; do not rely on the network's outputs: {reason}."
        )
        return replace(parity, warnings=(warning, *parity.warnings))


def _verify(model: CanonicalModel, twin: TorchTwin, batches: Sequence[np.ndarray]) -> Parity:
    warnings: list[str] = []
    try:
        original = [_judged(model, d, "original and canonical form", warnings) for d in _original(model, batches)]
    except ModelError as error:
        where = "" if isinstance(error, ParityError) else f"{model.path}: "
        size = fixed_batch(model)
        # A batch of 1 that cannot be freed is left as it is; what then differs has nothing to do with it.
        hint = f"; the file takes {size} pictures at a time: export it for batch size 1" if size and size > 1 else ""
        raise type(error)(f"{where}{error}{hint}") from error
    nodes, ends = [], []
    layers: dict[str, float] = {}
    unfinished: dict[str, str] = {}  # layer → what of its values is no finite number
    for node, by_itself, whole in _torch(model, twin, batches, unfinished):
        nodes += [_judged(model, d, "canonical form and torch", warnings) for d in by_itself]
        for difference in whole:
            ends.append(difference)
            layers[node] = max(difference.error, layers.get(node, 0.0))
    end = max(ends, key=_error)
    if end.error > AGREES:
        warnings.append(_adding_up(end))
    return Parity(
        original=max(original, key=_error),
        nodes=max(nodes, key=_error),
        end_to_end=end,
        layers=layers,
        warnings=tuple(dict.fromkeys(warnings)),
        not_finite=tuple(sentences(model.graph, model.layer_names, unfinished)),
    )


def _error(difference: Difference) -> float:
    return difference.error


def _judged(model: CanonicalModel, difference: Difference, between: str, warnings: list[str]) -> Difference:
    if difference.error <= AGREES:
        return difference
    where = f"{difference.node} ({difference.op}, opset {_opset_of(model)})"
    numbers = f"{difference.expected:.6g} against {difference.actual:.6g} at batch {difference.batch}"
    if difference.error > REFUSED:
        reason = weight_sentence(model.graph, model.layer_names).partition(";")[0]
        raise ParityError(
            f"{model.path}: {between} first differ at {where}: {numbers}, relative error {difference.error:.2g}, "
            f"limit {REFUSED:g}{f' ({reason})' if reason else ''}; the model is not used"
        )
    warnings.append(f"{between} differ by {difference.error:.2g} at {where}: {numbers}.")
    return difference


def _adding_up(end: Difference) -> str:
    return (
        f"From the image to {end.node}, ONNX Runtime and torch differ by {end.error:.2g}, limit {AGREES:g}: "
        "the network amplifies rounding errors. Numbers are ONNX Runtime's; gradients are torch's."
    )


def _opset_of(model: CanonicalModel) -> int:
    return next(int(entry.version) for entry in model.proto.opset_import if entry.domain in ("", "ai.onnx"))


def _original(model: CanonicalModel, batches: Sequence[np.ndarray]) -> Iterator[Difference]:
    """Each canonical node on the original's own values, so that a network that amplifies rounding is not blamed.

    Values that exist in both forms are compared; node by node they add up to the whole network. A file in another
    number format is held against its float32 form first, with the rounding of its format allowed for; then the float32
    form, which has none, against the normal form.
    """
    if model.float32_form.rounding is not None:
        yield from _original_against_float32(model, model.float32_form.rounding, batches)
    reference = model.float32_form.proto if model.float32_form.notes else model.original
    fixed = fixed_batch(model)
    own = {name for node in reference.graph.node if node.op_type not in SEQUENCES for name in node.output if name}
    nodes = list(model.proto.graph.node)
    shared = {name for node in nodes for name in node.output if name in own}
    if fixed is not None and model.batch is None:  # what says the batch size itself differs by right
        shared = {name for name in shared if _batch_axis(model, name) is not None}
    forcing = _Forcing(model.proto, shared)
    for chunk in _chunks(model, [node for node in nodes if shared.intersection(node.output)], batches[-1].shape):
        parts = [
            forcing.part([name for node in group for name in node.output if name in shared])
            for group in groups_within(chunk, lambda node: 1, FORCED_NODES)
        ]
        original = Session(
            reference, list(dict.fromkeys(name for part in parts for name in (*part.names, *part.inputs)))
        )
        expected = [
            original.run(x) if fixed in (None, len(x)) else _run_in_batches(model, original, x, fixed) for x in batches
        ]
        for part, group in zip(parts, groups_within(chunk, lambda node: 1, FORCED_NODES), strict=True):
            _declare(part.proto, part.inputs, model.graph.dtypes, model.graph.shapes)
            canonical = Session(part.proto, [_own(name) for name in part.names])
            for x, values in zip(batches, expected, strict=True):
                results = canonical.run(x, {name: values[name] for name in part.inputs})
                for node in group:
                    for name in node.output:
                        if name in shared:
                            actual = results[_own(name)]
                            yield _difference(model, node, name, actual=actual, expected=values[name], batch=len(x))


def _original_against_float32(
    model: CanonicalModel, exact: onnx.ModelProto, batches: Sequence[np.ndarray]
) -> Iterator[Difference]:
    """Each node of the float32 form on the original's own values, in whatever batch the original takes."""
    own = {name for node in model.original.graph.node if node.op_type not in SEQUENCES for name in node.output if name}
    used = {name for node in exact.graph.node for name in reads(node)} | {v.name for v in exact.graph.output}
    nodes = [node for node in exact.graph.node if own.intersection(node.output) and used.intersection(node.output)]
    shared = {name for node in nodes for name in node.output if name in own and name in used}
    rounded = {name: step for name, step in roundings(exact).items() if name in shared and step.value not in own}
    fixed = fixed_batch(model)
    forcings = _Forcing(model.original, shared), _Forcing(exact, shared)
    for chunk in _chunks(model, nodes, batches[-1].shape):
        names = [name for node in chunk for name in node.output if name in shared]
        before = [rounded[name].value for name in names if name in rounded]
        of_original, of_exact = forcings[0].part(names), forcings[1].part(names, before)
        alone, read, forced, inputs = of_original.proto, of_original.inputs, of_exact.proto, of_exact.inputs
        original = Session(model.original, list(dict.fromkeys([*read, *inputs, *names])), as_written=True)
        sessions: list[Session] = []
        for x in batches:
            if fixed not in (None, len(x)):
                x = np.repeat(x[:1], fixed, axis=0)
            values = original.run(x)
            widened = {name: _in_plain(values[name]) for name in inputs}
            if not sessions:
                _declare(alone, read, {name: str(values[name].dtype) for name in read}, {})
                _declare(forced, inputs, {name: str(value.dtype) for name, value in widened.items()}, {})
                sessions = [
                    Session(alone, [_own(name) for name in names], as_written=True),
                    Session(forced, [*(_own(name) for name in names), *before], as_written=True),
                ]
            # Not `values` themselves: ONNX Runtime leaves rounding out where one half-precision node reads another.
            expected = sessions[0].run(x, {name: values[name] for name in read})
            results = sessions[1].run(x, widened)
            for node in chunk:
                for name in node.output:
                    if name in rounded:
                        pair = rounded[name].apart(results[rounded[name].value], expected[_own(name)])
                    elif name in shared:
                        pair = beyond_rounding(results[_own(name)], expected[_own(name)])
                    else:
                        continue
                    actual, wide = pair
                    yield _difference(model, node, name, actual=actual, expected=wide, batch=len(x))


def as_taken(model: CanonicalModel, samples: np.ndarray) -> np.ndarray:
    """Samples, rounded to what the file's own input can hold, so that all forms get the same numbers."""
    kind = next(v for v in model.original.graph.input if v.name == model.input).type.tensor_type.elem_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return (samples if dtype.kind not in "iu" else np.rint(samples)).astype(dtype).astype(np.float32)


def _in_plain(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _own(name: str) -> str:
    return f"{name}::canonical"


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A part of a graph that reads shared values from inputs."""

    proto: onnx.ModelProto
    names: Sequence[str]  # of the shared values that it makes itself
    inputs: list[str]  # of those that it reads, which are to be declared


class _Forcing:
    """A graph in which each shared value is read from a graph input instead. Its parts cost what they hold.

    Args:
        proto: the graph.
        shared: values that another form of the network has too.
    """

    def __init__(self, proto: onnx.ModelProto, shared: set[str]) -> None:
        self.proto = proto
        self.shared = shared
        self._nodes = list(proto.graph.node)
        self._producers = {
            self._written(name): index for index, node in enumerate(self._nodes) for name in node.output if name
        }
        self._constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in proto.graph.sparse_initializer}

    def part(self, names: Sequence[str], others: Sequence[str] = ()) -> _Part:
        """What makes shared values of these names, and others that are not shared, out of shared values."""
        outputs = [*(_own(name) for name in names), *others]
        # What no node writes is an input or a constant.
        needed, waiting = set[int](), [self._producers[name] for name in outputs if name in self._producers]
        while waiting:
            index = waiting.pop()
            if index not in needed:
                needed.add(index)
                read = reads(self._nodes[index])
                waiting.extend(self._producers[name] for name in read if name in self._producers)
        proto = self.proto
        part = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
        graph = part.graph
        graph.name = proto.graph.name
        for index in sorted(needed):
            node = graph.node.add()
            node.CopyFrom(self._nodes[index])
            node.output[:] = [self._written(name) for name in node.output]
        names_read = dict.fromkeys(name for node in graph.node for name in reads(node))
        held = dict.fromkeys([*outputs, *names_read])
        graph.initializer.extend(self._constants[name] for name in held if name in self._constants)
        graph.sparse_initializer.extend(self._sparse[name] for name in held if name in self._sparse)
        constants = self._constants.keys() | self._sparse.keys()
        graph.input.extend(value for value in proto.graph.input if value.name not in constants)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        image = proto.graph.input[0].name
        if image not in names_read:  # a part that does not begin at the image still takes it, unused
            graph.node.append(onnx.helper.make_node("Identity", [image], [_own(image)]))
        return _Part(part, names, [name for name in names_read if name in self.shared])

    def _written(self, name: str) -> str:
        return _own(name) if name in self.shared else name


def _declare(
    forced: onnx.ModelProto, names: Sequence[str], dtypes: Mapping[str, str], shapes: Mapping[str, Shape]
) -> None:
    """Declare values of these names as inputs of the graph."""
    for name in names:
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtypes.get(name, "float32")))
        forced.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shapes.get(name)))


def _batch_axis(model: CanonicalModel, name: str) -> int | None:
    """The axis along which a value holds one picture after the other; None where it has none."""
    shape = model.graph.shapes.get(name, (BATCH,))
    free = [axis for axis, extent in enumerate(shape) if not isinstance(extent, int)]
    return next((axis for axis in free if shape[axis] == BATCH), free[0] if free else None)


def _run_in_batches(model: CanonicalModel, original: Session, x: np.ndarray, batch: int) -> dict[str, np.ndarray]:
    """The outputs of an original with a fixed batch size, run as often as the batch needs."""
    filled = np.concatenate([x, np.repeat(x[-1:], -len(x) % batch, axis=0)])
    parts = [original.run(filled[start : start + batch]) for start in range(0, len(filled), batch)]
    joined = {}
    for name in parts[0]:
        axis = _batch_axis(model, name) or 0
        whole = np.concatenate([part[name] for part in parts], axis)
        joined[name] = whole.take(range(whole.shape[axis] * len(x) // len(filled)), axis)
    return joined


def _torch(
    model: CanonicalModel, twin: TorchTwin, batches: Sequence[np.ndarray], unfinished: dict[str, str]
) -> Iterator[tuple[str, list[Difference], list[Difference]]]:
    """For each node that torch has, its outputs' differences on ONNX Runtime's inputs of that node; and then, for each
    convolution, the difference when torch runs the whole network up to it by itself.

    Args:
        unfinished: is given the convolutions, and nodes that write outputs, whose values are not all finite.
    """
    import torch

    written = {name for node in model.proto.graph.node for name in node.output if name}
    shown = {value.name for value in model.proto.graph.output}
    imported = [node for node in model.proto.graph.node if any(name in twin.values for name in node.output)]
    for nodes in _chunks(model, imported, batches[-1].shape):
        read = [name for node in nodes for name in (*node.input, *node.output)]
        canonical = Session(model.proto, [name for name in dict.fromkeys(read) if name in written])
        convolutions = [node.output[0] for node in nodes if node.op_type in CONVOLUTIONS]
        network = twin.cut(convolutions)
        for x in batches:
            values = canonical.run(x) | {model.input: x}
            for node in nodes:
                if kind := _not_finite(node, values, shown):
                    unfinished.setdefault(model.layer_names.get(node.name, node.name), kind)
                inputs = {name: values[name] for name in node.input if name in values}
                with _refuse_where_torch_fails(model, f"{node.name} ({node.op_type}, opset {_opset_of(model)})"):
                    answers = twin.answer(node.name, inputs)
                pairs = zip(node.output, answers, strict=False)
                differences = [
                    _difference(model, node, name, actual=actual, expected=values[name], batch=len(x))
                    for name, actual in pairs
                    if name
                ]
                yield node.name, differences, []
            with torch.no_grad(), _refuse_where_torch_fails(model, "the whole network"):
                ends = dict(zip(convolutions, network(torch.from_numpy(x)), strict=True))
            for node in nodes:
                for name in node.output:
                    if name in ends:
                        actual = ends[name].numpy()
                        whole = _difference(model, node, name, actual=actual, expected=values[name], batch=len(x))
                        yield node.name, [], [whole]


def _not_finite(node: onnx.NodeProto, values: Mapping[str, np.ndarray], outputs: Collection[str]) -> str:
    """What of a convolution's values is no finite number; of another node's, where they are outputs and NaN."""
    if node.op_type in CONVOLUTIONS:
        return not_finite(values[node.output[0]])
    kinds = [not_finite(values[name]) for name in node.output if name in outputs and name in values]
    return next((kind for kind in kinds if "NaN" in kind), "")


@contextlib.contextmanager
def _refuse_where_torch_fails(model: CanonicalModel, what: str) -> Iterator[None]:
    """Refuse a model of which torch cannot compute something at all: that is a difference too."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ParityError(f"{model.path}: torch fails at {what}: {shortened(error)}; the model is not used") from error


def _difference(
    model: CanonicalModel, node: onnx.NodeProto, name: str, *, actual: np.ndarray, expected: np.ndarray, batch: int
) -> Difference:
    error, want, got = relative_error(actual, expected, RANGES.get(node.op_type, 1e-6))
    shown = model.layer_names.get(node.name, node.name) or name
    return Difference(value=name, node=shown, op=node.op_type, batch=batch, error=error, expected=want, actual=got)


def _chunks(
    model: CanonicalModel, nodes: Sequence[onnx.NodeProto], shape: tuple[int, ...]
) -> Iterator[list[onnx.NodeProto]]:
    """Nodes in groups whose outputs, for an input of this shape, fit into CHUNK_BYTES together."""
    shapes = model.shapes_at((shape[0], shape[1], shape[2], shape[3]))
    yield from groups_within(
        nodes, lambda node: sum(4 * math.prod(shapes.get(name, ())) for name in node.output), CHUNK_BYTES
    )
