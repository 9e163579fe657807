"""The two comparisons that a model must pass before it is used.

A. original ↔ canonical, both in ONNX Runtime: every value that exists in both, the outputs and the convolutions'
   outputs among them.
B. canonical ↔ torch.

Both go node by node: a node gets the reference's inputs of that node, so that each answers for itself and an
ill-conditioned network is not refused for amplifying rounding. How far rounding adds up is reported beside it.

The error of a value is max |a − b| ÷ max(1e-6, max |b|). Knows ONNX Runtime and torch; knows nothing of pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch

from converters.canonical import CONVOLUTIONS, CanonicalModel
from converters.errors import ParityError
from converters.importer import TorchTwin
from converters.runtime import Session, extract

AGREES = 1e-4  # relative error up to which two values agree
REFUSED = 1e-3  # above it a model is not used; between the two it is used with a warning
CHUNK_BYTES = 1 << 29  # of values fetched from ONNX Runtime at a time
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
    found: float


@dataclass(frozen=True, slots=True)
class Parity:
    """What both comparisons found."""

    original: Difference  # worst of comparison A
    nodes: Difference  # worst of comparison B
    end_to_end: Difference  # worst convolution output when torch runs the whole network by itself
    layers: dict[str, float]  # end-to-end error of each convolution's output, by node name
    warnings: tuple[str, ...]  # agreement worse than 1e-4, a sentence each

    def to_json(self) -> dict[str, Any]:
        """For the cache and the run."""
        return asdict(self) | {"agrees": AGREES, "refused": REFUSED, "batches": list(BATCHES)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Parity:
        """Inverse of to_json."""
        differences = {key: Difference(**content[key]) for key in ("original", "nodes", "end_to_end")}
        return cls(**differences, layers=content["layers"], warnings=tuple(content["warnings"]))


def verify(model: CanonicalModel, twin: TorchTwin, samples: np.ndarray) -> Parity:
    """Run both comparisons at batch 1 (the first sample) and at batch 3 (the last three).

    Args:
        model: the canonical model with its original.
        twin: its import.
        samples: (N ≥ 3, …) float32 in the model's own layout, drawn from the input's domain.

    Raises:
        ParityError: a value is off by more than 1e-3, or NaN on one side only; the first such node is named.
    """
    warnings: list[str] = []
    original, nodes, ends = [], [], []
    for batch in BATCHES:
        x = samples[:1] if batch == 1 else samples[-batch:]
        original += [_judged(model, d, "original and canonical form", warnings) for d in _original(model, x)]
        nodes += [_judged(model, d, "canonical form and torch", warnings) for d in _nodes(model, twin, x)]
        ends += list(_end_to_end(model, twin, x))
    layers: dict[str, float] = {}
    for difference in ends:
        layers[difference.node] = max(difference.error, layers.get(difference.node, 0.0))
    return Parity(
        original=max(original, key=_error),
        nodes=max(nodes, key=_error),
        end_to_end=max(ends, key=_error),
        layers=layers,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def relative_error(found: np.ndarray, expected: np.ndarray, least: float = 1e-6) -> tuple[float, float, float]:
    """max |a − b| ÷ max(least, max |b|), and the two numbers where it is reached.

    NaNs and infinities that both sides have in the same place agree; on one side only they are an infinite error.
    """
    if found.shape != expected.shape:
        return math.inf, math.nan, math.nan
    if not expected.size:
        return 0.0, 0.0, 0.0
    a, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        distance = np.where(same, 0.0, np.abs(a - b))
    distance[np.isnan(distance)] = math.inf
    worst = int(distance.argmax())
    finite = np.abs(b[np.isfinite(b)])
    scale = max(least, float(finite.max()) if finite.size else 0.0)
    return float(distance[worst] / scale), float(b[worst]), float(a[worst])


def _error(difference: Difference) -> float:
    return difference.error


def _judged(model: CanonicalModel, difference: Difference, between: str, warnings: list[str]) -> Difference:
    if difference.error <= AGREES:
        return difference
    where = f"{difference.node} ({difference.op}, opset {_opset_of(model)})"
    numbers = f"{difference.expected:.6g} against {difference.found:.6g} at batch {difference.batch}"
    if difference.error > REFUSED:
        raise ParityError(
            f"{model.path}: {between} first differ at {where}: {numbers}, relative error {difference.error:.2g}, "
            f"limit {REFUSED:g}; the model is not used"
        )
    warnings.append(f"{between} differ by {difference.error:.2g} at {where}: {numbers}.")
    return difference


def _opset_of(model: CanonicalModel) -> int:
    return next(entry.version for entry in model.proto.opset_import if entry.domain in ("", "ai.onnx"))


def _original(model: CanonicalModel, x: np.ndarray) -> Iterator[Difference]:
    """Each canonical node on the original's own values, so that a network that amplifies rounding is not blamed.

    Values that exist in both forms are compared; node by node they add up to the whole network.
    """
    own = {name for node in model.original.graph.node for name in node.output}
    nodes = list(model.proto.graph.node)
    shared = {name for node in nodes for name in node.output if name in own}
    batch = _fixed_batch(model)
    for chunk in _node_chunks(model, [node for node in nodes if shared.intersection(node.output)], len(x)):
        names = [name for node in chunk for name in node.output if name in shared]
        forced, given = _forced(model, names, shared)
        fetched = list(dict.fromkeys([*names, *given]))
        expected = _run_in_batches(Session(_with_outputs(model.original, fetched), fetched), x, batch)
        session = Session(forced, [_own(name) for name in names])
        found = session.run(x, {name: expected[name] for name in given})
        for node in chunk:
            for name in node.output:
                if name in shared:
                    shown = model.layer_names.get(node.name, node.name)
                    least = RANGES.get(node.op_type, 1e-6)
                    error, want, got = relative_error(found[_own(name)], expected[name], least)
                    yield Difference(name, shown, node.op_type, len(x), error, want, got)


def _own(name: str) -> str:
    return f"{name}::canonical"


def _forced(model: CanonicalModel, names: Sequence[str], shared: set[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The canonical graph with each shared value read from a graph input instead; and those inputs' names."""
    forced = onnx.ModelProto()
    forced.CopyFrom(model.proto)
    del forced.graph.value_info[:], forced.graph.output[:]
    for node in forced.graph.node:
        node.output[:] = [_own(name) if name in shared else name for name in node.output]
    part = extract(forced, [_own(name) for name in names])
    read = {name for node in part.graph.node for name in node.input}
    given = [name for name in shared if name in read]
    for name in given:
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(model.graph.dtypes.get(name, "float32")))
        part.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
    if model.input not in read:  # a chunk that does not begin at the image still takes it, unused
        part.graph.node.append(onnx.helper.make_node("Identity", [model.input], [_own(model.input)]))
    return part, given


