"""Pose images: the colours and the thickness of the course's own."""

import numpy as np
import pytest
from PIL import Image

from poses.keypoint_files import OPENPOSE
from poses.skeleton import COLORS, JOINT_INDEX, JOINTS, LIMBS, draw_pose, poses_from_points


def pose(**places) -> np.ndarray:
    """A pose with these joints found, name=(across, down)."""
    result = np.zeros((len(JOINTS), 3), dtype=np.float32)
    for name, place in places.items():
        result[JOINT_INDEX[name]] = [*place, 1]
    return result


def ink(picture: Image.Image) -> np.ndarray:
    """What is missing to white, (H, W, 3)."""
    return 255 - np.asarray(picture).astype(float)


def test_every_joint_has_a_colour_and_a_limb():
    assert set(COLORS) == set(JOINTS) == {name for limb in LIMBS for name in limb}
    assert set(JOINTS) <= set(OPENPOSE[25])


def test_a_joint_is_a_disc_and_a_limb_shines_through():
    """Drawn large: 8 of 960 pixels are 4.3 of 512; a limb covers 0.6 of white."""
    picture = np.asarray(draw_pose(pose(left_knee=(300, 100), left_ankle=(300, 300)), height=512, width=1024))
    assert tuple(picture[102, 302]) == (255, 85, 0) and tuple(picture[100, 306]) == (255, 255, 255)
    assert tuple(picture[200, 300]) == (255, 153, 102)  # 0.6 * (255, 85, 0) + 0.4 * 255
    assert (picture[200, :, 2] < 255).sum() in (4, 5)  # pixels across: twice half of 4.3
    assert tuple(picture[200, 310]) == (255, 255, 255)


# Of the course's labels at 32 x 64: what is missing to white in a row of a shin, of its strongest channel, is 42 on average (medians of
# the rows of a standing dancer's shins 41 to 47), and the colours that are left when the white is taken out again.
@pytest.mark.parametrize("limb, hue", [
    (("right_knee", "right_ankle"), (255, 0, 170)),  # the person's right shin is green, (0, 255, 85)
    (("left_knee", "left_ankle"), (0, 170, 255)),  # the left one orange, (255, 85, 0)
    (("left_shoulder", "left_elbow"), (255, 40, 0)),  # cyan
    (("right_shoulder", "right_elbow"), (255, 200, 0)),  # blue
    (("neck", "mid_hip"), (255, 255, 0)),  # pure blue
])  # fmt: skip
@pytest.mark.parametrize("height", [32, 128])
def test_limbs_have_the_hue_and_thickness_of_the_courses_labels(limb, hue, height):
    zoom = height // 32
    first, second = limb
    picture = draw_pose(pose(**{first: (30 * zoom, 8 * zoom), second: (30.5 * zoom, 26 * zoom)}), height=height, width=2 * height)
    rows = ink(picture.resize((64, 32), Image.Resampling.BILINEAR))[14:20].sum(1)  # (6, 3), away from both ends
    assert rows.max(axis=1).mean() == pytest.approx(42, rel=0.15)
    assert rows.mean(0) / rows.mean(0).max() * 255 == pytest.approx(hue, abs=8)


def test_missing_joints_are_left_out_with_their_limbs():
    """A shin without an ankle is a knee alone; nobody is a white picture."""
    whole = pose(left_hip=(30, 5), left_knee=(30, 15), left_ankle=(30, 25))
    lacking = whole.copy()
    lacking[JOINT_INDEX["left_ankle"], 2] = 0
    picture = ink(draw_pose(lacking, height=32, width=64))
    assert picture[18:].max() == 0 and picture[8:14].max() > 0
    assert ink(draw_pose(pose(), height=32, width=64)).max() == 0


def test_a_pose_beyond_the_picture_draws_what_is_inside():
    picture = ink(draw_pose(pose(left_knee=(-20, 16), left_ankle=(20, 16)), height=32, width=64))
    assert picture[16, :18].max() > 0 and picture[:, 24:].max() == 0
    assert ink(draw_pose(pose(left_knee=(-50, -50), left_ankle=(-60, -90)), height=32, width=64)).max() == 0


def test_neck_and_middle_of_the_hip_are_between_the_sides():
    names = ["left_shoulder", "right_shoulder", "left_hip", "heel of somebody"]
    points = np.array([[10, 20, 0.9], [30, 24, 0.5], [10, 60, 0.9], [1, 1, 1]])
    body = poses_from_points(points, names)
    assert body[JOINT_INDEX["neck"]].tolist() == [20, 22, 0.5]
    assert body[JOINT_INDEX["mid_hip"], 2] == 0  # one hip is not enough
    assert poses_from_points(np.array([[1, 2, 0.7]]), ["neck"])[JOINT_INDEX["neck"]] == pytest.approx([1, 2, 0.7])
