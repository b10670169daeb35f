"""Report on one or several runs: one self-contained HTML page, and the same content as Markdown.

    python tools/report.py runs/cyclical runs/monotonic runs/none --out report

Runs that differ only in the seed form a group: they share a color, and tables show their mean and standard deviation. The
headings are those of the course's report. Write your answers in Markdown between the marks in report.md. The next report keeps
them, and shows them in report.html too.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
from runtime.cli import COUNT, Parser, location
from runtime.output import keep_lost_lines_in
from runtime.program import one_line_errors
from runtime.startup import importing
from tools.reporting.folders import check_run_folder, read_epochs

DEFAULT_TITLE = "Video prediction with a conditional VAE"


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Write report.html, one page with curves, scores and videos of several runs, and report.md.")
    parser.add_argument("runs", nargs="+", type=location, help="run folders; runs that differ only in the seed become one group")
    parser.add_argument(
        "--out",
        type=location,
        default=Path("report"),
        help="folder of the report; an earlier report is replaced, except for its answers",
    )
    parser.add_argument("--title", default=DEFAULT_TITLE, help="title of the report")
    parser.add_argument("--question", default="", help="question that the runs answer, shown below the title")
    parser.add_argument(
        "--split", default="test", help="folder in each run with the results of Tester.py; it has the name of Tester.py's --split"
    )
    parser.add_argument("--show", type=COUNT, default=5, metavar="N", help="show the videos of the first N sequences")
    args = parser.parse_args(argv)
    for folder in args.runs:
        check_run_folder(folder)
        read_epochs(folder)
    with importing():  # of torch, which takes seconds
        from tools.reporting.report import make_report
    keep_lost_lines_in(args.out)
    make_report(args.runs, args.out, title=args.title, question=args.question, split=args.split, show=args.show)


if __name__ == "__main__":
    main()
