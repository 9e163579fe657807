"""An image's page: which layers other than convolutions it shows."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from filterscope.analyzer.run import tables
from filterscope.analyzer.run.records import ImageInfo, LayerInfo
from filterscope.reports.site.image_page import ImagePage, OnLayer

BEHIND = [  # value, operator, the convolution before it, channels; and whether it repeats that convolution
    ("a", "Relu", "conv1", 4, True),
    ("b", "MaxPool", "conv1", 4, False),
    ("c", "Sigmoid", "conv2", 3, False),
    ("d", "Relu", "conv3", 5, False),  # not shown above
    ("e", "Gemm", "conv1", 9, False),
    ("f", "Relu", "conv1", 9, False),  # of the dense layer
    ("g", "Clip", "conv4", 2, True),
]


def page_of(shown: dict[str, int]) -> ImagePage:
    layers = [OnLayer(LayerInfo.read({"name": name, "out_channels": count}), "", []) for name, count in shown.items()]
    return ImagePage(0, ImageInfo.read({"name": "a.png"}), (8, 8), (8, 8), layers=layers)


def table(*behind: tuple[str, str, str, int, bool]) -> pa.Table:
    rows = [
        {"image": 0, "value": value, "op": op, "layer": layer, "order": order, "channel": channel, "maximum": 1.0}
        for order, (value, op, layer, channels, _) in enumerate(behind)
        for channel in range(channels)
    ]
    return pa.Table.from_pylist(rows, tables.TABLES["values/values.parquet"])


def test_the_rectified_map_of_a_convolution_that_is_shown_is_not_shown_again():
    page = page_of({"conv1": 4, "conv2": 3, "conv4": 2})
    page.gather_values(SimpleNamespace(tile=lambda row: None), table(*BEHIND))
    assert [row.value for row in page.values] == [value for value, *_, repeats in BEHIND if not repeats]
    assert page.repeated == 2


@pytest.mark.parametrize("shown", [{}, {"conv1": 5}])
def test_without_its_convolution_it_is_shown(shown):
    page = page_of(shown)
    page.gather_values(SimpleNamespace(tile=lambda row: None), table(BEHIND[0]))
    assert [row.value for row in page.values] == ["a"]
    assert page.repeated == 0
