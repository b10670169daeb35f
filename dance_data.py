"""The dance data set (Lab 4): LAB4_Dataset folders -> training clips and whole sequences, as bytes (N frames, T of a clip)."""
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataloader import Clips, FrameStore, Sequence, find_dataset, numbered_images, standard_scale
from frame_cache import cached_frames
from utils import UserError


def check_pairs(frames: dict[int, Path], poses: dict[int, Path], *, frame_folder: Path, pose_folder: Path) -> None:
    """Raises UserError unless every frame has a pose image of its number and the other way round."""
    for here, there, folder, kind in [(frames, poses, pose_folder, "pose image"), (poses, frames, frame_folder, "frame")]:
        if alone := sorted(set(here) - set(there)):
            raise UserError(
                f"{folder}: no {kind} for {here[alone[0]].name} ({len(alone)} of {len(here)} are without one); "
                "expected frames and pose images of the same names"
            )


class DanceSplit(FrameStore):
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


class DanceClips(Clips):
    """Training clips: frames (T, 3, H, W), poses (conditions) (T + 2 * margin, 3, H, W) uint8 and the reference (3, H, W), the
    frame of the same video that the model may know: `clip`, the clip's first, or `video`, any of the same unbroken stretch.

    The poses reach `margin` beyond the clip at either end; where the video ends, its last one is repeated.
    All pictures of a clip are mirrored with probability `flip`. An epoch has as many clips as fit into the video, unless
    `clips` is set. Raises UserError if no stretch is as long as a clip.
    """

    def __init__(
        self, split: DanceSplit, *, length: int, partial: float, seed: int, reference: str, flip: float, shift: int,
        margin: int,
    ):  # fmt: skip
        count = max(1, int(len(split.numbers) * partial))
        self.split, self.length, self.reference, self.flip = split, length, reference, flip
        self.margin = margin
        self.stretches = split.stretches(count)
        starts = [(start, i) for i, s in enumerate(self.stretches) for start in range(s.start, s.stop - length + 1)]
        if not starts:
            longest = max(len(s) for s in self.stretches)
            raise UserError(
                f"{split.folder}: a clip of --train_vi_len {length} frames fits nowhere; "
                f"the longest stretch of consecutive frame numbers has {longest} (--partial {partial})"
            )
        super().__init__(starts, clips=max(1, count // length), seed=seed, shift=shift)

    def condition_scale(self) -> tuple[list[float], list[float]]:
        poses = self.split.images[1]
        # By counting each of the 256 values of a byte, some images at a time: exact, and without a copy of all of them.
        counts = np.zeros((3, 256))
        for some in np.array_split(poses, len(poses) // 1024 + 1):
            counts += [np.bincount(some[:, colour].ravel(), minlength=256) for colour in range(3)]
        share, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
        mean = share @ values
        return standard_scale(mean, np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1)))

    def cut(self, start: tuple[int, int], rng: np.random.Generator) -> dict[str, Tensor]:
        first, stretch = start
        whole = self.stretches[stretch]
        frames = torch.tensor(self.split.images[0, first : first + self.length])
        around = np.arange(first - self.margin, first + self.length + self.margin).clip(whole.start, whole.stop - 1)
        poses = torch.from_numpy(self.split.images[1, around])
        known = first if self.reference == "clip" else whole.start + int(rng.integers(len(whole)))
        clip = {"frames": frames, "conditions": poses, "reference": torch.tensor(self.split.images[0, known])}
        if rng.random() < self.flip:
            clip = {name: video.flip(-1) for name, video in clip.items()}
        return clip


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
