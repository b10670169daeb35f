"""Measure how fast this machine trains, rolls out and reads, compared with the course's network and the machine's own limits.

    python benchmarks/speed.py --DR demo_data
    python benchmarks/speed.py --DR demo_data --skip cache -- --device cuda --amp bfloat16

Everything after -- is passed to Trainer.py. Candidates that are compared take turns, round by round, in one process. The parts:
train    predicted frames/s, teacher-forced, autoregressive, and averaged over the teacher-forcing schedule of the recipe
rollout  frames/s from prior samples
memory   peak memory of training, in a process of its own
compute  arithmetic per frame (torch counts convolutions and matrix products), compared with the rate of a matrix product
cache    building the frame cache, compared with decoding and resizing the same images
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
from argparse import Namespace
from collections.abc import Callable
from functools import cached_property, partial

import torch

from benchmarks.common.course_network import CourseBenchmark, load_course_network
from benchmarks.common.flops import count_gflop, matmul_gflops, training_gflop
from benchmarks.common.image_decoding import caching_rate, decoding_rate
from benchmarks.common.machine import describe_machine
from benchmarks.common.measure import (
    ROOT,
    Timing,
    batches,
    dtype_name,
    forcing_ratios,
    frame_rates,
    interleave,
    new_trainer,
    parse_flags,
    precision_in_use,
    ratios_by_round,
    time_work,
    train_steps,
)
from benchmarks.common.processes import run_point
from benchmarks.common.tables import Row, command_of, machine_table, measurement_table
from data.images import SUFFIXES, find_dataset
from evaluation.rollout import pad_time
from modules import build_model
from modules.base import VideoModel
from runtime.cli import COUNT, Parser
from runtime.devices import autocast
from runtime.program import one_line_errors
from Trainer import Trainer
from training.learner import model_inputs
from utils import UserError, to_model

TEST_SEQUENCES = 5  # of the course's test set
COURSE = "course network, float32"
COURSE_FILE = ROOT.parent / "shared" / "baseline" / "course_network.py"


class Bench:
    """The state that the parts share: flags, Trainer, the course's network, and the rates measured so far (one per round)."""

    def __init__(self, options: Namespace, flags: Namespace):
        self.options, self.flags = options, flags
        self.rates: dict[str, list[float]] = {}

    @cached_property
    def trainer(self) -> Trainer:
        """The Trainer that the flags describe."""
        return new_trainer(self.flags)

    @cached_property
    def course(self) -> tuple[CourseBenchmark | None, str]:
        """The course's network, or None and the reason why its rows are omitted."""
        return load_course_network(self.options.yardstick, self.trainer)


def recipe_rate(forced: float, autoregressive: float, ratios: list[float]) -> float:
    """Return frames/s over epochs of equal length, given the rates of both modes and each epoch's teacher-forcing ratio.

    This is a harmonic mean, because times add up and rates do not.
    """
    return len(ratios) / sum(ratio / forced + (1 - ratio) / autoregressive for ratio in ratios)


def gpu_utilization(device: torch.device) -> list[float]:
    """Return the GPU's recent utilization in percent, or an empty list if it is not available."""
    try:
        return [float(torch.cuda.utilization(device))] if device.type == "cuda" else []
    except (ImportError, RuntimeError):  # nvidia-ml-py is not installed, or the driver does not report it
        return []


def measure_training(bench: Bench) -> list[Row]:
    """Measure training, and the share of its time that is spent waiting for data."""
    trainer, utilization = bench.trainer, []
    source = batches(trainer)

    def ours(forced: bool) -> Timing:
        timing = train_steps(trainer, source, bench.options.steps, forced=forced)
        utilization.extend(gpu_utilization(trainer.device))
        return timing

    candidates = {"teacher-forced": lambda: ours(True), "autoregressive": lambda: ours(False)}
    course, _ = bench.course
    if course:
        candidates["course"] = course.time_training
    timings = interleave(candidates, bench.options.rounds)
    rows = training_rows(bench, timings)
    for name in ("teacher-forced", "autoregressive"):
        shares = [100 * timing.loading / timing.seconds for timing in timings[name]]
        rows.append(Row(f"data loading, share of a step, {name}", "%", shares))
    if utilization:
        rows.append(Row("GPU utilization", "%", utilization))
    return rows


