"""What 1, 8 and 64 GPUs would make of an epoch: a table on paper, from what one process does on this machine.

    python benchmarks/scaling.py --DR LAB4_Dataset
    python benchmarks/scaling.py --DR LAB4_Dataset --gpu_tflops 40 -- --amp bfloat16 --num_workers 2

Everything behind -- goes to Trainer.py. Measured are the training step, the loader, and what the data set's lists take;
counted are gradients, arithmetic and operators. True and own frames fed back are weighted as in the recipe. All the rest is
assumed: a flag each, printed above the table. On a GPU the step's compute is the measured one; on a CPU it is the longer of
the arithmetic at --gpu_tflops and the launching of the operators, which goes on beside it.

--batch_size is per process: N GPUs take N times as many clips a step and so N times fewer steps. An epoch is one pass, frames
/ frames of a clip, as with --epoch_size 0. Data parallel training averages the gradients after every step by a ring
all-reduce, for which each of N processes sends 2 (N - 1) / N times their bytes in 2 (N - 1) hops; the ring is as fast as its
slowest link, with several nodes the network. Without overlap this follows the compute; with overlap the shorter of the two
costs nothing, which is a bound: the model is unrolled in time, so a gradient is complete only when the backward pass has
reached the first frame. Loading is added to the step if the training process does it (--num_workers 0), else the step takes
the longer of the two.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import shlex
import statistics
import tracemalloc
from argparse import Namespace
from collections.abc import Callable, Iterator

import torch

from benchmarks.common.cluster import Cluster, Epoch, Work, compute_on_gpu, efficiency, on_paper, weighted
from benchmarks.common.flops import count_operators, training_gflop
from benchmarks.common.measure import (
    Row,
    batches,
    forcing_ratios,
    interleaved,
    machine,
    markdown,
    name_of,
    new_trainer,
    number,
    parse_flags,
    precision_in_use,
    seconds,
    tabulate,
    train_steps,
)
from modules import build_model
from runtime.cli import COUNT, NOT_NEGATIVE, POSITIVE, Parser
from runtime.devices import find_device
from Trainer import Trainer
from training.learner import model_inputs
from utils import UserError, one_line_errors

# What the table assumes: default, type, meaning. The first two are of no use where a GPU was measured.
ASSUMED = {
    "gpu_tflops": (20.0, POSITIVE, "TFLOP/s that one GPU sustains in this model"),
    "launch_us": (10.0, NOT_NEGATIVE, "microseconds that Python and torch take to launch one operator"),
    "node_gpus": (8, COUNT, "GPUs of a node"),
    "node_gbytes": (150.0, POSITIVE, "GB/s from one GPU to the next within a node"),
    "net_gbytes": (12.5, POSITIVE, "GB/s from one node to the next"),
    "latency_us": (5.0, NOT_NEGATIVE, "microseconds of one hop of the ring"),
    "bucket_mb": (25.0, POSITIVE, "MiB of gradients in one collective, torch's own default"),
}
LEFT_OUT = (
    "Also assumed: every process has cores and a loader of its own, as fast as here, with the frame cache in memory. Left out: "
    "start-up, validation, checkpoints, copies to the GPU, waiting for the slowest process, and that a batch N times as large "
    "trains differently. Frames a step are predicted ones; sent is by each process in a step; efficiency is the time of one "
    "GPU over N times that of N."
)
DATA_NOTE = (
    "Measured on this data set and taken to grow with the frames. Every process has these lists, and every loader worker a copy "
    "of what it touches of them. Start-up lists and checks the files and looks at every condition. A cache that does not fit "
    "into memory is read from the disk clip by clip, which the loader's time above does not show."
)


def span(taken: float) -> str:
    """Seconds in the unit that reads best."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if taken >= 2 * size:
            return f"{number(taken / size)} {unit}"
    return f"{number(taken)} s"


def bytes_each(build: Callable[[], object], count: int) -> tuple[float, float]:
    """Bytes that what `build` returns holds, and the most at once in between, for each of `count`; linear in them, so assumed."""
    tracemalloc.start()
    try:
        result = build()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del result
    return kept / count, most / count


def time_loader(source: Iterator[tuple[int, int, dict]], count: int) -> float:
    """Seconds per batch of the loader alone."""
    return seconds(lambda: [next(source) for _ in range(count)], torch.device("cpu")) / count


