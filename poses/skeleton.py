"""Pose images as the course's data have them: coloured limbs on white.

A pose is (J, 3) float: across, down, confidence of each of JOINTS, in pixels; confidence 0 is a joint that was not found.
Joints, limbs, colours and sizes are those of the drawings of Everybody Dance Now (Chan et al. 2019, arXiv 1808.07371), from
which the course's labels come. The hands and face that are drawn there too are left out.
"""

import numpy as np
from PIL import Image, ImageDraw

JOINTS = [
    "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "mid_hip",
    "right_hip", "right_knee", "right_ankle", "right_big_toe", "right_small_toe",
    "left_hip", "left_knee", "left_ankle", "left_big_toe", "left_small_toe",
    "nose", "right_eye", "right_ear", "left_eye", "left_ear",
]  # fmt: skip
COLOURS = {
    "neck": (0, 0, 255), "right_shoulder": (0, 55, 255), "right_elbow": (0, 110, 255), "right_wrist": (0, 165, 255),
    "left_shoulder": (0, 215, 255), "left_elbow": (0, 235, 255), "left_wrist": (0, 255, 255), "mid_hip": (0, 0, 255),
    "right_hip": (0, 255, 175), "right_knee": (0, 255, 85), "right_ankle": (0, 255, 0), "right_big_toe": (85, 255, 0),
    "right_small_toe": (170, 255, 0), "left_hip": (128, 25, 25), "left_knee": (255, 85, 0), "left_ankle": (255, 170, 0),
    "left_big_toe": (255, 212, 0), "left_small_toe": (255, 255, 0), "nose": (0, 0, 255), "right_eye": (255, 0, 255),
    "right_ear": (238, 130, 238), "left_eye": (226, 43, 138), "left_ear": (130, 0, 75),
}  # fmt: skip
# In the order of drawing; a limb has the colour of its first joint.
LIMBS = [
    ("neck", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("neck", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("neck", "mid_hip"),
    ("mid_hip", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"), ("right_ankle", "right_big_toe"),
    ("right_ankle", "right_small_toe"), ("mid_hip", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("left_ankle", "left_big_toe"), ("left_ankle", "left_small_toe"), ("neck", "nose"), ("nose", "right_eye"),
    ("right_eye", "right_ear"), ("nose", "left_eye"), ("left_eye", "left_ear"),
]  # fmt: skip
INDEX = {name: i for i, name in enumerate(JOINTS)}
CANVAS = 512  # pixels that a drawing is high at least, before it is averaged
JOINT_RADIUS = 8 / 960  # of the picture's height: discs of 8 pixels in frames of 1920 x 960
LIMB_OPACITY = 0.6


def draw_pose(pose: np.ndarray, *, height: int, width: int) -> Image.Image:
    """The pose (J, 3) in a picture of height x width pixels: a disc on each joint, then thin ellipses from joint to joint, half
    as thick, which shine through. What was not found is left out, with the limbs that end there."""
    # Lines are thinner than a pixel of the course's 32 x 64: drawn large and averaged, each pixel gets its share.
    zoom = max(1, CANVAS // height)
    canvas = Image.new("RGB", (width * zoom, height * zoom), "white")
    draw, radius = ImageDraw.Draw(canvas), JOINT_RADIUS * canvas.height
    place, found = pose[:, :2] * zoom, pose[:, 2] > 0
    for i in np.flatnonzero(found):
        draw.ellipse([*(place[i] - radius), *(place[i] + radius)], fill=COLOURS[JOINTS[i]])
    for names in LIMBS:
        first, second = (INDEX[name] for name in names)
        if found[first] and found[second]:
            # A pixel that an outline crosses counts as inside, so half of one is taken off.
            lay_limb(canvas, place[first], place[second], radius / 2 - 0.25, COLOURS[names[0]])
    return canvas.reduce(zoom)


def lay_limb(canvas: Image.Image, a: np.ndarray, b: np.ndarray, thickness: float, colour: tuple[int, int, int]) -> None:
    """An ellipse from a to b whose smaller half axis is `thickness`, over what is there."""
    middle, half = (a + b) / 2, (b - a) / 2
    length = max(float(np.hypot(*half)), 1e-6)
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    across = np.array([-half[1], half[0]]) * thickness / length
    outline = middle + np.outer(np.cos(turn), half) + np.outer(np.sin(turn), across)  # (48, 2)
    corner = np.floor(outline.min(0)).clip(0).astype(int)
    size = np.minimum(np.ceil(outline.max(0)) + 1, canvas.size).astype(int) - corner
    if (size > 0).all():  # else it lies outside
        mask = Image.new("L", tuple(size.tolist()))
        ImageDraw.Draw(mask).polygon([tuple(point) for point in outline - corner], fill=round(255 * LIMB_OPACITY))
        canvas.paste(colour, tuple(corner.tolist()), mask)


def whole_body(points: np.ndarray, names: list[str]) -> np.ndarray:
    """Points (..., K, 3) called `names` -> poses (..., J, 3). Other names are left out; the neck is put between the shoulders and
    the middle of the hip between the hips where the points have none."""
    poses = np.zeros((*points.shape[:-2], len(JOINTS), 3), dtype=np.float32)
    for i, name in enumerate(names):
        if name in INDEX:
            poses[..., INDEX[name], :] = points[..., i, :]
    poses[poses[..., 2] <= 0] = 0
    for middle, sides in {"neck": "shoulder", "mid_hip": "hip"}.items():
        left, right = poses[..., INDEX[f"left_{sides}"], :], poses[..., INDEX[f"right_{sides}"], :]
        between = (left + right) / 2
        between[..., 2] = np.minimum(left[..., 2], right[..., 2])
        missing = (poses[..., INDEX[middle], 2] == 0) & (between[..., 2] > 0)
        poses[..., INDEX[middle], :] = np.where(missing[..., None], between, poses[..., INDEX[middle], :])
    return poses
