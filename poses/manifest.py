"""manifest.json of a data set made from videos: the settings that made it and, once it is finished, its content.

An interrupted run continues only with the settings with which it was started.
"""

import json
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

from data.entries import own_entries, own_files
from data.images import SUFFIXES
from poses.splits import SPLITS
from runtime.files import check_writable, write_whole
from utils import UserError

FREE_FLAGS = ("out", "device", "weights", "overwrite", "allow_truncated")  # may differ when a run continues
# Settings that determine the frames in which people are searched. The search may take hours.
SEARCH_SETTINGS = ("videos", "poses", "skip", "most", "every", "side", "inputs")
INPUT_SUFFIXES = SUFFIXES | {".json", ".csv"}  # of the files in a folder that are read


class Manifest(NamedTuple):
    """The part of manifest.json that determines whether a run may continue."""

    settings: dict[str, Any]
    finished: bool

    @property
    def input_states(self) -> list:
        """The file states of all inputs, in the order of input_paths()."""
        return [state for pair in self.settings.get("inputs", []) for state in pair]


def settings_of(args: Namespace) -> dict[str, Any]:
    """Return the flags that determine the content of the data set, and the states of its input files, as JSON values."""
    settings = {name: json.loads(json.dumps(value, default=str)) for name, value in vars(args).items() if name not in FREE_FLAGS}
    poses = args.poses or [None] * len(args.videos)
    return settings | {"inputs": [[file_state(path), file_state(own_poses)] for path, own_poses in zip(args.videos, poses)]}


def file_state(path: Path | None) -> list | None:
    """Return the number, the total size and the newest time of the files at `path`: of one file, or of those read in a folder."""
    if path is None:
        return None
    files = [path]
    if path.is_dir():  # file managers put files of their own into folders
        files = own_files(path, INPUT_SUFFIXES)
    states = [file.stat() for file in files]
    return [len(states), sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)]


def start_or_continue(folder: Path, settings: dict[str, Any], *, overwrite: bool) -> bool:
    """Write the settings to the manifest of a new or unfinished data set; return whether the data set is already finished.

    With `overwrite`, images of other settings are removed, and the people already found in the videos are kept. Raises UserError
    if the folder contains something else, or a data set of other settings.
    """
    if not (folder / "manifest.json").is_file():
        if folder.exists() and any(own_entries(folder)):
            expected = "expected a new folder or an unfinished data set"
            raise UserError(f"--out {folder}: {expected}, got a folder with other files; choose another folder")
        check_writable(folder, flag="--out")
        write_manifest(folder, {"settings": settings, "splits": {}})
        return False
    earlier = read_manifest(folder)
    changed = [name for name in settings if settings[name] != earlier.settings.get(name)]
    images = [folder / part for part in (*SPLITS, "preview.gif") if (folder / part).exists()]
    if changed:
        refuse_lost_work(folder, changed, earlier, settings, overwrite=overwrite or not images)
    if changed and images:
        # The manifest keeps the earlier settings until their last image is removed, so an interruption never mixes two settings.
        write_manifest(folder, {"settings": earlier.settings, "splits": {}})
        for path in images:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if changed or not earlier.finished:
        write_manifest(folder, {"settings": settings, "splits": {}})
    return earlier.finished and not changed


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a data set. Raises UserError if it is malformed."""
    path = folder / "manifest.json"
    try:
        content = json.loads(path.read_bytes())
        manifest = Manifest(dict(content["settings"]), bool(content["splits"]))
        list(manifest.input_states)  # raises TypeError where they are malformed
        return manifest
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path}: not a manifest of prepare_video.py; choose another folder with --out") from None


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write manifest.json."""
    write_whole(folder / "manifest.json", (json.dumps(content, indent=2) + "\n").encode())


def refuse_lost_work(folder: Path, changed: list[str], earlier: Manifest, settings: dict[str, Any], *, overwrite: bool) -> None:
    """Raise UserError if the changed settings make a search for people useless or, without `overwrite`, images."""
    searched = any(path.stat().st_size for path in folder.glob("keypoints/*.jsonl"))
    lost = [name for name in changed if searched and name in SEARCH_SETTINGS]
    if lost:
        found = describe_changes(lost, earlier, settings)
        raise UserError(f"--out {folder}: {found}; expected the same settings, or another folder")
    if not overwrite:
        found = describe_changes(changed, earlier, settings)
        raise UserError(
            f"--out {folder}: {found}; expected the same settings, --overwrite to replace the images, or another folder"
        )


def describe_changes(changed: list[str], earlier: Manifest, settings: dict[str, Any]) -> str:
    """Return the changed settings with both values, and the input files that changed."""
    values = [
        f"{name} {earlier.settings.get(name)} in its manifest, {settings[name]} on the command line"
        for name in changed
        if name != "inputs"
    ]
    reasons = [f"started with other settings ({', '.join(values)})"] if values else []
    if "inputs" in changed and not {"videos", "poses"} & {*changed}:  # with other files, the states differ anyway
        paths = changed_inputs(earlier, settings)
        reasons.append(f"{', '.join(paths)} changed since it was started")
    return "; ".join(reasons)


def changed_inputs(earlier: Manifest, settings: dict[str, Any]) -> list[str]:
    """Return the paths of the input files that changed, as texts for a message."""
    poses = settings["poses"] or [None] * len(settings["videos"])
    paths = [path for pair in zip(settings["videos"], poses) for path in pair]
    states = Manifest(settings, finished=False).input_states
    earlier_states = earlier.input_states or [None] * len(states)
    changed = [path for path, old, new in zip(paths, earlier_states, states) if old != new]
    return [f"the files in {path}" if Path(path).is_dir() else path for path in changed]
