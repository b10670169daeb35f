"""The progress and results of one planned run, read from its folder."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from runtime.files import locked
from tools.comparing.spec import PlannedRun
from tools.reporting.groups import spread
from training.metrics_log import read_metrics
from training.resume import choose_start
from utils import UserError, counted


class RunState(NamedTuple):
    """The progress of a run."""

    epochs_done: int | None  # None without a checkpoint
    num_epoch: int
    tested: bool  # by a comparison, after training finished

    @property
    def trained(self) -> bool:
        return self.epochs_done == self.num_epoch

    def is_complete(self, *, tests: bool) -> bool:
        """Return whether the run is trained and, with `tests`, tested."""
        return self.trained and (self.tested or not tests)

    def __str__(self) -> str:
        if self.epochs_done is None:
            return "not started"
        if not self.trained:
            return f"{self.epochs_done} of {counted(self.num_epoch, 'epoch')}"
        return "tested" if self.tested else "trained"


def read_state(run: PlannedRun) -> RunState:
    """Return the state of a run.

    Raises UserError with Trainer.py's message if the run was trained with other settings. A comparison also refuses another
    num_epoch, because the schedules depend on it.
    """
    start = choose_start(run.args, run.explicit)
    num_epoch = run.args.num_epoch
    if not start.continues_run or start.checkpoint is None:
        return RunState(None, num_epoch, tested=False)
    trained_length = start.checkpoint["flags"]["num_epoch"]
    if trained_length != num_epoch:
        found = f"expected --num_epoch {trained_length} as in the checkpoint, got {num_epoch}"
        raise UserError(f"{start.path}: {found}; choose another --out for it")
    done = start.checkpoint["epoch"]
    return RunState(done, num_epoch, tested=done == num_epoch and has_comparison_test(run))


def read_results(run: PlannedRun) -> dict[str, Any]:
    """Return the content of Tester.py's scores.json; {} if there is none, or if it is damaged."""
    try:
        return json.loads((run.folder / "test" / "scores.json").read_bytes())
    except (OSError, ValueError):
        return {}


def test_mark_path(run: PlannedRun) -> Path:
    """Return the file that identifies the last test made by a comparison. The results of any other test differ from it."""
    return run.folder / "test" / "compared.json"


def has_comparison_test(run: PlannedRun) -> bool:
    """Return whether the test results of a run are those of a comparison."""
    path = test_mark_path(run)
    return path.exists() and json.loads(path.read_bytes()) == read_results(run).get("test")


def lock_run(run: PlannedRun) -> FileLock | None:
    """Return a lock that keeps other comparisons from using the run until it is released; None if another one is using it."""
    return locked(run.folder / ".compare.lock")  # Trainer.py has a lock of its own


def describe_scores(run: PlannedRun) -> str:
    """Return the best validation PSNR and the test PSNR of a run, for one line in the terminal."""
    parts = []
    values = [row["val_psnr"] for row in read_metrics(run.folder / "metrics.jsonl") if row.get("val_psnr") is not None]
    if values:
        parts.append(f"validation {max(values):.2f} dB")
    sequences = read_results(run).get("sequences", [])
    if sequences:
        parts.append(f"test {spread([sequences[-1]['psnr']]).text(2)} dB")  # the last row is the mean of all sequences
    return ", ".join(parts)


def count_epochs(runs: list[PlannedRun]) -> int:
    """Return the number of finished epochs of all runs, for the progress bar."""
    files = [run.folder / "metrics.jsonl" for run in runs]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())
