"""The test sequences of the dance data set (Lab 4): the folders of test/ -> whole sequences of T frames, as bytes."""

import itertools
from pathlib import Path
from typing import NamedTuple

import torch

from data.clips import Sequence
from data.dance import find_split, unpaired
from data.entries import own_entries, own_files
from data.frame_cache import BadImages, cached_frames
from data.image_files import FolderRemark, print_remarks
from data.images import SUFFIXES, holds_images, report_ignored, scan_images
from data.issues import FrameIssues
from data.layouts import dance_parts, spelling_hint
from utils import UserError, counted, pronoun


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
