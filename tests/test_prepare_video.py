"""tools/prepare_video.py as a user runs it, on a video that is drawn here and whose poses are therefore known."""
import csv
import json
import shutil

import numpy as np
import prepare_video
import pytest
import torch
from conftest import SMALL, refused
from PIL import Image

import Trainer
from dance_data import DanceClips, DanceSplit, load_test_sequences, load_validation_sequences
from poses import detector, scan
from poses.keypoints import COCO, OPENPOSE, csv_header, csv_row, follow
from poses.skeleton import INDEX, JOINTS
from poses.splits import plan
from poses.window import ASPECTS, Box, View, choose_aspect, choose_window, union
from utils import UserError

FRAMES, HEIGHT, WIDTH = 60, 90, 160
OFFSETS = {"neck": (0, 0), "left_hip": (4, 20), "left_knee": (4, 32), "left_ankle": (4, 44)}


def body(t: int) -> dict:
    """Where somebody's joints are who walks to the right."""
    return {name: (50 + t + x, 30 + y) for name, (x, y) in OFFSETS.items()}


def frame(t: int) -> np.ndarray:
    """A red square on the neck before a gradient."""
    picture = np.repeat(np.linspace(0, 200, WIDTH, dtype=np.uint8)[None, :, None], HEIGHT, 0).repeat(3, 2)
    x, y = body(t)["neck"]
    picture[y - 3 : y + 4, x - 3 : x + 4] = (255, 0, 0)
    return picture


def write_frames(folder, count: int = FRAMES, change=None):
    folder.mkdir()
    for t in range(count):
        picture = frame(t) if change is None else change(t, frame(t))
        Image.fromarray(picture).save(folder / f"{t}.png")
    return folder


