"""The blocks of one test sequence: PSNR chart, synchronized videos, and frames at dips and peaks. T frames."""

import io
from typing import NamedTuple

import numpy as np
import torch

from tools.reporting.blocks import Block, Figure, Frames, Player, Tile
from tools.reporting.groups import Group
from tools.reporting.runs import BASELINES, Run
from tools.reporting.videos import (
    Video,
    dips_and_peaks,
    encode_image,
    frames_per_second,
    join_video_frames,
    largest_difference,
    load_videos,
    make_sprite,
    to_image,
)
from visualization.plots import decibels, draw_frames, draw_psnr_of_groups, mean_of, mean_over_runs
from visualization.videos import save_gif

GIF_FPS = 10  # of the GIFs in report.md, which would otherwise be many megabytes large
MARK_LABELS = {"dip": "dip", "peak": "peak", "differ": "largest difference between the settings"}


class PsnrChart(NamedTuple):
    """The chart of a sequence, and the box of its axes from draw_psnr_of_groups()."""

    figure: Figure
    axes_box: tuple[float, ...]


def sequence_blocks(groups: list[Group], sequence: str) -> list[Block]:
    """Return chart, videos and selected frames of one sequence."""
    run = next(run for group in groups for run in group.runs if sequence in run.videos)
    videos = load_videos(groups, sequence)
    curves = psnr_curves(groups, sequence)
    if not curves:
        return [player_block(sequence, videos, None, context=run.context, fps=frames_per_second(run))]
    marks = select_frames(curves, run.context)
    chart = psnr_chart(sequence, curves, first_scored_run(groups, sequence), marks)
    player = player_block(sequence, videos, chart, context=run.context, fps=frames_per_second(run))
    return [player, frames_block(sequence, videos, marks)] if marks else [player]


def psnr_curves(groups: list[Group], sequence: str) -> dict[str, np.ndarray]:
    """Return the PSNR of each frame of a sequence, (runs, T), by the names of the groups that have scores of the sequence."""
    curves: dict[str, np.ndarray] = {}
    for group in groups:
        scored = [
            run.scores.frames[sequence]["psnr"] for run in group.tested_runs if run.scores and sequence in run.scores.frames
        ]
        if scored:
            curves[group.name] = np.stack(scored)
    return curves


def first_scored_run(groups: list[Group], sequence: str) -> Run:
    """Return the first run with scores of the sequence."""
    return next(run for group in groups for run in group.tested_runs if run.scores and sequence in run.scores.frames)


def select_frames(curves: dict[str, np.ndarray], context: int) -> dict[int, str]:
    """Return the frames to show, {number: kind}: dips and peaks of the mean over all runs, and the largest difference."""
    # Each run's own mean is subtracted. Otherwise the mean over all runs would peak where a run with low scores has no value.
    centered = [values - mean_of(values) for values in np.concatenate(list(curves.values()))]
    marks = {context + t: kind for t, kind in dips_and_peaks(mean_over_runs(np.stack(centered))).items()}
    t = largest_difference([mean_over_runs(values) for values in curves.values()])
    if t is not None:
        marks.setdefault(context + t, "differ")
    return dict(sorted(marks.items()))


def psnr_chart(sequence: str, curves: dict[str, np.ndarray], run: Run, marks: dict[int, str]) -> PsnrChart:
    """Draw the PSNR over the frames of a sequence, with all runs and, from the scores of `run`, the baselines."""
    file = io.BytesIO()
    scores = run.scores.frames[sequence] if run.scores else {}
    baselines = {title: scores[name] for name, title in BASELINES.items() if name in scores}
    title = f"Sequence {sequence}"
    axes_box = draw_psnr_of_groups(curves, baselines, file, title=title, first=run.context, marks=marks)
    means = ", ".join(f"{group} {decibels(mean_of(values))}" for group, values in curves.items())
    return PsnrChart(Figure(f"psnr_seq{sequence}.png", file.getvalue(), f"{title}, PSNR per frame; means: {means}"), axes_box)


def player_block(sequence: str, videos: list[Video], chart: PsnrChart | None, *, context: int, fps: float) -> Player:
    """Return the videos, synchronized with each other and with the chart."""
    tiles = []
    for video in videos:
        psnr = None
        if video.psnr is not None:
            psnr = [round(value, 2) if np.isfinite(value) else None for value in video.psnr.tolist()]
        tiles.append(Tile(video.name, "", b"", make_sprite(video.frames), psnr))
    every = max(1, round(fps / GIF_FPS))
    gif = encode_gif(join_video_frames(videos, every=every), fps / every)
    return Player(
        title=f"sequence {sequence}",
        tiles=tiles,
        frames=len(videos[0].frames),
        context=context,
        fps=fps,
        chart=chart.figure if chart else None,
        axes_box=chart.axes_box if chart else (),
        gif=(f"video_seq{sequence}.gif", gif),
    )


def encode_gif(video: torch.Tensor, fps: float) -> bytes:
    """Return the GIF of a video (T, 3, H, W) in [0, 1]."""
    file = io.BytesIO()
    save_gif(file, video, fps=fps)
    return file.getvalue()


def frames_block(sequence: str, videos: list[Video], marks: dict[int, str]) -> Frames:
    """Return the marked frames of all videos."""
    rows: dict[str, list[Tile]] = {}
    images: dict[str, list[np.ndarray]] = {}
    captions: list[list[str]] = []
    for number, kind in marks.items():
        scores = ["" if video.psnr is None else decibels(video.psnr[number]) for video in videos]
        tiles = []
        for video, score in zip(videos, scores):
            tiles.append(Tile(video.name, score, encode_image(to_image(video.frames[number]), "PNG")))
        rows[f"Frame {number}: {MARK_LABELS[kind]}"] = tiles
        images[f"frame {number}"] = [video.frames[number] for video in videos]
        captions.append(scores)
    file = io.BytesIO()
    draw_frames(images, [video.name for video in videos], captions, file)
    alt = f"frames of sequence {sequence} at dips and peaks of the PSNR: {', '.join(map(str, marks))}"
    return Frames(rows, Figure(f"frames_seq{sequence}.png", file.getvalue(), alt))
