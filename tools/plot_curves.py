"""Draw the training curves of several runs into one figure.

python tools/plot_curves.py runs/cyclical runs/monotonic runs/none --out comparison.png
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
from runtime.cli import Parser, location
from runtime.program import one_line_errors
from runtime.startup import importing
from training.metrics_log import Row, read_curves, read_metrics
from utils import UserError

SUFFIXES = (".png", ".pdf", ".svg", ".jpg")


def read_runs(folders: list[Path]) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Return the rows of metrics.jsonl and of curves.jsonl by the name of the run.

    A run without any row is left out, with a line. Raises UserError if no run is left, or if a run is passed twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for i, folder in enumerate(resolved):
        if folder in resolved[:i]:
            raise UserError(f"{folders[i]}: expected each run once, got it twice")
    names = [folder.name for folder in resolved]
    rows, curves, empty = {}, {}, []
    for number, folder in enumerate(folders):
        name = names[number] if names.count(names[number]) == 1 else str(folder)
        metrics, fine = read_metrics(folder / "metrics.jsonl"), read_curves(folder / "curves.jsonl")
        if metrics or fine:
            rows[name], curves[name] = metrics, fine
        else:
            empty.append(folder)
    if not rows:
        raise UserError(f"{folders[0]}: expected a run with at least one finished epoch, got none; train it further first")
    for folder in empty:
        print(f"{folder}: left out, because it has not finished an epoch", file=sys.stderr)
    return rows, curves


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Draw the training curves of several runs into one figure.")
    parser.add_argument("runs", nargs="+", type=location, help="run folders with a metrics.jsonl")
    parser.add_argument("--out", type=location, default=Path("comparison.png"), help="image to write: png, pdf, svg or jpg")
    args = parser.parse_args(argv)
    if args.out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {args.out}: expected a name that ends in .png, .pdf, .svg or .jpg")
    rows, curves = read_runs(args.runs)
    with importing():  # of matplotlib, which takes a second
        from visualization.training_curves import draw_training
    draw_training(rows, args.out, curves=curves)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
