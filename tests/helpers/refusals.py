"""Assertions that bad input ends a program with one line."""

import re
from pathlib import Path

import pytest


def refused(capsys, main, argv: list[str]) -> str:
    """Run main(argv), which must end with a non-zero status and print one line; return that line."""
    message, problems = refused_with_list(capsys, main, argv)
    assert not problems
    return message


def refused_with_list(capsys, main, argv: list[str]) -> tuple[str, list[str]]:
    """Run main(argv), which must end with a non-zero status and print one line and a list; return both.

    The end of a long list is read from the file that the last line names.
    """
    with pytest.raises(SystemExit) as stop:
        main([str(part) for part in argv])
    assert stop.value.code not in (0, None)
    message, *problems = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert message.startswith("error: ") and all(problem.startswith("  ") for problem in problems), problems
    if problems and (rest := re.search("; the whole list is in (.*)", problems[-1])):
        _, *problems = Path(rest[1]).read_text(encoding="utf-8").splitlines()
    return message, [problem.removeprefix("  ") for problem in problems]
