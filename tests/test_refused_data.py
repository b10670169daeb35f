"""The table of refused data in docs/troubleshooting.md is complete, and its messages are the real ones."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.helpers import refusal_table
from tests.helpers.refusal_table import PAGE, TITLE, messages, table
from tests.helpers.refused_data import GROUPS
from tests.helpers.settings import ROOT

# Where data are read.
READERS = [*sorted((ROOT / "data").glob("*.py")), ROOT / "dataloader.py", *sorted((ROOT / "poses").glob("*.py"))]
# Messages of these modules that no data can cause, by a part of them, with the reason.
NOT_ABOUT_DATA: dict[str, str] = {
    "removed or changed by another program": "another program must interfere between two lines of code; its file has a changing name",
    "the frame cache was removed or rebuilt": "another program must interfere while a run starts; its file has a changing name",
    "got something else ({error})": "a guard: NumPy reads every number that the check before it accepts",
    "got {image.mode}; convert it": "a guard: PIL converts every mode that it reads today",
    "--n_eval {length}": "about two flags",
    "--norm batch": "about a flag and the size of batches",
    "{path}: a video'": "a part of the message about the missing package av, of which the page has a section",
    "then run:": "the result of prepare_video.py, not a fault",
    "window: {size}": "the result of prepare_video.py, not a fault",
}


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    pytest.importorskip("av", reason="the faulty films need the package av")
    return messages(GROUPS)


def skeleton(node: ast.AST) -> str:
    """Return the regular expression of the texts that an f-string can become."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(" ".join(node.value.split(" ")))
    if isinstance(node, ast.JoinedStr):
        return "".join(map(skeleton, node.values))
    return ".*"


def texts(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield every f-string and every plain string of a module, but not docstrings and the constant parts of f-strings."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            yield node
            for part in getattr(node, "values", ()):
                yield from texts(part)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield from texts(node)


def texts_of_messages() -> Iterator[tuple[str, str]]:
    """Yield the place and the regular expression of every text that reads like a message or a part of one."""
    for path in READERS:
        for node in texts(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            words = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
            if ("expected" in words or "; " in words or ": " in words) and len(words.split()) > 2:
                yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno}: {ast.unparse(node)}", skeleton(node)


def test_the_table_is_what_the_programs_print(found):
    """To write it again: python -m tests.helpers.refusal_table."""
    assert TITLE + PAGE.read_text(encoding="utf-8").split(TITLE)[1] == table(found)


def test_every_message_about_data_is_in_the_table(found):
    rows = [message for group in found.values() for message in group.values()]
    missing = [
        place
        for place, pattern in texts_of_messages()
        if not any(re.search(pattern, row) for row in rows) and not any(part in place for part in NOT_ABOUT_DATA)
    ]
    assert not missing, "\n  ".join(["", *missing])


def test_every_message_has_a_way_out_on_one_line(found):
    """In the words of the project: where, what was expected or what is wrong, and what to do."""
    for rows in found.values():
        for fault, message in rows.items():
            assert re.search(r"; |expected", message) and "\n" not in message, fault


def test_a_case_that_is_read_without_a_word_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="nothing: read without a word"):
        refusal_table.message_of(refusal_table.Case("nothing", lambda folder: None), tmp_path)
