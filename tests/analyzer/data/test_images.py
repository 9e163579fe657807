"""The user's images: found, read, and brought to the network's size."""

import io
import pickle
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from filterscope.analyzer.data import decoding
from filterscope.analyzer.data.images import Photo, find, fit, load, photos_of, read
from filterscope.analyzer.network.inputs import InputSpec
from filterscope.analyzer.network.preprocessing import PRESETS, custom
from filterscope.converters.errors import InputError, SettingsError

RNG = np.random.default_rng(7)
COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [250, 240, 10]], [[9, 8, 7], [0, 0, 0]]], np.uint8)  # 3x2


def spec(height=8, width=8, channels=3, preprocessing=PRESETS["unit"]):
    return InputSpec("x", "NCHW", channels, height, width, preprocessing, "From a test.", True, True)


def photo(pixels, name="a.png"):
    return Photo(name, pixels, pixels.shape[:2], None)


def noise(height, width, channels=3):
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def save(path, pixels=COLOURS, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def only(path):
    (source,) = find([path])
    return read(source)


# --- finding


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.png",
        "a.JPG",
        ".hidden.png",
        "cat/2.png",
        "cat/1.webp",
        ".git/x.png",
        "cat/deep/3.png",
        "dog/4.tiff",
    ):
        save(tmp_path / name)
    (tmp_path / "labels.csv").write_text("a,b")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "flow.npy", np.zeros((2, 3)))
    return tmp_path


FIND_CASES = [  # sources, names found
    (["."], ["a.JPG", "b.png", "cat/1.webp", "dog/4.tiff", "cat/2.png"]),
    (["cat"], ["1.webp", "2.png", "deep/3.png"]),
    (["b.png", "a.JPG", "b.png"], ["b.png", "a.JPG"]),
    (["*.png"], ["b.png"]),
    (["*"], ["a.JPG", "b.png"]),
    (["*/*.png"], ["cat/2.png"]),
    (["cat/**"], ["1.webp", "2.png", "deep/3.png"]),
    (["dog", "."], ["4.tiff", "a.JPG", "b.png", "cat/1.webp", "cat/2.png"]),  # each once
]


@pytest.mark.parametrize(("sources", "names"), FIND_CASES)
def test_names_stand_for_images_in_order_and_each_once(folder, sources, names):
    assert [source.name for source in find([folder / source for source in sources])] == names


@pytest.mark.parametrize("source", [".", "*/*", "**"])
def test_of_a_folder_a_class_the_first_images_are_of_different_classes(tmp_path, source):
    for name in ("cat/1.png", "cat/2.png", "cat/3.png", "dog/1.png", "emu/1.png", "emu/2.png"):
        save(tmp_path / name)
    found = [image.name for image in find([tmp_path / source])]
    assert found == ["cat/1.png", "dog/1.png", "emu/1.png", "cat/2.png", "emu/2.png", "cat/3.png"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    assert [source.name for source in find([save(tmp_path / "a[1].png")])] == ["a[1].png"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.png", "missing.png: no such file or folder"),
        ("empty", "empty: no images in this folder or directly in its sub-folders; looked for .avif, .bmp"),
        ("*.gif", "no image matches; looked for .*among 0 matches"),
        ("*.csv", "among 1 matches"),
        ("missing.npz:0-9", "missing.npz: no such file"),
        ("x" * 5000, "cannot be looked at"),
    ],
)
def test_a_name_that_stands_for_no_image_says_what_was_looked_for(folder, source, words):
    with pytest.raises(InputError, match=words) as caught:
        find([folder / source])
    assert "\n" not in str(caught.value)


def test_no_names_at_all_are_an_error():
    with pytest.raises(InputError, match="no images: name"):
        find([])


# --- reading pictures


def test_a_picture_comes_back_as_it_was(tmp_path):
    got = only(save(tmp_path / "a.png"))
    np.testing.assert_array_equal(got.pixels, COLOURS)
    assert (got.name, got.size, got.label) == ("a.png", (3, 2), None)


def picture(mode, values, **info):
    image = Image.new(mode, (len(values), 1))
    image.putdata(values)
    image.info.update(info)
    return image


def palette():
    image = picture("P", [0, 1, 2])
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return image


