"""What the network's input means: layout, channels, size, and the numbers that stand for black and white.

Some of it the graph shows, some the file's metadata say, the rest is an option or an assumption; `InputSpec.why` tells
which. Pixels are 8-bit RGB, u = pixel / 255; the network sees x = (u · high − mean) / std. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from filterscope.analyzer.network.preprocessing import NOMINAL_RANGES, PRESETS, Preprocessing, numbers_as_text
from filterscope.analyzer.network.ultralytics import Export, export_of
from filterscope.converters.errors import InputError, SettingsError, setting
from filterscope.converters.graph import Graph, Node, Shape
from filterscope.converters.operator_facts import FILE_CONVOLUTIONS, OPERATORS, Channels, operators

LAYOUTS = {"NCHW": 1, "NHWC": 3}  # layout: its channel axis
SIZES = (224, 32, 28, 299, 256, 64, 96, 128, 160, 192, 320, 384, 416, 512, 640)  # sides tried where the file fixes none
KEEP_AXES = operators(lambda facts: facts.precedes_first_layer)  # each axis means afterwards what it meant before
KEEP_CHANNELS = operators(  # and there are as many channels
    lambda facts: facts.precedes_first_layer and facts.channels is not Channels.REGROUPED
)
SQUEEZED = (
    0.3  # an 8-bit image that spans less than this after the graph's own scaling was not meant to enter like that
)
FEWEST_LEVELS = 15  # whole numbers between black and white below which a picture is lost in rounding
FIT = 0.03  # how far a calibrated range may be from a preset's domain, in widths of the domain


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The network's image input, as understood."""

    name: str  # the ONNX value
    layout: str  # "NCHW" | "NHWC"
    channels: int
    height: int
    width: int
    preprocessing: Preprocessing
    why: str  # one sentence: where the preprocessing comes from
    certain: bool  # False: merely assumed
    fixed_size: bool  # the file itself fixes height and width
    size_why: str = ""  # one sentence: where the size comes from; empty: the file fixes it
    size_certain: bool = True  # False: merely assumed

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise SettingsError(
                f"{setting('layout', self.layout)}: give {setting('layout', 'NCHW')} or {setting('layout', 'NHWC')}",
                field="layout",
                value=self.layout,
            )
        if min(self.channels, self.height, self.width) < 1:
            raise InputError(
                f"input {self.name!r}: {self.channels} channels at {self.height}x{self.width} is no image; "
                f"give {setting('input_channels')} and {setting('input_size')}"
            )
        for values in (self.preprocessing.mean, self.preprocessing.std):
            if len(values) not in (1, self.channels):
                raise SettingsError(
                    f"preprocessing {self.preprocessing.name!r} is for {len(values)} channels, input {self.name!r} "
                    f"has {self.channels}; give {setting('preprocess', 'unit')}, or a mean and std of your own",
                    field="preprocess",
                    value=self.preprocessing.name,
                )

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What is only assumed of the input, a sentence each."""
        preprocessing = () if self.certain else (self.why,)
        return preprocessing if self.size_certain else (*preprocessing, self.size_why)

    @property
    def identity(self) -> str:
        """What decides the network's numbers, as text: all but the sentences that tell where they come from."""
        return repr(replace(self, why="", certain=True, size_why="", size_certain=True))

    @property
    def bands(self) -> str:
        """How a picture of this input is shown: "rgb", "grey" or "multi" (a plane a channel)."""
        return {3: "rgb", 1: "grey"}.get(self.channels, "multi")

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and offset, float64 (C,) in the network's channel order: x = u · scale + offset, u in [0, 1]."""
        mean = np.broadcast_to(np.asarray(self.preprocessing.mean, np.float64), self.channels)
        std = np.broadcast_to(np.asarray(self.preprocessing.std, np.float64), self.channels)
        return self.preprocessing.high / std, -mean / std

    def domain(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest x that an 8-bit image can have, float64 (C,) in the network's channel order."""
        scale, offset = self.affine()
        return np.minimum(offset, scale + offset), np.maximum(offset, scale + offset)

    def to_model(self, pixels: np.ndarray) -> np.ndarray:
        """Turn pictures into the network's input.

        Args:
            pixels: (N, H, W, C) uint8, RGB order, any H and W.

        Returns:
            (N, C, H, W) or (N, H, W, C) as the layout says, float32: each of the 256 values of a channel is computed
            in float64 and rounded once.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != self.channels:
            raise InputError(
                f"input {self.name!r}: pixels are (N, H, W, {self.channels}) uint8, got {pixels.shape} {pixels.dtype}"
            )
        scale, offset = self.affine()
        table = (np.arange(256)[:, None] / 255 * scale + offset).astype(np.float32)  # (256, C)
        n, height, width, channels = pixels.shape
        first = self.layout == "NCHW"
        x = np.empty((n, channels, height, width) if first else pixels.shape, np.float32)
        for channel, source in enumerate(self._pixel_channels()):
            plane = table[:, channel][pixels[..., source]]
            if first:
                x[:, channel] = plane
            else:
                x[..., channel] = plane
        return x

    def to_pixels(self, x: np.ndarray) -> np.ndarray:
        """The 8-bit pictures nearest to some inputs: the inverse of `to_model`.

        Args:
            x: (N, …) finite floats in the network's layout and channel order.

        Returns:
            (N, H, W, C) uint8, RGB order, rounded and clipped to 0..255.
        """
        scale, offset = self.affine()
        last = np.moveaxis(np.asarray(x, np.float64), LAYOUTS[self.layout], 3)
        pixels = np.clip(np.rint((last - offset) / scale * 255), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels[..., self._pixel_channels()])  # reversing twice is the identity

    def _pixel_channels(self) -> list[int]:
        """For each channel of the network, the channel of an RGB picture that it is."""
        channels = list(range(self.channels))
        return channels[::-1] if self.channels == 3 and self.preprocessing.order == "BGR" else channels


def input_spec(
    graph: Graph,
    metadata: Mapping[str, str],
    classes: int | None,
    *,
    layout: str | None = None,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    runs: Runs | None = None,
    dtype: str | None = None,
) -> InputSpec:
    """The network's input, from the graph where it shows it and from the options where they are given.

    Args:
        metadata: the file's key-value pairs.
        classes: how many classes the network tells apart, where known.
        layout, channels, size, preprocessing: the user's options; they fill gaps and cannot contradict the graph.
        runs: whether the network runs on an input of this shape; asked where the file leaves a side open.
        dtype: of the input as the file declares it; None: as in the graph.

    Raises:
        InputError: no image input, or one whose channels or size cannot be found.
        SettingsError: an option contradicts the graph.
    """
    value = image_input(graph)
    layout, channels = layout_of(graph, value, layout, channels)
    declared = DeclaredInput(value, graph.shapes[value], layout, channels)
    in_metadata = None if size is not None else _size_in_metadata(declared, export_of(metadata), runs)
    height, width, fixed = (*in_metadata, False) if in_metadata else size_of(declared, size, runs)
    size_why, size_certain = "", True
    if size is not None and not fixed:
        size_why = "The size is as the options say."
    elif in_metadata is not None:
        size_why = f"The size is from the file's metadata: imgsz is {height}x{width}."
    elif not fixed:
        size_why, size_certain = _assumed_size(height, width), False
    why, certain = "As the options say.", True
    dtype = dtype or graph.dtypes.get(value, "float32")
    if preprocessing is None:
        guessed = guess_preprocessing(graph, metadata, channels, classes, layout=layout, dtype=dtype)
        preprocessing, why, certain = guessed
    else:
        _check_whole_numbers(preprocessing, value, dtype)
    return InputSpec(
        name=value,
        layout=layout,
        channels=channels,
        height=height,
        width=width,
        preprocessing=preprocessing,
        why=why,
        certain=certain,
        fixed_size=fixed,
        size_why=size_why,
        size_certain=size_certain,
    )


def _assumed_size(height: int, width: int) -> str:
    return (
        f"Assumed: an input of {height}x{width}, the first size tried at which the network runs, as the file leaves it "
        f"open; {setting('input_size')} sets another."
    )


def _check_whole_numbers(preprocessing: Preprocessing, value: str, dtype: str) -> None:
    """Check that an input of whole numbers can hold preprocessed pixels."""
    if np.dtype(dtype).kind not in "iu":
        return
    limits = np.iinfo(dtype)
    ends = (np.array([[0.0], [preprocessing.high]]) - preprocessing.mean) / preprocessing.std
    low, high = float(ends.min()), float(ends.max())
    if low < limits.min - 0.5 or high > limits.max + 0.5 or high - low < FEWEST_LEVELS:
        raise SettingsError(
            f"{setting('preprocess', preprocessing.name)}: makes pixels {low:.4g} to {high:.4g}, and input {value!r} "
            f"takes whole numbers ({dtype}, {limits.min} to {limits.max}); leave it out, or give "
            f"{setting('preprocess', 'raw255')}",
            field="preprocess",
            value=preprocessing.name,
        )


def image_input(graph: Graph) -> str:
    """Name of the graph's first input with four axes.

    Raises:
        InputError: it has none.
    """
    for value in graph.inputs:
        if len(graph.shapes.get(value, ())) == 4:
            return value
    listed = ", ".join(f"{value} {list(graph.shapes.get(value, ()))}" for value in graph.inputs) or "none"
    raise InputError(
        f"no image input: it has four axes (batch, channels, height, width); this model's inputs: {listed}"
    )


def layout_of(graph: Graph, value: str, layout: str | None = None, channels: int | None = None) -> tuple[str, int]:
    """Layout and channel count of an image input.

    The first convolution that the input reaches tells: it sums over channels, and the Transposes before it tell which
    axis of the input they are. Without one, an axis of 1, 3 or 4 is taken for the channels.

    Args:
        layout, channels: the user's options.

    Raises:
        InputError: the graph does not show them and no option gives them.
        SettingsError: an option contradicts the graph.
    """
    if layout not in (*LAYOUTS, None):
        raise SettingsError(f"{setting('layout', layout)}: give NCHW or NHWC", field="layout", value=layout)
    shape = [_extent(side) for side in graph.shapes[value]]
    axis, summed = _first_convolution(graph, value)
    if axis is None:
        few = [a for a in LAYOUTS.values() if shape[a] in (1, 3, 4)]
        axis = few[0] if len(few) == 1 else None
    elif layout is not None and LAYOUTS[layout] != axis:
        raise SettingsError(
            f"{setting('layout', layout)}: the first convolution takes axis {axis} of input {value!r} as channels",
            field="layout",
            value=layout,
        )
    if layout is not None:
        axis = LAYOUTS[layout]
    count = None if axis is None else shape[axis] or summed
    if axis is None or (count is None and channels is None):
        raise InputError(
            f"input {value!r} {_side_by_side(graph.shapes[value])}: unknown number of input channels: "
            f"give {setting('layout')} and {setting('input_channels')}"
        )
    if None not in (count, channels) and count != channels:
        raise SettingsError(
            f"{setting('input_channels', channels)}: input {value!r} has {count}",
            field="input_channels",
            value=channels,
        )
    return ("NCHW" if axis == 1 else "NHWC"), count or channels or 0


def _first_convolution(graph: Graph, value: str) -> tuple[int | None, int | None]:
    """Axis of `value` that the first convolution sums over, and how many channels it sums; None where not shown."""
    axes: dict[str, tuple[int, ...]] = {value: (0, 1, 2, 3)}  # for each axis of a value, the input's axis it came from
    regrouped: set[str] = set()  # values whose channel count may differ from the input's
    for node in graph.nodes:
        source = next((name for name in node.inputs if name in axes), None)
        if source is None:
            continue
        if node.op in FILE_CONVOLUTIONS:
            weights = node.inputs[OPERATORS[node.op].weights_input or 1]
            kernel = graph.shapes.get(weights) or np.shape(graph.initializers.get(weights, 0))
            if source != node.inputs[0] or len(kernel) not in (0, 4):
                continue
            groups = int(node.attributes.get("group", 1))
            summed = _extent(kernel[0] if node.op == "ConvTranspose" else kernel[1]) if kernel else None
            if summed is not None and node.op != "ConvTranspose":
                summed *= groups
            axis = axes[source][1]
            return (axis if axis in LAYOUTS.values() else None), None if source in regrouped else summed
        if node.op == "Transpose":
            order = node.attributes.get("perm", (3, 2, 1, 0))
            axes[node.outputs[0]] = tuple(axes[source][axis] for axis in order)
        elif node.op in KEEP_AXES:
            axes.update(dict.fromkeys(node.outputs, axes[source]))
        if source in regrouped or node.op not in KEEP_CHANNELS:
            regrouped.update(node.outputs)
    return None, None


Runs = Callable[[tuple[int, int, int, int]], bool]  # whether the network runs on an input of this shape


@dataclass(frozen=True, slots=True)
class DeclaredInput:
    """An image input as the file declares it, its layout worked out."""

    name: str
    shape: Shape  # four axes
    layout: str  # "NCHW" | "NHWC"
    channels: int

    @property
    def sides(self) -> list[int | None]:
        """Height and width; None: the file leaves it open."""
        return [_extent(side) for axis, side in enumerate(self.shape) if axis not in (0, LAYOUTS[self.layout])]

    def at(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape of one picture of this size."""
        first = self.layout == "NCHW"
        return (1, self.channels, height, width) if first else (1, height, width, self.channels)


def size_of(
    declared: DeclaredInput, size: tuple[int, int] | None = None, runs: Runs | None = None
) -> tuple[int, int, bool]:
    """Height and width to analyse at, and whether the file itself fixes both.

    Args:
        size: the user's setting.
        runs: without it, the first candidate is taken.

    Raises:
        InputError: no size that runs.
        SettingsError: the setting contradicts the file.
    """
    sides = declared.sides
    text = setting("input_size", None if size is None else _side_by_side(size))
    if size is not None and any(side < 1 or fixed not in (None, side) for fixed, side in zip(sides, size, strict=True)):
        raise SettingsError(
            f"{text}: the file fixes input {declared.name!r} to {_side_by_side(sides)}", field="input_size", value=size
        )
    if sides[0] is not None and sides[1] is not None:
        return sides[0], sides[1], True
    candidates = [size] if size else [(sides[0] or side, sides[1] or side) for side in SIZES]
    for height, width in candidates:
        if runs is None or runs(declared.at(height, width)):
            return height, width, False
    if size is not None:
        raise InputError(f"{text}: the network does not run at this size; give another")
    raise InputError(
        f"input {declared.name!r} {_side_by_side(declared.shape)}: the network runs at none of the sizes tried "
        f"({_side_by_side(candidates[0])} to {_side_by_side(candidates[-1])}); give "
        f"{setting('input_size', 'HEIGHTxWIDTH')}"
    )


def _size_in_metadata(declared: DeclaredInput, export: Export | None, runs: Runs | None) -> tuple[int, int] | None:
    """The size that the file's metadata name, where the file leaves it open and the network runs at it."""
    sides = declared.sides
    if export is None or export.size is None or None not in sides:
        return None
    if any(side not in (None, own) for side, own in zip(sides, export.size, strict=True)):
        return None
    return export.size if runs is None or runs(declared.at(*export.size)) else None


def guess_preprocessing(
    graph: Graph,
    metadata: Mapping[str, str],
    channels: int,
    classes: int | None,
    *,
    layout: str | None = None,
    dtype: str = "float32",
) -> tuple[Preprocessing, str, bool]:
    """Guess the preprocessing from the file's metadata or from the first nodes; otherwise assume one.

    A graph that normalises its input itself shows what it expects: `x − 127` is meant for 0..255, `(x − 0.45) / 0.22`
    for 0..1. A convolution at the input shows nothing, whatever its weights.

    Args:
        metadata: the file's key-value pairs; Windows ML's `Image.…` keys and Ultralytics' are understood.
        classes: how many classes the network tells apart, where known.
        layout: of the input; None: looked for in the graph.
        dtype: of the input as the file declares it.

    Returns:
        The preprocessing, a sentence that says where it comes from, and whether it is more than an assumption.
    """
    value = image_input(graph)
    order = "BGR" if metadata.get("Image.BitmapPixelFormat", "").lower().startswith("bgr") else "RGB"
    nominal = metadata.get("Image.NominalPixelRange", "")
    whole = np.dtype(dtype).kind in "iu"
    if nominal in NOMINAL_RANGES and not (whole and NOMINAL_RANGES[nominal].high == 1):
        return (
            _in_order(NOMINAL_RANGES[nominal], order),
            f"From the file's metadata: Image.NominalPixelRange is {nominal}.",
            True,
        )
    axis = LAYOUTS[layout or layout_of(graph, value, channels=channels)[0]]
    evidence = _evidence_of_graph(graph, value, axis, channels)
    guess, why, certain = evidence.preprocessing, evidence.why, evidence.certain
    if whole and (guess is None or guess.high == 1 or (dtype == "uint8" and not (certain and guess.high == 255))):
        guess, why, certain = _of_whole_numbers(dtype)
    export = export_of(metadata)
    if not certain and not whole and export is not None and _takes_unit(export, classes):
        guess, certain = PRESETS["unit"], True
        why = "From the file's metadata: networks exported by Ultralytics take RGB pixels from 0 to 1."
    if guess is not None:
        return (_in_order(guess, order) if order == "BGR" else guess), why, certain
    guess = PRESETS["imagenet" if channels == 3 and classes in (1000, 1001) else "unit"]
    reason = f"{classes} classes suggest ImageNet" if guess.name == "imagenet" else "pixels from 0 to 1"
    silent = f"{evidence.why} does not tell and" if evidence.why else "neither the graph nor"
    return (
        _in_order(guess, order),
        f"Assumed: {guess.name} ({reason}), as {silent} the file's metadata "
        f"{'do not' if evidence.why else 'say'}; {setting('preprocess')} sets another.",
        False,
    )


def _takes_unit(export: Export, classes: int | None) -> bool:
    """Whether an export of Ultralytics certainly takes 0 to 1; YOLOv5, which names no task, does as a detector."""
    return export.takes_unit or (export.task is None and export.version is None and classes is None)


def _of_whole_numbers(dtype: str) -> tuple[Preprocessing, str, bool]:
    """What an input that takes whole numbers expects: pixels as they are, not fractions of 1."""
    if dtype == "uint8":
        return PRESETS["raw255"], "The input takes unsigned bytes, so pixels enter as they are, 0..255.", True
    hint = f"{setting('high')} or {setting('preprocess')} sets another"
    if dtype == "int8":
        signed = replace(PRESETS["raw255"], name="custom", mean=(128.0,))
        return signed, f"Assumed: pixels less 128, as the input takes signed bytes; {hint}.", False
    return PRESETS["raw255"], f"Assumed: raw255, 0..255, as the input takes whole numbers ({dtype}); {hint}.", False


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the nodes right behind the input say of the preprocessing that the network expects."""

    preprocessing: Preprocessing | None = None
    why: str = ""  # a sentence where there is one, otherwise the steps that the graph takes; empty: there are none
    certain: bool = False


def _evidence_of_graph(graph: Graph, value: str, axis: int, channels: int) -> _Evidence:
    """Evidence from the arithmetic right behind the input."""
    scale, offset = np.ones(channels), np.zeros(channels)  # the graph computes x · scale + offset, per channel
    steps: list[str] = []
    while True:
        followers = [node for node in graph.consumers(value) if node.op != "Shape"]
        if len(followers) != 1:
            break
        (node,) = followers
        if node.op in ("Sub", "Add", "Mul", "Div"):
            constant = _other_operand(graph, node, value, axis=axis, channels=channels)
            if constant is None or (node.op == "Div" and (value != node.inputs[0] or not constant.all())):
                break
            if node.op == "Sub" and value != node.inputs[0]:
                scale, offset = -scale, constant - offset
            elif node.op in ("Sub", "Add"):
                offset = offset + (constant if node.op == "Add" else -constant)
            else:
                factor = constant if node.op == "Mul" else 1 / constant
                scale, offset = scale * factor, offset * factor
            verb = {"Sub": "subtracts", "Add": "adds", "Mul": "multiplies by", "Div": "divides by"}[node.op]
            steps.append(f"{node.op} at node {node.name!r} {verb} {numbers_as_text(constant)}")
        elif node.op == "BatchNormalization" and axis == 1 and not steps:
            return _evidence_of_batchnorm(graph, node)
        elif node.op == "QuantizeLinear" and not steps:
            return _evidence_of_quantization(graph, node)
        elif node.op == "Transpose":
            axis = list(node.attributes.get("perm", (3, 2, 1, 0))).index(axis)
        elif node.op not in ("Identity", "Cast", "Dropout"):
            break
        value = node.outputs[0]
    listed = ", ".join(steps)
    usual = _range_of(scale, offset) if scale.all() else None
    if usual is not None:
        return _Evidence(usual, f"{listed}, so the graph expects {_expected(usual)}.", certain=True)
    unusual = _unusual_range(scale, offset) if scale.all() else None
    return _Evidence(None, listed) if unusual is None else _unusual(unusual[0], unusual[1], listed)


def _unusual(high: float, how: str, steps: str) -> _Evidence:
    """A range that the graph suggests and that no preset has."""
    raw = PRESETS["raw255"]
    return _Evidence(
        raw if high == 255 else replace(raw, name="custom", high=high),
        f"Assumed: pixels from 0 to {high:g}, {how}, as {steps}; say with {setting('high')} what white stands for.",
    )


def _unusual_range(scale: np.ndarray, offset: np.ndarray) -> tuple[float, str] | None:
    """What white may be for x · scale + offset, (C,) each, where it is neither 1 nor 255 for certain; and why."""
    mean, size = -offset / scale, np.abs(scale)
    largest = float(mean.max())
    if largest > 1 and mean.min() > -1e-6:
        if mean.min() >= 2 and largest <= 255:
            return 255.0, "which the mean lies in"
        return float(f"{2 * largest:.3g}"), "twice the largest mean"
    if np.all(np.abs(mean) < 1e-6) and np.all(255 * size < SQUEEZED):
        return float(f"{1 / size.max():.6g}"), "which becomes 1"
    return None


def _range_of(scale: np.ndarray, offset: np.ndarray) -> Preprocessing | None:
    """Preprocessing for which x · scale + offset, (C,) each, makes sense as a normalisation; None: it does not tell."""
    mean = -offset / scale  # the input that becomes 0
    size = np.abs(scale)
    if np.all((mean >= 2) & (mean <= 255) & (255 * size >= SQUEEZED)):
        return _ordered(PRESETS["raw255"], mean)
    if np.all((mean >= 0.05) & (mean <= 1) & (size >= SQUEEZED)):
        return _ordered(PRESETS["unit"], 255 * mean)
    if np.all(np.abs(mean) < 1e-6) and np.all((255 * size >= SQUEEZED) & (255 * size <= 10)):
        return PRESETS["raw255"]
    if np.all(np.abs(mean) < 1e-6) and np.all((size >= 100) & (size <= 300)):
        return PRESETS["unit"]
    return None


def _ordered(preprocessing: Preprocessing, mean255: np.ndarray) -> Preprocessing:
    """The same in BGR order where the means, on the scale 0..255, are ImageNet's from blue to red."""
    if len(mean255) == 3 and np.allclose(mean255, PRESETS["caffe-bgr"].mean, atol=1.5):
        return _in_order(preprocessing, "BGR")
    return preprocessing


def _in_order(preprocessing: Preprocessing, order: str) -> Preprocessing:
    """The same for a network whose channels come in `order`."""
    if preprocessing.order == order:
        return preprocessing
    mean, std = preprocessing.mean[::-1], preprocessing.std[::-1]
    return replace(preprocessing, name="custom", mean=mean, std=std, order=order)


def _evidence_of_batchnorm(graph: Graph, node: Node) -> _Evidence:
    """Evidence from a BatchNormalization at the input: its running mean and variance are those of the data."""
    mean, variance = (graph.initializers.get(name) for name in node.inputs[3:5])
    if mean is None or variance is None:
        return _Evidence()
    mean = np.asarray(mean, np.float64)
    std = np.sqrt(np.asarray(variance, np.float64))
    where = f"BatchNormalization at node {node.name!r} has a running mean of {numbers_as_text(mean)}"
    if np.all((mean >= 5) & (mean <= 250) & (std >= 5)):
        return _Evidence(
            PRESETS["raw255"], f"{where}, so the graph expects {_expected(PRESETS['raw255'])}.", certain=True
        )
    # Narrow on purpose: data of mean 0 and deviation 1, or in −1..1, must not pass for 0..1.
    if np.all((mean >= 0.25) & (mean <= 0.75) & (std <= 0.4)):
        return _Evidence(PRESETS["unit"], f"{where}, so the graph expects {_expected(PRESETS['unit'])}.", certain=True)
    if np.all(mean > 0) and mean.max() > 255:
        return _unusual(float(f"{(mean + 3 * std).max():.3g}"), "three deviations above the mean", where)
    return _Evidence(None, where)


def _evidence_of_quantization(graph: Graph, node: Node) -> _Evidence:
    """Evidence from an 8-bit QuantizeLinear at the input: the preset whose domain is the range that it can hold."""
    scale, zero = (graph.initializers.get(name) for name in (*node.inputs, "", "")[1:3])
    if scale is None or zero is None or np.size(scale) != 1 or zero.dtype not in (np.uint8, np.int8):
        return _Evidence()
    limits = np.iinfo(zero.dtype)
    held = (np.array([limits.min, limits.max]) - float(zero.item())) * float(scale.item())
    spans = f"QuantizeLinear at node {node.name!r} holds {held[0]:.3g} to {held[1]:.3g}"
    for candidate in PRESETS.values():
        ends = (np.array([[0.0], [candidate.high]]) - candidate.mean) / candidate.std
        low, high = ends.min(), ends.max()
        if np.all(np.abs(held - (low, high)) <= FIT * (high - low)):
            return _Evidence(candidate, f"{spans}, the range of preset {candidate.name}.", certain=True)
    if abs(held[0]) <= FIT * held[1]:
        return _unusual(float(f"{held[1]:.4g}"), "all that it holds", spans)
    return _Evidence(None, spans)


def _other_operand(graph: Graph, node: Node, value: str, *, axis: int, channels: int) -> np.ndarray | None:
    """The other operand of `node` as (C,) float64; None where it is no constant, or not one a channel.

    A constant that differs from place to place (a mean image) counts with its mean.
    """
    other = node.inputs[1] if node.inputs[0] == value else node.inputs[0]
    constant = graph.initializers.get(other)
    if constant is None or constant.ndim > 4:
        return None
    full = np.asarray(constant, np.float64).reshape((1,) * (4 - constant.ndim) + constant.shape)
    if not np.isfinite(full).all():
        return None
    means = full.mean(axis=tuple(a for a in range(4) if a != axis))
    return np.broadcast_to(means, channels) if len(means) in (1, channels) else None


def _expected(preprocessing: Preprocessing) -> str:
    return f"0..{preprocessing.high:g}" + (" in BGR order" if preprocessing.order == "BGR" else "")


def _side_by_side(sides: Sequence[int | str | None]) -> str:
    return "x".join(str(side or "?") for side in sides)


def _extent(side: int | str | None) -> int | None:
    """Length of an axis where it is known."""
    return side if isinstance(side, int) and side > 0 else None
