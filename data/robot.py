"""The robot data set (Lab 5): folders of numbered frames with actions.csv -> training clips and fixed windows.

    DR/{train,validate,test}/.../<sequence>/0.png, 1.png, ..., actions.csv, endeffector_positions.csv

(N frames of a split, T frames of a window, A condition values of a frame.)
"""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.clips import Clips, Sequence, content_hash, standard_scale
from data.conditions import read_conditions
from data.csv_tables import cut_notice
from data.entries import own_folders
from data.frame_cache import CachedFrames
from data.frame_store import FrameStore, decode
from data.image_files import print_remarks
from data.images import IMAGE_NAME, SUFFIXES, contiguous_segments, find_dataset, listing, report_ignored, scan_images
from data.issues import FrameIssues, Issues, SkippedFrames
from data.layouts import ACTIONS, FOR_DANCE, POSITIONS, dance_parts, holds_actions, spelling_hint
from utils import UserError, print_notice, pronoun

FEWER_FRAMES = "ask for fewer frames (--n_past, --n_future, --n_eval)"


def natural_order(path: Path) -> list:
    """Return a sort key that puts traj_9/2 before traj_10/1."""
    return [[int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] for name in path.parts]


class Sequences(NamedTuple):
    """The folders of a split that are sequences, in numeric order, and what is not part of any."""

    folders: list[Path]
    ignored: list[Path]  # images of types that are not read, outside of all sequences; empty folders


def find_sequences(folder: Path) -> Sequences:
    """Find the folders that contain images or tables, at any depth. Raises UserError if there is none, or if it is a dance."""
    if (parts := dance_parts(folder)) and not holds_actions(folder):
        raise UserError(f"{folder}: expected sequences with {ACTIONS}, got {', '.join(parts)} of a dance; {FOR_DANCE}")
    found, ignored = [], []
    for place, files, folders, links in own_folders(folder):
        ignored += [place / name for name in links]
        if any(name.lower() in (ACTIONS, POSITIONS) or Path(name).suffix.lower() in SUFFIXES for name in files):
            found.append(place)
        elif not files and not folders and not links:
            ignored.append(place)
        else:
            ignored += [place / name for name in files if IMAGE_NAME.match(name)]
    if not found:
        raise UserError(f"{folder}: no sequences; expected folders with 0.png, 1.png, ... and {ACTIONS}")
    return Sequences(sorted(found, key=natural_order), sorted(ignored, key=natural_order))


class Recording(NamedTuple):
    """One sequence as it is in its folder, with its problems."""

    name: str
    frames: dict[int, Path]  # by frame number
    conditions: np.ndarray | None  # (frames, A) float32; None if they cannot be used, which makes all frames unusable
    problems: list[str]  # of the whole sequence
    issues: FrameIssues  # of single frames
    missing: int  # frames in the gaps between others
    ignored: list[Path]  # as in ImageScan
    cut: list[Path]  # csv files that seem to end within their last number

    def found(self) -> int:
        """Return the number of frames including missing ones, at least one."""
        return max(1, len({*self.frames, *self.issues.by_number}) + len(self.issues.by_name) + self.missing)

    def skipped(self) -> int:
        """Return the number of frames that cannot be used."""
        return self.found() if self.conditions is None else len(self.issues) + self.missing

    def segments(self) -> dict[str, range]:
        """Return the positions of each contiguous segment of usable frames, by name.

        A segment that does not begin with the first frame is called name+N after its first frame number N.
        """
        if self.conditions is None:
            return {}
        numbers = np.array(list(self.frames), dtype=np.int64)
        usable = [position for position, number in enumerate(self.frames) if number not in self.issues.by_number]
        named = {}
        for segment in contiguous_segments(numbers, np.array(usable, dtype=np.int64)):
            named[self.name if segment.start == 0 else f"{self.name}+{numbers[segment.start]}"] = segment
        return named


def misspelled_tables(folder: Path) -> list[str]:
    """Return a problem for each table with a name in another case of letters; without positions, a sequence looks whole."""
    missing = [name for name in (ACTIONS, POSITIONS) if not (folder / name).is_file()]
    return [f"{folder / name}: no such file{hint}" for name in missing if (hint := spelling_hint(folder, name))]


