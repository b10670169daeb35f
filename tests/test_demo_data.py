"""The dance scene of the demo data: its layout, and the information in each kind of image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dance import DanceSplit
from data.dance_sequences import load_test_sequences
from tests.helpers.refusals import refused
from tools import make_demo_data
from tools.demo import dance


def images(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every PNG by its path in the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_the_seed_determines_the_images(tmp_path):
    flags = ["--train", "4", "--val", "2", "--test", "2", "--sequences", "1"]
    for name, seed in [("a", "5"), ("b", "5"), ("c", "6")]:
        make_demo_data.main(["--out", str(tmp_path / name), "--seed", seed, *flags])
    a, b, c = (images(tmp_path / name) for name in "abc")
    assert a == b and a.keys() == c.keys() and a != c


def test_the_layout_is_that_of_the_course(rendered):
    """The training frames have a gap, and the test sequences have ground truth."""
    split = DanceSplit.load(rendered, "train", height=32, width=64)
    assert [len(segment) for segment in split.segments(40)] == [20, 20]
    sequences = load_test_sequences(rendered, height=32, width=64)
    assert [(len(s.conditions), len(s.ground_truth)) for s in sequences] == [(9, 9), (9, 9)]


def test_no_two_splits_share_a_video(rendered):
    train, val = (DanceSplit.load(rendered, name, height=32, width=64).images[0] for name in ("train", "val"))
    distances = [np.abs(train.astype(int) - frame).mean() for frame in val]
    assert min(distances) > 0 and len({frame.tobytes() for frame in val}) == len(val)


def test_trail_skirt_and_sign_are_not_in_the_pose():
    """Information that only the previous frame or z carries must not leak into the condition."""
    (scene,) = dance.choreography(1, np.random.default_rng(0))
    background = dance.stage()
    no_trail = np.zeros(background.shape[:2])
    pose = np.asarray(dance.draw_pose(scene))
    frame, trail = dance.draw_frame(background, scene, no_trail)
    for change in ({"sign": not scene.sign}, {"swing": scene.swing + 0.3}):
        changed = scene._replace(**change)
        assert np.array_equal(np.asarray(dance.draw_pose(changed)), pose)
        assert not np.array_equal(np.asarray(dance.draw_frame(background, changed, no_trail)[0]), np.asarray(frame))
    moved = scene._replace(position=scene.position + 20)
    with_trail, without = (np.asarray(dance.draw_frame(background, moved, t)[0], dtype=int) for t in (trail, no_trail))
    assert (with_trail - without).max() > 50 and (with_trail - without).min() >= 0


def test_the_trail_fades():
    scene = dance.choreography(1, np.random.default_rng(0))[0]
    background = dance.stage()
    _, trail = dance.draw_frame(background, scene, np.zeros(background.shape[:2]))
    _, later = dance.draw_frame(background, scene._replace(position=scene.position + 100), trail)
    assert trail.max() == pytest.approx(0.87) and sorted(set(later.round(4).flatten())) == [0.0, 0.7569, 0.87]


def test_the_sign_changes_at_random():
    scenes = dance.choreography(3000, np.random.default_rng(0))
    changes = sum(a.sign != b.sign for a, b in zip(scenes, scenes[1:]))
    assert 60 < changes < 140  # once in 30 frames on average


def test_the_lower_foot_is_on_the_floor_in_every_move():
    for angles in dance.MOVES.values():
        body = dance.joints(dance.Scene(np.array(angles, float), 128, 0, False))
        assert max(body["left foot"][1], body["right foot"][1]) == pytest.approx(dance.FLOOR)
        assert all(0 <= point[1] < dance.HEIGHT for point in body.values())


def test_limbs_keep_their_length_when_the_body_turns():
    pose = np.array(dance.MOVES["kick"], float)
    lengths = []
    for turn in (0, 50, 180):
        pose[0] = turn
        body = dance.joints(dance.Scene(pose, 128, 0, False))
        lengths.append([np.linalg.norm(body[a] - body[b]) for a, b, _ in dance.BONES])
    assert np.allclose(lengths[0], lengths[1]) and np.allclose(lengths[0], lengths[2])


def test_rendering_is_all_or_nothing_and_refuses_a_non_empty_folder(tmp_path, capsys, monkeypatch):
    flags = ["--out", str(tmp_path / "demo"), "--train", "4", "--val", "2", "--test", "2", "--sequences", "1"]
    monkeypatch.setattr(dance, "draw_pose", lambda scene: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "No space left" in refused(capsys, make_demo_data.main, flags)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    make_demo_data.main(flags)
    assert Image.open(tmp_path / "demo" / "val" / "val_img" / "frame002004.png").size == (256, 128)
    assert "expected an empty folder or one that does not exist" in refused(capsys, make_demo_data.main, flags)


@pytest.mark.parametrize("flags, message", [
    (["--frames", "30"], "--frames: expected only with --scene robot, got --scene dance"),
    (["--scene", "robot", "--sequences", "3"], "--sequences: expected only with --scene dance, got --scene robot"),
    (["--train", "1"], "--train: expected at least 2 frames, got 1"),
    (["--scene", "robot", "--frames", "1"], "--frames: expected an integer of at least 2, got 1"),
])  # fmt: skip
def test_a_size_of_another_scene_is_refused(flags, message, tmp_path, capsys):
    assert message in refused(capsys, make_demo_data.main, ["--out", tmp_path / "demo", *flags])
    assert not (tmp_path / "demo").exists()
