"""How the settings of two runs differ, in words.

Knows what run.json says; reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNDECIDING = ("time_budget",)  # settings in which runs of one plan may differ
PLURALS = ("objectives", "channels", "layers", "map_pictures")  # settings of which one says "are"


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first setting in which two runs differ, as far as both record it, in brackets; empty where none differs.

    Args:
        before: what run.json says of the run that is there.
        now: what run.json would say of the run that is to be written.
    """
    models, inputs, settings = (
        [one.get(part) or {} for one in (before, now)] for part in ("model", "input", "settings")
    )
    if all("sha256" in model for model in models) and models[0]["sha256"] != models[1]["sha256"]:
        return f" (its model is {_text(models[0].get('name'))}, now {_text(models[1].get('name'))}, another file)"
    ways = [one.get("preprocessing") or {} for one in inputs]
    pairs = [("preprocessing", ways[0].get("name"), ways[1].get("name"))]
    pairs += [(name, ways[0].get(name), ways[1].get(name)) for name in ("high", "mean", "std", "order")]
    pairs += [(name, inputs[0].get(name), inputs[1].get(name)) for name in ("height", "width")]
    last = ("channels", "layers")  # whose words may differ where the channels are the same
    shared = (name for name in settings[1] if name in settings[0] and name not in (*UNDECIDING, "recipe"))
    names = sorted(shared, key=lambda name: name in last)
    pairs += [(name, settings[0][name], settings[1][name]) for name in names]
    recipes = [one.get("recipe") for one in settings]  # None in runs of older versions
    for name, one, other in pairs:
        if one != other and (name in names or None not in (one, other)):
            verb = "are" if name in PLURALS else "is"
            return f" (its {name.replace('_', ' ')} {verb} {_text(one)}, now {_text(other)})"
    if recipes[1] is not None and recipes[0] != recipes[1]:
        return " (its pictures were made in another way, by another version of filterscope)"
    return ""


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
