"""Measure in fresh processes, and explain why one failed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

# Parts of the messages that torch, NumPy, Python and C++ print when memory runs out, in lower case.
NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "memoryerror", "bad_alloc")


def run_point(options: list[str], trainer_flags: list[str]) -> dict:
    """Run point.py in a fresh process and return its results; `problem` is None, or the reason why nothing was measured."""
    command = [sys.executable, str(Path(__file__).with_name("point.py")), *options, "--", *trainer_flags]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        return {"problem": failure_reason(done.returncode, done.stderr)}
    return {"problem": None} | json.loads(done.stdout.splitlines()[-1])


def failure_reason(status: int, stderr: str) -> str:
    """Return "out of memory", or the last line that a process with this non-zero exit status wrote."""
    # -9: when memory runs out, Linux kills a process without a message.
    if status == -9 or any(phrase in stderr.lower() for phrase in NO_MEMORY):
        return "out of memory"
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"ended with status {status}"
