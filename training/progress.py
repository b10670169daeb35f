"""The position of a run within an epoch, from which a checkpoint resumes it, and what the terminal shows of an epoch."""

import math
from dataclasses import asdict, dataclass, field

import numpy as np

from runtime.distributed import Ranks
from training.metrics_log import Row
from utils import counted

# Losses, then beta and whether the batch was teacher-forced: the order of the arguments of Progress.add().
TERMS = ("loss", "mse", "kl", "beta", "forced")


def no_sums() -> list[float]:
    """Return sums over no clip: the number of clips, then one sum over clips for each of TERMS."""
    return [0.0] * (1 + len(TERMS))


def means_over_ranks(sums: list[float], ranks: Ranks) -> dict[str, float]:
    """Return the mean of each of TERMS over the clips of all processes, nan without any clip."""
    clips, *totals = np.sum(ranks.gather_object(sums), axis=0).tolist()
    return {name: total / clips if clips else math.nan for name, total in zip(TERMS, totals)}


@dataclass
class Progress:
    """The finished part of an epoch, in plain numbers."""

    clips: int = 0  # finished, by all processes
    sums: list[float] = field(default_factory=no_sums)  # of this process, over the epoch
    skipped: list[int] = field(default_factory=list)  # batches whose optimizer step was skipped because of non-finite values
    in_a_row: int = 0  # skipped steps since the last applied one
    seconds: float = 0.0  # spent on training
    point_sums: list[float] = field(default_factory=no_sums)  # of this process, since the last point of the curves

    def add(self, clips: int, *terms: float) -> None:
        """Count the TERMS of a batch, unless one of them is not finite."""
        if all(map(math.isfinite, terms)):
            addends = [clips * value for value in (1.0, *terms)]
            self.sums = [total + addend for total, addend in zip(self.sums, addends)]
            self.point_sums = [total + addend for total, addend in zip(self.point_sums, addends)]

    def means(self, ranks: Ranks) -> dict[str, float]:
        """Return the mean of each of TERMS over the epoch's clips of all processes, nan without any clip."""
        return means_over_ranks(self.sums, ranks)

    def end_point(self, ranks: Ranks) -> dict[str, float]:
        """Return the mean of each of TERMS since the last point of the curves, and begin the next point."""
        means = means_over_ranks(self.point_sums, ranks)
        self.point_sums = no_sums()
        return means

    def next_epoch(self) -> "Progress":
        """Return the progress at the start of the epoch after this one."""
        return Progress(in_a_row=self.in_a_row, point_sums=self.point_sums)

    def state(self, ranks: Ranks) -> dict:
        """Return the values for a checkpoint; all processes must call it."""
        return asdict(self) | {"sums": ranks.gather_object(self.sums), "point_sums": ranks.gather_object(self.point_sums)}

    @classmethod
    def from_state(cls, state: dict, ranks: Ranks) -> "Progress":
        """Return the progress that state() stored, for the same or another number of processes; {} is the start of an epoch."""
        own = {name: cls.own_sums(state[name], ranks) for name in ("sums", "point_sums") if name in state}
        return cls(**state | own)

    @staticmethod
    def own_sums(all_sums: list[list[float]], ranks: Ranks) -> list[float]:
        """Return this process's share of the sums that all processes stored."""
        if len(all_sums) == ranks.world:
            return all_sums[ranks.rank]
        # One process takes them all, so that none is counted twice.
        return np.sum(all_sums, axis=0).tolist() if ranks.is_main else no_sums()


def psnr_of(mse: float) -> float:
    """Return the PSNR in dB of a mean squared error of pixels in [0, 1]; nan for nan."""
    return math.inf if mse == 0 else -10 * math.log10(mse)


def describe_epoch(row: Row, epochs: int, best: float, seconds_left: float) -> str:
    """Return the terminal's line about a finished epoch, a row of metrics.jsonl and timings.jsonl together.

    `train` is the PSNR of the mean squared error of the epoch's predicted training frames.
    """
    line = (f"epoch {row['epoch'] + 1}/{epochs}  train {psnr_of(row['mse']):.1f} dB  kl {row['kl']:.2f} nats/frame  "
            f"beta {row['beta']:.2f}  tfr {row['tfr']:.2f}  {row['frames_per_second']:.0f} frames/s")  # fmt: skip
    if row["skipped"]:
        line += f"  {counted(len(row['skipped']), 'skipped step')}"
    if "val_psnr" in row:
        last_100 = f"last 100 frames {row['val_closing']:.2f}, " if row["val_closing"] != row["val_psnr"] else ""
        line += f"  val {row['val_psnr']:.2f} dB ({last_100}best {best:.2f})  ssim {row['val_ssim']:.3f}"
    minutes, seconds = divmod(int(seconds_left), 60)
    return line + f"  left {minutes}m{seconds:02d}s  loss {row['loss']:.5f}"


def describe_batch(mse: float, kl: float, teacher_forced: bool, frames_per_second: float) -> str:
    """Return the end of the progress bar: training PSNR and KL of a batch, its mode and the speed."""
    mode = "teacher-forced" if teacher_forced else "autoregressive"
    return f"train {psnr_of(mse):.1f} dB, kl {kl:.2f} nats/frame, {mode}, {frames_per_second:.0f} frames/s"
