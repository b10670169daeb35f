"""What keeping a run safe costs in speed: whole trainings of this checkout against those of another one, turn by turn.

    python benchmarks/overhead.py --DR demo_data --other ../older_checkout -- --preset quick --epoch_size 50
    python benchmarks/overhead.py --DR demo_data --ours "--val_every 2" -- --preset quick --epoch_size 50
    OMP_NUM_THREADS=1 python benchmarks/overhead.py --DR demo_data --processes 2 -- --preset quick --epoch_size 50

Everything behind -- goes to both sides' Trainer.py, --ours and --processes to this checkout's alone; without --other, this
checkout is compared with itself without these, and without any the result is the noise. Every run is a process of its own
with a new --save_root, which is removed behind it. Each side is run with two lengths: what the longer run takes more is the
time of the epochs that it has more, their validation, saving and plots included; imports and start-up fall out. The training
alone is that difference, and a ratio above 1 says that this checkout's is the slower one.

--num_epoch and --save_root are set here. So that all epochs are alike, the teacher-forcing ratio stays at --tfr
(--tfr_d_step 0) unless a flag behind -- says otherwise.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import shlex
import subprocess
import tempfile
import time
from argparse import Namespace
from typing import NamedTuple

from benchmarks.common.measure import ROOT, Row, by_round, interleaved, machine, markdown, parse_flags, tabulate, why_failed
from runtime.cli import COUNT, Parser
from runtime.files import check_writable
from utils import UserError, one_line_errors

EPOCHS_ALIKE = ["--tfr_d_step", "0"]


class Side(NamedTuple):
    """One of the two that are compared."""

    checkout: Path
    flags: list[str]
    processes: int = 1


def run_seconds(side: Side, epochs: int, scratch: Path | None) -> float:
    """Wall-clock seconds of one training, started as a user does. Raises UserError with its last line if it fails."""
    script = side.checkout / "Trainer.py"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(side.processes)]
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".overhead-") as folder:
        where = ["--num_epoch", str(epochs), "--save_root", str(Path(folder, "run"))]
        command = [sys.executable, *(torchrun if side.processes > 1 else []), str(script), *side.flags, *where]
        begin = time.perf_counter()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        taken = time.perf_counter() - begin
    if done.returncode:
        why = why_failed(done.returncode, done.stderr)
        raise UserError(f"{script}: failed with --num_epoch {epochs}: {why}")
    return taken


def version_of(checkout: Path) -> str:
    """The commit of a checkout, with -dirty behind it where files were changed; or the words that it is unknown."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError:  # no git on this machine
        return "unknown"
    return found.stdout.strip() or "unknown"


def trained_alone(short: list[float], long: list[float]) -> list[float]:
    """Each round's seconds of the epochs that the longer run has more. Raises UserError where the difference is none."""
    differences = [more - less for less, more in zip(short, long)]
    if min(differences) <= 0:
        raise UserError("--epochs: the longer run took no longer than the shorter one; expected epochs that take seconds")
    return differences


def compared(what: str, sides: list[str], ours: list[float], theirs: list[float]) -> list[Row]:
    """The seconds of both sides, and each round's ratio."""
    return [
        Row(f"{what}: {sides[0]}", "s", ours),
        Row(f"{what}: {sides[1]}", "s", theirs),
        Row(f"{what}: ratio", "times", by_round(ours, theirs)),
    ]


def measure(options: Namespace, sides: dict[str, Side]) -> list[Row]:
    """Both sides by name, this one first, with both lengths, in turn."""
    few, many = options.epochs
    candidates = {
        (name, epochs): lambda side=side, epochs=epochs: run_seconds(side, epochs, options.scratch)
        for epochs in (few, many)
        for name, side in sides.items()
    }
    taken = interleaved(candidates, options.rounds)
    names = list(sides)
    alone = [trained_alone(taken[name, few], taken[name, many]) for name in names]
    return [
        *compared(f"whole process, --num_epoch {many}", names, *(taken[name, many] for name in names)),
        *compared(f"whole process, --num_epoch {few}", names, *(taken[name, few] for name in names)),
        *compared(f"training alone, the {many} epochs less the {few}", names, *alone),
    ]


def two_sides(options: Namespace) -> dict[str, Side]:
    """What is compared, by name. Raises UserError for an --other without a Trainer.py."""
    common = ["--DR", str(options.DR), *EPOCHS_ALIKE, *options.trainer_flags]
    extra = shlex.split(options.ours)
    if options.other and not (options.other / "Trainer.py").is_file():
        raise UserError(f"--other {options.other}: no Trainer.py in it; expected a checkout of this repository")
    with_extra = f" with {options.ours}" if extra else ""
    with_extra += f" in {options.processes} processes" if options.processes > 1 else ""
    other = "the other checkout" if options.other else "the same, without" if with_extra else "the same, again"
    return {f"this checkout{with_extra}": Side(ROOT, common + extra, options.processes),
            other: Side(options.other or ROOT, common)}  # fmt: skip


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Compare whole trainings of this checkout with those of another; everything is printed as Markdown.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add("--other", type=Path, metavar="FOLDER", help="another checkout of this repository (default: this one)")
    add("--ours", default="", metavar="FLAGS",
        help="more flags for this checkout alone, in one string; a single one as --ours=--FLAG")  # fmt: skip
    add("--processes", type=COUNT, default=1, metavar="N", help="processes of this checkout's runs, started by torchrun")
    add("--rounds", type=COUNT, default=5, help="turns that each run takes, behind one to warm up")
    add("--epochs", type=COUNT, nargs=2, default=[1, 4], metavar="N", help="the two lengths, the shorter first")
    add("--scratch", type=Path, metavar="FOLDER",
        help="where runs are written and removed (default: the system's temporary folder, which may be memory)")  # fmt: skip
    add("trainer_flags", nargs="*", help="behind --: flags of Trainer.py, for both")
    options = parser.parse_args(argv)
    if options.epochs[0] >= options.epochs[1]:
        raise UserError(f"--epochs {options.epochs[0]} {options.epochs[1]}: expected the shorter length first")
    sides = two_sides(options)
    about = machine(parse_flags(next(iter(sides.values())).flags))
    if options.scratch:
        check_writable(options.scratch, flag="--scratch")
    about |= {name: version_of(side.checkout) for name, side in sides.items()}
    print(f"`{shlex.join(['python', 'benchmarks/overhead.py', *(sys.argv[1:] if argv is None else argv)])}`\n")
    print(markdown(["machine", ""], [list(line) for line in about.items()]), flush=True)
    print(tabulate("overhead", measure(options, sides)))


if __name__ == "__main__":
    main()
