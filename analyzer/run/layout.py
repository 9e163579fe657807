"""Which files a run has: their names, and what may stand in them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filterscope.analyzer.run.tables import TABLES

SCHEMA = 1  # of run.json, layers.json and the tables; readers accept older ones and refuse newer ones by name
LARGEST_ATLAS = 1 << 30  # pixels
LOCKS = (".lock", ".report.lock")  # held by who writes the run, and by who makes its report
SLUG = r"[A-Za-z0-9-]{1,60}"
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}  # Windows
RESERVED = DEVICES | {
    Path(name).stem for name in TABLES if name.startswith("examples/")
}  # beside examples/SLUG.parquet
STUDIES = "weights|examples|attribution|classes|inversion|groups|tuning|truth|values"
OWN_FILES = re.compile(  # paths that a run may hold
    rf"(units\.parquet|(layers|graph|run)\.json|model\.onnx|(first|tasks)/{SLUG}/[a-z]+-[a-z]+-\d+-\d+\.(parquet|png)"
    rf"|maps/{SLUG}(-\d+\.png|\.parquet)|images/\d+\.(json|png)"
    rf"|({STUDIES})/(study\.json|[A-Za-z0-9_-]{{1,90}}\.(parquet|png|npz))"
    rf"|report\.html|site/(index|method|classes|data|layer-{SLUG}|image-\d+)\.html|site/(assets|png)/[^/]+|\.site\.(part|old)/.+"
    r"|\.(site|report\.html)\.lock)"
)
OWN_FOLDERS = re.compile(
    rf"(first|tasks)(/{SLUG})?|maps|images|{STUDIES}|site(/(assets|png))?|\.site\.(part|old)(/.+)?"
)


def slugs(names: Sequence[str]) -> dict[str, str]:
    """A safe file name for each layer name: ASCII letters, digits and dashes, at most 60 characters.

    Names that would collide (also on file systems that ignore case) get a short hash of the real name, and so do names
    without a single safe character, those that stand for devices on Windows and those of the other tables in examples/.
    """
    plain = {name: re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60].strip("-") for name in names}
    seen = Counter(slug.lower() for slug in plain.values())
    reserved = RESERVED | {slug.lower() for slug in plain.values()} | {""}
    chosen = {}
    for name, slug in plain.items():
        chosen[name] = slug
        if not slug or slug.lower() in RESERVED or seen[slug.lower()] > 1:
            hashed = (_hashed(slug, name, digits) for digits in range(8, 60))
            chosen[name] = next(longer for longer in hashed if longer.lower() not in reserved)
            reserved.add(chosen[name].lower())
    return chosen


def _hashed(slug: str, name: str, digits: int) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
    return f"{slug[: 59 - digits]}-{digest}".lstrip("-")


@dataclass(frozen=True, slots=True)
class TaskKey:
    """Which files a task owns."""

    slug: str  # of the layer
    kind: str  # objective-method, such as channel-ascent
    first: int  # lowest channel
    last: int  # highest channel
    is_first: bool = False  # whether its pictures are first ones, which others replace

    @property
    def stem(self) -> str:
        """Path of the task's files inside the run, without suffix."""
        folder = "first" if self.is_first else "tasks"
        return f"{folder}/{self.slug}/{self.kind}-{self.first}-{self.last}"
