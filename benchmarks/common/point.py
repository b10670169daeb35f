"""Take one measurement and print it as JSON. speed.py and curves.py run this in a fresh process, whose memory is its own.

    python benchmarks/common/point.py --steps 3 -- --DR demo_data    time and memory of training
    python benchmarks/common/point.py --steps 3 --images repeated.npy -- --DR demo_data    the loader alone

Everything after -- is passed to Trainer.py. Training is autoregressive, which costs more than teacher forcing.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import contextlib
import json
import statistics
import time
from argparse import Namespace

import numpy as np
import torch

from benchmarks.common.machine import peak_memory
from benchmarks.common.measure import batches, dtype_name, new_trainer, parse_flags, precision_in_use, train_steps
from data.dance import DanceClips, DanceSplit
from dataloader import ClipBatches, build_loader
from runtime.cli import COUNT, Parser
from runtime.devices import find_device
from runtime.program import one_line_errors


def file_split(path: Path) -> DanceSplit:
    """Return a split whose frame cache is the file at `path`, (2 * N, 3, H, W) uint8, frames then poses: one contiguous video."""
    cached = np.load(path, mmap_mode="r")
    count = len(cached) // 2
    images = cached.reshape(2, count, *cached.shape[1:])
    return DanceSplit(folder=path, numbers=np.arange(count), usable=np.arange(count), images=images, digest="", skipped=None)


def measure_training(flags: Namespace, steps: int) -> dict:
    """Return seconds per predicted frame (of the median step), seconds until the first step, and the precision."""
    begin = time.perf_counter()
    trainer = new_trainer(flags)
    source = batches(trainer)
    first = train_steps(trainer, source, 1, forced=False)
    start_up = time.perf_counter() - begin - first.seconds
    timings = [train_steps(trainer, source, 1, forced=False) for _ in range(steps)]
    per_frame = statistics.median(timing.seconds / timing.frames for timing in timings)
    return {"seconds": per_frame, "start_up": start_up, "precision": dtype_name(precision_in_use(trainer))}


def measure_loading(flags: Namespace, steps: int, images: Path) -> dict:
    """Return the median seconds per batch of clips from the cache file, and the seconds until the first batch."""
    begin = time.perf_counter()
    clips = DanceClips(split=file_split(images), length=flags.train_vi_len, partial=flags.partial, seed=flags.seed,
                       reference=flags.reference, flip=flags.flip, shift=flags.shift, margin=flags.pose_window // 2)  # fmt: skip
    clips.condition_scale()  # reads every pose image, as the start of a training does
    sampler = ClipBatches(len(clips), batch_size=flags.batch_size, accumulate=1, seed=flags.seed)
    loader = build_loader(clips, sampler, workers=flags.num_workers, pin=False)
    source = iter(loader)
    next(source)
    start_up, times = time.perf_counter() - begin, []
    for _ in range(steps):
        begin = time.perf_counter()
        if next(source, None) is None:  # the epoch has ended; time the first batch of the next one instead
            source = iter(loader)
            begin = time.perf_counter()
            next(source)
        times.append(time.perf_counter() - begin)
    return {"seconds": statistics.median(times), "start_up": start_up}


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Measure time and memory of training, or of the loader, in this process and print them as JSON.")
    parser.add_argument("--steps", type=COUNT, default=3, help="training steps, or batches, to time after the first one")
    parser.add_argument("--images", type=Path, help="cache file of frames and poses; measures the loader alone")
    parser.add_argument("trainer_flags", nargs="*", metavar="-- FLAG", help="flags of Trainer.py")
    options = parser.parse_args(argv)
    flags = parse_flags(options.trainer_flags)
    # If memory runs out, the kernel should kill this process and no other.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # The loader uses the memory of the process, even if the model would be on a GPU.
    device = torch.device("cpu") if options.images else find_device(flags.device)
    imports = peak_memory(device)
    steps, images = options.steps, options.images
    result = measure_loading(flags, steps, images) if images else measure_training(flags, steps)
    peak = peak_memory(device)
    print(json.dumps(result | {"peak_mib": peak.mib, "imports_mib": imports.mib, "memory_of": peak.scope}))


if __name__ == "__main__":
    main()
