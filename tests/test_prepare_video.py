"""tools/prepare_video.py as a user runs it, on a film that is drawn by the tests, so that its poses are known."""

import json
import shutil

import numpy as np
import pytest
import torch

import Trainer
from data.dance import DanceSplit
from data.dance_sequences import load_test_sequences
from poses import manifest, video_dataset, writing
from poses.skeleton import JOINTS
from poses.tracking import track_person
from tests.helpers.dance import clips_of
from tests.helpers.films import (
    FRAMES,
    HEIGHT,
    WIDTH,
    body,
    image_of,
    necks,
    numbers_in,
    pose,
    write_frames,
    write_gif,
    write_keypoints,
    write_openpose,
)
from tests.helpers.refusals import refused
from tests.helpers.settings import SMALL
from tools import prepare_video


def test_the_data_set_can_train_a_model(film, tmp_path):
    flags = json.loads((film / "data" / "manifest.json").read_text())["train_flags"]
    Trainer.main(["--DR", str(film / "data"), "--save_root", str(tmp_path), "--num_epoch", "1", "--batch_size", "4",
                  "--cache_dir", str(tmp_path / "cache"), *SMALL, *flags])  # fmt: skip
    assert (tmp_path / "best.ckpt").is_file()


def test_neighboring_frames_are_never_in_two_splits(film):
    data = film / "data"
    parts = [numbers_in(data / folder) for folder in ("train/train_img", "val/val_img", "test/test_gt/0")]
    assert [len(part) for part in parts] == [42, 6, 6]
    for i, part in enumerate(parts):
        others = set().union(*parts[:i], *parts[i + 1 :])
        assert not others & {number + step for number in part for step in (-1, 0, 1)}
    for split in ("train", "val"):
        assert numbers_in(data / split / f"{split}_img") == numbers_in(data / split / f"{split}_label")
    sequences = load_test_sequences(data, height=32, width=64, cache_dir=film / "cache")
    assert [len(s.conditions) for s in sequences] == [6] and torch.equal(
        sequences[0].context_frames[0], sequences[0].ground_truth[0]
    )


def test_pose_images_match_their_frames(film):
    """The neck is at the red square in the whole data set."""
    data = film / "data"
    for split in ("train", "val"):
        for path in sorted((data / split / f"{split}_img").glob("*.png"))[::10]:
            frame, label = image_of(path), image_of(data / split / f"{split}_label" / path.name)
            red = np.argwhere((frame[..., 0] > 200) & (frame[..., 1] < 60)).mean(0)
            ink = 255 - label[..., 0]
            highest = np.flatnonzero(ink.max(1) > 40)[0]  # the neck's disc
            across = np.average(np.arange(ink.shape[1]), weights=ink[highest])
            assert abs(red[0] - highest) < 1.5 and abs(red[1] - across) < 1.5


def test_the_window_shows_the_person_in_the_courses_aspect(film):
    """Joints are at x = 50 to 113 and y = 30 to 74. The margin around them is a tenth of the height of 44."""
    content = json.loads((film / "data" / "manifest.json").read_text())
    left, top, right, bottom = content["videos"][0]["window"]
    assert content["aspect"] == "2:1" and (right - left) / (bottom - top) == pytest.approx(2)
    assert left <= 50 - 4.3 and right >= 113 + 4.3 and top <= 30 - 4.3 and bottom >= 74 + 4.3 - 0.5
    assert left >= 0 and right <= WIDTH and top >= 0 and bottom <= HEIGHT and bottom - top == pytest.approx(44 * 1.2, abs=1)


