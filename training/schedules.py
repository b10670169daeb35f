"""Every schedule as a pure function of the epoch: nothing to save, nothing to restore.

Epochs count from 0. A run that is resumed asks for the same epoch and gets the same value.
"""

import math


def teacher_forcing_ratio(epoch: int, *, start: float, decay_start: int, step: float, floor: float, interval: int) -> float:
    """Probability in [0, 1] that the frame before is the true one.

    `start` until epoch `decay_start`, there minus `step`, then minus `step` again every `interval` epochs, never below
    `floor`. (Scheduled sampling, Bengio et al. 2015.)
    """
    if epoch < decay_start:
        return start
    decays = (epoch - decay_start) // interval + 1
    # Rounded, so that 1 - 10 * 0.1 is 0 and not 1e-16: a coin against the latter could still fall.
    return max(min(floor, start), round(start - step * decays, 10))


def kl_weight(epoch: float, *, epochs: int, kind: str, cycles: int, ratio: float) -> float:
    """The weight beta in [0, 1] of the KL term; `epoch` has a fraction, 2.5 being the middle of the third epoch.

    Cyclical: `cycles` equal cycles over the run; in each, beta rises linearly from 0 over the fraction `ratio` and then
    stays 1 (Fu et al. 2019, equation 6). Monotonic: one such cycle. None: 1 throughout.
    """
    if kind == "None":
        return 1.0
    # Rounded, so that a cycle that begins at a whole epoch begins at 0 and not a last bit before its end.
    position = round(epoch * (1 if kind == "Monotonic" else cycles) / epochs, 9) % 1  # in the cycle, in [0, 1)
    return min(1.0, position / ratio)


def learning_rate(
    epoch: float, *, epochs: int, base: float, kind: str, warmup: float, step_epochs: int, gamma: float, final: float
) -> float:
    """The learning rate; `epoch` has a fraction, 2.5 being the middle of the third epoch.

    It first rises linearly from 0 over `warmup` epochs. constant: `base`; step: times `gamma` every `step_epochs`
    epochs; exponential: times `gamma` every epoch; cosine: half a cosine from `base` at the end of the rise to
    `base * final` at the end of the run (Loshchilov and Hutter 2017).
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
