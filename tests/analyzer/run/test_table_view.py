"""A run's table shows its first rows by itself, and is the pyarrow table in all else."""

import copy
import pickle
import sys
from types import ModuleType, SimpleNamespace

import pyarrow as pa
import pytest

from filterscope.analyzer.run.table_view import TableView
from filterscope.converters.errors import SettingsError

TABLE = pa.table({"layer": ["conv1"] * 12, "activation": [1 / 3] * 11 + [None], "note": ["<b>" + "x" * 40] * 12})


def test_the_first_rows_are_shown():
    lines = repr(TableView(TABLE)).splitlines()
    assert lines[0].split() == ["layer", "activation", "note"]
    assert lines[1].split() == ["conv1", "0.3333", "<b>xxxxxxxxxxxxxxxxxxxx…"]
    assert len(lines) == 12
    assert lines[-1] == "12 rows, 3 columns"


def test_a_notebook_gets_escaped_cells():
    text = TableView(TABLE)._repr_html_()
    assert text.count("<tr>") == 11
    assert "<td>&lt;b&gt;x" in text


def test_wide_tables_are_cut_and_empty_ones_are_no_error():
    wide = pa.table({f"column{number}": [number] for number in range(40)})
    lines = repr(TableView(wide)).splitlines()
    assert all(len(line) <= 120 for line in lines)
    assert "column39" in " ".join(lines[2:])  # what was cut off is named below
    assert repr(TableView(TABLE.slice(0, 0))).endswith("0 rows, 3 columns")
    assert repr(TableView(TABLE.slice(11))).splitlines()[1].split()[1] == "–"


def test_everything_else_is_the_table_itself():
    view = TableView(TABLE)
    assert view.to_pylist() == TABLE.to_pylist()
    assert view["layer"].to_pylist() == ["conv1"] * 12
    assert len(view) == view.num_rows == 12
    assert view.equals(TABLE)
    assert view.equals(TableView(TABLE))
    with pytest.raises(AttributeError):
        _ = view.no_such_thing


def test_pandas_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SettingsError, match="pip install pandas"):
        TableView(TABLE).to_pandas()


def test_pandas_makes_a_frame_where_it_is_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", ModuleType("pandas"))
    assert TableView(SimpleNamespace(to_pandas=dict)).to_pandas(split_blocks=True) == {"split_blocks": True}


def test_a_copy_is_the_same_table():
    assert copy.copy(TableView(TABLE)).equals(TABLE)
    assert pickle.loads(pickle.dumps(TableView(TABLE))).equals(TABLE)
