"""Films that break off or are damaged: refused with the number of frames, or read up to the break with --allow_truncated."""

import os
import random

import numpy as np
import pytest
from PIL import Image

from poses.footage import open_footage
from poses.transfer import pose_images
from tests.helpers.films import FRAMES as DANCE_FRAMES
from tests.helpers.films import body, frame, pose, write_gif, write_keypoints
from tests.helpers.refusals import refused
from tests.helpers.video_files import (
    FILMS,
    FRAMES,
    hide_first_frames,
    noisy_frames,
    write_cover,
    write_film,
    write_sound,
    write_video,
)
from tools import prepare_video
from utils import UserError

pytest.importorskip("av", reason="reading video files needs the package av")

CUTS = int(os.environ.get("FUZZ_CUTS", "20"))  # of each film
CUT_BETWEEN_PARTS = {"fragments.mp4": FRAMES // 8 - 1, "a.ts": FRAMES}  # cuts between two parts of these cannot be seen


def read(path, **settings) -> list[np.ndarray]:
    return list(open_footage(path, **settings).frames())


def cut(path, share: float):
    """Write the first part of a file next to it."""
    whole = path.read_bytes()
    shorter = path.with_name(f"cut_{path.name}")
    shorter.write_bytes(whole[: int(len(whole) * share)])
    return shorter


@pytest.mark.parametrize("name", FILMS)
def test_a_film_cut_at_any_byte_is_refused_or_complete(tmp_path, name, capsys):
    """With --allow_truncated, the frames are the first ones of the whole film, in order."""
    whole = write_film(tmp_path, name)
    frames = read(tmp_path / name)
    assert len(frames) == FRAMES
    path, seen = tmp_path / f"cut_{name}", 0
    rng = random.Random(name)
    for length in sorted(rng.sample(range(1, len(whole)), CUTS)):
        path.write_bytes(whole[:length])
        try:
            found = read(path)
        except UserError as error:
            assert str(path) in str(error) and "Errno" not in str(error) and len(str(error).splitlines()) == 1
        else:
            assert len(found) == FRAMES or (name in CUT_BETWEEN_PARTS and length % 188 == 0) or name == "fragments.mp4", length
        try:
            part = read(path, allow_truncated=True)
        except UserError:
            continue
        assert len(part) <= FRAMES and all(np.array_equal(a, b) for a, b in zip(part, frames)), length
        seen += 0 < len(part) < FRAMES
    assert seen or name in ("plain.mp4", "a.mov")  # whose index is at the end


@pytest.mark.parametrize("name", ["fast.mp4", "a.mkv", "vp9.webm", "mpeg4.avi"])
def test_the_message_names_the_frames(tmp_path, name, capsys):
    """An mp4 cut at 60 % once gave its first frames and status 0."""
    write_film(tmp_path, name)
    path = cut(tmp_path / name, 0.9 if name == "mpeg4.avi" else 0.6)  # much of it is its header
    with pytest.raises(UserError) as refusal:
        open_footage(path)
    part = read(path, allow_truncated=True)
    total = "about 24" if name in ("a.mkv", "vp9.webm") else "24"
    found = f"{path}: breaks off after {len(part)} of {total} frames; "
    assert str(refusal.value) == f"{found}copy it again, or use only these frames with --allow_truncated"
    assert capsys.readouterr().err == f"{found}only these are used (--allow_truncated)\n" and 0 < len(part) < 24


@pytest.mark.parametrize("name", ["fast.mp4", "a.mkv", "vp8.webm", "a.ts"])
def test_bytes_overwritten_in_the_middle_are_found(tmp_path, name, capsys):
    whole = bytearray(write_film(tmp_path, name))
    frames = read(tmp_path / name)
    middle = len(whole) * 6 // 10
    whole[middle : middle + 400] = random.Random(0).randbytes(400)
    (tmp_path / name).write_bytes(whole)
    with pytest.raises(UserError, match=r"(is damaged|breaks off) after \d+ "):
        read(tmp_path / name)
    part = read(tmp_path / name, allow_truncated=True)
    assert 0 < len(part) < FRAMES and all(np.array_equal(a, b) for a, b in zip(part, frames))
    assert f" after {len(part)} " in capsys.readouterr().err


def test_errors_in_the_last_frames_are_found(tmp_path):
    """FFmpeg's threads swallow the errors of the frames that are in work when the film ends."""
    whole = bytearray(write_film(tmp_path, "a.mkv"))
    end = whole.rindex(b"\x1c\x53\xbb\x6b")  # the index after the frames
    whole[end - 60 : end] = bytes(60)
    (tmp_path / "a.mkv").write_bytes(whole)
    with pytest.raises(UserError, match=r"after 2[0-3] of about 24 frames"):
        read(tmp_path / "a.mkv")


def test_variable_frame_rate_is_complete(tmp_path):
    times = np.cumsum([0, *random.Random(0).choices([1, 2, 7, 30], k=FRAMES - 1)]).tolist()
    for name in ("a.mp4", "a.mkv"):
        write_video(tmp_path / name, noisy_frames(FRAMES), times=times, options={})
        footage = open_footage(tmp_path / name)
        assert len(list(footage.frames())) == FRAMES == footage.expected


def test_frames_hidden_by_an_edit_list_are_not_missing(tmp_path):
    write_film(tmp_path, "fast.mp4")
    frames = read(tmp_path / "fast.mp4")
    hide_first_frames(tmp_path / "fast.mp4", 10)
    footage = open_footage(tmp_path / "fast.mp4")
    shown = list(footage.frames())
    assert footage.expected == len(shown) == 14 and all(np.array_equal(a, b) for a, b in zip(shown, frames[10:]))
    part = read(cut(tmp_path / "fast.mp4", 0.8), allow_truncated=True)
    assert 0 < len(part) < 14 and all(np.array_equal(a, b) for a, b in zip(part, frames[10:]))


def test_a_late_start_is_not_a_missing_part(tmp_path):
    write_video(tmp_path / "a.mp4", noisy_frames(FRAMES), times=range(50, 50 + FRAMES), options={})
    assert len(read(tmp_path / "a.mp4")) == FRAMES


def test_a_part_after_the_last_frame_may_be_missing(tmp_path):
    """All frames of a film with its index in front are there, but an appended box is cut."""
    whole = write_film(tmp_path, "fast.mp4")
    (tmp_path / "fast.mp4").write_bytes(whole + b"\0\0\x10\0free" + bytes(5))
    assert len(read(tmp_path / "fast.mp4")) == FRAMES


def test_files_without_a_video_stream(tmp_path, capsys):
    write_sound(tmp_path / "a.mp4")
    with pytest.raises(UserError, match="expected a video stream, got only audio; convert or choose another file"):
        open_footage(tmp_path / "a.mp4")
    (tmp_path / "text.mp4").write_text("The film is on the other disk.\n" * 20)
    with pytest.raises(
        UserError, match=r"cannot be read as a video \(no format that FFmpeg knows\); copy it again, or convert it to mp4"
    ):
        open_footage(tmp_path / "text.mp4")
    (tmp_path / "a.mkv").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n\n")
    with pytest.raises(UserError, match="got only subtitle;"):
        open_footage(tmp_path / "a.mkv")
    whole = write_film(tmp_path, "plain.mp4")
    (tmp_path / "plain.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        UserError, match="it breaks off before its index, the box moov: the recording or the copy was not finished"
    ):
        open_footage(tmp_path / "plain.mp4")


def test_of_two_video_streams_the_first_is_taken(tmp_path, capsys):
    write_video(tmp_path / "a.mkv", noisy_frames(4), streams=2)
    assert np.abs(read(tmp_path / "a.mkv")[0].astype(int) - noisy_frames(4)[0]).max() < 30
    assert (
        "a.mkv: of 2 video streams, only the first is used (32 x 32, 32 x 32 pixels); to use another, save it"
        in capsys.readouterr().err
    )


def test_a_cover_picture_is_not_the_film(tmp_path, capsys):
    write_cover(tmp_path / "a.mp4", noisy_frames(FRAMES))
    assert [image.shape for image in read(tmp_path / "a.mp4")] == [(32, 32, 3)] * FRAMES and not capsys.readouterr().err
    with pytest.raises(UserError, match="expected a video stream, got only a cover picture and audio"):
        open_footage(write_cover(tmp_path / "song.mp4", None))


def test_the_poses_of_a_part_of_a_film_can_drive_a_model(tmp_path):
    class Finder:
        def find_people(self, image):
            return np.stack([pose(**body(0))])

    write_film(tmp_path, "a.mkv")
    path = cut(tmp_path / "a.mkv", 0.6)
    with pytest.raises(UserError, match="breaks off after"):
        pose_images(path, like=None, height=32, width=64, detector=Finder)
    count = len(read(path, allow_truncated=True))
    assert len(pose_images(path, like=None, height=32, width=64, detector=Finder, allow_truncated=True)) == count < FRAMES


# Animated images.


def write_animation(path, delays: list[int], **settings):
    """Write an image per delay, each with another gray."""
    images = [Image.new("RGB", (16, 8), (8 * i,) * 3) for i in range(len(delays))]
    images[0].save(path, save_all=True, append_images=images[1:], duration=delays, **settings)
    return path


@pytest.mark.parametrize(
    "delays, fps, count",
    [
        ([100] * 20 + [10] + [100] * 10, 10, 31),  # browsers show 10 ms as 100 ms; it once gave 100 frames per second
        ([100] * 20 + [20] + [100] * 10, 10, 30),  # the odd image is shorter than a frame
        ([100] * 10 + [250] + [100] * 9, 10, 21),
        ([40, 400, 40, 400, 400], 25, 32),  # equal frames, merged
        ([30, 40, 30] * 10, 30, 30),  # 30 frames per second, rounded to hundredths of a second
        ([40, 80], 25, 3),
        ([20, 30] * 8, 40, 16),
    ],
)
@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_the_rate_of_an_animation(tmp_path, delays, fps, count, suffix, capsys):
    path = write_animation(tmp_path / f"a.{suffix}", delays)
    footage = open_footage(path)
    found = list(footage.frames())
    assert footage.fps == pytest.approx(fps, rel=0.02) and len(found) == footage.expected == count
    seconds = sum(delay if delay >= 20 else 100 for delay in delays) / 1000
    assert abs(len(found) / footage.fps - seconds) <= 1 / footage.fps
    assert ("1 of 31 images is shorter than a frame and not used" in capsys.readouterr().err) == (20 in delays and 100 in delays)


@pytest.mark.parametrize("suffix", ["gif", "apng", "webp"])
def test_an_animation_cut_at_any_byte_is_refused(tmp_path, suffix, capsys):
    path = write_animation(tmp_path / f"a.{suffix}", [40] * 12, **({"format": "PNG"} if suffix == "apng" else {}))
    frames, whole = read(path), path.read_bytes()
    for length in random.Random(suffix).sample(range(1, len(whole)), min(CUTS, len(whole) - 1)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"breaks off|cannot be read as an animated image"):
            open_footage(path)
        try:
            part = read(path, allow_truncated=True)
        except UserError:
            continue
        assert 0 < len(part) <= 12 and all(np.array_equal(a, b) for a, b in zip(part, frames))
        assert f"breaks off after {len(part)} image" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["gif", "apng"])
