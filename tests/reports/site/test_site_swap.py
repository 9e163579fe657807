"""A site appears whole whoever else writes it: two reports at once, a killed one, a reader in between."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.writer import remove
from filterscope.converters.errors import RunError
from filterscope.reports.page import folder, words
from filterscope.reports.site.site import render, render_single
from support.synthetic_run import synthetic_run

REPORT = "from filterscope.cli import main; main()"


def content(place: Path) -> dict[str, bytes]:
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", REPORT, "report", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_reports_of_one_run_at_the_same_time_wait_for_each_other(tmp_path):
    run = synthetic_run(tmp_path / "run", layers=3, channels=40, images=3, studies=True)
    alone = content(render(Run(run), tmp_path / "alone").parent)
    processes = [started(run) for _ in range(3)]
    answers = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    assert {said for said, _ in answers} == {f"{run / 'site' / 'index.html'}\n"}
    assert all(len(complaint.splitlines()) <= 1 for _, complaint in answers)
    assert content(run / "site") == alone
    assert sorted(path.name for path in run.iterdir() if "site" in path.name) == ["site"]


def test_single_files_at_the_same_time_wait_for_each_other(tmp_path):
    run = synthetic_run(tmp_path / "run", layers=1, channels=6, images=1)
    processes = [started(run, "--single-file") for _ in range(2)]
    answers = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert (run / "report.html").read_bytes().rstrip().endswith(b"</html>")
    assert sorted(path.name for path in run.iterdir() if "report" in path.name) == [".report.lock", "report.html"]


def test_what_a_clash_left_in_a_runs_own_place_is_replaced(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=1))
    (tmp_path / "run" / "site" / "assets").mkdir(parents=True)
    (tmp_path / "run" / "site" / "assets" / "images.webp").write_bytes(b"half")
    assert render(run).is_file()
    assert render(run, tmp_path / "run" / "site").is_file()


def test_half_a_site_elsewhere_is_known_by_its_pages(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=1))
    page = render(run, tmp_path / "out")
    (page.parent / "assets" / "index.json").unlink()
    assert render(run, tmp_path / "out") == page
    assert (page.parent / "assets" / "index.json").is_file()


def test_a_site_lost_between_two_renames_comes_back(tmp_path, monkeypatch):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=1))
    page = render(run)
    before = content(page.parent)
    page.parent.rename(tmp_path / "run" / ".site.old")
    monkeypatch.setattr(words, "facts", lambda layer, within: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        render(run)
    assert content(page.parent) == before


def test_no_moment_has_no_site_where_the_system_can_exchange(tmp_path, monkeypatch):
    one, other = tmp_path / "one", tmp_path / "other"
    for place in (one, other):
        place.mkdir()
        (place / place.name).touch()
    if not folder.exchange(one, other):
        pytest.skip("this system or file system has no exchange")
    assert (one / "other").is_file()
    assert (other / "one").is_file()
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=0))
    render(run)

    def refuse(self: Path, target: Path) -> None:
        raise AssertionError(f"{self} was moved to {target}")

    monkeypatch.setattr(Path, "rename", refuse)
    render(run)


def test_without_exchange_the_old_site_makes_way_and_comes_back_on_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "exchange", lambda one, other: False)
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=1))
    page = render(run)
    before = content(page.parent)
    assert content(render(run).parent) == before
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: self.rmdir() if ".part" in self.name else rename(self, to))
    with pytest.raises(RunError, match="cannot be written"):
        render(run)
    assert content(page.parent) == before


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=0))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    render(run, tmp_path / "link")
    render(run, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "index.html").is_file()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=2, images=0))
    before = render_single(run).read_bytes()

    def fill(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(RunError, match=r"report\.html: cannot be written"):
        render_single(run)
    assert (tmp_path / "run" / "report.html").read_bytes() == before


def test_clean_takes_what_killed_reports_left(tmp_path):
    run = synthetic_run(tmp_path / "run", layers=1, channels=2, images=0)
    render(Run(run))
    for name in (".site.lock", ".report.html.lock", ".report.html.part"):
        (run / name).touch()
    remove(run)
    assert not run.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes of this kind")
def test_a_pipe_is_written_into_and_stays_one(tmp_path):
    """A terminal, likewise: neither is replaced by a file."""
    pipe = tmp_path / "page.html"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(pipe.read_bytes)
        folder.write_whole(pipe, b"the page")
        assert received.result(timeout=20) == b"the page"
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
