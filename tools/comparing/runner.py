"""Run a comparison: train and test the runs that need it, several at a time, then report on all of them."""

import json
import signal
import time
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from runtime.files import locked, write_whole
from runtime.output import LOST_OUTPUT
from runtime.signals import Interrupt, Stopped
from tools.comparing.processes import DONE_STATUSES, Process, process_environments
from tools.comparing.run_state import RunState, count_epochs, describe_scores, lock_run, read_results, read_state, test_mark_path
from tools.comparing.spec import Comparison, PlannedRun
from tools.reporting.report import make_report
from utils import UserError, counted

POLL_SECONDS = 0.3  # between two checks of the processes
MACHINE_FLAGS = ("device", "amp", "cache_dir")  # the test has them too, because it runs on the same machine


class Job:
    """A run in progress: training and test, as far as they remain, one process after the other. It owns the run's lock."""

    def __init__(self, run: PlannedRun, state: RunState, lock: FileLock, *, tests: bool, environment: dict[str, str]):
        self.run, self.lock, self.environment, self.start_time = run, lock, environment, time.monotonic()
        self.remaining: list[tuple[str, str, list[str]]] = []  # (stage, program, flags)
        if not state.trained:
            self.remaining.append(("training", "Trainer", run.argv))
        if tests:
            machine = [f"--{name}={run.explicit[name]}" for name in MACHINE_FLAGS if name in run.explicit]
            flags = ["--DR", str(run.args.DR), "--ckpt_path", str(run.folder), *machine]
            self.remaining.append(("test", "Tester", flags))
        run.folder.mkdir(parents=True, exist_ok=True)
        self.start_next()

    def start_next(self) -> None:
        """Start the process of the next stage."""
        self.stage, program, argv = self.remaining.pop(0)
        if self.stage == "test":
            test_mark_path(self.run).unlink(missing_ok=True)
        self.process = Process(program, argv, log=self.run.folder / "log.txt", environment=self.environment)

    def advance(self) -> bool:
        """Start the next stage once the current one has succeeded; return whether the job is over."""
        status = self.process.exit_status()
        if status is None:
            return False
        if status not in DONE_STATUSES:
            return True
        if self.stage == "test":
            write_whole(test_mark_path(self.run), json.dumps(read_results(self.run).get("test")).encode())
        if not self.remaining or self.process.stop_requested:
            return True
        self.start_next()
        return False

    def summary(self) -> str:
        """Return how the job ended, in one line without the name of the run."""
        if self.process.failed():
            return f"{self.stage} failed ({self.process.log}): {self.process.failure_reason()}"
        minutes, seconds = divmod(int(time.monotonic() - self.start_time), 60)
        lacking = " (log.txt lacks lines)" if self.process.exit_status() == LOST_OUTPUT else ""
        return f"done in {minutes}m{seconds:02d}s, {describe_scores(self.run)}{lacking}"


class Scheduler:
    """The runs that need work, those in progress, and the failures so far."""

    def __init__(self, runs: list[PlannedRun], *, tests: bool, jobs: int | None):
        self.tests, self.free_environments = tests, process_environments(jobs)
        self.jobs: list[Job] = []  # the runs in progress
        self.failures: dict[str, str] = {}  # by the name of the run
        self.used_elsewhere: set[str] = set()  # names of runs that another comparison was using
        self.waiting = [run for run in runs if self.check(run)]

    def check(self, run: PlannedRun) -> RunState | None:
        """Return the state of a run that needs work; otherwise None.

        Print the reason for None. If it is an error, also record it as a failure.
        """
        try:
            state = read_state(run)
        except UserError as error:
            self.failures[run.name] = str(error)
            tqdm.write(f"{run.name}: {error}")
            return None
        if state.is_complete(tests=self.tests):
            tqdm.write(f"{run.name}: already {state}, {describe_scores(run)}")
            return None
        return state

    def start_jobs(self) -> None:
        """Start as many waiting runs as there are free environments, except those that another comparison is using."""
        for run in self.waiting.copy():
            if not self.free_environments:
                return
            lock = lock_run(run)
            if lock is None:
                if run.name not in self.used_elsewhere:
                    tqdm.write(
                        f"{run.name}: in use by another comparison; the other runs come first, then this one is tried again"
                    )
                self.used_elsewhere.add(run.name)
                continue
            self.waiting.remove(run)
            state = self.check(run)  # again: another comparison may have finished it
            if state is None:
                lock.release()
                continue
            self.jobs.append(Job(run, state, lock, tests=self.tests, environment=self.free_environments.pop(0)))
            progress = "" if state.epochs_done is None else f" ({state})"
            tqdm.write(f"{run.name}: started{progress}, output in {self.jobs[-1].process.log}")

    def collect_finished(self) -> None:
        """Remove the jobs that are over, release their runs, and print how they ended."""
        for job in [job for job in self.jobs if job.advance()]:
            self.jobs.remove(job)
            self.free_environments.append(job.environment)
            job.lock.release()
            failed = job.process.failed()
            if failed:
                self.failures[job.run.name] = job.summary()
            if failed or not job.process.stop_requested:
                tqdm.write(f"{job.run.name}: {job.summary()}")

    def request_stop(self) -> None:
        """Ask all running processes to save and end."""
        for job in self.jobs:
            job.process.request_stop()


