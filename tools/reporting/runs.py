"""The runs of a report: read from their folders, and checked to be comparable."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks import TASKS, Task
from tools.reporting.folders import check_run_folder, read_epochs
from tools.reporting.scores import SplitScores, load_json, read_scores
from training.metrics_log import read_curves, read_metrics
from training.resume import FREE_FLAGS
from utils import UserError, command_line

# Flags that do not belong to the settings of a run. Most concern the machine, paths or output, which do not affect what a model
# learns. The preset is described by the flags that it sets. Runs that differ only in the seed have the same settings.
IGNORED_FLAGS = (FREE_FLAGS - {"num_epoch", "val_every", "skip_bad"}) | {"preset", "seed"}
RUN_SPECIFIC_FLAGS = {"save_root", "seed", "resume", "overwrite", "test"}  # these differ between any two runs
BASELINES = {"copy": "copy-last-frame baseline", "background": "median-frame baseline (oracle)"}
BASELINE_TOLERANCE = 0.02  # dB by which the score of a baseline may differ between machines
VIDEO_SUFFIXES = ".mp4", ".gif"  # if both exist, the GIF is read, which needs no further package


class Run(NamedTuple):
    """One training run, and its test if there is one."""

    folder: Path
    name: str
    flags: dict[str, Any]
    rows: list[dict]  # of metrics.jsonl
    curves: list[dict]  # of curves.jsonl, several rows per epoch; empty for a run without the file
    first_epoch: int  # the first one in this folder, from 0; earlier rows belong to the run that it continues
    training_seconds: float | None  # without validation
    scores: SplitScores | None  # None without a test or without ground truth
    test_settings: dict[str, Any]  # checkpoint, epoch, z_scale, samples, fps; empty without a test
    results: Path  # folder of the test
    compared_flags: frozenset[str] = frozenset()  # flags of IGNORED_FLAGS that these runs compare

    @property
    def task(self) -> Task:
        return TASKS[self.flags["model"]]

    @property
    def seed(self) -> int:
        return self.flags.get("seed", 0)

    @property
    def context(self) -> int:
        """Number of context frames at the start of a sequence, which are not scored."""
        return self.flags.get("n_past", 1)

    @property
    def own_rows(self) -> list[dict]:
        """Rows of the epochs that were trained in this folder."""
        return [row for row in self.rows if row["epoch"] >= self.first_epoch]

    @property
    def best(self) -> tuple[int, float] | None:
        """Epoch, from 0, and PSNR of the best validation, after which best.ckpt was saved."""
        validated = [(row["epoch"], row["val_psnr"]) for row in self.own_rows if row.get("val_psnr") is not None]
        return max(validated, key=lambda pair: pair[1], default=None)

    @property
    def settings(self) -> dict[str, Any]:
        """The flags that affect what the model learns, and the settings of its test that affect scores."""
        ignored = IGNORED_FLAGS - self.compared_flags
        settings = {name: value for name, value in self.flags.items() if name not in ignored}
        for name in ("z_scale", "samples"):
            if self.test_settings.get(name, 1) != 1:
                settings[f"{name} (test)"] = self.test_settings[name]
        return settings

    @property
    def videos(self) -> dict[str, Path]:
        """The comparison videos of the test by sequence, in the order of the scores."""
        paths: dict[str, Path] = {}
        for suffix in VIDEO_SUFFIXES:
            for path in self.results.glob(f"compare_seq*{suffix}"):
                paths[path.stem.removeprefix("compare_seq")] = path
        scored = list(self.scores.frames) if self.scores else []
        others = sorted(set(paths) - set(scored), key=natural_key)
        return {name: paths[name] for name in [*scored, *others] if name in paths}

    def test_command(self, split: str) -> str:
        """Return the command that creates the results of the split."""
        command = ["python", "Tester.py", "--DR", str(self.flags.get("DR", "DATA")), "--ckpt_path", str(self.folder)]
        return command_line(command + (["--split", split] if split != "test" else []))


def natural_key(name: str) -> list[str | int]:
    """Return a sort key that compares numbers in names by value: 9 before 12."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def read_run(folder: Path, name: str, split: str) -> Run:
    """Read a run folder. Raises UserError if the folder does not contain a run."""
    check_run_folder(folder)
    config = load_json(folder / "config.json")
    flags = config.get("flags")
    if not isinstance(flags, dict) or str(flags.get("model")) not in TASKS:
        raise UserError(f"{folder / 'config.json'}: expected a file that Trainer.py writes, got one without a known --model")
    check_numbers(config | flags, folder / "config.json")
    rows = read_epochs(folder)
    timings = read_metrics(folder / "timings.jsonl") if (folder / "timings.jsonl").is_file() else []
    results = folder / split
    scores, test_settings = read_scores(results / "scores.json")
    return Run(
        folder=folder,
        name=name,
        flags=flags,
        rows=rows,
        curves=read_curves(folder / "curves.jsonl"),
        first_epoch=config.get("first_epoch", 0),
        training_seconds=sum(row.get("seconds") or 0.0 for row in timings) if timings else None,
        scores=scores,
        test_settings=test_settings,
        results=results,
    )


