"""Trains and tests what a file asks for, settings x seeds, and ends in a report:

    python tools/compare.py comparisons/kl_annealing.toml --DR demo_data --out runs/kl_annealing

Each run is a folder OUT/SETTING-seedN of Trainer.py, with the results of Tester.py in test/ and what both said in log.txt. The
same command goes on where it stopped, at the very step, and leaves alone what is done. Several at once share the work: each run
is done by one of them, and whoever ends last makes the report of all.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import argparse
import json
import signal
import time
from codecs import BOM_UTF8

from filelock import FileLock
from tqdm import tqdm

from data.images import find_dataset
from runtime.cli import COUNT, SEED, Parser, location
from runtime.files import check_writable, claim, locked, write_whole
from runtime.signals import Interrupt, Stopped
from tools import report
from tools.comparing.processes import Process, places
from tools.comparing.spec import Comparison, PlannedRun, comparison_of
from tools.reporting.runs import spread
from training.metrics_log import read_metrics
from training.resume import choose_start
from utils import UserError, command_line, one_line_errors

PAUSE = 0.3  # seconds between two looks at the processes


def epochs_done(run: PlannedRun) -> int | None:
    """Epochs that a run's newest checkpoint has, None without one.

    Raises UserError, in Trainer.py's words, if it was trained with other settings. Its length is one of them here: with another
    one the schedules would be others.
    """
    begun = choose_start(run.args, run.given)
    if not begun.in_place:
        return None
    length = begun.state["flags"]["num_epoch"]
    if length != run.args.num_epoch:
        raise UserError(f"{begun.path}: was trained with --num_epoch {length}, not {run.args.num_epoch}; expected the same")
    return begun.state["epoch"]


def results_of(run: PlannedRun) -> dict:
    """What Tester.py wrote; {} where nothing was scored, as without the truth."""
    try:
        return json.loads((run.folder / "test" / "scores.json").read_bytes())
    except (OSError, ValueError):
        return {}


def mark_of(run: PlannedRun) -> Path:
    """The file that says of which test the results are that this program saw through; a test by hand leaves others there."""
    return run.folder / "test" / "compared.json"


def state_of(run: PlannedRun) -> str:
    """missing, so many of its epochs, trained or tested. Raises UserError as epochs_done()."""
    done = epochs_done(run)
    if done is None:
        return "missing"
    if done < run.args.num_epoch:
        return f"{done} of {run.args.num_epoch} epochs"
    mark = mark_of(run)
    return "tested" if mark.exists() and json.loads(mark.read_bytes()) == results_of(run).get("test") else "trained"


def lock_of(run: PlannedRun) -> FileLock | None:
    """Keeps others from training, testing or showing a run, until it is released; None if one of them is at it."""
    return locked(run.folder / ".compare.lock")  # Trainer.py has another one, for itself


def outcome(run: PlannedRun) -> str:
    """What came out, for a line in the terminal."""
    values = [row["val_psnr"] for row in read_metrics(run.folder / "metrics.jsonl") if row.get("val_psnr") is not None]
    found = [f"validation {max(values):.2f} dB"] if values else []
    found += [f"test {spread([row['psnr']]).text(2)} dB" for row in results_of(run).get("sequences", [])[-1:]]  # of all
    return ", ".join(found)


class Job:
    """A run under way: what is left of it, training or test, one process after the other in the same place. It keeps the lock."""

    def __init__(self, run: PlannedRun, state: str, lock: FileLock, *, tests: bool, place: dict[str, str]):
        self.run, self.lock, self.place, self.begun = run, lock, place, time.monotonic()
        # Tested as trained, and on the same machine.
        machine = [f"--{name}={run.given[name]}" for name in ("device", "amp", "cache_dir") if name in run.given]
        test = ["--DR", str(run.args.DR), "--ckpt_path", str(run.folder), *machine]
        self.left = [] if state == "trained" else [("training", "Trainer", run.argv)]
        self.left += [("test", "Tester", test)] if tests else []
        run.folder.mkdir(parents=True, exist_ok=True)
        self.begin()

    def begin(self) -> None:
        """Starts the next process."""
        self.stage, program, argv = self.left.pop(0)
        if self.stage == "test":
            mark_of(self.run).unlink(missing_ok=True)
        self.process = Process(program, argv, log=self.run.folder / "log.txt", environment=self.place)

    def over(self) -> bool:
        """Whether there is nothing to wait for; what is left begins when the process before it ended well."""
        if self.process.status() is None:
            return False
        if self.process.status():
            return True
        if self.stage == "test":
            write_whole(mark_of(self.run), json.dumps(results_of(self.run).get("test")).encode())
        if not self.left or self.process.asked_to_stop:
            return True
        self.begin()
        return False

    def account(self) -> str:
        """How it ended, in a line without the run's name."""
        if self.process.failed():
            return f"its {self.stage} failed ({self.process.log}): {self.process.last_words()}"
        seconds = int(time.monotonic() - self.begun)
        return f"done in {seconds // 60}m{seconds % 60:02d}s, {outcome(self.run)}"


