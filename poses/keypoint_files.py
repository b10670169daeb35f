"""Keypoints in the files of pose detectors: OpenPose's JSON files, COCO's JSON, or a csv.

There are P people with the J joints of skeleton.py. The people of one frame are (P, J, 3): x and y in pixels, and confidence.
"""

import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from data.entries import own_entries, own_files
from data.images import listing
from poses.keypoint_checks import Entry, check_points, check_units, people_by_number
from poses.keypoint_csv import read_csv
from poses.skeleton import JOINTS, poses_from_points
from utils import UserError, counted, print_notice

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
    """Return the people (P, J, 3) of each frame of a video, as in assign_frames(). Raises UserError as well for other content."""
    return assign_frames(read_keypoints(path), path, frames, numbers)


def assign_frames(
    found: dict[int, np.ndarray], path: Path, frames: int | None, numbers: list[int] | None = None
) -> list[np.ndarray]:  # fmt: skip
    """Return the people (P, J, 3) of each frame of a video, from those that read_keypoints() found at `path`.

    `frames` is the number of frames; None takes as many as the keypoints have. `numbers` are the numbers of the video's images.
    If they include all frame numbers of the keypoints, these are image numbers. Otherwise, frame numbers count from 0, or from 1
    if the last one would be too high. Frames without keypoints have no people. Raises UserError for frames that the video does
    not have.
    """
    if numbers and set(found) <= set(numbers):
        if numbers == list(range(1, len(numbers) + 1)) and max(found) < len(numbers):
            print_notice(f"{path}: frame {min(found)} is taken for the image of that number; check the poses in preview.gif")
        positions = {number: i for i, number in enumerate(numbers)}
        found = {positions[number]: people for number, people in found.items()}
    lowest, highest = min(found), max(found)
    first = int(lowest >= 1 and highest == frames)
    if lowest == 1 and frames and highest < frames and not numbers:
        print_notice(f"{path}: frame 1 is taken for the second one, as numbers count from 0; check the poses in preview.gif")
    frames = frames or highest + 1
    if lowest < 0 or highest - first >= frames:
        wrong = lowest if lowest < 0 else highest
        got = f"got keypoints of frame {wrong}; choose those of this video, or correct the numbers"
        raise UserError(f"{path}: expected frames 0 to {frames - 1}, as in the video, {got}")
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
        got = f"got keypoints of frames {frames[0]} to {frames[-1]}; correct the numbers"
        raise UserError(f"{path}: expected at most {MAX_FRAMES} frames, {got}")
    return [found.get(number, NOBODY) for number in frames]


def read_keypoints(path: Path) -> dict[int, np.ndarray]:
    """Return the people (P, J, 3) of at least one frame, by frame number. Raises UserError without keypoints in pixels."""
    notices: list[str] = []
    if path.is_dir():
        entries = read_openpose(path)
    elif path.suffix.lower() == ".json":
        entries = read_coco(path)
    elif path.suffix.lower() == ".csv":
        entries, notices = read_csv(path)
    else:
        got = f"got {path.suffix or path.name}; convert the keypoints"
        raise UserError(f"{path}: expected a folder of OpenPose's JSON files, a COCO .json or a .csv, {got}")
    if not entries:
        raise UserError(f"{path}: holds no frames; expected the keypoints of a video")
    found = people_by_number(entries, path)
    check_units(found, path)
    for notice in notices:
        print_notice(notice)
    return found


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises UserError if it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise UserError(f"{path}: cannot be read as JSON; copy or save it again") from None


def to_points(values: Any, counts: Collection[int], place: str) -> np.ndarray:
    """Convert a flat list x, y, confidence, x, ... or a list of such triples to (K, 3), where K is one of `counts`.

    Raises UserError, which names `place`, for other values.
    """
    expected = "expected " + " or ".join(f"{count} x 3" for count in counts) + " numbers for a person"
    way_out = "save x, y and confidence of each joint"
    if not isinstance(values, list):
        raise UserError(f"{place}: {expected}, got {shown(values)}; {way_out}")
    if values and all(isinstance(value, list) and len(value) == 3 for value in values):
        values = [number for triple in values for number in triple]
    for i, value in enumerate(values, start=1):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"{place}: {expected}, got {shown(value)} as value {i}; {way_out}")
    if len(values) not in [3 * count for count in counts]:
        raise UserError(f"{place}: {expected}, got {counted(len(values), 'value')}; {way_out}")
    try:
        points = np.array(values, dtype=np.float64).reshape(-1, 3)
    except OverflowError:
        raise UserError(f"{place}: expected coordinates in pixels, got a number with hundreds of digits; correct it") from None
    return check_points(points, place)


def shown(value: Any) -> str:
    """Return the beginning of a JSON value for a message."""
    try:
        return json.dumps(value)[:40]
    except RecursionError:  # json.loads() reads deeper lists than it writes
        return "lists within lists"


