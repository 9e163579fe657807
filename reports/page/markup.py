"""How templates are read: escaped, strict about names, with the filters that all pages use.

Knows Jinja2; knows nothing of a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from filterscope.reports.page import words


def coded(sentence: str | None) -> Markup:
    """A sentence of the run or of a message as HTML; what stands between backticks, such as a setting, is code."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(words.clean(sentence or "")))))


FILTERS = (words.figure, words.percent, words.count, words.large, words.times, words.listed, words.shortened, coded)


def environment(names: Mapping[str, object], *filters: Callable[..., Any]) -> Environment:
    """Templates of reports/templates.

    Args:
        names: what every template may use.
        filters: beside FILTERS, each under its own name.
    """
    templates = Environment(
        loader=PackageLoader("filterscope.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: words.clean(value) if type(value) is str else value,
    )
    templates.filters |= {function.__name__: function for function in (*FILTERS, *filters)}
    templates.globals |= names
    return templates
