"""Frames of video files, animated images and folders of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poses.footage import open_footage
from tests.helpers.images import write_image
from tests.helpers.video_files import gray_frames, rotate_header, write_video
from utils import UserError

av = pytest.importorskip("av", reason="reading video files needs the package av")


def test_a_video_file_gives_its_frames_in_order(tmp_path):
    frames = gray_frames(12)
    write_video(tmp_path / "dance.mp4", frames)
    footage = open_footage(tmp_path / "dance.mp4")
    assert footage.fps == 25 and footage.expected == 12
    assert np.abs(np.stack(list(footage.frames())).astype(int) - frames).max() <= 4
    assert len(list(footage.frames())) == 12  # a second iteration starts from the beginning


@pytest.mark.parametrize("degrees, turns", [(90, 3), (180, 2), (270, 1)])
def test_a_video_of_a_rotated_phone_is_upright(tmp_path, degrees, turns):
    """The matrix in the header asks a player to rotate clockwise."""
    write_video(tmp_path / "dance.mp4", gray_frames(2))
    stored = next(open_footage(tmp_path / "dance.mp4").frames())
    rotate_header(tmp_path / "dance.mp4", degrees)
    (upright, second) = open_footage(tmp_path / "dance.mp4").frames()
    assert np.array_equal(upright, np.rot90(stored, turns)) and upright.shape == second.shape


def test_a_gif_counts_time_and_not_images(tmp_path):
    """GIF writers merge two equal adjacent frames into one image that is shown twice as long."""
    images = [Image.new("RGB", (32, 16), (gray,) * 3) for gray in (10, 90, 200)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[40, 80, 40], loop=0)
    footage = open_footage(tmp_path / "a.gif")
    grays = [int(frame.mean()) for frame in footage.frames()]
    assert grays == [10, 90, 90, 200] and footage.expected == 4 and footage.fps == 25


def test_images_of_a_folder_are_ordered_by_their_numbers(tmp_path):
    for number in (9, 12, 10):
        Image.new("RGB", (8, 4), (number,) * 3).save(tmp_path / f"{number}.png")
    assert [int(frame[0, 0, 0]) for frame in open_footage(tmp_path).frames()] == [9, 10, 12]


def test_files_that_are_not_videos_are_refused(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.gif").write_text("not an image")
    write_image(tmp_path / "one.png")
    (tmp_path / "none").mkdir()
    for name, words in [("empty.mp4", "expected a video such as an mp4, got an empty file; copy"), ("text.gif", "as an animated image"), ("one.png", "got .png; pass the folder that holds it"),
                        ("gone.mp4", "no such file"), ("none", "holds no images")]:  # fmt: skip
        with pytest.raises(UserError, match=words):
            open_footage(tmp_path / name)


def test_images_of_16_bits_are_scaled_to_8(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "0.png")
    (frame,) = open_footage(tmp_path).frames()
    assert frame[0, :, 0].tolist() == [0, 128, 255]


def test_names_with_a_colon_are_files(tmp_path, monkeypatch):
    """FFmpeg would read 12:30.mp4 as an address with the protocol 12."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", gray_frames(3))
    (tmp_path / "a.mp4").rename("12:30.mp4")
    assert len(list(open_footage(Path("12:30.mp4")).frames())) == 3


def test_frames_of_two_sizes_are_refused(tmp_path):
    write_image(tmp_path / "0.png", size=(8, 4))
    write_image(tmp_path / "1.png", size=(8, 6))
    with pytest.raises(UserError, match="expected 8 x 4 pixels in every frame, as in the first, got 8 x 6 in frame 1"):
        list(open_footage(tmp_path).frames())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    write_video(tmp_path / "dance.mp4", gray_frames(2))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match="pip install av"):
        open_footage(tmp_path / "dance.mp4")
