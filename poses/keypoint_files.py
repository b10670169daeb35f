"""Keypoints in the files of pose detectors: OpenPose's JSON files, COCO's JSON, or a csv.

There are P people with the J joints of skeleton.py. The people of one frame are (P, J, 3): x and y in pixels, and confidence.
"""

import csv
import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from poses.skeleton import JOINTS, poses_from_points
from utils import UserError

PAIRS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
COCO = ["nose", *(f"{side}_{part}" for part in PAIRS for side in ("left", "right"))]  # 17 keypoints
OPENPOSE = {  # by the number of keypoints: the models BODY_25 and COCO
    25: ["nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "mid_hip",
         "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear",
         "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"],
    18: ["nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
         "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear"],
}  # fmt: skip
MAX_FRAMES = 10**7  # of a video, about four days; a higher number is a mistake
NOBODY = np.zeros((0, len(JOINTS), 3), dtype=np.float32)


def read_people(path: Path, frames: int | None = None, numbers: list[int] | None = None) -> list[np.ndarray]:
    """Return the people (P, J, 3) of each frame of a video.

    `frames` is the number of frames; None takes as many as the keypoints have. `numbers` are the numbers of the video's images.
    If they include all frame numbers of the keypoints, these are image numbers. Otherwise, frame numbers count from 0, or from 1
    if the last one would be too high. Frames without keypoints have no people. Raises UserError for keypoints that cannot be
    read, and for frames that the video does not have.
    """
    found = read_keypoints(path)
    if numbers and set(found) <= set(numbers):
        positions = {number: i for i, number in enumerate(numbers)}
        found = {positions[number]: people for number, people in found.items()}
    lowest, highest = min(found), max(found)
    first = int(lowest >= 1 and highest == frames)
    frames = frames or highest + 1
    if lowest < 0 or highest - first >= frames:
        wrong = lowest if lowest < 0 else highest
        raise UserError(f"{path}: expected frames 0 to {frames - 1}, as in the video, got keypoints of frame {wrong}")
    return people_of_frames(found, range(first, first + frames), path)


def read_sequence(path: Path) -> list[np.ndarray]:
    """Return the people (P, J, 3) of each frame of keypoints without a video.

    The frames are those from the lowest to the highest frame number, in steps of the greatest common divisor of their distances.
    Raises UserError for keypoints that cannot be read.
    """
    found = read_keypoints(path)
    step = math.gcd(*(number - min(found) for number in found))
    return people_of_frames(found, range(min(found), max(found) + 1, max(step, 1)), path)


def people_of_frames(found: dict[int, np.ndarray], frames: range, path: Path) -> list[np.ndarray]:
    """Return the people of each of the `frames`. Raises UserError if there are more than MAX_FRAMES."""
    if (frames.stop - frames.start) // frames.step > MAX_FRAMES:
        raise UserError(f"{path}: expected at most {MAX_FRAMES} frames, got keypoints of frames {frames[0]} to {frames[-1]}")
    return [found.get(number, NOBODY) for number in frames]


def read_keypoints(path: Path) -> dict[int, np.ndarray]:
    """Return the people (P, J, 3) of at least one frame, by frame number. Raises UserError without keypoints in pixels."""
    if path.is_dir():
        found = read_openpose(path)
    elif path.suffix.lower() == ".json":
        found = read_coco(path)
    elif path.suffix.lower() == ".csv":
        found = {number: pose[None] for number, pose in read_csv(path).items()}
    else:
        raise UserError(f"{path}: not keypoints; expected a folder of OpenPose's JSON files, a COCO .json or a .csv")
    if not found:
        raise UserError(f"{path}: contains no frame; expected the keypoints of a video")
    joints = np.concatenate(list(found.values()))
    joints = joints[joints[..., 2] > 0]
    if len(joints) and joints[:, :2].max() <= 1:
        raise UserError(f"{path}: expected pixels of the video, got no coordinate above 1: these are fractions of its size")
    return found


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises UserError if it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON; expected keypoints") from None


def frame_number(name: str, path: Path) -> int:
    """Return the last number in a name without OpenPose's suffix. Raises UserError, which names the file `path`."""
    digits = re.findall(r"\d+", name.removesuffix("_keypoints"))
    if not digits or len(digits[-1]) > 15:
        raise UserError(f"{path}: expected a name with the number of its frame, got {name[:40]!r}")
    return int(digits[-1])


def to_points(values: Any, counts: Collection[int], path: Path) -> np.ndarray:
    """Convert a flat list x, y, confidence, x, ... to (K, 3), where K is one of `counts`. Raises UserError."""
    expected = "expected " + " or ".join(f"{count} x 3" for count in counts) + " finite numbers for a person"
    try:
        points = np.asarray(values, dtype=np.float32).reshape(-1, 3)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{path}: {expected}, got keypoints that are not a list of numbers") from None
    if len(points) not in counts or not np.isfinite(points).all():
        raise UserError(f"{path}: {expected}, got {points.size} values, {int(np.isfinite(points).sum())} of them finite")
    return points


