"""The data that the scripts ask for: clips and sequences of a task, and batches of clips in a reproducible order."""

import argparse
import atexit
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from data.clips import Clips, Sequence
from data.dance import DanceClips, DanceSplit, load_validation_sequences
from data.dance_sequences import load_test_sequences
from data.images import find_dataset, listing
from data.robot import RobotClips, RobotSplit, fixed_windows
from data.truth_csv import find_ground_truth
from runtime.distributed import Ranks
from runtime.signals import STOP_SIGNALS, end_workers, held_back, leave_stopping_to_the_main_process
from training.presets import LEAST_EPOCH
from utils import UserError, print_notice, seed_for

Flags = argparse.Namespace  # of Trainer.py; in Tester.py its own flags, which win over those of the checkpoint's training


class BatchPosition(NamedTuple):
    """The position of a batch in its epoch."""

    index: int  # type: ignore[assignment]  # of the batch; hides tuple.index
    first_clip: int  # clips of the epoch that all processes took before it
    end_clip: int  # and after it
    loss_weight: float  # of the mean over this process's clips, in a step's gradient that is averaged over the processes
    completes_step: bool  # whether the optimizer takes its step after it


class ClipBatches(Sampler[list[tuple[int, int]]]):
    """Batches of shuffled (epoch, index) keys for one of `world` processes; the order is a function of (seed, epoch).

    `batch_size` is the share of one process; together they take the same clips in the same order as one process alone, only
    more at a time. The last batch is smaller where the clips do not divide; none is dropped.
    """

    def __init__(self, clips: int, *, batch_size: int, accumulate: int, seed: int, rank: int = 0, world: int = 1):
        self.clips, self.batch_size, self.accumulate, self.seed = clips, batch_size, accumulate, seed
        self.rank, self.world = rank, world
        self.set_epoch(0)

    def set_epoch(self, epoch: int, *, first_clip: int = 0, fraction: float = 1.0) -> None:
        """Choose the epoch to iterate over, from its clip `first_clip` on.

        `fraction` keeps the first part of the video only (the course's --fast_train).
        """
        self.epoch, self.first_clip = epoch, first_clip
        self.epoch_clips = max(1, int(self.clips * fraction))

    @property
    def global_batch_size(self) -> int:
        """The clips that all processes take at a time."""
        return self.batch_size * self.world

    def middle_of(self, clip: int) -> float:
        """Return the middle of the batch that contains a clip of the epoch, as a fraction of the epoch."""
        first_clip = clip // self.global_batch_size * self.global_batch_size
        return (first_clip + min(first_clip + self.global_batch_size, self.epoch_clips)) / 2 / self.epoch_clips

    def require_statistics(self, fraction: float) -> None:
        """Raise UserError if a process would take a single clip at a time, in epochs of all clips or of this fraction.

        A single clip has no batch statistics.
        """
        for clips in (self.clips, max(1, int(self.clips * fraction))):
            last_batch = clips % self.global_batch_size or self.global_batch_size
            if last_batch // self.world <= 1:
                raise UserError("--norm batch: expected at least two clips in every batch, got one; use --norm group")

    def __len__(self) -> int:
        return len(range(self.first_clip, self.epoch_clips, self.global_batch_size))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng(seed_for(self.seed, "order", self.epoch)).permutation(self.epoch_clips)
        for position in self.positions():
            keys = order[position.first_clip : position.end_clip]
            # Where fewer clips are left than processes, a process without one repeats a clip with weight 0.
            own = keys[self.rank_slice(len(keys))] if position.loss_weight else keys[:1]
            yield [(self.epoch, int(index)) for index in own]

    def rank_slice(self, clips: int) -> slice:
        """Return this process's part of `clips` clips."""
        return slice(self.rank * clips // self.world, (self.rank + 1) * clips // self.world)

    def positions(self) -> Iterator[BatchPosition]:
        """Yield the position of each batch."""
        size, total = self.global_batch_size, self.epoch_clips
        for number, first in enumerate(range(self.first_clip, total, size)):
            end = min(first + size, total)
            # The batches of a step count by their clips, so that accumulation equals one large batch.
            in_step = number % self.accumulate
            step_first = first - in_step * size
            step_clips = min(size * self.accumulate, total - step_first)
            own = self.rank_slice(end - first)
            loss_weight = (own.stop - own.start) * self.world / step_clips
            yield BatchPosition(first // size, first, end, loss_weight, in_step + 1 == self.accumulate or end == total)


class Loader(DataLoader):
    """Yields (position, batch) pairs of an epoch; its workers survive signals that ask the program to stop."""

    batch_sampler: ClipBatches

    def __iter__(self) -> Iterator[tuple[BatchPosition, dict[str, Tensor]]]:  # type: ignore[override]
        # The first time, the workers start. Signals wait until leave_stopping_to_the_main_process() has run in them.
        with held_back(STOP_SIGNALS):
            batches = super().__iter__()
        return ((position, batch) for batch, position in zip(batches, self.batch_sampler.positions()))


def build_batches(args: argparse.Namespace, clips: Clips, ranks: Ranks) -> ClipBatches:
    """Return the order of the training clips for this process."""
    return ClipBatches(
        len(clips),
        batch_size=args.batch_size,
        accumulate=args.accumulate,
        seed=args.seed,
        rank=ranks.rank,
        world=ranks.world,
    )


def build_loader(clips: Clips, batches: ClipBatches, *, workers: int, pin: bool) -> Loader:
    """Return the loader of the batches' clips, collated, read by `workers` processes."""
    workers = min(workers, os.cpu_count() or 1)  # the course's 6 on a small machine only wait for each other
    if workers:
        atexit.register(end_workers)
    return Loader(
        clips,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=leave_stopping_to_the_main_process,
    )


def size_flags(flags: Flags) -> dict:
    """Return the arguments of every split's load() that are flags: frame size and cache folder."""
    return {"height": flags.frame_H, "width": flags.frame_W, "cache_dir": flags.cache_dir}


def skips_bad(flags: Flags, split: str) -> bool | None:
    """Return whether unusable frames are skipped; None where they cannot be: test sequences must be whole."""
    return None if split == "test" else getattr(flags, "skip_bad", None)


def dance_split(flags: Flags, split: str) -> DanceSplit:
    """Load train/ or val/."""
    return DanceSplit.load(flags.DR, split, **size_flags(flags), skip_bad=skips_bad(flags, split))


def dance_clips(flags: Flags) -> DanceClips:
    """Load the clips of train/."""
    split = dance_split(flags, "train")
    split.report_skipped(flags.train_vi_len)
    clips = DanceClips(split=split, length=flags.train_vi_len, partial=flags.partial, seed=flags.seed, reference=flags.reference,
                       flip=flags.flip, shift=flags.shift, margin=flags.pose_window // 2)  # fmt: skip
    if flags.epoch_size is None:
        clips.clips_per_epoch = max(len(clips), LEAST_EPOCH * flags.batch_size)
    elif flags.epoch_size:
        clips.clips_per_epoch = flags.epoch_size * flags.batch_size
    return clips


def dance_sequences(flags: Flags, split: str) -> list[Sequence]:
    """Load the sequences of test/ with all available ground truth, or train/ or val/ cut into sequences of --val_vi_len."""
    if split != "test":
        frames = dance_split(flags, split)
        frames.report_skipped()
        return load_validation_sequences(frames, length=flags.val_vi_len)
    sequences = load_test_sequences(flags.DR, **size_flags(flags))
    lengths = {sequence.name: len(sequence.conditions) for sequence in sequences}
    root = find_dataset(flags.DR, "test")
    ground_truth = find_ground_truth(root, flags.gt, lengths, height=flags.frame_H, width=flags.frame_W)
    sequences = [s._replace(ground_truth=ground_truth.get(s.name, s.ground_truth)) for s in sequences]
    unknown = [sequence.name for sequence in sequences if sequence.ground_truth is None]
    if 0 < len(unknown) < len(sequences):
        names = f"{'sequence' if len(unknown) == 1 else 'sequences'} {listing(unknown)}"
        print_notice(f"{root / 'test'}: no ground truth for {names}; only the others are scored")
    return sequences


def robot_split(flags: Flags, split: str, *, shortest: int) -> RobotSplit:
    """Load the sequences of a split that have at least `shortest` frames."""
    return RobotSplit.load(flags.DR, split, shortest=shortest, **size_flags(flags), skip_bad=skips_bad(flags, split))


def robot_clips(flags: Flags) -> RobotClips:
    """Load the clips of train/, of context frames and frames to predict."""
    length = flags.n_past + flags.n_future
    split = robot_split(flags, "train", shortest=length)
    split.report_skipped(length)
    return RobotClips(split=split, length=length, partial=flags.partial, seed=flags.seed, shift=flags.shift,
                      clips_per_epoch=flags.epoch_size * flags.batch_size)  # fmt: skip


def robot_sequences(flags: Flags, split: str) -> list[Sequence]:
    """Load fixed windows of --n_eval frames of any split."""
    length = flags.val_vi_len
    if length <= flags.n_past:
        raise UserError(f"--n_eval {length}: expected more frames than the {flags.n_past} context frames (--n_past)")
    frames = robot_split(flags, split, shortest=length)
    frames.report_skipped()
    return fixed_windows(frames, context=flags.n_past, length=length, most=flags.windows)
