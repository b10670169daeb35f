"""Renders a small data set of either exercise: python tools/make_demo_data.py --out demo_data

--scene dance   a dancer and skeletons of the poses, in the LAB4_Dataset layout
--scene robot   an arm that pushes things about in a tray, with its actions, in the Lab 5 layout
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import argparse
import shutil

from tqdm import tqdm

from runtime.cli import COUNT, SEED, Parser, location, number
from tools.demo import dance, robot
from utils import UserError, one_line_errors

# Sizes of the data set by scene; a flag that is not listed for a scene is refused with it.
SIZES = {
    "dance": {"train": 2400, "val": 150, "test": 150, "sequences": 3},
    "robot": {"train": 320, "val": 24, "test": 24, "frames": 30},
}
VIDEOS = {"dance": dance.videos, "robot": robot.videos}
SUMMARY = {
    "dance": "{train} training, {val} validation and {sequences} x {test} test frames",
    "robot": "{train} training, {val} validation and {test} test sequences of {frames} frames",
}


def parse_flags(argv: list[str] | None) -> tuple[argparse.Namespace, dict[str, int]]:
    """The common flags, and the sizes of the chosen scene."""
    parser = Parser("Render a small data set with test truth: a dance (LAB4_Dataset layout) or a pushing robot (Lab 5 layout).")
    parser.add_argument("--scene", default="dance", choices=list(SIZES), help="what to render, and in which layout")
    parser.add_argument("--out", type=location, default=Path("demo_data"), help="folder to make; it must not hold anything yet")
    parser.add_argument("--seed", type=SEED, default=1, help="seed of all that is left to chance")
    group = parser.add_argument_group("sizes (frames of the dance, sequences of the robot)")
    helps = {
        "train": (COUNT, "training frames, in two stretches with a gap between; robot: training sequences"),
        "val": (COUNT, "validation frames; robot: validation sequences"),
        "test": (COUNT, "frames of each test sequence; robot: test sequences"),
        "sequences": (COUNT, "test sequences; dance only"),
        "frames": (number(int, 2), "frames of every sequence; robot only"),
    }
    for name, (kind, text) in helps.items():
        defaults = ", ".join(f"{sizes[name]} for the {scene}" for scene, sizes in SIZES.items() if name in sizes)
        # Suppressed, so that a flag that was given can be told from a default.
        group.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help=f"{text} (default: {defaults})")
    args = parser.parse_args(argv)
    given = {name: value for name, value in vars(args).items() if name in helps}
    for name, value in given.items():
        if name not in SIZES[args.scene]:
            other = next(scene for scene, sizes in SIZES.items() if name in sizes)
            parser.error(f"--{name}: found with --scene {args.scene}, expected only with --scene {other}")
        if args.scene == "dance" and name != "sequences" and value < 2:
            parser.error(f"--{name}: {value} found, at least 2 frames expected")
    return args, SIZES[args.scene] | given


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args, sizes = parse_flags(argv)
    if args.out.exists() and any(args.out.iterdir()):
        raise UserError(f"--out {args.out}: is not empty; expected a folder that does not exist yet")
    # Rendered beside its place and moved there whole: an interrupted rendering is no data set.
    root = args.out.resolve().with_name(f".{args.out.resolve().name}.part")
    shutil.rmtree(root, ignore_errors=True)
    try:
        videos = VIDEOS[args.scene](root, seed=args.seed, **sizes)
        with tqdm(total=sum(frames for frames, _ in videos), desc="rendering", unit="frame", disable=None) as bar:
            for _, write in videos:
                write(bar=bar)
        if args.out.exists():
            args.out.rmdir()
        root.rename(args.out)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"wrote {args.out}: {SUMMARY[args.scene].format(**sizes)}")


if __name__ == "__main__":
    main()
