"""The layers of a network: what each is, what it sees, and how they follow each other.

A layer is a Conv or ConvTranspose of the canonical graph, or another value that has channels; a unit is one of its
channels. Knows graphs; knows nothing of pictures or files.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from filterscope.analyzer.network.nonlinearity import nonlinearity
from filterscope.analyzer.network.receptive_fields import Field, FieldWalk, resolved_pads
from filterscope.converters.errors import SettingsError, setting
from filterscope.converters.graph import Graph, Node
from filterscope.converters.operator_facts import CONVOLUTIONS, Numbers, operators

SAME_PIXELS = operators(  # what leaves each pixel as it is, and its axes apart
    lambda facts: facts.numbers in (Numbers.SAME, Numbers.CONVERTED) and facts.precedes_first_layer
)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer: a convolution of the canonical graph, or another of its values; then it has no kernel."""

    index: int  # of convolutions in graph order, from 0; other values come after them
    name: str  # as its user knows it
    node: str  # name of the canonical node
    value: str  # its output, the pre-activation; the original has it under this name, but for a "::channels_first"
    source: str  # its input value
    op: str  # Conv, ConvTranspose, or what gives the value
    rank: int  # spatial dimensions: 2 is analysed, others are listed
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]  # begins, then ends; auto_pad worked out at the size analysed
    auto_pad: str  # as the file says
    groups: int
    in_channels: int
    out_channels: int
    output_shape: tuple[int, ...]  # (C, H, W) at the size analysed
    parameters: int
    macs: int  # multiply-accumulates for one image, bias excluded
    bias: bool
    batchnorm: bool  # whether a BatchNorm was folded into it
    nonlinearity: str  # what follows: relu, relu6, silu, …, none
    field: Field | None  # the local field; None where only global operations lead to the image
    is_global: bool  # a global operation stands before it: its field is the whole input
    depth: int  # convolutions before it, on the longest path
    predecessors: tuple[str, ...]  # layers that feed it without another convolution between
    sees_image: bool  # nothing but an affine map of each pixel stands before it
    weight: np.ndarray | None  # (C_out, C_in / groups, …) float32; None where the kernel is computed at run time
    bias_vector: np.ndarray | None  # (C_out,) float32; zeros where the layer has none, None where it is computed
    pictures: int = 1  # that its output holds for one image: more where channels were made into pictures before it
    kind: str = "conv"  # as `network.values` says
    paths: tuple[str, ...] = ()  # other names: of all the user's modules that give this value alone
    viewed: str = ""  # the value that `value` lays out as maps; "": it holds maps itself

    @property
    def has_maps(self) -> bool:
        """Whether it gives each image one map a channel, with rows and columns: others are listed only."""
        return self.rank == 2 and self.pictures == 1

    @property
    def origin(self) -> str:
        """The value whose numbers these are, before any view of it."""
        return self.viewed or self.value

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution, and not another value of the graph."""
        return self.op in CONVOLUTIONS

    @property
    def is_constant(self) -> bool:
        """Whether kernel and bias are the same for every picture, so that the layer is a linear map that is known."""
        return self.weight is not None and self.bias_vector is not None

    def is_called(self, names: Collection[str]) -> bool:
        """Whether one of some names, to the letter, is its own."""
        own = (self.name, self.node, self.value, self.origin, f"#{self.index}", *self.paths)
        return any(name in names for name in own)

    def to_json(self) -> dict[str, Any]:
        """What layers.json and `filterscope inspect` as JSON say of it (docs/run-format.md)."""
        field = self.field
        return {
            "index": self.index,
            "name": self.name,
            "node": self.node,
            "value": self.value,
            "op": self.op,
            "rank": self.rank,
            "kernel": list(self.kernel),
            "stride": list(self.stride),
            "dilation": list(self.dilation),
            "pads": list(self.pads),
            "auto_pad": self.auto_pad,
            "groups": self.groups,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "output_shape": list(self.output_shape),
            "parameters": self.parameters,
            "macs": self.macs,
            "bias": self.bias,
            "batchnorm": self.batchnorm,
            "nonlinearity": self.nonlinearity,
            "field": {
                "size": None if field is None else list(field.size),
                "jump": None if field is None else list(field.jump),
                "start": None if field is None else list(field.start),
                "global": self.is_global,
                "local": field is not None,
            },
            "depth": self.depth,
            "predecessors": list(self.predecessors),
            "sees_image": self.sees_image,
            "computed": self.is_convolution and not self.is_constant,
            "kind": self.kind,
            "paths": list(self.paths),
            "origin": self.origin,
        }


def conv_layers(
    walk: FieldWalk,
    names: Mapping[str, str],
    normalised: Iterable[str] = (),
    modules: Mapping[str, Sequence[str]] | None = None,
) -> list[Layer]:
    """Every convolution layer of a network, in graph order.

    Args:
        walk: through the canonical graph, at the size analysed.
        names: node name → the name its user knows.
        normalised: nodes into which a BatchNorm was folded.
        modules: path of a user's module → the values that it gives.
    """
    paths = paths_of_values(modules or {})
    ancestry = Ancestry(walk.graph, walk.input)
    normalised = set(normalised)
    convolutions = [node for node in walk.graph.nodes if node.op in CONVOLUTIONS and not node.domain]
    layers = [
        _layer(node, walk, ancestry, names, index=index, batchnorm=node.name in normalised)
        for index, node in enumerate(convolutions)
    ]
    return [replace(layer, paths=tuple(paths.get(layer.value, ()))) for layer in layers]


def paths_of_values(modules: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Value → the paths of the modules that give it alone.

    Args:
        modules: path of a user's module → the values that it gives.
    """
    paths: dict[str, list[str]] = {}
    for path, values in modules.items():
        if len(values) == 1:
            paths.setdefault(values[0], []).append(path)
    return paths


