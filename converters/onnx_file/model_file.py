"""Read an ONNX file from an untrusted source: whole, safe and small enough, or refused in one clear line.

Knows ONNX's protobuf and the file system; changes nothing in the model.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from filterscope.converters.errors import LimitError, ModelError
from filterscope.converters.memory import physical_memory
from filterscope.converters.onnx_file import external_data, limits
from filterscope.converters.onnx_file.known_operators import unknown_to
from filterscope.converters.onnx_file.tensor_content import check_content, declared_bytes
from filterscope.converters.rewrites.irregular import references_in, repair_irregularities
from filterscope.converters.rewrites.opset_rules import EXPERIMENTAL
from filterscope.converters.rewrites.opset_upgrade import opset_of
from filterscope.converters.runtime import refusal

OWN = ("", "ai.onnx")  # the domain of the operators that ONNX defines
LARGEST_OF_GRAPHS = 1 << 26  # bytes of a file without its tensors
OLDEST = 7  # opset that ONNX Runtime runs whole
FOREIGN = "foreign"  # domain of operators that ONNX does not define
OTHER_FRAMEWORKS = {
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".pt2": "PyTorch",
    ".th": "PyTorch",
    ".safetensors": "PyTorch",
    ".keras": "Keras",
    ".h5": "Keras",
    ".hdf5": "Keras",
    ".pb": "TensorFlow",
    ".tflite": "TensorFlow Lite",
}


@dataclass(frozen=True, slots=True, eq=False)
class ModelFile:
    """A model as it stands in its file, external data read in."""

    path: Path
    sha256: str  # of the file, and of the external data where it has some
    proto: onnx.ModelProto
    notes: tuple[str, ...] = ()  # how another framework's model became ONNX, a sentence each
    assumed_size: str = ""  # a sentence, where its export had to assume the size of its input
    converted: bool = False  # whether `proto` is our export of the file rather than what stands in it
    memory: int = 0  # bytes that the user lets its opening use; 0 where he does not say
    external: tuple[str, ...] = ()  # files that hold its tensors, in the order in which `sha256` counts them in


def read(path: str | Path) -> ModelFile:
    """Read an ONNX model and prove that it is one.

    Args:
        path: an .onnx file; tensors kept outside it must lie in its folder or below.

    Raises:
        ModelError: no such file, another format, truncated, external data missing or outside the model's folder,
            tensors that would not fit in memory, or a graph that ONNX's own checker refuses.
    """
    path = Path(path)
    content = _content(path)
    proto = _parse(path, content)
    digest = hashlib.sha256(content)
    try:
        limits.check_structure(proto)
    except LimitError as error:
        raise LimitError(f"{path}: {error}") from error
    tensors = list(_tensors(proto))
    _check_sizes(path, [*tensors, *_written_out(proto)])
    outside = external_data.read_in(path, tensors)
    for part in outside.values():
        digest.update(part)
    try:
        for tensor in tensors:
            check_content(tensor)
        _check_age(path, proto)
        notes = _judge(proto)
    except (onnx.checker.ValidationError, ValueError, RuntimeError, OSError) as error:
        raise ModelError(f"{path}: not a valid ONNX model: {_first_line(error)}") from error
    folder = path.parent.resolve()
    return ModelFile(
        path,
        digest.hexdigest(),
        proto,
        notes,
        external=tuple(file.relative_to(folder).as_posix() for file in outside),
    )


def _check_age(path: Path, proto: onnx.ModelProto) -> None:
    """ONNX Runtime promises opset 7 and newer; of older files it runs those whose operators have not changed."""
    version = opset_of(proto)
    if version >= OLDEST or not proto.opset_import:
        return
    reason = refusal(proto)
    if reason:
        raise ModelError(
            f"{path}: opset {version} is older than {OLDEST}, and ONNX Runtime does not run it ({reason}); convert it "
            "with onnx.version_converter.convert_version(onnx.load(FILE), 13), or export it anew"
        )


def _judge(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Let a model through that ONNX's checker allows, or that ONNX Runtime runs; mended, in place, where need be.

    Returns:
        Notes on what the checker does not allow, a sentence each.

    Raises:
        ValueError, RuntimeError, onnx.checker.ValidationError: what the checker says of a file that neither allows.
    """
    try:
        _check(proto)
        return ()
    except (onnx.checker.ValidationError, ValueError, RuntimeError):
        notes = repair_irregularities(proto)
    try:
        _check(proto)
    except (onnx.checker.ValidationError, RuntimeError) as error:  # not ValueError: what we need ourselves
        if refusal(proto):
            raise
        notes.append(f"ONNX's checker does not allow the file ({_first_line(error)}); ONNX Runtime runs it.")
    return tuple(notes)


