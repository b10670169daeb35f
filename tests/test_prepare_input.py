"""What tools/prepare_video.py takes: pose images, a detector's weights; and what it refuses."""

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
from poses.keypoint_files import COCO, OPENPOSE
from poses.transfer import pose_images
from tests.helpers.films import FRAMES, HEIGHT, OFFSETS, WIDTH, body, frame, image_of, write_frames, write_keypoints
from tests.helpers.refusals import refused
from tools import prepare_video


def test_pose_images_of_several_sizes_or_other_numbers_are_refused(film, tmp_path, capsys):
    argv = [film / "dance", "--poses", tmp_path / "labels", "--out", tmp_path / "data"]
    shutil.copytree(film / "dance", tmp_path / "labels")
    Image.new("RGB", (80, 45)).save(tmp_path / "labels" / "9.png")
    assert "pose images of 80 x 45, 160 x 90 pixels; expected one size" in refused(capsys, prepare_video.main, argv)
    (tmp_path / "labels" / "9.png").rename(tmp_path / "labels" / "99.png")
    assert "other numbers are missing" in refused(capsys, prepare_video.main, argv)


def test_pose_images_of_a_slightly_other_shape(film, tmp_path):
    """426 x 240 for 1280 x 720: rounding made them wider than the frames by a five-hundredth."""
    (tmp_path / "labels").mkdir()
    for t in range(FRAMES):
        Image.fromarray(frame(t)).resize((162, 90)).save(tmp_path / "labels" / f"{t}.png")
    prepare_video.main(
        [str(film / "dance"), "--poses", str(tmp_path / "labels"), "--out", str(tmp_path / "data"), "--height", "32"]
    )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_ready_made_pose_images(film, tmp_path, suffix):
    """They are cut like the frames, and kept where they are. Around the lines of a JPEG are shades, and its white differs."""
    labels = tmp_path / "labels"
    labels.mkdir()
    shutil.copytree(film / "data", tmp_path / "data")  # made of keypoints, which nobody may take for those of these images
    for t in range(FRAMES):
        picture = np.full((HEIGHT * 2, WIDTH * 2, 3), 255, np.uint8)  # twice as large as the frames
        x, y = body(t)["neck"]
        picture[2 * y - 6 : 2 * y + 7, 2 * x - 6 : 2 * x + 7] = (255, 0, 0) if t != 7 else 255
        if suffix == "jpg":
            picture[HEIGHT:] = 253
        Image.fromarray(picture).save(labels / f"pose{t:03d}.{suffix}")
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


def test_images_beside_openposes_files_are_no_poses(film, tmp_path):
    """--write_json and --write_images of OpenPose with one folder: the images are the frames with skeletons over them."""
    both = shutil.copytree(film / "dance", tmp_path / "both")
    for t in range(FRAMES):
        values = [float(v) for name in OPENPOSE[25] for v in (*body(t).get(name, (0, 0)), name in body(t))]
        (both / f"{t}_keypoints.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": values}]}))
    prepare_video.main([str(film / "dance"), "--poses", str(both), "--out", str(tmp_path / "data"), "--height", "64"])
    for name in ("keypoints/0.csv", "train/train_label/frame000030.png"):
        assert (tmp_path / "data" / name).read_bytes() == (film / "data" / name).read_bytes()
    shown, known = (pose_images(path, like=None, height=32, width=64, detector=None) for path in (both, film / "dance.csv"))
    assert torch.equal(shown, known)


def test_pose_images_may_be_numbered_in_other_steps(film, tmp_path):
    """Frames 0, 5, 10, ... without one of them, pose images 0, 1, 2, ... without the same: one cut."""
    for folder, step in [("dance", 5), ("labels", 1)]:
        (tmp_path / folder).mkdir()
        for t in {*range(FRAMES)} - {21}:
            shutil.copy(film / "dance" / f"{t}.png", tmp_path / folder / f"{step * t}.png")
    prepare_video.main(
        [str(tmp_path / "dance"), "--poses", str(tmp_path / "labels"), "--out", str(tmp_path / "data"), "--height", "32"]
    )
    assert json.loads((tmp_path / "data" / "manifest.json").read_text())["videos"][0]["cuts"] == [21]


class FakeNetwork(torch.nn.Module):
    """In place of keypoint R-CNN: finds the red square, with what the network says of a person there; and somebody unlikely."""

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
    """The networks made, and the file of their weights."""
    made = []
    monkeypatch.setattr(detector, "build", lambda side: made.append(FakeNetwork()) or made[-1])
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pth")
    return made


