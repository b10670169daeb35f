"""The robot scene of the demo data: its layout, its physics and its frames."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from tests.helpers.refusals import refused
from tools import make_demo_data
from tools.demo import pushing, robot
from tools.demo.pushing import HIGHEST, LOWEST, Object, State

SMALL = ["--scene", "robot", "--train", "2", "--val", "1", "--test", "1", "--frames", "4"]
LOW, RAISED = 0.0, 0.18  # heights of the tips of the jaws


def box(half: float) -> Object:
    """Return a square object with this half side."""
    outline = pushing.polygon(4, half, half, 0)
    return Object(outline, pushing.edge_normals(outline), 0.08, (200, 0, 0), (0, 0, 200))


def frame(objects: list[Object], state: State) -> np.ndarray:
    """Return the rendered frame as integers, so that differences do not wrap around."""
    return np.asarray(robot.draw_frame(objects, state), dtype=int)


@pytest.fixture(scope="module")
def episodes():
    return [pushing.random_episode(30, np.random.default_rng(seed)) for seed in range(12)]


def test_the_layout_is_that_of_lab_5(tmp_path):
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
    image = Image.open(sequence / "0.png")
    assert image.size == (64, 64) and image.mode == "RGB"
    assert np.loadtxt(sequence / "actions.csv", delimiter=",").shape == (2, 4)
    assert np.loadtxt(sequence / "endeffector_positions.csv", delimiter=",").shape == (2, 3)


def test_the_seed_determines_the_files_for_any_number_of_sequences(tmp_path):
    for name, flags in [("a", SMALL), ("b", SMALL), ("c", [*SMALL, "--seed", "6"]), ("d", [*SMALL, "--val", "2"])]:
        make_demo_data.main(["--out", str(tmp_path / name), *flags])
    a, b, c, d = (
        {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*.*") if p.is_file()}
        for name in "abcd"
    )
    assert a == b and a.keys() == c.keys() and all(a[name] != c[name] for name in a)
    assert all(a[name] == d[name] for name in a if not name.startswith("validate"))
    images = [content for name, content in a.items() if name.endswith("0.png")]
    assert len(set(images)) == len(images) == 4, "splits or sequences share a frame"


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
    for objects, states, actions in episodes[:4]:
        for t in (3, 12, 25):
            again = pushing.step(objects, states[t], actions[t])
            assert np.array_equal(frame(objects, again), frame(objects, states[t + 1]))
            middle = (LOWEST + HIGHEST) / 2
            for value in range(4):  # toward the middle, so that no limit hides the change
                other = actions[t].copy()
                other[value] = 0.04 * np.sign(middle - states[t].gripper)[value]
                other[value] += 0.02 * (abs(other[value] - actions[t, value]) < 0.01)
                changed = frame(objects, pushing.step(objects, states[t], other))
                assert np.abs(changed - frame(objects, again)).max() > 20, value


def test_a_pushed_object_pushes_the_next_one():
    """The gripper is lowered. The faces of the boxes then touch the outer face of the jaw and each other."""
    objects = [box(0.05), box(0.06)]
    start = State(np.array([-0.3, 0.4, LOW, 0.06]), np.array([[-0.15, 0.4], [0.0, 0.41]]))
    state = start
    for _ in range(4):
        state = pushing.step(objects, state, np.array([0.05, 0, 0, 0]))
    face = -0.1 + 0.06 / 2 + pushing.JAW[0]
    assert state.positions[:, 0] == pytest.approx([face + 0.05, face + 0.1 + 0.06], abs=1e-3)
    assert state.positions[:, 1] == pytest.approx(start.positions[:, 1])


def test_only_objects_touched_by_the_lowered_gripper_move(episodes):
    objects = [box(0.05), box(0.06)]
    state = State(np.array([-0.3, 0.4, RAISED, 0.06]), np.array([[0.0, 0.4], [0.3, 0.7]]))
    for height, moved in [(RAISED, [False, False]), (0.081, [False, False]), (LOW, [True, False])]:
        now = state._replace(gripper=np.array([-0.3, 0.4, height, 0.06]))
        for _ in range(6):
            now = pushing.step(objects, now, np.array([0.05, 0, 0, 0]))
        assert (now.positions != state.positions).any(axis=1).tolist() == moved
    pushes = 0
    for objects, states, _ in episodes:
        for before, after in zip(states, states[1:]):
            moved = (before.positions != after.positions).any()
            pushes += moved
            lowest = min(before.gripper[2], after.gripper[2])
            assert not moved or lowest < max(item.height for item in objects)
    assert 0.2 < pushes / (29 * len(episodes)) < 0.6, "the gripper should push often, but not always"


def test_objects_stay_in_the_tray_and_do_not_overlap(episodes):
    low, high = pushing.TRAY
    for objects, states, _ in episodes:
        for state in states:
            outlines = [item.outline + position for item, position in zip(objects, state.positions)]
            assert all((low - 1e-9 <= outline).all() and (outline <= high + 1e-9).all() for outline in outlines)
            for (a, one), (b, other) in combinations(list(zip(objects, outlines)), 2):
                shift = pushing.separating_shift(one, a.normals, other, b.normals)
                assert shift is None or np.hypot(*shift) < 1e-3


def test_the_separating_shift_is_the_shortest_one():
    square = pushing.polygon(4, 1, 1, 0)
    normals = pushing.edge_normals(square)
    assert pushing.separating_shift(square, normals, square + [1.5, 0.3], normals) == pytest.approx([0.5, 0])
    assert pushing.separating_shift(square, normals, square + [0.3, -1.8], normals) == pytest.approx([0, -0.2])
    assert pushing.separating_shift(square, normals, square + [2.1, 0], normals) is None
    diamond = pushing.polygon(4, 1, 1, np.pi / 4)  # its corners are sqrt(2) from its center
    assert pushing.separating_shift(square, normals, diamond + [2.0, 0], pushing.edge_normals(diamond)) == pytest.approx(
        [2**0.5 - 1, 0]
    )
    assert pushing.separating_shift(square, normals, diamond + [2.0, 2.0], pushing.edge_normals(diamond)) is None


def test_height_and_opening_of_the_jaws_are_visible():
    objects = [box(0.05)]
    state = State(np.array([0.0, 0.3, 0.1, 0.05]), np.array([[0.35, 0.7]]))
    for change in ([0, 0, 0.03, 0], [0, 0, 0, 0.03]):
        changed = state._replace(gripper=state.gripper + change)
        assert (np.abs(frame(objects, changed) - frame(objects, state)).max(axis=-1) > 20).sum() >= 8


def test_copying_the_last_context_frame_scores_low(episodes):
    """The mean PSNR of frames 2 to 11 when frame 1 is repeated is about that of BAIR."""
    scores = []
    for objects, states, _ in episodes:
        frames = np.stack([frame(objects, state) for state in states[:12]])
        scores += [10 * np.log10(255**2 / np.square(frames[t] - frames[1]).mean()) for t in range(2, 12)]
    assert 19 < np.mean(scores) < 24


def test_rendering_is_all_or_nothing_and_refuses_a_non_empty_folder(tmp_path, capsys, monkeypatch):
    flags = ["--out", str(tmp_path / "robot"), *SMALL]
    monkeypatch.setattr(robot, "draw_frame", lambda objects, state: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "No space left" in refused(capsys, make_demo_data.main, flags)
    assert not (tmp_path / "robot").exists()
    monkeypatch.undo()
    make_demo_data.main(flags)
    assert "expected an empty folder or one that does not exist" in refused(capsys, make_demo_data.main, flags)
