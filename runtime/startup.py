"""What a program needs before its other imports: every program imports this first.

Torch's threads: GNU OpenMP reads its setting when torch is loaded. Standard files: a file that is opened while one of them is
closed would take its place. Ctrl-C: while a program imports its packages, it ends the program at once, with one line. An
exception could be caught by the import that it hits, or fill the terminal with the lines of a traceback.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
PROGRAM_FOLDERS = (ROOT, ROOT / "tools", ROOT / "benchmarks", ROOT / "benchmarks" / "common")
CTRL_C = "stopped by Ctrl-C"


def set_spin_count() -> None:
    """Shorten the time for which torch's CPU threads spin while they wait, unless the user has chosen another.

    By default, a thread that has finished its share spins for some milliseconds before it sleeps. When other programs run, one
    thread is always late, and the spinning takes the CPU time that this thread needs. Measurements are in docs/results.md, "Next
    to other programs".
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def fill_standard_files() -> None:
    """Open the null device as each standard file that is closed: input, output, errors.

    The next file to be opened gets the lowest free number. That would be the number of the closed file, and a checkpoint would
    receive what a library prints to it. sys.stdout stays None.
    """
    for number in range(3) if os.name == "posix" else ():
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def is_program() -> bool:
    """Return whether this process runs one of the repository's programs, not a notebook or a test that imports one."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    return path is not None and Path(path).resolve().parent in PROGRAM_FOLDERS


def end_at_once(_number: int, _frame: FrameType | None) -> NoReturn:
    """Handle Ctrl-C by ending the process with one line and status 130."""
    if os.environ.get("RANK", "0") == "0":  # all processes stop together, one prints it
        with contextlib.suppress(OSError):
            os.write(2, f"{CTRL_C}\n".encode())
    os._exit(130)


def begin_imports() -> None:
    """Let Ctrl-C end the process at once, if it runs one of the programs and nothing else handles Ctrl-C."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)


def end_imports() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """A context for imports within a program, of packages that a refusal should not have to wait for."""
    begin_imports()
    try:
        yield
    finally:
        end_imports()


set_spin_count()
fill_standard_files()
begin_imports()
