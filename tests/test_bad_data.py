"""Damaged data, as a user meets them: all that is wrong is told at once, and --skip_bad goes on without it."""

import re
import shutil

import numpy as np
import pytest

import Tester
import Trainer
from data import frame_cache
from data.dance import DanceClips, DanceSplit, load_validation_sequences
from data.frame_cache import read_image
from data.robot import RobotClips, RobotSplit, fixed_windows
from tests.helpers.images import write_image
from tests.helpers.refusals import refused, refused_with_list
from tests.helpers.settings import SMALL, SMALL_SVG
from training.checkpoints import load_checkpoint
from utils import UserError

SIZE = {"height": 32, "width": 64}
TRAIN = [*range(20), *range(1020, 1040)]  # the frame numbers of the demo data
GOOD = [number for number in TRAIN if number not in (3, 7, 12, 19, 1030)]  # in `spoilt`


def left_out(error: str, folder) -> list[int]:
    """The numbers in the line about a split."""
    (line,) = [line for line in error.splitlines() if line.startswith(f"{folder}: left out") and "cannot be used" in line]
    return [int(number) for number in re.findall(r"\d+", line.removeprefix(f"{folder}"))]


@pytest.fixture
def spoilt(dataset):
    """Every kind of damage in train/, one damaged frame in val/ (2040 to 2051)."""
    shutil.rmtree(dataset / ".frame_cache", ignore_errors=True)  # of another test, of the data as they were rendered
    frames, poses = dataset / "train" / "train_img", dataset / "train" / "train_label"
    (frames / "frame000003.png").write_text("not an image")
    (poses / "frame000007.png").write_bytes((poses / "frame000007.png").read_bytes()[:300])
    (poses / "frame000012.png").unlink()
    (frames / "frame000019.png").unlink()
    shutil.copy(frames / "frame000005.png", frames / "cover.png")
    shutil.copy(poses / "frame001030.png", poses / "pose1030.png")
    (dataset / "val" / "val_img" / "frame002044.png").write_bytes(b"")
    return dataset


def test_all_that_is_wrong_with_a_split_is_one_list(spoilt, tmp_path, capsys):
    for kind in ("img", "label"):
        (spoilt / "val" / f"val_{kind}" / "frame002044.png").unlink()
    message, problems = refused_with_list(capsys, Trainer.main, ["--DR", spoilt, "--save_root", tmp_path / "run", *SMALL])
    assert message == f"error: {spoilt / 'train'}: 6 of 41 frames cannot be used; mend them, or leave them out with --skip_bad:"
    expected = ["cover.png: no frame number", "are both frame 1030", "no pose image for frame000012.png", "no frame for frame000019.png",
                "frame000003.png: cannot be read as an image", "frame000007.png: cannot be read as an image"]  # fmt: skip
    assert len(problems) == 6 and all(part in problem for part, problem in zip(expected, problems))
    assert all(problem.startswith(str(spoilt / "train")) for problem in problems)
    assert not list(spoilt.rglob("train-*")) and not list((tmp_path / "run").glob("*.ckpt"))


def test_skip_bad_trains_without_them(spoilt, tmp_path, capsys):
    Trainer.main(["--DR", str(spoilt), "--save_root", str(tmp_path / "run"), "--num_epoch", "1", "--skip_bad", *SMALL])
    error = capsys.readouterr().err
    whole, usable = (sum(set(range(n, n + 5)) <= set(known) for n in known) for known in (TRAIN, GOOD))
    assert left_out(error, spoilt / "train") == [6, 41, whole - usable, whole]
    assert left_out(error, spoilt / "val") == [1, 12]
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["flags"]["skip_bad"]
    assert refused_with_list(capsys, Trainer.main, ["--DR", spoilt, "--save_root", tmp_path / "b", *SMALL])[1]


def test_no_clip_holds_a_frame_that_was_left_out(spoilt):
    """Every clip is made of consecutive numbers whose frame and pose are read from their own files."""
    split = DanceSplit(spoilt, "train", **SIZE, skip_bad=True)
    clips = DanceClips(split, length=4, partial=1.0, seed=1, reference="video", flip=0.0, shift=0, margin=1)
    read = {
        n: [read_image(spoilt / "train" / f"train_{kind}" / f"frame{n:06d}.png", **SIZE) for kind in ("img", "label")]
        for n in GOOD
    }
    starts = [n for n in GOOD if all(m in read for m in range(n, n + 4))]
    assert len(clips.starts) == len(starts)
    for (first, stretch), number in zip(clips.starts, starts):
        clip = clips.cut((first, stretch), np.random.default_rng(0))
        assert np.array_equal(clip["frames"], np.stack([read[number + t][0] for t in range(4)]))
        assert np.array_equal(clip["conditions"][1:-1], np.stack([read[number + t][1] for t in range(4)]))
        assert all(image.any() for image in [clip["reference"], *clip["conditions"]])  # what cannot be decoded is black
    poses = np.stack([read[n][1] for n in GOOD]) / 255
    np.testing.assert_allclose(clips.condition_scale(), [poses.mean(axis=(0, 2, 3)), poses.std(axis=(0, 2, 3))], rtol=1e-5)
    assert len(clips) == sum(len(stretch) for stretch in clips.stretches) // 4


