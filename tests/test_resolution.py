"""Frames that are larger than the course's, from training to GIFs."""

import json

import pytest
import torch
from PIL import Image

import Tester
import Trainer
from data.clips import Sequence
from modules import build_model
from tests.helpers.refusals import refused
from tests.helpers.settings import SMALL, SMALL_POSE_CVAE
from visualization.videos import draw_comparison


@pytest.mark.parametrize("height, width", [(64, 128), pytest.param(128, 256, marks=pytest.mark.slow),
                                           pytest.param(48, 32, marks=pytest.mark.slow)])  # fmt: skip
def test_larger_frames_are_trained_and_rolled_out(rendered, tmp_path, capsys, height, width):
    size = ["--frame_H", str(height), "--frame_W", str(width)]
    cache = ["--cache_dir", str(tmp_path / "cache")]
    run = tmp_path / "run"
    Trainer.main(["--DR", str(rendered), "--save_root", str(run), "--num_epoch", "1", "--batch_size", "2", *SMALL, "--epoch_size", "1",
                  "--train_vi_len", "3", *size, *cache])  # fmt: skip
    Tester.main(["--DR", str(rendered), "--ckpt_path", str(run), "--device", "cpu", *cache])
    scores = json.loads((run / "test" / "scores.json").read_text())
    assert len(scores["per_frame"]["0"]["psnr"]) == 8
    zoom = 4 if width <= 64 else 256 // width
    assert Image.open(run / "test" / "compare_seq0.gif").size == (3 * width * zoom + 4, height * zoom)
    # At 64 x 128 a row would have four times as many columns as the course's grader accepts.
    assert f"submission.csv is not written: expected frames of 32 x 64, got {height} x {width}" in capsys.readouterr().out
    names = {path.name for path in (run / "test").iterdir()}
    assert "submission.csv" not in names and {"pred_seq0.gif", "pred_seq1.gif"} < names


@pytest.mark.parametrize("height, width", [(64, 128), (128, 256)])
def test_every_weight_learns_and_every_input_counts_at_any_size(height, width):
    """The prediction in one corner depends on the pose there, and the loss of a clip has a gradient in each weight."""
    model = build_model(SMALL_POSE_CVAE)
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    frames, poses = (torch.rand(1, 3, 3, height, width, generator=generator) for _ in range(2))
    loss = model(frames, poses, teacher_forcing=False)
    (loss.mse + 0.01 * loss.kl).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())
    other = poses.clone()
    other[:, 1, :, -8:, -8:] = 0
    with torch.no_grad():
        a, b = (model.eval().rollout(frames[:, :1], conditions, z_scale=0) for conditions in (poses, other))
    assert a.shape == frames.shape and (a - b)[0, 1, :, -8:, -8:].abs().max() > 1e-4


def test_a_size_that_8_does_not_divide_is_refused_with_a_suggestion(rendered, tmp_path, capsys):
    argv = ["--DR", rendered, "--save_root", tmp_path / "run", "--frame_W", "100", "--frame_H", "50"]
    message = refused(capsys, Trainer.main, argv)
    assert "--frame_H, --frame_W: frames of 50 x 100: expected multiples of 8, at least 16, such as 48 x 96" in message


def test_small_gif_frames_are_enlarged_by_a_whole_factor():
    for width, zoom in [(32, 4), (64, 4), (128, 2), (200, 1), (256, 1), (512, 1)]:
        video = torch.zeros(2, 3, 16, width)
        sequence = Sequence("0", video[:1], torch.zeros(2, 4), None)
        assert draw_comparison([video], sequence).shape == (2, 3, 16 * zoom, width * zoom)
