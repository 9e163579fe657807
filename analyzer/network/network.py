"""A network, opened: its canonical form, its input as understood, its layers, and the proof of its import.

The first station of the way open → plan → execute → render. `open_here` opens a model in this process; callers open it
across analyzer.boundary, in one that is confined. Knows no pictures and no run.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from filterscope.analyzer.network.inputs import InputSpec, input_spec
from filterscope.analyzer.network.layers import Layer, conv_layers
from filterscope.analyzer.network.other_size import at_another_size
from filterscope.analyzer.network.preprocessing import Preprocessing
from filterscope.analyzer.network.receptive_fields import FieldWalk
from filterscope.analyzer.network.values import DEFAULT_KINDS
from filterscope.converters import cache
from filterscope.converters.errors import InputError, ModelError, setting
from filterscope.converters.normal_form.canonical import CanonicalModel, canonicalize, fixed_batch
from filterscope.converters.normal_form.declared import input_dtype
from filterscope.converters.operator_facts import MATRIX_PRODUCTS
from filterscope.converters.rewrites.opset_site import OPSET
from filterscope.converters.runtime import Session

if TYPE_CHECKING:
    from torch import nn

    from filterscope.analyzer.network.values import GraphValue
    from filterscope.converters.onnx_file.model_file import ModelFile
    from filterscope.converters.parity import Alone, Parity
    from filterscope.converters.torch_import.importer import TorchTwin

SAMPLES = 3  # random images for the comparisons
MOST_VALUES = 1 << 26  # of one image: 4,096 × 4,096 pixels in colour; the proof holds a few such images at a time


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What the user says of the network's input; None where the graph is to tell."""

    layout: str | None = None
    channels: int | None = None
    size: tuple[int, int] | None = None
    preprocessing: Preprocessing | None = None
    image: str | None = None  # name of the image input, where there are several
    feeds: Mapping[str, np.ndarray] = field(default_factory=dict)  # what the other inputs get, by name


class Prover(Protocol):
    """A process that proves the import."""

    def prove(self, pixels: np.ndarray) -> dict[str, Any]:
        """The proof with these images, (N, H, W, C) uint8, as JSON."""

    def close(self) -> None:
        """End the process."""


