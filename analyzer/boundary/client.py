"""The user's side of the boundary: hand a model over, get the opened network back, or one line on what went wrong.

Knows processes and messages; parses nothing of the model.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from filterscope.analyzer.boundary.limits import LARGEST_MODEL, Allowance, Limits, size_of
from filterscope.converters import cache
from filterscope.converters.errors import FilterscopeError, ModelError, setting

STARTING = 120.0  # seconds that importing the libraries may take, on a cold disk
OUT_OF_MEMORY = ("bad_alloc", "failed to allocate", "unable to allocate", "can't allocate", "cannot allocate")
SOON = 10.0  # seconds in which a process that is killed has ended
FROM_OUTSIDE = (1, 2, 9, 15)  # SIGHUP, SIGINT, SIGKILL, SIGTERM: what nothing does to itself
LONGEST_EXCERPT = 300  # characters of what a process printed before it died


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker's process ended."""

    status: int  # exit code, or minus the signal
    seconds: float  # of processor time
    peak: int  # bytes of memory


class Server:
    """The process that forks workers; started when it is first needed, ended with ours."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        # -P: neither the user's folder nor a script's is searched but where he has it searched himself.
        script = "import sys; from filterscope.analyzer.boundary.server import main; main(int(sys.argv[1]))"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", script, str(theirs.fileno())],
            # PASSIVE: threads that wait must not spin, which counts as processor time.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(_search_path()), "OMP_WAIT_POLICY": "PASSIVE"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._printed,
            start_new_session=True,  # an interrupt at the terminal is ours alone
        )
        theirs.close()
        self._control = ours
        self.owner = os.getpid()

    @property
    def is_alive(self) -> bool:
        """Whether it can fork workers, for this process."""
        return self.owner == os.getpid() and self._process.poll() is None

    def connect(self) -> socket.socket:
        """A connection to a new worker.

        Raises:
            ModelError: the server has died.
        """
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._control, [b"w"], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise ModelError(f"the process that opens models died: {self.printed()}") from error
        finally:
            theirs.close()
        return ours

    def printed(self) -> str:
        """The end of what the server's processes printed."""
        self._printed.seek(0)
        lines = self._printed.read().decode("utf-8", "replace").split("\n")
        return " ".join(line.strip() for line in lines[-4:] if line.strip())[-LONGEST_EXCERPT:]

    def close(self) -> None:
        """End it; its workers end when their connections close."""
        self._control.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._printed.close()


_server: Server | None = None
_lock = threading.Lock()


def is_available() -> bool:
    """Whether this system lets a model be opened in a process of its own; elsewhere it is opened in the user's."""
    return hasattr(os, "pidfd_open") and hasattr(socket, "send_fds")


def start() -> Server:
    """The server that is alive; where there is none, a new one is started."""
    global _server
    with _lock:
        if _server is None or not _server.is_alive:
            if _server is None:
                atexit.register(stop)
            else:
                _server.close()
            _server = Server()
        return _server


def start_early(source: str) -> None:
    """Start the server while the caller still imports, where a model will need it: none of its file is kept."""
    path = Path(source)
    with contextlib.suppress(OSError, ValueError):
        if path.is_file() and os.cpu_count() != 1:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if not cache.holds_any_of(cache_prefix(digest)):
                start()


def cache_prefix(digest: str) -> str:
    """What the cache's names of a file's openings begin with."""
    return f"{digest[:16]}-"


def stop() -> None:
    """End the server, where there is one."""
    global _server
    with _lock:
        if _server is not None:
            _server.close()
            _server = None


