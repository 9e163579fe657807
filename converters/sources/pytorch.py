"""PyTorch networks as ONNX: exported programs, TorchScript, factories with weights, live modules.

What would run as a program (TorchScript, a pickled module) is recognised here, before anything of it is loaded, and
refused unless trusted; of an exported program a copy is loaded, which pt2_files made. Exporting happens in a process of
its own (scripts/pytorch_export.py), but for a live module. Knows torch's file formats; knows nothing of layers.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from filterscope.converters.errors import ModelError, SettingsError, setting
from filterscope.converters.onnx_file.model_file import ModelFile
from filterscope.converters.sources import child_process, pt2_files
from filterscope.converters.sources.scripts import file_limits

if TYPE_CHECKING:
    from torch import nn

    from filterscope.converters.sources.options import SourceOptions

SCRIPT = "pytorch_export.py"
TENSORS_ALONE = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}  # where torch falls back on running what it cannot unpickle
EXPORTERS = ("dynamo", "legacy", "fixed")  # tried in this order
NEEDS_FACTORY = (
    "holds weights and no network; give a factory that makes the network, and this file as its weights: "
    f"filterscope inspect package.module:factory {setting('weights', '{name}')}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a network comes from, for its conversion in another process."""

    shown: str  # as the user named it, for messages
    path: Path
    digest: str | None  # SHA-256 of its file; None: of the export's bytes
    search: tuple[Path, ...]  # folders that its imports look into first
    environment: Mapping[str, str] | None = None  # variables to set


def read_file(path: Path, options: SourceOptions) -> ModelFile:
    """An exported program, TorchScript or a pickled module as ONNX.

    Raises:
        ModelError: no such file, weights alone, a program that is not trusted, or one that cannot be exported.
    """
    if not path.is_file():
        raise ModelError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    kind, danger = _kind(path)
    if danger and not options.trust:
        raise ModelError(f"{path}: {danger}; if you trust its author, {setting('trust')} runs it")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if kind == "program" and not options.trust:
        with tempfile.TemporaryDirectory(prefix="filterscope-") as place:
            copy = Path(place) / "model.pt2"
            pt2_files.write_copy(path, copy)
            request = {"kind": kind, "path": str(copy)}
            source = Source(shown=str(path), path=path, digest=digest, search=(), environment=TENSORS_ALONE)
            return _convert(request, source, options)
    source = Source(shown=str(path), path=path, digest=digest, search=(Path.cwd(),))
    return _convert({"kind": kind, "path": str(path.absolute())}, source, options)


def read_factory(source: str, options: SourceOptions) -> ModelFile:
    """What `package.module:factory` or `path/to/file.py:factory` makes, with its weights, as ONNX.

    Raises:
        ModelError: the factory fails, the weights do not fit, or the network cannot be exported.
        SettingsError: no such weights file.
    """
    module, _, name = source.rpartition(":")
    weights = None
    if options.weights is not None:
        if not options.weights.is_file():
            what = "is a folder" if options.weights.is_dir() else "no such file"
            message = f"{setting('weights', options.weights)}: {what}"
            raise SettingsError(message, field="weights", value=options.weights)
        if zipfile.is_zipfile(options.weights):
            _members(options.weights)
        weights = str(options.weights.absolute())
    is_file = module.endswith(".py")
    if is_file and not Path(module).is_file():
        raise ModelError(f"{source}: there is no file {module}")
    place = str(Path(module).absolute()) if is_file else module
    search = (Path(place).parent if is_file else Path.cwd(),)
    request = {"kind": "factory", "path": place, "name": name, "weights": weights}
    return _convert(request, Source(shown=source, path=Path(name), digest=None, search=search), options)


def read_module(module: nn.Module, options: SourceOptions) -> ModelFile:
    """A live module as ONNX; the module itself is left as it is.

    Raises:
        ModelError: it is no nn.Module, does not run, or cannot be exported.
    """
    from torch import nn

    from filterscope.converters.sources.scripts import pytorch_export

    if not isinstance(module, nn.Module):
        raise ModelError(f"a {type(module).__name__} is no model; give a path, a factory or an nn.Module")
    module = pytorch_export.unwrapped(module)
    shown = type(module).__name__
    own, notes = pytorch_export.prepared(copy.deepcopy(module))
    request = {"channels": options.channels, "size": options.size}
    failures: list[Exception] = []
    for exporter in EXPORTERS:
        own_notes = list(notes)
        with tempfile.TemporaryDirectory(prefix="filterscope-") as place:
            folder = Path(place)
            try:
                example, assumed = _examples(options.example), ""
                if not example:
                    example, assumed = pytorch_export._example(own, request)
                own_notes.append(pytorch_export.export(own, example, folder, exporter))
                proto = onnx.load(folder / "model.onnx")
                with np.load(folder / "samples.npz") as samples:
                    child_process.prove(proto, dict(samples), shown)
            except (pytorch_export.ExportError, child_process.ExportError) as error:
                failures.append(error)
                continue
            except pytorch_export.RefusedError as error:
                raise ModelError(f"{shown}: {error}") from error
        digest = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
        return ModelFile(Path(shown), digest, proto, tuple(own_notes), assumed_size=assumed, converted=True)
    raise _of_all(failures, shown) from failures[0]


