"""The dance data set: frames paired with poses, training clips, validation and test sequences."""

import itertools
import re
import shutil

import numpy as np
import pytest
import torch

from data import frame_cache
from data.clips import shift_images
from data.dance import DanceSplit, load_validation_sequences
from data.dance_sequences import load_test_sequences, sequence_folders
from tests.helpers.dance import SIZE, clips_of
from tests.helpers.images import WHAT_IS_READ, write_image
from utils import UserError


@pytest.fixture
def split(rendered) -> DanceSplit:
    return DanceSplit.load(rendered, "train", **SIZE)


def position(split, frame: torch.Tensor, kind: int = 0) -> int:
    """Return the position of a frame in the split, found by its pixels."""
    return next(i for i, image in enumerate(split.images[kind]) if np.array_equal(image, frame.numpy()))


def test_only_decimal_names_are_sequences(tmp_path):
    """str.isdigit() accepts a superscript two, but int() does not. Equal numbers have the same order on every disk."""
    for name in ("10", "9", "²", "007", "7"):
        (tmp_path / name).mkdir()
    assert [path.name for path in sequence_folders(tmp_path)] == ["007", "7", "9", "10"]


def test_labels_are_paired_with_frames_by_number(tmp_path):
    """Frames may be called frame000003.png and poses 3.png; the order of the names differs from that of the numbers."""
    for i in (9, 10, 11):
        write_image(tmp_path / "train" / "train_img" / f"frame{i}.png", seed=i)
        write_image(tmp_path / "train" / "train_label" / f"{i:06d}.png", seed=100 + i)
    images = DanceSplit.load(tmp_path, "train", **SIZE).images
    expected = [frame_cache.read_image(tmp_path / "train" / "train_label" / f"{i:06d}.png", **SIZE).pixels for i in (9, 10, 11)]
    assert np.array_equal(images[1], np.stack(expected))


@pytest.mark.parametrize("kind", ["img", "label"])
def test_a_frame_without_its_partner_is_named(dataset, kind):
    other = {"img": "label", "label": "img"}[kind]
    next(iter(sorted((dataset / "train" / f"train_{other}").iterdir()))).unlink()
    with pytest.raises(
        UserError,
        match=rf"train: 1 of 40 frames .*:\n  .*train_{other}: no .* for frame000000\.png; add it, or remove the (frame|pose image)$",
    ):
        DanceSplit.load(dataset, "train", **SIZE)


def test_clips_are_consecutive_frames_with_their_own_poses(split):
    for index in range(len(clips_of(split))):
        clip = clips_of(split)[0, index]
        start = position(split, clip["frames"][0])
        assert np.array_equal(clip["frames"].numpy(), split.images[0, start : start + 5])
        assert np.array_equal(clip["conditions"].numpy(), split.images[1, start : start + 5])


def test_no_clip_straddles_a_gap_in_the_frame_numbers(split):
    """The demo data's training frames are two videos; the images at positions 19 and 20 are not consecutive."""
    clips = clips_of(split)
    assert [list(segment)[-1] for segment in clips.segments] == [19, 39]
    starts = {position(split, clips[epoch, index]["frames"][0]) for epoch in range(60) for index in range(len(clips))}
    assert starts == {*range(0, 16), *range(20, 36)}  # all that fit, and none of 16..19


def test_the_reference_comes_from_the_same_video(split):
    clips, same = clips_of(split), clips_of(split, reference="clip")
    seen = set()
    for epoch in range(20):
        for index in range(len(clips)):
            clip = clips[epoch, index]
            start, reference = position(split, clip["frames"][0]), position(split, clip["reference"])
            assert (start < 20) == (reference < 20)
            seen.add(reference not in range(start, start + 5))
            assert torch.equal(same[epoch, index]["reference"], same[epoch, index]["frames"][0])
    assert seen == {True, False}  # inside the clip and outside it


