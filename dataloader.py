"""What every data set is made of: numbered images, random training clips, whole sequences (T frames, A condition values)."""
import atexit
import hashlib
import multiprocessing
import os
import re
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from frame_cache import BadImages, cached_frames
from utils import RANK, STOP_SIGNALS, UserError, held_back, seed_for

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
HIGHEST_NUMBER = 2**62  # of a frame; what is computed with them must fit into 64 bits
Faults = dict[int | str, list[str]]  # what is wrong with a frame, by its number; by the name of a file that has none


class Sequence(NamedTuple):
    """One whole video to predict; pixels are uint8, conditions that are no pictures float32."""

    name: str
    given: Tensor  # (context, 3, H, W)
    conditions: Tensor  # (T, 3, H, W) pose images or (T, A) values
    truth: Tensor | None  # (T, 3, H, W) where it is known


def find_dataset(root: Path, split: str) -> Path:
    """The folder that holds `split`/, which is `root` or one folder inside it (LAB4_Dataset/LAB4_Dataset). Raises UserError."""
    if not root.is_dir():
        raise UserError(f"--DR {root}: no such folder; expected a data set with a folder {split}/")
    for folder in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
        if (folder / split).is_dir():
            return folder
    found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
    raise UserError(f"--DR {root}: no folder {split}/ in it nor one level below; found {found}")


def numbered_images(folder: Path, faults: Faults | None = None) -> dict[int, Path]:
    """The images of a folder by the last number in their names, in numeric order: frame9.png stands before frame12.png.

    A name without a number, or with too large a one, and a number that occurs twice are left out and added to `faults`;
    without it they raise UserError. A missing or empty folder always does.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected images named like frame000001.png")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not paths:
        raise UserError(f"{folder}: holds no images; expected files named like frame000001.png")
    found: Faults = {}
    images: dict[int, Path] = {}
    for path in paths:
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            found[path.name] = [f"{path}: no frame number in the name; expected one like frame000001.png"]
        elif (number := int(digits[-1])) > HIGHEST_NUMBER:
            found[path.name] = [f"{path}: frame number {digits[-1][:30]}; expected at most {HIGHEST_NUMBER}"]
        elif number in images:
            twice = f"{images[number].name} and {path.name} are both frame {number}; expected each number once"
            found.setdefault(number, []).append(f"{folder}: {twice}")
        else:
            images[number] = path
    if found and faults is None:
        raise UserError(f"{folder}: {len(found)} of {len(paths)} images have no number of their own:", problems_of(found))
    for key, problems in found.items():
        images.pop(key, None)  # of two with one number, none can be told to be the right one
        faults.setdefault(key, []).extend(problems)
    return dict(sorted(images.items()))


def problems_of(faults: Faults) -> list[str]:
    """All problems of all frames."""
    return [problem for problems in faults.values() for problem in problems]


def unbroken(numbers: np.ndarray, usable: np.ndarray) -> list[range]:
    """Which of the positions `usable` hold consecutive numbers, one range per unbroken piece of video."""
    breaks = np.flatnonzero(np.diff(numbers[usable]) != 1) + 1
    return [range(piece[0], piece[-1] + 1) for piece in map(np.ndarray.tolist, np.split(usable, breaks)) if piece]


def hash_of(*parts: bytes) -> str:
    """16 hex digits that change with any of the parts and with where one ends."""
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).hexdigest()[:16]


def identity_of(sequences: list[Sequence]) -> str:
    """16 hex digits that change with any name, pixel or condition of them."""
    parts = [part.numpy().tobytes() for s in sequences for part in (s.given, s.conditions, s.truth) if part is not None]
    return hash_of(*(s.name.encode() for s in sequences), *parts)


def standard_scale(mean: np.ndarray, deviation: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (A,) as plain numbers of 6 digits; what is constant gets the scale 1."""
    return [float(f"{m:.6g}") for m in mean], [float(f"{d:.6g}") if d > 1e-6 else 1.0 for d in deviation]


class Losses(NamedTuple):
    """What --skip_bad costs a split: frames left out of those found, and lengths of the unbroken pieces with and without it."""

    frames: int
    found: int
    pieces: list[int]
    whole: list[int]


