"""Make a data set from your own videos: python tools/prepare_video.py my_dance.mp4 --out my_data

A video, a GIF or a folder of images becomes frames and pose images in the LAB4_Dataset layout, with the ground truth of its test
sequences. Poses are detected by torchvision's keypoint R-CNN, or given with --poses as keypoints or pose images. The same command
continues an interrupted run.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
from poses.cropping import ASPECTS
from poses.detector import DETECTOR_SIDE
from poses.manifest import settings_of, start_or_continue
from poses.scan import Selection, Video
from poses.video_dataset import check_crop, make_dataset
from runtime.cli import COUNT, FRACTION, INDEX, NOT_NEGATIVE, Parser, location, number
from runtime.output import keep_lost_lines_in
from runtime.program import one_line_errors
from utils import UserError

MAIN_FLAGS = ("out", "overwrite", "every", "most", "poses", "weights", "person", "smooth", "aspect", "crop", "val", "test")
EXAMPLES = """examples:
  python tools/prepare_video.py my_dance.mp4 --out my_data
  python tools/prepare_video.py my_dance.mp4 --out my_data --overwrite --crop 200 0 720 720
  python tools/prepare_video.py take1.mp4 take2.mp4 --poses openpose1/ openpose2/ --out my_data
  python tools/prepare_video.py frames/ --poses keypoints.csv --smooth 1 --out my_data
"""


def prepare_parser() -> Parser:
    """Return the parser of all flags."""
    description = ("Make a data set in the LAB4_Dataset layout from videos of a person: frames, pose images, splits, and ground "
                   "truth for the tests.")  # fmt: skip
    parser = Parser(description, main=MAIN_FLAGS, epilog=EXAMPLES)
    add_run_flags(parser)
    add_pose_flags(parser)
    add_image_flags(parser)
    add_split_flags(parser)
    return parser


def add_run_flags(parser: Parser) -> None:
    """Add the flags for input and output."""
    add = parser.add_argument_group("run").add_argument
    add("videos", nargs="+", type=location, help="video files, GIFs or folders of images, one or several")
    add("--out", type=location, required=True, metavar="FOLDER", help="folder of the data set to make or to continue")
    add("--overwrite", action="store_true",
        help="replace images that were made with other settings; people are not detected again")  # fmt: skip
    add("--skip", type=INDEX, default=0, metavar="N", help="skip the first N frames of each video")
    add("--most", type=COUNT, metavar="N", help="use at most N frames of each video (default: all)")
    add("--allow_truncated", action="store_true",
        help="use the frames before the break of a damaged or incomplete video, which is an error otherwise")  # fmt: skip
    add("--every", type=COUNT, default=1, metavar="N", help="use only every N-th frame")


def add_pose_flags(parser: Parser) -> None:
    """Add the flags for the poses."""
    add = parser.add_argument_group("poses").add_argument
    add("--poses", nargs="+", type=location, metavar="PATH",
        help="one path per video: a folder of OpenPose JSON files, a COCO keypoint .json, a .csv or a folder of pose images "
             "(default: poses are detected)")  # fmt: skip
    add("--weights", type=location, metavar="FILE", help="weights of the detector (default: downloaded once)")
    add("--device", default="auto", help="device of the detector; auto: the first available of cuda, mps, cpu")
    add("--side", type=number(int, 64, 4096), default=DETECTOR_SIDE,
        help="length in pixels to which the detector resizes a frame's shorter side")  # fmt: skip
    add("--person", default="largest", choices=["largest", "nearest"],
        help="which of several people to use: the largest, or the one nearest to the person in the previous frame")  # fmt: skip
    add("--confidence", type=number(float, 0, 1), default=0.05, help="treat joints with a lower confidence as missing")
    add("--fill", type=INDEX, default=2, metavar="N",
        help="interpolate joints that are missing in up to N consecutive frames; 0: never")  # fmt: skip
    add(
        "--smooth",
        type=number(float, 0, 100),
        default=0.0,
        metavar="FRAMES",
        help="smooth the joints over time with a Gaussian of this standard deviation; 0: do not smooth",
    )


def add_image_flags(parser: Parser) -> None:
    """Add the flags for the images that are written."""
    add = parser.add_argument_group("images").add_argument
    add("--aspect", default="auto", choices=["auto", *ASPECTS],
        help="width to height; auto: the first that shows the whole person; the course uses 2:1")  # fmt: skip
    add("--crop", type=INDEX, nargs=4, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"),
        help="part of each frame to keep, in pixels (default: around all positions of the person)")  # fmt: skip
    add("--height", type=number(int, 16, 4096), default=128, help="height of the written images in pixels; training resizes them")


def add_split_flags(parser: Parser) -> None:
    """Add the flags for training, validation and test frames."""
    add = parser.add_argument_group("splits").add_argument
    add("--val", type=FRACTION, default=0.1, help="fraction of each video used for validation")
    add("--test", type=FRACTION, default=0.1, help="fraction of each video used for tests, taken from its end")
    add("--gap", type=COUNT, default=15, help="frames skipped between two splits, but at most a twentieth of the video")
    add("--longest", type=number(int, 2), default=630, help="most frames of a test sequence")
    add(
        "--cut",
        type=NOT_NEGATIVE,
        default=0.15,
        help="mean change of the pixels, in [0, 1], above which a new scene begins; 0: never",
    )


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = prepare_parser().parse_args(argv)
    if args.poses and len(args.poses) != len(args.videos):
        raise UserError(f"--poses: expected one path for each of {len(args.videos)} videos, got {len(args.poses)}")
    for path in args.poses or []:
        if path.resolve().parent == (args.out / "keypoints").resolve():
            raise UserError(
                f"--poses {path}: expected a path outside {args.out / 'keypoints'}, which is overwritten; pass a copy of it, "
                "or choose another --out"
            )
    selection = Selection(args.skip, args.every, args.most)
    videos = [
        Video.load(path, poses, selection, allow_truncated=args.allow_truncated)
        for path, poses in zip(args.videos, args.poses or [None] * len(args.videos))
    ]
    check_crop(args.crop, videos)
    settings = settings_of(args)
    if start_or_continue(args.out, settings, overwrite=args.overwrite):
        print(f"{args.out} is finished; to make it again, add --overwrite or delete it")
        return
    keep_lost_lines_in(args.out)
    try:
        print(*make_dataset(args, videos, settings), sep="\n")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped by Ctrl-C; the same command continues in {args.out}") from None


if __name__ == "__main__":
    main()
