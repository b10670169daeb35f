"""The images of a split as one memory map."""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.frame_cache import BadImages, cached_frames
from utils import RANK, UserError


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
