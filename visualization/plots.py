"""Every picture of curves, drawn from metrics.jsonl (training) or from scores (testing)."""

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette, told apart with any colour vision; line styles differ as well, for black-and-white prints.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLES = ["-", "--", "-.", ":"]
DENSE = 180  # dots an inch of pictures that are shown at half their size, so that they stay sharp in print


def look(i: int) -> dict:
    """Line colour and style number i."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i % len(STYLES)], "linewidth": 1.5}


def new_figure(rows: int, columns: int, size: tuple[float, float], *, dpi: int = 100) -> tuple[Figure, list[Axes]]:
    """A figure without pyplot's global state, so that nothing needs a display and nothing piles up over the epochs."""
    figure = Figure(figsize=size, layout="constrained", dpi=dpi)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for ax in axes:
        ax.grid(alpha=0.3)
    return figure, axes


def points(rows: list[dict], name: str) -> dict[int, float]:
    """One value by epoch; epochs without it are left out."""
    return {row["epoch"]: row[name] for row in rows if row.get(name) is not None}


def curve(ax: Axes, values: dict[int, float], **style) -> None:
    """One value by epoch. Few points get markers, so that one epoch can be seen."""
    if values:
        ax.plot(list(values), list(values.values()), marker="o" if len(values) < 15 else None, markersize=3, **style)


def best_frames(rows: list[dict]) -> tuple[int, np.ndarray] | None:
    """The epoch whose validation has the highest PSNR, and its PSNR over the frames; None without any."""
    scored = [row for row in rows if row.get("val_psnr_per_frame") and np.isfinite(curve_of(row)).any()]
    best = max(scored, key=lambda row: -np.inf if row.get("val_psnr") is None else row["val_psnr"], default=None)
    return best and (best["epoch"], curve_of(best))


def curve_of(row: dict) -> np.ndarray:
    """PSNR over the frames of a row's validation; null is nan here."""
    return np.array(row["val_psnr_per_frame"], float)


def literal(text: str) -> str:
    """Text of the user's own, in which a pair of dollar signs shall not begin a formula."""
    return text.replace("$", r"\$")


def finish(ax: Axes, title: str, x: str, y: str, *, log: bool = False, **legend) -> None:
    """Title, labels, legend if there is something to name. A logarithmic axis becomes a linear one where a value is negative,
    as the loss with --distortion log_mse is."""
    ax.set(title=literal(title), xlabel=x, ylabel=y)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    values = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    if log and any((some > 0).any() for some in values) and not any((some < 0).any() for some in values):
        ax.set_yscale("log")
    if names := ax.get_legend_handles_labels()[0]:
        ax.legend(**({"fontsize": "small" if len(names) < 5 else "x-small"} | legend))


def mark_coins(ax: Axes, rows: list[dict], value: str) -> None:
    """How the coins fell: the forced share of each epoch beside the ratio, and on the loss the epochs mostly forced."""
    if value == "tfr":
        marked, name = points(rows, "forced"), "forced share of batches (coins)"
    else:
        rows = [row for row in rows if row.get("forced") is not None and row["forced"] >= 0.5]
        marked, name = points(rows, "loss"), "mostly true frames fed back"
    if marked:
        ax.scatter(list(marked), list(marked.values()), label=name, s=18, color=COLOURS[1], marker="x", linewidths=1.2, zorder=3)


class Panel(NamedTuple):
    """One picture of training curves."""

    value: str  # of a row of metrics.jsonl
    title: str
    unit: str
    log: bool = False
    x: str = "epoch"


PANELS = [
    Panel("loss", "Training loss", "distortion + beta x weight x KL", log=True),
    Panel("mse", "Reconstruction (distortion)", "MSE per pixel, pixels in [0, 1]", log=True),
    Panel("kl", "KL divergence (rate)", "nats per frame", log=True),
    Panel("beta", "KL annealing", "beta"),
    Panel("tfr", "Teacher forcing", "ratio"),
    Panel("lr", "Learning rate", "learning rate"),
    Panel("val_psnr", "Validation roll-out", "mean PSNR per frame, dB"),
    Panel("val_psnr_per_frame", "PSNR per frame, best epoch", "PSNR, dB", x="predicted frame"),
]


