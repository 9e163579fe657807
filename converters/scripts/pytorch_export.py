"""A PyTorch module as ONNX, and what it answers to random images. Run by converters/child.py; imports nothing of ours.

The module comes from a factory with its weights, from an exported program (.pt2), from TorchScript or from a pickle.
`export` is used in our own process too, for a live module.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import io
import json
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 512)  # sides tried where nobody says one, the likeliest first
LEGACY_OPSET = 17
NEEDED = "a factory without arguments that makes an nn.Module is needed"
DEPTH = 3  # how deep in a checkpoint a state dict may lie
IGNORED = ("num_batches_tracked", "total_ops", "total_params")  # counters that decide nothing
# What torchvision's Python half asks torch about while it is imported; its compiled half, where it fits, defines them.
SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


class RefusedError(Exception):
    """Something the user can mend, in one line."""


class ExportError(RefusedError):
    """One exporter cannot do it; another may."""


def main(folder: Path) -> None:
    """Do what request.json says and write the result beside it."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    torch.manual_seed(0)  # a network without weights is the same twice
    try:
        module, notes = _module(request)
        example = _example(module, request, notes)
        notes.append(export(module, example, folder, request["exporter"]))
        result: dict[str, Any] = {"notes": notes}
    except RefusedError as error:
        result = {"error": str(error), "export": isinstance(error, ExportError)}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def export(module: Any, example: Sequence[torch.Tensor], folder: Path, exporter: str) -> str:
    """Write model.onnx and samples.npz.

    Args:
        module: an nn.Module or ScriptModule in eval mode, or an ExportedProgram.
        example: its inputs, batch 2; of a program the batch it was exported for.
        folder: where to write.
        exporter: dynamo, legacy or fixed (legacy without a free batch).

    Returns:
        A sentence on how it was done.

    Raises:
        ExportError: PyTorch cannot export it so.
    """
    program = isinstance(module, torch.export.ExportedProgram)
    arguments = tuple(example)
    path = str(folder / "model.onnx")
    try:
        with _silence(), torch.no_grad():
            if exporter == "dynamo":
                free = None if program else tuple({0: torch.export.Dim.DYNAMIC} for _ in arguments)
                torch.onnx.export(module, arguments, path, dynamo=True, dynamic_shapes=free, verbose=False)
            else:
                names = [f"input_{index}" for index in range(len(arguments))] if len(arguments) > 1 else ["input"]
                torch.onnx.export(
                    module.module() if program else module,
                    arguments if exporter == "legacy" else tuple(x[:1] for x in arguments),
                    path,
                    dynamo=False,
                    opset_version=LEGACY_OPSET,
                    input_names=names,
                    dynamic_axes={name: {0: "N"} for name in names} if exporter == "legacy" else None,
                )
    except Exception as error:
        raise ExportError(f"PyTorch's {exporter} exporter cannot export it: {_short(error)}") from error
    _write_samples(module.module() if program else module, arguments, folder, exporter, program)
    kind = "default" if exporter == "dynamo" else "older"
    batch = ", for a batch of one" if exporter == "fixed" else ""
    return f"Exported from PyTorch {torch.__version__} by its {kind} exporter{batch}."


def _write_samples(module: Any, example: Sequence[torch.Tensor], folder: Path, exporter: str, program: bool) -> None:
    """Answers to values from 0 to 1, and from -1.5 to 0.5: one branch on a sum or a mean is not enough for both."""
    first = len(example[0]) if program else 1
    second = first if program or exporter == "fixed" else 3
    samples: dict[str, np.ndarray] = {}
    generator = torch.Generator().manual_seed(0)
    for label, batch, scale, offset in (
        (f"{first}", first, 1.0, 0.0),
        (f"{second} of darker input", second, 2.0, -1.5),
    ):
        inputs = [
            torch.rand((batch, *x.shape[1:]), generator=generator) * scale + offset
            if x.is_floating_point()
            else x[:1].expand(batch, *x.shape[1:])
            for x in example
        ]
        with _silence(), torch.no_grad():
            answer = module(*inputs)
        leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(answer) if isinstance(leaf, torch.Tensor)]
        samples |= {f"x{label}.{index}": x.numpy() for index, x in enumerate(inputs)}
        samples |= {f"y{label}.{index}": leaf.numpy() for index, leaf in enumerate(leaves)}
    np.savez(folder / "samples.npz", **samples)  # type: ignore[arg-type]