def select(
    layers: Sequence[Layer], patterns: Sequence[str], field: str = "layers", others: Sequence[str] = ()
) -> list[Layer]:
    """Layers by name, node, value, number or glob, or several of these with commas; all of them for an empty list.

    Args:
        field: the setting that holds the patterns, for the error.
        others: what else could have been named, for the error.

    Raises:
        SettingsError: nothing matches; the nearest names are suggested.
    """
    if not patterns:
        return list(layers)
    whole = [any(_matches(layer, pattern) for layer in layers) for pattern in patterns]  # a name may hold a comma
    listed = [[pattern] if fits else pattern.split(",") for pattern, fits in zip(patterns, whole, strict=True)]
    chosen: set[int] = set()
    for pattern in (part.strip() for parts in listed for part in parts):
        matches = [layer.index for layer in layers if _matches(layer, pattern)]
        if not matches:
            names = [layer.name for layer in layers]
            near = difflib.get_close_matches(pattern, list(dict.fromkeys([*names, *others])), 3, 0.3) or names[:3]
            message = f"no layer matches {pattern!r}; nearest: {', '.join(near)} (see `filterscope inspect`)"
            raise SettingsError(message, field=field, value=pattern)
        chosen.update(matches)
    return [layer for layer in layers if layer.index in chosen]


def select_two_dimensional(layers: Sequence[Layer], patterns: Sequence[str], field: str) -> list[Layer]:
    """Two-dimensional layers that fit a list of names and globs.

    Args:
        field: the setting that holds the list, for the message.

    Raises:
        SettingsError: a name that fits no layer, or none with rows and columns.
    """
    chosen = [layer for layer in select(layers, patterns, field) if layer.has_maps]
    if not chosen:
        text = setting(field, ", ".join(patterns))
        raise SettingsError(f"{text}: no two-dimensional convolution", field=field, value=patterns)
    return chosen


def layers_before(layers: Sequence[Layer], layer: Layer) -> list[Layer]:
    """The layers that lead to a layer, directly or through others, in network order."""
    by_name = {each.name: each for each in layers}
    names, pending = set[str](), list(layer.predecessors)
    while pending:
        name = pending.pop()
        if name not in names:
            names.add(name)
            pending.extend(by_name[name].predecessors)
    return [each for each in layers if each.name in names]


def _matches(layer: Layer, pattern: str) -> bool:
    if layer.is_called([pattern]):
        return True
    own = (layer.name, layer.node, layer.value, *layer.paths)
    return any(fnmatch.fnmatchcase(name, pattern) for name in own)


