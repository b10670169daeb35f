import itertools
import pickle
import shutil

import numpy as np
import pytest
import torch

from data import frame_cache
from data.clips import moved
from data.dance import DanceClips, DanceSplit, load_test_sequences, load_validation_sequences, sequence_folders
from data.images import find_dataset, numbered_images
from dataloader import ClipBatches, build_loader
from tests.helpers.images import write_image
from utils import UserError

SIZE = {"height": 32, "width": 64}


@pytest.fixture
def split(rendered) -> DanceSplit:
    return DanceSplit(rendered, "train", **SIZE)


def clips_of(split, **flags) -> DanceClips:
    return DanceClips(
        split, **{"length": 5, "partial": 1.0, "seed": 1, "reference": "video", "flip": 0.0, "shift": 0, "margin": 0} | flags
    )


def position(split, frame: torch.Tensor, kind: int = 0) -> int:
    """Where a frame stands in the split, found by its pixels."""
    return next(i for i, image in enumerate(split.images[kind]) if np.array_equal(image, frame.numpy()))


def test_frames_are_ordered_by_number_not_by_name(tmp_path):
    for name in ("frame12.png", "frame9.png", "frame000100.png", "7.png", "notes.txt", ".hidden1.png"):
        (tmp_path / name).touch()
    assert [path.name for path in numbered_images(tmp_path).values()] == ["7.png", "frame9.png", "frame12.png", "frame000100.png"]


def test_digits_dots_and_spaces_in_folder_names_do_not_matter(tmp_path):
    """Paths split on "/" or on digits broke on Windows and in folders like run.3/."""
    folder = tmp_path / "my data 7.5" / "frame99"
    folder.mkdir(parents=True)
    (folder / "frame4.png").touch()
    assert list(numbered_images(folder)) == [4]


def test_one_number_twice_is_refused(tmp_path):
    (tmp_path / "frame7.png").touch()
    (tmp_path / "frame007.png").touch()
    with pytest.raises(UserError, match="both frame 7"):
        numbered_images(tmp_path)


def test_a_name_without_number_is_refused(tmp_path):
    (tmp_path / "cover.png").touch()
    with pytest.raises(UserError, match=r"cover\.png: no frame number"):
        numbered_images(tmp_path)


def test_a_number_that_does_not_fit_into_64_bits_is_refused(tmp_path):
    """Such numbers made the array of all of them one of floats, in which neighbours are equal, or let its differences wrap."""
    (tmp_path / f"{2**62}.png").touch()
    assert list(numbered_images(tmp_path)) == [2**62]
    (tmp_path / f"{2**63}.png").touch()
    with pytest.raises(UserError, match=r"9223372036854775808\.png: frame number 9223372036854775808; expected at most"):
        numbered_images(tmp_path)


def test_only_what_int_reads_is_the_number_of_a_sequence(tmp_path):
    """A superscript two is a digit to str.isdigit(), and none to int(). Equal numbers stand in one order on every disk."""
    for name in ("10", "9", "²", "007", "7"):
        (tmp_path / name).mkdir()
    assert [path.name for path in sequence_folders(tmp_path)] == ["007", "7", "9", "10"]


def test_the_data_set_may_be_nested_once_more(rendered, tmp_path):
    shutil.copytree(rendered, tmp_path / "outer" / "LAB4_Dataset")
    assert find_dataset(tmp_path / "outer", "train") == tmp_path / "outer" / "LAB4_Dataset"
    assert find_dataset(rendered, "train") == rendered


def test_labels_are_paired_with_frames_by_number(tmp_path):
    """Frames may be called frame000003.png and poses 3.png; order of the names differs from that of the numbers."""
    for i in (9, 10, 11):
        write_image(tmp_path / "train" / "train_img" / f"frame{i}.png", seed=i)
        write_image(tmp_path / "train" / "train_label" / f"{i:06d}.png", seed=100 + i)
    images = DanceSplit(tmp_path, "train", **SIZE).images
    expected = [frame_cache.read_image(tmp_path / "train" / "train_label" / f"{i:06d}.png", **SIZE) for i in (9, 10, 11)]
    assert np.array_equal(images[1], np.stack(expected))


