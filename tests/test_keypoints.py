"""Keypoints in the files of other programs, and one person tracked through a video."""

import json

import numpy as np
import pytest

from poses.keypoint_csv import csv_header, csv_row
from poses.keypoint_files import COCO, OPENPOSE, read_people, read_sequence
from poses.skeleton import JOINT_INDEX, JOINTS
from poses.tracking import choose_person, fill_gaps, smooth
from utils import UserError


def person(x: float, y: float, size: float = 10.0, *, confidence: float = 1.0) -> np.ndarray:
    """Return a pose whose joints form a column that starts at x, y."""
    down = np.arange(len(JOINTS)) / len(JOINTS) * size
    return np.column_stack([np.full(len(JOINTS), x), y + down, np.full(len(JOINTS), confidence)]).astype(np.float32)


def numbered_points(names: list[str]) -> list[float]:
    """Return keypoints that differ: number i is at (10 i + 1, 10 i + 2), with confidence 0.5."""
    return [value for i in range(len(names)) for value in (10 * i + 1, 10 * i + 2, 0.5)]


def check_points(pose: np.ndarray, names: list[str]) -> None:
    """Assert that a pose made of numbered_points() has every joint in its place."""
    for i, name in enumerate(names):
        if name in JOINT_INDEX:
            assert pose[JOINT_INDEX[name]].tolist() == [10 * i + 1, 10 * i + 2, 0.5], name


@pytest.mark.parametrize("count", OPENPOSE)
def test_openpose_files_are_ordered_by_their_numbers(tmp_path, count):
    """Frame 1 has no file and therefore no people. Heels are not among the joints that are kept."""
    for number in (0, 2):
        people = [{"person_id": [-1], "pose_keypoints_2d": numbered_points(OPENPOSE[count])}] * (number // 2 + 1)
        path = tmp_path / f"dance2024_{number:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": people}))
    found = read_people(tmp_path, 4)
    assert [len(people) for people in found] == [1, 0, 2, 0]
    check_points(found[0][0], OPENPOSE[count])


def test_missing_frames_at_either_end_do_not_shift_the_others(tmp_path):
    """COCO's results omit frames without people. They count from 0 unless the last number would be too high."""
    for numbers, expected in [([1, 2], [0, 1, 1, 0]), ([1, 4], [1, 0, 0, 1]), ([0, 3], [1, 0, 0, 1])]:
        rows = [{"image_id": number, "keypoints": numbered_points(COCO)} for number in numbers]
        (tmp_path / "coco.json").write_text(json.dumps(rows))
        assert [len(people) for people in read_people(tmp_path / "coco.json", 4)] == expected
    assert [len(people) for people in read_people(tmp_path / "coco.json", 2, [0, 3])] == [1, 1]


@pytest.mark.parametrize("detected, images, expected", [
    ([1, 3], [1, 2, 3, 4], [1, 0, 1, 0]),  # nobody is in the last image, so the results omit it
    ([5, 7], [4, 5, 6, 7], [0, 1, 0, 1]),
    ([0, 2], [1, 2, 3, 4], [1, 0, 1, 0]),  # no image has number 0, so these are positions
    ([1, 4], [0, 1, 2, 3], [1, 0, 0, 1]),  # positions from 1
    ([0, 5], [0, 5, 10, 15], [1, 1, 0, 0]),
])  # fmt: skip
def test_numbers_of_images_take_precedence_over_positions(tmp_path, detected, images, expected):
    (tmp_path / "coco.json").write_text(
        json.dumps([{"image_id": number, "keypoints": numbered_points(COCO)} for number in detected])
    )
    assert [len(people) for people in read_people(tmp_path / "coco.json", 4, images)] == expected


