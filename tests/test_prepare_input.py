"""Input of tools/prepare_video.py: pose images, weights of a detector, and input that it refuses."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from data.dance import DanceSplit, load_validation_sequences
from poses import detector
from poses.keypoint_files import COCO
from poses.transfer import pose_images
from tests.helpers.films import (
    FRAMES,
    HEIGHT,
    OFFSETS,
    WIDTH,
    body,
    frame,
    image_of,
    pose,
    write_frames,
    write_keypoints,
    write_openpose,
)
from tests.helpers.refusals import refused
from tools import prepare_video


def test_pose_images_of_several_sizes_or_with_other_gaps_are_refused(film, tmp_path, capsys):
    argv = [film / "dance", "--poses", tmp_path / "labels", "--out", tmp_path / "data"]
    shutil.copytree(film / "dance", tmp_path / "labels")
    Image.new("RGB", (80, 45)).save(tmp_path / "labels" / "9.png")
    assert "expected pose images of one size, in the shape of 160 x 90, got 80 x 45, 160 x 90 pixels" in refused(
        capsys, prepare_video.main, argv
    )
    (tmp_path / "labels" / "9.png").rename(tmp_path / "labels" / "99.png")
    assert "got gaps in other places of their numbers" in refused(capsys, prepare_video.main, argv)


def test_pose_images_may_differ_in_shape_by_rounding(film, tmp_path):
    """Pose images of 426 x 240 pixels for frames of 1280 x 720 are too narrow by 0.2 % and were once refused."""
    (tmp_path / "labels").mkdir()
    for t in range(FRAMES):
        Image.fromarray(frame(t)).resize((162, 90)).save(tmp_path / "labels" / f"{t}.png")
    prepare_video.main(
        [str(film / "dance"), "--poses", str(tmp_path / "labels"), "--out", str(tmp_path / "data"), "--height", "32"]
    )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pose_images_are_cropped_like_the_frames(film, tmp_path, suffix):
    """The lines of a JPEG have faint pixels around them, and its white is not pure. Neither counts as drawn."""
    labels = tmp_path / "labels"
    labels.mkdir()
    shutil.copytree(film / "data", tmp_path / "data")  # made from keypoints, which must not be kept for these images
    for t in range(FRAMES):
        image = np.full((HEIGHT * 2, WIDTH * 2, 3), 255, np.uint8)  # twice as large as the frames
        x, y = body(t)["neck"]
        image[2 * y - 6 : 2 * y + 7, 2 * x - 6 : 2 * x + 7] = (255, 0, 0) if t != 7 else 255
        if suffix == "jpg":
            image[HEIGHT:] = 253
        Image.fromarray(image).save(labels / f"pose{t:03d}.{suffix}")
    prepare_video.main(
        [str(film / "dance"), "--poses", str(labels), "--out", str(tmp_path / "data"), "--aspect", "1:1", "--overwrite"]
    )
    data = tmp_path / "data"
    assert not [*(data / "keypoints").iterdir()]
    manifest = json.loads((data / "manifest.json").read_text())
    left, top, right, bottom = manifest["videos"][0]["window"]
    assert manifest["blank_poses"] == 1 and 40 <= left <= 47 and 112 <= right <= 120 and right - left == bottom - top
    for name in ("frame000002.png", "frame000030.png"):
        red = [np.argwhere((p[..., 0] > 200) & (p[..., 1] < 60)).mean(0)
               for p in (image_of(data / "train" / kind / name) for kind in ("train_img", "train_label"))]  # fmt: skip
        assert np.abs(red[0] - red[1]).max() < 2


def test_images_next_to_openposes_files_are_not_pose_images(film, tmp_path):
    """With --write_json and --write_images, OpenPose writes frames with skeletons drawn over them next to its keypoints."""
    both = shutil.copytree(film / "dance", tmp_path / "both")
    for t in range(FRAMES):
        write_openpose(both / f"{t}_keypoints.json", pose(**body(t)))
    prepare_video.main([str(film / "dance"), "--poses", str(both), "--out", str(tmp_path / "data"), "--height", "64"])
    for name in ("keypoints/0.csv", "train/train_label/frame000030.png"):
        assert (tmp_path / "data" / name).read_bytes() == (film / "data" / name).read_bytes()
    shown, known = (pose_images(path, like=None, height=32, width=64, detector=None) for path in (both, film / "dance.csv"))
    assert torch.equal(shown, known)


def test_the_numbers_of_pose_images_may_have_another_step(film, tmp_path):
    """The frames are 0, 5, 10, ... and the pose images 0, 1, 2, ..., both with a gap at the same position: one cut."""
    for folder, step in [("dance", 5), ("labels", 1)]:
        (tmp_path / folder).mkdir()
        for t in {*range(FRAMES)} - {21}:
            shutil.copy(film / "dance" / f"{t}.png", tmp_path / folder / f"{step * t}.png")
    prepare_video.main(
        [str(tmp_path / "dance"), "--poses", str(tmp_path / "labels"), "--out", str(tmp_path / "data"), "--height", "32"]
    )
    assert json.loads((tmp_path / "data" / "manifest.json").read_text())["videos"][0]["cuts"] == [21]


class FakeNetwork(torch.nn.Module):
    """Replaces keypoint R-CNN: returns a person at the red square, and a second one with a low score."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        place = ((images[0][0] > 0.8) & (images[0][1] < 0.2)).nonzero().float().mean(0).flip(0)
        keypoints = torch.zeros(2, 17, 3)
        for name, (x, y) in OFFSETS.items():
            for joint in [f"{side}_shoulder" for side in ("left", "right")] if name == "neck" else [name]:
                keypoints[:, COCO.index(joint), :2] = place + torch.tensor([x, y])
        scores = torch.full((2, 17), -3.0)
        scores[:, [COCO.index(n) for n in ("left_shoulder", "right_shoulder", "left_hip", "left_knee", "left_ankle")]] = 9.0
        return [{"scores": torch.tensor([0.99, 0.2]), "keypoints": keypoints, "keypoints_scores": scores}]


