"""The dance data set (Lab 4): the folders of train/ and val/ -> training clips and whole sequences, as bytes.

N is the number of frames of a split, T that of a clip or a sequence.
"""

from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from data.clips import Clips, Sequence, content_hash, standard_scale
from data.frame_store import FrameStore, decode
from data.image_files import print_remarks
from data.images import contiguous_segments, find_dataset, report_ignored, scan_images
from data.issues import FrameIssues, Issues, SkippedFrames
from data.layouts import FOR_ROBOT, dance_parts, holds_actions
from utils import UserError


def unpaired(
    frames: dict[int, Path], poses: dict[int, Path], *, frame_folder: Path, pose_folder: Path, ambiguous: set[int]
) -> FrameIssues:  # fmt: skip
    """Return every frame without a pose image of its number, and every pose image without a frame, as issues.

    `ambiguous` numbers occur twice in a folder. Their images are not used, but they are not missing either.
    """
    issues = FrameIssues()
    for number in sorted(set(frames) - set(poses) - ambiguous):
        issues.add(number, f"{pose_folder}: no pose image for {frames[number].name}; add it, or remove the frame")
    for number in sorted(set(poses) - set(frames) - ambiguous):
        issues.add(number, f"{frame_folder}: no frame for {poses[number].name}; add it, or remove the pose image")
    return issues


class DanceFiles(NamedTuple):
    """The frames and pose images of train/ or val/ as files, by frame number."""

    folder: Path
    frames: dict[int, Path]
    poses: dict[int, Path]
    issues: FrameIssues

    @property
    def paired(self) -> list[int]:
        """The numbers that both a frame and a pose image have."""
        return sorted(set(self.frames) & set(self.poses))

    def skipped(self) -> SkippedFrames:
        """Return the loss if all frames with an issue are skipped."""
        found = {*self.frames, *self.poses, *self.issues.by_number}
        return SkippedFrames(
            frames=len(self.issues), found=len(found) + len(self.issues.by_name),
            segments=segment_lengths(set(self.paired) - set(self.issues.by_number)), intact_segments=segment_lengths(found),
        )  # fmt: skip


def segment_lengths(numbers: set[int]) -> list[int]:
    """Return the lengths of the contiguous segments that the frame numbers form."""
    ordered = np.array(sorted(numbers), dtype=np.int64)
    return [len(segment) for segment in contiguous_segments(ordered, np.arange(len(ordered)))]


def find_split(root: Path, split: str) -> Path:
    """Return the folder of a split. Raises UserError if there is none, or if it is that of a robot."""
    folder = find_dataset(root, split) / split
    if not dance_parts(folder) and holds_actions(folder):
        raise UserError(f"{folder}: expected {split}_img/ and {split}_label/, got sequences of a robot; {FOR_ROBOT}")
    return folder


def scan_split(root: Path, split: str) -> DanceFiles:
    """List the files of train/ or val/. Raises UserError if a folder is missing or empty."""
    folder = find_split(root, split)
    frame_folder, pose_folder = folder / f"{split}_img", folder / f"{split}_label"
    frames, issues, ignored = scan_images(frame_folder)
    poses, pose_issues, ignored_poses = scan_images(pose_folder)
    report_ignored(folder, [*ignored, *ignored_poses])
    issues.add_all(pose_issues)
    ambiguous = set(issues.by_number)
    issues.add_all(unpaired(frames, poses, frame_folder=frame_folder, pose_folder=pose_folder, ambiguous=ambiguous))
    return DanceFiles(folder, frames, poses, issues)


class DanceSplit(FrameStore):
    """The frames and pose images of train/ or val/ in the frame cache.

    `images` (2, N, 3, H, W) uint8 are frames, then poses, in the order of the frame `numbers` (N,). `usable` are the positions of
    frames without an issue, in ascending order.
    """

    def __init__(
        self, *, folder: Path, numbers: np.ndarray, usable: np.ndarray, images: np.memmap, digest: str,
        skipped: SkippedFrames | None,
    ):  # fmt: skip
        super().__init__(folder=folder, images=images, digest=digest, skipped=skipped)
        self.numbers, self.usable = numbers, usable

    @classmethod
    def load(
        cls, root: Path, split: str, *, height: int, width: int, cache_dir: Path | None = None, skip_bad: bool | None = None
    ) -> "DanceSplit":  # fmt: skip
        """Load train/ or val/.

        Raises UserError with all problems unless `skip_bad`, and with `skip_bad` if no frame remains.
        """
        files = scan_split(root, split)
        numbers = files.paired
        paths = [images[number] for images in (files.frames, files.poses) for number in numbers]
        cached, damaged = decode(paths, folder=files.folder, height=height, width=width, cache_dir=cache_dir, skip_bad=skip_bad)
        for index, problem in damaged.items():
            files.issues.add(numbers[index % len(numbers)], problem)
        skipped = Issues(files.folder, files.issues.messages(), files.skipped()).raise_or_skip(skip_bad)
        assert cached is not None  # without any frame, raise_or_skip() raises
        print_remarks(cached.remarks, files.folder.parent)
        usable = [position for position, number in enumerate(numbers) if number not in files.issues.by_number]
        images = cast("np.memmap", cached.images.reshape(2, len(numbers), *cached.images.shape[1:]))
        return cls(folder=files.folder, numbers=np.array(numbers, dtype=np.int64), usable=np.array(usable, dtype=np.int64),
                   images=images, digest=cached.digest, skipped=skipped)  # fmt: skip

    def segments(self, count: int) -> list[range]:
        """Return the positions of the contiguous segments among the first `count` frames, without unusable frames."""
        return contiguous_segments(self.numbers, self.usable[self.usable < count])


