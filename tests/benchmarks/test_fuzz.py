"""The fuzzer: its number alone makes a file, and files of every kind go through the boundary without a finding."""

import json
import subprocess
import sys

import numpy as np
import pytest

from filterscope.analyzer.boundary import client
from support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="an installed copy has no benchmarks")


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return __import__("fuzz")


@pytest.fixture
def files(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return __import__("fuzz_files")


def first_of_each(files):
    """The first number that makes a file of each kind."""
    import random

    kinds, shares = list(files.KINDS), [share for share, _ in files.KINDS.values()]
    numbers = {}
    for number in range(1000):
        numbers.setdefault(random.Random(number).choices(kinds, shares)[0], number)
    return numbers


def content_of(folder):
    """Bytes of each file, and where each link leads."""
    return {
        path.name: str(path.readlink()) if path.is_symlink() else path.read_bytes() for path in sorted(folder.iterdir())
    }


def test_the_same_number_makes_the_same_file_in_another_process(files, tmp_path):
    numbers = first_of_each(files)
    assert numbers.keys() == files.KINDS.keys()
    script = (
        "import sys; from pathlib import Path; from fuzz_files import make_file\n"
        "for number in sys.argv[2:]:\n"
        "    place = Path(sys.argv[1]) / number / 'model'; place.mkdir(parents=True)\n"
        "    (place.parent / 'secret').write_bytes(bytes(4096)); make_file(int(number), place)\n"
    )
    for run in ("one", "two"):
        arguments = [str(tmp_path / run), *map(str, numbers.values())]
        subprocess.run([sys.executable, "-c", script, *arguments], cwd=BENCHMARKS, check=True)
    for kind, number in numbers.items():
        one, two = (content_of(tmp_path / run / str(number) / "model") for run in ("one", "two"))
        assert one == two, kind


@pytest.mark.skipif(not client.is_available(), reason="this system has no boundary")
def test_files_of_all_kinds_make_no_finding(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "fuzz.py"), "--part", "1", "21", "1", "--keep", str(tmp_path / "keep")]
    subprocess.run([*command, "--scratch", str(tmp_path / "scratch")], check=True, timeout=300)
    results = [json.loads(line) for line in (tmp_path / "scratch" / "results.jsonl").read_text().splitlines()]
    assert [result["number"] for result in results] == list(range(1, 21))
    assert len({result["kind"] for result in results}) >= 5
    assert {result["code"] for result in results} == {0, 2}
    assert not any(result["faults"] for result in results), results
    assert not (tmp_path / "keep").exists()
    opened = [result for result in results if result["kind"] == "ONNX" and result["code"] == 0]
    assert all(result["seconds"] > 0 and result["peak"] > 1 << 20 for result in opened)
    assert {path.name for path in (tmp_path / "scratch").iterdir()} == {"stopper", "results.jsonl"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"code": 1}, "exit 1"),
        ({"code": -11}, "signal 11"),
        ({"code": 130}, "exit 130"),
        ({"seconds": 10.5}, "time"),
        ({"user's seconds": 10.5}, "time"),
        ({"peak": (2 << 30) + 1}, "memory"),
        ({"user's peak": (2 << 30) + 1}, "memory"),
        ({"said": "error: x.onnx: cannot be opened: KeyError: 'y', while …, please report this"}, "exception KeyError"),
        ({"said": "error: the process that opens models died: "}, "signal of the server"),
    ],
)
def test_what_must_not_happen_is_a_finding(fuzz, change, fault):
    result = fuzz.empty(0, "ONNX", 2)
    assert fuzz._faults(result, False) == []
    assert fuzz._faults(result, True) == ["canary"]
    assert fuzz._faults(result | change, False) == [fault]


def test_a_confined_process_that_opens_a_canary_is_seen(fuzz, tmp_path):
    traces, scratch = tmp_path / "traces", tmp_path / "watched"
    traces.mkdir()
    (traces / "t.10").write_text(
        'openat(AT_FDCWD</x>, "/home/user/notes", O_RDONLY) = 3</home/user/notes>\nclone(child_stack=NULL) = 11\n'
    )
    confined = [
        'openat(AT_FDCWD</x>, "/etc/hostname", O_RDONLY) = 3</etc/hostname>',
        "landlock_restrict_self(5, 0) = 0",
        f'openat(AT_FDCWD</x>, "m", O_RDONLY) = 3<{scratch}/7/model/m.onnx>',
        'openat(AT_FDCWD</x>, "/etc/passwd", O_RDONLY) = -1 EACCES (Permission denied)',
        "clone3({flags=CLONE_VM}, 88) = 12",
    ]
    (traces / "t.11").write_text("\n".join(confined))
    (traces / "t.12").write_text(
        f'openat(AT_FDCWD</x>, "../secret", O_RDONLY) = 3<{scratch}/7/secret>\n'
        f'openat(AT_FDCWD</x>, "n", O_RDONLY) = 3<{scratch}/8/model/n.onnx>\n'
        'openat(AT_FDCWD</x>, "/dev/null", O_RDWR) = 3</dev/null<char 1:3>>\n'
    )
    found = fuzz.judge_traces(traces, scratch)
    outside = [f"{scratch}/7/secret", f"{scratch}/8/model/n.onnx"]
    assert found == {"confined": 2, "opens": 4, "outside": outside, "canaries": 1}


def test_weights_that_are_whole_are_read(fuzz, tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": np.ones(3, np.float32)}, tmp_path / "w.safetensors")
    fuzz._read_weights(tmp_path / "w.safetensors")
