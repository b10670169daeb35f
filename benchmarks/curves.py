"""Measure time and peak memory of training against clip length, batch size, frame size and number of training frames.

    python benchmarks/curves.py --DR LAB4_Dataset --out results/curves
    python benchmarks/curves.py --DR LAB4_Dataset --out results/curves --only clip batch -- --amp bfloat16

Everything after -- is passed to Trainer.py. Every point is a fresh process, so that its memory is its own. It takes a few
autoregressive training steps, with batches from the loader, and records the seconds per predicted frame of the median step
and the process's peak memory (with CUDA: that of its tensors on the GPU), next to the peak after the imports alone. If the
cost of a step is linear in clip length or batch size, the seconds per frame are constant. Start-up is the time from the end
of the imports to the first step. It includes decoding the images if the frame cache does not contain this frame size yet.

The number of training frames affects the start-up of a run but not its steps. The curve `frames` therefore does not train. It
repeats the data set's frames up to the required number in a temporary cache file, and reads the file with the real DanceClips
and loader. Start-up is then the time from opening the file to the first batch, which includes computing the mean and deviation
of all pose images. The time is that of one batch from the loader, and the memory is that of the process. The file has just been
written, so it is still in the system's file cache. Listing the folder and decoding its images are not included
(`speed.py --only cache` measures them).

Writes curves.json (after every point), curves.md and curves.png to --out.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import json
import tempfile
from argparse import ArgumentTypeError, Namespace
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.lib.format import write_array_header_1_0

from benchmarks.common.machine import describe_machine
from benchmarks.common.measure import parse_flags
from benchmarks.common.processes import run_point
from benchmarks.common.tables import command_of, format_number, machine_table, markdown_table
from data.dance import DanceSplit
from dataloader import size_flags
from runtime.cli import COUNT, Parser
from runtime.files import check_writable
from runtime.program import one_line_errors
from utils import UserError
from visualization.plots import COLORS, new_figure


class Curve(NamedTuple):
    """The axes of one curve."""

    x_label: str
    unit: str  # of the work whose seconds are measured
    time_grows: bool  # whether the seconds grow with x when the cost is linear; else they are constant


CURVES = {
    "clip": Curve("frames of a clip", "predicted frame", False),
    "batch": Curve("clips of a batch", "predicted frame", False),
    "size": Curve("pixels of a frame", "predicted frame", True),
    "frames": Curve("training frames", "batch of the loader", True),
}


class Point(NamedTuple):
    """One point of a curve."""

    curve: str  # a key of CURVES
    x: int
    label: str  # of x in tables and plots
    flags: list[str]  # that set x in Trainer.py


def frame_size(text: str) -> tuple[int, int]:
    """Parse HxW; an argparse type."""
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise ArgumentTypeError(f"expected a frame size like 32x64 (height x width), got {text!r}")
    return int(height), int(width)


def write_repeated(images: np.ndarray, count: int, path: Path) -> None:
    """Write a cache file (2 * count, 3, H, W) that repeats frames and poses (2, N, 3, H, W), without a copy in memory."""
    with open(path, "wb") as file:
        write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2 * count, *images.shape[2:])})
        for kind in images:
            for start in range(0, count, len(kind)):
                file.write(kind[: count - start].tobytes())


def measure_frames(options: Namespace, flags: Namespace, base: list[str], count: int) -> dict:
    """Measure the loader with `count` training frames."""
    images = DanceSplit.load(options.DR, "train", **size_flags(flags)).images
    # The file is in --out, because the system's temporary folder may be in memory.
    with tempfile.TemporaryDirectory(dir=options.out, prefix=".repeated-") as folder:
        path = Path(folder) / "train.npy"
        write_repeated(images, count, path)
        return run_point(["--steps", str(options.steps), "--images", str(path)], base)


def measure(point: Point, options: Namespace, flags: Namespace) -> dict[str, Any]:
    """Measure one point and return its row of curves.json; every row has the same keys."""
    base = ["--DR", str(options.DR), *options.trainer_flags]
    if point.curve == "frames":
        measured = measure_frames(options, flags, base, point.x)
    else:
        measured = run_point(["--steps", str(options.steps)], [*base, *point.flags])
    missing = dict.fromkeys(["seconds", "start_up", "peak_mib", "imports_mib", "memory_of", "precision"])
    row = {"curve": point.curve, "value": point.label, "x": point.x, "seconds_per": CURVES[point.curve].unit}
    return row | missing | measured


def table_line(row: dict[str, Any]) -> list[str]:
    """Return the cells of one row; the last one is the reason why something was not measured."""

    def cell(value: float | None) -> str:
        return "" if value is None else format_number(value)

    time = "" if row["seconds"] is None else f"{format_number(1000 * row['seconds'])} per {row['seconds_per']}"
    note = row["problem"] or ("" if row["peak_mib"] else row["memory_of"])
    measured = [time, cell(row["start_up"]), cell(row["peak_mib"]), cell(row["imports_mib"]), row["precision"] or ""]
    return [row["curve"], row["value"], *measured, note]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    header = ["curve", "value", "time, ms", "start-up, s", "peak memory, MiB", "imports alone, MiB", "precision", "note"]
    return markdown_table(header, [table_line(row) for row in rows])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw a plot per curve: time on the left axis, memory on the right, and dotted lines for a cost linear in x."""
    figure, panels = new_figure(2, 2, (12, 8))
    for ax, (name, curve) in zip(panels, CURVES.items()):
        points = [row for row in rows if row["curve"] == name]
        ax.set(title=name, xlabel=curve.x_label, ylabel=f"seconds per {curve.unit}")
        right = ax.twinx()
        right.set_ylabel("peak memory, MiB")
        lines = draw_points(ax, points, "seconds", label="time", grows=curve.time_grows, color=COLORS[0])
        lines += draw_points(right, points, "peak_mib", label="memory", grows=True, color=COLORS[1])
        if lines:
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_xticks([row["x"] for row in points], labels=[row["value"] for row in points])
            ax.legend(handles=lines, fontsize="small")
    figure.savefig(path)


