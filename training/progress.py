"""Where a run stands within an epoch: what a checkpoint needs to go on in the middle of it."""

import math
from dataclasses import asdict, dataclass, field

import numpy as np

from runtime.distributed import Ranks

TERMS = ("loss", "mse", "kl", "beta", "forced")


@dataclass
class Progress:
    """The part of an epoch that is done, kept in plain numbers."""

    clips: int = 0  # that are done, by all processes
    sums: list[float] = field(default_factory=lambda: [0.0] * (1 + len(TERMS)))  # of this process: clips, and each term by clip
    skipped: list[int] = field(default_factory=list)  # batches whose step was left out, the numbers not being finite
    in_a_row: int = 0  # such steps since the last good one
    seconds: float = 0.0  # spent on training

    def add(self, clips: int, *terms: float) -> None:
        """Counts the TERMS of a batch, unless they are not finite."""
        if all(map(math.isfinite, terms)):
            self.sums = [total + clips * value for total, value in zip(self.sums, (1.0, *terms))]

    def means(self, ranks: Ranks) -> dict[str, float]:
        """The TERMS' means over the clips of all processes; nan without any."""
        clips, *sums = np.sum(ranks.gather_object(self.sums), axis=0).tolist()
        return {name: total / clips if clips else math.nan for name, total in zip(TERMS, sums)}

    def state(self, ranks: Ranks) -> dict:
        """For a checkpoint; every process must ask for it."""
        return asdict(self) | {"sums": ranks.gather_object(self.sums)}

    @classmethod
    def from_state(cls, state: dict, ranks: Ranks) -> "Progress":
        """What state() gave, in as many processes or another number of them; {} is an epoch's beginning."""
        if not state:
            return cls()
        everyone = state["sums"]
        if len(everyone) == ranks.world:
            sums = everyone[ranks.rank]
        else:  # one takes them all, so that none is counted twice
            sums = np.sum(everyone, axis=0).tolist() if ranks.is_main else cls().sums
        return cls(**state | {"sums": sums})
