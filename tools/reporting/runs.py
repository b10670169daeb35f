"""Runs as tools/report.py needs them: read from their folders, checked to be of one kind, put into groups of seeds."""

import json
import re
import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.scores import Score
from tasks import TASKS, Task
from training.metrics_log import read_metrics
from training.resume import FREE_FLAGS
from utils import UserError, command_line

# Flags that say nothing of what was learned: machine, paths, what is written when, and the preset, which is told by the flags
# that it sets. The seed makes no other settings.
UNTOLD = (FREE_FLAGS - {"num_epoch", "val_every", "skip_bad"}) | {"preset", "seed"}
OWN = {"save_root", "seed", "resume", "overwrite", "test"}  # of these, what differs between any two runs, or two tries of one
BASELINES = {"copy": "copy of the given frame", "background": "median background"}
CLOSE = 0.02  # dB by which the score of a still picture may differ between two machines
VIDEO_SUFFIXES = ".mp4", ".gif"  # of a comparison; where there are both, the GIF, which needs no further package


class Test(NamedTuple):
    """What scores.json holds."""

    means: dict[str, dict[str, float]]  # by sequence, and of "all", the columns of scores.csv; nan for null
    frames: dict[str, dict[str, np.ndarray]]  # by sequence, the scores of evaluation.Score frame by frame
    steps: np.ndarray  # PSNR, mean over the sequences
    course: dict[str, float]  # the dance's score: overall, public, private; nan for null


class Run(NamedTuple):
    """One training, and its test if there was one."""

    folder: Path
    name: str
    flags: dict
    rows: list[dict]  # of metrics.jsonl
    first_epoch: int  # with which it began in this folder; the rows before are of the run that it was trained on from
    seconds: float | None  # of training, validation apart
    test: Test | None  # None without the truth, too
    about: dict  # how it was tested: checkpoint, epoch, z_scale, samples, fps; empty if it was not
    results: Path  # folder of the test
    told: frozenset[str] = frozenset()  # flags of UNTOLD that count for these runs

    @property
    def task(self) -> Task:
        return TASKS[self.flags["model"]]

    @property
    def seed(self) -> int:
        return self.flags.get("seed", 0)

    @property
    def given(self) -> int:
        """Frames at the start of a sequence that are given and not scored."""
        return self.flags.get("n_past", 1)

    @property
    def own(self) -> list[dict]:
        """The rows of its own epochs."""
        return [row for row in self.rows if row["epoch"] >= self.first_epoch]

    @property
    def best(self) -> tuple[int, float] | None:
        """Epoch and PSNR of the best validation, of which its best.ckpt is."""
        found = [(row["epoch"], row["val_psnr"]) for row in self.own if row.get("val_psnr") is not None]
        return max(found, key=lambda pair: pair[1], default=None)

    @property
    def settings(self) -> dict:
        """The flags that decide what is learned, and how it was tested."""
        told = {name: value for name, value in self.flags.items() if name not in UNTOLD - self.told}
        return told | {f"{name} (test)": self.about[name] for name in ("z_scale", "samples") if self.about.get(name, 1) != 1}

    @property
    def videos(self) -> dict[str, Path]:
        """The pictures of the test that show truth, pose and prediction, by sequence, in the order of the scores."""
        paths = [path for suffix in VIDEO_SUFFIXES for path in self.results.glob(f"compare_seq*{suffix}")]
        found = {path.stem.removeprefix("compare_seq"): path for path in paths}
        known = list(self.test.frames) if self.test else []
        return {name: found[name] for name in known + sorted(set(found) - set(known), key=natural) if name in found}

    def test_command(self, split: str) -> str:
        """What makes the results of the split that are missing."""
        command = ["python", "Tester.py", "--DR", str(self.flags.get("DR", "DATA")), "--ckpt_path", str(self.folder)]
        return command_line(command + (["--split", split] if split != "test" else []))


class Group(NamedTuple):
    """Runs that differ in nothing but the seed, the lowest first."""

    name: str
    runs: list[Run]

    @property
    def tested(self) -> list[Run]:
        return [run for run in self.runs if run.test]


