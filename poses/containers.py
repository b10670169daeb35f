"""The end of video files: whether a file has all the bytes that its own structure announces."""

import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

Bytes = mmap.mmap
MEDIA_BOXES = (b"moov", b"moof", b"mdat")
SEGMENT, CLUSTER = 0x18538067, 0x1F43B675  # of Matroska and WebM
UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # of a RIFF file whose length was not known when its header was written
TS_PACKET = 188  # bytes
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
EBML_HEADER = bytes.fromhex("1a45dfa3")
PNG_HEADER = b"\x89PNG\r\n\x1a\n"


class Images(NamedTuple):
    """The images of an animated GIF or PNG."""

    complete: int
    whole: bool  # False if the file breaks off


def find_break(path: Path) -> int | None:
    """Return the position of the first part of a video file that is cut off or garbled.

    None stands for a complete file, and for a format that does not announce its length.
    """
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            check = checker(data)
            return check(data) if check else None


def checker(data: Bytes) -> Callable[[Bytes], int | None] | None:
    """Return the function that finds the break in a file of this format; None for an unknown format."""
    if data[4:8] in {b"ftyp", b"styp", b"wide", b"free", b"skip", *MEDIA_BOXES}:
        return find_break_in_boxes
    if data[:4] == b"RIFF":
        return find_break_in_riff
    if data[:4] == EBML_HEADER:
        return find_break_in_ebml
    if data[:3] == b"FLV":
        return find_break_in_flv
    if data[:16] == ASF_HEADER:
        return find_break_in_asf
    return find_break_in_ts if is_transport_stream(data) else None


