"""The folder of a data set: one for all splits, or a message that names the folders and the way out."""

import re

import pytest

from data.images import find_dataset
from utils import UserError


def make(root, *folders: str) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True)


def test_the_data_set_may_be_nested_once_more(tmp_path):
    make(tmp_path, "LAB4_Dataset/train", "LAB4_Dataset/val", "notes", "Demo_Test")
    for split in ("train", "val"):
        assert find_dataset(tmp_path, split) == tmp_path / "LAB4_Dataset"
        assert find_dataset(tmp_path / "LAB4_Dataset", split) == tmp_path / "LAB4_Dataset"


@pytest.mark.parametrize("other", ["__MACOSX/train", ".cache/train", "@eaDir/val", "$RECYCLE.BIN/train", "lost+found/test", "docs/training",
                                   "__MACOSX/LAB4_Dataset/train"])  # fmt: skip
def test_hidden_and_system_folders_are_no_data_sets(tmp_path, other):
    """Before LAB4_Dataset in the alphabet, the leftovers of an archive were trained on."""
    make(tmp_path, "data/train", "data/val", "data/test", other)
    assert {find_dataset(tmp_path, split) for split in ("train", "val", "test")} == {tmp_path / "data"}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_two_data_sets_are_refused_for_every_split(tmp_path, split):
    """The training once used A, and the validation B."""
    make(tmp_path, "A/train", "B/train", "B/val", "B/test")
    expected = f"--DR {tmp_path}: expected all splits in one folder, got {tmp_path / 'A'} with train/, {tmp_path / 'B'} with train/ val/ test/; "
    with pytest.raises(UserError) as raised:
        find_dataset(tmp_path, split)
    assert str(raised.value) == f"{expected}choose one, such as --DR {tmp_path / 'B'}"
    assert find_dataset(tmp_path / "A", "train") == tmp_path / "A"


def test_splits_in_different_folders_are_refused(tmp_path):
    make(tmp_path, "one/train", "one/val", "two/test")
    for split in ("train", "val", "test"):
        with pytest.raises(UserError, match=r"one with train/ val/, .*two with test/; choose one"):
            find_dataset(tmp_path, split)


def test_a_split_that_only_a_folder_further_inside_has_is_refused(tmp_path):
    make(tmp_path, "train", "LAB4_Dataset/train", "LAB4_Dataset/val")
    assert find_dataset(tmp_path, "train") == tmp_path
    expected = rf"got {re.escape(str(tmp_path))} with train/, {re.escape(str(tmp_path / 'LAB4_Dataset'))} with train/ val/; choose one, such as --DR .*LAB4_Dataset$"
    with pytest.raises(UserError, match=expected):
        find_dataset(tmp_path, "val")


def test_a_whole_data_set_hides_the_one_inside_it(tmp_path):
    make(tmp_path, *(f"{place}{split}" for place in ("", "LAB4_Dataset/") for split in ("train", "val", "test")))
    assert {find_dataset(tmp_path, split) for split in ("train", "val", "test")} == {tmp_path}


def test_the_results_of_a_test_are_no_data_set(tmp_path):
    """They are in a folder test/ of the run, which may be next to the data."""
    make(tmp_path, "data/train", "data/test", "run/test")
    (tmp_path / "run" / "test" / "scores.json").write_text("{}")
    assert find_dataset(tmp_path, "test") == tmp_path / "data"
    make(tmp_path, "test")
    (tmp_path / "test" / "scores.json").write_text("{}")
    assert {find_dataset(tmp_path, split) for split in ("train", "test")} == {tmp_path / "data"}


def test_a_split_of_any_name_is_sought_in_the_same_folder(tmp_path):
    make(tmp_path, "data/train", "data/extra/part", "other/more")
    assert find_dataset(tmp_path, "extra") == tmp_path / "data" == find_dataset(tmp_path, "extra/part")
    with pytest.raises(
        UserError,
        match=r"expected all splits in one folder, got .*data with train/, .*other with more/; choose one, such as --DR .*other$",
    ):
        find_dataset(tmp_path, "more")


@pytest.mark.parametrize("place", ["", "LAB4_Dataset/"])
def test_another_case_of_letters_is_named(tmp_path, place):
    make(tmp_path, f"{place}Train", f"{place}VAL", f"{place}test")
    if (tmp_path / place / "train").exists():
        pytest.skip("this disk ignores the case of letters")
    for split, got in [("train", "Train"), ("val", "VAL")]:
        with pytest.raises(UserError, match=f"no folder {split}/; .*; got {got}, rename it to {split}$"):
            find_dataset(tmp_path, split)


def test_a_missing_split_is_named_with_the_place_that_was_searched(tmp_path):
    make(tmp_path, "data/train", "data/valid")
    with pytest.raises(UserError) as raised:
        find_dataset(tmp_path, "val")
    assert str(raised.value) == f"--DR {tmp_path}: no folder val/; expected it in {tmp_path / 'data'}, got train, valid"
    (tmp_path / "only" / "__MACOSX").mkdir(parents=True)
    with pytest.raises(UserError, match="got an empty folder"):
        find_dataset(tmp_path / "only", "val")


@pytest.mark.parametrize("parts, split, hint", [
    (["train/train_img", "validate"], "val", "got validate/, rename it to val/"),
    (["train/traj/0", "val"], "validate", "got val/, rename it to validate/"),
])  # fmt: skip
def test_the_validation_split_may_only_need_another_name(tmp_path, parts, split, hint):
    make(tmp_path, *parts)
    with pytest.raises(UserError, match=f"no folder {split}/; .*; {hint}$"):
        find_dataset(tmp_path, split)
