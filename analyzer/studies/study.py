"""Studies: optional parts of a run beside its pictures and maps, each in a folder of its own.

A study is not part of the plan: it may be added to a finished run, by the same command with one option more. It writes
its tables and pictures, then NAME/study.json with its settings; a study whose settings have not changed is not done
again. Knows the run; knows nothing of what a study measures.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from filterscope.analyzer.data.images import PhotoInfo
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.execution.tasks import Workshop
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.progress import Progress
from filterscope.analyzer.run.layout import SCHEMA
from filterscope.analyzer.run.tables import TABLES
from filterscope.analyzer.run.writer import RunWriter
from filterscope.analyzer.studies.order import reads_pictures


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What every study may use."""

    network: Network
    shop: Workshop  # canvases, bounds and meters; recipe, seed and device
    writer: RunWriter
    settings: Settings
    channels: Mapping[str, tuple[int, ...]]  # analysed layer → its analysed channels
    slugs: Mapping[str, str]  # layer → file name
    pictures: Sequence[np.ndarray]  # the user's images at the input's size, (H, W, C) uint8 each
    photos: Sequence[PhotoInfo]  # where they come from
    labels: Sequence[str]  # class names in order, or none
    progress: Progress
    unfinished: str | None = None  # which pictures there are, where some are still to be made or replaced
    notes: list[str] = field(default_factory=list)  # sentences for study.json, such as what was left out and why


class Study(Protocol):
    """One kind of study, of the whole network."""

    @property
    def name(self) -> str:
        """Folder inside the run."""

    def settings(self, context: Context) -> dict[str, Any]:
        """Everything that decides its results, as JSON: settings, and hashes of the data that it reads."""

    def run(self, context: Context) -> None:
        """Measure, and write tables and pictures into the folder."""


def perform(study: Study, context: Context) -> dict[str, Any]:
    """Run a study unless the run has it already.

    Returns:
        What study.json says: name, settings, identity, notes, files, seconds.
    """
    settings = study.settings(context)
    identity = _identity(study.name, settings, context)
    place = f"{study.name}/study.json"
    before = context.writer.read_json_if_whole(place)
    if before is not None and before.get("identity") == identity:
        damaged = _damaged(study.name, before, context.writer)
        if not damaged:
            return before
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        logging.getLogger("filterscope").warning(
            "%s/%s%s: missing or damaged; the study is done again", study.name, damaged[0], more
        )
    if context.writer.has(place):
        context.writer.remove_folder(study.name)
    started = time.perf_counter()
    context.notes.clear()
    study.run(context)
    info = {
        "schema": SCHEMA,
        "name": study.name,
        "identity": identity,
        "settings": settings,
        "notes": list(context.notes),
        "files": context.writer.files_of(study.name),
        "seconds": round(time.perf_counter() - started, 3),
    }
    context.writer.write_json(place, info)
    return info


def _damaged(name: str, info: Mapping[str, Any], writer: RunWriter) -> list[str]:
    """Files of a finished study that are missing or cannot be used."""
    listed = info.get("files")
    files = [str(file) for file in listed] if isinstance(listed, list) else writer.files_of(name)  # of older runs
    # a table's pictures are looked at with it
    ordered = sorted(files, key=lambda file: (not file.endswith(".parquet"), file))
    return [file for file in ordered if not writer.has_whole(f"{name}/{file}", TABLES.get(f"{name}/{file}"))]


def _identity(name: str, settings: Mapping[str, Any], context: Context) -> str:
    content: dict[str, Any] = {"plan": context.writer.plan, "settings": settings, "labels": list(context.labels)}
    if context.unfinished is not None and reads_pictures(name):
        content["unfinished"] = context.unfinished
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]
