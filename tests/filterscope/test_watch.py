"""A report that follows its run: made again when the run has changed, until the run is complete."""

import json
import re
import shutil
from itertools import pairwise

import pytest

from filterscope import cli
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.run_locks import locked_run
from filterscope.analyzer.run.state import state_of
from filterscope.analyzer.run.writer import RunWriter
from filterscope.converters.errors import RunError
from filterscope.requests import watch
from filterscope.requests.runs import ReportRequest
from filterscope.requests.watch import WatchRequest
from support.synthetic_run import synthetic_run

SMALL = {"layers": 2, "channels": 3, "images": 1, "not_analysed": 0}


@pytest.fixture
def running(tmp_path):
    """A run under way, whose second layer's pictures lie elsewhere yet."""
    run = synthetic_run(tmp_path / "run", status="running", **SMALL)
    shutil.move(run / "tasks" / "features-1-conv", tmp_path / "later")
    return run


def finish(run):
    """What the process that makes the run does at its end."""
    path = run / "run.json"
    info = json.loads(path.read_text(encoding="utf-8")) | {"status": "complete"}
    path.write_text(json.dumps(info), encoding="utf-8")
    RunWriter(run, "plan").write_units()


def steps(monkeypatch, *actions):
    """Let something happen to the run at each pause; more pauses than that are a failure."""
    left = list(actions)
    clock = [0.0]

    def sleep(seconds):
        assert left, "it waits for ever"
        clock[0] += seconds
        left.pop(0)()

    monkeypatch.setattr(watch.time, "sleep", sleep)
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    return left


def nothing():
    pass


def test_it_is_made_again_when_the_run_has_changed_and_not_else(running, monkeypatch):
    shown = []

    def more():
        shutil.move(running.parent / "later", running / "tasks" / "features-1-conv")

    left = steps(monkeypatch, nothing, nothing, more, nothing, lambda: finish(running))
    WatchRequest().run(running, lambda page, run: shown.append((page, run.info.status, len(run.units))))

    assert not left
    page = running / "site" / "index.html"
    whole = len(Run(running).units)
    assert shown == [(page, "running", whole // 2), (page, "running", whole), (page, "complete", whole)]
    assert "under way" not in page.read_text(encoding="utf-8")


def test_a_rendering_takes_at_most_a_tenth_of_the_time(running, monkeypatch):
    pauses = []
    clock = [0.0]

    def render(self, folder):
        clock[0] += 2.0
        return running / "site" / "index.html"

    def sleep(seconds):
        pauses.append(seconds)
        clock[0] += seconds
        (running / "layers.json").touch()
        if len(pauses) == 20:
            finish(running)

    monkeypatch.setattr(ReportRequest, "run", render)
    monkeypatch.setattr(watch.time, "sleep", sleep)
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    count = []
    WatchRequest().run(running, lambda page, run: count.append(clock[0]))
    *between, last = (later - earlier for earlier, later in pairwise(count))
    assert between
    assert min(between) >= 20.0
    assert last < 20.0, "the last one is not waited for"


def test_a_file_that_is_just_being_replaced_is_waited_for(running, monkeypatch):
    atlas = next((running / "tasks").glob("*/*.png"))
    content = atlas.read_bytes()
    atlas.unlink()
    lock = locked_run(running)
    shown = []
    steps(monkeypatch, nothing, lambda: atlas.write_bytes(content), lambda: finish(running))
    WatchRequest().run(running, lambda page, run: shown.append(run.info.status))
    lock.release()
    assert shown == ["running", "complete"]


def test_what_stays_damaged_is_said(running, monkeypatch):
    atlas = next((running / "tasks").glob("*/*.png"))
    atlas.unlink()
    with pytest.raises(RunError, match=re.escape(f"{atlas}: missing or damaged picture")):
        WatchRequest().run(running, lambda page, run: None)
    lock = locked_run(running)
    steps(monkeypatch, *[nothing] * 4)
    with pytest.raises(RunError, match=re.escape(f"{atlas}: missing or damaged picture")):
        WatchRequest().run(running, lambda page, run: None)
    lock.release()


def test_a_place_that_holds_something_else_is_refused_though_the_run_is_written(running, monkeypatch, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine", encoding="utf-8")
    lock = locked_run(running)
    steps(monkeypatch, *[nothing] * 4)
    request = WatchRequest(report=ReportRequest(out=tmp_path / "notes"))
    with pytest.raises(RunError, match="notes"):
        request.run(running, lambda page, run: None)
    lock.release()


def test_pages_and_locks_are_no_part_of_a_runs_state(running):
    before = state_of(running)
    ReportRequest().run(running)
    ReportRequest(single_file=True).run(running)
    (running / "notes.txt").write_text("mine", encoding="utf-8")
    assert state_of(running) == before
    (running / "layers.json").touch()
    assert state_of(running) != before
    assert state_of(running / "nowhere") == frozenset()


@pytest.mark.parametrize("options", [[], ["--single-file"], ["--png", "-o", "elsewhere"]])
def test_the_command_says_what_is_there(running, monkeypatch, capsys, options):
    monkeypatch.chdir(running.parent)
    steps(monkeypatch, nothing, lambda: finish(running))
    assert cli._run(["report", "run", "--watch", *options]) == 0
    page, log = capsys.readouterr()
    name = {"--single-file": "run/report.html", "--png": "elsewhere/index.html"}.get((options or [""])[0])
    assert page == f"{name or 'run/site/index.html'}\n"
    first, idle, last = log.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d \d+ pictures; the run is running", first)
    assert idle == "no process works on this run now; waiting for one, until Ctrl-C"
    assert last.endswith("the run is complete")


def test_ctrl_c_ends_the_watch_with_a_sentence(running, monkeypatch, capfd):
    def interrupt():
        raise KeyboardInterrupt

    steps(monkeypatch, interrupt)
    assert cli._run(["report", str(running), "--watch"]) == 130
    assert capfd.readouterr().err.endswith("no longer watching; the report stays as it is\n")


def test_a_run_that_has_not_begun_is_not_waited_for(tmp_path, capsys):
    assert cli._run(["report", str(tmp_path / "run"), "--watch"]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'run'}: holds no run yet (no run.json); --watch follows one that has begun\n"
    )
