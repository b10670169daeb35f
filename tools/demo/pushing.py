"""The physics of the robot scene: a gripper pushes objects around in a tray, as in BAIR. robot.py draws it.

The state of frame t and the action between t and t + 1 determine frame t + 1; only the initial state and the actions are random.
Lengths are in table units, about 50 pixels: x to the right, y toward the viewer, z up from the table. N objects, C corners.
"""

from itertools import combinations
from math import hypot
from typing import NamedTuple

import numpy as np

# Limits of the gripper: x, y, z of the tips of the jaws, and the gap between them.
# The gripper keeps away from the walls, so that there is room for the objects that it pushes.
LOWEST, HIGHEST = np.array([-0.39, 0.1, 0.0, 0.03]), np.array([0.39, 0.74, 0.18, 0.14])
MAX_SPEED = np.array([0.065, 0.065, 0.035, 0.02])  # of each value, per frame
TRAY = np.array([[-0.5, 0.0], [0.5, 0.86]])  # two opposite corners of its floor
JAW = np.array([0.03, 0.05])  # size of a jaw in x and y
TAPER = 0.04  # length of the wedge at a jaw's tip
SMALLEST_SHIFT = 1e-5  # overlaps below this count as resolved
SWEEPS, GRIPPER_SWEEPS = 60, 20
COLORS = [(214, 58, 52), (44, 118, 205), (246, 196, 50), (58, 165, 88), (240, 128, 42), (128, 82, 178), (236, 238, 240),
          (40, 178, 182)]  # fmt: skip


class Object(NamedTuple):
    """An upright prism that can be pushed; it does not turn."""

    outline: np.ndarray  # (C, 2) relative to its position, in the direction from the x axis to the y axis
    normals: np.ndarray  # (C, 2) outward normals; edge i leads from corner i to the next
    height: float
    color: tuple[int, int, int]
    label: tuple[int, int, int]  # color of the label on its top


class State(NamedTuple):
    """The parts of a frame that change during a sequence."""

    gripper: np.ndarray  # (4,) as in LOWEST
    positions: np.ndarray  # (N, 2)


class Episode(NamedTuple):
    """One sequence of T frames."""

    objects: list[Object]
    states: list[State]  # one per frame
    actions: np.ndarray  # (T, 4); the last one leads to a frame after the episode


def polygon(corners: int, width: float, depth: float, turn: float) -> np.ndarray:
    """Return a polygon (C, 2) on an ellipse; four corners give a box whose sides are twice `width` and `depth`."""
    angles = 2 * np.pi * (np.arange(corners) + 0.5) / corners
    stretch = 2**0.5 if corners == 4 else 1.0
    points = stretch * np.stack([width * np.cos(angles), depth * np.sin(angles)], axis=1)
    cos, sin = np.cos(turn), np.sin(turn)
    return points @ np.array([[cos, sin], [-sin, cos]])


def edge_normals(outline: np.ndarray) -> np.ndarray:
    """Return the outward unit normals (C, 2) of a polygon's edges."""
    edges = np.roll(outline, -1, axis=0) - outline
    return np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.hypot(*edges.T)[:, None]


SQUARE = polygon(4, 1, 1, 0)
SQUARE_NORMALS = edge_normals(SQUARE)


def jaw_footprint(gripper: np.ndarray, height: float) -> np.ndarray:
    """Return the common outline (4, 2) of both jaws below a height: the deeper the jaws reach, the wider it is."""
    depth = min(1.0, max(0.0, (height - gripper[2]) / TAPER))
    return gripper[:2] + SQUARE * (depth * (JAW * [1, 0.5] + [gripper[3] / 2, 0]))


def separating_shift(
    still: np.ndarray, still_normals: np.ndarray, moved: np.ndarray, moved_normals: np.ndarray
) -> np.ndarray | None:
    """Return the shortest shift (2,) that moves the convex polygon `moved` out of `still`, or None if they do not overlap.

    Two convex polygons are disjoint if and only if an edge of one separates them (separating axis theorem).
    """
    largest_gap, shift = -np.inf, None
    for side, own, normals, other in [(1, still, still_normals, moved), (-1, moved, moved_normals, still)]:
        gaps = (other @ normals.T).min(axis=0) - (own * normals).sum(axis=1)
        nearest = int(gaps.argmax())
        if gaps[nearest] >= 0:
            return None
        if gaps[nearest] > largest_gap:
            largest_gap, shift = gaps[nearest], -side * gaps[nearest] * normals[nearest]
    return shift


def push_objects(objects: list[Object], reach: list[float], positions: np.ndarray, gripper: np.ndarray) -> bool:
    """Move the objects that the gripper overlaps out of it, in place; return whether any moved."""
    moved = False
    for i, item in enumerate(objects):
        if gripper[2] < item.height and hypot(*(positions[i] - gripper[:2])) < reach[i] + 0.12:
            jaws = jaw_footprint(gripper, item.height)
            shift = separating_shift(jaws, SQUARE_NORMALS, item.outline + positions[i], item.normals)
            if shift is not None and hypot(*shift) > SMALLEST_SHIFT:
                positions[i] += shift
                moved = True
    return moved


