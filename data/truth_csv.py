"""Ground truth in a csv file: one row per frame, integers 0..255 in C, H, W order."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data.csv_tables import Line, Table, is_number, read_table, whole_number
from utils import UserError, counted, print_notice

EXPECTED = "expected one row of integers 0..255 per frame"


class Columns(NamedTuple):
    """The columns of a table of frames."""

    begin: int  # the first column of pixels
    end: int
    number: int | None  # the column with the numbers of the frames; None if there is none
    rows: list[Line]  # the lines without the header


def read_frames(path: Path) -> np.ndarray:
    """Read the pixel columns of a csv file with one frame per row -> (rows, 3*H*W) uint8.

    A header and a text column such as Usage after the pixels are recognized and ignored. If there is a column of ids before the
    pixels, the rows are returned in the order of the ids. Raises UserError for other content.
    """
    table = read_table(path)
    if any('"' in line.text for line in table.lines):
        table = table._replace(lines=[line._replace(text=",".join(line.fields)) for line in table.lines])
    columns = find_columns(table)
    values = read_pixels(path, columns)
    order = row_order(path, columns)
    table.warn_if_cut()
    return values if order is None else values[order]


def find_columns(table: Table) -> Columns:
    """Return the columns of the table. Raises UserError if it has another form."""
    path = table.path
    if not table.lines:
        raise UserError(f"{path}: {EXPECTED}, got an empty file")
    first = table.lines[0].fields
    header = first if is_header(first) else None
    rows = table.lines[1:] if header else table.lines
    if not rows:
        raise UserError(f"{path}: {EXPECTED}, got a header without rows")
    row = rows[0].fields
    table._replace(lines=rows).check_widths(len(row), f"line {rows[0].number}")
    text_column = not is_number(row[-1])
    if text_column and any(is_number(line.text.rpartition(",")[2]) for line in rows):
        raise UserError(f"{path}: {EXPECTED}, got text and numbers in the last column")
    end = len(row) - text_column
    begin = end % 3  # a frame has three channels, so the remaining columns are ids
    if header:
        check_header(path, header, len(row), begin, end)
    named = [i for i, name in enumerate((header or [])[:begin]) if name.lower() == "id"]
    return Columns(begin, end, named[0] if named else begin - 1 if begin else None, rows)


def is_header(fields: list[str]) -> bool:
    """Return whether the first line of a table consists of names. Numbers are names if all numbers from 0 or 1 on occur."""
    numbers = [field for field in fields if is_number(field)]
    if is_number(fields[0]):  # 0, 1, 2, ... are hardly pixels
        return len(fields) > 3 and fields == [str(i) for i in range(len(fields))]
    return any({*numbers} == {str(i) for i in range(start, start + len(numbers))} for start in (0, 1))


def check_header(path: Path, header: list[str], width: int, begin: int, end: int) -> None:
    """Raise UserError for a header that does not fit rows of `width` values, or whose pixels are not in ascending order."""
    missing = width - len(header)  # R leaves out the name of the first column
    if missing not in (0, 1) or (missing and header[0].lower() == "id"):
        raise UserError(
            f"{path}: expected rows with {len(header)} values as in the header, got rows with {width}; correct the header"
        )
    if header[0].lower() in ("id", "") and begin == 0:
        raise UserError(f"{path}: {EXPECTED}, got {end - 1} after the id, which is not a multiple of the three channels")
    numbers = [int(found[-1][:18]) for name in header[begin - missing : end - missing] if (found := re.findall(r"\d+", name))]
    if len(set(numbers)) == end - begin:
        for before, after in zip(numbers, numbers[1:]):
            if after < before:
                raise UserError(f"{path}: expected pixel columns in ascending order, got {after} after {before}; sort them")


def read_pixels(path: Path, columns: Columns) -> np.ndarray:
    """Return the pixels of all rows (rows, 3*H*W) uint8, in the order of the file. Raises UserError for other values."""
    wanted = range(columns.begin, columns.end)
    try:
        values = np.loadtxt([line.text for line in columns.rows], delimiter=",", usecols=wanted, ndmin=2, comments=None)
    except (ValueError, IndexError) as error:
        for line in columns.rows:
            for column, text in enumerate(line.fields[columns.begin : columns.end], start=columns.begin + 1):
                if not is_number(text):
                    got = f"got {text[:40]!r} in line {line.number}, column {column}"
                    raise UserError(f"{path}: {EXPECTED}, {got}") from None
        raise UserError(f"{path}: {EXPECTED}, got something else ({error})") from None
    if values.size == 0:
        raise UserError(f"{path}: {EXPECTED}, got rows of {counted(len(columns.rows[0].fields), 'value')}")
    good = (values >= 0) & (values <= 255) & (values == np.rint(values))
    if not good.all():
        row, column = np.argwhere(~good)[0].tolist()
        place = f"line {columns.rows[row].number}, column {columns.begin + column + 1}"
        raise UserError(f"{path}: {EXPECTED}, got {values[row, column]:g} in {place}")
    return values.astype(np.uint8)


def row_order(path: Path, columns: Columns) -> np.ndarray | None:
    """Return the order of the rows by their ids; None if there are no ids, or they are in order.

    Raises UserError unless the ids are consecutive integers.
    """
    if columns.number is None:
        return None
    lines: dict[int, int] = {}  # the number of the line of each id
    for line in columns.rows:
        text = line.text.split(",", columns.number + 1)[columns.number].strip()
        try:
            number = whole_number(text)
        except ValueError:
            raise UserError(f"{path}: line {line.number}: expected an integer as the id, got {text[:40]!r}") from None
        if number in lines:
            got = f"got {number} in line {lines[number]} and in line {line.number}"
            raise UserError(f"{path}: expected each id once, {got}; number the rows of all sequences 0, 1, 2, ...")
        lines[number] = line.number
    ids = list(lines)
    ordered = sorted(ids)
    for before, after in zip(ordered, ordered[1:]):
        if after != before + 1:
            raise UserError(f"{path}: expected consecutive ids, got none between {before} and {after}; add the missing rows")
    if ids == ordered:
        return None
    print_notice(f"{path}: the rows are not in the order of their ids; they are sorted by them")
    return np.array(sorted(range(len(ids)), key=ids.__getitem__))


def read_ground_truth(path: Path, lengths: list[int], *, height: int, width: int) -> list[torch.Tensor]:
    """Read ground truth from one csv file: a video (T, 3, H, W) uint8 for each T in `lengths`.

    Raises UserError if the file has another number of frames or values.
    """
    rows = read_frames(path)
    if rows.shape != (sum(lengths), 3 * height * width):
        expected = f"expected {counted(sum(lengths), 'frame')} of {3 * height * width} values (3 x {height} x {width})"
        fits = rows.shape[1] == 3 * height * width
        way_out = "it needs the frames of all sequences" if fits else "set --frame_H and --frame_W to its frame size"
        raise UserError(f"{path}: {expected}, got {counted(rows.shape[0], 'frame')} of {rows.shape[1]}; {way_out}")
    return list(torch.from_numpy(rows).reshape(-1, 3, height, width).split(lengths))


def find_ground_truth(
    root: Path, gt: Path | None, lengths: dict[str, int], *, height: int, width: int
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Read the ground truth of sequences {name: number of frames} from csv files.

    If `gt` is given, it contains all sequences. Otherwise, every Demo_Test/GT{name}.csv in the data set or next to it is read.
    Raises UserError if `gt` is missing, or if a file does not fit.
    """
    if gt is not None:
        if not gt.is_file():
            raise UserError(f"--gt {gt}: no such file; {EXPECTED}")
        return dict(zip(lengths, read_ground_truth(gt, list(lengths.values()), height=height, width=width)))
    files = {}
    for folder in (root.parent / "Demo_Test", root / "Demo_Test"):
        files.update({name: folder / f"GT{name}.csv" for name in lengths if (folder / f"GT{name}.csv").is_file()})
    return {name: read_ground_truth(file, [lengths[name]], height=height, width=width)[0] for name, file in files.items()}
