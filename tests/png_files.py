"""PNG files written chunk by chunk, for what Pillow does not write."""

import struct
import zlib


def write_png(path, chunks):
    """A PNG of these chunks, each a kind of four letters and its bytes; IEND is added."""
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in (*chunks, (b"IEND", b"")):
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(kind + content)))
    return path
