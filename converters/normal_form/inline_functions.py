"""Inline the model's own functions.

By onnx-ir's inliner, with its search for free names made linear. Knows onnx-ir alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import onnx_ir as ir
import onnx_ir.passes.common as passes


def inline_functions(model: ir.Model) -> list[str]:
    """Put the body of each function where it is called, and take constants out of the inputs.

    Returns:
        Notes, a sentence each.
    """
    functions = len(model.functions)
    with _names_counted_on():
        passes.InlinePass()(model)
    passes.RemoveInitializersFromInputsPass()(model)
    return [f"{functions} functions were written out."] if functions else []


@contextlib.contextmanager
def _names_counted_on() -> Iterator[None]:
    """Let onnx-ir's inliner continue its search for a free name; by itself it tries all numbers again at each call."""
    from onnx_ir.passes.common import inliner

    original = getattr(inliner, "_make_unique_name", None)
    if original is None:  # another version, which may count by itself
        yield
        return
    last: dict[tuple[int, str], int] = {}

    def unique(name: str, callstack: list[str], used_names: set[str]) -> str:
        key, candidate = (id(used_names), name), name
        number = last.get(key, 1)
        if number > 1:
            candidate = f"{name}_{number}"
        while candidate in used_names:
            number += 1
            candidate = f"{name}_{number}"
        last[key] = number
        used_names.add(candidate)
        return candidate

    inliner._make_unique_name = unique
    try:
        yield
    finally:
        inliner._make_unique_name = original
