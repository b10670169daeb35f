"""Every schedule as a pure function of the epoch: nothing to save, nothing to restore.

Epochs count from 0. A resumed run asks for the same epoch and gets the same value.
"""

import argparse
import math

CURVE_POINTS = 400  # rows of curves.jsonl in a whole run, evenly spaced


def teacher_forcing_ratio(epoch: int, *, start: float, decay_start: int, step: float, floor: float, interval: int) -> float:
    """Return the probability in [0, 1] that the previous frame is taken from the ground truth (teacher forcing).

    It is `start` before epoch `decay_start`, falls by `step` there and every `interval` epochs after it, and never falls
    below `floor`. Source: scheduled sampling, Bengio et al. 2015, arXiv 1506.03099.
    """
    if epoch < decay_start:
        return start
    decays = (epoch - decay_start) // interval + 1
    # Rounded, so that 1 - 10 * 0.1 is exactly 0: a draw could still fall below 1e-16.
    return max(min(floor, start), round(start - step * decays, 10))


def kl_weight(epoch: float, *, epochs: int, kind: str, cycles: int, ratio: float) -> float:
    """Return the weight beta in [0, 1] of the KL term; `epoch` has a fraction, 2.5 is the middle of the third epoch.

    Cyclical: the run has `cycles` equal cycles; in each, beta rises linearly from 0 over the fraction `ratio` and is 1 in
    the rest. Monotonic: one such cycle. None: 1 throughout. Source: Fu et al. 2019, arXiv 1903.10145, equation 6.
    """
    if kind == "None":
        return 1.0
    # Rounded, so that a cycle that starts at a whole epoch starts at 0 and not one bit before its end.
    position = round(epoch * (1 if kind == "Monotonic" else cycles) / epochs, 9) % 1  # in the cycle, in [0, 1)
    return min(1.0, position / ratio)


def learning_rate(
    epoch: float, *, epochs: int, base: float, kind: str, warmup: float, step_epochs: int, gamma: float, final: float
) -> float:
    """Return the learning rate; `epoch` has a fraction, 2.5 is the middle of the third epoch.

    It first rises linearly from 0 over `warmup` epochs. constant: `base`. step: times `gamma` every `step_epochs` epochs.
    exponential: times `gamma` every epoch. cosine: half a cosine from `base` at the end of the warm-up to `base * final` at
    the end of the run. Source: Loshchilov and Hutter 2017, arXiv 1608.03983.
    """
    rise = min(1.0, epoch / warmup) if warmup else 1.0
    if kind == "constant":
        return base * rise
    if kind == "step":
        return base * rise * gamma ** (int(epoch) // step_epochs)
    if kind == "exponential":
        return base * rise * gamma ** int(epoch)
    descent = min(1.0, max(0.0, epoch - warmup) / max(epochs - warmup, 1e-9))
    return base * rise * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * descent)))


def ends_curve_point(start: float, end: float, *, epochs: int) -> bool:
    """Return whether one of the run's CURVE_POINTS equal parts ends within the epochs (start, end]."""
    # Rounded, so that a part that ends with an epoch ends there and not one bit later.
    before, after = (math.floor(round(CURVE_POINTS * epoch / epochs, 6)) for epoch in (start, end))
    return after > before


class Schedules:
    """The schedules that the flags of Trainer.py describe, each a pure function of the epoch."""

    def __init__(self, args: argparse.Namespace):
        self.args = args

    def ratio_at(self, epoch: int) -> float:
        """Return the teacher-forcing ratio of an epoch, in [0, 1]."""
        args = self.args
        return teacher_forcing_ratio(
            epoch,
            start=args.tfr,
            decay_start=args.tfr_sde,
            step=args.tfr_d_step,
            floor=args.tfr_floor,
            interval=args.tfr_interval,
        )

    def beta_at(self, epoch: float) -> float:
        """Return the weight of the KL term, in [0, 1]."""
        args = self.args
        return kl_weight(
            epoch,
            epochs=args.num_epoch,
            kind=args.kl_anneal_type,
            cycles=args.kl_anneal_cycle,
            ratio=args.kl_anneal_ratio,
        )

    def lr_at(self, epoch: float) -> float:
        """Return the learning rate."""
        args = self.args
        return learning_rate(
            epoch,
            epochs=args.num_epoch,
            base=args.lr,
            kind=args.lr_schedule,
            warmup=args.lr_warmup,
            step_epochs=args.lr_step,
            gamma=args.lr_gamma,
            final=args.lr_final,
        )
