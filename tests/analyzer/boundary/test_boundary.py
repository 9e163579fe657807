"""The boundary: what parses a model has limits, sees nothing else, and takes nothing with it when it dies."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from filterscope.analyzer.boundary import client, limits, opened, opening
from filterscope.analyzer.boundary.limits import Limits, parse_memory
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.converters import cache
from filterscope.converters.errors import ModelError, SettingsError, UnsupportedOperatorError
from support.networks import build, normal, opened_here

pytestmark = pytest.mark.skipif(not client.is_available(), reason="this system has no boundary")


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "net" / "model.onnx"
    place.parent.mkdir()
    onnx.save_model(
        build(
            [("Conv", "x w b", "c"), ("Relu", "c", "r"), ("Conv", "r v", "y")],
            {"w": normal(4, 3, 3, 3), "b": normal(4), "v": normal(2, 4, 3, 3)},
        ),
        place,
    )
    return place


def processes_below(process):
    """Numbers of all processes that this one started, and that those started."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    below, waiting = [], [process]
    while waiting:
        one = waiting.pop()
        children = [child for child, parent in parents.items() if parent == one]
        below += children
        waiting += children
    return below


def workers():
    """Numbers of the processes that hold a model, and of their keepers."""
    return processes_below(client.start()._process.pid)


def wait_until_gone(numbers):
    deadline = time.monotonic() + 10
    while set(numbers) & set(workers()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_network_is_the_same_on_both_sides(path):
    crossed, here = open_network(path), opened_here(path)
    assert crossed.model.proto == here.model.proto
    assert crossed.input == here.input
    assert crossed.shapes == here.shapes
    assert [layer.to_json() for layer in crossed.layers] == [layer.to_json() for layer in here.layers]
    for name in ("path", "sha256", "notes", "converted", "normalised", "opset", "producer", "metadata", "layer_names"):
        assert getattr(crossed.model, name) == getattr(here.model, name), name
    assert crossed.prove() == here.prove()


@pytest.mark.parametrize("preprocessing", [None, PRESETS["imagenet"]])
def test_options_cross_as_they_are(preprocessing):
    options = InputOptions("NHWC", 3, (20, 30), preprocessing, "x")
    assert opened.input_options(json.loads(json.dumps(opened.options_to_json(options))), {}) == options


def test_feeds_cross(tmp_path):
    model = build([("Mul", "x s", "m"), ("Conv", "m w", "y")], {"w": normal(4, 3, 3, 3)})
    model.graph.input.append(helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [1, 3, 1, 1]))
    onnx.save_model(model, tmp_path / "m.onnx")
    scale = np.float32([2, 3, 4]).reshape(1, 3, 1, 1)
    network = open_network(tmp_path / "m.onnx", InputOptions(feeds={"s": scale}, image="x"))
    x = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": x, "s": scale})[0]
    np.testing.assert_allclose(network.session(["y"]).run(x)["y"], expected, rtol=1e-5, atol=1e-5)


def test_an_error_keeps_its_kind_and_what_it_carries(tmp_path):
    model = build(
        [("Conv", "x w", "c"), ("Fancy", "c", "f", {"domain": "their.own"}), ("Conv", "f v", "y")],
        {"w": normal(4, 3, 3, 3), "v": normal(2, 4, 3, 3)},
    )
    model.opset_import.append(helper.make_opsetid("their.own", 1))
    onnx.save_model(model, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedOperatorError, match="Fancy") as raised:
        open_network(tmp_path / "m.onnx")
    assert [convolution.out_channels for convolution in raised.value.convolutions] == [4, 2]


# --- what a worker may do

CONFINED = """
import os, socket, subprocess, sys
from pathlib import Path
from filterscope.analyzer.boundary.confinement import confine
model, scratch, elsewhere = map(Path, sys.argv[1:4])
print(*confine([model], [scratch]))
def tried(name, action):
    try:
        action()
    except OSError as error:
        print(name, error.__class__.__name__)
    else:
        print(name, "done")
tried("read model", (model / "a").read_bytes)
tried("write model", lambda: (model / "a").write_bytes(b"x"))
tried("read elsewhere", (elsewhere / "a").read_bytes)
tried("list elsewhere", lambda: os.listdir(elsewhere))
tried("write elsewhere", lambda: (elsewhere / "b").write_bytes(b"x"))
tried("link elsewhere", lambda: (os.symlink(elsewhere / "a", scratch / "l"), (scratch / "l").read_bytes()))
tried("home", lambda: os.listdir(Path.home()))
tried("passwords", Path("/etc/passwd").read_bytes)
tried("write scratch", lambda: (scratch / "a").write_bytes(b"x"))
tried("internet", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
tried("unix socket", lambda: socket.socket(socket.AF_UNIX))
tried("signal", lambda: os.kill(os.getppid(), 0))
code = f"open({str(elsewhere / 'a')!r})"
print("program", subprocess.run([sys.executable, "-c", code], capture_output=True).returncode)
"""


