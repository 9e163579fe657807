"""Choose the GPUs that compute, or the processor, and share them out to threads.

Knows torch's devices; knows nothing of tasks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from filterscope.converters.errors import SettingsError, setting


class Devices:
    """Devices of one kind that share the tasks of a run.

    A thread that does tasks keeps to one device, so that a task's ascent and its numbers are computed in one place.
    Threads fetch their tasks when they are free: a device that is held up by others does fewer of them.

    Args:
        devices: one or more.
    """

    def __init__(self, devices: Sequence[torch.device]) -> None:
        self.all = tuple(devices)
        self._turns, self._lock = itertools.cycle(self.all), threading.Lock()

    @property
    def first(self) -> torch.device:
        """Where everything computes that is not shared out."""
        return self.all[0]

    @property
    def workers(self) -> int:
        """Threads that do tasks: one a processor where that computes, else one a device."""
        return max(len(self.all), processors() if self.first.type == "cpu" else 1)

    def take(self) -> torch.device:
        """The device of one more thread: each in turn."""
        with self._lock:
            return next(self._turns)

    def to_json(self) -> dict[str, Any]:
        """The entry in run.json: kind and name of every device, and threads of the processor."""
        names = Counter(_name(device) for device in self.all)
        return {
            "kind": ", ".join(str(device) for device in self.all),
            "name": ", ".join(name if count == 1 else f"{count} × {name}" for name, count in names.items()),
            "threads": torch.get_num_threads(),
        }


def choose_devices(name: str) -> Devices:
    """`auto`: all GPUs where there are any, else the processor; `cuda`: all GPUs; else the one device named.

    Of GPUs of several kinds only those like the first are taken: another kind rounds otherwise, and which of them a
    task comes to is chance, so that the same command would give other pictures each time.

    Raises:
        SettingsError: no such device here.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
        return Devices([gpu for gpu in gpus if _name(gpu) == _name(gpus[0])])
    try:
        device = torch.device("cpu" if name == "auto" else name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"{setting('device', name)}: not to be had on this machine; give auto or cpu", field="device", value=name
        ) from error
    return Devices([device])


def choose_device(name: str) -> torch.device:
    """The device for what is not shared out: the first of `choose_devices`.

    Raises:
        SettingsError: no such device here.
    """
    return choose_devices(name).first


def keep_to(device: torch.device) -> None:
    """Set the calling thread up for tasks on a device, for good.

    On a processor it computes alone, not in a team. A GPU becomes the thread's current one, which is what torch answers
    for when it is asked about bfloat16, and where ONNX Runtime opens its sessions.
    """
    if device.type == "cpu":
        torch.set_num_threads(1)  # holds for this thread
    elif device.type == "cuda":
        torch.cuda.set_device(device)  # likewise


def on(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """For a while, the calling thread's current GPU is this one; nothing changes where it is none."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
