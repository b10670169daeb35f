"""The robot data set (Lab 5): folders of numbered frames with actions.csv -> training clips and fixed windows.

    DR/{train,validate,test}/.../<sequence>/0.png, 1.png, ..., actions.csv, endeffector_positions.csv

(N frames of a split, T frames of a window, A condition values of a frame.)
"""

import os
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.clips import Clips, Sequence, hash_of, standard_scale
from data.frame_store import FrameStore, Losses
from data.images import SUFFIXES, Faults, find_dataset, numbered_images, problems_of, unbroken
from utils import RANK, UserError

ACTIONS, POSITIONS = "actions.csv", "endeffector_positions.csv"
LARGEST = float(np.finfo(np.float32).max)  # of a condition value
NAMED = 5  # sequences that a message names before it only counts them


def natural_order(path: Path) -> list:
    """Sort key by which traj_9/2 stands before traj_10/1."""
    return [[int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] for name in path.parts]


def find_sequences(folder: Path) -> list[Path]:
    """Every folder below that holds images or actions, at any depth, in numeric order. Raises UserError if there is none."""
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if ACTIONS in files or any(Path(name).suffix.lower() in SUFFIXES for name in files):
            found.append(Path(place))
    if not found:
        raise UserError(f"{folder}: no sequences in it; expected folders with 0.png, 1.png, ... and {ACTIONS}")
    return sorted(found, key=natural_order)


def read_table(path: Path, numbers: list[int], problems: list[str]) -> np.ndarray | None:
    """A csv without a header, a row for each of the frame `numbers` -> (frames, values) float32.

    Where frames are missing between others, their rows may still be there. A table that cannot be used adds to `problems` and
    gives None.
    """
    if not path.is_file():
        problems.append(f"{path}: no such file; expected one line of numbers per frame")
        return None
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (UnicodeDecodeError, OSError) as error:
        what = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
        problems.append(f"{path}: {what}; expected numbers with commas between")
        return None
    found = []
    if len(lines) not in (len(numbers), numbers[-1] - numbers[0] + 1):
        found.append(f"{path}: {len(lines)} rows for {len(numbers)} frames; expected a row for each")
    table: list[list[float]] = []
    for row, line in enumerate(lines, start=1):
        try:
            values = [float(value) for value in line.split(",")]
        except ValueError:
            found.append(f"{path}: row {row} is {line[:60]!r}; expected numbers with commas between")
            continue
        table.append(values)
        if not all(abs(value) <= LARGEST for value in values) or len(values) != len(table[0]):
            found.append(f"{path}: row {row} is {line[:60]!r}; expected {len(table[0])} finite numbers up to {LARGEST:.1e}")
    problems += found
    if found:
        return None
    rows = range(len(numbers)) if len(lines) == len(numbers) else [number - numbers[0] for number in numbers]
    return np.array(table, dtype=np.float32)[rows]


def read_conditions(folder: Path, numbers: list[int], problems: list[str]) -> np.ndarray | None:
    """(frames, A) float32: the actions, and the end effector's positions beside them where they were recorded."""
    tables = [read_table(folder / ACTIONS, numbers, problems)]
    if (folder / POSITIONS).exists():
        tables.append(read_table(folder / POSITIONS, numbers, problems))
    return None if any(table is None for table in tables) else np.concatenate(tables, axis=1)


@dataclass
class Recording:
    """One sequence as it lies in its folder, with all that is wrong with it."""

    name: str
    frames: dict[int, Path]
    conditions: np.ndarray | None  # (frames, A) float32; None if they cannot be used, nor then any of the frames
    problems: list[str]  # of the whole sequence
    faults: Faults  # of single frames
    missing: int  # frames in the gaps between others

    def found(self) -> int:
        """How many frames there are or should be, at least one."""
        return max(1, len({*self.frames, *self.faults}) + self.missing)

    def left_out(self) -> int:
        """How many of them cannot be used."""
        return self.found() if self.conditions is None else len(self.faults) + self.missing

    def pieces(self) -> dict[str, range]:
        """Names and positions among the frames of its unbroken pieces; a later piece bears the number of its first frame."""
        if self.conditions is None:
            return {}
        numbers = list(self.frames)
        usable = np.array([i for i, number in enumerate(numbers) if number not in self.faults], dtype=int)
        pieces = unbroken(np.array(numbers), usable)
        return {self.name if piece.start == 0 else f"{self.name}+{numbers[piece.start]}": piece for piece in pieces}


def read_recording(folder: Path, name: str) -> Recording:
    """The sequence in a folder; its images are not decoded yet."""
    faults: Faults = {}
    try:
        frames = numbered_images(folder, faults)
    except UserError as error:
        return Recording(name, {}, None, [str(error)], faults, 0)
    problems, missing = [], 0
    numbers = sorted({*frames, *(key for key in faults if isinstance(key, int))})
    for before, after in zip(numbers, numbers[1:]):
        if after - before > 1:  # the row of a condition could belong to another frame
            gap = f"frame {before + 1}" if after - before == 2 else f"frames {before + 1} to {after - 1}"
            problems.append(f"{folder}: no {gap} between {before} and {after}; expected frames without gaps")
            missing += after - before - 1
    conditions = read_conditions(folder, numbers, problems) if numbers else None
    if conditions is not None:
        conditions = conditions[[i for i, number in enumerate(numbers) if number in frames]]
    return Recording(name, frames, conditions, problems, faults, missing)


