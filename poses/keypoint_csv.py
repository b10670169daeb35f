"""Keypoints in a csv file with a row per frame, read and written.

A pose is (J, 3): x and y in pixels, and confidence of the joints of skeleton.py.
"""

from pathlib import Path

import numpy as np

from data.csv_tables import Line, number_in, read_table, whole_number
from poses.keypoint_checks import Entry, check_points
from poses.skeleton import JOINTS, poses_from_points
from utils import UserError

EXPECTED = "expected columns frame, nose_x, nose_y, nose_c, ..."
MAX_NAMED = 4  # columns in a message


def read_csv(path: Path) -> tuple[list[Entry], list[str]]:
    """Return the pose (1, J, 3) of each row of a csv file, and lines about what is unusual in it.

    The columns are frame and, for any of the JOINTS, <joint>_x, <joint>_y and optionally <joint>_c, the confidence. A joint with
    an empty field was not found. Raises UserError for other content.
    """
    table = read_table(path)
    if not table.lines:
        raise UserError(f"{path}: {EXPECTED}, got an empty file")
    header = table.lines[0].fields
    names = joint_names(path, header)
    if len(table.lines) == 1:
        raise UserError(f"{path}: expected a row of numbers per frame, got a header without rows")
    table.check_widths(len(header), "the header")
    column = {name: i for i, name in enumerate(header)}
    entries = []
    for line in table.lines[1:]:
        place = f"{path}: line {line.number}"
        fields = line.fields
        points = np.array([point(fields, column, name, place) for name in names])
        pose = poses_from_points(check_points(points, place), names)
        entries.append(Entry(frame_of(line, fields[column["frame"]], path), f"line {line.number}", pose[None]))
    return entries, [*ignored_columns(path, header, names), *table.notices()]


def joint_names(path: Path, header: list[str]) -> list[str]:
    """Return the joints whose columns a csv file has. Raises UserError."""
    for name in header:
        if name and header.count(name) > 1:
            raise UserError(f"{path}: expected each column once, got {name[:40]} twice; rename or remove one")
    names = [name for name in JOINTS if {f"{name}_x", f"{name}_y"} & {*header}]
    if "frame" not in header or not names:
        got = ", ".join(name[:40] for name in header[:MAX_NAMED])
        more = ", ..." if len(header) > MAX_NAMED else ""
        raise UserError(f"{path}: {EXPECTED}, got {got}{more}; rename the columns")
    for name in names:
        for part in "xy":
            if f"{name}_{part}" not in header:
                raise UserError(f"{path}: expected columns {name}_x and {name}_y, got no {name}_{part}; add it")
    return names


def ignored_columns(path: Path, header: list[str], names: list[str]) -> list[str]:
    """Return a line about the columns of other joints than those in `names`, if there are any."""
    used = {f"{name}_{part}" for name in names for part in "xyc"}
    ignored = [name for name in header if name.endswith(("_x", "_y", "_c")) and name not in used]
    if not ignored:
        return []
    more = f" and {len(ignored) - MAX_NAMED} more" if len(ignored) > MAX_NAMED else ""
    listed = ", ".join(name[:40] for name in ignored[:MAX_NAMED])
    return [f"{path}: ignored columns of joints that are not drawn: {listed}{more}; the joints are in poses/skeleton.py"]


def frame_of(line: Line, text: str, path: Path) -> int:
    """Return the frame number in a field. Raises UserError."""
    try:
        return whole_number(text)
    except ValueError:
        raise UserError(f"{path}: line {line.number}: expected a frame number, got {text[:40]!r}; correct the line") from None


def point(fields: list[str], column: dict[str, int], name: str, place: str) -> tuple[float, float, float]:
    """Return x, y and confidence of a joint in a row of a csv file. Raises UserError.

    The confidence is 0 if x or y is empty and, in a file without confidences, if neither is above 0.
    """
    values = []
    for part in "xyc":
        text = fields[column[f"{name}_{part}"]] if f"{name}_{part}" in column else "1"
        try:
            values.append(number_in(text or "0"))
        except ValueError:
            raise UserError(f"{place}: expected a number as {name}_{part}, got {text[:40]!r}; correct the line") from None
    x, y, confidence = values
    is_given = bool(fields[column[f"{name}_x"]] and fields[column[f"{name}_y"]])
    is_placeholder = f"{name}_c" not in column and max(x, y) <= 0
    return x, y, confidence if is_given and not is_placeholder else 0.0


def csv_header() -> list[str]:
    """Return the columns of a csv file with all joints."""
    return ["frame", *(f"{name}_{part}" for name in JOINTS for part in "xyc")]


def csv_row(frame: int, pose: np.ndarray) -> list[int | str]:
    """Return a row of a csv file with all joints, with empty fields for joints that were not found."""
    row: list[int | str] = [frame]
    for x, y, confidence in pose.tolist():
        row += [f"{x:.2f}", f"{y:.2f}", f"{confidence:.3f}"] if confidence > 0 else ["", "", ""]
    return row
