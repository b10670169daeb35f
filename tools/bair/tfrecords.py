"""Read TFRecord files and the tf.train.Example in each record, without TensorFlow. All functions raise ValueError on damage."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

# Bytes before a payload: its length (8, little-endian) and its checksum. Bytes after it: the checksum of the payload.
HEADER, FOOTER = 12, 4

CRC_TABLE: np.ndarray = np.arange(256, dtype=np.uint32)
for _ in range(8):
    CRC_TABLE = (CRC_TABLE >> 1) ^ (CRC_TABLE & 1) * np.uint32(0x82F63B78)


def crc32c(content: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of 4 bytes or more.

    The 740 KB of a BAIR record take 48 ms one byte at a time in Python, longer than everything else. Split into 4096 segments
    that are computed in parallel, they take 6 ms. A CRC is linear: the CRC of two adjacent segments is the CRC of the first,
    followed by as many zero bytes as the second has, xor the CRC of the second.
    """
    segments = 4096 if len(content) > 4096 else 1
    width = -(-len(content) // segments)
    padded = np.zeros(segments * width, np.uint8)  # leading zeros do not change a CRC
    start = len(padded) - len(content)
    padded[start:] = np.frombuffer(content, np.uint8)
    padded[start : start + 4] ^= 255  # equivalent to an initial state of all ones
    # 32 more columns of zero bytes give the effect of `width` zero bytes on each bit of a state.
    columns = np.zeros((width, segments + 32), np.uint8)
    columns[:, :segments] = padded.reshape(segments, width).T
    bits = np.arange(32, dtype=np.uint32)
    state = np.concatenate([np.zeros(segments, np.uint32), np.uint32(1) << bits])
    for column in columns:
        state = CRC_TABLE[(state ^ column) & 255] ^ (state >> 8)
    crcs, shift = state[:-32], state[-32:]
    while len(crcs) > 1:
        crcs = append_zeros(crcs[::2], shift) ^ crcs[1::2]
        shift = append_zeros(shift, shift)  # now the effect of twice as many bytes
    return int(crcs[0]) ^ 0xFFFFFFFF


def append_zeros(crcs: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the CRCs (N,) after more zero bytes, whose effect on each of the 32 bits is `shift` (32,)."""
    bits = np.arange(32, dtype=np.uint32)[:, None]
    return np.bitwise_xor.reduce((crcs >> bits & 1) * shift[:, None])


def check(content: bytes, stored: bytes, *, name: str) -> None:
    """Raise ValueError unless the content has the checksum that is stored after it."""
    crc = crc32c(content)
    expected = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF  # TFRecord stores it masked
    if (found := int.from_bytes(stored, "little")) != expected:
        raise ValueError(f"checksum of its {name}: expected {expected:#010x}, got {found:#010x}; not a TFRecord, or damaged")


def read_length(file: BinaryIO, *, offset: int, size: int) -> int:
    """Return the length in bytes of the payload of the record at `offset`, and leave the file of `size` bytes at the payload."""
    file.seek(offset)
    header = file.read(HEADER)
    if len(header) < HEADER:
        raise ValueError(f"expected a header of {HEADER} bytes, got {len(header)}; the file is truncated")
    check(header[:8], header[8:], name="length")
    length = int.from_bytes(header[:8], "little")
    if (left := size - offset - HEADER) < length + FOOTER:
        raise ValueError(f"expected {length + FOOTER} more bytes, got {left}; the file is truncated")
    return length


def read_payload(file: BinaryIO, length: int) -> memoryview:
    """Return the payload at which read_length() left the file."""
    payload = file.read(length)
    check(payload, file.read(FOOTER), name="payload")
    return memoryview(payload)


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number at an offset, 7 bits per byte, and the offset after it."""
    value = 0
    for i, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError("expected a tf.train.Example, got a number without an end")


def fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (field number, content) of every field except the varints, which are not needed here."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = varint(message, at)
        elif kind in (1, 2, 5):
            length, at = varint(message, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            if (left := len(message) - at) < length:
                raise ValueError(f"expected a tf.train.Example, got {left} bytes for a field of {length}")
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError(f"expected a tf.train.Example with wire types 0, 1, 2 and 5, got wire type {kind}")


def contents(messages: list[memoryview], number: int) -> list[memoryview]:
    """Return the contents of all fields with that number."""
    return [content for message in messages for found, content in fields(message) if found == number]


# The messages are Example {Features features = 1}, Features {map<string, Feature> feature = 1},
# Feature {BytesList bytes_list = 1, FloatList float_list = 2}. The values in both lists are field 1.


def read_features(payload: memoryview) -> dict[str, memoryview]:
    """Return the features of a tf.train.Example by name, still encoded."""
    entries = [dict(fields(entry)) for entry in contents(contents([payload], 1), 1)]
    return {bytes(entry.get(1, b"")).decode(): memoryview(entry.get(2, b"")) for entry in entries}


def read_bytes(feature: memoryview) -> bytes:
    """Return the bytes in a feature, b"" if it contains something else."""
    return b"".join(contents(contents([feature], 1), 1))


def read_floats(feature: memoryview) -> np.ndarray:
    """Return the floats in a feature, (N,), packed or not; an empty array if it contains something else."""
    return np.frombuffer(b"".join(contents(contents([feature], 2), 1)), "<f4")
