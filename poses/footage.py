"""The frames of a video in any form: a video file, an animated image, or a folder of images (H x W frame size)."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageSequence

from data.image_files import read_upright
from data.images import SUFFIXES, numbered_images
from utils import UserError, optional_package
from visualization.videos import DEFAULT_DURATION, gif_frames

ANIMATED = {".gif", ".webp", ".apng"}  # suffixes of animated images that Pillow reads
NOT_VIDEO = SUFFIXES | {".csv", ".json", ".txt"}


class Footage(NamedTuple):
    """One video."""

    path: Path
    fps: float | None  # frames per second; unknown for a folder of images
    expected: int | None  # frames according to the file's header; some headers lack the number, some are wrong
    decode: Callable[[], Iterator[np.ndarray]]
    numbers: list[int] | None = None  # of the images in a folder; a gap in them is a gap in the video

    def frames(self) -> Iterator[np.ndarray]:
        """Yield all frames (H, W, 3) uint8.

        Raises UserError for a truncated file, a video without frames, and a frame of another size than the first.
        """
        size = None
        for number, frame in enumerate(self.decode()):
            size = size or frame.shape
            if frame.shape != size:
                expected, got = (f"{shape[1]} x {shape[0]}" for shape in (size, frame.shape))
                raise UserError(
                    f"{self.path}: expected {expected} pixels in every frame, as in the first, got {got} in frame {number}"
                )
            yield frame
        if size is None:
            raise UserError(f"{self.path}: contains no frame; expected a video")


def open_footage(path: Path) -> Footage:
    """Return the video at `path`. Raises UserError if there is none, or if the package that is needed to read it is missing."""
    if path.is_dir():
        images = numbered_images(path)
        return Footage(path, None, len(images), lambda: map(read_upright, images.values()), list(images))
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; expected a video, a GIF or a folder of images")
    return open_animated_image(path) if path.suffix.lower() in ANIMATED else open_video(path)


def open_animated_image(path: Path) -> Footage:
    """Return a GIF or similar file as a video at the rate of its shortest frame; a longer frame counts as several.

    Raises UserError if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            # In some formats, the duration of a frame is known only after it is decoded.
            durations = [
                int((page.load() and page.info.get("duration")) or DEFAULT_DURATION) for page in ImageSequence.Iterator(image)
            ]
    except Exception as error:  # Pillow raises errors of many kinds for a damaged file
        raise UserError(f"{path}: cannot be read as an animated image ({error})") from None
    fps = 1000 / min(durations)

    def decode() -> Iterator[np.ndarray]:
        try:
            yield from gif_frames(path, fps=fps)
        except (OSError, ValueError, SyntaxError, IndexError, struct.error) as error:
            raise UserError(f"{path}: truncated or damaged ({error}); expected a complete animated image") from None

    return Footage(path, fps, round(sum(durations) * fps / 1000), decode)


def open_video(path: Path) -> Footage:
    """Return a video file, read with PyAV. Raises UserError if it cannot be read."""
    if path.suffix.lower() in NOT_VIDEO:
        raise UserError(f"{path}: not a video; expected a video, a GIF or a folder of images")
    av = optional_package("av", flag=f"{path}: a video")
    try:
        with av.open(str(path.resolve())) as container:
            stream = container.streams.video[0]
            fps, expected = float(stream.average_rate or 0) or None, stream.frames or None
    except (av.FFmpegError, IndexError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a video ({error}); expected one such as an mp4") from None

    def decode() -> Iterator[np.ndarray]:
        with av.open(str(path.resolve())) as container:
            container.streams.video[0].thread_type = "AUTO"
            try:
                for frame in container.decode(video=0):
                    # A phone that is held upright stores frames in landscape format and the angle by which to rotate them.
                    quarter_turns = round(getattr(frame, "rotation", 0) / 90)
                    yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns))
            except av.FFmpegError as error:
                raise UserError(f"{path}: truncated or damaged ({error}); expected a complete video") from None

    return Footage(path, fps, expected, decode)
