"""The dance scene of the demo data, in the LAB4_Dataset layout.

A dancer in a skirt performs random moves on a lit stage; the pose image is an OpenPose-like skeleton. Each input of a model
carries information that the others lack:
    pose            the positions of the limbs, and the direction in which the dancer faces
    previous frame  the glowing trail that the dancer leaves, and the swing of the skirt
    z               the sign on the wall, which turns on and off at random
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from utils import seed_for

WIDTH, HEIGHT, OVERSAMPLE = 256, 128, 2  # pixels as written; drawn twice as large and averaged, which smooths the edges
SCALE = 50.0  # written pixels per body unit, which is about half a meter
FLOOR = 0.88 * HEIGHT

# Angles of a pose in degrees: turn of the body, sideways lean, then three per limb: how far it is raised sideways and forward,
# and how far its joint is bent. (arm sideways, arm forward, elbow) left, right; (leg sideways, leg forward, knee) left, right.
MOVES = {
    "stand": [0, 0, 12, 0, 10, 12, 0, 10, 4, 0, 0, 4, 0, 0],
    "t pose": [0, 0, 90, 0, 0, 90, 0, 0, 14, 0, 0, 14, 0, 0],
    "arms up": [0, 0, 165, 0, 10, 165, 0, 10, 8, 0, 0, 8, 0, 0],
    "wave": [15, 6, 150, 0, 50, 20, 0, 20, 8, 0, 0, 8, 0, 0],
    "wave back": [165, -6, 20, 0, 20, 150, 0, 50, 8, 0, 0, 8, 0, 0],
    "disco": [-20, 12, 140, 0, 0, 40, 20, 60, 24, 0, 10, 10, 0, 25],
    "disco left": [20, -12, 40, 20, 60, 140, 0, 0, 10, 0, 25, 24, 0, 10],
    "squat": [0, 0, 70, 60, 20, 70, 60, 20, 28, 60, 100, 28, 60, 100],
    "lunge": [70, 0, 60, 30, 20, 50, -20, 20, 4, 65, 75, 4, -35, 25],
    "lunge left": [-70, 0, 50, -20, 20, 60, 30, 20, 4, -35, 25, 4, 65, 75],
    "kick": [40, -8, 80, 20, 10, 80, -20, 10, 6, 85, 10, 6, 0, 5],
    "side kick": [0, 16, 100, 0, 0, 70, 0, 40, 5, 0, 0, 65, 0, 5],
    "march": [35, 0, 10, 50, 70, 10, -40, 20, 4, 70, 90, 4, 0, 0],
    "march other": [-35, 0, 10, -40, 20, 10, 50, 70, 4, 0, 0, 4, 70, 90],
    "back turned": [180, 0, 110, 0, 60, 110, 0, 60, 12, 0, 0, 12, 0, 0],
    "profile": [90, 0, 15, 80, 10, 15, -50, 10, 4, 25, 15, 4, -20, 10],
    "other profile": [-90, 0, 15, -50, 10, 15, 80, 10, 4, -20, 10, 4, 25, 15],
}

SKIN, SHIRT, SKIRT = (232, 180, 145), (240, 190, 60), (210, 52, 72)
LEG, SHOE, HAIR = (120, 190, 200), (240, 240, 245), (60, 34, 26)
TRAIL, FADING = np.array([80.0, 60.0, 165.0]), 0.87  # color of the trail, and the share of it that remains one frame later
# Limbs of the skeleton with OpenPose's colors (Cao et al. 2019): right side warm, left side green to blue.
BONES = [
    ("neck", "hip", (255, 0, 0)),
    ("neck", "right shoulder", (255, 85, 0)),
    ("right shoulder", "right elbow", (255, 170, 0)),
    ("right elbow", "right hand", (255, 220, 0)),
    ("neck", "left shoulder", (170, 255, 0)),
    ("left shoulder", "left elbow", (85, 220, 0)),
    ("left elbow", "left hand", (0, 200, 0)),
    ("hip", "right hip", (0, 200, 85)),
    ("right hip", "right knee", (0, 220, 170)),
    ("right knee", "right foot", (0, 220, 255)),
    ("hip", "left hip", (0, 170, 255)),
    ("left hip", "left knee", (0, 85, 255)),
    ("left knee", "left foot", (0, 0, 255)),
    ("neck", "head", (170, 0, 255)),
]


class Scene(NamedTuple):
    """The state of the dancer and the stage in one frame."""

    angles: np.ndarray  # (14,) in degrees, as in MOVES
    position: float  # of the dancer across the stage, in pixels
    swing: float  # of the skirt's hem, in body units
    sign: bool  # whether the sign on the wall is lit


def choreography(frames: int, rng: np.random.Generator) -> list[Scene]:
    """Return one uninterrupted dance: random moves with smooth transitions; the skirt follows the body as a damped spring."""
    names = list(MOVES)
    start_angles, goal_angles = np.array(MOVES["stand"]), np.array(MOVES[rng.choice(names)])
    start_position, goal_position = 128.0, rng.uniform(60, 196)
    start, length = 0, int(rng.integers(10, 26))
    swing, speed, sign = 0.0, 0.0, bool(rng.random() < 0.5)
    scenes: list[Scene] = []
    for t in range(frames):
        if t - start >= length:
            start_angles, start_position = goal_angles, goal_position
            goal_angles = np.array(MOVES[rng.choice(names)]) + rng.normal(0, 6, 14)
            # Two out of three moves also carry the dancer across the stage.
            goal_position = rng.uniform(44, 212) if rng.random() < 0.66 else start_position
            start, length = t, int(rng.integers(10, 26))
        eased = 0.5 - 0.5 * np.cos(np.pi * (t - start + 1) / length)
        angles = start_angles + eased * (goal_angles - start_angles)
        position = start_position + eased * (goal_position - start_position)
        pull = 0.0
        if scenes:
            pull = (scenes[-1].position - position) / SCALE + (scenes[-1].angles[0] - angles[0]) / 300
        speed = 0.82 * speed - 0.16 * swing + 0.25 * pull + rng.normal(0, 0.01)
        swing = float(np.clip(swing + speed, -0.5, 0.5))
        sign ^= bool(rng.random() < 1 / 30)
        scenes.append(Scene(angles, position, swing, sign))
    return scenes


def joints(scene: Scene) -> dict[str, np.ndarray]:
    """Return the joint positions in pixels, (3,) each: across, down, toward the viewer. The lower foot is on the floor."""
    turn, lean = np.radians(scene.angles[:2])
    local = {"hip": np.zeros(3)}

    def limb(side: int, sideways: float, forward: float) -> np.ndarray:
        """Return the unit vector along a limb."""
        a, f = np.radians([sideways, forward])
        return np.array([side * np.sin(a), -np.cos(a) * np.cos(f), np.cos(a) * np.sin(f)])

    up = np.array([np.sin(lean), np.cos(lean), 0])
    local["neck"], local["head"] = 0.62 * up, 0.86 * up
    for side, name, arm, leg in [(-1, "right", 5, 11), (1, "left", 2, 8)]:
        across = np.array([side * np.cos(lean), -side * np.sin(lean), 0])
        raised, forward, bend = scene.angles[arm : arm + 3]
        local[f"{name} shoulder"] = local["neck"] + 0.2 * across - 0.04 * up
        local[f"{name} elbow"] = local[f"{name} shoulder"] + 0.32 * limb(side, raised, forward)
        local[f"{name} hand"] = local[f"{name} elbow"] + 0.32 * limb(side, raised + 0.4 * bend, forward + bend)
        raised, forward, bend = scene.angles[leg : leg + 3]
        local[f"{name} hip"] = 0.12 * across
        local[f"{name} knee"] = local[f"{name} hip"] + 0.44 * limb(side, raised, forward)
        local[f"{name} foot"] = local[f"{name} knee"] + 0.46 * limb(side, raised, forward - bend)
    ground = min(local["left foot"][1], local["right foot"][1])
    turned = {}
    for name, (x, y, z) in local.items():
        x, z = x * np.cos(turn) + z * np.sin(turn), z * np.cos(turn) - x * np.sin(turn)
        turned[name] = np.array([scene.position + SCALE * x, FLOOR - SCALE * (y - ground), SCALE * z])
    return turned


def stage() -> np.ndarray:
    """Return the empty stage, (H, W, 3) float: a paneled wall with the glow of a lamp, and a wooden floor."""
    y, x = np.mgrid[0 : HEIGHT * OVERSAMPLE, 0 : WIDTH * OVERSAMPLE] / OVERSAMPLE
    wall = np.array([74, 70, 100.0]) * (1.12 - 0.45 * np.hypot((x - 80) / WIDTH, (y - 20) / HEIGHT))[..., None]
    wall *= np.where((x % 32) < 1.5, 0.86, 1.0)[..., None]
    wall += np.exp(-((x - 70) ** 2 + (y - 30) ** 2) / (2 * 26.0**2))[..., None] * np.array([64, 54, 34.0])
    depth = np.clip((y - 0.74 * HEIGHT) / (0.26 * HEIGHT), 0, 1)
    boards = np.where(((x - 128) / (0.5 + depth) % 24) < 1.2, 0.85, 1.0)
    floor = np.array([150, 108, 72.0]) * ((0.75 + 0.35 * depth) * boards * (1.05 - 0.3 * np.abs(x - 100) / WIDTH))[..., None]
    return np.where((y < 0.74 * HEIGHT)[..., None], wall, floor)


def add_sign(image: np.ndarray, *, lit: bool) -> None:
    """Add the sign and its halo to the wall of a float image (H, W, 3), in place."""
    y, x = np.ogrid[0 : HEIGHT * OVERSAMPLE, 0 : WIDTH * OVERSAMPLE]
    y, x = y / OVERSAMPLE, x / OVERSAMPLE
    sign = (np.abs(x - 216) < 15) & (np.abs(y - 26) < 8)
    halo = np.exp(-(((x - 216) / 22) ** 2 + ((y - 26) / 14) ** 2))
    image += halo[..., None] * np.array([5, 12, 14.0]) * lit
    image[sign] = [86, 178, 192] if lit else [62, 92, 108]


def stroke(draw: ImageDraw.ImageDraw, a: np.ndarray, b: np.ndarray, width: float, color: tuple[int, int, int]) -> None:
    """Draw a rounded limb, shaded as if lit from the upper left: dark, full and light strokes on top of each other."""
    for share, shift, light in [(1.0, 0.0, 0.62), (0.78, -0.09, 1.0), (0.3, -0.2, 1.28)]:
        w = OVERSAMPLE * width * share
        (x0, y0), (x1, y1) = (OVERSAMPLE * (point[:2] + shift * width) for point in (a, b))
        tint = tuple(int(min(255, channel * light)) for channel in color)
        draw.line([x0, y0, x1, y1], fill=tint, width=max(1, round(w)))
        for x, y in ((x0, y0), (x1, y1)):
            draw.ellipse([x - w / 2, y - w / 2, x + w / 2, y + w / 2], fill=tint)


def paint_leg(draw: ImageDraw.ImageDraw, *, hip: np.ndarray, knee: np.ndarray, foot: np.ndarray) -> None:
    """Draw thigh, shin and shoe."""
    stroke(draw, hip, knee, 8.5, LEG)
    stroke(draw, knee, foot, 7, LEG)
    stroke(draw, foot, foot + [1, 0, 0], 7, SHOE)


def paint_arm(draw: ImageDraw.ImageDraw, *, shoulder: np.ndarray, elbow: np.ndarray, hand: np.ndarray) -> None:
    """Draw sleeve and bare forearm."""
    stroke(draw, shoulder, elbow, 6.5, SHIRT)
    stroke(draw, elbow, hand, 5.2, SKIN)


def paint_torso(draw: ImageDraw.ImageDraw, body: dict[str, np.ndarray], scene: Scene) -> None:
    """Draw the shirt, narrower from the side, and the skirt over it."""
    facing = np.cos(np.radians(scene.angles[0]))
    stroke(draw, body["neck"] + [0, 3, 0], body["hip"], 11 + 4 * abs(facing), SHIRT)
    paint_skirt(draw, body, scene.swing)


def paint_head(draw: ImageDraw.ImageDraw, body: dict[str, np.ndarray], scene: Scene) -> None:
    """Draw neck and hair, and the face unless it is turned away."""
    turn = np.radians(scene.angles[0])
    head = body["head"]
    stroke(draw, body["neck"], head, 5, SKIN)
    stroke(draw, head, head, 13, HAIR)
    if np.cos(turn) > -0.3:
        face = head + [2.5 * np.sin(turn), 1.5, 0]
        stroke(draw, face, face, 9.5, SKIN)


def paint_skirt(draw: ImageDraw.ImageDraw, body: dict[str, np.ndarray], swing: float) -> None:
    """Draw the skirt as a bell from the waist to above the knees, with three folds; its hem lags behind the body."""
    waist = body["hip"][:2] + [0, -0.08 * SCALE]
    knees = 0.5 * (body["left knee"] + body["right knee"])[:2]
    hem = body["hip"][:2] + 0.85 * (knees - body["hip"][:2]) + [swing * SCALE, 0]
    spread = 0.3 * SCALE + 0.45 * abs(body["left knee"][0] - body["right knee"][0])
    for share, light in [(1.0, 0.65), (0.86, 1.0), (0.45, 1.2), (0.2, 0.85)]:
        left, right = -share * spread - 0.03 * spread, share * spread * 0.9
        shape = [waist + [-0.16 * SCALE * share, 0], waist + [0.16 * SCALE * share, 0], hem + [right, 0], hem + [left, 0]]
        draw.polygon([tuple(OVERSAMPLE * point) for point in shape], fill=tuple(int(min(255, c * light)) for c in SKIRT))


def draw_frame(background: np.ndarray, scene: Scene, trail: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Return the frame of one scene, WIDTH x HEIGHT, and the trail for the next scene, (H, W) in [0, 1].

    `trail` is the faded trail of the earlier scenes; it is visible behind the dancer.
    """
    image = background + trail[..., None] * TRAIL
    add_sign(image, lit=scene.sign)
    canvas = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    body = joints(scene)
    shadow = Image.new("L", canvas.size)
    feet = [body["left foot"], body["right foot"], body["hip"]]
    left, right = min(p[0] for p in feet) - 8, max(p[0] for p in feet) + 22
    ImageDraw.Draw(shadow).ellipse([OVERSAMPLE * v for v in (left, FLOOR - 4, right, FLOOR + 7)], fill=110)
    canvas.paste((30, 20, 16), mask=shadow.filter(ImageFilter.BoxBlur(5)))
    empty = np.asarray(canvas)
    paint_dancer(ImageDraw.Draw(canvas), body, scene)
    dancer = (np.asarray(canvas) != empty).any(axis=-1)
    return canvas.reduce(OVERSAMPLE), FADING * np.maximum(trail, dancer)


