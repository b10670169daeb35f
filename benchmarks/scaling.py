"""Estimate an epoch on 1, 8 and 64 GPUs from the measured training step of one process on this machine.

    python benchmarks/scaling.py --DR LAB4_Dataset
    python benchmarks/scaling.py --DR LAB4_Dataset --gpu_tflops 40 -- --amp bfloat16 --num_workers 2

Everything after -- is passed to Trainer.py. The benchmark measures the training step, the loader, and the memory and time that
listing the data set takes. It counts gradients, arithmetic and operators. Teacher-forced and autoregressive steps are averaged
as in the recipe. All other values are assumptions; each is a flag and is printed above the table. On a GPU, the compute time of
a step is measured. On a CPU, it is the longer of the arithmetic at --gpu_tflops and the launches of the operators, which run in
parallel.

--batch_size is per process: N GPUs take N times as many clips per step, so an epoch has N times fewer steps. An epoch is one
pass over the frames, as with --epoch_size 0. Data-parallel training averages the gradients after every step with a ring
all-reduce. Each of N processes sends 2 (N - 1) / N times their bytes in 2 (N - 1) hops. The ring is as fast as its slowest
link, which with several nodes is the network. Without overlap, communication follows the compute. With overlap, the shorter of
the two costs nothing. That is a lower bound: the model is unrolled in time, so a gradient is complete only when the backward
pass has reached the first frame. With --num_workers 0, the training process loads the batches itself, so the loading time is
added to the step. Otherwise a step takes the longer of the two.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import statistics
import tracemalloc
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from benchmarks.common.cluster import (
    Cluster,
    EpochEstimate,
    StepCost,
    efficiency,
    estimate_epoch,
    gpu_compute_seconds,
    recipe_mean,
)
from benchmarks.common.flops import count_operators, training_gflop
from benchmarks.common.machine import describe_machine
from benchmarks.common.measure import (
    batches,
    dtype_name,
    forcing_ratios,
    interleave,
    new_trainer,
    parse_flags,
    precision_in_use,
    time_work,
    train_steps,
)
from benchmarks.common.tables import Row, command_of, format_number, machine_table, markdown_table, measurement_table
from modules import build_model
from runtime.cli import COUNT, NOT_NEGATIVE, POSITIVE, Parser
from runtime.devices import find_device
from runtime.program import one_line_errors
from training.learner import model_inputs
from utils import UserError

# The assumptions: default, type, meaning. If a GPU was measured, gpu_tflops and launch_us are not used.
ASSUMPTIONS = {
    "gpu_tflops": (20.0, POSITIVE, "speed of one GPU in this model in TFLOP/s"),
    "launch_us": (10.0, NOT_NEGATIVE, "time in which Python and torch launch one operator, in microseconds"),
    "node_gpus": (8, COUNT, "GPUs of a node"),
    "node_gbytes": (150.0, POSITIVE, "bandwidth between two GPUs of a node in GB/s"),
    "net_gbytes": (12.5, POSITIVE, "bandwidth between two nodes in GB/s"),
    "latency_us": (5.0, NOT_NEGATIVE, "latency of one hop of the ring in microseconds"),
    "bucket_mb": (25.0, POSITIVE, "gradients per collective in MiB; torch uses 25"),
}
EPOCH_HEADER = ["GPUs", "frames", "frames per step", "steps", "compute, ms", "loading, ms", "communication, ms", "sent, MB",
                "epoch", "epoch with overlap", "efficiency", "efficiency with overlap"]  # fmt: skip
EPOCH_NOTE = (
    "Also assumed: every process has its own cores and a loader as fast as here, with the frame cache in memory. Not included: "
    "start-up, validation, checkpoints, copies to the GPU, waiting for the slowest process, and the effect of an N times larger "
    "batch on the training. Frames per step are predicted frames. MB sent are per process and step. Efficiency is the time of "
    "one GPU divided by N times the time of N GPUs."
)
DATA_HEADER = ["frames", "frame cache, GB", "order of an epoch, GB per process", "list of clips, GB per process",
               "peak while listing, GB per process", "peak while listing, GB per node", "start-up"]  # fmt: skip
DATA_NOTE = (
    "Measured on this data set and extrapolated linearly in the frames. Every process has these lists, and every loader worker "
    "copies the parts of them that it touches. Start-up lists and checks the files and reads every condition. A cache that does "
    "not fit into memory is read from disk clip by clip; the loading time above does not include that."
)


class StepTimes(NamedTuple):
    """Seconds in each round."""

    forced: list[float]  # of a teacher-forced step, without loading
    autoregressive: list[float]  # of an autoregressive step, without loading
    loading: list[float]  # of a batch from the loader


class Bench:
    """The Trainer that the flags describe, and the sizes and times of its steps."""

    def __init__(self, options: Namespace, flags: Namespace):
        self.options = options
        self.trainer = new_trainer(flags)
        self.source = batches(self.trainer)
        _, self.position, self.batch = next(self.source)
        self.clips, self.length = self.batch["frames"].shape[:2]
        weights = [weight for weight in self.trainer.learner.model.parameters() if weight.requires_grad]
        self.parameters = sum(weight.numel() for weight in weights)
        self.gradient_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
        ratios = forcing_ratios(flags)
        self.ratio = sum(ratios) / len(ratios)

    def time_steps(self) -> StepTimes:
        """Time training steps in both modes in turns, and the loader."""
        steps, rounds = self.options.steps, self.options.rounds

        def step_seconds(forced: bool) -> float:
            timing = train_steps(self.trainer, self.source, steps, forced=forced)
            return (timing.seconds - timing.loading) / steps

        taken = interleave({True: lambda: step_seconds(True), False: lambda: step_seconds(False)}, rounds)
        loading = interleave({"loader": lambda: time_loader(self.source, self.options.batches)}, rounds)
        return StepTimes(taken[True], taken[False], loading["loader"])

    def count_flop(self) -> float:
        """Return the mean floating-point operations of a step, counted on a new, uncompiled model in float32."""
        model = build_model(self.trainer.config).to(self.trainer.device)
        inputs = model_inputs(self.batch, self.trainer.device)
        forced = training_gflop(model, inputs, forced=True)
        autoregressive = training_gflop(model, inputs, forced=False)
        return recipe_mean(self.ratio, forced, autoregressive) * 1e9 * self.clips * (self.length - 1)

    def count_step_operators(self) -> float:
        """Return the mean number of operators of a step, with the optimizer and the EMA weights.

        Call time_steps() before: the first step also creates the optimizer's state.
        """
        self.trainer.learner.model.train()
        step = partial(self.trainer.train_step, self.batch, self.position, beta=1.0)
        forced = count_operators(partial(step, teacher_forced=True))
        autoregressive = count_operators(partial(step, teacher_forced=False))
        return recipe_mean(self.ratio, forced, autoregressive)


class Measurement(NamedTuple):
    """The cost of a step, and the rows of the table that explain it."""

    here: StepCost  # on this machine
    on_gpu: StepCost  # on one GPU: the measured one, or the assumed one where a CPU was measured
    rows: list[Row]


def span(seconds: float) -> str:
    """Return a duration in its most readable unit."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{format_number(seconds / size)} {unit}"
    return f"{format_number(seconds)} s"


