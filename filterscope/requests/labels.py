"""Class names, as a user gives them: a file of lines, a table, or the ImageNet's by name."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting


def class_names(labels: str | Path | Sequence[str]) -> list[str]:
    """Names in order; a path or "imagenet" is read.

    Raises:
        SettingsError: the file cannot be read as class names.
    """
    return read_labels(Path(labels)) if isinstance(labels, (str, Path)) else checks.listed("labels", labels)


def read_labels(path: Path) -> list[str]:
    """Names in order, from a text file (one a line), a .csv with a column name, label or class, or "imagenet".

    Raises:
        SettingsError: the file cannot be read, is empty, or has no such column.
    """
    if str(path) == "imagenet" and not path.exists():
        from filterscope.analyzer.network.labels import imagenet

        return imagenet()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _error(path, "cannot be read as text") from error
    if path.suffix.lower() != ".csv":
        names = [line.strip() for line in text.splitlines() if line.strip()]
        if not names:
            raise _error(path, "is empty; give one name a line")
        return names
    try:
        rows = list(csv.DictReader(text.splitlines()))
    except csv.Error as error:
        raise _error(path, f"cannot be read as a table ({error})") from error
    column = next((name for name in ("name", "label", "class") if rows and name in rows[0]), None)
    if column is None:
        raise _error(path, "no column is called name, label or class")
    return [row[column] or "" for row in rows]


def _error(path: Path, sentence: str) -> SettingsError:
    return SettingsError(f"{setting('labels', path)}: {sentence}", field="labels", value=path)
