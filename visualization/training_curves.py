"""Training curves, from metrics.jsonl and curves.jsonl.

metrics.jsonl has one row per epoch, curves.jsonl has several (`fine` rows). Files count epochs from 0, plots from 1: the end of
the first epoch is at x = 1, and so are the values of its row in metrics.jsonl.
"""

from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from visualization.plots import COLORS, PRINT_DPI, drawable, finish_axes, line_style, mean_of, new_figure, save_figure

FEW_POINTS = 15  # a curve with fewer points gets markers, so that a single epoch is visible
THIN = {"linewidth": 0.7, "alpha": 0.45}  # style of single runs of a group
Rows = list[dict[str, Any]]
Points = dict[float, float]  # y by x


class Panel(NamedTuple):
    """One plot of training curves."""

    value: str  # key of a row of metrics.jsonl
    title: str
    unit: str
    log: bool = False
    x: str = "epoch"


PANELS = [
    Panel("loss", "Training loss", "distortion + beta x weight x KL", log=True),
    Panel("mse", "Reconstruction (distortion)", "MSE per pixel, pixels in [0, 1]", log=True),
    Panel("kl", "KL divergence (rate)", "nats per frame", log=True),
    Panel("beta", "KL annealing", "beta"),
    Panel("tfr", "Teacher forcing", "teacher-forcing ratio"),
    Panel("lr", "Learning rate", "learning rate"),
    Panel("val_psnr", "Validation rollout", "mean PSNR per frame, dB"),
    Panel("val_psnr_per_frame", "PSNR per frame, best epoch", "PSNR, dB", x="predicted frame"),
]


def plot_points(ax: Axes, points: Points, **style: Any) -> None:
    """Draw a curve, unless there are no points."""
    if points:
        ax.plot(list(points), list(points.values()), marker="o" if len(points) < FEW_POINTS else None, markersize=3, **style)


def values_by_epoch(rows: Rows, name: str, *, offset: float = 1) -> Points:
    """Return the values of rows of metrics.jsonl at x = epoch + offset, without missing ones."""
    return {row["epoch"] + offset: row[name] for row in rows if row.get(name) is not None}


def fine_values(rows: Rows, name: str) -> Points:
    """Return the values of rows of curves.jsonl at x = epochs completed, without missing ones."""
    return values_by_epoch(rows, name, offset=0)


def psnr_per_frame(row: dict[str, Any]) -> np.ndarray:
    """Return the PSNR (T,) of the validation in a row of metrics.jsonl; null becomes NaN."""
    return np.array(row["val_psnr_per_frame"], float)


class BestValidation(NamedTuple):
    """The validation with the highest PSNR."""

    epoch: int  # from 0
    psnr: np.ndarray  # (T,) in dB


def best_validation(rows: Rows) -> BestValidation | None:
    """Return the best validation of a run; None if there is none with a finite PSNR."""
    scored = [row for row in rows if row.get("val_psnr_per_frame") and np.isfinite(psnr_per_frame(row)).any()]
    if not scored:
        return None
    best = max(scored, key=lambda row: -np.inf if row.get("val_psnr") is None else row["val_psnr"])
    return BestValidation(best["epoch"], psnr_per_frame(best))


def draw_training(runs: dict[str, Rows], path: Path, *, curves: dict[str, Rows] | None = None) -> None:
    """Draw the training curves of runs, {name: rows of metrics.jsonl}, as one image of eight panels.

    `curves` {name: rows of curves.jsonl} may lack some runs. Values that these rows contain are drawn from them instead.
    """
    figure, axes = new_figure(2, 4, (18, 8))
    for ax, panel in zip(axes, PANELS):
        draw_panel(ax, panel, runs, {name: [name] for name in runs}, curves or {})
    save_figure(figure, path)


