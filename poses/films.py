"""Video files, read with PyAV: the frames of a whole film, or those before its break (H x W frame size)."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data.image_files import REMARKS, TRANSPARENT, WAYS_OUT, over_white
from poses.containers import find_break, has_box
from utils import UserError, counted, optional_package

WITH_SIZES = ("mov", "avi", "asf")  # formats with packets whose size is known, so that incomplete ones are seen
WITH_DURATION = ("matroska", "flv", "asf")  # formats whose header states the duration
ATTACHED_PICTURE = 1024  # AV_DISPOSITION_ATTACHED_PIC
SOLE_THREAD = 1


class Damage(Exception):
    """A frame that cannot be decoded without errors."""


class Packet(NamedTuple):
    """What is known of a frame before it is decoded; times in units of the stream, of which some formats lack one."""

    shown: int | None
    decoded: int | None
    size: int
    key: bool  # can be decoded without earlier frames
    hidden: bool  # by an edit list


class Survey(NamedTuple):
    """The frames of a film according to its packets, none of which is decoded yet."""

    stream: int  # its index in the file
    fps: float | None
    start: int  # packets before the first one that can be decoded
    stop: int | None  # packets before the first one that is incomplete or lost; None for a complete film
    frames: int  # that the packets from `start` to `stop` show
    total: int | None  # frames of the whole film according to its header
    about: str  # the same as a text, estimated from its duration; empty if unknown
    limit: int | None  # time after which a lost frame may be missing
    is_cut: bool  # the file ends too early; otherwise a part within it is garbled


class Film:
    """A video file whose frames can be iterated over several times."""

    def __init__(self, path: Path, *, allow_truncated: bool):
        """Survey the file. Raises UserError if it is no video and, unless `allow_truncated`, if a part of it is missing."""
        self.path, self.allow_truncated, self.ended_early = path, allow_truncated, False
        self.said_transparent = False
        self.av = optional_package("av", flag=f"{path}: a video")
        if not path.stat().st_size:
            raise UserError(f"{path}: expected a video such as an mp4, got an empty file; copy it again")
        try:
            self.survey = survey(self.av, path)
        except (self.av.FFmpegError, OSError) as error:
            way_out = "copy it again, or convert it to mp4"
            raise UserError(f"{path}: cannot be read as a video ({self.reason(error)}); {way_out}") from None
        self.length: int | None = None  # frames, after they were read once
        if self.is_partial and not (allow_truncated and self.survey.frames):
            self.end_early(self.survey.frames)

    @property
    def is_partial(self) -> bool:
        """Whether only a part of the film can be used."""
        return self.survey.stop is not None

    def reason(self, error: Exception) -> str:
        """Return why FFmpeg cannot read the file, without its numbers."""
        if has_box(self.path, b"moov") is False:
            return "it breaks off before its index, the box moov: the recording or the copy was not finished"
        if find_break(self.path) is not None:
            return "it breaks off"
        text = getattr(error, "strerror", None) or str(error)
        if "End of file" in text:
            return "it breaks off"
        return "no format that FFmpeg knows" if "Invalid data" in text else text

    def end_early(self, count: int) -> None:
        """Report that the film has only `count` frames. Raises UserError unless that is allowed."""
        total = f"{self.survey.total:,} frames" if self.survey.total else self.survey.about
        frames = f"{count:,} of {total}" if total else counted(count, "frame")
        found = f"{self.path}: {'breaks off' if self.survey.is_cut else 'is damaged'} after {frames}"
        if not count:
            raise UserError(f"{found}; copy it again")
        if not self.allow_truncated:
            raise UserError(f"{found}; copy it again, or use only these frames with --allow_truncated")
        self.ended_early = True
        print(f"{found}; only these are used (--allow_truncated)", file=sys.stderr)

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames (H, W, 3) uint8. The first complete pass decides where a damaged film ends.

        Raises UserError for a damaged film unless `allow_truncated`.
        """
        count = 0
        try:
            for frame in self.decode():
                if count == self.length:
                    return
                yield frame
                count += 1
        except Damage:
            if self.length is None:
                self.end_early(count)
        else:
            if self.length is None and self.is_partial:
                self.end_early(count)
        if self.length is None:
            self.length = count

    def decode(self) -> Iterator[Any]:
        """Yield the frames, decoded by several threads. Raises Damage.

        FFmpeg's threads swallow the errors in the last packets. So the last frames are only trusted if their number is right;
        otherwise, they are decoded again by a single thread.
        """
        for count, frame in enumerate(self.decoded_frames(0)):
            if frame is None:
                yield from itertools.islice(self.decoded_frames(SOLE_THREAD), count, None)
                return
            yield frame

    def decoded_frames(self, threads: int) -> Iterator[Any]:
        """Yield the frames; 0 threads stand for as many as there are cores. Raises Damage.

        With several threads, None in place of the last frames says that there are too few of them.
        """
        survey = self.survey
        with self.av.open(str(self.path.resolve())) as container:
            stream = container.streams[survey.stream]
            stream.thread_type, stream.thread_count = "AUTO", threads
            packets = (packet for packet in container.demux(stream) if packet.size)
            count = 0
            try:
                for packet in itertools.islice(packets, survey.start, survey.stop):
                    for frame in packet.decode():
                        if is_after(frame, survey.limit):
                            return
                        yield self.pixels(frame)
                        count += 1
                last = stream.codec_context.decode(None)
            except (self.av.FFmpegError, OSError) as error:
                raise Damage(str(error)) from None
            last = [frame for frame in last if not is_after(frame, survey.limit)]
            if threads != SOLE_THREAD and count + len(last) < survey.frames:
                yield None
                return
            for frame in last:
                yield self.pixels(frame)

    def pixels(self, frame: Any) -> np.ndarray:
        """Return a frame (H, W, 3) uint8, upright and over white. Raises Damage if FFmpeg had to invent a part of it."""
        if frame.is_corrupt:
            raise Damage("a part of the frame is missing")
        if any(getattr(component, "is_alpha", False) for component in frame.format.components):
            rgb, transparent = over_white(Image.fromarray(frame.to_ndarray(format="rgba")))
            image = np.asarray(rgb)
            if transparent and not self.said_transparent:
                self.said_transparent = True
                print(f"{self.path}: {REMARKS[TRANSPARENT]}; {WAYS_OUT[TRANSPARENT]}", file=sys.stderr)
        else:
            image = frame.to_ndarray(format="rgb24")
        # A phone that is held upright stores frames in landscape format and the angle by which to rotate them.
        return np.ascontiguousarray(np.rot90(image, round(getattr(frame, "rotation", 0) / 90)))


