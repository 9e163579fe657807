"""Small files that would become large are judged by their headers; large pictures cost what their pixels cost."""

import gzip
import io
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from filterscope.analyzer.data import limits
from filterscope.analyzer.data.dataset import open_dataset
from filterscope.analyzer.data.images import find, read
from filterscope.converters.errors import InputError
from support.png_files import write_png

GIB = 1 << 30


def header(shape, descr="|u1"):
    """The first bytes of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def zeros(size):
    """A zip member of zeros, packed, without holding it."""
    piece = bytes(1 << 20)
    while size > 0:
        yield piece[: min(size, len(piece))]
        size -= len(piece)


def archive(path, **members):
    """An .npz of members: a header and how many zeros follow it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, (head, size) in members.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(head)
                for piece in zeros(size):
                    member.write(piece)
    return path


def peak_of(code, *arguments):
    """MiB that a process of its own has held at most while it ran some code."""
    # Not ru_maxrss, which counts what the process that started this one held.
    report = "\nprint(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    found = subprocess.run(
        [sys.executable, "-c", code + report, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[-1]) >> 10


def test_a_member_larger_than_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("filterscope.analyzer.data.archives.MOST_ARRAY_BYTES", 1 << 20)
    file = archive(tmp_path / "a.npz", x=(header((3, 1024, 1024)), 3 << 20))
    with pytest.raises(InputError, match=r"a\.npz: x has 3,145,728 bytes, and at most 1,048,576 .*save it as an \.npy"):
        find([file])
    several = archive(tmp_path / "b.npz", x=(header((1, 900, 1024)), 900 << 10), y=(header((200, 1024)), 200 << 10))
    with pytest.raises(InputError, match=r"b\.npz: y has"):  # the limit is of all that is read
        find([several])


def test_the_real_limit_refuses_3_gib_of_zeros_and_takes_what_data_sets_have():
    assert 3 * GIB > limits.MOST_ARRAY_BYTES > 60000 * 32 * 32 * 3 * 4  # CIFAR as float32


@pytest.mark.parametrize("extra", [-1000, 1000, 1 << 20])
def test_a_member_that_is_not_as_large_as_it_says_is_refused(tmp_path, extra):
    file = archive(tmp_path / "a.npz", x=(header((1, 64, 64)), 64 * 64 + extra))
    with pytest.raises(InputError, match=r"a\.npz: x says that it has 4,096 bytes and has .*save it again"):
        find([file])


def test_a_header_that_promises_terabytes_is_refused(tmp_path):
    file = archive(tmp_path / "a.npz", x=(header((1 << 20, 1 << 10, 1 << 10)), 100))
    with pytest.raises(InputError, match="says that it has 1,099,511,627,776 bytes"):
        find([file])
    (tmp_path / "a.npy").write_bytes(header((1 << 20, 1 << 10, 1 << 10)) + bytes(100))
    with pytest.raises(InputError, match=r"a\.npy: says that it has 1,099,511,627,776 bytes and has 100"):
        find([tmp_path / "a.npy"])


def test_arrays_that_are_not_asked_for_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("filterscope.analyzer.data.archives.MOST_ARRAY_BYTES", 1 << 20)
    file = archive(tmp_path / "a.npz", pictures=(header((2, 8, 8)), 128), other=(header((9 << 20,)), 9 << 20))
    assert len(find([file])) == 2


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_that_numpy_does_not_write_are_refused(tmp_path, packing):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as file:
        file.writestr("x.npy", header((1, 8, 8)) + bytes(64))
    with pytest.raises(InputError, match="x is packed in a way that NumPy does not write"):
        find([tmp_path / "a.npz"])


def test_objects_in_any_member_are_never_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 8, 8), np.uint8), y=np.array([{}, []], object))
    with pytest.raises(InputError, match=r"a\.npz: y: holds Python objects, which are never loaded"):
        find([tmp_path / "a.npz"])


def test_one_picture_of_an_array_file_is_limited_too(tmp_path, monkeypatch):
    monkeypatch.setattr("filterscope.analyzer.data.images.MOST_PIXELS", 99)
    np.save(tmp_path / "a.npy", np.zeros((2, 10, 10), np.uint8))
    with pytest.raises(InputError, match=r"pictures of shape \(10, 10, 1\) are too large"):
        find([tmp_path / "a.npy"])


# --- pictures

MAKE = """
import sys
from pathlib import Path
from filterscope.analyzer.data.images import find, read
(source,) = find([sys.argv[1]])
photo = read(source)
assert photo.size == (9400, 9400) and photo.pixels.shape[:2] == (9400, 9400), photo.pixels.shape
"""


