"""Names of classes: ImageNet's, and those that a model's own metadata hold.

Knows text; knows nothing of networks.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

# Ultralytics writes `names`, Deepness and others `class_names`, transformers call it `id2label`; the rest is common.
KEYS = ("names", "class_names", "classes", "labels", "id2label", "class_labels", "label_names", "categories")
LONGEST = 1 << 20  # characters that are looked at


def imagenet() -> list[str]:
    """Short names of the 1,000 classes of ILSVRC 2012, in the usual order (by WordNet number)."""
    text = resources.files(__package__).joinpath("imagenet.txt").read_text(encoding="utf-8")
    return text.splitlines()


def from_metadata(metadata: Mapping[str, str], count: int) -> list[str]:
    """The names that a model carries for its own outputs.

    Args:
        metadata: key-value pairs of the file.
        count: of classes.

    Returns:
        `count` names, or none where no entry holds as many. A value may be a list or a map from numbers, as JSON or as
        Python writes it, or names with line breaks or commas between them, each with its number before a colon or not.
    """
    lowered = {key.lower(): value for key, value in metadata.items()}
    for key in KEYS:
        text = lowered.get(key, "")
        if not 0 < len(text) <= LONGEST:
            continue
        value = parse_value(text)
        written = isinstance(value, (dict, list, tuple))
        for names in [names_in_order(value)] if written else [_split(text, "\n"), _split(text, ",")]:
            if names is not None and len(names) == count:
                return names
    return []


def parse_value(text: str) -> Any:
    """A value as JSON or as Python writes it; None where it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return None


def names_in_order(value: Any) -> list[str] | None:
    """Names in order, of a list or of a map whose keys are 0, 1, …"""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (dict, list)):
        value = value[0]  # one entry an output
    if isinstance(value, dict):
        numbered = {str(key): name for key, name in value.items()}
        if not all(str(index) in numbered for index in range(len(numbered))):
            return None
        value = [numbered[str(index)] for index in range(len(numbered))]
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, (str, int, float)) for name in value):
        return None
    return [str(name) for name in value]


def _split(text: str, separator: str) -> list[str] | None:
    parts = [part.strip() for part in text.strip().split(separator)]
    numbered = [re.fullmatch(r"(\d+)\s*:\s*(.+)", part) for part in parts]
    matches = [match for match in numbered if match is not None]
    if len(matches) == len(parts):
        return names_in_order({int(match[1]): match[2] for match in matches})
    return parts if all(parts) else None
