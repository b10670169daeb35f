"""Frames of videos in every form."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poses.footage import open_footage
from tests.helpers.images import write_image
from utils import UserError

av = pytest.importorskip("av", reason="reading video files needs the package av")


def write_video(path, frames: np.ndarray, *, fps: int = 25) -> None:
    """(T, H, W, 3) uint8 as an mp4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def plain(count: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames of one grey each, lighter from one to the next, with a dark upper left corner."""
    frames = np.repeat(np.arange(count, dtype=np.uint8) * 10 + 60, height * width * 3).reshape(count, height, width, 3)
    frames[:, : height // 2, : width // 2] = 20
    return frames


def test_a_video_file_gives_its_frames_in_order(tmp_path):
    frames = plain(12)
    write_video(tmp_path / "dance.mp4", frames)
    footage = open_footage(tmp_path / "dance.mp4")
    assert footage.fps == 25 and footage.expected == 12
    assert np.abs(np.stack(list(footage.frames())).astype(int) - frames).max() <= 4
    assert len(list(footage.frames())) == 12  # a second time from the beginning


def test_a_video_of_a_turned_telephone_stands_upright(tmp_path, monkeypatch):
    write_video(tmp_path / "dance.mp4", plain(2))
    from poses import footage

    class Turned:
        """A frame whose file says that it must be turned by 90 degrees against the clock."""

        rotation = 90

        def __init__(self, frame):
            self.frame = frame

        def to_ndarray(self, **how):
            return self.frame.to_ndarray(**how)

    class Container:
        def __init__(self, *_):
            self.inner = av.open(str(tmp_path / "dance.mp4"))
            self.streams = self.inner.streams

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.inner.close()

        def decode(self, **which):
            return map(Turned, self.inner.decode(**which))

    upright = next(open_footage(tmp_path / "dance.mp4").frames())
    monkeypatch.setattr(
        footage, "optional_package", lambda *_, **__: type("av", (), {"open": Container, "FFmpegError": av.FFmpegError})
    )
    turned = next(open_footage(tmp_path / "dance.mp4").frames())
    assert turned.shape == (64, 48, 3) and np.array_equal(turned, np.rot90(upright))


def test_a_gif_counts_time_and_not_pictures(tmp_path):
    """Two equal neighbours are kept as one picture that is shown for twice the time."""
    pictures = [Image.new("RGB", (32, 16), (grey,) * 3) for grey in (10, 90, 200)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[40, 80, 40], loop=0)
    footage = open_footage(tmp_path / "a.gif")
    greys = [int(frame.mean()) for frame in footage.frames()]
    assert greys == [10, 90, 90, 200] and footage.expected == 4 and footage.fps == 25


def test_a_folder_of_images_goes_by_their_numbers(tmp_path):
    for number in (9, 12, 10):
        Image.new("RGB", (8, 4), (number,) * 3).save(tmp_path / f"{number}.png")
    assert [int(frame[0, 0, 0]) for frame in open_footage(tmp_path).frames()] == [9, 10, 12]


def test_what_is_no_video_is_refused(tmp_path, monkeypatch):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.gif").write_text("no picture")
    write_image(tmp_path / "one.png")
    (tmp_path / "none").mkdir()
    for name, words in [("empty.mp4", "cannot be read as a video"), ("text.gif", "as an animated image"), ("one.png", "not a video"),
                        ("gone.mp4", "no such file"), ("none", "holds no images")]:  # fmt: skip
        with pytest.raises(UserError, match=words):
            open_footage(tmp_path / name)


def test_a_damaged_video_is_refused(tmp_path):
    write_video(tmp_path / "dance.mp4", plain(40))
    content = (tmp_path / "dance.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cut\.mp4"):
        list(open_footage(tmp_path / "cut.mp4").frames())


def test_a_moving_picture_that_was_cut_off_is_refused_wherever_it_breaks(tmp_path):
    pictures = [Image.fromarray(picture) for picture in plain(4)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=40)
    content = (tmp_path / "a.gif").read_bytes()
    for length in range(1, len(content), 7):
        (tmp_path / "cut.gif").write_bytes(content[:length])
        with contextlib.suppress(UserError):  # or it holds whole pictures
            assert list(open_footage(tmp_path / "cut.gif").frames())


def test_sixteen_bits_are_a_brightness_too(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "0.png")
    (picture,) = open_footage(tmp_path).frames()
    assert picture[0, :, 0].tolist() == [0, 128, 255]


def test_names_with_a_colon_are_files(tmp_path, monkeypatch):
    """12:30.mp4 would be a protocol to FFmpeg."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", plain(3))
    (tmp_path / "a.mp4").rename("12:30.mp4")
    assert len(list(open_footage(Path("12:30.mp4")).frames())) == 3


def test_frames_of_two_sizes_are_refused(tmp_path):
    write_image(tmp_path / "0.png", size=(8, 4))
    write_image(tmp_path / "1.png", size=(8, 6))
    with pytest.raises(UserError, match="expected 8 x 4 pixels in every frame, as in the first, got 8 x 6 in frame 1"):
        list(open_footage(tmp_path).frames())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    write_video(tmp_path / "dance.mp4", plain(2))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match="pip install av"):
        open_footage(tmp_path / "dance.mp4")
