"""The first pass over a video: its number of frames, its cuts to other scenes, and the people in it.

N frames taken, P people, J joints.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TextIO

import numpy as np
from PIL import Image
from tqdm import tqdm

from poses.footage import Footage, open_footage
from poses.keypoint_files import NOBODY, people_from_lists
from poses.pose_images import PoseImages, holds_pose_images, number_steps
from runtime.files import write_whole
from utils import UserError

THUMBNAIL = (64, 36)  # pixels of the images that are compared to find cuts
CUT_FACTOR = 4  # a cut changes the image at least this many times as much as the median frame, unlike flicker or fast movement


class PeopleFinder(Protocol):
    """An object that finds people in frames, such as Detector."""

    def find_people(self, frame: np.ndarray) -> np.ndarray:
        """Return the people (P, J, 3) in a frame (H, W, 3) uint8."""
        ...


class Scan(NamedTuple):
    """The result of a pass over a video."""

    length: int  # frames taken
    total: int | None  # frames of the whole video; from the file's header if the video was not read to its end
    height: int
    width: int
    fps: float | None
    cuts: list[int]  # frames at which a new scene begins
    people: list[np.ndarray]  # of each frame (P, J, 3); empty without a detector


class Selection(NamedTuple):
    """The frames taken from a video: after the first `skip`, every `every`-th, at most `most`."""

    skip: int
    every: int
    most: int | None

    def of_total(self, total: int) -> range:
        """Return the positions of the frames taken from a video of `total` frames."""
        end = total if self.most is None else min(total, self.skip + self.most * self.every)
        return range(self.skip, end, self.every)

    def takes(self, position: int) -> bool:
        """Return whether the frame at `position` is taken; `position` must not be after the last frame taken."""
        return position >= self.skip and (position - self.skip) % self.every == 0

    def ends_before(self, position: int) -> bool:
        """Return whether all frames taken are before `position`."""
        return self.most is not None and position >= self.skip + self.most * self.every


class Video(NamedTuple):
    """A video with its selected frames. `poses` are keypoints in a file or folder, pose images, or None to detect people."""

    footage: Footage
    selection: Selection
    poses: Path | PoseImages | None

    @classmethod
    def load(cls, path: Path, poses: Path | None, selection: Selection, *, allow_truncated: bool = False) -> Video:
        """Return the video at `path`, with `allow_truncated` the part before its break.

        Raises UserError for a missing or unreadable file.
        """
        footage = open_footage(path, allow_truncated=allow_truncated)
        if poses is not None and not poses.exists():
            raise UserError(f"--poses {poses}: no such file or folder; expected keypoints or pose images")
        return cls(footage, selection, PoseImages.load(poses) if poses and holds_pose_images(poses) else poses)

    @property
    def path(self) -> Path:
        """The file or folder of the video."""
        return self.footage.path

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames taken, (H, W, 3) uint8."""
        for position, frame in enumerate(self.footage.frames()):
            if self.selection.ends_before(position):
                return
            if self.selection.takes(position):
                yield frame

    def take(self, people: list[np.ndarray], count: int) -> list[np.ndarray]:
        """Return the people of the `count` frames taken, from those of all frames; frames without an entry have no people."""
        taken = [people[position] for position in self.selection.of_total(len(people))]
        return [*taken, *[NOBODY] * (count - len(taken))][:count]

    def numbers(self, count: int) -> Sequence[int]:
        """Return the numbers of the `count` frames taken: those of their images in a folder, or their positions in the video."""
        skip, every, _ = self.selection
        return (self.footage.numbers or range(skip + count * every))[skip::every][:count]

    def expected(self) -> int | None:
        """Return the number of frames that will be taken; None if the file's header lacks the number of frames."""
        return None if self.footage.expected is None else len(self.selection.of_total(self.footage.expected))

    def gaps(self, count: int) -> set[int]:
        """Return those of the `count` frames taken that follow a gap in the numbers of a folder's images."""
        if self.footage.numbers is None:
            return set()
        after_gap = np.flatnonzero(number_steps(self.footage.numbers) >= 2) + 1  # positions in the folder
        first_taken = np.ceil((after_gap - self.selection.skip) / self.selection.every).astype(int)
        return {t for t in first_taken.tolist() if 0 < t < count}


def scan(video: Video, detector: PeopleFinder | None, record: Path, *, cut: float) -> Scan:
    """Read the frames taken from a video once. With a `detector`, find the people in frames that the file `record` lacks.

    `cut` is the mean change of the pixels, in [0, 1], above which a new scene begins; 0: never. Raises UserError for a video that
    cannot be read, and if no frame is taken.
    """
    known = load_people(record) if detector else []
    people: list[np.ndarray] = []
    changes: list[float] = []
    previous, height, width, total = None, 0, 0, video.footage.expected
    task = f"{'looking for people in' if detector else 'reading'} {video.path.name}"
    with (
        tqdm(desc=task, total=video.expected(), unit="frame", leave=False, disable=None) as bar,
        open(record, "a") if detector else contextlib.nullcontext() as file,
    ):
        for position, frame in enumerate(video.footage.frames()):
            if video.selection.ends_before(position):
                break
            if not video.selection.takes(position):
                continue
            height, width = frame.shape[:2]
            thumbnail = shrink(frame)
            changes.append(0.0 if previous is None else float(np.abs(thumbnail - previous).mean()))
            previous = thumbnail
            if detector and file:
                t = len(people)
                people.append(known[t] if t < len(known) else detect(detector, frame, file))
            bar.update()
        else:
            total = position + 1  # the number in the file's header may be missing or wrong
    if not changes:
        raise UserError(f"{video.path}: no frame is left after --skip {video.selection.skip}; choose a smaller --skip")
    cuts = sorted(video.gaps(len(changes)) | find_cuts(changes, cut))
    return Scan(len(changes), total, height, width, video.footage.fps, cuts, people)


def shrink(frame: np.ndarray) -> np.ndarray:
    """Return a frame in [0, 1], reduced to the size THUMBNAIL."""
    return np.asarray(Image.fromarray(frame).resize(THUMBNAIL, Image.Resampling.BOX), dtype=np.float32) / 255


def find_cuts(changes: list[float], cut: float) -> set[int]:
    """Return the frames whose change from the previous frame is above `cut` and unusual for the video; none if `cut` is 0."""
    threshold = max(cut, CUT_FACTOR * float(np.median(changes)))
    return {t for t, change in enumerate(changes) if cut and change > threshold}


def load_people(record: Path) -> list[np.ndarray]:
    """Return the people (P, J, 3) in each frame of an interrupted search, and remove an incomplete last line from its file.

    The file has a line of JSON for each frame.
    """
    people = []
    for line in record.read_bytes().splitlines() if record.exists() else []:
        try:
            people.append(people_from_lists(json.loads(line)))
        except (ValueError, TypeError):
            break
    write_whole(record, "".join(map(people_line, people)).encode())
    return people


def detect(detector: PeopleFinder, frame: np.ndarray, file: TextIO) -> np.ndarray:
    """Return the people (P, J, 3) in a frame and append them to the file."""
    people = detector.find_people(frame)
    file.write(people_line(people))
    file.flush()
    return people


def people_line(people: np.ndarray) -> str:
    """Return a frame's people as a line of JSON."""
    return json.dumps(np.round(people.astype(float), 3).tolist()) + "\n"