def training_rows(bench: Bench, timings: dict[str, list[Timing]]) -> list[Row]:
    """Return the rates of training, over the recipe and compared with the course's network."""
    forced, autoregressive = frame_rates(timings["teacher-forced"]), frame_rates(timings["autoregressive"])
    ratios = forcing_ratios(bench.trainer.args)
    recipe = [recipe_rate(a, b, ratios) for a, b in zip(forced, autoregressive)]
    bench.rates |= {"training, teacher-forced": forced, "training, autoregressive": autoregressive}
    course, note = bench.course
    theirs = frame_rates(timings["course"]) if course else []
    rows = [
        Row("teacher-forced", "frames/s", forced),
        Row("autoregressive", "frames/s", autoregressive),
        Row(f"whole recipe, {len(ratios)} epochs", "frames/s", recipe),
        Row(f"{COURSE}, autoregressive", "frames/s", theirs, note),
    ]
    if course:
        rows.append(Row("autoregressive / course network", "times", ratios_by_round(autoregressive, theirs)))
        rows.append(Row("whole recipe / course network", "times", ratios_by_round(recipe, theirs)))
    return rows


def time_rollout(bench: Bench, batch_size: int) -> Timing:
    """Time a rollout of `batch_size` sequences over --rollout_frames frames, with the EMA weights."""
    trainer, frames = bench.trainer, bench.options.rollout_frames
    model, device = trainer.learner.ema_model.eval(), trainer.device
    assert isinstance(model, VideoModel)
    sequence, length = trainer.validation[0], frames + trainer.learner.model.context
    conditions = pad_time(sequence.conditions[:length], length)
    inputs = [to_model(torch.stack([part] * batch_size), device) for part in (sequence.context_frames, conditions)]
    with autocast(device, trainer.args.amp):
        seconds = time_work(lambda: model.rollout(*inputs), device)
    return Timing(batch_size * frames, seconds)


def measure_rollouts(bench: Bench) -> list[Row]:
    """Measure rollouts of one sequence and of a batch of them."""
    course, note = bench.course
    widths = {1: "one sequence", TEST_SEQUENCES: f"batch of {TEST_SEQUENCES}"}
    candidates: dict[tuple[str, int], Callable[[], Timing]] = {}
    for width in widths:
        candidates["ours", width] = partial(time_rollout, bench, width)
        if course:
            candidates["course", width] = partial(course.time_rollout, width)
    timings = interleave(candidates, bench.options.rounds)
    rows = []
    for width, name in widths.items():
        rates = frame_rates(timings["ours", width])
        theirs = frame_rates(timings["course", width]) if course else []
        bench.rates[f"rollout, {name}"] = rates
        rows += [Row(name, "frames/s", rates), Row(f"{COURSE}, {name}", "frames/s", theirs, note)]
        if course:
            rows.append(Row(f"{name} / course network", "times", ratios_by_round(rates, theirs)))
    if course:  # the course rolls out one sequence at a time
        alone = frame_rates(timings["course", 1])
        rows.append(Row(f"{name} / course network, one sequence", "times", ratios_by_round(rates, alone)))
    return rows


def measure_memory(bench: Bench) -> list[Row]:
    """Measure the peak memory of training in a process of its own."""
    point = run_point(["--steps", "3"], ["--DR", str(bench.options.DR), *bench.options.trainer_flags])
    peak = point.get("peak_mib")
    return [Row("training, autoregressive", "MiB", [peak] if peak else [], point["problem"] or point["memory_of"])]


def measure_compute(bench: Bench) -> list[Row]:
    """Count the arithmetic per frame, measure the machine's rate, and compute the share of that rate that is used."""
    gflop, rows = count_compute(bench.trainer)
    device, used = bench.trainer.device, precision_in_use(bench.trainer)
    size = bench.options.matrix or (8192 if device.type == "cuda" else 1024)
    machine_rates = {}
    for dtype in dict.fromkeys([torch.float32, torch.bfloat16, used]):  # without duplicates, in this order
        machine_rates[dtype] = matmul_gflops(dtype, device, size)
        rows.append(Row(f"matrix product, {dtype_name(dtype)}", "GFLOP/s", [machine_rates[dtype]]))
    for name, rates in bench.rates.items():
        per_frame = gflop["rollout" if name.startswith("rollout") else name]
        shares = [100 * per_frame * frames / machine_rates[used] for frames in rates]
        rows.append(Row(f"{name}, share of the {dtype_name(used)} rate", "%", shares))
    return rows


