"""A PyTorch checkpoint read as data: no name in its pickle is ever imported, and nothing of it is called.

pickletools takes the pickle apart into its instructions, and the machine here carries them out on plain values. A class
or function is only a Name. Where it is one of a short list (how torch and numpy spell tensors, arrays and numbers) a
function of ours makes the value; every other one becomes an Inert, which holds what it would have been given. Imports
nothing of ours, and is used by pytorch_export.py in a process where the user's own packages come first.

Formats: torch.save's archives (since 1.6) and what it wrote before, and plain pickles of any protocol.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch

MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of what torch.save wrote before 1.6
MOST_STEPS = 4_000_000  # instructions of all pickles of a file, and elements copied
MOST_BYTES = 1 << 28  # of the pickle itself, without its tensors
SPARE = 1 << 26  # bytes beyond the file's own size that its tensors may take
INFLATED = 100  # times its compressed size that a member may have; weights come nowhere near
DEPTH = 2  # torch files within torch files
ENTRY = re.compile(r"[?bBhHiIlLqQefdFD]|[biufc]([1248]|16)")  # how numpy spells types of numbers

KINDS = {  # class of a storage → type of its elements
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "UntypedStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
DTYPES = {  # spelt torch.NAME in the pickle
    str(dtype).removeprefix("torch."): dtype
    for dtype in (*KINDS.values(), torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)
}


class CheckpointError(Exception):
    """The file is damaged, no checkpoint, or too large to be one; in one line."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the pickle names; it is not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False, repr=False)  # repr: what is shared would be written out again and again
class Inert:
    """An object that a class or function would have made: its parts, and nothing else."""

    maker: Any  # a Name, where the pickle is as it should be
    arguments: Any
    state: Any = None  # an object's attributes
    items: dict[Any, Any] | None = None  # where it is some kind of dictionary
    members: list[Any] | None = None  # where it is some kind of list


@dataclass(slots=True, eq=False)
class _Storage:
    """Memory that tensors share, filled as soon as it is read."""

    values: torch.Tensor  # (numel,), of the storage's own type


@dataclass(slots=True, eq=False)
class _Entry:
    """numpy's dtype of plain numbers; its byte order comes with its state."""

    code: str
    order: Literal["<", ">"] = "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)


class _Budget:
    """Limits on what reading a file may cost: a small file must not become large in memory."""

    def __init__(self, size: int) -> None:
        self._steps = MOST_STEPS
        self._bytes = 2 * size + SPARE

    def take_steps(self, count: int) -> None:
        self._steps -= count
        if self._steps < 0:
            raise CheckpointError(f"its pickle is longer than {MOST_STEPS:,} instructions")

    def take_bytes(self, count: int) -> None:
        self._bytes -= count
        if self._bytes < 0:
            raise CheckpointError("its tensors are larger than the file")


def read(path: str | Path) -> Any:
    """Read a file of torch.save, or a plain pickle, as dictionaries, lists, tensors, numbers and Inert.

    Args:
        path: of the file.

    Returns:
        Its content; sets as lists, numpy's numbers as Python's. `tensors_in` takes numpy's arrays for tensors.

    Raises:
        CheckpointError: damaged, or too large.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return _content(file, _Budget(size), DEPTH)


def tensors_in(content: Any) -> dict[str, torch.Tensor]:
    """Tensors by name: those directly in a dictionary, or in an Inert that is one or is a pickled nn.Module."""
    if isinstance(content, Inert):
        return _of_dictionary(content.items or {}) | _of_module(content)
    return _of_dictionary(content) if isinstance(content, Mapping) else {}


def parts_of(content: Any) -> dict[str, Any]:
    """The contents of a dictionary or an Inert, by name: its items, then its attributes."""
    if isinstance(content, Mapping):
        return {str(key): value for key, value in content.items() if isinstance(key, (str, int))}
    if isinstance(content, Inert):
        return parts_of(_attributes(content) | (content.items or {}))
    return {}


def is_module(content: Any) -> bool:
    """Whether an object's attributes are those of an nn.Module."""
    attributes = _attributes(content)
    return all(isinstance(attributes.get(name), Mapping) for name in ("_modules", "_parameters", "_buffers"))