def epochs_in_metrics(runs: list[PlannedRun]) -> int:
    """Epochs that runs have behind them, for the progress bar."""
    files = [run.folder / "metrics.jsonl" for run in runs]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


def missing(run: PlannedRun, failures: dict[str, str], *, tests: bool) -> str | None:
    """The state of a run of which something is missing. Says it if nothing is, or if it cannot go on, which is one of the
    `failures`, by its name."""
    try:
        state = state_of(run)
    except UserError as error:
        failures[run.name] = str(error)
        tqdm.write(f"{run.name}: {error}")
        return None
    if state == "tested" or (state == "trained" and not tests):
        tqdm.write(f"{run.name}: {state} already, {outcome(run)}")
        return None
    return state


class Work:
    """The runs of which something is missing, `waiting` or `busy`, and why others failed."""

    def __init__(self, runs: list[PlannedRun], *, tests: bool, jobs: int | None):
        self.tests, self.free = tests, places(jobs)
        self.busy: list[Job] = []
        self.failures: dict[str, str] = {}  # by the names of the runs
        self.elsewhere: set[str] = set()  # names of runs that another comparison was at
        self.waiting = [run for run in runs if missing(run, self.failures, tests=tests)]

    def begin(self) -> None:
        """Begins as many runs as there are places for, those that another comparison is at left out."""
        for run in self.waiting.copy():
            if not self.free:
                return
            lock = lock_of(run)
            if lock is None:
                if run.name not in self.elsewhere:
                    tqdm.write(f"{run.name}: another comparison is at it; this one does the others, then waits for it")
                self.elsewhere.add(run.name)
                continue
            self.waiting.remove(run)
            state = missing(run, self.failures, tests=self.tests)  # now, of which another one may have done its part
            if state is None:
                lock.release()
                continue
            self.busy.append(Job(run, state, lock, tests=self.tests, place=self.free.pop(0)))
            tqdm.write(f"{run.name}: begins ({state}), see {self.busy[-1].process.log}")

    def end(self) -> None:
        """Lets go of the runs that are over, and says how they ended."""
        for job in [job for job in self.busy if job.over()]:
            self.busy.remove(job)
            self.free.append(job.place)
            job.lock.release()
            if job.process.failed():
                self.failures[job.run.name] = job.account()
            if job.process.failed() or not job.process.asked_to_stop:
                tqdm.write(f"{job.run.name}: {job.account()}")


def run_all(runs: list[PlannedRun], *, tests: bool, jobs: int | None, interrupt: Interrupt) -> dict[str, str]:
    """Does what is missing of each run, until a signal to stop comes; returns why runs failed, by their names."""
    work, total = Work(runs, tests=tests, jobs=jobs), sum(run.args.num_epoch for run in runs)
    with tqdm(total=total, initial=epochs_in_metrics(runs), unit="epoch", desc="all runs", disable=None) as bar:
        while work.busy or (work.waiting and not interrupt.received):
            if not interrupt.received:
                work.begin()
            time.sleep(PAUSE)
            for job in work.busy if interrupt.received else []:
                job.process.stop()
            work.end()
            bar.set_postfix_str(", ".join(job.run.name for job in work.busy), refresh=False)
            bar.n = epochs_in_metrics(runs)
            bar.refresh()
    return work.failures


def is_trained(run: PlannedRun) -> bool:
    """Whether the training of a run is over and was that of this comparison."""
    try:
        return epochs_done(run) == run.args.num_epoch
    except UserError:
        return False


