"""What a training step of this checkout takes beside one of another: two processes that take turns, some steps at a time.

    python benchmarks/turns.py --DR demo_data --other ../older_checkout -- --preset quick

Everything behind -- goes to Trainer.py of both, and what one does with it is measured by that checkout's own benchmarks. Turns of
a second each, so that what else the machine does falls on both alike; a ratio above 1 says that this checkout is the slower one.
Reading, forward, backward, the optimizer's step and the average's are in it, checkpoints are not.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import contextlib
import shlex
import subprocess

from benchmarks.common.measure import ROOT, Row, by_round, machine, markdown, parse_flags, tabulate, why_failed
from runtime.cli import COUNT, Parser
from utils import UserError, one_line_errors

# Runs in either checkout: each line that it reads asks for so many steps, each that it writes are their seconds.
SERVER = """
import sys
checkout, argv = sys.argv[1], sys.argv[2:]
sys.path.insert(0, checkout)
from benchmarks.common import measure
flags = measure.parse_flags(argv)
trainer = measure.new_trainer(flags)
source = measure.batches(trainer)
for line in sys.stdin:
    forced, steps = map(int, line.split())
    print("took", measure.train_steps(trainer, source, steps, forced=bool(forced)).seconds, flush=True)
"""


class Server:
    """A process that holds the model of one checkout and trains it on demand. Raises UserError if it ends."""

    def __init__(self, checkout: Path, flags: list[str]):
        command = [sys.executable, "-c", SERVER, str(checkout.resolve()), *flags]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, **pipes)

    def train(self, steps: int, *, forced: bool) -> float:
        """Seconds of so many steps."""
        with contextlib.suppress(BrokenPipeError):  # what it said last is told below
            print(int(forced), steps, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("took "):
                return float(line.split()[1])
        raise UserError(f"{self.process.args[3]}: {why_failed(self.process.wait(), self.process.stderr.read())}")


def measure_turns(ours: Server, theirs: Server, *, steps: int, rounds: int) -> list[Row]:
    """Milliseconds of a step in each round, of both, and their ratio; on true and on own frames. One round to warm up."""
    rows = []
    for forced, name in ((True, "true frames fed back"), (False, "own frames fed back")):
        taken: list[list[float]] = [[], []]
        for _ in range(1 + rounds):
            for side, server in zip(taken, (ours, theirs)):
                side.append(1e3 * server.train(steps, forced=forced) / steps)
        here, there = (side[1:] for side in taken)
        rows += [Row(f"{name}: this checkout", "ms", here), Row(f"{name}: the other", "ms", there),
                 Row(f"{name}: ratio", "times", by_round(here, there))]  # fmt: skip
    return rows


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Compare training steps of this checkout with those of another; everything is printed as Markdown.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add("--other", type=Path, default=ROOT, metavar="FOLDER", help="another checkout (default: this one, which shows the noise)")
    add("--rounds", type=COUNT, default=20, help="turns of each")
    add("--steps", type=COUNT, default=4, help="steps of a turn")
    add("trainer_flags", nargs="*", help="behind --: flags of Trainer.py, for both")
    options = parser.parse_args(argv)
    if not (options.other / "benchmarks" / "common" / "measure.py").is_file():
        raise UserError(f"--other {options.other}: no benchmarks/common/measure.py in it; expected a checkout of this repository")
    flags = ["--DR", str(options.DR), *options.trainer_flags]
    about = machine(parse_flags(flags))
    servers = Server(ROOT, flags), Server(options.other, flags)
    rows = measure_turns(*servers, steps=options.steps, rounds=options.rounds)
    for server in servers:
        server.process.kill()
    print(f"`{shlex.join(['python', 'benchmarks/turns.py', *(sys.argv[1:] if argv is None else argv)])}`\n")
    print(markdown(["machine", ""], [list(line) for line in about.items()]))
    print(tabulate("a training step", rows))


if __name__ == "__main__":
    main()
