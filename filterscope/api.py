"""What Python callers use: open a model, analyse it, make its report.

Knows which room does what; does nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.analysis import Analysis, Progress, Silent
from analyzer.inputs import Preprocessing, preset
from analyzer.network import InputOptions, Network, open_network
from analyzer.plan import Settings
from analyzer.run import Run
from converters.errors import FilterscopeError

if TYPE_CHECKING:
    from analyzer.images import Source

__all__ = ["FilterscopeError", "Run", "analyze", "open", "report"]


def open(  # the name users expect: fs.open(...)
    path: str | Path,
    *,
    preprocess: str | Preprocessing | None = None,
    size: tuple[int, int] | None = None,
    layout: str | None = None,
    channels: int | None = None,
) -> Network:
    """Open a trained network.

    Args:
        path: an ONNX file.
        preprocess: a preset (unit, imagenet, symmetric, raw255, caffe-bgr) or a Preprocessing; None: as the graph
            shows it, else an assumption that `network.input.why` states.
        size: height and width to analyse at, where the file leaves them open.
        layout: NCHW or NHWC, where the graph does not tell.
        channels: of the input, where the graph does not tell.

    Raises:
        FilterscopeError: the file, or an option that contradicts it.
    """
    chosen = preset(preprocess) if isinstance(preprocess, str) else preprocess
    return open_network(path, InputOptions(layout, channels, size, chosen))


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
) -> Run:
    """Analyse a network, or go on with an analysis of the same plan in the same folder.

    Args:
        model: from `open`, or a path.
        images: files, folders, globs or arrays on which activation maps are shown.
        out: folder of the run; made where it is missing.
        settings: quality, objectives, layers, channels, seed.
        device: auto, cpu, cuda.
        labels: class names in order.
        command: what the run's record says it was started with.
        progress: who is told how far the work is.

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
        _found(given),
        Path(out),
        device,
        labels,
        command,
        progress or Silent(),
    )
    return analysis.run()


def report(run: Run | str | Path) -> Path:
    """Make the static site of a run, finished or not; returns the path of its first page.

    Raises:
        FilterscopeError: no run there, or a damaged one.
    """
    from reports.site import render

    return render(run if isinstance(run, Run) else Run(run))


def _found(given: Sequence[str | Path]) -> list[Source]:
    if not given:
        return []
    from analyzer.images import find

    return find(given)
