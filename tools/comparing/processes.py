"""Programs of this repo as processes of their own: started, watched, asked to stop, and never left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
# A program is asked to stop by closing its standard input. This happens by itself when the process that started it is gone,
# however it ended, and only once, where Ctrl-C in a terminal would reach the program directly and through the other. On Windows
# whoever looks at a standard input at which a thread waits, hangs: libraries that are loaded do, and processes that are started.
# Hence the program is imported before, and the pipe is waited at under another number.
CHILD = """
import os, signal, sys, threading
asked = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
def stop_when_asked():
    os.read(asked, 1)
    signal.raise_signal(signal.SIGTERM)
sys.path.insert(0, sys.argv[1])
program = __import__(sys.argv[2])
threading.Thread(target=stop_when_asked, daemon=True).start()
program.main(sys.argv[3:])
"""
# How a program may end that was asked to stop: done, after Ctrl-C, after SIGTERM, and at once of SIGTERM, on Windows with 3.
STOPPED = (0, 130, 143, -signal.SIGTERM, 3)


class Process:
    """Trainer or Tester, `program`, with these flags; what it says is added to a log."""

    def __init__(self, program: str, argv: list[str], *, log: Path, environment: dict[str, str]):
        self.log, self.asked_to_stop = log, False
        with open(log, "ab") as file:
            self.before = file.tell()  # bytes that earlier processes wrote
            command = [sys.executable, "-c", CHILD, str(ROOT), program, *argv]
            self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT,
                                          env=os.environ | environment, start_new_session=True,
                                          creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))  # fmt: skip

    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        if self.child.poll() is not None:
            self.child.stdin.close()
        return self.child.returncode

    def stop(self) -> None:
        """Asks it to save and to end, once."""
        self.asked_to_stop = True
        self.child.stdin.close()

    def failed(self) -> bool:
        """Whether it ended otherwise than it should have."""
        return self.status() not in (None, *(STOPPED if self.asked_to_stop else (0,)))

    def last_words(self) -> str:
        """Why it failed: the error that it told, else its last line, else how it ended."""
        lines = [line for line in self.log.read_bytes()[self.before :].decode(errors="replace").splitlines() if line.strip()]
        if self.status() < 0:
            lines.append(f"ended by signal {-self.status()}")  # -9 without a word: on Linux the memory has run out
        told = [line for line in lines if line.startswith("error: ")]
        return [f"ended with status {self.status()}", *lines, *told][-1].strip()


def places(jobs: int | None) -> list[dict[str, str]]:
    """What sets processes apart that run side by side, as environment variables of each: its GPU, and its share of the threads.

    Without `jobs`, one for each GPU, or one.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    gpus = gpus[: torch.cuda.device_count()]  # CUDA passes over what comes after a GPU that is not there
    jobs = jobs or max(1, len(gpus))
    one = {"PYTHONUNBUFFERED": "1"}
    if jobs > 1:
        one["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // jobs))
    return [one | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}) for number in range(jobs)]
