"""Tests with random input: the number of cases, their building blocks, and the rule that every program must follow."""

import contextlib
import io
import os
import tempfile
from pathlib import Path
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from utils import UserError

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")  # by default, it makes a folder in the current one

# A Unicode category. A text file cannot contain these characters, but file names have them if their bytes are not valid text.
SURROGATES: Final = "Cs"


def cases(count: int) -> settings:
    """Return settings for `count` cases, the same ones each time, without a database. FUZZ_CASES in the environment wins."""
    return settings(max_examples=int(os.environ.get("FUZZ_CASES", count)), derandomize=True, deadline=None, database=None)


def names(**settings) -> st.SearchStrategy[str]:
    """Return text that may be the name of a file within its folder."""
    letters = st.characters(exclude_characters="/\0", exclude_categories=[SURROGATES])
    return st.text(letters, **settings).filter(lambda name: name not in (".", ".."))


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of all files in a folder, except the locks of refused runs."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def end_of(main, argv: list[str]) -> tuple[int, list[str]]:
    """Run main(argv) and return its status and the lines on stderr."""
    status = 0
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        try:
            main(argv)
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, [line for line in errors.getvalue().splitlines() if line.strip()]


def refused_in_one_line(main, argv: list[str], folder: Path) -> bool:
    """Assert the rule of all programs, and return whether main(argv) refused its input.

    It ends with status 0 and an empty stderr, or it refuses its input with status 1 or 2 and one line that begins with "error: ",
    and leaves every file in `folder` as it was.
    """
    before = tree(folder)
    status, lines = end_of(main, argv)
    if status == 0:
        assert not lines, lines
        return False
    assert status in (1, 2) and len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) > 15, (status, lines)
    assert tree(folder) == before
    return True


def damaged(whole: bytes, draw) -> bytes:
    """Return a damaged copy of the bytes: cut, with flipped bits, with bytes added before or after them, or mostly replaced."""
    kind = draw(st.sampled_from(["cut", "flipped", "flipped", "longer", "twice", "headed", "others"]))
    if kind == "cut":
        return whole[: draw(st.integers(0, len(whole) - 1))]
    if kind == "flipped":
        content = bytearray(whole)
        for place in draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
            content[place] ^= 1 << draw(st.integers(0, 7))
        return bytes(content)
    more = draw(st.binary(min_size=1, max_size=60))
    return {
        "longer": whole + more,
        "twice": whole + whole,
        "headed": more + whole,
        "others": whole[: draw(st.integers(0, 20))] + more,
    }[kind]


def outcome(read):
    """Return the result of read(), or the UserError that it raises."""
    try:
        return read()
    except UserError as error:
        assert str(error).strip()
        return error
