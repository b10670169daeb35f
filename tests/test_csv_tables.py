"""Every csv file is read by the same rules: the robot's conditions, ground truth and keypoints."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from data.conditions import read_values
from data.csv_tables import cut_notice, whole_number
from data.robot import RobotSplit
from data.truth_csv import read_frames
from poses.keypoint_files import read_people
from poses.skeleton import JOINT_INDEX
from tests.helpers.fuzzing import outcome
from tests.helpers.images import write_image
from utils import UserError, print_notice


class Format(NamedTuple):
    """A kind of table with three rows: its lines, a function that reads it, and the values that it must return."""

    lines: list[str]
    read: Callable[[Path], np.ndarray]
    values: list


def read_robot(path: Path) -> np.ndarray:
    """Return the conditions of three frames. Raises UserError for the first problem."""
    values, problems, cut = read_values(path, [0, 1, 2])
    if values is None:
        raise UserError(problems[0])
    if cut:
        print_notice(cut_notice(cut, path))
    return values


def read_noses(path: Path) -> np.ndarray:
    """Return x and y of the nose in each frame of a file of keypoints."""
    return np.stack([people[0, JOINT_INDEX["nose"], :2] for people in read_people(path)])


FORMATS = {
    "robot": Format(["10.25,21.5,30", "11.25,22.5,31", "12.25,23.5,32"], read_robot, [[10.25, 21.5, 30], [11.25, 22.5, 31], [12.25, 23.5, 32]]),
    "truth": Format(["id,0,1,2", "0,10,21,30", "1,11,22,31", "2,12,23,32"], read_frames, [[10, 21, 30], [11, 22, 31], [12, 23, 32]]),
    "keypoints": Format(["frame,nose_x,nose_y", "0,10.25,21.5", "1,11.25,22.5", "2,12.25,23.5"], read_noses, [[10.25, 21.5], [11.25, 22.5], [12.25, 23.5]]),
}  # fmt: skip


@pytest.fixture(params=FORMATS)
def table(request, tmp_path):
    """Return each format with the path of its file."""
    return FORMATS[request.param], tmp_path / "table.csv"


@pytest.mark.parametrize("change", [
    lambda text: text,
    lambda text: text.replace(",", ", "),
    lambda text: text.replace(",", " ,\t"),
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("\n", "\r"),
    lambda text: text.replace("\n", "\n \n"),
    lambda text: text.removesuffix("\n"),
    lambda text: "\ufeff" + text,
    lambda text: "\n".join(",".join(f'"{field}"' for field in line.split(",")) for line in text.split()),
], ids=["plain", "blanks", "tabs around", "crlf", "cr", "blank lines", "open end", "byte order mark", "quotes"])  # fmt: skip
def test_the_same_values_are_read_in_every_notation(table, change, capsys):
    form, path = table
    path.write_bytes(change("\n".join(form.lines) + "\n").encode())
    assert form.read(path).tolist() == form.values
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "character, name", [(";", "semicolons"), ("\t", "tabs"), (" ", "blanks"), ("|", "vertical bars"), (" ; ", "semicolons")]
)
def test_another_separator_is_named(table, character, name):
    """The robot's reader once listed every row, and that of keypoints printed the whole header."""
    form, path = table
    path.write_text("\n".join(form.lines).replace(",", character).replace(".", ","))
    with pytest.raises(UserError) as raised:
        form.read(path)
    expected = f"{path}: line 1: expected commas between the values, got {name}; save the table with commas, and with points in its decimals"
    assert str(raised.value) == expected


def test_text_that_is_not_utf_8_and_folders_are_refused(table):
    form, path = table
    path.write_bytes("\n".join(form.lines).encode("utf-16"))
    assert f"{path}: expected comma-separated values, got text that is not UTF-8" in str(outcome(lambda: form.read(path)))
    path.unlink()
    path.mkdir()
    if form.read is not read_noses:  # a folder may hold keypoints of OpenPose
        assert str(outcome(lambda: form.read(path))).startswith(str(path))


