"""Where tasks run. Tasks are values, write only files of their own and may run twice, so any executor will do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context  # numpy's handling of infinities is a part of it

from filterscope.analyzer.compute.allocator import keep_freed_memory
from filterscope.analyzer.execution.plan import Task
from filterscope.analyzer.execution.tasks import Workshop, run_task
from filterscope.analyzer.run.writer import RunWriter

LONGEST = 1e8  # seconds, three years; the system's clocks end some way beyond


def local(
    shop: Workshop,
    tasks: Sequence[Task],
    slugs: dict[str, str],
    writer: RunWriter,
    report: Callable[[Task], None],
    workers: int | None = None,
    until: float | None = None,
    *,
    least: int = 0,
) -> bool:
    """Run tasks in this process, several at a time, in their order; whether all were done.

    On a CPU a task takes one thread, and there are as many as processors: on the small maps of a fitted canvas two
    threads inside one operation wait for each other half of the time. It also makes the pictures independent of the
    number of processors. Of several GPUs each has a thread of its own, which fetches the next task when it is free.

    Args:
        report: called in this thread after each task.
        workers: tasks at a time; None: one a processor, or one a GPU where GPUs do the work.
        until: when to stop, in seconds of `time.monotonic`; tasks then end at their next step, and nothing of them is
            saved. None: when all are done.
        least: tasks that are done all the same, so that many short calls come to an end too.

    Raises:
        KeyboardInterrupt: running tasks stop at their next step, and nothing of them is saved.
    """
    shop.prepare()
    local_shops = threading.local()

    def work(task: Task) -> Task:
        if not hasattr(local_shops, "own"):
            local_shops.own = shop.for_a_thread()
        rows, tiles = run_task(local_shops.own, task)
        writer.write_task(task.key(slugs), rows, tiles)
        return task

    keep_freed_memory()
    pool = ThreadPoolExecutor(workers or shop.devices.workers)
    pending = {pool.submit(copy_context().run, work, task) for task in tasks}
    due = len(pending) - least
    try:
        while pending:
            finished, pending = wait(pending, None if len(pending) > due else _seconds_to(until), FIRST_COMPLETED)
            if not finished:  # the time is over
                break
            for future in finished:
                report(future.result())
    except BaseException:
        shop.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    if not pending:
        pool.shutdown()
        return True
    shop.stop.set()
    pool.shutdown(wait=True, cancel_futures=True)
    shop.stop.clear()
    done = [future for future in pending if _is_done(future)]
    for future in done:
        report(future.result())
    return len(done) == len(pending)


def _seconds_to(until: float | None) -> float | None:
    return None if until is None else min(max(0.0, until - time.monotonic()), LONGEST)


def _is_done(future: Future[Task]) -> bool:
    """Whether a task was done to its end, or failed, before it could be stopped."""
    return not future.cancelled() and not isinstance(future.exception(), InterruptedError)