@pytest.mark.parametrize("kind", ["img", "label"])
def test_a_frame_without_its_partner_is_named(dataset, kind):
    other = {"img": "label", "label": "img"}[kind]
    next(iter(sorted((dataset / "train" / f"train_{other}").iterdir()))).unlink()
    with pytest.raises(UserError, match=rf"train: 1 of 40 frames .*:\n  .*train_{other}: no .* for frame000000\.png$"):
        DanceSplit(dataset, "train", **SIZE)


def test_clips_are_consecutive_frames_with_their_own_poses(split):
    for index in range(len(clips_of(split))):
        clip = clips_of(split)[0, index]
        start = position(split, clip["frames"][0])
        assert np.array_equal(clip["frames"].numpy(), split.images[0, start : start + 5])
        assert np.array_equal(clip["conditions"].numpy(), split.images[1, start : start + 5])


def test_no_clip_straddles_a_gap_in_the_frame_numbers(split):
    """The demo data's training frames are two videos; frames 19 and 20 of the folder do not follow each other."""
    clips = clips_of(split)
    assert [list(stretch)[-1] for stretch in clips.stretches] == [19, 39]
    starts = {position(split, clips[epoch, index]["frames"][0]) for epoch in range(60) for index in range(len(clips))}
    assert starts == {*range(0, 16), *range(20, 36)}  # all that fit, and none of 16..19


def test_the_reference_comes_from_the_same_video(split):
    clips, same = clips_of(split), clips_of(split, reference="clip")
    seen = set()
    for epoch in range(20):
        for index in range(len(clips)):
            clip = clips[epoch, index]
            start, known = position(split, clip["frames"][0]), position(split, clip["reference"])
            assert (start < 20) == (known < 20)
            seen.add(known not in range(start, start + 5))
            assert torch.equal(same[epoch, index]["reference"], same[epoch, index]["frames"][0])
    assert seen == {True, False}  # inside the clip and outside it


def test_an_epoch_sees_all_parts_of_the_video(split):
    """Clip i starts in the i-th of equal shares; drawn freely, an epoch would leave gaps."""
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
    """Every picture of a clip moves by the same whole pixels; what comes in at the border repeats it."""
    moves = set()
    for epoch in range(12):
        plain, moved = clips_of(split)[epoch, 0], clips_of(split, shift=2)[epoch, 0]
        fits = [
            (dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)
            if all(torch.equal(moved[n][..., 2:-2, 2:-2], plain[n].roll((dy, dx), (-2, -1))[..., 2:-2, 2:-2]) for n in plain if n != "seed")
        ]  # fmt: skip
        assert len(fits) == 1
        moves.add(fits[0])
        assert moved["frames"].shape == plain["frames"].shape
    assert len(moves) > 5


def test_partial_takes_the_first_part_of_the_frames(split):
    clips = clips_of(split, partial=0.5)
    assert len(clips) == 4
    assert all(position(split, clips[epoch, i]["frames"][-1]) < 20 for epoch in range(10) for i in range(4))


def test_a_clip_longer_than_every_stretch_is_refused(split):
    with pytest.raises(UserError, match=r"--train_vi_len 21 frames fits nowhere.* has 20"):
        clips_of(split, length=21)


def test_an_epoch_is_shuffled_and_keeps_the_last_partial_batch(split):
    clips = clips_of(split)
    order = ClipBatches(len(clips), batch_size=3, accumulate=1, seed=1)
    loader = build_loader(clips, order, workers=0, pin=False)
    assert [len(batch["frames"]) for _, batch in loader] == [3, 3, 2]
    orders = []
    for epoch in (0, 1):
        order.set_epoch(epoch)
        orders.append([index for batch in order for _, index in batch])
        assert sorted(orders[-1]) == list(range(8))
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])


def test_fast_train_takes_a_part_of_the_clips(split):
    order = ClipBatches(8, batch_size=2, accumulate=1, seed=1)
    order.set_epoch(0, fraction=0.4)
    assert sorted(index for batch in order for _, index in batch) == [0, 1, 2] and len(order) == 2


def test_worker_processes_deliver_the_same_clips_and_open_the_cache_themselves(split):
    batches = []
    for workers in (0, 2):
        clips = clips_of(split, flip=0.5)
        order = ClipBatches(len(clips), batch_size=3, accumulate=1, seed=1)
        loader = build_loader(clips, order, workers=workers, pin=False)
        batches.append([])
        for epoch in (0, 1):  # the second epoch must reach the same workers
            order.set_epoch(epoch)
            batches[-1] += [batch for _, batch in loader]
    assert len(batches[0]) == len(batches[1]) == 6
    assert all(torch.equal(a[name], b[name]) for a, b in zip(*batches) for name in a)
    assert len(pickle.dumps(split)) < 2000  # a pickled memory map would carry every pixel
    assert np.array_equal(pickle.loads(pickle.dumps(split)).images, split.images)


