"""Keypoints that a pose detector wrote, read into poses: OpenPose's JSON files, COCO's JSON, or a csv.

People of one frame are (P, J, 3), in the joints of skeleton.py and in pixels; one person through a video is (N, J, 3).
"""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np

from poses.skeleton import JOINTS, whole_body
from utils import UserError

PAIRS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
COCO = ["nose", *(f"{side}_{part}" for part in PAIRS for side in ("left", "right"))]  # 17 keypoints
OPENPOSE = {  # by the number of keypoints: BODY_25 and COCO's 18
    25: ["nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "mid_hip",
         "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear",
         "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"],
    18: ["nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
         "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear"],
}  # fmt: skip
MOST_FRAMES = 10**7  # of a video, four days; a number beyond is a mistake
NOBODY = np.zeros((0, len(JOINTS), 3), dtype=np.float32)


def read_people(path: Path, frames: int | None = None, numbers: list[int] | None = None) -> list[np.ndarray]:
    """The people (P, J, 3) of each of the `frames` of a video, from a folder of OpenPose's *_keypoints.json, a COCO .json or a
    .csv.

    Frames have the `numbers` of their images, if all are among these; else they count from 0, or from 1 where the last one would
    be too many otherwise. One that the file does not have is a frame without people. Where it is not known how many the video
    has there are as many as the file has. Raises UserError for what cannot be read, and for frames that the video does not have.
    """
    found = read_keypoints(path)
    if numbers and set(found) <= set(numbers):
        places = {number: i for i, number in enumerate(numbers)}
        found = {places[number]: people for number, people in found.items()}
    first = int(min(found) >= 1 and max(found) == frames)
    frames = frames or max(found) + 1
    if min(found) < 0 or max(found) - first >= frames:
        wrong = min(found) if min(found) < 0 else max(found)
        raise UserError(f"{path}: keypoints of frame {wrong}; expected frames 0 to {frames - 1}, as many as the video has")
    return laid_out(found, range(first, first + frames), path)


def read_sequence(path: Path) -> list[np.ndarray]:
    """The people (P, J, 3) of each frame of keypoints that no video belongs to, in the formats of read_people: from the lowest
    number to the highest, in steps of what all of them are apart. Raises UserError."""
    found = read_keypoints(path)
    step = math.gcd(*(number - min(found) for number in found))
    return laid_out(found, range(min(found), max(found) + 1, max(step, 1)), path)


def laid_out(found: dict[int, np.ndarray], frames: range, path: Path) -> list[np.ndarray]:
    """The people of these frames. Raises UserError if they are too many to be a video's."""
    if (frames.stop - frames.start) // frames.step > MOST_FRAMES:
        raise UserError(f"{path}: keypoints of frames {frames[0]} to {frames[-1]}; expected at most {MOST_FRAMES}")
    return [found.get(number, NOBODY) for number in frames]


def read_keypoints(path: Path) -> dict[int, np.ndarray]:
    """The people (P, J, 3) by the numbers of their frames, at least one. Raises UserError."""
    if path.is_dir():
        found = read_openpose(path)
    elif path.suffix.lower() == ".json":
        found = read_coco(path)
    elif path.suffix.lower() == ".csv":
        found = {number: pose[None] for number, pose in read_csv(path).items()}
    else:
        raise UserError(f"{path}: not keypoints; expected a folder of OpenPose's JSON files, a COCO .json or a .csv")
    if not found:
        raise UserError(f"{path}: holds no frame; expected the keypoints of a video")
    places = np.concatenate(list(found.values()))
    places = places[places[..., 2] > 0]
    if len(places) and places[:, :2].max() <= 1:
        raise UserError(f"{path}: no coordinate is above 1; expected pixels of the video, not fractions of its size")
    return found


def load_json(path: Path):
    """The content of a JSON file. Raises UserError."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON; expected keypoints") from None


def number_of(name: str, path: Path) -> int:
    """The last number in a name, without what OpenPose puts behind it. Raises UserError."""
    digits = re.findall(r"\d+", name.removesuffix("_keypoints"))
    if not digits or len(digits[-1]) > 15:
        raise UserError(f"{path}: {name[:40]!r} found; expected a name with the number of its frame")
    return int(digits[-1])


def triples(values, counts, path: Path) -> np.ndarray:
    """A flat list x, y, confidence, x, ... -> (K, 3), K one of `counts`. Raises UserError."""
    expected = " or ".join(f"{count} x 3" for count in counts)
    try:
        points = np.asarray(values, dtype=np.float32).reshape(-1, 3)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{path}: keypoints that are no list of numbers; expected {expected}") from None
    if len(points) not in counts or not np.isfinite(points).all():
        raise UserError(f"{path}: a list of {points.size} values, or one that is not finite; expected {expected} for a person")
    return points


def read_openpose(folder: Path) -> dict[int, np.ndarray]:
    """What OpenPose's --write_json leaves: a file for each frame with all its people, {frame: (P, J, 3)}."""
    files = sorted(file for file in folder.glob("*.json") if not file.name.startswith("."))
    if not files:
        raise UserError(f"{folder}: holds no .json; expected OpenPose's files, as name_000000000000_keypoints.json")
    found = {}
    for file in files:
        content = load_json(file)
        people = content.get("people") if isinstance(content, dict) else None
        if not isinstance(people, list) or not all(isinstance(p, dict) and "pose_keypoints_2d" in p for p in people):
            expected = "expected OpenPose's JSON, or pose images in a folder without .json"
            raise UserError(f"{file}: no list of people with pose_keypoints_2d in it; {expected}")
        points = [triples(person["pose_keypoints_2d"], OPENPOSE, file) for person in people]
        found[number_of(file.stem, file)] = np.stack([whole_body(p, OPENPOSE[len(p)]) for p in points]) if points else NOBODY
    return found