def separate_objects(objects: list[Object], reach: list[float], positions: np.ndarray) -> bool:
    """Push overlapping objects apart, each by half the distance, in place; return whether any moved."""
    moved = False
    for i, j in combinations(range(len(objects)), 2):
        if hypot(*(positions[j] - positions[i])) < reach[i] + reach[j]:
            first, second = objects[i].outline + positions[i], objects[j].outline + positions[j]
            shift = separating_shift(first, objects[i].normals, second, objects[j].normals)
            if shift is not None and hypot(*shift) > SMALLEST_SHIFT:
                positions[i] -= shift / 2
                positions[j] += shift / 2
                moved = True
    return moved


def resolve_overlaps(objects: list[Object], positions: np.ndarray, gripper: np.ndarray | None) -> np.ndarray:
    """Return the positions (N, 2) after the gripper, if given, and the objects have pushed each other out of all overlaps.

    Repeated sweeps over the pairs converge: each halves the remaining overlap. An object squeezed between gripper and wall stays
    in the tray.
    """
    positions = positions.copy()
    reach = [np.hypot(*item.outline.T).max() for item in objects]
    low = TRAY[0] - [item.outline.min(axis=0) for item in objects]
    high = TRAY[1] - [item.outline.max(axis=0) for item in objects]
    for sweep in range(SWEEPS):
        # The later sweeps only separate objects from each other, so that they never end up inside each other.
        moved = gripper is not None and sweep < GRIPPER_SWEEPS and push_objects(objects, reach, positions, gripper)
        if gripper is not None and sweep == 0 and not moved:
            return positions  # the gripper touches nothing, and the previous frame had no overlaps
        moved |= separate_objects(objects, reach, positions)
        inside = np.clip(positions, low, high)
        if not moved and np.array_equal(inside, positions):
            break
        positions = inside
    return positions


def step(objects: list[Object], state: State, action: np.ndarray) -> State:
    """Return the state one frame later; the action (4,) is added to the gripper, whose path is followed in short steps."""
    gripper = np.clip(state.gripper + action, LOWEST, HIGHEST)
    positions = state.positions
    for share in (0.25, 0.5, 0.75, 1.0):
        positions = resolve_overlaps(objects, positions, state.gripper + share * (gripper - state.gripper))
    return State(gripper, positions)


def initial_scene(rng: np.random.Generator) -> tuple[list[Object], State]:
    """Return three to five objects and a state with objects and gripper at random positions, without overlaps."""
    objects = []
    for color in rng.permutation(len(COLORS))[: rng.integers(3, 6)]:
        kind = rng.choice(["disc", "box", "box", "hexagon"])
        size, turn = rng.uniform(0.06, 0.1), rng.uniform(0, np.pi)
        other = size if kind != "box" else size * rng.uniform(0.6, 1.1)
        outline = polygon({"disc": 18, "box": 4, "hexagon": 6}[kind], size, other, turn)
        label = COLORS[(color + rng.integers(1, len(COLORS))) % len(COLORS)]
        objects.append(Object(outline, edge_normals(outline), rng.uniform(0.05, 0.1), COLORS[color], label))
    positions = rng.uniform(TRAY[0] + 0.1, TRAY[1] - 0.1, (len(objects), 2))
    gripper = rng.uniform(LOWEST, HIGHEST).round(6)
    apart = resolve_overlaps(objects, positions, None)
    return objects, State(gripper, resolve_overlaps(objects, apart, gripper))


def choose_goal(state: State, rng: np.random.Generator) -> np.ndarray:
    """Return the next goal of the gripper (4,): half of the time beyond an object, with the jaws down; else anywhere."""
    goal = rng.uniform(LOWEST, HIGHEST)
    if rng.random() < 0.5:
        position = state.positions[rng.integers(len(state.positions))]
        way = position - state.gripper[:2]
        goal[:2] = position + 0.15 * way / (np.hypot(*way) + 1e-9)
        goal[2] = rng.uniform(0, 0.02)
    return goal


def random_episode(frames: int, rng: np.random.Generator) -> Episode:
    """Return a random episode.

    The gripper heads for a goal for up to 9 frames and changes direction smoothly, so that actions persist as in BAIR.
    """
    objects, state = initial_scene(rng)
    states, actions = [], np.zeros((frames, 4))
    goal, elapsed, pace, action = state.gripper, 0, 1.0, np.zeros(4)
    for t in range(frames):
        states.append(state)
        if elapsed > 9 or t == 0 or np.hypot(*(goal - state.gripper)[:2]) < 0.04:
            goal, elapsed, pace = choose_goal(state, rng), 0, rng.uniform(0.55, 1.0)
        elapsed += 1
        wanted = goal - state.gripper
        wanted[:2] *= min(1.0, pace * MAX_SPEED[0] / (np.hypot(*wanted[:2]) + 1e-9))
        wanted = np.clip(wanted, -MAX_SPEED, MAX_SPEED)
        # Rounded to the six digits of the file, so that actions read from it give the same frames.
        action = (0.45 * action + 0.55 * wanted).round(6)
        actions[t] = action
        state = step(objects, state, action)
    return Episode(objects, states, actions)
