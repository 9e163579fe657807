"""PyTorch networks as ONNX: what opens, what is refused before it runs, and whether the export is the same network."""

import io
import itertools
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from filterscope.converters.errors import ModelError, SettingsError
from filterscope.converters.normal_form.canonical import canonicalize
from filterscope.converters.onnx_file import model_file
from filterscope.converters.sources import pytorch
from filterscope.converters.sources.options import SourceOptions
from filterscope.converters.sources.read import read
from filterscope.converters.sources.scripts import pytorch_export
from support.networks import DATA, needs_data
from support.paths import ROOT

FACTORIES = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, side=8):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Dropout())
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.blocks(self.bn(self.conv1(x)).relu()).mean((2, 3)))

class Branching(Net):
    def forward(self, x):
        return super().forward(x) if x.mean() > -1 else x

def raises():
    raise ValueError("three classes are needed")

def number():
    return 3

COUNT = 3

def sized(side):
    return Net(side)

def ends():
    raise SystemExit(3)

class Deciding(Net):
    def forward(self, x):
        return super().forward(x) if x.mean() > 0 else super().forward(-x)

made = Net()
"""


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (Path.write_text, (Path(self.path), "it ran"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(FACTORIES)
    (tmp_path / "broken.py").write_text("net = (")
    return tmp_path


@pytest.fixture
def network(place):
    """The network of nets.py with statistics of its own, in eval mode."""
    torch.manual_seed(3)
    namespace = {"__name__": "nets"}
    exec(FACTORIES, namespace)
    made = namespace["Net"]()
    made.bn.running_mean.normal_()
    made.bn.running_var.uniform_(0.5, 2)
    return made.eval()


def answer(file, x):
    """What ONNX Runtime makes of the export."""
    session = onnxruntime.InferenceSession(file.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def assert_same(file, network, batch=3, side=16):
    x = np.random.default_rng(0).normal(size=(batch, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(answer(file, x), expected, rtol=1e-4, atol=1e-5)


def test_a_factory_with_a_checkpoint_of_a_wrapped_network_is_that_network(place, network):
    wrapped = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, "net.pth")
    file = read("nets.py:Net", SourceOptions(weights=Path("net.pth"), size=(16, 16)))
    assert_same(file, network)
    assert list(canonicalize(file).layer_names.values()) == ["conv1", "blocks.0"]
    assert file.converted
    said = " ".join(file.notes)
    assert "checkpoint's 'state_dict'" in said
    assert "prefix 'module.'" in said
    assert "default exporter" in said


def test_users_packages_may_bear_our_names(place, network):
    for package in ("reports", "converters"):
        (place / package).mkdir()
        (place / package / "__init__.py").write_text("")
    (place / "converters" / "layers.py").write_text("from reports.nets import Net\n\ndef make():\n    return Net()\n")
    (place / "reports" / "nets.py").write_text(FACTORIES)
    torch.save(network.state_dict(), "net.pt")
    code = (
        "from filterscope.converters.sources.read import SourceOptions, read\n"
        "import pathlib\n"
        "file = read('converters.layers:make', SourceOptions(weights=pathlib.Path('net.pt'), size=(16, 16)))\n"
        "pathlib.Path('out.onnx').write_bytes(file.proto.SerializeToString())\n"
    )
    ours = str(Path(pytorch.__file__).parents[3])
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code], env=os.environ | {"PYTHONPATH": ours}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    session = onnxruntime.InferenceSession("out.onnx", providers=["CPUExecutionProvider"])
    x = np.ones((1, 3, 16, 16), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(session.run(None, {session.get_inputs()[0].name: x})[0], expected, rtol=1e-4, atol=1e-5)


def test_the_older_exporters_branch_on_an_extent_behind_a_computed_batch_size_is_decided(tmp_path):
    """Of LocalResponseNorm, where the sizes are not known: behind a GroupNorm."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3), nn.LocalResponseNorm(3), nn.Conv2d(4, 2, 3)
    )
    pytorch_export.export(module.eval(), [torch.rand(2, 3, 12, 12)], tmp_path, "legacy")
    model = model_file.read(tmp_path / "model.onnx")
    assert "If" in [node.op_type for node in model.proto.graph.node]
    form = canonicalize(model)
    assert "If" not in [node.op for node in form.graph.nodes]
    x = torch.rand(3, 3, 12, 12)
    with torch.no_grad():
        np.testing.assert_allclose(answer(form, x.numpy()), module(x).numpy(), rtol=1e-4, atol=1e-5)


