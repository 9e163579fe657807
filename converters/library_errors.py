"""Turn what a library raises while it reads a file into one line that names the file.

protobuf, onnx, onnx-ir, onnxscript, ONNX Runtime, numpy and torch each fail in their own way on what they did not
expect of a file, and none says in which. The line names the file, the step and the reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from filterscope.converters.errors import FilterscopeError, ModelError, setting

WORDS = 200  # characters of a library's own message


@contextlib.contextmanager
def as_model_error(where: object, step: str) -> Iterator[None]:
    """Turn what a library raises while a file is read into one line.

    Args:
        where: the file, or what stands for it.
        step: what is being done with it, as the end of "fails when …".

    Raises:
        ModelError: for every exception but our own, an interrupt, and an exit.
    """
    try:
        yield
    except FilterscopeError:
        raise
    except MemoryError as error:
        advice = f"try a smaller {setting('input_size')}"
        raise ModelError(f"{where}: not enough memory when {step}; {advice}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:WORDS]
        raise ModelError(
            f"{where}: fails when {step} ({type(error).__name__}{': ' if reason else ''}{reason}); if ONNX Runtime "
            "runs this file, please report it"
        ) from error
