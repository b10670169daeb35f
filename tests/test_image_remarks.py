"""Lines about unusual images: once for a folder, also from the frame cache, and never from several processes."""

import numpy as np
import pytest
from PIL import Image

import Tester
import utils
from data import image_files
from data.dance import DanceSplit
from data.dance_sequences import load_test_sequences
from data.robot import RobotSplit
from tests.helpers.dance import SIZE

TEXT = "transparent pixels are laid over white"
OPAQUE, SINGLE = "for another background, save opaque images", "to use the others, save each as an image of its own"


def make_transparent(path, alpha: int = 0) -> None:
    """Replace an image by black pixels with an alpha channel: the right half opaque, the left half with `alpha`."""
    with Image.open(path) as image:
        pixels = np.zeros((image.height, image.width, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[:, : pixels.shape[1] // 2, 3] = alpha
    Image.fromarray(pixels).save(path)


def load_train(root) -> DanceSplit:
    return DanceSplit.load(root, "train", **SIZE)


def test_pose_images_with_a_transparent_background_are_white_there(dataset, capsys):
    """They were black behind black limbs. The line is printed for an existing cache too."""
    folder = dataset / "train" / "train_label"
    for path in folder.iterdir():
        make_transparent(path)
    for _ in range(2):
        poses = load_train(dataset).images[1]
        assert (poses[..., :31] == 255).all() and (poses[..., 33:] == 0).all()
        assert capsys.readouterr().err == f"{folder}: {TEXT} (40 images); {OPAQUE}\n"


def test_frames_and_poses_share_a_line(dataset, capsys):
    for name in ("train_img/frame000003.png", "train_label/frame001030.png"):
        make_transparent(dataset / "train" / name)
    load_train(dataset)
    assert capsys.readouterr().err == f"{dataset / 'train'}: {TEXT} (2 images); {OPAQUE}\n"


@pytest.mark.parametrize("case", ["opaque", "another process"])
def test_nothing_is_printed(dataset, capsys, monkeypatch, case):
    """An alpha channel alone does not matter, and one process of several prints the line."""
    make_transparent(dataset / "train" / "train_img" / "frame000003.png", alpha=255 if case == "opaque" else 0)
    for module in (image_files, utils):
        monkeypatch.setattr(module, "RANK", "0" if case == "opaque" else "1")
    load_train(dataset)
    assert capsys.readouterr().err == ""


def test_an_animation_in_a_data_set_has_a_line_of_its_own(dataset, capsys):
    folder = dataset / "train" / "train_img"
    images = [Image.new("RGBA", (64, 32), color) for color in [(255, 0, 0, 0), (0, 255, 0, 255)]]
    images[0].save(folder / "frame000003.png", save_all=True, append_images=images[1:])
    assert (load_train(dataset).images[0, 3] == 255).all()
    expected = [
        f"{folder}: {TEXT} (1 image); {OPAQUE}",
        f"{folder}: of an animation, only the first image is used (1 image); {SINGLE}",
    ]
    assert capsys.readouterr().err.splitlines() == expected


def test_all_test_sequences_share_a_line(dataset, capsys):
    for name in ("test_img/0", "test_label/0", "test_label/1"):
        make_transparent(min((dataset / "test" / name).iterdir()))
    sequences = load_test_sequences(dataset, **SIZE)
    assert capsys.readouterr().err == f"{dataset / 'test'}: {TEXT} (3 images); {OPAQUE}\n"
    assert (sequences[0].context_frames[..., :31] == 255).all()


def test_all_robot_sequences_share_a_line(rendered_robot, tmp_path, capsys):
    root = tmp_path / "robot"
    for number in range(3):
        folder = root / "train" / "traj" / str(number)
        folder.mkdir(parents=True)
        for t in range(4):
            Image.new("RGBA", (32, 32), (0, 0, 0, 0 if number else 255)).save(folder / f"{t}.png")
        (folder / "actions.csv").write_text("1\n" * 4)
    split = RobotSplit.load(root, "train", height=32, width=32, shortest=4)
    assert [int(image.min()) for image in split.images] == [0] * 4 + [255] * 8
    assert capsys.readouterr().err == f"{root / 'train' / 'traj'}: {TEXT} (8 images); {OPAQUE}\n"


def test_a_first_frame_is_laid_over_white(rendered, trained, tmp_path, capsys):
    Image.new("RGBA", (64, 32), (0, 0, 0, 0)).save(tmp_path / "me.png")
    argv = ["--DR", rendered, "--ckpt_path", trained, "--save_root", tmp_path / "out", "--device", "cpu",
            "--pose_from", rendered / "test" / "test_label" / "0", "--first_frame", tmp_path / "me.png"]  # fmt: skip
    Tester.main([str(part) for part in argv])
    assert capsys.readouterr().err == f"{tmp_path}: {TEXT} (first in me.png); {OPAQUE}\n"
    (strip,) = (tmp_path / "out").glob("strip_seq*.png")
    assert (np.asarray(Image.open(strip))[-40:-20, :20] == 255).all()  # the first frame in the row of predictions
