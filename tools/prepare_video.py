"""Makes a data set of your own videos: python tools/prepare_video.py my_dance.mp4 --out my_data

A video, a GIF or a folder of images becomes frames and pose images in the LAB4_Dataset layout, with test truth. The poses come
from torchvision's keypoint R-CNN, or with --poses from keypoints or pose images that there are already. A stopped run goes on
when it is started again.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repo's root, from whichever folder this is started

from devices import find_device
from files import write_whole
from parsing import COUNT, INDEX, NOT_NEGATIVE, PROBABILITY, Parser, location, number
from poses.dataset import blank, write_images, write_preview
from poses.detector import DETECTOR_SIDE, Detector
from poses.keypoints import choose_person, csv_header, csv_row, fill_gaps, read_people, smooth
from poses.scan import PoseImages, Scan, Video, scan
from poses.splits import SPLITS, Stretch, plan
from poses.window import ASPECTS, Box, View, choose_aspect, choose_window, person_view, ratio, union
from utils import UserError, check_writable, one_line_errors

FREE = ("out", "device")  # what may be different when a stopped run goes on
MAIN_FLAGS = ("out", "poses", "weights", "smooth", "aspect", "crop", "val", "test")
EXAMPLES = """examples:
  python tools/prepare_video.py my_dance.mp4 --out my_data
  python tools/prepare_video.py take1.mp4 take2.mp4 --poses openpose1/ openpose2/ --out my_data
  python tools/prepare_video.py frames/ --poses keypoints.csv --smooth 1 --out my_data