def test_a_confined_process_sees_its_model_and_its_scratch_alone(tmp_path):
    for name in ("model", "scratch", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_bytes(b"a")
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, *(str(tmp_path / name) for name in ("model", "scratch", "elsewhere"))],
        capture_output=True,
        text=True,
        check=True,
    )
    first, *rest = done.stdout.splitlines()
    if not first.startswith("landlock") or "seccomp" not in first:
        pytest.skip(f"this kernel gives only: {first}")
    came = dict(line.rsplit(" ", 1) for line in rest)
    assert {name for name, result in came.items() if result == "done"} == {"read model", "write scratch"} | (
        {"signal"} if int(first.split()[1]) < 6 else set()
    )
    assert came["program"] == "1"
    assert not (tmp_path / "elsewhere" / "b").exists()


def test_a_worker_is_confined_but_for_a_program_that_is_trusted(path, tmp_path):
    worker, _ = opening._worker(opening._Request(path))
    assert worker.confined
    worker.close()
    code = "from torch import nn\ndef net(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    (tmp_path / "code.py").write_text(code)
    worker, _ = opening._worker(opening._Request(f"{tmp_path / 'code.py'}:net"))
    assert not worker.confined
    worker.close()


def test_external_data_is_read_and_another_folder_is_not(tmp_path):
    model = build([("Conv", "x w", "y")], {"w": normal(40, 3, 5, 5)})
    (tmp_path / "net").mkdir()
    onnx.save_model(model, tmp_path / "net" / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    network = open_network(tmp_path / "net" / "m.onnx")
    assert network.model.external == ("m.bin",)
    (tmp_path / "net" / "m.bin").rename(tmp_path / "m.bin")
    (tmp_path / "net" / "m.bin").symlink_to(tmp_path / "m.bin")
    with pytest.raises(ModelError, match=r"m\.bin"):
        open_network(tmp_path / "net" / "m.onnx")


def test_external_data_counts_in_the_limits_on_both_sides(tmp_path):
    """The clock is the user's side's, and of a model with external data the file itself tells nearly nothing."""
    model = build([("Conv", "x w", "y")], {"w": normal(64, 3, 64, 64)}, shape=("N", 3, 96, 96))
    path = tmp_path / "m.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    size = path.stat().st_size + (tmp_path / "weights").stat().st_size
    assert size > 3e6
    worker, _ = opening._worker(opening._Request(path))
    worker.close()
    assert worker._allowance == Limits().for_size(size)
    assert worker._seconds == worker._allowance.wall


def test_a_cached_network_whose_external_data_changed_is_opened_anew(tmp_path):
    model = build([("Conv", "x w", "y")], {"w": normal(40, 3, 5, 5)})
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    before = open_network(tmp_path / "m.onnx")
    content = np.frombuffer((tmp_path / "m.bin").read_bytes(), np.float32)
    (tmp_path / "m.bin").write_bytes((2 * content).tobytes())
    after = open_network(tmp_path / "m.onnx")
    np.testing.assert_array_equal(after.layers[0].weight, 2 * before.layers[0].weight)


# --- how a worker may die


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS])
def test_a_crash_is_one_line(path, number):
    before = set(workers())
    network = open_network(path)
    (worker,) = [process for process in set(workers()) - before if not processes_below(process)]  # not its keeper
    os.kill(worker, number)
    with pytest.raises(ModelError, match=rf"died of {number.name}, while .*is not used") as raised:
        network.prove()
    assert "\n" not in str(raised.value)
    assert open_network(path).prove()  # another is not hurt


def test_memory_that_it_may_not_use_is_one_line(path):
    big = build([("Conv", "x w", "y")], {"w": normal(4, 3, 3, 3)}, shape=(1, 3, 3000, 3000))
    onnx.save_model(big, path)
    with pytest.raises(ModelError, match=r"needs more than the 0\.0 GiB .* `limit_memory=\d+G`"):
        open_network(path, limits=Limits(memory=32 << 20)).prove()


