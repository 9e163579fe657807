"""The other side of the boundary: a process that forks a worker for each model.

It imports once what opening needs, and holds nothing of the user's but his environment. For each connection that it is
handed it forks a keeper; the keeper forks the worker, waits for its end, tells how it ended, and ends it when the
user's side of the connection closes. So a worker that crashes, spins or is killed takes nothing with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

SET_PARENT_DEATH_SIGNAL = 1  # prctl
UNUSED = (0, 0, 0)  # its other arguments


def main(control_number: int) -> None:
    """Serve until the user's process closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the user's side decides what an interrupt ends
    control = socket.socket(fileno=control_number)
    _import_all()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are nobody's concern once they have ended
    while True:
        message, numbers, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _as_a_process(_keep, numbers[0])
        os.close(numbers[0])


def _import_all() -> None:
    """Import what a worker needs, so that a worker costs a fork only."""
    from filterscope.analyzer.network import network
    from filterscope.converters.preload import import_libraries

    import_libraries()
    _ = network


def _as_a_process(work: Callable[[int], None], connection: int) -> NoReturn:
    """Do something and end, whatever comes of it, without what the process it was forked from would do at its end."""
    code = 1
    try:
        work(connection)
        code = 0
    finally:
        os._exit(code)


def _keep(number: int) -> None:
    """Have a worker at the connection, and tell how it ended: {"ended": {"status", "seconds", "peak"}}."""
    connection = socket.socket(fileno=number)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    keeper = os.getpid()
    worker = os.fork()
    if worker == 0:
        _as_a_process(partial(_work, keeper), number)
    handle = os.pidfd_open(worker)
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    waiting.register(connection, select.POLLRDHUP | select.POLLHUP)
    events = dict(waiting.poll())
    if handle not in events:  # the user's side has closed
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
    _, status, usage = os.wait4(worker, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)  # conversions that it left running
    end = {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss << 10,
    }
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps({"ended": end}).encode() + b"\n")


def _end_with(parent: int) -> None:
    """Check that this process ends when the one that forked it does: on Linux; elsewhere when its connection closes."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, *UNUSED)
        if os.getppid() != parent:
            os._exit(1)


def _work(keeper: int, number: int) -> None:
    """Answer one request after the other; the first says how this process is to be."""
    _end_with(keeper)
    connection = socket.socket(fileno=number)
    from filterscope.analyzer.boundary.worker import Worker

    os.setsid()
    lines = connection.makefile("r", encoding="utf-8")
    first = json.loads(lines.readline())
    scratch = Path(first["scratch"])
    _settle(first, scratch)

    def send(message: dict[str, Any]) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    worker = Worker(first, scratch, send)
    worker.answer("open")
    for line in lines:
        worker.answer(json.loads(line)["do"])


def _settle(first: dict[str, Any], scratch: Path) -> None:
    """The user's folder and environment; what libraries print goes into a file."""
    os.chdir(first["folder"])
    os.environ.clear()
    os.environ.update(first["environment"])
    os.environ.update({"TMPDIR": str(scratch), "CUDA_VISIBLE_DEVICES": "-1"})
    log = os.open(scratch / "printed.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for number in (1, 2):
        os.dup2(log, number)
