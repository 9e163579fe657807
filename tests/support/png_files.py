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


def write_deep_png(path, pixels, significant=None):
    """A 16-bit PNG, written chunk by chunk since Pillow writes neither colours of 16 bits nor the chunk sBIT."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    rows = pixels.reshape(height, -1).astype(">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0))]
    if significant:
        chunks.append((b"sBIT", bytes([significant] * channels)))
    chunks.append((b"IDAT", zlib.compress(data)))
    return write_png(path, chunks)
