"""What Python callers use: open a model, analyse it, make its report.

Knows which room does what; does nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filterscope.analyzer.analysis import Analysis
from filterscope.analyzer.boundary.limits import Limits
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.network import InputOptions, Network
from filterscope.analyzer.network.preprocessing import Preprocessing, preset
from filterscope.analyzer.progress import Progress, Silent
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.run_locks import reporting
from filterscope.analyzer.studies.study import Study
from filterscope.converters.errors import FilterscopeError, SettingsError

if TYPE_CHECKING:
    import numpy as np

    from filterscope.analyzer.attribution.explained import Answer
    from filterscope.analyzer.data.images import Source
    from filterscope.analyzer.maximize.presets import Recipe
    from filterscope.analyzer.maximize.single_unit import Portrait
    from filterscope.analyzer.units.objectives import Objective
    from filterscope.reports.compare.comparison import Comparison
    from filterscope.reports.figures.figures import Figure

__all__ = [
    "FilterscopeError",
    "Run",
    "analyze",
    "attribute",
    "compare",
    "convert",
    "figure",
    "maximize",
    "open",
    "report",
]


def open(  # the name users expect: fs.open(...)
    source: str | Path | Any,  # Any: a live model
    *,
    weights: str | Path | None = None,
    trust: bool = False,
    preprocess: str | Preprocessing | None = None,
    size: tuple[int, int] | None = None,
    layout: str | None = None,
    channels: int | None = None,
    image: str | None = None,
    feeds: Mapping[str, np.ndarray] | None = None,
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
        size: height and width to analyse at, where the file leaves them open, or where the network runs at others than
            it was traced at.
        layout: NCHW or NHWC, where the graph does not tell.
        channels: of the input, where the graph does not tell.
        image: name of the image input, where the network has several.
        feeds: what the other inputs get, by name, without a batch dimension or with one of 1.
        limit_memory: bytes that opening it may use; None: as its size suggests.
        limit_seconds: of processor time that opening it may use; None: as its size suggests.

    Raises:
        FilterscopeError: the source, or an option that contradicts it, or opening it takes more than it may.
    """
    chosen = preset(preprocess) if isinstance(preprocess, str) else preprocess
    options = InputOptions(layout, channels, size, chosen, image, feeds or {})
    limits = Limits(limit_memory, limit_seconds)
    return open_network(source, options, weights=None if weights is None else Path(weights), trust=trust, limits=limits)


def analyze(
    model: Network | str | Path,
    images: str | Path | Iterable[str | Path] = (),
    out: str | Path = "filterscope-run",
    *,
    settings: Settings | None = None,
    device: str = "auto",
    labels: Sequence[str] = (),
    command: Sequence[str] = (),
    progress: Progress | None = None,
    studies: Sequence[Study] = (),
    white: float | None = None,
) -> Run:
    """Analyse a network, or go on with an analysis of the same plan in the same folder.

    Args:
        model: from `open`, or a path.
        images: files, folders, globs or arrays on which activation maps are shown.
        out: folder of the run; made where it is missing.
        settings: quality, objectives, layers, channels, seed.
        device: auto or cuda: all GPUs share the work, where there are any; cpu or cuda:1: that one alone.
        labels: class names in order.
        command: what the run's record says it was started with.
        progress: who is told how far the work is.
        studies: what else is asked, such as Examples; may be added to a run that is finished.
        white: the number that is white in 16-bit and float pictures and in arrays; None: what their files state, else
            the most that their numbers can be.

    Returns:
        The finished run.

    Raises:
        FilterscopeError: the model, the images or the folder.
    """
    network = model if isinstance(model, Network) else open(model)
    given = [images] if isinstance(images, (str, Path)) else list(images)
    analysis = Analysis(
        network,
        settings or Settings(),
        _found(given, white),
        Path(out),
        device,
        labels,
        command,
        progress or Silent(),
        studies,
    )
    return analysis.run()


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
) -> Portrait:
    """The pictures that excite some units most.

    Args:
        model: from `open`, or a path.
        layer: its name; None: the scores of the classes, before softmax.
        channels: units of the layer, or classes, or what an objective of your own counts.
        objective: channel, neuron, negative, diversity, layer; or an object of analyzer.units.objectives, such as
            Direction(vectors) or one of your own.
        quality: draft, standard, fine.
        preset: of analyzer.maximize.presets.
        recipe: instead of quality and preset, one of your own.
        method: ascent, vertex; for neurons also analytic (layers that see the image) and certified (with a proof).
        seed: same seed, same pictures.
        device: auto, cpu, cuda, cuda:1.
        canvas: height and width of the picture; None: fitted to what the unit sees.
        seconds: that a proof may take, each unit.

    Raises:
        FilterscopeError: the model, or something that does not fit it.
    """
    import numpy as np

    from filterscope.analyzer.maximize.presets import Recipe, preset_named
    from filterscope.analyzer.maximize.presets import quality as quality_named
    from filterscope.analyzer.maximize.single_unit import UnitRequest, answer, only_layer
    from filterscope.analyzer.network.scores import scores

    network = model if isinstance(model, Network) else open(model)
    asked = scores(network) if layer is None else only_layer(network, layer)
    units = tuple(int(unit) for unit in np.atleast_1d(channels))
    how = recipe or Recipe(preset_named(preset), quality_named(quality))
    network.prove()
    return answer(network, UnitRequest(asked, objective, units, how, method, seed, device, canvas, seconds))