def test_transparent_pixels_of_an_animation_are_white(tmp_path, suffix, capsys):
    images = [Image.new("RGBA", (16, 8), (0, 0, 0, 0)) for _ in range(3)]
    for i, image in enumerate(images):
        image.paste((250, 0, 0, 255), (2 * i, 0, 2 * i + 4, 8))
    more = {"disposal": 2} if suffix == "gif" else {"format": "PNG", "disposal": 1}
    images[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=images[1:], duration=40, **more)
    for i, found in enumerate(read(tmp_path / f"a.{suffix}")):
        assert (found[:, 2 * i : 2 * i + 4] == (250, 0, 0)).all() and (found[:, 12:] == 255).all()
    assert (
        capsys.readouterr().err
        == f"{tmp_path / f'a.{suffix}'}: transparent pixels are laid over white; for another background, save opaque images\n"
    )


# The program.


def test_a_part_of_a_film_becomes_a_data_set(tmp_path, capsys):
    """The keypoints of the whole film, or of the part, are not blamed for the film."""
    frames = np.stack([frame(t) for t in range(DANCE_FRAMES)])
    write_video(tmp_path / "dance.mp4", frames, container={"movflags": "faststart"})
    path, keypoints = cut(tmp_path / "dance.mp4", 0.7), write_keypoints(tmp_path / "k.csv")
    argv = [str(path), "--poses", str(keypoints), "--out", str(tmp_path / "data"), "--height", "32"]
    assert "breaks off after " in refused(capsys, prepare_video.main, argv)
    assert not (tmp_path / "data").exists()
    prepare_video.main([*argv, "--allow_truncated"])
    out, err = capsys.readouterr()
    count = int(err.split(" after ")[1].split()[0])
    assert err.count("\n") == 1 and f"after {count} of {DANCE_FRAMES} frames; only these are used" in err
    rows = (tmp_path / "data" / "keypoints" / "0.csv").read_text().splitlines()
    assert len(rows) == 1 + count and rows[-1].startswith(f"{count - 1},") and "every frame has a pose" in out
    write_keypoints(keypoints, count)
    prepare_video.main([*argv[:4], str(tmp_path / "b"), *argv[5:], "--allow_truncated"])
    assert (tmp_path / "b" / "keypoints" / "0.csv").read_text().splitlines() == rows


def test_pose_images_of_the_whole_film_serve_a_part_of_it(tmp_path, film, capsys):
    path = write_gif(tmp_path / "dance.gif")
    argv = [str(cut(path, 0.8)), "--poses", str(film / "dance"), "--out", str(tmp_path / "data"), "--height", "32"]
    assert "breaks off after" in refused(capsys, prepare_video.main, argv)
    prepare_video.main([*argv, "--allow_truncated"])
    assert "only these are used" in capsys.readouterr().err
