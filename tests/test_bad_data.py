"""Damaged data sets: all problems are listed at once, and --skip_bad trains without the damaged frames."""

import re
import shutil

import numpy as np
import pytest

import Tester
import Trainer
from data import frame_cache
from data.dance import DanceSplit, load_validation_sequences
from data.frame_cache import read_image
from data.robot import RobotClips, RobotSplit, fixed_windows
from tests.helpers.dance import SIZE, clips_of
from tests.helpers.images import write_image
from tests.helpers.refusals import refused, refused_with_list
from tests.helpers.settings import SMALL, SMALL_SVG
from training.checkpoints import load_checkpoint
from utils import UserError

TRAIN = [*range(20), *range(1020, 1040)]  # the frame numbers of the demo data
GOOD = [number for number in TRAIN if number not in (3, 7, 12, 19, 1030)]  # in `damaged`


def skipped_in(error: str, folder) -> list[int]:
    """Return the numbers in the line about the skipped frames of a split."""
    (line,) = [line for line in error.splitlines() if line.startswith(f"{folder}: skipped") and "cannot be used" in line]
    return [int(number) for number in re.findall(r"\d+", line.removeprefix(f"{folder}"))]


@pytest.fixture
def damaged(dataset):
    """Return a dance with every kind of damage in train/, and with one damaged frame in val/ (2040 to 2051)."""
    shutil.rmtree(dataset / ".frame_cache", ignore_errors=True)  # built by another test from the undamaged data
    frames, poses = dataset / "train" / "train_img", dataset / "train" / "train_label"
    (frames / "frame000003.png").write_text("not an image")
    (poses / "frame000007.png").write_bytes((poses / "frame000007.png").read_bytes()[:300])
    (poses / "frame000012.png").unlink()
    (frames / "frame000019.png").unlink()
    shutil.copy(frames / "frame000005.png", frames / "cover.png")
    shutil.copy(poses / "frame001030.png", poses / "pose1030.png")
    (dataset / "val" / "val_img" / "frame002044.png").write_bytes(b"")
    return dataset


def test_all_problems_of_a_split_are_listed_at_once(damaged, tmp_path, capsys):
    for kind in ("img", "label"):
        (damaged / "val" / f"val_{kind}" / "frame002044.png").unlink()
    message, problems = refused_with_list(capsys, Trainer.main, ["--DR", damaged, "--save_root", tmp_path / "run", *SMALL])
    assert message == f"error: {damaged / 'train'}: 6 of 41 frames cannot be used; fix them, or skip them with --skip_bad:"
    expected = ["cover.png: no frame number", "are both frame 1030", "no pose image for frame000012.png", "no frame for frame000019.png",
                "frame000003.png: cannot be read as an image", "frame000007.png: cannot be read as an image"]  # fmt: skip
    assert len(problems) == 6 and all(part in problem for part, problem in zip(expected, problems))
    assert all(problem.startswith(str(damaged / "train")) for problem in problems)
    assert not list(damaged.rglob("train-*")) and not list((tmp_path / "run").glob("*.ckpt"))


def test_skip_bad_trains_without_damaged_frames(damaged, tmp_path, capsys):
    Trainer.main(["--DR", str(damaged), "--save_root", str(tmp_path / "run"), "--num_epoch", "1", "--skip_bad", *SMALL])
    error = capsys.readouterr().err
    whole, usable = (sum(set(range(n, n + 5)) <= set(known) for n in known) for known in (TRAIN, GOOD))
    assert skipped_in(error, damaged / "train") == [6, 41, whole - usable, whole]
    assert skipped_in(error, damaged / "val") == [1, 12]
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["flags"]["skip_bad"]
    assert refused_with_list(capsys, Trainer.main, ["--DR", damaged, "--save_root", tmp_path / "b", *SMALL])[1]


def test_no_clip_contains_a_skipped_frame(damaged):
    """Every clip consists of consecutive frame numbers, each with the frame and the pose of its own files."""
    split = DanceSplit.load(damaged, "train", **SIZE, skip_bad=True)
    clips = clips_of(split, length=4, margin=1)
    read = {
        n: [read_image(damaged / "train" / f"train_{kind}" / f"frame{n:06d}.png", **SIZE).pixels for kind in ("img", "label")]
        for n in GOOD
    }
    starts = [n for n in GOOD if all(m in read for m in range(n, n + 4))]
    assert len(clips.starts) == len(starts)
    for (first, segment), number in zip(clips.starts, starts):
        clip = clips.cut((first, segment), np.random.default_rng(0))
        assert np.array_equal(clip["frames"], np.stack([read[number + t][0] for t in range(4)]))
        assert np.array_equal(clip["conditions"][1:-1], np.stack([read[number + t][1] for t in range(4)]))
        assert all(
            image.any() for image in [clip["reference"], *clip["conditions"]]
        )  # an image that cannot be decoded is black in the cache
    poses = np.stack([read[n][1] for n in GOOD]) / 255
    np.testing.assert_allclose(clips.condition_scale(), [poses.mean(axis=(0, 2, 3)), poses.std(axis=(0, 2, 3))], rtol=1e-5)
    assert len(clips) == sum(len(segment) for segment in clips.segments) // 4