def test_what_the_default_exporter_cannot_do_the_older_one_does(place):
    file = read("nets.py:Branching", SourceOptions(size=(16, 16)))
    assert any("older exporter" in note for note in file.notes)
    again = read("nets.py:Branching", SourceOptions(size=(16, 16)))
    assert file.sha256 == again.sha256, "a network without weights is drawn the same twice"


def test_an_exported_program_opens_without_trust(place, network):
    free = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(network, (torch.randn(2, 3, 16, 16),), dynamic_shapes=free)
    torch.export.save(program, "net.pt2")
    file = read("net.pt2")
    assert_same(file, network)
    assert list(canonicalize(file).layer_names.values()) == ["conv1", "blocks.0"]


def test_programs_run_when_they_are_trusted(place, network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated; the files are not
        torch.jit.trace(network, torch.randn(2, 3, 16, 16)).save("script.pt")
    with pytest.raises(
        ModelError, match=r"script\.pt: is TorchScript, which is a program; if you trust its author, `trust` runs it"
    ):
        read("script.pt")
    assert_same(read("script.pt", SourceOptions(trust=True, size=(16, 16))), network)


def test_a_live_module_is_read_and_left_as_it_was(network):
    network.train()
    half = network.half()
    before = {key: value.clone() for key, value in half.state_dict().items()}
    file = read(half, SourceOptions(size=(16, 16)))
    assert half.training
    for key, value in half.state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key])
    assert any("float16 were made float32" in note for note in file.notes)
    assert_same(file, network.float().eval())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, AveragedModel, torch.compile, lambda x: torch.compile(AveragedModel(x))]
)
def test_a_live_module_is_taken_out_of_what_training_puts_around_it(network, wrap):
    file = read(wrap(network), SourceOptions(size=(16, 16)))
    assert_same(file, network)
    assert list(canonicalize(file).layer_names.values()) == ["conv1", "blocks.0"]


def test_the_weights_of_an_averaged_network_are_those_of_the_network(place, network):
    torch.save(AveragedModel(network).state_dict(), "averaged.pth")
    assert_same(read("nets.py:Net", SourceOptions(weights=Path("averaged.pth"), size=(16, 16))), network)


def test_a_live_module_may_come_with_its_own_example():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x, scale):
            return self.conv(x) * scale

    file = read(Two().eval(), SourceOptions(example=(torch.rand(2, 3, 8, 8), torch.rand(2, 1, 1, 1))))
    assert len(file.proto.graph.input) == 2


def test_what_is_no_module_is_refused():
    with pytest.raises(ModelError, match=r"a dict is no model; give a path, a factory or an nn\.Module"):
        read({})


# --- files that are refused before anything of them runs


def save_pickled_module(path):
    torch.save(nn.Sequential(nn.Conv2d(3, 2, 3)), path)


def save_planted(path):
    torch.save({"state_dict": Planted(path.with_suffix(".ran"))}, path)


def save_legacy(path):
    torch.save(nn.Sequential(nn.Conv2d(3, 2, 3)), path, _use_new_zipfile_serialization=False)


def save_half(path):
    save_state_dict(path)
    path.write_bytes(path.read_bytes()[:300])


def save_state_dict(path):
    torch.save(nn.Conv2d(3, 2, 3).state_dict(), path)


REFUSED = [  # how the file is made, its name, words of the refusal
    (save_pickled_module, "whole.pt", "is a pickle of more than tensors, which is a program.*`trust`"),
    (save_legacy, "whole.pth", "is a pickle of more than tensors, which is a program.*`trust`"),
    (save_planted, "planted.ckpt", "is a program.*`trust`"),
    (
        save_state_dict,
        "weights.pth",
        r"\(weight, bias, …\): holds weights and no network.*factory `weights=weights\.pth`",
    ),
    (lambda path: path.write_bytes(b"nothing of the kind"), "text.pt", "is no PyTorch file"),
    (save_half, "half.pt", "is only a part of a PyTorch file, or damaged"),
    (lambda path: path.write_bytes(b""), "empty.pth", "is empty"),
    (lambda path: path.write_bytes(b"{}"), "w.safetensors", r"holds weights and no network.*`weights=w\.safetensors"),
    (lambda path: path.write_bytes(pickle.dumps({"a": Path()})), "net.pkl", "is a pickle of more than tensors"),
    (save_state_dict, "net.pth.tar", r"holds weights and no network.*`weights=net\.pth\.tar`"),
    (lambda path: path.mkdir(), "folder.pt", "is a folder"),
    (lambda path: None, "missing.pt", "no such file"),
]


