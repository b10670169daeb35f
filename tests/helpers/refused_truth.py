"""Faulty files of ground truth, for the table of messages; see refusal_table.py."""

from pathlib import Path

from data.truth_csv import find_ground_truth, read_frames
from tests.helpers.faulty_data import Step, file, steps
from tests.helpers.refusal_table import Case


def rows(*lines: str) -> Step:
    """Write gt.csv and read its frames."""
    return steps(file("gt.csv", "".join(f"{line}\n" for line in lines)), lambda root: read_frames(root / "gt.csv"))


def read_truth(root: Path) -> None:
    """Read the ground truth of a sequence with two frames of 2 x 2 pixels."""
    find_ground_truth(root, root / "gt.csv", {"0": 2}, height=2, width=2)


def frames(count: int, values: int) -> Step:
    """Write gt.csv with a number of frames and read it as that of a sequence."""
    return steps(file("gt.csv", (",".join("7" * values) + "\n") * count), read_truth)


TRUTH = [
    Case("a wrong path", read_truth),
    Case("an empty file", rows()),
    Case("a header alone", rows("id,0,1,2")),
    Case("one number in a row", rows("1", "2")),
    Case("text among the pixels", rows("id,0,1,2", "0,1,x,3")),
    Case("text in some rows after the pixels", rows("1,2,3,x", "2,3,4,5")),
    Case("a value that no pixel has", rows("id,0,1,2", "0,1,256,3")),
    Case("a row that is too short", rows("id,0,1,2", "0,1,2,3", "1,1,2")),
    Case("a header that is too short", rows("id,0,1,2", "0,1,2,3,4")),
    Case("a number of values that is not a multiple of three", rows("id,0,1", "0,1,2")),
    Case("columns in another order", rows("id,0,2,1", "0,1,2,3")),
    Case("an id that is not an integer", rows("id,0,1,2", "a,1,2,3")),
    Case("an id that occurs twice", rows("id,0,1,2", "0,1,2,3", "0,1,2,3")),
    Case("an id that is missing", rows("id,0,1,2", "0,1,2,3", "2,1,2,3")),
    Case("rows in another order", rows("id,0,1,2", "1,4,5,6", "0,1,2,3")),
    Case("a value that was cut off", steps(file("gt.csv", "100,200,210\n100,200,2"), lambda root: read_frames(root / "gt.csv"))),
    Case("too few frames", frames(1, 12)),
    Case("frames of another size", frames(2, 48)),
]
