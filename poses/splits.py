"""Which frames of a video are for training, validation and test: never neighbours in two of them."""

from typing import NamedTuple

import numpy as np

from utils import UserError

LEAST = 10  # frames of a video
BETWEEN_VIDEOS = 1000  # numbers left out, so that no clip runs from one into the next
SPLITS = ("train", "val", "test")


class Stretch(NamedTuple):
    """Frames that follow each other in one video, all for the same."""

    split: str
    video: int
    frames: range  # positions in the video
    number: int  # of the first, as it is named in the data set; numbers jump wherever the video does


def plan(lengths: list[int], cuts: list[list[int]], *, val: float, test: float, gap: int, longest: int) -> list[Stretch]:
    """The stretches of videos of so many frames. `cuts` are the frames of each before which another scene begins.

    The shares `val` and `test` come from the end of each video, `gap` frames before either are left out, a test sequence has
    at most `longest` frames. Raises UserError for a video that is too short, and if a split would be empty.
    """
    stretches, offset = [], 0
    for video, (length, breaks) in enumerate(zip(lengths, cuts)):
        if length < LEAST:
            raise UserError(f"video {video + 1}: {length} frames; expected at least {LEAST}, to share out for training and tests")
        between = max(1, min(gap, length // 20))
        sizes = {"val": max(2, round(val * length)), "test": max(2, round(test * length))}
        first_test = length - sizes["test"]
        end_val = first_test - between
        first_val = end_val - sizes["val"]
        whole = {"train": range(first_val - between), "val": range(first_val, end_val), "test": range(first_test, length)}
        if len(whole["train"]) < 2:
            raise UserError(f"video {video + 1}: --val {val} and --test {test} leave too few of {length} frames to train on")
        for split, frames in whole.items():
            for piece in pieces_of(frames, breaks, longest if split == "test" else length):
                # One more for every cut before it, so that the numbers on its two sides are not consecutive.
                number = offset + piece.start + int(np.searchsorted(breaks, piece.start, side="right"))
                stretches.append(Stretch(split, video, piece, number))
        offset += length + len(breaks) + BETWEEN_VIDEOS
    for split in SPLITS:
        if not any(stretch.split == split for stretch in stretches):
            raise UserError(f"{split}: no two frames of one scene are left for it; expected a larger share, a higher --cut, "
                            "or images whose numbers do not jump")  # fmt: skip
    return stretches


def pieces_of(frames: range, breaks: list[int], longest: int) -> list[range]:
    """The frames cut at the breaks, and into pieces of at most `longest`; single frames are left out."""
    edges = [frames.start, *(cut for cut in breaks if frames.start < cut < frames.stop), frames.stop]
    pieces = [range(i, min(i + longest, b)) for a, b in zip(edges, edges[1:]) for i in range(a, b, longest)]
    return [piece for piece in pieces if len(piece) > 1]
