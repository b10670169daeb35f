"""PNG files of any color type and depth, written here bit by bit, so that their samples are known without an image library."""

import struct
import zlib
from pathlib import Path

import numpy as np

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6  # color types


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def transparent(*values: int) -> tuple[bytes, bytes]:
    """Return the chunk that makes a gray value or a color transparent."""
    return b"tRNS", struct.pack(f">{len(values)}H", *values)


def png_bytes(samples: np.ndarray, *, depth: int, kind: int, chunks: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """Return a PNG file with samples (H, W, channels) of `depth` bits, and the chunks between its header and its pixels."""
    height, width, _ = samples.shape
    rows = samples.reshape(height, -1).astype(">u2" if depth == 16 else np.uint8)
    if depth < 8:
        bits = (rows[..., None] >> np.arange(depth)[::-1] & 1).reshape(height, -1)
        packed = [np.packbits(row).tobytes() for row in bits.astype(np.uint8)]
    else:
        packed = [row.tobytes() for row in rows]
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed))
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *(chunks or []), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in parts)


def write_png(path: Path, samples, **how) -> Path:
    """Write such a file from samples (H, W, channels), or (H, W) for one channel, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.asarray(samples)
    path.write_bytes(png_bytes(samples if samples.ndim == 3 else samples[..., None], **how))
    return path
