"""Numbered images of a folder, and errors found among them."""

import re
from pathlib import Path

import numpy as np

from utils import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
HIGHEST_NUMBER = 2**62  # of a frame; what is computed with them must fit into 64 bits
Faults = dict[int | str, list[str]]  # what is wrong with a frame, by its number; by the name of a file that has none


def find_dataset(root: Path, split: str) -> Path:
    """The folder that holds `split`/, which is `root` or one folder inside it (LAB4_Dataset/LAB4_Dataset). Raises UserError."""
    if not root.is_dir():
        raise UserError(f"--DR {root}: no such folder; expected a data set with a folder {split}/")
    for folder in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
        if (folder / split).is_dir():
            return folder
    found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
    raise UserError(f"--DR {root}: no folder {split}/ in it nor one level below; found {found}")


def numbered_images(folder: Path, faults: Faults | None = None) -> dict[int, Path]:
    """The images of a folder by the last number in their names, in numeric order: frame9.png stands before frame12.png.

    A name without a number, or with too large a one, and a number that occurs twice are left out and added to `faults`;
    without it they raise UserError. A missing or empty folder always does.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected images named like frame000001.png")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not paths:
        raise UserError(f"{folder}: holds no images; expected files named like frame000001.png")
    found: Faults = {}
    images: dict[int, Path] = {}
    for path in paths:
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            found[path.name] = [f"{path}: no frame number in the name; expected one like frame000001.png"]
        elif (number := int(digits[-1])) > HIGHEST_NUMBER:
            found[path.name] = [f"{path}: frame number {digits[-1][:30]}; expected at most {HIGHEST_NUMBER}"]
        elif number in images:
            twice = f"{images[number].name} and {path.name} are both frame {number}; expected each number once"
            found.setdefault(number, []).append(f"{folder}: {twice}")
        else:
            images[number] = path
    if found and faults is None:
        raise UserError(f"{folder}: {len(found)} of {len(paths)} images have no number of their own:", problems_of(found))
    for key, problems in found.items():
        images.pop(key, None)  # of two with one number, none can be told to be the right one
        faults.setdefault(key, []).extend(problems)
    return dict(sorted(images.items()))


def problems_of(faults: Faults) -> list[str]:
    """All problems of all frames."""
    return [problem for problems in faults.values() for problem in problems]


def unbroken(numbers: np.ndarray, usable: np.ndarray) -> list[range]:
    """Which of the positions `usable` hold consecutive numbers, one range per unbroken piece of video."""
    breaks = np.flatnonzero(np.diff(numbers[usable]) != 1) + 1
    return [range(piece[0], piece[-1] + 1) for piece in map(np.ndarray.tolist, np.split(usable, breaks)) if piece]
