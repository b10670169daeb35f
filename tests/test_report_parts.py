"""The parts of tools/report.py: names, curves, videos read back, selected frames, sprites."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.clips import Sequence
from evaluation.image_metrics import psnr
from tools.reporting.groups import group_name
from tools.reporting.runs import short_names
from tools.reporting.videos import dips_and_peaks, largest_difference, make_sprite
from utils import UserError
from visualization.videos import draw_comparison, read_comparison, save_gif


def test_names_of_groups_and_runs():
    assert group_name(["cyclical_seed1", "cyclical_seed2"]) == "cyclical" and group_name(["fp/seed10", "fp/seed11"]) == "fp"
    assert group_name(["None-s1", "None-s2"]) == "None" and group_name(["runs1", "runs2"]) == "runs"
    assert group_name(["a", "b", "c"]) == "a and 2 more" and group_name(["seed1"]) == "seed1"
    assert short_names([Path("/x/a/run"), Path("/x/b/run")]) == ["a/run", "b/run"] and short_names([Path("/x/a")]) == ["a"]


def test_videos_are_read_by_time_at_their_original_size(tmp_path):
    """Pillow merges equal adjacent frames. Counted by images, this video would have 3 instead of 8 frames."""
    levels = torch.tensor([0, 0, 0, 80, 80, 160, 160, 160], dtype=torch.uint8)
    video = levels[:, None, None, None].expand(8, 3, 16, 32).clone()
    video[:, :, 3, 5] = 250
    sequence = Sequence("0", video[:1], 255 - video, video)
    for fps in (4, 20, 30):
        save_gif(tmp_path / "compare.gif", draw_comparison([video / 255], sequence), fps=fps)
        with Image.open(tmp_path / "compare.gif") as gif:
            assert gif.n_frames == 3
        truth, pose, predicted = read_comparison(tmp_path / "compare.gif", fps=fps, height=16, width=32)
        assert truth.shape == (8, 16, 32, 3) and truth[:, 0, 0, 0].tolist() == levels.tolist()
        assert np.array_equal(pose, 255 - truth) and np.array_equal(predicted, truth) and (truth[:, 3, 5] == 250).all()
    with pytest.raises(UserError, match="expected images of 24 x 16"):
        read_comparison(tmp_path / "compare.gif", fps=20, height=16, width=24)
    (tmp_path / "compare.gif").write_bytes((tmp_path / "compare.gif").read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read"):
        read_comparison(tmp_path / "compare.gif", fps=20, height=16, width=32)


def test_dips_and_peaks_by_hand():
    curve = np.full(100, 30.0) + np.arange(100) * 1e-3
    curve[[20, 50, 52, 80]] = 20, 22, 21, 25
    curve[[10, 60]] = 40, 35
    assert dips_and_peaks(curve) == {10: "peak", 20: "dip", 52: "dip", 60: "peak", 80: "dip"}
    assert dips_and_peaks(np.arange(40, 0, -1.0)) == {0: "peak", 39: "dip"}
    assert dips_and_peaks(np.array([np.nan, 3.0])) == {1: "dip"} and dips_and_peaks(np.full(3, np.nan)) == {}
    assert (
        largest_difference([np.array([1.0, 5.0, np.nan]), np.array([1.5, 2.0, 0.0])]) == 1 and largest_difference([curve]) is None
    )


def test_a_sprite_contains_every_frame_at_its_place():
    rng = np.random.default_rng(0)
    video = np.repeat(np.repeat(rng.integers(0, 256, (11, 4, 8, 3), dtype=np.uint8), 8, axis=1), 8, axis=2)
    content, columns, (width, height) = make_sprite(video)
    sheet = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    frames = [sheet[t // columns * height :][:height, t % columns * width :][:, :width] for t in range(11)]
    assert (width, height) == (64, 32) and np.stack(frames).shape == video.shape
    own = psnr(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 255, torch.from_numpy(video).permute(0, 3, 1, 2) / 255)
    assert own.min() > 20  # adjacent frames have 8
    assert make_sprite(np.zeros((2, 128, 256, 3), dtype=np.uint8)).size == (128, 64)
