"""The first reading of a video: how many frames it has, where another scene begins, and who is in it (J joints, P people)."""

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from data.images import SUFFIXES, numbered_images
from poses.cropping import Box, View
from poses.footage import open_footage, read_upright
from poses.keypoint_files import NOBODY, people_from_lists
from runtime.files import write_whole
from utils import UserError

THUMBNAIL = (64, 36)  # pixels of the pictures by which scenes are told apart
CLEAR = 4  # times the usual change that a cut must be, so that flicker or wild movement is none
NOISE = 8  # levels of 255 by which a JPEG's background differs from itself


class Scan(NamedTuple):
    """What a video holds."""

    length: int  # frames taken
    end: int | None  # frames of the whole video; if it was not read to its end, what its file says, if anything
    height: int
    width: int
    fps: float | None
    cuts: list[int]  # frames before which another scene begins
    people: list[np.ndarray]  # of each frame (P, J, 3); empty if nobody was looked for


class PoseImages:
    """Ready-made pose images, one for each frame of a video that is taken."""

    def __init__(self, folder: Path):
        images = numbered_images(folder)
        self.folder, self.numbers, self.paths = folder, list(images), list(images.values())
        self.scale = 1.0, 1.0  # pixels across and down by those of the frames, once they were checked

    def check(self, found: Scan, numbers: Sequence[int] | None) -> "PoseImages":
        """Itself. Raises UserError if they are not one for each frame, which may have `numbers`, or of another shape."""
        if len(self.paths) != found.length:
            raise UserError(f"{self.folder}: {len(self.paths)} pose images; expected {found.length}, one for each frame taken")
        if steps(self.numbers).tolist() != steps(numbers if numbers else range(found.length)).tolist():
            raise UserError(f"{self.folder}: other numbers are missing than among the frames; expected a pose image for each")
        sizes = {image_size(path) for path in self.paths}
        (width, height), *others = sorted(sizes)
        if others or abs(width / height / (found.width / found.height) - 1) > 0.03:
            listed = ", ".join(f"{w} x {h}" for w, h in sorted(sizes)[:3])
            shape = f"{found.width} x {found.height}"
            raise UserError(f"{self.folder}: pose images of {listed} pixels; expected one size, in the shape of {shape}")
        self.scale = width / found.width, height / found.height
        return self

    def drawn(self) -> Iterator[np.ndarray]:
        """Of each the pixels (H, W) bool that have another colour than the corner of the first."""
        background = read_upright(self.paths[0])[0, 0].astype(int)
        for path in tqdm(self.paths, desc=f"reading {self.folder.name}", unit="image", leave=False, disable=None):
            yield (np.abs(read_upright(path) - background) > NOISE).any(axis=-1)

    def blank(self) -> int:
        """In how many nothing is drawn."""
        return sum(not drawn.any() for drawn in self.drawn())

    def view(self, found: Scan) -> View:
        """Where something is drawn in any of them, in pixels of the video."""
        drawn = functools.reduce(np.logical_or, self.drawn())
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        if not len(rows):
            return View(None, found.height, found.width)
        across, down = self.scale
        box = Box(columns[0] / across, rows[0] / down, (columns[-1] + 1) / across, (rows[-1] + 1) / down)
        return View(box, found.height, found.width)


def holds_pose_images(path: Path) -> bool:
    """Whether this is a folder of pose images. Beside JSON files images are none: OpenPose, told to write both into one folder,
    draws the skeletons over the frames, and whoever learns from these sees what is to be predicted."""
    suffixes = {file.suffix.lower() for file in path.iterdir() if not file.name.startswith(".")} if path.is_dir() else set()
    return bool(suffixes & SUFFIXES) and ".json" not in suffixes


def steps(numbers: Sequence[int]) -> np.ndarray:
    """How far it is from each number to the next, the most frequent distance being 1."""
    distances = np.diff(numbers)
    values, counts = np.unique(distances, return_counts=True)
    return distances / values[np.argmax(counts)] if len(values) else distances


def gaps(video: "Video", count: int) -> set[int]:
    """Of the `count` frames taken those before which images are missing in a folder; its numbers may go in any steps."""
    if video.footage.numbers is None:
        return set()
    behind = np.flatnonzero(steps(video.footage.numbers) >= 2) + 1  # places in the folder
    first = np.ceil((behind - video.selection.start) / video.selection.step).astype(int)
    return {t for t in first.tolist() if 0 < t < count}


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image, without decoding it. Raises UserError."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from None


