"""The division of videos into training, validation and test. Neighboring frames are never in two of these splits."""

from typing import NamedTuple

import numpy as np

from utils import UserError, counted

MIN_FRAMES = 10  # of a video
NUMBERS_BETWEEN_VIDEOS = 1000  # frame numbers skipped, so that no clip runs from one video into the next
SPLITS = ("train", "val", "test")


class Segment(NamedTuple):
    """Consecutive frames of one scene of one video, all in the same split."""

    split: str
    video: int
    frames: range  # positions in the video
    number: int  # of the first frame's file in the data set; there is a gap between the numbers of two scenes


def plan_splits(
    names: list[str], lengths: list[int], cuts: list[list[int]], *, val: float, test: float, gap: int, longest: int
) -> list[Segment]:
    """Return the segments of videos with these lengths. `cuts` are the frames of each video at which a new scene begins.

    The shares `val` and `test` are taken from the end of each video. Before each of them, `gap` frames are skipped. A test
    segment has at most `longest` frames. Raises UserError for a video that is too short, and if a split would be empty.
    """
    segments: list[Segment] = []
    number_offset = 0
    for video, (name, length, own_cuts) in enumerate(zip(names, lengths, cuts)):
        for split, frames in share_out(name, length, val=val, test=test, gap=gap).items():
            for part in contiguous_parts(frames, own_cuts, longest if split == "test" else length):
                # Every cut skips one number, so the numbers before and after it are not consecutive.
                number = number_offset + part.start + int(np.searchsorted(own_cuts, part.start, side="right"))
                segments.append(Segment(split, video, part, number))
        number_offset += length + len(own_cuts) + NUMBERS_BETWEEN_VIDEOS
    for split in SPLITS:
        if not any(segment.split == split for segment in segments):
            share = "a smaller --val or --test" if split == "train" else f"a larger --{split}"
            way_out = f"choose {share}, a higher --cut, or images with consecutive numbers"
            raise UserError(f"{split}: no two frames of one scene are left for it; {way_out}")
    return segments


def share_out(name: str, length: int, *, val: float, test: float, gap: int) -> dict[str, range]:
    """Return the frames of a video by split. Raises UserError if it is too short."""
    if length < MIN_FRAMES:
        expected = f"expected at least {MIN_FRAMES} frames for training and tests"
        raise UserError(f"{name}: {expected}, got {length}; choose a longer video, or a smaller --every")
    gap = max(1, min(gap, length // 20))
    first_test = length - max(2, round(test * length))
    end_val = first_test - gap
    first_val = end_val - max(2, round(val * length))
    end_train = first_val - gap
    if end_train < 2:
        too_few = f"leave too few of {counted(length, 'frame')} for training"
        raise UserError(f"{name}: --val {val} and --test {test} {too_few}; choose smaller ones")
    return {"train": range(end_train), "val": range(first_val, end_val), "test": range(first_test, length)}


def contiguous_parts(frames: range, cuts: list[int], longest: int) -> list[range]:
    """Return the frames, divided at the cuts and into parts of at most `longest` frames, without parts of a single frame."""
    edges = [frames.start, *(cut for cut in cuts if frames.start < cut < frames.stop), frames.stop]
    parts = []
    for scene_start, scene_end in zip(edges, edges[1:]):
        for start in range(scene_start, scene_end, longest):
            parts.append(range(start, min(start + longest, scene_end)))
    return [part for part in parts if len(part) > 1]
