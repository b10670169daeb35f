"""The rows of metrics.jsonl, timings.jsonl (one per epoch) and curves.jsonl (at evenly spaced points of the run): one JSON object
a line."""

import json
import sys
from pathlib import Path
from typing import Any, TypeAlias

from utils import UserError

# Numbers by name, None for those that are not finite, and for the names in LISTS a list of them. `epoch` counts from 0: the
# finished epoch, or in curves.jsonl the point of the run, 2.5 being the middle of the third epoch.
Row: TypeAlias = dict[str, Any]
LISTS = ("skipped", "val_psnr_per_frame")


def read_metrics(path: Path) -> list[Row]:
    """Return the rows of metrics.jsonl or timings.jsonl. Raises UserError, also if there is no such file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the metrics.jsonl of a run")
    return read_rows(path, epoch_type=int)


def read_curves(path: Path) -> list[Row]:
    """Return the rows of curves.jsonl; none if there is no such file, as in runs of earlier versions. Raises UserError."""
    return read_rows(path, epoch_type=float) if path.is_file() else []


def read_rows(path: Path, *, epoch_type: type) -> list[Row]:
    """Return the rows of a file; a half-written last line is ignored. Raises UserError for any other line that is not a row."""
    rows = []
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line, parse_constant=lambda _: None)
        except (ValueError, RecursionError):  # not text, not JSON, or more digits or brackets than Python accepts
            if number < len(lines):
                raise UserError(f"{path}: line {number} is not JSON; expected one object a line") from None
            continue
        if not is_row(row, epoch_type=epoch_type):
            raise UserError(f"{path}: line {number} is not a row; expected an object of numbers, one of them the epoch")
        rows.append(row)
    return rows


def is_row(value: object, *, epoch_type: type) -> bool:
    """Return whether a value is a Row whose epoch is an integer, or with `epoch_type` float any number."""
    if not isinstance(value, dict) or type(value.get("epoch")) not in {int, epoch_type}:
        return False
    for name, entry in value.items():
        numbers = entry if name in LISTS and isinstance(entry, list) else [entry]
        if not all(number is None or is_number(number) for number in numbers):
            return False
    return True


def is_number(value: object) -> bool:
    """Return whether a value is a number that a float can hold."""
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


def lines_of(rows: list[Row]) -> bytes:
    """Return the content of a file of rows."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
