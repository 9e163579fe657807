"""What an export of Ultralytics (YOLO) says of itself in its metadata: size, classes, task.

Such networks take RGB pixels from 0 to 1. Knows text; knows nothing of graphs.

Source: ultralytics/engine/exporter.py, `self.metadata` (8.x); export.py of YOLOv5 writes stride and names alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from filterscope.analyzer.network.labels import LONGEST, names_in_order, parse_value

TASKS = ("detect", "segment", "classify", "pose", "obb")
PLAIN_SINCE = (8, 1)  # the release since which classifiers are not normalised by ImageNet's mean and deviation
LARGEST = 1 << 14  # pixels of a side that are believed


@dataclass(frozen=True, slots=True)
class Export:
    """The metadata of an export, as far as they make sense."""

    size: tuple[int, int] | None  # height and width (imgsz)
    names: tuple[str, ...]  # of the classes
    stride: int | None  # of the coarsest maps: sides of the input are its multiples
    task: str | None  # of TASKS; None: YOLOv5 does not say
    batch: int | None  # that it was exported for
    version: tuple[int, int] | None

    @property
    def takes_unit(self) -> bool:
        """Whether its pixels are certainly 0 to 1; older classifiers and YOLOv5's are normalised further."""
        if self.task == "classify":
            return self.version is not None and self.version >= PLAIN_SINCE
        return self.task is not None

    def sentence(self) -> str:
        """The metadata as a sentence."""
        parts = [f"task {self.task}"] if self.task else []
        parts += [f"imgsz {self.size[0]}x{self.size[1]}"] if self.size else []
        parts += [f"stride {self.stride}"] if self.stride else []
        parts += [f"batch {self.batch}"] if self.batch else []
        if self.names:
            shown = ", ".join(self.names[:3]) + (", …" if len(self.names) > 3 else "")
            parts.append(f"{len(self.names)} classes ({shown})")
        return f"Metadata of Ultralytics: {', '.join(parts) or 'nothing of the input'}."


def export_of(metadata: Mapping[str, str]) -> Export | None:
    """The metadata of an Ultralytics export; None: the file is none."""
    signed = any("ultralytics" in metadata.get(key, "").lower() for key in ("author", "description", "license", "docs"))
    if not signed and not ("names" in metadata and "stride" in metadata):
        return None
    task = metadata.get("task", "").strip().lower()
    version = re.match(r"(\d{1,4})\.(\d{1,4})", metadata.get("version", "").strip(), re.ASCII)
    return Export(
        size=_size(_value(metadata, "imgsz")),
        names=tuple(names_in_order(_value(metadata, "names")) or ()),
        stride=_whole(_value(metadata, "stride")),
        task=task if task in TASKS else None,
        batch=_whole(_value(metadata, "batch")),
        version=None if version is None else (int(version[1]), int(version[2])),
    )


def _value(metadata: Mapping[str, str], key: str) -> Any:
    text = metadata.get(key, "")
    return parse_value(text) if 0 < len(text) <= LONGEST else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= LARGEST else None


def _size(value: Any) -> tuple[int, int] | None:
    """imgsz is one side, or height and width."""
    sides = [value, value] if type(value) is int else list(value) if isinstance(value, (list, tuple)) else []
    sides = sides * 2 if len(sides) == 1 else sides
    whole = [_whole(side) for side in sides]
    if len(whole) != 2 or whole[0] is None or whole[1] is None:
        return None
    return whole[0], whole[1]