def is_after(frame: Any, limit: int | None) -> bool:
    """Return whether a frame is shown after the time `limit`."""
    return limit is not None and frame.pts is not None and frame.pts > limit


def survey(av: Any, path: Path) -> Survey:
    """Read all packets of a video file. Raises UserError if it has no video stream, and the errors of FFmpeg."""
    with av.open(str(path.resolve())) as container:
        stream = choose_stream(container, path)
        fps = float(stream.average_rate or 0) or None
        end = find_break(path)
        packets, stop = read_packets(av, container, stream, end)
        if end is not None:
            stop = len(packets) if stop is None else stop
            if not container.format.name.startswith(WITH_SIZES):  # the part before the break may be damaged, too
                stop = max(0, stop - 1)
        start = next((i for i, packet in enumerate(packets) if packet.key), 0)
        is_mov = container.format.name.startswith("mov")
        index = list(getattr(stream, "index_entries", ())) if is_mov or container.format.name == "avi" else []
        index = [entry for entry in index if entry.size]
        if stop is None and len(index) > len(packets):
            sizes = (packet.size == entry.size for packet, entry in zip(packets, index))
            stop = next((i for i, same in enumerate(sizes) if not same), len(packets))
        in_header = len(index) if is_mov and index and stream.frames else stream.frames  # edit lists may drop some
        if stop is not None and in_header and stop == len(packets) >= in_header:
            stop = None  # only what follows the last frame is missing
        limit = packets[stop - 1].decoded if stop else None
        shown = [packet for packet in packets[start:stop] if is_shown(packet, packets[start], limit)]
        hidden = sum(entry.is_discard for entry in index) if is_mov else 0
        total, about = (in_header - hidden or None), ""
        if total is None and container.format.name.startswith(WITH_DURATION) and container.duration and fps:
            about = f"about {counted(round(container.duration / av.time_base * fps), 'frame')}"
        is_cut = stop is not None and (end is not None or stop == len(packets))
        return Survey(stream.index, fps, start, stop, len(shown), total, about, limit, is_cut)


def is_shown(packet: Packet, first: Packet, limit: int | None) -> bool:
    """Return whether a packet gives a frame: not if it needs frames before the `first`, or if lost frames may precede it."""
    if packet.hidden or packet.shown is None:
        return not packet.hidden
    return (first.shown is None or packet.shown >= first.shown) and (limit is None or packet.shown <= limit)


def choose_stream(container: Any, path: Path) -> Any:
    """Return the first video stream that is not a cover picture. Raises UserError if there is none."""
    pictures = [stream for stream in container.streams.video if int(getattr(stream, "disposition", 0)) & ATTACHED_PICTURE]
    streams = [stream for stream in container.streams.video if stream not in pictures]
    if not streams:
        kinds = {"a cover picture" if stream in pictures else stream.type for stream in container.streams}
        found = f"only {' and '.join(sorted(kinds))}" if kinds else "no stream at all"
        raise UserError(f"{path}: expected a video stream, got {found}; convert or choose another file")
    if len(streams) > 1:
        sizes = ", ".join(f"{stream.width} x {stream.height}" for stream in streams)
        used = f"of {len(streams)} video streams, only the first is used ({sizes} pixels)"
        print(f"{path}: {used}; to use another, save it as a file of its own", file=sys.stderr)
    return streams[0]


def read_packets(av: Any, container: Any, stream: Any, end: int | None) -> tuple[list[Packet], int | None]:
    """Return the packets of a stream, and the number of those before the first incomplete one.

    `end` is the position of the file's break. The number is None without an incomplete packet after the first key frame.
    """
    packets: list[Packet] = []
    started = False
    demuxed = container.demux(stream)
    while True:
        try:
            packet = next(demuxed, None)
        except (av.FFmpegError, OSError):
            return packets, len(packets)
        if packet is None:
            return packets, None
        if not packet.size:
            continue
        started |= packet.is_keyframe
        after_end = end is not None and packet.pos is not None and packet.pos >= end
        if started and (packet.is_corrupt or after_end):
            return packets, len(packets)
        packets.append(
            Packet(packet.pts, packet.dts, packet.size, packet.is_keyframe, bool(getattr(packet, "is_discard", False)))
        )
