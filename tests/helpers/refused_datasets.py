"""Faulty data sets of both tasks, for the table of messages; see refusal_table.py."""

from pathlib import Path

from data.dance import DanceSplit
from data.images import find_dataset
from data.robot import RobotSplit
from tests.helpers.images import write_image
from tests.helpers.refusal_table import Case


def dance_split(root: Path, *, frames: int = 4, split: str = "train") -> Path:
    """Write frames with poses into root/{split}/. Returns that folder."""
    for number in range(frames):
        for kind in ("img", "label"):
            write_image(root / split / f"{split}_{kind}" / f"{number}.png", size=(16, 16), seed=number)
    return root / split


def read_dance(root: Path, **flags) -> DanceSplit:
    """Read train/ of a dance's data set."""
    return DanceSplit.load(root, "train", height=16, width=16, **flags)


def no_pose(root: Path) -> None:
    """A frame has no pose image."""
    (dance_split(root) / "train_label" / "2.png").unlink()
    read_dance(root)


DANCE = [
    Case("a wrong path", lambda root: find_dataset(root / "data", "train")),
    Case("a frame without a pose image", no_pose),
]
ROBOT = [Case("an empty folder", lambda root: RobotSplit.load(root, "train", height=32, width=32, shortest=2))]
