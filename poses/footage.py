"""The frames of a video in any form: a video file, an animated image, or a folder of images (H x W frame size)."""

import itertools
import math
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageSequence

from data.image_files import REMARKS, TRANSPARENT, WAYS_OUT, over_white, read_upright, reason_of
from data.images import SUFFIXES, numbered_images
from poses.containers import count_images, find_break
from poses.films import Film
from utils import UserError, counted
from visualization.videos import delay_of, gif_frames, shown_images

ANIMATED = {".gif", ".webp", ".apng"}  # suffixes of animated images that Pillow reads
ROUNDING = 10  # milliseconds by which GIF rounds the time of an image
NOT_VIDEO = SUFFIXES | {".csv", ".json", ".txt"}


class Footage(NamedTuple):
    """One video."""

    path: Path
    fps: float | None  # frames per second; unknown for a folder of images
    expected: int | None  # frames according to the file's header; some headers lack the number, some are wrong
    decode: Callable[[], Iterator[np.ndarray]]
    numbers: list[int] | None = None  # of the images in a folder; a gap in them is a gap in the video
    total: int | None = None  # frames of the whole film according to its header, if known exactly
    ends_early: Callable[[], bool] = lambda: False  # whether only a part could be read, which was allowed

    def frames(self) -> Iterator[np.ndarray]:
        """Yield all frames (H, W, 3) uint8.

        Raises UserError for a truncated file, a video without frames, and a frame of another size than the first.
        """
        size = None
        for number, frame in enumerate(self.decode()):
            size = size or frame.shape
            if frame.shape != size:
                expected, got = (f"{shape[1]} x {shape[0]}" for shape in (size, frame.shape))
                found = f"expected {expected} pixels in every frame, as in the first, got {got} in frame {number}"
                raise UserError(f"{self.path}: {found}; give all frames one size")
            yield frame
        if size is None:
            raise UserError(f"{self.path}: holds no frames; expected a video")


def open_footage(path: Path, *, allow_truncated: bool = False) -> Footage:
    """Return the video at `path`, with `allow_truncated` the frames before its break if a part of the file is missing.

    Raises UserError if there is none, or if the package that is needed to read it is missing.
    """
    if path.is_dir():
        images = numbered_images(path)
        return Footage(path, None, len(images), lambda: map(read_upright, images.values()), list(images))
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; expected a video, a GIF or a folder of images")
    read = open_animated_image if path.suffix.lower() in ANIMATED else open_video
    return read(path, allow_truncated=allow_truncated)


def open_animated_image(path: Path, *, allow_truncated: bool) -> Footage:
    """Return a GIF or similar file as a video with a constant rate, see choose_fps(); a longer image counts as several frames.

    Raises UserError if it cannot be read or, unless `allow_truncated`, breaks off.
    """
    if not path.stat().st_size:
        raise UserError(f"{path}: expected an animated image, got an empty file; copy it again")
    found = count_images(path)
    end = None if found is None or found.whole else found.complete
    if (found is None and find_break(path) is not None) or end == 0:
        raise UserError(f"{path}: breaks off; copy it again")
    if end is not None and not allow_truncated:
        frames = counted(end, "image")
        raise UserError(f"{path}: breaks off after {frames}; copy it again, or use only these images with --allow_truncated")
    delays, transparent = [], False
    try:
        with Image.open(path) as image:
            # In some formats, the duration of an image is known only after it is decoded.
            pages = itertools.islice(ImageSequence.Iterator(image), end)
            for page in pages:
                transparent |= over_white(page)[1]
                delays.append(delay_of(page))
    except Exception as error:  # Pillow raises errors of many kinds for a damaged file
        raise unreadable(path, error) from None
    fps = choose_fps(delays)
    if end is not None:
        print(f"{path}: breaks off after {counted(end, 'image')}; only these are used (--allow_truncated)", file=sys.stderr)
    lost = len(delays) - len({*shown_images(delays, fps)})
    if lost:
        text = f"{lost} of {counted(len(delays), 'image')} {'is' if lost == 1 else 'are'} shorter than a frame and not used"
        print(f"{path}: read at {fps:.4g} frames per second; {text}", file=sys.stderr)
    if transparent:
        print(f"{path}: {REMARKS[TRANSPARENT]}; {WAYS_OUT[TRANSPARENT]}", file=sys.stderr)

    def decode() -> Iterator[np.ndarray]:
        try:
            yield from gif_frames(path, fps=fps, images=end)
        except (OSError, ValueError, SyntaxError, IndexError, struct.error) as error:
            raise unreadable(path, error) from None

    return Footage(path, fps, sum(1 for _ in shown_images(delays, fps)), decode, ends_early=lambda: end is not None)


def unreadable(path: Path, error: Exception) -> UserError:
    """Return the error about an animated image that Pillow cannot read."""
    return UserError(f"{path}: cannot be read as an animated image ({reason_of(error, path)}); copy or save it again")


def choose_fps(delays: list[float]) -> float:
    """Return the frames per second of an animation whose images are shown for these milliseconds.

    The delay of a frame is the shortest one of at least two images and a tenth of all. So a single odd delay does not multiply
    the frames, and images that stand for several equal frames do not hide the rate. GIF rounds delays to hundredths of a second;
    the mean over all images undoes that.
    """
    counts = Counter(delays)
    usual = [delay for delay, count in counts.items() if count >= max(2, len(delays) / 10)]
    base = min(usual or delays)
    frames = [math.ceil(delay / base - 0.5) for delay in delays]  # 30 ms are one frame of 20 ms, rounded, and not two
    regular = [(delay, n) for delay, n in zip(delays, frames) if n and abs(delay - n * base) <= ROUNDING]
    return 1000 * sum(n for _, n in regular) / sum(delay for delay, _ in regular)


def open_video(path: Path, *, allow_truncated: bool) -> Footage:
    """Return a video file, read with PyAV. Raises UserError if it cannot be read or, unless `allow_truncated`, breaks off."""
    if path.suffix.lower() in NOT_VIDEO:
        is_image = path.suffix.lower() in SUFFIXES
        way_out = "pass the folder that holds it" if is_image else "choose a video, and pass keypoints with --poses"
        raise UserError(f"{path}: expected a video, a GIF or a folder of images, got {path.suffix}; {way_out}")
    film = Film(path, allow_truncated=allow_truncated)
    survey = film.survey
    return Footage(path, survey.fps, survey.frames, film.frames, total=survey.total, ends_early=lambda: film.ended_early)