class Worker:
    """A confined process that opens one model and proves its import.

    Args:
        shown: the model as the user named it, for messages.
        request: what it is to do first (analyzer.boundary.worker).
        scratch: its own folder, removed when it is closed.
        note: takes what it remarks on the way.
    """

    def __init__(
        self,
        shown: str,
        request: Mapping[str, Any],
        scratch: Path,
        note: Callable[[str], None],
    ) -> None:
        self.scratch = scratch
        self.owner = os.getpid()
        self.confined: tuple[str, ...] = ()
        self.ended: WorkerExit | None = None
        self._shown = shown
        self._request = request
        self._allowance = self._allowance_for(0)
        self._note = note
        self._stage = "starting"
        self._server = start()
        connection = self._server.connect()
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._finalizer = weakref.finalize(self, _close, self.owner, connection, lines=self._lines, scratch=scratch)
        # A conversion loads another framework, and has limits of its own; the first answer waits for our imports too.
        self._seconds = None if request["converts"] else STARTING + self._allowance.wall
        self._write(request)

    def open(self) -> dict[str, Any]:
        """Open the model: its facts as `opened.write` gives them, its files in `scratch`.

        Raises:
            FilterscopeError: what the worker raised, or what it died of.
        """
        done = self._read()
        self._seconds = self._allowance.wall
        return done

    def prove(self, pixels: np.ndarray) -> dict[str, Any]:
        """Prove the import with these images; the proof as JSON.

        Raises:
            FilterscopeError: what the worker raised, or what it died of.
        """
        np.save(self.scratch / "pixels.npy", pixels)
        self._write({"do": "prove"})
        return self._read()

    def close(self) -> None:
        """End the process and remove its folder."""
        self._finalizer()

    def end(self) -> WorkerExit | None:
        """End the process, and tell what it used; None where nobody can tell any more."""
        with contextlib.suppress(OSError, ValueError):  # its connection may be closed already
            self._connection.shutdown(socket.SHUT_WR)
            self._connection.settimeout(SOON)
            for line in self._lines:
                message = json.loads(line)
                if "ended" in message:
                    self.ended = WorkerExit(**message["ended"])
        self.close()
        return self.ended

    def _allowance_for(self, size: int) -> Allowance:
        """What it may use: as the request says, else as the file's bytes suggest, or `size` where that is more."""
        limits = Limits(self._request["limits"]["memory"], self._request["limits"]["seconds"])
        return limits.for_size(max(size_of(Path(self._request["path"])), min(size, LARGEST_MODEL)))

    def _allow(self, size: int) -> None:
        """Let it use what a model of this many bytes may, its external data counted, which only the worker can name."""
        self._allowance = self._allowance_for(size)
        if self._seconds is not None:
            self._seconds = STARTING + self._allowance.wall
            self._connection.settimeout(self._seconds)

    def _write(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it has died; what it died of is told when its answer is read
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def _read(self) -> dict[str, Any]:
        """The answer to the last request.

        Raises:
            FilterscopeError: there is none.
        """
        from filterscope.analyzer.boundary import opened

        self._connection.settimeout(self._seconds)
        while True:
            try:
                line = self._lines.readline()
            except TimeoutError:
                raise self._slow(f"after {self._seconds:.0f} s by the clock") from None
            except OSError:  # the server died before it took the connection
                line = b""
            message = json.loads(line) if line.endswith(b"\n") else {"lost": True}
            match message:
                case {"stage": str(name)}:
                    self._stage = name
                case {"confined": list(names), "size": int(size)}:
                    self.confined = tuple(names)
                    self._allow(size)
                case {"note": str(text)}:
                    self._note(text)
                case {"done": dict(content)}:
                    return content
                case {"error": dict(content)}:
                    error = opened.error_from_json(content)
                    raise self._heavy() if _is_of_memory(str(error)) else error
                case {"memory": True}:
                    raise self._heavy()
                case {"fault": str(text), "trace": str(trace)}:
                    raise self._fault(text, trace)
                case {"ended": dict(end)}:
                    self.ended = WorkerExit(**end)
                    raise self._dead(self.ended)
                case _:
                    raise self._lost()

    def _slow(self, when: str) -> ModelError:
        raised = f"{max(60, 10 * self._allowance.seconds):.0f}"
        return ModelError(
            f"{self._shown}: opening it was stopped {when}, while {self._stage}; where you know who made it, "
            f"{setting('limit_seconds', raised)} lets it take longer"
        )

    def _lost(self) -> ModelError:
        printed = self._server.printed()
        return ModelError(
            f"{self._shown}: the process that opens models died, while {self._stage}"
            f"{f': {printed}' if printed else ', ended from outside'}; try again"
        )

    def _heavy(self) -> ModelError:
        gibibytes = self._allowance.memory / 2**30
        more = max(4, round(4 * gibibytes))
        return ModelError(
            f"{self._shown}: opening it needs more than the {gibibytes:.1f} GiB of memory that it may use, while "
            f"{self._stage}; where you know who made it, {setting('limit_memory', f'{more}G')} lets it use more"
        )

    def _fault(self, text: str, trace: str) -> ModelError:
        if _is_of_memory(text):
            return self._heavy()
        with tempfile.NamedTemporaryFile("w", prefix="filterscope-", suffix=".txt", delete=False) as file:
            file.write(trace)
        first = " ".join(text.split())[:LONGEST_EXCERPT]
        return ModelError(
            f"{self._shown}: cannot be opened: {first}, while {self._stage}; where other programs run it, please "
            f"report this with {file.name}"
        )

    def _dead(self, end: WorkerExit) -> FilterscopeError:
        if end.status == -getattr(signal, "SIGXCPU", 24):
            return self._slow(f"after {end.seconds:.0f} s of processor time")
        printed = ""
        with contextlib.suppress(OSError):  # it may die before it has one
            printed = (self.scratch / "printed.txt").read_text(encoding="utf-8", errors="replace").strip()
        if end.status == 0 or _is_of_memory(printed):
            return self._heavy()
        if -end.status in FROM_OUTSIDE:
            return ModelError(
                f"{self._shown}: the process that opens it was ended from outside ({_signal(-end.status)}), while "
                f"{self._stage}, as a system does that runs out of memory; try again when less is running"
            )
        how = f"ended with code {end.status}" if end.status > 0 else f"died of {_signal(-end.status)}"
        return ModelError(
            f"{self._shown}: the process that opens it {how}, while {self._stage}; the file is damaged or made to do "
            "harm, and is not used"
        )


def _close(owner: int, connection: socket.socket, lines: IO[bytes], scratch: Path) -> None:
    is_ours = owner == os.getpid()  # a process that the user's forks has a copy, and ends nothing
    if is_ours:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # its keeper ends the process
    lines.close()
    connection.close()
    if is_ours:
        shutil.rmtree(scratch, ignore_errors=True)


def _search_path() -> list[str]:
    """Where this process finds modules, as absolute places; what is there a worker may read.

    Not the folder that it works in, which Python puts there by itself (`python -m`, a notebook), unless we lie there.
    """
    own = str(Path(__file__).parents[3])
    places = []
    for place in sys.path:
        with contextlib.suppress(OSError):  # the folder that we work in has been removed, and nothing is found there
            absolute = os.path.abspath(place)  # noqa: PTH100 - a link's folder is not its target's
            if absolute in (own, str(Path(own).resolve())) or absolute != str(Path.cwd()):
                places.append(absolute)
    return places


def _is_of_memory(text: str) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in OUT_OF_MEMORY)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
