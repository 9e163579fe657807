"""What holds for every test: the user's cache is not touched, and workers side by side leave each other their cores."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch and NumPy are imported, which take a thread for every core
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def pytest_make_parametrize_id(val, argname):
    """Bytes are no names: an archive holds the second in which it was made, and workers must agree on names."""
    return f"{argname} of {len(val)} bytes" if isinstance(val, bytes) else None
