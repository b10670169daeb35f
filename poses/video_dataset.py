"""A data set in the LAB4_Dataset layout, made from videos of a person (N frames, J joints)."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poses.cropping import (
    ASPECTS,
    MIN_SIDE,
    Box,
    View,
    aspect_ratio,
    check_window,
    choose_aspect,
    choose_window,
    merge_views,
    person_view,
)
from poses.detector import Detector
from poses.keypoint_csv import csv_header, csv_row
from poses.keypoint_files import assign_frames, read_keypoints
from poses.manifest import write_manifest
from poses.pose_images import PoseImages
from poses.scan import Scan, Video, scan
from poses.splits import SPLITS, Segment, plan_splits
from poses.tracking import track_person
from poses.writing import Poses, count_blank, write_images, write_preview
from runtime.devices import find_device
from runtime.files import write_whole
from utils import UserError, command_line, counted


def check_crop(crop: list[int] | None, videos: list[Video]) -> None:
    """Raise UserError for a crop that is too small or extends beyond the frames, before hours are spent on the videos."""
    if crop is None:
        return
    left, top, width, height = crop
    if min(width, height) < MIN_SIDE:
        got = f"got {width} x {height}; choose a larger part"
        raise UserError(f"--crop {left} {top} {width} {height}: expected at least {MIN_SIDE} x {MIN_SIDE} pixels, {got}")
    for video in videos:
        frame = next(video.frames(), None)
        if frame is not None and (left + width > frame.shape[1] or top + height > frame.shape[0]):
            expected = f"expected a part of the frames of {video.path.name} ({frame.shape[1]} x {frame.shape[0]} pixels)"
            got = f"got one up to {left + width}, {top + height}; choose a smaller one"
            raise UserError(f"--crop {left} {top} {width} {height}: {expected}, {got}")


def make_dataset(args: Namespace, videos: list[Video], settings: dict[str, Any]) -> list[str]:
    """Write the data set, or the missing part of an unfinished one. Return a summary, line by line.

    Raises UserError for videos, poses or settings that give no data set.
    """
    scans, poses = find_poses(args, videos)
    blank = sum(map(count_blank, poses))
    if blank == sum(found.length for found in scans):
        raise UserError(f"{', '.join(map(str, args.videos))}: nobody was found in any frame; expected a video of a person")
    segments = plan_splits(
        [str(path) for path in args.videos],
        [found.length for found in scans],
        [found.cuts for found in scans],
        val=args.val,
        test=args.test,
        gap=args.gap,
        longest=args.longest,
    )
    aspect, windows = choose_windows(args, scans, poses)
    size = args.height, round(args.height * aspect_ratio(aspect))
    write_images(args.out, videos, poses, segments, windows, size)
    write_preview(args.out, segments)
    frame_width, frame_height = ASPECTS[aspect]
    train_flags = ["--frame_H", str(frame_height), "--frame_W", str(frame_width)]
    content = {"settings": settings, "aspect": aspect, "height": size[0], "width": size[1], "train_flags": train_flags}
    write_manifest(args.out, content | describe_content(videos, scans, windows, segments, blank))
    command = ["python", "Trainer.py", "--DR", str(args.out), "--save_root", str(Path("runs") / args.out.resolve().name)]
    command += ["--preset", "quick", *(train_flags if aspect != "2:1" else [])]
    preview = f"wrote {args.out}; check {args.out / 'preview.gif'}, then run:"
    return [*summarize(scans, segments, blank, aspect, windows), preview, command_line(command)]


def find_poses(args: Namespace, videos: list[Video]) -> tuple[list[Scan], list[Poses]]:
    """Read every video once. Return the result of each pass, and the poses (N, J, 3) of each video or its pose images.

    Write keypoints/<video>.csv for every video without pose images. Raises UserError for videos or poses that cannot be used.
    """
    detector = None
    if args.poses is None:
        detector = Detector.load(args.weights, flag="--weights", device=find_device(args.device), side=args.side)
    folder = args.out / "keypoints"
    folder.mkdir(exist_ok=True)
    scans: list[Scan] = []
    poses: list[Poses] = []
    for i, video in enumerate(videos):
        found = scan(video, detector, folder / f"{i}.people.jsonl", cut=args.cut)
        scans.append(found)
        if isinstance(video.poses, PoseImages):
            (folder / f"{i}.csv").unlink(missing_ok=True)  # of other settings
            numbers = video.numbers(found.length) if video.footage.numbers else range(found.length)
            images = video.poses.first(found.length) if video.footage.ends_early() else video.poses
            poses.append(images.matched_to(numbers, height=found.height, width=found.width))
        else:
            tracked = track(args, video, video.poses, found)
            write_keypoints(folder / f"{i}.csv", video.numbers(found.length), tracked)
            poses.append(tracked)
    return scans, poses


def track(args: Namespace, video: Video, keypoints: Path | None, found: Scan) -> np.ndarray:
    """Return the poses (N, J, 3) of the person in the frames taken, from a file of keypoints or from the people detected.

    Raises UserError for keypoints that cannot be read or do not belong to the video.
    """
    people = found.people
    if keypoints is not None:
        people = video.take(people_of_video(keypoints, video, found), found.length)
    poses = track_person(people, found.cuts, how=args.person, confidence=args.confidence, fill=args.fill, smoothing=args.smooth)
    check_inside(poses, found, keypoints, video.path)
    return poses


def people_of_video(keypoints: Path, video: Video, found: Scan) -> list[np.ndarray]:
    """Return the people (P, J, 3) of each frame in a file of keypoints.

    Those of a film that ends early may belong to the frames that could be read, or to the whole film. Raises UserError.
    """
    people = read_keypoints(keypoints)
    try:
        return assign_frames(people, keypoints, found.total, video.footage.numbers)
    except UserError:
        if not video.footage.ends_early():
            raise
    if video.footage.total is None:
        taken = f"frame 0 is taken for the first frame of {video.path.name}, whose length is unknown"
        print(f"{keypoints}: {taken}; check the poses in preview.gif", file=sys.stderr)
    return assign_frames(people, keypoints, video.footage.total)


def check_inside(poses: np.ndarray, found: Scan, keypoints: Path | None, video: Path) -> None:
    """Raise UserError if most joints are outside the frames, for example because the video was resized after the detection."""
    joints = poses[poses[..., 2] > 0, :2]
    inside = ((joints >= 0) & (joints < [found.width, found.height])).all(axis=1)
    if len(joints) and inside.mean() < 0.5:
        got = " x ".join(f"{side:.0f}" for side in joints.max(axis=0))
        expected = f"expected joints inside the frames of {video.name} ({found.width} x {found.height} pixels)"
        raise UserError(f"{keypoints}: {expected}, got joints up to {got}; scale them, or choose those of this video")


def write_keypoints(path: Path, numbers: Sequence[int], poses: np.ndarray) -> None:
    """Write poses as a csv file with the numbers of the frames in the video, which --poses accepts."""
    rows = [csv_row(number, pose) for number, pose in zip(numbers, poses)]
    lines = [",".join(csv_header()), *(",".join(map(str, row)) for row in rows)]
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def choose_windows(args: Namespace, scans: list[Scan], poses: list[Poses]) -> tuple[str, list[Box]]:
    """Return the aspect of all images and the window of each video. Videos with frames of the same size share one window."""
    left, top, width, height = args.crop or (0, 0, 0, 0)
    views = []
    for found, own in zip(scans, poses):
        if args.crop:
            views.append(View(Box(0, 0, width, height), height, width))
        elif isinstance(own, PoseImages):
            views.append(own.view(found.height, found.width))
        else:
            views.append(person_view(own, found.height, found.width))
    merged = [
        merge_views([other for other in views if (other.height, other.width) == (view.height, view.width)]) for view in views
    ]
    aspect = choose_aspect(merged) if args.aspect == "auto" else args.aspect
    windows = [choose_window(view, aspect) for view in merged]
    for window, path in zip(windows, args.videos):
        check_window(window, str(path))
    return aspect, [Box(box.left + left, box.top + top, box.right + left, box.bottom + top) for box in windows]


def describe_content(
    videos: list[Video], scans: list[Scan], windows: list[Box], segments: list[Segment], blank: int
) -> dict[str, Any]:
    """Return the content of the data set for its manifest. A split is a list of pairs: first and last frame number."""
    splits: dict[str, list] = {split: [] for split in SPLITS}
    for segment in segments:
        splits[segment.split].append([segment.number, segment.number + len(segment.frames) - 1])
    entries = []
    for video, found, window in zip(videos, scans, windows):
        size = {"height": found.height, "width": found.width}
        entry = {"name": video.path.name, "frames": found.length, "fps": found.fps} | size
        entries.append(entry | {"cuts": found.cuts, "window": list(window)})
    return {"blank_poses": blank, "videos": entries, "splits": splits}


def summarize(scans: list[Scan], segments: list[Segment], blank: int, aspect: str, windows: list[Box]) -> list[str]:
    """Return a summary of the data set, line by line."""
    counts = {split: sum(len(s.frames) for s in segments if s.split == split) for split in SPLITS}
    test_count = sum(segment.split == "test" for segment in segments)
    total = sum(found.length for found in scans)
    tests = f"{counts['test']} in {counted(test_count, 'test sequence')}"
    lines = [f"{counted(counts['train'], 'frame')} for training, {counts['val']} for validation, {tests}"]
    if unused := total - sum(counts.values()):
        lines.append(f"{counted(unused, 'frame')} between the splits, or alone between cuts, not used")
    if cuts := sum(len(found.cuts) for found in scans):
        lines.append(f"{counted(cuts, 'cut')} between scenes found (--cut); no clip crosses one")
    lines.append(
        f"{blank:,} of {counted(total, 'frame')} {'shows' if blank == 1 else 'show'} no person; the pose images are blank"
        if blank
        else "every frame has a pose"
    )
    for box in dict.fromkeys(windows):
        size = f"{box.right - box.left:.0f} x {box.bottom - box.top:.0f}"
        lines.append(f"window: {size} pixels from {box.left:.0f}, {box.top:.0f} ({aspect}, see --crop and --aspect)")
    return lines
