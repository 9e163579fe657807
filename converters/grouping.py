"""Group items, in order, so that each group fits into memory.

Knows numbers; knows nothing of what the items are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def groups_within(items: Iterable[T], size: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Group neighbouring items whose sizes sum to at most `limit`; a larger item forms a group of its own.

    Args:
        size: bytes of one item.
        limit: bytes of a group.
    """
    group: list[T] = []
    total = 0
    for item in items:
        own = size(item)
        if group and total + own > limit:
            yield group
            group, total = [], 0
        group.append(item)
        total += own
    if group:
        yield group