def paint_dancer(draw: ImageDraw.ImageDraw, body: dict[str, np.ndarray], scene: Scene) -> None:
    """Draw the parts of the body from far to near."""
    parts = []  # (depth, function)
    for side in ("left", "right"):
        leg = {part: body[f"{side} {part}"] for part in ("hip", "knee", "foot")}
        arm = {part: body[f"{side} {part}"] for part in ("shoulder", "elbow", "hand")}
        parts.append((leg["knee"][2] - 4, partial(paint_leg, draw, **leg)))
        parts.append((arm["elbow"][2], partial(paint_arm, draw, **arm)))
    parts.append((0.5, partial(paint_torso, draw, body, scene)))
    parts.append((1.0, partial(paint_head, draw, body, scene)))
    for _, paint in sorted(parts, key=lambda part: part[0]):
        paint()


def draw_pose(scene: Scene) -> Image.Image:
    """Return the skeleton of one scene on white, WIDTH x HEIGHT."""
    canvas = Image.new("RGB", (WIDTH * OVERSAMPLE, HEIGHT * OVERSAMPLE), "white")
    draw, body = ImageDraw.Draw(canvas), joints(scene)
    for a, b, color in BONES:
        draw.line([*(OVERSAMPLE * body[a][:2]), *(OVERSAMPLE * body[b][:2])], fill=color, width=5)
    return canvas.reduce(OVERSAMPLE)


