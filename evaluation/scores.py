"""Scores of rollouts: predicted frames against the ground truth, next to two baselines that predict still frames."""

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

HIGHEST_PSNR = 100.0  # dB, the score of equal frames; infinity would make every mean infinite
CLOSING_FRAMES = 100  # frames at the end that get a score of their own, which shows whether a rollout drifts


class Score(NamedTuple):
    """The scores of one sequence, a value for each predicted frame. The names are keys in scores.json and metrics.jsonl."""

    psnr: Tensor  # (T - context,) in dB
    channel_psnr: Tensor  # (T - context,) in dB, mean over the PSNR of each channel: finn_eval_seq, the convention for BAIR
    ssim: Tensor  # (T - context,)
    copy: Tensor  # (T - context,) in dB, copy-last-frame baseline: PSNR of the last context frame
    background: Tensor  # (T - context,) in dB, median-frame baseline (oracle): PSNR of the median frame of the ground truth


def score(video: Tensor, sequence: Sequence, *, baselines: Score | None = None) -> Score:
    """Score one predicted video (T, 3, H, W) against its ground truth, from the first predicted frame on.

    `baselines` is the score of another prediction of the same sequence, whose baselines are reused. Raises ValueError without
    ground truth.
    """
    if sequence.ground_truth is None:
        raise ValueError(f"score: expected ground truth of sequence {sequence.name}, got none")
    context = len(sequence.context_frames)
    ground_truth = to_model(sequence.ground_truth, video.device)
    predicted, target = video[context:], ground_truth[context:]
    if baselines is None:
        last_frame = to_model(sequence.context_frames[-1], video.device)
        copy = bounded_psnr(last_frame.expand_as(target), target)
        background = bounded_psnr(ground_truth.median(dim=0).values.expand_as(target), target)
    else:
        copy, background = baselines.copy, baselines.background
    by_channel = bounded_psnr(predicted.unsqueeze(2), target.unsqueeze(2)).mean(dim=1)
    return Score(bounded_psnr(predicted, target), by_channel, ssim(predicted, target), copy, background)


def bounded_psnr(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the PSNR of each frame, at most HIGHEST_PSNR."""
    return psnr(predicted, target).clamp(max=HIGHEST_PSNR)


def mean_per_step(curves: list[Tensor]) -> Tensor:
    """Return the mean of each time step over the sequences that are long enough, (T,)."""
    return torch.nanmean(pad_sequence(curves, padding_value=torch.nan), dim=1)


def summary(scores: list[Score]) -> dict[str, float]:
    """Return the means over all predicted frames of all sequences; `closing` is the last-100-frame PSNR."""
    means = {}
    for name in Score._fields:
        means[name] = torch.cat([getattr(s, name) for s in scores]).mean().item()
    means["closing"] = torch.cat([s.psnr[-CLOSING_FRAMES:] for s in scores]).mean().item()
    return means


class Result(NamedTuple):
    """The rollouts of one sequence from one or several prior samples."""

    sequence: Sequence
    scores: list[Score]  # of each sample; empty without ground truth
    video: Tensor  # (T, 3, H, W) uint8, the first sample
    best: Tensor  # (T, 3, H, W) uint8, the sample with the highest mean PSNR; the first without ground truth
    worst: Tensor  # (T, 3, H, W) uint8, the sample with the lowest mean PSNR; the first without ground truth


def run_tests(
    model: VideoModel, sequences: list[Sequence], *, samples: int, seed: int, device: torch.device, precision: str,
    z_scale: float, batch_size: int,
) -> list[Result]:  # fmt: skip
    """Roll out every sequence from `samples` prior samples, in batches of about `batch_size` rollouts, and score each."""
    results = []
    group_size = max(1, batch_size // samples)
    for start in tqdm(range(0, len(sequences), group_size), desc="rolling out", unit="batch", leave=False, disable=None):
        group = sequences[start : start + group_size]
        copies = [sequence for sequence in group for _ in range(samples)]
        seeds = [seed_for(seed, "test", sequence.name, n) for sequence in group for n in range(samples)]
        videos = rollout_sequences(
            model, copies, seeds, device=device, precision=precision, z_scale=z_scale, batch_size=batch_size
        )
        for i, sequence in enumerate(group):
            results.append(score_samples(sequence, videos[i * samples : (i + 1) * samples]))
    return results


def score_samples(sequence: Sequence, videos: list[Tensor]) -> Result:
    """Score the samples of one sequence and keep the first, the best and the worst, as bytes to save memory."""
    scores: list[Score] = []
    if sequence.ground_truth is not None:
        for video in videos:
            scores.append(score(video, sequence, baselines=scores[0] if scores else None))
    worst, best = worst_and_best(scores)
    kept = {n: torch.from_numpy(video_to_bytes(videos[n])) for n in {0, worst, best}}
    return Result(sequence, scores, video=kept[0], best=kept[best], worst=kept[worst])


def worst_and_best(scores: list[Score]) -> tuple[int, int]:
    """Return the indices of the samples with the lowest and the highest mean PSNR; the first sample's without scores."""
    if not scores:
        return 0, 0
    ascending = sorted(range(len(scores)), key=lambda n: scores[n].psnr.mean().item())
    return ascending[0], ascending[-1]
