"""Checks of keypoints that do not depend on the format of their file: frame numbers, values and units.

The people of a frame are (P, J, 3): x and y in pixels, and confidence.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import UserError, counted

MAX_DIGITS = 15  # of a frame number in a name
LARGEST_COORDINATE = 1e5  # pixels from the upper left corner; a joint may be outside the frame, but not that far
HIGHEST_CONFIDENCE = 2.0  # 2 is COCO's flag of a visible joint; some detectors exceed 1 a little
FRACTION_SHARE = 0.75  # if so many of the coordinates are from -1 to 1, they are not pixels


class Entry(NamedTuple):
    """The people of one frame, as a file of keypoints has them."""

    name: str | int  # the name with the frame's number, or the number
    place: str  # for messages: a file, an image or a line
    people: np.ndarray  # (P, J, 3)


def people_by_number(entries: Sequence[Entry], path: Path) -> dict[int, np.ndarray]:
    """Return the people (P, J, 3) by frame number. Raises UserError for names without a number, and for a number twice."""
    if all(isinstance(entry.name, int) for entry in entries):
        numbers = [int(entry.name) for entry in entries]
    else:
        numbers = frame_numbers([str(entry.name) for entry in entries], path)
    found: dict[int, Entry] = {}
    for number, entry in zip(numbers, entries):
        if number in found:
            same = f"{found[number].place} and {entry.place} are both frame {number}"
            raise UserError(f"{path}: {same}; {'correct' if isinstance(entry.name, int) else 'rename'} or remove one")
        found[number] = entry
    return {number: entry.people for number, entry in found.items()}


def frame_numbers(names: list[str], path: Path) -> list[int]:
    """Return the number of the frame in each name: of the numbers in the names, the one that varies.

    If several vary, it is the only one that differs in every name. Raises UserError if that does not decide.
    """
    numbers = [re.findall(r"\d+", name) for name in names]
    for name, own in zip(names, numbers):
        if not own:
            raise UserError(f"{path}: expected a frame number in every name, got {name[:40]!r}; rename it")
        if len(own) != len(numbers[0]):
            got = f"{names[0][:40]!r} with {counted(len(numbers[0]), 'number')} and {name[:40]!r} with {len(own)}"
            raise UserError(f"{path}: expected names that differ only in the number of the frame, got {got}; rename them")
    columns = [[digits.lstrip("0") or "0" for digits in column] for column in zip(*numbers)]
    varying = [column for i, column in enumerate(columns) if len(set(column)) > 1 and column not in columns[:i]]
    unique = [column for column in varying if len(set(column)) == len(names)]
    if len(varying) > 1 and len(unique) != 1:
        why = f"{len(unique)} of them differ in every name" if unique else "none of them differs in every name"
        expected = f"{path}: expected one number in the names that counts the frames"
        got = f"got {names[0][:40]!r} and {names[-1][:40]!r}, in which {len(varying)} vary and {why}"
        raise UserError(f"{expected}, {got}; keep only the number of the frame")
    chosen = (unique if len(varying) > 1 else varying or columns[-1:])[0]
    for name, digits in zip(names, chosen):
        if len(digits) > MAX_DIGITS:
            got = f"got {digits[:40]} in {name[:60]!r}; rename it"
            raise UserError(f"{path}: expected a frame number of at most {MAX_DIGITS} digits, {got}")
    return [int(digits) for digits in chosen]


def check_points(points: np.ndarray, place: str) -> np.ndarray:
    """Return points (K, 3) float64 as float32, with zeros for those that were not found.

    Raises UserError, which names `place`, for values that no detector returns.
    """
    if not np.isfinite(points).all():
        got = f"got {points[~np.isfinite(points)][0]}; for a joint that was not found, use 0"
        raise UserError(f"{place}: expected finite numbers, {got}")
    found = np.where(points[:, 2:] > 0, points, 0)
    coordinates, confidences = found[:, :2], found[:, 2]
    if np.abs(coordinates).max(initial=0) > LARGEST_COORDINATE:
        largest = coordinates.flat[np.abs(coordinates).argmax()]
        raise UserError(f"{place}: expected coordinates in pixels, at most {LARGEST_COORDINATE:.0f}, got {largest:g}; correct it")
    if confidences.max(initial=0) > LARGEST_COORDINATE:
        raise UserError(f"{place}: expected confidences from 0 to 1, got {confidences.max():g}; correct it")
    return found.astype(np.float32)


def check_units(found: dict[int, np.ndarray], path: Path) -> None:
    """Raise UserError for coordinates that are not pixels of the frame, and for confidences that are not from 0 to 1.

    One value does not decide: the units are judged by most of the values.
    """
    joints = np.concatenate(list(found.values())).reshape(-1, 3)
    joints = joints[joints[:, 2] > 0]
    sizes = np.abs(joints[:, :2][joints[:, :2] != 0])  # joints that are missing but have a confidence are often at 0, 0
    if not len(joints):
        return
    share = float((sizes <= 1).mean()) if len(sizes) else 1.0
    if share >= FRACTION_SHARE:
        got = "no coordinate above 1" if share == 1 else f"{share:.0%} of the coordinates between -1 and 1"
        way_out = "these are fractions of its size; multiply them by its width and height"
        raise UserError(f"{path}: expected pixels of the video, got {got}: {way_out}")
    if (negative := float((joints[:, :2] < 0).any(axis=1).mean())) > 0.5:
        got = f"got {negative:.0%} of the joints left of or above it; shift them"
        raise UserError(f"{path}: expected pixels from the upper left corner, {got}")
    if joints[:, 2].max() <= HIGHEST_CONFIDENCE:
        return
    if (median := float(np.median(joints[:, 2]))) > HIGHEST_CONFIDENCE:
        got = f"got a median of {median:g}: these are percent or in another unit; scale them"
        raise UserError(f"{path}: expected confidences from 0 to 1, {got}")
    for number, people in found.items():
        if (highest := people[..., 2].max(initial=0)) > HIGHEST_CONFIDENCE:
            raise UserError(f"{path}: expected confidences from 0 to 1, got {highest:g} in frame {number}; correct it")