class DanceClips(Clips):
    """Training clips: frames (T, 3, H, W), pose images as conditions (T + 2 * margin, 3, H, W) and the reference frame
    (3, H, W), all uint8.

    The reference frame is the clip's first (`reference` "clip") or any frame of the same contiguous segment ("video"). The poses
    extend `margin` frames beyond the clip on either side; beyond the segment, its first or last pose is repeated. A clip is
    mirrored with probability `flip`. An epoch has as many clips as fit into the segments unless `clips_per_epoch` is assigned.
    Raises UserError if every segment is shorter than a clip.
    """

    def __init__(
        self, *, split: DanceSplit, length: int, partial: float, seed: int, reference: str, flip: float, shift: int,
        margin: int,
    ):  # fmt: skip
        self.split, self.length, self.reference, self.flip, self.margin = split, length, reference, flip, margin
        self.segments = split.segments(max(1, int(len(split.numbers) * partial)))
        starts = []  # (position of the first frame, index of its segment)
        for index, segment in enumerate(self.segments):
            starts += [(first, index) for first in range(segment.start, segment.stop - length + 1)]
        if not starts:
            longest = max(map(len, self.segments), default=0)
            way_out = f"choose a smaller --train_vi_len{', or a larger --partial' if partial < 1 else ''}"
            expected = f"expected at least {length} consecutive frames (--train_vi_len)"
            raise UserError(f"{split.folder}: {expected}, got at most {longest}; {way_out}")
        fitting = max(1, sum(map(len, self.segments)) // length)
        super().__init__(starts=starts, clips_per_epoch=fitting, seed=seed, shift=shift)

    @property
    def content_hash(self) -> str:
        numbers = self.split.numbers[self.split.usable]
        return content_hash(self.split.digest.encode(), str(numbers.tolist()).encode())

    def condition_scale(self) -> tuple[list[float], list[float]]:
        usable = self.split.usable
        # Counts of the 256 values of a byte give the exact result without a copy of all images; 1024 are counted at a time.
        counts = np.zeros((3, 256))
        for positions in np.array_split(usable, len(usable) // 1024 + 1):
            poses = self.split.images[1, positions]
            counts += [np.bincount(poses[:, color].ravel(), minlength=256) for color in range(3)]
        share, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
        mean = share @ values
        return standard_scale(mean, np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1)))

    def cut(self, start: tuple[int, int], rng: np.random.Generator) -> dict[str, Tensor]:
        first, index = start
        segment = self.segments[index]
        frames = torch.tensor(self.split.images[0, first : first + self.length])
        extended = np.arange(first - self.margin, first + self.length + self.margin).clip(segment.start, segment.stop - 1)
        poses = torch.from_numpy(self.split.images[1, extended])
        reference = first if self.reference == "clip" else segment.start + int(rng.integers(len(segment)))
        clip = {"frames": frames, "conditions": poses, "reference": torch.tensor(self.split.images[0, reference])}
        if rng.random() < self.flip:
            clip = {name: video.flip(-1) for name, video in clip.items()}
        return clip


def load_validation_sequences(split: DanceSplit, *, length: int) -> list[Sequence]:
    """Return the contiguous segments of a split, cut into consecutive sequences of `length` frames.

    The last sequence of a segment may be shorter. Sequences of a single frame are dropped. Raises UserError if none remains.
    """
    frames, poses = (torch.from_numpy(images) for images in split.images.copy())
    sequences = []
    for segment in split.segments(len(split.numbers)):
        for begin in range(segment.start, segment.stop, length):
            end = min(begin + length, segment.stop)
            if end - begin > 1:
                name = f"{split.numbers[begin]}-{split.numbers[end - 1]}"
                sequences.append(Sequence(name, frames[begin : begin + 1], poses[begin:end], frames[begin:end]))
    if not sequences:
        raise UserError(f"{split.folder}: no two frames with consecutive numbers; expected those of a video, 0, 1, 2, ...")
    return sequences
