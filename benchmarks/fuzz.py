"""Thousands of damaged and hostile files, opened as the command opens them: across the boundary.

A process plays the user's: it runs `filterscope inspect FILE` in itself for file after file, so that the boundary's
server starts once and forks a worker a file. Pictures, arrays and weights are read in a child of it, under a limit of
memory. A file is made by its number (fuzz_files), so that any can be made again:

    python benchmarks/fuzz.py --files 10000 --workers 2
    python benchmarks/fuzz.py --make 1234 FOLDER
    python benchmarks/fuzz.py --watch 300      see by strace which files confined workers open

What must come of each: exit code 0 or 2. Another code, a signal to the user's process, an exception that nobody
expected, over 10 s of processor time, over 2 GiB on either side, or a canary touched is a finding; its file is kept.
Writes a table into docs/security.md, and docs/fuzz.json.

Of the files that another framework converts, one in 25 goes on to that framework, which takes seconds to start; for the
others its process ends at once, after all that is checked before it. Where it starts, 60 s are allowed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fuzz_files import CONVERTED, DECODED, KINDS, make_file

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"
SECONDS, BYTES = 10.0, 2 << 30  # a file that takes more is a finding
FRAMEWORK_SECONDS = 60.0  # where another framework starts, and perhaps exports in several ways
ONE_IN = 25  # of the files that another framework converts
ADDRESS_SPACE, CPU_SECONDS = 16 << 30, 20  # where a child that decodes is ended
WALL_SECONDS = 300  # where the user's process is ended
PART = 2000  # files of one process
UNEXPECTED = re.compile(r"please report|This is our fault")
STOPPED = re.compile(r"opening it was stopped|opening it needs more than")  # by limits
CRASHED = re.compile(r"the process that opens it (died of|ended with)")
LOST = "the process that opens models died"  # the server, or a keeper


# --- one file


class User:
    """The user's process.

    Args:
        folder: scratch.
        keep: where files with findings go.
    """

    def __init__(self, folder: Path, keep: Path) -> None:
        from filterscope.analyzer.boundary import client

        self._folder = folder
        self._keep = keep
        self._ends: list[Any] = []  # of workers; None where nobody can tell
        self._stopper = folder / "stopper"
        self._stopper.mkdir(parents=True, exist_ok=True)
        stop = "import os\nif os.environ.get('FUZZ_STOPS'):\n    os._exit(3)\n"
        (self._stopper / "sitecustomize.py").write_text(stop)
        sys.path.append(str(self._stopper))  # a conversion is confined, and may read what its server's path holds
        self._record_ends()
        client.start()  # before FUZZ_STOPS is set for a file, which would end it too

    def try_file(self, number: int) -> dict[str, Any]:
        """Open one file; what came of it."""
        home = self._folder / str(number)
        model, own = home / "model", home / "own"
        model.mkdir(parents=True)
        own.mkdir()
        secret = home / "secret"
        secret.write_bytes(bytes(4096))
        kind, path = make_file(number, model)
        before = _stamp(secret)
        began = set(home.iterdir())
        self._settle(own, kind in CONVERTED and number % ONE_IN != 0)
        self._ends.clear()
        signal.alarm(WALL_SECONDS)
        result = self._decode(kind, path) if kind in DECODED else self._inspect(path)
        signal.alarm(0)
        converted = kind in CONVERTED and number % ONE_IN == 0
        touched = _stamp(secret) != before or set(home.iterdir()) != began
        result = {"number": number, "kind": kind, "converted": converted} | result
        result["faults"] = _faults(result, touched)
        if result["faults"]:
            self._keep.mkdir(parents=True, exist_ok=True)
            shutil.copytree(model, self._keep / str(number), symlinks=True, dirs_exist_ok=True)
            for trace in own.glob("filterscope-*.txt"):
                shutil.copy(trace, self._keep / str(number) / "trace.txt")
        shutil.rmtree(home, ignore_errors=True)
        return result

    def _settle(self, own: Path, stops: bool) -> None:
        """Folders of the user's own; whether another framework's process ends at its start."""
        for name in ("TMPDIR", "XDG_CACHE_HOME", "HOME"):
            os.environ[name] = str(own)
        tempfile.tempdir = None
        if stops:
            os.environ |= {"FUZZ_STOPS": "1", "PYTHONPATH": str(self._stopper)}
        else:
            os.environ.pop("FUZZ_STOPS", None)
            os.environ["PYTHONPATH"] = str(ROOT)

    def _record_ends(self) -> None:
        """Have every worker tell what it used when it is closed."""
        from filterscope.analyzer.boundary.client import Worker

        close, ends = Worker.close, self._ends
        closing: set[int] = set()

        def end(worker: Worker) -> None:
            if id(worker) in closing:
                close(worker)
                return
            closing.add(id(worker))
            died = worker.ended is not None
            ends.append((worker.end(), died))
            closing.discard(id(worker))

        Worker.close = end  # type: ignore[method-assign]

    def _inspect(self, path: Path) -> dict[str, Any]:
        """The command itself."""
        from filterscope import cli

        _forget_peak()
        began = time.process_time()
        printed, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            code = cli._run(["inspect", str(path)])
        ends = [end for end, _ in self._ends if end is not None]
        return {
            "code": code,
            "said": errors.getvalue()[-2000:],
            "seconds": round(sum(end.seconds for end in ends), 2),
            "peak": max((end.peak for end in ends), default=0),
            "user's seconds": round(time.process_time() - began, 2),
            "user's peak": _peak(),
        }

    def _decode(self, kind: str, path: Path) -> dict[str, Any]:
        """A child reads what is decoded in the user's process, or beside it."""
        said = path.parent.parent / "own" / "said.txt"
        child = os.fork()
        if child == 0:
            _decode_and_end(kind, path, said)
        _, status, usage = os.wait4(child, 0)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "said": said.read_text()[-2000:] if said.exists() else "",
            "seconds": 0.0,
            "peak": 0,
            "user's seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "user's peak": usage.ru_maxrss << 10,
        }


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: the file itself is not opened."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _faults(result: dict[str, Any], touched: bool) -> list[str]:
    code, said = result["code"], result["said"]
    limit = FRAMEWORK_SECONDS if result["converted"] else SECONDS
    faults = []
    if UNEXPECTED.search(said):
        faults.append("exception " + (re.search(r"(?:opened|failed): (\w+)", said) or ["", "?"])[1])
    elif code not in (0, 2):
        faults.append(f"exit {code}" if code >= 0 else f"signal {-code}")
    if LOST in said:
        faults.append("signal of the server")
    if max(result["seconds"], result["user's seconds"]) > limit:
        faults.append("time")
    if max(result["peak"], result["user's peak"]) > BYTES:
        faults.append("memory")
    if touched:
        faults.append("canary")
    return faults


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Bytes of memory that this process has held since `_forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0


def _decode_and_end(kind: str, path: Path, said: Path) -> None:
    """Read a picture, an array or weights. Never returns."""
    code = 1
    try:
        signal.alarm(WALL_SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from filterscope.converters.errors import FilterscopeError
        from filterscope.converters.sources.scripts.pytorch_export import RefusedError
        from filterscope.exit_codes import fault_of_the_system

        try:
            (_read_weights if kind.startswith("weights") else _read_pictures)(path)
            code = 0
        except (FilterscopeError, RefusedError) as error:
            code = 2
            said.write_text(f"error: {error}")
        except MemoryError:
            code = 2
        except OSError as error:
            if not fault_of_the_system(error):
                raise
            code = 2
    except Exception as error:
        import traceback

        said.write_text(f"This is our fault, failed: {type(error).__name__}: {error}")
        (said.parent / "filterscope-trace.txt").write_text("".join(traceback.format_exception(error)))
    finally:
        os._exit(code)


def _read_weights(path: Path) -> None:
    """Weights of a factory's network, as the conversion's process reads them."""
    from filterscope.converters.sources.scripts import pytorch_export

    content = pytorch_export._tensors(str(path))
    for _, tensors in pytorch_export._state_dicts(content):
        for tensor in tensors.values():
            tensor.sum()


def _read_pictures(path: Path) -> None:
    """The first pictures of a file, at a network's size."""
    from filterscope.analyzer.data.dataset import open_dataset, read_batch
    from filterscope.analyzer.data.images import find, load
    from filterscope.analyzer.data.published_formats import reader_of
    from filterscope.analyzer.network.inputs import InputSpec
    from filterscope.analyzer.network.preprocessing import PRESETS

    spec = InputSpec("x", "NCHW", 3, 32, 32, PRESETS["unit"], "", True, True)
    if reader_of(path) is None:
        list(load(find([path])[:4], spec))
    else:
        data = open_dataset([path])
        read_batch(data, range(min(4, len(data))), spec, "auto")


def work(numbers: range, folder: Path, keep: Path, results: Path) -> None:
    """Try these files one after another; a line of JSON each."""
    import_all()
    user = User(folder, keep)
    with results.open("a") as lines:
        for number in numbers:
            lines.write(json.dumps(user.try_file(number)) + "\n")
            lines.flush()


def import_all() -> None:
    """Import what opening takes, once, from this checkout."""
    sys.path.insert(0, str(ROOT))  # whatever version is installed
    import torch

    import filterscope.cli
    from filterscope.analyzer.data import dataset
    from filterscope.analyzer.network import network
    from filterscope.converters import parity
    from filterscope.converters.sources.scripts import pytorch_export

    _ = dataset, network, parity, pytorch_export, filterscope.cli

    torch.set_num_threads(1)  # a fork loses threads


# --- the whole


def attend(start: int, end: int, step: int, folder: Path, keep: Path) -> list[dict[str, Any]]:
    """Have processes try start, start + step, …; one that dies is a finding, and another goes on behind its file."""
    results: list[dict[str, Any]] = []
    lines = folder / f"{start}.jsonl"
    number = start
    while number < end:
        lines.unlink(missing_ok=True)
        last = min(end, number + PART * step)
        part = ["--part", str(number), str(last), str(step)]
        process = subprocess.run(
            [sys.executable, __file__, "--keep", str(keep), "--scratch", str(folder / str(start)), *part],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        )
        new = [json.loads(line) for line in _lines_of(folder / str(start) / "results.jsonl", number)]
        results += new
        number += len(new) * step
        if process.returncode and number < last:
            kind, _ = make_file(number, Path(tempfile.mkdtemp(dir=folder)))
            code = process.returncode
            fault = "time" if code == -signal.SIGALRM else f"signal {-code}" if code < 0 else f"exit {code}"
            results.append(empty(number, kind, code) | {"faults": [fault]})
            number += step
    return results


def _lines_of(path: Path, first: int) -> list[str]:
    """The lines of results from this number on."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if json.loads(line)["number"] >= first]


def empty(number: int, kind: str, code: int) -> dict[str, Any]:
    """Result of a file of which only the code is known."""
    numbers = dict.fromkeys(("seconds", "peak", "user's seconds", "user's peak"), 0)
    return {"number": number, "kind": kind, "converted": False, "code": code, "said": "", **numbers}


def summary(results: list[dict[str, Any]], hours: float, first: int) -> dict[str, Any]:
    """Counts a kind, and the worst of all."""
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    rows = [_row(kind, [result for result in results if kind in ("all", result["kind"])]) for kind in (*KINDS, "all")]
    return {"first": first, "files": len(results), "hours": round(hours, 2), "machine": machine, "kinds": rows}


def _row(kind: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    faults = Counter(fault.split(" ")[0] for result in results for fault in result["faults"])
    highest = {
        key: max((result[key] for result in results), default=0)
        for key in ("seconds", "peak", "user's seconds", "user's peak")
    }
    return {
        "kind": kind,
        "files": len(results),
        "converted": sum(result["converted"] for result in results),
        "opened": sum(result["code"] == 0 for result in results),
        "refused": sum(result["code"] == 2 for result in results),
        "stopped by a limit": sum(bool(STOPPED.search(result["said"])) for result in results),
        "crashes held in the worker": sum(bool(CRASHED.search(result["said"])) for result in results),
        "unexpected exceptions": faults["exception"],
        "other exits": faults["exit"],
        "signals": faults["signal"],
        "over 10 s": faults["time"],
        "over 2 GiB": faults["memory"],
        "canaries": faults["canary"],
        "most seconds, worker": highest["seconds"],
        "most seconds, user": highest["user's seconds"],
        "most MiB, worker": highest["peak"] >> 20,
        "most MiB, user": highest["user's peak"] >> 20,
    }


def markdown(found: dict[str, Any]) -> str:
    """The table of docs/security.md."""
    rows = found["kinds"]
    lines = [
        f"{found['files']:,} files in {found['hours']} hours ({found['machine']}), numbers from {found['first']}.",
        "",
        "| | " + " | ".join(row["kind"] for row in rows) + " |",
        "|---|" + "---:|" * len(rows),
        *("| " + " | ".join([name, *(str(row[name]) for row in rows)]) + " |" for name in list(rows[0])[1:]),
    ]
    if "watched" in found:
        watched = found["watched"]
        lines += [
            "",
            f"{watched['files']} further files were watched by strace: {watched['confined']} confined processes opened "
            f"{watched['opens']:,} files, of them {len(watched['outside'])} outside the model's folder, their own, "
            f"Python's and the system's; a canary was read {watched['canaries']} times.",
        ]
    return "\n".join(lines)


def write_page(found: dict[str, Any]) -> None:
    """Put the table between the page's marks."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{markdown(found)}\n{END}{rest.split(END)[1]}")
    PAGE.with_name("fuzz.json").write_text(json.dumps(found, indent=1) + "\n")


# --- which files confined processes open


def watch(files: int, first: int, folder: Path, keep: Path) -> dict[str, Any]:
    """Try files under strace.

    Returns:
        "files", "confined" (processes), "opens" (files that those opened), "outside" (those that they should not),
        "canaries" (how often anybody read one).
    """
    if shutil.which("strace") is None:
        sys.exit("--watch needs strace")
    traces, scratch = folder / "traces", folder / "watched"
    traces.mkdir()
    calls = "trace=%file,clone,clone3,fork,vfork,landlock_restrict_self"
    strace = ["strace", "-ff", "-y", "-s", "4096", "-e", calls, "-o", str(traces / "t")]
    part = ["--part", str(first), str(first + files), "1", "--keep", str(keep), "--scratch", str(scratch)]
    subprocess.run(
        [*strace, sys.executable, __file__, *part], cwd=ROOT, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return {"files": files} | judge_traces(traces, scratch)


OPENED = re.compile(r"^(?:open|openat|openat2|creat)\(.* = \d+<(?P<path>.*)>$")
RUN = re.compile(r'^execve\("(?P<path>[^"]*)".* = 0$')
BORN = re.compile(r"^(?:clone|clone3|fork|vfork)\(.* = (?P<child>\d+)$")
CONFINED = re.compile(r"^landlock_restrict_self\(.* = 0$")


def judge_traces(traces: Path, scratch: Path) -> dict[str, Any]:
    """What confined processes opened, from strace's files, one a process: traces/t.PID."""
    outside: set[str] = set()
    opens = canaries = confined = 0
    texts = {int(path.suffix[1:]): path.read_text(errors="replace").splitlines() for path in traces.glob("t.*")}
    born = {int(match["child"]) for lines in texts.values() for line in lines if (match := BORN.match(line))}
    waiting = [(process, "") for process in texts if process not in born]  # and whose worker it is; "": unconfined
    while waiting:
        process, home = waiting.pop()
        is_confined = bool(home)
        for line in texts.get(process, ()):
            if CONFINED.match(line):
                is_confined = True
            elif match := BORN.match(line):
                waiting.append((int(match["child"]), home or ("?" if is_confined else "")))
            elif match := OPENED.match(line) or RUN.match(line):
                path = re.sub(r"(<char [\d:]+>|<block [\d:]+>| \(deleted\))$", "", match["path"])
                canaries += path.endswith("/secret") and "O_WRONLY" not in line
                if is_confined and "O_PATH" not in line:
                    opens += 1
                    place = re.match(rf"{re.escape(str(scratch))}/(\d+)/(model|own)(/|$)", path)
                    if place and home in ("", "?", place[1]):
                        home = place[1]
                    elif not _is_of_the_system(path, scratch):
                        outside.add(path)
        confined += is_confined
    return {"confined": confined, "opens": opens, "outside": sorted(outside), "canaries": canaries}


def _is_of_the_system(path: str, scratch: Path) -> bool:
    """Whether SECURITY.md names a place: the system's libraries, Python's, the null device."""
    from filterscope.analyzer.boundary.confinement import SYSTEM, _python

    places = [*map(Path, SYSTEM), *_python(), Path("/dev/null"), ROOT, scratch / "stopper"]
    return any(Path(path).is_relative_to(place) or Path(path).is_relative_to(place.resolve()) for place in places)


def main() -> None:
    """Options; then workers, each a part of the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="how many; 500 for a nightly run")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--watch", type=int, default=0, metavar="N", help="try N files under strace, after the others")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for files with findings")
    parser.add_argument("--no-page", action="store_true", help="leave docs/security.md alone")
    parser.add_argument("--make", nargs=2, metavar=("NUMBER", "FOLDER"), help="write one file again and end")
    parser.add_argument("--part", nargs=3, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        place = Path(options.make[1]) / "model"
        place.mkdir(parents=True)
        (place.parent / "secret").write_bytes(bytes(4096))
        print(make_file(int(options.make[0]), place)[1])
    elif options.part:
        options.scratch.mkdir(parents=True, exist_ok=True)
        work(range(*options.part), options.scratch, options.keep, options.scratch / "results.jsonl")
    else:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            sys.exit(run(options, Path(folder).resolve()))


def run(options: argparse.Namespace, folder: Path) -> int:
    """Try all files; print and write what came of them.

    Returns:
        0 where there is no finding.
    """
    sys.path.insert(0, str(ROOT))
    keep, end, step = options.keep.resolve(), options.first + options.files, options.workers
    began = time.monotonic()
    parts: dict[int, list[dict[str, Any]]] = {}

    def follow(start: int) -> None:
        parts[start] = attend(start, end, step, folder, keep)

    threads = [threading.Thread(target=follow, args=(options.first + index,)) for index in range(step)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results = list(itertools.chain(*parts.values()))
    found = summary(results, (time.monotonic() - began) / 3600, options.first)
    if options.watch:
        found["watched"] = watch(options.watch, end, folder, keep)
    for result in results:
        if result["faults"]:
            print(json.dumps(result))
    print(markdown(found))
    if not options.no_page:
        write_page(found)
    watched = found.get("watched", {"outside": [], "canaries": 0})
    findings = any(result["faults"] for result in results) or watched["outside"] or watched["canaries"]
    return int(bool(findings) or len(results) != options.files)


if __name__ == "__main__":
    main()