def load_json(path: Path) -> dict:
    """The object in a file. Raises UserError."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise UserError(f"{path}: is not JSON that can be read; was the file cut short?") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a {type(value).__name__}; expected an object")
    return value


def read_test(path: Path) -> tuple[Test | None, dict]:
    """scores.json of Tester.py, and how it was tested; None where nothing was scored. Raises UserError."""
    if not path.is_file():
        return None, {}
    found = load_json(path)
    try:
        about = dict(found.get("test", {}))
        if not 1 <= about.get("fps", 1) <= 50:
            raise ValueError
        if found["sequences"] == []:  # the truth is not known
            return None, about
        means = {row.pop("sequence"): {key: as_float(value) for key, value in row.items()} for row in found["sequences"]}
        per_frame = found["per_frame"].items()
        frames = {name: {key: np.array(scores[key], dtype=float) for key in Score._fields} for name, scores in per_frame}
        steps = np.array(found["per_step"]["psnr"], dtype=float)
        shapes = {name: {curve.shape for curve in scores.values()} for name, scores in frames.items()}
        lengths = {name: len(scores["psnr"]) for name, scores in frames.items()}
        if not frames or {*means} != {*frames, "all"} or any("psnr" not in mean for mean in means.values()):
            raise ValueError
        if any(shapes[name] != {(length,)} or not length for name, length in lengths.items()):
            raise ValueError
        if steps.shape != (max(lengths.values()),):
            raise ValueError
        course = {key: as_float(value) for key, value in found.get("course", {}).items()}
        return Test(means, frames, steps, course), about
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(f"{path}: does not hold the scores that Tester.py writes; run Tester.py again") from None


def natural(name: str) -> list[str | int]:
    """A key that sorts 9 before 12."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def as_float(value: float | None) -> float:
    """A number of a file, nan for null. Raises TypeError."""
    return float("nan") if value is None else float(value)


def read_run(folder: Path, name: str, split: str) -> Run:
    """A run folder. Raises UserError if it is none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected the --save_root of a training")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: holds no config.json; expected the --save_root of a training")
    config = load_json(folder / "config.json")
    flags = config.get("flags")
    if not isinstance(flags, dict) or str(flags.get("model")) not in TASKS:
        raise UserError(f"{folder / 'config.json'}: names no --model of this repo; expected what Trainer.py writes")
    # What an older run may lack has a default.
    for number, default in {"frame_H": None, "frame_W": None, "n_past": 1, "seed": 0, "first_epoch": 0}.items():
        if type(value := (config | flags).get(number, default)) is not int or value < (number not in ("seed", "first_epoch")):
            raise UserError(f"{folder / 'config.json'}: {number} is {value}; expected the whole number that Trainer.py writes")
    rows = read_metrics(folder / "metrics.jsonl")
    if not rows:
        raise UserError(f"{folder / 'metrics.jsonl'}: holds no epoch yet; expected a run with one at least")
    timings = read_metrics(folder / "timings.jsonl") if (folder / "timings.jsonl").is_file() else []
    seconds = sum(row.get("seconds") or 0.0 for row in timings) if timings else None
    results = folder / split
    return Run(folder, name, flags, rows, config.get("first_epoch", 0), seconds, *read_test(results / "scores.json"), results)


def read_runs(folders: list[Path], split: str) -> list[Run]:
    """All runs, checked to be comparable. Raises UserError."""
    places = [folder.resolve() for folder in folders]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise UserError(f"{folders[i]}: given twice; expected each run once")
    runs = [read_run(folder, name, split) for folder, name in zip(folders, short_names(places))]
    for run in runs[1:]:
        check_alike(runs[0], run)
    tested = [run for run in runs if run.test]
    for run in tested[1:]:
        check_tests(tested[0], run)
    return told_apart(runs)


def short_names(places: list[Path]) -> list[str]:
    """As much of the ends of the paths as tells them apart."""
    for length in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-length:]) for place in places]
        if len(set(names)) == len(names):
            break
    return names


def check_alike(first: Run, run: Run) -> None:
    """Raises UserError unless both predict the same kind of video and were validated on the same frames.

    How well a still picture does on them is the data's own mark, wherever they lie.
    """
    if run.task is not first.task:
        kinds = f"{run.flags['model']} and {first.flags['model']}"
        raise UserError(f"{run.folder} and {first.folder}: are models of two kinds of video, {kinds}; expected runs of one kind")
    sizes = [f"{one.flags['frame_H']} x {one.flags['frame_W']}" for one in (run, first)]
    if sizes[0] != sizes[1]:
        raise UserError(f"{run.folder} and {first.folder}: frames of {sizes[0]} and {sizes[1]} pixels; expected one size")
    marks = [next((row["val_copy"] for row in one.own if row.get("val_copy") is not None), None) for one in (run, first)]
    if None not in marks and abs(marks[0] - marks[1]) > CLOSE:
        found = f"a copy of the given frame scores {marks[0]:.2f} and {marks[1]:.2f} dB"
        raise UserError(f"{run.folder} and {first.folder}: were validated on other frames ({found}); expected the same data")


def check_tests(first: Run, run: Run) -> None:
    """Raises UserError unless both were tested on the same frames."""
    where = f"{run.results} and {first.results}"
    if list(run.test.frames) != list(first.test.frames):
        found = " and ".join(", ".join(list(one.test.frames)[:5]) for one in (run, first))
        raise UserError(f"{where}: tests of other sequences ({found}); expected the same, run Tester.py again")
    for name, scores in run.test.frames.items():
        marks = [one.test.means[name].get("copy", np.nan) for one in (run, first)]
        if scores["psnr"].shape != first.test.frames[name]["psnr"].shape or abs(marks[0] - marks[1]) > CLOSE:
            raise UserError(f"{where}: sequence {name} has other frames; expected tests on the same data, run Tester.py again")


def grouped(runs: list[Run]) -> list[Group]:
    """Groups of runs that differ in nothing but the seed, in the order of their first runs."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    members = [sorted(group, key=lambda run: run.seed) for group in groups.values()]
    names = [group_name([run.name for run in group]) for group in members]
    # Two groups of runs called 1, 2, 3 would have one name.
    names = [name if names.count(name) == 1 else f"{name} ({group[0].name})" for name, group in zip(names, members)]
    return [Group(name, group) for name, group in zip(names, members)]