def bytes_per_item(build: Callable[[], object], count: int) -> tuple[float, float]:
    """Return the bytes that the result of `build` holds, and the peak during `build`, both divided by `count`."""
    tracemalloc.start()
    try:
        result = build()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del result
    return kept / count, peak / count


def time_loader(source: Iterator, count: int) -> float:
    """Return the seconds per batch of the loader alone."""

    def load() -> None:
        for _ in range(count):
            next(source)

    return time_work(load, torch.device("cpu")) / count


def measure(bench: Bench) -> Measurement:
    """Measure the step of a process on this machine and derive that of a GPU."""
    times, workers = bench.time_steps(), bench.trainer.loader.num_workers
    recipe = [recipe_mean(bench.ratio, forced, own) for forced, own in zip(times.forced, times.autoregressive)]
    here = StepCost(
        compute=statistics.median(recipe), loading=statistics.median(times.loading), parallel_loading=workers > 0,
        gradient_bytes=bench.gradient_bytes, clips=bench.clips, length=bench.length,
    )  # fmt: skip
    flop = bench.count_flop()
    rows = [
        Row("teacher-forced step, without loading", "ms", [1e3 * seconds for seconds in times.forced]),
        Row("autoregressive step, without loading", "ms", [1e3 * seconds for seconds in times.autoregressive]),
        Row(f"mean step of the recipe, {100 * bench.ratio:.0f} % teacher-forced", "ms", [1e3 * seconds for seconds in recipe]),
        Row(f"a batch from the loader, {workers} workers", "ms", [1e3 * seconds for seconds in times.loading]),
        Row("the loader alone", "frames/s", [bench.clips * bench.length / seconds for seconds in times.loading]),
        Row("clips of a batch", "", [float(bench.clips)]),
        Row("frames of a clip", "", [float(bench.length)]),
        Row("parameters", "", [float(bench.parameters)]),
        Row("gradients", "MB", [bench.gradient_bytes / 1e6]),
        Row("arithmetic of the mean step", "GFLOP", [flop / 1e9]),
    ]
    if bench.trainer.device.type != "cpu":
        return Measurement(here, here, rows)
    return assumed_gpu(bench, Measurement(here, here, rows), flop)


