"""Checks of what a caller gives, at the birth of a request: each returns the value in Python's own type.

Numbers of numpy count as numbers, a text is no number, and True is no 1. Knows errors alone.
"""

from __future__ import annotations

import math
import numbers
import operator
import reprlib
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from filterscope.converters.errors import SettingsError, setting


def whole(field: str, value: Any, least: int | None = 0) -> int:
    """An integer of at least so much; None: any.

    Raises:
        SettingsError: it is none.
    """
    try:
        number = None if _is_flag(value) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        refuse(field, value, "give a whole number" + ("" if least is None else f" of {least} or more"))
    if least is not None and number < least:
        refuse(field, number, f"give {least} or more")
    return number


def wholes(field: str, value: Any, least: int | None = 0) -> tuple[int, ...]:
    """One integer or several.

    Raises:
        SettingsError: one of them is none.
    """
    return tuple(whole(field, one, least) for one in several(value))


def number(field: str, value: Any) -> float:
    """A finite number.

    Raises:
        SettingsError: it is none.
    """
    if not isinstance(value, numbers.Real) or _is_flag(value) or not math.isfinite(value):
        refuse(field, value, "give a finite number")
    return float(value)


def text(field: str, value: Any) -> str:
    """A text.

    Raises:
        SettingsError: it is none.
    """
    if not isinstance(value, str):
        refuse(field, value, "give a text")
    return str(value)


def flag(field: str, value: Any) -> bool:
    """True or False.

    Raises:
        SettingsError: it is neither.
    """
    if not _is_flag(value):
        refuse(field, value, "give True or False")
    return bool(value)


def size(field: str, value: Any) -> tuple[int, int]:
    """Height and width in pixels.

    Raises:
        SettingsError: it is no pair of whole numbers above 0.
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        refuse(field, value, "give height and width, such as (224, 224)")
    sides = list(value)
    if len(sides) != 2:
        refuse(field, value, "give height and width, such as (224, 224)")
    return whole(field, sides[0], least=1), whole(field, sides[1], least=1)


def path(field: str, value: Any) -> Path:
    """A path.

    Raises:
        SettingsError: it is none.
    """
    if not isinstance(value, (str, PathLike)):
        refuse(field, value, "give a path")
    return Path(value)


def array(field: str, value: Any) -> Any:
    """An array or a path.

    Raises:
        SettingsError: it is none of these.
    """
    if not isinstance(value, (str, PathLike, np.ndarray)):
        refuse(field, value, "give a path, or an array of (H, W, C) numbers")
    return value


def listed(field: str, value: Any) -> list[Any]:
    """What several things are given in.

    Raises:
        SettingsError: it is one thing, or a text.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        refuse(field, value, "give several, in a list")
    return list(value)


def names(field: str, value: Any) -> tuple[str, ...]:
    """One name or several.

    Raises:
        SettingsError: one of them is no text.
    """
    return tuple(text(field, one) for one in several(value))


def several(value: Any) -> list[Any]:
    """One thing, or several in whatever collection, as a list; a text and a path are one."""
    return [value] if isinstance(value, (str, bytes, PathLike)) or not isinstance(value, Iterable) else list(value)


def refuse(field: str, value: Any, advice: str, text: str | None = None) -> NoReturn:
    """Raise what says which setting is wrong, and what would be right.

    Args:
        text: how the value reads in the message; None: as Python shows it, shortened.
    """
    raise SettingsError(f"{setting(field, shown(value) if text is None else text)}: {advice}", field=field, value=value)


def shown(value: Any) -> str:
    """A value in a message, in one short line."""
    return " ".join((value if isinstance(value, str) else _SHORT.repr(value)).split())


_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 60


def _is_flag(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))
