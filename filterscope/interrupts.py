"""Ctrl-C: the first ends the work in order, the next at once, and either ends with one line and code 130.

Imports nothing but what Python starts with, so that it can listen while everything else is still being imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

INTERRUPTED = 130


class _State:
    """What the handler of signals must know."""

    count = 0  # interrupts so far
    line = "interrupted"  # what is to be said of it
    is_said = False


def listen() -> None:
    """Let Ctrl-C and a polite end of the process raise KeyboardInterrupt, once; where they are not ignored."""
    _State.count, _State.line, _State.is_said = 0, "interrupted", False
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # a job in the background is not to be interrupted
            signal.signal(number, _interrupt)


def was_interrupted() -> bool:
    """Whether an interrupt came; libraries may have made another exception of it."""
    return _State.count > 0


def set_line(text: str) -> None:
    """What an interrupt says from now on."""
    _State.line = text


def say_line() -> None:
    """The one line, unless it stands there already."""
    if not _State.is_said:
        _State.is_said = True
        shown = "".join(character if character.isprintable() else "�" for character in _State.line)
        with contextlib.suppress(OSError):
            os.write(2, f"{shown}\n".encode("utf-8", "replace"))


def end_now() -> None:
    """The end of an interrupted process: Python's own would wait for threads, deaf to the next interrupt."""
    say_line()
    os._exit(INTERRUPTED)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    _State.count += 1
    if _State.count > 1:
        end_now()
    raise KeyboardInterrupt
