"""Read tensors that are kept outside the model's file, from the model's folder and from nowhere else.

The file decides the name, so each name is judged by where it leads: no way up, no absolute path, no link, symbolic or
hard, out of the folder (CVE-2022-25882, CVE-2024-27318, CVE-2026-27489, CVE-2026-34447, CVE-2026-34446). Bytes are read
here and not by onnx's loader, which took every key that the file brings for an attribute (CVE-2026-34445).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import onnx

from filterscope.converters.errors import ModelError
from filterscope.converters.onnx_file.tensor_content import declared_bytes


def files_of(path: Path, tensors: Iterable[onnx.TensorProto]) -> list[Path]:
    """The files that hold the outside tensors, each once.

    Raises:
        ModelError: a name that leads out of the folder, or a file that is missing.
    """
    outside = [tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL]
    named = [(tensor, {entry.key: entry.value for entry in tensor.external_data}) for tensor in outside]
    return list(dict.fromkeys(_place(path, tensor, entries.get("location", ""))[0] for tensor, entries in named))


def read_in(path: Path, tensors: Iterable[onnx.TensorProto]) -> dict[Path, bytes]:
    """Put the bytes of each outside tensor into it, in place.

    Args:
        path: the model's file.
        tensors: all tensors of the model.

    Returns:
        Each file that was read and its SHA-256, in the order of first use.

    Raises:
        ModelError: a name that leads out of the folder, a file that is missing, too short, or no plain file.
    """
    digests: dict[Path, bytes] = {}
    for tensor in tensors:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file, location = _place(path, tensor, entries.get("location", ""))
        content = _read(path, tensor, file, location, *_span(path, tensor, entries, location))
        if file not in digests:
            with file.open("rb") as stream:
                digests[file] = hashlib.file_digest(stream, "sha256").digest()
        if len(content) != declared_bytes(tensor):
            raise ModelError(
                f"{path}: not a valid ONNX model: tensor {tensor.name!r} takes {declared_bytes(tensor)} bytes and has "
                f"{len(content)} in {location!r}"
            )
        tensor.raw_data = content
        tensor.ClearField("data_location")
        del tensor.external_data[:]
    return digests


def _place(path: Path, tensor: onnx.TensorProto, location: str) -> tuple[Path, str]:
    """The file that a name means. Links are followed before that is judged."""
    folder = path.parent.resolve()
    location = location.replace("\0", "")
    try:
        file = Path(os.path.realpath(folder / location))  # resolve() raises RuntimeError at links in a circle
        is_file = file.is_file()
    except OSError as error:  # a name longer than the system's
        raise ModelError(
            f"{path}: tensor {tensor.name!r} points to {location[:60]!r}, which is no file's name ({error.strerror})"
        ) from error
    if not location or not file.is_relative_to(folder):
        raise ModelError(
            f"{path}: tensor {tensor.name!r} points to {location[:60]!r}, outside the model's folder; "
            "that is refused: keep the data beside the model"
        )
    if not is_file:
        raise ModelError(
            f"{path}: its external data {location[:60]!r} is missing; keep it in the same folder as the model"
        )
    return file, location


def _span(path: Path, tensor: onnx.TensorProto, entries: dict[str, str], location: str) -> tuple[int, int]:
    """Offset and length in bytes; the length that the tensor declares, where the file gives none."""
    needed = declared_bytes(tensor)
    try:
        offset, length = (int(entries.get(key) or 0) for key in ("offset", "length"))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0:
        raise ModelError(f"{path}: tensor {tensor.name!r} does not say where in {location!r} it begins and ends")
    if tensor.data_type == onnx.TensorProto.STRING:
        raise ModelError(f"{path}: tensor {tensor.name!r} keeps text outside the file, which ONNX does not allow")
    return offset, length or needed


def _read(path: Path, tensor: onnx.TensorProto, file: Path, location: str, offset: int, length: int) -> bytes:
    """Bytes of one open file, judged after it is open: a name may lead elsewhere the next time."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # `file` has no link left in it
    try:
        with os.fdopen(os.open(file, flags), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{path}: its external data {location!r} is no plain file")
            if status.st_nlink > 1:
                raise ModelError(
                    f"{path}: its external data {location!r} is a hard link: another file's content under this name, "
                    "perhaps from outside the model's folder; copy it"
                )
            if offset + length > status.st_size:
                raise ModelError(f"{path}: its external data {location!r} is shorter than tensor {tensor.name!r} needs")
            stream.seek(offset)
            return stream.read(length)
    except OSError as error:
        raise ModelError(f"{path}: its external data {location!r} cannot be read ({error.strerror})") from error
