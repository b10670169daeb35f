"""The dance data set (Lab 4): LAB4_Dataset folders -> training clips and whole sequences, as bytes.

N is the number of frames of a split, T that of a clip or a sequence.
"""

import itertools
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from data.clips import Clips, Sequence, content_hash, standard_scale
from data.entries import own_entries, own_files
from data.frame_cache import BadImages, cached_frames
from data.frame_store import FrameStore, decode
from data.image_files import FolderRemark, print_remarks
from data.images import SUFFIXES, contiguous_segments, find_dataset, holds_images, report_ignored, scan_images
from data.issues import FrameIssues, Issues, SkippedFrames
from data.layouts import FOR_ROBOT, dance_parts, holds_actions, spelling_hint
from utils import UserError, counted, pronoun


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


def sequence_folders(folder: Path) -> list[Path]:
    """Return the numbered folders in `folder`, in numeric order."""
    numbered = [path for path in own_entries(folder).folders if path.name.isdecimal()]
    return sorted(numbered, key=lambda path: (int(path.name), path.name))


def sequence_names(folder: Path) -> dict[str, str | None]:
    """Return the names of all sequences in the parts of test/, in numeric order, with the problem that a name has.

    The rows of submission.csv are in the order of the numbers, so a sequence with another name has no place in it.
    """
    numbered: dict[str, None] = {}
    foreign: dict[str, str | None] = {}
    for part in dance_parts(folder):
        numbered |= dict.fromkeys(path.name for path in sequence_folders(folder / part))
        for path in own_entries(folder / part).folders:
            if not path.name.isdecimal() and holds_images(path):
                foreign[path.name] = f"{path}: expected a number as the name of a sequence, such as 0/; rename it in every folder"
    names: dict[str, str | None] = {}
    first_names: dict[int, str] = {}
    for name in sorted(numbered, key=lambda name: (int(name), name)):
        first = first_names.setdefault(int(name), name)
        same = f"{first}/ and {name}/ are both sequence {int(name)}"
        names[name] = None if first == name else f"{folder}: {same}; rename or remove one"
    return names | foreign


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


def gap_between(numbers: list[int]) -> tuple[int, int] | None:
    """Return the first two numbers that are farther apart than others; None if all distances are equal."""
    pairs = list(itertools.pairwise(numbers))
    usual = min((after - before for before, after in pairs), default=0)
    return next(((before, after) for before, after in pairs if after - before != usual), None)


def scan_sequence(folder: Path, name: str) -> SequenceFiles:
    """List the files of the sequence `name` in test/."""
    frame_folder, pose_folder, gt_folder = (folder / kind / name for kind in ("test_img", "test_label", "test_gt"))
    images: dict[Path, dict[int, Path]] = {frame_folder: {}, pose_folder: {}, gt_folder: {}}
    issues, problems = FrameIssues(), []
    ignored: list[Path] = []
    existing = [place for place in images if place.is_dir() and any(own_entries(place))]
    for place in images:
        if place == gt_folder and place not in existing:
            continue
        try:
            images[place], found, ignored_images = scan_images(place)
            issues.add_all(found)
            ignored += ignored_images
        except UserError as error:
            others = " and ".join(f"{other.parent.name}/{name}" for other in existing if other != place)
            lacking = not place.is_dir() and others
            problems.append(f"{place}: no such folder; add it, or remove {others}" if lacking else str(error))
    report_ignored(folder, ignored)
    first_frames, poses, ground_truth = images.values()
    if ground_truth and poses:  # without any pose image, one line says so
        ambiguous = set(issues.by_number)
        issues.add_all(unpaired(ground_truth, poses, frame_folder=gt_folder, pose_folder=pose_folder, ambiguous=ambiguous))
    if len(poses) == 1:
        expected = "expected a pose image for the first frame and at least one more"
        problems.append(f"{pose_folder}: {expected}, got 1 pose image; add those of the frames to predict")
    elif gap := gap_between(sorted({*poses, *issues.by_number})):
        problems.append(f"{pose_folder}: no pose image between {gap[0]} and {gap[1]}; add it, or number the images without a gap")
    # If there are several frames, the first frame is the one with the number of the first pose image.
    fallback = first_frames[min(first_frames)] if first_frames else None
    first_frame = first_frames.get(min(poses, default=0), fallback)
    return SequenceFiles(name, first_frame, poses, ground_truth, [*issues.messages(), *problems])


class LoadedSequence(NamedTuple):
    """A test sequence with everything that was found in its files."""

    sequence: Sequence | None  # None if there are problems
    problems: list[str]
    remarks: list[FolderRemark]


def load_test_sequence(files: SequenceFiles, *, root: Path, height: int, width: int, cache_dir: Path | None) -> LoadedSequence:
    """Load a test sequence of the data set `root`. Raises UserError if the frame cache cannot be written."""
    problems, cached = files.problems, None
    try:
        if files.paths:
            cached = cached_frames(files.paths, root=root, name=f"test{files.name}", height=height, width=width, folder=cache_dir)
    except BadImages as error:
        problems = [*problems, *error.problems]
    if problems or cached is None:
        return LoadedSequence(None, problems, [])
    images = torch.from_numpy(cached.images.copy())
    end = 1 + len(files.poses)
    sequence = Sequence(files.name, images[:1], images[1:end], images[end:] if files.ground_truth else None)
    return LoadedSequence(sequence, [], cached.remarks)


def load_test_sequences(root: Path, *, height: int, width: int, cache_dir: Path | None = None) -> list[Sequence]:
    """Load all sequences of test/, any number of any length T.

    Sequence i has its first frame in test_img/{i}/, T poses in test_label/{i}/ and, if the ground truth is known, T frames in
    test_gt/{i}/. Raises UserError with all problems of all sequences.
    """
    folder = find_split(root, "test")
    for name in ("test_img", "test_label"):
        if not (folder / name).is_dir():
            raise UserError(f"{folder / name}: no sequences; expected numbered folders 0/, 1/, ...{spelling_hint(folder, name)}")
    names = sequence_names(folder)
    if not names:
        raise UserError(f"{folder / 'test_label'}: no sequences; expected numbered folders 0/, 1/, ...")
    report_ignored(folder, [path for part in dance_parts(folder) for path in own_files(folder / part, SUFFIXES)])
    sequences: list[Sequence] = []
    problems: list[str] = []
    remarks: list[FolderRemark] = []
    for name, problem in names.items():
        if problem:
            problems.append(problem)
            continue
        files = scan_sequence(folder, name)
        loaded = load_test_sequence(files, root=folder.parent, height=height, width=width, cache_dir=cache_dir)
        problems += loaded.problems
        remarks += loaded.remarks
        if loaded.sequence is not None:
            sequences.append(loaded.sequence)
    if problems:
        bad = len(names) - len(sequences)
        raise UserError(f"{folder}: {bad} of {counted(len(names), 'sequence')} cannot be used; fix {pronoun(bad)}:", problems)
    print_remarks(remarks, folder.parent)
    return sequences