def test_time_that_it_may_not_take_is_one_line(path):
    wide = normal(256, 256, 7, 7)
    heavy = build(
        [("Conv", "x w", "a"), *(("Conv", f"{a} v", b) for a, b in zip("abcdefg", "bcdefgh", strict=True))],
        {"w": normal(256, 3, 7, 7), "v": wide},
        shape=(1, 3, 512, 512),
    )
    onnx.save_model(heavy, path)
    with pytest.raises(ModelError, match=r"stopped after \d+ s of processor time, while .* `limit_seconds=\d+`"):
        open_network(path, limits=Limits(seconds=0.5)).prove()


@pytest.mark.parametrize(("memory", "seconds"), [(0, None), (-1, None), (None, 0), (None, -1), (None, float("nan"))])
def test_a_limit_that_is_none_is_refused(memory, seconds):
    with pytest.raises(SettingsError, match="above 0"):
        Limits(memory, seconds)


@pytest.mark.parametrize(("memory", "seconds"), [(1 << 51, None), (10**40, None), (None, 1e300), (None, float("inf"))])
def test_a_limit_that_no_system_counts_is_refused(memory, seconds):
    with pytest.raises(SettingsError, match="can be set"):
        Limits(memory, seconds)


def test_the_largest_limits_are_taken(path):
    network = open_network(path, limits=Limits(limits.MOST_MEMORY, limits.MOST_SECONDS))
    assert network.prove().nodes.error < 1e-4


@pytest.mark.parametrize(
    ("text", "expected"), [("8G", 8 << 30), ("900M", 900 << 20), ("6.5GiB", 13 << 29), ("1 tb", 1 << 40)]
)
def test_memory_is_read_as_it_is_written(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "8", "G", "-8G", "8X", "8GG", "1e9G", "٣G"])
def test_another_text_is_no_memory(text):
    with pytest.raises(SettingsError, match="such as 8G"):
        parse_memory(text)


def test_limits_grow_with_the_file():
    small, large = Limits().for_size(1000), Limits().for_size(500_000_000)
    assert small.memory < 2 << 30
    assert small.seconds < 10
    assert large.memory > 11.5e9 or large.memory >= small.memory  # VGG16 converted by tf2onnx
    assert large.seconds > 600


# --- what is left


def test_a_proven_network_leaves_no_process_and_no_folder(path):
    before = set(workers())
    network = open_network(path)
    scratch = network.reopen.__closure__  # alive while it waits for the proof
    assert scratch
    own = set(workers()) - before
    assert own
    network.prove()
    wait_until_gone(own)


def test_what_a_worker_used_is_told_at_its_end(path):
    worker, _ = opening._worker(opening._Request(path))
    end = worker.end()
    assert 0 < end.seconds < 10
    assert 50 << 20 < end.peak < 2 << 30


def test_a_network_that_is_forgotten_leaves_no_process(path):
    before = set(workers())
    network = open_network(path)
    own = set(workers()) - before
    del network
    wait_until_gone(own)


def test_a_proof_can_be_made_again_with_another_image(path):
    network = open_network(path)
    first = network.prove()
    assert network.prove(np.zeros((16, 16, 3), np.uint8)).nodes.error < 1e-4
    assert network.prove() == first


