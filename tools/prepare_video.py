"""Makes a data set of your own videos: python tools/prepare_video.py my_dance.mp4 --out my_data

A video, a GIF or a folder of images becomes frames and pose images in the LAB4_Dataset layout, with test truth. The poses come
from torchvision's keypoint R-CNN, or with --poses from keypoints or pose images that there are already. A stopped run goes on
when it is started again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import argparse
import json
import shutil

import numpy as np

from data.images import SUFFIXES
from poses.cropping import ASPECTS, Box, View, choose_aspect, choose_window, person_view, ratio, union
from poses.detector import DETECTOR_SIDE, Detector
from poses.keypoint_files import csv_header, csv_row, read_people
from poses.scan import PoseImages, Scan, Video, scan
from poses.splits import SPLITS, Stretch, plan
from poses.tracking import follow
from poses.writing import blank, write_images, write_preview
from runtime.cli import COUNT, FRACTION, INDEX, NOT_NEGATIVE, Parser, location, number
from runtime.devices import find_device
from runtime.files import check_writable, write_whole
from utils import UserError, command_line, one_line_errors

FREE = ("out", "device", "weights", "overwrite")  # what may be different when a stopped run goes on
LOOKED = ("videos", "poses", "skip", "most", "every", "side", "inputs")  # what decides which people are found
READ = SUFFIXES | {".json", ".csv"}  # of a folder's files
MAIN_FLAGS = ("out", "overwrite", "every", "most", "poses", "weights", "person", "smooth", "aspect", "crop", "val", "test")
EXAMPLES = """examples:
  python tools/prepare_video.py my_dance.mp4 --out my_data
  python tools/prepare_video.py my_dance.mp4 --out my_data --overwrite --crop 200 0 720 720
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
    add("--overwrite", action="store_true",
        help="where other settings made the pictures, make them anew; people are not looked for again")  # fmt: skip
    add("--skip", type=INDEX, default=0, metavar="N", help="frames left out at the start of each video")
    add("--most", type=COUNT, metavar="N", help="frames taken of each video (default: all)")
    add("--every", type=COUNT, default=1, metavar="N", help="take each N-th frame only")
    add = parser.add_argument_group("poses").add_argument
    add("--poses", nargs="+", type=location, metavar="PATH",
        help="for each video a folder of OpenPose's JSON files, a COCO keypoint .json, a .csv or a folder of pose images "
             "(default: they are detected)")  # fmt: skip
    add("--weights", type=location, metavar="FILE", help="the detector's weights (default: downloaded once)")
    add("--device", default="auto", help="of the detector: auto takes the first of cuda, mps, cpu that is there")
    add("--side", type=number(int, 64, 4096), default=DETECTOR_SIDE,
        help="pixels of a frame's shorter side as the detector sees it")  # fmt: skip
    add("--person", default="largest", choices=["largest", "nearest"],
        help="of several people the largest, or the one nearest to the frame before's")  # fmt: skip
    add("--confidence", type=number(float, 0, 1), default=0.05, help="joints below it are left out")
    add("--fill", type=INDEX, default=2, metavar="N", help="joints missing in up to N frames in a row are put between; 0: none")
    add("--smooth", type=number(float, 0, 100), default=0.0, metavar="FRAMES", help="standard deviation of a Gaussian over time")
    add = parser.add_argument_group("pictures").add_argument
    add("--aspect", default="auto", choices=["auto", *ASPECTS],
        help="width to height; auto: the first that shows the person whole, 2:1 being the course's")  # fmt: skip
    add("--crop", type=INDEX, nargs=4, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"),
        help="part of the frames, in pixels (default: around all places where the person is)")  # fmt: skip
    add("--height", type=number(int, 16, 4096), default=128, help="pixels, of the pictures written; training shrinks them")
    add = parser.add_argument_group("splits").add_argument
    add("--val", type=FRACTION, default=0.1, help="share of each video for validation")
    add("--test", type=FRACTION, default=0.1, help="share of each video for tests, its end")
    add("--gap", type=COUNT, default=15, help="frames left out between two splits, at most a twentieth of the video")
    add("--longest", type=number(int, 2), default=630, help="frames of a test sequence")
    add("--cut", type=NOT_NEGATIVE, default=0.15, help="a scene ends where the mean pixel changes by more than this; 0: never")
    return parser


