"""Tests on real frames of the course's video, if available; all other tests run without them."""

from pathlib import Path

import pytest

from data.dance import DanceSplit, load_validation_sequences
from data.dance_sequences import load_test_sequences
from evaluation.image_metrics import psnr
from evaluation.scores import score, summary
from tests.helpers.dance import SIZE, clips_of
from tests.helpers.settings import ROOT

REAL = ROOT.parent / "shared" / "data" / "lab4_real"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real frames are not on this machine")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_the_first_frame_is_resized_as_in_the_course(cache):
    """It is resized from 1024x512 to 64x32 and has more than 44 dB against the ground truth; other resize filters give 40 to 42 dB."""
    (sequence,) = load_test_sequences(REAL, **SIZE, cache_dir=cache)
    assert psnr(sequence.context_frames[0] / 255, sequence.ground_truth[0] / 255) > 44
    assert len(sequence.conditions) == 630


def test_no_clip_crosses_the_gap_in_the_training_frames(cache):
    split = DanceSplit.load(REAL, "train", **SIZE, cache_dir=cache)
    clips = clips_of(split, length=16)
    assert [(split.numbers[s.start], split.numbers[s.stop - 1]) for s in clips.segments] == [(0, 1889), (2520, 3149)]
    assert len(clips.starts) == 1890 - 15 + 630 - 15 and len(clips) == 157


def test_copying_the_first_frame_has_the_published_score(cache):
    split = DanceSplit.load(REAL, "val", **SIZE, cache_dir=cache)
    (sequence,) = load_validation_sequences(split, length=630)
    still = (sequence.context_frames / 255).expand(630, -1, -1, -1)
    means = summary([score(still, sequence)])
    assert means["psnr"] == pytest.approx(means["copy"]) == pytest.approx(15.4, abs=0.05)
