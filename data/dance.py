"""The dance data set (Lab 4): LAB4_Dataset folders -> training clips and whole sequences, as bytes.

N is the number of frames of a split, T that of a clip or a sequence.
"""

from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from data.clips import Clips, Sequence, content_hash, standard_scale
from data.frame_cache import BadImages, cached_frames
from data.frame_store import FrameStore, decode
from data.images import contiguous_segments, find_dataset, scan_images
from data.issues import FrameIssues, Issues, SkippedFrames
from utils import UserError, counted


def unpaired(
    frames: dict[int, Path], poses: dict[int, Path], *, frame_folder: Path, pose_folder: Path, ambiguous: set[int]
) -> FrameIssues:  # fmt: skip
    """Return every frame without a pose image of its number, and every pose image without a frame, as issues.

    `ambiguous` numbers occur twice in a folder. Their images are not used, but they are not missing either.
    """
    issues = FrameIssues()
    for number in sorted(set(frames) - set(poses) - ambiguous):
        issues.add(number, f"{pose_folder}: no pose image for {frames[number].name}")
    for number in sorted(set(poses) - set(frames) - ambiguous):
        issues.add(number, f"{frame_folder}: no frame for {poses[number].name}")
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


def scan_split(root: Path, split: str) -> DanceFiles:
    """List the files of train/ or val/. Raises UserError if a folder is missing or empty."""
    folder = find_dataset(root, split) / split
    frame_folder, pose_folder = folder / f"{split}_img", folder / f"{split}_label"
    frames, issues = scan_images(frame_folder)
    poses, pose_issues = scan_images(pose_folder)
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
            raise UserError(
                f"{split.folder}: expected a contiguous segment of at least --train_vi_len {length} frames, "
                f"got at most {longest} (--partial {partial})"
            )
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
        raise UserError(f"{split.folder}: no two frames with consecutive numbers; expected a video to validate on")
    return sequences


def sequence_folders(folder: Path) -> list[Path]:
    """Return the numbered folders in `folder`, in numeric order."""
    numbered = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(numbered, key=lambda path: (int(path.name), path.name))


class SequenceFiles(NamedTuple):
    """A test sequence as files; the dicts are by frame number."""

    name: str
    first_frame: Path | None
    poses: dict[int, Path]
    ground_truth: dict[int, Path]  # empty if unknown
    problems: list[str]

    @property
    def paths(self) -> list[Path]:
        """The first frame, the poses and the ground truth, in the order in which they are cached."""
        return [*([self.first_frame] if self.first_frame else []), *self.poses.values(), *self.ground_truth.values()]


def scan_sequence(folder: Path, name: str) -> SequenceFiles:
    """List the files of the sequence `name` in test/."""
    frame_folder, pose_folder, gt_folder = (folder / kind / name for kind in ("test_img", "test_label", "test_gt"))
    images: dict[Path, dict[int, Path]] = {frame_folder: {}, pose_folder: {}, gt_folder: {}}
    issues, problems = FrameIssues(), []
    for place in images:
        if place == gt_folder and not (place.is_dir() and any(place.iterdir())):
            continue
        try:
            images[place], found = scan_images(place)
            issues.add_all(found)
        except UserError as error:
            problems.append(str(error))
    first_frames, poses, ground_truth = images.values()
    if ground_truth:
        ambiguous = set(issues.by_number)
        issues.add_all(unpaired(ground_truth, poses, frame_folder=gt_folder, pose_folder=pose_folder, ambiguous=ambiguous))
    if len(poses) == 1:
        problems.append(f"{pose_folder}: expected a pose image for the first frame and at least one more, got 1 pose image")
    # If there are several frames, the first frame is the one with the number of the first pose image.
    fallback = first_frames[min(first_frames)] if first_frames else None
    first_frame = first_frames.get(min(poses, default=0), fallback)
    return SequenceFiles(name, first_frame, poses, ground_truth, [*issues.messages(), *problems])


def load_test_sequence(
    files: SequenceFiles, *, root: Path, height: int, width: int, cache_dir: Path | None
) -> tuple[Sequence | None, list[str]]:  # fmt: skip
    """Load a test sequence of the data set `root`. Return it, or None if it has problems, and these problems.

    Raises UserError if the frame cache cannot be written.
    """
    problems, cached = files.problems, None
    try:
        if files.paths:
            cached = cached_frames(files.paths, root=root, name=f"test{files.name}", height=height, width=width, folder=cache_dir)
    except BadImages as error:
        problems = [*problems, *error.problems]
    if problems or cached is None:
        return None, problems
    images = torch.from_numpy(cached.images.copy())
    end = 1 + len(files.poses)
    return Sequence(files.name, images[:1], images[1:end], images[end:] if files.ground_truth else None), []


def load_test_sequences(root: Path, *, height: int, width: int, cache_dir: Path | None = None) -> list[Sequence]:
    """Load all sequences of test/, any number of any length T.

    Sequence i has its first frame in test_img/{i}/, T poses in test_label/{i}/ and, if the ground truth is known, T frames in
    test_gt/{i}/. Raises UserError with all problems of all sequences.
    """
    folder = find_dataset(root, "test") / "test"
    for name in ("test_img", "test_label"):
        if not (folder / name).is_dir() or not sequence_folders(folder / name):
            raise UserError(f"{folder / name}: no sequences; expected numbered folders 0/, 1/, ...")
    names = [path.name for path in sequence_folders(folder / "test_label")]
    sequences: list[Sequence] = []
    problems: list[str] = []
    for name in names:
        files = scan_sequence(folder, name)
        sequence, found = load_test_sequence(files, root=folder.parent, height=height, width=width, cache_dir=cache_dir)
        problems += found
        if sequence is not None:
            sequences.append(sequence)
    if problems:
        bad = len(names) - len(sequences)
        raise UserError(f"{folder}: {bad} of {counted(len(names), 'sequence')} cannot be used; fix them:", problems)
    return sequences
