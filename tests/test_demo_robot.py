from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from tests.helpers.refusals import refused
from tools import make_demo_data
from tools.demo import pushing, robot
from tools.demo.pushing import HIGHEST, LOWEST, State, Thing

SMALL = ["--scene", "robot", "--train", "2", "--val", "1", "--test", "1", "--frames", "4"]
LOW, RAISED = 0.0, 0.18  # heights of the finger tips


def box(half: float) -> Thing:
    outline = pushing.polygon(4, half, half, 0)
    return Thing(outline, pushing.edge_normals(outline), 0.08, (200, 0, 0), (0, 0, 200))


def frame(things, state) -> np.ndarray:
    return np.asarray(robot.draw_frame(things, state), dtype=int)


@pytest.fixture(scope="module")
def episodes():
    return [pushing.episode(30, np.random.default_rng(seed)) for seed in range(12)]


def test_the_layout_is_lab_5s(tmp_path):
    make_demo_data.main(
        ["--out", str(tmp_path / "robot"), "--scene", "robot", "--train", "66", "--val", "1", "--test", "2", "--frames", "2"]
    )
    root = tmp_path / "robot"
    assert {p.name for p in root.iterdir()} == {"train", "validate", "test"}
    assert {p.name for p in (root / "train").iterdir()} == {"traj_0_to_63", "traj_64_to_65"}
    assert {p.name for p in (root / "train" / "traj_64_to_65").iterdir()} == {"64", "65"}
    assert len(list(root.glob("*/*/*/1.png"))) == 69
    sequence = root / "test" / "traj_0_to_1" / "1"
    assert {p.name for p in sequence.iterdir()} == {"0.png", "1.png", "actions.csv", "endeffector_positions.csv"}
    picture = Image.open(sequence / "0.png")
    assert picture.size == (64, 64) and picture.mode == "RGB"
    assert np.loadtxt(sequence / "actions.csv", delimiter=",").shape == (2, 4)
    assert np.loadtxt(sequence / "endeffector_positions.csv", delimiter=",").shape == (2, 3)