def told_apart(runs: list[Run]) -> list[Run]:
    """The same runs. Those of one setting and one seed were made to be compared: what else their flags differ in, such as amp or
    compile, is told after all."""
    told: set[str] = set()
    for group in grouped(runs):
        for seed in {run.seed for run in group.runs}:
            same = [run.flags for run in group.runs if run.seed == seed]
            told |= {name for name in UNTOLD - OWN if len({json.dumps(flags.get(name)) for flags in same}) > 1}
    return [run._replace(told=frozenset(told)) for run in runs]


def group_name(names: list[str]) -> str:
    """What the names of a group's runs begin with, without "seed" at its end: cyclical for cyclical_seed1 and cyclical_seed2."""
    if len(names) == 1:
        return names[0]
    common = names[0]
    while not all(name.startswith(common) for name in names):
        common = common[:-1]
    common = re.sub(r"([-_./ ]s|[-_./ ]*seed)?[-_=./ ]*\d*$", "", common, flags=re.IGNORECASE)
    return common or f"{names[0]} and {len(names) - 1} more"


def differences(groups: list[Group]) -> tuple[list[str], list[str]]:
    """Names of the settings in which the groups differ, and of those in which they do not."""
    settings = [group.runs[0].settings for group in groups]
    names = list(dict.fromkeys(name for one in settings for name in one))
    alike = [name for name in names if all(name in one and one[name] == settings[0].get(name) for one in settings)]
    return [name for name in names if name not in alike], alike


class Spread(NamedTuple):
    """Mean and sample standard deviation of some runs; nan where there is none, and the deviation of a single one."""

    mean: float
    deviation: float
    count: int

    def text(self, digits: int) -> str:
        """29.31 ± 0.12, or the one value there is."""
        if self.count == 0:
            return "-"
        return f"{self.mean:.{digits}f}" + (f" ± {self.deviation:.{digits}f}" if self.count > 1 else "")


def spread(values: list[float | None]) -> Spread:
    """Of the values that are numbers."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    if not known:
        return Spread(float("nan"), float("nan"), 0)
    return Spread(statistics.mean(known), statistics.stdev(known) if len(known) > 1 else float("nan"), len(known))