class Bench:
    """The Trainer that the flags describe, and what was measured and counted of it."""

    def __init__(self, options: Namespace, flags: Namespace):
        self.options = options
        self.trainer = new_trainer(flags)
        self.aside = self.trainer.loader.num_workers > 0
        self.source = batches(self.trainer)
        _, self.position, self.batch = next(self.source)
        self.clips, self.length = self.batch["frames"].shape[:2]
        parameters = [weights for weights in self.trainer.learner.model.parameters() if weights.requires_grad]
        self.parameters = sum(weights.numel() for weights in parameters)
        self.gradients = sum(weights.numel() * weights.element_size() for weights in parameters)
        ratios = forcing_ratios(flags)
        self.ratio = sum(ratios) / len(ratios)

    def times(self) -> tuple[list[float], list[float], list[float]]:
        """Seconds of a step without loading by round, true frames and own frames fed back, and of a batch from the loader."""
        candidates = {fed: lambda fed=fed: train_steps(self.trainer, self.source, self.options.steps, forced=fed)
                      for fed in (True, False)}  # fmt: skip
        timings = interleaved(candidates, self.options.rounds)
        loading = interleaved({"": lambda: time_loader(self.source, self.options.batches)}, self.options.rounds)[""]
        forced, own = ([(t.seconds - t.loading) / self.options.steps for t in timings[fed]] for fed in (True, False))
        return forced, own, loading

    def flop(self) -> float:
        """Floating-point operations of a step over the recipe, counted on a model as it is built, in float32."""
        model = build_model(self.trainer.config).to(self.trainer.device)
        inputs = model_inputs(self.batch, self.trainer.device)
        forced, own = (training_gflop(model, inputs, forced=fed) for fed in (True, False))
        return weighted(self.ratio, forced, own) * 1e9 * self.clips * (self.length - 1)

    def operators(self) -> float:
        """Operators of a step over the recipe, optimizer and averaged weights included; times() has been there before.

        The optimizer's first step makes its state, which no later one does.
        """
        self.trainer.learner.model.train()
        step = partial(self.trainer.train_step, self.batch, self.position, beta=1.0)
        forced, own = (count_operators(partial(step, teacher_forced=fed)) for fed in (True, False))
        return weighted(self.ratio, forced, own)


def measure(bench: Bench) -> tuple[Work, Work, list[Row]]:
    """A step of this machine's process, a step on a GPU, and the rows that say what they were made of."""
    forced, own, loading = bench.times()
    steps = [weighted(bench.ratio, a, b) for a, b in zip(forced, own)]
    here = Work(statistics.median(steps), statistics.median(loading), bench.aside, bench.gradients, bench.clips, bench.length)
    flop, on_gpu, device, options = bench.flop(), here, bench.trainer.device, bench.options
    rows = [
        Row("step, true frames fed back, without loading", "ms", [1e3 * taken for taken in forced]),
        Row("step, own frames fed back, without loading", "ms", [1e3 * taken for taken in own]),
        Row(f"step over the recipe, {100 * bench.ratio:.0f} % of true frames", "ms", [1e3 * taken for taken in steps]),
        Row(f"a batch from the loader, {bench.trainer.loader.num_workers} workers", "ms", [1e3 * taken for taken in loading]),
        Row("the loader alone", "frames/s", [bench.clips * bench.length / taken for taken in loading]),
        Row("clips of a batch", "", [float(bench.clips)]),
        Row("frames of a clip", "", [float(bench.length)]),
        Row("parameters", "", [float(bench.parameters)]),
        Row("gradients", "MB", [bench.gradients / 1e6]),
        Row("arithmetic of a step over the recipe", "GFLOP", [flop / 1e9]),
    ]
    if device.type == "cpu":
        operators = bench.operators()
        rows.append(Row("operators of a step over the recipe", "", [operators]))
        compute = compute_on_gpu(flop, operators, tflops=options.gpu_tflops, launch_us=options.launch_us)
        on_gpu = here._replace(compute=compute)
        rows.append(Row("a step on the assumed GPU: arithmetic", "ms", [flop / options.gpu_tflops / 1e9]))
        rows.append(Row("a step on the assumed GPU: launches", "ms", [operators * options.launch_us / 1e3]))
    return here, on_gpu, rows


def epoch_line(name: str, gpus: int, frames: int, work: Work, epoch: Epoch) -> list[str]:
    """A line of the table of epochs, without the efficiencies."""
    milliseconds = [number(1e3 * taken) for taken in (work.compute, work.loading, epoch.communication)]
    counts = [f"{count:,}" for count in (frames, gpus * work.clips * (work.length - 1), epoch.steps)]
    return [name, *counts, *milliseconds, number(epoch.sent / 1e6), span(epoch.apart), span(epoch.overlapped)]