MODE_CASES = [  # picture, how it is saved, expected pixels of its only row
    (picture("1", [0, 1]), {"format": "PNG"}, [[0], [255]]),
    (picture("L", [0, 7, 255]), {"format": "PNG"}, [[0], [7], [255]]),
    (picture("L", [0, 7, 255]), {"format": "PNG", "transparency": 7}, [[0], [255], [255]]),
    (picture("LA", [(10, 255), (10, 0), (0, 128)]), {"format": "PNG"}, [[10], [255], [127]]),
    (palette(), {"format": "PNG"}, [[255, 0, 0], [0, 255, 0], [0, 0, 255]]),
    (palette(), {"format": "PNG", "transparency": 1}, [[255, 0, 0], [255, 255, 255], [0, 0, 255]]),
    (palette(), {"format": "GIF"}, [[255, 0, 0], [0, 255, 0], [0, 0, 255]]),
    (picture("RGB", [(1, 2, 3), (4, 5, 6)]), {"format": "PNG", "transparency": (1, 2, 3)}, [[255] * 3, [4, 5, 6]]),
    (picture("RGBA", [(9, 9, 9, 0), (0, 100, 255, 51)]), {"format": "PNG"}, [[255] * 3, [204, 224, 255]]),
    (picture("RGBA", [(9, 9, 9, 0), (0, 100, 255, 51)]), {"format": "TIFF"}, [[255] * 3, [204, 224, 255]]),
    (picture("CMYK", [(0, 0, 0, 0), (0, 255, 255, 0)]), {"format": "TIFF"}, [[255] * 3, [255, 0, 0]]),
    (picture("I;16", [0, 257, 32896, 65535]), {"format": "PNG"}, [[0], [1], [128], [255]]),
    (picture("I;16", [0, 4095]), {"format": "TIFF"}, [[0], [16]]),  # 12 bits in 16: scaled by 65535, not stretched
    (picture("I", [0, 255, 51]), {"format": "TIFF"}, [[0], [255], [51]]),  # 32 bits: what arithmetic on bytes leaves
    (picture("F", [0.0, 0.2, 1.0]), {"format": "TIFF"}, [[0], [51], [255]]),
    (picture("F", [0.2, 0.2]), {"format": "TIFF"}, [[51], [51]]),  # by no range of its own
]


@pytest.mark.parametrize(
    ("image", "options", "expected"), MODE_CASES, ids=[f"{c[0].mode}-{c[1]['format']}" for c in MODE_CASES]
)
def test_every_mode_becomes_8_bit_grey_or_rgb(tmp_path, image, options, expected):
    image.save(tmp_path / "a", **options)
    np.testing.assert_array_equal(only(tmp_path / "a").pixels[0], expected)


EXIF_TURNS = {  # orientation: what a viewer does to the stored picture (EXIF 2.32, tag 274)
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize("orientation", EXIF_TURNS)
def test_the_rotation_that_a_camera_notes_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    got = only(save(tmp_path / "a.png", exif=exif))
    np.testing.assert_array_equal(got.pixels, EXIF_TURNS[orientation](COLOURS))
    assert got.size == got.pixels.shape[:2]


@pytest.mark.parametrize("orientation", EXIF_TURNS)
def test_it_is_applied_to_16_bits_too(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    grey = COLOURS[..., :1]
    Image.fromarray(grey[..., 0].astype(np.uint16) * 257).save(tmp_path / "a.png", exif=exif)
    got = only(tmp_path / "a.png")
    np.testing.assert_array_equal(got.pixels, EXIF_TURNS[orientation](grey))
    assert got.size == got.pixels.shape[:2]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_the_first_frame_of_an_animation_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert only(tmp_path / f"a.{suffix}").pixels[0, 0].tolist() == [255, 0, 0]


def encoded(kind):
    file = io.BytesIO()
    Image.fromarray(noise(40, 50)).save(file, kind)
    return file.getvalue()


FILES = {kind: encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")}


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("kind", FILES)
def test_a_truncated_file_is_named_in_one_line(tmp_path, kind, share):
    whole = FILES[kind]
    (tmp_path / "photo").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"^photo: (truncated|not an image)") as caught:
        only(tmp_path / "photo")
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(FILES)),
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
)
def test_a_damaged_file_is_read_or_refused_and_never_anything_else(tmp_path, kind, damage):
    data = bytearray(FILES[kind])
    for position, value in damage:
        data[position] = value
    (tmp_path / "photo").write_bytes(data)
    try:
        pixels = only(tmp_path / "photo").pixels
    except InputError as error:
        assert str(error).startswith("photo: ")  # noqa: PT017 (either way is right)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),  # a program, for Ghostscript to run
        (b"", "photo.jpg: the file is empty"),
        (b"<html>404</html>", "photo.jpg: not an image"),
        (b"\x00" * 99, "not an image"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, words):
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(InputError, match=words):
        only(tmp_path / "photo.jpg")


