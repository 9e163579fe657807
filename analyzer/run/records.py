"""The JSON files of a run as Python objects: run.json, layers.json, images/N.json and a study's study.json.

Each class is read once, where the file is read. docs/run-format.md says what every key means. Knows JSON's types; knows
nothing of files.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, UnionType
from typing import Any, Self

JsonObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Record(Mapping[str, Any]):
    """One JSON object of a run, its fields as attributes.

    The type of a field says how its value is read. A field that the file lacks is None; a list, a mapping or an object
    that can not be None is empty. A record is also the JSON object itself: `record["key"]` reads any of its keys.
    """

    json: JsonObject = field(repr=False)  # as it stands in the file

    @classmethod
    def read(cls, json: JsonObject) -> Self:
        """The record of a JSON object.

        Raises:
            AttributeError, TypeError, ValueError: it is no object, or a value in it is of another type.
        """
        return cls(json=json, **{name: reader(json.get(name)) for name, reader in _readers(cls).items()})

    def __getitem__(self, key: str) -> Any:
        return self.json[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.json)

    def __len__(self) -> int:
        return len(self.json)


@cache
def _readers(kind: type[Record]) -> dict[str, Callable[[Any], Any]]:
    """Field → what makes its value of the one in JSON."""
    hints = typing.get_type_hints(kind)
    return {name: _reader(hint) for name, hint in hints.items() if name != "json"}


def _reader(hint: Any) -> Callable[[Any], Any]:
    """What makes a value of this type of the one in JSON, where None stands for nothing."""
    if isinstance(hint, UnionType):  # with None
        inner = _reader(next(one for one in typing.get_args(hint) if one is not NoneType))
        return lambda value: None if value is None else inner(value)
    if typing.get_origin(hint) is tuple:
        each = _reader(typing.get_args(hint)[0])
        return lambda value: tuple(map(each, value or ()))
    if typing.get_origin(hint) is Mapping:
        return lambda value: dict(value or {})
    if isinstance(hint, type) and issubclass(hint, Record):
        return lambda value: hint.read(value or {})
    return lambda value: value


@dataclass(frozen=True, slots=True, eq=False)
class FieldInfo(Record):
    """The receptive field of a layer's neurons, per axis (height, then width), in pixels of the network's input."""

    size: tuple[int, ...] | None  # ≥ 1; None where no local path leads to the image
    jump: tuple[float, ...] | None  # distance of two neighbouring neurons' fields
    start: tuple[float, ...] | None  # of the first neuron's field; below 0 in the padding
    local: bool  # whether a path without global operations leads to the image

    @property
    def is_global(self) -> bool:
        """Whether a global operation stands before the layer."""
        return bool(self.json.get("global"))


@dataclass(frozen=True, slots=True, eq=False)
class LayerInfo(Record):
    """A convolution, analysed or not, or another value that is: an entry of layers.json, which writes every field."""

    index: int  # of convolutions in graph order, from 0; of other values a number after them
    name: str  # the user's
    slug: str  # the layer in file names: 1 to 60 ASCII letters, digits and dashes
    node: str  # ONNX name
    value: str  # ONNX name of the pre-activation
    op: str  # Conv, ConvTranspose, or what gives the value
    rank: int  # spatial axes: 1, 2 or 3
    kernel: tuple[int, ...]  # an extent an axis, ≥ 1
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]  # begins of all axes, then their ends, ≥ 0
    groups: int  # ≥ 1
    in_channels: int
    out_channels: int
    output_shape: tuple[int, ...]  # (C, H, W)
    parameters: int  # its own
    macs: int  # multiply-adds for one image, without the bias
    bias: bool
    batchnorm: bool  # folded into the weights
    nonlinearity: str  # that follows: relu, silu, …; none
    field: FieldInfo
    depth: int  # convolutions before it on the longest path
    predecessors: tuple[str, ...]  # names of the layers that feed it
    sees_image: bool  # its input is the image itself
    analysed: bool
    channels: tuple[int, ...]  # those analysed, in order
    kind: str | None  # conv, block, add, concat, …: analyzer.network.values; null: an older version, a convolution
    place: int | None  # among the layers of the run in graph order, from 0; null: an older version, as `index`

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution, which has a kernel, and not another value of the network."""
        return self.kind in (None, "conv")

    @property
    def position(self) -> int:
        """Place among the layers of the run in graph order, from 0."""
        return self.index if self.place is None else self.place


@dataclass(frozen=True, slots=True, eq=False)
class EntryInfo(Record):
    """A place in the outline of the network: an entry of graph.json."""

    kind: str  # input, layer, dense, join, chain or output
    name: str  # of its first node, or of the input or output
    steps: tuple[str, ...]  # operators and non-linearities, in order, the first few
    layer: int | None  # index of the convolution layer
    shape: tuple[int, ...]  # of what it gives, for one image, without the axis of images
    sources: tuple[int, ...]  # places of the entries that feed it, all before its own
    nodes: int  # of the network that it stands for; 0 for inputs and outputs


@dataclass(frozen=True, slots=True, eq=False)
class GraphInfo(Record):
    """The outline of the network, small operations folded: graph.json."""

    nodes: int  # of the network, between its inputs and its outputs
    left_out: str  # "", "chains" or "all": what was too much for the file
    entries: tuple[EntryInfo, ...]