def scan_recording(folder: Path, name: str) -> Recording:
    """List the files of the sequence in a folder and read its conditions, without decoding its images."""
    try:
        frames, issues, ignored = scan_images(folder)
    except UserError as error:
        return Recording(name, {}, None, [str(error)], FrameIssues(), 0, [], [])
    problems, missing = [], 0
    numbers = sorted({*frames, *issues.by_number})
    for before, after in zip(numbers, numbers[1:]):
        if after - before > 1:  # a row of conditions could belong to another frame
            gap = f"frame {before + 1}" if after - before == 2 else f"frames {before + 1} to {after - 1}"
            way_out = f"add {pronoun(after - before - 1)}, or divide the sequence there"
            problems.append(f"{folder}: no {gap} between {before} and {after}; {way_out}")
            missing += after - before - 1
    conditions: np.ndarray | None = None
    cut: list[Path] = []
    misspelled = misspelled_tables(folder)
    if numbers and not misspelled:
        conditions, found, cut = read_conditions(folder, numbers)
        problems += found
    if conditions is not None:
        conditions = conditions[[row for row, number in enumerate(numbers) if number in frames]]
    return Recording(name, frames, conditions, [*problems, *misspelled], issues, missing, ignored, cut)


def check_columns(folder: Path, recordings: list[Recording]) -> list[Recording]:
    """Return the recordings of a split; those with another number of condition values than most lose their conditions.

    Each of these has a new problem.
    """
    counts = Counter(recording.conditions.shape[1] for recording in recordings if recording.conditions is not None)
    usual = max(counts, key=counts.__getitem__, default=0)
    example = next((r.name for r in recordings if r.conditions is not None and r.conditions.shape[1] == usual), "")
    checked = []
    for recording in recordings:
        if recording.conditions is not None and (columns := recording.conditions.shape[1]) != usual:
            problem = (
                f"{folder / recording.name}: expected {usual} condition values a frame as in {example}, got {columns}; "
                f"every {ACTIONS} and {POSITIONS} needs the same columns"
            )
            recording = recording._replace(conditions=None, problems=[*recording.problems, problem])
        checked.append(recording)
    return checked


def decode_recordings(
    folder: Path, recordings: list[Recording], *, height: int, width: int, cache_dir: Path | None, skip_bad: bool | None
) -> CachedFrames | None:  # fmt: skip
    """Decode the images of all recordings as decode() does, and add those that cannot be decoded to the recordings' issues."""
    frames = [(recording, number, path) for recording in recordings for number, path in recording.frames.items()]
    paths = [path for _, _, path in frames]
    cached, damaged = decode(paths, folder=folder, height=height, width=width, cache_dir=cache_dir, skip_bad=skip_bad)
    for index, problem in damaged.items():
        recording, number, _ = frames[index]
        recording.issues.add(number, problem)
    return cached


def issues_of(folder: Path, recordings: list[Recording]) -> Issues:
    """Return all problems of the split in `folder`."""
    messages = []
    for recording in recordings:
        messages += [*recording.problems, *recording.issues.messages()]
    skipped = SkippedFrames(
        frames=sum(recording.skipped() for recording in recordings),
        found=sum(recording.found() for recording in recordings),
        segments=[len(segment) for recording in recordings for segment in recording.segments().values()],
        intact_segments=[recording.found() for recording in recordings],
    )
    return Issues(folder, messages, skipped)


def long_segments(folder: Path, recordings: list[Recording], *, shortest: int) -> dict[str, range]:
    """Return the sequences with at least `shortest` frames, by name, as positions in the frame cache.

    The cache contains the recordings with at least `shortest` frames, one after another. Shorter sequences are listed in one line
    on stderr. Raises UserError if all are shorter.
    """
    sequences, short, begin = {}, [], 0
    for recording in recordings:
        for name, segment in recording.segments().items():
            if len(segment) < shortest:
                short.append(f"{name} ({len(segment)})")
            else:
                sequences[name] = range(begin + segment.start, begin + segment.stop)
        if len(recording.frames) >= shortest:
            begin += len(recording.frames)
    if not sequences:
        found = f"every sequence is shorter than {shortest} frames: {listing(short)}"
        raise UserError(f"{folder}: {found}; {FEWER_FRAMES}")
    if short:
        skipped = f"skipped sequences shorter than {shortest} frames: {listing(short)}"
        print_notice(f"{folder}: {skipped}; to use them, {FEWER_FRAMES}")
    return sequences


def report_counting_column(folder: Path, recordings: list[Recording]) -> None:
    """Print a line if the first condition value counts the frames in all recordings, as an index column does."""
    columns = [recording.conditions[:, 0] for recording in recordings if recording.conditions is not None]
    if all(len(column) > 2 and (np.diff(column) == 1).all() for column in columns):
        print_notice(f"{folder}: the first condition value counts the frames; if it is an index, remove it from each {ACTIONS}")


