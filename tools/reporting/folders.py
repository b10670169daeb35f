"""Checks of run folders that need no further package, so that a wrong path is refused at once."""

from pathlib import Path

from training.metrics_log import Row, read_metrics
from utils import UserError


def check_run_folder(folder: Path) -> None:
    """Raise UserError if the folder does not contain a run."""
    if not folder.is_dir():
        if folder.exists():
            raise UserError(f"{folder}: expected the --save_root of a training run, got a file")
        raise UserError(f"{folder}: no such folder; expected the --save_root of a training run")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: expected the --save_root of a training run, got a folder without config.json")


def read_epochs(folder: Path) -> list[Row]:
    """Return the rows of a run's metrics.jsonl. Raises UserError if there is none."""
    rows = read_metrics(folder / "metrics.jsonl")
    if not rows:
        raise UserError(f"{folder / 'metrics.jsonl'}: expected at least one epoch, got none; let the run finish an epoch first")
    return rows
