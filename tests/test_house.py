"""The rules of the house that neither ruff nor import-linter can hold, read from the code itself."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import ROOT

PACKAGES = ("converters", "analyzer", "reports", "filterscope")
# They say that something happened to a thing and not what it is; a reader has to find out.
VAGUE = {"told", "asked", "found", "given", "said", "kept", "made", "taken", "known", "wanted"}
MOST_POSITIONAL = 4  # of a call: whoever reads a fifth has to look the function up
OPTION = re.compile(r"(?<![\w-])--[a-z]")


def files(package: str) -> Iterator[Path]:
    for path in sorted((ROOT / package).rglob("*.py")):
        if path.parent.resolve() == path.parent:  # not through the links in filterscope/
            yield path


def nodes(package: str) -> Iterator[tuple[str, ast.AST]]:
    """Every node of a package's code, with its place."""
    for path in files(package):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def bound(node: ast.AST) -> str:
    """The name that a node binds, if it binds one."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return node.attr
    if isinstance(node, ast.arg):
        return node.arg
    return node.name if isinstance(node, ast.FunctionDef | ast.ClassDef) else ""


@pytest.mark.parametrize("package", PACKAGES)
def test_names_say_what_a_thing_is(package):
    assert not [place for place, node in nodes(package) if bound(node).strip("_").lower() in VAGUE]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_call_needs_counting(package):
    calls = ((place, node) for place, node in nodes(package) if isinstance(node, ast.Call))
    assert not [
        place
        for place, call in calls
        if sum(not isinstance(argument, ast.Starred) for argument in call.args) > MOST_POSITIONAL
    ]


@pytest.mark.parametrize("package", ["converters", "analyzer", "reports"])
def test_only_the_command_line_speaks_of_options(package):
    """The library names a setting (converters.errors.setting); the command shows it as its option."""
    texts = ((place, node) for place, node in nodes(package) if isinstance(node, ast.Constant))
    assert not [place for place, text in texts if isinstance(text.value, str) and OPTION.search(text.value)]


def test_pages_read_a_typed_run():
    """An attribute that is misspelt is found by mypy; a key is not."""
    subscripts = ((place, node) for place, node in nodes("reports") if isinstance(node, ast.Subscript))
    assert not [place for place, node in subscripts if ast.unparse(node) == "dict[str, Any]"]


def test_no_exception_is_made_from_the_order_of_the_rooms():
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


PATH = re.compile(
    r"(?<![\w/.-])(?:analyzer|converters|reports|filterscope|tests|benchmarks|docs)/[\w./-]*\.(?:py|js|md|html)\b"
)


def test_files_that_texts_name_are_there():
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.py")]
    texts += [path for package in PACKAGES for path in files(package)]
    missing = {
        f"{text.relative_to(ROOT)}: {name}"
        for text in texts
        for name in PATH.findall(text.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    }
    assert not missing
