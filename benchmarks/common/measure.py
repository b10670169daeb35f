"""What the benchmark programs share: a user's Trainer, timed steps, memory, fresh processes, tables."""

import contextlib
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from dataloader import BatchPosition
from runtime.devices import autocast, find_device
from runtime.distributed import Ranks
from Trainer import Trainer
from training.flags import parse_trainer_flags
from training.resume import StartPoint
from training.schedules import teacher_forcing_ratio
from utils import UserError

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")
# What torch, numpy, Python and C++ say when memory runs out, in small letters.
NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "memoryerror", "bad_alloc")


class Timing(NamedTuple):
    """What took how long; `loading` are those of the seconds that went by in waiting for batches."""

    frames: int  # predicted frames
    seconds: float
    loading: float = 0.0


class Row(NamedTuple):
    """One line of a table: a value per round, or none of them and a note that says why."""

    what: str
    unit: str
    values: list[float]
    note: str = ""


def parse_flags(flags: list[str]) -> Namespace:
    """The flags of Trainer.py without --save_root. Raises UserError for flags under which nothing would be trained."""
    # A benchmark saves nothing; where nothing can be saved, this cannot go unnoticed.
    args, _ = parse_trainer_flags(["--save_root", os.devnull, *flags])
    if args.test or args.ckpt_path:
        raise UserError("--test, --ckpt_path: found behind --; expected neither, speed is measured from the first weights on")
    return args


def forcing_ratios(flags: Namespace) -> list[float]:
    """The teacher-forcing ratio of every epoch of the recipe."""
    course = {"start": flags.tfr, "decay_start": flags.tfr_sde, "step": flags.tfr_d_step, "floor": flags.tfr_floor}
    return [teacher_forcing_ratio(epoch, interval=flags.tfr_interval, **course) for epoch in range(flags.num_epoch)]


def synchronise(device: torch.device) -> None:
    """Waits for all work on the device; the CPU's is always done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes on the device."""
    synchronise(device)
    begin = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begin


def interleaved(candidates: dict[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Runs A, B, A, B, ...: whatever else the machine does at the time falls on all alike. One warm-up of each first."""
    for measure in candidates.values():
        measure()
    results: dict[str, list[T]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, measure in candidates.items():
            results[name].append(measure())
    return results


def per_second(timings: list[Timing]) -> list[float]:
    """Frames/s of each round."""
    return [timing.frames / timing.seconds for timing in timings]


def by_round(ours: list[float], theirs: list[float]) -> list[float]:
    """Each round's ratio; what else the machine did in a round falls out of it."""
    return [a / b for a, b in zip(ours, theirs)]


def new_trainer(flags: Namespace) -> Trainer:
    """A run from the first weights on, alone, that writes nothing."""
    return Trainer(flags, StartPoint(), Ranks())


def batches(trainer: Trainer) -> Iterator[tuple[int, BatchPosition, dict]]:
    """(epoch, position, batch) without end, in the order of a real run; only whole batches, so that all steps are alike."""
    order = trainer.batches
    if order.clips > order.batch_size:
        order.clips -= order.clips % order.batch_size
    for epoch in itertools.count():
        order.set_epoch(epoch)
        for position, batch in trainer.loader:
            yield epoch, position, batch


def train_steps(trainer: Trainer, source: Iterator[tuple[int, BatchPosition, dict]], steps: int, *, forced: bool) -> Timing:
    """`steps` training steps as Trainer takes them, loading included, with true frames or the model's own fed back."""
    trainer.learner.model.train()
    synchronise(trainer.device)
    frames, loading, begin = 0, 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        trainer.epoch, position, batch = next(source)
        loading += time.perf_counter() - asked
        middle = trainer.batches.middle_of(position.first_clip)
        trainer.learner.set_lr(trainer.schedules.lr_at(trainer.epoch + middle))
        trainer.train_step(batch, position, teacher_forced=forced, beta=1.0)
        clips, length = batch["frames"].shape[:2]
        frames += clips * (length - 1)
    synchronise(trainer.device)
    return Timing(frames, time.perf_counter() - begin, loading)


def peak_memory(device: torch.device) -> tuple[float | None, str]:
    """The most memory in MiB that was in use at once, and whose: this process's, or with CUDA what its tensors held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20, "tensors on the GPU"
    # First the kernel's figure for this very program: on Linux ru_maxrss begins with that of the process that started it.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10, "the whole process"
    try:
        import resource
    except ImportError:
        return None, "not measured: Python has no module resource on this system"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10), "the whole process"  # macOS counts bytes


def run_point(options: list[str], trainer_flags: list[str]) -> dict:
    """What point.py measured in a fresh process; `problem` is None, or why nothing was measured."""
    command = [sys.executable, str(Path(__file__).with_name("point.py")), *options, "--", *trainer_flags]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, errors="replace")
    if done.returncode:
        return {"problem": why_failed(done.returncode, done.stderr)}
    return {"problem": None} | json.loads(done.stdout.splitlines()[-1])


def why_failed(status: int, stderr: str) -> str:
    """'out of memory', or the last line that a process with a non-zero exit status wrote."""
    # -9: on Linux the kernel kills without a word.
    if status == -9 or any(phrase in stderr.lower() for phrase in NO_MEMORY):
        return "out of memory"
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"ended with status {status}"


def processor() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def precision_in_use(trainer: Trainer) -> torch.dtype:
    """What convolutions run in. Asked of a Trainer that stands: a default may depend on the machine."""
    device = trainer.device
    with autocast(device, trainer.args.amp):
        return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def name_of(dtype: torch.dtype) -> str:
    """float32 for torch.float32."""
    return str(dtype).removeprefix("torch.")


def machine(flags: Namespace) -> dict[str, str]:
    """What was measured on, and when (UTC). Raises UserError for a device that is not there."""
    device = find_device(flags.device)
    gpu = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return {
        "CPU": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads in use",
        "device": f"{device}{gpu}",
        "versions": f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def number(value: float) -> str:
    """Three digits, more only where they stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def tabulate(title: str, rows: list[Row]) -> str:
    """Rows as a Markdown table under its title: the median of the rounds, beside it the smallest and the largest."""
    lines = []
    for row in rows:
        middle = number(statistics.median(row.values)) if row.values else row.note
        span = f"{number(min(row.values))} to {number(max(row.values))}" if len(row.values) > 1 else ""
        lines.append([row.what + (f" ({row.note})" if row.values and row.note else ""), row.unit, middle, span])
    return f"\n**{title}**\n\n" + markdown(["measured", "unit", "median", "min to max"], lines)