def settle(folder: Path, settings: dict, *, overwrite: bool) -> bool:
    """Whether the data set is finished; notes what it is made of. Pictures of other settings are removed if they may be
    overwritten; who was found in the videos stays. Raises UserError if the folder holds something else, or a data set that was
    begun with other settings."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        if folder.exists() and any(folder.iterdir()):
            expected = "expected a folder that does not exist yet, or one to go on with"
            raise UserError(f"--out {folder}: holds something else; {expected}")
        check_writable(folder, flag="--out")
        write_manifest(folder, {"settings": settings, "splits": {}})
        return False
    try:
        content = json.loads(manifest.read_bytes())
        before, done = dict(content["settings"]), bool(content["splits"])
        states = [state for pair in before.get("inputs", []) for state in pair]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{manifest}: is not what prepare_video.py writes; choose another folder for --out") from None
    differ = [name for name in settings if settings[name] != before.get(name)]
    made = [folder / part for part in (*SPLITS, "preview.gif") if (folder / part).exists()]
    searched = any(path.stat().st_size for path in folder.glob("keypoints/*.jsonl"))  # which may have taken hours
    lost = [name for name in differ if searched and name in LOOKED]
    if lost or (differ and made and not overwrite):
        reasons = difference(lost or differ, before, settings, states)
        ways = "the same" if lost else "the same, --overwrite to make the pictures anew"
        raise UserError(f"--out {folder}: {reasons}; expected {ways}, or another folder")
    if differ and made:
        # Unfinished first, and the pictures' own settings until the last is gone: wherever this stops, two kinds never mix.
        write_manifest(folder, {"settings": before, "splits": {}})
        for path in made:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if differ or not done:
        write_manifest(folder, {"settings": settings, "splits": {}})
    return done and not differ


def difference(names: list[str], before: dict, settings: dict, states: list) -> str:
    """Which settings are others than before, or which inputs: before they had these states."""
    reasons = [f"{name} {before.get(name)} there, {settings[name]} here" for name in names if name != "inputs"]
    reasons = [f"was begun with other settings: {', '.join(reasons)}"] if reasons else []
    if "inputs" in names and not {"videos", "poses"} & {*names}:  # else they are others, of course
        paths = [path for pair in zip(settings["videos"], settings["poses"] or [None] * len(settings["videos"])) for path in pair]
        now = [state for pair in settings["inputs"] for state in pair]
        changed = [f"the files in {path}" if Path(path).is_dir() else path
                   for path, old, new in zip(paths, states or [None] * len(now), now) if old != new]  # fmt: skip
        reasons.append(f"{', '.join(changed)} changed since it was begun")
    return "; ".join(reasons)


def stamp(path: Path | None) -> list | None:
    """What changes with a file, or with what can be read of a folder: how many files, their size, the time of the newest."""
    if path is None:
        return None
    files = [path]
    if path.is_dir():  # where file managers leave files of their own
        files = [file for file in path.iterdir() if file.suffix.lower() in READ and not file.name.startswith(".")]
    states = [file.stat() for file in files]
    return [len(states), sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)]


def write_manifest(folder: Path, content: dict) -> None:
    """manifest.json: settings, and when all is done what was made."""
    write_whole(folder / "manifest.json", (json.dumps(content, indent=2) + "\n").encode())


def find_poses(args: argparse.Namespace, videos: list[Video]) -> tuple[list[Scan], list[np.ndarray | PoseImages]]:
    """Reads every video once: what is in it, and the poses (N, J, 3) of its frames or its pose images."""
    detector = None
    if args.poses is None:
        detector = Detector(args.weights, flag="--weights", device=find_device(args.device), side=args.side)
    (args.out / "keypoints").mkdir(exist_ok=True)
    scans, poses = [], []
    for i, video in enumerate(videos):
        found = scan(video, detector, args.out / "keypoints" / f"{i}.people.jsonl", cut=args.cut)
        scans.append(found)
        if isinstance(video.poses, PoseImages):
            (args.out / "keypoints" / f"{i}.csv").unlink(missing_ok=True)  # of other settings
            poses.append(video.poses.check(found, video.footage.numbers and video.numbers(found.length)))
            continue
        people = found.people
        if video.poses is not None:
            people = video.take(read_people(video.poses, found.end, video.footage.numbers), found.length)
        poses.append(follow(people, found.cuts, how=args.person, confidence=args.confidence, fill=args.fill,
                            smoothing=args.smooth))  # fmt: skip
        check_places(poses[-1], found, video)
        # By their numbers in the film, as which --poses takes them, so that the file can be given again.
        lines = [csv_header(), *map(csv_row, video.numbers(found.length), poses[-1])]
        text = "".join(",".join(map(str, line)) + "\n" for line in lines)
        write_whole(args.out / "keypoints" / f"{i}.csv", text.encode())
    return scans, poses


def check_places(poses: np.ndarray, found: Scan, video: Video) -> None:
    """Raises UserError if most joints lie beyond the frames, as those of a film do that was made smaller afterwards."""
    places = poses[poses[..., 2] > 0, :2]
    inside = ((places >= 0) & (places < [found.width, found.height])).all(axis=1)
    if len(places) and inside.mean() < 0.5:
        reach = " x ".join(f"{side:.0f}" for side in places.max(axis=0))
        size = f"{found.width} x {found.height}"
        raise UserError(f"{video.poses}: joints reach to {reach} in frames of {size}; expected the pixels of {video.path.name}")


def check_crop(crop: list[float] | None, videos: list[Video]) -> None:
    """Raises UserError for a part of the frames that does not lie in them; before hours are spent on them."""
    left, top, width, height = crop or (0, 0, 8, 8)
    if min(width, height) < 8:
        raise UserError(f"--crop: {width} x {height} pixels found; expected at least 8 x 8")
    for video in videos if crop else []:
        frame = next(video.frames(), None)
        if frame is not None and (left + width > frame.shape[1] or top + height > frame.shape[0]):
            size = f"{frame.shape[1]} x {frame.shape[0]}"
            raise UserError(f"--crop {left:g} {top:g} {width:g} {height:g}: found for frames of {size}; expected a part of them")


def choose_windows(
    args: argparse.Namespace, scans: list[Scan], poses: list[np.ndarray | PoseImages]
) -> tuple[str, list[Box]]:  # fmt: skip
    """The aspect of all pictures and the window of each video; videos with frames of one size share one."""
    views = []
    for found, own in zip(scans, poses):
        if args.crop:
            width, height = map(int, args.crop[2:])
            views.append(View(Box(0, 0, width, height), height, width))
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


def make(args: argparse.Namespace, videos: list[Video], settings: dict) -> list[str]:
    """The whole data set, or what is left of it; returns what the user should know. Raises UserError."""
    scans, poses = find_poses(args, videos)
    blanks = sum(map(blank, poses))
    if blanks == sum(found.length for found in scans):
        raise UserError(f"{', '.join(map(str, args.videos))}: nobody was found in any frame; expected a video of a person")
    stretches = plan([found.length for found in scans], [found.cuts for found in scans], val=args.val, test=args.test,
                     gap=args.gap, longest=args.longest)  # fmt: skip
    aspect, windows = choose_windows(args, scans, poses)
    size = args.height, round(args.height * ratio(aspect))
    write_images(args.out, videos, poses, stretches, windows, size)
    write_preview(args.out, stretches)
    width, height = ASPECTS[aspect]
    train = ["--frame_H", str(height), "--frame_W", str(width)]
    about = [{"name": video.path.name, "frames": found.length, "fps": found.fps, "height": found.height, "width": found.width,
              "cuts": found.cuts, "window": list(window)} for video, found, window in zip(videos, scans, windows)]  # fmt: skip
    splits = {split: [[s.number, s.number + len(s.frames) - 1] for s in stretches if s.split == split] for split in SPLITS}
    write_manifest(args.out, {"settings": settings, "aspect": aspect, "height": size[0], "width": size[1], "train_flags": train,
                              "blank_poses": blanks, "videos": about, "splits": splits})  # fmt: skip
    run = Path("runs") / args.out.resolve().name
    command = ["python", "Trainer.py", "--DR", str(args.out), "--save_root", str(run), "--preset", "quick"]
    return [*summary(scans, stretches, blanks, aspect, windows), f"wrote {args.out}; look at {args.out / 'preview.gif'}, then:",
            command_line(command + (train if aspect != "2:1" else []))]  # fmt: skip


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = prepare_parser().parse_args(argv)
    if args.poses and len(args.poses) != len(args.videos):
        raise UserError(f"--poses: {len(args.poses)} paths for {len(args.videos)} videos; expected one for each")
    for path in args.poses or []:
        if path.resolve().parent == (args.out / "keypoints").resolve():
            raise UserError(f"--poses {path}: is written anew in --out {args.out}; expected a copy, or another folder")
    sources = args.poses or [None] * len(args.videos)
    videos = [Video(path, poses, args.skip, args.every, args.most) for path, poses in zip(args.videos, sources)]
    check_crop(args.crop, videos)
    settings = {name: json.loads(json.dumps(value, default=str)) for name, value in vars(args).items() if name not in FREE}
    settings["inputs"] = [[stamp(path), stamp(poses)] for path, poses in zip(args.videos, sources)]
    if settle(args.out, settings, overwrite=args.overwrite):
        print(f"{args.out} is finished; remove it to make it anew")
        return
    try:
        print(*make(args, videos, settings), sep="\n")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped by Ctrl-C; the same command goes on in {args.out}") from None


if __name__ == "__main__":
    main()