def solid_png(path, side, kind, channels, extra=()):
    """A PNG of one colour, row by row."""
    packer = zlib.compressobj(1)
    row = b"\0" + bytes([200]) * (side * channels)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, kind, 0, 0, 0)), *extra, (b"IDAT", data)]
    return write_png(path, chunks)


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (6, 4)], ids=["RGB", "RGBA"])
def test_a_picture_of_88_megapixels_costs_its_pixels_and_their_decoding(tmp_path, kind, channels):
    file = solid_png(tmp_path / "a.png", 9400, kind, channels)
    assert file.stat().st_size < 4 << 20
    assert peak_of(MAKE, file) < 1024  # 337 MiB decoded, 253 MiB of pixels; 2.1 GiB before


def test_a_picture_above_the_limit_is_refused_by_its_header(tmp_path):
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)), (b"IDAT", b"")]
    parts = [struct.pack(">I", len(c)) + name + c + struct.pack(">I", zlib.crc32(name + c)) for name, c in chunks]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(InputError, match=r"a\.png: too large to be opened safely \(above 89 megapixels\); shrink it"):
        read(find([tmp_path / "a.png"])[0])


def test_a_large_jpeg_is_decoded_smaller_and_keeps_its_size(tmp_path, monkeypatch):
    ramp = np.tile(np.linspace(0, 255, 640, dtype=np.uint8), (480, 1))
    Image.fromarray(ramp).save(tmp_path / "a.jpg", quality=95)
    monkeypatch.setattr("filterscope.analyzer.data.decoding.MOST_PIXELS", 640 * 480 // 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 640 * 480 // 2 + 1)  # Pillow warns
    photo = read(find([tmp_path / "a.jpg"])[0])
    assert (photo.size, photo.pixels.shape) == ((480, 640), (240, 320, 1))
    np.testing.assert_allclose(photo.pixels[100, :, 0].astype(float), ramp[0].reshape(320, 2).mean(1), atol=3)


def test_a_tiff_with_an_endless_tile_is_refused(tmp_path):
    entries = [
        (256, 16),
        (257, 16),
        (258, 8),
        (259, 8),
        (262, 1),
        (277, 1),
        (322, 60000),
        (323, 60000),
        (324, 8),
        (325, 9),
    ]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries) + struct.pack("<I", 0)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + bytes(99))
    with pytest.raises(InputError, match=r"a\.tif: a tile has 60,000 × 60,000 pixels; save it in smaller tiles"):
        read(find([tmp_path / "a.tif"])[0])


def test_a_picture_file_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.webp")
    monkeypatch.setattr("filterscope.analyzer.data.images.MOST_FILE_BYTES", 9)
    with pytest.raises(InputError, match=r"a\.webp: has .* bytes, and at most 9 are read of one picture"):
        read(find([tmp_path / "a.webp"])[0])


def test_a_colour_picture_of_16_bits_has_a_limit_of_its_own(tmp_path, monkeypatch):
    from support.png_files import write_deep_png as png

    monkeypatch.setattr("filterscope.analyzer.data.decoding.MOST_DEEP_PIXELS", 15)
    with pytest.raises(InputError, match=r"16 bits a channel .*shrink it or save it with 8 bits"):
        read(find([png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint16))])[0])


# --- published files


def test_a_packed_idx_file_that_promises_too_much_is_refused(tmp_path):
    head = b"\0\0\x08\x03" + struct.pack(">III", 1 << 11, 1 << 10, 1 << 10)  # 2 GiB
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(head))
    with pytest.raises(InputError, match=r"its header promises 2,147,483,648 bytes, and at most 1,073,741,824"):
        open_dataset([tmp_path / "train-images-idx3-ubyte.gz"])


def test_a_matlab_file_is_measured_before_it_is_unpacked(tmp_path, monkeypatch):
    from scipy.io import savemat

    arrays = {"X": np.zeros((32, 32, 3, 9), np.uint8), "y": np.ones((9, 1), np.uint8)}
    savemat(tmp_path / "test_32x32.mat", arrays, do_compression=True)
    assert len(open_dataset([tmp_path / "test_32x32.mat"])) == 9
    for packed in (True, False):
        savemat(tmp_path / "test_32x32.mat", arrays, do_compression=packed)
        monkeypatch.setattr("filterscope.analyzer.data.published_formats.MOST_MAT_BYTES", 9 * 3072)
        with pytest.raises(InputError, match="has more than 27,648 bytes when unpacked"):
            open_dataset([tmp_path / "test_32x32.mat"])


def test_labels_that_are_lists_of_lists_are_not_followed(tmp_path):
    labels = [1, 1]
    for _ in range(60):  # 2^60 numbers for numpy, some hundred bytes for pickle
        labels = [labels, labels]
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": labels}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, 2))
    with pytest.raises(InputError, match="its labels are no whole numbers"):
        open_dataset([tmp_path / "test_batch"])