class FrameStore:
    """Images of a split as one read-only memory map `images` (..., 3, H, W) uint8, and `digest`, the sha256 of all pixels."""

    folder: Path
    images: np.memmap
    digest: str
    losses: Losses | None = None

    def decode(
        self, paths: list[Path], *, height: int, width: int, cache_dir: Path | None, skip_bad: bool | None
    ) -> dict[int, str]:  # fmt: skip
        """Sets images (N, 3, H, W) and digest; returns what is wrong with each that cannot be decoded, by its index.

        If there are such, nothing is set, unless `skip_bad`. Raises UserError.
        """
        try:
            cached = cached_frames(paths, root=self.folder.parent, name=self.folder.name, height=height, width=width,
                                   folder=cache_dir, skip_bad=bool(skip_bad))  # fmt: skip
            self.images, self.digest, bad = cached
        except BadImages as error:
            bad = error.bad
        return {i: f"{paths[i]}: {why}" for i, why in bad.items()}

    def settle(self, problems: list[str], losses: Losses, *, skip_bad: bool | None) -> None:
        """Raises UserError with all problems, unless `skip_bad` and some frames are left. None: there is no such choice."""
        if not problems:
            return
        count = f"{losses.frames} of {losses.found} frames"
        if not skip_bad:
            way_out = "mend them" if skip_bad is None else "mend them, or leave them out with --skip_bad"
            raise UserError(f"{self.folder}: {count} cannot be used; {way_out}:", problems)
        if not losses.pieces:
            raise UserError(f"{self.folder}: {count} cannot be used and none is left; mend some of them:", problems)
        self.losses = losses

    def tell_losses(self, length: int | None = None) -> None:
        """One line on stderr, if frames were left out; with the clips of `length` frames that went with them."""
        if self.losses:
            frames, found, *pieces = self.losses
            line = f"{self.folder}: left out {frames} of {found} frames that cannot be used"
            if length:
                left, places = (sum(max(0, n - length + 1) for n in lengths) for lengths in pieces)
                line += f", and with them {places - left} of {places} places where a clip can start"
            if RANK == "0":  # all processes find the same
                print(line, file=sys.stderr)

    # A memory map pickles as a copy of the whole file; a loader's worker process opens the file itself instead.
    def __getstate__(self) -> dict:
        # Asked here, in the process that starts the worker, where the answer can still be told in one line.
        if not Path(self.images.filename).is_file():
            raise UserError(f"{self.images.filename}: the frame cache was removed or made anew for other images; start again")
        return self.__dict__ | {"images": (self.images.filename, self.images.shape)}

    def __setstate__(self, state: dict) -> None:
        filename, shape = state.pop("images")
        self.__dict__.update(state, images=np.load(filename, mmap_mode="r").reshape(shape))