def prepared(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """The module on the CPU, in eval mode and float32; and what of that has to be said."""
    halves = {str(p.dtype).removeprefix("torch.") for p in module.parameters() if p.is_floating_point()} - {"float32"}
    notes = [f"Weights in {', '.join(sorted(halves))} were made float32."] if halves else []
    return module.cpu().float().eval(), notes


def _module(request: Mapping[str, Any]) -> tuple[Any, list[str]]:
    path = request["path"]
    if request["kind"] == "program":
        return _loaded(path), []
    if request["kind"] == "torchscript":
        module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    elif request["kind"] == "pickle":
        module = _unpickled(path)
    else:
        module = _made(path, request["name"])
    module, notes = prepared(module)
    if request.get("weights"):
        notes += _load_weights(module, request["weights"])
    return module, notes


def _loaded(path: str) -> Any:
    """An exported program. What goes wrong, torch writes to its log and raises another error."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(str((record.exc_info or (None, ""))[1]))  # type: ignore[method-assign]
    log = logging.getLogger("torch.export")
    log.addHandler(handler)
    try:
        return torch.export.load(path)
    except Exception as error:
        why = next((text for text in said if text), str(error))
        operator = re.search(r"failed to resolve torch\.ops\.([\w.]+) ", why)
        if operator:
            raise RefusedError(
                f"operator {operator[1]} is not PyTorch's own; export it where that is at hand, "
                "torch.onnx.export(..., dynamo=True), and give the .onnx file"
            ) from error
        raise RefusedError(f"cannot be loaded as an exported program: {_short(RuntimeError(why))}") from error
    finally:
        log.removeHandler(handler)


def _unpickled(path: str) -> nn.Module:
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except RuntimeError as error:  # a pickle, and not of torch.save
        raise RefusedError(f"is not a file of torch.save ({_short(error)})") from error
    except (ImportError, AttributeError) as error:
        raise RefusedError(
            f"the class it was pickled from is missing ({error}); run where it can be imported"
        ) from error
    for value in (content, *(content.values() if isinstance(content, dict) else ())):
        if isinstance(value, nn.Module):
            return value
    raise RefusedError(f"the pickle holds a {type(content).__name__} and no nn.Module")


def _made(source: str, name: str) -> nn.Module:
    """What the factory of a user's module or file makes."""
    try:
        try:
            found: Any = _imported(source)
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _let_torchvision_load()
            found = _imported(source)
        for part in name.split("."):
            if not hasattr(found, part):
                raise RefusedError(f"there is no {part} in it{_perhaps(part, found)}")
            found = getattr(found, part)
        made = _called(found)
    except RefusedError:
        raise
    except ModuleNotFoundError as error:
        raise RefusedError(f"{error}; install it, or run where it can be imported") from error
    except SyntaxError as error:
        raise RefusedError(f"is no Python: {_short(error)}") from error
    except Exception as error:  # the user's own code, and whatever it raises
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f" ({Path(place.filename).name}, line {place.lineno})"
        raise RefusedError(f"raised {type(error).__name__}: {_short(error)}{where}") from error
    except SystemExit as error:
        raise RefusedError(f"ended Python with code {error.code} instead of making a network") from error
    if not isinstance(made, nn.Module):
        raise RefusedError(f"makes {_named(made)}; {NEEDED}")
    return made


def _called(factory: Any) -> Any:
    """What a factory makes; a module stands for itself."""
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise RefusedError(f"is {_named(factory)}; {NEEDED}")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise RefusedError(f"cannot be called: {error}; {NEEDED}") from error
    except ValueError:  # some callables do not tell
        pass
    return factory()


def _named(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _perhaps(name: str, place: Any) -> str:
    near = difflib.get_close_matches(name, [known for known in dir(place) if known[0] != "_"], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _imported(source: str) -> Any:
    if not source.endswith(".py"):
        return importlib.import_module(source)
    name = Path(source).stem
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise RefusedError(f"{source} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass in it looks itself up there
    spec.loader.exec_module(module)
    return module


def _let_torchvision_load() -> None:
    """Define what a torchvision built for another torch lacks, and forget its half of an import."""
    for name, schema in SCHEMAS.items():
        with contextlib.suppress(RuntimeError):  # defined already
            torch.library.define(name, schema)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def _example(module: Any, request: Mapping[str, Any], notes: list[str]) -> list[torch.Tensor]:
    """An input of batch 2 that the module takes."""
    if isinstance(module, torch.export.ExportedProgram):
        if module.example_inputs is not None:
            return [x for x in module.example_inputs[0] if isinstance(x, torch.Tensor)]
        raise RefusedError("the archive keeps no example input; save it again with torch.export.save")
    channels = request["channels"] or _channels(module)
    own = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None) or {}
    own_size = tuple(own["input_size"][1:]) if isinstance(own, Mapping) and own.get("input_size") else None
    given = tuple(request["size"]) if request["size"] else own_size
    failure: Exception | None = None
    for size in [given] if given else [(side, side) for side in SIZES]:
        x = torch.rand(2, channels, *size)
        try:
            with _silence(), torch.no_grad():
                module(x)
        except Exception as error:
            failure = failure or error
            continue
        if not given:
            notes.append(
                f"An input of {size[0]}×{size[1]} was assumed, the first size that runs; --input-size says another."
            )
        return [x]
    tried = f"{given[0]}×{given[1]}" if given else "any usual size"
    assert failure is not None
    raise RefusedError(
        f"does not run on {channels} channels at {tried} ({_short(failure)}); give --input-size and --input-channels"
    )


def _channels(module: nn.Module) -> int:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            return int(layer.in_channels)
    kernels = [value for value in module.state_dict().values() if value.ndim == 4]
    return int(kernels[0].shape[1]) if kernels else 3


def _load_weights(module: nn.Module, path: str) -> list[str]:
    """Put a file's tensors into the module; returns what has to be said of it."""
    wanted = module.state_dict()
    found, notes = _fitting(_tensors(path), wanted)
    counters = [key for key in found if key.endswith(IGNORED)]
    unexpected = [key for key in found if key not in wanted and key not in counters]
    misshaped = [key for key in found if key in wanted and found[key].shape != wanted[key].shape]
    missing = [key for key in wanted if key not in found and not key.endswith(IGNORED)]
    head = [key for key in missing if key in _after_last_convolution(module)]
    if unexpected or misshaped or len(missing) > len(head):
        raise RefusedError(_misfit(missing, unexpected, misshaped, found, wanted))
    module.load_state_dict({key: value for key, value in found.items() if key in wanted}, strict=False)
    if head:
        notes.append(
            f"{len(head)} tensors after the last convolution are not among the weights ({head[0]}, …): the layers are "
            "right, the network's outputs mean nothing."
        )
    return notes


def _misfit(missing: list[str], unexpected: list[str], misshaped: list[str], found: Any, wanted: Any) -> str:
    parts = []
    if missing:
        parts.append(f"{len(missing)} of the network's {len(wanted)} tensors are missing, the first is {missing[0]}")
    if unexpected:
        parts.append(f"{len(unexpected)} are unexpected, the first is {unexpected[0]}")
    if misshaped:
        key = misshaped[0]
        shapes = f"{list(found[key].shape)} where the network has {list(wanted[key].shape)}"
        parts.append(f"{len(misshaped)} have another shape, the first is {key}: {shapes}")
    return f"the weights do not fit: {'; '.join(parts)}"


def _after_last_convolution(module: nn.Module) -> set[str]:
    """Keys of the linear layers that are registered after the last convolution."""
    names = [name for name, _ in module.named_modules()]
    layers = dict(module.named_modules())
    last = max(
        (i for i, name in enumerate(names) if isinstance(layers[name], nn.modules.conv._ConvNd)), default=len(names)
    )
    heads = [name for name in names[last:] if isinstance(layers[name], nn.Linear)]
    return {f"{name}.{key}" for name in heads for key in layers[name].state_dict()}


def _tensors(path: str) -> Any:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:
            raise RefusedError(f"{path} is no safetensors file: {_short(error)}") from error
    try:
        with _silence():
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RefusedError(f"{path}: no such file") from error
    except EOFError as error:
        raise RefusedError(f"{path} is empty, or only a part of a file; save or copy it again") from error
    except Exception as error:  # unpickling fails in many ways
        if "PytorchStreamReader" in str(error):
            raise RefusedError(f"{path} is only a part of a file, or damaged; save or copy it again") from error
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise RefusedError(
                f"{path} is a pickle of more than tensors, which would run as a program; "
                "save the weights alone: torch.save(network.state_dict(), file)"
            ) from error
        raise RefusedError(f"{path} cannot be read as weights: {_short(error)}") from error


def _fitting(content: Any, wanted: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The state dict inside a checkpoint, and the prefix taken off its keys, that fit the network best."""
    best: tuple[int, str, str, dict[str, torch.Tensor]] | None = None
    for place, tensors in _state_dicts(content, "", 0):
        for prefix in _prefixes(tensors):
            stripped = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            fit = sum(1 for key, value in stripped.items() if key in wanted and wanted[key].shape == value.shape)
            if best is None or fit > best[0]:
                best = (fit, place, prefix, stripped)
    if best is None:
        raise RefusedError(f"the weights file holds a {type(content).__name__} and no state dict")
    _, place, prefix, tensors = best
    notes = [f"The weights are the checkpoint's {place!r}."] if place else []
    if prefix:
        notes.append(f"The prefix {prefix!r} was taken off the weights' names.")
    return tensors, notes


def _state_dicts(content: Any, place: str, depth: int) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    if not isinstance(content, Mapping) or depth > DEPTH:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if tensors:
        yield place, tensors
    for key, value in content.items():
        yield from _state_dicts(value, f"{place}.{key}" if place else str(key), depth + 1)


def _prefixes(tensors: Mapping[str, Any]) -> list[str]:
    """Nothing, then each path that some key begins with, the shortest first."""
    found = {""}
    for key in tensors:
        parts = key.split(".")
        found |= {".".join(parts[:count]) + "." for count in range(1, min(len(parts), DEPTH + 1))}
    return sorted(found, key=len)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Exporters print, warn and log what no user of ours needs."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _short(error: BaseException, limit: int = 240) -> str:
    while type(error).__module__.startswith("torch.onnx") and error.__cause__ is not None:
        error = error.__cause__  # its own text tells how to report it; the cause what happened
    text = str(error)
    if "TorchScript" in text:  # a traceback of its own code, what happened in its last line
        text = text.strip().splitlines()[-1]
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
