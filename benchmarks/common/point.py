"""One measurement in a process of its own, so that its memory is its own; speed.py and curves.py start it. Prints JSON.

    python benchmarks/common/point.py --steps 3 -- --DR demo_data    time and memory of training
    python benchmarks/common/point.py --steps 3 --images repeated.npy -- --DR demo_data    the loader alone

Everything behind -- goes to Trainer.py. Training feeds the model's own frames back, the dearer way.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import contextlib
import json
import statistics
import time

import numpy as np
import torch

from benchmarks.common.measure import batches, name_of, new_trainer, parse_flags, peak_memory, precision_in_use, train_steps
from data.dance import DanceClips, DanceSplit
from dataloader import ClipBatches, build_loader
from runtime.cli import COUNT, Parser
from runtime.devices import find_device
from utils import one_line_errors


def file_split(path: Path) -> DanceSplit:
    """Return a split whose frame cache is the file at `path`, (2 * N, 3, H, W) uint8, frames then poses: one contiguous video."""
    cached = np.load(path, mmap_mode="r")
    count = len(cached) // 2
    images = cached.reshape(2, count, *cached.shape[1:])
    return DanceSplit(folder=path, numbers=np.arange(count), usable=np.arange(count), images=images, digest="", skipped=None)


def training(args, steps: int) -> dict:
    """Seconds per predicted frame, the median step's, behind one step of warm-up."""
    begin = time.perf_counter()
    trainer = new_trainer(args)
    source = batches(trainer)
    first = train_steps(trainer, source, 1, forced=False)
    start_up = time.perf_counter() - begin - first.seconds
    timings = [train_steps(trainer, source, 1, forced=False) for _ in range(steps)]
    per_frame = statistics.median(timing.seconds / timing.frames for timing in timings)
    return {"seconds": per_frame, "start_up": start_up, "precision": name_of(precision_in_use(trainer))}


def loading(args, steps: int, images: Path) -> dict:
    """Seconds per batch, the median's, from the training clips of the cache file; start_up lasts until the first is there."""
    begin = time.perf_counter()
    clips = DanceClips(split=file_split(images), length=args.train_vi_len, partial=args.partial, seed=args.seed,
                       reference=args.reference, flip=args.flip, shift=args.shift, margin=args.pose_window // 2)  # fmt: skip
    clips.condition_scale()  # looks at every pose image, as a training does when it starts
    batches = ClipBatches(len(clips), batch_size=args.batch_size, accumulate=1, seed=args.seed)
    loader = build_loader(clips, batches, workers=args.num_workers, pin=False)
    source = iter(loader)
    next(source)
    start_up, times = time.perf_counter() - begin, []
    for _ in range(steps):
        begin = time.perf_counter()
        if next(source, None) is None:  # a short epoch; its end is no batch
            source = iter(loader)
            begin = time.perf_counter()
            next(source)
        times.append(time.perf_counter() - begin)
    return {"seconds": statistics.median(times), "start_up": start_up}


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Measure one point in this process and print it as JSON.")
    parser.add_argument("--steps", type=COUNT, default=3, help="steps, or batches, that are timed behind the first one")
    parser.add_argument("--images", type=Path, help="cache file of frames and poses; measures the loader alone")
    parser.add_argument("trainer_flags", nargs="*", help="behind --: flags of Trainer.py")
    options = parser.parse_args(argv)
    args = parse_flags(options.trainer_flags)
    # Where memory runs out, the kernel shall end this process and no other one.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # The loader's memory is the process's, wherever the model would be.
    device = torch.device("cpu") if options.images else find_device(args.device)
    imports, _ = peak_memory(device)
    result = loading(args, options.steps, options.images) if options.images else training(args, options.steps)
    most, whose = peak_memory(device)
    print(json.dumps(result | {"peak_mib": most, "imports_mib": imports, "memory_of": whose}))


if __name__ == "__main__":
    main()
