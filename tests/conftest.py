"""What holds for every test: the user's cache is not touched, and workers side by side leave each other their cores."""

import os
from pathlib import Path

import pytest

# They start other frameworks, browsers, other interpreters or whole analyses; `make test` leaves them out.
SLOW = (
    "benchmarks/test_fuzz.py",
    "converters/sources/test_keras.py",
    "converters/sources/test_keras_activations.py",
    "converters/sources/test_live.py",
    "converters/sources/test_pytorch.py",
    "converters/torch_import/test_node_tests.py",
    "e2e/test_command.py",
    "e2e/test_every_picture.py",
    "e2e/test_process.py",
    "e2e/test_site_in_browser.py",
    "e2e/test_site_in_firefox.py",
    "examples/test_examples.py",
    "test_documentation.py",
    "test_installed.py",
)

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch and NumPy are imported, which take a thread for every core
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def pytest_make_parametrize_id(val, argname):
    """Bytes are no names: an archive holds the second in which it was made, and workers must agree on names."""
    return f"{argname} of {len(val)} bytes" if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items):
    """Mark the tests of slow modules."""
    folder = Path(__file__).parent
    for item in items:
        if item.path.relative_to(folder).as_posix() in SLOW:
            item.add_marker(pytest.mark.slow)