def _examples(example: Any) -> list[Any]:
    """The user's example as a list of tensors, none where there is none."""
    if example is None:
        return []
    return list(example) if isinstance(example, (tuple, list)) else [example]


def _convert(request: Mapping[str, Any], source: Source, options: SourceOptions) -> ModelFile:
    """The export of the first exporter whose result computes what the source does."""
    whole = dict(request) | {"channels": options.channels, "size": options.size}
    failures: list[Exception] = []
    for exporter in EXPORTERS:
        try:
            conversion = child_process.convert(
                SCRIPT,
                whole | {"exporter": exporter},
                source.shown,
                search=source.search,
                environment=source.environment,
            )
        except child_process.ExportError as error:
            failures.append(error)
            continue
        digest = source.digest or conversion.sha256
        return ModelFile(
            source.path,
            digest,
            conversion.proto,
            conversion.notes,
            assumed_size=conversion.assumed_size,
            converted=True,
        )
    raise _of_all(failures, source.shown) from failures[0]


def _of_all(failures: list[Exception], shown: str) -> ModelError:
    """The errors of PyTorch's default exporter and of its older one, in one line."""
    reasons = [str(failure).removeprefix(f"{shown}: ") for failure in failures[:2]]
    return ModelError(f"{shown}: {'; by its older exporter: '.join(reasons)}")


def _kind(path: Path) -> tuple[str, str]:
    """How a file is loaded, and why that would run a program, empty where it would not."""
    if path.suffix.lower() == ".safetensors":
        raise ModelError(f"{path}: {NEEDS_FACTORY.format(name=path.name)}")
    if not zipfile.is_zipfile(path):
        return _pickled(path)
    names = _members(path)
    if pt2_files.is_program(names):
        return "program", ""
    if "constants.pkl" in [name.partition("/")[2] for name in names]:
        return "torchscript", "is TorchScript, which is a program"
    return _pickled(path)


def _members(path: Path) -> list[str]:
    """Names of an archive's members, after a look at whether the archive unpacks to much more than it is."""
    try:
        with file_limits.open_archive(path) as archive:
            return archive.namelist()
    except file_limits.LimitError as error:
        raise ModelError(f"{path}: is not a PyTorch file as PyTorch writes it, or is damaged: {error}") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{path}: is only a part of a PyTorch file, or damaged ({error})") from error


def _pickled(path: Path) -> tuple[str, str]:
    """A file of torch.save: weights are refused with what to do, a module is a program."""
    import torch

    with path.open("rb") as file:
        start = file.read(4)
    if not _is_pickle(start):
        raise ModelError(f"{path}: {'is no PyTorch file' if start else 'is empty'}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a pickle that torch did not write is warned of
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        content = _weights_beside_others(path)
        if not content:
            return (
                "pickle",
                "is a pickle of more than tensors, which is a program (weights are safe: "
                "torch.save(network.state_dict()); those inside go with a factory that makes the network: "
                f"{setting('weights')})",
            )
    except Exception as error:  # a damaged archive fails in many ways
        raise ModelError(f"{path}: is only a part of a PyTorch file, or damaged") from error
    keys = [str(key) for key in content][:3] if isinstance(content, Mapping) else []
    listed = f" ({', '.join(keys)}, …)" if keys else ""
    raise ModelError(f"{path}{listed}: {NEEDS_FACTORY.format(name=path.name)}")


def _weights_beside_others(path: Path) -> dict[str, Any]:
    """A checkpoint that holds tensors and other things, read without running any; empty where a network is inside."""
    from filterscope.converters.sources.scripts import inert_checkpoint

    try:
        content = inert_checkpoint.read(path)
    except inert_checkpoint.CheckpointError as error:
        raise ModelError(f"{path}: {error}") from error
    parts = inert_checkpoint.parts_of(content)
    inside = [content, *parts.values()]
    if any(map(inert_checkpoint.is_module, inside)) or not any(map(inert_checkpoint.tensors_in, inside)):
        return {}
    return parts


def _is_pickle(content: bytes) -> bool:
    """Whether torch.load would take these bytes for its own: a zip archive, or pickle's opcode of a protocol."""
    return content[:4] == b"PK\x03\x04" or (content[:1] == b"\x80" and content[1:2] in b"\x02\x03\x04\x05")