def table_of_epochs(here: Work, on_gpu: Work, cluster: Cluster, options: Namespace) -> str:
    """For each number of frames this machine's process as measured, and every number of GPUs on paper."""
    lines = []
    for frames in options.frames:
        measured = on_paper(here, cluster, gpus=1, frames=frames)
        lines.append(epoch_line("this machine, as measured", 1, frames, here, measured) + ["", ""])
        alone = on_paper(on_gpu, cluster, gpus=1, frames=frames)
        for gpus in options.gpus:
            epoch = on_paper(on_gpu, cluster, gpus=gpus, frames=frames)
            shares = [efficiency(alone.apart, epoch.apart, gpus), efficiency(alone.overlapped, epoch.overlapped, gpus)]
            lines.append(epoch_line(str(gpus), gpus, frames, on_gpu, epoch) + [f"{share:.0f} %" for share in shares])
    return markdown(["GPUs", "frames", "frames a step", "steps", "compute, ms", "loading, ms", "communication, ms", "sent, MB",
                     "epoch", "epoch with overlap", "efficiency", "efficiency with overlap"], lines)  # fmt: skip


def table_of_data(trainer: Trainer, options: Namespace) -> str:
    """What the frame cache and the lists of a process take; measured on this data set, taken to be linear."""
    task, args = trainer.task, trainer.args
    clips = task.clips(args)
    images = clips.split.images  # (..., N, 3, H, W)
    count = images.shape[-4]
    kept, most = bytes_each(lambda: task.clips(args), count)
    _, order = bytes_each(lambda: list(trainer.batches), trainer.batches.epoch_clips)
    start_up = seconds(lambda: task.clips(args).condition_scale(), torch.device("cpu")) / count
    lines = []
    for frames in options.frames:
        sizes = [images.nbytes / count, order / clips.length, kept, most, options.node_gpus * most]
        lines.append([f"{frames:,}", *(number(frames * size / 1e9) for size in sizes), span(frames * start_up)])
    return markdown(["frames", "frame cache, GB", "order of an epoch, GB a process", "list of clips, GB a process",
                     "most while that is made, GB a process", "the same, GB a node", "start-up"], lines)  # fmt: skip


def table_of_assumptions(options: Namespace, device: torch.device) -> str:
    """What was assumed, with the flag that changes it."""
    names = list(ASSUMED)[0 if device.type == "cpu" else 2 :]
    return markdown(["assumed", "", "flag"], [[ASSUMED[name][2], number(getattr(options, name)), f"--{name}"] for name in names])


def refuse(flags: Namespace, device: torch.device) -> None:
    """Raises UserError for flags under which the counts would be wrong."""
    if flags.accumulate > 1:
        raise UserError(f"--accumulate {flags.accumulate}: found behind --; expected 1, every batch of the table is a step")
    if flags.compile and device.type == "cpu":
        raise UserError("--compile: found behind --; expected none on a CPU, the operators are counted as they are written")


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("What N GPUs would make of an epoch, on paper; everything is printed as Markdown.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add("--gpus", type=COUNT, nargs="+", default=[1, 8, 64], metavar="N", help="numbers of GPUs")
    add("--frames", type=COUNT, nargs="+", default=[23_410, 100_000_000], metavar="N", help="training frames of an epoch")
    add("--rounds", type=COUNT, default=5, help="turns of everything that is timed, behind one to warm up")
    add("--steps", type=COUNT, default=5, help="training steps of a turn")
    add("--batches", type=COUNT, default=50, help="batches of a turn of the loader")
    for name, (default, kind, meaning) in ASSUMED.items():
        add(f"--{name}", type=kind, default=default, metavar="N", help=f"assumed: {meaning}")
    add("trainer_flags", nargs="*", help="behind --: flags of Trainer.py")
    options = parser.parse_args(argv)
    flags = parse_flags(["--DR", str(options.DR), *options.trainer_flags])
    about = machine(flags)
    refuse(flags, find_device(flags.device))
    bench = Bench(options, flags)
    about["precision"] = name_of(precision_in_use(bench.trainer))
    here, on_gpu, rows = measure(bench)
    cluster = Cluster(options.node_gpus, 1e9 * options.node_gbytes, 1e9 * options.net_gbytes, 1e-6 * options.latency_us,
                      2**20 * options.bucket_mb)  # fmt: skip
    print(f"`{shlex.join(['python', 'benchmarks/scaling.py', *(sys.argv[1:] if argv is None else argv)])}`\n")
    print(markdown(["machine", ""], [list(line) for line in about.items()]))
    print(tabulate("measured and counted", rows))
    print(f"\n{table_of_assumptions(options, bench.trainer.device)}\n\n{LEFT_OUT}")
    print(f"\n**an epoch, on paper**\n\n{table_of_epochs(here, on_gpu, cluster, options)}")
    print(f"\n**its data**\n\n{table_of_data(bench.trainer, options)}\n\n{DATA_NOTE}")


if __name__ == "__main__":
    main()