def names_of_inert(content: Any, most: int = 3) -> list[str]:
    """Classes and functions that were passed over, each once, in order."""
    names: dict[str, None] = {}
    seen: set[int] = set()
    left = [content]
    while left and len(names) < most:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Inert):
            names |= {str(value.maker): None} if isinstance(value.maker, Name) and value.maker != ARRAY else {}
            left += [value.state, value.items, value.members, value.arguments]
        elif isinstance(value, Mapping):
            left += reversed(list(value.values()))
        elif isinstance(value, (list, tuple)):
            left += reversed(value)
    return list(names)


def _of_dictionary(content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    tensors = {key: _as_tensor(value) for key, value in content.items() if isinstance(key, str)}
    return {key: tensor for key, tensor in tensors.items() if tensor is not None}


def _as_tensor(value: Any) -> torch.Tensor | None:
    """A tensor, or what an array of numpy became; None for all else."""
    if isinstance(value, Inert) and _is(value.maker, ARRAY) and value.members:
        value = value.members[0]
    return value if isinstance(value, torch.Tensor) else None


def _attributes(content: Any) -> dict[Any, Any]:
    """An object's attributes; those in slots come second in a pair."""
    state = content.state if isinstance(content, Inert) else None
    halves = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    return {key: value for half in halves if isinstance(half, Mapping) for key, value in half.items()}


def _of_module(module: Inert) -> dict[str, torch.Tensor]:
    """The state dict that a pickled nn.Module would have."""
    tensors: dict[str, torch.Tensor] = {}
    left: list[tuple[str, Any]] = [("", module)]
    seen: set[int] = set()
    while left:
        prefix, inner = left.pop()
        if not is_module(inner) or id(inner) in seen:
            continue
        seen.add(id(inner))
        attributes = _attributes(inner)
        for kind in ("_parameters", "_buffers"):
            tensors |= {f"{prefix}{name}": tensor for name, tensor in _of_dictionary(attributes[kind]).items()}
        left += [(f"{prefix}{name}.", part) for name, part in parts_of(attributes["_modules"]).items()]
    return tensors


def _content(file: IO[bytes], budget: _Budget, depth: int) -> Any:
    if depth == 0:
        raise CheckpointError("it holds a file within a file within a file")
    try:
        start = file.read(4)
        file.seek(0)
        return _of_archive(file, budget, depth) if start == b"PK\x03\x04" else _of_stream(file, budget, depth)
    except (CheckpointError, MemoryError):
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError) as error:
        raise CheckpointError("it is only a part of a file, or damaged; save or copy it again") from error
    except Exception as error:  # archives and pickles are damaged in many ways
        text = " ".join(str(error).split())
        raise CheckpointError(f"its pickle is damaged ({text[:80] or type(error).__name__})") from error


def _of_archive(file: IO[bytes], budget: _Budget, depth: int) -> Any:
    """torch.save's archive: FOLDER/data.pkl, and a member a storage."""
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
        if len(pickles) != 1:
            raise CheckpointError("it is an archive, and not one of torch.save")
        root = pickles[0].removesuffix("data.pkl")
        order = _member(archive, f"{root}byteorder") if f"{root}byteorder" in archive.namelist() else b"little"
        storages: dict[str, torch.Tensor] = {}

        def storage(key: str, dtype: torch.dtype, numel: int) -> torch.Tensor:
            if key not in storages:
                name = f"{root}data/{key}"
                budget.take_bytes(archive.getinfo(name).file_size)
                storages[key] = _filled(_member(archive, name), order == b"big", dtype)
            return _as_type(storages[key], dtype, numel)

        if archive.getinfo(pickles[0]).file_size > MOST_BYTES:
            raise CheckpointError(f"its pickle is larger than {MOST_BYTES >> 20} MiB")
        return _Machine(budget, storage, depth).run(io.BytesIO(_member(archive, pickles[0])))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > INFLATED * max(info.compress_size, 1 << 10):
        raise CheckpointError(f"its member {name} inflates to {info.file_size >> 20} MiB")
    return archive.read(info)


