"""Faults that prepare_video.py and Tester.py's --pose_from find in videos, poses and settings; see refusal_table.py."""

import contextlib
import io
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from poses import detector, video_dataset
from poses.manifest import settings_of, write_manifest
from poses.skeleton import JOINTS
from poses.transfer import first_frame, pose_images
from tests.helpers.faulty_data import Step, file, folder, saved, steps
from tests.helpers.refusal_table import Case
from tests.helpers.refused_films import animation, shortened
from tools import prepare_video

FRAMES, SIDE = 20, 32
URL = "https://download.pytorch.org/models/keypointrcnn_resnet50_fpn_coco-fc266e95.pth"


def frames(name: str, *numbers: int, width: int = SIDE) -> Step:
    """Write images of black frames with these numbers."""
    return steps(*(saved(f"{name}/{number}.png", Image.new("RGB", (width, SIDE))) for number in numbers))


def video(count: int = FRAMES) -> Step:
    """Write a video as a folder of images."""
    return frames("dance", *range(count))


def keypoints(count: int = FRAMES, *, left: int = 6, size: int = 20, without: tuple[int, ...] = ()) -> Step:
    """Write a csv with a person at this place and of this height in each frame, in pixels, except for those in `without`."""
    rows = [f"{t},{left},5,{left + size // 2},{5 + size}" for t in range(count) if t not in without]
    return file("dance.csv", "\n".join(["frame,nose_x,nose_y,neck_x,neck_y", *rows, ""]))


def arguments(root: Path, *flags: str, video: str = "dance", poses: str = "dance.csv") -> list[str]:
    """Return the command line of prepare_video.py."""
    return [str(root / video), "--poses", str(root / poses), "--out", str(root / "data"), "--height", "16", *flags]


def prepare(*flags: str, video: str = "dance", poses: str = "dance.csv", word: str = "") -> Step:
    """Run prepare_video.py, but write no images. Its errors are raised, and the lines with a `word` in its summary are shown."""

    def run(root: Path) -> None:
        summary = io.StringIO()
        with (
            contextlib.redirect_stdout(summary),
            patch.object(video_dataset, "write_images"),
            patch.object(video_dataset, "write_preview"),
        ):
            prepare_video.main.__wrapped__(arguments(root, *flags, video=video, poses=poses))
        print(*(line for line in summary.getvalue().splitlines() if word and word in line), sep="\n", file=sys.stderr)

    return run


def started(root: Path) -> None:
    """Write a video and its keypoints, and the beginning of a data set."""
    steps(video(), keypoints(), folder("data/train"))(root)
    settings = settings_of(prepare_video.prepare_parser().parse_args(arguments(root)))
    write_manifest(root / "data", {"settings": settings, "splits": {}})


def prepare_film(*flags: str) -> Step:
    """Write a video and its keypoints, and run prepare_video.py."""
    return steps(video(), keypoints(), prepare(*flags))


def pose_from(name: str) -> Step:
    """Read the poses of --pose_from. Nobody is found in the frames of a video."""
    return lambda root: pose_images(root / name, like=None, height=SIDE, width=SIDE, detector=Nobody)


class Nobody:
    """A detector that finds nobody."""

    def find_people(self, frame: np.ndarray) -> np.ndarray:
        """Return no people."""
        return np.zeros((0, len(JOINTS), 3), dtype=np.float32)


def weights(content: object) -> Step:
    """Write a file of weights and give them to a network."""

    def run(root: Path) -> None:
        path = root / "other.pth"
        if content is not None:
            torch.save(content, path)
        detector.fill(torch.nn.Linear(1, 1), detector.read_weights(path, URL, "--weights"), f"--weights {path}", URL)

    return run


def no_download(root: Path) -> None:
    """Look for the weights without a network."""

    class Published:
        url = URL

        def get_state_dict(self, **settings) -> None:
            raise OSError("no network")

    detector.download_weights(Published(), "--weights")


POSE_IMAGES = [
    Case("no such file or folder", steps(video(), prepare(poses="poses"))),
    Case("too few images", steps(video(), frames("poses", *range(FRAMES - 1)), prepare(poses="poses"))),
    Case("other numbers", steps(video(), frames("poses", *range(9), *range(10, FRAMES + 1)), prepare(poses="poses"))),
    Case("another shape", steps(video(), frames("poses", *range(FRAMES), width=2 * SIDE), prepare(poses="poses"))),
]
PREPARATION = [
    Case("a video that is too short", steps(video(9), keypoints(9), prepare())),
    Case("too many frames skipped", prepare_film("--skip", "99")),
    Case("too many frames for tests", prepare_film("--test", "0.9")),
    Case(
        "scenes of single frames at the end of the video",
        steps(frames("dance", *range(16), *range(17, 24, 2)), keypoints(16), prepare()),
    ),
    Case(
        "scenes of single frames, but for the end of the video",
        steps(frames("dance", *range(0, 26, 2), *range(40, 60)), keypoints(13), prepare("--val", "0.3", "--test", "0.3")),
    ),
    Case("cuts", steps(frames("dance", *range(10), *range(12, 22)), keypoints(10), prepare(word="between scenes"))),
    Case("frames without a person", steps(video(), keypoints(without=(3, 4, 5, 6)), prepare(word="no person"))),
    Case("a video without a person", steps(video(), file("dance.csv", "frame,nose_x,nose_y\n0,,\n"), prepare())),
    Case("keypoints of a larger video", steps(video(), keypoints(left=40), prepare())),
    Case("all joints at one point", steps(video(), keypoints(size=0), prepare())),
    Case("a part that is too small", prepare_film("--crop", "0", "0", "4", "4")),
    Case("a part outside the frames", prepare_film("--crop", "20", "0", "16", "16")),
    Case(
        "keypoints of the whole film for a GIF that breaks off",
        steps(
            animation("dance.gif", FRAMES),
            shortened("dance.gif", -5),
            keypoints(),
            prepare("--allow_truncated", video="dance.gif"),
        ),
    ),
    Case("a folder with other files", steps(file("data/notes.txt"), prepare_film())),
    Case("a damaged manifest.json", steps(file("data/manifest.json", "{"), prepare_film())),
    Case("other settings", steps(started, prepare("--height", "32"))),
    Case("another video", steps(started, frames("dance", FRAMES), prepare())),
    Case(
        "other settings, after people were searched",
        steps(started, file("data/keypoints/0.people.jsonl", "[]\n"), prepare("--every", "2")),
    ),
]
WEIGHTS = [
    Case("no network", no_download),
    Case("no such file of weights", weights(None)),
    Case("a file of another type as weights", weights("text")),
    Case("weights of another network", weights({"weight": torch.zeros(3)})),
]
TRANSFER = [
    Case("a wrong path", pose_from("dance")),
    Case("nobody in the video", steps(animation("dance.gif"), pose_from("dance.gif"))),
    Case("a data set that is not finished", steps(file("data/manifest.json", '{"settings": {}}'), pose_from("data"))),
    Case("a wrong path of the first frame", lambda root: first_frame(root / "me.png", height=SIDE, width=SIDE)),
]
