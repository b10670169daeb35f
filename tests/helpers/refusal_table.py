"""The table of refused data in docs/troubleshooting.md, written from the messages themselves.

    python -m tests.helpers.refusal_table

A case makes faulty data in an empty folder and reads them as a program does. Its message, without that folder, is a row of the table.
"""

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.helpers.settings import ROOT
from utils import UserError, optional_package

PAGE = ROOT / "docs" / "troubleshooting.md"
TITLE = "## Refused data"
INTRODUCTION = """
Every message about data that cannot be used, and every line about data that are used although they are unusual. The examples are real; paths
begin in the folder of the data. Where several things are wrong, the first line counts them and the following ones list them.
"""


class Case(NamedTuple):
    """Faulty data. `read` makes them in an empty folder and reads them; it ends with a UserError or prints a line."""

    fault: str  # in a few words
    read: Callable[[Path], object]


def message_of(case: Case, folder: Path) -> str:
    """Return what reading the case prints: the error, or else the lines on stderr; paths are relative to `folder`.

    Raises ValueError if it prints nothing.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            case.read(folder)
        text = printed.getvalue()
    except UserError as error:
        text = str(error)
    text = text.replace(os.sep, "/").replace(f"{folder.as_posix()}/", "").replace(folder.as_posix(), ".")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{case.fault}: read without a word")
    return " ".join(lines)


def messages(groups: dict[str, list[Case]]) -> dict[str, dict[str, str]]:
    """Return the message of each case by its fault, in the groups."""
    found: dict[str, dict[str, str]] = {}
    for group, cases in groups.items():
        found[group] = {}
        for case in cases:
            folder = Path(tempfile.mkdtemp()).resolve()
            try:
                found[group][case.fault] = message_of(case, folder)
            finally:
                shutil.rmtree(folder)
    return found


def table(groups: dict[str, dict[str, str]]) -> str:
    """Return the section of the page as Markdown."""
    parts = [f"{TITLE}\n{INTRODUCTION}"]
    for group, rows in groups.items():
        lines = [f"| {fault} | `{message}` |".replace("\\", "\\\\") for fault, message in rows.items()]
        parts.append("\n".join([f"\n### {group}\n", "| fault | message |", "|---|---|", *lines, ""]))
    return "".join(parts)


def main() -> None:
    """Write the table into the page, whose last section it is."""
    from tests.helpers.refused_data import GROUPS

    optional_package("av", flag="the table of refused films")  # or the error about it would be their message
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.split(TITLE)[0].rstrip() + "\n\n" + table(messages(GROUPS)), encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main()