@pytest.mark.parametrize(
    "found, expected", [([3000, 3001, 3003], [1, 1, 0, 1]), ([1, 2], [1, 1]), ([7, 17, 12], [1, 1, 1]), ([9], [1])]
)
def test_keypoints_without_a_video_start_at_their_lowest_number(tmp_path, found, expected):
    """Their frames follow each other in the largest step that reaches every number."""
    (tmp_path / "coco.json").write_text(
        json.dumps([{"image_id": number, "keypoints": numbered_points(COCO)} for number in found])
    )
    assert [len(people) for people in read_sequence(tmp_path / "coco.json")] == expected


def test_frame_numbers_that_are_too_high_are_refused(tmp_path):
    for frame in (10**8, 10**40):
        (tmp_path / "k.csv").write_text(f"frame,nose_x,nose_y\n0,5,6\n1,5,6\n{frame},3,4\n")
        for read in (read_people, read_sequence):
            with pytest.raises(UserError, match=f"expected at most 10000000 frames, got keypoints of frames 0 to {frame}"):
                read(tmp_path / "k.csv")


@pytest.mark.parametrize("first", [0, 1])
def test_coco_results_count_from_0_or_1(tmp_path, first):
    rows = [{"image_id": first + i, "category_id": 1, "keypoints": numbered_points(COCO), "score": 0.9} for i in range(3)]
    (tmp_path / "coco.json").write_text(json.dumps(rows + rows[-1:]))
    found = read_people(tmp_path / "coco.json", 3)
    assert [len(people) for people in found] == [1, 1, 2]
    check_points(found[0][0], COCO)
    left, right = (numbered_points(COCO)[3 * COCO.index(f"{side}_shoulder") :][:2] for side in ("left", "right"))
    assert found[0][0, JOINT_INDEX["neck"], :2].tolist() == [(a + b) / 2 for a, b in zip(left, right)]


