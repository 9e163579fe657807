"""Devices: which are chosen, how threads share them, and that pictures do not tell on which of them they were made.

No GPU is needed: torch is told of GPUs that are not there, and a processor goes by two names.
"""

import threading

import onnx
import onnxruntime
import pytest
import torch

from filterscope.analyzer.analysis import Analysis
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.compute.devices import Devices, choose_device, choose_devices, keep_to, on
from filterscope.analyzer.execution import executors
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.execution.tasks import Workshop
from filterscope.analyzer.maximize.presets import PRESETS, QUALITIES, Recipe
from filterscope.converters.errors import SettingsError
from filterscope.converters.runtime import providers
from support.networks import build, normal

GPUS = [torch.device("cuda", index) for index in range(3)]
CPU = torch.device("cpu")
TWINS = [torch.device("cpu", 0), torch.device("cpu", 1)]  # torch computes alike on both, and only their names differ


@pytest.fixture
def machine(monkeypatch):
    """Makes torch tell of GPUs, by name."""

    def has(*names):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(names))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[device.index])

    return has


@pytest.fixture
def two_layers(tmp_path):
    nodes = [("Conv", "x a", "p", {"pads": [1, 1, 1, 1]}), ("Relu", "p", "q"), ("Conv", "q b", "y")]
    weights = {"a": normal(6, 3, 3, 3), "b": normal(6, 6, 3, 3)}
    onnx.save(build(nodes, weights, shape=("N", 3, 12, 12)), tmp_path / "m.onnx")
    return open_network(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_all_gpus_of_the_first_ones_kind_are_taken(machine, name):
    machine("big", "small", "big")
    assert choose_devices(name).all == (GPUS[0], GPUS[2])
    assert choose_device(name) == GPUS[0]


def test_without_a_gpu_the_processor_computes(machine):
    machine()
    assert choose_devices("auto").all == (CPU,)


def test_a_device_that_is_named_computes_alone(machine):
    machine("big", "big")
    assert choose_devices("cpu").all == (CPU,)


@pytest.mark.parametrize("name", ["toaster", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(SettingsError, match=f"`device={name}`: not to be had on this machine; give auto or cpu"):
        choose_devices(name)


def test_threads_take_devices_in_turn():
    devices = Devices(GPUS)
    assert [devices.take() for _ in range(7)] == [*GPUS, *GPUS, GPUS[0]]


@pytest.mark.parametrize(("devices", "processors", "workers"), [(GPUS, 8, 3), (GPUS[:1], 8, 1), ([CPU], 8, 8)])
def test_as_many_tasks_run_side_by_side_as_gpus_or_else_processors(monkeypatch, devices, processors, workers):
    monkeypatch.setattr("filterscope.analyzer.compute.devices.processors", lambda: processors)
    assert Devices(devices).workers == workers


def test_the_record_names_every_device(machine):
    machine("big", "big", "small")
    told = Devices(GPUS).to_json()
    assert (told["kind"], told["name"]) == ("cuda:0, cuda:1, cuda:2", "2 × big, small")


def test_the_gpu_that_a_thread_keeps_to_becomes_its_current_one(monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    keep_to(GPUS[1])
    assert current == [GPUS[1]]
    assert on(GPUS[2]).idx == 2
    with on(CPU):  # which is none
        assert current == [GPUS[1]]


def test_onnx_runtime_measures_on_the_threads_gpu(machine, monkeypatch):
    machine("big", "big")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    name, options = providers()[0]
    assert (name, options["device_id"]) == ("CUDAExecutionProvider", "1")


def test_a_threads_workshop_has_one_device(two_layers, monkeypatch):
    kept = []
    monkeypatch.setattr("filterscope.analyzer.compute.devices.keep_to", kept.append)
    shop = Workshop(two_layers, Recipe(PRESETS["filterscope"], QUALITIES["draft"]), 0, Devices(GPUS))
    own = [shop.for_a_thread() for _ in GPUS]
    assert [one.devices.all for one in own] == [(gpu,) for gpu in GPUS]
    assert kept == GPUS
    assert shop.device == GPUS[0]


def analysed(network, out):
    return Analysis(network, Settings(channels="all", objectives=("channel", "neuron")), [], out).run()


def test_pictures_do_not_tell_on_which_device_they_were_made(two_layers, tmp_path, monkeypatch):
    used, both = set(), threading.Barrier(2, timeout=20)
    run_task = executors.run_task

    def watched(shop, task):
        if shop.device not in used:  # neither device begins before the other has a task too
            used.add(shop.device)
            both.wait()
        return run_task(shop, task)

    alone = analysed(two_layers, tmp_path / "alone")
    monkeypatch.setattr("filterscope.analyzer.compute.devices.choose_devices", lambda _: Devices(TWINS))
    monkeypatch.setattr("filterscope.analyzer.compute.devices.processors", lambda: 1)
    monkeypatch.setattr(executors, "run_task", watched)
    shared = analysed(two_layers, tmp_path / "shared")

    assert used == set(TWINS)
    assert shared.info["device"]["kind"] == "cpu:0, cpu:1"
    pictures = sorted(path.relative_to(alone.folder) for path in alone.folder.rglob("tasks/**/*.png"))
    assert len(pictures) == shared.info["tasks"]["planned"] > 2
    for picture in pictures:
        assert (shared.folder / picture).read_bytes() == (alone.folder / picture).read_bytes()
    timeless = [name for name in alone.units.column_names if name != "seconds"]
    assert shared.units.select(timeless).equals(alone.units.select(timeless))
