"""What every data set consists of: whole sequences and random training clips (T frames, A condition values)."""

import hashlib
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from utils import seed_for


class Sequence(NamedTuple):
    """One whole video to predict; pixels are uint8, conditions that are no pictures float32."""

    name: str
    context_frames: Tensor  # (context, 3, H, W)
    conditions: Tensor  # (T, 3, H, W) pose images or (T, A) values
    ground_truth: Tensor | None  # (T, 3, H, W) where it is known


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


def hash_of(*parts: bytes) -> str:
    """16 hex digits that change with any of the parts and with where one ends."""
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).hexdigest()[:16]


def identity_of(sequences: list[Sequence]) -> str:
    """16 hex digits that change with any name, pixel or condition of them."""
    parts = [
        part.numpy().tobytes() for s in sequences for part in (s.context_frames, s.conditions, s.ground_truth) if part is not None
    ]
    return hash_of(*(s.name.encode() for s in sequences), *parts)


def standard_scale(mean: np.ndarray, deviation: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (A,) as plain numbers of 6 digits; what is constant gets the scale 1."""
    return [float(f"{m:.6g}") for m in mean], [float(f"{d:.6g}") if d > 1e-6 else 1.0 for d in deviation]
