"""What is white in a picture of more than 8 bits: never what one picture happens to hold."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from filterscope.analyzer.data.dataset import batches, open_dataset
from filterscope.analyzer.data.images import find, load, photos_of, read
from filterscope.analyzer.data.white import Levels, White, to_8_bit, white_of
from filterscope.analyzer.network.inputs import InputSpec
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.analyzer.studies.examples.examples import Examples
from filterscope.converters.errors import InputError, SettingsError
from support.png_files import write_deep_png as png
from support.png_files import write_png

SPEC = InputSpec("x", "NCHW", 1, 4, 4, PRESETS["unit"], "", True, True)
TWELVE = np.arange(36, dtype=np.uint16).reshape(6, 6) * 117  # 0..4095, as a 12-bit camera gives them
LEVELS = np.rint(TWELVE / 4095 * 255)


def tiff(path, pixels, **tags):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for number, value in tags.items():
        info[int(number[1:])] = value
    Image.fromarray(pixels).save(path, tiffinfo=info)
    return path


def pixels_of(path, white=None):
    (source,) = find([path], white)
    return read(source).pixels


# --- the rule, file by file


def test_a_16_bit_png_is_scaled_by_its_type_and_by_white_where_one_is_named(tmp_path):
    file = png(tmp_path / "a.png", TWELVE)
    np.testing.assert_array_equal(pixels_of(file)[..., 0], np.rint(TWELVE / 65535 * 255))
    np.testing.assert_array_equal(pixels_of(file, 4095)[..., 0], LEVELS)


def test_significant_bits_of_a_png_say_what_is_white_where_the_samples_are_not_scaled_up(tmp_path):
    raw = png(tmp_path / "raw.png", TWELVE, 12)
    np.testing.assert_array_equal(pixels_of(raw)[..., 0], LEVELS)
    np.testing.assert_array_equal(pixels_of(raw, 65535)[..., 0], LEVELS)  # the file itself comes first
    scaled = png(tmp_path / "scaled.png", TWELVE << 4 | TWELVE >> 8, 12)  # as PNG's own text wants it
    np.testing.assert_array_equal(pixels_of(scaled)[..., 0], LEVELS)
    dark = png(tmp_path / "dark.png", (TWELVE << 4 | TWELVE >> 8) // 4096 * 16, 12)  # scaled up, and below 4096
    assert pixels_of(dark).max() == 1


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_are_read_with_both_bytes(tmp_path, channels):
    values = np.random.default_rng(0).integers(0, 65536, (9, 7, channels)).astype(np.uint16)
    expected = values[..., :3] / 65535
    if channels == 4:
        alpha = values[..., 3:] / 65535
        expected = expected * alpha + (1 - alpha)
    found = pixels_of(png(tmp_path / "a.png", values))
    np.testing.assert_allclose(found, expected * 255, atol=0.5 if channels == 3 else 1)


def test_12_bits_in_a_colour_png_keep_their_levels(tmp_path):
    values = np.stack([TWELVE, TWELVE[::-1], TWELVE.T], axis=2)
    expected = np.rint(values / 4095 * 255)
    np.testing.assert_array_equal(pixels_of(png(tmp_path / "a.png", values), 4095), expected)
    np.testing.assert_array_equal(pixels_of(png(tmp_path / "b.png", values, 12)), expected)


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("packed", [None, "zlib"])
def test_a_tiff_with_16_bit_colours_is_read_with_both_bytes(tmp_path, byteorder, packed):
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).integers(0, 4096, (9, 7, 3)).astype(np.uint16)
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, values, photometric="rgb", byteorder=byteorder, compression=packed)
    np.testing.assert_array_equal(pixels_of(file, 4095), np.rint(values / 4095 * 255))
    np.testing.assert_array_equal(pixels_of(file), np.rint(values / 65535 * 255))


@pytest.mark.parametrize("tags", [{"_281": 4095}, {"_341": 4095}], ids=["MaxSampleValue", "SMaxSampleValue"])
def test_a_tiff_states_its_white_in_a_tag(tmp_path, tags):
    file = tiff(tmp_path / "a.tif", TWELVE, **tags)
    np.testing.assert_array_equal(pixels_of(file)[..., 0], LEVELS)
    np.testing.assert_array_equal(pixels_of(file, 100)[..., 0], LEVELS)


def test_a_tiff_with_12_bits_a_sample_has_its_own_white(tmp_path):
    values = TWELVE.ravel().tolist()
    data = b"".join(
        bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in zip(values[::2], values[1::2], strict=True)
    )
    entries = [(256, 6), (257, 6), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 6), (279, len(data))]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries) + struct.pack("<I", 0)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.tif")[..., 0], LEVELS)


def test_a_tiff_in_which_0_is_white_is_turned_round(tmp_path):
    file = tiff(tmp_path / "a.tif", TWELVE * 16, _262=0)
    np.testing.assert_array_equal(pixels_of(file)[..., 0], np.rint((65535 - TWELVE * 16.0) / 65535 * 255))


def test_float_tiffs_of_a_folder_share_one_white(tmp_path):
    dark, bright = (np.full((4, 4), value, np.float32) for value in (0.1, 0.8))
    bright[0, 0] = 1.0
    for name, pixels in (("dark", dark), ("bright", bright)):
        tiff(tmp_path / f"{name}.tif", pixels)
    assert {photo.name: int(photo.pixels[1, 1, 0]) for photo in map(read, find([tmp_path]))} == {
        "bright.tif": 204,
        "dark.tif": 26,
    }
    tiff(tmp_path / "dark.tif", dark * 255)
    with pytest.raises(InputError, match=r"dark\.tif: pixels from 25\.5 to 25\.5 and white is 1; .*`white`"):
        [read(source) for source in find([tmp_path])]
    assert pixels_of(tmp_path / "dark.tif", 255).max() == 26


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((4, 4), -0.5, np.float32), "pixels from -0.5 to -0.5; give images before preprocessing"),
        (np.full((4, 4), np.nan, np.float32), "not finite"),
        (np.full((4, 4), 70000, np.int32), "pixels from 70000 to 70000 and white is 255; say what white is"),
        (np.full((4, 4), -3, np.int32), "where 0 is black"),
    ],
)
def test_what_lies_outside_black_and_white_is_refused(tmp_path, pixels, words):
    with pytest.raises(InputError, match=words):
        pixels_of(tiff(tmp_path / "a.tif", pixels))


# --- arrays


@pytest.mark.parametrize(
    ("array", "white", "expected"),
    [
        (TWELVE, None, TWELVE / 65535),
        (TWELVE, 4095, TWELVE / 4095),
        (np.uint16(TWELVE // 117), None, TWELVE // 117 / 65535),  # nothing above 255, and still of its type
        (TWELVE.astype(np.int32), 4095, TWELVE / 4095),
        (TWELVE.astype(np.float64), 4095, TWELVE / 4095),
        (np.uint8(TWELVE // 117), 35, TWELVE / 4095),
        (np.uint8(TWELVE // 117), 4095, TWELVE // 117 / 255),  # bytes cannot hold this white
        (TWELVE, 2000, np.minimum(TWELVE / 2000, 1)),
    ],
)
def test_arrays_are_scaled_by_white(tmp_path, array, white, expected):
    np.save(tmp_path / "a.npy", array[None])
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.npy", white)[..., 0], np.rint(expected * 255))
    (photo,) = photos_of({"a": array}, white)
    np.testing.assert_array_equal(photo.pixels[..., 0], np.rint(expected * 255))
    data = open_dataset([tmp_path / "a.npy"], white)
    np.testing.assert_array_equal(data.read(0).pixels[..., 0], np.rint(expected * 255))


@pytest.mark.parametrize("open_all", [find, open_dataset])
def test_float_arrays_of_one_data_set_share_one_white(tmp_path, open_all):
    np.save(tmp_path / "dark.npy", np.full((1, 4, 4), 0.5))
    np.save(tmp_path / "bright.npy", np.full((1, 4, 4), 200.0))
    alone = open_all([tmp_path / "dark.npy"])
    both = open_all([tmp_path / "dark.npy", tmp_path / "bright.npy"])
    first = [read(found[0]) if open_all is find else found.read(0) for found in (alone, both)]
    assert [int(photo.pixels.max()) for photo in first] == [128, 0]
    assert [photo.pixels.max() for photo in photos_of({"a": np.full((4, 4), 0.5), "b": np.full((4, 4), 200.0)})] == [
        0,
        200,
    ]


def test_a_range_of_an_array_file_follows_white_too(tmp_path):
    np.save(tmp_path / "a.npy", TWELVE[None].astype(np.int64))
    data = open_dataset([f"{tmp_path}/a.npy:0"], 4095)
    np.testing.assert_array_equal(data.read(0).pixels[..., 0], LEVELS)


# --- what is said


def test_a_data_set_that_uses_little_of_its_range_is_said_once(tmp_path):
    for number in range(3):
        png(tmp_path / f"{number}.png", TWELVE)
    Image.fromarray(np.full((4, 4), 255, np.uint8)).save(tmp_path / "bright.png")
    levels = Levels()
    list(load(find([tmp_path]), SPEC, levels=levels))
    (sentence,) = levels.warnings()
    assert sentence.startswith("No pixel of 3 images is above 4095, less than a sixteenth of the range up to 65535")
    assert "`white`" in sentence
    named = Levels()
    list(load(find([tmp_path], 4095), SPEC, levels=named))
    assert named.warnings() == []
    (batch,) = batches(open_dataset([tmp_path]), SPEC, "auto", 9)
    assert batch.levels.warnings() == [sentence]


def test_pixels_brighter_than_a_stated_white_are_said(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([TWELVE, TWELVE // 4]))
    levels = Levels()
    list(load(find([tmp_path / "a.npy"], 2000), SPEC, levels=levels))
    assert levels.warnings() == [
        "1 of 2 images hold pixels up to 4095, brighter than white (2000); they are shown and measured as white."
    ]


def test_levels_can_be_saved_and_joined():
    levels, other = Levels(), Levels()
    levels.add(65535, True, 4000)
    other.restore(levels.state())
    other.join(levels)
    assert other.rows == {(65535.0, True): (2, 4000.0, 0)}


@pytest.mark.parametrize("white", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "call",
    [
        lambda white: find(["a.npy"], white),
        lambda white: open_dataset(["a.npy"], white),
        lambda white: Examples("a.npy", white=white),
        lambda white: photos_of({}, white),
        White,
    ],
)
def test_a_white_that_is_none_is_refused_at_birth(call, white):
    with pytest.raises(SettingsError, match=r"`white=.*`: .*above 0"):
        call(white)


def test_white_and_all_above_it_become_255():
    white = white_of(np.dtype(np.float32), None, 2.0)
    np.testing.assert_array_equal(to_8_bit(np.float32([0, 1, 2, 9]), white), [0, 128, 255, 255])


def test_a_packed_file_takes_white_too(tmp_path):
    content = png(tmp_path / "a.png", TWELVE).read_bytes()
    np.savez(tmp_path / "p.npz", data=np.frombuffer(content, np.uint8), offsets=[0, len(content)])
    np.testing.assert_array_equal(pixels_of(tmp_path / "p.npz", 4095)[..., 0], LEVELS)
    assert io.BytesIO(content).read(4) == b"\x89PNG"


def test_white_of_a_16_bit_pgm_is_the_most_that_its_type_holds(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 257 * 100, 65535))
    assert read(find([tmp_path / "a.pgm"])[0]).pixels.reshape(-1).tolist() == [0, 100, 255]


def test_the_transparent_colour_of_a_16_bit_png_becomes_white(tmp_path):
    row = b"\0" + struct.pack(">6H", 257 * 10, 257 * 20, 257 * 30, 257 * 10, 257 * 20, 257 * 40)
    head = (b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    key = (b"tRNS", struct.pack(">3H", 257 * 10, 257 * 20, 257 * 30))
    file = write_png(tmp_path / "a.png", [head, key, (b"IDAT", zlib.compress(row))])
    assert read(find([file])[0]).pixels.tolist() == [[[255, 255, 255], [10, 20, 40]]]
