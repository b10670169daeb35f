"""Render a small data set for either exercise: python tools/make_demo_data.py --out demo_data

--scene dance   a dancer and skeletons of the poses, in the LAB4_Dataset layout
--scene robot   a robot arm that pushes objects around in a tray, with its actions, in the Lab 5 layout
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import argparse
import shutil
from collections.abc import Callable

from tqdm import tqdm

from runtime.cli import COUNT, SEED, Parser, location, number
from runtime.program import one_line_errors
from tools.demo import dance, robot
from utils import UserError

# Default sizes of the data set by scene; a scene refuses the flags that are not listed for it.
SIZES = {
    "dance": {"train": 2400, "val": 150, "test": 150, "sequences": 3},
    "robot": {"train": 320, "val": 24, "test": 24, "frames": 30},
}
PLANS: dict[str, Callable[..., list[tuple[int, Callable]]]] = {"dance": dance.plan_videos, "robot": robot.plan_videos}
SUMMARY = {
    "dance": "{train} training, {val} validation and {sequences} x {test} test frames",
    "robot": "{train} training, {val} validation and {test} test sequences of {frames} frames",
}
SIZE_FLAGS = {
    "train": (COUNT, "training frames, as two contiguous segments with a gap between them; robot: training sequences"),
    "val": (COUNT, "validation frames; robot: validation sequences"),
    "test": (COUNT, "frames of each test sequence; robot: test sequences"),
    "sequences": (COUNT, "test sequences; dance only"),
    "frames": (number(int, 2), "frames of every sequence; robot only"),
}


def parse_flags(argv: list[str] | None) -> tuple[argparse.Namespace, dict[str, int]]:
    """Return the common flags and the sizes of the chosen scene."""
    description = (
        "Render a small data set with ground truth for tests: a dance (LAB4_Dataset layout) or a pushing robot (Lab 5 layout)."
    )
    parser = Parser(description)
    parser.add_argument("--scene", default="dance", choices=list(SIZES), help="what to render, and in which layout")
    parser.add_argument(
        "--out", type=location, default=Path("demo_data"), help="folder to create; it must not exist yet, or be empty"
    )
    parser.add_argument("--seed", type=SEED, default=1, help="random seed")
    group = parser.add_argument_group("sizes (frames of the dance, sequences of the robot)")
    for name, (kind, text) in SIZE_FLAGS.items():
        defaults = ", ".join(f"{sizes[name]} for the {scene}" for scene, sizes in SIZES.items() if name in sizes)
        # Suppressed, so that `args` contains only the sizes that the command line sets.
        group.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help=f"{text} (default: {defaults})")
    args = parser.parse_args(argv)
    explicit = {name: value for name, value in vars(args).items() if name in SIZE_FLAGS}
    for name, value in explicit.items():
        if name not in SIZES[args.scene]:
            other = next(scene for scene, sizes in SIZES.items() if name in sizes)
            parser.error(f"--{name}: expected only with --scene {other}, got --scene {args.scene}")
        if args.scene == "dance" and name != "sequences" and value < 2:
            parser.error(f"--{name}: expected at least 2 frames, got {value}")
    return args, SIZES[args.scene] | explicit


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args, sizes = parse_flags(argv)
    if args.out.exists() and any(args.out.iterdir()):
        raise UserError(f"--out {args.out}: expected an empty folder or one that does not exist, got a folder with files in it")
    # The data set is rendered next to its destination and moved there as a whole: an interrupted rendering leaves no data set.
    partial = args.out.resolve().with_name(f".{args.out.resolve().name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        videos = PLANS[args.scene](partial, seed=args.seed, **sizes)
        with tqdm(total=sum(frames for frames, _ in videos), desc="rendering", unit="frame", disable=None) as bar:
            for _, write in videos:
                write(bar=bar)
        if args.out.exists():
            args.out.rmdir()
        partial.rename(args.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"wrote {args.out}: {SUMMARY[args.scene].format(**sizes)}")


if __name__ == "__main__":
    main()
