"""How fast this machine trains, rolls out and reads, beside the course's network and the machine's own arithmetic.

    python benchmarks/speed.py --DR demo_data
    python benchmarks/speed.py --DR demo_data --skip cache -- --device cuda --amp bfloat16

Everything behind -- goes to Trainer.py, whose Trainer is what is measured. What is compared takes turns, round by round, in
one process. train: predicted frames/s with true frames fed back, with the model's own, and over the recipe's whole
teacher-forcing schedule. rollout: frames/s from prior samples. memory: the peak of a training process of its own.
compute: arithmetic per frame (torch counts convolutions and matrix products) against the rate of a plain matrix product.
cache: the frame cache's building against reading and resizing the same images.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import shlex
from argparse import Namespace
from functools import cached_property

import torch

from benchmarks.common.course_network import load_course
from benchmarks.common.flops import count_gflop, matrix_rate, training_gflop
from benchmarks.common.image_decoding import building_rate, decoding_rate
from benchmarks.common.measure import (
    ROOT,
    Row,
    Timing,
    batches,
    by_round,
    forcing_ratios,
    interleaved,
    machine,
    markdown,
    name_of,
    new_trainer,
    parse_flags,
    per_second,
    precision_in_use,
    run_point,
    seconds,
    tabulate,
    train_steps,
)
from data.images import SUFFIXES, find_dataset
from evaluation.rollout import pad_time
from modules import build_model
from runtime.cli import COUNT, Parser
from runtime.devices import autocast
from Trainer import Trainer
from training.learner import model_inputs
from utils import UserError, one_line_errors, to_model

SIDE_BY_SIDE = 5  # sequences, as many as the course's test set has
COURSE = "course network, float32"


class Bench:
    """What the parts share: the run that the flags describe, the yardstick, and the rates found so far, a value per round."""

    def __init__(self, options: Namespace, flags: Namespace):
        self.options, self.flags = options, flags
        self.rates: dict[str, list[float]] = {}

    @cached_property
    def trainer(self) -> Trainer:
        return new_trainer(self.flags)

    @cached_property
    def course(self):
        """The yardstick or None, and the note in place of its rows."""
        return load_course(self.options.yardstick, self.trainer)


def recipe_rate(forced: float, own: float, ratios: list[float]) -> float:
    """Frames/s over epochs of equal length in which a share `ratio` of the frames is trained at one rate, the rest at the other.

    Times add up, rates do not: a harmonic mean.
    """
    return len(ratios) / sum(ratio / forced + (1 - ratio) / own for ratio in ratios)


def utilisation(device: torch.device) -> list[float]:
    """The GPU's utilisation in percent over the last moments; nothing where it cannot be asked."""
    try:
        return [float(torch.cuda.utilization(device))] if device.type == "cuda" else []
    except (ImportError, RuntimeError):  # no package nvidia-ml-py, or a driver that does not tell
        return []


def training(bench: Bench) -> list[Row]:
    """Training, and what of it is waiting for data."""
    trainer, steps, busy = bench.trainer, bench.options.steps, []
    source = batches(trainer)

    def ours(forced: bool) -> Timing:
        timing = train_steps(trainer, source, steps, forced=forced)
        busy.extend(utilisation(trainer.device))
        return timing

    candidates = {"forced": lambda: ours(True), "own": lambda: ours(False)}
    course, note = bench.course
    if course:
        candidates["course"] = course.training
    timings = interleaved(candidates, bench.options.rounds)
    forced, own = (per_second(timings[name]) for name in ("forced", "own"))
    ratios = forcing_ratios(trainer.args)
    recipe = [recipe_rate(a, b, ratios) for a, b in zip(forced, own)]
    bench.rates |= {"training, true frames fed back": forced, "training, own frames fed back": own}
    rows = [
        Row("true frames fed back", "frames/s", forced),
        Row("own frames fed back", "frames/s", own),
        Row(f"whole recipe, {len(ratios)} epochs", "frames/s", recipe),
        Row(f"{COURSE}, own frames fed back", "frames/s", per_second(timings.get("course", [])), note),
    ]
    if course:
        theirs = rows[-1].values
        rows.append(Row("own frames fed back / course network", "times", by_round(own, theirs)))
        rows.append(Row("whole recipe / course network", "times", by_round(recipe, theirs)))
    for name, fed in (("forced", "true"), ("own", "own")):
        shares = [100 * timing.loading / timing.seconds for timing in timings[name]]
        rows.append(Row(f"data loading of a step, {fed} frames fed back", "%", shares))
    return rows + ([Row("GPU utilisation", "%", busy)] if busy else [])


def roll_outs(bench: Bench) -> list[Row]:
    """Roll-outs of one sequence and of several side by side."""
    trainer = bench.trainer
    model, device = trainer.learner.ema.module.eval(), trainer.device
    sequence, length = trainer.validation[0], bench.options.rollout_frames + trainer.learner.model.context

    def ours(width: int) -> Timing:
        conditions = pad_time(sequence.conditions[:length], length)
        inputs = [to_model(torch.stack([part] * width), device) for part in (sequence.context_frames, conditions)]
        with autocast(device, trainer.args.amp):
            taken = seconds(lambda: model.rollout(*inputs), device)
        return Timing(width * bench.options.rollout_frames, taken)

    course, note = bench.course
    widths = {1: "one sequence", SIDE_BY_SIDE: f"{SIDE_BY_SIDE} side by side"}
    candidates = {}
    for width in widths:
        candidates["ours", width] = lambda width=width: ours(width)
        if course:
            candidates["course", width] = lambda width=width: course.rollout(width)
    timings = interleaved(candidates, bench.options.rounds)
    rows = []
    for width, name in widths.items():
        rates, theirs = per_second(timings["ours", width]), per_second(timings.get(("course", width), []))
        bench.rates[f"roll-out, {name}"] = rates
        rows += [Row(name, "frames/s", rates), Row(f"{COURSE}, {name}", "frames/s", theirs, note)]
        if course:
            rows.append(Row(f"{name} / course network", "times", by_round(rates, theirs)))
    if course:  # which has nothing to gain from company
        alone = per_second(timings["course", 1])
        rows.append(Row(f"{name} / course network, one sequence", "times", by_round(rates, alone)))
    return rows


