"""A network, opened: its canonical form, its input as understood, its layers, and the proof of its import.

The first station of the way open → plan → execute → render. Knows no pictures and no run.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.inputs import InputSpec, Preprocessing, input_spec
from analyzer.layers import ConvLayer, conv_layers
from converters import cache
from converters.canonical import CanonicalModel, canonicalize
from converters.errors import ModelError
from converters.runtime import Session
from converters.sources import SourceOptions, read
from converters.steps import file_step

if TYPE_CHECKING:
    from torch import nn

    from converters.importer import TorchTwin
    from converters.parity import Parity

SAMPLES = 3  # random images for the comparisons


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What the user says of the network's input; None where the graph is to tell."""

    layout: str | None = None
    channels: int | None = None
    size: tuple[int, int] | None = None
    preprocessing: Preprocessing | None = None
    image: str | None = None  # name of the image input, where there are several
    feeds: Mapping[str, np.ndarray] = field(default_factory=dict)  # what the other inputs get, by name


@dataclass(frozen=True, eq=False)
class Network:
    """An opened network."""

    model: CanonicalModel = field(repr=False)
    input: InputSpec
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)  # of every value, for one image at the input's size
    layers: tuple[ConvLayer, ...] = field(repr=False)

    @cached_property
    def twin(self) -> TorchTwin:
        """The network in torch: all of it, or as far as its last convolution where the rest cannot be imported.

        Raises:
            UnsupportedOperatorError: a node before the last convolution has no converter.
        """
        from converters.errors import UnsupportedOperatorError
        from converters.importer import import_torch

        try:
            return import_torch(self.model)
        except UnsupportedOperatorError:
            return import_torch(self.model, [layer.value for layer in self.layers])

    @property
    def axes(self) -> tuple[int, int]:
        """Axes of the input that are height and width."""
        return (2, 3) if self.input.layout == "NCHW" else (1, 2)

    @property
    def parameters(self) -> int:
        """Weights of the whole network, biases included."""
        constants = self.model.graph.initializers.values()
        return sum(int(array.size) for array in constants if array.dtype.kind == "f" or array.dtype.itemsize == 1)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and matrix products for one image."""
        return sum(layer.macs for layer in self.layers) + sum(self._product_macs())

    def _product_macs(self) -> list[int]:
        found = []
        for node in self.model.graph.nodes:
            if node.op in ("MatMul", "Gemm") and node.inputs[0] in self.shapes:
                inner = self.shapes[node.inputs[0]][0 if node.attributes.get("transA") else -1]
                found.append(math.prod(self.shapes[node.outputs[0]]) * inner)
        return found

    def layer(self, name: str) -> ConvLayer:
        """The layer of this name."""
        return next(layer for layer in self.layers if layer.name == name)

    def session(self, outputs: list[str], size: tuple[int, int] | None = None, threads: int = 0) -> Session:
        """The part of the network that leads to some values, in ONNX Runtime.

        Args:
            outputs: value names.
            size: height and width of a canvas; None: the model's own declaration.
            threads: inside one operation; 0: one a processor.
        """
        shape: list[int | str] | None = None
        if size is not None:
            channels = self.input.channels
            shape = ["N", channels, *size] if self.input.layout == "NCHW" else ["N", *size, channels]
        return Session(self.model.proto, outputs, shape=shape, threads=threads)

    def random_pixels(self, count: int, size: tuple[int, int], seed: int) -> np.ndarray:
        """Random images of the domain: (count, H, W, C) uint8, every pixel drawn by itself."""
        rng = np.random.default_rng([seed, *size])
        return rng.integers(0, 256, (count, *size, self.input.channels), dtype=np.uint8)

    def prove(self, first: np.ndarray | None = None) -> Parity:
        """Both comparisons of the import, from the cache where this file was proven before.

        Args:
            first: (H, W, C) uint8, the user's first image.

        Raises:
            UnsupportedOperatorError: the network cannot be imported into torch.
            ParityError: original, canonical form and torch disagree.
        """
        from converters.parity import Parity, verify

        pixels = self.random_pixels(SAMPLES, (self.input.height, self.input.width), 0)
        if first is not None:
            pixels = np.concatenate([first[None], pixels])
        drawn = hashlib.sha256(pixels.tobytes()).hexdigest()
        name = cache.key("parity", self.model.sha256, repr(self.input), drawn)
        known = cache.load(name)
        if known is not None:
            with contextlib.suppress(KeyError, TypeError):  # an entry that is not ours is as good as none
                return Parity.from_json(known)
        with file_step(self.model.path, "it is compared with its torch twin"):
            parity = verify(self.model, self.twin, self.input.to_model(pixels))
        cache.save(name, parity.to_json())
        return parity

    def to_json(self) -> dict[str, Any]:
        """What run.json says of the model, parity left out."""
        graph = self.model.graph
        return {
            "name": self.model.path.name,
            "sha256": self.model.sha256,
            "producer": self.model.producer,
            "opset": self.model.opset,
            "notes": list(self.model.notes),
            "parameters": self.parameters,
            "macs": self.macs,
            "conv_layers": len(self.layers),
            "conv_channels": sum(layer.out_channels for layer in self.layers),
            "outputs": [{"name": name, "shape": list(self.shapes.get(name, ()))} for name in graph.outputs],
        }


def open_network(
    source: str | Path | nn.Module,
    options: InputOptions | None = None,
    *,
    weights: Path | None = None,
    trust: bool = False,
) -> Network:
    """Open a model, understand its input and list its layers.

    Args:
        source: what `converters.sources.read` reads: a file, a SavedModel folder, a factory, a live nn.Module.
        options: what the user says of the input.
        weights: of a PyTorch factory.
        trust: whether a source that is a program may be run.

    Raises:
        ModelError: the file is no model that can be analysed.
        InputError: its input cannot be understood, or runs at no size.
        SettingsError: an option contradicts the graph.
    """
    options = options or InputOptions()
    with file_step(source if isinstance(source, (str, Path)) else type(source).__name__, "it is opened"):
        return _open(source, options, SourceOptions(trust, weights, options.channels, options.size))


def _open(source: str | Path | nn.Module, options: InputOptions, how: SourceOptions) -> Network:
    file = read(source, how)
    model = canonicalize(file, options.image, options.feeds)
    graph = model.graph
    spec = input_spec(
        graph,
        model.metadata,
        _classes(model),
        layout=options.layout,
        channels=options.channels,
        size=options.size,
        preprocessing=options.preprocessing,
        runs=lambda shape: _runs(model, shape),
    )
    first = spec.layout == "NCHW"
    size = (1, spec.channels, spec.height, spec.width) if first else (1, spec.height, spec.width, spec.channels)
    try:
        shapes = model.shapes_at(size)
    except ModelError as error:
        raise ModelError(f"{model.path}: {error}") from error
    axes = (2, 3) if first else (1, 2)
    layers = conv_layers(graph, spec.name, axes, shapes, model.layer_names, model.normalised)
    return Network(model, spec, shapes, tuple(layers))


def _classes(model: CanonicalModel) -> int | None:
    """Length of the first output's last axis longer than 1, where the file says it."""
    for value in model.original.graph.output:
        extents = [d.dim_value for d in value.type.tensor_type.shape.dim[1:] if d.dim_value > 1]
        if len(extents) == 1:
            return int(extents[0])
    return None


def _runs(model: CanonicalModel, shape: tuple[int, int, int, int]) -> bool:
    try:
        model.check_values(shape)
        Session(model.proto).run(np.zeros(shape, np.float32))
    except ModelError:
        return False
    return True