def attribute(
    model: Network | str | Path,
    image: str | Path | np.ndarray | Sequence[str | Path | np.ndarray],
    target: str | int | Sequence[str | int] | None = None,
    method: str | Sequence[str] = "all",
    *,
    layer: str | None = None,
    labels: Sequence[str] = (),
    sanity: bool = False,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    white: float | None = None,
) -> Answer:
    """Which pixels of a picture speak for a class, a channel or a neuron, and which against it.

    Args:
        model: from `open`, or a path.
        image: a file, folder, glob or array file; or (H, W, C) numbers in RGB order; or several of these.
        target: a class by number or label, "LAYER:CHANNEL" or "LAYER:CHANNEL@ROW,COLUMN" of any layer or value; or
            several of these; None: what the network answers with.
        method: all, default, or names of analyzer.attribution.methods.METHODS.
        layer: whose maps Grad-CAM weighs; None: the last convolution before the target.
        labels: class names in order.
        sanity: whether the methods are tried on randomised weights (Adebayo et al. 2018).
        seed: of SmoothGrad's noise and of the random weights.
        device: auto, cpu, cuda, cuda:1.
        progress: who is told how far the work is.
        white: as in `analyze`.

    Returns:
        The answer, which shows itself in a notebook; `answer["grad-cam"].signed` is an (H, W) array.

    Raises:
        FilterscopeError: the model, the image, or something that does not fit the network.
    """
    from filterscope.attributing import Asked

    network = model if isinstance(model, Network) else open(model)
    targets = [] if target is None else [target] if isinstance(target, (str, int)) else list(target)
    methods = [method] if isinstance(method, str) else list(method)
    asked = Asked(image, [str(one) for one in targets], methods, layer, labels, sanity, seed, device, "auto", white)
    return asked.answer(network, progress or Silent())


def convert(model: Network | str | Path, out: str | Path, *, canonical: bool = False) -> Path:
    """Write a network as ONNX.

    Args:
        model: from `open`, or a path.
        out: the file to write.
        canonical: the normal form that is analysed; otherwise the export of another framework's model as it came.

    Returns:
        `out`.

    Raises:
        FilterscopeError: the model is ONNX already and no normal form is asked for, the normal form is not the same
            network, or the file cannot be written.
    """
    network = model if isinstance(model, Network) else open(model)
    if not canonical and not network.model.converted:
        raise SettingsError(f"{network.model.path}: is ONNX already; canonical writes its normal form")
    if canonical:
        network.prove()
    form = network.model
    content = form.proto.SerializeToString(deterministic=True) if canonical else form.exported()
    path = Path(out)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def report(
    run: Run | str | Path, *, single_file: bool = False, out: str | Path | None = None, png: bool = False
) -> Path:
    """Make the report of a run, finished or not.

    Args:
        run: finished or not.
        single_file: one HTML file of at most 20 MB to be sent, which shows the finest channels of each layer where
            all do not fit, instead of a folder.
        out: the folder [RUN/site] or the file [RUN/report.html].
        png: whether each maximised picture is written as a PNG of its own too, into the folder's `png`.

    Returns:
        The path of the first page, or of the file.

    Raises:
        FilterscopeError: no run there, a damaged one, or a place that cannot be written.
    """
    from filterscope.reports.site.site import render, render_single

    opened = run if isinstance(run, Run) else Run(run)
    place = None if out is None else Path(out)
    if single_file and png:
        raise SettingsError("--png: a single file holds no files; make the folder for them")
    with reporting(opened.folder):
        opened = Run(opened.folder)  # as it is now that no other report is under way
        return render_single(opened, place) if single_file else render(opened, place, png=png)


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
    from filterscope.reports.compare import compare as comparing

    runs = [run if isinstance(run, Run) else Run(run) for run in (a, b)]
    return comparing.compare(runs[0], runs[1], match)


def figure(
    run: Run | str | Path,
    layer: str,
    channels: str | Sequence[int] = "all",
    *,
    objective: str = "channel",
    method: str = "ascent",
    columns: int | None = None,
    labels: str = "channel",
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
        labels: none, channel, or activation (the channel's number, then its activation).
        width: of the figure: millimetres, or text such as "3.3in".
        dpi: pixels an inch, at least: each pixel of a picture becomes a whole square of pixels.

    Raises:
        FilterscopeError: something does not fit the run, or nobody could read it.
    """
    from filterscope.reports.figures import figures

    opened = run if isinstance(run, Run) else Run(run)
    return figures.figure(
        opened,
        layer,
        channels,
        objective=objective,
        method=method,
        columns=columns,
        labels=labels,
        width=width,
        dpi=dpi,
    )


def _found(given: Sequence[str | Path], white: float | None) -> list[Source]:
    from filterscope.analyzer.data.white import check_white

    check_white(white)
    if not given:
        return []
    from filterscope.analyzer.data.images import find

    return find(given, white)