def write_keypoints(path, count: int = FRAMES, without=()):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(csv_header())
        for t in range(count):
            pose = np.zeros((len(JOINTS), 3))
            for name, place in body(t).items():
                pose[INDEX[name]] = [*place, 1]
            if t not in without:
                writer.writerow(csv_row(t, pose))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Frames, keypoints and a finished data set, which no test changes."""
    folder = tmp_path_factory.mktemp("video")
    write_frames(folder / "dance")
    write_keypoints(folder / "dance.csv")
    prepare_video.main([str(folder / "dance"), "--poses", str(folder / "dance.csv"), "--out", str(folder / "data"), "--height", "64"])
    return folder


def image_of(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float)


def numbers_in(folder) -> set[int]:
    return {int(path.stem.removeprefix("frame")) for path in folder.glob("*.png")}


def test_the_data_set_can_be_trained_on(video, tmp_path):
    flags = json.loads((video / "data" / "manifest.json").read_text())["train_flags"]
    Trainer.main(["--DR", str(video / "data"), "--save_root", str(tmp_path), "--num_epoch", "1", "--batch_size", "4",
                  "--cache_dir", str(tmp_path / "cache"), *SMALL, *flags])  # fmt: skip
    assert (tmp_path / "best.ckpt").is_file()


def test_splits_never_share_neighbouring_frames(video):
    data = video / "data"
    parts = [numbers_in(data / "train" / "train_img"), numbers_in(data / "val" / "val_img"), numbers_in(data / "test" / "test_gt" / "0")]
    assert [len(part) for part in parts] == [42, 6, 6]
    for i, part in enumerate(parts):
        others = set().union(*parts[:i], *parts[i + 1 :])
        assert not others & {number + step for number in part for step in (-1, 0, 1)}
    for split in ("train", "val"):
        assert numbers_in(data / split / f"{split}_img") == numbers_in(data / split / f"{split}_label")
    sequences = load_test_sequences(data, height=32, width=64, cache_dir=video / "cache")
    assert [len(s.conditions) for s in sequences] == [6] and torch.equal(sequences[0].given[0], sequences[0].truth[0])


def test_frames_and_poses_show_the_same_place(video):
    """The neck is where the red square is, in the whole data set."""
    data = video / "data"
    for split in ("train", "val"):
        for path in sorted((data / split / f"{split}_img").glob("*.png"))[::10]:
            picture, label = image_of(path), image_of(data / split / f"{split}_label" / path.name)
            red = np.argwhere((picture[..., 0] > 200) & (picture[..., 1] < 60)).mean(0)
            ink = 255 - label[..., 0]
            highest = np.flatnonzero(ink.max(1) > 40)[0]  # the neck's disc
            across = np.average(np.arange(ink.shape[1]), weights=ink[highest])
            assert abs(red[0] - highest) < 1.5 and abs(red[1] - across) < 1.5


def test_the_window_shows_the_person_in_the_courses_shape(video):
    """Joints reach from 50 to 113 across and from 30 to 74 down; a tenth of the height of 44 is free around them."""
    manifest = json.loads((video / "data" / "manifest.json").read_text())
    left, top, right, bottom = manifest["videos"][0]["window"]
    assert manifest["aspect"] == "2:1" and (right - left) / (bottom - top) == pytest.approx(2)
    assert left <= 50 - 4.3 and right >= 113 + 4.3 and top <= 30 - 4.3 and bottom >= 74 + 4.3 - 0.5
    assert left >= 0 and right <= WIDTH and top >= 0 and bottom <= HEIGHT and bottom - top == pytest.approx(44 * 1.2, abs=1)


def test_a_stopped_run_goes_on_to_the_same_files(video, tmp_path, monkeypatch, capsys):
    saved = []

    def save_some(path, make):
        saved.append(path)
        if len(saved) == 30:
            raise KeyboardInterrupt
        real(path, make)

    from poses import dataset

    real, argv = dataset.save, [str(video / "dance"), "--poses", str(video / "dance.csv"), "--out", str(tmp_path / "data"), "--height", "64"]
    monkeypatch.setattr(dataset, "save", save_some)
    with pytest.raises(SystemExit) as stop:
        prepare_video.main(argv)
    assert stop.value.code == 130 and "the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(dataset, "save", real)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("frame*.png")}
    prepare_video.main(argv)
    assert len(before) == 29 and all(path.stat().st_mtime_ns == when for path, when in before.items())
    for path in (video / "data").rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            assert path.read_bytes() == (tmp_path / "data" / path.relative_to(video / "data")).read_bytes(), path
    prepare_video.main(argv)
    assert "is finished" in capsys.readouterr().out
    assert "other settings: height 64 there, 96 here" in refused(capsys, prepare_video.main, [*argv[:-1], "96"])


def test_what_failed_before_a_picture_was_made_can_be_mended(video, tmp_path, capsys):
    """A folder whose first try was refused takes other flags the next time."""
    argv = [str(video / "dance"), "--poses", str(video / "dance.csv"), "--out", str(tmp_path / "data")]
    assert "leave too few" in refused(capsys, prepare_video.main, [*argv, "--test", "0.9"])
    prepare_video.main([*argv, "--test", "0.2"])
    assert len(numbers_in(tmp_path / "data" / "test" / "test_gt" / "0")) == 12


def test_a_stopped_run_does_not_go_on_with_other_keypoints(video, tmp_path, capsys, monkeypatch):
    """Half of its pictures would be of one film and half of another."""
    from poses import dataset

    keypoints = shutil.copy(video / "dance.csv", tmp_path / "k.csv")
    argv = [str(video / "dance"), "--poses", str(keypoints), "--out", str(tmp_path / "data")]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(dataset, "write_preview", None)
        patch.setattr(prepare_video, "write_preview", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare_video.main(argv)
    capsys.readouterr()
    write_keypoints(keypoints, without=(3,))
    assert "other settings: inputs" in refused(capsys, prepare_video.main, argv)


def test_keypoints_of_a_larger_film_are_refused(video, tmp_path, capsys):
    keypoints = write_keypoints(tmp_path / "k.csv")
    header, *rows = keypoints.read_text().splitlines()
    larger = [",".join([row.split(",")[0], *(str(float(v) * 3) if v and i % 3 < 2 else v for i, v in enumerate(row.split(",")[1:]))]) for row in rows]
    keypoints.write_text("\n".join([header, *larger]))
    message = refused(capsys, prepare_video.main, [video / "dance", "--poses", keypoints, "--out", tmp_path / "data"])
    assert "joints reach to 339 x 222 in frames of 160 x 90" in message


def test_a_crop_keeps_its_shape(video, tmp_path):
    """An upright part of the frames becomes upright pictures of all of it, not a band of 2:1."""
    prepare_video.main([str(video / "dance"), "--poses", str(video / "dance.csv"), "--out", str(tmp_path / "data"), "--crop", "60", "10", "40", "80"])
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["aspect"] == "1:2" and manifest["videos"][0]["window"] == [60, 10, 100, 90]


def test_missing_images_are_a_cut_and_keypoints_may_have_their_numbers(tmp_path):
    """Images 100 to 159 without 120: clips end there. OpenPose's files are numbered like them."""
    folder, poses = tmp_path / "dance", tmp_path / "poses"
    write_frames(folder)
    poses.mkdir()
    for t in range(FRAMES):
        (folder / f"{t}.png").rename(folder / f"frame{100 + t}.png")
        values = [float(v) for name in OPENPOSE[25] for v in (*body(t).get(name, (0, 0)), name in body(t))]
        (poses / f"a_{100 + t}_keypoints.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": values}]}))
    for path in (folder / "frame120.png", poses / "a_120_keypoints.json"):
        path.unlink()
    prepare_video.main([str(folder), "--poses", str(poses), "--out", str(tmp_path / "data")])
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["videos"][0]["cuts"] == [20] and manifest["blank_poses"] == 0
    with open(tmp_path / "data" / "keypoints" / "0.csv") as file:
        assert [float(row["neck_x"]) for row in csv.DictReader(file)][19:22] == [69, 71, 72]


