"""The frame of every program: errors as lines, Ctrl-C, output that cannot be written, and the exit status."""

import functools
import os
import sys
import tempfile
from collections.abc import Callable

from runtime.output import LOST_OUTPUT, capture_losses
from runtime.startup import CTRL_C, end_imports
from utils import RANK, UserError, shortened

MOST_PROBLEMS = 20  # printed of an error with several problems
PROBLEM_LENGTH = 300  # characters


def one_line_errors(main: Callable[[list[str] | None], None]) -> Callable[..., None]:
    """Decorate main(argv) so that bad input prints one line, plus one for each of its first problems, and exits with status 1.

    Ctrl-C exits with status 130, and Stopped with its own status. A program that has done its work but could not write all of
    its output exits with status LOST_OUTPUT; see runtime/output.py.
    """

    @functools.wraps(main)
    def guarded(argv: list[str] | None = None) -> None:
        end_imports()
        with capture_losses() as losses:
            stop = outcome(main, argv)
        if losses.counts and (stop is None or not stop.code):
            stop = SystemExit(LOST_OUTPUT)
        if stop is not None:
            raise stop

    return guarded


def outcome(main: Callable[[list[str] | None], None], argv: list[str] | None) -> SystemExit | None:
    """Call main(argv), print the error if it fails, and return how it ends the program; None if it returns."""
    try:
        main(argv)
    except SystemExit as stop:
        return stop
    except (UserError, OSError) as error:
        print(f"{'' if RANK == '0' else f'process {RANK}: '}error: {describe(error)}", file=sys.stderr)
        return SystemExit(1)
    except KeyboardInterrupt as stop:
        if RANK == "0":  # all processes stop together, one prints it
            print(str(stop) or CTRL_C, file=sys.stderr)
        return SystemExit(getattr(stop, "status", 130))
    return None


def describe(error: UserError | OSError) -> str:
    """Return an error as a line, with a further line for each of its first MOST_PROBLEMS problems.

    If that is not all, the complete text is written into a temporary file, which the last line names. Only this folder is never
    part of a data set, and can be written even where the results cannot.
    """
    if isinstance(error, OSError):
        return shortened(str(error))
    problems = [shortened(problem, PROBLEM_LENGTH) for problem in error.problems]
    lines = [shortened(error.args[0]), *problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        count = f"and {len(problems) - MOST_PROBLEMS:,} more"
        try:
            handle, path = tempfile.mkstemp(prefix="nextframe-errors-", suffix=".txt")
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{error}\n")
        except OSError as failure:
            lines.append(f"{count}; the whole list cannot be written to a temporary file ({failure.strerror})")
        else:
            lines.append(f"{count}; the whole list is in {path}")
    return "\n  ".join(lines)
