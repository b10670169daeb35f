"""Cost curves: time and peak memory of training against clip length, batch, frame size and number of training frames.

    python benchmarks/curves.py --DR LAB4_Dataset --out results/curves
    python benchmarks/curves.py --DR LAB4_Dataset --out results/curves --only clip batch -- --amp bfloat16

Everything behind -- goes to Trainer.py. Every point is a fresh process, so that its memory is its own, and takes a few
training steps with the model's own frames fed back, batches from the loader included: seconds per predicted frame of the
median step, and the process's peak (with CUDA, that of its tensors on the GPU), beside what importing the packages alone
takes. A step whose cost is linear in clip length or in batch is a level line of seconds per frame. Start-up is the time to
the first step without the imports; where a frame size has no frame cache yet, decoding is part of it.

The number of training frames changes no step, only what stands before it. `frames` therefore measures no training: the
data set's own frames, repeated to that number in a temporary cache file, go through the real DanceClips and loader; start-up
is from opening the file to the first batch, the scale of all pose images included, time that of one batch from the loader,
memory that of the process. The file is fresh in the system's memory; listing the folder and decoding its images are not in it
(`speed.py --only cache`).

Writes curves.json (after every point), curves.md and curves.png into --out.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import json
import shlex
import tempfile
from argparse import ArgumentTypeError, Namespace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.lib.format import write_array_header_1_0

from benchmarks.common.measure import machine, markdown, number, parse_flags, run_point
from data.dance import DanceSplit
from dataloader import size_flags
from runtime.cli import COUNT, Parser
from runtime.files import check_writable
from utils import UserError, one_line_errors
from visualization.plots import COLORS, new_figure

# Of each curve: what it is drawn over, what its seconds are of, and whether these grow with it when the cost is linear.
CURVES = {
    "clip": ("frames of a clip", "predicted frame", False),
    "batch": ("clips of a batch", "predicted frame", False),
    "size": ("pixels of a frame", "predicted frame", True),
    "frames": ("training frames", "batch of the loader", True),
}


def size(text: str) -> tuple[int, int]:
    """An argparse type: HxW."""
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise ArgumentTypeError(f"{text!r} found, a frame size like 32x64 (height x width) expected")
    return int(height), int(width)


def write_repeated(images: np.ndarray, count: int, path: Path) -> None:
    """(2, N, 3, H, W) frames and poses, over and over -> a cache file (2 * count, 3, H, W), written as a stream."""
    with open(path, "wb") as file:
        write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2 * count, *images.shape[2:])})
        for kind in images:
            for start in range(0, count, len(kind)):
                file.write(kind[: count - start].tobytes())


def measure_frames(options: Namespace, flags: Namespace, base: list[str], count: int) -> dict:
    """The loader over `count` training frames; see above."""
    images = DanceSplit.load(options.DR, "train", **size_flags(flags)).images
    # In --out and not in the system's temporary folder, which may be memory.
    with tempfile.TemporaryDirectory(dir=options.out, prefix=".repeated-") as folder:
        path = Path(folder) / "train.npy"
        write_repeated(images, count, path)
        return run_point(["--steps", str(options.steps), "--images", str(path)], base)


def measure(curve: str, value, options: Namespace, flags: Namespace) -> dict:
    """One point as a row of curves.json; every row has the same keys."""
    base = ["--DR", str(options.DR), *options.trainer_flags]
    x = value[0] * value[1] if curve == "size" else value
    if curve == "frames":
        found = measure_frames(options, flags, base, value)
    else:
        changed = {"clip": ["--train_vi_len", str(value)], "batch": ["--batch_size", str(value)]}
        sides = ["--frame_H", str(value[0]), "--frame_W", str(value[1])] if curve == "size" else []
        found = run_point(["--steps", str(options.steps)], [*base, *changed.get(curve, sides)])
    blank = dict.fromkeys(["seconds", "start_up", "peak_mib", "imports_mib", "memory_of", "precision"])
    label = "x".join(map(str, value)) if curve == "size" else str(value)
    return {"curve": curve, "value": label, "x": x, "seconds_per": CURVES[curve][1]} | blank | found


def table(rows: list[dict]) -> str:
    """The rows as Markdown; what could not be measured says why."""
    lines = []
    for row in rows:
        measured = [row["seconds"] and 1000 * row["seconds"], row["start_up"], row["peak_mib"], row["imports_mib"]]
        cells = ["" if value is None else number(value) for value in measured]
        note = row["problem"] or ("" if row["peak_mib"] else row["memory_of"])
        lines.append(
            [
                row["curve"],
                row["value"],
                f"{cells[0]} per {row['seconds_per']}" if cells[0] else "",
                *cells[1:],
                row["precision"] or "",
                note,
            ]
        )
    header = ["against", "value", "time, ms", "start-up, s", "peak memory, MiB", "imports alone, MiB", "precision", "note"]
    return markdown(header, lines)


def draw(rows: list[dict], path: Path) -> None:
    """A panel per curve: time on the left axis, memory on the right, dotted what a linear cost would make of the first point."""
    figure, panels = new_figure(2, 2, (12, 8))
    for ax, (curve, (x_label, unit, grows)) in zip(panels, CURVES.items()):
        own = [row for row in rows if row["curve"] == curve]
        ax.set(title=curve, xlabel=x_label, ylabel=f"seconds per {unit}")
        right = ax.twinx()
        right.set_ylabel("peak memory, MiB")
        lines = draw_points(ax, own, "seconds", label="time", grows=grows, colour=COLORS[0])
        lines += draw_points(right, own, "peak_mib", label="memory", grows=True, colour=COLORS[1])
        if lines:
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_xticks([row["x"] for row in own], labels=[row["value"] for row in own])
            ax.legend(handles=lines, fontsize="small")
    figure.savefig(path)


def draw_points(axis: Axes, rows: list[dict], name: str, *, label: str, grows: bool, colour: str) -> list[Line2D]:
    """One value of the rows that have it, and the dotted line; returns the lines for the legend."""
    axis.set(xscale="log", yscale="log")
    axis.yaxis.label.set_color(colour)
    rows = [row for row in rows if row[name] is not None]
    if not rows:
        return []
    x, y = np.array([(row["x"], row[name]) for row in rows], dtype=float).T
    measured = axis.plot(x, y, marker="o", color=colour, label=label)
    linear = y[0] * x / x[0] if grows else np.full_like(y, y[0])
    return measured + axis.plot(x, linear, linestyle=":", color=colour, label=f"{label}, if linear")


def points(options: Namespace) -> list[tuple[str, object]]:
    """(curve, value) of everything that is asked for."""
    return [(curve, value) for curve in CURVES if curve in options.only for value in getattr(options, curve)]


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Measure time and peak memory against clip length, batch, frame size and number of training frames.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set in the layout of Lab 4")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where curves.json, curves.md and curves.png go")
    add("--only", nargs="+", choices=CURVES, default=list(CURVES), help="curves to measure")
    add("--steps", type=COUNT, default=5, help="training steps, or batches, that are timed at a point")
    add("--clip", type=COUNT, nargs="+", default=[8, 16, 32, 64, 128], metavar="T", help="frames of a clip")
    add("--batch", type=COUNT, nargs="+", default=[1, 2, 4, 8, 16, 32], metavar="N", help="clips of a batch")
    add("--size", type=size, nargs="+", default=[(32, 64), (64, 128), (96, 192), (128, 256)], metavar="HxW", help="frame size")
    add("--frames", type=COUNT, nargs="+", default=[630, 2520, 10_000, 100_000], metavar="N", help="training frames")
    add("trainer_flags", nargs="*", help="behind --: flags of Trainer.py")
    options = parser.parse_args(argv)
    flags = parse_flags(["--DR", str(options.DR), *options.trainer_flags])
    if flags.model != "pose_cvae":
        raise UserError(f"--model {flags.model}: found behind --; expected pose_cvae, the curves are over its flags")
    DanceSplit.load(options.DR, "train", **size_flags(flags))  # refuses a wrong folder before anything is measured
    check_writable(options.out, flag="--out")
    command = shlex.join(["python", "benchmarks/curves.py", *(sys.argv[1:] if argv is None else argv)])
    report = {"command": command, "machine": machine(flags), "rows": []}
    for curve, value in points(options):
        report["rows"].append(measure(curve, value, options, flags))
        (options.out / "curves.json").write_text(json.dumps(report, indent=2) + "\n")
    lines = markdown(["machine", ""], [list(line) for line in report["machine"].items()])
    text = f"`{command}`\n\n{lines}\n\n{table(report['rows'])}\n"
    (options.out / "curves.md").write_text(text)
    draw(report["rows"], options.out / "curves.png")
    print(text, end="")


if __name__ == "__main__":
    main()
