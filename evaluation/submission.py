"""submission.csv and the truth that graders keep in the same form: one row per frame, C, H, W order, integers 0..255."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data.truth_csv import read_frames
from evaluation.image_metrics import psnr

COURSE_SIZE = (32, 64)  # height and width of the frames that the course's csv files hold
LAST_SCORED = 600  # the course's grader leaves out frame 0 and the frames above this one
PUBLIC_SEQUENCES = 3


class CourseScore(NamedTuple):
    """Mean PSNR over rows, in dB, by the course's rule; nan where no sequence belongs to a part."""

    overall: float
    public: float
    private: float


def write_submission(path: Path, videos: list[np.ndarray]) -> None:
    """Writes uint8 videos (T, 3, H, W), sequence after sequence, then reads the file back and compares.

    Header id,0,1,...; the given first frame is a row as well. Raises OSError if the file does not hold what was written.
    """
    rows = np.concatenate([video.reshape(len(video), -1) for video in videos])
    with open(path, "w", newline="\n") as file:
        file.write(",".join(["id", *map(str, range(rows.shape[1]))]) + "\n")
        file.writelines(f"{i},{','.join(map(str, row))}\n" for i, row in enumerate(rows.tolist()))
    if not np.array_equal(read_frames(path), rows):
        raise OSError(f"{path}: holds other values than were written; is the disk full?")


def course_score(predicted: list[np.ndarray], truth: list[np.ndarray | None]) -> CourseScore:
    """The course's score of uint8 videos: per-row PSNR, frames 1..600, sequences 0..2 public and the others private.

    A sequence whose truth is not known keeps its place and is left out.
    """
    rows = [
        psnr(torch.from_numpy(p[1 : LAST_SCORED + 1]) / 255, torch.from_numpy(t[1 : LAST_SCORED + 1]) / 255)
        if t is not None else torch.empty(0)
        for p, t in zip(predicted, truth)
    ]  # fmt: skip

    def mean(parts: list[torch.Tensor]) -> float:
        return torch.cat(parts).mean().item() if any(len(part) for part in parts) else float("nan")

    return CourseScore(mean(rows), mean(rows[:PUBLIC_SEQUENCES]), mean(rows[PUBLIC_SEQUENCES:]))
