"""Checkpoints read as data: the tensors are those that torch saved, and nothing that stands beside them ever runs."""

import argparse
import collections
import contextlib
import os
import pickle
import struct
import sys
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from filterscope.converters.errors import ModelError
from filterscope.converters.sources.options import SourceOptions
from filterscope.converters.sources.read import read
from filterscope.converters.sources.scripts import inert_checkpoint, pytorch_export


class Settings(dict):
    """Some dictionary of the user's."""


class Hook:
    """Something of the user's that sits between the tensors."""

    def __init__(self):
        self.steps = 3

    def __setstate__(self, state):
        raise AssertionError("it ran")


def tensors():
    torch.manual_seed(0)
    whole = torch.randn(4, 6)
    return {
        "float": torch.randn(2, 3, 3, 3),
        "transposed": whole.t(),
        "part": whole[1:3, ::2],
        "half": torch.randn(5).half(),
        "bfloat": torch.randn(5).bfloat16(),
        "double": torch.randn(3, dtype=torch.float64),
        "long": torch.tensor([1, -(2**40)]),
        "byte": torch.tensor([0, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "complex": torch.randn(2, dtype=torch.complex64),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "newer": torch.tensor([1, 60000], dtype=torch.uint16),
        "parameter": nn.Parameter(torch.randn(3)),
    }


def checkpoint():
    """Tensors, and beside them what training scripts save."""
    return {
        "state_dict": collections.OrderedDict(tensors()),
        "options": argparse.Namespace(rate=0.1, nested=argparse.Namespace(path=Path("x"))),
        "best": np.float64(0.75),
        "step": np.int64(7),
        "array": np.arange(6, dtype=">f4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "objects": np.array([None, "x"], dtype=object),
        "settings": Settings(width=3),
        "default": collections.defaultdict(list, a=[1]),
        "counter": collections.Counter("aab"),
        "plain": types.SimpleNamespace(a=1),
        "hook": Hook(),
        "function": os.path.join,
        "set": {1, 2},
        "frozen": frozenset({3}),
        "bytes": b"\x00\xff",
        "big": 10**30,
        "range": range(3),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
    }


def save_archive(content, path):
    torch.save(content, path)


def save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_newest(content, path):
    torch.save(content, path, pickle_protocol=5)


WRITERS = {"archive": save_archive, "legacy": save_legacy, "protocol-5": save_newest} | {
    f"pickle-{protocol}": lambda content, path, protocol=protocol: path.write_bytes(pickle.dumps(content, protocol))
    for protocol in range(2, 6)
}


@pytest.mark.parametrize("writer", WRITERS)
def test_tensors_and_numbers_are_what_was_saved(tmp_path, writer):
    path = tmp_path / "net.ckpt"
    WRITERS[writer](checkpoint(), path)
    content = inert_checkpoint.read(path)
    read_tensors = inert_checkpoint.tensors_in(content["state_dict"])
    for name, expected in tensors().items():
        found = read_tensors[name]
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
        assert torch.equal(found, expected.detach()), name
    assert (content["best"], content["step"], content["big"], content["bytes"]) == (0.75, 7, 10**30, b"\x00\xff")
    arrays = inert_checkpoint.tensors_in(content)
    np.testing.assert_array_equal(arrays["array"].numpy(), checkpoint()["array"].astype("f4"))
    np.testing.assert_array_equal(arrays["fortran"].numpy(), checkpoint()["fortran"])
    assert "objects" not in arrays
    assert inert_checkpoint.parts_of(content["options"])["rate"] == 0.1
    assert inert_checkpoint.parts_of(content["settings"]) == {"width": 3}
    assert (content["default"], content["counter"]) == ({"a": [1]}, {"a": 2, "b": 1})
    assert (content["set"], content["frozen"], content["size"]) == ([1, 2], [3], (1, 2))
    assert inert_checkpoint.names_of_inert(content)[0] == "argparse.Namespace"
    for name in ("options", "plain", "hook", "range", "device"):
        assert isinstance(content[name], inert_checkpoint.Inert), name


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickle_is_read(tmp_path, protocol):
    plain = {"a": [1, -2, 2**70, 1.5, None, True], "b": (1, (2,), "ä\n", b"\x00\xfe"), "c": {3: {"d": "e"}}, "f": ()}
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps(plain, protocol))
    assert inert_checkpoint.read(path) == plain


def test_a_pickled_network_is_its_tensors(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4)))
    torch.save({"model": network}, tmp_path / "net.pt")
    content = inert_checkpoint.read(tmp_path / "net.pt")
    assert inert_checkpoint.is_module(content["model"])
    found = inert_checkpoint.tensors_in(content["model"])
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())


