"""What every data set is made of: numbered images, random training clips, whole sequences (T frames, A condition values)."""

import argparse
import atexit
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from data.clips import Clips, Sequence
from data.dance import DanceClips, DanceSplit, load_test_sequences, load_validation_sequences
from data.images import find_dataset
from data.robot import RobotClips, RobotSplit, fixed_windows
from data.truth_csv import find_ground_truth
from runtime.signals import STOP_SIGNALS, end_workers, held_back, leave_stopping_to_the_main_process
from training.presets import LEAST_EPOCH
from utils import UserError, seed_for

Flags = argparse.Namespace  # of Trainer.py; those of Tester.py over those that the checkpoint was trained with


class BatchPosition(NamedTuple):
    """Where in an epoch a batch stands."""

    index: int  # of the batch
    first_clip: int  # clips of the epoch that were taken before it, by all processes
    end_clip: int  # and after it
    loss_weight: float  # of the mean over this process's clips, in a step's gradient that is averaged over the processes
    completes_step: bool  # whether the optimizer takes its step after it


class ClipBatches(Sampler[list[tuple[int, int]]]):
    """Batches of shuffled (epoch, index) keys for one of `world` processes; the order is a function of (seed, epoch).

    `batch_size` is a process's share; together they take the same clips in the same order as one alone, only more at a time.
    The last batch is smaller where the clips do not divide; none is dropped. Before each epoch set `epoch`; `fraction`, which
    keeps the first clips of the video only (the course's --fast_train); and `first`, how many clips of it are done already.
    """

    def __init__(self, clips: int, *, batch_size: int, accumulate: int, seed: int, rank: int = 0, world: int = 1):
        self.clips, self.batch_size, self.accumulate, self.seed = clips, batch_size, accumulate, seed
        self.rank, self.world = rank, world
        self.epoch, self.fraction, self.first = 0, 1.0, 0

    @property
    def total(self) -> int:
        """Clips of the epoch."""
        return max(1, int(self.clips * self.fraction))

    @property
    def together(self) -> int:
        """Clips that all processes take at a time."""
        return self.batch_size * self.world

    def smallest(self, fraction: float) -> int:
        """The fewest clips that a process takes at a time, also in epochs of this fraction."""
        totals = {self.clips, max(1, int(self.clips * fraction))}
        return min(max(1, (total % self.together or self.together) // self.world) for total in totals)

    def __len__(self) -> int:
        return len(range(self.first, self.total, self.together))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng(seed_for(self.seed, "order", self.epoch)).permutation(self.total)
        for position in self.places():
            keys = order[position.first_clip : position.end_clip]
            # Where fewer clips are left than processes, one that goes without takes a clip again, with weight 0.
            own = keys[self.share(len(keys))] if position.loss_weight else keys[:1]
            yield [(self.epoch, int(index)) for index in own]

    def share(self, clips: int) -> slice:
        """This process's part of so many clips."""
        return slice(self.rank * clips // self.world, (self.rank + 1) * clips // self.world)

    def places(self) -> Iterator[BatchPosition]:
        """Where each of the batches stands."""
        for number, begin in enumerate(range(self.first, self.total, self.together)):
            end = min(begin + self.together, self.total)
            # A step's batches count by their clips, so that accumulation equals one large batch, the last smaller one included.
            in_step = number % self.accumulate
            step_begin = begin - in_step * self.together
            step_clips = min(self.together * self.accumulate, self.total - step_begin)
            own = self.share(end - begin)
            weight = (own.stop - own.start) * self.world / step_clips
            yield BatchPosition(begin // self.together, begin, end, weight, in_step + 1 == self.accumulate or end == self.total)


class Loader(DataLoader):
    """Whose processes cannot die of a signal to stop before leave_stopping_to_the_main_process() has run in them."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        with held_back(STOP_SIGNALS):  # the first time, the processes start
            return super().__iter__()


def build_loader(clips: Clips, batches: ClipBatches, *, workers: int, pin: bool) -> DataLoader:
    """The batches' clips, collated, read by so many processes."""
    workers = min(workers, os.cpu_count() or 1)  # the course's 6 on a small machine only wait for each other
    if workers:
        atexit.register(end_workers)
    return Loader(
        clips, batch_sampler=batches, num_workers=workers, pin_memory=pin, persistent_workers=workers > 0,
        worker_init_fn=leave_stopping_to_the_main_process,
    )  # fmt: skip


def size_flags(flags: Flags) -> dict:
    """The flags that say how frames are read."""
    return {"height": flags.frame_H, "width": flags.frame_W, "cache_dir": flags.cache_dir}


def skips_bad(flags: Flags, split: str) -> bool | None:
    """Whether frames that cannot be used are left out; None where that cannot be asked for: test sequences must be whole."""
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
    return [sequence._replace(ground_truth=ground_truth.get(sequence.name, sequence.ground_truth)) for sequence in sequences]


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