def read_openpose(folder: Path) -> list[Entry]:
    """Return the people of each file of a folder that OpenPose's --write_json wrote, with one file per frame.

    Raises UserError for other files.
    """
    files = own_files(folder, {".json"})
    if not files:
        got = listing([path.name for path in own_entries(folder).files]) or "an empty folder"
        expected = "expected OpenPose's files, named like take_000000000000_keypoints.json"
        raise UserError(f"{folder}: holds no keypoints; {expected}, got {got}")
    return [Entry(file.stem.removesuffix("_keypoints"), file.name, read_openpose_file(file)) for file in files]


def read_openpose_file(file: Path) -> np.ndarray:
    """Return the people (P, J, 3) in one file of OpenPose. Raises UserError for other content."""
    content = read_json(file)
    people = content.get("people") if isinstance(content, dict) else None
    expected, way_out = "expected OpenPose's JSON", "if it is another file, move it out of the folder"
    if not isinstance(people, list):
        raise UserError(f"{file}: {expected}, got no list of people with pose_keypoints_2d; {way_out}")
    poses = []
    for i, person in enumerate(people, start=1):
        if not isinstance(person, dict) or "pose_keypoints_2d" not in person:
            raise UserError(f"{file}: {expected}, got person {i} without pose_keypoints_2d; {way_out}")
        points = to_points(person["pose_keypoints_2d"], OPENPOSE, f"{file}: person {i}")
        poses.append(poses_from_points(points, OPENPOSE[len(points)]))
    return stacked(poses)


def read_coco(path: Path) -> list[Entry]:
    """Return the people of each image of COCO's keypoints: a list of results, or a file with images and annotations.

    The name of a frame is its image's file name or, without images, its image_id. Raises UserError for other content.
    """
    content = read_json(path)
    names: dict[int | str, str] = {}
    if isinstance(content, dict):
        names = image_names(content.get("images", []), path)
        content = content.get("annotations")
    if not isinstance(content, list):
        got = "got no list of annotations with image_id and keypoints"
        raise UserError(f"{path}: expected COCO's keypoints, {got}; of OpenPose's files, pass the folder")
    poses: dict[int | str, list[np.ndarray]] = {image: [] for image in names}  # an image without people has no annotation
    for i, row in enumerate(content, start=1):
        place = f"{path}: annotation {i}"
        image = annotated_image(row, place)
        if names and image not in names:
            got = f"got {shown(image)}; add the image, or remove the annotation"
            raise UserError(f"{place}: expected the id of an image in the file, {got}")
        poses.setdefault(image, []).append(poses_from_points(to_points(row["keypoints"], (len(COCO),), place), COCO))
    if not names and len({type(image) for image in poses}) > 1:
        raise UserError(f"{path}: expected numbers or names of images as image_id, got both; use one of them")
    return [coco_entry(image, names, stacked(own)) for image, own in poses.items()]


def coco_entry(image: int | str, names: dict[int | str, str], people: np.ndarray) -> Entry:
    """Return the people of an image with this id."""
    if image in names:
        return Entry(without_suffix(names[image]), f"image {shown(names[image])} (id {shown(image)})", people)
    return Entry(image if isinstance(image, int) else without_suffix(image), f"image_id {shown(image)}", people)


def without_suffix(path: str) -> str:
    """Return the name of an image without its suffix, which begins with a letter: take.0001 has none."""
    return re.sub(r"\.[A-Za-z]\w*$", "", Path(path).name)


def image_names(images: Any, path: Path) -> dict[int | str, str]:
    """Return {id: file name} of the images in a COCO file. Raises UserError for an image without them, and for an id twice."""
    names: dict[int | str, str] = {}
    for i, image in enumerate(images if isinstance(images, list) else [], start=1):
        place = f"{path}: image {i}"
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
            raise UserError(f"{place}: expected id and file_name, got {shown(image)}; add them")
        number = image_id(image.get("id"), "id", place)
        if number in names:
            raise UserError(f"{place}: expected each id once, got {shown(number)} again; correct or remove one")
        names[number] = image["file_name"]
    return names


def annotated_image(row: Any, place: str) -> int | str:
    """Return the id of the image of an annotation. Raises UserError for anything but an annotation with keypoints."""
    if not isinstance(row, dict) or "image_id" not in row or "keypoints" not in row:
        got = f"got {shown(row)}; add them, or remove the annotation"
        raise UserError(f"{place}: expected COCO's image_id and keypoints, {got}")
    return image_id(row["image_id"], "image_id", place)


def image_id(value: Any, name: str, place: str) -> int | str:
    """Return the id of an image, 7 for 7.0. Raises UserError if it is neither an integer nor text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise UserError(f"{place}: expected an integer or text as {name}, got {shown(value)}; correct it")
    return value


def stacked(poses: list[np.ndarray]) -> np.ndarray:
    """Return poses (J, 3) as people (P, J, 3), also if there are none."""
    return np.stack(poses) if poses else NOBODY


def people_from_lists(values: list) -> np.ndarray:
    """Convert lists that tolist() made back to people (P, J, 3). Raises ValueError or TypeError for other values."""
    people = np.asarray(values, dtype=np.float32).reshape(len(values), len(JOINTS), 3)
    if not np.isfinite(people).all():
        raise ValueError("a value is not finite")
    return people
