"""The videos of a report: ground truth, pose and the predictions of several runs. T frames, H x W frame size."""

import io
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from tools.reporting.groups import Group
from tools.reporting.runs import Run
from utils import UserError, counted
from visualization.videos import join_videos, read_comparison

LARGEST_SIDE = 128  # pixels of an embedded frame; larger frames are reduced, or a page would be many megabytes large
WEBP_QUALITY = 90  # about 0.3 KB for a 64 x 32 frame of the course, at 42 dB: no worse than the palette of a GIF


class Video(NamedTuple):
    """One column of a comparison."""

    name: str
    frames: np.ndarray  # (T, H, W, 3) uint8
    psnr: np.ndarray | None  # (T,) in dB, NaN for the context frames; None for videos that are not predictions


class Sprite(NamedTuple):
    """All frames of a video in one image, row by row, so that a page can show any of them at once."""

    content: bytes  # WebP
    columns: int
    size: tuple[int, int]  # width and height of a frame


def frames_per_second(run: Run) -> float:
    """Return the frame rate of the videos that the test of a run wrote."""
    return float(run.test_settings.get("fps", run.task.tester_defaults["fps"]))


def load_videos(groups: list[Group], sequence: str) -> list[Video]:
    """Return ground truth and pose where available, and the prediction of the first run with a video of each group.

    Raises UserError for a video with other columns or another length than expected.
    """
    shown: list[tuple[Group, Run]] = []
    for group in groups:
        with_video = [run for run in group.runs if sequence in run.videos]
        if with_video:
            shown.append((group, with_video[0]))
    shown.sort(key=lambda pair: pair[1].scores is None)  # runs with ground truth first
    videos: list[Video] = []
    for group, run in shown:
        path = run.videos[sequence]
        parts = read_comparison(path, fps=frames_per_second(run), height=run.flags["frame_H"], width=run.flags["frame_W"])
        psnr = run.scores.frames[sequence]["psnr"] if run.scores and sequence in run.scores.frames else None
        inputs = ["ground truth"] if psnr is not None else []
        if run.task.condition_images:
            inputs.append(run.task.condition_images)
        length = videos[0].frames.shape[0] if videos else parts.shape[1]
        if psnr is not None:
            length = len(psnr) + run.context
        if len(parts) <= len(inputs) or parts.shape[1] != length:
            expected = f"{' | '.join([*inputs, 'prediction'])} in {counted(length, 'frame')}"
            got = f"{counted(len(parts), 'image')} in {counted(parts.shape[1], 'frame')}"
            raise UserError(f"{path}: expected {expected}, got {got}; run Tester.py again")
        if not videos:
            videos += [Video(name, part, None) for name, part in zip(inputs, parts)]
        scored = None if psnr is None else np.concatenate([np.full(run.context, np.nan), psnr])
        videos.append(Video(group.name, parts[len(inputs)], scored))
    return videos


def local_minima(values: np.ndarray) -> list[int]:
    """Return the indices of local minima, the lowest value first.

    A local minimum is finite and the lowest value within a twentieth of the curve on each side. Of equal values within that
    reach, only the first counts.
    """
    reach = max(1, len(values) // 20)
    minima = []
    for t in range(len(values)):
        start = max(0, t - reach)
        if np.isfinite(values[t]) and start + values[start : t + reach + 1].argmin() == t:
            minima.append(t)
    return sorted(minima, key=lambda t: values[t])


def dips_and_peaks(curve: np.ndarray, *, dips: int = 3, peaks: int = 2) -> dict[int, str]:
    """Return the lowest local minima and highest local maxima of a curve, {index: "dip" or "peak"}, in order.

    A falling curve has its dip at the end.
    """
    known = np.isfinite(curve)
    found = dict.fromkeys(local_minima(np.where(known, curve, np.inf))[:dips], "dip")
    for t in local_minima(np.where(known, -curve, np.inf))[:peaks]:
        found.setdefault(t, "peak")
    return dict(sorted(found.items()))


def largest_difference(curves: list[np.ndarray]) -> int | None:
    """Return the index at which several curves differ most; None for fewer than two, or if no index has all values."""
    if len(curves) < 2:
        return None
    difference = np.ptp(np.stack(curves), axis=0)
    return int(np.nanargmax(difference)) if np.isfinite(difference).any() else None


def to_image(frame: np.ndarray) -> Image.Image:
    """Return a frame (H, W, 3) as an image with no side above LARGEST_SIDE."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    largest = max(image.size)
    return image.reduce(math.ceil(largest / LARGEST_SIDE)) if largest > LARGEST_SIDE else image


def encode_image(image: Image.Image, kind: str, **settings: Any) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def make_sprite(frames: np.ndarray) -> Sprite:
    """Return the sprite of a video (T, H, W, 3), about as wide as it is high."""
    images = [to_image(frame) for frame in frames]
    width, height = images[0].size
    columns = math.ceil(math.sqrt(len(images) * height / width))
    sheet = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height))
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * width, i // columns * height))
    return Sprite(encode_image(sheet, "WEBP", quality=WEBP_QUALITY, method=4), columns, (width, height))


def join_video_frames(videos: list[Video], *, every: int) -> torch.Tensor:
    """Return every n-th frame of the videos next to each other, twice as large, (T', 3, H', W') in [0, 1], for save_gif()."""
    parts = []
    for video in videos:
        frames = np.stack([np.asarray(to_image(frame)) for frame in video.frames[::every]])
        parts.append(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255)
    return join_videos(parts, dim=-1).repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