def compare(comparison: Comparison, out: Path, *, tests: bool, jobs: int | None) -> None:
    """The runs asked for, and the report. Raises UserError if a run failed, Stopped by a signal."""
    with Interrupt() as interrupt:
        failures = run_all(comparison.runs, tests=tests, jobs=jobs, interrupt=interrupt)
    if interrupt.received:
        name = "Ctrl-C" if interrupt.received == signal.SIGINT else signal.Signals(interrupt.received).name
        raise Stopped(f"stopped by {name}; all is saved in {out}, the same command goes on", interrupt.received)
    try:
        write_report(comparison, out)
    finally:
        tell(failures, len(comparison.runs))


def write_report(comparison: Comparison, out: Path) -> None:
    """The report of all runs of the file that are trained, those left out that another comparison is at: it makes a report later.
    One comparison at a time, so that the last one finds all that the others have done."""
    path = out / ".report.lock"
    lock = locked(path)
    if lock is None:
        print("another comparison is writing the report; this one does so after it", flush=True)
        lock = locked(path, timeout=-1)
    kept: dict[str, FileLock] = {}
    for run in comparison.whole:
        own = lock_of(run) if run.folder.is_dir() else None
        if own and is_trained(run):
            kept[str(run.folder)] = own
        elif own:
            own.release()
    try:
        if kept:
            about = [f"--title={comparison.title}", f"--question={comparison.question}"]
            report.main([*kept, "--out", str(out / "report"), *about])
    finally:
        for own in [*kept.values(), lock]:
            own.release()


def tell(failures: dict[str, str], runs: int) -> None:
    """Raises UserError with all failures of so many runs, if there are any."""
    if failures:
        problems = [f"{name}: {failure}" for name, failure in failures.items()]
        raise UserError(f"{len(failures)} of {runs} runs failed; the same command tries them again:", problems)


def keep_file(path: Path, out: Path, command: list[str]) -> None:
    """A copy of the comparison's file beside its runs, under the command that was given."""
    copy, line = out / path.name, command_line(["python", "tools/compare.py", *command])
    if not copy.exists() or not copy.samefile(path):
        write_whole(copy, f"# {' '.join(line.split())}\n".encode() + path.read_bytes().removeprefix(BOM_UTF8))


def has_tests(data: Path) -> bool:
    """Whether a data set has sequences to test with. Raises UserError without any to train with."""
    find_dataset(data, "train")
    try:
        find_dataset(data, "test")
    except UserError as error:
        print(f"{error}; so nothing is tested", file=sys.stderr)
        return False
    return True


def parse_flags(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and those of Trainer.py behind --."""
    parser = Parser("Train and test settings x seeds of a file, and report on them. Flags behind -- go to every training.")
    add = parser.add_argument
    add("file", type=location, help="what is compared, such as comparisons/kl_annealing.toml")
    add("--DR", "--data_root", type=location, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add("--out", type=location, required=True, metavar="FOLDER", help="where runs and report go; goes on with what is there")
    add("--seeds", type=SEED, nargs="+", metavar="N", help="seeds in place of those in the file")
    add("--only", nargs="+", metavar="SETTING", help="these settings of the file")
    add("--jobs", type=COUNT, metavar="N", help="runs at the same time, sharing CPU threads (default: one on each GPU, or one)")
    add("--dry_run", action="store_true", help="only list the runs, and how far each is")
    middle = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:middle]), argv[middle + 1 :]


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    options, more = parse_flags(argv)
    comparison = comparison_of(options.file, data=options.DR, out=options.out, seeds=options.seeds, only=options.only, more=more)
    tests = has_tests(options.DR)
    print(f"{comparison.title}: {len(comparison.runs)} runs. {comparison.question}", flush=True)
    if options.dry_run:
        for run in comparison.runs:
            try:
                print(f"{run.name}: {state_of(run)}")
            except UserError as error:
                print(f"{run.name}: {error}")
        return
    check_writable(options.out, flag="--out")
    lock = claim(options.out, flag="--out")
    try:
        keep_file(options.file, options.out, argv)
    finally:
        lock.release()
    compare(comparison, options.out, tests=tests, jobs=options.jobs)


if __name__ == "__main__":
    main()