@dataclass(frozen=True, slots=True, eq=False)
class OutputInfo(Record):
    """An output of the network."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ErrorInfo(Record):
    """The largest error of one comparison, and where it is."""

    worst: float | None  # relative: max |a − b| ÷ max(1e-6, max |b|), ≥ 0
    value: str | None  # an output or a pre-activation
    node: str | None
    op: str | None  # of the node
    layer: str | None


@dataclass(frozen=True, slots=True, eq=False)
class AloneInfo(ErrorInfo):
    """Pictures in a batch of 3 against each of them alone; `worst` is None where no batch was run."""

    one_at_a_time: bool | None  # pictures go through the network one by one
    why: str | None  # a sentence


@dataclass(frozen=True, slots=True, eq=False)
class ParityInfo(Record):
    """How well the imported network agrees with its file."""

    limit: float  # largest relative error that counts as agreement
    refuse: float  # above it a model is not used
    original: ErrorInfo | None  # file against canonical form
    nodes: ErrorInfo | None  # canonical form against torch, node by node
    end_to_end: ErrorInfo | None  # the same from the image to each layer
    alone: AloneInfo | None
    batches: tuple[int, ...]  # batch sizes that were compared
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ModelInfo(Record):
    """The model file and the network in it."""

    name: str | None  # of the file
    sha256: str | None  # 64 hexadecimal digits
    producer: str | None
    opset: int | None
    notes: tuple[str, ...]  # what was rewritten, a sentence each
    parameters: int | None
    macs: int | None  # multiply-adds for one image
    conv_layers: int | None
    conv_channels: int | None
    outputs: tuple[OutputInfo, ...]
    parity: ParityInfo | None


@dataclass(frozen=True, slots=True, eq=False)
class PreprocessingInfo(Record):
    """x = (pixel ÷ 255 · high − mean) ÷ std, an entry a channel."""

    name: str | None
    high: float  # what a pixel of 255 becomes before mean and std
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str  # RGB or BGR


@dataclass(frozen=True, slots=True, eq=False)
class InputInfo(Record):
    """The network's image input."""

    name: str
    layout: str  # NCHW or NHWC
    channels: int
    height: int  # pixels
    width: int
    bands: str  # rgb, grey or multi
    preprocessing: PreprocessingInfo | None
    why: str  # how the preprocessing was found, a sentence
    certain: bool | None  # whether that is known rather than assumed
    size_why: str | None  # the same of the size; empty where the file fixes it
    size_certain: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class SettingsInfo(Record):
    """The settings of an analysis; those without an attribute are in the JSON object."""

    quality: str | None
    objectives: tuple[str, ...]
    stretched: bool | None  # the preset stretches the contrast of its pictures


@dataclass(frozen=True, slots=True, eq=False)
class DeviceInfo(Record):
    """The device that computed the ascent."""

    kind: str | None  # cpu, or every GPU: cuda:0, cuda:1
    name: str | None
    threads: int | None  # of the processor


@dataclass(frozen=True, slots=True, eq=False)
class SkippedImages(Record):
    """Images that could not be read."""

    count: int
    errors: tuple[str, ...]  # the first few


@dataclass(frozen=True, slots=True, eq=False)
class TaskCounts(Record):
    """How far the run is."""

    planned: int
    done: int
    found_done: int | None  # by an earlier session


@dataclass(frozen=True, slots=True, eq=False)
class RunInfo(Record):
    """The record of a run, run.json: model, input, settings, device, state. An unfinished run may hold only a part."""

    status: str | None  # running, partial or complete
    plan: str | None  # hash of everything that decides the results
    filterscope: str | None  # version that made the run
    command: tuple[str, ...]  # its arguments, the program first; empty where Python made the run
    seed: int | None
    settings: SettingsInfo
    versions: Mapping[str, str]  # library → version
    device: DeviceInfo | None
    model: ModelInfo
    input: InputInfo | None
    labels: tuple[str, ...]  # names of the classes in order; empty where unknown
    image_notes: tuple[str, ...]  # sentences about images that look wrong
    skipped_images: SkippedImages | None
    timings: Mapping[str, float]  # part of the work → seconds
    started: str | None  # ISO 8601
    finished: str | None
    peak_memory_mib: float | None
    tasks: TaskCounts | None


@dataclass(frozen=True, slots=True, eq=False)
class ClassScore(Record):
    """One of the highest outputs of a classifier."""

    index: int  # of the class, from 0
    label: str | None
    score: float  # a probability from 0 to 1, or the output as it is


@dataclass(frozen=True, slots=True, eq=False)
class Prediction(Record):
    """A classifier's prediction for an image."""

    kind: str  # probability, where the outputs are a distribution; else score
    top: tuple[ClassScore, ...]  # highest first


@dataclass(frozen=True, slots=True, eq=False)
class ImageInfo(Record):
    """An image as the network saw it: images/N.json, whose picture is images/N.png."""

    index: int  # N, from 0
    source: str  # the file it came from
    name: str
    original: tuple[int, ...]  # (height, width) before it was resized, pixels
    height: int  # pixels
    width: int
    bands: int  # 1 grey, 3 RGB, or any other number
    label: int | None  # class that the data set gives it
    prediction: Prediction | None  # None where the network is no classifier


@dataclass(frozen=True, slots=True, eq=False)
class StudyInfo(Record):
    """A finished study: its study.json."""

    name: str
    settings: Mapping[str, Any]  # all that decides what it finds
    notes: tuple[str, ...]  # sentences
    seconds: float | None
