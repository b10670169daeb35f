"""--minutes: how many batches an epoch fit the run into a number of minutes on this machine."""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from runtime.distributed import Ranks
from utils import counted

MEASURING_SECONDS = 3.0  # for each kind of batch


class Pace(NamedTuple):
    """What this machine needs, in seconds."""

    teacher_forced: float  # for a batch
    autoregressive: float  # for a batch
    validation: float


def measure_pace(
    train: Callable[[dict[str, Tensor], bool], object],
    validate: Callable[[], object],
    batches: Iterator[dict[str, Tensor]],
    ranks: Ranks,
) -> Pace:
    """Time train(batch, teacher_forced) for both kinds of batch, and validate(). Return the times of the slowest process."""

    def slowest(seconds: float) -> float:  # all processes must take the same decisions
        return max(1, *ranks.max_over_ranks(int(1e6 * seconds))) / 1e6

    def timed(work: Callable[[], object]) -> float:
        started = time.perf_counter()
        work()
        return slowest(time.perf_counter() - started)

    def seconds_a_batch(teacher_forced: bool) -> float:
        def train_on(count: int) -> None:
            for _ in range(count):
                train(next(batches), teacher_forced)

        train_on(2)  # the first ones are slower
        one = timed(lambda: train_on(1))
        count = min(60, max(3, int(MEASURING_SECONDS / one)))
        return timed(lambda: train_on(count)) / count

    return Pace(seconds_a_batch(True), seconds_a_batch(False), timed(validate))


class Estimate(NamedTuple):
    """The number of batches an epoch that fits a run into a number of seconds, and the least that the run needs."""

    epoch_size: int  # of all processes together
    validations: int  # in the whole run
    least_seconds: float  # with one batch an epoch in each process


def epoch_size_within(seconds: float, pace: Pace, *, ratios: list[float], val_every: int, processes: int) -> Estimate:
    """Return the largest number of batches an epoch, at least 1 for each process, with which the run takes at most `seconds`.

    `ratios` are the teacher-forcing ratios of all epochs; every `val_every`-th epoch and the last one end with a validation. The
    processes share the batches of an epoch.
    """
    one_batch_each = sum(ratio * pace.teacher_forced + (1 - ratio) * pace.autoregressive for ratio in ratios)
    validations = math.ceil(len(ratios) / val_every)
    for_each_process = max(1, int((seconds - validations * pace.validation) / one_batch_each))
    return Estimate(processes * for_each_process, validations, one_batch_each + validations * pace.validation)


def describe_estimate(minutes: float, estimate: Estimate, pace: Pace, spent: float) -> list[str]:
    """Return what --minutes chose, and a warning if the run takes longer; measuring took `spent` seconds."""
    chosen = f"--minutes {minutes:g}: {counted(estimate.epoch_size, 'batch')} an epoch"
    batch = (
        f"a batch takes {1e3 * pace.teacher_forced:.0f} ms with teacher forcing and {1e3 * pace.autoregressive:.0f} ms without"
    )
    lines = [f"{chosen}; {batch}, a validation {pace.validation:.1f} s"]
    least = (spent + estimate.least_seconds) / 60
    if least > minutes:
        validations = f"{counted(estimate.validations, 'validation')} (--val_every makes fewer)"
        lines.append(
            f"--minutes {minutes:g}: too short for this run, which takes at least {least:.1f} minutes with {validations}"
        )
    return lines
