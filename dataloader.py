"""The dance data set: LAB4_Dataset folders -> training clips and whole sequences, as bytes (N frames, T frames of a clip)."""
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from frame_cache import cached_frames
from utils import UserError, seed_for

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
SPLITS = ("train", "val", "test")


class Sequence(NamedTuple):
    """One whole video to predict; pixels are uint8, conditions of other kinds float32."""

    name: str
    given: Tensor  # (context, 3, H, W)
    conditions: Tensor  # (T, 3, H, W) pose images
    truth: Tensor | None  # (T, 3, H, W) where it is known


def find_dataset(root: Path, split: str) -> Path:
    """The folder that holds `split`/, which is `root` or one folder inside it (LAB4_Dataset/LAB4_Dataset). Raises UserError."""
    if not root.is_dir():
        raise UserError(f"--DR {root}: no such folder; expected a data set with the folders train/, val/ and test/")
    for folder in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
        if (folder / split).is_dir():
            return folder
    found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
    raise UserError(f"--DR {root}: no folder {split}/ in it nor one level below; found {found}")


def numbered_images(folder: Path) -> dict[int, Path]:
    """The images of a folder by the last number in their names, in numeric order: frame9.png stands before frame12.png.

    Raises UserError for a missing or empty folder, a name without a number, or a number that occurs twice.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected images named like frame000001.png")
    images: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            raise UserError(f"{path}: no frame number in the name; expected one like frame000001.png")
        number = int(digits[-1])
        if number in images:
            raise UserError(f"{folder}: {images[number].name} and {path.name} are both frame {number}; expected each number once")
        images[number] = path
    if not images:
        raise UserError(f"{folder}: holds no images; expected files named like frame000001.png")
    return dict(sorted(images.items()))


def check_pairs(frames: dict[int, Path], poses: dict[int, Path], *, frame_folder: Path, pose_folder: Path) -> None:
    """Raises UserError unless every frame has a pose image of its number and the other way round."""
    for here, there, folder, kind in [(frames, poses, pose_folder, "pose image"), (poses, frames, frame_folder, "frame")]:
        if alone := sorted(set(here) - set(there)):
            raise UserError(
                f"{folder}: no {kind} for {here[alone[0]].name} ({len(alone)} of {len(here)} are without one); "
                "expected frames and pose images of the same names"
            )


class DanceSplit:
    """The frames and pose images of train/ or val/, side by side in the frame cache.

    images (2, N, 3, H, W) uint8: frames, then poses, in the order of the frame numbers (N,). Raises UserError.
    """

    def __init__(self, root: Path, split: str, *, height: int, width: int, cache_dir: Path | None = None):
        folder = find_dataset(root, split) / split
        frame_folder, pose_folder = folder / f"{split}_img", folder / f"{split}_label"
        frames, poses = numbered_images(frame_folder), numbered_images(pose_folder)
        check_pairs(frames, poses, frame_folder=frame_folder, pose_folder=pose_folder)
        paths = [*frames.values(), *poses.values()]
        cached = cached_frames(paths, root=folder.parent, name=split, height=height, width=width, folder=cache_dir)
        self.images = cached.reshape(2, len(frames), *cached.shape[1:])
        self.numbers = np.array(list(frames))
        self.folder = folder

    def stretches(self, count: int) -> list[range]:
        """Positions among the first `count` frames that hold consecutive numbers, one range per unbroken piece of video."""
        breaks = np.flatnonzero(np.diff(self.numbers[:count]) != 1) + 1
        ends = [0, *breaks.tolist(), count]
        return [range(start, end) for start, end in zip(ends, ends[1:])]

    # A memory map pickles as a copy of the whole file; a loader's worker process opens the file itself instead.
    def __getstate__(self) -> dict:
        return self.__dict__ | {"images": (self.images.filename, self.images.shape)}

    def __setstate__(self, state: dict) -> None:
        filename, shape = state.pop("images")
        self.__dict__.update(state, images=np.load(filename, mmap_mode="r").reshape(shape))


class DanceClips(Dataset):
    """Training clips. Asked for (epoch, index), so that a clip depends on (seed, epoch, index) and nothing else.

    An item is a dict of uint8 tensors: frames (T, 3, H, W), conditions (T, 3, H, W) and reference (3, H, W), the frame
    of the same video that the model may know: `clip`, the clip's first, or `video`, any of the same unbroken stretch.
    All pictures of a clip are mirrored with probability `flip` and moved by up to `shift` whole pixels each way, the
    border repeated. Raises UserError if no stretch is as long as a clip.
    """

    def __init__(self, split: DanceSplit, *, length: int, partial: float, seed: int, reference: str, flip: float, shift: int):
        count = max(1, int(len(split.numbers) * partial))
        stretches = split.stretches(count)
        starts = [(start, i) for i, s in enumerate(stretches) for start in range(s.start, s.stop - length + 1)]
        if not starts:
            longest = max(len(s) for s in stretches)
            raise UserError(
                f"{split.folder}: a clip of --train_vi_len {length} frames fits nowhere; "
                f"the longest stretch of consecutive frame numbers has {longest} (--partial {partial})"
            )
        self.split, self.length, self.stretches, self.starts = split, length, stretches, starts
        self.seed, self.reference, self.flip, self.shift = seed, reference, flip, shift
        self.clips = max(1, count // length)  # as many as an epoch of the course holds

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key
        rng = np.random.default_rng(seed_for(self.seed, "clip", epoch, index))
        # Clip i starts somewhere in the i-th of equal shares of the video: random, yet each epoch sees all of it.
        position = int((index + rng.random()) * len(self.starts) / self.clips)
        start, stretch = self.starts[min(position, len(self.starts) - 1)]
        frames, poses = torch.tensor(self.split.images[:, start : start + self.length])
        known = start if self.reference == "clip" else int(rng.choice(self.stretches[stretch]))
        clip = {"frames": frames, "conditions": poses, "reference": torch.tensor(self.split.images[0, known])}
        if rng.random() < self.flip:
            clip = {name: video.flip(-1) for name, video in clip.items()}
        if self.shift:
            height, width = frames.shape[-2:]
            down, right = rng.integers(-self.shift, self.shift + 1, size=2)
            rows = (torch.arange(height) - down).clamp(0, height - 1)
            columns = (torch.arange(width) - right).clamp(0, width - 1)
            clip = {name: video[..., rows, :][..., columns] for name, video in clip.items()}
        return clip


class ClipSampler(Sampler[tuple[int, int]]):
    """Shuffled (epoch, index) keys; the order is a function of (seed, epoch). Set `epoch` and `fraction` before each epoch.

    `fraction` keeps the first clips of the video only (the course's --fast_train).
    """

    def __init__(self, clips: int, *, seed: int):
        self.clips, self.seed = clips, seed
        self.epoch, self.fraction = 0, 1.0

    def __len__(self) -> int:
        return max(1, int(self.clips * self.fraction))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng(seed_for(self.seed, "order", self.epoch)).permutation(len(self))
        return iter([(self.epoch, int(index)) for index in order])


def leave_ctrl_c_to_the_main_process(_worker: int) -> None:
    """A worker that dies of Ctrl-C would end the run with a traceback before the main process can end it cleanly."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def build_loader(clips: DanceClips, sampler: ClipSampler, *, batch_size: int, workers: int, pin: bool) -> DataLoader:
    """Batches in the sampler's order, the last one smaller where the clips do not divide; never dropped."""
    workers = min(workers, os.cpu_count() or 1)  # the course's 6 on a small machine only wait for each other
    return DataLoader(
        clips, batch_size=batch_size, sampler=sampler, num_workers=workers, pin_memory=pin, persistent_workers=workers > 0,
        worker_init_fn=leave_ctrl_c_to_the_main_process,
    )  # fmt: skip


def load_validation_sequences(split: DanceSplit, *, length: int) -> list[Sequence]:
    """The split cut into consecutive sequences of `length` frames, the last of each stretch shorter, single frames left out.

    Raises UserError if nothing is left.
    """
    frames, poses = (torch.from_numpy(images) for images in split.images.copy())
    pieces = [range(i, min(i + length, s.stop)) for s in split.stretches(len(frames)) for i in range(s.start, s.stop, length)]
    sequences = [
        Sequence(f"{split.numbers[p.start]}-{split.numbers[p.stop - 1]}", frames[p.start : p.start + 1],
                 poses[p.start : p.stop], frames[p.start : p.stop])
        for p in pieces if len(p) > 1
    ]  # fmt: skip
    if not sequences:
        raise UserError(f"{split.folder}: no two frames with consecutive numbers; expected a video to validate on")
    return sequences


def sequence_folders(folder: Path) -> list[Path]:
    """The numbered folders in `folder`, in numeric order."""
    return sorted((path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()), key=lambda path: int(path.name))


def load_test_sequences(root: Path, *, height: int, width: int, cache_dir: Path | None = None) -> list[Sequence]:
    """Every sequence of test/: test_img/{i}/ with the first frame, test_label/{i}/ with T poses, test_gt/{i}/ with T true
    frames where it exists. Any number, any lengths. Raises UserError."""
    folder = find_dataset(root, "test") / "test"
    for name in ("test_img", "test_label"):
        if not (folder / name).is_dir() or not sequence_folders(folder / name):
            raise UserError(f"{folder / name}: no sequences; expected numbered folders 0/, 1/, ... in it")
    sequences = []
    for poses_folder in sequence_folders(folder / "test_label"):
        i = poses_folder.name
        poses, firsts = numbered_images(poses_folder), numbered_images(folder / "test_img" / i)
        if len(poses) < 2:
            raise UserError(f"{poses_folder}: {len(poses)} pose image; expected one for the given frame and at least one more")
        first = firsts.get(min(poses), next(iter(firsts.values())))
        truth_folder = folder / "test_gt" / i
        truth = numbered_images(truth_folder) if truth_folder.is_dir() and any(truth_folder.iterdir()) else {}
        if truth:
            check_pairs(truth, poses, frame_folder=truth_folder, pose_folder=poses_folder)
        paths = [first, *poses.values(), *truth.values()]
        cached = cached_frames(paths, root=folder.parent, name=f"test{i}", height=height, width=width, folder=cache_dir)
        images = torch.from_numpy(cached.copy())
        end = 1 + len(poses)
        sequences.append(Sequence(i, images[:1], images[1:end], images[end:] if truth else None))
    return sequences
