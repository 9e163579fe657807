"""Unroll branches and loops that constants of the file decide.

An If whose condition is constant becomes the branch that is taken; a Loop whose trip count is constant, and which
nothing else ends, becomes its body that often. Works on onnx-ir graphs; that the result is the old network is not
known here: comparison A (converters.parity) proves it each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from filterscope.converters.errors import LimitError
from filterscope.converters.normal_form.ir_values import constant, initializer, insert_node
from filterscope.converters.onnx_file.limits import MOST_NODES

MOST_TRIPS = 64  # a loop that runs more often stays a loop
MOST_RUNS = 10_000_000  # of nodes in a loop that stays one: some seconds in ONNX Runtime


def unroll(model: ir.Model) -> tuple[int, int]:
    """Unroll what is decided so far; what an unrolled body holds may take another call.

    Returns:
        How many branches and how many loops were written out.
    """
    branches = loops = 0
    for node in list(model.graph):
        if node.domain:
            continue
        if node.op_type == "If":
            branches += _write_branch(model, node)
        elif node.op_type == "Loop":
            loops += _write_loop(model, node)
        elif node.op_type == "Scan":
            _check_runs(node)
    return branches, loops


def _write_branch(model: ir.Model, node: ir.Node) -> bool:
    condition = constant(node.inputs[0])
    if condition is None:
        return False
    name = "then_branch" if condition.reshape(-1)[0] else "else_branch"
    results = _insert(model, node, node.attributes[name].as_graph(), inputs=[])
    _replace(model, node, results)
    return True


def _write_loop(model: ir.Model, node: ir.Node) -> bool:
    """Unroll a loop: inputs trip count, condition, carried values; the body takes the iteration's number first."""
    body = node.attributes["body"].as_graph()
    trips = constant(node.inputs[0])
    carried = [value for value in node.inputs[2:] if value is not None]
    scanned = len(body.outputs) - 1 - len(carried)
    if trips is None or not _runs_on(node.inputs[1], None) or not _runs_on(body.outputs[0], body.inputs[1]):
        return False
    count = max(0, int(trips.reshape(-1)[0]))
    _check_runs(node)
    if count > MOST_TRIPS or (scanned and not count):  # the shape of no scan at all is not known
        return False
    grown = model.graph.num_nodes() + count * sum(1 for _ in ir.traversal.RecursiveGraphIterator(body))
    if grown > MOST_NODES:
        raise LimitError(
            f"its loops come to {grown:,} nodes when the {count} trips of {node.name!r} are written out; at most "
            f"{MOST_NODES:,} are analysed"
        )
    true = initializer(model, f"{node.name}_true", np.array(True))
    scans: list[list[ir.Value]] = [[] for _ in range(scanned)]
    for trip in range(count):
        number = initializer(model, f"{node.name}_trip", np.array(trip, np.int64))
        results = _insert(model, node, body, inputs=[number, true, *carried], suffix=f"/{trip}")
        carried = list(results[1 : 1 + len(carried)])
        for scan, value in zip(scans, results[1 + len(carried) :], strict=True):
            scan.append(value)
    if not count:
        carried = [insert_node(model, node, "Identity", [value]) for value in carried]
    _replace(model, node, [*carried, *(_stacked(model, node, scan) for scan in scans)])
    return True


def _check_runs(node: ir.Node) -> None:
    """Judge a Loop or a Scan before it is run.

    Raises:
        LimitError: it runs longer than a network's loop can.
    """
    runs = _runs(node)
    if runs > MOST_RUNS:
        called = f"{node.op_type.lower()} {(node.name or '')[:60]!r}"
        raise LimitError(f"its {called} runs {_trips(node) or 1:,} times: {runs:,} nodes, more than {MOST_RUNS:,}")


def _runs(node: ir.Node) -> int:
    """How many nodes run for this one, where constants say it; a loop of unknown length counts once."""
    inside = sum(
        _runs(inner)
        for attribute in node.attributes.values()
        if attribute.type == ir.AttributeType.GRAPH
        for inner in attribute.as_graph()
    )
    trips = _trips(node)
    return 1 + inside * (1 if trips is None else max(0, trips))


