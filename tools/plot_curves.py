"""Draw the training curves of several runs into one figure.

python tools/plot_curves.py runs/cyclical runs/monotonic runs/none --out comparison.png
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
from runtime.cli import Parser, location
from training.metrics_log import read_curves, read_metrics
from utils import UserError, one_line_errors
from visualization.training_curves import draw_training


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Draw the training curves of several runs into one figure.")
    parser.add_argument("runs", nargs="+", type=location, help="run folders with a metrics.jsonl")
    parser.add_argument("--out", type=location, default=Path("comparison.png"), help="image to write: png, pdf, svg or jpg")
    args = parser.parse_args(argv)
    if args.out.suffix.lower() not in {".png", ".pdf", ".svg", ".jpg"}:
        raise UserError(f"--out {args.out}: expected a name that ends in .png, .pdf, .svg or .jpg")
    names = [run.resolve().name for run in args.runs]
    names = names if len(set(names)) == len(names) else [str(run) for run in args.runs]
    rows = {name: read_metrics(run / "metrics.jsonl") for name, run in zip(names, args.runs)}
    curves = {name: read_curves(run / "curves.jsonl") for name, run in zip(names, args.runs)}
    draw_training(rows, args.out, curves=curves)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