def read_coco(path: Path) -> dict[int, np.ndarray]:
    """COCO's keypoints, {frame: (P, J, 3)}: a list of results, or a file with images and annotations. A frame's number is its
    image_id, or the number in the name of its image."""
    content = load_json(path)
    names = {}
    if isinstance(content, dict):
        images = content.get("images", [])
        images = images if isinstance(images, list) else []
        named = [image for image in images if isinstance(image, dict) and {"id", "file_name"} <= image.keys()]
        names = {image["id"]: image["file_name"] for image in named if isinstance(image["id"], (int, str))}
        content = content.get("annotations")

    def whole(row) -> bool:
        return isinstance(row, dict) and isinstance(row.get("image_id"), (int, str)) and "keypoints" in row

    if not isinstance(content, list) or not all(map(whole, content)):
        raise UserError(f"{path}: no list of annotations with image_id and keypoints; expected COCO's keypoints")
    found: dict[int, list] = {}
    for row in content:
        points = triples(row["keypoints"], (len(COCO),), path)
        name = Path(str(names.get(row["image_id"], row["image_id"])))
        found.setdefault(number_of(name.stem, path), []).append(whole_body(points, COCO))
    # An image without people has no annotation.
    everyone = {number_of(Path(str(name)).stem, path): [] for name in names.values()} | found
    return {number: np.stack(poses) if poses else NOBODY for number, poses in everyone.items()}


def read_csv(path: Path) -> dict[int, np.ndarray]:
    """A row for each frame, {frame: (J, 3)}: columns frame, then <joint>_x, <joint>_y and, if it is known, <joint>_c, the
    confidence, of any of the JOINTS. An empty field is a joint that was not found."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: not a csv of text; expected columns frame, nose_x, nose_y, nose_c, ...") from None
    header = list(rows[0]) if rows else []
    names = [name for name in JOINTS if {f"{name}_x", f"{name}_y"} <= set(header)]
    if "frame" not in header or not names:
        columns = ", ".join(map(str, header[:4])) or "none"
        raise UserError(f"{path}: columns {columns}, ...; expected frame, nose_x, nose_y, nose_c, ...")
    poses = {}
    for line, row in enumerate(rows, start=2):
        try:
            points = [[float(row[f"{name}_{part}"] or 0) for part in "xy"] for name in names]
            there = [row[f"{name}_x"] != "" and row[f"{name}_y"] != "" for name in names]
            sure = [float(row.get(f"{name}_c", 1) or 0) if found else 0.0 for name, found in zip(names, there)]
            number = int(row["frame"])
        except (ValueError, TypeError):
            raise UserError(f"{path}: line {line} holds what is no number; expected a row of numbers for each frame") from None
        if number in poses or not np.isfinite(points).all() or not all(map(math.isfinite, sure)):
            raise UserError(f"{path}: line {line}, frame {number}: occurs twice, or is not finite; expected each frame once")
        poses[number] = whole_body(np.column_stack([points, sure]).astype(np.float32), names)
    return poses


def people_from_lists(values: list) -> np.ndarray:
    """The inverse of tolist(): (P, J, 3). Raises ValueError or TypeError for anything else."""
    people = np.asarray(values, dtype=np.float32).reshape(len(values), len(JOINTS), 3)
    if not np.isfinite(people).all():
        raise ValueError("a value that is not finite")
    return people


def csv_header() -> list[str]:
    """The columns of a csv with all joints."""
    return ["frame", *(f"{name}_{part}" for name in JOINTS for part in "xyc")]


def csv_row(frame: int, pose: np.ndarray) -> list:
    """A row of such a csv; nothing of a joint that was not found."""
    fields = ([f"{x:.2f}", f"{y:.2f}", f"{c:.3f}"] if c > 0 else ["", "", ""] for x, y, c in pose.tolist())
    return [frame, *(value for three in fields for value in three)]
