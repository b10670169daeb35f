"""The layouts of the two tasks' data sets, told apart for messages about a folder that lacks what was expected.

dance: DR/{train,val,test}/{split}_img/, {split}_label/        robot: DR/{train,validate,test}/.../actions.csv
"""

import itertools
from pathlib import Path

from data.entries import own_entries, own_folders

SPLITS = ("train", "val", "validate", "test")  # of both layouts
DANCE_PARTS = ("img", "label", "gt")
ACTIONS, POSITIONS = "actions.csv", "endeffector_positions.csv"
SEARCHED_FOLDERS = 100  # in which actions are looked for; a robot's data set may have tens of thousands
FOR_DANCE = "for a dance use --model pose_cvae, or a checkpoint trained with it"
FOR_ROBOT = "for a robot use --model svg_fp, or a checkpoint trained with it"


def has_split(folder: Path, split: str) -> bool:
    """Return whether a folder contains a split of a data set; the results of a test are in a folder of the same name."""
    try:
        return (folder / split).is_dir() and not (folder / split / "scores.json").is_file()
    except OSError:  # a folder that must not be opened
        return False


def dance_parts(split_folder: Path) -> list[str]:
    """Return the names of the folders of a dance, such as train_img, that a split has."""
    names = [f"{split_folder.name}_{part}" for part in DANCE_PARTS]
    return [name for name in names if (split_folder / name).is_dir()]


def holds_actions(split_folder: Path) -> bool:
    """Return whether a split has a robot's actions in one of the first folders."""
    return any(ACTIONS in folder.files for folder in itertools.islice(own_folders(split_folder), SEARCHED_FOLDERS))


def task_hint(root: Path, split: str) -> str:
    """Return what a folder without `split`/ has instead if it is the other task's name for validation data, or ""."""
    other = {"val": "validate", "validate": "val"}.get(split)
    if other is None or not (root / other).is_dir():
        return ""
    is_dance = any(dance_parts(root / name) for name in SPLITS)
    if is_dance == (split == "val"):
        return f"; got {other}/, rename it to {split}/"
    return f"; got {other}/ as in the data of {'a dance' if is_dance else 'a robot'}; {FOR_DANCE if is_dance else FOR_ROBOT}"


def spelling_hint(folder: Path, name: str, prefix: str = "") -> str:
    """Return the entry of a folder whose name differs from `name` in the case of letters only, as a hint, or "".

    `prefix` is the part of its path that the message does not name yet.
    """
    entries = own_entries(folder) if folder.is_dir() else ([], [])
    for path in itertools.chain(*entries):
        if path.name != name and path.name.lower() == name.lower():
            return f"; got {prefix}{path.name}, rename it to {name}"
    return ""
