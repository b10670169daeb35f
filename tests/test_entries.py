"""Which files and folders belong to a data set."""

import pytest

from data.entries import is_system, own_entries, own_files
from poses.manifest import file_state, start_or_continue
from poses.pose_images import holds_pose_images
from utils import UserError


@pytest.mark.parametrize("name", [
    ".DS_Store", "._0.png", ".ipynb_checkpoints", ".hidden1.png", "__MACOSX", "Thumbs.db", "THUMBS.DB", "desktop.ini", "Desktop.ini",
    "$RECYCLE.BIN", "System Volume Information", "lost+found", "@eaDir", "#recycle", "@Recycle", "~$actions.csv", "__pycache__",
])  # fmt: skip
def test_system_files_are_recognized_in_any_case_of_letters(name):
    assert is_system(name)


@pytest.mark.parametrize(
    "name", ["0.png", "thumbs.db.png", "desktop", "macosx", "frame~1.png", "#1.png", "@1.png", "$1.png", "٣.png"]
)
def test_other_names_are_not_system_files(name):
    assert not is_system(name)


def test_entries_are_sorted_and_endings_may_have_any_case_of_letters(tmp_path):
    for name in ("b.JSON", "a.json", "c.Json", "._a.json", ".d.json", "notes.txt", "Thumbs.db"):
        (tmp_path / name).touch()
    for name in ("1", "0", "@eaDir", "__MACOSX", "folder.json"):
        (tmp_path / name).mkdir()
    files, folders = own_entries(tmp_path)
    assert [path.name for path in files] == ["a.json", "b.JSON", "c.Json", "notes.txt"]
    assert [path.name for path in folders] == ["0", "1", "folder.json"]
    assert [path.name for path in own_files(tmp_path, {".json"})] == ["a.json", "b.JSON", "c.Json"]


def test_a_link_that_leads_nowhere_is_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    try:
        for name, target in [("loop.png", "loop.png"), ("gone.png", "nowhere"), ("linked", "folder")]:
            (tmp_path / name).symlink_to(target)
    except OSError:
        pytest.skip("this machine cannot create links")
    files, folders = own_entries(tmp_path)
    assert [path.name for path in files] == ["gone.png", "loop.png"] and [path.name for path in folders] == ["folder", "linked"]


def test_system_files_do_not_change_what_a_folder_of_poses_is(tmp_path):
    """A hidden or misplaced .json of the system must not make pose images the frames of OpenPose."""
    for name in ("0.png", "._0.json", "Thumbs.db"):
        (tmp_path / name).touch()
    (tmp_path / "@eaDir").mkdir()
    (tmp_path / "notes.json").mkdir()
    assert holds_pose_images(tmp_path)
    (tmp_path / "0.JSON").touch()
    assert not holds_pose_images(tmp_path)


def test_system_files_do_not_change_the_inputs_or_the_output_folder_of_prepare_video(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.PNG").write_bytes(b"12345")
    before = file_state(tmp_path / "in")
    assert before[:2] == [1, 5]
    (tmp_path / "in" / "._0.PNG").write_bytes(b"1")
    (tmp_path / "in" / "folder.png").mkdir()
    assert file_state(tmp_path / "in") == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()
    assert not start_or_continue(tmp_path / "out", {}, overwrite=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "0.png").touch()
    with pytest.raises(UserError, match="expected a new folder"):
        start_or_continue(tmp_path / "other", {}, overwrite=False)
