"""What opening a model costs is paid once: the proof of its import, kept in the user's cache folder.

Keyed by the file's hash, our version and the libraries' versions. Knows JSON and files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

LIBRARIES = ("filterscope", "numpy", "onnx", "onnx-ir", "onnx2torch", "onnxscript", "torch")
RUNTIMES = ("onnxruntime-gpu", "onnxruntime")  # one of them is installed


def versions() -> dict[str, str]:
    """Installed versions of everything that decides a result."""
    found = {}
    for name in (*LIBRARIES, *RUNTIMES):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def key(*parts: str) -> str:
    """Name of a cache entry for these parts under the installed versions."""
    text = json.dumps([parts, versions()], sort_keys=True)
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


def _folder() -> Path:
    return platformdirs.user_cache_path("filterscope") / "parity"
