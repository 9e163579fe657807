"""The values of a network that have channels: what a user may look at beside its convolutions, and what it is called.

Sums of residual blocks, concatenations, pools, activations, normalisations, dense layers, tokens, attention maps. Knows
graphs and shapes; computes nothing.
"""

from __future__ import annotations

import fnmatch
import glob
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from filterscope.analyzer.network.gradient_paths import FLOATS
from filterscope.analyzer.network.layers import paths_of_values
from filterscope.converters.normal_form.views import View
from filterscope.converters.operator_facts import PASS_INTEGERS, Kind, operators

if TYPE_CHECKING:
    from filterscope.analyzer.network.network import Network
    from filterscope.converters.graph import Graph, Node

KINDS: dict[str, frozenset[str]] = {  # what a user may choose → operators that give such values
    "conv": operators(lambda facts: facts.kind is Kind.CONVOLUTION),
    "add": frozenset({"Add", "Sum"}),
    "concat": frozenset({"Concat"}),
    "pool": operators(lambda facts: facts.kind in (Kind.POOLING, Kind.GLOBAL_POOLING)) | {"ReduceMean", "ReduceMax"},
    "activation": operators(lambda facts: bool(facts.activation) or facts.gives_probabilities) | {"Clip"},
    "norm": operators(lambda facts: facts.kind is Kind.NORMALIZATION),
    "dense": operators(lambda facts: facts.kind in (Kind.MATRIX_PRODUCT, Kind.CONTRACTION)),
}
DEFAULT_KINDS = ("conv", "block")
BLOCK, OTHER = "block", "other"  # the end of a residual sum or a concatenation; what is of no kind above
ACTIVATIONS = operators(lambda facts: facts.kind is Kind.ACTIVATION)
ALL_KINDS = (*KINDS, BLOCK, OTHER, "all")
MOST_PREFIX = 5  # tokens before those of the image: of the class, of distillation, registers


AS_IS = View()
CHANNELS_FIRST = View("::channels_before_rows", order=(0, 3, 1, 2))
ONE_PLACE = View("::one_place", shape=(0, 0, 1, 1))


@dataclass(frozen=True, slots=True)
class GraphValue:
    """A value of the graph that has channels."""

    value: str
    name: str  # as its user knows it: the path of his module where it gives this value alone
    paths: tuple[str, ...]  # of all modules that give this value alone
    kind: str  # of KINDS, or OTHER
    op: str  # that writes it
    order: int  # of its node in the graph
    channels: int
    places: tuple[int, int]  # rows and columns of its maps
    view: View
    is_block: bool = False  # whether a residual sum or a concatenation ends in it


@dataclass(eq=False)
class _Lister:
    """Lists the values of one network."""

    network: Network
    graph: Graph = field(init=False)
    followed: set[str] = field(init=False)  # floats, and roundings of them, to which a gradient leads from the image

    def __post_init__(self) -> None:
        network = self.network
        self.graph = network.model.graph
        self.followed = {network.input.name}
        for node in self.graph.nodes:
            if any(name in self.followed for name in node.inputs):
                is_rounding = node.op in (*PASS_INTEGERS, "QuantizeLinear")
                self.followed.update(name for name in node.outputs if name and (is_rounding or self._is_float(name)))

    def _is_float(self, value: str) -> bool:
        return self.graph.dtypes.get(value, "float32") in FLOATS

    @cached_property
    def grids(self) -> dict[int, tuple[int, int]]:
        """Places of a map → its rows and columns, for all maps of convolutions: what tokens may be made of."""
        shapes = [layer.output_shape for layer in self.network.layers if layer.has_maps]
        return {height * width: (height, width) for _, height, width in reversed(shapes)}

    def values(self) -> list[GraphValue]:
        """All of them, in graph order."""
        modules = self.network.model.module_outputs
        root = _common_root(modules)
        short = {path.removeprefix(root): values for path, values in modules.items()}
        paths = paths_of_values(short)
        holders = {holder for path in short for holder in holders_of(path)}
        ends = self._block_ends({value for values in modules.values() for value in values})
        layers = {layer.value: layer.name for layer in self.network.convolutions}
        listed = []
        for order, node in enumerate(self.graph.nodes):
            for value in node.outputs:
                view = self._view(value) if value in self.followed and self._is_float(value) else None
                if view is None:
                    continue
                channels, places = _maps(self.network.shapes[value], view)
                own = tuple(paths.get(value, ()))
                listed.append(
                    GraphValue(
                        value=value,
                        name=layers.get(value) or _name(own, holders) or value,
                        paths=own,
                        kind=kind_of(node),
                        op=node.op,
                        order=order,
                        channels=channels,
                        places=places,
                        view=view,
                        is_block=value in ends,
                    )
                )
        return listed

    def _view(self, value: str) -> View | None:
        """How a value's numbers become maps; None where they have no channels that could be told."""
        shape = self.network.shapes.get(value, ())
        if len(shape) < 2 or shape[0] != 1 or not math.prod(shape):
            return None
        if len(shape) == 2:
            return ONE_PLACE if shape[1] > 1 else None
        if len(shape) == 3:
            return self._view_of_tokens(shape)
        if len(shape) != 4:
            return None
        axes = self.network.walk.axes.get(value)
        if axes == (1, 2) or (axes is None and shape[1:3] == (1, 1) and shape[3] > 1):
            return CHANNELS_FIRST
        is_attention = shape[2] == shape[3] and self.graph.producer(value) is not None
        return AS_IS if axes == (2, 3) or shape[2:] == (1, 1) or (axes is None and is_attention) else None

    def _view_of_tokens(self, shape: Sequence[int]) -> View | None:
        """Tokens (1, T, C) or (1, C, T) in the grid of the map that they were made of."""
        for prefix in range(MOST_PREFIX + 1):
            if shape[1] - prefix in self.grids:
                grid = self.grids[shape[1] - prefix]
                return View("::tokens_as_maps", order=(0, 2, 1), first=prefix, shape=(0, 0, *grid))
        if shape[2] in self.grids:
            return View("::rows_and_columns", shape=(0, 0, *self.grids[shape[2]]))
        return None

    def _block_ends(self, modules: set[str]) -> set[str]:
        """Where the branches of the network come together, after the non-linearity that follows.

        Where modules are known, only what one of them gives: in a dense block each layer joins all before it.
        """
        ends = set()
        for node in self.graph.nodes:
            joined = [name for name in node.inputs if name in self.followed and self._view(name) is not None]
            if node.op not in (*KINDS["add"], *KINDS["concat"]) or len(set(joined)) < 2:
                continue
            value = node.outputs[0]
            if self._view(value) is None or not self._is_a_join(node, joined):
                continue
            readers = self.graph.consumers(value)
            if len(readers) == 1 and readers[0].op in ACTIVATIONS and value not in self.graph.outputs:
                value = readers[0].outputs[0]
            if not modules or value in modules:
                ends.add(value)
        return ends

    def _is_a_join(self, node: Node, joined: Sequence[str]) -> bool:
        """Whether a node adds maps of one size, or puts channels beside each other."""
        shapes = [tuple(self.network.shapes[name]) for name in joined]
        output = tuple(self.network.shapes[node.outputs[0]])
        if node.op in KINDS["add"]:
            return all(shape == output for shape in shapes)
        view = self._view(node.outputs[0])
        axis = int(node.attributes.get("axis", 1)) % len(output)
        channels = view.order[1] if view is not None and view.order else 1
        return axis == channels


