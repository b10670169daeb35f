"""Drawn poses, which have the colors and the line width of the course's labels."""

import numpy as np
import pytest
from PIL import Image

from poses.keypoint_files import OPENPOSE
from poses.skeleton import COLORS, JOINT_INDEX, JOINTS, LIMBS, draw_pose, poses_from_points
from tests.helpers.films import pose


def ink(image: Image.Image) -> np.ndarray:
    """Return the difference from white, (H, W, 3) in [0, 255]."""
    return 255 - np.asarray(image).astype(float)


def test_every_joint_has_a_color_and_a_limb():
    assert set(COLORS) == set(JOINTS) == {name for limb in LIMBS for name in limb}
    assert set(JOINTS) <= set(OPENPOSE[25])


def test_a_joint_is_a_disc_and_a_limb_is_translucent():
    """In an image with a height of 512 pixels, the radius is 4.3, as 8 is of 960. A limb has an opacity of 0.6."""
    image = np.asarray(draw_pose(pose(left_knee=(300, 100), left_ankle=(300, 300)), height=512, width=1024))
    assert tuple(image[102, 302]) == (255, 85, 0) and tuple(image[100, 306]) == (255, 255, 255)
    assert tuple(image[200, 300]) == (255, 153, 102)  # 0.6 * (255, 85, 0) + 0.4 * 255
    assert (image[200, :, 2] < 255).sum() in (4, 5)  # width in pixels: twice half of 4.3
    assert tuple(image[200, 310]) == (255, 255, 255)


# Measured on the course's labels at 32 x 64. The ink in a row of a shin is 42 in its strongest channel (the medians over the rows of a
# standing dancer's shins are 41 to 47). The hues are those of the ink: 255 minus the color.
@pytest.mark.parametrize("limb, hue", [
    (("right_knee", "right_ankle"), (255, 0, 170)),  # the person's right shin is green, (0, 255, 85)
    (("left_knee", "left_ankle"), (0, 170, 255)),  # the left one orange, (255, 85, 0)
    (("left_shoulder", "left_elbow"), (255, 40, 0)),  # cyan
    (("right_shoulder", "right_elbow"), (255, 200, 0)),  # blue
    (("neck", "mid_hip"), (255, 255, 0)),  # pure blue
])  # fmt: skip
@pytest.mark.parametrize("height", [32, 128])
def test_limbs_have_the_hue_and_width_of_the_courses_labels(limb, hue, height):
    zoom = height // 32
    first, second = limb
    image = draw_pose(pose(**{first: (30 * zoom, 8 * zoom), second: (30.5 * zoom, 26 * zoom)}), height=height, width=2 * height)
    rows = ink(image.resize((64, 32), Image.Resampling.BILINEAR))[14:20].sum(1)  # (6, 3), away from both ends
    assert rows.max(axis=1).mean() == pytest.approx(42, rel=0.15)
    assert rows.mean(0) / rows.mean(0).max() * 255 == pytest.approx(hue, abs=8)


def test_missing_joints_and_their_limbs_are_not_drawn():
    """Without the ankle, only the knee of a shin is drawn. The image of a pose without joints is white."""
    whole = pose(left_hip=(30, 5), left_knee=(30, 15), left_ankle=(30, 25))
    lacking = whole.copy()
    lacking[JOINT_INDEX["left_ankle"], 2] = 0
    image = ink(draw_pose(lacking, height=32, width=64))
    assert image[18:].max() == 0 and image[8:14].max() > 0
    assert ink(draw_pose(pose(), height=32, width=64)).max() == 0


def test_a_pose_that_exceeds_the_image_is_clipped():
    image = ink(draw_pose(pose(left_knee=(-20, 16), left_ankle=(20, 16)), height=32, width=64))
    assert image[16, :18].max() > 0 and image[:, 24:].max() == 0
    assert ink(draw_pose(pose(left_knee=(-50, -50), left_ankle=(-60, -90)), height=32, width=64)).max() == 0


def test_neck_and_mid_hip_are_in_the_middle_between_both_sides():
    names = ["left_shoulder", "right_shoulder", "left_hip", "left_heel"]
    points = np.array([[10, 20, 0.9], [30, 24, 0.5], [10, 60, 0.9], [1, 1, 1]])
    body = poses_from_points(points, names)
    assert body[JOINT_INDEX["neck"]].tolist() == [20, 22, 0.5]
    assert body[JOINT_INDEX["mid_hip"], 2] == 0  # one hip is not enough
    assert poses_from_points(np.array([[1, 2, 0.7]]), ["neck"])[JOINT_INDEX["neck"]] == pytest.approx([1, 2, 0.7])
