"""Build the Trainer that a user's flags describe, time its training steps, and time several candidates in turns."""

import itertools
import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from dataloader import BatchPosition
from runtime.devices import autocast
from runtime.distributed import Ranks
from Trainer import Trainer
from training.flags import parse_trainer_flags
from training.resume import StartPoint
from training.schedules import teacher_forcing_ratio
from utils import UserError

ROOT = Path(__file__).resolve().parents[2]
Key = TypeVar("Key")
Result = TypeVar("Result")


class Timing(NamedTuple):
    """The duration of some work."""

    frames: int  # predicted frames
    seconds: float
    loading: float = 0.0  # the part of `seconds` that was spent waiting for batches


def parse_flags(flags: list[str]) -> Namespace:
    """Parse flags of Trainer.py, without --save_root. Raises UserError for flags that skip training or resume it."""
    # A benchmark saves nothing. Nothing can be saved in os.devnull, so an attempt would fail visibly.
    args, _ = parse_trainer_flags(["--save_root", os.devnull, *flags])
    if args.test or args.ckpt_path:
        raise UserError("--test, --ckpt_path: expected neither after --; a benchmark trains from random weights")
    return args


def forcing_ratios(flags: Namespace) -> list[float]:
    """Return the teacher-forcing ratio of every epoch."""
    ratios = []
    for epoch in range(flags.num_epoch):
        ratio = teacher_forcing_ratio(epoch, start=flags.tfr, decay_start=flags.tfr_sde, step=flags.tfr_d_step,
                                      floor=flags.tfr_floor, interval=flags.tfr_interval)  # fmt: skip
        ratios.append(ratio)
    return ratios


def synchronize(device: torch.device) -> None:
    """Wait for all work on the device. Work on a CPU is always complete."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def time_work(work: Callable[[], object], device: torch.device) -> float:
    """Run `work` and return the seconds that it takes on the device."""
    synchronize(device)
    begin = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - begin


def interleave(candidates: dict[Key, Callable[[], Result]], rounds: int) -> dict[Key, list[Result]]:
    """Call the candidates A, B, A, B, ..., so that other load on the machine affects all alike. An additional round warms up."""
    for measure in candidates.values():
        measure()
    results: dict[Key, list[Result]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, measure in candidates.items():
            results[name].append(measure())
    return results


def frame_rates(timings: list[Timing]) -> list[float]:
    """Return the frames/s of each round."""
    return [timing.frames / timing.seconds for timing in timings]


def ratios_by_round(ours: list[float], theirs: list[float]) -> list[float]:
    """Return ours / theirs for each round. Other load on the machine during a round cancels out."""
    return [a / b for a, b in zip(ours, theirs)]


def new_trainer(flags: Namespace) -> Trainer:
    """Return a Trainer with random weights that runs as a single process and writes no files."""
    return Trainer(flags, StartPoint(), Ranks())


def batches(trainer: Trainer) -> Iterator[tuple[int, BatchPosition, dict]]:
    """Yield (epoch, position, batch) without end, in a run's order. Smaller last batches are dropped, so all steps are alike."""
    order = trainer.batches
    if order.clips > order.batch_size:
        order.clips -= order.clips % order.batch_size
    for epoch in itertools.count():
        order.set_epoch(epoch)
        for position, batch in trainer.loader:
            yield epoch, position, batch


def train_steps(trainer: Trainer, source: Iterator[tuple[int, BatchPosition, dict]], steps: int, *, forced: bool) -> Timing:
    """Time `steps` training steps of Trainer, loading included, teacher-forced or autoregressive."""
    trainer.learner.model.train()
    synchronize(trainer.device)
    frames, loading, begin = 0, 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        trainer.epoch, position, batch = next(source)
        loading += time.perf_counter() - asked
        middle = trainer.batches.middle_of(position.first_clip)
        trainer.learner.set_lr(trainer.schedules.lr_at(trainer.epoch + middle))
        trainer.train_step(batch, position, teacher_forced=forced, beta=1.0)
        clips, length = batch["frames"].shape[:2]
        frames += clips * (length - 1)
    synchronize(trainer.device)
    return Timing(frames, time.perf_counter() - begin, loading)


def precision_in_use(trainer: Trainer) -> torch.dtype:
    """Return the type in which convolutions run. Only a constructed Trainer knows it: --amp auto depends on the machine."""
    device = trainer.device
    with autocast(device, trainer.args.amp):
        if torch.is_autocast_enabled(device.type):
            return torch.get_autocast_dtype(device.type)
    return torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """Return float32 for torch.float32."""
    return str(dtype).removeprefix("torch.")