def test_a_file_that_went_away_is_named(tmp_path):
    (source,) = find([save(tmp_path / "a.png")])
    source.path.unlink()
    with pytest.raises(InputError, match=r"a.png: cannot be read"):
        read(source)


@pytest.mark.parametrize("limit", [30, 10])  # Pillow warns above its limit and refuses above twice that
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, limit):
    save(tmp_path / "a.png", noise(5, 7))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InputError, match=r"a.png: too large"):
        only(tmp_path / "a.png")


def test_a_picture_of_more_pixels_than_are_read_is_refused(tmp_path, monkeypatch):
    save(tmp_path / "a.png", noise(5, 7))
    monkeypatch.setattr(decoding, "MOST_PIXELS", 34)
    with pytest.raises(InputError, match=r"a.png: too large"):
        only(tmp_path / "a.png")


def test_want_of_memory_is_no_damage(tmp_path, monkeypatch):
    save(tmp_path / "a.png", noise(5, 7))
    monkeypatch.setattr(decoding, "_eight_bit", lambda image: np.empty(1 << 59))
    with pytest.raises(MemoryError):
        only(tmp_path / "a.png")


# --- reading arrays

GREY = noise(4, 6 * 5, 1).reshape(4, 6, 5)
RGB = noise(4 * 6, 5).reshape(4, 6, 5, 3)
BANDS = noise(4 * 9, 8, 5).reshape(4, 9, 8, 5)
ARRAY_CASES = [  # array, expected (N, H, W, C)
    (GREY, GREY[..., None]),
    (RGB, RGB),
    (RGB.transpose(0, 3, 1, 2), RGB),
    (BANDS, BANDS),
    (BANDS.transpose(0, 3, 1, 2), BANDS),
    (RGB[0], RGB[:1]),  # one colour picture, not six pictures three pixels wide
    (RGB / 255, RGB),
    ((RGB / 255).astype(np.float16), RGB),
    (RGB.astype(np.float32), RGB),
    (RGB.astype(np.int64), RGB),
    (RGB.astype(np.uint16) * 257, RGB),
    (RGB > 128, np.where(RGB > 128, 255, 0)),
    (np.float32([[[-1e-6, 1 + 1e-6]]]), np.array([0, 255]).reshape(1, 1, 2, 1)),  # interpolation overshoots a little
]


@pytest.mark.parametrize(("array", "expected"), ARRAY_CASES)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_any_layout_and_number_type_become_8_bit_pixels(tmp_path, suffix, array, expected):
    if suffix == "npy":
        np.save(tmp_path / "a.npy", array)
    else:
        np.savez(tmp_path / "a.npz", some=array, other=np.zeros(3))
    photos = [read(source) for source in find([tmp_path / f"a.{suffix}"])]
    np.testing.assert_array_equal([p.pixels for p in photos], expected)
    assert all(p.pixels.dtype == np.uint8 for p in photos)
    assert photos[-1].name == f"a.{suffix}[{len(expected) - 1}]"


LABEL_CASES = [  # arrays of the file, labels of its images
    ({"x_test": GREY, "y_test": [3, 1, 2, 0], "x_train": GREY[:2], "y_train": [9, 9]}, [3, 1, 2, 0]),
    ({"x": GREY, "y": np.uint8([[3], [1], [2], [0]])}, [3, 1, 2, 0]),
    ({"x": GREY, "y": [9] * 4, "labels": [1] * 4}, [9] * 4),
    ({"images": GREY, "labels": [5, 6, 7, 8]}, [5, 6, 7, 8]),
    ({"images": GREY, "labels": ["a", "b", "c", "d"]}, [None] * 4),
    ({"data": GREY}, [None] * 4),
]


