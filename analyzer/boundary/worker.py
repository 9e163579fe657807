"""A worker opens a model and proves its import, within limits and confined.

Runs in a process of its own (`server`), which may die of what it reads. It answers with JSON and with files in its
scratch folder:

    normal.onnx    the normal form
    export.onnx    what another framework's model became
    feeds.npz, pixels.npy   given: what other inputs get; the images that the proof is made with
"""

from __future__ import annotations

import logging
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from filterscope.analyzer.boundary import opened
from filterscope.analyzer.boundary.confinement import confine
from filterscope.analyzer.boundary.limits import Limits, size_of
from filterscope.analyzer.network.network import Network, open_here
from filterscope.converters.errors import FilterscopeError, UnsupportedOperatorError
from filterscope.converters.onnx_file.model_file import ModelFile, external_bytes
from filterscope.converters.sources import read
from filterscope.converters.sources.options import SourceOptions


class Worker:
    """One model's.

    Args:
        request: what `client` asks: source, options, limits, folder, environment.
        scratch: the only folder that it may write into.
        send: takes a message to the user's side.
    """

    def __init__(self, request: dict[str, Any], scratch: Path, send: Callable[[dict[str, Any]], None]) -> None:
        self._request = request
        self._scratch = scratch
        self._send = send
        self._network: Network | None = None
        tempfile.tempdir = str(scratch)
        logging.getLogger("filterscope").handlers = [_Notes(send)]

    def answer(self, request: str) -> None:
        """Send what comes of a request: {"done": …}, or {"error": …} for what the user can mend."""
        try:
            done = {"open": self._open, "prove": self._prove}[request]()
        except FilterscopeError as error:
            convolutions = error.convolutions if isinstance(error, UnsupportedOperatorError) else ()
            self._send({"error": opened.error_to_json(error, convolutions)})
        except MemoryError:
            self._send({"memory": True})
        except Exception as error:
            trace = "".join(traceback.format_exception(error))
            self._send({"fault": f"{type(error).__name__}: {error}", "trace": trace})
        else:
            self._send({"done": done})

    def _stage(self, name: str) -> None:
        self._send({"stage": name})

    def _open(self) -> dict[str, Any]:
        request = self._request
        self._stage("reading it")
        if request["program"]:  # the user's own code, or trusted as such: it may do what he may
            file = self._read()
            self._confine(file.proto.ByteSize())
        else:
            self._confine(size_of(Path(request["path"])))
            file = self._read()
        options = opened.input_options(request["input"], self._feeds())
        file = replace(file, memory=request["limits"]["memory"] or 0)
        self._network = open_here(file, options, stage=self._stage)
        self._stage("comparing a batch with each picture alone")
        return opened.write(self._network, self._scratch)

    def _confine(self, size: int) -> None:
        limits = Limits(self._request["limits"]["memory"], self._request["limits"]["seconds"])
        path = Path(self._request["path"])
        in_force: tuple[str, ...] = ()
        if not self._request["program"]:
            # A link's target is the model too; what lies beside the target is not.
            in_force = confine([path if path.is_dir() else path.parent, path.resolve()], [self._scratch])
            limits.for_size(size).impose()
            size += external_bytes(path)  # read under the limits of the file alone
        limits.for_size(size).impose()
        self._send({"confined": list(in_force), "size": size})

    def _read(self) -> ModelFile:
        request = self._request
        if request["live"] is not None:
            return opened.live_file(request["live"], Path(request["path"]))
        size = request["input"]["size"]
        options = SourceOptions(
            request["trust"],
            None if request["weights"] is None else Path(request["weights"]),
            request["input"]["channels"],
            None if size is None else (size[0], size[1]),
        )
        return read.read(request["source"], options)

    def _feeds(self) -> dict[str, np.ndarray]:
        place = self._scratch / "feeds.npz"
        if not place.is_file():
            return {}
        with np.load(place, allow_pickle=False) as stored:
            return dict(stored)

    def _prove(self) -> dict[str, Any]:
        assert self._network is not None
        self._stage("proving its import")
        return self._network.prove_here(np.load(self._scratch / "pixels.npy", allow_pickle=False)).to_json()


class _Notes(logging.Handler):
    """Remarks made on the way, for the user's side to print."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """One remark."""
        self._send({"note": record.getMessage()})
