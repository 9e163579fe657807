"""Every example in README.md and docs/ does what it says: Python blocks run, shell lines end with exit code 0.

The names in the examples are files in the folder where they run: one small network whose layers are called as in the
examples, drawn photos, class names.
"""

import itertools
import os
import shlex
import shutil
import signal
import warnings

import numpy as np
import onnx
import pytest
from PIL import Image

import filterscope as fs
from filterscope import cli
from filterscope.analyzer.network.labels import imagenet
from support.networks import build, normal
from support.paths import ROOT
from support.photos import photo

PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "architecture.md")]
LAYERS = {"features.0": (3, 8), "features.1": (8, 6), "features.3": (6, 18), "features.14": (18, 8)}  # channels in, out
LEFT_OUT = {  # with the reason
    "filterscope demo --open": "test_demo.py runs the demo, test_browser.py opens reports",
    "filterscope analyze model.onnx --classes all --labels imagenet --quality standard": "1,000 classes take minutes",
}
NETS = """from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.relu(self.conv(x)).mean((2, 3)))

def make_net():
    return Net()
"""


def blocks(page):
    """The indented blocks of a page, without their indentation; blank lines inside a block stay."""
    lines = page.read_text(encoding="utf-8").splitlines()
    groups = itertools.groupby(lines, key=lambda line: line.startswith("    ") or not line.strip())
    texts = ("\n".join(line[4:] for line in group) for is_code, group in groups if is_code)
    return [text for text in texts if text.strip()]


def python_examples():
    return [
        pytest.param(block[block.index("import filterscope") :], id=page.name)
        for page in PAGES
        for block in blocks(page)
        if "import filterscope as fs" in block
    ]


def shell_lines():
    lines = [
        (page.name, line.strip())
        for page in PAGES
        for block in blocks(page)
        for line in block.splitlines()
        if line.startswith("filterscope ")
    ]
    commands = {shlex.join(shlex.split(line, comments=True)): (name, line) for name, line in lines}
    return [pytest.param(line, id=f"{name}: {command}") for command, (name, line) in commands.items()]


def classifier(classes=1000):
    """A classifier whose layers are called as in the examples."""
    nodes, weights, value = [], {}, "x"
    for number, (layer, (inputs, outputs)) in enumerate(LAYERS.items()):
        weights[f"w{number}"] = normal(outputs, inputs, 3, 3, seed=number)
        nodes += [
            ("Conv", f"{value} w{number}", f"c{number}", {"name": layer, "pads": [1, 1, 1, 1]}),
            ("Relu", f"c{number}", f"r{number}"),
        ]
        value = f"r{number}"
    weights["m"] = normal(8, classes, seed=9)
    nodes += [("GlobalAveragePool", value, "p"), ("Flatten", "p", "f"), ("MatMul", "f m", "s")]
    return build(nodes, weights, shape=("N", 3, 24, 24))


def scaled_classifier():
    """The same, whose image is multiplied by a second input."""
    model = classifier(classes=3)
    model.graph.input[0].name = "image"
    model.graph.input.append(onnx.helper.make_tensor_value_info("scale", onnx.TensorProto.FLOAT, [1]))
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["image", "scale"], ["x"]))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All files that the examples name."""
    folder = tmp_path_factory.mktemp("documentation")
    for name in ("model.onnx", "face.onnx"):
        onnx.save(classifier(), folder / name)
    onnx.save(scaled_classifier(), folder / "two.onnx")
    np.save(folder / "scale.npy", np.ones(1, np.float32))
    for name in ("photos", "faces", "dataset/one", "dataset/two"):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.roll(photo(24), 5 * number, axis=number)).save(folder / name / f"{number}.png")
    Image.fromarray(photo(24)).save(folder / "photo.jpg")
    names = imagenet()
    (folder / "names.txt").write_text("\n".join(names), encoding="utf-8")
    (folder / "labels.txt").write_text("\n".join(["cat", "dog", *names[2:]]), encoding="utf-8")
    (folder / "mypackage").mkdir()
    for name in ("nets.py", "mypackage/nets.py"):
        (folder / name).write_text(NETS, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """A run of the model, on the photos."""
    return fs.analyze(folder / "model.onnx", folder / "photos", folder / "first", quality="draft", device="cpu").folder


@pytest.fixture
def here(folder, monkeypatch):
    """The folder, as the one that the example runs in."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CI", "1")  # --open opens no browser there
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    return folder


def write_other_frameworks(line):
    """The weights and exported networks that a line names, in the folder where it runs."""
    if "net.pth" in line or "net.safetensors" in line or "exported.pt2" in line:
        import torch
        from safetensors.torch import save_file

        space = {}
        exec(NETS, space)
        net = space["Net"]().eval()
        torch.save(net.state_dict(), "net.pth")
        save_file(net.state_dict(), "net.safetensors")
        if "exported.pt2" in line:
            torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 64, 64),)), "exported.pt2")
    if "model.keras" in line:
        keras = pytest.importorskip("keras")
        layers = [keras.layers.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu")]
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # Keras's own, of NumPy 2
            keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]).save(
                "model.keras"
            )


@pytest.mark.parametrize("code", python_examples())
@pytest.mark.slow
def test_python_examples_run_on_the_front_door_alone(code, here):
    assert "from filterscope" not in code
    shutil.rmtree(here / "run", ignore_errors=True)
    exec(code, {"__name__": "example"})


@pytest.mark.parametrize("line", shell_lines())
@pytest.mark.slow
def test_shell_lines_end_well(line, here, run, capsys):
    arguments = shlex.split(line, comments=True)
    if shlex.join(arguments) in LEFT_OUT:
        pytest.skip(LEFT_OUT[shlex.join(arguments)])
    for name in ("RUN", "RUN_A", "RUN_B"):
        if name in arguments:
            shutil.copytree(run, here / name, dirs_exist_ok=True)
    for own in here.glob("*-filterscope"):
        shutil.rmtree(own)
    write_other_frameworks(line)
    assert cli._run(arguments[1:]) == 0, capsys.readouterr().err


def test_there_are_examples_in_every_form():
    assert len(python_examples()) >= 4
    assert len(shell_lines()) >= 30
    assert set(LEFT_OUT) <= {shlex.join(shlex.split(line.values[0], comments=True)) for line in shell_lines()}
