"""The test sequences of a dance: in numeric order, each whole, or refused by name."""

import argparse
import shutil

import pytest
import torch

from data.clips import sequences_hash
from data.dance import DanceSplit
from data.dance_sequences import load_test_sequences
from dataloader import dance_sequences
from tests.helpers.dance import SIZE
from tests.helpers.images import WHAT_IS_READ
from utils import UserError


def test_an_empty_ground_truth_folder_and_a_sequence_with_nothing_to_predict(dataset):
    """The folder is the same as no ground truth; the sequence is refused."""
    shutil.rmtree(dataset / "test" / "test_gt" / "0")
    (dataset / "test" / "test_gt" / "0").mkdir()
    assert load_test_sequences(dataset, **SIZE)[0].ground_truth is None
    for path in sorted((dataset / "test" / "test_label" / "0").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match="expected a pose image for the first frame and at least one more, got 1 pose image"):
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


def remove(dataset, *folders: str) -> None:
    for folder in folders:
        shutil.rmtree(dataset / "test" / folder)


@pytest.mark.parametrize("missing, problem", [
    (["test_label/1"], "test_label/1: no such folder; add it, or remove test_img/1 and test_gt/1"),
    (["test_img/1"], "test_img/1: no such folder; add it, or remove test_label/1 and test_gt/1"),
    (["test_img/1", "test_label/1"], "test_img/1: no such folder; add it, or remove test_gt/1"),
    (["test_label/1", "test_gt"], "test_label/1: no such folder; add it, or remove test_img/1"),
])  # fmt: skip
def test_a_sequence_that_one_of_the_folders_lacks_is_refused(dataset, missing, problem):
    """A sequence without poses once vanished, and with it its rows of submission.csv."""
    remove(dataset, *missing)
    with pytest.raises(UserError) as raised:
        load_test_sequences(dataset, **SIZE)
    assert str(raised.value).splitlines()[0] == f"{dataset / 'test'}: 1 of 2 sequences cannot be used; fix it:"
    problems = [line.replace("\\", "/") for line in raised.value.problems]
    assert problems[0].endswith(problem) and len(problems) == sum(not part.startswith("test_gt") for part in missing)


def test_an_empty_sequence_folder_is_refused(dataset):
    for path in (dataset / "test" / "test_label" / "1").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"1 of 2 sequences cannot be used; fix it:\n  .*test_label.1: holds no images"):
        load_test_sequences(dataset, **SIZE)


def test_a_gap_in_a_test_sequence_is_refused_and_equal_steps_are_not(dataset, tmp_path):
    """It was closed without a word: fewer rows, and all later ids were those of other frames."""
    folder = dataset / "test"
    poses = sorted((folder / "test_label" / "0").iterdir())
    for path in poses[1::2]:
        for place in (path, folder / "test_gt" / "0" / path.name):
            place.unlink(missing_ok=True)
    assert len(load_test_sequences(dataset, **SIZE)[0].conditions) == len(poses[::2])
    poses[2].unlink()
    (folder / "test_gt" / "0" / poses[2].name).unlink(missing_ok=True)
    with pytest.raises(UserError) as refusal:
        load_test_sequences(dataset, **SIZE)
    assert refusal.value.problems == [
        f"{folder / 'test_label' / '0'}: no pose image between 3052 and 3056; add it, or number the images without a gap"
    ]


def test_a_sequence_without_a_number_is_refused(dataset):
    """It has no place among the rows of submission.csv; it once vanished."""
    for part in ("test_img", "test_label", "test_gt"):
        (dataset / "test" / part / "1").rename(dataset / "test" / part / "dance")
    with pytest.raises(UserError) as raised:
        load_test_sequences(dataset, **SIZE)
    assert str(raised.value).splitlines()[0] == f"{dataset / 'test'}: 1 of 2 sequences cannot be used; fix it:"
    (problem,) = raised.value.problems
    assert problem.endswith("dance: expected a number as the name of a sequence, such as 0/; rename it in every folder")
    remove(dataset, "test_img/0", "test_label/0", "test_gt/0")
    with pytest.raises(UserError, match="1 of 1 sequence cannot be used"):
        load_test_sequences(dataset, **SIZE)


@pytest.mark.parametrize("parts", [("test_img", "test_label", "test_gt"), ("test_label",)])
def test_a_number_that_occurs_twice_among_the_sequences_is_refused(dataset, parts):
    for part in parts:
        shutil.copytree(dataset / "test" / part / "1", dataset / "test" / part / "01")
    with pytest.raises(UserError, match=r"test: 01/ and 1/ are both sequence 1; rename or remove one"):
        load_test_sequences(dataset, **SIZE)


def test_foreign_folders_and_hidden_ones_are_no_sequences(dataset, capsys):
    before = load_test_sequences(dataset, **SIZE)
    for part in ("test_img", "test_label", "test_gt"):
        (dataset / "test" / part / "notes").mkdir()
        shutil.copytree(dataset / "test" / part / "1", dataset / "test" / part / "@eaDir")
        shutil.copytree(dataset / "test" / part / "1", dataset / "test" / part / "1" / ".2")
        (dataset / "test" / part / "README").touch()
    capsys.readouterr()
    assert sequences_hash(load_test_sequences(dataset, **SIZE)) == sequences_hash(before)
    assert capsys.readouterr().err == ""
    shutil.copy(next((dataset / "test" / "test_img" / "1").glob("*.png")), dataset / "test" / "test_label" / "7.png")
    assert sequences_hash(load_test_sequences(dataset, **SIZE)) == sequences_hash(before)
    assert capsys.readouterr().err == f"{dataset / 'test'}: not read as frames: test_label/7.png; {WHAT_IS_READ}\n"


def test_a_hidden_file_does_not_make_a_ground_truth(dataset):
    for path in (dataset / "test" / "test_gt" / "0").iterdir():
        path.unlink()
    (dataset / "test" / "test_gt" / "0" / ".DS_Store").touch()
    assert [s.ground_truth is None for s in load_test_sequences(dataset, **SIZE)] == [True, False]


def test_sequences_without_ground_truth_are_listed_if_others_have_one(dataset, capsys):
    """The course's own test set has none at all, which needs no line."""
    flags = argparse.Namespace(DR=dataset, gt=None, frame_H=32, frame_W=64, cache_dir=None)
    dance_sequences(flags, "test")
    assert capsys.readouterr().err == ""
    remove(dataset, "test_gt/1")
    assert [s.ground_truth is None for s in dance_sequences(flags, "test")] == [False, True]
    assert capsys.readouterr().err == f"{dataset / 'test'}: no ground truth for sequence 1; only the others are scored\n"
    remove(dataset, "test_gt")
    dance_sequences(flags, "test")
    assert capsys.readouterr().err == ""


def test_the_case_of_letters_of_the_parts_is_named(dataset):
    for old, new in [("train/train_label", "train/Train_Label"), ("test/test_img", "test/Test_img")]:
        (dataset / old).rename(dataset / new)
    if (dataset / "train" / "train_label").exists():
        pytest.skip("this disk ignores the case of letters")
    with pytest.raises(UserError, match=r"train_label: no such folder; .*; got Train_Label, rename it to train_label$"):
        DanceSplit.load(dataset, "train", **SIZE)
    with pytest.raises(UserError, match=r"test_img: no sequences; .*; got Test_img, rename it to test_img$"):
        load_test_sequences(dataset, **SIZE)
