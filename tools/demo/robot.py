"""The robot scene of the demo data, in the Lab 5 layout: draws the states of pushing.py and writes their files.

The camera looks from the front and above. Objects and gripper are prisms, painted from far to near. The lamp is at the back on
the left, so that the gripper's shadow shows its height. N objects, C corners.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from tools.demo.pushing import JAW, SQUARE, SQUARE_NORMALS, TRAY, Object, State, edge_normals, random_episode
from utils import seed_for

SIZE, OVERSAMPLE = 64, 4  # side in pixels as written; drawn four times as large and averaged, which smooths the edges
CANVAS = SIZE * OVERSAMPLE
EYE, ZOOM = np.array([0.0, 1.66, 1.5]), 404.0  # the camera and its focal length in pixels of the canvas
CENTER = np.array([0.5, 0.51]) * CANVAS  # the pixel on the axis of the camera
SIN, COS = np.sin(np.radians(51)), np.cos(np.radians(51))  # of the angle by which the camera looks down
AXES = np.array([[1, 0, 0], [0, SIN, -COS], [0, -COS, -SIN]])  # columns: right, down, ahead
LAMP = np.array([-0.55, -0.3, 1.0])  # direction to the lamp, not normalized
SHOULDER = np.array([0.05, -0.34, 0.3])
UPPER_ARM, FOREARM, JAW_LENGTH, WRIST = 0.56, 0.58, 0.1, 0.17  # WRIST: its height above the tips of the jaws
PALM = np.array([0.105, 0.034])  # half of its sides
STEEL, ARM, BAND, RUBBER, SHADOW = (214, 218, 226), (62, 72, 98), (240, 132, 44), (44, 46, 54), 120

Color = tuple[int, int, int]


def project(points: np.ndarray) -> np.ndarray:
    """Return the pixels of the canvas (..., 2) of points (..., 3) in table units."""
    seen = (points - EYE) @ AXES
    return CENTER + ZOOM * seen[..., :2] / seen[..., 2:]


def at_heights(outline: np.ndarray, *heights: float) -> np.ndarray:
    """Return the points (heights, C, 3) of an outline (C, 2)."""
    points = np.empty((len(heights), len(outline), 3))
    points[..., :2] = outline
    points[..., 2] = np.array(heights)[:, None]
    return points


def tint(color: Color, light: float) -> Color:
    """Return the color times `light`."""
    red, green, blue = (min(255, int(channel * light)) for channel in color)
    return red, green, blue


def fill(draw: ImageDraw.ImageDraw, pixels: np.ndarray, color: Color | int) -> None:
    """Draw a filled polygon (C, 2)."""
    draw.polygon(pixels.ravel().tolist(), fill=color)


def paint_prism(
    draw: ImageDraw.ImageDraw, outline: np.ndarray, normals: np.ndarray, low: float, high: float, color: Color
) -> None:
    """Draw an upright prism: the faces that the camera sees, each in its own light, and the top."""
    pixels = project(at_heights(outline, low, high))  # (2, C, 2)
    lights = 0.66 + 0.24 * (normals @ (LAMP[:2] / np.hypot(*LAMP[:2])))
    for i in np.flatnonzero(((EYE[:2] - outline) * normals).sum(axis=1) > 0):
        j = (i + 1) % len(outline)
        fill(draw, pixels[[0, 0, 1, 1], [i, j, j, i]], tint(color, lights[i]))
    fill(draw, pixels[1], tint(color, 1.08))


def paint_object(draw: ImageDraw.ImageDraw, item: Object, position: np.ndarray) -> None:
    """Draw an object with its label on top."""
    paint_prism(draw, item.outline + position, item.normals, 0, item.height, item.color)
    fill(draw, project(at_heights(0.5 * item.outline + position, item.height))[0], item.label)


def paint_link(draw: ImageDraw.ImageDraw, a: np.ndarray, b: np.ndarray, width: float, color: Color) -> None:
    """Draw a round link between two pixels, (2,) each: dark, full and light strokes on top of each other."""
    for share, shift, light in [(1.0, 0.0, 0.62), (0.76, -0.07, 1.0), (0.26, -0.17, 1.5)]:
        w = width * share
        (x0, y0), (x1, y1) = a + shift * width, b + shift * width
        shade = tint(color, light)
        draw.line([x0, y0, x1, y1], fill=shade, width=round(w))
        for x, y in ((x0, y0), (x1, y1)):
            draw.ellipse([x - w / 2, y - w / 2, x + w / 2, y + w / 2], fill=shade)


def elbow_position(wrist: np.ndarray) -> np.ndarray:
    """Return the elbow (3,) between shoulder and wrist (3,): both links keep their length, and the elbow points up."""
    way = wrist - SHOULDER
    length = min(float(np.linalg.norm(way)), UPPER_ARM + FOREARM)
    along = (UPPER_ARM**2 - FOREARM**2 + length**2) / (2 * length)
    aside = np.sqrt(max(0.0, UPPER_ARM**2 - along**2))
    way = way / np.linalg.norm(way)
    up = np.array([0.0, 0.0, 1.0]) - way[2] * way
    return SHOULDER + along * way + aside * up / np.linalg.norm(up)


def jaw_outlines(gripper: np.ndarray) -> list[np.ndarray]:
    """Return the outlines (4, 2) of the left and the right jaw."""
    return [gripper[:2] + [side * (gripper[3] + JAW[0]) / 2, 0] + SQUARE * JAW / 2 for side in (-1, 1)]


def paint_robot(draw: ImageDraw.ImageDraw, gripper: np.ndarray) -> None:
    """Draw jaws, palm and arm."""
    z, wrist = gripper[2], gripper[:3] + [0, 0, WRIST]
    for jaw in jaw_outlines(gripper):
        paint_prism(draw, jaw, SQUARE_NORMALS, z, z + 0.03, STEEL)
        paint_prism(draw, jaw, SQUARE_NORMALS, z + 0.03, z + JAW_LENGTH, RUBBER)
    paint_prism(draw, gripper[:2] + SQUARE * PALM, SQUARE_NORMALS, z + JAW_LENGTH, z + JAW_LENGTH + 0.03, BAND)
    shoulder, elbow, hinge = project(np.array([SHOULDER, elbow_position(wrist), wrist]))
    paint_link(draw, shoulder, elbow, 30, ARM)
    paint_link(draw, elbow, hinge, 25, ARM)
    paint_link(draw, elbow, elbow, 20, BAND)
    paint_link(draw, hinge, hinge, 19, STEEL)


def shadow_mask(objects: list[Object], state: State) -> Image.Image:
    """Return the shadows on the table as a mask of the canvas's size; they are drawn small, which softens them."""
    mask = Image.new("L", (CANVAS // 2, CANVAS // 2))
    draw = ImageDraw.Draw(mask)
    gripper, wrist = state.gripper, state.gripper[:3] + [0, 0, WRIST]

    def cast(points: np.ndarray) -> np.ndarray:
        return project(points - points[..., 2:] * (LAMP / LAMP[2])) / 2

    solids = [(item.outline + position, 0, item.height) for item, position in zip(objects, state.positions)]
    solids += [(jaw, gripper[2], gripper[2] + JAW_LENGTH) for jaw in jaw_outlines(gripper)]
    solids += [(gripper[:2] + SQUARE * PALM, gripper[2] + JAW_LENGTH, gripper[2] + JAW_LENGTH + 0.03)]
    for outline, low, high in solids:
        for section in cast(at_heights(outline, *np.linspace(low, high, 4))):
            fill(draw, section, SHADOW)
    body = SHOULDER - [0, 1, 0]  # beyond the upper edge of the image
    arm = np.array([body, SHOULDER, elbow_position(wrist), wrist])
    draw.line(cast(arm).ravel().tolist(), fill=SHADOW, width=11, joint="curve")
    return mask.reduce(2).resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)


@cache
def tray() -> Image.Image:
    """Return the empty wooden tray on a dark floor; callers draw on a copy."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[0:CANVAS, 0:CANVAS] + 0.5
    # The point of the table in each pixel: the ray through the pixel, followed down to z = 0.
    rays = np.stack([(u - CENTER[0]) / ZOOM, (v - CENTER[1]) / ZOOM, np.ones_like(u)], axis=-1) @ AXES.T
    x, y = np.moveaxis(EYE[:2] - EYE[2] * rays[..., :2] / rays[..., 2:], -1, 0)
    board = np.floor((y + 0.02) / 0.127)
    grain = np.sin(90 * y + 3 * np.sin(5 * x + 2 * board) + 11 * np.sin(7 * board)) * np.sin(3 * x + 5 * board)
    tone = 1.0 + 0.05 * np.sin(37.7 * board) + 0.035 * grain + rng.normal(0, 0.012, x.shape)
    tone *= np.where((y + 0.02) % 0.127 < 0.007, 0.82, 1.0) * (1.06 - 0.22 * np.hypot(x + 0.25, y - 0.2))
    wood = np.array([222, 184, 134.0]) * tone[..., None]
    floor = np.array([70, 76, 92.0]) * (1.0 + 0.1 * np.sin(40 * x) * np.sin(40 * y) - 0.15 * v / CANVAS)[..., None]
    on_wood = (np.abs(x) < 0.5) & (y > TRAY[0, 1]) & (y < TRAY[1, 1])
    canvas = Image.fromarray(np.where(on_wood[..., None], wood, floor).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    (left, back), (right, front) = TRAY
    for x0, x1, y0, y1, low, high in [
        (left - 0.04, right + 0.04, back - 0.04, back, 0, 0.09),
        (left - 0.04, left, back - 0.04, front, 0, 0.09),
        (right, right + 0.04, back - 0.04, front, 0, 0.09),
        (left - 0.04, right + 0.04, front, front + 0.04, -0.06, 0.02),
    ]:
        corners = np.array([[x0, y1], [x0, y0], [x1, y0], [x1, y1]])
        paint_prism(draw, corners, edge_normals(corners), low, high, (186, 134, 88))
    return canvas.filter(ImageFilter.GaussianBlur(0.7))


def draw_frame(objects: list[Object], state: State) -> Image.Image:
    """Return one frame, SIZE x SIZE."""
    canvas = tray().copy()
    canvas.paste((40, 26, 22), mask=shadow_mask(objects, state))
    draw = ImageDraw.Draw(canvas)
    far_to_near = sorted(range(len(objects)), key=lambda i: state.positions[i][1])
    in_front = [i for i in far_to_near if state.positions[i][1] + objects[i].outline[:, 1].min() > state.gripper[1]]
    for i in far_to_near:
        if i not in in_front:
            paint_object(draw, objects[i], state.positions[i])
    paint_robot(draw, state.gripper)
    for i in in_front:
        paint_object(draw, objects[i], state.positions[i])
    return canvas.reduce(OVERSAMPLE)


def write_sequence(seed: int, frames: int, folder: Path, *, bar: tqdm) -> None:
    """Render one sequence into its folder: 0.png and so on, actions.csv and endeffector_positions.csv."""
    objects, states, actions = random_episode(frames, np.random.default_rng(seed))
    folder.mkdir(parents=True)
    for t, state in enumerate(states):
        draw_frame(objects, state).save(folder / f"{t}.png", compress_level=1)
        bar.update()
    np.savetxt(folder / "actions.csv", actions, fmt="%.6f", delimiter=",")
    np.savetxt(folder / "endeffector_positions.csv", [state.gripper[:3] for state in states], fmt="%.6f", delimiter=",")


def plan_videos(root: Path, *, seed: int, train: int, val: int, test: int, frames: int) -> list[tuple[int, Callable]]:
    """Return (frames, write) per sequence, where write(bar=...) draws and saves it under root.

    Sequence k of a split depends on the seed alone, not on the number of sequences. 64 sequences share a folder.
    """
    plan: list[tuple[int, Callable]] = []
    for split, count in [("train", train), ("validate", val), ("test", test)]:
        for k in range(count):
            first = k - k % 64
            folder = root / split / f"traj_{first}_to_{min(first + 64, count) - 1}" / str(k)
            plan.append((frames, partial(write_sequence, seed_for(seed, "demo", "robot", split, k), frames, folder)))
    return plan