def boxes(data: Bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield position, type and end of the outer boxes of an mp4 or mov file. An end may be after the end of the file."""
    position = 0
    while position + 8 <= len(data):
        size, header = int.from_bytes(data[position : position + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        end = position + size if size else len(data)  # 0: the rest of the file
        if 0 < size < header:
            return
        yield position, data[position + 4 : position + 8], end
        position = end


def find_break_in_boxes(data: Bytes) -> int | None:
    """Return the position at which an mp4 or mov file breaks off. Other data after its last box do not count."""
    position, last, end = next(reversed([*boxes(data)]), (0, b"", 0))
    if last in MEDIA_BOXES and end > len(data):
        return len(data) if last == b"mdat" else position
    if last == b"moof":  # its data follow in another box
        return position
    rest = data[end:]
    return end if 0 < len(rest) < 8 and any(rest) else None  # a part of the next box's header


def has_box(path: Path, kind: bytes) -> bool | None:
    """Return whether an mp4 or mov file has an outer box of this type; None for a file of another format."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(found == kind for _, found, _ in boxes(data)) if checker(data) is find_break_in_boxes else None


def find_break_in_riff(data: Bytes) -> int | None:
    """Return the position at which an AVI or WebP file breaks off. An AVI file may have several chunks of this kind."""
    position = 0
    while data[position : position + 4] == b"RIFF":
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if size in UNKNOWN_SIZES:
            return None
        position += 8 + size
        if position > len(data):
            return len(data)
        position += size % 2
    return None


def read_vint(data: Bytes, position: int, *, keep_marker: bool) -> tuple[int, int]:
    """Return a number of variable length in an EBML file, and its length in bytes. Raises ValueError if there is none."""
    if position >= len(data) or not data[position]:
        raise ValueError("no number of variable length")
    length = 9 - data[position].bit_length()
    if position + length > len(data):
        raise ValueError("a number that breaks off")
    value = int.from_bytes(data[position : position + length], "big")
    return (value if keep_marker else value - (1 << 7 * length)), length


def find_break_in_ebml(data: Bytes) -> int | None:
    """Return the position at which the chain of elements of a Matroska or WebM file breaks.

    The length of segments and clusters may be unknown, as in the recordings of browsers.
    """
    position, segment_end, ends = 0, None, [len(data)]
    while position < len(data):
        while len(ends) > 1 and position >= ends[-1]:
            ends.pop()
        try:
            kind, id_length = read_vint(data, position, keep_marker=True)
            size, size_length = read_vint(data, position + id_length, keep_marker=False)
        except ValueError:
            return position if len(ends) > 1 or segment_end is None else None
        begin = position + id_length + size_length
        unknown = size == (1 << 7 * size_length) - 1
        if kind in (SEGMENT, CLUSTER):
            if not unknown:
                ends.append(begin + size)
            segment_end = ends[-1] if kind == SEGMENT else segment_end
            position = begin
        elif begin + size > min(len(data), ends[-1]):
            return position
        else:
            position = begin + size
    return len(data) if max(ends) > len(data) else None


def find_break_in_flv(data: Bytes) -> int | None:
    """Return the position of the first tag of an FLV file that breaks off or is not a tag.

    If only whole tags are missing, return the end of the file.
    """
    position = int.from_bytes(data[5:9], "big") + 4
    while position < len(data):
        end = position + 15 + int.from_bytes(data[position + 1 : position + 4], "big")
        if data[position] & 31 not in (8, 9, 18) or end > len(data):
            return position
        position = end
    place = data.find(b"filesize\0", 0, 2**16) + 9  # a number in the metadata, 0 while a recording has no end
    is_cut = 9 < place <= len(data) - 8 and struct.unpack(">d", data[place : place + 8])[0] > len(data)
    return len(data) if is_cut else None


def find_break_in_asf(data: Bytes) -> int | None:
    """Return the end of a WMV or ASF file that is shorter than its header says."""
    place = data.find(ASF_FILE_PROPERTIES, 0, 2**16)
    size = int.from_bytes(data[place + 40 : place + 48], "little")
    is_live = data[place + 88] & 1 if place + 88 < len(data) else 0  # the size is not known
    return len(data) if place >= 0 and not is_live and size > len(data) else None


def is_transport_stream(data: Bytes) -> bool:
    """Return whether a file consists of packets of MPEG-TS."""
    return len(data) > 2 * TS_PACKET and all(data[i * TS_PACKET] == 0x47 for i in range(3))


def find_break_in_ts(data: Bytes) -> int | None:
    """Return the position of an incomplete last packet of MPEG-TS. A cut between two packets cannot be seen."""
    rest = len(data) % TS_PACKET
    return len(data) - rest if rest else None


def count_images(path: Path) -> Images | None:
    """Return the complete images of an animated GIF or PNG; None for another format."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] == b"GIF8":
            return count_gif_images(data)
        return count_png_images(data) if data[:8] == PNG_HEADER else None


def count_gif_images(data: Bytes) -> Images:
    """Return the images of a GIF, up to its trailer."""
    position, count = 13 + color_table(data, 10), 0
    while position < len(data) and data[position] in (0x21, 0x2C):
        is_image = data[position] == 0x2C
        position += 11 + color_table(data, position + 9) if is_image else 2
        while position < len(data) and data[position]:  # blocks, each with its length
            position += 1 + data[position]
        position += 1
        count += is_image and position <= len(data)
    return Images(count, position < len(data) and data[position] == 0x3B)


def color_table(data: Bytes, position: int) -> int:
    """Return the bytes of the color table that the flags of a GIF at this position announce."""
    flags = data[position] if position < len(data) else 0
    return 3 * 2 ** (flags % 8 + 1) if flags & 128 else 0


def count_png_images(data: Bytes) -> Images:
    """Return the images of an animated PNG. Each has a chunk fcTL, except for a first one that is no frame, and then its data."""
    position, started, kind = 8, 0, b""
    while position + 12 <= len(data):
        kind = data[position + 4 : position + 8]
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        if position > len(data):
            break
        started += kind == b"fcTL"
    whole = kind == b"IEND" and position <= len(data)
    return Images(max(0, started - (not whole)), whole)