def test_the_same_seed_renders_the_same_files_however_many_sequences_there_are(tmp_path):
    for name, flags in [("a", SMALL), ("b", SMALL), ("c", [*SMALL, "--seed", "6"]), ("d", [*SMALL, "--val", "2"])]:
        make_demo_data.main(["--out", str(tmp_path / name), *flags])
    a, b, c, d = (
        {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*.*") if p.is_file()}
        for name in "abcd"
    )
    assert a == b and a.keys() == c.keys() and all(a[name] != c[name] for name in a)
    assert all(a[name] == d[name] for name in a if not name.startswith("validate"))
    pictures = [content for name, content in a.items() if name.endswith("0.png")]
    assert len(set(pictures)) == len(pictures) == 4, "splits or sequences share a frame"


def test_positions_are_the_clipped_running_sum_of_the_actions(tmp_path):
    make_demo_data.main(["--out", str(tmp_path / "robot"), *SMALL, "--frames", "30"])
    for sequence in (tmp_path / "robot").glob("*/*/*"):
        actions, positions = (
            np.loadtxt(sequence / f"{name}.csv", delimiter=",") for name in ("actions", "endeffector_positions")
        )
        for t in range(29):
            assert positions[t + 1] == pytest.approx(np.clip(positions[t] + actions[t, :3], LOWEST[:3], HIGHEST[:3]), abs=1e-6)
        assert np.abs(np.diff(positions, axis=0)).max() > 0.02


def test_state_and_action_determine_the_next_frame(episodes):
    for things, states, actions in episodes[:4]:
        for t in (3, 12, 25):
            again = pushing.step(things, states[t], actions[t])
            assert np.array_equal(frame(things, again), frame(things, states[t + 1]))
            middle = (LOWEST + HIGHEST) / 2
            for value in range(4):  # each of the four counts; towards the middle, so that no limit swallows the change
                other = actions[t].copy()
                other[value] = 0.04 * np.sign(middle - states[t].hand)[value]
                other[value] += 0.02 * (abs(other[value] - actions[t, value]) < 0.01)
                changed = frame(things, pushing.step(things, states[t], other))
                assert np.abs(changed - frame(things, again)).max() > 20, value


def test_what_the_lowered_hand_meets_moves_along_and_pushes_the_next():
    """Truth by hand: box faces touch the outer face of the jaw and each other."""
    things = [box(0.05), box(0.06)]
    start = State(np.array([-0.3, 0.4, LOW, 0.06]), np.array([[-0.15, 0.4], [0.0, 0.41]]))
    state = start
    for _ in range(4):
        state = pushing.step(things, state, np.array([0.05, 0, 0, 0]))
    face = -0.1 + 0.06 / 2 + pushing.JAW[0]
    assert state.places[:, 0] == pytest.approx([face + 0.05, face + 0.1 + 0.06], abs=1e-3)
    assert state.places[:, 1] == pytest.approx(start.places[:, 1])


def test_only_what_the_lowered_hand_touches_moves(episodes):
    things = [box(0.05), box(0.06)]
    state = State(np.array([-0.3, 0.4, RAISED, 0.06]), np.array([[0.0, 0.4], [0.3, 0.7]]))
    for height, moved in [(RAISED, [False, False]), (0.081, [False, False]), (LOW, [True, False])]:
        now = state._replace(hand=np.array([-0.3, 0.4, height, 0.06]))
        for _ in range(6):
            now = pushing.step(things, now, np.array([0.05, 0, 0, 0]))
        assert (now.places != state.places).any(axis=1).tolist() == moved
    pushes = 0
    for things, states, _ in episodes:
        for before, after in zip(states, states[1:]):
            moved = (before.places != after.places).any()
            pushes += moved
            lowest = min(before.hand[2], after.hand[2])
            assert not moved or lowest < max(thing.height for thing in things)
    assert 0.2 < pushes / (29 * len(episodes)) < 0.6, "pushing should be frequent, but not all there is"


def test_things_stay_in_the_tray_and_out_of_each_other(episodes):
    low, high = pushing.TRAY
    for things, states, _ in episodes:
        for state in states:
            outlines = [thing.outline + place for thing, place in zip(things, state.places)]
            assert all((low - 1e-9 <= outline).all() and (outline <= high + 1e-9).all() for outline in outlines)
            for (a, one), (b, other) in combinations(list(zip(things, outlines)), 2):
                shift = pushing.push(one, a.normals, other, b.normals)
                assert shift is None or np.hypot(*shift) < 1e-3


def test_push_is_the_shortest_way_out():
    square = pushing.polygon(4, 1, 1, 0)
    normals = pushing.edge_normals(square)
    assert pushing.push(square, normals, square + [1.5, 0.3], normals) == pytest.approx([0.5, 0])
    assert pushing.push(square, normals, square + [0.3, -1.8], normals) == pytest.approx([0, -0.2])
    assert pushing.push(square, normals, square + [2.1, 0], normals) is None
    diamond = pushing.polygon(4, 1, 1, np.pi / 4)  # its corners lie sqrt(2) from its middle
    assert pushing.push(square, normals, diamond + [2.0, 0], pushing.edge_normals(diamond)) == pytest.approx([2**0.5 - 1, 0])
    assert pushing.push(square, normals, diamond + [2.0, 2.0], pushing.edge_normals(diamond)) is None


def test_height_and_opening_of_the_jaws_are_seen():
    things = [box(0.05)]
    state = State(np.array([0.0, 0.3, 0.1, 0.05]), np.array([[0.35, 0.7]]))
    for change in ([0, 0, 0.03, 0], [0, 0, 0, 0.03]):
        changed = state._replace(hand=state.hand + change)
        assert (np.abs(frame(things, changed) - frame(things, state)).max(axis=-1) > 20).sum() >= 8


def test_copying_the_last_given_frame_is_no_answer(episodes):
    """Mean PSNR of frames 2 to 11 when frame 1 is repeated; BAIR's lies about there, too."""
    scores = []
    for things, states, _ in episodes:
        frames = np.stack([frame(things, state) for state in states[:12]])
        scores += [10 * np.log10(255**2 / np.square(frames[t] - frames[1]).mean()) for t in range(2, 12)]
    assert 19 < np.mean(scores) < 24


def test_an_interrupted_rendering_is_no_data_set_and_a_full_folder_is_left_alone(tmp_path, capsys, monkeypatch):
    flags = ["--out", str(tmp_path / "robot"), *SMALL]
    monkeypatch.setattr(robot, "draw_frame", lambda things, state: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "No space left" in refused(capsys, make_demo_data.main, flags)
    assert not (tmp_path / "robot").exists()
    monkeypatch.undo()
    make_demo_data.main(flags)
    assert "is not empty" in refused(capsys, make_demo_data.main, flags)
