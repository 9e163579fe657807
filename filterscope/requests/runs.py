"""Requests about runs as they lie on disk: pages of one, two side by side, a figure for print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.run_locks import reporting
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting

if TYPE_CHECKING:
    from filterscope.reports.compare.comparison import Comparison
    from filterscope.reports.figures.figures import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """Which form the report of a run takes, and where it goes.

    Raises:
        SettingsError: a single file, and pictures beside it or a name that is not of HTML; a field is not of its type.
    """

    single_file: bool = False
    out: Path | None = None  # None: RUN/site, or RUN/report.html
    png: bool | None = None  # None: where all pictures together take under 50 MB

    def __post_init__(self) -> None:
        checks.flag("single_file", self.single_file)
        if self.png is not None:
            checks.flag("png", self.png)
        if self.single_file and self.out is not None and self.out.suffix.lower() not in (".html", ".htm"):
            checks.refuse("out", str(self.out), "the single file is HTML; give a name that ends in .html")
        if self.single_file and self.png:
            raise SettingsError(f"{setting('png')}: a single file holds no files; make the folder for them")

    def run(self, run: Run | str | Path) -> Path:
        """Make the report, and return its first page or its file.

        Raises:
            FilterscopeError: no run there, a damaged one, or a place that cannot be written.
        """
        from filterscope.reports.site.site import render, render_single

        folder = opened(run).folder
        with reporting(folder):
            run = Run(folder)  # as it is now that no other report is under way
            return render_single(run, self.out) if self.single_file else render(run, self.out, png=self.png)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """How the units of two runs are matched: by index or by activation."""

    match: str = "index"

    def run(self, a: Run | str | Path, b: Run | str | Path) -> Comparison:
        """Compare two runs.

        Raises:
            FilterscopeError: no run there, a damaged one, or nothing that could be compared.
        """
        from filterscope.reports.compare.compare import compare

        return compare(opened(a), opened(b), self.match)


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRequest:
    """Whose pictures stand in a figure, and how it is laid out."""

    layer: str  # its name, or a glob or #number that fits one
    channels: str | Sequence[int] = "all"
    objective: str = "channel"
    method: str = "ascent"
    columns: int | None = None  # None: nearly a square
    captions: str = "channel"  # none, channel or activation
    width: str | float = 85.0  # millimetres, or text such as "3.3in"
    dpi: float = 300.0

    def __post_init__(self) -> None:
        checks.text("layer", self.layer)
        checks.number("dpi", self.dpi)
        if not isinstance(self.width, str):
            checks.number("width", self.width)
        for field in ("objective", "method", "captions"):
            checks.text(field, getattr(self, field))
        if self.columns is not None:
            checks.whole("columns", self.columns, least=None)
        if not isinstance(self.channels, str):
            object.__setattr__(self, "channels", checks.wholes("channels", self.channels))

    def run(self, run: Run | str | Path) -> Figure:
        """Lay the figure out.

        Raises:
            FilterscopeError: something does not fit the run, or nobody could read the figure.
        """
        from filterscope.reports.figures.figures import figure

        return figure(
            opened(run),
            self.layer,
            self.channels,
            objective=self.objective,
            method=self.method,
            columns=self.columns,
            captions=self.captions,
            width=self.width,
            dpi=self.dpi,
        )


def opened(run: Run | str | Path) -> Run:
    """The run itself, or the one in a folder."""
    return run if isinstance(run, Run) else Run(checks.path("run", run))
