"""Figures and styles of all plots, and plots of scores over the T frames of a sequence."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

# The palette of Okabe and Ito, distinguishable with any color vision. Line styles differ as well, for black-and-white prints.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLES = ["-", "--", "-.", ":"]
GRAY = "#777777"
# Fonts of Linux, Windows and macOS with Chinese, Japanese or Korean characters: all families whose names begin with one of these.
OTHER_FONTS = ("Noto Sans CJK", "Noto Sans TC", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans", "WenQuanYi",
               "Droid Sans Fallback", "Microsoft JhengHei", "Microsoft YaHei", "SimHei", "Yu Gothic", "Meiryo", "MS Gothic",
               "Malgun Gothic", "PingFang", "Heiti", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS")  # fmt: skip
PRINT_DPI = 180  # of plots that are shown at half their size; they stay sharp in print


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


def drawable(text: str) -> str:
    """Return a text that matplotlib draws as it is.

    Dollar signs are escaped, because a pair of them would be read as a formula. A character that no font has becomes an escape,
    such as \\u821e for a Chinese one.
    """
    _, lacking = further_fonts(text)
    escaped = "".join(char.encode("unicode_escape").decode() if char in lacking else char for char in text)
    return escaped.replace("$", r"\$")


def further_fonts(text: str) -> tuple[list[str], set[str]]:
    """Return the families of OTHER_FONTS that a text needs besides the usual one, and its characters that none of them has."""
    lacking = {*text} - characters_of(findfont(FontProperties())) - {"\n"}
    families = []
    for family, path in other_fonts().items() if lacking else ():
        if lacking & characters_of(path):
            lacking -= characters_of(path)
            families.append(family)
    return families, lacking


@functools.cache
def characters_of(path: str) -> frozenset[str]:
    """Return the characters of the font in a file; none if it cannot be read."""
    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


@functools.cache
def other_fonts() -> dict[str, str]:
    """Return the installed families of OTHER_FONTS in that order, each with the file of its regular font."""
    upright = [font for font in fontManager.ttflist if font.style == "normal"]
    upright.sort(key=lambda font: (font.name, font.weight in (400, "normal"), font.fname))
    files = {font.name: font.fname for font in upright}  # the last one of a name counts
    return {name: path for start in OTHER_FONTS for name, path in files.items() if name.startswith(start)}


def save_figure(figure: Figure, file: Path | BinaryIO) -> None:
    """Write a figure, each of its texts in fonts that have the characters."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if families := further_fonts(text.get_text())[0]:
            text.set_fontfamily([*text.get_fontfamily(), *families])  # tried in this order
    figure.savefig(file)


def finish_axes(ax: Axes, title: str, x: str, y: str, *, log: bool = False, legend: dict[str, Any] | None = None) -> None:
    """Set the title, the labels of the axes and, if a line has a label, the legend.

    With `log` the y axis is logarithmic, unless a value is negative, like the loss with --distortion log_mse.
    """
    ax.set(title=drawable(title), xlabel=x, ylabel=y)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    if log and any((values > 0).any() for values in lines) and not any((values < 0).any() for values in lines):
        ax.set_yscale("log")
    if names := ax.get_legend_handles_labels()[0]:
        ax.legend(**({"fontsize": "small" if len(names) < 5 else "x-small"} | (legend or {})))


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
        label = drawable(f"{name}, mean {decibels(mean_of(values))}")
        ax.plot(np.arange(len(values)) + 1, values, **line_style(i), label=label)
    finish_axes(ax, title, "predicted frame", "PSNR, dB")
    save_figure(figure, path)


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
    save_figure(figure, file)
    box = ax.get_position()
    return AxesPosition(*(round(float(side), 4) for side in (box.x0, box.x1, 1 - box.y1, 1 - box.y0, *ax.get_xlim())))


def draw_group(ax: Axes, name: str, runs: np.ndarray, i: int, *, first: int) -> None:
    """Draw the PSNR (runs, T) of group number i and its mean."""
    frames, mean = first + np.arange(runs.shape[1]), mean_over_runs(runs)
    style = line_style(i) | ({"linewidth": 1.0} if len(frames) > 100 else {})
    for values in runs if len(runs) > 1 else []:
        ax.plot(frames, values, color=style["color"], linewidth=0.5, alpha=0.4)
    ax.plot(frames, mean, **style, label=drawable(f"{name}, {decibels(mean_of(mean))}"))


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
            ax.set_xlabel(drawable(captions[row][column]), fontsize="x-small", labelpad=2)
            if row == 0:
                ax.set_title(drawable(columns[column]), fontsize="small")
            if column == 0:
                ax.set_ylabel(drawable(name), fontsize="small")
    save_figure(figure, file)