"""


def prepare_parser() -> Parser:
    """All flags."""
    parser = Parser("Make a data set in the LAB4_Dataset layout of videos of a person: frames, pose images, splits, test truth.",
                    main=MAIN_FLAGS, epilog=EXAMPLES)  # fmt: skip
    add = parser.add_argument_group("run").add_argument
    add("videos", nargs="+", type=location, help="video files, GIFs or folders of images, one or several")
    add("--out", type=location, required=True, metavar="FOLDER", help="data set to make, or to go on with")
    add("--skip", type=INDEX, default=0, metavar="N", help="frames left out at the start of each video")
    add("--most", type=COUNT, metavar="N", help="frames taken of each video (default: all)")
    add("--every", type=COUNT, default=1, metavar="N", help="take each N-th frame only")
    add = parser.add_argument_group("poses").add_argument
    add("--poses", nargs="+", type=location, metavar="PATH",
        help="for each video a folder of OpenPose's JSON files, a COCO keypoint .json, a .csv or a folder of pose images "
             "(default: they are detected)")  # fmt: skip
    add("--weights", type=location, metavar="FILE", help="the detector's weights (default: downloaded once)")
    add("--device", default="auto", help="of the detector: auto takes the first of cuda, mps, cpu that is there")
    add("--side", type=number(int, 64), default=DETECTOR_SIDE, help="pixels of a frame's shorter side as the detector sees it")
    add("--person", default="largest", choices=["largest", "nearest"],
        help="of several people the largest, or the one nearest to the frame before's")  # fmt: skip
    add("--confidence", type=PROBABILITY, default=0.05, help="joints below it are left out")
    add("--fill", type=INDEX, default=2, metavar="N", help="joints missing in up to N frames in a row are put between; 0: none")
    add("--smooth", type=NOT_NEGATIVE, default=0.0, metavar="FRAMES", help="standard deviation of a Gaussian over time; 0: off")
    add = parser.add_argument_group("pictures").add_argument
    add("--aspect", default="auto", choices=["auto", *ASPECTS],
        help="width to height; auto: the first that shows the person whole, 2:1 being the course's")  # fmt: skip
    add("--crop", type=number(float, 0), nargs=4, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"),
        help="part of the frames, in pixels (default: around all places where the person is)")  # fmt: skip
    add("--height", type=number(int, 16), default=128, metavar="PIXELS", help="of the pictures written; training shrinks them")
    add = parser.add_argument_group("splits").add_argument
    add("--val", type=PROBABILITY, default=0.1, help="share of each video for validation")
    add("--test", type=PROBABILITY, default=0.1, help="share of each video for tests, its end")
    add("--gap", type=COUNT, default=15, help="frames left out between two splits, at most a twentieth of the video")
    add("--longest", type=number(int, 2), default=630, help="frames of a test sequence")
    add("--cut", type=NOT_NEGATIVE, default=0.15, help="a scene ends where the mean pixel changes by more than this; 0: never")
    return parser


def settle(folder: Path, settings: dict) -> bool:
    """Whether the data set is finished; notes what it is made of. Raises UserError if the folder holds something else, or a data
    set that was begun with other settings."""
    manifest = folder / "manifest.json"
    if manifest.is_file():
        try:
            content = json.loads(manifest.read_bytes())
            begun, done = dict(content["settings"]), bool(content["splits"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{manifest}: is not what prepare_video.py writes; choose another folder for --out") from None
        if differ := [name for name in settings if settings[name] != begun.get(name)]:
            there = ", ".join(f"{name} {begun.get(name)} there, {settings[name]} here" for name in differ)
            raise UserError(f"--out {folder}: was begun with other settings: {there}; expected the same, or another folder")
        return done
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--out {folder}: holds something else; expected a folder that does not exist yet, or one to go on with")
    check_writable(folder, flag="--out")
    write_manifest(folder, {"settings": settings, "splits": {}})
    return False


def write_manifest(folder: Path, content: dict) -> None:
    """manifest.json: settings, and when all is done what was made."""
    write_whole(folder / "manifest.json", (json.dumps(content, indent=2) + "\n").encode())


def find_poses(args: argparse.Namespace, videos: list[Video]) -> tuple[list[Scan], list[np.ndarray | PoseImages]]:
    """Reads every video once: what is in it, and the poses (N, J, 3) of its frames or its pose images."""
    detector = None
    if args.poses is None:
        detector = Detector(args.weights, device=find_device(args.device), side=args.side)
    (args.out / "keypoints").mkdir(exist_ok=True)
    scans, poses = [], []
    for i, video in enumerate(videos):
        found = scan(video, detector, args.out / "keypoints" / f"{i}.people.jsonl", cut=args.cut)
        scans.append(found)
        if isinstance(video.poses, PoseImages):
            poses.append(video.poses.check(found))
            continue
        people = found.people if video.poses is None else video.take(read_people(video.poses, found.end), found.length)
        chosen = choose_person(people, how=args.person, confidence=args.confidence)
        poses.append(smooth(fill_gaps(chosen, args.fill), args.smooth))
        lines = [csv_header(), *(csv_row(t, pose) for t, pose in enumerate(poses[-1]))]
        text = "".join(",".join(map(str, line)) + "\n" for line in lines)
        write_whole(args.out / "keypoints" / f"{i}.csv", text.encode())
    return scans, poses


def choose_windows(
    args: argparse.Namespace, scans: list[Scan], poses: list[np.ndarray | PoseImages]
) -> tuple[str, list[Box]]:  # fmt: skip
    """The aspect of all pictures and the window of each video; videos with frames of one size share one. Raises UserError for a
    --crop beyond a frame."""
    views = []
    for found, own in zip(scans, poses):
        if args.crop:
            left, top, width, height = args.crop
            if left + width > found.width or top + height > found.height or not width * height:
                size = f"{found.width} x {found.height}"
                crop = f"--crop {left:g} {top:g} {width:g} {height:g}"
                raise UserError(f"{crop}: found for frames of {size}; expected a part of them")
            views.append(View(None, int(height), int(width)))
        else:
            views.append(own.view(found) if isinstance(own, PoseImages) else person_view(own, found.height, found.width))
    views = [union([other for other in views if other[1:] == view[1:]]) for view in views]
    aspect = choose_aspect(views) if args.aspect == "auto" else args.aspect
    left, top = args.crop[:2] if args.crop else (0, 0)
    windows = [choose_window(view, aspect) for view in views]
    return aspect, [Box(box.left + left, box.top + top, box.right + left, box.bottom + top) for box in windows]


def summary(scans: list[Scan], stretches: list[Stretch], blanks: int, aspect: str, windows: list[Box]) -> list[str]:
    """What was made, line by line."""
    counts = {split: sum(len(s.frames) for s in stretches if s.split == split) for split in SPLITS}
    tests = sum(s.split == "test" for s in stretches)
    lines = [f"{counts['train']} frames for training, {counts['val']} for validation, {counts['test']} in {tests} test sequences"]
    if cuts := sum(len(found.cuts) for found in scans):
        lines.append(f"{cuts} cuts to another scene were found (--cut); no clip goes across one")
    lines.append(f"{blanks} of {sum(found.length for found in scans)} frames show no person and have a blank pose image")
    for box in dict.fromkeys(windows):
        lines.append(f"kept of the frames: {box.right - box.left:.0f} x {box.bottom - box.top:.0f} pixels from "
                     f"{box.left:.0f}, {box.top:.0f} ({aspect}, see --crop and --aspect)")  # fmt: skip
    return lines


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = prepare_parser().parse_args(argv)
    if args.poses and len(args.poses) != len(args.videos):
        raise UserError(f"--poses: {len(args.poses)} paths for {len(args.videos)} videos; expected one for each")
    videos = [Video(path, poses, args.skip, args.every, args.most)
              for path, poses in zip(args.videos, args.poses or [None] * len(args.videos))]  # fmt: skip
    settings = {name: json.loads(json.dumps(value, default=str)) for name, value in vars(args).items() if name not in FREE}
    if settle(args.out, settings):
        print(f"{args.out} is finished; remove it to make it anew")
        return
    try:
        scans, poses = find_poses(args, videos)
        blanks = [blank(own) for own in poses]
        if sum(blanks) == sum(found.length for found in scans):
            raise UserError(f"{', '.join(map(str, args.videos))}: nobody was found in any frame; expected a video of a person")
        stretches = plan([found.length for found in scans], [found.cuts for found in scans], val=args.val, test=args.test,
                         gap=args.gap, longest=args.longest)  # fmt: skip
        aspect, windows = choose_windows(args, scans, poses)
        size = args.height, round(args.height * ratio(aspect))
        write_images(args.out, videos, poses, stretches, windows, size)
        write_preview(args.out, stretches)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped by Ctrl-C; the same command goes on in {args.out}") from None
    width, height = ASPECTS[aspect]
    train = ["--frame_H", str(height), "--frame_W", str(width)]
    write_manifest(args.out, {
        "settings": settings, "aspect": aspect, "height": size[0], "width": size[1], "train_flags": train,
        "blank_poses": sum(blanks),
        "videos": [{"name": video.path.name, "frames": found.length, "fps": found.fps, "height": found.height,
                    "width": found.width, "cuts": found.cuts, "window": list(window)}
                   for video, found, window in zip(videos, scans, windows)],
        "splits": {split: [[s.number, s.number + len(s.frames) - 1] for s in stretches if s.split == split] for split in SPLITS},
    })  # fmt: skip
    print(*summary(scans, stretches, sum(blanks), aspect, windows), sep="\n")
    flags = "" if aspect == "2:1" else f" {' '.join(train)}"
    print(f"wrote {args.out}; look at {args.out / 'preview.gif'}, then:")
    print(f"python Trainer.py --DR {args.out} --save_root runs/{args.out.resolve().name} --preset quick{flags}")


if __name__ == "__main__":
    main()
