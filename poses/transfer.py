"""The poses of another video for a trained model: drawn as large as the person of its training, and at the same place.

Pictures have the model's size, H x W; T frames, J joints.
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

from data.images import numbered_images
from poses.footage import open_footage, read_upright
from poses.keypoint_files import read_keypoints, read_sequence
from poses.scan import holds_pose_images
from poses.skeleton import draw_pose
from poses.tracking import follow
from utils import UserError

OVERSAMPLE = 4  # pose images are drawn larger and then shrunk with the filter that data sets are read with
SAMPLES = 300  # frames that a person is measured in
GAP = 2  # frames in a row without a joint that are filled


class Placing(NamedTuple):
    """Where a point of the source lies in the model's picture: scale times the point, moved right and down, in pixels."""

    scale: float
    right: float
    down: float


class Person(NamedTuple):
    """Size and place of the person in pose images, medians over the frames, in pixels."""

    height: float
    middle: float  # from the left
    feet: float  # from the top


class Source(NamedTuple):
    """Poses to be shown, `count` of them in frames of `height` x `width`; draw(t, placing) is frame t as a picture."""

    count: int
    height: float
    width: float
    draw: Callable[[int, Placing], Image.Image]


def pose_images(path: Path, *, like: np.ndarray | None, height: int, width: int, detector: Callable) -> Tensor:
    """Pose images (T, 3, H, W) uint8 of the person at `path`: a data set of prepare_video.py, keypoints, a folder of pose images,
    or a video, for which `detector()` makes a Detector.

    The person gets the size and the place of the one in the pose images `like` (N, H, W, 3); None leaves both as they are.
    Raises UserError.
    """
    source = open_source(path, height, width, detector)
    scale = min(height / source.height, width / source.width)
    placing = Placing(scale, (width - scale * source.width) / 2, (height - scale * source.height) / 2)
    wanted = None if like is None else measure(like)
    for _ in range(2 if wanted else 0):  # the second time the person is drawn in its size, and measured by the same pixels
        times = np.unique(np.linspace(0, source.count - 1, SAMPLES).astype(int))
        found = measure(np.stack([np.asarray(source.draw(t, placing)) for t in times.tolist()]))
        placing = placing if found is None else corrected(placing, found, wanted)
    bar = tqdm(range(source.count), desc="drawing poses", unit="frame", leave=False, disable=None)
    return torch.from_numpy(np.stack([np.asarray(source.draw(t, placing)) for t in bar])).permute(0, 3, 1, 2)


def measure(pictures: np.ndarray) -> Person | None:
    """The person in pose images (N, H, W, 3) uint8; None if nothing is drawn in any of them.

    By the share of ink: from where a hundredth of it lies above to where a hundredth lies below. Unlike the outermost coloured
    pixels this does not depend on the size of the pictures.
    """
    people = []
    for picture in pictures:
        ink = np.abs(picture.astype(float) - picture[0, 0]).max(axis=-1)  # (H, W)
        if ink.sum() > 255:  # a pixel's worth
            rows, columns = ink.sum(1), ink.sum(0)
            below = np.concatenate([[0], np.cumsum(rows) / ink.sum()])
            top, feet = np.interp([0.01, 0.99], below, np.arange(len(below)))
            people.append((feet - top, float(np.average(np.arange(len(columns)) + 0.5, weights=columns)), feet))
    return Person(*np.median(people, axis=0).tolist()) if people else None


def corrected(placing: Placing, found: Person, wanted: Person) -> Placing:
    """The placing that shows the person as wanted, of one with which it was found so."""
    larger = wanted.height / found.height
    return Placing(larger * placing.scale, larger * (placing.right - found.middle) + wanted.middle,
                   larger * (placing.down - found.feet) + wanted.feet)  # fmt: skip