@pytest.mark.parametrize(("save", "name", "words"), REFUSED, ids=[row[1] for row in REFUSED])
def test_a_file_that_is_no_network_or_a_program_is_refused(place, save, name, words):
    save(place / name)
    with pytest.raises(ModelError, match=words):
        read(place / name)
    assert not list(place.glob("*.ran"))


def saved_program(path):
    program = torch.export.export(nn.Conv2d(3, 2, 3), (torch.randn(1, 3, 8, 8),))
    torch.export.save(program, path)


def rewritten(path, change):
    """The archive with each member's bytes as `change(name, bytes)` makes them; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))


def test_an_exported_program_with_a_pickle_inside_is_a_program(place):
    saved_program("net.pt2")
    planted = pickle.dumps(Planted(place / "x.ran"))
    rewritten("net.pt2", lambda name, content: planted if "sample_inputs" in name else content)
    with pytest.raises(ModelError, match=r"holds a pickle .*sample_inputs.*`trust`"):
        read("net.pt2")
    assert not list(place.glob("*.ran"))


def test_a_program_with_an_operator_that_is_not_pytorchs_own_names_it(place):
    code = """
import torch
@torch.library.custom_op("mine::gate", mutates_args=())
def gate(x: torch.Tensor) -> torch.Tensor:
    return x * 2
gate.register_fake(torch.empty_like)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 3)
    def forward(self, x):
        return torch.ops.mine.gate(self.conv(x))
torch.export.save(torch.export.export(Net(), (torch.zeros(1, 3, 8, 8),)), "net.pt2")
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    with pytest.raises(
        ModelError, match=r"net\.pt2: operator mine\.gate\.default is not PyTorch's own; export it where"
    ):
        read("net.pt2")