class Destination(NamedTuple):
    """A folder for the first `limit` images of one kind."""

    kind: str  # "frame" or "pose"
    folder: Path
    limit: int


def write_video(seed: int, frames: int, destinations: list[Destination], *, first: int, bar: tqdm) -> None:
    """Draw a dance and save it as frame000123.png and so on, numbered from `first`."""
    background = stage()
    trail = np.zeros(background.shape[:2])
    for t, scene in enumerate(choreography(frames, np.random.default_rng(seed))):
        frame, trail = draw_frame(background, scene, trail)
        images = {"frame": frame, "pose": draw_pose(scene)}
        for kind, folder, limit in destinations:
            folder.mkdir(parents=True, exist_ok=True)
            if t < limit:
                images[kind].save(folder / f"frame{first + t:06d}.png", compress_level=1)
        bar.update()


def plan_videos(root: Path, *, seed: int, train: int, val: int, test: int, sequences: int) -> list[tuple[int, Callable]]:
    """Return (frames, write) per video, where write(bar=...) draws and saves it under root.

    The training frames are two contiguous segments with a gap between them; each test sequence has `test` frames.
    """
    counts = [("train", train // 2), ("train", train - train // 2), ("val", val)]
    counts += [(f"test{i}", test) for i in range(sequences)]
    plan: list[tuple[int, Callable]] = []
    first = 0
    for index, (split, count) in enumerate(counts):
        if split.startswith("test"):
            folder, i = root / "test", split.removeprefix("test")
            destinations = [
                Destination("frame", folder / "test_img" / i, 1),
                Destination("pose", folder / "test_label" / i, count),
                Destination("frame", folder / "test_gt" / i, count),
            ]
        else:
            destinations = [
                Destination("frame", root / split / f"{split}_img", count),
                Destination("pose", root / split / f"{split}_label", count),
            ]
        plan.append((count, partial(write_video, seed_for(seed, "demo", index), count, destinations, first=first)))
        first += count + 1000  # the numbers have a gap wherever the video has a cut
    return plan