class Video:
    """A video and what is taken of it: `most` frames behind the first `skip`, each `every`-th. `poses` are keypoints, pose images
    or None, if they are to be detected."""

    def __init__(self, path: Path, poses: Path | None, skip: int, every: int, most: int | None):
        self.path, self.footage = path, open_footage(path)
        self.end = self.footage.expected  # frames of the whole video, as far as it is known
        self.selection = slice(skip, None if most is None else skip + most * every, every)
        self.poses: Path | PoseImages | None = poses
        if poses is not None and not poses.exists():
            raise UserError(f"--poses {poses}: no such file or folder")
        if poses and holds_pose_images(poses):
            self.poses = PoseImages(poses)

    def frames(self) -> Iterator[np.ndarray]:
        """The frames taken, (H, W, 3) uint8. Where it comes to the video's end, the end is known."""
        read = 0
        for frame in self.footage.frames():
            if self.selection.stop is not None and read >= self.selection.stop:
                return
            if read >= self.selection.start and (read - self.selection.start) % self.selection.step == 0:
                yield frame
            read += 1
        self.end = read

    def take(self, people: list[np.ndarray], count: int) -> list[np.ndarray]:
        """Of the people of all frames those of the `count` frames taken; nobody in those that are not there."""
        taken = people[self.selection]
        return [*taken, *[NOBODY] * (count - len(taken))][:count]

    def numbers(self, count: int) -> Sequence[int]:
        """The numbers of the `count` frames taken: of their images in a folder, else their places in the video."""
        start, step = self.selection.start, self.selection.step
        return (self.footage.numbers or range(start + count * step))[start::step][:count]

    def expected(self) -> int | None:
        """Frames taken, as far as it can be told before they are read."""
        return None if self.footage.expected is None else len(range(self.footage.expected)[self.selection])


class PeopleFile:
    """What was detected so far, a line of JSON for each frame, so that a stopped run need not look again."""

    def __init__(self, path: Path):
        self.path, self.known = path, []
        for line in path.read_bytes().splitlines() if path.exists() else []:
            try:
                self.known.append(people_from_lists(json.loads(line)))
            except (ValueError, TypeError):  # the last one, half written
                break
        write_whole(path, "".join(map(self.line, self.known)).encode())  # without a half line
        self.file = open(path, "a")  # noqa: SIM115

    @staticmethod
    def line(people: np.ndarray) -> str:
        """A frame's people."""
        return json.dumps(np.round(people.astype(float), 3).tolist()) + "\n"

    def write(self, people: np.ndarray) -> None:
        """Adds a frame's people."""
        self.file.write(self.line(people))
        self.file.flush()


def scan(video: Video, detector, record: Path, *, cut: float) -> Scan:
    """Reads the frames taken of a video once. A `detector` looks for people, as far as `record` does not have them. Raises
    UserError for a video that cannot be read, or has no frame that is taken."""
    looked = PeopleFile(record) if detector else None
    people, changes, before, shape = [], [], None, None
    task = f"{'looking for people in' if detector else 'reading'} {video.path.name}"
    bar = tqdm(video.frames(), desc=task, total=video.expected(), unit="frame", leave=False, disable=None)
    for i, frame in enumerate(bar):
        shape = frame.shape
        thumbnail = np.asarray(Image.fromarray(frame).resize(THUMBNAIL, Image.Resampling.BOX), dtype=np.float32) / 255
        changes.append(0.0 if before is None else float(np.abs(thumbnail - before).mean()))
        before = thumbnail
        if looked:
            people.append(looked.known[i] if i < len(looked.known) else detector.people(frame))
            if i >= len(looked.known):
                looked.write(people[-1])
    if looked:
        looked.file.close()
    if shape is None:
        raise UserError(f"{video.path}: no frame is left; expected more than --skip {video.selection.start}")
    threshold = max(cut, CLEAR * float(np.median(changes)))
    cuts = sorted({*gaps(video, len(changes)), *(i for i, change in enumerate(changes) if cut and change > threshold)})
    return Scan(len(changes), video.end, *shape[:2], video.footage.fps, cuts, people)
