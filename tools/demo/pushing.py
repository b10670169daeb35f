"""What happens in the robot scene: a hand pushes things about in a tray, as in BAIR. Pictures of it: demo_robot.py.

The state of frame t and the action between t and t + 1 determine frame t + 1; only the beginning and the actions are left
to chance. Lengths are in table units, about 50 pixels: x to the right, y towards the viewer, z up from the table.
"""

from itertools import combinations
from math import hypot
from typing import NamedTuple

import numpy as np

# The hand: x, y, z of the finger tips and the gap between the jaws. It stays away from the walls, so that there is room for
# what it pushes.
LOWEST, HIGHEST = np.array([-0.39, 0.1, 0.0, 0.03]), np.array([0.39, 0.74, 0.18, 0.14])
FASTEST = np.array([0.065, 0.065, 0.035, 0.02])  # of each value, per frame
TRAY = np.array([[-0.5, 0.0], [0.5, 0.86]])  # corners of its floor
JAW = np.array([0.03, 0.05])  # a jaw's size in x and y
TAPER = 0.04  # length of a jaw's tip, which widens from nothing
COLOURS = [(214, 58, 52), (44, 118, 205), (246, 196, 50), (58, 165, 88), (240, 128, 42), (128, 82, 178), (236, 238, 240),
           (40, 178, 182)]  # fmt: skip


class Thing(NamedTuple):
    """An upright prism that can be pushed; it does not turn."""

    outline: np.ndarray  # (corners, 2) around its place, ordered from x to y
    normals: np.ndarray  # (corners, 2) of its edges, outwards; edge i leads from corner i to the next
    height: float
    colour: tuple[int, int, int]
    mark: tuple[int, int, int]  # colour of the label on its top


class State(NamedTuple):
    """Everything of a frame that changes in a sequence."""

    hand: np.ndarray  # (4,) as in LOWEST
    places: np.ndarray  # (things, 2)


def polygon(corners: int, width: float, depth: float, turn: float) -> np.ndarray:
    """(corners, 2) on an ellipse; four corners are a box of these half sides."""
    angles = 2 * np.pi * (np.arange(corners) + 0.5) / corners
    stretch = 2**0.5 if corners == 4 else 1.0
    points = stretch * np.stack([width * np.cos(angles), depth * np.sin(angles)], axis=1)
    cos, sin = np.cos(turn), np.sin(turn)
    return points @ np.array([[cos, sin], [-sin, cos]])


def edge_normals(outline: np.ndarray) -> np.ndarray:
    """Unit normals (corners, 2) of a polygon's edges, outwards."""
    edges = np.roll(outline, -1, axis=0) - outline
    return np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.hypot(*edges.T)[:, None]


SQUARE = polygon(4, 1, 1, 0)
SQUARE_NORMALS = edge_normals(SQUARE)


def jaws(hand: np.ndarray, height: float) -> np.ndarray:
    """Outline (4, 2) of what the lowered jaws take up below a thing's height: the deeper, the wider."""
    depth = min(1.0, max(0.0, (height - hand[2]) / TAPER))
    return hand[:2] + SQUARE * (depth * (JAW * [1, 0.5] + [hand[3] / 2, 0]))


def push(still: np.ndarray, still_normals: np.ndarray, moved: np.ndarray, moved_normals: np.ndarray) -> np.ndarray | None:
    """The shortest shift (2,) that takes the convex polygon `moved` out of `still`, or None where they do not overlap.

    Two convex polygons are apart if and only if an edge of one separates them (separating axis theorem).
    """
    best, shift = -np.inf, None
    for side, own, normals, other in [(1, still, still_normals, moved), (-1, moved, moved_normals, still)]:
        gaps = (other @ normals.T).min(axis=0) - (own * normals).sum(axis=1)
        nearest = int(gaps.argmax())
        if gaps[nearest] >= 0:
            return None
        if gaps[nearest] > best:
            best, shift = gaps[nearest], -side * gaps[nearest] * normals[nearest]
    return shift


