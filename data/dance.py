"""The dance data set (Lab 4): LAB4_Dataset folders -> training clips and whole sequences, as bytes (N frames, T of a clip)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.clips import Clips, Sequence, hash_of, standard_scale
from data.frame_cache import BadImages, cached_frames
from data.frame_store import FrameStore, Losses
from data.images import Faults, find_dataset, numbered_images, problems_of, unbroken
from utils import UserError


def find_lone(frames: dict[int, Path], poses: dict[int, Path], faults: Faults, *, frame_folder: Path, pose_folder: Path) -> None:
    """Adds every frame without a pose image of its number to the faults, and every pose image without a frame."""
    known = set(faults)  # a number that occurs twice here is there, though not used
    for here, there, folder, kind in [(frames, poses, pose_folder, "pose image"), (poses, frames, frame_folder, "frame")]:
        for number in sorted(set(here) - set(there) - known):
            faults.setdefault(number, []).append(f"{folder}: no {kind} for {here[number].name}")


class DanceSplit(FrameStore):
    """The frames and pose images of train/ or val/, side by side in the frame cache.

    images (2, N, 3, H, W) uint8: frames, then poses, in the order of the frame numbers (N,); `bad` are the positions of those
    that cannot be decoded. Raises UserError with all that is wrong; with `skip_bad` only if nothing is left.
    """

    bad: tuple[int, ...] = ()

    def __init__(
        self, root: Path, split: str, *, height: int, width: int, cache_dir: Path | None = None, skip_bad: bool | None = None
    ):  # fmt: skip
        self.folder = find_dataset(root, split) / split
        frame_folder, pose_folder = self.folder / f"{split}_img", self.folder / f"{split}_label"
        faults: Faults = {}
        frames, poses = numbered_images(frame_folder, faults), numbered_images(pose_folder, faults)
        find_lone(frames, poses, faults, frame_folder=frame_folder, pose_folder=pose_folder)
        both = sorted(set(frames) & set(poses))
        self.numbers = np.array(both)
        if both:
            paths = [images[number] for images in (frames, poses) for number in both]
            damaged = self.decode(paths, height=height, width=width, cache_dir=cache_dir, skip_bad=skip_bad)
            for i, problem in damaged.items():
                faults.setdefault(both[i % len(both)], []).append(problem)
            self.bad = tuple({i % len(both) for i in damaged})
        every = np.array(sorted({*frames, *poses, *(key for key in faults if isinstance(key, int))}))
        losses = Losses(len(faults), len({*frames, *poses, *faults}), [len(piece) for piece in self.stretches(len(both))],
                        [len(piece) for piece in unbroken(every, np.arange(len(every)))])  # fmt: skip
        self.settle(problems_of(faults), losses, skip_bad=skip_bad)
        self.images = self.images.reshape(2, len(both), *self.images.shape[1:])

    def usable(self, count: int) -> np.ndarray:
        """The positions among the first `count` frames that can be used."""
        return np.setdiff1d(np.arange(count), self.bad)

    def stretches(self, count: int) -> list[range]:
        """Positions among the first `count` frames that hold consecutive numbers, one range per unbroken piece of video."""
        return unbroken(self.numbers, self.usable(count))


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
            longest = max(map(len, self.stretches), default=0)
            raise UserError(
                f"{split.folder}: a clip of --train_vi_len {length} frames fits nowhere; "
                f"the longest stretch of consecutive frame numbers has {longest} (--partial {partial})"
            )
        super().__init__(starts, clips=max(1, sum(map(len, self.stretches)) // length), seed=seed, shift=shift)

    @property
    def identity(self) -> str:
        numbers = self.split.numbers[self.split.usable(len(self.split.numbers))]
        return hash_of(self.split.digest.encode(), str(numbers.tolist()).encode())

    def condition_scale(self) -> tuple[list[float], list[float]]:
        usable = self.split.usable(len(self.split.numbers))
        # By counting each of the 256 values of a byte, some images at a time: exact, and without a copy of all of them.
        counts = np.zeros((3, 256))
        for some in np.array_split(usable, len(usable) // 1024 + 1):
            poses = self.split.images[1, some]
            counts += [np.bincount(poses[:, colour].ravel(), minlength=256) for colour in range(3)]
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
    stretches = split.stretches(len(split.numbers))
    pieces = [range(i, min(i + length, s.stop)) for s in stretches for i in range(s.start, s.stop, length)]
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
    numbered = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(numbered, key=lambda path: (int(path.name), path.name))


def load_test_sequences(root: Path, *, height: int, width: int, cache_dir: Path | None = None) -> list[Sequence]:
    """Every sequence of test/: test_img/{i}/ with the first frame, test_label/{i}/ with T poses, test_gt/{i}/ with T true
    frames where it exists. Any number, any lengths. Raises UserError with all that is wrong with any of them."""
    folder = find_dataset(root, "test") / "test"
    for name in ("test_img", "test_label"):
        if not (folder / name).is_dir() or not sequence_folders(folder / name):
            raise UserError(f"{folder / name}: no sequences; expected numbered folders 0/, 1/, ... in it")
    names = [path.name for path in sequence_folders(folder / "test_label")]
    problems: list[str] = []
    sequences = [load_test_sequence(folder, name, problems, height=height, width=width, cache_dir=cache_dir) for name in names]
    if problems:
        bad = sequences.count(None)
        raise UserError(f"{folder}: {bad} of {len(names)} sequences cannot be used; mend them:", problems)
    return sequences


def load_test_sequence(
    folder: Path, name: str, problems: list[str], *, height: int, width: int, cache_dir: Path | None
) -> Sequence | None:  # fmt: skip
    """The sequence of this name in test/; None, and all that is wrong with it added to `problems`, if it is not whole."""
    faults: Faults = {}
    broken: list[str] = []
    pose_folder, truth_folder = folder / "test_label" / name, folder / "test_gt" / name

    def images_in(place: Path) -> dict[int, Path]:
        try:
            return numbered_images(place, faults)
        except UserError as error:
            broken.append(str(error))
            return {}

    poses, firsts = images_in(pose_folder), images_in(folder / "test_img" / name)
    truth = images_in(truth_folder) if truth_folder.is_dir() and any(truth_folder.iterdir()) else {}
    if truth:
        find_lone(truth, poses, faults, frame_folder=truth_folder, pose_folder=pose_folder)
    if len(poses) == 1:
        broken.append(f"{pose_folder}: 1 pose image; expected one for the given frame and at least one more")
    first = [firsts.get(min(poses, default=0), firsts[min(firsts)])] if firsts else []
    paths = [*first, *poses.values(), *truth.values()]
    try:
        if paths:
            cached = cached_frames(paths, root=folder.parent, name=f"test{name}", height=height, width=width, folder=cache_dir)
    except BadImages as error:
        broken += error.problems
    if faults or broken:
        problems += [*problems_of(faults), *broken]
        return None
    images = torch.from_numpy(cached.images.copy())
    end = 1 + len(poses)
    return Sequence(name, images[:1], images[1:end], images[end:] if truth else None)
