"""Folders of numbered images, and the folder of a data set."""

import shutil

import pytest

from data.images import find_dataset, numbered_images, scan_images
from utils import UserError


def test_frames_are_ordered_by_number_not_by_name(tmp_path):
    for name in ("frame12.png", "frame9.png", "frame000100.png", "7.png", "notes.txt", ".hidden1.png"):
        (tmp_path / name).touch()
    assert [path.name for path in numbered_images(tmp_path).values()] == ["7.png", "frame9.png", "frame12.png", "frame000100.png"]


def test_digits_dots_and_spaces_in_folder_names_do_not_matter(tmp_path):
    """Code that splits paths at "/" or at digits fails on Windows and in folders like run.3/."""
    folder = tmp_path / "my data 7.5" / "frame99"
    folder.mkdir(parents=True)
    (folder / "frame4.png").touch()
    assert list(numbered_images(folder)) == [4]


def test_a_number_that_occurs_twice_is_refused(tmp_path):
    (tmp_path / "frame7.png").touch()
    (tmp_path / "frame007.png").touch()
    with pytest.raises(UserError, match="both frame 7"):
        numbered_images(tmp_path)


def test_a_name_without_number_is_refused(tmp_path):
    (tmp_path / "cover.png").touch()
    with pytest.raises(UserError, match=r"cover\.png: no frame number"):
        numbered_images(tmp_path)


def test_a_scan_separates_the_images_from_the_issues(tmp_path):
    for name in ("8.png", "frame7.png", "frame007.png", "cover.png"):
        (tmp_path / name).touch()
    images, issues = scan_images(tmp_path)
    assert images == {8: tmp_path / "8.png"}
    assert list(issues.by_number) == [7] and list(issues.by_name) == ["cover.png"] and len(issues.messages()) == len(issues) == 2


def test_a_number_that_does_not_fit_into_64_bits_is_refused(tmp_path):
    """Such numbers once turned the array of all numbers into floats, in which adjacent numbers are equal, or made differences overflow."""
    (tmp_path / f"{2**62}.png").touch()
    assert list(numbered_images(tmp_path)) == [2**62]
    (tmp_path / f"{2**63}.png").touch()
    with pytest.raises(
        UserError, match=r"8\.png: expected a frame number of at most 4611686018427387904, got 9223372036854775808"
    ):
        numbered_images(tmp_path)


def test_the_data_set_may_be_nested_once_more(rendered, tmp_path):
    shutil.copytree(rendered, tmp_path / "outer" / "LAB4_Dataset")
    assert find_dataset(tmp_path / "outer", "train") == tmp_path / "outer" / "LAB4_Dataset"
    assert find_dataset(rendered, "train") == rendered