def test_a_validation_sequence_ends_where_a_frame_was_left_out(spoilt):
    names = [
        sequence.name for sequence in load_validation_sequences(DanceSplit(spoilt, "val", **SIZE, skip_bad=True), length=630)
    ]
    assert names == ["2040-2043", "2045-2051"]


def test_if_nothing_is_left_skip_bad_refuses_as_well(dataset, tmp_path, capsys):
    for path in (dataset / "train" / "train_img").iterdir():
        path.write_bytes(b"")
    argv = ["--DR", dataset, "--save_root", tmp_path, "--skip_bad", *SMALL]
    message, problems = refused_with_list(capsys, Trainer.main, argv)
    assert "40 of 40 frames cannot be used and none is left" in message and len(problems) == 40
    for i, path in enumerate((dataset / "train" / "train_img").iterdir()):
        path.rename(path.with_name(f"{5000 + i}.png"))
    message, problems = refused_with_list(capsys, Trainer.main, argv)
    assert "80 of 80 frames cannot be used and none is left" in message and len(problems) == 80


def test_test_sequences_must_be_whole_and_all_that_is_wrong_is_one_list(dataset, trained, tmp_path, capsys):
    """The problems of all sequences."""
    test = dataset / "test"
    (test / "test_label" / "0" / "frame003058.png").unlink()
    (test / "test_gt" / "0" / "frame003054.png").write_bytes(b"")
    next((test / "test_img" / "1").iterdir()).unlink()
    (test / "test_label" / "1" / "frame004064.png").write_bytes(b"")
    argv = ["--DR", dataset, "--ckpt_path", trained, "--save_root", tmp_path / "out"]
    message, problems = refused_with_list(capsys, Tester.main, argv)
    assert message == f"error: {test}: 2 of 2 sequences cannot be used; mend them:"
    expected = ["test_label/0: no pose image for frame003058.png", "test_gt/0/frame003054.png: cannot be read", "test_img/1: holds no images",
                "test_label/1/frame004064.png: cannot be read"]  # fmt: skip
    assert len(problems) == 4 and all(part in problem.replace("\\", "/") for part, problem in zip(expected, problems))


def test_tester_passes_over_what_training_passed_over_in_validation(spoilt, tmp_path, capsys):
    run = tmp_path / "run"
    Trainer.main(["--DR", str(spoilt), "--save_root", str(run), "--num_epoch", "1", "--skip_bad", *SMALL])
    capsys.readouterr()
    Tester.main(
        ["--DR", str(spoilt), "--ckpt_path", str(run), "--save_root", str(tmp_path / "out"), "--split", "val", "--device", "cpu"]
    )
    assert left_out(capsys.readouterr().err, spoilt / "val") == [1, 12]


def write_sequence(folder, frames: int, *, seed: int) -> None:
    """The action of frame t is (t, seed) and its picture that of seed + t."""
    for t in range(frames):
        write_image(folder / f"{t}.png", size=(32, 32), seed=seed + t)
    np.savetxt(folder / "actions.csv", [[t, seed] for t in range(frames)], delimiter=",")


@pytest.fixture
def robot(tmp_path):
    """Sequences of 14, 6, 6, 6 and 6 frames: one with damaged images and a gap, one whole, three that cannot be used."""
    train = tmp_path / "data" / "train" / "traj"
    for i, frames in enumerate([14, 6, 6, 6, 6]):
        write_sequence(train / str(i), frames, seed=100 * i)
    (train / "0" / "4.png").unlink()
    (train / "0" / "9.png").write_bytes(b"")
    (train / "2" / "actions.csv").unlink()
    (train / "2" / "1.png").write_bytes(b"")
    (train / "3" / "actions.csv").write_text("0,1\n1,1\nup,1\n3,nan\n4\n5,1\n6,1\n")
    np.savetxt(train / "4" / "actions.csv", np.ones((6, 3)), delimiter=",")
    return tmp_path / "data"


def robot_split(root, *, shortest: int = 4, skip_bad: bool | None = True) -> RobotSplit:
    return RobotSplit(root, "train", height=32, width=32, shortest=shortest, skip_bad=skip_bad)


def test_all_that_is_wrong_with_the_robots_sequences_is_one_list(robot):
    with pytest.raises(UserError) as raised:
        robot_split(robot, skip_bad=None)
    assert str(raised.value).splitlines()[0] == f"{robot / 'train'}: 20 of 38 frames cannot be used; mend them:"
    expected = ["traj/0: no frame 4 between 3 and 5", "traj/0/9.png: cannot be read", "traj/2/actions.csv: no such file",
                "traj/2/1.png: cannot be read", "traj/3/actions.csv: 7 rows for 6 frames", "row 3 is 'up,1'", "row 4 is '3,nan'", "row 5 is '4'",
                "traj/4: 3 condition values a frame, but traj/0 has 2"]  # fmt: skip
    problems = raised.value.problems
    assert len(problems) == len(expected) and all(part in problem.replace("\\", "/") for part, problem in zip(expected, problems))
    assert not list(robot.rglob("train-*"))


