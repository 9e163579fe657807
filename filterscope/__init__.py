"""See what every filter of a trained convolutional network responds to.

    import filterscope as fs

    model = fs.open("model.onnx")
    run = fs.analyze(model, images="photos/", out="run/")
    fs.report(run)

A network:      open, convert, Preprocessing
A run:          analyze, report, compare, figure, Run, Settings
Its studies:    Examples, Classes, Inversion, Groups, Attribution, Tuning, Truth, Values
One unit:       maximize, Recipe, objectives
One picture:    attribute, invert, factorise
What goes wrong: FilterscopeError

Everything else inside this package may move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the real imports are lazy: `filterscope --help` must not wait for torch
    from filterscope.analyzer.execution.plan import Settings as Settings
    from filterscope.analyzer.maximize.presets import Recipe as Recipe
    from filterscope.analyzer.network.preprocessing import Preprocessing as Preprocessing
    from filterscope.analyzer.run.reader import Run as Run
    from filterscope.analyzer.studies.attribution import Attribution as Attribution
    from filterscope.analyzer.studies.classes import Classes as Classes
    from filterscope.analyzer.studies.examples.examples import Examples as Examples
    from filterscope.analyzer.studies.groups import Groups as Groups
    from filterscope.analyzer.studies.groups import factorise as factorise
    from filterscope.analyzer.studies.inversion import Inversion as Inversion
    from filterscope.analyzer.studies.inversion import invert as invert
    from filterscope.analyzer.studies.truth import TruthStudy
    from filterscope.analyzer.studies.tuning.tuning import TuningStudy
    from filterscope.analyzer.studies.values import ValueStudy
    from filterscope.analyzer.units import objectives as objectives
    from filterscope.api import analyze as analyze
    from filterscope.api import attribute as attribute
    from filterscope.api import compare as compare
    from filterscope.api import convert as convert
    from filterscope.api import figure as figure
    from filterscope.api import maximize as maximize
    from filterscope.api import open as open
    from filterscope.api import report as report
    from filterscope.converters.errors import FilterscopeError as FilterscopeError

    Truth, Tuning, Values = TruthStudy, TuningStudy, ValueStudy

__all__ = [
    "Attribution",
    "Classes",
    "Examples",
    "FilterscopeError",
    "Groups",
    "Inversion",
    "Preprocessing",
    "Recipe",
    "Run",
    "Settings",
    "Truth",
    "Tuning",
    "Values",
    "__version__",
    "analyze",
    "attribute",
    "compare",
    "convert",
    "factorise",
    "figure",
    "invert",
    "maximize",
    "objectives",
    "open",
    "report",
]

_ELSEWHERE = {  # public name → module, and its name there where that is another; the others are in api
    "Answer": "analyzer.attribution.explained",  # in no list: pickle looks for it
    "Attribution": "analyzer.studies.attribution",
    "Classes": "analyzer.studies.classes",
    "Examples": "analyzer.studies.examples.examples",
    "FilterscopeError": "converters.errors",
    "Groups": "analyzer.studies.groups",
    "Inversion": "analyzer.studies.inversion",
    "Portrait": "analyzer.maximize.single_unit",  # likewise
    "Preprocessing": "analyzer.network.preprocessing",
    "Recipe": "analyzer.maximize.presets",
    "Run": "analyzer.run.reader",
    "Settings": "analyzer.execution.plan",
    "Truth": "analyzer.studies.truth:TruthStudy",
    "Tuning": "analyzer.studies.tuning.tuning:TuningStudy",
    "Values": "analyzer.studies.values:ValueStudy",
    "factorise": "analyzer.studies.groups",
    "invert": "analyzer.studies.inversion",
    "objectives": "analyzer.units.objectives",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("filterscope")
    if name not in __all__ and name not in _ELSEWHERE:
        raise AttributeError(f"module 'filterscope' has no attribute {name!r}")
    from importlib import import_module

    module, _, there = _ELSEWHERE.get(name, "api").partition(":")
    source = import_module(f"filterscope.{module}")
    return source if name == "objectives" else getattr(source, there or name)


def __dir__() -> list[str]:
    return __all__
