"""Compare the training step of this checkout with that of another: two processes that take turns, a few steps at a time.

    python benchmarks/turns.py --DR demo_data --other ../older_checkout -- --preset quick

Everything after -- is passed to Trainer.py of both. Each checkout is measured by its own benchmarks. A turn takes about a second,
so that other load on the machine affects both alike. A ratio above 1 means that this checkout is slower. A step consists of
reading a batch, forward, backward, the optimizer's step and the update of the EMA weights; checkpoints are not included.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import contextlib
import subprocess

from benchmarks.common.machine import describe_machine
from benchmarks.common.measure import ROOT, parse_flags, ratios_by_round
from benchmarks.common.processes import failure_reason
from benchmarks.common.tables import Row, command_of, machine_table, measurement_table
from runtime.cli import COUNT, Parser
from runtime.program import one_line_errors
from utils import UserError

# The program of either process. Each line of its input asks for a number of steps; each line of its output is their seconds.
# Both inherit the setting for OpenMP that this process has from runtime.startup.
SERVER = """
import sys
checkout, argv = sys.argv[1], sys.argv[2:]
{imports}
trainer = measure.new_trainer(measure.parse_flags(argv))
source = measure.batches(trainer)
for line in sys.stdin:
    forced, steps = map(int, line.split())
    print("took", measure.train_steps(trainer, source, steps, forced=bool(forced)).seconds, flush=True)
"""
# The imports by the path of measure.py in a checkout; the second layout is that of older commits. They replace sys.path[0], the
# current folder, whose modules must not be imported.
IMPORTS = {
    "benchmarks/common/measure.py": "sys.path[0] = checkout\nfrom benchmarks.common import measure",
    "benchmarks/measure.py": "sys.path[0] = checkout + '/benchmarks'\nimport measure",
}


def server_program(checkout: Path) -> str:
    """Return the program that trains with this checkout. Raises UserError for a folder that is not a checkout."""
    for module, imports in IMPORTS.items():
        if (checkout / module).is_file():
            return SERVER.format(imports=imports)
    raise UserError(f"--other {checkout}: expected a checkout of this repository, got a folder without {' or '.join(IMPORTS)}")


class Server:
    """A process that holds the model of one checkout and trains it on request."""

    def __init__(self, checkout: Path, flags: list[str]):
        self.checkout = checkout.resolve()
        command = [sys.executable, "-c", server_program(checkout), str(self.checkout), *flags]
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def train(self, steps: int, *, forced: bool) -> float:
        """Return the seconds of `steps` training steps. Raises UserError with the last message of a process that ended."""
        process = self.process
        assert process.stdin and process.stdout and process.stderr
        with contextlib.suppress(BrokenPipeError):  # the process has ended; the error below has its message
            print(int(forced), steps, file=process.stdin, flush=True)
        for line in process.stdout:
            if line.startswith("took "):
                return float(line.split()[1])
        raise UserError(f"{self.checkout}: {failure_reason(process.wait(), process.stderr.read())}")


def measure_turns(ours: Server, theirs: Server, *, steps: int, rounds: int) -> list[Row]:
    """Return rows with the milliseconds per step of both checkouts and their ratio, for each round after one to warm up."""
    rows = []
    for forced, name in ((True, "teacher-forced"), (False, "autoregressive")):
        here, there = [], []
        for _ in range(1 + rounds):
            here.append(1e3 * ours.train(steps, forced=forced) / steps)
            there.append(1e3 * theirs.train(steps, forced=forced) / steps)
        here, there = here[1:], there[1:]
        rows.append(Row(f"{name}: this checkout", "ms", here))
        rows.append(Row(f"{name}: the other checkout", "ms", there))
        rows.append(Row(f"{name}: ratio", "times", ratios_by_round(here, there)))
    return rows


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Compare training steps of this checkout with those of another and print Markdown tables.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add("--other", type=Path, default=ROOT, metavar="FOLDER",
        help="another checkout of this repository (default: this one, which measures the noise)")  # fmt: skip
    add("--rounds", type=COUNT, default=20, help="turns of each checkout, after one to warm up")
    add("--steps", type=COUNT, default=4, help="training steps of a turn")
    add("trainer_flags", nargs="*", metavar="-- FLAG", help="flags of Trainer.py, for both checkouts")
    options = parser.parse_args(argv)
    server_program(options.other)  # raises UserError for a wrong folder before anything starts
    flags = ["--DR", str(options.DR), *options.trainer_flags]
    machine = describe_machine(parse_flags(flags))
    servers: list[Server] = []
    try:
        for checkout in (ROOT, options.other):
            servers.append(Server(checkout, flags))
        rows = measure_turns(*servers, steps=options.steps, rounds=options.rounds)
    finally:
        for server in servers:
            server.process.kill()
    print(f"`{command_of('turns.py', argv)}`\n")
    print(machine_table(machine))
    print(measurement_table("a training step", rows))


if __name__ == "__main__":
    main()
