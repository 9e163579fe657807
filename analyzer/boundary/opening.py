"""Opening a model across the boundary: from the user's cache where it was opened before, else in a worker.

Knows what may be kept and under which name; parses nothing of the model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from filterscope.analyzer.boundary import client, opened
from filterscope.analyzer.boundary.limits import Limits, size_of
from filterscope.analyzer.network.network import InputOptions, Network, open_here
from filterscope.converters import cache
from filterscope.converters.errors import ModelError, SettingsError
from filterscope.converters.library_errors import as_model_error
from filterscope.converters.sources import read
from filterscope.converters.sources.options import SourceOptions

if TYPE_CHECKING:
    from torch import nn

LARGEST_KEPT = 1 << 30  # bytes of a normal form in the cache


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """A request to open a model."""

    source: str | Path | nn.Module
    options: InputOptions = field(default_factory=InputOptions)
    weights: Path | None = None
    trust: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def source_options(self) -> SourceOptions:
        """The options for readers of other frameworks' files."""
        return SourceOptions(self.trust, self.weights, self.options.channels, self.options.size)


def open_network(
    source: str | Path | nn.Module,
    options: InputOptions | None = None,
    *,
    weights: Path | None = None,
    trust: bool = False,
    limits: Limits | None = None,
) -> Network:
    """Open a model, understand its input and list its layers, in a process of its own.

    Args:
        source: what `converters.sources.read.read` reads: a file, a SavedModel folder, a factory, a live nn.Module.
        options: what the user says of the input.
        weights: of a PyTorch factory.
        trust: whether a source that is a program may be run.
        limits: what the opening may use; None: as the model's size suggests.

    Raises:
        ModelError: the file is no model that can be analysed, or opening it needs more than it may use.
        InputError: its input cannot be understood, or runs at no size.
        SettingsError: an option contradicts the graph.
    """
    request = _Request(
        source=source,
        options=options or InputOptions(),
        weights=weights,
        trust=trust,
        limits=limits or Limits(),
    )
    _current_folder()
    if not client.is_available():
        with as_model_error(source if isinstance(source, (str, Path)) else type(source).__name__, "it is opened"):
            return open_here(read.read(source, request.source_options), request.options)

    def reopen() -> client.Worker:
        return _worker(request)[0]

    name, digest = None, _digest_of_kept(source, weights, trust)
    if digest is not None:
        assert isinstance(source, (str, Path))
        name = _cache_name(digest.hexdigest(), Path(source), request.options)
        network = _from_cache(name, Path(source), digest, reopen)
        if network is not None:
            return network
    worker, facts = _worker(request)
    if name is not None:
        _keep(name, facts, worker.scratch)
    return replace(opened.read(facts, worker.scratch), reopen=_once(worker, reopen))


def _once(worker: client.Worker, again: Callable[[], client.Worker]) -> Callable[[], client.Worker]:
    """A function that gives the worker that opened the model once, then a new one each time.

    A process that was forked since gets a new one too.
    """
    waiting = [worker]
    return lambda: waiting.pop() if waiting and worker.owner == os.getpid() else again()


def _worker(request: _Request) -> tuple[client.Worker, dict[str, Any]]:
    """A worker that has opened the model, and the facts that it sent."""
    source = request.source
    if isinstance(source, (str, Path)) and not Path(source).exists() and not read.is_factory(source):
        raise ModelError(f"{source}: no such file")
    scratch = Path(tempfile.mkdtemp(prefix="filterscope-"))
    try:
        message, shown = _message(request, scratch)
        worker = client.Worker(shown, message, scratch, note=_remark)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    try:
        _import_meanwhile()
        return worker, worker.open()
    except BaseException:
        worker.close()
        raise