def draw_panel(ax: Axes, panel: Panel, runs: dict[str, list[dict]], groups: dict[str, list[str]]) -> None:
    """One value of the runs {name: rows}. `groups` {name: its runs} share a colour: each run a thin line, their mean a thick one.

    A single run gets no name but what else there is to say of it: how its coins fell, its last 100 frames.
    """
    single = len(runs) == 1
    for i, (group, names) in enumerate(groups.items()):
        label, style = literal(group), look(i)
        if panel.value == "val_psnr_per_frame":
            best = [found for name in names if (found := best_frames(runs[name]))]
            label += f" (epoch {best[0][0]})" if len(best) == 1 else ""
            style["linewidth"] = 1
            curves = [dict(enumerate(values.tolist(), start=1)) for _, values in best]
        else:
            curves = [points(runs[name], panel.value) for name in names]
            label = None if single else label
        if len(names) > 1:
            for values in curves:
                curve(ax, values, color=style["color"], linewidth=0.7, alpha=0.45)
        shared = [x for x in curves[0] if all(x in values for values in curves)] if curves else []
        curve(ax, {x: mean_of(np.array([values[x] for values in curves])) for x in shared}, **style, label=label)
    if single:
        (rows,) = runs.values()
        if panel.value in ("tfr", "loss"):
            mark_coins(ax, rows, panel.value)
        if panel.value == "val_psnr" and any(row.get("val_closing") != row.get("val_psnr") for row in rows):
            curve(ax, points(rows, "val_closing"), **look(1), label="last 100 frames")  # equal where no sequence is longer
            ax.lines[0].set_label("all frames")
    finish(ax, panel.title, panel.x, panel.unit, log=panel.log)


def draw_training(runs: dict[str, list[dict]], path: Path) -> None:
    """The training curves of one or several runs, {name: rows of metrics.jsonl}, as one picture of eight panels."""
    figure, axes = new_figure(2, 4, (18, 8))
    for ax, panel in zip(axes, PANELS):
        draw_panel(ax, panel, runs, {name: [name] for name in runs})
    figure.savefig(path)