def test_storages_of_another_machines_byte_order_are_turned(tmp_path):
    torch.save({"w": torch.tensor([1.5, -2.0])}, tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt") as old, zipfile.ZipFile(tmp_path / "big.pt", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("/data/0"):
                content = struct.pack(">2f", 1.5, -2.0)
            new.writestr(name, b"big" if name.endswith("byteorder") else content)
    assert inert_checkpoint.read(tmp_path / "big.pt")["w"].tolist() == [1.5, -2.0]


# --- nothing runs


def text(value):
    """A text as pickle's protocol 4 writes it."""
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def command(canary):
    return f"touch {canary}"


def raw(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def by_reduce(canary):
    return raw(b"cos\nsystem\n(", text(command(canary)), b"tR")


def by_posix(canary):
    return raw(b"cposix\nsystem\n(", text(command(canary)), b"tR")


def by_stack_global(canary):
    return raw(text("builtins"), text("exec"), b"\x93(", text(f"open({str(canary)!r}, 'w').close()"), b"tR")


def by_inst(canary):
    return raw(b"(", text(command(canary)), b"ios\nsystem\n")


def by_obj(canary):
    return raw(b"(cos\nsystem\n", text(command(canary)), b"o")


def by_newobj(canary):
    return raw(b"csubprocess\nPopen\n(", text(f"touch {canary}"), b"t\x81")


def by_newobj_ex(canary):
    return raw(b"csubprocess\nPopen\n)}(", text("args"), b"](", text("touch"), text(str(canary)), b"eu\x92")


def by_setstate(canary):
    """BUILD on what may be built: an OrderedDict whose own __setstate__ is to be a function."""
    state = b"}(" + text("__setstate__") + b"cos\nsystem\nu"
    return raw(b"ccollections\nOrderedDict\n)R", state, b"b", text(command(canary)), b"b")


def by_slots(canary):
    """BUILD with a pair sets attributes, also those of a function on the list."""
    slots = b"N}(" + text("__code__") + b"cos\nsystem\nu\x86"
    return raw(b"ctorch._utils\n_rebuild_tensor_v2\n", slots, b"b(", text(command(canary)), b"tR")


def by_state_of_a_class(canary):
    state = b"}(" + text("__call__") + b"cos\nsystem\nu"
    return raw(b"cargparse\nNamespace\n)\x81", state, b"b(", text(command(canary)), b"tR")


def by_persistent_id(canary):
    """The class of a storage is a function."""
    return raw(
        b"(", text("storage"), b"cos\nsystem\n", text(command(canary)), text("cpu"), b"K\x01tQ(", text("x"), b"tR"
    )


def by_nested_stubs(canary):
    """getattr of an imported module, called."""
    module = b"cimportlib\nimport_module\n(" + text("os") + b"tR"
    return raw(b"cbuiltins\ngetattr\n(", module, text("system"), b"tR(", text(command(canary)), b"tR")


def by_dotted_name(canary):
    return raw(text("torch"), text("_utils.os.system"), b"\x93(", text(command(canary)), b"tR")


def by_torchs_own(canary):
    """A function beside those on the list, in the same module."""
    return raw(b"ctorch._utils\n_import_dotted_name\n(", text("os.system"), b"tR(", text(command(canary)), b"tR")


def by_rebuild_from_type(canary):
    """The list's own caller of functions, given one that is not on it."""
    argument = b"(" + text(command(canary)) + b"t"
    return raw(b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\ncos\nsystem\n", argument, b"NtR")


def by_default_factory(canary):
    return raw(b"ccollections\ndefaultdict\n(cos\nsystem\ntR(", text(command(canary)), b"Nu")


def by_storage_within(canary):
    """A torch file within, which is such a pickle itself."""
    inner = by_reduce(canary)
    return raw(b"ctorch.storage\n_load_from_bytes\n(B", struct.pack("<I", len(inner)), inner, b"tR")


def by_numpy(canary):
    """numpy's dtype of objects, whose bytes are a pickle."""
    return raw(
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(", text("O8"), b"\x89\x88tRcos\nsystem\n(",
        text(command(canary)), b"tRtR",
    )  # fmt: skip


def by_extension(canary):
    return raw(b"\x82\x01(", text(command(canary)), b"tR")


PLANTED = [
    *(by_reduce, by_posix, by_stack_global, by_inst, by_obj, by_newobj, by_newobj_ex, by_setstate, by_slots),
    *(by_state_of_a_class, by_persistent_id, by_nested_stubs, by_dotted_name, by_torchs_own, by_rebuild_from_type),
    *(by_default_factory, by_storage_within, by_numpy, by_extension),
]


def in_archive(pickled, path):
    """As torch.save's archive."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickled)
        archive.writestr("net/version", b"3\n")


def in_stream(pickled, path):
    """As torch.save wrote before 1.6."""
    constants = (inert_checkpoint.MAGIC, 1001, {"little_endian": True})
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in constants) + pickled + pickle.dumps([], 2))


def in_nothing(pickled, path):
    path.write_bytes(pickled)


@pytest.mark.parametrize("wrap", [in_archive, in_stream, in_nothing])
@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_pickle_runs_nothing(tmp_path, plant, wrap):
    canary, path = tmp_path / "canary", tmp_path / "net.pth"
    wrap(plant(canary), path)
    with pytest.raises(pytorch_export.RefusedError):
        pytorch_export._load_weights(nn.Conv2d(3, 2, 3), str(path))
    with pytest.raises(ModelError):
        read(path)
    assert not canary.exists()


def test_some_of_the_planted_pickles_run_where_they_are_trusted(tmp_path):
    """The canaries are alive."""
    for plant in (by_reduce, by_stack_global, by_inst, by_nested_stubs, by_dotted_name):
        canary = tmp_path / plant.__name__
        pickle.loads(plant(canary))
        assert canary.exists(), plant.__name__


def test_nothing_that_a_pickle_names_is_imported(tmp_path):
    (tmp_path / "planted_module.py").write_text("raise AssertionError('imported')")
    sys.path.insert(0, str(tmp_path))
    try:
        (tmp_path / "net.pth").write_bytes(raw(b"cplanted_module\nThing\n)R"))
        assert isinstance(inert_checkpoint.read(tmp_path / "net.pth"), inert_checkpoint.Inert)
    finally:
        sys.path.remove(str(tmp_path))
    assert "planted_module" not in sys.modules


# --- damaged and hostile


def test_half_a_file_and_a_changed_byte_are_damaged_or_read(tmp_path):
    """Whatever is in a file, it is read or called damaged."""
    rng = np.random.default_rng(0)
    for writer in ("archive", "legacy", "pickle-2", "pickle-5"):
        path = tmp_path / "net.pth"
        WRITERS[writer](checkpoint(), path)
        whole = path.read_bytes()
        for _ in range(60):
            content = bytearray(whole)
            content[rng.integers(len(content))] = rng.integers(256)
            path.write_bytes(content[: rng.integers(1, len(content))] if rng.random() < 0.3 else content)
            with contextlib.suppress(inert_checkpoint.CheckpointError):
                inert_checkpoint.names_of_inert(inert_checkpoint.read(path))


def nested(count):
    """A list in a list in a list …, as the key of a dictionary."""
    return raw(b")" * 1, b"\x85" * count, b"}\x940h\x00", b"0}" + b")" + b"\x85" * count + b"Ns")


def shared(levels):
    """Each list holds the one below it twice: 2^levels ways through it."""
    return raw(b"]", b"".join(b"q%c0](h%ch%ce" % (i, i, i) for i in range(levels)))


def copies(count):
    """One long list of pairs, of which many dictionaries are made."""
    pairs = b"](" + b"NN\x86" * 100_000 + b"eq\x000"
    return raw(pairs, b"ccollections\nOrderedDict\nq\x010", b"](", b"h\x01h\x00\x85R" * count, b"e")


def tensor(numel, extents, strides, first=0):
    pid = (
        b"("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text("0")
        + text("cpu")
        + pickle.dumps(numel, 2)[2:-1]
        + b"tQ"
    )
    shape = b"".join(pickle.dumps(x, 2)[2:-1] for x in (first, extents, strides))
    return raw(b"ctorch._utils\n_rebuild_tensor_v2\n(", pid, shape, b"\x89NtR")


HOSTILE = {  # pickle → words of the refusal, or None where it is harmless
    "deep": (nested(100_000), None),
    "shared": (shared(200), None),
    "copies": (copies(100), "longer than 4,000,000 instructions"),
    "large storage": (tensor(2**40, (1,), (1,)), "larger than|only a part"),
    "outside": (tensor(1, (2,), (1,)), "larger than|only a part"),
    "before": (tensor(1, (1,), (1,), -1), "no shape|only a part"),
    "numbers": (raw(b"](", b"K\x01" * 4_100_000, b"e"), "longer than"),
    "no end": (b"\x80\x02]", "damaged"),
    "empty stack": (b"\x80\x02R.", "damaged"),
    "unknown": (b"\x80\x02\xff.", "damaged"),
    "huge text": (b"\x80\x02X\xff\xff\xff\x7f.", "damaged"),
    "digits": (b"L" + b"9" * 1_000_000 + b"L\n.", "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_costs_little(tmp_path, name):
    pickled, words = HOSTILE[name]
    in_stream(pickled, tmp_path / "net.pth")
    if words is None:
        content = inert_checkpoint.read(tmp_path / "net.pth")
        inert_checkpoint.names_of_inert(content)
        assert list(pytorch_export._state_dicts(content)) == []
        return
    with pytest.raises(inert_checkpoint.CheckpointError, match=words):
        inert_checkpoint.read(tmp_path / "net.pth")


def test_an_archive_that_inflates_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", tensor(1 << 24, (1 << 24,), (1,)))
        archive.writestr("net/data/0", bytes(1 << 26))
    with pytest.raises(inert_checkpoint.CheckpointError, match=r"larger than the file|inflates to 64 MiB"):
        inert_checkpoint.read(tmp_path / "net.pth")


# --- weights of a network


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)))


RENAMED = [  # what becomes of the key of a tensor
    lambda key: f"_orig_mod.{key}",
    lambda key: f"module._orig_mod.{key}",
    lambda key: f"model.module.net.{key}",
    lambda key: key.replace("1.0.", "1._orig_mod.0.module."),
    lambda key: f"state_dict.model.{key.replace('1.', '1.module.')}",
    lambda key: key.replace("1.0.", "_orig_mod.1.0."),
    lambda key: f"a.b.c.d.e.{key}",
]


@pytest.mark.parametrize("rename", RENAMED)
@pytest.mark.parametrize("place", ["", "model", "ema/state_dict"])
def test_wrappers_are_taken_out_wherever_they_stand(tmp_path, rename, place):
    source = network()
    content = {rename(key): value for key, value in source.state_dict().items()}
    for part in reversed(place.split("/") if place else []):
        content = {part: content, "options": argparse.Namespace(a=1), "lr": np.float32(0.1)}
    torch.save(content, tmp_path / "net.pth")
    target = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)))
    pytorch_export._load_weights(target, str(tmp_path / "net.pth"))
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())


def test_a_wrapped_network_takes_plain_weights(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = network()

    torch.save(network().state_dict(), tmp_path / "net.pth")
    wrapped = Wrapped()
    nn.init.zeros_(wrapped.module[0].weight)
    pytorch_export._load_weights(wrapped, str(tmp_path / "net.pth"))
    assert torch.equal(wrapped.module[0].weight, network()[0].weight)


def test_two_tensors_for_one_are_not_chosen_between(tmp_path):
    content = dict(network().state_dict())
    content |= {f"x._orig_mod.{key}": value for key, value in content.items()}
    content |= {f"module.{key}": value + 1 for key, value in network().state_dict().items()}
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(pytorch_export.RefusedError, match="are unexpected"):
        pytorch_export._load_weights(network(), str(tmp_path / "net.pth"))


NETS = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)))

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.depth = nn.Conv2d(3, 2, 3), nn.Conv2d(1, 2, 3)

    def forward(self, image, depth, scale=1.0, *others, **more):
        return self.image(image) + self.depth(depth) * scale
"""


def test_a_factory_with_a_training_checkpoint_opens_without_trust(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    torch.save(checkpoint() | {"state_dict": network().state_dict()}, tmp_path / "net.ckpt")
    file = read(f"{tmp_path}/nets.py:Net", SourceOptions(weights=tmp_path / "net.ckpt", size=(8, 8)))
    assert any("argparse.Namespace" in note and "nothing of it was run" in note for note in file.notes)
    with pytest.raises(ModelError, match=r"\(state_dict, options, best, …\): holds weights and no network"):
        read(tmp_path / "net.ckpt")


def test_a_network_of_several_inputs_is_told_what_to_do(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    with pytest.raises(ModelError, match=r"takes several inputs \(image, depth\): export it to ONNX or \.pt2.*`feed`"):
        read(f"{tmp_path}/nets.py:Two")
    namespace = {"__name__": "nets"}
    exec(NETS, namespace)
    with pytest.raises(ModelError, match=r"takes several inputs \(image, depth\)"):
        read(namespace["Two"]())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        example = torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8)
        torch.jit.trace(namespace["Two"]().eval(), example).save(tmp_path / "two.pt")
    with pytest.raises(ModelError, match=r"takes several inputs \(image, depth\)"):
        read(tmp_path / "two.pt", SourceOptions(trust=True))