def _of_stream(file: IO[bytes], budget: _Budget, depth: int) -> Any:
    """Read a file from before torch 1.6: three pickles of constants, the content, names of storages, the storages."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    storages: dict[str, tuple[torch.Tensor, int]] = {}  # key → memory as bytes, bytes an element

    def storage(key: str, dtype: torch.dtype, numel: int) -> torch.Tensor:
        if key not in storages:
            if not 0 <= numel * dtype.itemsize <= size:
                raise CheckpointError("its tensors are larger than the file")
            budget.take_bytes(numel * dtype.itemsize)
            storages[key] = torch.zeros(numel * dtype.itemsize, dtype=torch.uint8), dtype.itemsize
        return _as_type(storages[key][0], dtype, numel)

    machine = _Machine(budget, storage, depth)
    content = machine.run(file)
    if type(content) is not int or content != MAGIC:
        return content  # pickled without torch.save
    _version, system = machine.run(file), machine.run(file)
    content, keys = machine.run(file), machine.run(file)
    is_big = isinstance(system, Mapping) and system.get("little_endian") is False
    if not isinstance(keys, list) or len(keys) != len(storages) or not all(isinstance(key, str) for key in keys):
        raise CheckpointError("it is only a part of a file, or damaged; save or copy it again")
    for key in keys:
        memory, itemsize = storages[key]
        count = int.from_bytes(_exactly(file, 8), "little")
        if count * itemsize != len(memory):
            raise CheckpointError("a storage has another size than its tensors say; save or copy it again")
        memory.copy_(_filled(_exactly(file, len(memory)), is_big, _of_size(itemsize)))
    return content


def _exactly(file: IO[bytes], count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise EOFError
    return content


def _of_size(itemsize: int) -> torch.dtype:
    return {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}[itemsize]


def _filled(content: bytes, is_big: bool, dtype: torch.dtype) -> torch.Tensor:
    """Bytes of a storage, in this machine's order."""
    memory = bytearray(content)
    if is_big != (sys.byteorder == "big") and dtype.itemsize > 1:
        width = dtype.itemsize // (2 if dtype.is_complex else 1)
        memory = bytearray(np.frombuffer(memory, f"u{width}").byteswap().tobytes())
    return torch.frombuffer(memory, dtype=torch.uint8) if memory else torch.zeros(0, dtype=torch.uint8)


def _as_type(memory: torch.Tensor, dtype: torch.dtype, numel: int) -> torch.Tensor:
    if numel * dtype.itemsize > len(memory) or numel < 0:
        raise CheckpointError("a tensor is larger than its storage; save or copy it again")
    return memory[: len(memory) // dtype.itemsize * dtype.itemsize].view(dtype)


class _Machine:
    """Pickle's machine on plain values (PEP 307, 3154, 574). It imports nothing and calls only what RULES lists."""

    def __init__(self, budget: _Budget, storage: Callable[[str, torch.dtype, int], torch.Tensor], depth: int) -> None:
        self.budget = budget
        self.depth = depth
        self._storage = storage

    def run(self, file: IO[bytes]) -> Any:
        """Value of the pickle that begins at the file's place; the place is then behind it."""
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(file):
            self.budget.take_steps(1)
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise EOFError

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in CONSTANTS:
            stack.append(CONSTANTS[name]())
        elif name in LITERALS:
            stack.append(argument)
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[int(argument)])
        elif name in STEPS:
            STEPS[name](self, argument)
        else:
            raise CheckpointError(f"its pickle has the instruction {name}, which no checkpoint needs")

    def marked(self) -> list[Any]:
        """Takes everything above the last mark."""
        mark = self._marks.pop()
        if mark > len(self._stack):
            raise IndexError("a mark above the stack")
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def pop(self, count: int) -> list[Any]:
        """Takes the last values."""
        if count > len(self._stack):
            raise IndexError("an empty stack")
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return values

    def push(self, value: Any) -> None:
        """Puts a value on top."""
        self._stack.append(value)

    def top(self) -> Any:
        """The value on top."""
        return self._stack[-1]

    def drop(self) -> None:
        """Takes what is on top, a mark too."""
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def make(self, maker: Any, arguments: Any) -> Any:
        """What a class or function of RULES gives; an Inert for every other, and where the arguments do not fit."""
        rule = RULES.get((maker.module, maker.name)) if isinstance(maker, Name) else None
        if rule is not None and isinstance(arguments, tuple):
            result = rule(self, arguments)
            if result is not None:
                return result
        return Inert(maker, arguments)

    def storage(self, pid: Any) -> Any:
        """A storage that the pickle names by ("storage", class, key, device, count, view)."""
        if not (isinstance(pid, tuple) and len(pid) >= 5 and isinstance(pid[0], str) and pid[0] == "storage"):
            return Inert(None, pid)  # ("module", class, file, source), of old files
        _, kind, key, _device, numel = pid[:5]
        if not isinstance(key, (str, int)) or type(numel) is not int:
            return Inert(None, pid)
        dtype = KINDS.get(kind.name) if isinstance(kind, Name) and kind.module in ("torch", "torch.storage") else None
        if dtype is None:
            return Inert(kind, pid)
        view = pid[5] if len(pid) > 5 else None
        values = self._storage(str(key), dtype, numel)
        if view is not None:  # (key, first element, count), of files before 0.4
            _, first, count = view
            if not (type(first) is int and type(count) is int and 0 <= first <= first + count <= len(values)):
                raise CheckpointError("a storage lies outside another; save or copy it again")
            values = values[first : first + count]
        return _Storage(values)


