"""Check an exported PyTorch program (.pt2) before anything of it is loaded, and write the copy that is loaded.

torch.export.load unpickles what the file marks as pickled, takes names for functions, imports modules that the shapes
of X"""

from __future__ import annotations

import io
import json
import math
import pickletools
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filterscope.converters.errors import ModelError, setting
from filterscope.converters.sources import pt2_operators, size_expressions
from filterscope.converters.sources.scripts import file_limits
from filterscope.converters.sources.scripts.file_limits import LimitError

GRAPH = "models/model.json"  # since torch 2.8; torch.export.load opens a model of this name alone
OLD_GRAPH = "serialized_exported_program.json"
# Members that are copied, below the archive's folder, and how each is judged.
MEMBERS = {
    "graph": re.compile(r"models/model\.json|serialized_exported_program\.json"),
    "tensors": re.compile(r"data/(weights|constants)/model_(weights|constants)_config\.json"),
    "bytes": re.compile(r"data/(weights/weight|constants/tensor)_\d{1,6}"),
    "pickle": re.compile(
        r"data/(weights|constants|sample_inputs)/model\.pt|serialized_(state_dict|constants|example_inputs)\.pt"
    ),
    "note": re.compile(r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"),
}
IGNORED = re.compile(r"extra/.*|extra_files/.*|")  # texts of the user's own, and folders
PAYLOAD = re.compile(r"(weight|tensor)_\d{1,6}")
NOTE = re.compile(rb"[\w.+\- \r\n]{0,200}")
PICKLED = re.compile(  # members of a file of torch.save
    r"data\.pkl|data/\d{1,6}|byteorder|version|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
)
PICKLE_BYTES = 16 << 20  # of a pickle that holds names and shapes; of 10,000 tensors it has 2 MB
MATERIALISED = 256 << 20  # bytes that a tensor of fewer stored bytes may have, as one value repeated
# What torch.save's pickles of tensors and of lists, tuples and dictionaries of them name and do.
GLOBALS = frozenset(
    {f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte")}
    | {"torch BoolStorage", "torch ComplexFloatStorage", "torch ComplexDoubleStorage", "torch.storage UntypedStorage"}
    | {"torch Tensor", "torch._tensor _rebuild_from_type_v2", "__builtin__ set", "builtins set"}  # marks of free axes
    | {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "collections OrderedDict", "torch Size"}
    | {f"torch {kind}" for kind in ("device", "float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8")}
)
OPCODES = frozenset(
    """
    PROTO FRAME STOP GLOBAL REDUCE BUILD MARK EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS
    EMPTY_DICT SETITEM SETITEMS BINUNICODE SHORT_BINUNICODE BININT BININT1 BININT2 LONG1 BINFLOAT NONE NEWTRUE NEWFALSE
    BINPUT LONG_BINPUT BINGET LONG_BINGET BINPERSID MEMOIZE
    """.split()  # noqa: SIM905 - a list of strings would be four times as long
)
# What stands on top after these opcodes: a list, tuple or dictionary; an object.
CONTAINERS = frozenset(
    ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "EMPTY_DICT", "APPEND", "APPENDS", "SETITEM", "SETITEMS")
)
OBJECTS = frozenset(("REDUCE", "BUILD"))
OBJECTS_AGAIN = 30  # 3 to the 10th, at most, when each is in the next three times
TREES = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", None)
VERIFIERS = ("TRAINING", "ATEN")
LAYERS = "nn_module_stack"  # the one note of a node that is copied: the layers that it lies in
ITEMSIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2, 28: 2, 34: 4, 35: 8}


class ProgramError(ModelError):
    """The file holds code that torch would run, or content that torch does not write."""


def is_program(names: list[str]) -> bool:
    """Whether an archive with these members is a program of torch.export."""
    return any(name.partition("/")[2] == "archive_format" or name.startswith(OLD_GRAPH[:-5]) for name in names)


def write_copy(path: Path, copy: Path) -> None:
    """Write what may be loaded of an exported program.

    Args:
        path: the program.
        copy: where to write; what torch.export.load reads runs nothing but operators of pt2_operators.

    Raises:
        ProgramError: it holds a program, or a member, an operator or a class that is not listed.
        ModelError: it is damaged.
    """
    try:
        with file_limits.open_archive(path) as archive, zipfile.ZipFile(copy, "w") as target:
            _copy(archive, target)
    except ProgramError as error:
        raise ProgramError(
            f"{path}: {error}; if you trust its author, {setting('trust')} loads it unchecked"
        ) from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except LimitError as error:
        raise ModelError(f"{path}: is not an exported program as PyTorch writes it, or is damaged: {error}") from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())[:120]
        raise ModelError(f"{path}: is only a part of a PyTorch file, or damaged ({text})") from error