def test_nothing_is_filled_or_smoothed_across_a_cut():
    """Somebody stands at 100, and in the next scene at 500."""
    poses = [np.full((1, len(JOINTS), 3), 100.0, np.float32)] * 5 + [np.full((1, len(JOINTS), 3), 500.0, np.float32)] * 5
    followed = follow(poses, [5], how="nearest", confidence=0, fill=3, smoothing=2)
    assert np.allclose(followed[:5, 0, 0], 100) and np.allclose(followed[5:, 0, 0], 500)
    poses[4] = poses[5] = np.zeros((0, len(JOINTS), 3), np.float32)
    assert not follow(poses, [5], how="largest", confidence=0, fill=3, smoothing=0)[4:6].any()


def test_pose_images_of_several_sizes_or_other_numbers_are_refused(video, tmp_path, capsys):
    argv = [video / "dance", "--poses", tmp_path / "labels", "--out", tmp_path / "data"]
    shutil.copytree(video / "dance", tmp_path / "labels")
    Image.new("RGB", (80, 45)).save(tmp_path / "labels" / "9.png")
    assert "pose images of 80 x 45, 160 x 90 pixels; expected one size" in refused(capsys, prepare_video.main, argv)
    (tmp_path / "labels" / "9.png").rename(tmp_path / "labels" / "99.png")
    assert "other numbers are missing" in refused(capsys, prepare_video.main, argv)


def test_pose_images_of_a_slightly_other_shape(video, tmp_path):
    """426 x 240 for 1280 x 720: rounding made them wider than the frames by a five-hundredth."""
    (tmp_path / "labels").mkdir()
    for t in range(FRAMES):
        Image.fromarray(frame(t)).resize((162, 90)).save(tmp_path / "labels" / f"{t}.png")
    prepare_video.main([str(video / "dance"), "--poses", str(tmp_path / "labels"), "--out", str(tmp_path / "data"), "--height", "32"])