def test_an_interrupted_run_continues_to_the_same_files(film, tmp_path, monkeypatch, capsys):
    saved = []

    def save_some(path, make_image):
        saved.append(path)
        if len(saved) == 30:
            raise KeyboardInterrupt
        real(path, make_image)

    real = writing.save
    argv = [str(film / "dance"), "--poses", str(film / "dance.csv"), "--out", str(tmp_path / "data"), "--height", "64"]
    monkeypatch.setattr(writing, "save", save_some)
    with pytest.raises(SystemExit) as stop:
        prepare_video.main(argv)
    assert stop.value.code == 130 and "the same command continues" in capsys.readouterr().err
    monkeypatch.setattr(writing, "save", real)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("frame*.png")}
    prepare_video.main(argv)
    assert len(before) == 29 and all(path.stat().st_mtime_ns == when for path, when in before.items())
    for path in (film / "data").rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            assert path.read_bytes() == (tmp_path / "data" / path.relative_to(film / "data")).read_bytes(), path
    prepare_video.main(argv)
    assert "is finished" in capsys.readouterr().out
    message = refused(capsys, prepare_video.main, [*argv[:-1], "96"])
    assert (
        "other settings (height 64 in its manifest, 96 on the command line); expected the same settings, --overwrite to replace"
        in message
    )


def test_a_failed_run_without_images_can_be_repeated_with_other_flags(film, tmp_path, capsys):
    """The manifest of the failed run was once taken for a data set with other settings."""
    argv = [str(film / "dance"), "--poses", str(film / "dance.csv"), "--out", str(tmp_path / "data")]
    assert "leave too few" in refused(capsys, prepare_video.main, [*argv, "--test", "0.9"])
    prepare_video.main([*argv, "--test", "0.2"])
    assert len(numbers_in(tmp_path / "data" / "test" / "test_gt" / "0")) == 12


