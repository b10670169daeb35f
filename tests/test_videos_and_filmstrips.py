"""GIFs, comparisons and filmstrips show the right frames for the right time."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from data.clips import Sequence
from data.dance_sequences import load_test_sequences
from evaluation.image_metrics import psnr
from visualization.videos import GAP, ZOOM, draw_comparison, frame_durations, save_filmstrip, save_gif


def duration_and_images(path: Path) -> tuple[int, int]:
    """Return the milliseconds that a GIF plays, and the number of its images."""
    with Image.open(path) as gif:
        total = 0
        for i in range(gif.n_frames):
            gif.seek(i)
            total += gif.info["duration"]
        return total, gif.n_frames


@pytest.mark.parametrize("fps", [5, 12, 20, 24, 30, 50])
def test_a_gif_plays_for_the_right_time(tmp_path, fps):
    save_gif(tmp_path / "video.gif", torch.rand(61, 3, 16, 16), fps=fps)
    total, _ = duration_and_images(tmp_path / "video.gif")
    assert total == pytest.approx(1000 * 61 / fps, abs=10)


def test_durations_are_whole_hundredths_that_add_up():
    durations = frame_durations(30, 30)
    assert set(durations) == {30, 40} and sum(durations) == 1000


def test_equal_frames_are_shown_for_their_whole_duration(tmp_path):
    """Writers merge equal adjacent frames into one image. If images were counted, a still video would be too short."""
    save_gif(tmp_path / "still.gif", torch.full((20, 3, 16, 16), 0.5), fps=20)
    total, images = duration_and_images(tmp_path / "still.gif")
    assert total == 1000 and images < 20


def test_values_outside_the_range_do_not_wrap_around(tmp_path):
    """Without clipping, 1.01 would be black."""
    video = torch.cat([torch.full((2, 3, 16, 16), 1.01), torch.full((2, 3, 16, 16), -0.01)])
    save_gif(tmp_path / "video.gif", video, fps=10)
    frames = iio.imread(tmp_path / "video.gif")
    assert frames[0].min() == 255 and frames[-1].max() == 0


def test_the_gif_shows_the_frames(tmp_path):
    video = torch.zeros(3, 3, 16, 16)
    for t in range(3):
        video[t, t] = 1
    save_gif(tmp_path / "video.gif", video, fps=10)
    frames = iio.imread(tmp_path / "video.gif")
    assert [tuple(frame[8, 8]) for frame in frames] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_the_palette_of_gifs_keeps_the_colors(rendered, tmp_path):
    """The default palette turns a soft light into a disc and changes the colors of the poses: 36 dB instead of 45."""
    (sequence, _) = load_test_sequences(rendered, height=32, width=64)
    video = draw_comparison([sequence.ground_truth / 255], sequence)
    save_gif(tmp_path / "video.gif", video, fps=20)
    first = torch.from_numpy(iio.imread(tmp_path / "video.gif", index=0)).permute(2, 0, 1) / 255
    assert psnr(first, video[0]) > 42


def flat(value: int) -> torch.Tensor:
    return torch.full((4, 3, 16, 32), value, dtype=torch.uint8)


def test_a_comparison_shows_ground_truth_pose_and_prediction_in_this_order():
    """Public solutions have written GIFs of poses that consisted of frames."""
    sequence = Sequence("0", flat(10)[:1], flat(51), flat(102))
    video = torch.full((4, 3, 16, 32), 0.8)
    image = draw_comparison([video], sequence)
    width = 32 * ZOOM
    assert image.shape == (4, 3, 16 * ZOOM, 3 * width + 2 * GAP)
    columns = [image[0, 0, 0, i * (width + GAP) + 5].item() for i in range(3)]
    assert columns == pytest.approx([0.4, 0.2, 0.8])
    assert draw_comparison([video], sequence._replace(ground_truth=None)).shape[-1] == 2 * width + GAP


def test_a_filmstrip_shows_every_nth_frame(tmp_path):
    steps = torch.arange(4, dtype=torch.uint8)[:, None, None, None]
    sequence = Sequence("0", flat(0)[:1], flat(200) + steps, flat(100) + steps)
    save_filmstrip(tmp_path / "strip.png", torch.zeros(4, 3, 16, 32), sequence, every=2)
    strip = np.asarray(Image.open(tmp_path / "strip.png"))
    zoom = strip.shape[0] // (3 * 16 + 2 * GAP)
    small = strip[::zoom, ::zoom]
    assert small.shape == (3 * 16 + 2 * GAP, 2 * 32 + GAP, 3)
    assert [small[row, column, 0] for row in (0, 18, 36) for column in (0, 34)] == [100, 102, 200, 202, 0, 0]


@pytest.mark.parametrize("length, expected", [(2, 2), (8, 8), (19, 19), (150, 10), (630, 10)])
def test_a_filmstrip_of_any_length_has_several_frames(tmp_path, length, expected):
    """The filmstrip of a short video once showed only its first frame."""
    sequence = Sequence("0", flat(0)[:1], torch.zeros(length, 3, 16, 32, dtype=torch.uint8), None)
    save_filmstrip(tmp_path / "strip.png", torch.zeros(length, 3, 16, 32), sequence, every=None)
    width, height = Image.open(tmp_path / "strip.png").size
    zoom = height // (2 * 16 + GAP)
    assert width == zoom * (expected * 32 + (expected - 1) * GAP)
