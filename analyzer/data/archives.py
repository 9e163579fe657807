"""Arrays of NumPy's files, each judged by its header before anything of it is read.

A zip of some kilobytes can hold an array of many gigabytes. Nothing is unpickled. Knows NumPy's formats; knows nothing
of images.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from filterscope.analyzer.data.limits import MOST_ARRAY_BYTES
from filterscope.converters.errors import InputError

PACKINGS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # what NumPy writes; others ask for memory of their own


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of an array say of it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int  # bytes before its values

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An .npz file, member by member.

    Args:
        file: opened for reading; stays open as long as this is used.
        name: for messages.

    Raises:
        InputError: it is no zip.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        if file.read(2) != b"PK":
            raise InputError(f"{name}: not a NumPy file")
        file.seek(0)
        self._zip = zipfile.ZipFile(file)
        self._name = name
        self._left = MOST_ARRAY_BYTES
        members = [entry for entry in self._zip.infolist() if entry.filename.endswith(".npy")]
        self._members = {entry.filename.removesuffix(".npy"): entry for entry in members}

    @property
    def keys(self) -> list[str]:
        """Names of its arrays."""
        return list(self._members)

    def header(self, key: str) -> Header:
        """What an array says of itself.

        Raises:
            InputError: it holds Python objects, or is packed in a way that NumPy does not write.
            ValueError: it is no array.
        """
        entry = self._members[key]
        if entry.compress_type not in PACKINGS:
            raise InputError(f"{self._name}: {key} is packed in a way that NumPy does not write; save it with np.savez")
        with self._zip.open(entry) as member:
            return read_header(member, f"{self._name}: {key}")

    def read(self, key: str) -> np.ndarray:
        """An array.

        Raises:
            InputError: it is not as large as it says, or larger than the limit.
            ValueError: it is no array.
        """
        header, entry = self.header(key), self._members[key]
        if header.start + header.size != entry.file_size:
            raise InputError(
                f"{self._name}: {key} says that it has {header.size:,} bytes and has "
                f"{entry.file_size - header.start:,}; the file is damaged, save it again"
            )
        if header.size > self._left:
            raise InputError(
                f"{self._name}: {key} has {header.size:,} bytes, and at most {MOST_ARRAY_BYTES:,} are read from an "
                ".npz; save it as an .npy file, which is read piece by piece, or in several files"
            )
        self._left -= header.size
        with self._zip.open(entry) as member:
            return np.asarray(npy.read_array(member, allow_pickle=False))


def read_header(file: IO[bytes], name: str) -> Header:
    """Shape and type of the array that begins here.

    Raises:
        InputError: it holds Python objects.
        ValueError: it is no array.
    """
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise InputError(f"{name}: holds Python objects, which are never loaded; save plain arrays")
    if any(side < 0 for side in shape):
        raise ValueError(f"a shape of {shape}")
    return Header(tuple(shape), dtype, file.tell())


def open_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, left on the disk.

    Raises:
        InputError: it holds Python objects, or is shorter than it says.
        ValueError: it is no array.
    """
    with path.open("rb") as file:
        header = read_header(file, path.name)
    there = path.stat().st_size - header.start
    if header.size > there:
        raise InputError(
            f"{path.name}: says that it has {header.size:,} bytes and has {there:,}; it is damaged, save it again"
        )
    if not header.size:
        return np.empty(header.shape, header.dtype)
    return np.asarray(np.lib.format.open_memmap(path, mode="r"))
