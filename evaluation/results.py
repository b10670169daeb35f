"""The files that Tester.py writes: images of each sequence, and scores as a table, as files and as plots."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluation.scores import Result, Score, mean_per_step, summary
from evaluation.submission import COURSE_SIZE, LAST_SCORED, GraderPsnr, grader_psnr, write_submission
from utils import counted, finite
from visualization.plots import draw_psnr_per_frame
from visualization.videos import draw_comparison, save_filmstrip, save_gif, save_videos

# Columns of scores.csv, and their headings in the terminal.
HEADINGS = {"psnr": "PSNR", "channel_psnr": "by channel", "ssim": "SSIM", "closing": "last 100 frames",
            "copy": "copy last frame", "background": "median frame (oracle)", "best_psnr": "best PSNR",
            "best_channel_psnr": "best by channel", "best_ssim": "best SSIM"}  # fmt: skip
MOST_ROWS = 12  # sequences that the terminal lists one by one


def remove_earlier(folder: Path) -> None:
    """Remove the results of an earlier test, so that they do not mix with the new ones."""
    files = ("submission.csv", "scores.csv", "scores.json", "psnr.png")
    for pattern in (*files, "psnr_seq*.png", "pred_seq*.gif", "compare_seq*.gif", "compare_seq*.mp4", "strip_seq*.png"):
        for path in folder.glob(pattern):
            path.unlink()


def write_visualizations(folder: Path, results: list[Result], *, fps: float, every: int | None, kinds: tuple[str, ...]) -> None:
    """Write for each sequence a comparison video of each of `kinds`, a filmstrip, and with ground truth a plot of its PSNR.

    The video shows ground truth, conditions and the first sample; with several samples, the best and the worst as well.
    """
    for result in results:
        name = result.sequence.name
        videos = [result.video / 255]
        if len(result.scores) > 1:
            videos += [result.best / 255, result.worst / 255]
        save_videos(folder / f"compare_seq{name}", draw_comparison(videos, result.sequence), fps=fps, kinds=kinds)
        save_filmstrip(folder / f"strip_seq{name}.png", videos[0], result.sequence, every=every)
        if result.scores:
            draw_steps(folder / f"psnr_seq{name}.png", result.scores[0]._asdict(), title=f"Sequence {name}")


def write_scores(folder: Path, results: list[Result], *, more: dict[str, Any]) -> None:
    """Print and save the scores of results with ground truth; `more` is added to scores.json.

    scores.csv has a row for each sequence, scores.json every time step, psnr.png the mean over the sequences. Without results,
    only scores.json is written.
    """
    if not results:
        write_json(folder / "scores.json", {"sequences": [], "per_frame": {}} | more)
        return
    rows = [table_row(result.sequence.name, [result]) for result in results]
    rows.append(table_row("all", results))
    with open(folder / "scores.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print_table(rows)
    first_samples = {result.sequence.name: result.scores[0] for result in results}
    steps = {}
    for key in Score._fields:
        steps[key] = mean_per_step([getattr(score, key) for score in first_samples.values()])
    per_frame = {name: as_lists(score._asdict()) for name, score in first_samples.items()}
    write_json(folder / "scores.json", {"sequences": rows, "per_step": as_lists(steps), "per_frame": per_frame} | more)
    draw_steps(folder / "psnr.png", steps, title=f"Mean of {counted(len(first_samples), 'sequence')}")


def table_row(name: str, results: list[Result]) -> dict[str, Any]:
    """Return a row of scores.csv: means over frames of the first samples, and of the best samples by each score."""
    first_samples = [result.scores[0] for result in results]
    row: dict[str, Any] = {
        "sequence": name,
        "frames": sum(len(score.psnr) for score in first_samples),
        "samples": len(results[0].scores),
    }
    row |= summary(first_samples)
    if row["samples"] > 1:
        for key in ("psnr", "channel_psnr", "ssim"):
            best = []
            for result in results:
                curves = [getattr(score, key) for score in result.scores]
                best.append(max(curves, key=Tensor.mean))
            row[f"best_{key}"] = torch.cat(best).mean().item()
    return row


def as_lists(curves: dict[str, Tensor]) -> dict[str, list[float]]:
    """Return tensors as lists, for JSON."""
    return {key: curve.tolist() for key, curve in curves.items()}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file with null for non-finite numbers."""
    path.write_text(json.dumps(finite(content)) + "\n")


def draw_steps(path: Path, curves: dict[str, Tensor], *, title: str) -> None:
    """Plot PSNR over the predicted frames, next to the two baselines."""
    labels = {"psnr": "prediction", "copy": "copy-last-frame baseline", "background": "median-frame baseline (oracle)"}
    draw_psnr_per_frame({label: curves[key].numpy() for key, label in labels.items()}, path, title=title)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the rows of scores.csv; with many sequences only the last row, the mean."""
    headings = {key: heading for key, heading in HEADINGS.items() if key in rows[0]}
    if all(row["closing"] == row["psnr"] for row in rows):  # no sequence has more than 100 predicted frames
        del headings["closing"]
    width = max(len("sequence"), *(len(row["sequence"]) for row in rows))
    print("PSNR in dB, means over the predicted frames; copy last frame and median frame are baselines")
    print("  ".join([f"{'sequence':>{width}}", "frames", *headings.values()]))
    for row in rows if len(rows) <= MOST_ROWS else rows[-1:]:
        cells = [f"{row['sequence']:>{width}}", f"{row['frames']:>6}"]
        for key, heading in headings.items():
            digits = 3 if "ssim" in key else 2
            cells.append(f"{row[key]:>{len(heading)}.{digits}f}")
        print("  ".join(cells))


def write_submission_files(folder: Path, results: list[Result], *, fps: float) -> dict[str, dict[str, float]]:
    """Write the files to submit for the dance exercise, submission.csv and pred_seq{i}.gif, and print the grader PSNR.

    Return it for scores.json. submission.csv needs frames of the course's size.
    """
    videos = [result.video.numpy() for result in results]
    height, width = videos[0].shape[-2:]
    if (height, width) == COURSE_SIZE:
        write_submission(folder / "submission.csv", videos)
    else:
        print("submission.csv is not written: expected frames of {} x {}, got {} x {}".format(*COURSE_SIZE, height, width))
    for result in results:
        save_gif(folder / f"pred_seq{result.sequence.name}.gif", result.video / 255, fps=fps)
    ground_truth = []
    for result in results:
        ground_truth.append(None if result.sequence.ground_truth is None else result.sequence.ground_truth.numpy())
    graded = grader_psnr(videos, ground_truth)
    print_grader_psnr(graded)
    return {"course": graded._asdict()}


def print_grader_psnr(graded: GraderPsnr) -> None:
    """Print the parts of the grader PSNR that have scored sequences."""
    parts = [f"{name} {value:.2f} dB" for name, value in graded._asdict().items() if not math.isnan(value)]
    if parts:
        print(f"grader PSNR (frames 1 to {LAST_SCORED}): {', '.join(parts)}")