def _message(request: _Request, scratch: Path) -> tuple[dict[str, Any], str]:
    """The request as a worker reads it, its arrays written into `scratch`, and the model as error messages name it."""
    source, options, weights = request.source, request.options, request.weights
    live = None
    if not isinstance(source, (str, Path)):
        path = scratch / "live.onnx"
        content, live = _live(source, request.source_options)
        path.write_bytes(content)
        shown = str(live["path"])
    else:
        path, shown = Path(source).absolute(), str(source)
    if options.feeds:
        arrays: dict[str, Any] = {name: np.asarray(array) for name, array in options.feeds.items()}
        np.savez(scratch / "feeds.npz", **arrays)
    message = {
        "do": "open",
        "source": str(source) if live is None else None,
        "path": str(path),
        "live": live,
        "weights": None if weights is None else str(weights),
        "trust": request.trust,
        "program": live is None and read.is_program(source, request.trust),
        "converts": live is None and read.is_converted(source),
        "input": opened.options_to_json(options),
        "limits": {"memory": request.limits.memory, "seconds": request.limits.seconds},
        "scratch": str(scratch),
        "folder": str(_current_folder()),
        "environment": dict(os.environ),
    }
    return message, shown


def _current_folder() -> Path:
    """The folder that this process works in.

    Raises:
        SettingsError: it has been removed; numerical libraries end the process there (oneMKL).
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise SettingsError(
            "the folder in which this runs has been removed; change to another (cd), and try again"
        ) from error


def _live(source: Any, options: SourceOptions) -> tuple[bytes, dict[str, Any]]:
    """A model that the user holds, as bytes, and what is known of it; what is ONNX already is not looked into here."""
    from filterscope.converters.sources import live

    unread = live.onnx_bytes(source)
    if unread is not None:
        return unread[0], opened.unread_facts(unread[1])
    file = live.read(source, options)
    return file.proto.SerializeToString(), opened.live_facts(file)


def _import_meanwhile() -> None:
    """Import the large libraries that the caller will need, while the worker uses another processor."""
    if (os.cpu_count() or 1) > 1:
        import torch

        _ = torch


def _remark(text: str) -> None:
    logging.getLogger("filterscope").warning("%s", text)


def _digest_of_kept(source: str | Path | nn.Module, weights: Path | None, trust: bool) -> Any:
    """sha256 of the model's file; None for what is not cached: the user's own code, which may give another network."""
    if not isinstance(source, (str, Path)) or weights is not None or read.is_program(source, trust):
        return None
    path = Path(source)
    try:
        return _digest(path) if path.is_file() else None
    except OSError:
        return None


def _cache_name(content: str, path: Path, options: InputOptions) -> str:
    """Name of the cache's entry for a file with this sha256."""
    arrays = {name: np.asarray(array) for name, array in options.feeds.items()}
    feeds = [[name, array.shape, str(array.dtype), array.tobytes().hex()] for name, array in sorted(arrays.items())]
    settings = json.dumps([path.suffix.lower(), opened.options_to_json(options), feeds], sort_keys=True)
    return client.cache_prefix(content) + cache.key("opened", content, hashlib.sha256(settings.encode()).hexdigest())


def _from_cache(name: str, path: Path, digest: Any, reopen: Callable[[], client.Worker]) -> Network | None:
    """The network from the cache; None where it is not there, or where a file of its tensors has changed since."""
    folder = cache.load_folder(name)
    if folder is None:
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # an entry that is not ours is as good as none
        facts = json.loads((folder / opened.FACTS).read_text(encoding="utf-8"))
        model_folder = path.parent.resolve()
        for external in facts["external"]:
            file = Path(os.path.realpath(model_folder / external))
            if not file.is_relative_to(model_folder):  # a link that was none when the model was opened
                return None
            digest.update(_digest(file).digest())
        if digest.hexdigest() == facts["sha256"]:
            return replace(opened.read(facts | {"path": str(path)}, folder), reopen=reopen)
    return None


def _keep(name: str, facts: dict[str, Any], scratch: Path) -> None:
    """Put an opened network into the cache."""
    with contextlib.suppress(OSError):
        if size_of(scratch / opened.NORMAL) <= LARGEST_KEPT:
            (scratch / opened.FACTS).write_text(json.dumps(facts), encoding="utf-8")
            cache.save_folder(name, [scratch / file for file in (opened.NORMAL, opened.EXPORT, opened.FACTS)])


def _digest(path: Path) -> Any:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256")
