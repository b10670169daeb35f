import numpy as np
import pytest
from PIL import Image

from data.dance import DanceSplit, load_test_sequences
from tests.helpers.refusals import refused
from tools import make_demo_data
from tools.demo import dance


def pictures(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_the_same_seed_renders_the_same_pictures(tmp_path):
    flags = ["--train", "4", "--val", "2", "--test", "2", "--sequences", "1"]
    for name, seed in [("a", "5"), ("b", "5"), ("c", "6")]:
        make_demo_data.main(["--out", str(tmp_path / name), "--seed", seed, *flags])
    a, b, c = (pictures(tmp_path / name) for name in "abc")
    assert a == b and a.keys() == c.keys() and a != c


def test_the_layout_is_the_courses_with_a_gap_in_training_and_test_truth(rendered):
    split = DanceSplit.load(rendered, "train", height=32, width=64)
    assert [len(segment) for segment in split.segments(40)] == [20, 20]
    sequences = load_test_sequences(rendered, height=32, width=64)
    assert [(len(s.conditions), len(s.ground_truth)) for s in sequences] == [(9, 9), (9, 9)]


def test_splits_share_no_video(rendered):
    train, val = (DanceSplit.load(rendered, name, height=32, width=64).images[0] for name in ("train", "val"))
    distances = [np.abs(train.astype(int) - frame).mean() for frame in val]
    assert min(distances) > 0 and len({frame.tobytes() for frame in val}) == len(val)


def test_trail_skirt_and_sign_are_not_in_the_pose():
    """What only the previous frame or z can tell must not leak into the condition."""
    (scene,) = dance.choreography(1, np.random.default_rng(0))
    background = dance.stage()
    nothing = np.zeros(background.shape[:2])
    pose = np.asarray(dance.draw_pose(scene))
    frame, trail = dance.draw_frame(background, scene, nothing)
    for change in ({"sign": not scene.sign}, {"swing": scene.swing + 0.3}):
        changed = scene._replace(**change)
        assert np.array_equal(np.asarray(dance.draw_pose(changed)), pose)
        assert not np.array_equal(np.asarray(dance.draw_frame(background, changed, nothing)[0]), np.asarray(frame))
    moved = scene._replace(place=scene.place + 20)
    with_trail, without = (np.asarray(dance.draw_frame(background, moved, t)[0], dtype=int) for t in (trail, nothing))
    assert (with_trail - without).max() > 50 and (with_trail - without).min() >= 0


def test_the_trail_fades():
    scene = dance.choreography(1, np.random.default_rng(0))[0]
    background = dance.stage()
    _, trail = dance.draw_frame(background, scene, np.zeros(background.shape[:2]))
    _, later = dance.draw_frame(background, scene._replace(place=scene.place + 100), trail)
    assert trail.max() == pytest.approx(0.87) and sorted(set(later.round(4).flatten())) == [0.0, 0.7569, 0.87]


def test_the_sign_changes_by_chance():
    scenes = dance.choreography(3000, np.random.default_rng(0))
    changes = sum(a.sign != b.sign for a, b in zip(scenes, scenes[1:]))
    assert 60 < changes < 140  # once in 30 frames


def test_the_lower_foot_stands_on_the_floor_in_every_move():
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


def test_an_interrupted_rendering_is_no_data_set_and_a_full_folder_is_left_alone(tmp_path, capsys, monkeypatch):
    flags = ["--out", str(tmp_path / "demo"), "--train", "4", "--val", "2", "--test", "2", "--sequences", "1"]
    monkeypatch.setattr(dance, "draw_pose", lambda scene: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "No space left" in refused(capsys, make_demo_data.main, flags)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    make_demo_data.main(flags)
    assert Image.open(tmp_path / "demo" / "val" / "val_img" / "frame002004.png").size == (256, 128)
    assert "is not empty" in refused(capsys, make_demo_data.main, flags)


@pytest.mark.parametrize("flags, message", [
    (["--frames", "30"], "--frames: found with --scene dance, expected only with --scene robot"),
    (["--scene", "robot", "--sequences", "3"], "--sequences: found with --scene robot, expected only with --scene dance"),
    (["--train", "1"], "--train: 1 found, at least 2 frames expected"),
    (["--scene", "robot", "--frames", "1"], "--frames: expected an integer of at least 2, got 1"),
])  # fmt: skip
def test_a_size_that_the_scene_does_not_have_is_refused(flags, message, tmp_path, capsys):
    assert message in refused(capsys, make_demo_data.main, ["--out", tmp_path / "demo", *flags])
    assert not (tmp_path / "demo").exists()
