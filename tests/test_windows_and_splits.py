"""The window and the splits of a video."""

import pytest
from PIL import Image

from poses.cropping import ASPECTS, Box, View, choose_aspect, choose_window, merge_views
from poses.scan import Selection, Video, scan
from poses.splits import plan_splits
from utils import UserError


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


def test_videos_of_one_size_share_a_window():
    views = [View(Box(10, 10, 50, 50), 100, 200), View(Box(120, 40, 180, 90), 100, 200), View(None, 100, 200)]
    assert merge_views(views).box == Box(10, 10, 180, 90)


def test_a_split_without_two_frames_of_one_scene_is_refused():
    """Each of the four validation frames begins a scene."""
    with pytest.raises(UserError, match="val: no two frames of one scene are left"):
        plan_splits(["dance"], [40], [[30, 31, 32, 33, 34]], val=0.1, test=0.1, gap=2, longest=630)


def test_segments_end_at_cuts_and_their_numbers_skip_one_there():
    """A test segment has at most 12 frames. The numbers of the second video start 1000 later."""
    segments = plan_splits(["one", "two"], [100, 50], [[40], []], val=0.1, test=0.2, gap=15, longest=12)
    assert [(s.split, s.video, s.frames, s.number) for s in segments if s.video == 0] == [
        ("train", 0, range(0, 40), 0), ("train", 0, range(40, 60), 41), ("val", 0, range(65, 75), 66),
        ("test", 0, range(80, 92), 81), ("test", 0, range(92, 100), 93)]  # fmt: skip
    assert segments[5].number == 100 + 1 + 1000


def test_flicker_is_not_a_cut(tmp_path):
    """All frames differ from their neighbors by more than --cut."""
    for t in range(12):
        Image.new("RGB", (16, 8), (0, 0, 0) if t % 2 else (255, 255, 255)).save(tmp_path / f"{t}.png")
    found = scan(Video.load(tmp_path, None, Selection(0, 1, None)), None, tmp_path / "none.jsonl", cut=0.15)
    assert found.cuts == [] and found.length == 12


@pytest.mark.parametrize("numbers, expected", [
    ([1, 2, 3, 5, 6], [3]), ([0, 5, 10, 20, 25], [3]), ([0, 33, 67, 100, 133], []), ([0, 100, 101, 102, 103], [1]), ([7], []),
])  # fmt: skip
def test_numbers_of_images_may_have_any_step(tmp_path, numbers, expected):
    """A step that is at least twice the usual one is a cut."""
    for number in numbers:
        Image.new("RGB", (16, 8)).save(tmp_path / f"{number}.png")
    assert scan(Video.load(tmp_path, None, Selection(0, 1, None)), None, tmp_path / "none.jsonl", cut=0.15).cuts == expected


def test_a_gap_in_the_images_is_a_cut_before_the_next_frame_taken(tmp_path):
    """Of the images 0, 5, 10, ... without 25, those at positions 2, 4, 6, 8 are used."""
    for number in {*range(0, 50, 5)} - {25}:
        Image.new("RGB", (16, 8)).save(tmp_path / f"{number}.png")
    video = Video.load(tmp_path, None, Selection(2, 2, None))
    assert list(video.numbers(4)) == [10, 20, 35, 45]
    assert scan(video, None, tmp_path / "none.jsonl", cut=0.15).cuts == [2]