def _with_outputs(proto: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    present = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    return shown


def _fixed_batch(model: CanonicalModel) -> int | None:
    value = next(value for value in model.original.graph.input if value.name == model.input)
    size: int = value.type.tensor_type.shape.dim[0].dim_value
    return size if size > 0 else None


def _run_in_batches(session: Session, x: np.ndarray, batch: int | None) -> dict[str, np.ndarray]:
    """What the original answers; a file with a fixed batch size is run as often as it takes."""
    if batch is None or batch == len(x):
        return session.run(x)
    parts = []
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
        parts.append({name: value[: len(part)] for name, value in session.run(filled).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _nodes(model: CanonicalModel, twin: TorchTwin, x: np.ndarray) -> Iterator[Difference]:
    imported = [node for node in model.proto.graph.node if any(name in twin.values for name in node.output)]
    constants = {tensor.name for tensor in model.proto.graph.initializer}
    for nodes in _node_chunks(model, imported, len(x)):
        written = {name for node in model.proto.graph.node for name in node.output}
        names = [name for node in nodes for name in (*node.input, *node.output)]
        wanted = [name for name in dict.fromkeys(names) if name in written]
        values = Session(model.proto, wanted).run(x) | {model.input: x}
        for node in nodes:
            given = {name: values[name] for name in node.input if name and name not in constants}
            answers = twin.answer(node.name, given)
            for name, answer in zip(node.output, answers, strict=False):
                if name:
                    shown = model.layer_names.get(node.name, node.name)
                    error, want, got = relative_error(answer, values[name], RANGES.get(node.op_type, 1e-6))
                    yield Difference(name, shown, node.op_type, len(x), error, want, got)


def _end_to_end(model: CanonicalModel, twin: TorchTwin, x: np.ndarray) -> Iterator[Difference]:
    convolutions = {node.output[0]: node for node in model.proto.graph.node if node.op_type in CONVOLUTIONS}
    for names in _chunks(model, [name for name in convolutions if name in twin.values], len(x)):
        expected = Session(model.proto, names).run(x)
        with torch.no_grad():
            found = twin.cut(names)(torch.from_numpy(x))
        for name, answer in zip(names, found, strict=True):
            node = convolutions[name]
            error, want, got = relative_error(answer.numpy(), expected[name])
            yield Difference(name, node.name, node.op_type, len(x), error, want, got)


def _bytes(model: CanonicalModel, name: str, batch: int) -> int:
    shape = model.graph.shapes.get(name, ())
    return 4 * math.prod(extent if isinstance(extent, int) else batch for extent in shape)


def _chunks(model: CanonicalModel, names: Sequence[str], batch: int) -> Iterator[list[str]]:
    """Names in groups whose values fit into CHUNK_BYTES together."""
    chunk: list[str] = []
    size = 0
    for name in names:
        size += _bytes(model, name, batch)
        if chunk and size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], _bytes(model, name, batch)
        chunk.append(name)
    if chunk:
        yield chunk


def _node_chunks(model: CanonicalModel, nodes: Sequence[onnx.NodeProto], batch: int) -> Iterator[list[onnx.NodeProto]]:
    by_output = {node.output[0]: node for node in nodes}
    for names in _chunks(model, list(by_output), batch):
        yield [by_output[name] for name in names]
