"""Names of classes: ImageNet's, those that a model's own metadata hold, and how users spell them.

Knows text; knows nothing of networks.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

# Ultralytics writes `names`, Deepness and others `class_names`, transformers call it `id2label`; the rest is common.
KEYS = ("names", "class_names", "classes", "labels", "id2label", "class_labels", "label_names", "categories")
LONGEST = 1 << 20  # characters that are looked at
IMAGENET_SHARE = 0.9  # of ImageNet's names, from which a list of 1,000 is taken for them in the usual order


def imagenet() -> list[str]:
    """Short names of the 1,000 classes of ILSVRC 2012, in the usual order (by WordNet number)."""
    return [name for _, name in _imagenet()]


def _imagenet() -> list[tuple[str, str]]:
    """WordNet number ("n01440764") and short name of each class."""
    text = resources.files(__package__).joinpath("imagenet.txt").read_text(encoding="utf-8")
    pairs = (line.partition(" ") for line in text.splitlines())
    return [(number, name) for number, _, name in pairs]


class ClassFinder:
    """Finds a class by what its user calls it, in a setting or as the folder of a data set.

    In this order: its name to the letter; its name whatever the case and whatever stands between its words (great_dane
    is Great Dane), also one of several names with commas between them; its number; of ImageNet's 1,000 classes their
    WordNet number. What fits two classes stands for neither.

    Args:
        names: of the classes in order, or none.
        count: of classes.
    """

    def __init__(self, names: Sequence[str], count: int) -> None:
        self._count = count
        self._exact = _indices((name, index) for index, name in enumerate(names))
        whole = _indices((spelling(name), index) for index, name in enumerate(names))
        parts = _indices((spelling(part), index) for index, name in enumerate(names) for part in name.split(","))
        self._spelt = parts | whole
        numbers = _imagenet() if _is_imagenet(names, count) else []
        self._by_wordnet = {number: index for index, (number, _) in enumerate(numbers)}

    def index(self, name: str) -> int | None:
        """Number of the class; None where no class is called so, or more than one."""
        for indices, key in ((self._exact, name), (self._spelt, spelling(name))):
            if key in indices:
                return indices[key]
        if name.isascii() and name.isdigit():
            return int(name) if int(name) < self._count else None
        return self._by_wordnet.get(name)


def spelling(name: str) -> str:
    """A name in small letters, with one space between its words, however they were written."""
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


def _indices(pairs: Iterable[tuple[str, int]]) -> dict[str, int | None]:
    """Name → class, or None where two classes share it."""
    classes: dict[str, int | None] = {}
    for name, index in pairs:
        classes[name] = None if classes.get(name, index) != index else index
    return classes


def _is_imagenet(names: Sequence[str], count: int) -> bool:
    """Whether the classes are ImageNet's in the usual order, as far as one knows."""
    classes = _imagenet()
    if count != len(classes) or len(names) not in (0, count):
        return False
    same = (spelling(name) in map(spelling, text.split(",")) for (_, name), text in zip(classes, names, strict=True))
    return not names or sum(same) >= IMAGENET_SHARE * count


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