class RobotSplit(FrameStore):
    """The sequences of a split in the frame cache, one after another.

    `images` are (N, 3, H, W) uint8, `conditions` (N, A) float32, `sequences` the positions of each sequence's frames, by name.
    Frames outside of all sequences cannot be used; the conditions of some of them are zeros.
    """

    def __init__(
        self, *, folder: Path, sequences: dict[str, range], conditions: np.ndarray, images: np.memmap, digest: str,
        skipped: SkippedFrames | None,
    ):  # fmt: skip
        super().__init__(folder=folder, images=images, digest=digest, skipped=skipped)
        self.sequences, self.conditions = sequences, conditions

    @classmethod
    def load(
        cls, root: Path, split: str, *, height: int, width: int, shortest: int, cache_dir: Path | None = None,
        skip_bad: bool | None = None,
    ) -> "RobotSplit":  # fmt: skip
        """Load the sequences with at least `shortest` frames. Raises UserError with all problems, or if all are shorter.

        With `skip_bad`, a sequence whose conditions cannot be used is skipped, and a sequence with a gap or an unusable frame is
        divided there into several.
        """
        folder = find_dataset(root, split) / split
        sequence_folders, ignored = find_sequences(folder)
        found = [scan_recording(path, path.relative_to(folder).as_posix()) for path in sequence_folders]
        inner = {*sequence_folders}
        report_ignored(folder, [*ignored, *(path for recording in found for path in recording.ignored if path not in inner)])
        recordings = check_columns(folder, found)
        # Recordings with bad conditions are decoded too: all problems are found at once, and correcting a csv keeps the cache.
        long = [recording for recording in recordings if len(recording.frames) >= shortest]
        cached = decode_recordings(folder, long, height=height, width=width, cache_dir=cache_dir, skip_bad=skip_bad)
        skipped = issues_of(folder, recordings).raise_or_skip(skip_bad)
        sequences = long_segments(folder, recordings, shortest=shortest)
        if cut := [path for recording in recordings for path in recording.cut]:
            print_notice(cut_notice(cut, folder))
        assert cached is not None  # without any usable frame, raise_or_skip() or long_segments() raises
        print_remarks(cached.remarks, folder.parent)
        report_counting_column(folder, recordings)
        columns = next(recording.conditions.shape[1] for recording in long if recording.conditions is not None)
        tables = []
        for recording in long:
            unused = np.zeros((len(recording.frames), columns), dtype=np.float32)
            tables.append(unused if recording.conditions is None else recording.conditions)
        return cls(folder=folder, sequences=sequences, conditions=np.concatenate(tables), images=cached.images,
                   digest=cached.digest, skipped=skipped)  # fmt: skip


class RobotClips(Clips):
    """Training clips: frames (T, 3, H, W) uint8 and conditions (T, A) float32 of a random window in a random sequence.

    Only the first sequences are used, as many as the fraction `partial` of all. An epoch has `clips_per_epoch` clips.
    """

    def __init__(self, *, split: RobotSplit, length: int, clips_per_epoch: int, partial: float, seed: int, shift: int):
        self.split, self.length = split, length
        kept = list(split.sequences.values())[: max(1, int(len(split.sequences) * partial))]
        starts = [start for frames in kept for start in range(frames.start, frames.stop - length + 1)]
        super().__init__(starts=starts, clips_per_epoch=clips_per_epoch, seed=seed, shift=shift)

    @property
    def content_hash(self) -> str:
        ends = [(frames.start, frames.stop) for frames in self.split.sequences.values()]
        return content_hash(self.split.digest.encode(), self.split.conditions.astype("<f4").tobytes(), str(ends).encode())

    def condition_scale(self) -> tuple[list[float], list[float]]:
        used = np.concatenate([self.split.conditions[frames.start : frames.stop] for frames in self.split.sequences.values()])
        return standard_scale(used.mean(axis=0, dtype=float), used.std(axis=0, dtype=float))

    def cut(self, start: int, rng: np.random.Generator) -> dict[str, Tensor]:
        window = slice(start, start + self.length)
        return {"frames": torch.tensor(self.split.images[window]), "conditions": torch.tensor(self.split.conditions[window])}


def fixed_windows(split: RobotSplit, *, context: int, length: int, most: int | None) -> list[Sequence]:
    """Return consecutive windows of `length` frames from the start of each sequence, at most `most` per sequence."""
    windows = []
    for name, frames in split.sequences.items():
        for start in list(range(frames.start, frames.stop - length + 1, length))[:most]:
            ground_truth = torch.tensor(split.images[start : start + length])
            conditions = torch.tensor(split.conditions[start : start + length])
            title = f"{name.replace('/', '--')}-{start - frames.start}"  # also part of file names
            windows.append(Sequence(title, ground_truth[:context], conditions, ground_truth))
    return windows