def test_poses_are_detected_and_a_stopped_search_goes_on(film, tmp_path, network, monkeypatch, capsys):
    argv = [
        str(film / "dance"),
        "--out",
        str(tmp_path / "data"),
        "--weights",
        str(tmp_path / "weights.pth"),
        "--device",
        "cpu",
        "--height",
        "64",
    ]
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
        file.write("[[[1, 2")  # as a killed run leaves it
    prepare_video.main(argv)
    assert len(looked) == FRAMES + 1  # none was looked at twice
    texts = [(folder / "data" / "keypoints" / "0.csv").read_text().splitlines() for folder in (film, tmp_path)]
    expected, found = (list(csv.DictReader(text)) for text in texts)
    for name in OFFSETS:
        assert float(found[30][f"{name}_x"]) == pytest.approx(float(expected[30][f"{name}_x"]), abs=1)
    assert found[30]["right_knee_x"] == ""  # which the network was not sure of
    assert load_validation_sequences(DanceSplit.load(tmp_path / "data", "val", height=32, width=64, cache_dir=tmp_path), length=9)
    capsys.readouterr()
    # Nobody is looked for again for other pictures; for other frames that would be all in vain.
    prepare_video.main([*argv, "--overwrite", "--smooth", "2", "--crop", "20", "10", "120", "60"])
    assert len(looked) == FRAMES + 1 and json.loads((tmp_path / "data" / "manifest.json").read_text())["videos"][0]["window"] == [
        20,
        10,
        140,
        70,
    ]
    assert "other settings: every 1 there, 2 here; expected the same, or another" in refused(
        capsys, prepare_video.main, [*argv, "--overwrite", "--every", "2"]
    )


def test_weights_that_are_none(film, tmp_path, network, capsys):
    argv = [str(film / "dance"), "--out", str(tmp_path / "data"), "--device", "cpu", "--weights"]
    assert "no such file" in refused(capsys, prepare_video.main, [*argv, tmp_path / "gone.pth"])
    (tmp_path / "text.pth").write_text("no weights")
    assert "not a file of weights" in refused(
        capsys, prepare_video.main, [*argv[:2], str(tmp_path / "b"), *argv[3:], tmp_path / "text.pth"]
    )
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    message = refused(capsys, prepare_video.main, [*argv[:2], str(tmp_path / "c"), *argv[3:], tmp_path / "other.pth"])
    assert "the weights of another network" in message and "keypointrcnn_resnet50_fpn_coco" in message


def test_the_published_weights_of_2019_have_older_names(tmp_path):
    """What torchvision renames when it loads them, read backwards, and no count of batches in a normalisation. Every tensor is one
    number, its place in the list, so that the file is small."""
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
    found = detector.Detector(tmp_path / "w.pth", flag="--weights", device=torch.device("cpu"), side=480).model
    loaded = found.state_dict()
    assert {*loaded} == {*shapes} and all((loaded[name] == i).all() for i, name in enumerate(shapes))
    # torchvision sets it so for the published weights, which were trained before it was added to the variances.
    assert {layer.eps for layer in found.modules() if "BatchNorm" in type(layer).__name__} == {0.0}


def test_without_a_network_the_message_says_what_else_can_be_done(film, tmp_path, network, capsys, monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    message = refused(capsys, prepare_video.main, [film / "dance", "--out", tmp_path / "data", "--device", "cpu"])
    assert "cannot be downloaded (no route to host)" in message and "--weights" in message and "keypoints" in message


def test_wrong_input(film, tmp_path, capsys):
    argv = [film / "dance", "--poses", film / "dance.csv", "--out", tmp_path / "data"]
    assert "no such file or folder" in refused(capsys, prepare_video.main, [tmp_path / "gone.mp4", *argv[1:]])
    assert "no such file or folder" in refused(
        capsys, prepare_video.main, [film / "dance", "--poses", tmp_path / "gone", *argv[3:]]
    )
    assert "1 paths for 2 videos" in refused(capsys, prepare_video.main, [film / "dance", *argv])
    assert "frames of 160 x 90" in refused(capsys, prepare_video.main, [*argv, "--crop", "0", "0", "200", "10"])
    message = refused(
        capsys, prepare_video.main, [film / "dance", "--poses", film / "data" / "keypoints" / "0.csv", "--out", film / "data"]
    )
    assert "is written anew in --out" in message and "expected a copy" in message
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
    message = refused(capsys, prepare_video.main, [film / "dance", "--poses", nobody, "--out", tmp_path / "w"])
    assert "nobody was found in any frame" in message
    shutil.copytree(film / "dance", tmp_path / "few")
    (tmp_path / "few" / "0.png").unlink()
    assert "59 pose images; expected 60" in refused(
        capsys, prepare_video.main, [film / "dance", "--poses", tmp_path / "few", "--out", tmp_path / "v"]
    )
