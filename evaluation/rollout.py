"""Rollouts of whole sequences from prior samples."""

import numpy as np
import torch
from torch import Tensor

from data.clips import Sequence
from modules.base import VideoModel
from runtime.devices import autocast
from utils import UserError, seed_for, to_model


def rollout_sequences(
    model: VideoModel, sequences: list[Sequence], seeds: list[int], *, device: torch.device, precision: str, z_scale: float,
    batch_size: int,
) -> list[Tensor]:  # fmt: skip
    """Predicts every sequence, `batch_size` of them side by side: one (T, 3, H, W) float video in [0, 1] each, on the CPU.

    The seed of a sequence decides its samples of the prior. Sequences of different lengths share a batch: the shorter ones
    keep their last condition and are cut afterwards.
    """
    videos = []
    model.eval()
    for start in range(0, len(sequences), batch_size):
        batch = sequences[start : start + batch_size]
        longest = max(len(sequence.conditions) for sequence in batch)
        given = torch.stack([sequence.context_frames for sequence in batch])
        conditions = torch.stack([pad_time(sequence.conditions, longest) for sequence in batch])
        with autocast(device, precision):
            inputs = to_model(given, device), to_model(conditions, device)
            rolled = model.rollout(*inputs, z_scale=z_scale, seeds=seeds[start : start + batch_size])
        videos += [video[: len(sequence.conditions)].clamp(0, 1).cpu() for video, sequence in zip(rolled, batch)]
    return videos


def pad_time(video: Tensor, length: int) -> Tensor:
    """(T, ...) -> (length, ...), the last entry repeated."""
    return torch.cat([video, video[-1:].expand(length - len(video), *video.shape[1:])])


def shuffle_conditions(sequences: list[Sequence], seed: int, *, values: int = 0) -> list[Sequence]:
    """Every sequence with the conditions of another: what it costs tells how much a model heeds them.

    `values` swaps the first of the A condition values only, as 4 for the actions of a robot whose positions are known too;
    0 swaps all. Shorter conditions keep their last entry. Raises UserError for a single sequence, or fewer values.
    """
    if len(sequences) < 2:
        raise UserError("--shuffle_conditions: one sequence found; expected at least two that can swap their conditions")
    order = np.random.default_rng(seed_for(seed, "shuffle")).permutation(len(sequences))
    swapped = list(sequences)
    for mine, theirs in zip(order, np.roll(order, 1)):
        length = len(sequences[mine].conditions)
        own, other = sequences[mine].conditions, pad_time(sequences[theirs].conditions[:length], length)
        if values and (own.dim() != 2 or own.shape[1] < values):
            name = sequences[mine].name
            raise UserError(f"--shuffle_conditions {values}: expected at least {values} values a frame in sequence {name}")
        other = torch.cat([other[:, :values], own[:, values:]], dim=1) if values else other
        swapped[mine] = sequences[mine]._replace(conditions=other)
    return swapped
