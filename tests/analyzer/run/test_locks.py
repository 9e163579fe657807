"""Processes that want one run at the same time: a second writer is refused, a second report waits."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from filterscope.analyzer.run import locks
from filterscope.analyzer.run.layout import LOCKS
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.run_locks import is_being_written, reporting
from filterscope.analyzer.run.writer import RunWriter, remove
from filterscope.converters.errors import RunError
from support.synthetic_run import synthetic_run

HOLDER = """
import sys, pathlib
from filterscope.analyzer.run.writer import RunWriter
from filterscope.analyzer.run.run_locks import reporting
folder = pathlib.Path(sys.argv[2])
with RunWriter(folder, "plan") if sys.argv[1] == "write" else reporting(folder):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    return synthetic_run(tmp_path / "run", layers=1, channels=2, images=0)


@pytest.fixture
def hold(folder):
    """Another process that holds a lock of the run until it is ended."""
    holders = []

    def started(kind):
        command = [sys.executable, "-c", HOLDER, kind, str(folder)]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        assert holder.stdout.readline() == "held\n"
        return holder

    yield started
    for holder in holders:
        holder.kill()
        holder.communicate()


def test_a_report_waits_for_another_and_both_end(folder):
    order = []

    def report():
        with reporting(folder):
            order.append("second")

    with reporting(folder):
        other = threading.Thread(target=report)
        other.start()
        time.sleep(0.5)
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]


def test_the_lock_of_a_report_dies_with_its_process(folder, hold):
    holder = hold("report")
    with pytest.raises(RunError, match="another process is making this run's report; wait for it"):
        remove(folder)
    assert (folder / "run.json").is_file()
    holder.kill()
    holder.communicate()
    with reporting(folder):
        pass
    remove(folder)
    assert not folder.exists()


def test_a_run_that_is_being_written_is_not_removed(folder, hold):
    holder = hold("write")
    assert is_being_written(folder)
    with pytest.raises(RunError, match="another process is writing this run"):
        remove(folder)
    holder.kill()
    holder.communicate()
    assert not is_being_written(folder)


def test_a_report_of_a_run_that_is_being_written_is_made_or_says_so(folder, hold):
    hold("write")
    with reporting(folder):
        Run(folder)
    with pytest.raises(RunError, match="another process is writing this run; wait for it"), reporting(folder):
        raise RunError("a table is missing while its study is done again")


def test_a_report_without_a_writer_keeps_its_own_error(folder):
    with pytest.raises(RunError, match="it is damaged"), reporting(folder):
        raise RunError("it is damaged")


def test_a_run_that_is_removed_while_its_lock_is_opened_is_locked_by_its_new_file(folder, monkeypatch):
    """An open file keeps living after its name: a lock of it would be nobody's."""
    fcntl = pytest.importorskip("fcntl")
    flock = fcntl.flock

    def slow(file, operation):
        monkeypatch.setattr(fcntl, "flock", flock)
        (folder / ".lock").unlink()  # what removing the run does
        return flock(file, operation)

    (folder / ".lock").touch()
    monkeypatch.setattr(fcntl, "flock", slow)
    with RunWriter(folder, "plan"):
        assert (folder / ".lock").is_file()
        assert is_being_written(folder)
        with pytest.raises(RunError, match="another process is writing"):
            RunWriter(folder, "plan").__enter__()


def test_a_folder_that_takes_no_lock_is_reported_all_the_same(tmp_path):
    with reporting(tmp_path / "absent"):
        pass


def test_locks_belong_to_the_run(folder):
    with RunWriter(folder, "plan"), reporting(folder):
        assert all((folder / name).is_file() for name in LOCKS)
    remove(folder)
    assert not folder.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has a folder that takes no file at all")
def test_where_no_file_can_be_made_no_lock_is_waited_for():
    path = Path("/proc/filterscope.lock")
    with pytest.raises(OSError, match="No such file"):
        locks.try_lock(path)
    with pytest.raises(OSError, match="No such file"), locks.wait_for_lock(path, "waiting"):
        pass