def settle(things: list[Thing], places: np.ndarray, hand: np.ndarray | None) -> np.ndarray:
    """Places (things, 2) after the hand, if given, and then the things themselves have pushed overlaps apart.

    Sweeps over the pairs converge, as each halves what is left. A thing squeezed between hand and wall stays in the tray.
    """
    places = places.copy()
    reach = [np.hypot(*thing.outline.T).max() for thing in things]
    low = TRAY[0] - [thing.outline.min(axis=0) for thing in things]
    high = TRAY[1] - [thing.outline.max(axis=0) for thing in things]
    for sweep in range(60):
        rest = True
        for i, thing in enumerate(things):
            # In the last sweeps only the things, so that they never end up in each other.
            if hand is not None and sweep < 20 and hand[2] < thing.height and hypot(*(places[i] - hand[:2])) < reach[i] + 0.12:
                shift = push(jaws(hand, thing.height), SQUARE_NORMALS, thing.outline + places[i], thing.normals)
                if shift is not None and hypot(*shift) > 1e-5:
                    places[i] += shift
                    rest = False
        if rest and sweep == 0 and hand is not None:
            return places  # the hand touches nothing, and what it left behind had settled
        for i, j in combinations(range(len(things)), 2):
            if hypot(*(places[j] - places[i])) < reach[i] + reach[j]:
                shift = push(things[i].outline + places[i], things[i].normals, things[j].outline + places[j], things[j].normals)
                if shift is not None and hypot(*shift) > 1e-5:
                    places[i] -= shift / 2
                    places[j] += shift / 2
                    rest = False
        held = np.clip(places, low, high)
        if rest and np.array_equal(held, places):
            break
        places = held
    return places


def step(things: list[Thing], state: State, action: np.ndarray) -> State:
    """The state a frame later; action (4,) is added to the hand, whose way is followed in short steps."""
    hand = np.clip(state.hand + action, LOWEST, HIGHEST)
    places = state.places
    for share in (0.25, 0.5, 0.75, 1.0):
        places = settle(things, places, state.hand + share * (hand - state.hand))
    return State(hand, places)


def beginning(rng: np.random.Generator) -> tuple[list[Thing], State]:
    """Three to five things and a hand at random places, settled."""
    things = []
    for colour in rng.permutation(len(COLOURS))[: rng.integers(3, 6)]:
        kind = rng.choice(["disc", "box", "box", "hexagon"])
        size, turn = rng.uniform(0.06, 0.1), rng.uniform(0, np.pi)
        other = size if kind != "box" else size * rng.uniform(0.6, 1.1)
        outline = polygon({"disc": 18, "box": 4, "hexagon": 6}[kind], size, other, turn)
        mark = COLOURS[(colour + rng.integers(1, len(COLOURS))) % len(COLOURS)]
        things.append(Thing(outline, edge_normals(outline), rng.uniform(0.05, 0.1), COLOURS[colour], mark))
    places = rng.uniform(TRAY[0] + 0.1, TRAY[1] - 0.1, (len(things), 2))
    hand = rng.uniform(LOWEST, HIGHEST).round(6)
    return things, State(hand, settle(things, settle(things, places, None), hand))


def choose_goal(state: State, rng: np.random.Generator) -> np.ndarray:
    """Where the hand (4,) goes next: every other time through a thing and on, with the jaws down; else anywhere."""
    goal = rng.uniform(LOWEST, HIGHEST)
    if rng.random() < 0.5:
        place = state.places[rng.integers(len(state.places))]
        way = place - state.hand[:2]
        goal[:2] = place + 0.15 * way / (np.hypot(*way) + 1e-9)
        goal[2] = rng.uniform(0, 0.02)
    return goal


def episode(frames: int, rng: np.random.Generator) -> tuple[list[Thing], list[State], np.ndarray]:
    """Things, a state per frame, and actions (frames, 4), of which the last leads out of the episode.

    The hand heads for a goal for up to 9 frames and turns softly, so that actions persist as in BAIR.
    """
    things, state = beginning(rng)
    states, actions = [], np.zeros((frames, 4))
    goal, since, pace, action = state.hand, 0, 1.0, np.zeros(4)
    for t in range(frames):
        states.append(state)
        if since > 9 or t == 0 or np.hypot(*(goal - state.hand)[:2]) < 0.04:
            goal, since, pace = choose_goal(state, rng), 0, rng.uniform(0.55, 1.0)
        since += 1
        wanted = goal - state.hand
        wanted[:2] *= min(1.0, pace * FASTEST[0] / (np.hypot(*wanted[:2]) + 1e-9))
        wanted = np.clip(wanted, -FASTEST, FASTEST)
        # Six digits, as in the file, so that what is read back gives the same frames again.
        action = (0.45 * action + 0.55 * wanted).round(6)
        actions[t] = action
        state = step(things, state, action)
    return things, states, actions
