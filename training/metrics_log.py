"""metrics.jsonl and timings.jsonl: an object of numbers for each epoch."""

import json
import sys
from pathlib import Path

from utils import UserError

LISTS = ("skipped", "val_psnr_per_frame")  # values of a row that are no single numbers


def read_metrics(path: Path) -> list[dict]:
    """The rows of metrics.jsonl, one per epoch; a half-written last line is passed over. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the metrics.jsonl of a run")
    return read_rows(path, epoch_type=int)


def read_curves(path: Path) -> list[dict]:
    """Return the rows of curves.jsonl; none if there is no such file, as in runs of earlier versions. Raises UserError."""
    return read_rows(path, epoch_type=float) if path.is_file() else []


def read_rows(path: Path, *, epoch_type: type) -> list[dict]:
    """Return the rows of a file; a half-written last line is ignored. Raises UserError for any other line that is not a row."""
    rows = []
    lines = path.read_bytes().splitlines()
    for i, line in enumerate(lines):
        try:
            row = json.loads(line, parse_constant=lambda _: None)
        except (ValueError, RecursionError):  # no text, no JSON, or more digits or brackets than Python takes
            if i + 1 < len(lines):
                raise UserError(f"{path}: line {i + 1} is not JSON; expected one object per epoch") from None
            continue
        if not is_row(row, epoch_type=epoch_type):
            raise UserError(f"{path}: line {i + 1} is not an epoch's row; expected an object of numbers, one of them its epoch")
        rows.append(row)
    return rows


def is_row(row, *, epoch_type: type) -> bool:
    """Whether a value is what RunFolder.add() writes of an epoch: numbers, and lists of them under the names LISTS."""
    if not isinstance(row, dict) or type(row.get("epoch")) not in {int, epoch_type}:
        return False
    lists = {name: value for name, value in row.items() if name in LISTS and isinstance(value, list)}
    numbers = [value for name, value in row.items() if name not in lists] + [value for some in lists.values() for value in some]
    return all(value is None or (isinstance(value, (int, float)) and abs(value) <= sys.float_info.max) for value in numbers)


def lines_of(rows: list[dict]) -> bytes:
    """The content of a file of rows: one JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
