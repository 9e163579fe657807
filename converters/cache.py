"""The cache of opened models in the user's cache folder: each one's normal form and the proof of its import.

Keyed by the file's hash, our version and the libraries' versions. Knows JSON and files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

LIBRARIES = ("filterscope", "numpy", "onnx", "onnx-ir", "onnx2torch", "onnxscript", "torch")
FRAMEWORKS = ("keras", "tensorflow", "tf2onnx", "tf_keras")  # where they are installed
MOST_KEPT = 2 << 30  # bytes of opened models; the longest unused go first
RUNTIMES = ("onnxruntime-gpu", "onnxruntime")  # one of them is installed


def versions() -> dict[str, str]:
    """Installed versions of everything that decides a result."""
    return _installed((*LIBRARIES, *RUNTIMES))


def key(*parts: str) -> str:
    """Name of a cache entry for these parts under the installed versions."""
    text = json.dumps([parts, versions(), _installed(FRAMEWORKS)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def load(name: str) -> dict[str, Any] | None:
    """The entry, or None where there is none or it cannot be read."""
    try:
        content = json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def save(name: str, content: dict[str, Any]) -> None:
    """Keep an entry; a cache that cannot be written is no error."""
    with contextlib.suppress(OSError):
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{name}.{os.getpid()}.part"
        beside.write_text(json.dumps(content), encoding="utf-8")
        beside.replace(folder / f"{name}.json")


def holds_any_of(prefix: str) -> bool:
    """Whether a model is kept under a name that begins so."""
    return any(_opened().glob(f"{prefix}*"))


def load_folder(name: str) -> Path | None:
    """The folder of an opened model; None where there is none."""
    folder = _opened() / name
    if not folder.is_dir():
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)  # used now
    return folder


def save_folder(name: str, files: Iterable[Path]) -> None:
    """Keep an opened model's files, those of them that there are; copies of them.

    Raises:
        OSError: the cache cannot be written.
    """
    place = _opened()
    place.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".", dir=place))
    try:
        for file in files:
            if file.is_file():
                shutil.copyfile(file, beside / file.name)
        beside.rename(place / name)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _drop_oldest(place)


def _drop_oldest(place: Path) -> None:
    """Remove what was not used for the longest time, until the rest is no more than MOST_KEPT."""
    sizes = {folder: sum(file.stat().st_size for file in folder.iterdir()) for folder in place.iterdir()}
    total = sum(sizes.values())
    for folder in sorted(sizes, key=lambda each: each.stat().st_mtime):
        if total <= MOST_KEPT:
            return
        shutil.rmtree(folder, ignore_errors=True)
        total -= sizes[folder]


def _installed(names: Iterable[str]) -> dict[str, str]:
    versions = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _opened() -> Path:
    return platformdirs.user_cache_path("filterscope") / "opened"


def _folder() -> Path:
    return platformdirs.user_cache_path("filterscope") / "parity"