def test_a_process_that_is_killed_leaves_none_behind(path):
    code = textwrap.dedent(
        f"""
        import sys, time
        from filterscope.analyzer.boundary.opening import open_network
        from filterscope.analyzer.boundary import client
        network = open_network({str(path)!r})
        print(client.start()._process.pid, flush=True)
        time.sleep(60)
        """
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        server = int(process.stdout.readline())
        left = [server, *processes_below(server)]
        assert len(left) >= 3
        process.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{number}").exists() for number in left):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.mark.parametrize("victim", ["keeper", "worker"])
def test_what_is_killed_from_outside_is_one_line_that_does_not_blame_the_file(path, victim):
    before = set(workers())
    network = open_network(path)
    own = set(workers()) - before
    (worker,) = [process for process in own if not processes_below(process)]
    (keeper,) = own - {worker}
    os.kill(worker, signal.SIGSTOP)  # no answer before the end
    os.kill({"keeper": keeper, "worker": worker}[victim], signal.SIGKILL)
    with pytest.raises(ModelError, match=r"model\.onnx: the process that opens.* from outside.* again") as caught:
        network.prove()
    assert "damaged" not in str(caught.value)
    wait_until_gone(own)


def test_a_server_that_is_killed_before_it_answers_is_one_line(path):
    server = client.start()._process
    os.kill(server.pid, signal.SIGSTOP)  # it takes no connection
    killer = threading.Timer(0.3, server.kill)
    killer.start()
    with pytest.raises(
        ModelError, match=r"model\.onnx: the process that opens models died, while starting.*; try again"
    ):
        opening._worker(opening._Request(path))
    assert len(open_network(path).layers) == 2


def test_a_process_that_the_users_forks_ends_no_worker(path):
    code = textwrap.dedent(
        f"""
        import os, sys
        from filterscope.analyzer.boundary.opening import open_network
        network = open_network({str(path)!r})
        child = os.fork()
        if child == 0:
            if sys.argv[1] == "proves":
                network.prove()
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        os.environ["XDG_CACHE_HOME"] = os.environ["XDG_CACHE_HOME"] + "/other"
        network.prove()
        """
    )
    for what in ("ends", "proves"):
        cached = {"XDG_CACHE_HOME": str(path.parent / what)}
        done = subprocess.run(
            [sys.executable, "-c", code, what], env=os.environ | cached, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_was_removed_is_told(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SettingsError, match="has been removed; change to another"):
        open_network(path)


def test_an_opened_network_is_kept_and_a_changed_file_is_not_taken_for_it(path, monkeypatch):
    open_network(path)
    monkeypatch.setattr(opening, "_worker", lambda *inputs: pytest.fail("a worker was started"))
    again = open_network(path)
    assert [layer.name for layer in again.layers] == [layer.name for layer in opened_here(path).layers]
    moved = path.with_name("other.onnx")
    path.rename(moved)
    assert open_network(moved).model.path == moved
    model = onnx.load(moved)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(normal(4, 3, 3, 3) * 2, "w"))
    onnx.save_model(model, moved)
    with pytest.raises(pytest.fail.Exception, match="was started"):
        open_network(moved)


@pytest.mark.parametrize("content", ["", "{", "null", '{"external": []}', '{"sha256": 1}'])
def test_a_damaged_entry_of_the_cache_is_opened_anew(path, content):
    expected = [layer.to_json() for layer in open_network(path).layers]
    entries = list(cache._opened().iterdir())
    assert len(entries) == 1
    (entries[0] / opened.FACTS).write_text(content)
    assert [layer.to_json() for layer in open_network(path).layers] == expected


def test_the_cache_forgets_what_was_not_used_for_longest(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MOST_KEPT", 2500)
    (tmp_path / "normal.onnx").write_bytes(bytes(1000))
    for index, name in enumerate("abc"):
        cache.save_folder(name, [tmp_path / "normal.onnx"])
        os.utime(cache._opened() / name, (index, index))
    cache.save_folder("d", [tmp_path / "normal.onnx"])
    assert {folder.name for folder in cache._opened().iterdir()} == {"c", "d"}


def test_a_server_that_dies_before_it_forks_is_one_line(path, tmp_path, monkeypatch):
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nsleep 1\necho no libraries >&2\nexit 3\n")
    dying.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "executable", str(dying))
    client.stop()
    try:
        with pytest.raises(ModelError, match="the process that opens models died, while starting: no libraries"):
            open_network(path, InputOptions())
    finally:
        client.stop()


def test_the_folder_worked_in_is_not_the_servers(tmp_path, monkeypatch):
    """Python puts it on the path by itself; a module of the user's there is not taken for a library's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    assert str(tmp_path) not in client._search_path()
    assert str(Path(client.__file__).parents[3]) in client._search_path()


@pytest.mark.parametrize("value", ["NCHW", (30, 30), 4, 0.5, None])
def test_an_error_about_a_setting_keeps_field_and_value_across_the_boundary(value):
    error = SettingsError("`layout`: does not fit", field="layout", value=value)
    again = opened.error_from_json(json.loads(json.dumps(opened.error_to_json(error, ()))))
    assert (type(again), str(again), again.field, again.value) == (SettingsError, str(error), "layout", value)


def test_an_error_of_a_kind_that_is_not_ours_is_one_of_the_model():
    for kind in ("KeyboardInterrupt", "setting", "Convolution"):
        error = opened.error_from_json({"kind": kind, "text": "m.onnx: so"})
        assert type(error) is ModelError
        assert str(error) == "m.onnx: so"


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (250, "signal 250")])
def test_a_signal_has_a_name_or_its_number(number, name):
    assert client._signal(number) == name