def draw_one_panel(
    panel: Panel,
    runs: dict[str, Rows],
    groups: dict[str, list[str]],
    file: Path | BinaryIO,
    *,
    limits: tuple[float, float] | None = None,
    curves: dict[str, Rows] | None = None,
) -> None:
    """Draw one panel as a separate image, which fits a narrow window and a printed page.

    Common `limits` of the values make several images comparable. For the others see draw_training() and draw_panel().
    """
    figure, (ax,) = new_figure(1, 1, (5, 3.4), dpi=PRINT_DPI)
    draw_panel(ax, panel, runs, groups, curves or {})
    if limits:
        ax.set_ylim(limits)
    save_figure(figure, file)


def draw_panel(ax: Axes, panel: Panel, runs: dict[str, Rows], groups: dict[str, list[str]], curves: dict[str, Rows]) -> None:
    """Draw one value of all runs.

    The runs of a group have the same color; `groups` is {name: names of its runs}. There is a thin line for each run, and a thick
    one for their mean. For a single run, the legend names additional curves instead of the run: teacher-forced epochs, the last
    100 frames.
    """
    single = len(runs) == 1
    for i, (group, names) in enumerate(groups.items()):
        label: str | None = drawable(group)
        style = line_style(i)
        if panel.value == "val_psnr_per_frame":
            best = [found for name in names if (found := best_validation(runs[name]))]
            lines: list[Points] = [dict(enumerate(found.psnr.tolist(), start=1)) for found in best]
            label = f"{label} (epoch {best[0].epoch + 1})" if len(best) == 1 else label
            style["linewidth"] = 1
        else:
            lines = values_of_group(panel.value, [runs[name] for name in names], [curves.get(name, []) for name in names])
            label = None if single else label
        if len(names) > 1:
            for points in lines:
                plot_points(ax, points, color=style["color"], **THIN)
        plot_points(ax, mean_points(lines), **style, label=label)
    if single:
        (name, rows) = next(iter(runs.items()))
        mark_single_run(ax, panel, rows, curves.get(name, []))
    finish_axes(ax, panel.title, panel.x, panel.unit, log=panel.log)


def values_of_group(name: str, runs: list[Rows], curves: list[Rows]) -> list[Points]:
    """Return a value of each run of a group: from the fine rows if all runs have it there, else from the rows per epoch."""
    fine = [fine_values(rows, name) for rows in curves]
    return fine if all(fine) else [values_by_epoch(rows, name) for rows in runs]


def mean_points(lines: list[Points]) -> Points:
    """Return the mean of the lines at each x that all of them have."""
    shared = [x for x in lines[0] if all(x in points for points in lines)] if lines else []
    return {x: mean_of(np.array([points[x] for points in lines])) for x in shared}


def mark_single_run(ax: Axes, panel: Panel, rows: Rows, fine: Rows) -> None:
    """Add the scheduled-sampling draws or the last-100-frame PSNR to the panel of a single run."""
    if panel.value in ("tfr", "loss"):
        # Means over an epoch belong to its middle. Without fine rows the curve consists of such means, drawn at the epoch's end.
        offset = 0.5 if fine_values(fine, panel.value) else 1.0
        mark_teacher_forcing(ax, panel.value, rows, offset)
    if panel.value == "val_psnr" and any(row.get("val_closing") != row.get("val_psnr") for row in rows):
        # The two are equal in all rows if no sequence has more than 100 frames.
        plot_points(ax, values_by_epoch(rows, "val_closing"), **line_style(1), label="last 100 frames")
        ax.lines[0].set_label("all frames")


def mark_teacher_forcing(ax: Axes, value: str, rows: Rows, offset: float) -> None:
    """Mark the result of the scheduled-sampling draws.

    Next to the ratio, these are the shares of teacher-forced batches in each epoch; on the loss, the epochs in which that share
    is at least a half.
    """
    if value == "tfr":
        marks, label = values_by_epoch(rows, "forced", offset=offset), "teacher-forced share, per epoch"
    else:
        rows = [row for row in rows if row.get("forced") is not None and row["forced"] >= 0.5]
        marks, label = values_by_epoch(rows, "loss", offset=offset), "mostly teacher-forced epoch, mean"
    if marks:
        ax.scatter(list(marks), list(marks.values()), label=label, s=18, color=COLORS[1], marker="x", linewidths=1.2, zorder=3)
