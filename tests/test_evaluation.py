import pytest
import torch

from dataloader import Sequence
from evaluation import pad_time, roll_out, score, summary
from modules import build_model
from utils import psnr

CPU = torch.device("cpu")


def sequence(length: int, name: str = "0") -> Sequence:
    frames, poses = torch.randint(0, 256, (2, length, 3, 16, 32), dtype=torch.uint8)
    return Sequence(name, frames[:1], poses, frames)


@pytest.fixture
def model():
    return build_model({"family": "pose_cvae", "frame_dim": 16, "label_dim": 8, "latent_dim": 2, "fused_dim": 24})


def test_sequences_of_different_lengths_share_a_batch_and_keep_their_own(model):
    sequences = [sequence(4), sequence(9), sequence(6)]
    flags = {"device": CPU, "precision": "none", "z_scale": 0.0}
    together = roll_out(model, sequences, batch_size=2, **flags)
    alone = roll_out(model, sequences, batch_size=1, **flags)
    assert [len(video) for video in together] == [4, 9, 6]
    for a, b in zip(together, alone):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_padding_repeats_the_last_entry():
    assert pad_time(torch.tensor([[1], [2]]), 4).tolist() == [[1], [2], [2], [2]]


def test_scores_start_behind_the_given_frame_and_the_baselines_are_still_pictures():
    s = sequence(5)
    truth = s.truth.float() / 255
    video = torch.rand(5, 3, 16, 32)
    result = score(video, s)
    torch.testing.assert_close(result.psnr, psnr(video[1:], truth[1:]))
    torch.testing.assert_close(result.copy_first, torch.stack([psnr(truth[0], frame) for frame in truth[1:]]))
    still = truth.sort(dim=0).values[2]
    torch.testing.assert_close(result.background, torch.stack([psnr(still, frame) for frame in truth[1:]]))


def test_equal_frames_count_100_dB_and_no_mean_becomes_infinite():
    s = sequence(5)
    still = s._replace(truth=s.given.expand(5, -1, -1, -1))
    result = score(still.truth / 255, still)
    assert result.psnr.tolist() == result.copy_first.tolist() == [100.0] * 4


def test_the_summary_is_the_mean_over_all_frames_of_all_sequences():
    scores = [score(torch.rand(length, 3, 16, 32), sequence(length)) for length in (3, 8)]
    expected = (scores[0].psnr.sum() + scores[1].psnr.sum()) / 9
    assert summary(scores)["psnr"] == pytest.approx(expected.item())
    long = scores[1]._replace(psnr=torch.arange(250.0))
    assert summary([long])["closing"] == pytest.approx(199.5)
