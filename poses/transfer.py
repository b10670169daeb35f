"""The poses of another video for a trained model, with the size and at the place of the person that it was trained on.

Images have the model's size, H x W; T frames, J joints.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from data.entries import own_entries
from data.image_files import read_upright
from data.images import numbered_images
from poses.footage import open_footage
from poses.keypoint_files import read_keypoints, read_sequence
from poses.pose_images import holds_pose_images
from poses.scan import PeopleFinder
from poses.skeleton import draw_pose
from poses.tracking import track_person
from utils import UserError

OVERSAMPLE = 4  # pose images are drawn larger, then resized with the filter with which data sets are read
SAMPLES = 300  # frames in which a person is measured
MAX_GAP = 2  # most consecutive frames in which a missing joint is interpolated
MAX_SIDE = 1e6  # pixels of a video's side in a manifest


class Placement(NamedTuple):
    """The map from a point of the source to the model's image: scale * point + (right, down), in pixels."""

    scale: float
    right: float
    down: float


class Person(NamedTuple):
    """Size and place of the person in pose images, in pixels; medians over the frames."""

    height: float
    center: float  # from the left
    feet: float  # from the top


class Source(NamedTuple):
    """Poses of `length` frames of height x width; draw(t, placement) returns the pose image of frame t."""

    length: int
    height: float
    width: float
    draw: Callable[[int, Placement], Image.Image]


def pose_images(
    path: Path,
    *,
    like: np.ndarray | None,
    height: int,
    width: int,
    detector: Callable[[], PeopleFinder],
    allow_truncated: bool = False,
) -> Tensor:
    """Return pose images (T, 3, H, W) uint8 of the person at `path`.

    `path` is a data set of prepare_video.py, keypoints, a folder of pose images, or a video, for which `detector()` makes a
    Detector. The person gets the size and the place of the one in the pose images `like` (N, H, W, 3); None leaves both as they
    are. `allow_truncated` accepts a video that breaks off. Raises UserError if there are no poses at `path`.
    """
    source = open_source(path, height, width, detector, allow_truncated=allow_truncated)
    scale = min(height / source.height, width / source.width)
    placement = Placement(scale, (width - scale * source.width) / 2, (height - scale * source.height) / 2)
    target = None if like is None else measure_person(like)
    if target:
        sample = np.unique(np.linspace(0, source.length - 1, SAMPLES).astype(int)).tolist()
        for _ in range(2):  # the second time, the person has the target's size, so rounding to pixels affects both equally
            found = measure_person(np.stack([np.asarray(source.draw(t, placement)) for t in sample]))
            placement = placement if found is None else fit_person(placement, found, target)
    bar = tqdm(range(source.length), desc="drawing poses", unit="frame", leave=False, disable=None)
    return torch.from_numpy(np.stack([np.asarray(source.draw(t, placement)) for t in bar])).permute(0, 3, 1, 2)


def measure_person(images: np.ndarray) -> Person | None:
    """Return the person in pose images (N, H, W, 3) uint8; None if nothing is drawn in any of them.

    A hundredth of the ink is above the head, and a hundredth is below the feet. Unlike the outermost colored pixels, these
    positions do not depend on the size of the images.
    """
    people = []
    for image in images:
        ink = np.abs(image.astype(float) - image[0, 0]).max(axis=-1)  # (H, W)
        if ink.sum() > 255:  # more than one pixel
            rows, columns = ink.sum(1), ink.sum(0)
            share_above = np.concatenate([[0], np.cumsum(rows) / ink.sum()])
            head, feet = np.interp([0.01, 0.99], share_above, np.arange(len(share_above)))
            people.append((feet - head, float(np.average(np.arange(len(columns)) + 0.5, weights=columns)), feet))
    return Person(*np.median(people, axis=0).tolist()) if people else None


def fit_person(placement: Placement, found: Person, target: Person) -> Placement:
    """Return the placement that shows the person like `target`, given the `placement` that shows the person like `found`."""
    factor = target.height / found.height
    right = factor * (placement.right - found.center) + target.center
    down = factor * (placement.down - found.feet) + target.feet
    return Placement(factor * placement.scale, right, down)


def open_source(
    path: Path, height: int, width: int, detector: Callable[[], PeopleFinder], *, allow_truncated: bool = False
) -> Source:
    """Return the poses at `path`, with `allow_truncated` those before the break of a video.

    Raises UserError if there are none.
    """
    if not path.exists():
        raise UserError(f"--pose_from {path}: no such file or folder; expected a video, keypoints or pose images")
    if (path / "manifest.json").is_file():
        return open_dataset(path, height, width)
    if holds_pose_images(path):
        return image_source(list(numbered_images(path).values()), height, width)
    if path.is_dir() or path.suffix.lower() in {".json", ".csv"}:
        return keypoint_source(path, read_sequence(path), None, height, width)
    footage = open_footage(path, allow_truncated=allow_truncated)
    finder, people = detector(), []
    bar = tqdm(footage.frames(), desc="looking for people", total=footage.expected, unit="frame", leave=False, disable=None)
    for frame in bar:
        people.append(finder.find_people(frame))
    return keypoint_source(path, people, frame.shape[:2], height, width)


