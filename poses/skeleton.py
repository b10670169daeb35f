"""Pose images like those of the course's data: colored limbs on white.

A pose is (J, 3) float: x, y and confidence of each of JOINTS, in pixels. A joint with confidence 0 was not found.
Joints, limbs, colors and sizes are those of the pose images of Everybody Dance Now (Chan et al. 2019, arXiv 1808.07371), from
which the course's labels are derived. Its images also have the hands and the face; these are not drawn here.
"""

import numpy as np
from PIL import Image, ImageDraw

JOINTS = [
    "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "mid_hip",
    "right_hip", "right_knee", "right_ankle", "right_big_toe", "right_small_toe",
    "left_hip", "left_knee", "left_ankle", "left_big_toe", "left_small_toe",
    "nose", "right_eye", "right_ear", "left_eye", "left_ear",
]  # fmt: skip
COLORS = {
    "neck": (0, 0, 255), "right_shoulder": (0, 55, 255), "right_elbow": (0, 110, 255), "right_wrist": (0, 165, 255),
    "left_shoulder": (0, 215, 255), "left_elbow": (0, 235, 255), "left_wrist": (0, 255, 255), "mid_hip": (0, 0, 255),
    "right_hip": (0, 255, 175), "right_knee": (0, 255, 85), "right_ankle": (0, 255, 0), "right_big_toe": (85, 255, 0),
    "right_small_toe": (170, 255, 0), "left_hip": (128, 25, 25), "left_knee": (255, 85, 0), "left_ankle": (255, 170, 0),
    "left_big_toe": (255, 212, 0), "left_small_toe": (255, 255, 0), "nose": (0, 0, 255), "right_eye": (255, 0, 255),
    "right_ear": (238, 130, 238), "left_eye": (226, 43, 138), "left_ear": (130, 0, 75),
}  # fmt: skip
# In drawing order. A limb has the color of its first joint.
LIMBS = [
    ("neck", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("neck", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("neck", "mid_hip"),
    ("mid_hip", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"), ("right_ankle", "right_big_toe"),
    ("right_ankle", "right_small_toe"), ("mid_hip", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("left_ankle", "left_big_toe"), ("left_ankle", "left_small_toe"), ("neck", "nose"), ("nose", "right_eye"),
    ("right_eye", "right_ear"), ("nose", "left_eye"), ("left_eye", "left_ear"),
]  # fmt: skip
JOINT_INDEX = {name: i for i, name in enumerate(JOINTS)}
CANVAS_HEIGHT = 512  # pixels; about the least height of a drawing before it is averaged
JOINT_RADIUS = 8 / 960  # of the image height: discs with a radius of 8 pixels in frames of 1920 x 960
LIMB_OPACITY = 0.6


def draw_pose(pose: np.ndarray, *, height: int, width: int) -> Image.Image:
    """Return an image of the pose (J, 3) with height x width pixels.

    It has a disc on each joint, and over the discs translucent ellipses, half as thick, from joint to joint. Joints that were not
    found are not drawn, nor are their limbs.
    """
    # Lines are thinner than a pixel of the course's 32 x 64 images. Averaging a large drawing gives each pixel its share of ink.
    zoom = max(1, CANVAS_HEIGHT // height)
    canvas = Image.new("RGB", (width * zoom, height * zoom), "white")
    draw, radius = ImageDraw.Draw(canvas), JOINT_RADIUS * canvas.height
    points, found = pose[:, :2] * zoom, pose[:, 2] > 0
    for i in np.flatnonzero(found):
        draw.ellipse([*(points[i] - radius), *(points[i] + radius)], fill=COLORS[JOINTS[i]])
    for names in LIMBS:
        first, second = (JOINT_INDEX[name] for name in names)
        if found[first] and found[second]:
            # Pillow fills every pixel that an outline crosses, so half a pixel of the diameter is subtracted.
            draw_limb(canvas, points[first], points[second], radius / 2 - 0.25, COLORS[names[0]])
    return canvas.reduce(zoom)


def draw_limb(canvas: Image.Image, a: np.ndarray, b: np.ndarray, thickness: float, color: tuple[int, int, int]) -> None:
    """Draw a translucent ellipse from a to b onto the canvas; `thickness` is its semi-minor axis in pixels."""
    center, half = (a + b) / 2, (b - a) / 2
    length = max(float(np.hypot(*half)), 1e-6)
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    across = np.array([-half[1], half[0]]) * thickness / length
    outline = center + np.outer(np.cos(angles), half) + np.outer(np.sin(angles), across)  # (48, 2)
    corner = np.floor(outline.min(0)).clip(0).astype(int)
    size = np.minimum(np.ceil(outline.max(0)) + 1, canvas.size).astype(int) - corner
    if (size > 0).all():  # else it is outside the canvas
        mask = Image.new("L", tuple(size.tolist()))
        ImageDraw.Draw(mask).polygon([tuple(point) for point in outline - corner], fill=round(255 * LIMB_OPACITY))
        canvas.paste(color, tuple(corner.tolist()), mask)


def poses_from_points(points: np.ndarray, names: list[str]) -> np.ndarray:
    """Convert points (..., K, 3) with K `names` to poses (..., J, 3).

    Points whose names are not in JOINTS are dropped. A missing neck or mid-hip is placed in the middle between the shoulders or
    the hips.
    """
    poses = np.zeros((*points.shape[:-2], len(JOINTS), 3), dtype=np.float32)
    for i, name in enumerate(names):
        if name in JOINT_INDEX:
            poses[..., JOINT_INDEX[name], :] = points[..., i, :]
    poses[poses[..., 2] <= 0] = 0
    for middle, sides in {"neck": "shoulder", "mid_hip": "hip"}.items():
        left, right = poses[..., JOINT_INDEX[f"left_{sides}"], :], poses[..., JOINT_INDEX[f"right_{sides}"], :]
        between = (left + right) / 2
        between[..., 2] = np.minimum(left[..., 2], right[..., 2])
        missing = (poses[..., JOINT_INDEX[middle], 2] == 0) & (between[..., 2] > 0)
        poses[..., JOINT_INDEX[middle], :] = np.where(missing[..., None], between, poses[..., JOINT_INDEX[middle], :])
    return poses