def run_all(runs: list[PlannedRun], *, tests: bool, jobs: int | None, interrupt: Interrupt) -> dict[str, str]:
    """Complete all runs, or stop after a signal; return the reasons of failures by the name of the run."""
    scheduler, total = Scheduler(runs, tests=tests, jobs=jobs), sum(run.args.num_epoch for run in runs)
    with tqdm(total=total, initial=count_epochs(runs), unit="epoch", desc="all runs", disable=None) as bar:
        while scheduler.jobs or (scheduler.waiting and not interrupt.received):
            if not interrupt.received:
                scheduler.start_jobs()
            time.sleep(POLL_SECONDS)
            if interrupt.received:
                scheduler.request_stop()
            scheduler.collect_finished()
            bar.set_postfix_str(", ".join(job.run.name for job in scheduler.jobs), refresh=False)
            bar.n = count_epochs(runs)
            bar.refresh()
    return scheduler.failures


def run_comparison(comparison: Comparison, out: Path, *, tests: bool, jobs: int | None) -> None:
    """Complete the requested runs and write the report. Raises UserError if a run failed, Stopped after a signal."""
    with Interrupt() as interrupt:
        failures = run_all(comparison.runs, tests=tests, jobs=jobs, interrupt=interrupt)
    if interrupt.received:
        name = "Ctrl-C" if interrupt.received == signal.SIGINT else signal.Signals(interrupt.received).name
        raise Stopped(f"stopped by {name}; everything is saved in {out}, the same command resumes", interrupt.received)
    try:
        report_on_all(comparison, out)
    finally:
        raise_failures(failures, len(comparison.runs))


def is_trained(run: PlannedRun) -> bool:
    """Return whether the training of a run is finished and has the settings of this comparison."""
    try:
        return read_state(run).trained
    except UserError:
        return False


def report_on_all(comparison: Comparison, out: Path) -> None:
    """Report on all trained runs of the file, except those that another comparison is using: that one reports later.

    Comparisons write the report one at a time, so that the last report includes all runs.
    """
    report_lock = locked(out / ".report.lock")
    if report_lock is None:
        print("another comparison is writing the report; waiting to write it again", flush=True)
        report_lock = locked(out / ".report.lock", timeout=-1)
    locks: dict[Path, FileLock] = {}
    for run in comparison.all_runs:
        lock = lock_run(run) if run.folder.is_dir() else None
        if lock and is_trained(run):
            locks[run.folder] = lock
        elif lock:
            lock.release()
    try:
        if locks:
            make_report(list(locks), out / "report", title=comparison.title, question=comparison.question)
    finally:
        for lock in locks.values():
            lock.release()
        if report_lock:
            report_lock.release()


def raise_failures(failures: dict[str, str], run_count: int) -> None:
    """Raise UserError with all failures, if there are any."""
    if failures:
        problems = [f"{name}: {failure}" for name, failure in failures.items()]
        way_out = "the same command retries them after a fix; other settings need another --out"
        raise UserError(f"{len(failures)} of {counted(run_count, 'run')} failed; {way_out}:", problems)
