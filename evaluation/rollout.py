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
    """Return the prediction of every sequence, a (T, 3, H, W) float video in [0, 1] on the CPU, computed in batches.

    A sequence's seed determines its prior samples. Sequences of different lengths share a batch: shorter ones repeat their last
    condition, and the extra frames are cut off.
    """
    videos: list[Tensor] = []
    model.eval()
    for start in range(0, len(sequences), batch_size):
        batch = sequences[start : start + batch_size]
        longest = max(len(sequence.conditions) for sequence in batch)
        context_frames = torch.stack([sequence.context_frames for sequence in batch])
        conditions = torch.stack([pad_time(sequence.conditions, longest) for sequence in batch])
        with autocast(device, precision):
            inputs = to_model(context_frames, device), to_model(conditions, device)
            predicted = model.rollout(*inputs, z_scale=z_scale, seeds=seeds[start : start + batch_size])
        for video, sequence in zip(predicted, batch):
            videos.append(video[: len(sequence.conditions)].clamp(0, 1).cpu())
    return videos


def pad_time(video: Tensor, length: int) -> Tensor:
    """Return a tensor (T, ...) as (length, ...), with the last entry repeated."""
    return torch.cat([video, video[-1:].expand(length - len(video), *video.shape[1:])])


def shuffle_conditions(sequences: list[Sequence], seed: int, *, values: int = 0) -> list[Sequence]:
    """Return every sequence with the conditions of another. The loss of PSNR shows how much a model uses its conditions.

    `values` swaps only the first of the A condition values, for example 4 for the actions of a robot whose positions are known
    as well; 0 swaps all. Shorter conditions repeat their last entry. Raises UserError for a single sequence, for fewer values,
    and for none.
    """
    if len(sequences) < 2:
        raise UserError("--shuffle_conditions: expected at least two sequences that can swap their conditions, got one")
    if sequences[0].conditions.shape[1] == 0:
        raise UserError("--shuffle_conditions: expected sequences with conditions, got none")
    order = np.random.default_rng(seed_for(seed, "shuffle")).permutation(len(sequences))
    shuffled = list(sequences)
    for index, other_index in zip(order, np.roll(order, 1)):
        own = sequences[index].conditions
        other = pad_time(sequences[other_index].conditions[: len(own)], len(own))
        if values and (own.dim() != 2 or own.shape[1] < values):
            name = sequences[index].name
            raise UserError(f"--shuffle_conditions {values}: expected at least {values} values a frame in sequence {name}")
        if values:
            other = torch.cat([other[:, :values], own[:, values:]], dim=1)
        shuffled[index] = sequences[index]._replace(conditions=other)
    return shuffled