@pytest.fixture
def network(monkeypatch, tmp_path):
    """Replace the network, write a file of its weights, and return the list of networks built."""
    made = []
    monkeypatch.setattr(detector, "build", lambda side: made.append(FakeNetwork()) or made[-1])
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pth")
    return made


def test_poses_are_detected_and_an_interrupted_search_continues(film, tmp_path, network, monkeypatch, capsys):
    weights = ["--weights", str(tmp_path / "weights.pth"), "--device", "cpu"]
    argv = [str(film / "dance"), "--out", str(tmp_path / "data"), *weights, "--height", "64"]
    real, calls = detector.Detector.find_people, []

    def find_people(self, frame):
        calls.append(1)
        if len(calls) == 26:
            raise KeyboardInterrupt
        return real(self, frame)

    monkeypatch.setattr(detector.Detector, "find_people", find_people)
    with pytest.raises(SystemExit):
        prepare_video.main(argv)
    with open(tmp_path / "data" / "keypoints" / "0.people.jsonl", "a") as file:
        file.write("[[[1, 2")  # a killed run may leave an incomplete line
    prepare_video.main(argv)
    assert len(calls) == FRAMES + 1  # no frame was searched twice
    texts = [(folder / "data" / "keypoints" / "0.csv").read_text().splitlines() for folder in (film, tmp_path)]
    expected, found = (list(csv.DictReader(text)) for text in texts)
    for name in OFFSETS:
        assert float(found[30][f"{name}_x"]) == pytest.approx(float(expected[30][f"{name}_x"]), abs=1)
    assert found[30]["right_knee_x"] == ""  # found with a low score only
    assert load_validation_sequences(DanceSplit.load(tmp_path / "data", "val", height=32, width=64, cache_dir=tmp_path), length=9)
    capsys.readouterr()
    # Other images need no new search. Other frames would make the earlier search useless, so they are refused.
    prepare_video.main([*argv, "--overwrite", "--smooth", "2", "--crop", "20", "10", "120", "60"])
    window = json.loads((tmp_path / "data" / "manifest.json").read_text())["videos"][0]["window"]
    assert len(calls) == FRAMES + 1 and window == [20, 10, 140, 70]
    assert "other settings (every 1 in its manifest, 2 on the command line); expected the same settings, or another" in refused(
        capsys, prepare_video.main, [*argv, "--overwrite", "--every", "2"]
    )


