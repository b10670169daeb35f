"""One person followed over the frames of a video."""

import math

import numpy as np

from poses.skeleton import JOINTS


def size_of(pose: np.ndarray) -> float:
    """The area of the box around the joints that were found, in pixels; 0 without any."""
    found = pose[pose[:, 2] > 0, :2]
    return float(np.prod(np.ptp(found, axis=0) + 1)) if len(found) else 0.0


def follow(
    people: list[np.ndarray], cuts: list[int], *, how: str, confidence: float, fill: int, smoothing: float
) -> np.ndarray:  # fmt: skip
    """One person through a video, (N, J, 3): chosen, gaps filled, smoothed, each scene by itself. `cuts` are the frames that a
    scene begins with."""
    scenes = [people[a:b] for a, b in zip([0, *cuts], [*cuts, len(people)])]
    return np.concatenate([smooth(fill_gaps(choose_person(scene, how=how, confidence=confidence), fill), smoothing)
                           for scene in scenes])  # fmt: skip


def choose_person(people: list[np.ndarray], *, how: str, confidence: float) -> np.ndarray:
    """One person through the video, (N, J, 3), joints below `confidence` left out: the `largest` of each frame, or the
    `nearest` to the one of the frame before, the first being the largest."""
    poses = np.zeros((len(people), len(JOINTS), 3), dtype=np.float32)
    before = None
    for t, candidates in enumerate(people):
        candidates = np.where(candidates[..., 2:] >= max(confidence, 1e-6), candidates, 0)
        candidates = candidates[(candidates[..., 2] > 0).any(axis=1)] if len(candidates) else candidates
        if not len(candidates):
            continue
        distance = [distance_to(before, pose) for pose in candidates] if how == "nearest" and before is not None else []
        best = int(np.argmin(distance)) if distance else int(np.argmax([size_of(pose) for pose in candidates]))
        before = poses[t] = candidates[best]
    return poses


def distance_to(before: np.ndarray, pose: np.ndarray) -> float:
    """Mean distance of the joints that both have, in pixels; of their middles if they share none."""
    both = (before[:, 2] > 0) & (pose[:, 2] > 0)
    if both.any():
        return float(np.linalg.norm(before[both, :2] - pose[both, :2], axis=1).mean())
    return float(np.linalg.norm(before[before[:, 2] > 0, :2].mean(0) - pose[pose[:, 2] > 0, :2].mean(0)))


def fill_gaps(poses: np.ndarray, longest: int) -> np.ndarray:
    """Joints that are missing in up to `longest` frames in a row, on the straight line between the frames around the gap."""
    filled = poses.copy()
    for j in range(poses.shape[1]):
        there = np.flatnonzero(poses[:, j, 2] > 0)
        for a, b in zip(there, there[1:]):
            if 1 < b - a <= longest + 1:
                share = (np.arange(1, b - a) / (b - a))[:, None]
                filled[a + 1 : b, j] = (1 - share) * poses[a, j] + share * poses[b, j]
    return filled


def smooth(poses: np.ndarray, frames: float) -> np.ndarray:
    """Every joint as the mean over its neighbours in time, weighted by a Gaussian of that standard deviation in frames and by
    confidence; what was not found stays so."""
    if not frames:
        return poses
    reach = math.ceil(3 * frames)
    padded = np.pad(poses.astype(float), ((reach, reach), (0, 0), (0, 0)))
    places, total = np.zeros((*poses.shape[:2], 2)), np.zeros((*poses.shape[:2], 1))
    for offset in range(2 * reach + 1):
        neighbour = padded[offset : offset + len(poses)]
        weight = math.exp(-0.5 * ((offset - reach) / frames) ** 2) * neighbour[..., 2:]
        places, total = places + weight * neighbour[..., :2], total + weight
    smoothed, found = poses.copy(), poses[..., 2] > 0
    smoothed[found, :2] = (places / np.maximum(total, 1e-9))[found]
    return smoothed
