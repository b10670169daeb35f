"""A short film that is drawn here, so that its poses are known."""

import csv
import json
from collections.abc import Callable, Container
from pathlib import Path

import numpy as np
from PIL import Image

from poses.keypoint_csv import csv_header, csv_row
from poses.keypoint_files import OPENPOSE
from poses.skeleton import JOINT_INDEX, JOINTS

FRAMES, HEIGHT, WIDTH = 60, 90, 160
OFFSETS = {"neck": (0, 0), "left_hip": (4, 20), "left_knee": (4, 32), "left_ankle": (4, 44)}


def body(t: int) -> dict[str, tuple[int, int]]:
    """Return the joints of a person who walks to the right by a pixel per frame."""
    return {name: (50 + t + x, 30 + y) for name, (x, y) in OFFSETS.items()}


def pose(**places) -> np.ndarray:
    """Return a pose with these joints, name=(x, y); the others are not found."""
    result = np.zeros((len(JOINTS), 3), dtype=np.float32)
    for name, place in places.items():
        result[JOINT_INDEX[name]] = [*place, 1]
    return result


def frame(t: int) -> np.ndarray:
    """Return a frame: a red square on the neck in front of a gradient."""
    image = np.repeat(np.linspace(0, 200, WIDTH, dtype=np.uint8)[None, :, None], HEIGHT, 0).repeat(3, 2)
    x, y = body(t)["neck"]
    image[y - 3 : y + 4, x - 3 : x + 4] = (255, 0, 0)
    return image


def write_frames(
    folder: Path, count: int = FRAMES, change: Callable[[int, np.ndarray], np.ndarray] = lambda t, image: image
) -> Path:
    """Write the frames as images, each after change(t, image)."""
    folder.mkdir()
    for t in range(count):
        Image.fromarray(change(t, frame(t))).save(folder / f"{t}.png")
    return folder


def write_gif(path: Path, count: int = FRAMES) -> Path:
    """Write the frames as a GIF."""
    images = [Image.fromarray(frame(t)) for t in range(count)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=40)
    return path


def write_keypoints(path: Path, count: int = FRAMES, without: Container[int] = (), first: int = 0) -> Path:
    """Write a csv with a row per frame, numbered from `first`, except for the frames in `without`."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(csv_header())
        for t in range(count):
            if t not in without:
                writer.writerow(csv_row(first + t, pose(**body(t))))
    return path


def write_openpose(path: Path, joints: np.ndarray) -> None:
    """Write one person with these joints (J, 3) as a JSON file of OpenPose."""
    values = [
        float(value) for name in OPENPOSE[25] for value in (joints[JOINT_INDEX[name]] if name in JOINT_INDEX else (0, 0, 0))
    ]
    path.write_text(json.dumps({"people": [{"pose_keypoints_2d": values}]}))


def necks(path: Path) -> list[tuple[int, float]]:
    """Return the frame and the x of the neck in each row of a csv."""
    with open(path) as file:
        return [(int(row["frame"]), float(row["neck_x"] or "nan")) for row in csv.DictReader(file)]


def image_of(path: Path) -> np.ndarray:
    """Return an image file as (H, W, 3) float in [0, 255]."""
    return np.asarray(Image.open(path)).astype(float)


def numbers_in(folder: Path) -> set[int]:
    """Return the frame numbers in a folder of images."""
    return {int(path.stem.removeprefix("frame")) for path in folder.glob("*.png")}