def parse(content: bytes) -> onnx.ModelProto:
    """Parse a model from bytes that this program wrote itself.

    Raises:
        ValueError: they are not such.
    """
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ValueError("not the bytes of an ONNX model") from error
    return proto


def external_bytes(path: Path) -> int:
    """Bytes of the files beside a model that hold its tensors; 0 where it is no ONNX file, or has none.

    A model that keeps its tensors elsewhere is small itself: a large file is not looked into.
    """
    try:
        if path.suffix.lower() in OTHER_FRAMEWORKS or path.stat().st_size > LARGEST_OF_GRAPHS:
            return 0
        proto = onnx.ModelProto.FromString(path.read_bytes())
        return sum(file.stat().st_size for file in external_data.files_of(path, _tensors(proto)))
    except (OSError, DecodeError, UnicodeDecodeError, ModelError):  # told when it is read
        return 0


def _check(proto: onnx.ModelProto) -> None:
    """ONNX's own checker, but for what it asks and nobody needs: a shape of each output, its own operators alone."""
    for value in proto.graph.input:
        if _says_no_shape(value):
            raise ValueError(f"input {value.name!r} declares no shape; export it with one, free dimensions by name")
    if not all(node.op_type and node.output for node in proto.graph.node):
        raise ValueError("a node has no operator or no output; the file is damaged")
    if any(tensor.HasField("segment") for tensor in proto.graph.initializer):
        raise ValueError("a constant is stored in segments")
    if references_in(proto):
        raise ValueError("an attribute refers to a function's attribute, outside any function")
    unknown = unknown_to(proto)  # cut off later where no convolution needs them; the checker knows its own domain only
    foreign = [
        index
        for index, node in enumerate(proto.graph.node)
        if node.domain in OWN and (node.op_type in EXPERIMENTAL or unknown(node))
    ]
    checked = proto
    if foreign or any(map(_says_no_shape, proto.graph.output)):
        checked = onnx.ModelProto()
        checked.CopyFrom(proto)
        checked.opset_import.append(onnx.helper.make_opsetid(FOREIGN, 1))
    for index in foreign:
        checked.graph.node[index].domain = FOREIGN
    for value in checked.graph.output:
        if not value.HasField("type"):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT  # any will do
        if _says_no_shape(value):
            value.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(checked)


def _says_no_shape(value: onnx.ValueInfoProto) -> bool:
    if not value.HasField("type"):
        return True
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


def _content(path: Path) -> bytes:
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise ModelError(f"{path}: is a folder; name the .onnx file itself")
        if not stat.S_ISREG(kind):  # a pipe or a device may never end
            raise ModelError(f"{path}: is no plain file; name an .onnx file")
        framework = OTHER_FRAMEWORKS.get(path.suffix.lower())
        if framework:
            raise ModelError(
                f"{path}: a {framework} file cannot be opened yet; export it to ONNX and give the .onnx file"
            )
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if not content:
        raise ModelError(f"{path}: is empty")
    return content


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(f"{path}: not an ONNX model, or only a part of one; export or download it again") from error
    if not proto.HasField("graph") or not proto.graph.node:
        raise ModelError(f"{path}: not an ONNX model: it holds no graph")
    return proto


def _tensors(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """All tensors of the file, those of functions' defaults and of training too: of sparse ones what they hold."""
    return [part for part in limits.all_messages(proto) if isinstance(part, onnx.TensorProto)]


def _written_out(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """What sparse tensors become, with nothing in it: for their sizes alone."""
    for sparse in limits.all_messages(proto):
        if not isinstance(sparse, onnx.SparseTensorProto):
            continue
        values = sparse.values
        yield onnx.TensorProto(name=values.name, data_type=values.data_type, dims=sparse.dims)


def _check_sizes(path: Path, tensors: list[onnx.TensorProto]) -> None:
    memory = physical_memory()
    total = 0
    for tensor in tensors:
        if any(extent < 0 for extent in tensor.dims):
            raise ModelError(f"{path}: tensor {tensor.name!r} has a negative dimension {list(tensor.dims)}")
        total += declared_bytes(tensor)
        if total > memory:
            raise ModelError(
                f"{path}: tensor {tensor.name!r} declares {list(tensor.dims)} values; with it the model would not fit "
                f"in this machine's {memory / 2**30:.0f} GiB of memory"
            )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
