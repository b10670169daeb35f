"""Videos as mp4: the frames that a player shows, and the flags that request them."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import Tester
import Trainer
from data.dance_sequences import load_test_sequences
from evaluation import scores
from evaluation.image_metrics import psnr
from tests.helpers.refusals import refused
from utils import video_to_bytes
from visualization.videos import draw_comparison, save_mp4

av = pytest.importorskip("av", reason="mp4 needs the package av: pip install av")


def decoded(path: Path) -> tuple[torch.Tensor, Fraction, str]:
    """Return the frames (T, 3, H, W) in [0, 1], frames per second and pixel format of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and len(container.streams) == 1
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        assert stream.duration * stream.time_base * stream.average_rate == len(frames)  # plays for the right time
        return torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, stream.average_rate, stream.codec_context.pix_fmt


@pytest.mark.parametrize("fps", [4, 20, 12.5, 29.97])
def test_an_mp4_shows_every_frame_at_its_time(tmp_path, rendered, fps):
    """Ground truth and pose images of the demo, next to each other as in the files of Tester.py."""
    sequence = load_test_sequences(rendered, height=32, width=64)[0]
    video = draw_comparison([sequence.ground_truth / 255], sequence)
    save_mp4(tmp_path / "video.mp4", video, fps=fps)
    frames, rate, pixel_format = decoded(tmp_path / "video.mp4")
    assert frames.shape == video.shape and rate == Fraction(str(fps)) and pixel_format == "yuv420p"  # which every player supports
    assert psnr(frames, video).min() > 32
    assert (tmp_path / "video.mp4").stat().st_size < 200_000


@pytest.mark.parametrize("color", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0), (0.8, 0.5, 0.1)])
def test_colors_are_kept(tmp_path, color):
    """If red and blue were swapped, or a range of 16 to 235 were read as 0 to 255, colors would differ by much more."""
    video = torch.tensor(color, dtype=torch.float32).view(1, 3, 1, 1).expand(3, 3, 32, 64)
    save_mp4(tmp_path / "video.mp4", video, fps=10)
    assert (decoded(tmp_path / "video.mp4")[0] - video).abs().max() < 4 / 255


@pytest.mark.parametrize("height, width", [(31, 64), (32, 63), (33, 65)])
def test_odd_sides_repeat_their_last_pixels(tmp_path, height, width):
    """H.264 with subsampled color requires even sides; imageio or the codec would refuse others."""
    ramp = torch.linspace(0, 1, width).expand(2, 3, height, width)
    save_mp4(tmp_path / "video.mp4", ramp, fps=10)
    frames, *_ = decoded(tmp_path / "video.mp4")
    assert frames.shape == (2, 3, height + height % 2, width + width % 2)
    assert psnr(frames[..., :height, :width], ramp).min() > 32 and frames[..., -1].min() > 0.9


def test_values_outside_the_range_do_not_wrap_around(tmp_path):
    save_mp4(tmp_path / "video.mp4", torch.cat([torch.full((2, 3, 16, 16), 1.01), torch.full((2, 3, 16, 16), -0.01)]), fps=10)
    frames = video_to_bytes(decoded(tmp_path / "video.mp4")[0])
    assert frames[0].min() > 250 and frames[-1].max() < 5


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix in (".gif", ".mp4")}


def test_the_tester_writes_the_requested_files_and_removes_earlier_ones(rendered, trained, tmp_path):
    """The GIFs of the submission are always written."""
    submission = {"pred_seq0.gif", "pred_seq1.gif"}
    argv = ["--DR", str(rendered), "--ckpt_path", str(trained), "--save_root", str(tmp_path), "--device", "cpu", "--fps", "10"]
    for more, kinds in [(["--video", "both"], ["gif", "mp4"]), ([], ["gif"])]:
        Tester.main([*argv, *more])
        assert files(tmp_path) == submission | {f"compare_seq{i}.{kind}" for i in (0, 1) for kind in kinds}
        if more:
            frames, rate, _ = decoded(tmp_path / "compare_seq0.mp4")
            ground_truth = load_test_sequences(rendered, height=32, width=64)[0].ground_truth[:, :, :, :2] / 255
            assert rate == 10 and psnr(frames[:, :, ::4, :8:4], ground_truth).mean() > 25


def test_the_trainer_stores_its_validation_in_the_requested_files(train_args, tmp_path):
    Trainer.main([*train_args, "--store_visualization", "both", "--per_save", "2"])
    assert files(tmp_path / "run") == {"val_epoch=1.gif", "val_epoch=1.mp4"}
    assert len(decoded(tmp_path / "run" / "val_epoch=1.mp4")[0]) == 12


def test_a_missing_package_is_reported_before_the_work_starts(rendered, trained, train_args, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(scores, "rollout_sequences", None)
    tester = ["--DR", rendered, "--ckpt_path", trained, "--save_root", tmp_path / "out"]
    for main, argv, flag in [(Tester.main, tester, "--video"), (Trainer.main, train_args, "--store_visualization")]:
        message = refused(capsys, main, [*argv, flag, "mp4"])
        assert f"{flag} mp4 needs the package av" in message and message.endswith("pip install av")
    assert not (tmp_path / "out").exists() and not (tmp_path / "run").exists()