def draw_one_panel(
    panel: Panel, runs: dict[str, list[dict]], groups: dict[str, list[str]], file: Path | BinaryIO, *,
    limits: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """The same value by value, a small picture each, which fits a narrow window and a printed page. `limits` of the values make
    several pictures comparable."""
    figure, (ax,) = new_figure(1, 1, (5, 3.4), dpi=DENSE)
    draw_panel(ax, panel, runs, groups)
    if limits:
        ax.set_ylim(limits)
    figure.savefig(file)


def mean_of(values: np.ndarray) -> float:
    """Of the values that are numbers; nan without any."""
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")


def mean_over_runs(runs: np.ndarray) -> np.ndarray:
    """(runs, T) -> (T,): frame by frame the mean of the runs that have a number there; nan where none has."""
    return np.ma.masked_invalid(runs).mean(axis=0).filled(np.nan)


def decibels(value: float) -> str:
    """A PSNR as text."""
    return f"{value:.2f} dB" if np.isfinite(value) else "no score"


def draw_psnr_per_frame(
    curves: dict[str, np.ndarray], path: Path | BinaryIO, *, title: str, size: tuple[float, float] = (10, 4.5)
) -> None:  # fmt: skip
    """PSNR over the frames of one sequence, {name: (T,) in dB}; the mean stands in the legend. `size` in inches of 100 pixels."""
    figure, (ax,) = new_figure(1, 1, size)
    for i, (name, values) in enumerate(curves.items()):
        ax.plot(np.arange(len(values)) + 1, values, **look(i), label=f"{name}, mean {decibels(mean_of(values))}")
    finish(ax, title, "predicted frame", "PSNR, dB")
    figure.savefig(path)


def draw_psnr_of_groups(
    groups: dict[str, np.ndarray], still: dict[str, np.ndarray], file: Path | BinaryIO, *, title: str, first: int,
    marks: dict[int, str], size: tuple[float, float] = (8, 3.6),
) -> tuple[float, ...]:  # fmt: skip
    """PSNR over the frames of one sequence from frame number `first` on: {name: (runs, T) in dB}, each run a thin line and their
    mean a thick one; `still` pictures {name: (T,)} grey; frames {number: name} marked.

    Returns where the axes lie: left and right as fractions of the picture's width, top and bottom of its height from above, and
    the frame numbers at the left and right.
    """
    figure, (ax,) = new_figure(1, 1, size, dpi=DENSE)
    for name, values, style in zip(still, still.values(), STYLES[1:]):
        label = f"{name}, {decibels(mean_of(values))}"
        ax.plot(first + np.arange(len(values)), values, color="#777777", linestyle=style, linewidth=0.8, label=label)
    for i, (name, runs) in enumerate(groups.items()):
        frames, mean = first + np.arange(runs.shape[1]), mean_over_runs(runs)
        for values in runs if len(runs) > 1 else []:
            ax.plot(frames, values, color=look(i)["color"], linewidth=0.5, alpha=0.4)
        thin = {"linewidth": 1.0} if len(frames) > 100 else {}
        ax.plot(frames, mean, **(look(i) | thin), label=literal(f"{name}, {decibels(mean_of(mean))}"))
    for number, name in marks.items():
        ax.axvline(number, color="#777777", linewidth=0.7, linestyle=":")
        ax.annotate(f"{name} {number}", (number, 1), xycoords=("data", "axes fraction"), xytext=(1, -2),
                    textcoords="offset points", rotation=90, va="top", fontsize="xx-small", color="#555555")  # fmt: skip
    # A copy begins near infinity: the axis is for the predictions, and for where the still pictures usually are.
    usual = [np.median(values[np.isfinite(values)]) for values in still.values() if np.isfinite(values).any()]
    values = np.concatenate([*(runs[np.isfinite(runs)] for runs in groups.values()), usual])
    if len(values):
        margin = 0.06 * np.ptp(values) + 0.1
        ax.set_ylim(values.min() - margin, values.max() + margin * (3 if marks else 1))  # room for their names
    below = {"ncol": 2, "loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "frameon": False} if marks else {}
    finish(ax, title, "frame", "PSNR, dB", **below)
    figure.savefig(file)
    box = ax.get_position()
    return tuple(round(float(side), 4) for side in (box.x0, box.x1, 1 - box.y1, 1 - box.y0, *ax.get_xlim()))


def draw_frames(rows: dict[str, list[np.ndarray]], columns: list[str], captions: list[list[str]], file: Path | BinaryIO) -> None:
    """Frames as a table of pictures: `rows` {name: (H, W, 3) uint8 of each column}, a caption under each."""
    height, width = next(iter(rows.values()))[0].shape[:2]
    figure, axes = new_figure(len(rows), len(columns), (1.8 * len(columns), len(rows) * (1.7 * height / width + 0.4)), dpi=DENSE)
    for i, (ax, picture) in enumerate(zip(axes, [picture for pictures in rows.values() for picture in pictures])):
        row, column = divmod(i, len(columns))
        ax.imshow(picture, interpolation="nearest")
        ax.grid(visible=False)
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(literal(captions[row][column]), fontsize="x-small", labelpad=2)
        if row == 0:
            ax.set_title(literal(columns[column]), fontsize="small")
        if column == 0:
            ax.set_ylabel(literal(list(rows)[row]), fontsize="small")
    figure.savefig(file)
