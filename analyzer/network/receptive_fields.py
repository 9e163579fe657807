"""Receptive fields: the exact set of input rows and columns that a neuron depends on.

One neuron is followed backwards through the graph, each operator naming the positions it reads, on an axis without
ends: padding moves a field and does not shrink it. Rows and columns are followed apart, so that a cross of a 1×7 and a
7×1 kernel becomes its hull. Knows graphs; knows nothing of ONNX Runtime or pictures.

Source of the idea that strides multiply and kernels add: Araujo, Norris & Sim 2019, doi:10.23915/distill.00021. Sets
of positions instead of sizes make it exact on branches, dilations and upsampling too.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from filterscope.converters.graph import Graph, Node
from filterscope.converters.normal_form.output_sizes import common_scale
from filterscope.converters.operator_facts import CONVOLUTIONS, Broadcasting, Kind, Place, operators

ROUNDING = 1e-6  # of a pixel: a jump of a third is no exact number
Positions = np.ndarray  # (n,) int64, sorted, unique
Needs = tuple[Positions, Positions]  # rows, columns
Move = tuple[int, Positions]  # position p of a result reads the positions p * step + offset
STAYS: Move = (1, np.array([0]))
FARTHEST = 1 << 48  # pixels: what reaches farther is followed node by node, lest numbers overflow


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """What one neuron sees, in input pixels; pairs are (rows, columns).

    It is the neuron in the middle of the map. All others see the same, moved, but in a network that upsamples, where
    it holds for every n-th of them only and the rest may see a few pixels more, or fewer, or elsewhere.
    """

    size: tuple[int, int]  # of the hull
    jump: tuple[float, float]  # between neighbouring neurons; below 1 after upsampling
    start: tuple[float, float]  # first row and column of the neuron at (0, 0); negative where padding is seen
    offsets: Needs  # the rows and columns seen, counted from the first: gaps where dilation leaves some out

    def at(self, row: int, column: int) -> tuple[int, int]:
        """First row and column that the neuron at this position of the map sees."""
        first = (self.start[0] + row * self.jump[0], self.start[1] + column * self.jump[1])
        return math.floor(first[0] + ROUNDING), math.floor(first[1] + ROUNDING)


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """What a value's neurons see of an earlier value, where all see the same, moved.

    The neuron at row p sees the rows `p * step + offset`; columns likewise. Kept for each value, so that a walk takes
    one step from a value to its base, however many nodes stand between: a walk node by node for each of n layers
    takes n² steps.
    """

    base: str  # the earlier value
    steps: tuple[int, int]  # rows and columns of it between neighbouring neurons
    offsets: Needs  # seen by the neuron at (0, 0)

    def positions(self, neurons: Needs) -> Needs:
        """Rows and columns of the base that these neurons see."""
        rows, columns = (_spread(neurons[axis], self.steps[axis], self.offsets[axis]) for axis in (0, 1))
        return rows, columns


class FieldWalk:
    """Receptive fields of values of one graph.

    Args:
        graph: the network.
        value: its image input.
        axes: which of its axes are height and width: (2, 3) or (1, 2).
        shapes: concrete shape of every value for one image at the size analysed.
    """

    def __init__(self, graph: Graph, value: str, axes: tuple[int, int], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.graph = graph
        self.input = value
        self.shapes = shapes
        self.axes: dict[str, tuple[int, int] | None] = {value: axes}  # None: depends on the image, has no place in it
        self.jumps: dict[str, tuple[float, float]] = {value: (1.0, 1.0)}
        self.order = {node.name: index for index, node in enumerate(graph.nodes)}
        self._global = {value: False}  # whether a global operation stands before a value
        self._reach = {value: _itself(value)}
        for node in graph.nodes:
            self._forward(node)

    def field(self, value: str) -> tuple[Field | None, bool]:
        """The local field of a value's neurons, and whether a global operation stands before it.

        Returns:
            The field without what passes through global operations (the gates of squeeze-and-excitation, attention),
            None where nothing else leads to the image; and whether there are such operations.
        """
        if self.axes.get(value) is None:
            return None, True
        height, width = self._extent(value)
        for aside in range(max(1, max(height, width) // 2)):  # after some upsampling, not every neuron sees a pixel
            middle = (min(height // 2 + aside, height - 1), min(width // 2 + aside, width - 1))
            needs, is_global = self._walk(value, middle)
            if needs is None:
                return None, True
            rows, columns = needs
            if len(rows) and len(columns):
                break
        else:
            return None, True
        jump = self.jumps[value]
        start = (float(rows[0] - middle[0] * jump[0]), float(columns[0] - middle[1] * jump[1]))
        size = (int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1))
        return Field(size, jump, start, (rows - rows[0], columns - columns[0])), is_global

    def along(self, value: str, axis: int, place: int) -> tuple[int, int] | None:
        """What the neurons at one row (axis 0) or column (1) see along it, but for what global operations let through.

        Returns:
            First row or column and their number, from the first to the last; perhaps partly outside the image. None
            where nothing is seen.
        """
        if self.axes.get(value) is None:
            return None
        middle = [extent // 2 for extent in self._extent(value)]
        middle[axis] = place
        needs, _ = self._walk(value, (middle[0], middle[1]))
        if needs is None or not len(needs[axis]):
            return None
        first, last = int(needs[axis][0]), int(needs[axis][-1])
        return first, last - first + 1

    def _extent(self, value: str) -> tuple[int, int]:
        axes = self.axes[value]
        assert axes is not None
        shape = self.shapes[value]
        return shape[axes[0]], shape[axes[1]]

    def _walk(self, value: str, position: tuple[int, int]) -> tuple[Needs | None, bool]:
        needs: dict[str, Needs] = {}
        pending: list[int] = []  # a heap: the last in graph order comes first, when all its readers are done

        def add(source: str, read: Needs) -> None:
            reach = self._reach[source]
            producer = self.graph.producer(reach.base)
            if producer is not None and reach.base not in needs:
                heapq.heappush(pending, -self.order[producer.name])
            seen = reach.positions(read)
            needs[reach.base] = _union([needs[reach.base], seen]) if reach.base in needs else seen

        add(value, (np.array([position[0]]), np.array([position[1]])))
        last = -1
        while pending:
            index = -heapq.heappop(pending)
            if index == last:  # a node with several outputs
                continue
            last, node = index, self.graph.nodes[index]
            outputs = [needs[output] for output in node.outputs if output in needs]
            for source, read in self._reads(node, outputs[0] if len(outputs) == 1 else _union(outputs)):
                if read is not None:
                    add(source, read)
        return needs.get(self.input), self._global[value]

    def _reads(self, node: Node, outputs: Needs) -> list[tuple[str, Needs | None]]:
        """For each data input of a node: the positions that its output positions read, None for all of them."""
        reads: list[tuple[str, Needs | None]] = []
        for source in node.inputs:
            if source not in self.axes:
                continue  # a constant, or computed from constants and shapes alone
            if self._is_read_whole(node, source):
                reads.append((source, None))
                continue
            reads.append((source, self._positions(node, source, outputs)))
        return reads

    def _is_read_whole(self, node: Node, source: str) -> bool:
        return self.axes[source] is None or self._is_gate(node, source) or self._is_kernel(node, source)

    def _is_gate(self, node: Node, source: str) -> bool:
        """Whether a 1×1 map is broadcast over a larger one, as in squeeze-and-excitation."""
        output = node.outputs[0]
        if node.op not in BROADCASTING or self.axes.get(output) is None:
            return False
        return self._extent(source) == (1, 1) and self._extent(output) != (1, 1)

    def _is_kernel(self, node: Node, source: str) -> bool:
        """Whether a kernel is computed from the image, as in a correlation of two maps."""
        return node.op in CONVOLUTIONS and source in node.inputs[1:]

    def _positions(self, node: Node, source: str, outputs: Needs) -> Needs:
        rows = self._axis_positions(node, source, 0, outputs[0])
        return rows, self._axis_positions(node, source, 1, outputs[1])

    def _axis_positions(self, node: Node, source: str, axis: int, outputs: Positions) -> Positions:
        rule = POSITIONS.get(node.op)
        return outputs if rule is None else rule(InputAxis(self, node, source, axis), outputs)

    # forward: where height and width are in each value, and how far apart its neurons look

    def _forward(self, node: Node) -> None:
        sources = [name for name in node.inputs if name in self.axes]
        if not sources or node.op in NO_DATA:
            return
        axes = self._axes_after(node, sources)
        for output in node.outputs:
            if not output:
                continue
            self.axes[output] = axes if axes is not None and self._fits(output, axes) else None
            if self.axes[output] is not None:
                source = next(name for name in sources if self.axes[name] is not None)
                self.jumps[output] = self._jump_after(node, source)
                self._global[output] = node.op in WHOLE_MAP_STATISTICS or any(
                    self._is_read_whole(node, name) or self._global[name] for name in sources
                )
                self._reach[output] = self._reach_after(node, sources) or _itself(output)

    def _reach_after(self, node: Node, sources: Sequence[str]) -> Reach | None:
        """What a node's outputs see, from what its sources see; None where not all of it is the same, moved."""
        whole: Reach | None = None
        for source in dict.fromkeys(sources):
            if self._is_read_whole(node, source):
                continue
            moves = [move for axis in (0, 1) if (move := self._move(node, source, axis)) is not None]
            if len(moves) < 2:
                return None
            before = self._reach[source]
            reach = before if all(move is STAYS for move in moves) else _moved(before, moves)
            if reach is None or (whole is not None and (reach.base, reach.steps) != (whole.base, whole.steps)):
                return None
            whole = reach if whole is None or whole is reach else _with_both(whole, reach)
        return whole

    def _move(self, node: Node, source: str, axis: int) -> Move | None:
        """Step and offsets of what a node's positions read of a source; None where they are not all the same, moved."""
        if node.op not in POSITIONS:
            return STAYS
        if node.op == "Concat":
            axes = self.axes[source]
            joined = int(node.attributes["axis"]) % len(self.shapes[source])
            return None if axes is None or joined == axes[axis] else STAYS
        if node.op in WINDOWS and _window(node, self, axis) == (1, 1, 1, 0):
            return STAYS
        if node.op in MOVING or (node.op == "ConvTranspose" and _window(node, self, axis)[1] == 1):
            return round(self._step(node, axis)), self._axis_positions(node, source, axis, np.array([0]))
        return None

    def _fits(self, output: str, axes: tuple[int, int]) -> bool:
        return output in self.shapes and len(self.shapes[output]) > max(axes)

    def _axes_after(self, node: Node, sources: Sequence[str]) -> tuple[int, int] | None:
        placed = [name for name in sources if self.axes[name] is not None]
        if not placed or node.op in GLOBAL or node.outputs[0] not in self.shapes:
            return None
        source = max(placed, key=lambda name: math.prod(self._extent(name)))
        axes = self.axes[source]
        assert axes is not None
        if node.op in IMAGE_SHAPED and axes != (2, 3):
            return None
        rank, rank_out = len(self.shapes[source]), len(self.shapes[node.outputs[0]])
        rule = AXES.get(node.op)
        if rule is not None:
            return rule(self, node, source, axes)
        if node.op in BROADCASTING:
            return axes[0] - rank + rank_out, axes[1] - rank + rank_out
        return axes if node.op in POSITIONAL else None

    def _jump_after(self, node: Node, source: str) -> tuple[float, float]:
        steps = [self._step(node, axis) for axis in (0, 1)]
        before = self.jumps[source]
        return before[0] * steps[0], before[1] * steps[1]

    def _step(self, node: Node, axis: int) -> float:
        """Input positions per output position."""
        if node.op in WINDOWS:
            return float(_window(node, self, axis)[1])
        if node.op == "ConvTranspose":
            return 1.0 / _window(node, self, axis)[1]
        if node.op == "Resize":
            return 1.0 / self._scale(node, axis)
        if node.op == "DepthToSpace":
            return 1.0 / int(node.attributes["blocksize"])
        if node.op == "SpaceToDepth":
            return float(node.attributes["blocksize"])
        if node.op == "Slice":
            return float(self._slice(node, axis)[1])
        return 1.0

    def constant(self, node: Node, index: int) -> np.ndarray | None:
        """A node's input where it is a constant."""
        if len(node.inputs) <= index:
            return None
        return self.graph.initializers.get(node.inputs[index])

    def _scale(self, node: Node, axis: int) -> float:
        """Output positions per input position of a Resize, along one spatial axis."""
        source, output = node.inputs[0], node.outputs[0]
        axes = self.axes[source]
        assert axes is not None
        scales = self.constant(node, 2)
        if scales is not None and scales.size:
            rank = len(self.shapes[source])
            listed = [int(a) % rank for a in node.attributes.get("axes", range(rank))]
            return float(scales[listed.index(axes[axis])]) if axes[axis] in listed else 1.0
        policy, sizes = node.attributes.get("keep_aspect_ratio_policy", "stretch"), self.constant(node, 3)
        if policy != "stretch" and sizes is not None:
            shape = self.shapes[source]
            listed = [int(a) % len(shape) for a in node.attributes.get("axes", range(len(shape)))]
            return common_scale(policy, [shape[a] for a in listed], [int(size) for size in sizes])
        return self.shapes[output][axes[axis]] / self.shapes[source][axes[axis]]

    def _slice(self, node: Node, axis: int) -> tuple[int, int]:
        """First position and step of a Slice along one spatial axis."""
        axes = self.axes[node.inputs[0]]
        starts, listed, steps = (self.constant(node, index) for index in (1, 3, 4))
        assert axes is not None
        if starts is None:
            return 0, 1
        on = list(range(len(starts))) if listed is None else [int(a) for a in listed]
        rank = len(self.shapes[node.inputs[0]])
        for index, sliced in enumerate(on):
            if sliced % rank == axes[axis]:
                step = 1 if steps is None else int(steps[index])
                extent = self.shapes[node.inputs[0]][axes[axis]]
                start = int(starts[index])
                start = max(0, start + extent) if start < 0 else min(start, extent - 1 if step < 0 else extent)
                return start, step
        return 0, 1