def read_openpose(folder: Path) -> dict[int, np.ndarray]:
    """Return {frame: people (P, J, 3)} of a folder that OpenPose's --write_json wrote, with one file per frame.

    Raises UserError for other files.
    """
    files = sorted(file for file in folder.glob("*.json") if not file.name.startswith("."))
    if not files:
        raise UserError(f"{folder}: contains no .json; expected OpenPose's files, such as name_000000000000_keypoints.json")
    found = {}
    for file in files:
        content = read_json(file)
        people = content.get("people") if isinstance(content, dict) else None
        if not isinstance(people, list) or not all(isinstance(p, dict) and "pose_keypoints_2d" in p for p in people):
            expected = "expected OpenPose's JSON, or pose images in a folder without .json"
            raise UserError(f"{file}: {expected}, got no list of people with pose_keypoints_2d")
        poses = []
        for person in people:
            points = to_points(person["pose_keypoints_2d"], OPENPOSE, file)
            poses.append(poses_from_points(points, OPENPOSE[len(points)]))
        found[frame_number(file.stem, file)] = np.stack(poses) if poses else NOBODY
    return found


def read_coco(path: Path) -> dict[int, np.ndarray]:
    """Return {frame: people (P, J, 3)} of COCO's keypoints: a list of results, or a file with images and annotations.

    The number of a frame is the number in its image's file name or, without images, in its image_id. Raises UserError for other
    content.
    """
    content = read_json(path)
    names: dict[int | str, Any] = {}
    if isinstance(content, dict):
        names = image_names(content.get("images", []))
        content = content.get("annotations")
    if not isinstance(content, list) or not all(map(is_annotation, content)):
        raise UserError(f"{path}: expected COCO's keypoints, got no list of annotations with image_id and keypoints")
    # An image without people has no annotation.
    found: dict[int, list[np.ndarray]] = {frame_number(Path(str(name)).stem, path): [] for name in names.values()}
    for row in content:
        points = to_points(row["keypoints"], (len(COCO),), path)
        name = Path(str(names.get(row["image_id"], row["image_id"])))
        found.setdefault(frame_number(name.stem, path), []).append(poses_from_points(points, COCO))
    return {number: np.stack(poses) if poses else NOBODY for number, poses in found.items()}


def image_names(images: Any) -> dict[int | str, Any]:
    """Return {id: file name} of the images in a COCO file, without malformed entries."""
    names = {}
    for image in images if isinstance(images, list) else []:
        if isinstance(image, dict) and {"id", "file_name"} <= image.keys() and isinstance(image["id"], (int, str)):
            names[image["id"]] = image["file_name"]
    return names


def is_annotation(row: Any) -> bool:
    """Return whether a value is an annotation of a COCO file with keypoints."""
    return isinstance(row, dict) and isinstance(row.get("image_id"), (int, str)) and "keypoints" in row


def read_csv(path: Path) -> dict[int, np.ndarray]:
    """Return {frame: pose (J, 3)} of a csv file with a row per frame.

    The columns are frame and, for any of the JOINTS, <joint>_x, <joint>_y and optionally <joint>_c, the confidence. A joint with
    an empty field was not found. Raises UserError for other content.
    """
    expected = "expected columns frame, nose_x, nose_y, nose_c, ..."
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: not a csv of text; {expected}") from None
    header = list(rows[0]) if rows else []
    names = [name for name in JOINTS if {f"{name}_x", f"{name}_y"} <= set(header)]
    if "frame" not in header or not names:
        raise UserError(f"{path}: {expected}, got columns {', '.join(map(str, header[:4])) or 'none'}, ...")
    poses: dict[int, np.ndarray] = {}
    for line, row in enumerate(rows, start=2):
        try:
            number, points = int(row["frame"]), np.array([csv_point(row, name) for name in names])
        except (ValueError, TypeError):
            raise UserError(f"{path}: expected a row of numbers per frame, got something else in line {line}") from None
        if number in poses or not np.isfinite(points).all():
            got = f"got a second one, or infinite numbers, in line {line}, frame {number}"
            raise UserError(f"{path}: expected one row of finite numbers per frame, {got}")
        poses[number] = poses_from_points(points.astype(np.float32), names)
    return poses


def csv_point(row: dict[str, str], name: str) -> tuple[float, float, float]:
    """Return x, y and confidence of a joint in a row of a csv file; 0 for empty fields. Raises ValueError or TypeError."""
    x, y = row[f"{name}_x"], row[f"{name}_y"]
    found = x != "" and y != ""
    return float(x or 0), float(y or 0), float(row.get(f"{name}_c", 1) or 0) if found else 0.0


def people_from_lists(values: list) -> np.ndarray:
    """Convert lists that tolist() made back to people (P, J, 3). Raises ValueError or TypeError for other values."""
    people = np.asarray(values, dtype=np.float32).reshape(len(values), len(JOINTS), 3)
    if not np.isfinite(people).all():
        raise ValueError("a value is not finite")
    return people


def csv_header() -> list[str]:
    """Return the columns of a csv file with all joints."""
    return ["frame", *(f"{name}_{part}" for name in JOINTS for part in "xyc")]


def csv_row(frame: int, pose: np.ndarray) -> list[int | str]:
    """Return a row of a csv file with all joints, with empty fields for joints that were not found."""
    row: list[int | str] = [frame]
    for x, y, confidence in pose.tolist():
        row += [f"{x:.2f}", f"{y:.2f}", f"{confidence:.3f}"] if confidence > 0 else ["", "", ""]
    return row
