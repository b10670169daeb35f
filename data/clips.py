"""The parts that all data sets share: whole sequences and random training clips (T frames, A condition values)."""

import hashlib
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from utils import seed_for


class Sequence(NamedTuple):
    """One whole video to predict. Pixels are uint8; conditions other than images are float32."""

    name: str
    context_frames: Tensor  # (context, 3, H, W)
    conditions: Tensor  # (T, 3, H, W) pose images or (T, A) values; (T, 0) for none
    ground_truth: Tensor | None  # (T, 3, H, W); None if unknown


class Clips(Dataset, ABC):
    """Training clips, indexed by (epoch, index), so that a clip depends on (seed, epoch, index) alone.

    An item is a dict of the arguments of the model's forward: frames (T, 3, H, W) uint8, conditions (T, ...), further entries of
    a data set, and the clip's `seed` for the model's own draws. All images of a clip are shifted together by up to `shift` whole
    pixels in each direction, with the border repeated.

    `starts` are all possible starts of a clip in the order of the video, in the form that cut() takes.
    """

    def __init__(self, *, starts: list, clips_per_epoch: int, seed: int, shift: int):
        self.starts, self.clips_per_epoch, self.seed, self.shift = starts, clips_per_epoch, seed, shift

    @abstractmethod
    def condition_scale(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of each condition value, or of each color channel of pose images.

        They have the form that standard_scale() returns.
        """

    @property
    @abstractmethod
    def content_hash(self) -> str:
        """16 hex digits that change with any pixel, frame number or condition of the training data, but not with its path."""

    @abstractmethod
    def cut(self, start: Any, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the clip at one of `starts`: frames, conditions, and other arguments of the model's forward by name.

        `rng` draws all that is random in it. Every uint8 entry is shifted afterwards.
        """

    def __len__(self) -> int:
        return self.clips_per_epoch

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        rng = np.random.default_rng(seed_for(self.seed, "clip", epoch, index))
        # The starts are divided into equal shares, and clip i begins at random in the i-th: each epoch covers the whole video.
        position = int((index + rng.random()) * len(self.starts) / self.clips_per_epoch)
        clip = self.cut(self.starts[min(position, len(self.starts) - 1)], rng)
        if self.shift:
            down, right = rng.integers(-self.shift, self.shift + 1, size=2).tolist()
            for name, value in clip.items():
                if value.dtype == torch.uint8:
                    clip[name] = shift_images(shift_images(value, down, dim=-2), right, dim=-1)
        return clip | {"seed": seed_for(self.seed, "noise", epoch, index)}


def shift_images(images: Tensor, by: int, *, dim: int) -> Tensor:
    """Return images (..., H, W) shifted by whole pixels along one dimension, with the border repeated.

    Whole rows and columns are copied, because indexing each pixel took a twentieth of a training step.
    """
    size = images.shape[dim]
    by = max(-size, min(by, size))
    edge = 0 if by > 0 else size - 1
    result = images.narrow(dim, edge, 1).expand_as(images).clone()
    kept = size - abs(by)
    result.narrow(dim, max(0, by), kept).copy_(images.narrow(dim, max(0, -by), kept))
    return result


def content_hash(*parts: bytes) -> str:
    """Return 16 hex digits that change with any of the parts and with the boundaries between them."""
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).hexdigest()[:16]


def sequences_hash(sequences: list[Sequence]) -> str:
    """Return 16 hex digits that change with any name, pixel or condition of the sequences."""
    names = [sequence.name.encode() for sequence in sequences]
    contents = []
    for sequence in sequences:
        for part in (sequence.context_frames, sequence.conditions, sequence.ground_truth):
            if part is not None:
                contents.append(part.numpy().tobytes())
    return content_hash(*names, *contents)


def standard_scale(mean: np.ndarray, deviation: np.ndarray) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation (A,) as plain numbers with 6 significant digits; the scale of a constant value is 1."""
    return [float(f"{m:.6g}") for m in mean], [float(f"{d:.6g}") if d > 1e-6 else 1.0 for d in deviation]