def _itself(value: str) -> Reach:
    return Reach(value, (1, 1), (np.array([0]), np.array([0])))


def _moved(reach: Reach, moves: Sequence[Move]) -> Reach | None:
    """What is seen through a node that reads positions `p * step + offset` of a value; None where it is too far off."""
    steps = tuple(reach.steps[axis] * moves[axis][0] for axis in (0, 1))
    if max(abs(step) for step in steps) > FARTHEST:
        return None
    rows, columns = (
        reach.offsets[axis] if moves[axis] is STAYS else _spread(moves[axis][1], reach.steps[axis], reach.offsets[axis])
        for axis in (0, 1)
    )
    if max(max(abs(int(seen[0])), abs(int(seen[-1]))) for seen in (rows, columns)) > FARTHEST:
        return None
    return Reach(reach.base, (steps[0], steps[1]), (rows, columns))


def _with_both(one: Reach, other: Reach) -> Reach:
    """The union of two reaches that have the same base and step."""
    offsets = [
        a if a is b or np.array_equal(a, b) else np.union1d(a, b)
        for a, b in zip(one.offsets, other.offsets, strict=True)
    ]
    return Reach(one.base, one.steps, (offsets[0], offsets[1]))


def _spread(positions: Positions, step: int, offsets: Positions) -> Positions:
    """All of `position * step + offset`."""
    if len(positions) == 1:
        return np.asarray(positions[0] * step + offsets)
    if len(offsets) == 1:
        moved = positions * step + offsets[0]
        return np.asarray(moved if step > 0 else moved[::-1])
    return np.unique(positions[:, None] * step + offsets)