@pytest.mark.parametrize(("arrays", "labels"), LABEL_CASES)
def test_labels_beside_the_images_are_kept(tmp_path, arrays, labels):
    np.savez(tmp_path / "a.npz", **arrays)
    assert [read(source).label for source in find([tmp_path / "a.npz"])] == labels


def packed(path, pictures, **more):
    files = [io.BytesIO() for _ in pictures]
    for file, pixels in zip(files, pictures, strict=True):
        Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    sizes = [len(file.getvalue()) for file in files]
    data = np.frombuffer(b"".join(file.getvalue() for file in files), np.uint8)
    np.savez(path, **{"data": data, "offsets": np.cumsum([0, *sizes]), **more})


def test_encoded_files_packed_end_to_end_are_read_one_by_one(tmp_path):
    packed(tmp_path / "p.npz", RGB, labels=np.uint8([1, 2, 3, 4]), classes=np.array(["a", "b"]))
    photos = [read(source) for source in find([tmp_path / "p.npz"])]
    np.testing.assert_array_equal([p.pixels for p in photos], RGB)
    assert [p.label for p in photos] == [1, 2, 3, 4]


def test_a_broken_picture_among_packed_ones_is_named_by_its_number(tmp_path):
    packed(tmp_path / "p.npz", RGB, offsets=[0, 5, 9])
    with pytest.raises(InputError, match=r"^p.npz\[1\]: not an image"):
        read(find([tmp_path / "p.npz"])[1])


@pytest.mark.parametrize(("suffix", "indices"), [(":0-2", [0, 1, 2]), (":3", [3]), (":2-3", [2, 3])])
def test_a_range_of_an_array_file_includes_both_ends(tmp_path, suffix, indices):
    np.savez(tmp_path / "a.npz", x=GREY)
    found = find([f"{tmp_path / 'a.npz'}{suffix}"])
    assert [source.name for source in found] == [f"a.npz[{i}]" for i in indices]
    np.testing.assert_array_equal([read(source).pixels[..., 0] for source in found], GREY[indices])


