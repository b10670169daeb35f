"""--minutes: how many batches an epoch fit the run into a number of minutes on this machine."""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from runtime.distributed import Ranks

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


def epoch_size_within(seconds: float, pace: Pace, *, ratios: list[float], val_every: int) -> int:
    """Return the largest number of batches an epoch, at least 1, with which the whole run takes at most `seconds`.

    `ratios` are the teacher-forcing ratios of all epochs; every `val_every`-th epoch and the last one end with a validation.
    """
    one_batch_each = sum(ratio * pace.teacher_forced + (1 - ratio) * pace.autoregressive for ratio in ratios)
    validations = math.ceil(len(ratios) / val_every)
    return max(1, int((seconds - validations * pace.validation) / one_batch_each))
