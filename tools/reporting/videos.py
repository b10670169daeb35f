"""The videos of tools/report.py: truth, pose and predictions of several runs beside each other (T frames, H x W their size)."""

import io
import math
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from tasks import DANCE
from tools.reporting.runs import Group, Run
from utils import UserError
from visualization.videos import join_videos, read_comparison

LARGEST = 128  # pixels of a side of a stored frame: larger ones are shrunk, they would make a page of many megabytes


class Video(NamedTuple):
    """One column of a comparison."""

    name: str
    frames: np.ndarray  # (T, H, W, 3) uint8
    psnr: np.ndarray | None  # (T,) in dB, nan for the given frames; None where there is nothing to compare with


def frames_per_second(run: Run) -> float:
    """Of the videos that the test of a run wrote."""
    return float(run.about.get("fps", run.task.tester_defaults["fps"]))


def side_by_side(groups: list[Group], sequence: str) -> list[Video]:
    """Truth and pose where there are any, and what the first run of each group that has the video predicts. Raises UserError."""
    videos: list[Video] = []
    shown = [(group, next(run for run in group.runs if sequence in run.videos)) for group in groups
             if any(sequence in run.videos for run in group.runs)]  # fmt: skip
    for group, run in sorted(shown, key=lambda pair: pair[1].test is None):  # those first that know the truth
        path = run.videos[sequence]
        size = {"height": run.flags["frame_H"], "width": run.flags["frame_W"]}
        parts = read_comparison(path, fps=frames_per_second(run), **size)
        scores = run.test.frames.get(sequence) if run.test else None
        leading = ["truth"] * (scores is not None) + ["pose"] * (run.task is DANCE)
        length = videos[0].frames.shape[0] if videos else parts.shape[1]
        length = length if scores is None else len(scores["psnr"]) + run.given
        if len(parts) <= len(leading) or parts.shape[1] != length:
            found = f"{len(parts)} pictures beside each other in {parts.shape[1]} frames"
            raise UserError(f"{path}: {found}; expected {' | '.join([*leading, 'prediction'])} in {length}, run Tester.py again")
        if not videos:
            videos += [Video(name, part, None) for name, part in zip(leading, parts)]
        psnr = None if scores is None else np.concatenate([np.full(run.given, np.nan), scores["psnr"]])
        videos.append(Video(group.name, parts[len(leading)], psnr))
    return videos


def dips_and_peaks(curve: np.ndarray, *, dips: int = 3, peaks: int = 2) -> dict[int, str]:
    """Places {index: "dip" or "peak"} of a curve, in order: the lowest and highest values that are so within a twentieth of the
    curve to each side. A curve that only falls has its dip at its end."""
    reach = max(1, len(curve) // 20)
    found = {}
    for sign, name, count in ((1, "dip", dips), (-1, "peak", peaks)):
        values = np.where(np.isfinite(curve), sign * curve, np.inf)
        extremes = [t for t in range(len(values)) if np.isfinite(values[t])
                    and t - max(0, t - reach) == values[max(0, t - reach) : t + reach + 1].argmin()]  # fmt: skip
        for t in sorted(extremes, key=lambda t: values[t])[:count]:
            found.setdefault(t, name)
    return dict(sorted(found.items()))


def farthest_apart(curves: list[np.ndarray]) -> int | None:
    """Where several curves differ most; None for less than two."""
    apart = np.ptp(np.stack(curves), axis=0) if len(curves) > 1 else np.full(1, np.nan)
    return int(np.nanargmax(apart)) if np.isfinite(apart).any() else None


def stored(picture: np.ndarray) -> Image.Image:
    """(H, W, 3) as a picture with no side above LARGEST."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    return image.reduce(math.ceil(max(image.size) / LARGEST)) if max(image.size) > LARGEST else image


def encode(image: Image.Image, kind: str, **settings) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


class Sprite(NamedTuple):
    """All frames of a video in one picture, row after row, `columns` a row; any of them can be shown at once."""

    content: bytes  # WebP
    columns: int
    size: tuple[int, int]  # width and height of a frame


def sprite(frames: np.ndarray) -> Sprite:
    """Quality 90 takes 0.3 KB for a 64 x 32 frame of the course and keeps 42 dB of it, no less than a GIF's palette does."""
    images = [stored(frame) for frame in frames]
    width, height = images[0].size
    columns = math.ceil(math.sqrt(len(images) * height / width))
    sheet = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height))
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * width, i // columns * height))
    return Sprite(encode(sheet, "WEBP", quality=90, method=4), columns, (width, height))


def joined(videos: list[Video], *, every: int) -> torch.Tensor:
    """Every so-manieth frame of the videos beside each other, (T', 3, H', W') in [0, 1], as save_gif() takes it."""
    frames = [np.stack([np.asarray(stored(frame)) for frame in video.frames[::every]]) for video in videos]
    parts = [torch.from_numpy(part).permute(0, 3, 1, 2) / 255 for part in frames]
    return join_videos(parts, dim=-1).repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
