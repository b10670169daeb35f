"""Pose images made by another program, one for each frame taken from a video (H x W their size)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data.entries import own_entries
from data.image_files import read_upright
from data.images import SUFFIXES, numbered_images
from poses.cropping import Box, View
from utils import UserError, counted

NOISE = 8  # levels of 255; pixels of a JPEG's background differ by up to that much
SHAPE_TOLERANCE = 0.03  # relative difference of width / height that rounding a small size causes


class PoseImages(NamedTuple):
    """The pose images in a folder."""

    folder: Path
    images: dict[int, Path]  # by the number in the name, ascending
    scale: tuple[float, float] = (1.0, 1.0)  # width and height relative to the frames'; set by matched_to()

    @classmethod
    def load(cls, folder: Path) -> PoseImages:
        """Return the pose images in a folder. Raises UserError for images without a number or with the same number."""
        return cls(folder, numbered_images(folder))

    @property
    def paths(self) -> list[Path]:
        """The images in the order of their numbers."""
        return list(self.images.values())

    def first(self, count: int) -> PoseImages:
        """Return the first `count` of these images."""
        return self._replace(images=dict(list(self.images.items())[:count]))

    def matched_to(self, numbers: Sequence[int], *, height: int, width: int) -> PoseImages:
        """Return these images with their scale relative to frames of height x width pixels with these `numbers`.

        Raises UserError unless there is one image per frame, in the frames' shape, with gaps at the same places in the numbers.
        """
        if len(self.images) != len(numbers):
            expected = f"expected {counted(len(numbers), 'pose image')}, one for each frame taken"
            raise UserError(f"{self.folder}: {expected}, got {len(self.images)}; add or remove images")
        if number_steps(list(self.images)).tolist() != number_steps(numbers).tolist():
            got = "got gaps in other places of their numbers; number them like the frames"
            raise UserError(f"{self.folder}: expected a pose image for each frame, {got}")
        paths = tqdm(self.paths, desc=f"checking {self.folder.name}", unit="image", leave=False, disable=None)
        sizes = sorted({read_upright(path).shape[1::-1] for path in paths})
        own_width, own_height = sizes[0]
        if len(sizes) > 1 or abs(own_width / own_height / (width / height) - 1) > SHAPE_TOLERANCE:
            got = ", ".join(f"{w} x {h}" for w, h in sizes[:3])
            expected = f"expected pose images of one size, in the shape of {width} x {height}"
            raise UserError(f"{self.folder}: {expected}, got {got} pixels; resize or crop them like the frames")
        return self._replace(scale=(own_width / width, own_height / height))

    def drawings(self) -> Iterator[np.ndarray]:
        """Yield the drawn pixels (H, W) bool of each image: those whose color differs from the corner of the first image."""
        background = read_upright(self.paths[0])[0, 0].astype(int)
        for path in tqdm(self.paths, desc=f"reading {self.folder.name}", unit="image", leave=False, disable=None):
            yield (np.abs(read_upright(path) - background) > NOISE).any(axis=-1)

    def count_blank(self) -> int:
        """Return the number of images in which nothing is drawn."""
        return sum(not drawing.any() for drawing in self.drawings())

    def view(self, height: int, width: int) -> View:
        """Return the box around all drawings, in pixels of the frames, whose size is height x width."""
        drawn = functools.reduce(np.logical_or, self.drawings())
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        if not len(rows):
            return View(None, height, width)
        x_scale, y_scale = self.scale
        box = Box(columns[0] / x_scale, rows[0] / y_scale, (columns[-1] + 1) / x_scale, (rows[-1] + 1) / y_scale)
        return View(box, height, width)


def holds_pose_images(path: Path) -> bool:
    """Return whether `path` is a folder of pose images.

    A folder that also contains JSON files is not: if OpenPose writes both into one folder, its images are the frames with the
    skeletons drawn over them. A model conditioned on these would see the frames that it predicts.
    """
    suffixes = {file.suffix.lower() for file in own_entries(path).files} if path.is_dir() else set()
    return bool(suffixes & SUFFIXES) and ".json" not in suffixes


def number_steps(numbers: Sequence[int]) -> np.ndarray:
    """Return the difference between each number and the next, relative to the most frequent difference."""
    differences = np.diff(numbers)
    values, counts = np.unique(differences, return_counts=True)
    return differences / values[np.argmax(counts)] if len(values) else differences
