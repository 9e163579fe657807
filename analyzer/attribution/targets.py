"""What an attribution is toward: the score of a class, the difference of two, a channel of any value, or one neuron.

Knows graphs and labels; computes nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from filterscope.analyzer.network import scores
from filterscope.analyzer.network.gradient_paths import has_gradient
from filterscope.analyzer.network.layers import Layer, select
from filterscope.analyzer.network.network import Network
from filterscope.converters.errors import SettingsError, setting
from filterscope.converters.operator_facts import operators

LAYER_ENDS = operators(lambda facts: facts.ends_layer)
MINUS = " - "  # between two classes whose difference is meant
UNIT = re.compile(r"(.+):(\d{1,9})(?:@(\d{1,9}),(\d{1,9}))?", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Target:
    """One number of the network for each picture.

    Of a class its score before softmax, or how far that is above another class's; of a channel the sum of its map; of a
    neuron its value.
    """

    value: str  # of the graph, from which it is read; of a convolution layer, the pre-activation
    layer: str | None  # as its user knows it; None: the class scores
    channel: int  # or class
    label: str | None = None  # of a class, where known
    row: int | None = None
    column: int | None = None
    axis: int = 1  # which of the value's axes counts channels
    minus: int | None = None  # class whose score is subtracted
    minus_label: str | None = None  # of that class, where known

    @property
    def name(self) -> str:
        """As `Values.target` reads it."""
        if self.layer is None:
            other = "" if self.minus is None else f"{MINUS}{self.minus_label or self.minus}"
            return (self.label or str(self.channel)) + other
        return f"{self.layer}:{self.channel}" + ("" if self.row is None else f"@{self.row},{self.column}")

    def of(self, values: Any) -> Any:
        """The target's number, (N,), in the values (N, …) of N pictures: tensors or arrays."""
        unit = values[:, self.channel] if self.axis == 1 else values[..., self.channel]
        if self.minus is not None:
            unit = unit - values[:, self.minus]
        if self.row is not None:
            return unit[:, self.row, self.column]
        return unit.reshape(len(values), -1).sum(1)