def _union(needs: Sequence[Needs]) -> Needs:
    return tuple(np.unique(np.concatenate([need[axis] for need in needs])) for axis in (0, 1))  # type: ignore[return-value]


def _window(node: Node, walk: FieldWalk, axis: int) -> tuple[int, int, int, int]:
    """Kernel, stride, dilation and padding before the first position, of a convolution or pooling."""
    kernel = node.attributes.get("kernel_shape")
    if kernel is None:
        kernel = walk.shapes[node.inputs[1]][2:]
    rank = len(kernel)
    stride = list(node.attributes.get("strides", [1] * rank))
    dilation = list(node.attributes.get("dilations", [1] * rank))
    return int(kernel[axis]), int(stride[axis]), int(dilation[axis]), resolved_pads(node, walk.shapes)[axis]


def resolved_pads(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> list[int]:
    """Padding of a convolution or pooling, begins then ends, with auto_pad worked out at these shapes."""
    extents = shapes[node.inputs[0]][2:]
    rank = len(extents)
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "") and "output_shape" not in node.attributes:
        return [int(pad) for pad in node.attributes.get("pads", [0] * 2 * rank)]
    if mode == "VALID":
        return [0] * 2 * rank
    kernel = node.attributes.get("kernel_shape") or shapes[node.inputs[1]][2:]
    stride = node.attributes.get("strides", [1] * rank)
    dilation = node.attributes.get("dilations", [1] * rank)
    begins, ends = [], []
    extra = node.attributes.get("output_padding", [0] * rank)
    after = shapes[node.outputs[0]][2:]
    for axis, (extent, size, step, gap) in enumerate(zip(extents, kernel, stride, dilation, strict=True)):
        if node.op == "ConvTranspose":
            total = max(0, (extent - 1) * step + extra[axis] + (size - 1) * gap + 1 - after[axis])
        else:
            total = max(0, (math.ceil(extent / step) - 1) * step + (size - 1) * gap + 1 - extent)
        small = total // 2
        begins.append(small if mode == "SAME_UPPER" else total - small)
        ends.append(total - begins[-1])
    return begins + ends