def test_a_validation_sequence_ends_at_a_skipped_frame(damaged):
    names = [
        sequence.name
        for sequence in load_validation_sequences(DanceSplit.load(damaged, "val", **SIZE, skip_bad=True), length=630)
    ]
    assert names == ["2040-2043", "2045-2051"]


def test_skip_bad_refuses_a_split_without_a_usable_frame(dataset, tmp_path, capsys):
    for path in (dataset / "train" / "train_img").iterdir():
        path.write_bytes(b"")
    argv = ["--DR", dataset, "--save_root", tmp_path, "--skip_bad", *SMALL]
    message, problems = refused_with_list(capsys, Trainer.main, argv)
    assert "40 of 40 frames cannot be used and --skip_bad leaves none" in message and len(problems) == 40
    for i, path in enumerate((dataset / "train" / "train_img").iterdir()):
        path.rename(path.with_name(f"{5000 + i}.png"))
    message, problems = refused_with_list(capsys, Trainer.main, argv)
    assert "80 of 80 frames cannot be used and --skip_bad leaves none" in message and len(problems) == 80


def test_all_problems_of_test_sequences_are_listed_at_once(dataset, trained, tmp_path, capsys):
    """Test sequences must be complete, so none of their frames is skipped."""
    test = dataset / "test"
    (test / "test_label" / "0" / "frame003058.png").unlink()
    (test / "test_gt" / "0" / "frame003054.png").write_bytes(b"")
    next((test / "test_img" / "1").iterdir()).unlink()
    (test / "test_label" / "1" / "frame004064.png").write_bytes(b"")
    argv = ["--DR", dataset, "--ckpt_path", trained, "--save_root", tmp_path / "out"]
    message, problems = refused_with_list(capsys, Tester.main, argv)
    assert message == f"error: {test}: 2 of 2 sequences cannot be used; fix them:"
    expected = ["test_label/0: no pose image for frame003058.png", "test_gt/0/frame003054.png: cannot be read", "test_img/1: holds no images",
                "test_label/1/frame004064.png: cannot be read"]  # fmt: skip
    assert len(problems) == 4 and all(part in problem.replace("\\", "/") for part, problem in zip(expected, problems))


def test_tester_skips_the_frames_that_training_skipped_in_validation(damaged, tmp_path, capsys):
    run = tmp_path / "run"
    Trainer.main(["--DR", str(damaged), "--save_root", str(run), "--num_epoch", "1", "--skip_bad", *SMALL])
    capsys.readouterr()
    Tester.main(
        ["--DR", str(damaged), "--ckpt_path", str(run), "--save_root", str(tmp_path / "out"), "--split", "val", "--device", "cpu"]
    )
    assert skipped_in(capsys.readouterr().err, damaged / "val") == [1, 12]


def write_sequence(folder, frames: int, *, seed: int) -> None:
    """Write a sequence in which frame t has the action (t, seed) and an image drawn with the seed `seed + t`."""
    for t in range(frames):
        write_image(folder / f"{t}.png", size=(32, 32), seed=seed + t)
    np.savetxt(folder / "actions.csv", [[t, seed] for t in range(frames)], delimiter=",")


@pytest.fixture
def robot(tmp_path):
    """Write sequences of 14, 6, 6, 6 and 6 frames: one with a damaged image and a gap, one intact, three that cannot be used."""
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
    return RobotSplit.load(root, "train", height=32, width=32, shortest=shortest, skip_bad=skip_bad)


def test_all_problems_of_robot_sequences_are_listed_at_once(robot):
    with pytest.raises(UserError) as raised:
        robot_split(robot, skip_bad=None)
    assert str(raised.value).splitlines()[0] == f"{robot / 'train'}: 20 of 38 frames cannot be used; fix them:"
    expected = ["traj/0: no frame 4 between 3 and 5", "traj/0/9.png: cannot be read", "traj/2/actions.csv: no such file",
                "traj/2/1.png: cannot be read", "traj/3/actions.csv: expected 6 rows, one for each frame, got 7", "line 3: expected comma-separated numbers, got 'up,1'",
                "line 4: expected finite numbers up to 3.4e+38, got nan in '3,nan'", "line 5: expected 2 values as in most lines, got 1",
                "traj/4: expected 2 condition values a frame as in traj/0, got 3"]  # fmt: skip
    problems = raised.value.problems
    assert len(problems) == len(expected) and all(part in problem.replace("\\", "/") for part, problem in zip(expected, problems))
    assert not list(robot.rglob("train-*"))