class Values:
    """The values of a network by name."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._walk = network.walk

    def target(self, text: str, labels: Sequence[str] = ()) -> Target:
        """What `cat`, `281`, `cat - dog`, `LAYER:CHANNEL` or `LAYER:CHANNEL@ROW,COLUMN` stands for.

        `cat - dog` is the score of one class minus that of another; spaces stand around the sign. LAYER is a
        convolution layer (its pre-activation), a value of the graph or a node (its first output).

        Raises:
            SettingsError: no such class, layer, channel or place; near names are given.
        """
        lowered = {label.lower() for label in labels}
        pair = None if text.lower() in lowered else _two_classes(text, lowered)
        unit = None if text.lower() in lowered or pair is not None else UNIT.fullmatch(text)
        if unit is not None:
            place = None if unit[3] is None else (int(unit[3]), int(unit[4]))
            return self.unit(unit[1], int(unit[2]), place)
        layer = scores.scores(self.network, "target", "give LAYER:CHANNEL")
        classes = [scores.class_index(name, labels, layer.out_channels, field="target") for name in pair or (text,)]
        if len(set(classes)) < len(classes):
            raise _does_not_fit(text, "a class minus itself is 0; give two classes")
        return self.klass(layer, classes[0], labels, minus=classes[1] if pair else None)

    def klass(self, layer: Layer, index: int, labels: Sequence[str], minus: int | None = None) -> Target:
        """A class of `scores.scores`; with `minus`, its score less that of another class."""
        names = labels if len(labels) == layer.out_channels else [None] * layer.out_channels
        return Target(
            layer.value,
            layer=None,
            channel=index,
            label=names[index],
            minus=minus,
            minus_label=None if minus is None else names[minus],
        )

    def unit(self, layer: str, channel: int, place: tuple[int, int] | None = None) -> Target:
        """A channel of a value, or with a place (row, column) a neuron of it.

        Raises:
            SettingsError: no such value, channel or place.
        """
        value, name = self.find(layer)
        shape, axes = self.network.shapes[value], self._walk.axes.get(value)
        axis = 3 if axes == (1, 2) else 1
        text = f"{layer}:{channel}" + ("" if place is None else f"@{place[0]},{place[1]}")
        if len(shape) < 2 or shape[0] != 1:
            raise _does_not_fit(f"{layer}:{channel}", f"{value} {list(shape)} has no channels")
        if not has_gradient(self.network.model.graph, value, self.network.input.name):
            kind = self.network.model.graph.dtypes.get(value, "float32")
            raise _does_not_fit(f"{layer}:{channel}", f"no gradient leads to {name} ({kind}); give a value before it")
        if not 0 <= channel < shape[axis]:
            raise _does_not_fit(f"{layer}:{channel}", f"{name} has channels 0 to {shape[axis] - 1}")
        if place is None:
            return Target(value, name, channel, axis=axis)
        if axes is None or len(shape) != 4:
            raise _does_not_fit(text, f"{name} {list(shape)} has no rows and columns")
        height, width = (shape[side] for side in axes)
        if not (0 <= place[0] < height and 0 <= place[1] < width):
            raise _does_not_fit(text, f"the maps of {name} have rows 0 to {height - 1} and columns 0 to {width - 1}")
        return Target(value=value, layer=name, channel=channel, row=place[0], column=place[1], axis=axis)

    def find(self, text: str, field: str = "target") -> tuple[str, str]:
        """The value that a name stands for, and the name to show for it.

        Args:
            text: name of a layer, a value, a module that gives one value, or a node.
            field: the setting that holds it, for the message.

        Raises:
            SettingsError: there is none, or several; near names are given.
        """
        graph, shapes = self.network.model.graph, self.network.shapes
        layers = self.network.convolutions
        named = next((layer for layer in layers if text in (layer.name, f"#{layer.index}")), None)
        if named is not None:
            return named.value, named.name
        if graph.producer(text) is not None and text in shapes:
            return text, text
        module = next((value for value in self.network.values if text in (value.name, *value.paths)), None)
        if module is not None:
            return module.value, module.name
        node = next((node for node in graph.nodes if node.name == text), None)
        if node is not None:
            return node.outputs[0], node.name
        try:
            matches = select(layers, [text])
        except SettingsError as error:
            names = [layer.name for layer in layers] + [name for node in graph.nodes for name in node.outputs if name]
            near = difflib.get_close_matches(text, names, 3, 0.5) or names[:3]
            raise SettingsError(
                f"{setting(field)}: no layer or value is called {text!r}; near: {', '.join(near)}",
                field=field,
                value=text,
            ) from error
        if len(matches) > 1:
            listed = ", ".join(layer.name for layer in matches[:5]) + (", …" if len(matches) > 5 else "")
            raise SettingsError(
                f"{setting(field)}: {text} fits {len(matches)} layers, {listed}; name one", field=field, value=text
            )
        return matches[0].value, matches[0].name

    def maps(self, text: str) -> tuple[str, str]:
        """The value whose maps Grad-CAM weighs, and the name to show for it.

        A convolution layer stands for what it hands on: its maps after the sum with a shortcut and the non-linearity
        that follow it. Other values stand for themselves.

        Raises:
            SettingsError: no such value, or one without rows and columns.
        """
        value, name = self.find(text, "layer")
        if any(layer.value == value and layer.name == name for layer in self.network.convolutions):
            value = self.handed_on(value)
        if self._walk.axes.get(value) is None or len(self.network.shapes[value]) != 4:
            raise SettingsError(
                f"{setting('layer', text)}: {name} has no maps, only {list(self.network.shapes[value])}",
                field="layer",
                value=text,
            )
        return value, name

    def channels_last(self, value: str) -> bool:
        """Whether a value's last axis counts channels."""
        return self._walk.axes.get(value) == (1, 2)

    def last_layer(self, before: set[str] | None = None) -> Layer | None:
        """The last 2-d convolution; of those whose output is in `before`, where given."""
        layers = [layer for layer in self.network.convolutions if layer.has_maps]
        layers = [layer for layer in layers if before is None or layer.value in before]
        return layers[-1] if layers else None

    def handed_on(self, value: str) -> str:
        """A convolution's maps after the additions and the non-linearity that follow it directly."""
        graph, shapes = self.network.model.graph, self.network.shapes
        while True:
            readers = graph.consumers(value)
            gated = next((node for node in readers if node.op == "Mul"), None)  # x · sigmoid(x) and its like
            if len(readers) == 2 and gated is not None and any(set(r.outputs) & set(gated.inputs) for r in readers):
                following = gated
            elif len(readers) == 1 and (readers[0].op in LAYER_ENDS or self._adds(readers[0])):
                following = readers[0]
            else:
                return value
            if shapes.get(following.outputs[0]) != shapes.get(value):
                return value
            value = following.outputs[0]

    def _adds(self, node: Any) -> bool:
        return node.op in ("Add", "Sum") and not any(
            name in self.network.model.graph.initializers for name in node.inputs
        )


def _two_classes(text: str, lowered: Collection[str]) -> tuple[str, str] | None:
    """The two names in `cat - dog`, either of which may hold the sign too; None: no difference of classes is meant.

    Args:
        text: a target.
        lowered: the labels in small letters.
    """
    parts = text.split(MINUS)
    splits = [(MINUS.join(parts[:i]).strip(), MINUS.join(parts[i:]).strip()) for i in range(1, len(parts))]
    for pair in splits:
        if all(name.lower() in lowered or (name.isascii() and name.isdigit()) for name in pair):
            return pair
    return splits[0] if splits and UNIT.fullmatch(text) is None else None


def _does_not_fit(text: str, reason: str) -> SettingsError:
    return SettingsError(f"{setting('target', text)}: {reason}", field="target", value=text)


def strongest_channel(maps: np.ndarray) -> int:
    """The channel of (1, C, H, W) maps with the highest mean."""
    return int(maps[0].reshape(maps.shape[1], -1).mean(1).argmax())