@dataclass(frozen=True, slots=True, eq=False)
class InputAxis:
    """One axis of one input of a node: a rule says which of its positions are read."""

    walk: FieldWalk
    node: Node
    source: str  # name of the input
    axis: int  # 0: rows, 1: columns


def _windowed(input_axis: InputAxis, outputs: Positions) -> Positions:
    kernel, stride, dilation, before = _window(input_axis.node, input_axis.walk, input_axis.axis)
    return np.unique(outputs[:, None] * stride - before + np.arange(kernel) * dilation)


def _transposed(input_axis: InputAxis, outputs: Positions) -> Positions:
    kernel, stride, dilation, before = _window(input_axis.node, input_axis.walk, input_axis.axis)
    reached = outputs[:, None] + before - np.arange(kernel) * dilation
    return np.unique(reached[reached % stride == 0] // stride)


def _resized(input_axis: InputAxis, outputs: Positions) -> Positions:
    node = input_axis.node
    scale = input_axis.walk._scale(node, input_axis.axis)
    mode = node.attributes.get("mode", "nearest")
    where = _source_coordinate(input_axis, outputs, scale)
    if mode == "nearest":
        rounding = NEAREST[node.attributes.get("nearest_mode", "round_prefer_floor")]
        return np.unique(rounding(where).astype(np.int64))
    below = np.floor(where).astype(np.int64)
    if node.attributes.get("antialias") and scale < 1:
        return _antialiased(where, scale, 1 if mode == "linear" else 2)
    reach = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    on_grid = where == below  # a weight of zero reads nothing
    reads = [below, *(below[~on_grid] + offset for offset in reach if offset)]
    return np.unique(np.concatenate(reads))


def _antialiased(where: np.ndarray, scale: float, reach: int) -> Positions:
    """A filter that is stretched by what the image is shrunk by; it is zero at `reach` and beyond."""
    span = np.arange(math.floor(where.min() - reach / scale), math.ceil(where.max() + reach / scale) + 1)
    near = np.abs(span - where[:, None]) * scale < reach
    return np.asarray(span[near.any(axis=0)])


def _source_coordinate(input_axis: InputAxis, outputs: Positions, factor: float) -> np.ndarray:
    """Formula of Resize's coordinate_transformation_mode (ONNX operator specification, Resize), in float32.

    Operation by operation as ONNX Runtime computes it: the nearest pixel hangs on the last bit.
    """
    node, walk = input_axis.node, input_axis.walk
    mode = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    axes = walk.axes[node.inputs[0]]
    assert axes is not None
    before, after = (np.float32(walk.shapes[name][axes[input_axis.axis]]) for name in (node.inputs[0], node.outputs[0]))
    out, scale, half, one = outputs.astype(np.float32), np.float32(factor), np.float32(0.5), np.float32(1)
    if mode == "asymmetric":
        return np.asarray(out / scale)
    if mode == "tf_half_pixel_for_nn":
        return np.asarray((out + half) / scale)
    if mode == "align_corners":
        return np.asarray(out * (before - one) / max(after - one, one))
    if mode == "pytorch_half_pixel" and after == 1:
        return np.zeros_like(out)
    shift = before / np.float32(2) * (one - after / (scale * before)) if mode == "half_pixel_symmetric" else 0
    return np.asarray(np.float32(shift) + (out + half) / scale - half)


def _half_down(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.ceil(x - 0.5))


def _half_up(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.floor(x + 0.5))


NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": _half_down,
    "round_prefer_ceil": _half_up,
    "floor": np.floor,
    "ceil": np.ceil,
}


