"""Keypoints that are almost right: frame numbers in names, units, and single values that no detector returns."""

import json
from pathlib import Path

import numpy as np
import pytest

from poses.keypoint_checks import frame_numbers
from poses.keypoint_files import read_people, read_sequence
from poses.manifest import read_manifest
from poses.skeleton import JOINT_INDEX
from tests.helpers.films import FRAMES, write_frames
from tests.helpers.refusals import refused
from tools import prepare_video
from utils import UserError


def points(count: int, frame: int = 0) -> list[float]:
    """Return keypoints that differ by joint and by frame, with confidence 0.5."""
    return [value for i in range(count) for value in (100 + 10 * i + frame, 50 + 3 * i, 0.5)]


def write_folder(folder: Path, names: dict[str, int]) -> Path:
    """Write a file of OpenPose for each name, with the keypoints of its frame."""
    for name, frame in names.items():
        (folder / f"{name}_keypoints.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": points(25, frame)}]}))
    return folder


def noses(people: list[np.ndarray]) -> list[float]:
    """Return x of the nose in each frame."""
    return [float(own[0, JOINT_INDEX["nose"], 0]) if len(own) else -1 for own in people]


@pytest.mark.parametrize("name", ["{:02d}_dance2", "dance2_{:02d}", "2024-05-01 take 3 {:06d}", "{:d}_of_40", "{:03d}.mp4"])
def test_the_number_that_varies_is_that_of_the_frame(tmp_path, name):
    """40 files 00_dance2_keypoints.json, ... were once all frame 2: the last one won, and 39 frames showed no person."""
    write_folder(tmp_path, {name.format(frame): frame for frame in range(40)})
    assert noses(read_people(tmp_path, 40)) == list(range(100, 140))


