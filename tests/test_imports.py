"""Who may import what, and the public surface. The order of packages and rooms is import-linter's (`make lint`)."""

import ast
import pydoc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import filterscope
from support.paths import ROOT

PACKAGES = {"converters", "analyzer", "reports"}  # installed inside filterscope
HEAVY = {"torch", "onnx", "onnx_ir", "onnxscript", "onnx2torch", "onnxruntime", "pyarrow", "jinja2", "numpy", "PIL"}


def files(floor: str) -> list[Path]:
    return sorted(path for path in (ROOT / floor).rglob("*.py") if path.parent.resolve() == path.parent)


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, anywhere in it; `from a import b` is both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import; name the package"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(floor: str, *names: str) -> set[tuple[str, str]]:
    """Which files of a floor import one of these packages or modules, or something inside them."""
    return {
        (path.relative_to(ROOT).as_posix(), name)
        for path in files(floor)
        for name in imported(path)
        if any(name == wanted or name.startswith(f"{wanted}.") for wanted in names)
    }


@pytest.mark.parametrize("floor", [*sorted(PACKAGES), "filterscope"])
def test_a_package_is_named_as_it_is_installed(floor):
    assert files(floor)
    assert not importers(floor, *PACKAGES)


@pytest.mark.parametrize("floor", ["analyzer", "reports", "filterscope"])
def test_only_converters_read_onnx(floor):
    assert not importers(floor, "onnx", "onnx_ir", "onnxscript", "onnx2torch")


def test_reports_know_a_run_on_disk_and_neither_torch_nor_the_model():
    modules = ["normal_form", "torch_import", "parity", "runtime", "graph", "onnx_file"]
    assert not importers("reports", "torch", "onnxruntime", *(f"filterscope.converters.{module}" for module in modules))


@pytest.mark.parametrize("floor", ["converters", "analyzer", "filterscope"])
def test_only_reports_render(floor):
    assert not importers(floor, "jinja2")


@pytest.mark.parametrize("floor", ["converters", "analyzer", "reports"])
def test_only_the_command_talks_to_the_terminal(floor):
    assert not importers(floor, "typer", "rich")
    prints = {
        (path.name, node.lineno)
        for path in files(floor)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input")
    }
    assert not prints


@pytest.mark.parametrize("module", ["errors", "graph"])
def test_the_lowest_modules_import_nothing_heavy(module):
    names = {name.partition(".")[0] for name in imported(ROOT / "converters" / f"{module}.py")}
    assert not names & (HEAVY - {"numpy"})


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.split())


@pytest.mark.parametrize("code", ["import filterscope", "import filterscope.cli"])
def test_the_command_answers_before_anything_heavy_is_loaded(code):
    assert not modules_after(code) & (HEAVY - {"numpy", "PIL"})


PUBLIC = (
    "Attribution Classes Examples FilterscopeError Groups Inversion Preprocessing Recipe Run Settings Truth Tuning "
    "Values __version__ analyze attribute compare convert factorise figure invert maximize objectives open report"
)


def test_the_public_names_are_there_and_no_others():
    for name in filterscope.__all__:
        assert getattr(filterscope, name) is not None
    assert dir(filterscope) == sorted(filterscope.__all__) == PUBLIC.split()
    with pytest.raises(AttributeError, match="module 'filterscope' has no attribute 'analyse'"):
        _ = filterscope.analyse


def test_help_lists_the_public_names():
    text = pydoc.render_doc(filterscope, renderer=pydoc.plaintext)
    assert [name for name in PUBLIC.split() if name not in text] == ["__version__"]
    assert "import filterscope as fs" in text


@pytest.mark.parametrize("name", ["Run", "FilterscopeError"])
def test_results_say_the_name_that_users_know(name):
    assert repr(getattr(filterscope, name)) == f"<class 'filterscope.{name}'>"


def test_what_is_raised_is_what_the_public_name_catches():
    from filterscope.converters import errors

    raised = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(raised) >= 7
    assert all(issubclass(kind, filterscope.FilterscopeError) for kind in raised)
    assert issubclass(errors.UnsupportedOperatorError, errors.ModelError)
    assert issubclass(errors.ParityError, errors.ModelError)
