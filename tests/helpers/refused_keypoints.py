"""Keypoints with faults in all formats, for the table of messages; see refusal_table.py."""

import json
from typing import Any

from poses.keypoint_files import read_people
from tests.helpers.faulty_data import Step, file, folder, steps
from tests.helpers.refusal_table import Case

FRAMES = 4
HEADER = "frame,nose_x,nose_y,nose_c"


def points(count: int, *first: object) -> list:
    """Return x, y and confidence of keypoints within a frame of 160 x 90 pixels; the first values are `first`."""
    values = [value for i in range(count) for value in (50 + 2 * i, 30 + i, 0.9)]
    return [*first, *values[len(first) :]]


def read(name: str) -> Step:
    """Read keypoints as those of a video."""
    return lambda root: read_people(root / name, FRAMES)


def coco(content: Any) -> Step:
    """Write a file of COCO and read it."""
    return steps(file("poses.json", json.dumps(content)), read("poses.json"))


def annotation(image: object = 0, keypoints: object = None) -> dict[str, object]:
    """Return an annotation of a person in an image."""
    return {"image_id": image, "keypoints": points(17) if keypoints is None else keypoints}


def people(*values: object) -> str:
    """Return a file of OpenPose with a person for each of the keypoints."""
    return json.dumps({"people": [{"pose_keypoints_2d": own} for own in values]})


def openpose(**files: str) -> Step:
    """Write files of OpenPose with these names and read them."""
    return steps(*(file(f"poses/{name}_keypoints.json", content) for name, content in files.items()), read("poses"))


def csv(*lines: str) -> Step:
    """Write a csv and read it."""
    return steps(file("poses.csv", "".join(f"{line}\n" for line in lines)), read("poses.csv"))


def rows(*poses: str) -> Step:
    """Write a csv with the nose in each frame and read it."""
    return csv(HEADER, *(f"{frame},{pose}" for frame, pose in enumerate(poses)))


FORMATS = [
    Case("another format", steps(file("poses.npy"), read("poses.npy"))),
    Case("no frames", coco([])),
    Case("a frame that the video does not have", csv(HEADER, "0,50,30,1", "4,50,30,1")),
    Case("numbers from 1, without a person in the last frame", csv(HEADER, "1,50,30,1", "2,51,30,1", "3,52,30,1")),
    Case(
        "the same with images 1.png, 2.png, ...",
        steps(
            file("poses.csv", "frame,nose_x,nose_y\n1,50,30\n2,51,30\n"),
            lambda root: read_people(root / "poses.csv", FRAMES, [1, 2, 3, 4]),
        ),
    ),
    Case("fractions of the frame", rows("0.5,0.3,1", "0.5,0.4,1")),
    Case("fractions of the frame, but for a few", rows("0.5,0.3,1", "0.5,1.2,1", "0.5,0.3,1", "0.5,0.4,1")),
    Case("an origin in the middle of the frame", rows("-50,30,1", "-51,30,1", "5,-30,1")),
    Case("percent as confidence", rows("50,30,95", "51,30,90")),
    Case("a single confidence that is too high", rows("50,30,1", "51,30,1", "52,30,3")),
    Case("a confidence that no detector returns", rows("50,30,1e9")),
    Case("a coordinate that no frame has", rows("1e300,30,1")),
    Case("a value that is not finite", rows("nan,30,1")),
]
CSV = [
    Case("an empty file", csv()),
    Case("a header alone", csv(HEADER)),
    Case("other columns", csv("image,x1,y1,x2,y2", "0,50,30,52,31")),
    Case("a joint with x alone", csv("frame,nose_x", "0,50")),
    Case("a column that occurs twice", csv("frame,nose_x,nose_y,nose_x", "0,50,30,50")),
    Case("joints that are not drawn", csv(f"{HEADER},tail_x,tail_y", "0,50,30,1,60,40")),
    Case("semicolons", csv(HEADER.replace(",", ";"), "0;50;30;1")),
    Case("a row that is too short", csv(HEADER, "0,50,30,1", "1,50,30", "2,50,30,1")),
    Case("a row that was cut off", steps(file("poses.csv", f"{HEADER}\n0,50,30,1\n1,50,3"), read("poses.csv"))),
    Case("a value that was cut off", steps(file("poses.csv", f"{HEADER}\n0,50,30,0.91\n1,50,30,0.9"), read("poses.csv"))),
    Case("text instead of a frame number", csv(HEADER, "first,50,30,1")),
    Case("text instead of a coordinate", rows("left,30,1")),
    Case("a frame that occurs twice", csv(HEADER, "0,50,30,1", "0,51,30,1")),
    Case(
        "a frame number without end",
        steps(file("poses.csv", f"{HEADER}\n0,50,30,1\n{10**9},50,30,1\n"), lambda root: read_people(root / "poses.csv")),
    ),
]
OPENPOSE = [
    Case("an empty folder", steps(folder("poses"), read("poses"))),
    Case("files of another type", steps(file("poses/0.npy"), file("poses/1.npy"), read("poses"))),
    Case("a file that is not JSON", openpose(a_0="{")),
    Case("a file of another program", openpose(a_0=people(), settings="{}")),
    Case("a person without keypoints", openpose(a_0=json.dumps({"people": [{"face_keypoints_2d": []}]}))),
    Case("another model", openpose(a_0=people(points(15)))),
    Case("no list", openpose(a_0=people(None))),
    Case("text", openpose(a_0=people(points(25, "50")))),
    Case("a number with hundreds of digits", openpose(a_0=people(points(25, 10**400)))),
    Case("a name without a number", openpose(a_0=people(), b=people())),
    Case("names with unequal numbers", openpose(a_0=people(), a_1_2=people())),
    Case("names in which two numbers count", openpose(a_0_100=people(), a_1_101=people())),
    Case("names in which no number counts", openpose(cam1_0=people(), cam1_1=people(), cam2_0=people())),
    Case("too large a number", openpose(**{"a_0": people(), f"a_{10**15}": people()})),
    Case("two files with the same number", openpose(a_1=people(), a_01=people())),
]
COCO = [
    Case("the format of OpenPose", coco({"people": []})),
    Case("an annotation without keypoints", coco([{"image_id": 0, "bbox": [1, 2, 3, 4]}])),
    Case("too few keypoints", coco([annotation(keypoints=points(16))])),
    Case("an image_id that is neither a number nor a name", coco([annotation(None)])),
    Case("numbers and names as image_id", coco([annotation(0), annotation("1.png")])),
    Case("an image without a name", coco({"images": [{"id": 0}], "annotations": []})),
    Case(
        "two images with the same id",
        coco({"images": [{"id": 0, "file_name": "0.png"}, {"id": 0, "file_name": "1.png"}], "annotations": []}),
    ),
    Case("an annotation without its image", coco({"images": [{"id": 0, "file_name": "0.png"}], "annotations": [annotation(1)]})),
    Case(
        "two images with the same number",
        coco({"images": [{"id": i, "file_name": name} for i, name in enumerate(("a/0.png", "b/0.png"))], "annotations": []}),
    ),
    Case("two lists of the same frame", coco([annotation("0.png"), annotation("00.png")])),
]
