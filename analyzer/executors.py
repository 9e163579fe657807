"""Where tasks run. Tasks are values, write only files of their own and may run twice, so any executor will do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context  # numpy's handling of infinities is a part of it

from analyzer.allocator import keep_freed_memory
from analyzer.plan import Task
from analyzer.run import RunWriter
from analyzer.tasks import Workshop, run_task


def local(
    shop: Workshop,
    tasks: Sequence[Task],
    slugs: dict[str, str],
    writer: RunWriter,
    report: Callable[[Task, bool], None],
    workers: int | None = None,
) -> None:
    """Run tasks in this process, several at a time; tasks already done are passed over.

    On a CPU a task takes one thread, and there are as many as processors: on the small maps of a fitted canvas two
    threads inside one operation wait for each other half of the time. It also makes the pictures independent of the
    number of processors. Of several GPUs each has a thread of its own, which fetches the next task when it is free.

    Args:
        report: called in this thread after each task, with whether it had been done before.
        workers: tasks at a time; None: one a processor, or one a GPU where GPUs do the work.

    Raises:
        KeyboardInterrupt: running tasks are told to stop at their next step, and nothing of them is kept.
    """
    shop.prepare()
    todo = []
    for task in tasks:
        if writer.done(task.key(slugs)):
            report(task, True)
        else:
            todo.append(task)
    local_shops = threading.local()

    def work(task: Task) -> Task:
        if not hasattr(local_shops, "own"):
            local_shops.own = shop.for_a_thread()
        rows, tiles = run_task(local_shops.own, task)
        writer.write_task(task.key(slugs), rows, tiles)
        return task

    keep_freed_memory()
    pool = ThreadPoolExecutor(workers or shop.devices.workers)
    try:
        for future in as_completed([pool.submit(copy_context().run, work, task) for task in todo]):
            report(future.result(), False)
    except BaseException:
        shop.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()
