"""Video files written for tests, whole and damaged."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

FRAMES = 24  # of the films in FILMS
# The encoder, its options and those of the format by the name of a file. Each film has B-frames if its format allows them.
FILMS = {
    "plain.mp4": ("libx264", {}, {}),
    "fast.mp4": ("libx264", {}, {"movflags": "faststart"}),
    "fragments.mp4": ("libx264", {"g": "8"}, {"movflags": "frag_keyframe+empty_moov"}),
    "a.mov": ("libx264", {}, {}),
    "a.mkv": ("libx264", {}, {}),
    "vp9.webm": ("libvpx-vp9", {}, {}),
    "vp8.webm": ("libvpx", {}, {}),
    "mpeg4.avi": ("mpeg4", {"bf": "2"}, {}),
    "a.flv": ("libx264", {}, {}),
    "a.wmv": ("wmv2", {}, {}),
    "a.ts": ("libx264", {}, {}),
}


def gray_frames(count: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    """Return gray frames (count, height, width, 3), each lighter than the previous one, with a dark upper left quarter."""
    frames = np.repeat(np.arange(count, dtype=np.uint8) * (160 // count) + 60, height * width * 3)
    frames = frames.reshape(count, height, width, 3)
    frames[:, : height // 2, : width // 2] = 20
    return frames


def noisy_frames(count: int, *, height: int = 32, width: int = 32) -> np.ndarray:
    """Return gray_frames() with some noise, so that every frame needs some bytes."""
    frames = gray_frames(count, height=height, width=width)
    return frames + np.random.default_rng(0).integers(0, 30, frames.shape, dtype=np.uint8)


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    streams: int = 1,
) -> Path:
    """Write (T, H, W, 3) uint8 as a video, with `times` in units of 1 / fps, `streams` times; the second copy is upside down."""
    import av

    with av.open(str(path), "w", options=container or {}) as file:
        tracks = []
        for _ in range(streams):
            track = file.add_stream(
                codec, rate=fps, options={"crf": "4"} if options is None and codec == "libx264" else options or {}
            )
            track.height, track.width = frames.shape[1:3]
            track.pix_fmt = "yuv444p" if codec == "libx264" and options is None else "yuv420p"
            tracks.append(track)
        for i, image in enumerate(frames):
            for track, flip in zip(tracks, (1, -1)):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[::flip]), format="rgb24")
                if times is not None:
                    frame.pts = times[i]
                file.mux(track.encode(frame))
        for track in tracks:
            file.mux(track.encode())
    return path


def write_film(folder: Path, name: str, count: int = FRAMES) -> bytes:
    """Write one of the FILMS and return its bytes."""
    codec, options, container = FILMS[name]
    return write_video(folder / name, noisy_frames(count), codec=codec, options=options, container=container).read_bytes()


def write_sound(path: Path) -> Path:
    """Write a second of silence."""
    import av

    with av.open(str(path), "w") as file:
        track = file.add_stream("aac", rate=8000, layout="mono")
        for i in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * i
            file.mux(track.encode(frame))
        file.mux(track.encode())
    return path


def write_cover(path: Path, frames: np.ndarray | None) -> Path:
    """Write a red cover picture as the first video stream, then a film of these frames, or a second of silence."""
    import av

    with av.open(str(path), "w") as file:
        cover = file.add_stream("mjpeg", rate=25)
        cover.height, cover.width, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        track = file.add_stream("aac", rate=8000, layout="mono") if frames is None else file.add_stream("libx264", rate=25)
        if frames is not None:
            track.height, track.width, track.pix_fmt = *frames.shape[1:3], "yuv420p"
        red = np.full((16, 16, 3), (255, 0, 0), np.uint8)
        file.mux(cover.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        file.mux(cover.encode())
        for frame in [] if frames is None else frames:
            file.mux(track.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if frames is None:
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate = 8000
            file.mux(track.encode(sound))
        file.mux(track.encode())
    return path


def change_header(path: Path, kind: bytes, change: Callable[[bytearray, int], None]) -> None:
    """Call change(content, position) with the position after the name of a box of an mp4, and write the content."""
    content = bytearray(path.read_bytes())
    change(content, content.index(kind) + 4)
    path.write_bytes(content)


def rotate_header(path: Path, degrees: int) -> None:
    """Make the header of an mp4 ask for a clockwise rotation, as phones do."""
    c, s = round(math.cos(math.radians(degrees))), round(math.sin(math.radians(degrees)))
    matrix = b"".join(
        value.to_bytes(4, "big", signed=True) for value in (c << 16, s << 16, 0, -s << 16, c << 16, 0, 0, 0, 1 << 30)
    )

    def change(content: bytearray, position: int) -> None:
        content[position + 40 : position + 76] = matrix

    change_header(path, b"tkhd", change)


def hide_first_frames(path: Path, count: int) -> None:
    """Make the edit list of an mp4 of 25 frames per second begin `count` frames later."""

    def change(content: bytearray, position: int) -> None:
        begin = int.from_bytes(content[position + 12 : position + 16], "big")
        content[position + 12 : position + 16] = (begin + count * 512).to_bytes(4, "big")

    change_header(path, b"elst", change)
