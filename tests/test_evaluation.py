"""Rollouts in batches, their scores, and shuffled conditions."""

import pytest
import torch

from data.clips import Sequence
from evaluation.image_metrics import psnr
from evaluation.rollout import pad_time, rollout_sequences, shuffle_conditions
from evaluation.scores import mean_per_step, run_tests, score, summary
from modules import build_model
from tests.helpers.settings import SMALL_POSE_CVAE
from utils import UserError

CPU = torch.device("cpu")


def sequence(length: int, name: str = "0") -> Sequence:
    frames, poses = torch.randint(0, 256, (2, length, 3, 16, 32), dtype=torch.uint8)
    return Sequence(name, frames[:1], poses, frames)


@pytest.fixture
def model():
    return build_model(SMALL_POSE_CVAE)


def test_sequences_of_different_lengths_share_a_batch_and_keep_their_lengths(model):
    sequences = [sequence(4), sequence(9), sequence(6)]
    flags = {"device": CPU, "precision": "none", "z_scale": 1.0}
    together = rollout_sequences(model, sequences, [1, 2, 3], batch_size=2, **flags)
    alone = rollout_sequences(model, sequences, [1, 2, 3], batch_size=1, **flags)
    assert [len(video) for video in together] == [4, 9, 6]
    for a, b in zip(together, alone):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_padding_repeats_the_last_entry():
    assert pad_time(torch.tensor([[1], [2]]), 4).tolist() == [[1], [2], [2], [2]]


def test_scores_start_after_the_context_frame_and_baselines_are_still_images():
    s = sequence(5)
    truth = s.ground_truth.float() / 255
    video = torch.rand(5, 3, 16, 32)
    result = score(video, s)
    torch.testing.assert_close(result.psnr, psnr(video[1:], truth[1:]))
    torch.testing.assert_close(result.copy, torch.stack([psnr(truth[0], frame) for frame in truth[1:]]))
    still = truth.sort(dim=0).values[2]
    torch.testing.assert_close(result.background, torch.stack([psnr(still, frame) for frame in truth[1:]]))


def test_equal_frames_score_100_dB_so_that_no_mean_is_infinite():
    s = sequence(5)
    still = s._replace(ground_truth=s.context_frames.expand(5, -1, -1, -1))
    result = score(still.ground_truth / 255, still)
    assert result.psnr.tolist() == result.copy.tolist() == [100.0] * 4


def test_the_summary_is_the_mean_over_all_frames_of_all_sequences():
    scores = [score(torch.rand(length, 3, 16, 32), sequence(length)) for length in (3, 8)]
    expected = (scores[0].psnr.sum() + scores[1].psnr.sum()) / 9
    assert summary(scores)["psnr"] == pytest.approx(expected.item())
    long = scores[1]._replace(psnr=torch.arange(250.0))
    assert summary([long])["closing"] == pytest.approx(199.5)


def test_psnr_by_channel_is_the_mean_of_the_psnr_of_each_channel():
    """This is finn_eval_seq, the convention of published BAIR scores: a PSNR for each channel of each frame, then the mean."""
    s = sequence(4)
    video = s.ground_truth.float() / 255 + torch.tensor([0.01, 0.1, 0.3])[:, None, None]
    result = score(video, s)
    assert result.channel_psnr.tolist() == pytest.approx([(40 + 20 + 10.4575749) / 3] * 3, abs=1e-3)
    assert result.psnr.tolist() == pytest.approx([-10 * torch.tensor((1e-4 + 1e-2 + 0.09) / 3).log10().item()] * 3, abs=1e-3)


def test_the_mean_of_a_step_is_over_the_sequences_that_reach_it():
    assert mean_per_step([torch.tensor([1.0, 2.0, 6.0]), torch.tensor([3.0, 4.0])]).tolist() == [2.0, 3.0, 6.0]


@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_the_best_and_the_worst_of_several_samples_are_kept(model, monkeypatch, batch_size):
    """Each sequence gets its own samples at any batch size. Here, the samples of a sequence are off by 0.2, 0.3 and 0.1."""
    sequences = []
    for name in "abc":
        s = sequence(4, name)
        sequences.append(s._replace(ground_truth=s.ground_truth // 2))  # leaves room for the errors
    drawn = {name: 0 for name in "abc"}

    def off_by_more(_, batch, __, **___):
        videos = []
        for s in batch:
            drawn[s.name] += 1
            videos.append(s.ground_truth.float() / 255 + 0.1 * (drawn[s.name] % 3 + 1))
        return videos

    monkeypatch.setattr("evaluation.scores.rollout_sequences", off_by_more)
    results = run_tests(model, sequences, samples=3, seed=1, device=CPU, precision="none", z_scale=1.0, batch_size=batch_size)
    for s, result in zip(sequences, results):
        truth = s.ground_truth.float() / 255
        assert result.sequence.name == s.name and len(result.scores) == 3
        for video, error in [(result.video, 0.2), (result.best, 0.1), (result.worst, 0.3)]:
            assert video.dtype == torch.uint8
            torch.testing.assert_close(video / 255 - truth, torch.full_like(truth, error), atol=0.51 / 255, rtol=0)


def test_shuffling_gives_every_sequence_the_conditions_of_another():
    sequences = [sequence(length, str(length)) for length in (4, 9, 6)]
    shuffled = shuffle_conditions(sequences, seed=1)
    for before, after in zip(sequences, shuffled):
        assert before.name == after.name and before.ground_truth is after.ground_truth
        assert len(after.conditions) == len(before.conditions)
        assert any(torch.equal(after.conditions[:4], other.conditions[:4]) for other in sequences if other is not before)
    with pytest.raises(UserError, match="expected at least 2"):
        shuffle_conditions(sequences, seed=1, values=2)
    values = [s._replace(conditions=torch.full((4, 3), i)) for i, s in enumerate(sequences)]
    for i, after in enumerate(shuffle_conditions(values, seed=1, values=2)):
        assert (after.conditions[:, :2] != i).all() and (after.conditions[:, 2] == i).all()
    with pytest.raises(UserError, match="expected at least two"):
        shuffle_conditions(sequences[:1], seed=1)