def assumed_gpu(bench: Bench, measured: Measurement, flop: float) -> Measurement:
    """Return the measurement with the compute of the assumed GPU, for a machine without one."""
    tflops, launch_us = bench.options.gpu_tflops, bench.options.launch_us
    operators = bench.count_step_operators()
    on_gpu = measured.here._replace(compute=gpu_compute_seconds(flop, operators, tflops=tflops, launch_us=launch_us))
    rows = [
        Row("operators of the mean step", "", [operators]),
        Row("mean step on the assumed GPU: arithmetic", "ms", [flop / tflops / 1e9]),
        Row("mean step on the assumed GPU: launches", "ms", [operators * launch_us / 1e3]),
    ]
    return measured._replace(on_gpu=on_gpu, rows=measured.rows + rows)


def epoch_line(name: str, gpus: int, frames: int, cost: StepCost, epoch: EpochEstimate) -> list[str]:
    """Return a line of the table of epochs, without the two efficiencies."""
    counts = [f"{count:,}" for count in (frames, gpus * cost.clips * (cost.length - 1), epoch.steps)]
    milliseconds = [format_number(1e3 * seconds) for seconds in (cost.compute, cost.loading, epoch.communication)]
    return [name, *counts, *milliseconds, format_number(epoch.sent_bytes / 1e6), span(epoch.sequential), span(epoch.overlapped)]


def epoch_table(measured: Measurement, options: Namespace) -> str:
    """Return a table of epochs, for each of --frames: as measured on this machine, and as estimated for each of --gpus."""
    cluster = Cluster(
        node_gpus=options.node_gpus, node_bandwidth=1e9 * options.node_gbytes, network_bandwidth=1e9 * options.net_gbytes,
        hop_latency=1e-6 * options.latency_us, bucket_bytes=2**20 * options.bucket_mb,
    )  # fmt: skip
    lines = []
    for frames in options.frames:
        here = estimate_epoch(measured.here, cluster, gpus=1, frames=frames)
        lines.append([*epoch_line("this machine, as measured", 1, frames, measured.here, here), "", ""])
        one = estimate_epoch(measured.on_gpu, cluster, gpus=1, frames=frames)
        for gpus in options.gpus:
            epoch = estimate_epoch(measured.on_gpu, cluster, gpus=gpus, frames=frames)
            sequential = efficiency(one.sequential, epoch.sequential, gpus)
            overlapped = efficiency(one.overlapped, epoch.overlapped, gpus)
            line = epoch_line(str(gpus), gpus, frames, measured.on_gpu, epoch)
            lines.append([*line, f"{sequential:.0f} %", f"{overlapped:.0f} %"])
    return markdown_table(EPOCH_HEADER, lines)