def test_frames_without_a_person_are_blank_and_counted(video, tmp_path, capsys):
    write_keypoints(tmp_path / "k.csv", without=(3, 4, 5, 6, 20))
    prepare_video.main([str(video / "dance"), "--poses", str(tmp_path / "k.csv"), "--out", str(tmp_path / "data"), "--height", "32"])
    assert "4 of 60 frames show no person" in capsys.readouterr().out  # the single one was filled
    labels = tmp_path / "data" / "train" / "train_label"
    assert image_of(labels / "frame000004.png").min() == 255 > image_of(labels / "frame000020.png").min()


def test_a_cut_ends_a_clip(tmp_path, capsys):
    """From frame 20 on another place is seen; numbers jump there, and the same two frames are no neighbours any more."""
    write_frames(tmp_path / "dance", change=lambda t, picture: picture if t < 20 else 255 - picture)
    write_keypoints(tmp_path / "k.csv")
    prepare_video.main([str(tmp_path / "dance"), "--poses", str(tmp_path / "k.csv"), "--out", str(tmp_path / "data")])
    assert "1 cuts" in capsys.readouterr().out
    assert numbers_in(tmp_path / "data" / "train" / "train_img") == {*range(20), *range(21, 43)}
    split = DanceSplit(tmp_path / "data", "train", height=32, width=64, cache_dir=tmp_path / "cache")
    assert [len(stretch) for stretch in split.stretches(42)] == [20, 22]


