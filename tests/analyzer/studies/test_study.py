"""Studies are done once, done again when they are asked otherwise, and never half there."""

import json
from types import SimpleNamespace

import pyarrow as pa
import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.tables import TABLES
from filterscope.analyzer.run.writer import RunWriter, remove
from filterscope.analyzer.studies.study import perform
from support.synthetic_run import synthetic_run


class Counting:
    """A study that writes one table and counts how often it was run."""

    name = "tuning"

    def __init__(self, option=1):
        self.option, self.runs = option, 0

    def settings(self, context):
        return {"option": self.option}

    def run(self, context):
        self.runs += 1
        context.notes.append(f"option {self.option}")
        schema = TABLES["tuning/units.parquet"]
        table = pa.Table.from_pylist([{"layer": "a", "channel": self.option}], schema)
        context.writer.write_table("tuning/units.parquet", table)


@pytest.fixture
def folder(tmp_path):
    return synthetic_run(tmp_path / "run", layers=1, channels=2, images=0)


def performed(folder, study):
    with RunWriter(folder, "plan") as writer:
        return perform(study, SimpleNamespace(writer=writer, labels=(), notes=[], unfinished=None))


def test_a_study_is_done_once_and_again_when_asked_otherwise(folder):
    first, second = Counting(1), Counting(2)
    told = performed(folder, first)
    assert performed(folder, first) == told
    assert first.runs == 1
    assert Run(folder).study("tuning")["notes"] == ["option 1"]
    performed(folder, second)
    assert second.runs == 1
    assert Run(folder).table("tuning/units.parquet")["channel"].to_pylist() == [2]


def test_a_study_that_stopped_halfway_is_not_there(folder):
    class Stopping(Counting):
        def run(self, context):
            super().run(context)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        performed(folder, Stopping())
    assert Run(folder).study("tuning") is None


def test_tables_of_studies_that_are_missing_are_empty(folder):
    run = Run(folder)
    for name, schema in TABLES.items():
        assert run.table(name).schema == schema
        assert len(run.table(name)) == 0
    assert len(run.examples(run.layers[0].name)) == 0


def test_a_study_belongs_to_the_run_and_is_removed_with_it(folder):
    performed(folder, Counting())
    assert json.loads((folder / "tuning" / "study.json").read_text())["name"] == "tuning"
    remove(folder)
    assert not folder.exists()
