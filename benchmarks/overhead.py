"""Compare whole training runs of this checkout with those of another, in turns, including checkpoints, validation and plots.

    python benchmarks/overhead.py --DR demo_data --other ../older_checkout -- --preset quick --epoch_size 50
    python benchmarks/overhead.py --DR demo_data --ours "--val_every 2" -- --preset quick --epoch_size 50
    OMP_NUM_THREADS=1 python benchmarks/overhead.py --DR demo_data --processes 2 -- --preset quick --epoch_size 50

Everything after -- is passed to the Trainer.py of both; --ours and --processes apply to this checkout alone. Without --other,
this checkout is compared with itself without --ours and --processes; with none of the three, the result is the measurement noise.
Every run is a process of its own with a new --save_root, which is removed after the run. Each side runs with two numbers of
epochs. The difference is the time of the additional epochs, including their validation, checkpoints and plots; imports and
start-up cancel out. The table calls it "training alone". A ratio above 1 means that this checkout is slower.

The benchmark sets --num_epoch and --save_root. So that all epochs cost the same, the teacher-forcing ratio stays at --tfr
(--tfr_d_step 0) unless a flag after -- changes it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import shlex
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benchmarks.common.machine import describe_machine
from benchmarks.common.measure import ROOT, interleave, parse_flags, ratios_by_round
from benchmarks.common.processes import failure_reason
from benchmarks.common.tables import Row, command_of, machine_table, measurement_table
from runtime.cli import COUNT, Parser
from runtime.files import check_writable
from runtime.program import one_line_errors
from utils import UserError

CONSTANT_RATIO = ["--tfr_d_step", "0"]


class Side(NamedTuple):
    """One of the two sides of the comparison."""

    checkout: Path
    flags: list[str]
    processes: int = 1


def run_seconds(side: Side, epochs: int, scratch: Path | None) -> float:
    """Return the wall-clock seconds of one training run, started as a user would. Raises UserError if it fails."""
    script = side.checkout / "Trainer.py"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(side.processes)]
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".overhead-") as folder:
        length = ["--num_epoch", str(epochs), "--save_root", str(Path(folder, "run"))]
        command = [sys.executable, *(torchrun if side.processes > 1 else []), str(script), *side.flags, *length]
        begin = time.perf_counter()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        taken = time.perf_counter() - begin
    if done.returncode:
        reason = failure_reason(done.returncode, done.stderr)
        raise UserError(f"{script}: failed with --num_epoch {epochs}: {reason}")
    return taken


def version_of(checkout: Path) -> str:
    """Return the commit of a checkout, with -dirty appended if files were changed, or "unknown"."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError:  # git is not installed
        return "unknown"
    return described.stdout.strip() or "unknown"


def training_alone(short: list[float], long: list[float]) -> list[float]:
    """Return the seconds of the additional epochs in each round. Raises UserError if the longer run was not slower."""
    differences = [more - less for less, more in zip(short, long)]
    if min(differences) <= 0:
        raise UserError("--epochs: expected epochs that take seconds, got a longer run that took no longer than the shorter one")
    return differences


def comparison(title: str, names: list[str], ours: list[float], theirs: list[float]) -> list[Row]:
    """Return rows with the seconds of both sides and the ratio of each round."""
    return [
        Row(f"{title}: {names[0]}", "s", ours),
        Row(f"{title}: {names[1]}", "s", theirs),
        Row(f"{title}: ratio", "times", ratios_by_round(ours, theirs)),
    ]


def measure(options: Namespace, sides: dict[str, Side]) -> list[Row]:
    """Run the two sides, this checkout first, with both numbers of epochs in turns."""
    few, many = options.epochs
    candidates: dict[tuple[str, int], Callable[[], float]] = {}
    for epochs in (few, many):
        for name, side in sides.items():
            candidates[name, epochs] = partial(run_seconds, side, epochs, options.scratch)
    taken = interleave(candidates, options.rounds)
    ours, theirs = names = list(sides)
    ours_alone, theirs_alone = (training_alone(taken[name, few], taken[name, many]) for name in names)
    return [
        *comparison(f"whole process, --num_epoch {many}", names, taken[ours, many], taken[theirs, many]),
        *comparison(f"whole process, --num_epoch {few}", names, taken[ours, few], taken[theirs, few]),
        *comparison(f"training alone, {many} epochs minus {few}", names, ours_alone, theirs_alone),
    ]


def two_sides(options: Namespace) -> dict[str, Side]:
    """Return both sides by name, this checkout first. Raises UserError for an --other without a Trainer.py."""
    common = ["--DR", str(options.DR), *CONSTANT_RATIO, *options.trainer_flags]
    if options.other and not (options.other / "Trainer.py").is_file():
        raise UserError(f"--other {options.other}: expected a checkout of this repository, got a folder without Trainer.py")
    difference = f" with {options.ours}" if options.ours.strip() else ""
    difference += f" in {options.processes} processes" if options.processes > 1 else ""
    itself = "this checkout" if difference else "this checkout again"
    return {
        f"this checkout{difference}": Side(ROOT, common + shlex.split(options.ours), options.processes),
        "the other checkout" if options.other else itself: Side(options.other or ROOT, common),
    }


def overhead_parser() -> Parser:
    """Return the parser of this program's flags."""
    parser = Parser("Compare whole training runs of this checkout with those of another and print Markdown tables.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add("--other", type=Path, metavar="FOLDER", help="another checkout of this repository (default: this one)")
    add("--ours", default="", metavar="FLAGS",
        help="flags for this checkout alone, as one string (default: none); write a single flag as --ours=--FLAG")  # fmt: skip
    add(
        "--processes",
        type=COUNT,
        default=1,
        metavar="N",
        help="number of processes per run of this checkout; several are started by torchrun",
    )
    add("--rounds", type=COUNT, default=5, help="timed runs of each kind, after one to warm up")
    add("--epochs", type=COUNT, nargs=2, default=[1, 4], metavar="N", help="epochs of the shorter and of the longer run")
    add("--scratch", type=Path, metavar="FOLDER",
        help="folder for the runs, which are removed (default: the system's temporary folder)")  # fmt: skip
    add("trainer_flags", nargs="*", metavar="-- FLAG", help="flags of Trainer.py, for both sides")
    return parser


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    options = overhead_parser().parse_args(argv)
    few, many = options.epochs
    if few >= many:
        raise UserError(f"--epochs {few} {many}: expected the smaller number first")
    sides = two_sides(options)
    ours, _ = sides.values()
    machine = describe_machine(parse_flags(ours.flags))
    if options.scratch:
        check_writable(options.scratch, flag="--scratch")
    for name, side in sides.items():
        machine[name] = version_of(side.checkout)
    print(f"`{command_of('overhead.py', argv)}`\n")
    print(machine_table(machine), flush=True)
    print(measurement_table("overhead", measure(options, sides)))


if __name__ == "__main__":
    main()