def open_source(path: Path, height: int, width: int, detector: Callable) -> Source:
    """The poses at `path`. Raises UserError."""
    if not path.exists():
        raise UserError(f"--pose_from {path}: no such file or folder; expected a video, keypoints or pose images")
    if (path / "manifest.json").is_file():
        return prepared(path, height, width)
    if holds_pose_images(path):
        return of_images(list(numbered_images(path).values()), height, width)
    if path.is_dir() or path.suffix.lower() in {".json", ".csv"}:
        return of_people(read_sequence(path), None, height, width)
    footage = open_footage(path)
    find, people = detector(), []
    bar = tqdm(footage.frames(), desc="looking for people", total=footage.expected, unit="frame", leave=False, disable=None)
    for frame in bar:
        people.append(find.people(frame))
    return of_people(people, frame.shape[:2], height, width)


def prepared(folder: Path, height: int, width: int) -> Source:
    """The first video of a data set of prepare_video.py; made of pose images, what its splits have of it."""
    try:
        video = json.loads((folder / "manifest.json").read_bytes())["videos"][0]
        size = float(video["height"]), float(video["width"])
        numbers = int(video["frames"]) + len(video["cuts"])  # each cut leaves one out
        if not (0 < size[0] < 1e6 and 0 < size[1] < 1e6):
            raise ValueError("no size of a video")
    except (ValueError, KeyError, IndexError, TypeError, OverflowError):
        path = folder / "manifest.json"
        raise UserError(f"{path}: holds no video; expected a data set that prepare_video.py has finished") from None
    keypoints = folder / "keypoints" / "0.csv"
    if not keypoints.is_file():  # made of pose images
        tests = (path for path in (folder / "test" / "test_label").glob("*") if path.is_dir())
        labels = [folder / "train" / "train_label", folder / "val" / "val_label", *tests]
        images = {number: path for label in labels for number, path in numbered_images(label).items() if number < numbers}
        return of_images([path for _, path in sorted(images.items())], height, width)
    # In their order: the numbers are those of the film, of which each N-th frame may be taken, or of images with gaps.
    return of_people([people for _, people in sorted(read_keypoints(keypoints).items())], size, height, width)


def of_people(people: list[np.ndarray], size: tuple[float, float] | None, height: int, width: int) -> Source:
    """Drawn anew. Without the size of the video, that of the smallest that could hold all joints."""
    poses = follow(people, [], how="largest", confidence=0.05, fill=GAP, smoothing=0)
    found = poses[poses[..., 2] > 0]
    if not len(found):
        raise UserError("--pose_from: nobody is in it; expected a person in at least one frame")
    if size is None:
        size = float(found[:, 1].max()) + 1, float(found[:, 0].max()) + 1

    def draw(t: int, placing: Placing) -> Image.Image:
        pose = poses[t] * [placing.scale, placing.scale, 1] + [placing.right, placing.down, 0]
        large = draw_pose(pose * [OVERSAMPLE, OVERSAMPLE, 1], height=OVERSAMPLE * height, width=OVERSAMPLE * width)
        return large.resize((width, height), Image.Resampling.BILINEAR)

    return Source(len(poses), *size, draw)


def of_images(paths: list[Path], height: int, width: int) -> Source:
    """Pose images made larger or smaller; what lies outside has the colour of their corner."""
    first = Image.fromarray(read_upright(paths[0]))

    def draw(t: int, placing: Placing) -> Image.Image:
        image = Image.fromarray(read_upright(paths[t]))
        left, top = -placing.right / placing.scale, -placing.down / placing.scale
        box = left, top, left + width / placing.scale, top + height / placing.scale
        margins = [max(0, round(m + 1)) for m in (-box[0], -box[1], box[2] - image.width, box[3] - image.height)]
        before, above, behind, below = margins
        larger = Image.new("RGB", (before + image.width + behind, above + image.height + below), image.getpixel((0, 0)))
        larger.paste(image, (before, above))
        moved = box[0] + before, box[1] + above, box[2] + before, box[3] + above
        return larger.resize((width, height), Image.Resampling.BILINEAR, box=moved)

    return Source(len(paths), first.height, first.width, draw)


def first_frame(path: Path, *, height: int, width: int) -> Tensor:
    """Any picture as a given frame (1, 3, H, W) uint8; of another shape, its middle. Raises UserError."""
    if not path.is_file():
        raise UserError(f"--first_frame {path}: no such file; expected a picture")
    picture = ImageOps.fit(Image.fromarray(read_upright(path)), (width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).unsqueeze(0)