@pytest.mark.parametrize("rows", ["of all frames", "of existing frames"])
def test_a_damaged_sequence_is_cut_into_contiguous_ones(robot, rows, capsys):
    """Each frame keeps its action, whether or not the csv has a row for the missing frame."""
    if rows != "of all frames":
        actions = robot / "train" / "traj" / "0" / "actions.csv"
        actions.write_text("".join(line for i, line in enumerate(actions.read_text().splitlines(keepends=True)) if i != 4))
    split = robot_split(robot)
    split.report_skipped(3)
    assert {name: len(frames) for name, frames in split.sequences.items()} == {
        "traj/0": 4,
        "traj/0+5": 4,
        "traj/0+10": 4,
        "traj/1": 6,
    }
    whole, left = sum(n - 2 for n in (14, 6, 6, 6, 6)), sum(n - 2 for n in (4, 4, 4, 6))
    assert skipped_in(capsys.readouterr().err, robot / "train") == [20, 38, whole - left, whole]
    windows = fixed_windows(split, context=2, length=3, most=None)
    assert [window.name for window in windows] == ["traj--0-0", "traj--0+5-0", "traj--0+10-0", "traj--1-0", "traj--1-3"]
    for window, (seed, first) in zip(windows, [(0, 0), (0, 5), (0, 10), (100, 0), (100, 3)]):
        assert window.conditions.tolist() == [[first + t, seed] for t in range(3)]
        images = [
            read_image(robot / "train" / "traj" / str(seed // 100) / f"{first + t}.png", height=32, width=32).pixels
            for t in range(3)
        ]
        assert np.array_equal(window.ground_truth, np.stack(images))
    clips = RobotClips(split=split, length=3, clips_per_epoch=6, partial=1.0, seed=1, shift=0)
    used = np.array(
        [[t, s] for s, t in [*((0, t) for t in (0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13)), *((100, t) for t in range(6))]]
    )
    np.testing.assert_allclose(clips.condition_scale(), [used.mean(axis=0), used.std(axis=0)], rtol=1e-5)


def test_segments_that_are_too_short_are_skipped(robot, capsys):
    assert list(robot_split(robot, shortest=5).sequences) == ["traj/1"]
    assert "skipped sequences shorter than 5 frames: traj/0 (4), traj/0+5 (4), traj/0+10 (4)" in capsys.readouterr().err
    with pytest.raises(UserError, match="every sequence is shorter than 7 frames"):
        robot_split(robot, shortest=7)
    shutil.rmtree(robot / "train" / "traj" / "0")
    shutil.rmtree(robot / "train" / "traj" / "1")
    shutil.rmtree(robot / "train" / "traj" / "4")
    with pytest.raises(UserError, match="12 of 12 frames cannot be used and --skip_bad leaves none"):
        robot_split(robot)


def test_a_fixed_csv_needs_no_new_cache(robot, monkeypatch):
    robot_split(robot)
    shutil.copy(robot / "train" / "traj" / "1" / "actions.csv", robot / "train" / "traj" / "3" / "actions.csv")
    tried, decode = [], read_image
    monkeypatch.setattr(frame_cache, "read_image", lambda path, **size: tried.append(path) or decode(path, **size))
    assert "traj/3" in robot_split(robot).sequences
    assert {path.relative_to(robot / "train" / "traj").as_posix() for path in tried} == {"0/9.png", "2/1.png"}


def test_robot_training_skips_damaged_frames_and_a_test_refuses_them(rendered_robot, tmp_path, capsys):
    data = shutil.copytree(rendered_robot, tmp_path / "data")
    for split, name in [("train", "2.png"), ("validate", "10.png"), ("test", "3.png")]:
        next((data / split).rglob(f"0/{name}")).write_bytes(b"")
    argv = ["--model", "svg_fp", "--DR", data, "--save_root", tmp_path / "run", *SMALL_SVG]
    assert "1 of 33 frames" in refused_with_list(capsys, Trainer.main, argv)[0]
    Trainer.main([*map(str, argv), "--skip_bad"])
    error = capsys.readouterr().err
    assert skipped_in(error, data / "train") == [1, 44, 3, 28] and skipped_in(error, data / "validate") == [1, 33]
    argv = ["--DR", data, "--ckpt_path", tmp_path / "run", "--save_root", tmp_path / "out"]
    message, problems = refused_with_list(capsys, Tester.main, argv)
    assert message.endswith("test: 1 of 22 frames cannot be used; fix it:") and "3.png: cannot be read" in problems[0]
    assert "--skip_bad: no such flag" in refused(capsys, Tester.main, [*argv, "--skip_bad"])