@pytest.mark.parametrize("rows", ["of all frames", "of those that are there"])
def test_a_broken_sequence_is_cut_into_unbroken_ones(robot, rows, capsys):
    """Frame and action still belong together, whether or not the csv has a row for the frame that is not there."""
    if rows != "of all frames":
        actions = robot / "train" / "traj" / "0" / "actions.csv"
        actions.write_text("".join(line for i, line in enumerate(actions.read_text().splitlines(keepends=True)) if i != 4))
    split = robot_split(robot)
    split.tell_losses(3)
    assert {name: len(frames) for name, frames in split.sequences.items()} == {
        "traj/0": 4,
        "traj/0+5": 4,
        "traj/0+10": 4,
        "traj/1": 6,
    }
    whole, left = sum(n - 2 for n in (14, 6, 6, 6, 6)), sum(n - 2 for n in (4, 4, 4, 6))
    assert left_out(capsys.readouterr().err, robot / "train") == [20, 38, whole - left, whole]
    windows = fixed_windows(split, context=2, length=3, most=None)
    assert [window.name for window in windows] == ["traj--0-0", "traj--0+5-0", "traj--0+10-0", "traj--1-0", "traj--1-3"]
    for window, (seed, first) in zip(windows, [(0, 0), (0, 5), (0, 10), (100, 0), (100, 3)]):
        assert window.conditions.tolist() == [[first + t, seed] for t in range(3)]
        pictures = [
            read_image(robot / "train" / "traj" / str(seed // 100) / f"{first + t}.png", height=32, width=32) for t in range(3)
        ]
        assert np.array_equal(window.ground_truth, np.stack(pictures))
    clips = RobotClips(split, length=3, clips=6, partial=1.0, seed=1, shift=0)
    used = np.array(
        [[t, s] for s, t in [*((0, t) for t in (0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13)), *((100, t) for t in range(6))]]
    )
    np.testing.assert_allclose(clips.condition_scale(), [used.mean(axis=0), used.std(axis=0)], rtol=1e-5)


def test_pieces_that_are_too_short_are_left_out_as_sequences_are(robot, capsys):
    assert list(robot_split(robot, shortest=5).sequences) == ["traj/1"]
    assert "left out, shorter than 5 frames: traj/0 (4), traj/0+5 (4), traj/0+10 (4)" in capsys.readouterr().err
    with pytest.raises(UserError, match="every sequence is shorter than 7 frames"):
        robot_split(robot, shortest=7)
    shutil.rmtree(robot / "train" / "traj" / "0")
    shutil.rmtree(robot / "train" / "traj" / "1")
    shutil.rmtree(robot / "train" / "traj" / "4")
    with pytest.raises(UserError, match="12 of 12 frames cannot be used and none is left"):
        robot_split(robot)


def test_a_mended_csv_needs_no_new_cache(robot, monkeypatch):
    robot_split(robot)
    shutil.copy(robot / "train" / "traj" / "1" / "actions.csv", robot / "train" / "traj" / "3" / "actions.csv")
    tried, decode = [], read_image
    monkeypatch.setattr(frame_cache, "read_image", lambda path, **size: tried.append(path) or decode(path, **size))
    assert "traj/3" in robot_split(robot).sequences
    assert {path.relative_to(robot / "train" / "traj").as_posix() for path in tried} == {"0/9.png", "2/1.png"}


def test_the_robots_scripts_go_on_without_what_is_bad_but_test_it_never(rendered_robot, tmp_path, capsys):
    data = shutil.copytree(rendered_robot, tmp_path / "data")
    for split, name in [("train", "2.png"), ("validate", "10.png"), ("test", "3.png")]:
        next((data / split).rglob(f"0/{name}")).write_bytes(b"")
    argv = ["--model", "svg_fp", "--DR", data, "--save_root", tmp_path / "run", *SMALL_SVG]
    assert "1 of 33 frames" in refused_with_list(capsys, Trainer.main, argv)[0]
    Trainer.main([*map(str, argv), "--skip_bad"])
    error = capsys.readouterr().err
    assert left_out(error, data / "train") == [1, 44, 3, 28] and left_out(error, data / "validate") == [1, 33]
    argv = ["--DR", data, "--ckpt_path", tmp_path / "run", "--save_root", tmp_path / "out"]
    message, problems = refused_with_list(capsys, Tester.main, argv)
    assert message.endswith("test: 1 of 22 frames cannot be used; mend them:") and "3.png: cannot be read" in problems[0]
    assert "--skip_bad: no such flag" in refused(capsys, Tester.main, [*argv, "--skip_bad"])