def data_table(bench: Bench) -> str:
    """Return a table of the memory and start-up time of the frame cache and of a process's lists, extrapolated to --frames."""
    trainer, options = bench.trainer, bench.options
    task, args = trainer.task, trainer.args
    images = task.clips(args).split.images  # type: ignore[attr-defined]  # (..., N, 3, H, W), for every task
    count = images.shape[-4]
    kept, peak = bytes_per_item(lambda: task.clips(args), count)
    _, order = bytes_per_item(lambda: list(trainer.batches), trainer.batches.epoch_clips)
    start_up = time_work(lambda: task.clips(args).condition_scale(), torch.device("cpu")) / count
    bytes_per_frame = [images.nbytes / count, order / bench.length, kept, peak, options.node_gpus * peak]
    lines = []
    for frames in options.frames:
        gigabytes = [format_number(frames * size / 1e9) for size in bytes_per_frame]
        lines.append([f"{frames:,}", *gigabytes, span(frames * start_up)])
    return markdown_table(DATA_HEADER, lines)


def assumption_table(options: Namespace, device: torch.device) -> str:
    """Return a table of the assumptions that were used, with their flags."""
    lines = []
    for name, (_, _, meaning) in ASSUMPTIONS.items():
        if device.type == "cpu" or name not in ("gpu_tflops", "launch_us"):
            lines.append([meaning, format_number(getattr(options, name)), f"--{name}"])
    return markdown_table(["assumed", "", "flag"], lines)


def check_flags(flags: Namespace) -> None:
    """Raise UserError for flags of Trainer.py with which the counts would be wrong, or for a missing device."""
    if flags.accumulate > 1:
        raise UserError(f"--accumulate {flags.accumulate}: expected 1 after --; the table counts every batch as a step")
    if flags.compile and find_device(flags.device).type == "cpu":
        raise UserError("--compile: not expected after -- on a CPU; operators are counted without compilation")


def scaling_parser() -> Parser:
    """Return the parser of this program's flags."""
    parser = Parser("Estimate an epoch on N GPUs from the step of this machine and print Markdown tables.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add("--gpus", type=COUNT, nargs="+", default=[1, 8, 64], metavar="N", help="numbers of GPUs")
    add("--frames", type=COUNT, nargs="+", default=[23_410, 100_000_000], metavar="N", help="training frames of an epoch")
    add("--rounds", type=COUNT, default=5, help="rounds of every measurement, after one to warm up")
    add("--steps", type=COUNT, default=5, help="training steps of a round")
    add("--batches", type=COUNT, default=50, help="batches of the loader in a round")
    for name, (default, kind, meaning) in ASSUMPTIONS.items():
        add(f"--{name}", type=kind, default=default, help=f"assumed: {meaning}")
    add("trainer_flags", nargs="*", metavar="-- FLAG", help="flags of Trainer.py")
    return parser


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    options = scaling_parser().parse_args(argv)
    flags = parse_flags(["--DR", str(options.DR), *options.trainer_flags])
    machine = describe_machine(flags)
    check_flags(flags)
    bench = Bench(options, flags)
    machine["precision"] = dtype_name(precision_in_use(bench.trainer))
    measured = measure(bench)
    print(f"`{command_of('scaling.py', argv)}`\n")
    print(machine_table(machine))
    print(measurement_table("measured and counted", measured.rows))
    print(f"\n{assumption_table(options, bench.trainer.device)}\n\n{EPOCH_NOTE}")
    print(f"\n**estimated epoch**\n\n{epoch_table(measured, options)}")
    print(f"\n**data of an epoch**\n\n{data_table(bench)}\n\n{DATA_NOTE}")


if __name__ == "__main__":
    main()
