"""A short film that is drawn here, and whose poses are therefore known."""

import csv

import numpy as np
from PIL import Image

from poses.keypoint_files import csv_header, csv_row
from poses.skeleton import JOINT_INDEX, JOINTS

FRAMES, HEIGHT, WIDTH = 60, 90, 160
OFFSETS = {"neck": (0, 0), "left_hip": (4, 20), "left_knee": (4, 32), "left_ankle": (4, 44)}


def body(t: int) -> dict:
    """Where somebody's joints are who walks to the right."""
    return {name: (50 + t + x, 30 + y) for name, (x, y) in OFFSETS.items()}


def frame(t: int) -> np.ndarray:
    """A red square on the neck before a gradient."""
    picture = np.repeat(np.linspace(0, 200, WIDTH, dtype=np.uint8)[None, :, None], HEIGHT, 0).repeat(3, 2)
    x, y = body(t)["neck"]
    picture[y - 3 : y + 4, x - 3 : x + 4] = (255, 0, 0)
    return picture


def write_frames(folder, count: int = FRAMES, change=None):
    folder.mkdir()
    for t in range(count):
        picture = frame(t) if change is None else change(t, frame(t))
        Image.fromarray(picture).save(folder / f"{t}.png")
    return folder


def write_gif(path, count: int = FRAMES):
    pictures = [Image.fromarray(frame(t)) for t in range(count)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    return path


def write_keypoints(path, count: int = FRAMES, without=(), first: int = 0):
    """A row for each frame, the first having that number."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(csv_header())
        for t in range(count):
            pose = np.zeros((len(JOINTS), 3))
            for name, place in body(t).items():
                pose[JOINT_INDEX[name]] = [*place, 1]
            if t not in without:
                writer.writerow(csv_row(first + t, pose))
    return path


def necks(path) -> list[tuple[int, float]]:
    """Of each row the frame and how far to the right the neck is."""
    with open(path) as file:
        return [(int(row["frame"]), float(row["neck_x"] or "nan")) for row in csv.DictReader(file)]


def image_of(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float)


def numbers_in(folder) -> set[int]:
    return {int(path.stem.removeprefix("frame")) for path in folder.glob("*.png")}
