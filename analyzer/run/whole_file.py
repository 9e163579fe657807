"""A file that is whole, or is not there: for pictures that a user names, outside of a run."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from filterscope.converters import checks


def check_place(field: str, path: str | Path, suffix: str) -> None:
    """Check, before any work, that a file can be written there.

    Args:
        field: the setting that names it.
        suffix: that its name must have, such as .png.

    Raises:
        SettingsError: it has another one, is a folder, or lies in none that can be written.
    """
    path = Path(path)
    if path.suffix.lower() != suffix:
        checks.refuse(field, str(path), f"give a name that ends in {suffix}")
    if path.is_dir():
        checks.refuse(field, str(path), "is a folder; give another name")
    if not path.parent.is_dir():
        checks.refuse(field, str(path), f"cannot be written (no folder {path.parent})")
    if not os.access(path.parent, os.W_OK):
        checks.refuse(field, str(path), f"cannot be written (no right to write into {path.parent})")


def write_whole(field: str, path: str | Path, content: bytes) -> None:
    """Write a file beside its place, then move it there; an interrupt leaves what stood there before.

    A link stays a link, and what it leads to is written.

    Args:
        field: the setting that names it.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        _replace(Path(path).resolve(), content)
    except OSError as error:
        checks.refuse(field, str(path), f"cannot be written ({error.strerror or error})")


def _replace(real: Path, content: bytes) -> None:
    if real.exists() and not real.is_file():  # a pipe, a terminal; a folder refuses by itself
        real.write_bytes(content)
        return
    beside = real.with_name(f".filterscope-{secrets.token_hex(6)}.part")  # short: the name may be as long as allowed
    try:
        with beside.open("xb") as file:
            file.write(content)
        beside.replace(real)
    except BaseException:  # an interrupt too
        beside.unlink(missing_ok=True)
        raise