def check_numbers(config: dict[str, Any], path: Path) -> None:
    """Raise UserError unless the numbers that a report needs are whole numbers. Older runs lack those with a default."""
    defaults = {"frame_H": None, "frame_W": None, "n_past": 1, "seed": 0, "first_epoch": 0}
    for name, default in defaults.items():
        value = config.get(name, default)
        smallest = 0 if name in ("seed", "first_epoch") else 1
        if type(value) is not int or value < smallest:
            raise UserError(f"{path}: {name}: expected a whole number of at least {smallest}, got {value}")


def short_names(folders: list[Path]) -> list[str]:
    """Return the last parts of each path, as few as make all names different."""
    for length in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            break
    return names


def read_runs(folders: list[Path], split: str) -> list[Run]:
    """Read all runs and check that they are comparable. Raises UserError."""
    resolved = [folder.resolve() for folder in folders]
    for i, folder in enumerate(resolved):
        if folder in resolved[:i]:
            raise UserError(f"{folders[i]}: expected each run once, got it twice")
    runs = [read_run(folder, name, split) for folder, name in zip(folders, short_names(resolved))]
    for run in runs[1:]:
        check_same_data(runs[0], run)
    tested = [run for run in runs if run.scores]
    for run in tested[1:]:
        check_same_tests(tested[0], run)
    return runs


def validation_baseline(run: Run) -> float | None:
    """Return the first PSNR of the copy-last-frame baseline in validation; None without validation."""
    return next((row["val_copy"] for row in run.own_rows if row.get("val_copy") is not None), None)


def check_same_data(first: Run, run: Run) -> None:
    """Raise UserError unless both runs have the same task and frame size, and were validated on the same frames.

    The score of a baseline identifies the frames, wherever they are stored.
    """
    where = f"{run.folder} and {first.folder}"
    if run.task is not first.task:
        raise UserError(f"{where}: expected runs of one task, got the models {run.flags['model']} and {first.flags['model']}")
    sizes = [f"{one.flags['frame_H']} x {one.flags['frame_W']}" for one in (run, first)]
    if sizes[0] != sizes[1]:
        raise UserError(f"{where}: expected one frame size, got {sizes[0]} and {sizes[1]} pixels")
    here, there = validation_baseline(run), validation_baseline(first)
    if here is not None and there is not None and abs(here - there) > BASELINE_TOLERANCE:
        found = f"{here:.2f} and {there:.2f} dB for the {BASELINES['copy']}"
        raise UserError(f"{where}: expected validation on the same frames, got {found}")


def check_same_tests(first: Run, run: Run) -> None:
    """Raise UserError unless both runs were tested on the same frames."""
    if run.scores is None or first.scores is None:
        return
    where = f"{run.results} and {first.results}"
    if list(run.scores.frames) != list(first.scores.frames):
        found = " and ".join(", ".join(list(scores.frames)[:5]) for scores in (run.scores, first.scores))
        raise UserError(f"{where}: expected tests of the same sequences, got {found}; run Tester.py again")
    for name, curves in run.scores.frames.items():
        here, there = (scores.means[name].get("copy", np.nan) for scores in (run.scores, first.scores))
        if curves["psnr"].shape != first.scores.frames[name]["psnr"].shape or abs(here - there) > BASELINE_TOLERANCE:
            raise UserError(
                f"{where}: expected tests on the same frames, got different frames in sequence {name}; run Tester.py again"
            )
