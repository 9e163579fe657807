"""The wheel alone, installed where no clone is: it runs beside a user's own reports.py, analyzer/ and converters.py."""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import onnx
import pytest
from PIL import Image

from support.classifier import classifier
from support.paths import ROOT
from support.photos import photo

SCRIPT = """import filterscope as fs

model = fs.open("model.onnx", preprocess="unit")
run = fs.analyze(model, images="photo.png", out="run/", channels=[0], device="cpu")
print(fs.report(run))
print(fs.convert(model, "normal.onnx", canonical=True))
print(fs.__file__)
"""
HOSTILE = "raise RuntimeError('imported the user\\'s own file')\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(folder), str(ROOT)]
    if importlib.util.find_spec("hatchling"):
        build.append("--no-build-isolation")
    result = subprocess.run(build, capture_output=True, text=True, check=False)
    if "No matching distribution found for hatchling" in result.stderr:
        pytest.skip("hatchling, which builds the wheel, is not installed and cannot be fetched")
    assert result.returncode == 0, result.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Python of a fresh environment with the wheel, and of this environment the dependencies only."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    # A path line adds the folder itself; the .pth files in it, such as that of a clone, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*install, "--ignore-installed"], check=True, capture_output=True)
    return python


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A user's folder, where each file of his own must not be imported."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "analyzer").mkdir()
    for name in ("reports.py", "analyzer/__init__.py", "converters.py", "tests.py"):
        (folder / name).write_text(HOSTILE, encoding="utf-8")
    onnx.save(classifier(), folder / "model.onnx")
    Image.fromarray(photo(16)).save(folder / "photo.png")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    return folder


def ask(python, folder, *arguments):
    environment = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}
    return subprocess.run(
        [str(python), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_wheel_holds_filterscope_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"filterscope"}
    assert "filterscope/py.typed" in names
    assert {"filterscope/data/cifar10_cnn.onnx", "filterscope/data/cifar10.npz"} <= set(names)
    assert "filterscope/analyzer/run/reader.py" in names
    assert "filterscope/commands/analyze.py" in names


@pytest.mark.slow
def test_a_script_beside_files_of_the_same_names_runs(python, beside):
    shutil.rmtree(beside / "run", ignore_errors=True)
    result = ask(python, beside, "script.py")
    assert result.returncode == 0, result.stderr
    page, normal_form, module = result.stdout.splitlines()
    assert (beside / page).is_file()
    assert onnx.load(beside / normal_form).graph.node
    assert str(python.parent.parent) in module


@pytest.mark.slow
def test_the_command_runs_there_too(python, beside):
    result = ask(python, beside, "-m", "filterscope", "--help")
    assert result.returncode == 0, result.stderr
    assert "analyze" in result.stdout
    result = ask(python, beside, "-m", "filterscope", "inspect", "model.onnx", "--preprocess", "unit")
    assert result.returncode == 0, result.stderr
    assert "look" in result.stdout
