"""Where tasks run. Tasks are values, write only files of their own and may run twice, so any executor will do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analyzer.plan import Task
from analyzer.run import RunWriter
from analyzer.tasks import Workshop, run_task


def local(
    shop: Workshop,
    tasks: Sequence[Task],
    slugs: dict[str, str],
    writer: RunWriter,
    report: Callable[[Task, bool], None],
) -> None:
    """Run tasks one after the other in this process; tasks already done are passed over.

    Args:
        report: called after each task, with whether it had been done before.
    """
    for task in tasks:
        key = task.key(slugs)
        known = writer.done(key)
        if not known:
            rows, tiles = run_task(shop, task)
            writer.write_task(key, rows, tiles)
        report(task, known)