def check_columns(root: Path, recordings: list[Recording]) -> None:
    """Takes the conditions, as a problem, from those recordings that have other columns than most."""
    known = [recording for recording in recordings if recording.conditions is not None]
    counts = Counter(recording.conditions.shape[1] for recording in known)
    usual = max(counts, key=counts.__getitem__, default=0)
    like = [recording.name for recording in known if recording.conditions.shape[1] == usual]
    for recording in known:
        if (columns := recording.conditions.shape[1]) != usual:
            recording.conditions = None
            recording.problems.append(
                f"{root / recording.name}: {columns} condition values a frame, but {like[0]} has {usual}; "
                f"expected the same columns in every {ACTIONS} and {POSITIONS}"
            )


class RobotSplit(FrameStore):
    """All sequences of one split, at least `shortest` frames each, in the frame cache one after another.

    images (N, 3, H, W) uint8, conditions (N, A) float32, and for each sequence its name and its frames. Shorter sequences
    are left out, which one line on stderr says. Raises UserError with all that is wrong, also if none is long enough.

    With `skip_bad`, a sequence whose conditions cannot be used is left out, and one with a gap or a frame that cannot be used
    is cut there into sequences of their own.
    """

    def __init__(
        self, root: Path, split: str, *, height: int, width: int, shortest: int, cache_dir: Path | None = None,
        skip_bad: bool | None = None,
    ):  # fmt: skip
        self.folder = find_dataset(root, split) / split
        folders = find_sequences(self.folder)
        recordings = [read_recording(folder, folder.relative_to(self.folder).as_posix()) for folder in folders]
        check_columns(self.folder, recordings)
        # Also those whose conditions are bad: so all that is wrong is found at once, and a csv can be mended under the cache.
        decoded = [recording for recording in recordings if len(recording.frames) >= shortest]
        if paths := [path for recording in decoded for path in recording.frames.values()]:
            damaged = self.decode(paths, height=height, width=width, cache_dir=cache_dir, skip_bad=skip_bad)
            places = [(recording, number) for recording in decoded for number in recording.frames] if damaged else []
            for i, problem in damaged.items():
                recording, number = places[i]
                recording.faults.setdefault(number, []).append(problem)
        problems = [line for recording in recordings for line in [*recording.problems, *problems_of(recording.faults)]]
        pieces = [len(piece) for recording in recordings for piece in recording.pieces().values()]
        losses = Losses(sum(recording.left_out() for recording in recordings), sum(recording.found() for recording in recordings),
                        pieces, [recording.found() for recording in recordings])  # fmt: skip
        self.settle(problems, losses, skip_bad=skip_bad)
        self.arrange(recordings, shortest)

    def arrange(self, recordings: list[Recording], shortest: int) -> None:
        """Sets the sequences and their conditions. Raises UserError if none is long enough."""
        self.sequences: dict[str, range] = {}
        short, tables, begin = [], [], 0
        width = next(recording.conditions.shape[1] for recording in recordings if recording.conditions is not None)
        for recording in recordings:
            for name, piece in recording.pieces().items():
                if len(piece) < shortest:
                    short.append(f"{name} ({len(piece)})")
                else:
                    self.sequences[name] = range(begin + piece.start, begin + piece.stop)
            if len(recording.frames) >= shortest:  # its images are in the cache
                begin += len(recording.frames)
                unused = np.zeros((len(recording.frames), width), dtype=np.float32)
                tables.append(unused if recording.conditions is None else recording.conditions)
        listed = ", ".join(short[:NAMED]) + (f" and {len(short) - NAMED} more" if len(short) > NAMED else "")
        if not self.sequences:
            raise UserError(f"{self.folder}: every sequence is shorter than {shortest} frames: {listed}")
        if short and RANK == "0":  # all processes find the same
            print(f"{self.folder}: left out, shorter than {shortest} frames: {listed}", file=sys.stderr)
        self.conditions = np.concatenate(tables)


class RobotClips(Clips):
    """Training clips: frames (T, 3, H, W) uint8 and conditions (T, A) float32 from a random window of a random sequence.

    `partial` keeps the first sequences only. An epoch has `clips` clips.
    """

    def __init__(self, split: RobotSplit, *, length: int, clips: int, partial: float, seed: int, shift: int):
        self.split, self.length = split, length
        kept = list(split.sequences.values())[: max(1, int(len(split.sequences) * partial))]
        starts = [start for frames in kept for start in range(frames.start, frames.stop - length + 1)]
        super().__init__(starts, clips=clips, seed=seed, shift=shift)

    @property
    def identity(self) -> str:
        ends = [(frames.start, frames.stop) for frames in self.split.sequences.values()]
        return hash_of(self.split.digest.encode(), self.split.conditions.astype("<f4").tobytes(), str(ends).encode())

    def condition_scale(self) -> tuple[list[float], list[float]]:
        used = np.concatenate([self.split.conditions[frames.start : frames.stop] for frames in self.split.sequences.values()])
        return standard_scale(used.mean(axis=0, dtype=float), used.std(axis=0, dtype=float))

    def cut(self, start: int, rng: np.random.Generator) -> dict[str, Tensor]:
        window = slice(start, start + self.length)
        return {"frames": torch.tensor(self.split.images[window]), "conditions": torch.tensor(self.split.conditions[window])}


def fixed_windows(split: RobotSplit, *, context: int, length: int, most: int | None) -> list[Sequence]:
    """Windows of `length` frames one after another from the start of each sequence, at most `most` of each sequence."""
    windows = []
    for name, frames in split.sequences.items():
        for start in list(range(frames.start, frames.stop - length + 1, length))[:most]:
            truth = torch.tensor(split.images[start : start + length])
            conditions = torch.tensor(split.conditions[start : start + length])
            title = f"{name.replace('/', '--')}-{start - frames.start}"  # serves in file names as well
            windows.append(Sequence(title, truth[:context], conditions, truth))
    return windows