@pytest.mark.parametrize("name", ["{:02d}_dance2.jpg", "take1/cam2_{:03d}.png", "{:03d}.5.jpeg"])
@pytest.mark.parametrize("kind", ["images", "list"])
def test_the_names_of_images_follow_the_same_rule(tmp_path, name, kind):
    names = [name.format(frame) for frame in range(12)]
    ids = range(70, 82) if kind == "images" else names
    rows = [{"image_id": ids[frame], "keypoints": points(17, frame)} for frame in reversed(range(12))]
    images = [{"id": number, "file_name": own} for number, own in zip(ids, names)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": rows} if kind == "images" else rows))
    assert noses(read_people(tmp_path / "a.json", 12)) == list(range(100, 112))


@pytest.mark.parametrize("names, expected", [
    (["cam1_0001", "cam1_0002", "cam2_0003"], [1, 2, 3]),  # both vary, but only one differs in every name
    (["1_a7", "2_a7", "3_a8"], [1, 2, 3]),
    (["0001_0001", "0002_0002"], [1, 2]),  # the same number twice
    (["frame007"], [7]),
    (["take3_frame007"], [7]),  # one name: the last number, as in the course's data
    (["a1b22", "c1d23"], [22, 23]),
])  # fmt: skip
def test_several_numbers_in_names(names, expected):
    assert frame_numbers(names, Path("folder")) == expected


@pytest.mark.parametrize("names, message", [
    (["cam1_0001", "cam1_0002", "cam2_0001"], "got 'cam1_0001' and 'cam2_0001', in which 2 vary and none of them differs in every name; keep only"),
    (["0_100", "1_101"], "got '0_100' and '1_101', in which 2 vary and 2 of them differ in every name; keep only"),
    (["a_1", "b"], "expected a frame number in every name, got 'b'; rename it"),
    (["a_1", "a_1_2"], "names that differ only in the number of the frame, got 'a_1' with 1 number and 'a_1_2' with 2"),
    (["a_1", "a_" + "1" * 16], "a frame number of at most 15 digits, got 1111111111111111 in 'a_1111111111111111'"),
])  # fmt: skip
def test_names_that_do_not_decide_are_refused(names, message):
    with pytest.raises(UserError) as raised:
        frame_numbers(names, Path("folder"))
    assert str(raised.value).startswith("folder: ") and message in str(raised.value)


def coco(*frames: tuple) -> str:
    """Return annotations with these values as image_id."""
    return json.dumps([{"image_id": frame, "keypoints": points(17)} for frame in frames])


IMAGES = [{"id": 1, "file_name": "a/0.png"}, {"id": 2, "file_name": "b/0.png"}]


@pytest.mark.parametrize("name, content, message", [
    ("k.csv", "frame,nose_x,nose_y\n0,5,6\n0.0,7,8\n", "line 2 and line 3 are both frame 0"),
    ("k.json", json.dumps({"images": IMAGES, "annotations": []}), 'image "a/0.png" (id 1) and image "b/0.png" (id 2) are both frame 0'),
    ("k.json", coco("a/7.png", "b/7.png"), 'image_id "a/7.png" and image_id "b/7.png" are both frame 7'),
    ("k.json", coco(7, "7.png"), "expected numbers or names of images as image_id, got both"),
    ("k.json", json.dumps({"images": [*IMAGES, IMAGES[0]], "annotations": []}), "image 3: expected each id once, got 1 again"),
    ("k.json", json.dumps({"images": IMAGES[:1], "annotations": json.loads(coco(2))}), "annotation 1: expected the id of an image in the file, got 2"),
    ("k.json", json.dumps({"images": [{"id": 1}], "annotations": []}), 'image 1: expected id and file_name, got {"id": 1}'),
])  # fmt: skip
def test_a_frame_that_occurs_twice_is_refused_in_every_format(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as raised:
        read_people(tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path / name}: {message}")


def test_two_files_of_the_same_frame_are_both_named(tmp_path):
    write_folder(tmp_path, {"a_01": 0, "b_01": 1})
    with pytest.raises(UserError) as raised:
        read_people(tmp_path)
    both = "a_01_keypoints.json and b_01_keypoints.json are both frame 1; rename or remove one"
    assert str(raised.value) == f"{tmp_path}: {both}"


def test_endings_in_capitals_and_hidden_files(tmp_path):
    write_folder(tmp_path, {f"{frame}": frame for frame in range(3)})
    (tmp_path / "1_keypoints.json").rename(tmp_path / "1_keypoints.JSON")
    (tmp_path / "._2_keypoints.json").write_bytes(b"\0\5\26\7")
    (tmp_path / "3_keypoints.json").mkdir()
    assert noses(read_people(tmp_path)) == [100, 101, 102]


def test_numbers_of_images_may_be_floats_or_negative(tmp_path):
    """The image_id -1 was once frame 1."""
    (tmp_path / "k.json").write_text(coco(0.0, 1.0))
    assert len(read_people(tmp_path / "k.json")) == 2
    (tmp_path / "k.json").write_text(coco(-1, 0))
    with pytest.raises(UserError, match="got keypoints of frame -1"):
        read_people(tmp_path / "k.json")


def write_csv(path: Path, rows: list[tuple[float, float, float]]) -> Path:
    """Write a row per frame with a nose and a neck that is 40 pixels, or 0.1, below it."""
    step = 40 if rows[0][1] > 1 else 0.1
    lines = [f"{t},{x},{y},{c},{x},{y + step},{c}" for t, (x, y, c) in enumerate(rows)]
    path.write_text("\n".join(["frame,nose_x,nose_y,nose_c,neck_x,neck_y,neck_c", *lines]) + "\n")
    return path


PIXELS = [(200.0 + t, 100.0, 0.9) for t in range(50)]
FRACTIONS = [(0.3 + t / 200, 0.4, 0.9) for t in range(50)]


@pytest.mark.parametrize("rows, message", [
    ([*FRACTIONS[:-1], (1.11, 0.4, 0.9)], "expected pixels of the video, got 99% of the coordinates between -1 and 1: these are fractions of its size"),
    ([*FRACTIONS[:-1], (300, 400, 0.9)], "expected pixels of the video, got 98% of the coordinates between -1 and 1"),
    ([(x - 0.5, y - 0.5, c) for x, y, c in FRACTIONS], "expected pixels of the video, got no coordinate above 1"),
    ([(x, -y - 60, c) for x, y, c in PIXELS], "expected pixels from the upper left corner, got 100% of the joints left of or above it"),
    ([(x, y, 90) for x, y, c in PIXELS], "expected confidences from 0 to 1, got a median of 90: these are percent or in another unit; scale them"),
    ([*PIXELS[:-1], (200, 100, 5)], "expected confidences from 0 to 1, got 5 in frame 49"),
    ([*PIXELS[:3], (1e30, 100, 0.9)], "line 5: expected coordinates in pixels, at most 100000, got 1e+30"),
    ([*PIXELS[:3], (200, -1e9, 0.9)], "line 5: expected coordinates in pixels, at most 100000, got -1e+09"),
    ([*PIXELS[:3], (1e300, 100, 0.9)], "line 5: expected coordinates in pixels, at most 100000, got 1e+300"),
    ([*PIXELS[:3], (200, 100, 1e300)], "line 5: expected confidences from 0 to 1, got 1e+300"),
    ([*PIXELS[:3], (float("nan"), 100, 0.9)], "line 5: expected finite numbers, got nan"),
    ([*PIXELS[:3], (200, float("-inf"), 0.9)], "line 5: expected finite numbers, got -inf"),
])  # fmt: skip
def test_units_are_judged_by_most_values_and_single_values_by_their_size(tmp_path, rows, message):
    path = write_csv(tmp_path / "k.csv", rows)
    for read in (read_people, read_sequence):
        with pytest.raises(UserError) as raised:
            read(path)
        assert str(raised.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("rows", [
    [*PIXELS[:-1], (0.5, 0.5, 0.9)],  # a joint in the corner
    [*PIXELS[:-1], (-30, 700, 0.9)],  # outside the frame
    [(x, y, 1.04) for x, y, _ in PIXELS],  # OpenPose's confidences exceed 1 a little
    [(x, y, 2) for x, y, _ in PIXELS],  # COCO's flag of a visible joint
    [*PIXELS[:-1], (1e30, 100, 0)],  # not found
])  # fmt: skip
def test_usual_values_are_kept(tmp_path, rows):
    found = read_people(write_csv(tmp_path / "k.csv", rows))
    expected = [[x, y, c] if c else [0, 0, 0] for x, y, c in rows]
    assert [own[0, JOINT_INDEX["nose"]].tolist() for own in found] == np.array(expected, dtype=np.float32).tolist()


@pytest.mark.parametrize("value, shown", [(None, "null"), ("x", '"x"'), ([1], "[1]"), (True, "true"), ({}, "{}")])
def test_values_of_json_that_are_not_numbers_are_shown(tmp_path, value, shown):
    """null was once reported as a value that is not finite."""
    values = points(25)
    values[4] = value
    (tmp_path / "0_keypoints.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": values}]}))
    with pytest.raises(UserError, match="person 1: expected 25 x 3 or 18 x 3 numbers for a person") as raised:
        read_people(tmp_path)
    assert str(raised.value).endswith(f"got {shown} as value 5; save x, y and confidence of each joint")


