"""Limits on archives, JSON and HDF5 files from untrusted sources, checked before they are read.

Each check is linear in the file's own bytes, never in what the file declares. Knows the three formats; knows nothing of
models. Used by our process and by the scripts beside it; imports nothing of ours.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

MEMBERS = 10_000  # of an archive; torch writes one a tensor, 736 of DenseNet-121
DIRECTORY_BYTES = (
    1024 * MEMBERS
)  # of an archive's list of members: 1 KiB a member, where torch and Keras need 200 bytes
RATIO = 100  # unpacked bytes to the file's own; weights hardly pack, deflate reaches 1,032
SLACK_BYTES = 64 << 20  # that a small file may unpack to whatever its ratio: a configuration packs well
TEXT_BYTES = 32 << 20  # of a configuration or a graph; the graph of DenseNet-121 at a free size has 2 MB
CONTAINERS = 1_000_000  # lists and dictionaries of a text, each 80 bytes and more in memory; that graph has 28,000
NOTE_BYTES = 1 << 20  # of what says who wrote a file and when
DEPTH = 100  # of JSON in JSON, and of HDF5 groups in groups; a nested model needs 6 a level
HDF5_OBJECTS = 20_000  # groups and datasets, a tenth of a millisecond each; NASNet has some thousands
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the only ones that torch and Keras write and read
FILTERS = (1, 2, 3, 32000)  # of HDF5: deflate, shuffle, checksum, lzf; any other is a library that would be loaded
NUMBERS = "biufc"  # numpy's kinds of plain numbers
DEFLATE_RATIO = 1_032  # what deflate cannot exceed, so that a dataset of more is not in its file

_END = struct.Struct("<4s4H2LH")  # of a zip archive: signature, disks, entries, directory's size and place, comment
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")


class LimitError(ValueError):
    """A file exceeds a limit or breaks a rule of its kind; one line."""


def open_archive(path: Any) -> zipfile.ZipFile:
    """Open a zip archive whose members are few, plain, each there once, and not much larger than the file.

    Args:
        path: a path, or a binary stream.

    Raises:
        LimitError: the archive is not so.
        zipfile.BadZipFile, OSError: it is none, or cannot be read.
    """
    if isinstance(path, (str, Path)):
        with Path(path).open("rb") as stream:
            size = _check_directory(stream)
    else:
        size = _check_directory(path)
    try:
        archive = zipfile.ZipFile(path)
    except (UnicodeDecodeError, NotImplementedError, struct.error, ValueError) as error:
        raise zipfile.BadZipFile(str(error)) from error
    try:
        _check_members(archive.infolist(), size)
    except LimitError:
        archive.close()
        raise
    return archive


def _check_directory(stream: Any) -> int:
    """Check that the list of members is short before it is read. Returns the bytes of the file."""
    size: int = stream.seek(0, 2)
    stream.seek(max(0, size - (1 << 16) - _END.size))
    tail = stream.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        raise zipfile.BadZipFile("it has no list of members, which stands at an archive's end")
    listed = _END.unpack_from(tail, place)[5]
    if listed == 0xFFFFFFFF and place >= _LOCATOR.size:
        signature, _, offset, _ = _LOCATOR.unpack_from(tail, place - _LOCATOR.size)
        if signature == b"PK\x06\x07" and offset + _END_64.size <= size:
            stream.seek(offset)
            listed = _END_64.unpack(stream.read(_END_64.size))[8]
    if listed > DIRECTORY_BYTES:
        raise LimitError(f"the list of its members is {listed} bytes long; at most {DIRECTORY_BYTES} are read")
    stream.seek(0)
    return size


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > MEMBERS:
        raise LimitError(f"it has {len(members)} members; at most {MEMBERS} are read")
    seen: set[str] = set()
    for member in members:
        name = member.orig_filename
        place = PurePosixPath(name.replace("\\", "/"))
        folded = name.casefold()  # torch's reader takes Data.pkl for data.pkl
        if place.is_absolute() or ".." in place.parts or ":" in name or "\0" in name or folded in seen:
            raise LimitError(f"its member {name[:60]!r} lies outside the archive or is in it twice; it is refused")
        seen.add(folded)
        if member.flag_bits & 1:
            raise LimitError(f"its member {name[:60]!r} is encrypted")
        if member.compress_type not in METHODS:
            raise LimitError(f"its member {name[:60]!r} is compressed by a method that is not supported")
    if sum(member.compress_size for member in members) > size:
        raise LimitError("its members overlap")
    unpacked = sum(member.file_size for member in members)
    if unpacked > RATIO * size + SLACK_BYTES:
        raise LimitError(f"{size} bytes of it would unpack to {unpacked}")


def read_member(archive: zipfile.ZipFile, name: str, limit: int = TEXT_BYTES) -> bytes:
    """The bytes of a member of an archive, at most `limit`.

    Raises:
        LimitError: it declares more.
        zipfile.BadZipFile, zlib.error, OSError, EOFError: it is damaged.
    """
    declared = archive.getinfo(name).file_size
    if declared > limit:
        raise LimitError(f"its {name} is {declared} bytes long; at most {limit} are read")
    try:
        return archive.read(name)
    except (NotImplementedError, RuntimeError, UnicodeDecodeError, struct.error, IndexError) as error:
        raise zipfile.BadZipFile(str(error)) from error


def parse_json(content: bytes | str, name: str) -> Any:
    """Parse a JSON text.

    Raises:
        LimitError: it is no JSON, no UTF-8, nested deeper than DEPTH, or of more than CONTAINERS parts.
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        if text.count("[") + text.count("{") > CONTAINERS:
            raise LimitError(f"its {name} holds more than {CONTAINERS} lists and dictionaries")
        value = json.loads(text)
    except LimitError:
        raise
    except UnicodeDecodeError as error:
        raise LimitError(f"its {name} is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise LimitError(f"its {name} is nested deeper than {DEPTH}") from error
    except ValueError as error:
        raise LimitError(f"its {name} is no JSON ({str(error)[:80]})") from error
    if _is_deeper(value, DEPTH):
        raise LimitError(f"its {name} is nested deeper than {DEPTH}")
    return value


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth + 1):
        level = [inner for each in level for inner in _inner(each)]
        if not level:
            return False
    return True


