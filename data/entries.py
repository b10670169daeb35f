"""The files and folders of a data set, without the hidden and system ones that computers put next to them."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

SYSTEM_NAMES = frozenset({
    "__macosx", "icon\r", "network trash folder", "temporary items",  # macOS
    "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information",  # Windows
    "lost+found", "@eadir", "#recycle", "#snapshot", "@recycle", "@__thumb", "__pycache__",  # Linux, network disks, Python
})  # fmt: skip
SYSTEM_PREFIXES = (".", "~$")  # hidden, such as ._0.png and .ipynb_checkpoints; locks of office programs

ZONE = ":Zone.Identifier"  # Windows notes there that a file is from the internet; copies on Linux show it as a file


def is_system(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or belongs to the system, and so is never part of a data set."""
    return name.startswith(SYSTEM_PREFIXES) or name.lower() in SYSTEM_NAMES or name.endswith(ZONE)


class Entries(NamedTuple):
    """The content of a folder, each in the order of the names."""

    files: list[Path]  # everything that is no folder; a link that leads nowhere is among them
    folders: list[Path]


def own_entries(folder: Path) -> Entries:
    """Return the content of a folder without hidden and system files and folders. Raises OSError for a missing folder."""
    files: list[Path] = []
    folders: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_system(entry.name):
                (folders if is_folder(entry) else files).append(folder / entry.name)
    return Entries(sorted(files), sorted(folders))


class Folder(NamedTuple):
    """A folder within another one, and what it contains without hidden and system entries."""

    path: Path
    files: list[str]
    folders: list[str]  # that are searched as well
    links: list[str]  # to folders that are not searched


def own_folders(folder: Path) -> Iterator[Folder]:
    """Yield the folder and all within it, at any depth.

    Links to folders elsewhere are followed, each target once. A link to a folder within `folder`, or around it, is not: it would
    show the same files several times, and those of other splits.
    """
    home = os.path.realpath(folder)
    targets = {home}
    for place, folders, files in os.walk(folder, followlinks=True):
        searched, links = [], []
        for name in sorted(name for name in folders if not is_system(name)):
            target = os.path.realpath(Path(place, name))
            if Path(place, name).is_symlink():
                if target in targets or os.path.commonpath([home, target]) in (home, target):
                    links.append(name)
                    continue
                targets.add(target)
            searched.append(name)
        folders[:] = searched
        yield Folder(Path(place), [name for name in files if not is_system(name)], searched, links)


def own_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files with one of the suffixes (".png", in lower case), which may be in any case of letters on the disk."""
    return [path for path in own_entries(folder).files if path.suffix.lower() in suffixes]


def is_folder(entry: os.DirEntry) -> bool:
    """Return whether an entry is a folder or a link to one; a link that leads to itself is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False
