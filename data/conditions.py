"""The condition values of a robot's sequence, from its csv files: actions and, if recorded, the end effector's positions.

(A condition values of a frame.)
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.csv_tables import number_in, read_table
from data.layouts import ACTIONS, POSITIONS
from utils import UserError, counted

LARGEST_VALUE = float(np.finfo(np.float32).max)  # of a condition


class Conditions(NamedTuple):
    """The condition values in the csv files of a sequence."""

    values: np.ndarray | None  # (frames, A) float32; None if there are problems
    problems: list[str]
    cut: list[Path]  # files that seem to end within their last number


def read_values(path: Path, numbers: list[int]) -> Conditions:
    """Read a csv file without a header, with a row for each of the frame `numbers`.

    The file may also have rows for frames that are missing between the first and the last number.
    """
    if not path.is_file():
        return Conditions(None, [f"{path}: no such file; expected one row of numbers per frame"], [])
    try:
        table = read_table(path)
    except UserError as error:
        return Conditions(None, [str(error)], [])
    problems = []
    lines = table.lines
    if len(lines) not in (len(numbers), numbers[-1] - numbers[0] + 1):
        expected = f"expected {counted(len(numbers), 'row')}, one for each frame"
        problems.append(f"{path}: {expected}, got {len(lines)}; add or remove rows")
    fields = [line.fields for line in lines]
    usual = Counter(map(len, fields)).most_common(1)[0][0] if lines else 0
    rows: list[list[float]] = []
    for line, texts in zip(lines, fields):
        try:
            rows.append([number_in(text) for text in texts])
        except ValueError:
            problems.append(f"{path}: line {line.number}: expected comma-separated numbers, got {line.text[:60]!r}")
            continue
        if len(texts) != usual:
            problems.append(f"{path}: line {line.number}: {table.ragged(line, len(texts), usual, 'most lines')}")
        elif unusable := [text for text, value in zip(texts, rows[-1]) if not abs(value) <= LARGEST_VALUE]:
            wanted = f"expected finite numbers up to {LARGEST_VALUE:.1e}"
            problems.append(f"{path}: line {line.number}: {wanted}, got {unusable[0][:40]} in {line.text[:60]!r}")
    if problems:
        return Conditions(None, problems, [])
    values = np.array(rows, dtype=np.float32)
    if len(lines) != len(numbers):
        values = values[[number - numbers[0] for number in numbers]]
    return Conditions(values, [], [path] if table.is_cut() else [])


def read_conditions(folder: Path, numbers: list[int]) -> Conditions:
    """Read the actions and, if recorded, the end effector's positions after them."""
    names = [ACTIONS, POSITIONS] if (folder / POSITIONS).exists() else [ACTIONS]
    tables = [read_values(folder / name, numbers) for name in names]
    problems = [problem for table in tables for problem in table.problems]
    values = None if problems else np.concatenate([table.values for table in tables if table.values is not None], axis=1)
    return Conditions(values, problems, [path for table in tables for path in table.cut])