@pytest.mark.parametrize("content, message", [
    ("frame,nose_x,nose_y\n", "expected a row of numbers per frame, got a header without rows"),
    ("frame;nose_x;nose_y\n0;1;2\n", "line 1: expected commas between the values, got semicolons; save the table with commas, and with points in its decimals"),
    ("frame,nose_x,nose_y,nose_x\n0,1,2,3\n", "expected each column once, got nose_x twice; rename or remove one"),
    ("frame,nose_x,nose_y,neck_y\n0,1,2,3\n", "expected columns neck_x and neck_y, got no neck_x; add it"),
    ("frame,nose_x,nose_y\nfirst,1,2\n", "line 2: expected a frame number, got 'first'; correct the line"),
    ("frame,nose_x,nose_y\n0,1_0,2\n", "line 2: expected a number as nose_x, got '1_0'; correct the line"),
    ("a,b,c,d,e\n1,2,3,4,5\n", "expected columns frame, nose_x, nose_y, nose_c, ..., got a, b, c, d, ...; rename the columns"),
])  # fmt: skip
def test_each_fault_of_a_csv_is_named(tmp_path, content, message):
    (tmp_path / "k.csv").write_text(content)
    with pytest.raises(UserError) as raised:
        read_people(tmp_path / "k.csv")
    assert str(raised.value) == f"{tmp_path / 'k.csv'}: {message}"


