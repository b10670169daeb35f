"""One person tracked through a video (N frames, P people, J joints)."""

import math

import numpy as np

from poses.skeleton import JOINTS


def box_area(pose: np.ndarray) -> float:
    """Return the area of the box around the joints that were found, in square pixels; 0 if there are none."""
    found = pose[pose[:, 2] > 0, :2]
    return float(np.prod(np.ptp(found, axis=0) + 1)) if len(found) else 0.0


def track_person(
    people: list[np.ndarray], cuts: list[int], *, how: str, confidence: float, fill: int, smoothing: float
) -> np.ndarray:
    """Return the poses (N, J, 3) of one person in a video, chosen among the people (P, J, 3) of each frame.

    Gaps are filled and the poses are smoothed in each scene separately. `cuts` are the frames at which a new scene begins.
    """
    scenes = []
    for start, end in zip([0, *cuts], [*cuts, len(people)]):
        poses = choose_person(people[start:end], how=how, confidence=confidence)
        scenes.append(smooth(fill_gaps(poses, fill), smoothing))
    return np.concatenate(scenes)


def choose_person(people: list[np.ndarray], *, how: str, confidence: float) -> np.ndarray:
    """Return the poses (N, J, 3) of one person in each frame.

    If `how` is "largest", it is the largest person. If it is "nearest", it is the one nearest to the person in the latest frame
    with one, and the largest in the first frame. Joints with a lower confidence than `confidence` count as not found.
    """
    poses = np.zeros((len(people), len(JOINTS), 3), dtype=np.float32)
    previous = None
    for t, candidates in enumerate(people):
        candidates = np.where(candidates[..., 2:] >= max(confidence, 1e-6), candidates, 0)
        candidates = candidates[(candidates[..., 2] > 0).any(axis=1)] if len(candidates) else candidates
        if not len(candidates):
            continue
        if how == "nearest" and previous is not None:
            best = np.argmin([mean_distance(previous, pose) for pose in candidates])
        else:
            best = np.argmax([box_area(pose) for pose in candidates])
        previous = poses[t] = candidates[best]
    return poses


def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean distance in pixels between the joints that both poses have, or between their centers if they share none."""
    both = (a[:, 2] > 0) & (b[:, 2] > 0)
    if both.any():
        return float(np.linalg.norm(a[both, :2] - b[both, :2], axis=1).mean())
    return float(np.linalg.norm(a[a[:, 2] > 0, :2].mean(0) - b[b[:, 2] > 0, :2].mean(0)))


def fill_gaps(poses: np.ndarray, longest: int) -> np.ndarray:
    """Return the poses with linearly interpolated joints where these are missing in up to `longest` consecutive frames."""
    filled = poses.copy()
    for j in range(poses.shape[1]):
        present = np.flatnonzero(poses[:, j, 2] > 0)
        for a, b in zip(present, present[1:]):
            if 1 < b - a <= longest + 1:
                share = (np.arange(1, b - a) / (b - a))[:, None]
                filled[a + 1 : b, j] = (1 - share) * poses[a, j] + share * poses[b, j]
    return filled


def smooth(poses: np.ndarray, deviation: float) -> np.ndarray:
    """Return the poses smoothed over time: every joint becomes the weighted mean of itself in neighboring frames.

    The weights are confidence times a Gaussian with the standard deviation `deviation` in frames; 0 changes nothing. Joints that
    were not found stay so.
    """
    if not deviation:
        return poses
    reach = math.ceil(3 * deviation)
    padded = np.pad(poses.astype(float), ((reach, reach), (0, 0), (0, 0)))
    weighted_sum, total = np.zeros((*poses.shape[:2], 2)), np.zeros((*poses.shape[:2], 1))
    for offset in range(2 * reach + 1):
        neighbor = padded[offset : offset + len(poses)]
        weight = math.exp(-0.5 * ((offset - reach) / deviation) ** 2) * neighbor[..., 2:]
        weighted_sum, total = weighted_sum + weight * neighbor[..., :2], total + weight
    smoothed, found = poses.copy(), poses[..., 2] > 0
    smoothed[found, :2] = (weighted_sum / np.maximum(total, 1e-9))[found]
    return smoothed
