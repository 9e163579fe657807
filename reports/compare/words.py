"""What the pages and the sentences of a comparison share: names of two runs, and correlations as text."""

from __future__ import annotations

from filterscope.analyzer.run.reader import Run
from filterscope.reports.page import words

ALIKE = 0.9995  # a correlation that three digits call 1


def alike(correlation: float | None, digits: int = 3) -> str:
    """A correlation as text with `digits` decimals; a dash where there is none."""
    return words.NOTHING if correlation is None else f"{round(correlation, digits) + 0.0:.{digits}f}".replace("-", "−")


def run_names(a: Run, b: Run) -> tuple[str, str]:
    """What tells the runs apart: their networks' names, their folders', or both."""
    networks = [str(run.info.model.name or run.folder.name) for run in (a, b)]
    folders = [run.folder.resolve().name for run in (a, b)]
    if networks[0] != networks[1]:
        return networks[0], networks[1]
    if folders[0] != folders[1]:
        return folders[0], folders[1]
    return f"{folders[0]} (A)", f"{folders[1]} (B)"
