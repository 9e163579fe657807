"""From exceptions to exit codes: 0 done, 2 the user's input, 130 interrupted, 1 our fault."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filterscope.analyzer.network.network import Network

from filterscope.commands.options import as_options
from filterscope.converters.plain_text import visible

DONE, OUR_FAULT, USERS_INPUT, INTERRUPTED = 0, 1, 2, 130
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNUSABLE = (  # files and folders as they are on the user's machine, not as we take them to be
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.EBADF),
)


def say(text: str) -> None:
    """One line on stderr, which names settings as the command's options.

    Text that came from a file is data: controls in it are not obeyed, marks are seen.
    """
    write_stderr(visible(as_options(text)) + "\n")


def path_text(path: Path) -> str:
    """A path for stdout: at a terminal each character is seen, for a script it is the path itself."""
    return visible(str(path)) if sys.stdout.isatty() else str(path)


def write_stderr(text: str) -> None:
    """Progress and messages: where nobody can read them, the work goes on."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # full, shut, or not there at all
        sys.stderr.write(text)


def say_how_pictures_go(network: Network) -> None:
    """A note where pictures are computed one at a time."""
    if network.one_at_a_time:
        say(f"note: {network.alone.sentence}")


class Notes(logging.Handler):
    """What the library remarks on the way, as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        say(f"note: {record.getMessage()}")


def fault_of_the_system(error: OSError) -> str:
    """What the system would not do for us, in one line; empty where it is not the user's to mend."""
    if error.errno in FULL:
        return f"the disk is full ({error.strerror}); free some space and run the same command again"
    if error.errno in UNUSABLE:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
        return f"{' → '.join(names) or 'a file'}: {error.strerror}; see that it is there and may be written"
    return ""


def flush_output() -> OSError | None:
    """Write out what is left on stdout and stderr; what cannot be written is thrown away.

    Returns:
        What stood in stdout's way.
    """
    failures: list[OSError | None] = []
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
            failures.append(None)
        except ValueError:  # shut
            failures.append(None)
        except OSError as error:
            failures.append(error)
            with contextlib.suppress(OSError, ValueError):  # Python tries again when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return failures[0]


def our_fault(error: BaseException) -> int:
    """Save the traceback and say where it is."""
    text = "".join(traceback.format_exception(error))
    say(f"filterscope failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    try:
        with tempfile.NamedTemporaryFile("wb", prefix="filterscope-", suffix=".txt", delete=False) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
        say(f"This is our fault, not yours. The traceback is in {Path(file.name)}; please report it.")
    except OSError as failure:
        say(f"This is our fault, not yours. The traceback could not be saved ({failure.strerror}).")
    return OUR_FAULT
