"""Whether a run on disk has changed: what its files were and what they are.

Knows which files are a run's own; reads none of them.
"""

from __future__ import annotations

import os
from pathlib import Path

from filterscope.analyzer.run.layout import OWN_FILES

PAGES = ("site", "report.html")  # are made of a run, and no part of its state

State = frozenset[tuple[str, int, int]]  # of each file: its path in the run, time in ns, and bytes


def state_of(folder: Path) -> State:
    """Names, times and sizes of a run's own files, but for its pages; two that are equal are of the same run.

    A folder that is not there has no files. One that another process writes may lose a file while it is looked at.
    """
    files = set()
    for root, folders, names in os.walk(folder):
        inner = Path(root).relative_to(folder)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in PAGES]
        for name in names:
            path = (inner / name).as_posix()
            if path in PAGES or not OWN_FILES.fullmatch(path):
                continue
            try:
                status = Path(root, name).stat()
            except OSError:
                continue
            files.add((path, status.st_mtime_ns, status.st_size))
    return frozenset(files)
