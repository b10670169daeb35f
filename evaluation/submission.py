"""submission.csv, and its score by the grader's rule: one row per frame in C, H, W order, integers 0..255."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.truth_csv import read_frames
from evaluation.image_metrics import psnr

COURSE_SIZE = (32, 64)  # height and width of the frames in the course's csv files
LAST_SCORED = 600  # the course's grader skips frame 0 and the frames after this one
PUBLIC_SEQUENCES = 3


class GraderPsnr(NamedTuple):
    """Mean PSNR over frames, in dB, by the grader's rule; nan for a part without scored sequences."""

    overall: float
    public: float
    private: float


def write_submission(path: Path, videos: list[np.ndarray]) -> None:
    """Write uint8 videos (T, 3, H, W), one sequence after another, then read the file back and compare.

    The header is id,0,1,...; the given first frame is a row as well. Raises OSError if the file differs from the videos.
    """
    rows = np.concatenate([video.reshape(len(video), -1) for video in videos])
    with open(path, "w", newline="\n") as file:
        file.write(",".join(["id", *map(str, range(rows.shape[1]))]) + "\n")
        file.writelines(f"{i},{','.join(map(str, row))}\n" for i, row in enumerate(rows.tolist()))
    if not np.array_equal(read_frames(path), rows):
        raise OSError(f"{path}: holds other values than were written; is the disk full?")


def grader_psnr(predicted: list[np.ndarray], ground_truth: list[np.ndarray | None]) -> GraderPsnr:
    """Score uint8 videos by the grader's rule: frames 1..600, sequences 0..2 public and the others private.

    A sequence without ground truth is not scored, but counts for which part the others belong to.
    """
    scores = []
    for video, truth in zip(predicted, ground_truth):
        scores.append(torch.empty(0) if truth is None else psnr(graded_frames(video), graded_frames(truth)))
    public, private = scores[:PUBLIC_SEQUENCES], scores[PUBLIC_SEQUENCES:]
    return GraderPsnr(mean_of_frames(scores), mean_of_frames(public), mean_of_frames(private))


def graded_frames(video: np.ndarray) -> Tensor:
    """Return the frames that the grader scores, in [0, 1]."""
    return torch.from_numpy(video[1 : LAST_SCORED + 1]) / 255


def mean_of_frames(scores: list[Tensor]) -> float:
    """Return the mean over the frames of all sequences; nan if there are none."""
    return torch.cat(scores).mean().item() if any(len(score) for score in scores) else math.nan
