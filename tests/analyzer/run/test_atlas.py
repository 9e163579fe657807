"""Atlases: what is packed comes back, and the same pixels are the same bytes."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from filterscope.analyzer.run import atlas


def tiles(count, height, width, bands, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, bands), dtype=np.uint8)


def read_back(picture):
    """What somebody who opens the PNG file sees."""
    return np.asarray(Image.open(io.BytesIO(atlas.to_png(picture))))


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 40),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    bands=st.sampled_from([1, 2, 3, 4, 5, 12]),
    seed=st.integers(0, 99),
)
def test_every_tile_comes_back_through_a_png_file(count, height, width, bands, seed):
    packed = tiles(count, height, width, bands, seed)
    sheet = read_back(atlas.pack(packed))
    found = [atlas.unpack(sheet, index, height, width, bands) for index in range(count)]
    np.testing.assert_array_equal(np.stack(found), packed)


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_tiles_lie_where_the_format_says(bands):
    """docs/run-format.md: row i // n, column i % n, n = atlas width // tile width; bands stacked as planes."""
    height, width = 4, 6
    packed = tiles(7, height, width, bands)
    sheet = read_back(atlas.pack(packed))
    columns = sheet.shape[1] // width
    tall = height if bands == 3 else height * bands
    for index, tile in enumerate(packed):
        top, left = index // columns * tall, index % columns * width
        found = sheet[top : top + tall, left : left + width]
        expected = tile if bands == 3 else np.concatenate([tile[..., band] for band in range(bands)])
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("count", "height", "width"), [(64, 32, 32), (100, 8, 64), (100, 64, 8), (17, 5, 5)])
def test_a_sheet_is_nearly_square_and_wastes_less_than_a_row(count, height, width):
    columns, rows = np.array(atlas.pack(tiles(count, height, width, 1)).size) // (width, height)
    assert columns * rows - count < columns
    assert 0.5 < columns * width / (rows * height) < 2


OUTSIDE = [  # index, height, width, bands of a tile in a sheet of five RGB tiles of 4 × 6, two to a row
    (6, 4, 6, 3),
    (-1, 4, 6, 3),
    (0, 13, 6, 3),
    (0, 4, 13, 3),
    (0, 0, 6, 3),
    (0, 4, 0, 3),
    (0, 4, 6, 0),
    (0, 4, 6, 1),
    (0, 4, 6, 2),
]


@pytest.mark.parametrize(("index", "height", "width", "bands"), OUTSIDE)
def test_what_a_sheet_does_not_hold_is_an_index_error(index, height, width, bands):
    sheet = read_back(atlas.pack(tiles(5, 4, 6, 3)))
    assert sheet.shape == (12, 12, 3)
    with pytest.raises(IndexError, match=r"atlas|no tile"):
        atlas.unpack(sheet, index, height, width, bands)


def test_a_grey_sheet_holds_no_rgb_tile():
    sheet = read_back(atlas.pack(tiles(3, 4, 6, 1)))
    with pytest.raises(IndexError, match="atlas"):
        atlas.unpack(sheet, 0, 4, 6, 3)


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_the_same_pixels_are_the_same_bytes(bands):
    packed = tiles(10, 7, 5, bands)
    assert atlas.to_png(atlas.pack(packed)) == atlas.to_png(atlas.pack(packed.copy()))


NO_TILES = [
    np.zeros((0, 4, 4, 3), np.uint8),
    np.zeros((4, 4, 3), np.uint8),
    np.zeros((1, 4, 4, 3), np.float32),
]


@pytest.mark.parametrize("wrong", NO_TILES)
def test_only_stacks_of_eight_bit_pictures_are_packed(wrong):
    with pytest.raises(ValueError, match="tiles are"):
        atlas.pack(wrong)