def open_dataset(folder: Path, height: int, width: int) -> Source:
    """Return the poses of the first video in a data set of prepare_video.py.

    These are its keypoints or, if it was made from pose images, the pose images in its splits. Raises UserError if the data set
    is not finished.
    """
    manifest = folder / "manifest.json"
    try:
        video = json.loads(manifest.read_bytes())["videos"][0]
        size = float(video["height"]), float(video["width"])
        last_number = int(video["frames"]) + len(video["cuts"])  # each cut skips one number
        if not (0 < size[0] < MAX_SIDE and 0 < size[1] < MAX_SIDE):
            raise ValueError("not the size of a video")
    except (ValueError, KeyError, IndexError, TypeError, OverflowError):
        raise UserError(f"{manifest}: contains no video; expected a data set that prepare_video.py has finished") from None
    keypoints = folder / "keypoints" / "0.csv"
    if keypoints.is_file():
        # Only the order counts: --every and the images of a folder cause steps and gaps in the numbers.
        people = [people for _, people in sorted(read_keypoints(keypoints).items())]
        return keypoint_source(folder, people, size, height, width)
    test_labels = folder / "test" / "test_label"
    tests = own_entries(test_labels).folders if test_labels.is_dir() else []
    images: dict[int, Path] = {}
    for labels in [folder / "train" / "train_label", folder / "val" / "val_label", *tests]:
        images |= numbered_images(labels)
    return image_source([path for number, path in sorted(images.items()) if number < last_number], height, width)


def keypoint_source(path: Path, people: list[np.ndarray], size: tuple[float, float] | None, height: int, width: int) -> Source:
    """Return the poses of the largest person as a source that draws them. `path`, their place, is named in errors.

    `size` is (height, width) of the video; None takes the smallest size that contains all joints. Raises UserError if nobody was
    found.
    """
    poses = track_person(people, [], how="largest", confidence=0.05, fill=MAX_GAP, smoothing=0)
    found = poses[poses[..., 2] > 0]
    if not len(found):
        raise UserError(f"--pose_from {path}: nobody was found in any frame; expected a video of a person")
    if size is None:
        size = float(found[:, 1].max()) + 1, float(found[:, 0].max()) + 1

    def draw(t: int, placement: Placement) -> Image.Image:
        pose = poses[t] * [placement.scale, placement.scale, 1] + [placement.right, placement.down, 0]
        large = draw_pose(pose * [OVERSAMPLE, OVERSAMPLE, 1], height=OVERSAMPLE * height, width=OVERSAMPLE * width)
        return large.resize((width, height), Image.Resampling.BILINEAR)

    return Source(len(poses), *size, draw)


def image_source(paths: list[Path], height: int, width: int) -> Source:
    """Return pose images as a source that resizes them. The area around an image gets the color of its upper left corner."""
    first = Image.fromarray(read_upright(paths[0]))

    def draw(t: int, placement: Placement) -> Image.Image:
        image = Image.fromarray(read_upright(paths[t]))
        left, top = -placement.right / placement.scale, -placement.down / placement.scale
        right, bottom = left + width / placement.scale, top + height / placement.scale
        margin_left, margin_top = margin(-left), margin(-top)
        margin_right, margin_bottom = margin(right - image.width), margin(bottom - image.height)
        size = margin_left + image.width + margin_right, margin_top + image.height + margin_bottom
        padded = Image.new("RGB", size, image.getpixel((0, 0)))
        padded.paste(image, (margin_left, margin_top))
        box = left + margin_left, top + margin_top, right + margin_left, bottom + margin_top
        return padded.resize((width, height), Image.Resampling.BILINEAR, box=box)

    return Source(len(paths), first.height, first.width, draw)


def margin(distance: float) -> int:
    """Return the number of pixels to add on a side where the model's image extends beyond the source by `distance` pixels."""
    return max(0, round(distance + 1))


def first_frame(path: Path, *, height: int, width: int) -> Tensor:
    """Return an image as context frame (1, 3, H, W) uint8, cropped around its center to the shape of the model's frames.

    Raises UserError if it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"--first_frame {path}: no such file; expected an image")
    image = ImageOps.fit(Image.fromarray(read_upright(path)), (width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0)