def _copy(archive: zipfile.ZipFile, target: zipfile.ZipFile) -> None:
    names = _names(archive)
    members = {short: kind for short, kind in names.items() if kind}
    if GRAPH not in members and OLD_GRAPH not in members:
        raise ProgramError("holds no model of torch.export.save(program, file)")
    prefix = _prefix(archive)
    sizes = {short: archive.getinfo(prefix + short).file_size for short in members}
    place = "program/" if GRAPH in members else ""
    for short, kind in members.items():
        if kind == "bytes":
            with archive.open(prefix + short) as source, target.open(place + short, "w", force_zip64=True) as member:
                shutil.copyfileobj(source, member)
            continue
        limit = {"note": file_limits.NOTE_BYTES, "pickle": 1 << 62}.get(kind, file_limits.TEXT_BYTES)
        content = file_limits.read_member(archive, prefix + short, limit)
        if kind == "graph":
            content = _graph(file_limits.parse_json(content, short))
        elif kind == "tensors":
            content = _tensors(file_limits.parse_json(content, short), short, sizes)
        elif kind == "pickle":
            content = _pickle(content, short)
        elif NOTE.fullmatch(content) is None:
            raise LimitError(f"its {short} is no short text")
        target.writestr(place + short, content)


def _names(archive: zipfile.ZipFile) -> dict[str, str]:
    """Members by their name inside the archive's folder, and how each is judged; empty where it is left out."""
    prefix = _prefix(archive)
    names: dict[str, str] = {}
    for name in archive.namelist():
        short = name.removeprefix(prefix)
        kinds = [kind for kind, pattern in MEMBERS.items() if pattern.fullmatch(short)]
        if not kinds and not IGNORED.fullmatch(short) and not short.endswith("/"):
            raise ProgramError(f"holds {short[:60]!r}, which is no part of a network alone and may be a program")
        names[short] = kinds[0] if kinds else ""
    return names


def _prefix(archive: zipfile.ZipFile) -> str:
    """The archive's own folder, which torch 2.7 and before did not make."""
    names = archive.namelist()
    if not names or any(name == OLD_GRAPH for name in names):
        return ""
    folder = names[0].partition("/")[0] + "/"
    if not all(name.startswith(folder) for name in names):
        raise LimitError("its members do not lie in one folder")
    return folder


def _graph(graph: Any) -> bytes:
    if not isinstance(graph, dict) or not isinstance(graph.get("graph_module"), dict):
        raise LimitError("its graph describes no network")
    graph = _cleaned(graph)
    graph["guards_code"] = []  # Python, which torch runs; they check the input's size, which an export does not need
    graph["verifiers"] = [each for each in graph.get("verifiers") or () if each in VERIFIERS]
    graph["graph_module"]["metadata"] = {}
    graph["graph_module"]["treespec_namedtuple_fields"] = {}
    ranges = graph.get("range_constraints") or {}
    if any(size_expressions.SYMBOL.fullmatch(str(name)) is None for name in ranges):
        raise ProgramError("holds the range of a size that is no symbol, which may be a program")
    return json.dumps(graph).encode()


def _cleaned(value: Any) -> Any:
    """A part of a graph without what torch would evaluate of it.

    Raises:
        ProgramError: it names what is not listed.
    """
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    if not isinstance(value, dict):
        return value
    for key, inner in value.items():
        _check(key, inner)
    if "target" not in value or "inputs" not in value:
        return {key: _cleaned(inner) for key, inner in value.items()}
    notes = value.get("metadata")  # of a node
    layers = {LAYERS: notes[LAYERS]} if isinstance(notes, dict) and isinstance(notes.get(LAYERS), str) else {}
    return {key: _cleaned(inner) for key, inner in value.items() if key != "metadata"} | {"metadata": layers}


def _check(key: str, inner: Any) -> None:
    """Check that the value of a key of the graph is listed."""
    if key in ("target", "as_operator") and not isinstance(inner, dict):  # a tensor may have the name
        if not isinstance(inner, str) or not pt2_operators.is_allowed(inner):
            raise _refused(str(inner))
    elif key == "expr_str":
        if not isinstance(inner, str) or not size_expressions.is_size(inner):
            raise ProgramError(f"holds an expression that is no size ({str(inner)[:40]!r}), which is a program")
    elif key in ("in_spec", "out_spec") and isinstance(inner, str):
        _check_tree(inner)
    elif key in ("as_custom_obj", "custom_obj", "custom_obj_values") and inner:
        raise ProgramError("holds an object of a class of its own, which is a program")


def _refused(target: str) -> ModelError:
    """The error about an operator that is not listed."""
    match = re.fullmatch(r"torch\.ops\.(\w+)\.([\w.]+)", target, re.ASCII)
    if match and match[1] not in ("aten", "prims"):
        return ModelError(
            f"operator {match[1]}.{match[2][:60]} is not PyTorch's own; export it where that package is installed, "
            "torch.onnx.export(..., dynamo=True), and give the .onnx file"
        )
    return ProgramError(f"calls {target[:60]}, which may do more than compute")


