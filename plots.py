"""Every picture of curves, drawn from metrics.jsonl (training) or from scores (testing).

    python plots.py runs/cyclical runs/monotonic runs/none --out comparison.png    several runs laid over each other
"""
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flags import Parser, location
from records import read_metrics
from utils import UserError, one_line_errors

# Okabe and Ito's palette, told apart with any colour vision; line styles differ as well, for black-and-white prints.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLES = ["-", "--", "-.", ":"]


def look(i: int) -> dict:
    """Line colour and style number i."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i % len(STYLES)], "linewidth": 1.5}


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure without pyplot's global state, so that nothing needs a display and nothing piles up over the epochs."""
    figure = Figure(figsize=size, layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for ax in axes:
        ax.grid(alpha=0.3)
    return figure, axes


def curve(ax: Axes, rows: list[dict], name: str, **style) -> None:
    """One value by epoch; epochs without it are left out. Few points get markers, so that one epoch can be seen."""
    points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
    if points:
        ax.plot(*zip(*points), marker="o" if len(points) < 15 else None, markersize=3, **style)


def literal(text: str) -> str:
    """Text of the user's own, in which a pair of dollar signs shall not begin a formula."""
    return text.replace("$", r"\$")


def finish(ax: Axes, title: str, x: str, y: str, *, log: bool = False) -> None:
    """Title, labels, legend if there is something to name."""
    ax.set(title=literal(title), xlabel=x, ylabel=y)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log and any((np.asarray(line.get_ydata(), dtype=float) > 0).any() for line in ax.lines):
        ax.set_yscale("log")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small")


def mark_coins(ratio: Axes, loss: Axes, rows: list[dict]) -> None:
    """How the coins fell: the forced share of each epoch beside the ratio, and on the loss the epochs mostly forced."""
    rows = [row for row in rows if row.get("forced") is not None]
    mark = {"s": 18, "color": COLOURS[1], "marker": "x", "linewidths": 1.2, "zorder": 3}
    if rows:
        ratio.scatter(*zip(*((row["epoch"], row["forced"]) for row in rows)), label="forced share of batches (coins)", **mark)
    forced = [(row["epoch"], row["loss"]) for row in rows if row["forced"] >= 0.5 and row.get("loss") is not None]
    if forced:
        loss.scatter(*zip(*forced), label="mostly true frames fed back", **mark)


def draw_training(runs: dict[str, list[dict]], path: Path) -> None:
    """The training curves of one or several runs, {name: rows of metrics.jsonl}, as one picture of eight panels."""
    figure, axes = new_figure(2, 4, (18, 8))
    single = len(runs) == 1
    for i, (name, rows) in enumerate(runs.items()):
        name = literal(name)
        style = look(i) | ({} if single else {"label": name})
        panels = ["loss", "mse", "kl", "beta", "tfr", "lr", "val_psnr"]
        for ax, value in zip(axes, panels):
            curve(ax, rows, value, **style)
        curves = [(row["epoch"], np.array(row["val_psnr_per_frame"], float)) for row in rows if row.get("val_psnr_per_frame")]
        curves = [(epoch, values) for epoch, values in curves if np.isfinite(values).any()]  # null is nan here
        if curves:
            epoch, values = max(curves, key=lambda pair: np.nanmean(pair[1]))
            frames = np.arange(len(values)) + 1
            axes[7].plot(frames, values, **(look(i) | {"linewidth": 1, "label": f"{name} (epoch {epoch})"}))
    if single:
        rows = next(iter(runs.values()))
        mark_coins(axes[4], axes[0], rows)
        if any(row.get("val_closing") != row.get("val_psnr") for row in rows):  # equal where no sequence is longer
            curve(axes[6], rows, "val_closing", **look(1), label="last 100 frames")
            axes[6].lines[0].set_label("all frames")
    finish(axes[0], "Training loss", "epoch", "distortion + beta x weight x KL", log=True)
    finish(axes[1], "Reconstruction (distortion)", "epoch", "MSE per pixel, pixels in [0, 1]", log=True)
    finish(axes[2], "KL divergence (rate)", "epoch", "nats per frame", log=True)
    finish(axes[3], "KL annealing", "epoch", "beta")
    finish(axes[4], "Teacher forcing", "epoch", "ratio")
    finish(axes[5], "Learning rate", "epoch", "learning rate")
    finish(axes[6], "Validation roll-out", "epoch", "mean PSNR per frame, dB")
    finish(axes[7], "PSNR per frame, best epoch", "predicted frame", "PSNR, dB")
    figure.savefig(path)


def draw_psnr_per_frame(curves: dict[str, np.ndarray], path: Path, *, title: str) -> None:
    """PSNR over the frames of one sequence, {name: (T,) in dB}; the mean stands in the legend."""
    figure, (ax,) = new_figure(1, 1, (10, 4.5))
    for i, (name, values) in enumerate(curves.items()):
        ax.plot(np.arange(len(values)) + 1, values, **look(i), label=f"{name}, mean {np.mean(values):.2f} dB")
    finish(ax, title, "predicted frame", "PSNR, dB")
    figure.savefig(path)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Lay the training curves of several runs over each other.")
    parser.add_argument("runs", nargs="+", type=location, help="run folders with a metrics.jsonl")
    parser.add_argument("--out", type=location, default=Path("comparison.png"), help="the picture to write")
    args = parser.parse_args(argv)
    if args.out.suffix.lower() not in {".png", ".pdf", ".svg", ".jpg"}:
        raise UserError(f"--out {args.out}: expected a name that ends in .png, .pdf, .svg or .jpg")
    names = [run.resolve().name for run in args.runs]
    names = names if len(set(names)) == len(names) else [str(run) for run in args.runs]
    draw_training({name: read_metrics(run / "metrics.jsonl") for name, run in zip(names, args.runs)}, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