def test_files_that_are_not_weights_are_refused(film, tmp_path, network, capsys):
    argv = [str(film / "dance"), "--out", str(tmp_path / "data"), "--device", "cpu", "--weights"]
    assert "no such file" in refused(capsys, prepare_video.main, [*argv, tmp_path / "gone.pth"])
    (tmp_path / "text.pth").write_text("not weights")
    assert "not a file of weights" in refused(
        capsys, prepare_video.main, [*argv[:2], str(tmp_path / "b"), *argv[3:], tmp_path / "text.pth"]
    )
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    message = refused(capsys, prepare_video.main, [*argv[:2], str(tmp_path / "c"), *argv[3:], tmp_path / "other.pth"])
    assert "the weights of another network" in message and "keypointrcnn_resnet50_fpn_coco" in message


def test_the_published_weights_with_their_older_names_are_read(tmp_path):
    """torchvision renames the weights when it loads them. The file has the older names and no batch counts.

    Each tensor repeats a single number, its index, so that the file is small.
    """
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    shapes = {name: value.shape for name, value in keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict().items()
              if not name.endswith("num_batches_tracked")}  # fmt: skip
    older = [
        re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", name).replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for name in shapes
    ]
    assert {"backbone.fpn.inner_blocks.0.weight", "backbone.fpn.layer_blocks.3.bias", "rpn.head.conv.weight"} < {*older} - {
        *shapes
    }
    torch.save(
        {name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(zip(older, shapes.values()))},
        tmp_path / "w.pth",
    )
    found = detector.Detector.load(tmp_path / "w.pth", flag="--weights", device=torch.device("cpu"), side=480).model
    loaded = found.state_dict()
    assert {*loaded} == {*shapes} and all((loaded[name] == i).all() for i, name in enumerate(shapes))
    # torchvision sets eps to 0 for the published weights, which were trained before it was added to the variances.
    assert {layer.eps for layer in found.modules() if "BatchNorm" in type(layer).__name__} == {0.0}


def test_without_internet_the_message_names_the_alternatives(film, tmp_path, network, capsys, monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    message = refused(capsys, prepare_video.main, [film / "dance", "--out", tmp_path / "data", "--device", "cpu"])
    assert "cannot be downloaded (no route to host)" in message and "--weights" in message and "keypoints" in message


def test_wrong_input_is_refused(film, tmp_path, capsys):
    argv = [film / "dance", "--poses", film / "dance.csv", "--out", tmp_path / "data"]
    assert "no such file or folder" in refused(capsys, prepare_video.main, [tmp_path / "gone.mp4", *argv[1:]])
    assert "no such file or folder" in refused(
        capsys, prepare_video.main, [film / "dance", "--poses", tmp_path / "gone", *argv[3:]]
    )
    assert "expected one path for each of 2 videos, got 1" in refused(capsys, prepare_video.main, [film / "dance", *argv])
    assert "frames of dance (160 x 90 pixels), got one up to 200, 10; choose a smaller one" in refused(
        capsys, prepare_video.main, [*argv, "--crop", "0", "0", "200", "10"]
    )
    message = refused(
        capsys, prepare_video.main, [film / "dance", "--poses", film / "data" / "keypoints" / "0.csv", "--out", film / "data"]
    )
    assert f"expected a path outside {film / 'data' / 'keypoints'}, which is overwritten" in message and "pass a copy" in message
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    assert "got a folder with other files" in refused(capsys, prepare_video.main, [*argv[:-1], tmp_path / "full"])
    short = write_frames(tmp_path / "short", 4)
    keypoints = write_keypoints(tmp_path / "k.csv", 4)
    message = refused(capsys, prepare_video.main, [short, "--poses", keypoints, "--out", tmp_path / "s"])
    assert "expected at least 10 frames for training and tests, got 4" in message
    assert "leave too few" in refused(capsys, prepare_video.main, [*argv[:-1], tmp_path / "t", "--test", "0.9"])
    assert "no frame is left after --skip 99; choose a smaller --skip" in refused(
        capsys, prepare_video.main, [*argv[:-1], tmp_path / "u", "--skip", "99"]
    )
    nobody = write_keypoints(tmp_path / "nobody.csv", without=range(1, FRAMES))
    nobody.write_text(nobody.read_text().replace(",1.000", ",0.000"))
    message = refused(capsys, prepare_video.main, [film / "dance", "--poses", nobody, "--out", tmp_path / "w"])
    assert "nobody was found in any frame" in message
    shutil.copytree(film / "dance", tmp_path / "few")
    (tmp_path / "few" / "0.png").unlink()
    assert "expected 60 pose images, one for each frame taken, got 59" in refused(
        capsys, prepare_video.main, [film / "dance", "--poses", tmp_path / "few", "--out", tmp_path / "v"]
    )
