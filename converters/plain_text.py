"""Make text from files safe to show: characters that are invisible or turn other text around are written out.

Knows Unicode; knows nothing of pages or terminals.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from typing import Any

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, half of a pair, ends of line and paragraph
BLANK = re.compile(  # of other categories, and drawn as nothing all the same: fillers, joiners, selectors of variants
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
UNSURE = re.compile("[^ -~]")
NO_CHARACTER = re.compile("[\ufdd0-\ufdef\ufffe\uffff]")


def visible(text: str, keep: str = "") -> str:
    """Make every character of a text visible.

    Args:
        text: of a file: a name of a model, layer, image or class, or a sentence with one.
        keep: characters that stay, such as line ends.

    Returns:
        Control characters, halves of surrogate pairs and what is no character become U+FFFD. Direction marks,
        characters without width and other invisible ones become their number, as ‹U+202E›.

    Source: Unicode Standard Annex 9 (direction), Unicode Technical Standard 39 (names that deceive).
    """
    return UNSURE.sub(lambda match: match[0] if match[0] in keep else _shown(match[0]), text)


def visible_values(value: Any) -> Any:
    """The same for every text in a value of lists and objects, keys too."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible_values(key): visible_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [visible_values(item) for item in value]
    return value


def escaped_json(text: str) -> str:
    """JSON whose invisible characters are escapes: the same value, of which each character is seen."""

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        plain = character == "\n" or _shown(character) == character
        return character if plain else json.dumps(character)[1:-1]

    return UNSURE.sub(escape, text)


@lru_cache(4096)
def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Cs") or NO_CHARACTER.match(character):
        return "\ufffd"
    if category in HIDDEN or BLANK.match(character):
        return f"‹U+{ord(character):04X}›"
    return character
