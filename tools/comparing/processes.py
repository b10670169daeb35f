"""Run programs of this repository as processes: start and watch them, ask them to stop, and never leave one running."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from runtime.output import LOST_OUTPUT

ROOT = Path(__file__).resolve().parents[2]
# A program is asked to stop by closing its standard input. The system does so when the parent ends, however it ends. The program
# has a session of its own, because Ctrl-C in a terminal would reach it twice: directly and through the parent. On Windows,
# imported libraries and child processes would block if they accessed a standard input on which a thread waits. The program is
# therefore imported first, and the thread reads from a copy of the handle.
CHILD = """
import os, signal, sys, threading
stop_pipe = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
def stop_when_asked():
    os.read(stop_pipe, 1)
    signal.raise_signal(signal.SIGTERM)
sys.path.insert(0, sys.argv[1])
program = __import__(sys.argv[2])
threading.Thread(target=stop_when_asked, daemon=True).start()
program.main(sys.argv[3:])
"""
DONE_STATUSES = (0, LOST_OUTPUT)  # with the second one, all is done, but the log lacks lines
# Exit statuses of a program that was asked to stop: finished, Ctrl-C, SIGTERM handled, killed by SIGTERM, killed on Windows.
STOP_STATUSES = (*DONE_STATUSES, 130, 143, -signal.SIGTERM, 3)


class Process:
    """Trainer or Tester as a process with these flags; its output is appended to a log."""

    def __init__(self, program: str, argv: list[str], *, log: Path, environment: dict[str, str]):
        self.log, self.stop_requested = log, False
        with open(log, "ab") as file:
            self.log_start = file.tell()  # end of the output of earlier processes
            command = [sys.executable, "-c", CHILD, str(ROOT), program, *argv]
            self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT,
                                          env=os.environ | environment, start_new_session=True,
                                          creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))  # fmt: skip

    def close_input(self) -> None:
        """Close the standard input of the program, which stops it if it is running."""
        if self.child.stdin:
            self.child.stdin.close()

    def exit_status(self) -> int | None:
        """Return the exit status, None while the program is running."""
        if self.child.poll() is not None:
            self.close_input()
        return self.child.returncode

    def request_stop(self) -> None:
        """Ask the program to save and end. Further calls have no effect."""
        self.stop_requested = True
        self.close_input()

    def failed(self) -> bool:
        """Return whether the program ended with an unexpected status."""
        return self.exit_status() not in (None, *(STOP_STATUSES if self.stop_requested else DONE_STATUSES))

    def failure_reason(self) -> str:
        """Return the error that the program printed, else its last line, else its exit status."""
        output = self.log.read_bytes()[self.log_start :].decode(errors="replace")
        lines = [line for line in output.splitlines() if line.strip()]
        status = self.exit_status()
        if status is not None and status < 0:
            lines.append(f"ended by signal {-status}")  # signal 9 on Linux usually means that memory ran out
        errors = [line for line in lines if line.startswith("error: ")]
        return [f"ended with status {status}", *lines, *errors][-1].strip()


def process_environments(jobs: int | None) -> list[dict[str, str]]:
    """Return the environment variables of each of `jobs` parallel processes: its GPU and its share of the threads.

    Without `jobs`, there is one process per GPU, or one if there is no GPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    gpus = gpus[: torch.cuda.device_count()]  # CUDA ignores the entries after one that does not exist
    jobs = jobs or max(1, len(gpus))
    environments = []
    for number in range(jobs):
        variables = {"PYTHONUNBUFFERED": "1"}
        if jobs > 1:
            variables["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // jobs))
        if gpus:
            variables["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        environments.append(variables)
    return environments
