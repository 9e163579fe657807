"""From exceptions to exit codes: 0 done, 2 the user's input, 130 interrupted, 1 our fault."""

from __future__ import annotations

import logging
import sys
import tempfile
import traceback
from pathlib import Path

from converters.plain_text import visible

DONE, OUR_FAULT, USERS_INPUT, INTERRUPTED = 0, 1, 2, 130


def say(text: str) -> None:
    """One line on stderr; text that came from a file is data: controls in it are not obeyed, marks are seen."""
    sys.stderr.write(visible(text) + "\n")


def path_text(path: Path) -> str:
    """A path for stdout: at a terminal each character is seen, for a script it is the path itself."""
    return visible(str(path)) if sys.stdout.isatty() else str(path)


class Notes(logging.Handler):
    """What the library remarks on the way, as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        say(f"note: {record.getMessage()}")


def our_fault(error: BaseException) -> int:
    """Save the traceback and say where it is."""
    with tempfile.NamedTemporaryFile("w", prefix="filterscope-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    say(f"filterscope failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    say(f"This is our fault, not yours. The traceback is in {Path(file.name)}; please report it.")
    return OUR_FAULT