def test_an_array_file_that_lost_images_or_went_away_is_named(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    last = find([tmp_path / "a.npy"])[-1]
    np.save(tmp_path / "a.npy", GREY[:2])
    with pytest.raises(InputError, match=r"a\.npy: holds images 0 to 1, not 3"):
        read(last)
    (tmp_path / "a.npy").unlink()
    with pytest.raises(InputError, match=r"a\.npy: cannot be read \(No such file or directory\)"):
        read(last)


@pytest.mark.parametrize("shape", [(4,), (1, 2, 3, 4), (0, 4), (4, 4, 0)])
def test_an_array_of_a_caller_that_is_no_picture_is_refused(shape):
    with pytest.raises(InputError, match=re.escape(f"mine: a picture is (H, W) or (H, W, C), got shape {shape}")):
        photos_of({"mine": np.zeros(shape)})


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    read(find([tmp_path / "a.npy"])[0])
    np.save(tmp_path / "a.npy", GREY[:2] // 2 + 1)
    found = find([tmp_path / "a.npy"])
    assert len(found) == 2
    np.testing.assert_array_equal(read(found[1]).pixels[..., 0], GREY[1] // 2 + 1)


BAD_ARRAYS = [  # content of a.npz, words
    ({"x": np.zeros((2, 3))}, r"a.npz: images are \(N, H, W\).* got shape \(2, 3\)"),
    ({"a": GREY, "b": GREY}, "has a, b; call the images one of x_test, x, images, data"),
    ({}, "has no arrays"),
    ({"x": np.array([{}, []], object)}, "holds Python objects"),
    ({"x": (GREY / 127.5) - 1}, "give images before preprocessing"),
    ({"x": np.full((1, 2, 2), np.nan)}, "pixels from nan to nan"),
    ({"x": np.full((1, 2, 2), 1000)}, "pixels from 1000 to 1000"),
    ({"x": GREY.astype(complex)}, "pixels of type complex128"),
    ({"x": GREY[:0]}, "holds no images"),
    ({"x": GREY[:, :0]}, "have no pixels"),
    ({"x": GREY, "y": [1, 2]}, "y has 2 labels for 4 images"),
    ({"data": np.zeros(9, np.uint8), "offsets": [0, 5, 4]}, "offsets must rise"),
    ({"data": np.zeros(9, np.uint8), "offsets": [0, 10]}, "at most the 9 bytes"),
    ({"data": np.zeros(9), "offsets": [0, 5]}, "offsets must rise"),
]


@pytest.mark.parametrize(("arrays", "words"), BAD_ARRAYS)
def test_arrays_that_are_no_images_are_refused_in_one_line(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=words) as caught:
        find([tmp_path / "a.npz"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", b"", "the file is empty"),
        ("a.npz", b"no archive", "a.npz: not a NumPy file"),
        ("a.npz", b"PK\x03\x04 cut off", "a.npz: not a readable array file"),
        ("a.npy", pickle.dumps([1]), "a.npy: not a"),
        ("a.npy", b"\x93NUMPY\x01\x00", "a.npy: not a readable array file"),
    ],
)
def test_a_file_that_is_no_array_file_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        find([tmp_path / name])


def test_a_pickle_is_never_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object))
    with pytest.raises(InputError, match="holds Python objects, which are never loaded"):
        find([tmp_path / "a.npy"])


@pytest.mark.parametrize("suffix", [":4", ":2-9", ":3-1"])
def test_a_range_outside_the_file_says_what_it_holds(tmp_path, suffix):
    np.savez(tmp_path / "a.npz", x=GREY)
    with pytest.raises(InputError, match=r"a.npz: holds images 0 to 3; "):
        find([f"{tmp_path / 'a.npz'}{suffix}"])


# --- fitting

SIZES = [(300, 400), (400, 300), (256, 256), (301, 477), (20, 31), (1000, 300), (224, 224), (3000, 250)]


def evaluated(pixels, margin, size):
    """ImageNet's evaluation recipe: the shorter side to `margin`, then the centre."""
    rows, columns = pixels.shape[:2]
    long = round(margin * max(rows, columns) / min(rows, columns))
    height, width = (margin, long) if rows <= columns else (long, margin)
    full = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    top, left = (height - size) // 2, (width - size) // 2
    return np.asarray(full)[top : top + size, left : left + size]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(("mode", "margin"), [("crop", 256), ("cover", 224)])
def test_crop_and_cover_give_what_resizing_and_cropping_give(shape, mode, margin):
    pixels = noise(*shape)
    got = fit(photo(pixels), spec(224, 224), mode)
    # Of a very long picture only the wanted part is made, whose corners are rounded to 32 bits.
    np.testing.assert_allclose(
        got.astype(int), evaluated(pixels, margin, 224).astype(int), rtol=0, atol=max(shape) > 8 * min(shape)
    )


def test_squash_ignores_the_aspect():
    pixels = noise(37, 90)
    expected = np.asarray(Image.fromarray(pixels).resize((20, 30), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fit(photo(pixels), spec(30, 20), "squash"), expected)


@pytest.mark.parametrize(
    ("shape", "inside"), [((10, 40), np.s_[15:25, :]), ((40, 10), np.s_[:, 15:25]), ((80, 80), np.s_[:, :])]
)
def test_fit_shows_all_of_the_picture_on_mid_grey(shape, inside):
    got = fit(photo(np.full((*shape, 3), 200, np.uint8)), spec(40, 40), "fit")
    expected = np.full((40, 40, 3), 128)
    expected[inside] = 200
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("preprocessing", "same_as"),
    [
        (PRESETS["imagenet"], "crop"),
        (PRESETS["caffe-bgr"], "crop"),
        (PRESETS["unit"], "cover"),
        (custom(1, [0], [1]), "cover"),
    ],
)
def test_auto_leaves_the_right_size_alone_and_goes_by_the_preset_otherwise(preprocessing, same_as):
    made = spec(40, 40, preprocessing=preprocessing)
    right, wrong = noise(40, 40), noise(50, 70)
    np.testing.assert_array_equal(fit(photo(right), made), right)
    np.testing.assert_array_equal(fit(photo(wrong), made), fit(photo(wrong), made, same_as))


@pytest.mark.parametrize("mode", ["auto", "crop", "cover", "squash", "fit"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (3, 60000), (60000, 3), (223, 225), (7, 5)])
@pytest.mark.parametrize("preset", ["unit", "imagenet"])
def test_a_plain_picture_of_any_size_stays_plain(mode, shape, preset):
    got = fit(photo(np.full((*shape, 3), 77, np.uint8)), spec(24, 31, preprocessing=PRESETS[preset]), mode)
    assert (got.shape, got.dtype) == ((24, 31, 3), np.uint8)
    assert set(np.unique(got)) <= ({77, 128} if mode == "fit" else {77})


@pytest.mark.parametrize("mode", ["crop", "cover"])
@pytest.mark.parametrize(("shape", "size"), [((100, 100), (50, 100)), ((400, 90), (24, 31)), ((90, 400), (31, 24))])
def test_the_centre_of_the_picture_stays_the_centre(mode, shape, size):
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    ramp = np.rint(127.5 + 60 * rows + 60 * columns).astype(np.uint8)[..., None]
    got = fit(photo(ramp), spec(*size, channels=1), mode)[..., 0].astype(float)
    np.testing.assert_allclose(got + got[::-1, ::-1], 255, atol=5)  # a half pixel where the margin is odd


def test_grey_and_colour_become_what_the_network_takes():
    grey, colour = noise(8, 8, 1), noise(8, 8)
    np.testing.assert_array_equal(fit(photo(grey), spec()), np.repeat(grey, 3, axis=2))
    luma = colour @ [0.299, 0.587, 0.114]  # ITU-R 601-2
    np.testing.assert_allclose(fit(photo(colour), spec(channels=1))[..., 0].astype(float), luma, atol=1)


def test_a_multi_band_network_takes_arrays_of_its_own_channels():
    bands = noise(16, 16, 5)
    assert fit(photo(bands), spec(channels=5)).shape == (8, 8, 5)
    np.testing.assert_array_equal(
        fit(photo(bands), spec(channels=5))[..., 3], fit(photo(bands[..., 3:4]), spec(channels=1))[..., 0]
    )
    with pytest.raises(InputError, match=r"a.png: has 3 channels, the network takes 5; give .*\(N, H, W, 5\)"):
        fit(photo(noise(8, 8)), spec(channels=5))


def test_an_image_of_another_size_is_refused_where_none_is_to_be_resized():
    right, wrong = (Photo("a.png", np.zeros((*size, 3), np.uint8), size, None) for size in ((8, 8), (6, 8)))

    assert fit(right, spec(), "none").shape == (8, 8, 3)
    with pytest.raises(SettingsError, match=r"a\.png: has 6 × 8 pixels and the network takes 8 × 8"):
        fit(wrong, spec(), "none")


def test_an_unknown_way_to_resize_names_the_known():
    with pytest.raises(SettingsError, match="`resize=stretch`: give one of auto, crop, cover, squash, fit"):
        fit(photo(noise(8, 8)), spec(), "stretch")


# --- loading


@pytest.fixture
def some_broken(tmp_path):
    for name in ("a.png", "c.png", "d.png"):
        save(tmp_path / name, noise(9, 7))
    (tmp_path / "b.png").write_bytes(b"")
    return tmp_path


def test_loading_stops_at_a_broken_image_and_names_it(some_broken):
    images = load(find([some_broken]), spec())
    info, pixels = next(images)
    assert (info.name, info.size, info.label, pixels.shape) == ("a.png", (9, 7), None, (8, 8, 3))
    with pytest.raises(InputError, match=r"b.png: the file is empty"):
        next(images)


@pytest.mark.parametrize(("limit", "names"), [(None, ["a.png", "c.png", "d.png"]), (2, ["a.png", "c.png"]), (0, [])])
def test_broken_images_are_passed_over_on_request_and_kept_count_of(some_broken, limit, names):
    broken: list[str] = []
    images = list(load(find([some_broken]), spec(), limit=limit, skip_broken=True, broken=broken))
    assert [info.name for info, _ in images] == names
    assert broken == (["b.png: the file is empty"] if limit != 0 else [])


def test_when_no_image_can_be_used_the_first_reason_is_told(some_broken):
    with pytest.raises(InputError, match=r"none of the 1 images can be used; the first: b.png: the file is empty"):
        list(load(find([f"{some_broken}/b.*"]), spec(), skip_broken=True))
    with pytest.raises(InputError, match=r"^b\.png: the file is empty"):
        list(load(find([some_broken / "b.png"]), spec(), skip_broken=True))


def test_images_are_read_only_when_their_turn_comes(some_broken):
    images = load(find([some_broken]), spec(), limit=1)
    assert len(list(images)) == 1  # the second is broken, and was never opened
