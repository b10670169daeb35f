"""Plots of curves: of a training, from metrics.jsonl and curves.jsonl, and of scores (T frames).

metrics.jsonl has one row per epoch, curves.jsonl has several (`fine` rows). Files count epochs from 0, plots from 1: the end of
the first epoch is at x = 1, and so are the values of its row in metrics.jsonl.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# The palette of Okabe and Ito, distinguishable with any color vision. Line styles differ as well, for black-and-white prints.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLES = ["-", "--", "-.", ":"]
GRAY = "#777777"
PRINT_DPI = 180  # of plots that are shown at half their size; they stay sharp in print
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


def new_figure(rows: int, columns: int, size: tuple[float, float], *, dpi: int = 100) -> tuple[Figure, list[Axes]]:
    """Return a figure of `size` inches and its axes.

    It is not registered with pyplot, so no display is needed, and figures do not accumulate over the epochs.
    """
    figure = Figure(figsize=size, layout="constrained", dpi=dpi)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for ax in axes:
        ax.grid(alpha=0.3)
    return figure, axes


def line_style(i: int) -> dict[str, Any]:
    """Return the color and the style of line number i."""
    return {"color": COLORS[i % len(COLORS)], "linestyle": STYLES[i % len(STYLES)], "linewidth": 1.5}


def escape_dollars(text: str) -> str:
    """Return a text with its dollar signs escaped: matplotlib would read a pair of them as a formula."""
    return text.replace("$", r"\$")


def plot_points(ax: Axes, points: Points, **style: Any) -> None:
    """Draw a curve, unless there are no points."""
    if points:
        ax.plot(list(points), list(points.values()), marker="o" if len(points) < FEW_POINTS else None, markersize=3, **style)


def finish_axes(ax: Axes, title: str, x: str, y: str, *, log: bool = False, legend: dict[str, Any] | None = None) -> None:
    """Set the title, the labels of the axes and, if a line has a label, the legend.

    With `log` the y axis is logarithmic, unless a value is negative, like the loss with --distortion log_mse.
    """
    ax.set(title=escape_dollars(title), xlabel=x, ylabel=y)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    if log and any((values > 0).any() for values in lines) and not any((values < 0).any() for values in lines):
        ax.set_yscale("log")
    if names := ax.get_legend_handles_labels()[0]:
        ax.legend(**({"fontsize": "small" if len(names) < 5 else "x-small"} | (legend or {})))


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
    figure.savefig(path)


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
    figure.savefig(file)


def draw_panel(ax: Axes, panel: Panel, runs: dict[str, Rows], groups: dict[str, list[str]], curves: dict[str, Rows]) -> None:
    """Draw one value of all runs.

    The runs of a group have the same color; `groups` is {name: names of its runs}. There is a thin line for each run, and a thick
    one for their mean. For a single run, the legend names additional curves instead of the run: teacher-forced epochs, the last
    100 frames.
    """
    single = len(runs) == 1
    for i, (group, names) in enumerate(groups.items()):
        label: str | None = escape_dollars(group)
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


def mean_of(values: np.ndarray) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")


def mean_over_runs(runs: np.ndarray) -> np.ndarray:
    """Return the mean (T,) of the finite values in runs (runs, T), frame by frame; NaN for a frame without any."""
    return np.ma.masked_invalid(runs).mean(axis=0).filled(np.nan)


def decibels(value: float) -> str:
    """Return a PSNR as text."""
    return f"{value:.2f} dB" if np.isfinite(value) else "no score"


def draw_psnr_per_frame(
    curves: dict[str, np.ndarray], path: Path | BinaryIO, *, title: str, size: tuple[float, float] = (10, 4.5)
) -> None:
    """Draw the PSNR over the frames of one sequence, {name: (T,) in dB}, with the means in the legend.

    `size` is in inches of 100 pixels.
    """
    figure, (ax,) = new_figure(1, 1, size)
    for i, (name, values) in enumerate(curves.items()):
        label = escape_dollars(f"{name}, mean {decibels(mean_of(values))}")
        ax.plot(np.arange(len(values)) + 1, values, **line_style(i), label=label)
    finish_axes(ax, title, "predicted frame", "PSNR, dB")
    figure.savefig(path)


class AxesPosition(NamedTuple):
    """The position of a plot's axes, as fractions of the image's width and height, and the frame numbers at both ends."""

    left: float
    right: float
    top: float  # from the upper edge, as is the bottom
    bottom: float
    first: float
    last: float


def draw_psnr_of_groups(
    groups: dict[str, np.ndarray],
    baselines: dict[str, np.ndarray],
    file: Path | BinaryIO,
    *,
    title: str,
    first: int,
    marks: dict[int, str],
    size: tuple[float, float] = (8, 3.6),
) -> AxesPosition:
    """Draw the PSNR over the frames of one sequence, the first of which has number `first`; return the position of the axes.

    A group {name: (runs, T) in dB} is drawn as a thin line for each run and a thick one for their mean, a baseline {name: (T,)}
    as a gray line. Vertical lines mark the frames in `marks` {number: name}.
    """
    figure, (ax,) = new_figure(1, 1, size, dpi=PRINT_DPI)
    for (name, values), style in zip(baselines.items(), STYLES[1:]):
        label = f"{name}, {decibels(mean_of(values))}"
        ax.plot(first + np.arange(len(values)), values, color=GRAY, linestyle=style, linewidth=0.8, label=label)
    for i, (name, runs) in enumerate(groups.items()):
        draw_group(ax, name, runs, i, first=first)
    for number, name in marks.items():
        ax.axvline(number, color=GRAY, linewidth=0.7, linestyle=":")
        ax.annotate(f"{name} {number}", (number, 1), xycoords=("data", "axes fraction"), xytext=(1, -2),
                    textcoords="offset points", rotation=90, va="top", fontsize="xx-small", color="#555555")  # fmt: skip
    if limits := psnr_limits(groups.values(), baselines.values(), space_above=bool(marks)):
        ax.set_ylim(limits)
    below = {"ncol": 2, "loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "frameon": False}
    finish_axes(ax, title, "frame", "PSNR, dB", legend=below if marks else None)
    figure.savefig(file)
    box = ax.get_position()
    return AxesPosition(*(round(float(side), 4) for side in (box.x0, box.x1, 1 - box.y1, 1 - box.y0, *ax.get_xlim())))


def draw_group(ax: Axes, name: str, runs: np.ndarray, i: int, *, first: int) -> None:
    """Draw the PSNR (runs, T) of group number i and its mean."""
    frames, mean = first + np.arange(runs.shape[1]), mean_over_runs(runs)
    style = line_style(i) | ({"linewidth": 1.0} if len(frames) > 100 else {})
    for values in runs if len(runs) > 1 else []:
        ax.plot(frames, values, color=style["color"], linewidth=0.5, alpha=0.4)
    ax.plot(frames, mean, **style, label=escape_dollars(f"{name}, {decibels(mean_of(mean))}"))


def psnr_limits(
    groups: Iterable[np.ndarray], baselines: Iterable[np.ndarray], *, space_above: bool
) -> tuple[float, float] | None:
    """Return limits of the PSNR that show all groups and the medians of the baselines; None without finite values.

    Not all of a baseline is shown, because the PSNR of a copied frame is nearly infinite at first.
    """
    medians = [np.median(values[np.isfinite(values)]) for values in baselines if np.isfinite(values).any()]
    values = np.concatenate([*(runs[np.isfinite(runs)] for runs in groups), medians])
    if not len(values):
        return None
    margin = float(0.06 * np.ptp(values) + 0.1)
    return float(values.min()) - margin, float(values.max()) + margin * (3 if space_above else 1)


def draw_frames(rows: dict[str, list[np.ndarray]], columns: list[str], captions: list[list[str]], file: Path | BinaryIO) -> None:
    """Draw frames as a table: `rows` {name: an image (H, W, 3) uint8 per column}, with a caption under each."""
    height, width = next(iter(rows.values()))[0].shape[:2]
    size = 1.8 * len(columns), len(rows) * (1.7 * height / width + 0.4)
    figure, axes = new_figure(len(rows), len(columns), size, dpi=PRINT_DPI)
    for row, (name, images) in enumerate(rows.items()):
        for column, image in enumerate(images):
            ax = axes[row * len(columns) + column]
            ax.imshow(image, interpolation="nearest")
            ax.grid(visible=False)
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(escape_dollars(captions[row][column]), fontsize="x-small", labelpad=2)
            if row == 0:
                ax.set_title(escape_dollars(columns[column]), fontsize="small")
            if column == 0:
                ax.set_ylabel(escape_dollars(name), fontsize="small")
    figure.savefig(file)
