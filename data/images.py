"""The numbered images of a folder, and the contiguous segments that their numbers form."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.entries import own_entries
from data.issues import FrameIssues
from data.layouts import SPLITS, has_split, spelling_hint, task_hint
from utils import UserError, counted, print_notice, pronoun

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
TYPES_READ = ".png, .jpg, .bmp, .webp or .tif"
UNREAD_SUFFIXES = {
    ".gif", ".apng", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jfif", ".jpe", ".ppm", ".pgm", ".pbm", ".pnm", ".tga",
    ".exr", ".hdr", ".ico", ".dds", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw",
}  # fmt: skip
# A name with the ending of an image, also if more follows it: 5.png.crdownload, 5.png~
IMAGE_NAME = re.compile(
    rf"(?P<stem>.*?)\.({'|'.join(sorted(suffix[1:] for suffix in SUFFIXES | UNREAD_SUFFIXES))})(?![a-z0-9])",
    re.IGNORECASE | re.DOTALL,
)
HIGHEST_NUMBER = 2**62  # of a frame; sums and differences of frame numbers must fit into 64 bits
MAX_NAMED = 5  # files, folders or sequences that a line names; the others are counted


def find_dataset(root: Path, split: str) -> Path:
    """Return the folder that contains `split`/: `root` or one folder inside it (LAB4_Dataset/LAB4_Dataset).

    It is the same folder for all splits of a data set: `root` if it has any split, else the only folder inside it that has one.
    Raises UserError if there is no such folder, if there are several, or if it lacks `split`.
    """
    if not root.is_dir():
        raise UserError(f"--DR {root}: no such folder; expected a data set with a folder {split}/")
    if has_split(root, split):
        return root
    names = {*SPLITS, *Path(split).parts[:1]}
    at_root = any(has_split(root, name) for name in names)
    inner = [folder for folder in own_entries(root).folders if any(has_split(folder, name) for name in names)]
    candidates = [root] if at_root else inner
    others = [folder for folder in inner if has_split(folder, split)] if at_root else inner[1:]
    if others:
        raise several_datasets(root, [candidates[0], *others], split)
    if candidates and has_split(candidates[0], split):
        return candidates[0]
    raise missing_split(root, candidates[0] if candidates else root, split)


def several_datasets(root: Path, folders: list[Path], split: str) -> UserError:
    """Return the error about several folders that could be the data set at `root`, with the splits of each."""
    names = [*SPLITS, *({split} - {*SPLITS})]
    splits = {folder: [name for name in names if has_split(folder, name)] for folder in folders}
    described = [f"{folder} with {' '.join(f'{name}/' for name in splits[folder])}" for folder in folders]
    suited = max((folder for folder in folders if split in splits[folder]), key=lambda folder: len(splits[folder]), default=None)
    way_out = f"choose one, such as --DR {suited}" if suited else f"one with {split}/ is needed"
    listed = listing(described)
    return UserError(f"--DR {root}: expected all splits in one folder, got {listed}; {way_out}")


def missing_split(root: Path, folder: Path, split: str) -> UserError:
    """Return the error about a data set in `folder`, at or inside `root`, that has no `split`."""
    files, folders = own_entries(folder)
    found = ", ".join(path.name for path in sorted([*files, *folders])[:5]) or "an empty folder"
    hint = task_hint(folder, split) or spelling_hint(folder, split)
    above = root.resolve().parent
    if not hint and (above / split).is_dir():
        hint = f", got {found}; did you mean --DR {above}?"
    if not hint:
        hint = next((more for inner in folders if (more := spelling_hint(inner, split, f"{inner.name}/"))), f", got {found}")
    expected = "expected it there or one level below" if folder == root else f"expected it in {folder}"
    return UserError(f"--DR {root}: no folder {split}/; {expected}{hint}")


class ImageScan(NamedTuple):
    """The images of a folder."""

    images: dict[int, Path]  # by frame number, in numeric order
    issues: FrameIssues  # of the images that are not in `images`
    ignored: list[Path]  # what is not read, though it looks like an image or holds some; no frame is missing for it


def scan_images(folder: Path) -> ImageScan:
    """List the images of a folder by the last number in their names, in numeric order: frame9.png before frame12.png.

    Images without a number, with too large a number, or with the same number are issues. So are a file of a type that is not read
    and a folder with the name of an image if no image has their number. Raises UserError for a missing folder or one without
    images.
    """
    if not folder.is_dir():
        hint = spelling_hint(folder.parent, folder.name)
        raise UserError(f"{folder}: no such folder; expected images named like frame000001.png{hint}")
    files, folders = own_entries(folder)
    paths = [path for path in files if path.suffix.lower() in SUFFIXES]
    unread = [path for path in files if path.suffix.lower() not in SUFFIXES and IMAGE_NAME.match(path.name)]
    unread += [path for path in folders if IMAGE_NAME.match(path.name) or holds_images(path)]
    if not paths:
        raise no_images(folder, unread, is_folder={*folders})
    issues = FrameIssues()
    images: dict[int, Path] = {}
    for path in paths:
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            issues.add_file(path.name, f"{path}: no frame number in the name; expected one like frame000001.png")
        elif (number := int(digits[-1])) > HIGHEST_NUMBER:
            issues.add_file(
                path.name, f"{path}: expected a frame number of at most {HIGHEST_NUMBER}, got {digits[-1][:30]}; rename it"
            )
        elif number in images:
            same = f"{images[number].name} and {path.name} are both frame {number}"
            issues.add(number, f"{folder}: {same}; rename or remove one")
        else:
            images[number] = path
    ignored = add_unread(unread, images, issues, is_folder={*folders})
    # If several images have the same number, none of them is known to be the right one.
    return ImageScan({number: images[number] for number in sorted(images) if number not in issues.by_number}, issues, ignored)


def no_images(folder: Path, unread: list[Path], *, is_folder: set[Path]) -> UserError:
    """Return the error about a folder without images of a type that is read; `unread` look like images or hold some."""
    files = [path.name for path in unread if path not in is_folder]
    got = ""
    if files:
        got = f", got {listing(files)}; convert {pronoun(len(files))} to PNG"
    elif unread:
        inner = [f"{path.name}/" for path in unread]
        got = f", got {listing(inner)}; move the images out of {pronoun(len(inner))}"
    return UserError(f"{folder}: holds no images; expected files named like frame000001.png{got}")


def holds_images(folder: Path) -> bool:
    """Return whether a folder contains files with names like images, whether or not their type is read."""
    return any(IMAGE_NAME.match(path.name) for path in own_entries(folder).files)


def add_unread(unread: list[Path], images: dict[int, Path], issues: FrameIssues, *, is_folder: set[Path]) -> list[Path]:
    """Add files and folders to the issues that have names like images and numbers that no image has; return the others."""
    ignored = []
    for path in unread:
        match = IMAGE_NAME.match(path.name)
        digits = re.findall(r"\d+", match["stem"] if match else "")
        number = int(digits[-1]) if digits else None
        if number is None or number in images or number > HIGHEST_NUMBER:
            ignored.append(path)
        elif path in is_folder:
            issues.add(number, f"{path}: expected an image, got a folder; rename it, or move it out of {path.parent.name}/")
        else:
            got = f"expected {TYPES_READ}, got {path.suffix or path.name}"
            way_out = "convert" if path.suffix.lower() in UNREAD_SUFFIXES else "rename"
            issues.add(number, f"{path}: {got}; {way_out} it, or move it out of {path.parent.name}/")
    return ignored


def report_ignored(folder: Path, ignored: Iterable[Path]) -> None:
    """Print one line on stderr about the files and folders at or below `folder` that are not read, if there are any."""
    names = [path.relative_to(folder).as_posix() + "/" * path.is_dir() for path in ignored]
    if names:
        print_notice(f"{folder}: not read as frames: {listing(names)}; expected numbered {TYPES_READ}")


def listing(names: list[str]) -> str:
    """Return the first names as text, with the number of the others."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def numbered_images(folder: Path) -> dict[int, Path]:
    """Return the images of a folder as scan_images() does. Raises UserError if there is any issue."""
    images, issues, ignored = scan_images(folder)
    if issues:
        count = f"{counted(len(issues), 'image')} without a usable frame number"
        raise UserError(f"{folder}: {count}; fix {pronoun(len(issues))}:", issues.messages())
    report_ignored(folder, ignored)
    return images


def contiguous_segments(numbers: np.ndarray, usable: np.ndarray) -> list[range]:
    """Return the `usable` positions as ranges over which the frame numbers are consecutive, one per contiguous segment."""
    breaks = np.flatnonzero(np.diff(numbers[usable]) != 1) + 1
    segments = [segment.tolist() for segment in np.split(usable, breaks)]
    return [range(segment[0], segment[-1] + 1) for segment in segments if segment]
