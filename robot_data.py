"""The robot data set (Lab 5): folders of numbered frames with actions.csv -> training clips and fixed windows.

    DR/{train,validate,test}/.../<sequence>/0.png, 1.png, ..., actions.csv, endeffector_positions.csv

(N frames of a split, T frames of a window, A condition values of a frame.)
"""
import os
import re
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataloader import SUFFIXES, Clips, FrameStore, Sequence, find_dataset, numbered_images, standard_scale
from frame_cache import cached_frames
from utils import UserError

ACTIONS, POSITIONS = "actions.csv", "endeffector_positions.csv"
NAMED = 5  # sequences that a message names before it only counts them


def natural_order(path: Path) -> list:
    """Sort key by which traj_9/2 stands before traj_10/1."""
    return [[int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)] for name in path.parts]


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


def read_table(path: Path, rows: int) -> np.ndarray:
    """A csv of numbers without a header -> (rows, values) float32. Raises UserError, also for another count than `rows`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected one line of numbers per frame")
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; expected numbers with commas between") from None
    if len(lines) != rows:
        raise UserError(f"{path}: {len(lines)} rows for {rows} frames; expected a row for each")
    table = []
    for number, line in enumerate(lines, start=1):
        try:
            table.append([float(value) for value in line.split(",")])
        except ValueError:
            raise UserError(f"{path}: row {number} is {line[:60]!r}; expected numbers with commas between") from None
        if not np.isfinite(table[-1]).all() or len(table[-1]) != len(table[0]):
            raise UserError(f"{path}: row {number} is {line[:60]!r}; expected {len(table[0])} finite numbers")
    return np.array(table, dtype=np.float32)


def read_conditions(folder: Path, frames: int) -> np.ndarray:
    """(frames, A) float32: the actions, and the end effector's positions beside them where they were recorded."""
    tables = [read_table(folder / ACTIONS, frames)]
    if (folder / POSITIONS).exists():
        tables.append(read_table(folder / POSITIONS, frames))
    return np.concatenate(tables, axis=1)


class RobotSplit(FrameStore):
    """All sequences of one split, at least `shortest` frames each, in the frame cache one after another.

    images (N, 3, H, W) uint8, conditions (N, A) float32, and for each sequence its name and its frames. Shorter sequences
    are left out, which one line on stderr says. Raises UserError, also if none is long enough.
    """

    def __init__(self, root: Path, split: str, *, height: int, width: int, shortest: int, cache_dir: Path | None = None):
        self.folder = find_dataset(root, split) / split
        images: list[Path] = []
        tables, short = [], []
        self.sequences: dict[str, range] = {}
        for folder in find_sequences(self.folder):
            frames = numbered_images(folder)
            check_unbroken(folder, list(frames))
            conditions = read_conditions(folder, len(frames))
            if tables and conditions.shape[1] != tables[0].shape[1]:
                raise UserError(
                    f"{folder}: {conditions.shape[1]} condition values a frame, but {next(iter(self.sequences))} has "
                    f"{tables[0].shape[1]}; expected the same columns in every {ACTIONS} and {POSITIONS}"
                )
            name = folder.relative_to(self.folder).as_posix()
            if len(frames) < shortest:
                short.append(f"{name} ({len(frames)})")
                continue
            self.sequences[name] = range(len(images), len(images) + len(frames))
            images += frames.values()
            tables.append(conditions)
        listed = ", ".join(short[:NAMED]) + (f" and {len(short) - NAMED} more" if len(short) > NAMED else "")
        if not tables:
            raise UserError(f"{self.folder}: every sequence is shorter than {shortest} frames: {listed}")
        if short:
            print(f"{self.folder}: left out, shorter than {shortest} frames: {listed}", file=sys.stderr)
        self.conditions = np.concatenate(tables)
        size = {"height": height, "width": width, "folder": cache_dir}
        self.images = cached_frames(images, root=self.folder.parent, name=split, **size)


def check_unbroken(folder: Path, numbers: list[int]) -> None:
    """Raises UserError if a number is missing: the row of a condition could then belong to another frame."""
    for number, expected in zip(numbers, range(numbers[0], numbers[0] + len(numbers))):
        if number != expected:
            raise UserError(f"{folder}: no frame {expected} between {expected - 1} and {number}; expected one without gaps")


class RobotClips(Clips):
    """Training clips: frames (T, 3, H, W) uint8 and conditions (T, A) float32 from a random window of a random sequence.

    `partial` keeps the first sequences only. An epoch has `clips` clips.
    """

    def __init__(self, split: RobotSplit, *, length: int, clips: int, partial: float, seed: int, shift: int):
        self.split, self.length = split, length
        kept = list(split.sequences.values())[: max(1, int(len(split.sequences) * partial))]
        starts = [start for frames in kept for start in range(frames.start, frames.stop - length + 1)]
        super().__init__(starts, clips=clips, seed=seed, shift=shift)

    def condition_scale(self) -> tuple[list[float], list[float]]:
        return standard_scale(self.split.conditions.mean(axis=0, dtype=float), self.split.conditions.std(axis=0, dtype=float))

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