def test_a_trusted_pickle_that_torch_did_not_write_is_refused(place):
    (place / "net.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelError, match=r"net\.pkl: is not a file of torch\.save"):
        read("net.pkl", SourceOptions(trust=True))


# --- factories and weights that do not fit


FACTORY_ERRORS = [  # factory, words of the error
    ("nets.py:raises", r"nets\.py:raises: raised ValueError: three classes are needed \(nets\.py, line \d+\)"),
    ("nets.py:number", "makes an int; a factory without arguments that makes an nn.Module is needed"),
    ("nets.py:absent", r"nets\.py:absent: there is no absent in it$"),
    ("nets.py:rises", r"there is no rises in it; did you mean raises\?"),
    ("nets.py:sized", "cannot be called: missing a required argument: 'side'; a factory without arguments"),
    ("nets.py:COUNT", "is an int; a factory without arguments that makes an nn.Module is needed"),
    ("nets.py:ends", "ended Python with code 3 instead of making a network"),
    ("broken.py:net", r"broken\.py:net: is no Python: '\(' was never closed \(broken\.py, line 1\)$"),
    ("absent.package:make", "No module named 'absent'.*install it"),
]


@pytest.mark.parametrize(("factory", "words"), FACTORY_ERRORS)
def test_a_factory_that_fails_is_quoted(place, factory, words):
    with pytest.raises(ModelError, match=words):
        read(factory)


def test_a_network_that_decides_by_its_input_is_not_taken_for_the_branch_that_was_exported(place):
    with pytest.raises(
        ModelError, match=r"dynamo exporter cannot.*data-dependent.*; by its older exporter: .*batch 3 of darker input"
    ):
        read("nets.py:Deciding", SourceOptions(size=(16, 16)))


DAMAGED = {"half.pth": "is only a part of a file, or damaged", "empty.pth": "is empty, or only a part of a file"}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_weights_file_that_is_not_whole_is_called_so(place, name):
    save_half(place / "half.pth")
    (place / "empty.pth").write_bytes(b"")
    with pytest.raises(ModelError, match=DAMAGED[name]):
        read("nets.py:Net", SourceOptions(weights=Path(name), size=(16, 16)))


def test_a_factory_in_a_file_that_is_not_there_is_refused(place):
    with pytest.raises(ModelError, match=r"there is no file absent\.py"):
        read("absent.py:make")
    with pytest.raises(SettingsError, match=r"`weights=absent\.pth`: no such file"):
        read("nets.py:Net", SourceOptions(weights=Path("absent.pth")))


def test_weights_go_with_a_factory_only(place):
    save_state_dict(place / "net.pth")
    with pytest.raises(SettingsError, match="goes with a factory"):
        read("model.onnx", SourceOptions(weights=Path("net.pth")))


MISFITS = [  # change of the state dict, words of the error
    (lambda d: d.pop("conv1.weight"), r"1 of the network's 11 tensors are missing, the first is conv1\.weight"),
    (lambda d: d.update({"conv9.weight": torch.zeros(1)}), r"1 are unexpected, the first is conv9\.weight"),
    (
        lambda d: d.update({"conv1.weight": torch.zeros(4, 1, 3, 3)}),
        r"1 have another shape, the first is conv1\.weight: \[4, 1, 3, 3\] where the network has \[4, 3, 3, 3\]",
    ),
]


@pytest.mark.parametrize(("change", "words"), MISFITS)
def test_weights_that_do_not_fit_are_named(place, network, change, words):
    tensors = dict(network.state_dict())
    change(tensors)
    torch.save(tensors, "net.pth")
    with pytest.raises(pytorch_export.RefusedError, match=words):
        pytorch_export._load_weights(network, "net.pth")


def test_a_missing_head_is_said_and_a_missing_counter_is_not(place, network):
    tensors = {k: v for k, v in network.state_dict().items() if not k.startswith("head") and "num_batches" not in k}
    torch.save(tensors, "net.pth")
    (note,) = pytorch_export._load_weights(network, "net.pth")
    assert note.startswith("2 tensors after the last convolution are not among the weights (head.weight, …)")


def test_weights_that_are_a_pickle_are_never_run(place, network):
    save_planted(place / "net.pth")
    with pytest.raises(pytorch_export.RefusedError, match=r"holds pathlib\..*, which is not run, and no state dict"):
        pytorch_export._load_weights(network, "net.pth")
    assert not list(place.glob("*.ran"))


def test_safetensors_are_weights(place, network):
    from safetensors.torch import save_file

    expected = {key: value.clone() for key, value in network.state_dict().items()}
    save_file(expected, "net.safetensors")
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    assert pytorch_export._load_weights(network, "net.safetensors") == []
    for key, value in network.state_dict().items():
        assert torch.equal(value, expected[key])


def test_the_input_is_the_networks_own_size_or_the_first_that_runs(network):
    (x,), assumed = pytorch_export._example(network, {"channels": None, "size": None})
    assert tuple(x.shape) == (2, 3, 224, 224)
    assert assumed == "Assumed: an input of 224x224, the first size that runs; `input_size` sets another."
    network.default_cfg = {"input_size": (3, 48, 40)}
    (x,), assumed = pytorch_export._example(network, {"channels": None, "size": None})
    assert (tuple(x.shape), assumed) == ((2, 3, 48, 40), "")
    with pytest.raises(pytorch_export.RefusedError, match="does not run on 5 channels at 48×40"):
        pytorch_export._example(network, {"channels": 5, "size": None})


@needs_data
def test_resnet20_reads_cifar10_as_its_authors_say():
    factory = str(ROOT / "benchmarks" / "real_pytorch.py:resnet20")
    weights = DATA / "models" / "pytorch" / "resnet20_cifar10-12fca82f.th"
    file = read(factory, SourceOptions(weights=weights, size=(32, 32)))
    pixels, labels = cifar10_test()
    x = (pixels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    scores = answer(file, x.transpose(0, 3, 1, 2).astype(np.float32))
    assert (scores.argmax(1) == labels).sum() == 1861, "93.1 % of 2,000"


def cifar10_test():
    """The 2,000 lossless test images, (N, 32, 32, 3) uint8, and their labels."""
    from PIL import Image

    with np.load(DATA / "cifar10" / "cifar10_test_2000_lossless_webp.npz") as file:
        data, offsets, labels = file["data"], file["offsets"], file["labels"]
    images = [np.asarray(Image.open(io.BytesIO(data[a:b].tobytes()))) for a, b in itertools.pairwise(offsets)]
    return np.stack(images), labels