def test_an_epoch_sees_all_parts_of_the_video(split):
    """Clip i starts in the i-th of equal shares of the video. Unrestricted draws would leave gaps in an epoch."""
    clips = clips_of(split)
    for epoch in range(5):
        shares = [
            clips.starts.index(s) * 8 // 32
            for i in range(8)
            for s in clips.starts
            if s[0] == position(split, clips[epoch, i]["frames"][0])
        ]
        assert shares == list(range(8))


def test_a_clip_depends_on_seed_epoch_and_index_alone(split):
    a, b = clips_of(split), clips_of(split)
    for _ in range(7):
        b[5, 2]
    assert torch.equal(a[3, 1]["frames"], b[3, 1]["frames"])
    starts = {position(split, a[epoch, 1]["frames"][0]) for epoch in range(8)}
    assert len(starts) > 1
    other = clips_of(split, seed=2)
    assert any(not torch.equal(a[e, 1]["frames"], other[e, 1]["frames"]) for e in range(5))


def test_a_mirrored_clip_is_mirrored_as_a_whole(split):
    plain, mirrored = clips_of(split)[0, 0], clips_of(split, flip=1.0)[0, 0]
    for name in plain.keys() - {"seed"}:
        assert torch.equal(mirrored[name], plain[name].flip(-1))


def test_a_shifted_clip_is_shifted_as_a_whole(split):
    """All images of a clip are shifted by the same whole pixels, and the border is repeated."""
    shifts = set()
    for epoch in range(12):
        plain, shifted = clips_of(split)[epoch, 0], clips_of(split, shift=2)[epoch, 0]
        fits = []
        for dy, dx in itertools.product(range(-2, 3), repeat=2):
            inner = [
                torch.equal(
                    shifted[name][..., 2:-2, 2:-2], plain[name].roll((dy, dx), (-2, -1))[..., 2:-2, 2:-2]
                ) for name in plain.keys() - {"seed"}
            ]  # fmt: skip
            if all(inner):
                fits.append((dy, dx))
        assert len(fits) == 1
        shifts.add(fits[0])
        assert shifted["frames"].shape == plain["frames"].shape
    assert len(shifts) > 5


@pytest.mark.parametrize("by", [-40, -3, 0, 2, 40])
@pytest.mark.parametrize("dim", [-1, -2])
def test_a_shift_repeats_the_border(by, dim):
    """The result equals that of picking each pixel by its index, also for shifts larger than the image."""
    images = torch.randint(256, (2, 3, 5, 7), dtype=torch.uint8)
    size = images.shape[dim]
    source = (torch.arange(size) - by).clamp(0, size - 1)
    assert torch.equal(shift_images(images, by, dim=dim), images.index_select(dim, source))


def test_partial_takes_the_first_part_of_the_frames(split):
    clips = clips_of(split, partial=0.5)
    assert len(clips) == 4
    assert all(position(split, clips[epoch, i]["frames"][-1]) < 20 for epoch in range(10) for i in range(4))


def test_a_clip_longer_than_every_segment_is_refused(split):
    with pytest.raises(
        UserError, match=r"at least 21 consecutive frames \(--train_vi_len\), got at most 20; choose a smaller --train_vi_len"
    ):
        clips_of(split, length=21)