def _is(value: Any, name: Name) -> bool:
    return isinstance(value, Name) and value == name


def _key(value: Any) -> Any:
    """A key for a dictionary; a deep or mutable object is identified by itself."""
    if isinstance(value, (str, bytes, int, float, type(None), Name, Inert)):
        return value
    if isinstance(value, tuple) and all(isinstance(part, (str, bytes, int, float, type(None), Name)) for part in value):
        return value
    return Inert(None, value)


def _set_items(target: Any, flat: list[Any]) -> None:
    pairs = {_key(key): value for key, value in zip(flat[::2], flat[1::2], strict=True)}
    if isinstance(target, Inert):
        target.items = {} if target.items is None else target.items
        target.items.update(pairs)
    elif isinstance(target, dict):
        target.update(pairs)
    else:
        raise TypeError("items of what is no dictionary")


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, Inert):
        target.members = target.members or []
        target.members += values
    elif isinstance(target, list):
        target += values
    else:
        raise TypeError("members of what is no list")


def _setitem(machine: _Machine, _: Any) -> None:
    flat = machine.pop(2)
    _set_items(machine.top(), flat)


def _setitems(machine: _Machine, _: Any) -> None:
    flat = machine.marked()
    _set_items(machine.top(), flat)


def _append(machine: _Machine, _: Any) -> None:
    values = machine.pop(1)
    _extend(machine.top(), values)


def _appends(machine: _Machine, _: Any) -> None:
    values = machine.marked()
    _extend(machine.top(), values)


