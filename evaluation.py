"""Roll-outs and their scores: whole videos from prior samples, against the truth and against two still pictures."""
from typing import NamedTuple

import torch
from torch import Tensor

from dataloader import Sequence
from modules import VideoModel
from utils import autocast, psnr, ssim, to_model

HIGHEST_PSNR = 100.0  # dB that equal frames count for; infinity would make every mean infinite
CLOSING_FRAMES = 100  # the last frames, scored by themselves: a roll-out that drifts shows it there


class Score(NamedTuple):
    """How well one sequence was predicted; the given frames are not counted."""

    psnr: Tensor  # (T - context,) in dB
    ssim: Tensor  # (T - context,)
    copy_first: Tensor  # PSNR of a copy of the last given frame, the first baseline
    background: Tensor  # PSNR of the per-pixel median of the true frames, the best still picture: the second baseline


def roll_out(
    model: VideoModel, sequences: list[Sequence], *, device: torch.device, precision: str, z_scale: float, batch_size: int
) -> list[Tensor]:
    """Predicts every sequence, `batch_size` of them side by side: one (T, 3, H, W) float video in [0, 1] each, on the CPU.

    Sequences of different lengths share a batch: the shorter ones keep their last condition and are cut afterwards.
    """
    videos = []
    model.eval()
    for start in range(0, len(sequences), batch_size):
        batch = sequences[start : start + batch_size]
        longest = max(len(sequence.conditions) for sequence in batch)
        given = torch.stack([sequence.given for sequence in batch])
        conditions = torch.stack([pad_time(sequence.conditions, longest) for sequence in batch])
        with autocast(device, precision):
            rolled = model.rollout(to_model(given, device), to_model(conditions, device), z_scale=z_scale)
        videos += [video[: len(sequence.conditions)].clamp(0, 1).cpu() for video, sequence in zip(rolled, batch)]
    return videos


def pad_time(video: Tensor, length: int) -> Tensor:
    """(T, ...) -> (length, ...), the last entry repeated."""
    return torch.cat([video, video[-1:].expand(length - len(video), *video.shape[1:])])


def score(video: Tensor, sequence: Sequence) -> Score:
    """Scores one predicted video (T, 3, H, W) frame by frame, from the first predicted frame on."""
    context = len(sequence.given)
    truth = to_model(sequence.truth, video.device)
    still = truth.median(dim=0).values
    predicted, target = video[context:], truth[context:]
    copy = to_model(sequence.given[-1], video.device)
    quality = [psnr(v, target).clamp(max=HIGHEST_PSNR) for v in (predicted, copy.expand_as(target), still.expand_as(target))]
    return Score(psnr=quality[0], ssim=ssim(predicted, target), copy_first=quality[1], background=quality[2])


def summary(scores: list[Score]) -> dict[str, float]:
    """Means over all predicted frames of all sequences; `closing` over the last 100 of each sequence."""
    means = {name: torch.cat([getattr(s, name) for s in scores]).mean().item() for name in Score._fields}
    return means | {"closing": torch.cat([s.psnr[-CLOSING_FRAMES:] for s in scores]).mean().item()}