def _trips(node: ir.Node) -> int | None:
    """How often the body of a Loop or a Scan runs, where constants or known lengths say it."""
    if node.domain or node.op_type not in ("Loop", "Scan"):
        return None
    if node.op_type == "Scan":
        return _scanned_length(node)
    trips = _number_of(node.inputs[0])
    return None if trips is None or not trips.size else int(trips.reshape(-1)[0])


def _scanned_length(scan: ir.Node) -> int | None:
    """Length of the axis along which a Scan goes; of the longest where they contradict one another."""
    count = scan.attributes["num_scan_inputs"].as_int() if "num_scan_inputs" in scan.attributes else 0
    scanned = scan.inputs[len(scan.inputs) - count :] if count > 0 else ()
    listed = scan.attributes.get("scan_input_axes")
    axes = [0] * len(scanned) if listed is None else list(listed.as_ints())
    lengths = []
    for value, axis in zip(scanned, axes, strict=False):
        array = _number_of(value)
        shape = array.shape if array is not None else None if value is None else value.shape
        length = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
        if isinstance(length, int):
            lengths.append(length)
    return max(lengths, default=None)


def _number_of(value: ir.Value | None) -> np.ndarray | None:
    """The array that a value always is, also where a Constant node of a body writes it."""
    array = constant(value)
    producer = None if value is None else value.producer()
    if array is None and producer is not None and producer.op_type == "Constant" and "value" in producer.attributes:
        array = producer.attributes["value"].as_tensor().numpy()
    return array


def _runs_on(condition: ir.Value | None, body_input: ir.Value | None) -> bool:
    """Whether a loop's condition is always true, or is the body's own input."""
    while condition is not None and condition is not body_input:
        producer = condition.producer()
        if producer is None or producer.op_type not in ("Identity", "Cast"):
            break
        condition = producer.inputs[0]
    if condition is None or condition is body_input:
        return True
    array = _number_of(condition)
    return array is not None and bool(array.reshape(-1)[0])


def _insert(
    model: ir.Model, before: ir.Node, graph: ir.Graph, *, inputs: Sequence[ir.Value | None], suffix: str = ""
) -> list[ir.Value]:
    """Put a copy of a subgraph before a node, its values and nodes renamed; a value of its own for each output."""
    copy = graph.clone(allow_outer_scope_values=True)
    for formal, actual in zip(copy.inputs, inputs, strict=True):
        assert actual is not None  # a Loop's carried values cannot be absent
        ir.convenience.replace_all_uses_with(formal, actual, replace_graph_outputs=True)
    results = list(copy.outputs)
    copy.outputs.clear()
    scope = f"{before.name or before.outputs[0].name}{suffix}"
    for value in list(copy.initializers.values()):
        array = constant(value)
        assert array is not None  # an initializer of a subgraph is never one of its inputs
        moved = initializer(model, f"{scope}/{value.name}", array)
        value.replace_all_uses_with(moved)
        results = [moved if result is value else result for result in results]
    nodes = list(copy)
    copy.remove(nodes)
    for node in nodes:
        node.name = f"{scope}/{node.name}" if node.name else None
        for value in node.outputs:
            if value.name:
                value.name = f"{scope}/{value.name}"
        model.graph.insert_before(before, node)
    own = {value for node in nodes for value in node.outputs}
    for index, result in enumerate(results):
        if result in own:
            own.remove(result)
        else:  # from outside, or an output twice
            results[index] = insert_node(model, before, "Identity", [result])
    return results


def _stacked(model: ir.Model, node: ir.Node, values: Sequence[ir.Value]) -> ir.Value:
    """One scan output: what each trip gave, along a new first axis."""
    axis = initializer(model, f"{node.name}_axis", np.array([0], np.int64))
    rows = [insert_node(model, node, "Unsqueeze", [value, axis]) for value in values]
    return insert_node(model, node, "Concat", rows, attributes={"axis": 0})


def _replace(model: ir.Model, node: ir.Node, results: Sequence[ir.Value]) -> None:
    """Replace the node's outputs by values of the unrolled part, which take their names."""
    for output, result in zip(node.outputs, results, strict=True):
        name = output.name
        result.shape, result.type = result.shape or output.shape, result.type or output.type
        output.replace_all_uses_with(result, replace_graph_outputs=True)
        output.name = None
        result.name = name
    model.graph.remove(node, safe=True)
