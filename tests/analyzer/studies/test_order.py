"""The list of the studies is whole: each is there, after what it reads, with the tables that a run may hold."""

import importlib

import pytest

from filterscope.analyzer.run.layout import STUDIES as FOLDERS
from filterscope.analyzer.run.tables import TABLES
from filterscope.analyzer.studies.order import STUDIES


def test_every_folder_of_a_study_is_listed_once():
    names = [kind.name for kind in STUDIES]
    assert sorted(names) == sorted(FOLDERS.split("|"))


def test_a_study_comes_after_those_whose_results_it_reads():
    done = set()
    for kind in STUDIES:
        assert set(kind.after) <= done, kind.name
        done.add(kind.name)


@pytest.mark.parametrize("kind", STUDIES, ids=lambda kind: kind.name)
def test_a_study_is_where_the_list_says(kind):
    module, name = kind.place.split(":")
    study = getattr(importlib.import_module(f"filterscope.analyzer.studies.{module}"), name)
    assert callable(study.run)
    assert callable(study.settings)
    assert isinstance(study.name, property) or study.name == kind.name


def test_tables_are_those_of_a_run():
    fixed = {f"{kind.name}/{table}.parquet" for kind in STUDIES for table in kind.leaves if "{" not in table}
    assert fixed == set(TABLES)
