"""Frames of a video, whatever it is kept in: a video file, a GIF, a folder of images."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from data.images import SUFFIXES, numbered_images
from utils import UserError, optional_package
from visualization.videos import UNSAID, gif_frames

MOVING = {".gif", ".webp", ".apng"}  # files of moving pictures that Pillow reads


class Footage(NamedTuple):
    """One video."""

    path: Path
    fps: float | None  # frames a second; a folder of images does not say
    expected: int | None  # frames, as the file says before it is read; some do not, some err
    decode: Callable[[], Iterator[np.ndarray]]
    numbers: list[int] | None = None  # of the images in a folder; where they jump, the video does

    def frames(self) -> Iterator[np.ndarray]:
        """Every frame (H, W, 3) uint8, from the first. Raises UserError for a file that breaks off, and if a frame has another
        size than the first."""
        size = None
        for number, frame in enumerate(self.decode()):
            size = size or frame.shape
            if frame.shape != size:
                found, wanted = (f"{shape[1]} x {shape[0]}" for shape in (frame.shape, size))
                raise UserError(f"{self.path}: frame {number} has {found} pixels; expected {wanted}, as the first has")
            yield frame
        if size is None:
            raise UserError(f"{self.path}: holds no frame; expected a video")


def open_footage(path: Path) -> Footage:
    """The video at `path`. Raises UserError if there is none, or if the package that reads it is missing."""
    if path.is_dir():
        images = numbered_images(path)
        return Footage(path, None, len(images), lambda: map(read_upright, images.values()), list(images))
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; expected a video, a GIF or a folder of images")
    return open_moving_picture(path) if path.suffix.lower() in MOVING else open_video(path)


def read_upright(path: Path) -> np.ndarray:
    """An image upright, as bytes (H, W, 3). Raises UserError."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):  # which convert() would cut off at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from None


def open_moving_picture(path: Path) -> Footage:
    """A GIF or its like. Each of its pictures is shown for a time of its own, so a long one counts as several frames."""
    try:
        with Image.open(path) as image:
            # Some formats know it only when the picture is decoded.
            durations = [int((page.load() and page.info.get("duration")) or UNSAID) for page in ImageSequence.Iterator(image)]
    except Exception as error:  # whatever a damaged file leads Pillow to
        raise UserError(f"{path}: cannot be read as a moving picture ({error})") from None
    fps = 1000 / min(durations)

    def decode() -> Iterator[np.ndarray]:
        try:
            yield from gif_frames(path, fps=fps)
        except (OSError, ValueError, SyntaxError, IndexError, struct.error) as error:
            raise UserError(f"{path}: breaks off or is damaged ({error}); expected a whole moving picture") from None

    return Footage(path, fps, round(sum(durations) * fps / 1000), decode)


def open_video(path: Path) -> Footage:
    """A video file, through PyAV."""
    if path.suffix.lower() in SUFFIXES | {".csv", ".json", ".txt"}:
        raise UserError(f"{path}: a single file that is no video; expected a video, a GIF or a folder of images")
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
                    # A telephone held upright writes pictures that lie, and by how much they are turned.
                    turns = round(getattr(frame, "rotation", 0) / 90)
                    yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
            except av.FFmpegError as error:
                raise UserError(f"{path}: breaks off or is damaged ({error}); expected a whole video") from None

    return Footage(path, fps, expected, decode)
