"""Train and test the settings and seeds in a file, one run per pair, and report on all of them:

    python tools/compare.py comparisons/kl_annealing.toml --DR demo_data --out runs/kl_annealing

Each run has a folder OUT/SETTING-seedN, the --save_root of Trainer.py. It also contains the results of Tester.py, in test/, and
the output of both programs, in log.txt. The same command resumes at the step where it was stopped, and skips complete runs. To
share the work, start the same command several times: only one of them does each run, and the last one to finish reports on all
runs.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import argparse
from codecs import BOM_UTF8

from data.images import find_dataset
from runtime.cli import COUNT, SEED, Parser, location
from runtime.files import check_writable, claim, write_whole
from tools.comparing.run_state import read_state
from tools.comparing.runner import run_comparison
from tools.comparing.spec import Comparison, load_comparison
from utils import UserError, command_line, counted, one_line_errors


def copy_file(path: Path, out: Path, command: list[str]) -> None:
    """Copy the file of the comparison to the folder of its runs, with the command line as its first line."""
    copy, line = out / path.name, command_line(["python", "tools/compare.py", *command])
    if not copy.exists() or not copy.samefile(path):
        write_whole(copy, f"# {' '.join(line.split())}\n".encode() + path.read_bytes().removeprefix(BOM_UTF8))


def has_tests(data: Path) -> bool:
    """Return whether a data set has test sequences. Raises UserError if it has no training data."""
    find_dataset(data, "train")
    try:
        find_dataset(data, "test")
    except UserError as error:
        print(f"{error}; nothing will be tested", file=sys.stderr)
        return False
    return True


def print_states(comparison: Comparison) -> None:
    """Print the progress of each requested run."""
    for run in comparison.runs:
        try:
            print(f"{run.name}: {read_state(run)}")
        except UserError as error:
            print(f"{run.name}: {error}")


def parse_flags(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags of this program, and those of Trainer.py after --."""
    parser = Parser(
        "Train and test the settings and seeds in a file, and report on them. Flags after -- apply to every training."
    )
    add = parser.add_argument
    add("file", type=location, help="the comparison, such as comparisons/kl_annealing.toml")
    add("--DR", "--data_root", type=location, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add(
        "--out",
        type=location,
        required=True,
        metavar="FOLDER",
        help="folder of the runs and the report; existing runs are resumed",
    )
    add("--seeds", type=SEED, nargs="+", metavar="N", help="seeds instead of those in the file")
    add("--only", nargs="+", metavar="SETTING", help="only these settings of the file")
    add(
        "--jobs",
        type=COUNT,
        metavar="N",
        help="number of parallel runs, which share the CPU threads (default: one per GPU, or one)",
    )
    add("--dry_run", action="store_true", help="only list the runs and their progress")
    separator = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:separator]), argv[separator + 1 :]


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    options, extra_flags = parse_flags(argv)
    comparison = load_comparison(
        options.file, data=options.DR, out=options.out, seeds=options.seeds, only=options.only, extra_flags=extra_flags
    )
    tests = has_tests(options.DR)
    print(f"{comparison.title}: {counted(len(comparison.runs), 'run')}. {comparison.question}", flush=True)
    if options.dry_run:
        print_states(comparison)
        return
    check_writable(options.out, flag="--out")
    lock = claim(options.out, flag="--out")
    try:
        copy_file(options.file, options.out, argv)
    finally:
        lock.release()
    run_comparison(comparison, options.out, tests=tests, jobs=options.jobs)


if __name__ == "__main__":
    main()
