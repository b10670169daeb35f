"""The numbered images of a folder, and the contiguous segments that their numbers form."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.issues import FrameIssues
from utils import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
HIGHEST_NUMBER = 2**62  # of a frame; sums and differences of frame numbers must fit into 64 bits


def find_dataset(root: Path, split: str) -> Path:
    """Return the folder that contains `split`/: `root` or one folder inside it (LAB4_Dataset/LAB4_Dataset). Raises UserError."""
    if not root.is_dir():
        raise UserError(f"--DR {root}: no such folder; expected a data set with a folder {split}/")
    for folder in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
        if (folder / split).is_dir():
            return folder
    found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "an empty folder"
    above = root.resolve().parent
    hint = f"; did you mean --DR {above}?" if (above / split).is_dir() else ""
    raise UserError(f"--DR {root}: no folder {split}/; expected it there or one level below, got {found}{hint}")


class ImageScan(NamedTuple):
    """The images of a folder."""

    images: dict[int, Path]  # by frame number, in numeric order
    issues: FrameIssues  # of the images that are not in `images`


def scan_images(folder: Path) -> ImageScan:
    """List the images of a folder by the last number in their names, in numeric order: frame9.png before frame12.png.

    Images without a number, with too large a number, or with the same number are issues. Raises UserError for a missing folder or
    one without images.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected images named like frame000001.png")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not paths:
        raise UserError(f"{folder}: holds no images; expected files named like frame000001.png")
    issues = FrameIssues()
    images: dict[int, Path] = {}
    for path in paths:
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            issues.add_file(path.name, f"{path}: no frame number in the name; expected one like frame000001.png")
        elif (number := int(digits[-1])) > HIGHEST_NUMBER:
            issues.add_file(path.name, f"{path}: expected a frame number of at most {HIGHEST_NUMBER}, got {digits[-1][:30]}")
        elif number in images:
            same = f"{images[number].name} and {path.name} are both frame {number}"
            issues.add(number, f"{folder}: {same}; expected each number once")
        else:
            images[number] = path
    # If several images have the same number, none of them is known to be the right one.
    return ImageScan({number: images[number] for number in sorted(images) if number not in issues.by_number}, issues)


def numbered_images(folder: Path) -> dict[int, Path]:
    """Return the images of a folder as scan_images() does. Raises UserError if there is any issue."""
    images, issues = scan_images(folder)
    if issues:
        raise UserError(f"{folder}: {len(issues)} frame numbers missing or not unique; rename the images:", issues.messages())
    return images


def contiguous_segments(numbers: np.ndarray, usable: np.ndarray) -> list[range]:
    """Return the `usable` positions as ranges over which the frame numbers are consecutive, one per contiguous segment."""
    breaks = np.flatnonzero(np.diff(numbers[usable]) != 1) + 1
    segments = [segment.tolist() for segment in np.split(usable, breaks)]
    return [range(segment[0], segment[-1] + 1) for segment in segments if segment]
