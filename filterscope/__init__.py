"""Filterscope: see what every filter of a trained convolutional network responds to.

    import filterscope as fs
    model = fs.open("model.onnx")
    run = fs.analyze(model, images="photos/", out="run/")
    fs.report(run)

Everything else of this distribution (analyzer, converters, reports) is inside it and may move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the real imports are lazy: `filterscope --help` must not wait for torch
    from filterscope.api import FilterscopeError as FilterscopeError
    from filterscope.api import Run as Run
    from filterscope.api import analyze as analyze
    from filterscope.api import attribute as attribute
    from filterscope.api import compare as compare
    from filterscope.api import convert as convert
    from filterscope.api import figure as figure
    from filterscope.api import maximize as maximize
    from filterscope.api import open as open
    from filterscope.api import report as report

__all__ = [
    "FilterscopeError",
    "Run",
    "__version__",
    "analyze",
    "attribute",
    "compare",
    "convert",
    "figure",
    "maximize",
    "open",
    "report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("filterscope")
    if name in __all__:
        from filterscope import api

        return getattr(api, name)
    raise AttributeError(f"module 'filterscope' has no attribute {name!r}")