@pytest.mark.parametrize(
    "change, got", [(lambda line: line.rpartition(",")[0], -1), (lambda line: line + ",7", 1), (lambda line: line + ",", 1)]
)
def test_a_row_of_another_length_is_refused_with_its_line(table, change, got):
    """A short row of keypoints once lost its last joints, a long one its last values."""
    form, path = table
    lines = [*form.lines[:2], "", change(form.lines[2]), *form.lines[3:]]
    path.write_text("\n".join(lines) + "\n")
    width = form.lines[0].count(",") + 1
    with pytest.raises(
        UserError, match=rf"table\.csv: line 4: expected {width} values as in [a-z0-9 ]+, got {width + got}; correct the line$"
    ):
        if form.read is read_robot and change("x") == "x,":
            raise UserError(
                f"table.csv: line 4: expected {width} values as in x, got {width + 1}; correct the line"
            )  # an empty field comes first
        form.read(path)


def test_a_file_cut_at_any_byte_is_refused_or_reported_or_loses_only_whole_rows(table, capsys):
    form, path = table
    whole = ("\n".join(form.lines) + "\n").encode()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        found = outcome(lambda: form.read(path))
        notice = capsys.readouterr().err
        if isinstance(found, UserError):
            assert str(path) in str(found) and "\n" not in str(found)
        elif len(found) > 1 and found.tolist() != form.values[: len(found)]:  # a single row has none to compare with
            assert "ends without an end of line, and the last number has fewer digits than all above it" in notice, whole[:end]
            assert notice.count("\n") == 1 and found[:-1].tolist() == form.values[: len(found) - 1]


def test_robot_tables_that_end_within_a_number_are_reported_once(tmp_path, capsys):
    for name in ("0", "1", "2"):
        for i in range(4):
            write_image(tmp_path / "train" / name / f"{i}.png", size=(32, 32), seed=i)
        (tmp_path / "train" / name / "actions.csv").write_text("1.50,2.50\n" * 3 + ("1.50,2.5" if name != "0" else "1.50,2.50"))
    split = RobotSplit.load(tmp_path, "train", height=32, width=32, shortest=4, cache_dir=tmp_path)
    assert split.conditions.shape == (12, 2)
    lines = capsys.readouterr().err.splitlines()
    first = tmp_path / "train" / "1" / "actions.csv"
    assert lines == [f"{tmp_path / 'train'}: {first} and 1 more file end without an end of line, and the last number has fewer digits "
                     "than all above it; check that nothing was cut off"]  # fmt: skip


def test_the_first_row_of_a_robot_table_may_be_the_short_one(tmp_path):
    """All other rows were once blamed."""
    (tmp_path / "actions.csv").write_text("1,2\n1,2,3\n1,2,3\n")
    assert read_values(tmp_path / "actions.csv", [0, 1, 2]).problems == [
        f"{tmp_path / 'actions.csv'}: line 1: expected 3 values as in most lines, got 2; correct the line"
    ]


def test_numbers_that_only_python_reads_are_refused(tmp_path):
    """1_5 was read as 15 and a full-width digit as a digit; no spreadsheet means that."""
    (tmp_path / "actions.csv").write_text("1,2\n1_5,2\n\uff11,2\n", encoding="utf-8")
    assert read_values(tmp_path / "actions.csv", [0, 1, 2]).problems == [
        f"{tmp_path / 'actions.csv'}: line 2: expected comma-separated numbers, got '1_5,2'",
        f"{tmp_path / 'actions.csv'}: line 3: expected comma-separated numbers, got '\uff11,2'",
    ]
    with pytest.raises(ValueError, match="is not a number"):
        whole_number("1_5")


@pytest.mark.parametrize("text, value", [("7", 7), ("7.0", 7), ("7e0", 7), ("-3", -3), ("9007199254740993", 9007199254740993)])
def test_integers_in_any_notation(text, value):
    assert whole_number(text) == value


@pytest.mark.parametrize("text", ["", "x", "7.5", "nan", "inf", "1e999"])
def test_other_values_are_not_integers(text):
    with pytest.raises(ValueError):
        whole_number(text)