def _check_tree(text: str) -> None:
    """Check that inputs or outputs are lists, tuples and dictionaries; torch imports any other class."""
    waiting = file_limits.parse_json(text, "shape of inputs and outputs")
    waiting = waiting[1:] if isinstance(waiting, list) else [waiting]
    while waiting:
        tree = waiting.pop()
        if not isinstance(tree, dict) or not isinstance(tree.get("children_spec"), list):
            raise LimitError("the shape of its inputs and outputs is not described")
        kind, context = tree.get("type"), tree.get("context")
        keys = file_limits.parse_json(context, "shape of inputs and outputs") if isinstance(context, str) else context
        plain = keys is None or (isinstance(keys, list) and all(isinstance(key, (str, int)) for key in keys))
        if kind not in TREES or not plain:
            raise ProgramError(f"its inputs or outputs are of {str(kind)[:60]}, which is a program")
        waiting.extend(tree["children_spec"])


def _tensors(config: Any, name: str, sizes: Mapping[str, int]) -> bytes:
    """The list of weights or constants, each of which is a member of plain bytes."""
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise LimitError(f"its {name} lists no tensors")
    folder = name.rpartition("/")[0]
    for key, entry in entries.items():
        if entry.get("use_pickle") is not False or not isinstance(entry.get("tensor_meta"), dict):
            raise ProgramError(f"holds a pickle ({str(key)[:60]!r} in {name}), which is a program")
        place = str(entry.get("path_name"))
        if PAYLOAD.fullmatch(place) is None or f"{folder}/{place}" not in sizes:
            raise LimitError(f"its tensor {str(key)[:60]!r} lies in {place[:60]!r}, which is no member")
        _check_extent(str(key), entry["tensor_meta"], sizes[f"{folder}/{place}"])
    return json.dumps(config).encode()


def _check_extent(name: str, described: Mapping[str, Any], stored: int) -> None:
    """Check that a tensor is about as large as its bytes; torch makes one of no bytes out of zeros."""
    extents = [size.get("as_int") if isinstance(size, dict) else None for size in described.get("sizes") or ()]
    if not all(isinstance(extent, int) and extent >= 0 for extent in extents):
        raise LimitError(f"its tensor {name[:60]!r} is of no certain size")
    dtype = described.get("dtype")
    itemsize = ITEMSIZES.get(dtype, 1) if isinstance(dtype, int) else 1
    needed = math.prod(extent for extent in extents if extent is not None) * itemsize
    if needed > max(stored, MATERIALISED if stored else 0):
        raise LimitError(f"its tensor {name[:60]!r} declares {extents} values, of which it holds {stored} bytes")


def _pickle(content: bytes, name: str) -> bytes:
    """A file of torch.save that holds tensors alone, written anew with the members that are read.

    Raises:
        ProgramError: its pickle names or does anything else, or it is no such file.
    """
    if not content:  # torch writes nothing where there is nothing
        return content
    if not content.startswith(b"PK\x03\x04"):
        raise ProgramError(f"holds a pickle ({name}) that torch.save did not write, which is a program")
    written = io.BytesIO()
    with file_limits.open_archive(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w") as new:
        prefix = _prefix(old)
        for member in old.namelist():
            short = member.removeprefix(prefix)
            if PICKLED.fullmatch(short) is None:
                raise ProgramError(f"holds a pickle ({name}) with {short[:60]!r}, which may be a program")
            limit = PICKLE_BYTES if short == "data.pkl" else len(content)
            inner = file_limits.read_member(old, member, limit)
            if short == "data.pkl" and not _is_plain(inner):
                raise ProgramError(f"holds a pickle ({name}) of more than tensors, which is a program")
            new.writestr(f"archive/{short}", inner)
    return written.getvalue()


def _is_plain(content: bytes) -> bool:
    """Whether a pickle can only be tensors in lists, tuples and dictionaries, and is no larger read than written."""
    try:
        opcodes = list(_opcodes(content))
        return _is_tree(opcodes) and all(
            opcode in OPCODES and (opcode != "GLOBAL" or argument in GLOBALS) for opcode, argument in opcodes
        )
    except (ValueError, UnicodeDecodeError, IndexError):
        return False


def _is_tree(opcodes: list[tuple[str, Any]]) -> bool:
    """Whether no list, tuple or dictionary stands in two places: 60 such, each twice in the next, are 2^60 for torch.

    Tensors may; as the pickle does not say which of its objects are tensors, few objects may stand again.
    """
    memory: dict[Any, str] = {}
    last, again = "", 0
    for opcode, argument in opcodes:
        match opcode:
            case "BINPUT" | "LONG_BINPUT":
                memory[argument] = last
            case "MEMOIZE":
                memory[len(memory)] = last
            case "BINGET" | "LONG_BINGET":
                last = memory.get(argument, "")
                again += last in OBJECTS
                if last in CONTAINERS or again > OBJECTS_AGAIN:
                    return False
            case _:
                last = opcode
    return True


def _opcodes(content: bytes) -> Iterator[tuple[str, Any]]:
    for opcode, argument, _ in pickletools.genops(content):
        yield opcode.name, argument