def memory(bench: Bench) -> list[Row]:
    """The peak of a training process of its own."""
    point = run_point(["--steps", "3"], ["--DR", str(bench.options.DR), *bench.options.trainer_flags])
    most = point.get("peak_mib")
    return [Row("training, own frames fed back", "MiB", [most] if most else [], point["problem"] or point["memory_of"])]


def compute(bench: Bench) -> list[Row]:
    """Arithmetic per frame, the machine's rate, and how much of it is used. Counted on a model as it is built, in float32."""
    trainer = bench.trainer
    device = trainer.device
    model = build_model(trainer.config).to(device)
    _, _, batch = next(batches(trainer))
    inputs = model_inputs(batch, device)
    clips, length = batch["frames"].shape[:2]
    given, conditions = inputs["frames"][:, : model.context], inputs["conditions"][:, :length]
    gflop = {
        "training, true frames fed back": training_gflop(model, inputs, forced=True),
        "training, own frames fed back": training_gflop(model, inputs, forced=False),
        "roll-out": count_gflop(lambda: model.rollout(given, conditions), clips * (length - model.context)),
    }
    forward = count_gflop(lambda: model(**inputs, teacher_forcing=False), clips * (length - 1))
    rows = [Row("forward pass of training, own frames fed back", "GFLOP/frame", [forward])]
    rows += [Row(name, "GFLOP/frame", [value]) for name, value in gflop.items()]
    used = precision_in_use(trainer)
    size = bench.options.matrix or (8192 if device.type == "cuda" else 1024)
    rate = {dtype: matrix_rate(dtype, device, size) for dtype in dict.fromkeys([torch.float32, torch.bfloat16, used])}
    rows += [Row(f"matrix product, {name_of(dtype)}", "GFLOP/s", [value]) for dtype, value in rate.items()]
    for name, rates in bench.rates.items():
        per_frame = gflop["roll-out" if name.startswith("roll-out") else name]
        shares = [100 * per_frame * frames / rate[used] for frames in rates]
        rows.append(Row(f"{name}, of the {name_of(used)} rate", "%", shares))
    return rows


def cache(bench: Bench) -> list[Row]:
    """Building the frame cache of training images in a new folder, against decoding and resizing them and keeping nothing."""
    flags, root = bench.flags, find_dataset(bench.options.DR, "train")
    paths = sorted(path for path in (root / "train").rglob("*") if path.suffix.lower() in SUFFIXES)[: bench.options.images]
    if not paths:
        raise UserError(f"{root / 'train'}: holds no images")
    size = {"height": flags.frame_H, "width": flags.frame_W}
    candidates = {
        "build": lambda: building_rate(paths, root=root, **size),
        "plain": lambda: decoding_rate(paths, **size),
    }
    rates = interleaved(candidates, bench.options.rounds)
    share = [100 * ratio for ratio in by_round(rates["build"], rates["plain"])]
    return [
        Row(f"building the frame cache, {len(paths)} images", "images/s", rates["build"]),
        Row("decoding and resizing alone", "images/s", rates["plain"]),
        Row("building / decoding alone", "%", share),
    ]


PARTS = {"train": training, "rollout": roll_outs, "memory": memory, "compute": compute, "cache": cache}


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Measure speed, memory and arithmetic of training and roll-out; everything is printed as Markdown.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    add("--skip", nargs="+", choices=PARTS, default=[], help="parts to leave out")
    add("--rounds", type=COUNT, default=5, help="turns that each candidate takes, behind one to warm up")
    add("--steps", type=COUNT, default=5, help="training steps of a turn")
    add("--rollout_frames", type=COUNT, default=120, help="predicted frames of a roll-out")
    add("--images", type=COUNT, default=1000, help="images of the frame cache at most")
    add("--matrix", type=COUNT, help="side of the square matrices (default: 8192 with CUDA, else 1024)")
    add("--yardstick", type=Path, default=ROOT.parent / "shared" / "baseline" / "course_network.py", metavar="FILE",
        help="where the course's network is defined; without the file its rows are left out")  # fmt: skip
    add("trainer_flags", nargs="*", help="behind --: flags of Trainer.py")
    options = parser.parse_args(argv)
    flags = parse_flags(["--DR", str(options.DR), *options.trainer_flags])
    find_dataset(options.DR, "train")
    print(f"`{shlex.join(['python', 'benchmarks/speed.py', *(sys.argv[1:] if argv is None else argv)])}`\n")
    bench, about = Bench(options, flags), machine(flags)
    parts = {name: part for name, part in PARTS.items() if name in options.only and name not in options.skip}
    if parts.keys() & {"train", "rollout", "compute"}:
        about["precision"] = name_of(precision_in_use(bench.trainer))
    print(markdown(["machine", ""], [list(line) for line in about.items()]))
    for name, part in parts.items():
        print(tabulate(name, part(bench)), flush=True)


if __name__ == "__main__":
    main()