def chosen_values(values: Sequence[GraphValue], patterns: Sequence[str], kinds: Sequence[str]) -> list[GraphValue]:
    """The values that a list of names and globs means.

    Args:
        values: of a network.
        patterns: a name means its value, of whatever kind; a glob, and no pattern at all, those of the kinds.
        kinds: of KINDS, "block", "other", or "all".
    """
    names = names_in(patterns)
    globs = [name for name in names if glob.has_magic(name)]
    chosen = []
    for value in values:
        own = (value.name, value.value, *value.paths)
        if not names.isdisjoint(own) or (
            is_of_kind(value.kind, kinds, is_block=value.is_block)
            and (not patterns or any(fnmatch.fnmatchcase(name, pattern) for name in own for pattern in globs))
        ):
            chosen.append(value)
    return chosen


def names_in(patterns: Sequence[str]) -> set[str]:
    """Names and globs, and of those with commas the parts too: a name may hold a comma."""
    return {part.strip() for pattern in patterns for part in (pattern, *pattern.split(","))}


def holders_of(path: str) -> list[str]:
    """The modules that hold one, the outermost first."""
    return [path[:end] for end, letter in enumerate(path) if letter in "./" and end]


def is_of_kind(kind: str, kinds: Sequence[str], *, is_block: bool = False) -> bool:
    """Whether something of a kind is among those of some kinds."""
    return "all" in kinds or kind in kinds or (is_block and BLOCK in kinds)


def graph_values(network: Network) -> list[GraphValue]:
    """Every value of a network that follows from the image and has channels, in graph order, convolutions among them.

    A value of several pictures for one image (windows of attention) is left out, and so are sequences that are no
    grid of the image.
    """
    return _Lister(network).values()


def kind_of(node: Node) -> str:
    """What a user may call what a node gives: one of KINDS, or OTHER."""
    if node.domain:
        return OTHER
    return next((kind for kind, ops in KINDS.items() if node.op in ops), OTHER)


def _maps(shape: Sequence[int], view: View) -> tuple[int, tuple[int, int]]:
    """Channels, and rows and columns, of a value's maps."""
    ordered = [shape[axis] for axis in view.order] if view.order else list(shape)
    extents = [extent or ordered[axis] for axis, extent in enumerate(view.shape)] if view.shape else ordered
    return extents[1], (extents[2], extents[3])


def _common_root(paths: Collection[str]) -> str:
    """The model that all layers of TensorFlow's exporter stand in, with its "/"; "" where there is none."""
    roots = {path.partition("/")[0] for path in paths}
    return f"{roots.pop()}/" if len(roots) == 1 and any("/" in path for path in paths) else ""


def _name(paths: Sequence[str], holders: set[str]) -> str:
    """The innermost of the modules that give a value which holds others; else the innermost; "" where there is none.

    What `layer3.1` gives is what its last activation gives too: the block says more than the activation.
    """
    inner = sorted(paths, key=lambda path: (path in holders, path.count(".") + path.count("/"), path), reverse=True)
    return inner[0] if inner else ""