def _sliced(input_axis: InputAxis, outputs: Positions) -> Positions:
    start, step = input_axis.walk._slice(input_axis.node, input_axis.axis)
    return np.unique(outputs * step + start)


def _padded(input_axis: InputAxis, outputs: Positions) -> Positions:
    walk = input_axis.walk
    pads, listed = walk.constant(input_axis.node, 1), walk.constant(input_axis.node, 3)
    axes = walk.axes[input_axis.source]
    rank = len(walk.shapes[input_axis.source])
    if pads is None or axes is None:
        return outputs
    on = [int(a) % rank for a in listed] if listed is not None else list(range(rank))
    axis = axes[input_axis.axis]
    return outputs - int(pads[on.index(axis)]) if axis in on else outputs


def _joined(input_axis: InputAxis, outputs: Positions) -> Positions:
    walk, node, source = input_axis.walk, input_axis.node, input_axis.source
    axes = walk.axes[source]
    rank = len(walk.shapes[source])
    if axes is None or int(node.attributes["axis"]) % rank != axes[input_axis.axis]:
        return outputs
    axis = axes[input_axis.axis]
    before = sum(walk.shapes[name][axis] for name in node.inputs[: node.inputs.index(source)])
    own = outputs - before
    return own[(own >= 0) & (own < walk.shapes[source][axis])]