def test_columns_of_other_joints_are_named_in_one_line(tmp_path, capsys):
    """A joint whose name was misspelled was once missing in all frames without a word."""
    (tmp_path / "k.csv").write_text(
        "frame,time,nose_x,nose_y,left_sholder_x,left_sholder_y\n0,0.5,11,12,13,14\n1,0.6,15,16,17,18\n"
    )
    assert noses(read_people(tmp_path / "k.csv")) == [11, 15]
    ignored = "ignored columns of joints that are not drawn: left_sholder_x, left_sholder_y; the joints are in poses/skeleton.py"
    assert capsys.readouterr().err == f"{tmp_path / 'k.csv'}: {ignored}\n"


@pytest.mark.parametrize("x, flags, size", [
    (50, [], "0 x 0"),
    (52, [], "2 x 1"),
    (55, ["--aspect", "1:1"], "5 x 5"),
    (50, ["--crop", "0", "0", "10", "8", "--aspect", "2:1"], "10 x 5"),
])  # fmt: skip
def test_a_window_of_a_few_pixels_is_refused(tmp_path, capsys, x, flags, size):
    """With all joints at one point, prepare_video.py once ended in a ZeroDivisionError."""
    film = write_frames(tmp_path / "film")
    rows = [f"{t},{x},40,50,40" for t in range(FRAMES)]
    (tmp_path / "k.csv").write_text("\n".join(["frame,nose_x,nose_y,neck_x,neck_y", *rows]) + "\n")
    argv = [film, "--poses", tmp_path / "k.csv", "--out", tmp_path / "data", *flags]
    expected = f"expected a window of at least 8 x 8 pixels, got {size}; check the poses, --crop and --aspect"
    assert refused(capsys, prepare_video.main, argv) == f"error: {film}: {expected}"


def test_lists_within_lists_are_refused(tmp_path):
    for depth in (200, 900, 100_000):
        for name in ("0_keypoints.json", "manifest.json"):
            (tmp_path / name).write_text("[" * depth + "]" * depth)
        for read in (read_people, read_manifest):
            with pytest.raises(UserError, match=r"\.json: "):
                read(tmp_path)
    (tmp_path / "k.json").write_text('[{"image_id": 0, "keypoints": ' + "[" * 900 + "]" * 900 + "}]")
    with pytest.raises(UserError, match="annotation 1: expected 17 x 3 numbers for a person, got "):
        read_people(tmp_path / "k.json")


def test_a_csv_without_confidences_has_placeholders_for_joints_that_were_not_found(tmp_path):
    """0,0 and -1,-1 stand for a missing joint; it would be drawn in the upper left corner."""
    (tmp_path / "a.csv").write_text("frame,nose_x,nose_y,neck_x,neck_y\n0,50,30,0,0\n1,51,30,-1,-1\n2,52,0,50,40\n")
    people = read_people(tmp_path / "a.csv")
    found = [[*(people[frame][0][:, 2] > 0)].count(True) for frame in range(3)]
    assert found == [1, 1, 2]
