"""Writes frames and pose images of videos in the LAB4_Dataset layout."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from data.images import numbered_images
from poses.cropping import Box, moved_into
from poses.footage import read_upright
from poses.scan import PoseImages, Video
from poses.skeleton import draw_pose
from poses.splits import Stretch
from visualization.videos import save_gif

PREVIEW_FRAMES = 150
PREVIEW_SIZE = 384  # pixels of its longer side at most


def blank(poses: np.ndarray | PoseImages) -> int:
    """How many frames have nobody in them."""
    if isinstance(poses, PoseImages):
        return poses.blank()
    return int((poses[..., 2] <= 0).all(axis=1).sum())


def pose_picture(poses: np.ndarray | PoseImages, t: int, window: Box, size: tuple[int, int]) -> Image.Image:
    """The pose image of frame t, height x width `size` large. Ready-made ones are cut like the frames."""
    height, width = size
    if isinstance(poses, PoseImages):
        image = Image.fromarray(read_upright(poses.paths[t]))
        box = [edge * scale for edge, scale in zip(window, 2 * poses.scale)]
        box[2:] = min(box[2], image.width), min(box[3], image.height)  # rounding may lead beyond them
        return image.resize((width, height), Image.Resampling.BILINEAR, box=tuple(box))
    return draw_pose(moved_into(poses[t], window, height=height, width=width), height=height, width=width)


def write_images(
    root: Path, videos: list[Video], poses: list[np.ndarray | PoseImages], stretches: list[Stretch], windows: list[Box],
    size: tuple[int, int],
) -> None:  # fmt: skip
    """Reads the videos again and writes what belongs to a stretch; pictures that are there already stay."""
    tests = [stretch for stretch in stretches if stretch.split == "test"]
    for number, video in enumerate(videos):
        own = [stretch for stretch in stretches if stretch.video == number]
        total = sum(len(stretch.frames) for stretch in own)
        with tqdm(total=total, desc=f"writing {video.path.name}", unit="frame", leave=False, disable=None) as bar:
            for t, frame in enumerate(video.frames()):
                stretch = next((stretch for stretch in own if t in stretch.frames), None)
                if stretch is None:
                    continue
                name = f"frame{stretch.number + t - stretch.frames.start:06d}.png"
                frames, labels = (root / folder for folder in folders(stretch, tests))
                window = windows[number]
                save(frames / name, partial(cut_out, frame, window, size))
                save(labels / name, partial(pose_picture, poses[number], t, window, size))
                if stretch.split == "test" and t == stretch.frames.start:
                    first = root / "test" / "test_img" / str(tests.index(stretch)) / name
                    save(first, partial(cut_out, frame, window, size))
                bar.update()


def folders(stretch: Stretch, tests: list[Stretch]) -> tuple[Path, Path]:
    """Where frames and pose images of a stretch go, within the data set."""
    if stretch.split == "test":
        return tuple(Path("test") / kind / str(tests.index(stretch)) for kind in ("test_gt", "test_label"))
    return tuple(Path(stretch.split) / f"{stretch.split}_{kind}" for kind in ("img", "label"))


def cut_out(frame: np.ndarray, window: Box, size: tuple[int, int]) -> Image.Image:
    """The window of a frame, height x width `size` large."""
    return Image.fromarray(frame).resize(size[::-1], Image.Resampling.LANCZOS, box=tuple(window))


def save(path: Path, make: Callable[[], Image.Image]) -> None:
    """Writes the picture that make() returns, unless there is one; a file is whole or not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}")
        make().save(partial, format="PNG", compress_level=1)
        partial.replace(path)


def write_preview(root: Path, stretches: list[Stretch]) -> None:
    """preview.gif: the beginning of the longest training stretch, the skeleton drawn over the frames."""
    longest = max((s for s in stretches if s.split == "train"), key=lambda s: len(s.frames))
    frames, labels = (numbered_images(root / folder) for folder in folders(longest, []))
    numbers = range(longest.number, longest.number + min(PREVIEW_FRAMES, len(longest.frames)))
    pictures = np.stack([small(overlay(read_upright(frames[number]), read_upright(labels[number]))) for number in numbers])
    save_gif(root / "preview.gif", torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255, fps=25)


def small(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) shrunk, if it is larger than a preview needs."""
    image = Image.fromarray(picture)
    image.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
    return np.asarray(image)


def overlay(frame: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) with what its pose image draws, at full strength."""
    ink = np.abs(pose.astype(int) - pose[0, 0].astype(int)).max(axis=-1, keepdims=True) / 255  # (H, W, 1) in [0, 1]
    # Where a line covers a part of a pixel, its colour is mixed with the background's: taken out again.
    colour = pose[0, 0] + (pose - pose[0, 0].astype(float)) / np.maximum(ink, 1e-3)
    share = np.minimum(1.0, 2 * ink)
    return ((1 - share) * frame + share * colour.clip(0, 255)).astype(np.uint8)
