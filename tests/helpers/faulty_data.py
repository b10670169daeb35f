"""Steps that make faulty data in a folder and read them, for the table of messages; see refusal_table.py."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from PIL import Image

from data.dance import DanceSplit
from data.dance_sequences import load_test_sequences
from data.images import find_dataset, numbered_images
from data.robot import RobotSplit
from tests.helpers.images import write_image

Step = Callable[[Path], object]  # of the folder


def steps(*parts: Step) -> Step:
    """Return all steps, one after another."""

    def run(root: Path) -> None:
        for part in parts:
            part(root)

    return run


def folder(name: str) -> Step:
    """Make a folder."""
    return lambda root: (root / name).mkdir(parents=True)


def file(name: str, content: str | bytes = "") -> Step:
    """Write a file, and the folders around it."""

    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def image(name: str, mode: str = "RGB") -> Step:
    """Write an image of any mode."""
    return lambda root: write_image(root / name, size=(16, 16), mode=mode)


def saved(name: str, picture: Image.Image, **options) -> Step:
    """Write an image as PIL does."""

    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / name, **options)

    return write


def images(name: str, *numbers: int) -> Step:
    """Write images 0.png, 1.png, ... with these numbers into a folder."""
    return steps(*(image(f"{name}/{number}.png") for number in numbers))


def removed(name: str) -> Step:
    """Remove a file."""
    return lambda root: (root / name).unlink()


def renamed(name: str, new: str) -> Step:
    """Rename a file or folder."""
    return lambda root: (root / name).rename(root / new)


def failing(owner: object, function: str, reason: str, read: Step) -> Step:
    """Read while a function of the operating system fails; its own words for the reason differ from system to system."""

    def run(root: Path) -> None:
        with patch.object(owner, function, side_effect=OSError(5, reason)):
            read(root)

    return run


def find(name: str, split: str = "train") -> Step:
    """Look for a split with --DR `name`."""
    return lambda root: find_dataset(root / name, split)


def read_images(name: str) -> Step:
    """List the images of a folder, as of a video."""
    return lambda root: numbered_images(root / name)


def dance(split: str = "train", numbers: tuple[int, ...] = (0, 1, 2, 3)) -> Step:
    """Write frames with poses."""
    return steps(*(images(f"{split}/{split}_{part}", *numbers) for part in ("img", "label")))


def load_dance(root: Path, split: str = "train", *, skip_bad: bool | None = False) -> DanceSplit:
    """Load a split of a dance."""
    return DanceSplit.load(root, split, height=16, width=16, skip_bad=skip_bad)


def faulty_dance(*faults: Step) -> Step:
    """Write train/ with these faults and load it."""
    return steps(dance(), *faults, load_dance)


def sequence_of_test(name: str, *parts: str) -> Step:
    """Write a test sequence with a first frame and two poses, and ground truth if `parts` name it."""
    return steps(*(images(f"test/test_{part}/{name}", *range(1 if part == "img" else 2)) for part in parts or ("img", "label")))


def read_test(root: Path) -> object:
    """Load the test sequences of a dance."""
    return load_test_sequences(root, height=16, width=16)


ROWS = "0.10,0.20\n0.11,0.21\n0.12,0.22\n"


def robot(name: str = "train/0", actions: str | bytes = ROWS, numbers: tuple[int, ...] = (0, 1, 2)) -> Step:
    """Write a sequence of a robot."""
    return steps(images(name, *numbers), file(f"{name}/actions.csv", actions))


def load_robot(root: Path, *, shortest: int = 2, skip_bad: bool | None = False) -> RobotSplit:
    """Load train/ of a robot."""
    return RobotSplit.load(root, "train", height=32, width=32, shortest=shortest, skip_bad=skip_bad)


def faulty_robot(*faults: Step) -> Step:
    """Write train/ with these faults and load it."""
    return steps(robot(), *faults, load_robot)


def faulty_actions(actions: str | bytes) -> Step:
    """Write train/ with these actions and load it."""
    return steps(robot(actions=actions), load_robot)
