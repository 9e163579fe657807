"""What Python callers use: keywords become a request, the same that the command line makes of its options.

Checks nothing and computes nothing itself: a request is checked at birth, and its `run` does the work.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filterscope.analyzer.network.network import Network
from filterscope.analyzer.progress import Progress, Silent
from filterscope.analyzer.run.reader import Run
from filterscope.converters import checks
from filterscope.requests.labels import class_names
from filterscope.requests.opening import OpenRequest

if TYPE_CHECKING:
    import numpy as np

    from filterscope.analyzer.attribution.explained import Answer
    from filterscope.analyzer.execution.plan import Settings
    from filterscope.analyzer.maximize.presets import Recipe
    from filterscope.analyzer.maximize.single_unit import Portrait
    from filterscope.analyzer.network.preprocessing import Preprocessing
    from filterscope.analyzer.studies.study import Study
    from filterscope.analyzer.units.objectives import Objective
    from filterscope.reports.compare.comparison import Comparison
    from filterscope.reports.figures.figures import Figure


def open(  # the name users expect: fs.open(...)
    source: str | Path | Any,  # Any: a live model
    *,
    weights: str | Path | None = None,
    trust: bool = False,
    preprocess: str | Preprocessing | None = None,
    input_size: tuple[int, int] | None = None,
    layout: str | None = None,
    input_channels: int | None = None,
    input: str | None = None,
    feed: Mapping[str, np.ndarray] | None = None,
    limit_memory: int | None = None,
    limit_seconds: float | None = None,
) -> Network:
    """Open a trained network, in a process of its own, whose memory and time are limited.

    Args:
        source: an ONNX or Keras file, a SavedModel folder, a .pt2 or TorchScript file, `package.module:factory`,
            `path/to/file.py:factory`, or a live model: an nn.Module, a Keras model, an onnx.ModelProto or its bytes.
        weights: of a PyTorch factory: a state dict, or a checkpoint with one inside.
        trust: whether a source that is a program (Lambda layers, SavedModel, TorchScript, a pickle) may be run.
        preprocess: a preset (unit, imagenet, symmetric, raw255, caffe-bgr) or a Preprocessing; None: as the graph
            shows it, else an assumption that `network.input.why` states.
        input_size: height and width to analyse at, where the file leaves them open, or where the network runs at
            others than it was traced at.
        layout: NCHW or NHWC, where the graph does not tell.
        input_channels: channels of the input, where the graph does not tell.
        input: name of the image input, where the network has several.
        feed: what the other inputs get, by name, without a batch dimension or with one of 1.
        limit_memory: bytes that opening it may use; None: as its size suggests.
        limit_seconds: of processor time that opening it may use; None: as its size suggests.

    Raises:
        FilterscopeError: the source, or a setting that contradicts it, or opening it takes more than it may.

    Warns, through logging, of what is merely assumed of the input.
    """
    request = OpenRequest(
        source=source,
        weights=weights,
        trust=trust,
        preprocess=preprocess,
        input_size=input_size,
        layout=layout,
        input_channels=input_channels,
        input=input,
        feed=feed or {},
        limit_memory=limit_memory,
        limit_seconds=limit_seconds,
    )
    network = request.run()
    for sentence in network.input.assumptions:
        logging.getLogger("filterscope").warning("%s", sentence)
    return network


def analyze(
    model: Network | str | Path,
    images: str | Path | Iterable[str | Path] = (),
    out: str | Path = "filterscope-run",
    *,
    settings: Settings | None = None,
    quality: str | None = None,
    preset: str | None = None,
    objective: str | Sequence[str] | None = None,
    layers: str | Sequence[str] | None = None,
    kinds: str | Sequence[str] | None = None,
    channels: str | int | Sequence[int] | None = None,
    seed: int | None = None,
    maps: int | None = None,
    resize: str | None = None,
    time_budget: str | float | None = None,
    studies: Sequence[Study] = (),
    labels: str | Path | Sequence[str] = (),
    device: str = "auto",
    white: float | None = None,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> Run:
    """Analyse a network, or go on with an analysis of the same plan in the same folder.

    Args:
        model: from `open`, or a path.
        images: files, folders, globs or array files on which activation maps are shown.
        out: folder of the run; made where it is missing.
        settings: all settings of pictures and maps in one object; the keywords below change them.
        quality: draft, standard or fine [standard]; the last two come after a draft of everything.
        preset: filterscope, strong, distill, maco, yosinski, paper or notebook-2018 [filterscope].
        objective: channel, neuron, negative, diversity, or several of these [channel].
        layers: names or globs [all]; a name may be of any value that has channels, such as a block of your modules.
        kinds: of which kinds the layers are that a glob fits, or all [conv and block]: conv, add, concat, pool,
            activation, norm, dense, block (the end of a residual sum or a concatenation), other, or all.
        channels: "auto", "all", "16/layer", numbers and ranges such as "0,4,8-11", or numbers [auto].
        seed: same seed, same pictures [0].
        maps: images whose activation maps go into the pages [12].
        resize: auto, crop, cover, squash, fit or none [auto].
        time_budget: seconds for the pictures, or text such as "10m"; the same call then goes on [no limit].
        studies: what else is done, such as Examples("dataset/"); may be added to a run that is finished.
        labels: class names in order, a file of them, or "imagenet".
        device: auto or cuda: all GPUs share the work, where there are any; cpu or cuda:1: that one alone.
        white: the number that is white in 16-bit and float pictures and in arrays; None: what their files state, else
            the most that their numbers can be.
        command: what the run's record says it was started with.
        progress: is told how far the work is.

    Returns:
        The finished run.

    Raises:
        FilterscopeError: the model, the images or the folder.
    """
    from filterscope.requests.analyze import AnalyzeRequest, settings_with

    request = AnalyzeRequest(
        images=checks.several(images),
        out=checks.path("out", out),
        settings=settings_with(
            settings,
            quality=quality,
            preset=preset,
            objective=objective,
            layers=layers,
            kinds=kinds,
            channels=channels,
            seed=seed,
            maps=maps,
            resize=resize,
            time_budget=time_budget,
        ),
        studies=studies,
        labels=class_names(labels),
        device=device,
        white=white,
    )
    return request.run(_network(model), progress or Silent(), command)


def maximize(
    model: Network | str | Path,
    layer: str | None = None,
    channels: int | Sequence[int] = 0,
    *,
    objective: str | Objective = "channel",
    quality: str = "standard",
    preset: str = "filterscope",
    recipe: Recipe | None = None,
    method: str = "ascent",
    seed: int = 0,
    device: str = "auto",
    canvas: tuple[int, int] | None = None,
    seconds: float = 60.0,
    start: str | Path | np.ndarray | None = None,
    white: float | None = None,
    film: str | Path | None = None,
) -> Portrait:
    """The pictures that excite some units most.

    Args:
        model: from `open`, or a path.
        layer: its name; None: the scores of the classes, before softmax.
        channels: units of the layer, or classes, or what an objective of your own counts.
        objective: channel, neuron, negative, diversity, layer; or an object of `filterscope.objectives`, such as
            Direction(vectors) or one of your own.
        quality: draft, standard, fine.
        preset: filterscope, strong, distill, maco, yosinski, paper, notebook-2018.
        recipe: instead of quality and preset, one of your own.
        method: ascent, vertex; for neurons also analytic (layers that see the image) and certified (with a proof).
        seed: same seed, same pictures.
        device: auto, cpu, cuda, cuda:1.
        canvas: height and width of the picture; None: fitted to what the unit sees.
        seconds: that a proof may take, each unit.
        start: a photo, a file or (H, W, C) numbers: what the unit likes of it is drawn into it; None: noise.
        white: of a photo of more than 8 bits or of an array, as in `analyze`.
        film: a name that ends in .webp, where the ascent is written as an animation; several pictures as in `save`.

    Returns:
        The pictures and their numbers, which show themselves in a notebook; `save("17.png")` writes them.

    Raises:
        FilterscopeError: the model, or something that does not fit it.
    """
    from filterscope.analyzer.maximize.presets import Recipe
    from filterscope.requests.maximize import MaximizeRequest

    request = MaximizeRequest(
        layer=layer,
        channels=checks.several(channels),
        objective=objective,
        recipe=recipe or Recipe.named(preset, quality),
        method=method,
        seed=seed,
        device=device,
        canvas=canvas,
        seconds=seconds,
        start=start,
        white=white,
        film=film,
    )
    return request.run(_network(model))


def attribute(
    model: Network | str | Path,
    image: str | Path | np.ndarray | Sequence[str | Path | np.ndarray],
    target: str | int | Sequence[str | int] | None = None,
    method: str | Sequence[str] = "all",
    *,
    layer: str | None = None,
    labels: str | Path | Sequence[str] = (),
    sanity: bool = False,
    resize: str = "auto",
    white: float | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Answer:
    """Which pixels of a picture speak for a class, a channel or a neuron, and which against it.

    Args:
        model: from `open`, or a path.
        image: a file, folder, glob or array file; or (H, W, C) numbers in RGB order; or several of these.
        target: a class by number or label, "cat - dog" for one class rather than another, "LAYER:CHANNEL" or
            "LAYER:CHANNEL@ROW,COLUMN" of any layer or value; or several of these; None: what the network answers
            with.
        method: all, default, or saliency, input-x-gradient, integrated-gradients, smoothgrad, guided, deconvnet,
            grad-cam, occlusion; or several of these.
        layer: whose maps Grad-CAM weighs; None: the last convolution before the target.
        labels: class names in order, a file of them, or "imagenet".
        sanity: whether the methods are tried on randomised weights (Adebayo et al. 2018).
        resize: as in `analyze`.
        white: as in `analyze`.
        seed: of SmoothGrad's noise and of the random weights.
        device: auto, cpu, cuda, cuda:1.
        progress: is told how far the work is.

    Returns:
        The answer, which shows itself in a notebook; `answer["grad-cam"].signed` is an (H, W) array.

    Raises:
        FilterscopeError: the model, the image, or something that does not fit the network.
    """
    import numpy as np

    from filterscope.requests.attribute import AttributeRequest

    request = AttributeRequest(
        image=[image] if isinstance(image, np.ndarray) else checks.several(image),
        target=[] if target is None else [str(name) for name in checks.several(target)],
        method=checks.several(method),
        layer=layer,
        labels=class_names(labels),
        sanity=sanity,
        resize=resize,
        white=white,
        seed=seed,
        device=device,
    )
    return request.run(_network(model), progress or Silent())


def convert(model: Network | str | Path, out: str | Path, *, canonical: bool = False) -> Path:
    """Write a network as ONNX.

    Args:
        model: from `open`, or a path.
        out: the file to write.
        canonical: whether to write the normal form that is analysed, rather than the export of another framework's
            model as it came.

    Returns:
        `out`.

    Raises:
        FilterscopeError: the model is ONNX already and no normal form is asked for, the normal form is not the same
            network, or the file cannot be written.
    """
    from filterscope.requests.convert import ConvertRequest

    return ConvertRequest(out=checks.path("out", out), canonical=canonical).run(_network(model))


def report(
    run: Run | str | Path, *, single_file: bool = False, out: str | Path | None = None, png: bool | None = None
) -> Path:
    """Make the report of a run, finished or not.

    Args:
        run: from `analyze`, or a run's folder.
        single_file: one HTML file of at most 20 MB to be sent, instead of a folder; where not all channels fit, it
            shows those whose pictures rise highest above random images.
        out: the folder [RUN/site] or the file [RUN/report.html].
        png: whether each maximised picture is written as a PNG of its own too, into the folder's `png`; None: where
            all of them together take under 50 MB.

    Returns:
        The path of the first page, or of the file.

    Raises:
        FilterscopeError: no run there, a damaged one, or a place that cannot be written.
    """
    from filterscope.requests.runs import ReportRequest

    return ReportRequest(single_file=single_file, out=None if out is None else checks.path("out", out), png=png).run(
        run
    )


def compare(a: Run | str | Path, b: Run | str | Path, *, match: str = "index") -> Comparison:
    """Two runs side by side, what changed most first; `save(folder)` writes the pages, `to_json()` gives the numbers.

    Args:
        a: from `analyze`, or a run's folder.
        b: the other.
        match: index: the same number is the same unit (two epochs, float and quantised); activation: the unit that
            answers most alike on the images that both runs hold (two seeds).

    Raises:
        FilterscopeError: no run there, a damaged one, or nothing that could be compared.
    """
    from filterscope.requests.runs import CompareRequest

    return CompareRequest(match=match).run(a, b)


def figure(
    run: Run | str | Path,
    layer: str,
    channels: str | Sequence[int] = "all",
    *,
    objective: str = "channel",
    method: str = "ascent",
    columns: int | None = None,
    captions: str = "channel",
    width: str | float = 85.0,
    dpi: float = 300.0,
) -> Figure:
    """Some units' pictures of a run as a figure for print; `save("fig.pdf")` writes it, also as .svg or .png.

    Args:
        run: from `analyze`, or a run's folder.
        layer: its name, or a glob or #number that fits one.
        channels: "0,4,8-11", "all", or numbers; they stand in this order.
        objective: channel, neuron, negative, diversity-1, …
        method: ascent or analytic.
        columns: of the grid; None: nearly a square.
        captions: none, channel, or activation (the channel's number, then its activation).
        width: of the figure: millimetres, or text such as "3.3in".
        dpi: pixels an inch, at least: each pixel of a picture becomes a whole square of pixels.

    Raises:
        FilterscopeError: something does not fit the run, or nobody could read it.
    """
    from filterscope.requests.runs import FigureRequest

    request = FigureRequest(
        layer=layer,
        channels=channels if isinstance(channels, str) else checks.several(channels),
        objective=objective,
        method=method,
        columns=columns,
        captions=captions,
        width=width,
        dpi=dpi,
    )
    return request.run(run)


def _network(model: Network | str | Path) -> Network:
    return model if isinstance(model, Network) else open(model)
