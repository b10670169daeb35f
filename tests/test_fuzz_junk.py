"""Random junk at any place of a data set: it changes nothing, or the data are refused with one line."""

import functools
import io
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.clips import sequences_hash
from data.dance import DanceSplit
from data.dance_sequences import load_test_sequences
from data.robot import RobotClips, RobotSplit
from tests.helpers.dance import clips_of
from tests.helpers.fuzzing import cases, outcome
from utils import UserError

SYSTEM_FILES = [
    ".DS_Store",
    "._0.png",
    "._actions.csv",
    ".hidden1.png",
    "Thumbs.db",
    "THUMBS.DB",
    "desktop.ini",
    "Icon\r",
    "~$actions.csv",
]
FOREIGN_FILES = [
    "notes.txt",
    "README",
    "LICENSE.md",
    "data.zip",
    "0.txt",
    "5",
    "labels.json",
    "actions.csv.bak",
    "0.npy",
    "png",
    "a.PDF",
]
SYSTEM_FOLDERS = [
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "lost+found",
    ".ipynb_checkpoints",
    "#recycle",
    ".git",
    "System Volume Information",
]
INSIDE = [
    "0.png",
    "9.png",
    "actions.csv",
    "train/train_img/0.png",
    "train/0/0.png",
    "test/test_label/0/0.png",
    "0/0.png",
    "val/notes.txt",
]
DOUBTFUL = ["0.gif", "2.gif", "7.heic", "preview.gif", "1.png.part", "12.JPG", "cover.png", "0.tif", "Actions.csv", "dir5.png/", "0.png.d/0.png",
            "3/", "3/0.png", "dance/0.png", "train/", "Train/0.png", "validate/", "old/train/train_img/0.png", "actions.csv"]  # fmt: skip
HARMLESS = (
    st.sampled_from(SYSTEM_FILES)
    | st.sampled_from(FOREIGN_FILES)
    | st.builds(lambda folder, name: f"{folder}/{name}", st.sampled_from(SYSTEM_FOLDERS), st.sampled_from(INSIDE))
    | st.sampled_from(SYSTEM_FOLDERS).map(lambda name: f"{name}/")
)
DANCE = [f"{split}/{split}_{part}/{i}.png" for split in ("train", "val") for part in ("img", "label") for i in range(3)]
DANCE += [
    f"test/test_{part}/{name}/{i}.png"
    for part in ("img", "label", "gt")
    for name in (0, 1)
    for i in range(1 if part == "img" else 3)
]
ROBOT = [f"{split}/traj/{name}/{i}.png" for split in ("train", "validate") for name in (9, 10) for i in range(3)]


def write_data(root: Path, files: list[str]) -> list[Path]:
    """Write images, each of its own color, and actions next to those of a robot; return all folders."""
    for number, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(colored(number))
        if "traj" in name:
            (root / name).with_name("actions.csv").write_text("1,2\n3,4\n5,6\n")
    return sorted([root, *(path for path in root.rglob("*") if path.is_dir())])


@functools.cache
def colored(number: int) -> bytes:
    """Return a small PNG of one color."""
    file = io.BytesIO()
    Image.new("RGB", (4, 2), (number, 255 - number, 7 * number % 256)).save(file, "PNG")
    return file.getvalue()


def load_all(root: Path, files: list[str]) -> list[str]:
    """Load every split and return hashes of their content."""
    size = {"height": 8, "width": 8}
    if files is ROBOT:
        splits = [RobotSplit.load(root, split, shortest=2, **size) for split in ("train", "validate")]
        clips = [RobotClips(split=split, length=2, clips_per_epoch=1, partial=1.0, seed=1, shift=0) for split in splits]
        return [part.content_hash for part in clips]
    splits = [DanceSplit.load(root, split, **size) for split in ("train", "val")]
    return [*(clips_of(split, length=2).content_hash for split in splits), sequences_hash(load_test_sequences(root, **size))]


@pytest.mark.parametrize("files", [DANCE, ROBOT], ids=["dance", "robot"])
@pytest.mark.parametrize("names", [HARMLESS, HARMLESS | st.sampled_from(DOUBTFUL)], ids=["harmless", "doubtful"])
def test_junk_at_any_place_changes_nothing(fresh, capsys, files, names):
    """System files and plain foreign ones change nothing. Files that may be data change nothing either, or they are refused."""
    whole = fresh()
    places = [folder.relative_to(whole) for folder in write_data(whole, files)]
    expected = load_all(whole, files)
    junk = st.lists(st.tuples(st.sampled_from(places), names), min_size=1, max_size=4)

    @cases(40)
    @given(junk)
    def check(junk):
        root = fresh()
        write_data(root, files)
        for place, name in junk:
            path = root / place / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            elif not path.exists() and path.parent.is_dir() | (not path.parent.exists()):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(colored(200))
        capsys.readouterr()
        found = outcome(lambda: load_all(root, files))
        lines = capsys.readouterr().err.splitlines()
        if names is HARMLESS:
            assert found == expected and lines == []
        elif isinstance(found, UserError):
            assert str(root) in found.args[0] and len(found.args[0].splitlines()) == 1
        else:
            assert found == expected and all(line.startswith(f"{root}") for line in lines) and len(lines) <= 9
        shutil.rmtree(root)

    check()
