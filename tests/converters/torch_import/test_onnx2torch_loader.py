"""onnx2torch must import whatever torchvision is like; each kind is met in a process of its own."""

import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

ABSENT = """
class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == "torchvision" else self.finder.find_spec(name, path, target)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
"""

LOAD = """
from filterscope.converters.errors import UnsupportedOperatorError
from filterscope.converters.torch_import.onnx2torch_loader import load

package = load()
assert load() is package
assert package.__name__ == "onnx2torch"
from onnx2torch.node_converters import nms
assert not [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "torch._dynamo")]
"""

STOOD_IN = """
try:
    nms.torchvision.ops.nms(None, None, 0.5)
except UnsupportedOperatorError as error:
    print(error)
"""


def answer_of(script: str) -> str:
    """What a fresh interpreter prints, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", "import sys\n" + script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_onnx2torch_its_version_is_named() -> None:
    script = """
from filterscope.converters.errors import ModelError
from filterscope.converters.torch_import.onnx2torch_loader import load
try:
    load()
except ModelError as error:
    print(error)
"""
    expected = "onnx2torch is not installed; `pip install onnx2torch==1.5.15` brings it\n"
    assert answer_of(ABSENT.replace('"torchvision"', '"onnx2torch"') + script) == expected


def test_it_loads_without_torchvision_and_without_torchs_compiler() -> None:
    assert answer_of(LOAD + "print('loaded')") == "loaded\n"


def test_without_torchvision_detection_alone_is_refused() -> None:
    assert "need torchvision" in answer_of(ABSENT + LOAD + STOOD_IN)


def test_a_torchvision_that_cannot_be_imported_counts_as_none(tmp_path: Path) -> None:
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text("import torchvision.extension")
    (broken / "extension.py").write_text("raise OSError('built for another torch')")
    assert "need torchvision" in answer_of(f"sys.path.insert(0, {str(tmp_path)!r})" + LOAD + STOOD_IN)


def test_a_torchvision_that_works_is_imported_when_it_is_called(tmp_path: Path) -> None:
    working = tmp_path / "torchvision"
    working.mkdir()
    (working / "__init__.py").write_text("from torchvision import ops")
    (working / "ops.py").write_text("def nms(*arguments): return 'its own'\nroi_align = box_convert = nms")
    script = f"sys.path.insert(0, {str(tmp_path)!r})" + LOAD + "print(nms.torchvision.ops.nms(None, None, 0.5))"
    assert answer_of(script) == "its own\n"


def test_a_torchvision_that_is_imported_already_is_used_as_it_is(tmp_path: Path) -> None:
    working = tmp_path / "torchvision"
    working.mkdir()
    (working / "__init__.py").write_text("from torchvision import ops")
    (working / "ops.py").write_text("def nms(*arguments): return 'its own'\nroi_align = box_convert = nms")
    script = f"sys.path.insert(0, {str(tmp_path)!r})\nimport torchvision\n"
    script += "from filterscope.converters.torch_import.onnx2torch_loader import load\nload()\n"
    script += "from onnx2torch.node_converters import nms\nprint(nms.torchvision is torchvision)"
    assert answer_of(script) == "True\n"
