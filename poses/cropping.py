"""Which part of the frames is kept, and in which shape: a window around all places where the person is."""

from typing import NamedTuple

import numpy as np

# Width and height to train at, the course's first: both sides can be halved three times.
ASPECTS = {"2:1": (64, 32), "3:2": (48, 32), "1:1": (32, 32), "2:3": (32, 48), "1:2": (32, 64)}
MARGIN = 0.1  # of the person's height, kept free around all joints: a head reaches above its eyes, a shoe below its toes


class Box(NamedTuple):
    """A rectangle in pixels of the video, corners as Pillow has them."""

    left: float
    top: float
    right: float
    bottom: float

    def needs(self, aspect: str) -> float:
        """Width of the smallest window of that aspect that shows all of it."""
        return max(self.right - self.left, (self.bottom - self.top) * ratio(aspect))


class View(NamedTuple):
    """What must be seen of a video: a box, None where nobody is in it, in frames of height x width pixels."""

    box: Box | None
    height: int
    width: int

    def widest(self, aspect: str) -> float:
        """Width of the largest window of that aspect."""
        return min(self.width, self.height * ratio(aspect))


def ratio(aspect: str) -> float:
    """Width by height."""
    width, height = ASPECTS[aspect]
    return width / height


def person_view(poses: np.ndarray, height: int, width: int) -> View:
    """Where the person is over all frames, with a margin, as far as it lies in the frame; poses (N, J, 3)."""
    found = poses[poses[..., 2] > 0]
    if not len(found):
        return View(None, height, width)
    # A thousandth of the joints may lie outside, as detectors err now and then.
    (left, top), (right, bottom) = np.quantile(found[:, :2], [0.001, 0.999], axis=0).tolist()
    margin = MARGIN * float(np.median([np.ptp(pose[pose[:, 2] > 0, 1]) for pose in poses if pose[:, 2].any()]))
    box = Box(max(0, left - margin), max(0, top - margin), min(width, right + margin), min(height, bottom + margin))
    return View(box, height, width)


def union(views: list[View]) -> View:
    """What must be seen of videos with frames of one size, to show all their persons in one window."""
    boxes = [view.box for view in views if view.box]
    if not boxes:
        return views[0]
    left, top, right, bottom = zip(*boxes)
    return views[0]._replace(box=Box(min(left), min(top), max(right), max(bottom)))


def choose_aspect(views: list[View]) -> str:
    """The first of ASPECTS in which every video can show its person whole; if none can, the one that shows most of the frames."""
    for aspect in ASPECTS:
        if all(view.box is None or view.box.needs(aspect) <= view.widest(aspect) + 1 for view in views):
            return aspect

    def shown(aspect: str) -> float:
        return sum(view.widest(aspect) ** 2 / ratio(aspect) / (view.width * view.height) for view in views)

    return max(ASPECTS, key=shown)


def choose_window(view: View, aspect: str) -> Box:
    """The smallest window of that aspect that shows the person whole, moved into the frame; the largest where there is nobody,
    or no room."""
    box = view.box or Box(0, 0, view.width, view.height)
    width = min(box.needs(aspect) if view.box else view.width, view.widest(aspect))
    height = width / ratio(aspect)
    left = min(max(0.0, (box.left + box.right - width) / 2), view.width - width)
    top = min(max(0.0, (box.top + box.bottom - height) / 2), view.height - height)
    return Box(left, top, left + width, top + height)


def moved_into(poses: np.ndarray, window: Box, *, height: int, width: int) -> np.ndarray:
    """Poses (..., J, 3) in pixels of the video -> in pixels of the window, drawn height x width large."""
    scale = [width / (window.right - window.left), height / (window.bottom - window.top), 1]
    return (poses - np.array([window.left, window.top, 0], dtype=np.float32)) * np.array(scale, dtype=np.float32)