def test_an_interrupted_run_does_not_continue_with_other_keypoints(film, tmp_path, capsys, monkeypatch):
    """Half of its images would show one person and half another."""
    keypoints = shutil.copy(film / "dance.csv", tmp_path / "k.csv")
    argv = [str(film / "dance"), "--poses", str(keypoints), "--out", str(tmp_path / "data")]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(video_dataset, "write_preview", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare_video.main(argv)
    capsys.readouterr()
    write_keypoints(keypoints, without=(3,))
    message = refused(capsys, prepare_video.main, argv)
    assert f"{tmp_path / 'data'}: {keypoints} changed since it was started; expected the same settings, --overwrite" in message
    assert "other settings (poses" in refused(capsys, prepare_video.main, [argv[0], "--poses", film / "dance.csv", *argv[3:]])
    prepare_video.main([*argv, "--overwrite", "--fill", "0"])
    assert image_of(tmp_path / "data" / "train" / "train_label" / "frame000003.png").min() == 255


@pytest.mark.parametrize("stop_at", ["rmtree", "write_manifest", "write_images", None])
def test_overwriting_never_mixes_images_of_two_settings(film, tmp_path, capsys, monkeypatch, stop_at):
    """Wherever it is interrupted, the next run makes a data set of a single setting, the new one or the old one."""
    argv = [str(film / "dance"), "--poses", str(film / "dance.csv"), "--out", str(tmp_path / "data"), "--height", "64"]
    shutil.copytree(film / "data", tmp_path / "data")
    calls: list = []
    modules = {"rmtree": shutil, "write_manifest": manifest, "write_images": video_dataset}
    real = {name: getattr(module, name) for name, module in modules.items()}

    def stop(*args, **kwargs):
        calls.append(args)
        if len(calls) > 1 or stop_at == "write_images":
            raise KeyboardInterrupt
        real[stop_at](*args, **kwargs)

    if stop_at:
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(modules[stop_at], stop_at, stop)
            prepare_video.main([*argv[:-1], "32", "--overwrite"])
        left = {image_of(path).shape for path in (tmp_path / "data").rglob("frame*.png")}
        assert left <= {(64, 128, 3)}
    before = shutil.copytree(tmp_path / "data", tmp_path / "stopped" / "data")
    for height in (32, 64):
        shutil.rmtree(tmp_path / "data")
        shutil.copytree(before, tmp_path / "data")
        prepare_video.main([*argv[:-1], str(height), "--overwrite"])
        paths = [*(tmp_path / "data").rglob("frame*.png")]
        assert {image_of(path).shape for path in paths} == {(height, 2 * height, 3)} and len(paths) == 2 * 54 + 1
        assert json.loads((tmp_path / "data" / "manifest.json").read_text())["settings"]["height"] == height


def test_only_files_that_are_read_count_as_changed_input(film, tmp_path, capsys):
    """File managers put files of their own into folders, which do not matter. An additional image changes the input."""
    folder = shutil.copytree(film / "dance", tmp_path / "dance")
    argv = [str(folder), "--poses", str(film / "dance.csv"), "--out", str(tmp_path / "data"), "--height", "32"]
    prepare_video.main(argv)
    for name in (".DS_Store", "Thumbs.db", "._1.png"):
        (folder / name).write_text("?")
    prepare_video.main(argv)
    assert "is finished" in capsys.readouterr().out
    shutil.copy(folder / "59.png", folder / "60.png")
    assert f"the files in {folder} changed since it was started; expected the same" in refused(capsys, prepare_video.main, argv)


def test_keypoints_of_a_larger_video_are_refused(film, tmp_path, capsys):
    keypoints = write_keypoints(tmp_path / "k.csv")
    header, *rows = keypoints.read_text().splitlines()
    larger = [
        ",".join([row.split(",")[0], *(str(float(v) * 3) if v and i % 3 < 2 else v for i, v in enumerate(row.split(",")[1:]))])
        for row in rows
    ]
    keypoints.write_text("\n".join([header, *larger]))
    message = refused(capsys, prepare_video.main, [film / "dance", "--poses", keypoints, "--out", tmp_path / "data"])
    assert "expected joints inside the frames of dance (160 x 90 pixels), got joints up to 339 x 222; scale them" in message


def test_a_crop_decides_the_aspect(film, tmp_path):
    """An upright crop is kept whole instead of being reduced to 2:1."""
    argv = [str(film / "dance"), "--poses", str(film / "dance.csv"), "--out", str(tmp_path / "data")]
    prepare_video.main([*argv, "--crop", "60", "10", "40", "80"])
    content = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert content["aspect"] == "1:2" and content["videos"][0]["window"] == [60, 10, 100, 90]


def test_a_missing_image_is_a_cut(tmp_path):
    """Of images 100 to 159, number 120 is missing, so clips end there. OpenPose's files have the numbers of the images."""
    folder, poses = tmp_path / "dance", tmp_path / "poses"
    write_frames(folder)
    poses.mkdir()
    for t in range(FRAMES):
        (folder / f"{t}.png").rename(folder / f"frame{100 + t}.png")
        write_openpose(poses / f"a_{100 + t}_keypoints.json", pose(**body(t)))
    for path in (folder / "frame120.png", poses / "a_120_keypoints.json"):
        path.unlink()
    prepare_video.main([str(folder), "--poses", str(poses), "--out", str(tmp_path / "data")])
    content = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert content["videos"][0]["cuts"] == [20] and content["blank_poses"] == 0
    assert necks(tmp_path / "data" / "keypoints" / "0.csv")[19:22] == [(119, 69), (121, 71), (122, 72)]


def test_poses_are_not_interpolated_or_smoothed_across_a_cut():
    """A person is at 100, and in the next scene at 500."""
    poses = [np.full((1, len(JOINTS), 3), 100.0, np.float32)] * 5 + [np.full((1, len(JOINTS), 3), 500.0, np.float32)] * 5
    tracked = track_person(poses, [5], how="nearest", confidence=0, fill=3, smoothing=2)
    assert np.allclose(tracked[:5, 0, 0], 100) and np.allclose(tracked[5:, 0, 0], 500)
    poses[4] = poses[5] = np.zeros((0, len(JOINTS), 3), np.float32)
    assert not track_person(poses, [5], how="largest", confidence=0, fill=3, smoothing=0)[4:6].any()


def test_frames_without_a_person_are_blank_and_counted(film, tmp_path, capsys):
    write_keypoints(tmp_path / "k.csv", without=(3, 4, 5, 6, 20))
    prepare_video.main(
        [str(film / "dance"), "--poses", str(tmp_path / "k.csv"), "--out", str(tmp_path / "data"), "--height", "32"]
    )
    assert "4 of 60 frames show no person" in capsys.readouterr().out  # the single missing frame is interpolated
    labels = tmp_path / "data" / "train" / "train_label"
    assert image_of(labels / "frame000004.png").min() == 255 > image_of(labels / "frame000020.png").min()


def test_no_clip_crosses_a_cut(tmp_path, capsys):
    """Frame 20 begins a scene. Its number is one higher, so that it does not follow frame 19."""
    write_frames(tmp_path / "dance", change=lambda t, image: image if t < 20 else 255 - image)
    write_keypoints(tmp_path / "k.csv")
    prepare_video.main([str(tmp_path / "dance"), "--poses", str(tmp_path / "k.csv"), "--out", str(tmp_path / "data")])
    assert "1 cut between scenes" in capsys.readouterr().out
    assert numbers_in(tmp_path / "data" / "train" / "train_img") == {*range(20), *range(21, 43)}
    split = DanceSplit.load(tmp_path / "data", "train", height=32, width=64, cache_dir=tmp_path / "cache")
    assert [len(segment) for segment in split.segments(42)] == [20, 22]


def test_a_part_of_several_videos_is_taken(film, tmp_path):
    write_keypoints(tmp_path / "k.csv")
    both = [str(film / "dance")] * 2
    prepare_video.main([*both, "--poses", *[str(tmp_path / "k.csv")] * 2, "--out", str(tmp_path / "data"), "--skip", "10", "--most", "20",
                        "--every", "2"])  # fmt: skip
    content = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert [v["frames"] for v in content["videos"]] == [20, 20] and len(content["splits"]["test"]) == 2
    assert content["splits"]["train"] == [[0, 13], [1020, 1033]]
    # Frame 0 of the data set is frame 10 of the film, frame 1 is 12: the neck moves right by two pixels each time.
    rows = necks(tmp_path / "data" / "keypoints" / "0.csv")
    assert rows[:3] == [(10, 60), (12, 62), (14, 64)] and len(rows) == 20


@pytest.mark.parametrize("kind", ["film", "images from 1"])
def test_the_keypoints_of_a_data_set_can_be_passed_to_poses(tmp_path, kind):
    """The keypoints of a part of the film have the numbers that its frames have in the whole film."""
    if kind == "film":
        film, first = write_gif(tmp_path / "dance.gif"), 0
    else:
        film, first = write_frames(tmp_path / "dance"), 1
        for t in reversed(range(FRAMES)):
            (film / f"{t}.png").rename(film / f"{t + 1}.png")
    argv = [str(film), "--skip", "6", "--every", "3", "--most", "15", "--height", "32", "--poses"]
    prepare_video.main([*argv, str(write_keypoints(tmp_path / "k.csv", first=first)), "--out", str(tmp_path / "a")])
    keypoints = tmp_path / "a" / "keypoints" / "0.csv"
    assert necks(keypoints) == [(first + 6 + 3 * t, 56 + 3 * t) for t in range(15)]
    prepare_video.main([*argv, str(keypoints), "--out", str(tmp_path / "b")])
    assert (tmp_path / "b" / "keypoints" / "0.csv").read_bytes() == keypoints.read_bytes()


@pytest.mark.parametrize("part", [["--every", "2"], ["--most", "20"], ["--skip", "1"]])
def test_keypoints_that_count_from_1_are_recognized_by_the_number_of_frames(tmp_path, part):
    """The number of frames in the whole film counts, even if only a part of the film is used."""
    film, keypoints = write_gif(tmp_path / "dance.gif"), write_keypoints(tmp_path / "k.csv", first=1)
    prepare_video.main([str(film), "--poses", str(keypoints), "--out", str(tmp_path / "data"), "--height", "32", *part])
    assert all(neck == 50 + frame for frame, neck in necks(tmp_path / "data" / "keypoints" / "0.csv"))


def test_clips_of_a_prepared_data_set_have_consecutive_frames(film):
    split = DanceSplit.load(film / "data", "train", height=32, width=64, cache_dir=film / "cache")
    clips = clips_of(split, length=8, margin=1)
    assert clips[(0, 0)]["frames"].shape == (8, 3, 32, 64)