@dataclass(frozen=True, eq=False)
class Network:
    """An opened network."""

    model: CanonicalModel
    input: InputSpec
    shapes: Mapping[str, tuple[int, ...]]  # of every value, for one image at the input's size
    layers: tuple[Layer, ...]
    compared: Alone | None = None  # comparison C, where it was made in another process
    reopen: Callable[[], Prover] | None = None  # where it is proven; None: in this process
    process: int = field(default_factory=os.getpid)  # which opened it

    def __repr__(self) -> str:
        channels, spec = sum(layer.out_channels for layer in self.convolutions), self.input
        assumed = ("" if spec.size_certain else " (assumed)", "" if spec.certain else " (assumed)")
        return (
            f"<filterscope.Network {self.model.path.name}: {len(self.convolutions)} layers, {channels:,} channels; "
            f"input {spec.channels}×{spec.height}×{spec.width}{assumed[0]}, {spec.preprocessing.name}{assumed[1]}>"
        )

    @property
    def twin(self) -> TorchTwin:
        """The network in torch: all of it, or as far as its last convolution, and the outputs that can be imported.

        Raises:
            UnsupportedOperatorError: a node before the last convolution has no converter.
            ModelError: the network was opened in another process, of which this one is a fork.
        """
        self.check_process()
        return self._twin

    def check_process(self) -> None:
        """See, before torch computes, that its threads are in this process: in a fork it would wait for them for ever.

        Raises:
            ModelError: the network was opened in another process, of which this one is a fork.
        """
        if os.getpid() != self.process:
            raise ModelError(f"{self.model.path}: was opened in another process; open it in the one that uses it")

    @cached_property
    def _twin(self) -> TorchTwin:
        from filterscope.converters.torch_import.importer import import_with

        return import_with(self.model, [layer.value for layer in self.layers])

    @cached_property
    def alone(self) -> Alone:
        """Comparison C: whether a picture's values in a batch are those that it has alone.

        Raises:
            ModelError: the network does not run.
        """
        if self.compared is not None:
            return self.compared
        from filterscope.converters.batch_independence import compare_alone

        pixels = self.random_pixels(SAMPLES, (self.input.height, self.input.width), 0)
        try:
            return compare_alone(self.model, self.input.to_model(pixels))
        except ModelError as error:
            raise ModelError(f"{self.model.path}: {error}") from error

    @property
    def one_at_a_time(self) -> bool:
        """Whether pictures are computed one at a time, since their values would depend on the others in a batch.

        `session`, `declared` and `apart` obey it, and with them everything that computes with pictures.
        """
        return self.alone.one_at_a_time

    def apart(self, module: nn.Module) -> nn.Module:
        """A part of the twin that takes a batch, changed so that no picture's values or gradients depend on another's.

        Args:
            module: takes the model's input, returns a tuple of values.
        """
        from filterscope.converters.batch_independence import one_at_a_time

        return one_at_a_time(module) if self.one_at_a_time else module

    def declared(self, size: tuple[int, int] | None = None) -> list[int | str]:
        """Shape of the image input, for any number of pictures that may go through together.

        Args:
            size: height and width of a canvas; None: those analysed.
        """
        height, width = size or (self.input.height, self.input.width)
        number: int | str = "N" if self.model.batch is None else self.model.batch
        if self.input.layout == "NCHW":
            return [number, self.input.channels, height, width]
        return [number, height, width, self.input.channels]

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
        macs = []
        for node in self.model.graph.nodes:
            if node.op in MATRIX_PRODUCTS and node.inputs[0] in self.shapes:
                inner = self.shapes[node.inputs[0]][0 if node.attributes.get("transA") else -1]
                macs.append(math.prod(self.shapes[node.outputs[0]]) * inner)
        return macs

    @cached_property
    def walk(self) -> FieldWalk:
        """The receptive fields of its values."""
        return FieldWalk(self.model.graph, self.input.name, self.axes, self.shapes)

    @cached_property
    def values(self) -> tuple[GraphValue, ...]:
        """Everything in it that has channels, convolutions among them, in graph order."""
        from filterscope.analyzer.network.values import graph_values

        return tuple(graph_values(self))

    def with_values(self, patterns: Sequence[str], kinds: Sequence[str] = DEFAULT_KINDS) -> Network:
        """The network with the values that some names and globs mean among its layers (`values.chosen_values`).

        Raises:
            SettingsError: a name stands for several values, or for one that has no channels.
        """
        from filterscope.analyzer.network.value_layers import check_names, with_values
        from filterscope.analyzer.network.values import chosen_values

        check_names(self, patterns)
        return with_values(self, chosen_values(self.values, patterns, kinds))

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        """Its convolutions, in graph order; `layers` may hold other values too."""
        return tuple(layer for layer in self.layers if layer.is_convolution)

    def layer(self, name: str) -> Layer:
        """The layer of this name."""
        return next(layer for layer in self.layers if layer.name == name)

    def session(self, outputs: list[str], size: tuple[int, int] | None = None, threads: int = 0) -> Session:
        """The part of the network that leads to some values, in ONNX Runtime.

        Args:
            outputs: value names.
            size: height and width of a canvas; None: the model's own declaration.
            threads: inside one operation; 0: one a processor.
        """
        shape = None if size is None else self.declared(size)
        return Session(self.model.proto, outputs, shape=shape, threads=threads, one_at_a_time=self.one_at_a_time)

    def random_pixels(self, count: int, size: tuple[int, int], seed: int) -> np.ndarray:
        """Random images of the domain: (count, H, W, C) uint8, every pixel drawn by itself."""
        rng = np.random.default_rng([seed, *size])
        return rng.integers(0, 256, (count, *size, self.input.channels), dtype=np.uint8)

    def prove(self, first: np.ndarray | None = None) -> Parity:
        """All comparisons of the import, from the cache where this file was proven before.

        Weights and values that are no finite numbers are warned of.

        Args:
            first: (H, W, C) uint8, the user's first image.

        Raises:
            UnsupportedOperatorError: the network cannot be imported into torch.
            ParityError: original, canonical form and torch disagree.
        """
        parity = self._parity(first)
        for sentence in parity.not_finite:
            logging.getLogger("filterscope").warning("%s", sentence)
        return parity

    def _parity(self, first: np.ndarray | None) -> Parity:
        """All comparisons of the import, from the cache where this file was proven before."""
        from filterscope.converters.parity import Parity

        pixels = self.random_pixels(SAMPLES, (self.input.height, self.input.width), 0)
        if first is not None:
            pixels = np.concatenate([first[None], pixels])
        drawn = hashlib.sha256(pixels.tobytes()).hexdigest()
        batch = [] if self.model.batch is None else [repr(self.model.batch)]
        name = cache.key("parity, finite", self.model.sha256, self.input.identity, drawn, *batch)
        entry = cache.load(name)
        if entry is not None:
            with contextlib.suppress(KeyError, TypeError):  # an entry that is not ours is as good as none
                return replace(Parity.from_json(entry), alone=self.alone)
        if self.reopen is None:
            parity = self.prove_here(pixels)
        else:
            worker = self.reopen()
            try:
                parity = Parity.from_json(worker.prove(pixels))
            finally:
                worker.close()
        cache.save(name, parity.to_json())
        return parity

    def prove_here(self, pixels: np.ndarray) -> Parity:
        """All comparisons, computed in this process.

        Args:
            pixels: (N ≥ 3, H, W, C) uint8.

        Raises:
            UnsupportedOperatorError: the network cannot be imported into torch.
            ParityError: original, canonical form and torch disagree.
        """
        from filterscope.converters.parity import verify

        return verify(self.model, self.twin, self.input.to_model(pixels), self.alone)

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
            "conv_layers": len(self.convolutions),
            "conv_channels": sum(layer.out_channels for layer in self.convolutions),
            "outputs": [{"name": name, "shape": list(self.shapes.get(name, ()))} for name in graph.outputs],
        }