def _inner(value: Any) -> Iterator[Any]:
    """The lists and dictionaries directly inside a value."""
    contents = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (inner for inner in contents if isinstance(inner, (dict, list)))


def check_weights(archive: zipfile.ZipFile, name: str, h5py: Any, folder: Path) -> None:
    """Check that a member of an archive is an HDF5 file that `check_hdf5` accepts, by way of a copy in a folder."""
    copy = folder / "checked.h5"
    with archive.open(name) as source, copy.open("wb") as target:  # seeking inside an archive reads it from its start
        shutil.copyfileobj(source, target)
    try:
        with h5py.File(copy, "r") as file:
            check_hdf5(file, h5py, copy.stat().st_size)
    finally:
        copy.unlink()


def check_hdf5(file: Any, h5py: Any, size: int) -> None:
    """Check that an open HDF5 file is a tree of plain arrays that lie in it whole.

    Args:
        file: an h5py.File.
        h5py: the module; who only reads archives need not have it.
        size: bytes of the file.

    Raises:
        LimitError: a link to another file or place, one group under two names, data in another file, data that are no
            numbers or more than the file can hold, or too many objects.
    """
    waiting: list[tuple[Any, str, int]] = [(file, "", 0)]
    seen = {_address(file, h5py)}
    count, total = 0, 0
    while waiting:
        group, path, depth = waiting.pop()
        for name in group:
            count += 1
            place = f"{path}/{name}"[-60:]
            if count > HDF5_OBJECTS:
                raise LimitError(f"it holds more than {HDF5_OBJECTS} arrays and groups")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise LimitError(f"its weights {place!r} lie in another file or under another name; that is refused")
            item = group[name]
            if isinstance(item, h5py.Dataset):
                total += _dataset_bytes(item, place)
            elif not isinstance(item, h5py.Group):
                raise LimitError(f"its {place!r} is no array; that is refused")
            elif depth == DEPTH or _address(item, h5py) in seen:
                raise LimitError(f"its groups contain each other, or one group twice ({place!r}); that is refused")
            else:
                seen.add(_address(item, h5py))
                waiting.append((item, place, depth + 1))
    if total > RATIO * size + SLACK_BYTES:
        raise LimitError(f"its {size} bytes would become arrays of {total}; that is refused")


def _address(group: Any, h5py: Any) -> tuple[int, int]:
    info = h5py.h5o.get_info(group.id)
    return info.fileno, info.addr


def _dataset_bytes(dataset: Any, place: str) -> int:
    """Bytes of an array that lies whole in its file."""
    layout = dataset.id.get_create_plist()
    if dataset.external or dataset.is_virtual:
        raise LimitError(f"its weights {place!r} lie in another file; that is refused")
    kind = dataset.dtype
    if kind.hasobject or kind.subdtype or (kind.kind not in NUMBERS and (kind.kind != "V" or kind.fields)):
        raise LimitError(f"its weights {place!r} are no numbers; that is refused")
    if dataset.shape is None:
        return 0
    filters = [layout.get_filter(index)[0] for index in range(layout.get_nfilters())]
    if any(each not in FILTERS for each in filters):
        raise LimitError(f"its weights {place!r} are compressed by a method that is not supported; that is refused")
    needed = int(math.prod(int(extent) for extent in dataset.shape) * kind.itemsize)
    stored = dataset.id.get_storage_size() * (DEFLATE_RATIO if filters else 1)
    if needed > stored:
        raise LimitError(
            f"its weights {place!r} declare {list(dataset.shape)} values, of which the file holds {stored} bytes; "
            "that is refused"
        )
    if layout.get_layout() == 2 and math.prod(dataset.chunks) * kind.itemsize > SLACK_BYTES + RATIO * stored:
        raise LimitError(f"its weights {place!r} lie in chunks of {list(dataset.chunks)}; that is refused")
    return needed