def _dict(machine: _Machine, _: Any) -> None:
    flat = machine.marked()
    machine.push({})
    _set_items(machine.top(), flat)


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = str(argument).partition(" ")
    machine.push(Name(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    module, name = machine.pop(2)
    is_name = isinstance(module, str) and isinstance(name, str)
    machine.push(Name(module, name) if is_name else Inert(None, (module, name)))


def _reduce(machine: _Machine, _: Any) -> None:
    maker, arguments = machine.pop(2)
    machine.push(machine.make(maker, arguments))


def _newobj_ex(machine: _Machine, _: Any) -> None:
    maker, arguments, words = machine.pop(3)
    machine.push(Inert(maker, arguments) if words else machine.make(maker, arguments))


def _inst(machine: _Machine, argument: Any) -> None:
    arguments = tuple(machine.marked())
    _global(machine, argument)
    (maker,) = machine.pop(1)
    machine.push(machine.make(maker, arguments))


def _obj(machine: _Machine, _: Any) -> None:
    maker, *arguments = machine.marked()
    machine.push(machine.make(maker, tuple(arguments)))


def _build(machine: _Machine, _: Any) -> None:
    """An object's state: of numpy's arrays and dtypes what is in them, of all else kept and not looked at."""
    (state,) = machine.pop(1)
    target = machine.top()
    if isinstance(target, Inert):
        target.state = state
        array = _array(target, state, machine.budget)
        if array is not None:
            target.members = [array]
    elif isinstance(target, _Entry) and isinstance(state, tuple) and len(state) > 1:
        target.order = ">" if isinstance(state[1], str) and state[1] == ">" else "<"


def _array(target: Inert, state: Any, budget: _Budget) -> torch.Tensor | None:
    """numpy's array of (version, shape, dtype, is Fortran's order, bytes)."""
    if not _is(target.maker, ARRAY) or not (isinstance(state, tuple) and len(state) == 5):
        return None
    _version, shape, entry, is_fortran, content = state
    if isinstance(content, str):
        content = content.encode("latin-1")  # of Python 2
    if not isinstance(entry, _Entry) or not isinstance(content, (bytes, bytearray)):
        return None
    return _of_bytes(content, entry, shape, order="F" if is_fortran else "C", budget=budget)


def _of_bytes(content: bytes | bytearray, entry: _Entry, shape: Any, order: Any, budget: _Budget) -> torch.Tensor:
    extents = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(extent) is int and extent >= 0 for extent in extents) or len(extents) > 64:
        raise CheckpointError("an array has no shape")
    if math.prod(extents) * entry.dtype.itemsize != len(content):
        raise CheckpointError("an array has another size than its shape; save or copy it again")
    budget.take_bytes(len(content))
    values = np.frombuffer(content, entry.dtype).reshape(extents, order="F" if order == "F" else "C")
    return torch.from_numpy(values.astype(entry.dtype.newbyteorder("="), order="C", copy=True))


ARRAY = Name("numpy", "ndarray")


def _make_array(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    """numpy's empty array, whose state comes later."""
    return Inert(ARRAY, arguments) if arguments and _is(arguments[0], ARRAY) else None


def _make_buffer(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    """numpy's array since protocol 5: (bytes, dtype, shape, order)."""
    if len(arguments) != 4 or not isinstance(arguments[0], (bytes, bytearray)) or not isinstance(arguments[1], _Entry):
        return None
    return _of_bytes(*arguments, machine.budget)


def _make_entry(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    code = arguments[0] if arguments else None
    if not (isinstance(code, str) and ENTRY.fullmatch(code)):
        return None
    try:
        torch.from_numpy(np.zeros(0, code))
    except TypeError:  # no number, such as f1, or none that torch has
        return None
    return _Entry(code)


def _make_scalar(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    """numpy's number: (dtype, bytes)."""
    if len(arguments) != 2 or not isinstance(arguments[0], _Entry):
        return None
    content = arguments[1].encode("latin-1") if isinstance(arguments[1], str) else arguments[1]
    if not isinstance(content, bytes) or len(content) != arguments[0].dtype.itemsize:
        return None
    return np.frombuffer(content, arguments[0].dtype)[0].item()


def _make_tensor(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    """torch's tensor: (storage, first element, extents, strides, …); the seventh, in v3, is its type."""
    if len(arguments) < 4 or not isinstance(arguments[0], _Storage):
        return None
    values, first, extents, strides = arguments[0].values, *arguments[1:4]
    if len(arguments) > 6 and isinstance(arguments[6], Name) and arguments[6].module == "torch":
        dtype = DTYPES.get(arguments[6].name)
        if dtype is None:
            return None
        values = values[: len(values) // dtype.itemsize * dtype.itemsize].view(dtype)
    if not (isinstance(extents, tuple) and isinstance(strides, tuple) and len(extents) == len(strides) <= 64):
        raise CheckpointError("a tensor has no shape")
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in (first, *extents, *strides)):
        raise CheckpointError("a tensor has no shape")
    last = first + sum((extent - 1) * stride for extent, stride in zip(extents, strides, strict=True))
    if 0 not in extents and last >= len(values):
        raise CheckpointError("a tensor is larger than its storage; save or copy it again")
    if math.prod(extents) > 1 << 40:  # strides of 0 make any extent cheap
        raise CheckpointError("a tensor is larger than its storage; save or copy it again")
    return values.as_strided(extents, strides, 0 if 0 in extents else first)


def _make_parameter(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    return arguments[0] if arguments and isinstance(arguments[0], torch.Tensor) else None


def _make_of_type(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    """A tensor of some class: (function, class, its arguments, state). The class is passed over."""
    if len(arguments) != 4 or _is(arguments[0], OF_TYPE):
        return None
    result = machine.make(arguments[0], arguments[2])
    return result if isinstance(result, torch.Tensor) else None


def _make_from_file(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    """A storage pickled without torch.save: a torch file within."""
    if len(arguments) != 1 or not isinstance(arguments[0], (bytes, bytearray)):
        return None
    machine.budget.take_bytes(len(arguments[0]))
    return _content(io.BytesIO(arguments[0]), machine.budget, machine.depth - 1)


def _make_dict(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    content = arguments[0] if arguments else ()
    if isinstance(content, (Name, Inert)):
        return {}  # a defaultdict and what it makes of nothing
    pairs = list(content.items()) if isinstance(content, Mapping) else content
    if not isinstance(pairs, (list, tuple)) or any(not isinstance(p, (list, tuple)) or len(p) != 2 for p in pairs):
        return None
    machine.budget.take_steps(len(pairs))
    return {_key(key): value for key, value in pairs}


def _make_list(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    content = arguments[0] if arguments else []
    if not isinstance(content, (list, tuple)):
        return None
    machine.budget.take_steps(len(content))
    return list(content)


def _make_size(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    return tuple(_make_list(machine, arguments) or ())


def _make_bytes(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    """Bytes before protocol 3: a text, each character of it a byte."""
    if not arguments:
        return b""
    if len(arguments) != 2 or not all(isinstance(part, str) for part in arguments):
        return None
    machine.budget.take_bytes(len(arguments[0]))
    return arguments[0].encode("latin-1") if arguments[1] in ("latin1", "latin-1") else None


OF_TYPE = Name("torch._tensor", "_rebuild_from_type_v2")
RULES: dict[tuple[str, str], Callable[[_Machine, tuple[Any, ...]], Any]] = (
    {
        ("torch._utils", "_rebuild_tensor"): _make_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _make_tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _make_tensor,
        ("torch._utils", "_rebuild_parameter"): _make_parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _make_parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): _make_of_type,
        ("torch.storage", "_load_from_bytes"): _make_from_file,
        ("torch", "Size"): _make_size,
        ("collections", "OrderedDict"): _make_dict,
        ("collections", "defaultdict"): _make_dict,
        ("collections", "Counter"): _make_dict,
        ("_codecs", "encode"): _make_bytes,
        ("numpy", "dtype"): _make_entry,
    }
    | {
        (module, name): rule
        for module, name, rule in (
            ("core.multiarray", "_reconstruct", _make_array),
            ("core.multiarray", "scalar", _make_scalar),
            ("core.numeric", "_frombuffer", _make_buffer),
        )
        for module in (f"numpy.{module}", f"numpy._{module}")
    }
    | {
        (module, name): rule
        for module in ("builtins", "__builtin__")
        for name, rule in (
            ("dict", _make_dict),
            ("list", _make_list),
            ("set", _make_list),
            ("frozenset", _make_list),
            ("tuple", _make_size),
            ("bytes", _make_bytes),
        )
    }
)

CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "POP": lambda machine, argument: machine.drop(),
    "POP_MARK": lambda machine, argument: machine.marked().clear(),
    "DUP": lambda machine, argument: machine.push(machine.top()),
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.marked())),
    "TUPLE1": lambda machine, argument: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, argument: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, argument: machine.push(tuple(machine.pop(3))),
    "FROZENSET": lambda machine, argument: machine.push(machine.marked()),
    "LIST": lambda machine, argument: machine.push(machine.marked()),
    "APPEND": _append,
    "APPENDS": _appends,
    "ADDITEMS": _appends,
    "DICT": _dict,
    "SETITEM": _setitem,
    "SETITEMS": _setitems,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _newobj_ex,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": _build,
    "PERSID": lambda machine, argument: machine.push(Inert(None, argument)),
    "BINPERSID": lambda machine, argument: machine.push(machine.storage(machine.pop(1)[0])),
    "EXT1": lambda machine, argument: machine.push(Inert(None, argument)),
    "EXT2": lambda machine, argument: machine.push(Inert(None, argument)),
    "EXT4": lambda machine, argument: machine.push(Inert(None, argument)),
}