def open_here(
    file: ModelFile, options: InputOptions | None = None, *, stage: Callable[[str], None] = lambda _: None
) -> Network:
    """Open a model in this process; `analyzer.boundary` calls it in a confined one.

    Args:
        file: the model, read.
        options: what the user says of the input.
        stage: is told what is done next, "listing its layers".

    Raises:
        ModelError: the file is no model that can be analysed.
        InputError: its input cannot be understood, or runs at no size.
        SettingsError: an option contradicts the graph.
    """
    options = options or InputOptions()

    classes = _classes(file)

    def with_one() -> Network:
        return _understand(_in_normal_form(file, options, 1), options, classes, stage=stage, assumed=file.assumed_size)

    stage("bringing it into normal form")
    model = _in_normal_form(file, options, None)
    try:
        network = _understand(model, options, classes, stage=stage, assumed=file.assumed_size)
    except ModelError as error:
        size = fixed_batch(model)
        if size is None:
            raise
        if size > 1:
            raise _takes_several(model, size, _reason(error, model)) from error
        return with_one()
    return _with_usable_batch(network, with_one)


def _in_normal_form(file: ModelFile, options: InputOptions, batch: int | None) -> CanonicalModel:
    """Bring a file into normal form, at the size of the options.

    Args:
        batch: the batch size to fix; None: a free one.
    """
    model = canonicalize(file, options.image, options.feeds, batch)
    return model if options.size is None else at_another_size(model, file, options)


def _with_usable_batch(network: Network, with_one: Callable[[], Network]) -> Network:
    """The network with a batch size that it computes rightly: any, or else one.

    A file that was exported for a fixed batch size is opened with a free one first. Where that does not run, or mixes
    the pictures of a batch, the network is opened again as the file stands.

    Args:
        with_one: opens the same file for batch size 1.

    Raises:
        ModelError: the file takes several pictures at a time, and cannot take one.
    """
    size = fixed_batch(network.model)
    if size is None:
        return network
    try:
        if not network.one_at_a_time:
            return network
        why = network.alone.reason
    except ModelError as error:  # with its batch made free it does not run on one picture
        why = _reason(error, network.model)
    if size > 1:
        raise _takes_several(network.model, size, why)
    return with_one()


def _reason(error: ModelError, model: CanonicalModel) -> str:
    return str(error).removeprefix(f"{model.path}: ")


def _takes_several(model: CanonicalModel, size: int, why: str) -> ModelError:
    return ModelError(
        f"{model.path}: takes {size} pictures at a time and cannot be made to take one; export it for batch size 1 "
        f"({why})"
    )