def test_several_videos_and_a_part_of_each(video, tmp_path):
    write_keypoints(tmp_path / "k.csv")
    both = [str(video / "dance")] * 2
    prepare_video.main([*both, "--poses", *[str(tmp_path / "k.csv")] * 2, "--out", str(tmp_path / "data"), "--skip", "10", "--most", "20",
                        "--every", "2"])  # fmt: skip
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert [v["frames"] for v in manifest["videos"]] == [20, 20] and len(manifest["splits"]["test"]) == 2
    assert manifest["splits"]["train"] == [[0, 13], [1020, 1033]]
    # Frame 0 of the data is frame 10 of the video, frame 1 is 12: the neck goes two pixels to the right each time.
    with open(tmp_path / "data" / "keypoints" / "0.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["neck_x"]) for row in rows[:3]] == [60, 62, 64] and len(rows) == 20


def test_ready_made_pose_images(video, tmp_path):
    """They are cut like the frames, and kept where they are."""
    labels = tmp_path / "labels"
    labels.mkdir()
    for t in range(FRAMES):
        picture = np.full((HEIGHT * 2, WIDTH * 2, 3), 255, np.uint8)  # twice as large as the frames
        x, y = body(t)["neck"]
        picture[2 * y - 6 : 2 * y + 7, 2 * x - 6 : 2 * x + 7] = (255, 0, 0) if t != 7 else 255
        Image.fromarray(picture).save(labels / f"pose{t:03d}.png")
    prepare_video.main([str(video / "dance"), "--poses", str(labels), "--out", str(tmp_path / "data"), "--aspect", "1:1"])
    data = tmp_path / "data"
    assert json.loads((data / "manifest.json").read_text())["blank_poses"] == 1
    for name in ("frame000002.png", "frame000030.png"):
        red = [np.argwhere((p[..., 0] > 200) & (p[..., 1] < 60)).mean(0)
               for p in (image_of(data / "train" / kind / name) for kind in ("train_img", "train_label"))]  # fmt: skip
        assert np.abs(red[0] - red[1]).max() < 2


class FakeNetwork(torch.nn.Module):
    """In place of keypoint R-CNN: finds the red square, with what the network says of a person there; and somebody unlikely."""

    def __init__(self, **sizes):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        place = ((images[0][0] > 0.8) & (images[0][1] < 0.2)).nonzero().float().mean(0).flip(0)
        keypoints = torch.zeros(2, 17, 3)
        for name, (x, y) in OFFSETS.items():
            for joint in ([f"{side}_shoulder" for side in ("left", "right")] if name == "neck" else [name]):
                keypoints[:, COCO.index(joint), :2] = place + torch.tensor([x, y])
        scores = torch.full((2, 17), -3.0)
        scores[:, [COCO.index(n) for n in ("left_shoulder", "right_shoulder", "left_hip", "left_knee", "left_ankle")]] = 9.0
        return [{"scores": torch.tensor([0.99, 0.2]), "keypoints": keypoints, "keypoints_scores": scores}]


@pytest.fixture
def network(monkeypatch, tmp_path):
    """The networks made, and the file of their weights."""
    import torchvision

    made = []
    monkeypatch.setattr(torchvision.models.detection, "keypointrcnn_resnet50_fpn", lambda **sizes: made.append(FakeNetwork(**sizes)) or made[-1])
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pth")
    return made


def test_poses_are_detected_and_a_stopped_search_goes_on(video, tmp_path, network, monkeypatch):
    argv = [str(video / "dance"), "--out", str(tmp_path / "data"), "--weights", str(tmp_path / "weights.pth"), "--device", "cpu", "--height", "64"]
    real, looked = detector.Detector.people, []

    def people(self, picture):
        looked.append(1)
        if len(looked) == 26:
            raise KeyboardInterrupt
        return real(self, picture)

    monkeypatch.setattr(detector.Detector, "people", people)
    with pytest.raises(SystemExit):
        prepare_video.main(argv)
    with open(tmp_path / "data" / "keypoints" / "0.people.jsonl", "a") as file:
        file.write('[[[1, 2')  # as a killed run leaves it
    prepare_video.main(argv)
    assert len(looked) == FRAMES + 1  # none was looked at twice
    texts = [(folder / "data" / "keypoints" / "0.csv").read_text().splitlines() for folder in (video, tmp_path)]
    expected, found = (list(csv.DictReader(text)) for text in texts)
    for name in OFFSETS:
        assert float(found[30][f"{name}_x"]) == pytest.approx(float(expected[30][f"{name}_x"]), abs=1)
    assert found[30]["right_knee_x"] == ""  # which the network was not sure of
    assert load_validation_sequences(DanceSplit(tmp_path / "data", "val", height=32, width=64, cache_dir=tmp_path), length=9)


def test_weights_that_are_none(video, tmp_path, network, capsys):
    argv = [str(video / "dance"), "--out", str(tmp_path / "data"), "--device", "cpu", "--weights"]
    assert "no such file" in refused(capsys, prepare_video.main, [*argv, tmp_path / "gone.pth"])
    (tmp_path / "text.pth").write_text("no weights")
    assert "not a file of weights" in refused(capsys, prepare_video.main, [*argv[:2], str(tmp_path / "b"), *argv[3:], tmp_path / "text.pth"])
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    message = refused(capsys, prepare_video.main, [*argv[:2], str(tmp_path / "c"), *argv[3:], tmp_path / "other.pth"])
    assert "the weights of another network" in message and "keypointrcnn_resnet50_fpn_coco" in message


def test_without_a_network_the_message_says_what_else_can_be_done(video, tmp_path, network, capsys, monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    message = refused(capsys, prepare_video.main, [video / "dance", "--out", tmp_path / "data", "--device", "cpu"])
    assert "cannot be downloaded (no route to host)" in message and "--weights" in message and "keypoints" in message


def test_wrong_input(video, tmp_path, capsys):
    argv = [video / "dance", "--poses", video / "dance.csv", "--out", tmp_path / "data"]
    assert "no such file or folder" in refused(capsys, prepare_video.main, [tmp_path / "gone.mp4", *argv[1:]])
    assert "no such file or folder" in refused(capsys, prepare_video.main, [video / "dance", "--poses", tmp_path / "gone", *argv[3:]])
    assert "1 paths for 2 videos" in refused(capsys, prepare_video.main, [video / "dance", *argv])
    assert "frames of 160 x 90" in refused(capsys, prepare_video.main, [*argv, "--crop", "0", "0", "200", "10"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    assert "holds something else" in refused(capsys, prepare_video.main, [*argv[:-1], tmp_path / "full"])
    short = write_frames(tmp_path / "short", 4)
    keypoints = write_keypoints(tmp_path / "k.csv", 4)
    message = refused(capsys, prepare_video.main, [short, "--poses", keypoints, "--out", tmp_path / "s"])
    assert "4 frames; expected at least 10" in message
    assert "leave too few" in refused(capsys, prepare_video.main, [*argv[:-1], tmp_path / "t", "--test", "0.9"])
    assert "no frame is left" in refused(capsys, prepare_video.main, [*argv[:-1], tmp_path / "u", "--skip", "99"])
    nobody = write_keypoints(tmp_path / "nobody.csv", without=range(1, FRAMES))
    nobody.write_text(nobody.read_text().replace(",1.000", ",0.000"))
    message = refused(capsys, prepare_video.main, [video / "dance", "--poses", nobody, "--out", tmp_path / "w"])
    assert "nobody was found in any frame" in message
    shutil.copytree(video / "dance", tmp_path / "few")
    (tmp_path / "few" / "0.png").unlink()
    assert "59 pose images; expected 60" in refused(capsys, prepare_video.main, [video / "dance", "--poses", tmp_path / "few", "--out", tmp_path / "v"])


@pytest.mark.parametrize("height, width, box, aspect", [
    (720, 1280, Box(100, 100, 1100, 700), "2:1"),  # 1200 x 600 fits
    (720, 1280, Box(300, 0, 900, 720), "3:2"),  # 2:1 would be 1440 wide
    (1280, 720, Box(100, 100, 600, 800), "1:1"),
    (1280, 720, Box(10, 100, 700, 1120), "2:3"),
    (1280, 720, Box(0, 0, 720, 1280), "1:2"),
    (720, 1280, None, "2:1"),
])  # fmt: skip
def test_the_aspect_is_the_first_that_shows_the_person_whole(height, width, box, aspect):
    view = View(box, height, width)
    assert choose_aspect([view]) == aspect and all(side % 8 == 0 for side in ASPECTS[aspect])
    window = choose_window(view, aspect)
    assert window.left >= 0 and window.top >= 0 and window.right <= width + 1e-6 and window.bottom <= height + 1e-6
    if box and aspect != "1:2":
        assert window.left <= box.left and window.right >= box.right and window.top <= box.top and window.bottom >= box.bottom


def test_videos_of_one_camera_share_a_window():
    views = [View(Box(10, 10, 50, 50), 100, 200), View(Box(120, 40, 180, 90), 100, 200), View(None, 100, 200)]
    assert union(views).box == Box(10, 10, 180, 90)


def test_a_split_that_cuts_leave_empty_is_refused():
    """Forty frames, four of them for validation, each of which begins a scene."""
    with pytest.raises(UserError, match="val: no two frames of one scene are left"):
        plan([40], [[30, 31, 32, 33, 34]], val=0.1, test=0.1, gap=2, longest=630)
    stretches = plan([100, 50], [[40], []], val=0.1, test=0.2, gap=15, longest=12)
    assert [(s.split, s.video, s.frames, s.number) for s in stretches if s.video == 0] == [
        ("train", 0, range(0, 40), 0), ("train", 0, range(40, 60), 41), ("val", 0, range(65, 75), 66),
        ("test", 0, range(80, 92), 81), ("test", 0, range(92, 100), 93)]  # fmt: skip
    assert stretches[5].number == 100 + 1 + 1000


def test_flicker_is_no_cut(tmp_path):
    """Frames that change all the time, by more than --cut."""
    for t in range(12):
        Image.new("RGB", (16, 8), (0, 0, 0) if t % 2 else (255, 255, 255)).save(tmp_path / f"{t}.png")
    found = scan.scan(scan.Video(tmp_path, None, 0, 1, None), None, tmp_path / "none.jsonl", cut=0.15)
    assert found.cuts == [] and found.length == 12


def test_clips_of_a_prepared_data_set_hold_frames_that_follow_each_other(video):
    split = DanceSplit(video / "data", "train", height=32, width=64, cache_dir=video / "cache")
    clips = DanceClips(split, length=8, partial=1.0, seed=1, reference="video", flip=0.0, shift=0, margin=1)
    assert clips[(0, 0)]["frames"].shape == (8, 3, 32, 64)