def test_validation_cuts_stretches_into_sequences(split):
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
        load_validation_sequences(DanceSplit(tmp_path, "val", **SIZE), length=630)


def test_a_first_frame_folder_with_more_frames_gives_the_one_of_the_first_pose(dataset):
    given = next(iter((dataset / "test" / "test_img" / "0").iterdir()))
    write_image(given.with_name("frame000000.png"), seed=5)
    (sequence, _) = load_test_sequences(dataset, **SIZE)
    assert torch.equal(sequence.context_frames[0], sequence.ground_truth[0])


def test_a_sequence_with_nothing_to_predict_is_refused_and_an_empty_truth_folder_is_no_truth(dataset):
    shutil.rmtree(dataset / "test" / "test_gt" / "0")
    (dataset / "test" / "test_gt" / "0").mkdir()
    assert load_test_sequences(dataset, **SIZE)[0].ground_truth is None
    for path in sorted((dataset / "test" / "test_label" / "0").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match="1 pose image; expected"):
        load_test_sequences(dataset, **SIZE)


def test_any_number_of_test_sequences_of_any_length(dataset):
    for number in sorted((dataset / "test" / "test_label" / "1").iterdir())[6:]:
        number.unlink()
        (dataset / "test" / "test_gt" / "1" / number.name).unlink()
    shutil.copytree(dataset / "test" / "test_label" / "0", dataset / "test" / "test_label" / "10")
    shutil.copytree(dataset / "test" / "test_img" / "0", dataset / "test" / "test_img" / "10")
    sequences = load_test_sequences(dataset, **SIZE)
    assert [(s.name, len(s.conditions), s.ground_truth is not None) for s in sequences] == [
        ("0", 9, True),
        ("1", 6, True),
        ("10", 9, False),
    ]
    assert torch.equal(sequences[0].context_frames[0], sequences[0].ground_truth[0])


@pytest.mark.parametrize("broken", ["missing root", "no split", "empty folder"])
def test_a_wrong_folder_is_named(tmp_path, broken):
    if broken != "missing root":
        (tmp_path / "data").mkdir()
    if broken == "empty folder":
        (tmp_path / "data" / "train" / "train_img").mkdir(parents=True)
    with pytest.raises(
        UserError, match={"missing root": "no such folder", "no split": "no folder train/", "empty folder": "no images"}[broken]
    ):
        DanceSplit(tmp_path / "data", "train", **SIZE)


def test_the_scale_of_the_poses_is_that_of_all_training_pose_images(split):
    mean, scale = clips_of(split).condition_scale()
    poses = split.images[1].astype(float) / 255
    np.testing.assert_allclose(mean, poses.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(scale, poses.std(axis=(0, 2, 3)), rtol=1e-5)


def test_conditions_reach_beyond_the_clip_but_not_beyond_the_video(split):
    """Clip and poses start and end together; the pose before the first of the video is that first once more."""
    clips = clips_of(split, margin=2)
    seen = set()
    for epoch, index in itertools.product(range(20), range(len(clips))):
        clip = clips[epoch, index]
        first = position(split, clip["frames"][0])
        whole = next(s for s in clips.stretches if first in s)
        seen.add(first)
        expected = [min(max(i, whole.start), whole.stop - 1) for i in range(first - 2, first + 7)]
        assert np.array_equal(clip["conditions"].numpy(), split.images[1, expected])
    assert {0, 15, 20, 35} <= seen  # the ends of both stretches


@pytest.mark.parametrize("by", [-40, -3, 0, 2, 40])
@pytest.mark.parametrize("dim", [-1, -2])
def test_moving_repeats_the_border(by, dim):
    """Pixel by pixel, also further than the picture is wide."""
    pictures = torch.randint(256, (2, 3, 5, 7), dtype=torch.uint8)
    size = pictures.shape[dim]
    at = (torch.arange(size) - by).clamp(0, size - 1)
    assert torch.equal(moved(pictures, by, dim=dim), pictures.index_select(dim, at))