def test_the_scale_of_the_poses_is_that_of_all_training_pose_images(split):
    mean, scale = clips_of(split).condition_scale()
    poses = split.images[1].astype(float) / 255
    np.testing.assert_allclose(mean, poses.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(scale, poses.std(axis=(0, 2, 3)), rtol=1e-5)


def test_conditions_extend_beyond_the_clip_but_not_beyond_the_video(split):
    """Clip and poses have the same center; before the video's first pose, that pose is repeated."""
    clips = clips_of(split, margin=2)
    seen = set()
    for epoch, index in itertools.product(range(20), range(len(clips))):
        clip = clips[epoch, index]
        first = position(split, clip["frames"][0])
        segment = next(s for s in clips.segments if first in s)
        seen.add(first)
        expected = [min(max(i, segment.start), segment.stop - 1) for i in range(first - 2, first + 7)]
        assert np.array_equal(clip["conditions"].numpy(), split.images[1, expected])
    assert {0, 15, 20, 35} <= seen  # the ends of both segments


def test_validation_cuts_segments_into_sequences(split):
    lengths = [len(sequence.conditions) for sequence in load_validation_sequences(split, length=8)]
    assert lengths == [8, 8, 4, 8, 8, 4]
    whole = load_validation_sequences(split, length=630)
    assert [len(sequence.ground_truth) for sequence in whole] == [20, 20]
    assert torch.equal(whole[0].context_frames, whole[0].ground_truth[:1]) and whole[0].name == "0-19"


def test_a_validation_split_without_a_video_is_refused(tmp_path):
    for i in (1, 5, 9):
        for kind in ("img", "label"):
            write_image(tmp_path / "val" / f"val_{kind}" / f"{i}.png", seed=i)
    with pytest.raises(UserError, match="no two frames with consecutive numbers"):
        load_validation_sequences(DanceSplit.load(tmp_path, "val", **SIZE), length=630)


def test_the_first_frame_with_the_number_of_the_first_pose_is_used(dataset):
    first = next(iter((dataset / "test" / "test_img" / "0").iterdir()))
    write_image(first.with_name("frame000000.png"), seed=5)
    (sequence, _) = load_test_sequences(dataset, **SIZE)
    assert torch.equal(sequence.context_frames[0], sequence.ground_truth[0])


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_frame_of_a_type_that_is_not_read_is_no_silent_cut(dataset, skip_bad, capsys):
    frame = dataset / "train" / "train_img" / "frame000005.png"
    frame.rename(frame.with_suffix(".heic"))
    if not skip_bad:
        with pytest.raises(UserError, match=r"1 of 40 frames .*\n  .*frame000005.heic: expected .png, .* got .heic; convert it"):
            DanceSplit.load(dataset, "train", **SIZE)
        return
    split = DanceSplit.load(dataset, "train", **SIZE, skip_bad=True)
    split.report_skipped()
    assert [len(segment) for segment in split.segments(39)] == [5, 14, 20]
    assert "skipped 1 of 40 frames" in capsys.readouterr().err


def test_images_in_other_places_of_a_split_are_listed_in_one_line(dataset, capsys):
    before = DanceSplit.load(dataset, "train", **SIZE)
    assert capsys.readouterr().err == ""
    for part in ("train_img", "train_label"):
        (dataset / "train" / part / "old").mkdir()
        shutil.copy(dataset / "train" / part / "frame000005.png", dataset / "train" / part / "old")
        (dataset / "train" / part / "frame000005.gif").touch()
    assert DanceSplit.load(dataset, "train", **SIZE).digest == before.digest
    expected = "train_img/frame000005.gif, train_img/old/, train_label/frame000005.gif, train_label/old/"
    assert capsys.readouterr().err == f"{dataset / 'train'}: not read as frames: {expected}; {WHAT_IS_READ}\n"


@pytest.mark.parametrize("broken", ["missing root", "no split", "empty folder"])
def test_a_wrong_folder_is_named(tmp_path, broken):
    if broken != "missing root":
        (tmp_path / "data").mkdir()
    if broken == "empty folder":
        (tmp_path / "data" / "train" / "train_img").mkdir(parents=True)
    messages = {"missing root": "no such folder", "no split": "no folder train/", "empty folder": "no images"}
    with pytest.raises(UserError, match=messages[broken]):
        DanceSplit.load(tmp_path / "data", "train", **SIZE)


def test_a_folder_inside_the_data_set_names_the_one_above(tmp_path):
    """--DR LAB4_Dataset/train is an easy mistake; the message listed train_img and train_label, but not the way out."""
    (tmp_path / "data" / "train" / "train_img").mkdir(parents=True)
    with pytest.raises(UserError, match=f"did you mean --DR {re.escape(str(tmp_path / 'data'))}\\?"):
        DanceSplit.load(tmp_path / "data" / "train", "train", **SIZE)
