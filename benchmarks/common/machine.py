"""Describe the machine that a benchmark runs on, and the memory that this process has used."""

import contextlib
import os
import platform
import sys
from argparse import Namespace
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import torch

from runtime.devices import find_device


class PeakMemory(NamedTuple):
    """The most memory that was in use at once."""

    mib: float | None  # None where it cannot be measured
    scope: str  # the memory that was measured, or the reason why none was


def describe_machine(flags: Namespace) -> dict[str, str]:
    """Return the processor, device, versions and date (UTC). Raises UserError for a missing device."""
    device = find_device(flags.device)
    gpu = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return {
        "CPU": f"{processor_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads in use",
        "device": f"{device}{gpu}",
        "versions": f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def processor_name() -> str:
    """Return the processor's name."""
    with contextlib.suppress(OSError):  # Linux only
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> PeakMemory:
    """Return the peak memory so far: with CUDA that of the tensors on the GPU, else that of the whole process."""
    if device.type == "cuda":
        return PeakMemory(torch.cuda.max_memory_allocated(device) / 2**20, "tensors on the GPU")
    # VmHWM comes first: on Linux ru_maxrss starts with the peak of the parent process.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return PeakMemory(int(line.split()[1]) / 2**10, "the whole process")
    try:
        import resource
    except ImportError:
        return PeakMemory(None, "not measured: Python has no module `resource` on this system")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, else KiB
    return PeakMemory(peak / unit, "the whole process")
