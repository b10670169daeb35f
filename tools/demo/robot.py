"""The robot scene of the demo data, in the Lab 5 layout: pictures of demo_pushing.py and their files.

Seen from the front and above. Things and hand are prisms, painted from the far ones to the near ones; the lamp stands at
the back on the left, so that a shadow tells how high the hand is.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from tools.demo.pushing import JAW, SQUARE, SQUARE_NORMALS, TRAY, State, Thing, edge_normals, episode
from utils import seed_for

SIZE, OVERSAMPLE = 64, 4  # pixels written; drawn at four times that and averaged, which smooths the edges
CANVAS = SIZE * OVERSAMPLE
EYE, ZOOM = np.array([0.0, 1.66, 1.5]), 404.0  # the camera and its lens
CENTRE = np.array([0.5, 0.51]) * CANVAS  # where its axis meets the picture
SIN, COS = np.sin(np.radians(51)), np.cos(np.radians(51))  # of the angle by which it looks down
AXES = np.array([[1, 0, 0], [0, SIN, -COS], [0, -COS, -SIN]])  # columns: right, down, ahead
LAMP = np.array([-0.55, -0.3, 1.0])  # direction to the lamp, up to its length
SHOULDER = np.array([0.05, -0.34, 0.3])
UPPER_ARM, FOREARM, JAW_LENGTH, WRIST = 0.56, 0.58, 0.1, 0.17  # the wrist is that far above the tips of the jaws
PALM = np.array([0.105, 0.034])  # half its sides
STEEL, ARM, BAND, RUBBER, SHADOW = (214, 218, 226), (62, 72, 98), (240, 132, 44), (44, 46, 54), 120


def project(points: np.ndarray) -> np.ndarray:
    """Points (..., 3) on the table -> pixels of the canvas (..., 2)."""
    seen = (points - EYE) @ AXES
    return CENTRE + ZOOM * seen[..., :2] / seen[..., 2:]


def at_heights(outline: np.ndarray, *heights: float) -> np.ndarray:
    """Outline (corners, 2) -> points (heights, corners, 3)."""
    points = np.empty((len(heights), len(outline), 3))
    points[..., :2] = outline
    points[..., 2] = np.array(heights)[:, None]
    return points


def tint(colour: tuple[int, int, int], light: float) -> tuple[int, int, int]:
    """The colour in that much light."""
    return tuple(min(255, int(channel * light)) for channel in colour)


def fill(draw: ImageDraw.ImageDraw, pixels: np.ndarray, colour) -> None:
    """A filled polygon (corners, 2)."""
    draw.polygon(pixels.ravel().tolist(), fill=colour)


def paint_prism(draw: ImageDraw.ImageDraw, outline: np.ndarray, normals: np.ndarray, low: float, high: float, colour) -> None:
    """An upright prism: the faces that the camera sees, each in its own light, and the top."""
    pixels = project(at_heights(outline, low, high))  # (2, corners, 2)
    lights = 0.66 + 0.24 * (normals @ (LAMP[:2] / np.hypot(*LAMP[:2])))
    for i in np.flatnonzero(((EYE[:2] - outline) * normals).sum(axis=1) > 0):
        j = (i + 1) % len(outline)
        fill(draw, pixels[[0, 0, 1, 1], [i, j, j, i]], tint(colour, lights[i]))
    fill(draw, pixels[1], tint(colour, 1.08))


def paint_thing(draw: ImageDraw.ImageDraw, thing: Thing, place: np.ndarray) -> None:
    """A thing with its label on top."""
    paint_prism(draw, thing.outline + place, thing.normals, 0, thing.height, thing.colour)
    fill(draw, project(at_heights(0.5 * thing.outline + place, thing.height))[0], thing.mark)


def paint_link(draw: ImageDraw.ImageDraw, a: np.ndarray, b: np.ndarray, width: float, colour: tuple) -> None:
    """A round link between two pixels, (2,) each: dark, full and light strokes over each other."""
    for share, shift, light in [(1.0, 0.0, 0.62), (0.76, -0.07, 1.0), (0.26, -0.17, 1.5)]:
        w = width * share
        (x0, y0), (x1, y1) = a + shift * width, b + shift * width
        shade = tint(colour, light)
        draw.line([x0, y0, x1, y1], fill=shade, width=round(w))
        for x, y in ((x0, y0), (x1, y1)):
            draw.ellipse([x - w / 2, y - w / 2, x + w / 2, y + w / 2], fill=shade)


def elbow_of(wrist: np.ndarray) -> np.ndarray:
    """The elbow (3,) between shoulder and wrist: both links keep their length, and the elbow points up."""
    way = wrist - SHOULDER
    length = min(np.linalg.norm(way), UPPER_ARM + FOREARM)
    along = (UPPER_ARM**2 - FOREARM**2 + length**2) / (2 * length)
    aside = np.sqrt(max(0.0, UPPER_ARM**2 - along**2))
    way = way / np.linalg.norm(way)
    up = np.array([0.0, 0.0, 1.0]) - way[2] * way
    return SHOULDER + along * way + aside * up / np.linalg.norm(up)


def jaw_outlines(hand: np.ndarray) -> list[np.ndarray]:
    """Outlines (4, 2) of the left and the right jaw."""
    return [hand[:2] + [side * (hand[3] + JAW[0]) / 2, 0] + SQUARE * JAW / 2 for side in (-1, 1)]


def paint_robot(draw: ImageDraw.ImageDraw, hand: np.ndarray) -> None:
    """Jaws, palm and arm."""
    z, wrist = hand[2], hand[:3] + [0, 0, WRIST]
    for jaw in jaw_outlines(hand):
        paint_prism(draw, jaw, SQUARE_NORMALS, z, z + 0.03, STEEL)
        paint_prism(draw, jaw, SQUARE_NORMALS, z + 0.03, z + JAW_LENGTH, RUBBER)
    paint_prism(draw, hand[:2] + SQUARE * PALM, SQUARE_NORMALS, z + JAW_LENGTH, z + JAW_LENGTH + 0.03, BAND)
    shoulder, elbow, hinge = project(np.array([SHOULDER, elbow_of(wrist), wrist]))
    paint_link(draw, shoulder, elbow, 30, ARM)
    paint_link(draw, elbow, hinge, 25, ARM)
    paint_link(draw, elbow, elbow, 20, BAND)
    paint_link(draw, hinge, hinge, 19, STEEL)


def shadows(things: list[Thing], state: State) -> Image.Image:
    """How dark the table is, as a mask of the canvas's size; drawn small, which softens it."""
    mask = Image.new("L", (CANVAS // 2, CANVAS // 2))
    draw = ImageDraw.Draw(mask)
    hand, wrist = state.hand, state.hand[:3] + [0, 0, WRIST]

    def cast(points: np.ndarray) -> np.ndarray:
        return project(points - points[..., 2:] * (LAMP / LAMP[2])) / 2

    solids = [(thing.outline + place, 0, thing.height) for thing, place in zip(things, state.places)]
    solids += [(jaw, hand[2], hand[2] + JAW_LENGTH) for jaw in jaw_outlines(hand)]
    solids += [(hand[:2] + SQUARE * PALM, hand[2] + JAW_LENGTH, hand[2] + JAW_LENGTH + 0.03)]
    for outline, low, high in solids:
        for section in cast(at_heights(outline, *np.linspace(low, high, 4))):
            fill(draw, section, SHADOW)
    body = SHOULDER - [0, 1, 0]  # behind the picture's upper edge
    draw.line(cast(np.array([body, SHOULDER, elbow_of(wrist), wrist])).ravel().tolist(), fill=SHADOW, width=11, joint="curve")
    return mask.reduce(2).resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)


@cache
def tray() -> Image.Image:
    """The empty wooden tray on a dark floor."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[0:CANVAS, 0:CANVAS] + 0.5
    # Back from pixels to the table: the ray of a pixel, followed down to z = 0.
    rays = np.stack([(u - CENTRE[0]) / ZOOM, (v - CENTRE[1]) / ZOOM, np.ones_like(u)], axis=-1) @ AXES.T
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


def draw_frame(things: list[Thing], state: State) -> Image.Image:
    """The picture of one frame, SIZE x SIZE."""
    canvas = tray().copy()
    canvas.paste((40, 26, 22), mask=shadows(things, state))
    draw = ImageDraw.Draw(canvas)
    order = sorted(range(len(things)), key=lambda i: state.places[i][1])
    nearer = [i for i in order if state.places[i][1] + things[i].outline[:, 1].min() > state.hand[1]]
    for i in order:
        if i not in nearer:
            paint_thing(draw, things[i], state.places[i])
    paint_robot(draw, state.hand)
    for i in nearer:
        paint_thing(draw, things[i], state.places[i])
    return canvas.reduce(OVERSAMPLE)


def write_sequence(seed: int, frames: int, folder: Path, *, bar: tqdm) -> None:
    """Renders one sequence into its folder: 0.png and so on, actions.csv and endeffector_positions.csv."""
    things, states, actions = episode(frames, np.random.default_rng(seed))
    folder.mkdir(parents=True)
    for t, state in enumerate(states):
        draw_frame(things, state).save(folder / f"{t}.png", compress_level=1)
        bar.update()
    np.savetxt(folder / "actions.csv", actions, fmt="%.6f", delimiter=",")
    np.savetxt(folder / "endeffector_positions.csv", [state.hand[:3] for state in states], fmt="%.6f", delimiter=",")


def videos(root: Path, *, seed: int, train: int, val: int, test: int, frames: int) -> list[tuple[int, Callable]]:
    """What is to be rendered: (frames, write) per sequence, where write(bar=...) draws and saves it under root.

    Sequence k of a split depends on the seed alone and not on how many there are. 64 of them share a folder.
    """
    plan = []
    for split, count in [("train", train), ("validate", val), ("test", test)]:
        for k in range(count):
            first = k - k % 64
            folder = root / split / f"traj_{first}_to_{min(first + 64, count) - 1}" / str(k)
            plan.append((frames, partial(write_sequence, seed_for(seed, "demo", "robot", split, k), frames, folder)))
    return plan