def _understand(
    model: CanonicalModel,
    options: InputOptions,
    classes: int | None,
    *,
    stage: Callable[[str], None],
    assumed: str = "",
) -> Network:
    """Find a model's input, the size to analyse it at, and its layers.

    Args:
        assumed: that the file's own size is merely assumed, a sentence; "" where it is not.

    Raises:
        ModelError: it does not run.
        InputError, SettingsError: as of `open_network`.
    """
    stage("looking for its input and a size at which it runs")
    trial = _Trial(model)
    try:
        spec = input_spec(
            model.graph,
            model.metadata,
            classes,
            layout=options.layout,
            channels=options.channels,
            size=options.size,
            preprocessing=options.preprocessing,
            runs=trial.runs,
            dtype=input_dtype(model.original, model.input),
        )
    except InputError as error:
        if trial.fault:
            raise ModelError(f"{model.path}: {trial.fault}") from error
        raise
    if spec.channels * spec.height * spec.width > MOST_VALUES:
        raise InputError(
            f"{model.path}: its input is {spec.height}x{spec.width} with {spec.channels} channels, more than the "
            f"{MOST_VALUES:,} numbers that an image may have here; export it for a smaller one, or give "
            f"{setting('input_size')}"
        )
    if assumed and options.size is None:
        spec = replace(spec, size_why=assumed, size_certain=False)
    first = spec.layout == "NCHW"
    size = (1, spec.channels, spec.height, spec.width) if first else (1, spec.height, spec.width, spec.channels)
    try:
        shapes = model.shapes_at(size)
    except ModelError as error:
        raise ModelError(f"{model.path}: {trial.fault_of_ours(error, size) or error}") from error
    stage("listing its layers")
    return assemble(model, spec, shapes)


def assemble(
    model: CanonicalModel,
    spec: InputSpec,
    shapes: Mapping[str, tuple[int, ...]],
    compared: Alone | None = None,
) -> Network:
    """Put a network together from its parts, and list its layers."""
    axes = (2, 3) if spec.layout == "NCHW" else (1, 2)
    walk = FieldWalk(model.graph, spec.name, axes, shapes)
    layers = conv_layers(walk, model.layer_names, model.normalised, model.module_outputs)
    return Network(model=model, input=spec, shapes=shapes, layers=tuple(layers), compared=compared)


def _classes(file: ModelFile) -> int | None:
    """How many classes the first output seems to have: the length of its one axis longer than 1; None: unknown."""
    for value in file.proto.graph.output:
        extents = [d.dim_value for d in value.type.tensor_type.shape.dim[1:] if d.dim_value > 1]
        if len(extents) == 1:
            return int(extents[0])
    return None


class _Trial:
    """Trial runs on a black image: at which size a network runs, and why it does not at another."""

    def __init__(self, model: CanonicalModel) -> None:
        self.model = model
        self.fault = ""  # where the file ran and our copy did not
        self._twins: list[TorchTwin | None] = []  # imported once, and only where ONNX Runtime runs

    def runs(self, shape: tuple[int, int, int, int]) -> bool:
        """Whether it runs at this size, in ONNX Runtime and in torch."""
        from filterscope.converters.torch_import.importer import import_as_far_as_possible

        try:
            self.model.check_values(shape)
            Session(self.model.proto).run(np.zeros(shape, np.float32))
        except ModelError as error:
            self.fault = self.fault or self.fault_of_ours(error, shape)
            return False
        if not self._twins:
            self._twins.append(import_as_far_as_possible(self.model))
        twin = self._twins[0]
        return twin is None or twin.runs(shape)

    def fault_of_ours(self, error: ModelError, shape: tuple[int, int, int, int]) -> str:
        """What to say where the file itself runs at this size and our copy of it does not; "" where neither does."""
        original = self.model.original
        image = next(value for value in original.graph.input if value.name == self.model.input)
        batch = max(1, image.type.tensor_type.shape.dim[0].dim_value)
        try:
            Session(original).run(np.zeros((batch, *shape[1:]), np.float32))
        except ModelError:
            return ""
        return f"the file itself runs, but not our copy of it at opset {OPSET}, a fault of filterscope: {error}"
