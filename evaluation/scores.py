"""Roll-outs and their scores: whole videos from prior samples, against the truth and against two still pictures."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from data.clips import Sequence
from evaluation.image_metrics import psnr, ssim
from evaluation.rollout import rollout_sequences
from modules.base import VideoModel
from utils import seed_for, to_model, video_to_bytes

HIGHEST_PSNR = 100.0  # dB that equal frames count for; infinity would make every mean infinite
CLOSING_FRAMES = 100  # the last frames, scored by themselves: a roll-out that drifts shows it there


class Score(NamedTuple):
    """How well one sequence was predicted; the given frames are not counted."""

    psnr: Tensor  # (T - context,) in dB
    channel_psnr: Tensor  # (T - context,) mean over the channels of each one's PSNR: finn_eval_seq, the usual one for BAIR
    ssim: Tensor  # (T - context,)
    copy: Tensor  # PSNR of a copy of the last given frame, the first baseline
    background: Tensor  # PSNR of the per-pixel median of the true frames, the best still picture: the second baseline


def score(video: Tensor, sequence: Sequence, *, like: Score | None = None) -> Score:
    """Scores one predicted video (T, 3, H, W) frame by frame, from the first predicted frame on.

    `like` is the score of another video of the same sequence, whose baselines need not be computed again.
    """
    context = len(sequence.context_frames)
    truth = to_model(sequence.ground_truth, video.device)
    predicted, target = video[context:], truth[context:]

    def bounded(frames: Tensor, true: Tensor) -> Tensor:
        return psnr(frames, true).clamp(max=HIGHEST_PSNR)

    if like is None:
        copy = bounded(to_model(sequence.context_frames[-1], video.device).expand_as(target), target)
        background = bounded(truth.median(dim=0).values.expand_as(target), target)
    else:
        copy, background = like.copy, like.background
    by_channel = bounded(predicted.unsqueeze(2), target.unsqueeze(2)).mean(dim=1)
    return Score(bounded(predicted, target), by_channel, ssim(predicted, target), copy, background)


def mean_per_step(curves: list[Tensor]) -> Tensor:
    """The mean over sequences of each step, (T,), over those that are long enough."""
    return torch.nanmean(pad_sequence(curves, padding_value=torch.nan), dim=1)


def summary(scores: list[Score]) -> dict[str, float]:
    """Means over all predicted frames of all sequences; `closing` over the last 100 of each sequence."""
    means = {name: torch.cat([getattr(s, name) for s in scores]).mean().item() for name in Score._fields}
    return means | {"closing": torch.cat([s.psnr[-CLOSING_FRAMES:] for s in scores]).mean().item()}


class Result(NamedTuple):
    """One sequence, rolled out once or several times: a score of each sample where the truth is known, and three videos."""

    sequence: Sequence
    scores: list[Score]  # empty where the truth is not known
    video: Tensor  # (T, 3, H, W) uint8, the first sample
    best: Tensor  # the sample of highest mean PSNR; the first where the truth is not known
    worst: Tensor


def run_tests(
    model: VideoModel, sequences: list[Sequence], *, samples: int, seed: int, device: torch.device, precision: str,
    z_scale: float, batch_size: int,
) -> list[Result]:  # fmt: skip
    """Rolls out every sequence `samples` times, as many side by side as `batch_size` allows, and scores each."""
    results = []
    together = max(1, batch_size // samples)
    for start in tqdm(range(0, len(sequences), together), desc="rolling out", unit="batch", leave=False, disable=None):
        group = sequences[start : start + together]
        copies = [sequence for sequence in group for _ in range(samples)]
        seeds = [seed_for(seed, "test", sequence.name, n) for sequence in group for n in range(samples)]
        videos = rollout_sequences(
            model, copies, seeds, device=device, precision=precision, z_scale=z_scale, batch_size=batch_size
        )
        for i, sequence in enumerate(group):
            own = videos[i * samples : (i + 1) * samples]
            scores: list[Score] = []
            for video in own if sequence.ground_truth is not None else []:
                scores.append(score(video, sequence, like=scores[0] if scores else None))
            order = sorted(range(len(scores)), key=lambda n: scores[n].psnr.mean().item()) or [0]
            # Bytes: of hundreds of sequences the float videos would fill the memory.
            kept = {n: torch.from_numpy(video_to_bytes(own[n])) for n in {0, order[0], order[-1]}}
            results.append(Result(sequence, scores, kept[0], kept[order[-1]], kept[order[0]]))
    return results
