"""What Tester.py leaves: pictures of each sequence, and the scores as a table, as files and as curves."""

import csv
import json
import math
from pathlib import Path

import torch
from torch import Tensor

from evaluation.scores import Result, Score, mean_per_step, summary
from evaluation.submission import COURSE_SIZE, course_score, write_submission
from utils import finite
from visualization.plots import draw_psnr_per_frame
from visualization.videos import draw_comparison, save_filmstrip, save_gif, save_videos

COLUMNS = {"psnr": "PSNR", "channel_psnr": "by channel", "ssim": "SSIM", "closing": "last 100", "copy": "copy given",
           "background": "background", "best_psnr": "best PSNR", "best_channel_psnr": "best by channel",
           "best_ssim": "best SSIM"}  # fmt: skip
MOST_ROWS = 12  # of sequences that the terminal shows one by one


def remove_earlier(folder: Path) -> None:
    """Removes what an earlier test left, so that its results do not stand beside the new ones."""
    files = ("submission.csv", "scores.csv", "scores.json", "psnr.png")
    for pattern in (*files, "psnr_seq*.png", "pred_seq*.gif", "compare_seq*.gif", "compare_seq*.mp4", "strip_seq*.png"):
        for path in folder.glob(pattern):
            path.unlink()


def write_pictures(folder: Path, results: list[Result], *, fps: float, every: int | None, kinds: tuple[str, ...]) -> None:
    """Per sequence a video of each of `kinds` and a strip that compare, and the PSNR over its frames where the truth is known.

    The video shows truth, pose and the first sample; of several samples the best and the worst as well.
    """
    for result in results:
        name = result.sequence.name
        videos = [result.video] if len(result.scores) < 2 else [result.video, result.best, result.worst]
        videos = [video / 255 for video in videos]
        save_videos(folder / f"compare_seq{name}", draw_comparison(videos, result.sequence), fps=fps, kinds=kinds)
        save_filmstrip(folder / f"strip_seq{name}.png", videos[0], result.sequence, every=every)
        if result.scores:
            draw_steps(folder / f"psnr_seq{name}.png", result.scores[0]._asdict(), title=f"Sequence {name}")


def table_row(name: str, results: list[Result]) -> dict:
    """One row of scores.csv: means over frames of the first samples and, of several samples, of the best in each score."""
    row = {"sequence": name, "frames": sum(len(result.scores[0].psnr) for result in results), "samples": len(results[0].scores)}
    row |= summary([result.scores[0] for result in results])
    if row["samples"] > 1:
        for value in ("psnr", "channel_psnr", "ssim"):
            best = [max((getattr(s, value) for s in result.scores), key=Tensor.mean) for result in results]
            row[f"best_{value}"] = torch.cat(best).mean().item()
    return row


def write_scores(folder: Path, results: list[Result], *, more: dict) -> None:
    """Prints and saves the scores of results whose truth is known: scores.csv with a row each, scores.json with every step
    and what else there is to say, psnr.png with the mean over the sequences. Without results, scores.json says what was rolled
    out."""
    if not results:
        (folder / "scores.json").write_text(json.dumps(finite({"sequences": [], "per_frame": {}} | more)) + "\n")
        return
    rows = [table_row(result.sequence.name, [result]) for result in results] + [table_row("all", results)]
    with open(folder / "scores.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print_table(rows)
    first = {result.sequence.name: result.scores[0] for result in results}
    per_frame = {name: {key: value.tolist() for key, value in score._asdict().items()} for name, score in first.items()}
    steps = {key: mean_per_step([getattr(score, key) for score in first.values()]) for key in Score._fields}
    everything = {"sequences": rows, "per_step": {key: value.tolist() for key, value in steps.items()},
                  "per_frame": per_frame} | more  # fmt: skip
    (folder / "scores.json").write_text(json.dumps(finite(everything)) + "\n")
    draw_steps(folder / "psnr.png", steps, title=f"Mean of {len(first)} sequences")


def draw_steps(path: Path, score: dict[str, Tensor], *, title: str) -> None:
    """PSNR over the predicted frames beside the two pictures that any model must beat."""
    names = {"prediction": "psnr", "copy of the last given frame": "copy", "median background": "background"}
    draw_psnr_per_frame({name: score[key].numpy() for name, key in names.items()}, path, title=title)


def print_table(rows: list[dict]) -> None:
    """The rows of scores.csv for the terminal; of many sequences only the mean."""
    columns = {key: title for key, title in COLUMNS.items() if key in rows[0]}
    if all(row["closing"] == row["psnr"] for row in rows):  # no sequence is longer than its last 100 frames
        columns.pop("closing")
    width = max(len(row["sequence"]) for row in [{"sequence": "sequence"}, *rows])
    print("  ".join([f"{'sequence':>{width}}", "frames", *columns.values()]))
    for row in rows if len(rows) <= MOST_ROWS else rows[-1:]:
        values = [f"{row[key]:>{len(title)}.{3 if 'ssim' in key else 2}f}" for key, title in columns.items()]
        print("  ".join([f"{row['sequence']:>{width}}", f"{row['frames']:>6}", *values]))


def write_course_files(folder: Path, results: list[Result], *, fps: float) -> dict:
    """What the dance exercise hands in: submission.csv, of frames of the course's size, and pred_seq{i}.gif. Returns and prints
    the course's score."""
    videos = [result.video.numpy() for result in results]
    height, width = videos[0].shape[-2:]
    if (height, width) == COURSE_SIZE:
        write_submission(folder / "submission.csv", videos)
    else:
        print("submission.csv is not written: it holds frames of {} x {}, these are {} x {}".format(*COURSE_SIZE, height, width))
    for result in results:
        save_gif(folder / f"pred_seq{result.sequence.name}.gif", result.video / 255, fps=fps)
    truth = [None if result.sequence.ground_truth is None else result.sequence.ground_truth.numpy() for result in results]
    course = course_score(videos, truth)
    if not math.isnan(course.overall):
        known = {name: value for name, value in course._asdict().items() if not math.isnan(value)}
        print(f"course's score (frames 1 to 600): {', '.join(f'{name} {value:.2f} dB' for name, value in known.items())}")
    return {"course": course._asdict()}
