"""Frames and pose images of videos, written in the LAB4_Dataset layout (N frames of H x W pixels, J joints)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from data.image_files import read_upright
from data.images import numbered_images
from poses.cropping import Box, to_window
from poses.pose_images import PoseImages
from poses.scan import Video
from poses.skeleton import draw_pose
from poses.splits import Segment
from visualization.videos import save_gif

PREVIEW_FRAMES = 150
PREVIEW_SIZE = 384  # longest side in pixels
Poses = np.ndarray | PoseImages  # of a video: (N, J, 3), or images


def count_blank(poses: Poses) -> int:
    """Return the number of frames without a person."""
    if isinstance(poses, PoseImages):
        return poses.count_blank()
    return int((poses[..., 2] <= 0).all(axis=1).sum())


def write_images(
    root: Path, videos: list[Video], poses: list[Poses], segments: list[Segment], windows: list[Box], size: tuple[int, int]
) -> None:
    """Read the videos again, and write the frames of all segments and their pose images with `size` (height, width).

    Existing files are kept.
    """
    tests = [segment for segment in segments if segment.split == "test"]
    for number, (video, video_poses, window) in enumerate(zip(videos, poses, windows)):
        own = [segment for segment in segments if segment.video == number]
        total = sum(len(segment.frames) for segment in own)
        with tqdm(total=total, desc=f"writing {video.path.name}", unit="frame", leave=False, disable=None) as bar:
            for t, frame in enumerate(video.frames()):
                segment = next((segment for segment in own if t in segment.frames), None)
                if segment is None:
                    continue
                name = f"frame{segment.number + t - segment.frames.start:06d}.png"
                frames, labels = segment_folders(segment, tests)
                save(root / frames / name, partial(crop, frame, window, size))
                save(root / labels / name, partial(pose_image, video_poses, t, window, size))
                if segment.split == "test" and t == segment.frames.start:
                    first = root / "test" / "test_img" / str(tests.index(segment)) / name
                    save(first, partial(crop, frame, window, size))
                bar.update()


def segment_folders(segment: Segment, tests: list[Segment]) -> tuple[Path, Path]:
    """Return the folders of a segment's frames and pose images, relative to the data set."""
    if segment.split == "test":
        index = str(tests.index(segment))
        return Path("test", "test_gt", index), Path("test", "test_label", index)
    return Path(segment.split, f"{segment.split}_img"), Path(segment.split, f"{segment.split}_label")


def pose_image(poses: Poses, t: int, window: Box, size: tuple[int, int]) -> Image.Image:
    """Return the pose image of frame t with `size` (height, width): drawn, or cropped like the frame."""
    height, width = size
    if not isinstance(poses, PoseImages):
        return draw_pose(to_window(poses[t], window, height=height, width=width), height=height, width=width)
    image = Image.fromarray(read_upright(poses.paths[t]))
    x_scale, y_scale = poses.scale
    # After rounding, the window may extend beyond the image.
    right, bottom = min(window.right * x_scale, image.width), min(window.bottom * y_scale, image.height)
    box = window.left * x_scale, window.top * y_scale, right, bottom
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def crop(frame: np.ndarray, window: Box, size: tuple[int, int]) -> Image.Image:
    """Return the window of a frame, resized to `size` (height, width)."""
    height, width = size
    return Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS, box=window)


def save(path: Path, make_image: Callable[[], Image.Image]) -> None:
    """Write the image that make_image() returns, unless the file exists. A stopped run leaves no incomplete file at `path`."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        incomplete = path.with_name(f".{path.name}")
        make_image().save(incomplete, format="PNG", compress_level=1)
        incomplete.replace(path)


def write_preview(root: Path, segments: list[Segment]) -> None:
    """Write preview.gif: the first frames of the longest training segment, with the skeleton drawn over them."""
    longest = max((s for s in segments if s.split == "train"), key=lambda s: len(s.frames))
    frames, labels = (numbered_images(root / folder) for folder in segment_folders(longest, []))
    numbers = range(longest.number, longest.number + min(PREVIEW_FRAMES, len(longest.frames)))
    images = np.stack([shrink(overlay(read_upright(frames[number]), read_upright(labels[number]))) for number in numbers])
    save_gif(root / "preview.gif", torch.from_numpy(images).permute(0, 3, 1, 2) / 255, fps=25)


def shrink(pixels: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3), reduced to at most PREVIEW_SIZE."""
    image = Image.fromarray(pixels)
    image.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
    return np.asarray(image)


def overlay(frame: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return a frame (H, W, 3) with the lines of its pose image over it, at full strength."""
    background = pose[0, 0]
    ink = np.abs(pose.astype(int) - background.astype(int)).max(axis=-1, keepdims=True) / 255  # (H, W, 1) in [0, 1]
    # A line that covers part of a pixel mixes its color with the background. This restores the line's color.
    color = background + (pose - background.astype(float)) / np.maximum(ink, 1e-3)
    share = np.minimum(1.0, 2 * ink)
    return ((1 - share) * frame + share * color.clip(0, 255)).astype(np.uint8)