class Ancestry:
    """Which convolutions stand before each value, computed once for the whole graph."""

    def __init__(self, graph: Graph, image: str) -> None:
        self.graph = graph
        self.depth: dict[str, int] = {image: 0}  # value → convolutions on the longest path to it
        self.convolutions: list[str] = []  # in graph order
        self.feeding: dict[str, int] = {image: 0}  # value → convolutions that feed it directly, a bit for each
        self.affine: set[str] = {image}  # values that are an affine map of single pixels
        for node in graph.nodes:
            sources = [name for name in node.inputs if name in self.depth]
            if not sources:
                continue
            depth = max(self.depth[name] for name in sources)
            feeding = 0
            for name in sources:
                feeding |= self.feeding[name]
            if node.op in CONVOLUTIONS:
                depth, feeding = depth + 1, 1 << len(self.convolutions)
                self.convolutions.append(node.name)
            for output in node.outputs:
                self.depth[output], self.feeding[output] = depth, feeding
            if len(sources) == 1 and sources[0] in self.affine and self._is_affine(node):
                self.affine.update(node.outputs)

    def before(self, value: str) -> list[str]:
        """Convolutions that feed a value directly, in graph order."""
        bits = self.feeding.get(value, 0)
        names = []
        while bits:
            last = bits & -bits
            names.append(self.convolutions[last.bit_length() - 1])
            bits ^= last
        return names

    def _is_affine(self, node: Node) -> bool:
        if node.op in SAME_PIXELS:
            return True
        constants = [name in self.graph.initializers for name in node.inputs]
        return (node.op in ("Add", "Sub", "Mul") and any(constants)) or (node.op == "Div" and constants[1])


def _layer(
    node: Node, walk: FieldWalk, ancestry: Ancestry, names: Mapping[str, str], *, index: int, batchnorm: bool
) -> Layer:
    graph, shapes = walk.graph, walk.shapes
    output, source = node.outputs[0], node.inputs[0]
    kernel_shape = shapes.get(node.inputs[1]) or graph.initializers[node.inputs[1]].shape
    groups = int(node.attributes.get("group", 1))
    rank = len(kernel_shape) - 2
    transposed = node.op == "ConvTranspose"
    c_out = kernel_shape[1] * groups if transposed else kernel_shape[0]
    c_in = kernel_shape[0] if transposed else kernel_shape[1] * groups
    bias_name = node.inputs[2] if len(node.inputs) > 2 else ""
    bias = graph.initializers.get(bias_name)
    computed = bool(bias_name) and bias is None
    out_shape = tuple(shapes[output])
    placed = shapes[source][2:] if transposed else out_shape[2:]
    field, is_global = walk.field(output) if rank == 2 else (None, False)
    return Layer(
        index=index,
        name=names.get(node.name, node.name),
        node=node.name,
        value=output,
        source=source,
        op=node.op,
        rank=rank,
        kernel=tuple(kernel_shape[2:]),
        stride=tuple(node.attributes.get("strides", [1] * rank)),
        dilation=tuple(node.attributes.get("dilations", [1] * rank)),
        pads=tuple(resolved_pads(node, shapes)),
        auto_pad=node.attributes.get("auto_pad", "NOTSET"),
        groups=groups,
        in_channels=c_in,
        out_channels=c_out,
        output_shape=out_shape[1:],
        parameters=_parameters(graph, node),
        macs=math.prod(placed) * math.prod(kernel_shape),
        bias=computed or (bias is not None and bool(np.any(bias))),
        batchnorm=batchnorm,
        nonlinearity=nonlinearity(graph, output),
        field=field,
        is_global=is_global,
        depth=ancestry.depth[output] - 1,
        predecessors=tuple(names.get(name, name) for name in ancestry.before(source)),
        sees_image=source in ancestry.affine,
        weight=_kernel(graph, node, groups),
        bias_vector=_bias(bias, c_out, computed),
        pictures=out_shape[0],
    )


def _parameters(graph: Graph, node: Node) -> int:
    """Weights of the layer's own, its bias among them; what it computes its kernel from belongs to other nodes."""
    return sum(int(graph.initializers[name].size) for name in node.inputs[1:] if name in graph.initializers)


def _bias(constant: np.ndarray | None, channels: int, computed: bool) -> np.ndarray | None:
    if computed:
        return None
    return np.zeros(channels, np.float32) if constant is None else constant.astype(np.float32)


def _kernel(graph: Graph, node: Node, groups: int) -> np.ndarray | None:
    """(C_out, C_in / groups, …): a ConvTranspose's (C_in, C_out / groups, …) turned over group by group."""
    weight = graph.initializers.get(node.inputs[1])
    if weight is None or node.op == "Conv":
        return weight
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    return np.ascontiguousarray(np.swapaxes(by_group, 1, 2).reshape(-1, by_group.shape[1], *weight.shape[2:]))