def test_coco_annotations_are_ordered_by_the_names_of_their_images(tmp_path):
    content = {"images": [{"id": 7, "file_name": "take1/000000.jpg"}, {"id": 3, "file_name": "take1/000001.jpg"}],
               "annotations": [{"image_id": 3, "keypoints": numbered_points(COCO)}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert [len(people) for people in read_people(tmp_path / "a.json")] == [0, 1]


def test_a_csv_returns_the_poses_written(tmp_path):
    poses = np.stack([person(5, 6), person(7, 8)])
    poses[1, 3] = 0
    lines = [csv_header(), *(csv_row(t, pose) for t, pose in enumerate(poses))]
    (tmp_path / "k.csv").write_text("\n".join(",".join(map(str, line)) for line in lines))
    found = read_people(tmp_path / "k.csv", 2)
    assert np.abs(np.concatenate(found) - poses).max() < 0.01


def test_a_csv_needs_no_confidence(tmp_path):
    (tmp_path / "k.csv").write_text("frame,nose_x,nose_y,left_ear_x,left_ear_y\n0,3,4,,\n1,,,50,60\n2,7,,,\n3,7,,8,\n")
    found = np.concatenate(read_people(tmp_path / "k.csv"))
    assert (
        found[:, JOINT_INDEX["nose"], 2].tolist() == [1, 0, 0, 0]
        and not found[2:].any()
        and found[1, JOINT_INDEX["left_ear"]].tolist() == [50, 60, 1]
    )


@pytest.mark.parametrize("name, content, words", [
    ("a.json", "{", "cannot be read as JSON"),
    ("a.json", "[3]", "annotation 1: expected COCO's image_id and keypoints, got 3; add them, or remove the annotation$"),
    ("a.json", "{}", "no list of annotations"),
    ("a.json", '[{"image_id": "x", "keypoints": []}]', "0 values"),
    ("a.json", '[{"image_id": [1], "keypoints": []}]', r"annotation 1: expected an integer or text as image_id, got \[1\]; correct it$"),
    ("a.json", json.dumps([{"image_id": "x", "keypoints": [5, 5, 1] * 17}]), "frame number in every name, got 'x'; rename it$"),
    ("a.json", json.dumps([{"image_id": 0, "keypoints": ["a"] * 51}]), 'got "a" as value 1; save x, y and confidence of each joint$'),
    ("a.json", json.dumps([{"image_id": 9, "keypoints": [5, 5, 1] * 17}]), "frame 9"),
    ("a.json", json.dumps([{"image_id": 0, "keypoints": [0.5] * 51}]), "fractions of its size"),
    ("a.csv", "frame,nose_x\n0,1\n", "expected columns nose_x and nose_y, got no nose_y; add it$"),
    ("a.csv", "frame,nose_x,nose_y\n0,1,b\n", "line 2: expected a number as nose_y, got 'b'; correct the line$"),
    ("a.csv", "frame,nose_x,nose_y\n0,1,2\n0,1,2\n", "line 2 and line 3 are both frame 0; correct or remove one$"),
    ("a.csv", "frame,nose_x,nose_y\n-1,1,2\n", "frames 0 to 3"),
    ("a.csv", "\x00\xff", "expected"),
    ("a.csv", "", "got an empty file$"),
    ("a.txt", "", r"a COCO \.json or a \.csv, got \.txt; convert the keypoints$"),
    ("p_000_keypoints.json", '{"people": 3}', "no list of people"),
])  # fmt: skip
def test_files_that_are_not_keypoints_are_refused(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=words):
        read_people(tmp_path if "people" in content else path, 4)


def test_a_folder_without_json_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no keypoints; expected OpenPose's files, .*, got "):
        read_people(tmp_path, 4)


def test_the_largest_person_or_the_nearest_to_the_previous_frame_is_chosen():
    """A passer-by comes closer to the camera than the dancer and is drawn larger."""
    dancer, passer_by = person(50, 50, 40), person(10, 50, 90)
    frames = [
        dancer[None],
        np.stack([passer_by, dancer]),
        np.zeros((0, len(JOINTS), 3), np.float32),
        np.stack([passer_by, dancer]),
    ]
    largest = choose_person(frames, how="largest", confidence=0.1)
    nearest = choose_person(frames, how="nearest", confidence=0.1)
    assert largest[:, 0, 0].tolist() == [50, 10, 0, 10] and nearest[:, 0, 0].tolist() == [50, 50, 0, 50]


def test_joints_with_low_confidence_are_treated_as_missing():
    uncertain = person(50, 50, confidence=0.2)
    uncertain[3, 2] = 0.9
    assert (choose_person([uncertain[None]], how="largest", confidence=0.5)[0, :, 2] > 0).sum() == 1
    assert not choose_person([uncertain[None]], how="nearest", confidence=0.95).any()


def test_short_gaps_are_interpolated():
    poses = np.stack([person(x, 0) for x in range(0, 80, 10)])
    poses[[1, 3, 4, 5], 2] = 0
    filled = fill_gaps(poses, 2)
    assert filled[1, 2].tolist() == pytest.approx([10, poses[0, 2, 1], 1])
    assert not filled[3:6, 2].any()  # three frames are too long a gap
    assert (fill_gaps(poses, 3)[:, 2, 0] == np.arange(0, 80, 10)).all()
    assert np.array_equal(fill_gaps(poses, 0), poses)


def test_smoothing_flattens_a_jump_and_keeps_a_straight_line():
    poses = np.stack([person(x, 0) for x in range(0, 400, 10)])
    jumpy = poses.copy()
    jumpy[20, :, 0] += 30
    jumpy[5, 4] = 0
    smoothed = smooth(jumpy, 2)
    weights = np.exp(-0.5 * (np.arange(-6, 7) / 2) ** 2)
    assert smoothed[20, 0, 0] == pytest.approx(200 + 30 / weights.sum(), abs=0.01)  # the Gaussian's middle weight
    assert np.abs(smoothed[10:14, 0, 0] - poses[10:14, 0, 0]).max() < 1e-3
    assert not smoothed[5, 4].any() and np.array_equal(smooth(jumpy, 0), jumpy)