def count_compute(trainer: Trainer) -> tuple[dict[str, float], list[Row]]:
    """Return GFLOP per frame by name, and as rows. They are counted on a new, uncompiled model in float32."""
    model = build_model(trainer.config).to(trainer.device)
    _, _, batch = next(batches(trainer))
    inputs = model_inputs(batch, trainer.device)
    clips, length = batch["frames"].shape[:2]
    context, conditions = inputs["frames"][:, : model.context], inputs["conditions"][:, :length]
    gflop = {
        "training, teacher-forced": training_gflop(model, inputs, forced=True),
        "training, autoregressive": training_gflop(model, inputs, forced=False),
        "rollout": count_gflop(lambda: model.rollout(context, conditions), clips * (length - model.context)),
    }
    forward = count_gflop(lambda: model(**inputs, teacher_forcing=False), clips * (length - 1))
    rows = [Row("forward pass of training, autoregressive", "GFLOP/frame", [forward])]
    rows += [Row(name, "GFLOP/frame", [value]) for name, value in gflop.items()]
    return gflop, rows


def measure_cache(bench: Bench) -> list[Row]:
    """Measure building the frame cache of training images, compared with decoding and resizing them."""
    flags, root = bench.flags, find_dataset(bench.options.DR, "train")
    images = [path for path in (root / "train").rglob("*") if path.suffix.lower() in SUFFIXES]
    paths = sorted(images)[: bench.options.images]
    if not paths:
        raise UserError(f"{root / 'train'}: expected images, got none")
    height, width = flags.frame_H, flags.frame_W
    candidates = {
        "cache": lambda: caching_rate(paths, root=root, height=height, width=width),
        "decoding": lambda: decoding_rate(paths, height=height, width=width),
    }
    rates = interleave(candidates, bench.options.rounds)
    share = [100 * ratio for ratio in ratios_by_round(rates["cache"], rates["decoding"])]
    return [
        Row(f"building the frame cache, {len(paths)} images", "images/s", rates["cache"]),
        Row("decoding and resizing alone", "images/s", rates["decoding"]),
        Row("building / decoding alone", "%", share),
    ]


PARTS = {
    "train": measure_training,
    "rollout": measure_rollouts,
    "memory": measure_memory,
    "compute": measure_compute,
    "cache": measure_cache,
}


def speed_parser() -> Parser:
    """Return the parser of this program's flags."""
    parser = Parser("Measure speed, memory and arithmetic of training and rollout and print Markdown tables.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure (default: all)")
    add("--skip", nargs="+", choices=PARTS, default=[], help="parts to skip (default: none)")
    add("--rounds", type=COUNT, default=5, help="rounds of every candidate, after one to warm up")
    add("--steps", type=COUNT, default=5, help="training steps of a round")
    add("--rollout_frames", type=COUNT, default=120, help="predicted frames of a rollout")
    add("--images", type=COUNT, default=1000, help="number of images to read for the frame cache, at most")
    add("--matrix", type=COUNT, help="rows and columns of the multiplied matrices (default: 8192 with CUDA, else 1024)")
    add("--yardstick", type=Path, default=COURSE_FILE, metavar="FILE",
        help="Python file that defines the course's CourseNetwork; without it, the rows of that network are omitted "
             "(default: ../shared/baseline/course_network.py, next to the repository)")  # fmt: skip
    add("trainer_flags", nargs="*", metavar="-- FLAG", help="flags of Trainer.py")
    return parser


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    options = speed_parser().parse_args(argv)
    flags = parse_flags(["--DR", str(options.DR), *options.trainer_flags])
    find_dataset(options.DR, "train")
    print(f"`{command_of('speed.py', argv)}`\n")
    bench, machine = Bench(options, flags), describe_machine(flags)
    parts = [name for name in PARTS if name in options.only and name not in options.skip]
    if {"train", "rollout", "compute"} & set(parts):  # these construct a Trainer
        machine["precision"] = dtype_name(precision_in_use(bench.trainer))
    print(machine_table(machine))
    for name in parts:
        print(measurement_table(name, PARTS[name](bench)), flush=True)


if __name__ == "__main__":
    main()
