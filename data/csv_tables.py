"""Text of csv tables: encodings, separators, blanks, blank lines, rows of unequal length and files that were cut off.

All csv files are read here: the robot's conditions, ground truth and keypoints.
"""

import contextlib
import csv
from pathlib import Path
from typing import NamedTuple

from utils import UserError, counted, print_notice

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}  # of other tables


class Line(NamedTuple):
    """A line of a table that is not blank."""

    number: int  # in the file, from 1
    text: str

    @property
    def fields(self) -> list[str]:
        """The values, without quotes and without blanks around them."""
        return split_fields(self.text)


class Table(NamedTuple):
    """The lines of a csv file that are not blank."""

    path: Path
    lines: list[Line]
    closed: bool  # whether the last line ends with an end of line

    def check_widths(self, width: int, as_in: str) -> None:
        """Raise UserError for a line that has another number of values than `width`, the number in the line `as_in`."""
        for line in self.lines:
            count = len(line.fields) if '"' in line.text else line.text.count(",") + 1
            if count != width:
                raise UserError(f"{self.path}: line {line.number}: {self.ragged(line, count, width, as_in)}")

    def ragged(self, line: Line, count: int, width: int, as_in: str) -> str:
        """Return the message about a line with `count` instead of `width` values."""
        is_cut = line is self.lines[-1] and not self.closed and count < width
        way_out = "the file was probably cut off, copy it again" if is_cut else "correct the line"
        return f"expected {counted(width, 'value')} as in {as_in}, got {count}; {way_out}"

    def is_cut(self) -> bool:
        """Return whether the file seems to end within its last number.

        It lacks the last end of line, and the last number has fewer digits than those above it. The first line may be a header.
        """
        if self.closed or len(self.lines) < 2:
            return False
        *others, last = (line.text.rpartition(",")[2].strip(' \t"') for line in self.lines)
        compared = others[1:] or [text for text in others if is_number(text)]
        return bool(compared) and count_digits(last) < min(map(count_digits, compared))

    def warn_if_cut(self) -> None:
        """Print a line on stderr if the file seems to end within its last number."""
        for notice in self.notices():
            print_notice(notice)

    def notices(self) -> list[str]:
        """Return the line about a file that seems to end within its last number, if it does."""
        return [cut_notice([self.path], self.path)] if self.is_cut() else []


def read_table(path: Path) -> Table:
    """Read a csv file. Raises UserError if it cannot be read, is not UTF-8, or has another separator than the comma."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected comma-separated values, got text that is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions, or copy it again") from None
    texts = text.split("\n")
    lines = [Line(number, line) for number, line in enumerate(texts, start=1) if line.strip(", \t\r")]
    if lines and (separator := other_separator(lines[0].text)):
        way_out = "save the table with commas, and with points in its decimals"
        raise UserError(f"{path}: line {lines[0].number}: expected commas between the values, got {separator}; {way_out}")
    return Table(path, lines, closed=not texts[-1].strip())


def other_separator(text: str) -> str | None:
    """Return the name of the separator in a line, in the plural; None if it is the comma or there is only one value."""
    fields = [field.strip() for field in text.split(",")]
    for character, name in SEPARATORS.items():
        if any(character in field for field in fields):
            return name
    parts = [part for field in fields for part in field.split()]
    names_may_have_blanks = len(fields) > 1 and not all(map(is_number, parts))
    return "blanks" if len(parts) > len(fields) and not names_may_have_blanks else None


def split_fields(text: str) -> list[str]:
    """Return the values of a line, without quotes and without blanks around them."""
    fields = text.split(",")
    if '"' in text:
        with contextlib.suppress(csv.Error):  # a quote that does not end; what remains is not a number
            fields = next(csv.reader([text], skipinitialspace=True, strict=True))
    return [field.strip() for field in fields]


def number_in(text: str) -> float:
    """Return the number in a field. Raises ValueError for other content, and for 1_0, which Python alone reads as 10."""
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def is_number(text: str) -> bool:
    """Return whether a field is a number."""
    try:
        number_in(text)
    except ValueError:
        return False
    return True


def count_digits(text: str) -> int:
    """Return the number of digits in a field."""
    return sum(map(str.isdigit, text))


def whole_number(text: str) -> int:
    """Return the integer in a field, in any notation: 7, 7.0 and 7e0. Raises ValueError for other content."""
    value = number_in(text)
    if not value.is_integer():
        raise ValueError(f"{text!r} is not an integer")
    with contextlib.suppress(ValueError):
        return int(text)  # exact, however many digits it has
    return int(value)


def cut_notice(paths: list[Path], place: Path) -> str:
    """Return the line about files in `place` that seem to end within a number."""
    more = f" and {counted(len(paths) - 1, 'more file')}" if len(paths) > 1 else ""
    named = "" if paths == [place] else f"{paths[0]}{more} "
    verb = "end" if len(paths) > 1 else "ends"
    return (
        f"{place}: {named}{verb} without an end of line, and the last number has fewer digits than all above it; "
        "check that nothing was cut off"
    )