def _to_space(input_axis: InputAxis, outputs: Positions) -> Positions:
    return np.unique(outputs // int(input_axis.node.attributes["blocksize"]))


def _to_depth(input_axis: InputAxis, outputs: Positions) -> Positions:
    block = int(input_axis.node.attributes["blocksize"])
    return np.unique(outputs[:, None] * block + np.arange(block))


FieldRule = Callable[[InputAxis, Positions], Positions]  # output positions → the input positions that they read

WINDOWS = operators(lambda facts: facts.place is Place.WINDOW)
MOVING = operators(  # all output positions read the same, moved
    lambda facts: facts.place in (Place.WINDOW, Place.SHIFTED)
)
IMAGE_SHAPED = operators(  # height and width are axes 2 and 3
    lambda facts: facts.has_image_axes and not facts.is_rewritten
)
POSITIONS: dict[str, FieldRule] = {  # which input positions an output position reads; not listed: its own
    **dict.fromkeys(WINDOWS, _windowed),
    "ConvTranspose": _transposed,
    "Resize": _resized,
    "Slice": _sliced,
    "Pad": _padded,
    "Concat": _joined,
    "DepthToSpace": _to_space,
    "SpaceToDepth": _to_depth,
}


def _transposed_axes(walk: FieldWalk, node: Node, source: str, axes: tuple[int, int]) -> tuple[int, int] | None:
    order = list(node.attributes.get("perm", range(len(walk.shapes[source]))[::-1]))
    rows, columns = order.index(axes[0]), order.index(axes[1])
    return (rows, columns) if rows < columns else None  # an image on its side is not followed


def _kept_in_reshape(walk: FieldWalk, node: Node, source: str, axes: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width survive where each stays an axis of its own: what stands before it has the same product."""
    before, after = walk.shapes[source], walk.shapes[node.outputs[0]]
    places = []
    for axis in axes:
        leading = math.prod(before[:axis])
        matches = [i for i in range(len(after)) if math.prod(after[:i]) == leading and after[i] == before[axis]]
        if not matches:
            return None
        places.append(matches[-1])
    return (places[0], places[1]) if places[0] < places[1] else None


def _outside(axis_of: Callable[[FieldWalk, Node, str], set[int]]) -> Callable[..., tuple[int, int] | None]:
    """Rule of an operator that mixes along some axes: none of them may be height or width."""

    def rule(walk: FieldWalk, node: Node, source: str, axes: tuple[int, int]) -> tuple[int, int] | None:
        mixed = axis_of(walk, node, source)
        if mixed & set(axes):
            return None
        if len(walk.shapes[node.outputs[0]]) == len(walk.shapes[source]):
            return axes
        return axes[0] - sum(a < axes[0] for a in mixed), axes[1] - sum(a < axes[1] for a in mixed)

    return rule


def _reduced(walk: FieldWalk, node: Node, source: str) -> set[int]:
    rank = len(walk.shapes[source])
    listed: Any = walk.constant(node, 1)
    if listed is None:
        listed = node.attributes.get("axes", range(rank))
    return {int(a) % rank for a in listed}


def _one_axis(default: int) -> Callable[[FieldWalk, Node, str], set[int]]:
    def axis_of(walk: FieldWalk, node: Node, source: str) -> set[int]:
        return {int(node.attributes.get("axis", default)) % len(walk.shapes[source])}

    return axis_of


def _from_axis(walk: FieldWalk, node: Node, source: str) -> set[int]:
    rank = len(walk.shapes[source])
    return set(range(int(node.attributes.get("axis", -1)) % rank, rank))


def _contracted(walk: FieldWalk, node: Node, source: str, axes: tuple[int, int]) -> tuple[int, int] | None:
    """MatMul by a constant on the right mixes the last axis alone."""
    rank = len(walk.shapes[source])
    if source != node.inputs[0] or walk.constant(node, 1) is None or rank - 1 in axes:
        return None
    return axes


def _squeezed(walk: FieldWalk, node: Node, source: str, axes: tuple[int, int]) -> tuple[int, int] | None:
    rank = len(walk.shapes[source])
    listed = walk.constant(node, 1)
    gone = {int(a) % rank for a in listed} if listed is not None else set()
    if not gone or gone & set(axes):
        return None
    return axes[0] - sum(a < axes[0] for a in gone), axes[1] - sum(a < axes[1] for a in gone)


def _unsqueezed(walk: FieldWalk, node: Node, source: str, axes: tuple[int, int]) -> tuple[int, int] | None:
    rank = len(walk.shapes[node.outputs[0]])
    listed = walk.constant(node, 1)
    new = {int(a) % rank for a in listed} if listed is not None else set()
    old = [axis for axis in range(rank) if axis not in new]
    return old[axes[0]], old[axes[1]]


REDUCTIONS = operators(lambda facts: facts.kind is Kind.REDUCTION)
AXES: dict[str, Callable[..., tuple[int, int] | None]] = {  # where height and width are afterwards
    "Transpose": _transposed_axes,
    "Reshape": _kept_in_reshape,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "MatMul": _contracted,
    "LayerNormalization": _outside(_from_axis),
    **dict.fromkeys(REDUCTIONS, _outside(_reduced)),
    **dict.fromkeys(operators(lambda facts: facts.kind is Kind.SOFTMAX), _outside(_one_axis(-1))),
    "LpNormalization": _outside(_one_axis(-1)),
    **dict.fromkeys(("Gather", "Split"), _outside(_one_axis(0))),
}
BROADCASTING = operators(lambda facts: facts.broadcasting is Broadcasting.EVERY_AXIS)
WHOLE_MAP_STATISTICS = operators(lambda facts: facts.reads_whole_map)
POSITIONAL = operators(  # height and width stay where they are
    lambda facts: (
        facts.place in (Place.SAME, Place.WINDOW, Place.SHIFTED, Place.SPREAD, Place.JOINED)
        and facts.broadcasting is Broadcasting.NONE
    )
)
GLOBAL = operators(lambda facts: facts.place is Place.LOST)
NO_DATA = operators(lambda facts: facts.kind is Kind.SHAPE)  # depend on the image's size, not on its pixels
