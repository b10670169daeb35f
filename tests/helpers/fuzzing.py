"""What the tests with drawn input share: how many cases, what they are drawn from, and the one rule that holds for all of them."""

import contextlib
import io
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from utils import UserError

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")  # else it leaves a folder where it was started

SURROGATES = "Cs"  # which no text file can hold; a file name can, where its bytes are no text


def cases(count: int) -> settings:
    """So many cases, the same ones each time, of which nothing is kept."""
    return settings(max_examples=count, derandomize=True, deadline=None, database=None)


def names(**settings) -> st.SearchStrategy[str]:
    """Text that a path may hold and that stays within its folder."""
    letters = st.characters(exclude_characters="/\0", exclude_categories=[SURROGATES])
    return st.text(letters, **settings).filter(lambda name: name not in (".", ".."))


def tree(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder, but for empty folders and the locks of runs that were refused."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def end_of(main, argv: list[str]) -> tuple[int, list[str]]:
    """Runs main(argv): its status, and the lines on stderr."""
    status = 0
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        try:
            main(argv)
        except SystemExit as stop:
            status = stop.code or 0
    return status, [line for line in errors.getvalue().splitlines() if line.strip()]


def refused_in_one_line(main, argv: list[str], folder: Path) -> bool:
    """The rule: main(argv) ends with status 0 and says no error, or with status 1 or 2 and one line that begins with "error: "
    and leaves every file in `folder` as it was. Whether it was the latter."""
    before = tree(folder)
    status, lines = end_of(main, argv)
    if status == 0:
        assert not lines, lines
        return False
    assert status in (1, 2) and len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) > 15, (status, lines)
    assert tree(folder) == before
    return True


def damaged(whole: bytes, draw) -> bytes:
    """The bytes cut, with bits flipped, with something behind or before them, or others altogether."""
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
    """What it gives, or the UserError that it raises."""
    try:
        return read()
    except UserError as error:
        assert str(error).strip()
        return error
