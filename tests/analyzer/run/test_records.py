"""A run's JSON files and tables as Python objects: every value as it stands in the file, None where it is missing."""

import math
from dataclasses import fields

import pytest

from filterscope.analyzer.run import rows
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import ImageInfo, LayerInfo, Record, RunInfo, StudyInfo
from filterscope.analyzer.run.rows import StoredPicture, rows_of
from filterscope.analyzer.run.tables import EXAMPLE_SCHEMA, MAP_SCHEMA, TABLES, UNIT_SCHEMA, WEIGHT_SCHEMA
from support.synthetic_run import synthetic_run

KINDS = [  # class of the rows, columns of their table
    (rows.UnitRow, UNIT_SCHEMA),
    (rows.MapRow, MAP_SCHEMA),
    (rows.ExampleRow, EXAMPLE_SCHEMA),
    (rows.WeightRow, WEIGHT_SCHEMA),
    (rows.ExamplePictureRow, TABLES["examples/pictures.parquet"]),
    (rows.StatisticsRow, TABLES["examples/units.parquet"]),
    (rows.DepthRow, TABLES["examples/layers.parquet"]),
    (rows.AttributionRow, TABLES["attribution/attributions.parquet"]),
    (rows.ClassRow, TABLES["classes/classes.parquet"]),
    (rows.InversionRow, TABLES["inversion/inversions.parquet"]),
    (rows.GroupRow, TABLES["groups/groups.parquet"]),
    (rows.GridRow, TABLES["groups/grid.parquet"]),
    (rows.TuningRow, TABLES["tuning/units.parquet"]),
    (rows.TruthRow, TABLES["truth/units.parquet"]),
    (rows.PathRow, TABLES["truth/paths.parquet"]),
    (rows.ValueRow, TABLES["values/values.parquet"]),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(synthetic_run(tmp_path_factory.mktemp("records") / "run", channels=4, studies=True))


@pytest.mark.parametrize(("kind", "schema"), KINDS, ids=[kind.__name__ for kind, _ in KINDS])
def test_every_field_is_a_column(kind, schema):
    assert {one.name for one in fields(kind)} - set(schema.names) <= {"bands"}


def test_rows_hold_what_the_table_holds(run):
    for kind, table in ((rows.UnitRow, run.units), (rows.MapRow, run.maps(run.layers[0].slug))):
        read = rows_of(table, kind)
        assert read
        for row, expected in zip(read, table.to_pylist(), strict=True):
            for one in fields(kind):
                value = getattr(row, one.name)
                both_nan = isinstance(value, float) and math.isnan(value) and math.isnan(expected[one.name])
                assert both_nan or value == expected.get(one.name)


def test_a_picture_is_found_by_its_row_and_by_a_dictionary_of_its_columns(run):
    row, columns = rows_of(run.units, rows.UnitRow)[0], run.units.to_pylist()[0]
    assert (run.tile(row) == run.tile(columns)).all()
    nowhere = StoredPicture(atlas=None, tile=None, height=None, width=None, bands=None)
    assert run.tile(nowhere) is None


def test_a_record_is_its_json_object_too(run):
    assert run.info.model.parity.original.worst == run.info["model"]["parity"]["original"]["worst"]
    assert run.layers[2].field.is_global is run.layers[2]["field"]["global"] is True
    assert run.layers[0].kernel == tuple(run.layers[0]["kernel"]) == (3, 3)
    assert run.images[0].prediction.top[0].label == run.images[0]["prediction"]["top"][0]["label"]
    assert run.study("tuning").settings == run.study("tuning")["settings"]
    assert dict(run.info) == run.info.json
    assert "model" in run.info


@pytest.mark.parametrize("kind", [RunInfo, LayerInfo, ImageInfo, StudyInfo])
def test_what_a_file_lacks_is_none_or_empty(kind):
    record = kind.read({"key of a newer version": 1})
    for one in fields(kind):
        value = getattr(record, one.name)
        assert one.name == "json" or value is None or value in ((), {}) or (isinstance(value, Record) and not value)


@pytest.mark.parametrize("content", [3, [1], {"model": 3}, {"labels": 3}, {"timings": 3}])
def test_a_value_of_another_type_is_refused(content):
    with pytest.raises((AttributeError, TypeError, ValueError)):
        RunInfo.read(content)
