"""Validation during training: full rollouts from prior samples, shared among the processes."""

from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from data.clips import Sequence
from evaluation.rollout import rollout_sequences
from evaluation.scores import Score, mean_per_step, score, summary
from modules.base import VideoModel
from runtime.distributed import Ranks
from runtime.signals import Interrupt
from utils import seed_for

SIDE_BY_SIDE = 8  # sequences in a rollout


class Validation(NamedTuple):
    """The result of a validation."""

    metrics: dict[str, float | list[float]]  # val_*, for the epoch's row of metrics.jsonl
    videos: list[Tensor]  # the rollouts of this process's sequences, each (T, 3, H, W) in [0, 1]


class Validator:
    """Rolls out the same sequences with the same prior samples every time, so that epochs can be compared."""

    def __init__(self, sequences: list[Sequence], *, seed: int, device: torch.device, precision: str):
        self.sequences, self.seed, self.device, self.precision = sequences, seed, device, precision

    def rollout(self, model: VideoModel, sequences: list[Sequence]) -> list[Tensor]:
        """Return the rollouts (T, 3, H, W) of some of the sequences."""
        return rollout_sequences(
            model,
            sequences,
            [seed_for(self.seed, "validation", sequence.name) for sequence in sequences],
            device=self.device,
            precision=self.precision,
            z_scale=1.0,
            batch_size=SIDE_BY_SIDE,
        )

    def validate(self, model: VideoModel, ranks: Ranks, interrupt: Interrupt) -> Validation | None:
        """Roll out this process's share of the sequences and score those of all; None if a process was asked to stop."""
        own = self.sequences[ranks.rank :: ranks.world]
        videos: list[Tensor] = []
        scores: list[Score] = []
        while len(videos) < len(own) and not interrupt.received:
            batch = own[len(videos) : len(videos) + SIDE_BY_SIDE]
            rollouts = self.rollout(model, batch)
            videos += rollouts
            scores += map(score, rollouts, batch)
        if any(ranks.max_over_ranks(interrupt.received)):
            return None
        return Validation(validation_metrics(ranks.gather_object(scores)), videos)


def validation_metrics(shares: list[list[Score]]) -> dict[str, float | list[float]]:
    """Return the val_* entries of a row of metrics.jsonl, from the scores of each process's share of the sequences."""
    scores = [found for turn in zip_longest(*shares) for found in turn if found is not None]  # in the order of the sequences
    metrics: dict[str, float | list[float]] = {f"val_{name}": value for name, value in summary(scores).items()}
    curve = mean_per_step([found.psnr for found in scores]).tolist()
    return metrics | {"val_psnr_per_frame": [round(value, 2) for value in curve]}
