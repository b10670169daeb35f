"""The images of a split as one memory map."""

from pathlib import Path

import numpy as np

from data.frame_cache import BadImages, CachedFrames, cached_frames
from data.issues import SkippedFrames
from utils import UserError, print_notice


def decode(
    paths: list[Path], *, folder: Path, height: int, width: int, cache_dir: Path | None, skip_bad: bool | None
) -> tuple[CachedFrames | None, dict[int, str]]:
    """Decode the images of the split in `folder` into the frame cache, or open an existing one.

    Return the cache and the problem of each image that cannot be decoded, by its index. The cache is None if there are no paths,
    or if an image cannot be decoded and `skip_bad` is not set. Raises UserError if the cache cannot be written.
    """
    if not paths:
        return None, {}
    cached = None
    try:
        cached = cached_frames(paths, root=folder.parent, name=folder.name, height=height, width=width, folder=cache_dir,
                               skip_bad=bool(skip_bad))  # fmt: skip
        bad = cached.bad
    except BadImages as error:
        bad = error.bad
    return cached, {index: f"{paths[index]}: {reason}" for index, reason in bad.items()}


class FrameStore:
    """A split whose images are one read-only memory map `images` (..., 3, H, W) uint8; `digest` is the sha256 of all pixels.

    Pickling a memory map would copy the whole file. Instead, its name is pickled, and a worker process of the loader opens it.
    """

    def __init__(self, *, folder: Path, images: np.memmap, digest: str, skipped: SkippedFrames | None):
        self.folder, self.images, self.digest, self.skipped = folder, images, digest, skipped

    def report_skipped(self, clip_length: int | None = None) -> None:
        """Print one line on stderr if frames are skipped, with the number of starts lost for clips of `clip_length` frames."""
        if self.skipped:
            print_notice(f"{self.folder}: {self.skipped.summary(clip_length)}")

    def __getstate__(self) -> dict:
        # Checked here, in the process that starts the worker, where the error still ends the program with one line.
        if not Path(str(self.images.filename)).is_file():
            raise UserError(f"{self.images.filename}: the frame cache was removed or rebuilt for other images; start again")
        return self.__dict__ | {"images": (self.images.filename, self.images.shape)}

    def __setstate__(self, state: dict) -> None:
        filename, shape = state.pop("images")
        self.__dict__.update(state, images=np.load(filename, mmap_mode="r").reshape(shape))
