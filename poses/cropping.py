"""The part of the frames that a data set shows: a window around all positions of the person (N frames, J joints)."""

from typing import NamedTuple

import numpy as np

from utils import UserError

# Width and height to train at. The course's come first. Both sides can be halved three times.
ASPECTS = {"2:1": (64, 32), "3:2": (48, 32), "1:1": (32, 32), "2:3": (32, 48), "1:2": (32, 64)}
MIN_SIDE = 8  # pixels of the video; a smaller window shows nothing
MARGIN = 0.1  # of the person's height, added around all joints: the head is higher than the eyes, a shoe lower than the toes


class Box(NamedTuple):
    """A rectangle in pixels of the video, with its corners as in Pillow."""

    left: float
    top: float
    right: float
    bottom: float

    def window_width(self, aspect: str) -> float:
        """Return the width of the smallest window of this aspect that contains the box."""
        return max(self.right - self.left, (self.bottom - self.top) * aspect_ratio(aspect))


class View(NamedTuple):
    """The box that a window must show, None if nobody was found, and the size of the frames in pixels."""

    box: Box | None
    height: int
    width: int

    def max_window_width(self, aspect: str) -> float:
        """Return the width of the largest window of this aspect that fits into the frames."""
        return min(self.width, self.height * aspect_ratio(aspect))


def aspect_ratio(aspect: str) -> float:
    """Return width / height of a key of ASPECTS."""
    width, height = ASPECTS[aspect]
    return width / height


def person_view(poses: np.ndarray, height: int, width: int) -> View:
    """Return the box around all joints of `poses` (N, J, 3) with a margin, clipped to the frames."""
    found = poses[poses[..., 2] > 0]
    if not len(found):
        return View(None, height, width)
    # Detectors make errors: one joint in a thousand on each side may be outside the box.
    (left, top), (right, bottom) = np.quantile(found[:, :2], [0.001, 0.999], axis=0).tolist()
    margin = MARGIN * float(np.median([np.ptp(pose[pose[:, 2] > 0, 1]) for pose in poses if pose[:, 2].any()]))
    box = Box(max(0, left - margin), max(0, top - margin), min(width, right + margin), min(height, bottom + margin))
    return View(box, height, width)


def merge_views(views: list[View]) -> View:
    """Return one view that shows the people of all videos. Their frames must have the same size."""
    boxes = [view.box for view in views if view.box]
    if not boxes:
        return views[0]
    left, top, right, bottom = zip(*boxes)
    return views[0]._replace(box=Box(min(left), min(top), max(right), max(bottom)))


def choose_aspect(views: list[View]) -> str:
    """Return the first of ASPECTS in which every video can show its person whole.

    If there is none, return the aspect that shows the largest part of the frames.
    """
    for aspect in ASPECTS:
        if all(view.box is None or view.box.window_width(aspect) <= view.max_window_width(aspect) + 1 for view in views):
            return aspect

    def visible_area(aspect: str) -> float:
        return sum(view.max_window_width(aspect) ** 2 / aspect_ratio(aspect) / (view.width * view.height) for view in views)

    return max(ASPECTS, key=visible_area)


def choose_window(view: View, aspect: str) -> Box:
    """Return the smallest window of this aspect that shows the person whole, moved into the frame.

    If nobody was found, or the person does not fit, return the largest window.
    """
    box = view.box or Box(0, 0, view.width, view.height)
    width = min(box.window_width(aspect) if view.box else view.width, view.max_window_width(aspect))
    height = width / aspect_ratio(aspect)
    left = min(max(0.0, (box.left + box.right - width) / 2), view.width - width)
    top = min(max(0.0, (box.top + box.bottom - height) / 2), view.height - height)
    return Box(left, top, left + width, top + height)


def check_window(window: Box, where: str) -> None:
    """Raise UserError, which names `where`, for a window that is too small, as when all joints are at one point."""
    width, height = window.right - window.left, window.bottom - window.top
    if min(width, height) < MIN_SIDE - 0.01:  # rounding
        got = f"got {width:.3g} x {height:.3g}; check the poses, --crop and --aspect"
        raise UserError(f"{where}: expected a window of at least {MIN_SIDE} x {MIN_SIDE} pixels, {got}")


def to_window(poses: np.ndarray, window: Box, *, height: int, width: int) -> np.ndarray:
    """Convert poses (..., J, 3) from pixels of the video to pixels of an image of the window, of height x width pixels."""
    scale = [width / (window.right - window.left), height / (window.bottom - window.top), 1]
    return (poses - np.array([window.left, window.top, 0], dtype=np.float32)) * np.array(scale, dtype=np.float32)