class Clips(Dataset, ABC):
    """Training clips. Asked for (epoch, index), so that a clip depends on (seed, epoch, index) and nothing else.

    An item is a dict of what the model's forward takes: frames (T, 3, H, W) uint8, conditions (T, ...), what else a data set
    knows, and the clip's `seed` for what the model draws. Its pictures are moved by up to `shift` whole pixels each way, the
    border repeated.
    """

    def __init__(self, starts: list, *, clips: int, seed: int, shift: int):
        self.starts, self.clips, self.seed, self.shift = starts, clips, seed, shift

    @abstractmethod
    def condition_scale(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each condition value, of each colour of pose images, as standard_scale() gives them."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """16 hex digits that change with any pixel, frame number or condition value of the training data, wherever they lie."""

    @abstractmethod
    def cut(self, start, rng: np.random.Generator) -> dict[str, Tensor]:
        """The clip at one of `starts`."""

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key
        rng = np.random.default_rng(seed_for(self.seed, "clip", epoch, index))
        # Clip i starts somewhere in the i-th of equal shares of the video: random, yet each epoch sees all of it.
        position = int((index + rng.random()) * len(self.starts) / self.clips)
        clip = self.cut(self.starts[min(position, len(self.starts) - 1)], rng)
        if self.shift:
            down, right = rng.integers(-self.shift, self.shift + 1, size=2).tolist()
            pictures = {name: part for name, part in clip.items() if part.dtype == torch.uint8}
            clip |= {name: moved(moved(part, down, dim=-2), right, dim=-1) for name, part in pictures.items()}
        return clip | {"seed": seed_for(self.seed, "noise", epoch, index)}


def moved(pictures: Tensor, by: int, *, dim: int) -> Tensor:
    """Pictures moved by whole pixels along one dimension, the border repeated: (..., H, W) -> (..., H, W).

    In whole rows and columns: picking each pixel by its index took a twentieth of a training step.
    """
    size = pictures.shape[dim]
    by = max(-size, min(by, size))
    kept, first, edge = size - abs(by), max(0, by), 0 if by > 0 else size - 1
    result = pictures.narrow(dim, edge, 1).expand_as(pictures).clone()
    result.narrow(dim, first, kept).copy_(pictures.narrow(dim, max(0, -by), kept))
    return result


class Place(NamedTuple):
    """Where in an epoch a batch stands."""

    index: int  # of the batch
    begin: int  # clips of the epoch that were taken before it, by all processes
    end: int  # and after it
    weight: float  # of the mean over this process's clips, in a step's gradient that is averaged over the processes
    ends_step: bool  # whether the optimiser takes its step after it


class ClipBatches(Sampler[list[tuple[int, int]]]):
    """Batches of shuffled (epoch, index) keys for one of `world` processes; the order is a function of (seed, epoch).

    `batch_size` is a process's share; together they take the same clips in the same order as one alone, only more at a time.
    The last batch is smaller where the clips do not divide; none is dropped. Before each epoch set `epoch`; `fraction`, which
    keeps the first clips of the video only (the course's --fast_train); and `first`, how many clips of it are done already.
    """

    def __init__(self, clips: int, *, batch_size: int, accumulate: int, seed: int, rank: int = 0, world: int = 1):
        self.clips, self.batch_size, self.accumulate, self.seed = clips, batch_size, accumulate, seed
        self.rank, self.world = rank, world
        self.epoch, self.fraction, self.first = 0, 1.0, 0

    @property
    def total(self) -> int:
        """Clips of the epoch."""
        return max(1, int(self.clips * self.fraction))

    @property
    def together(self) -> int:
        """Clips that all processes take at a time."""
        return self.batch_size * self.world

    def smallest(self, fraction: float) -> int:
        """The fewest clips that a process takes at a time, also in epochs of this fraction."""
        totals = {self.clips, max(1, int(self.clips * fraction))}
        return min(max(1, (total % self.together or self.together) // self.world) for total in totals)

    def __len__(self) -> int:
        return len(range(self.first, self.total, self.together))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng(seed_for(self.seed, "order", self.epoch)).permutation(self.total)
        for place in self.places():
            keys = order[place.begin : place.end]
            # Where fewer clips are left than processes, one that goes without takes a clip again, with weight 0.
            own = keys[self.share(len(keys))] if place.weight else keys[:1]
            yield [(self.epoch, int(index)) for index in own]

    def share(self, clips: int) -> slice:
        """This process's part of so many clips."""
        return slice(self.rank * clips // self.world, (self.rank + 1) * clips // self.world)

    def places(self) -> Iterator[Place]:
        """Where each of the batches stands."""
        for number, begin in enumerate(range(self.first, self.total, self.together)):
            end = min(begin + self.together, self.total)
            # A step's batches count by their clips, so that accumulation equals one large batch, the last smaller one included.
            in_step = number % self.accumulate
            step_begin = begin - in_step * self.together
            step_clips = min(self.together * self.accumulate, self.total - step_begin)
            own = self.share(end - begin)
            weight = (own.stop - own.start) * self.world / step_clips
            yield Place(begin // self.together, begin, end, weight, in_step + 1 == self.accumulate or end == self.total)


class Loader(DataLoader):
    """Whose processes cannot die of a signal to stop before leave_stopping_to_the_main_process() has run in them."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        with held_back(STOP_SIGNALS):  # the first time, the processes start
            return super().__iter__()


def leave_stopping_to_the_main_process(_worker: int) -> None:
    """A worker that dies of Ctrl-C, or when a cluster tells all processes to end, would end the run with a traceback amid a
    step."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def end_workers() -> None:
    """At the end of the program: multiprocessing would ask them to end by a signal that they ignore, and wait for ever."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own takes a worker's death for an error
    for worker in multiprocessing.active_children():
        worker.kill()


def build_loader(clips: Clips, batches: ClipBatches, *, workers: int, pin: bool) -> DataLoader:
    """The batches' clips, collated, read by so many processes."""
    workers = min(workers, os.cpu_count() or 1)  # the course's 6 on a small machine only wait for each other
    if workers:
        atexit.register(end_workers)
    return Loader(
        clips, batch_sampler=batches, num_workers=workers, pin_memory=pin, persistent_workers=workers > 0,
        worker_init_fn=leave_stopping_to_the_main_process,
    )  # fmt: skip