def draw_points(axis: Axes, rows: list[dict[str, Any]], key: str, *, label: str, grows: bool, color: str) -> list[Line2D]:
    """Draw one value of the rows that have it, and a dotted line from the first of them for a linear cost.

    Return both lines for the legend.
    """
    axis.set(xscale="log", yscale="log")
    axis.yaxis.label.set_color(color)
    measured = [row for row in rows if row[key] is not None]
    if not measured:
        return []
    x = np.array([row["x"] for row in measured], dtype=float)
    y = np.array([row[key] for row in measured], dtype=float)
    lines = axis.plot(x, y, marker="o", color=color, label=label)
    linear = y[0] * x / x[0] if grows else np.full_like(y, y[0])
    return lines + axis.plot(x, linear, linestyle=":", color=color, label=f"{label}, if linear")


def points_of(options: Namespace) -> list[Point]:
    """Return the points of the curves that --only selects, in the order of CURVES."""
    points = [Point("clip", length, str(length), ["--train_vi_len", str(length)]) for length in options.clip]
    points += [Point("batch", clips, str(clips), ["--batch_size", str(clips)]) for clips in options.batch]
    for height, width in options.size:
        points.append(Point("size", height * width, f"{height}x{width}", ["--frame_H", str(height), "--frame_W", str(width)]))
    points += [Point("frames", count, str(count), []) for count in options.frames]
    return [point for point in points if point.curve in options.only]


def curves_parser() -> Parser:
    """Return the parser of this program's flags."""
    parser = Parser("Measure time and peak memory against clip length, batch size, frame size and number of training frames.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set in the layout of Lab 4")
    add("--out", type=Path, required=True, metavar="FOLDER", help="folder for curves.json, curves.md and curves.png")
    add("--only", nargs="+", choices=CURVES, default=list(CURVES), help="curves to measure (default: all)")
    add("--steps", type=COUNT, default=5, help="training steps, or batches of the loader, to time at each point")
    add("--clip", type=COUNT, nargs="+", default=[8, 16, 32, 64, 128], metavar="T", help="clip lengths in frames")
    add("--batch", type=COUNT, nargs="+", default=[1, 2, 4, 8, 16, 32], metavar="N", help="batch sizes in clips")
    add("--size", type=frame_size, nargs="+", default=[(32, 64), (64, 128), (96, 192), (128, 256)], metavar="HxW",
        help="frame sizes in pixels (default: 32x64 64x128 96x192 128x256)")  # fmt: skip
    add("--frames", type=COUNT, nargs="+", default=[630, 2520, 10_000, 100_000], metavar="N", help="numbers of training frames")
    add("trainer_flags", nargs="*", metavar="-- FLAG", help="flags of Trainer.py")
    return parser


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    options = curves_parser().parse_args(argv)
    flags = parse_flags(["--DR", str(options.DR), *options.trainer_flags])
    if flags.model != "pose_cvae":
        raise UserError(f"--model {flags.model}: expected pose_cvae after --; the curves vary flags of that model")
    DanceSplit.load(options.DR, "train", **size_flags(flags))  # raises UserError for a wrong folder before the first measurement
    check_writable(options.out, flag="--out")
    command, machine = command_of("curves.py", argv), describe_machine(flags)
    rows: list[dict[str, Any]] = []
    for point in points_of(options):
        rows.append(measure(point, options, flags))
        report = {"command": command, "machine": machine, "rows": rows}
        (options.out / "curves.json").write_text(json.dumps(report, indent=2) + "\n")
    text = f"`{command}`\n\n{machine_table(machine)}\n\n{table(rows)}\n"
    (options.out / "curves.md").write_text(text)
    draw(rows, options.out / "curves.png")
    print(text, end="")


if __name__ == "__main__":
    main()
