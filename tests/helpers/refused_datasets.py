"""Faulty data sets of both tasks, for the table of messages; see refusal_table.py."""

import argparse
from pathlib import Path

from data.dance import load_validation_sequences
from dataloader import dance_sequences
from tests.helpers.dance import clips_of
from tests.helpers.faulty_data import (
    ROWS,
    dance,
    failing,
    faulty_actions,
    faulty_dance,
    faulty_robot,
    file,
    find,
    folder,
    image,
    images,
    load_dance,
    load_robot,
    read_test,
    removed,
    renamed,
    robot,
    sequence_of_test,
    steps,
)  # fmt: skip
from tests.helpers.refusal_table import Case


def score_test(root: Path) -> None:
    """Load the test sequences with their ground truth."""
    dance_sequences(argparse.Namespace(DR=root, frame_H=16, frame_W=16, cache_dir=None, gt=None), "test")


WHERE = [
    Case("a wrong path", find("data")),
    Case("an empty folder", steps(folder("data"), find("data"))),
    Case("a folder of other things", steps(folder("data/holiday"), file("data/notes.txt"), find("data"))),
    Case("a folder inside the data set", steps(folder("data/train/train_img"), find("data/train"))),
    Case("capital letters", steps(folder("data/Train"), find("data"))),
    Case("capital letters, one folder deeper", steps(folder("data/LAB4/Train"), find("data"))),
    Case("no validation data", steps(folder("data/LAB4/train"), find("data", "val"))),
    Case("two data sets", steps(folder("data/a/train"), folder("data/b/train"), folder("data/b/val"), find("data"))),
    Case("two data sets, both without test data", steps(folder("data/a/train"), folder("data/b/train"), find("data", "test"))),
    Case(
        "the robot's name of validation data", steps(folder("data/train/train_img"), folder("data/validate"), find("data", "val"))
    ),
    Case("the dance's name of validation data", steps(folder("data/train/0"), folder("data/val"), find("data", "validate"))),
    Case("validation data of a robot for a dance", steps(folder("data/validate"), find("data", "val"))),
    Case("validation data of a dance for a robot", steps(folder("data/val/val_img"), find("data", "validate"))),
    Case("training data of a robot for a dance", steps(robot(), load_dance)),
    Case("training data of a dance for a robot", steps(dance(), load_robot)),
]
DANCE = [
    Case("no poses", steps(images("train/train_img", 0, 1), load_dance)),
    Case("capital letters", faulty_dance(renamed("train/train_label", "train/Train_Label"))),
    Case("an empty folder", steps(folder("train/train_img"), load_dance)),
    Case("a frame without a pose image", faulty_dance(removed("train/train_label/2.png"))),
    Case("a pose image without a frame", faulty_dance(removed("train/train_img/2.png"))),
    Case(
        "a fault, with `--skip_bad`",
        steps(dance(), removed("train/train_img/3.png"), lambda root: load_dance(root, skip_bad=True).report_skipped(2)),
    ),
    Case(
        "a fault in validation data, with `--skip_bad`",
        steps(dance("val"), removed("val/val_img/3.png"), lambda root: load_dance(root, "val", skip_bad=True).report_skipped()),
    ),
    Case(
        "only faults, with `--skip_bad`",
        steps(dance(numbers=(0,)), file("train/train_img/0.png"), lambda root: load_dance(root, skip_bad=True)),
    ),
    Case("too few frames for a clip", steps(dance(), lambda root: clips_of(load_dance(root)))),
    Case("too few frames for a clip, with `--partial`", steps(dance(), lambda root: clips_of(load_dance(root), partial=0.5))),
    Case(
        "validation frames that are not consecutive",
        steps(dance("val", (0, 2, 4)), lambda root: load_validation_sequences(load_dance(root, "val"), length=3)),
    ),
    Case("files that are not read", faulty_dance(file("train/train_img/preview.gif"), file("train/train_label/0.png~"))),
    Case("no first frames", steps(images("test/test_label/0", 0, 1), read_test)),
    Case(
        "first frames and poses, but no numbered folders",
        steps(image("test/test_img/0.png"), folder("test/test_label"), read_test),
    ),
    Case("a sequence without poses", steps(sequence_of_test("0"), sequence_of_test("1", "img", "gt"), read_test)),
    Case("a sequence with a name", steps(sequence_of_test("0"), sequence_of_test("dance"), read_test)),
    Case("two sequences with the same number", steps(sequence_of_test("1"), sequence_of_test("01"), read_test)),
    Case("a sequence with nothing to predict", steps(sequence_of_test("0"), removed("test/test_label/0/1.png"), read_test)),
    Case("ground truth without a pose image", steps(sequence_of_test("0"), images("test/test_gt/0", 0, 1, 2), read_test)),
    Case("poses without ground truth", steps(sequence_of_test("0"), images("test/test_gt/0", 0), read_test)),
    Case("a gap in a sequence", steps(sequence_of_test("0"), images("test/test_label/0", 2, 4), read_test)),
    Case("an image outside of the sequences", steps(sequence_of_test("0"), image("test/test_label/7.png"), read_test)),
    Case(
        "ground truth of some sequences",
        steps(sequence_of_test("0", "img", "label", "gt"), sequence_of_test("1"), sequence_of_test("2"), score_test),
    ),
]
ROBOT = [
    Case("no sequences", steps(file("train/notes.txt"), load_robot)),
    Case("a sequence without images", steps(file("train/0/actions.csv", ROWS), load_robot)),
    Case("no actions", faulty_robot(removed("train/0/actions.csv"))),
    Case("capital letters", faulty_robot(renamed("train/0/actions.csv", "train/0/Actions.csv"))),
    Case("a missing frame", steps(robot(numbers=(0, 1, 3)), load_robot)),
    Case("too few rows", faulty_actions("1,2\n1,3\n")),
    Case("text", faulty_actions("1,2\nup,3\n1,2\n")),
    Case("a value that is not finite", faulty_actions("1,2\nnan,3\n1,2\n")),
    Case("a row that is too long", faulty_actions("1,2\n1,2,3\n1,2\n")),
    Case("a row that was cut off", faulty_actions("1,2\n1,2\n1")),
    Case("a value that was cut off", faulty_actions(ROWS[:-2])),
    Case("values that were cut off", steps(robot(actions=ROWS[:-2]), robot("train/1", actions=ROWS[:-2]), load_robot)),
    Case("semicolons", faulty_actions(ROWS.replace(",", ";"))),
    Case("text that is not UTF-8", faulty_actions(b"\xff\xfe")),
    Case("a file that cannot be read", failing(Path, "read_text", "Permission denied", faulty_robot())),
    Case("sequences with unequal columns", faulty_robot(robot("train/1"), robot("train/2", actions="1\n2\n3\n"))),
    Case("an index column", faulty_actions("0,1\n1,2\n2,3\n")),
    Case("short sequences", steps(robot(), robot("train/1", "1,2\n", numbers=(0,)), load_robot)),
    Case("only short sequences", steps(robot(), lambda root: load_robot(root, shortest=12))),
    Case("files and folders that are not read", faulty_robot(file("train/0/preview.gif"), folder("train/1"))),
]
