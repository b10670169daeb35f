"""The scores that Tester.py wrote for one run, read and checked."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation.scores import Score
from utils import UserError


class SplitScores(NamedTuple):
    """The content of scores.json."""

    means: dict[str, dict[str, float]]  # by sequence, and of "all", the columns of scores.csv; NaN for null
    frames: dict[str, dict[str, np.ndarray]]  # by sequence, each field of Score over the frames
    steps: np.ndarray  # PSNR of each frame, averaged over the sequences
    grader: dict[str, float]  # grader PSNR of the dance: overall, public, private; NaN for null


def load_json(path: Path) -> dict[str, Any]:
    """Load the object in a JSON file. Raises UserError."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise UserError(f"{path}: expected JSON, got something else; was the file truncated?") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected an object, got JSON of type {type(value).__name__}")
    return value


def to_float(value: float | None) -> float:
    """Return a number as a float, null as NaN. Raises TypeError or ValueError for anything else."""
    return float("nan") if value is None else float(value)


def read_scores(path: Path) -> tuple[SplitScores | None, dict[str, Any]]:
    """Return the scores in a scores.json, None if there are none, and the settings of the test. Raises UserError."""
    if not path.is_file():
        return None, {}
    content = load_json(path)
    try:
        settings = dict(content.get("test", {}))
        if not 1 <= settings.get("fps", 1) <= 50:
            raise ValueError
        if content["sequences"] == []:  # there is no ground truth
            return None, settings
        return parse_scores(content), settings
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(f"{path}: expected the scores that Tester.py writes; run Tester.py again") from None


def parse_scores(content: dict[str, Any]) -> SplitScores:
    """Return the scores in the content of scores.json. Raises a built-in exception if Tester.py did not write it like this."""
    means: dict[str, dict[str, float]] = {}
    for row in content["sequences"]:
        columns = {key: to_float(value) for key, value in row.items() if key != "sequence"}
        means[row["sequence"]] = columns
    frames: dict[str, dict[str, np.ndarray]] = {}
    for name, curves in content["per_frame"].items():
        frames[name] = {key: np.array(curves[key], dtype=float) for key in Score._fields}
    steps = np.array(content["per_step"]["psnr"], dtype=float)
    grader = {key: to_float(value) for key, value in content.get("course", {}).items()}
    check_shapes(means, frames, steps)
    return SplitScores(means, frames, steps, grader)


def check_shapes(means: dict[str, dict[str, float]], frames: dict[str, dict[str, np.ndarray]], steps: np.ndarray) -> None:
    """Raise ValueError unless every sequence has a mean, and all curves of a sequence have the same length."""
    if not frames or {*means} != {*frames, "all"} or any("psnr" not in columns for columns in means.values()):
        raise ValueError
    lengths = []
    for curves in frames.values():
        length = len(curves["psnr"])
        if not length or any(curve.shape != (length,) for curve in curves.values()):
            raise ValueError
        lengths.append(length)
    if steps.shape != (max(lengths),):
        raise ValueError
