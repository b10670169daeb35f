"""Measure how fast image files become frames: into the frame cache, and by decoding and resizing alone, the upper limit."""

import functools
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data.frame_cache import cached_frames, read_image


def decoding_rate(paths: list[Path], *, height: int, width: int) -> float:
    """Return the images/s that PIL decodes and resizes in a pool of threads like the frame cache's; the frames are discarded."""

    begin = time.perf_counter()
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        list(pool.map(functools.partial(read_image, height=height, width=width), paths))
    return len(paths) / (time.perf_counter() - begin)


def caching_rate(paths: list[Path], *, root: Path, height: int, width: int) -> float:
    """Return the images/s at which the frame cache is built, in a new folder that is removed afterward."""
    with tempfile.TemporaryDirectory(prefix="frame-cache-", ignore_cleanup_errors=True) as folder:
        begin = time.perf_counter()
        cached_frames(paths, root=root, name="train", height=height, width=width, folder=Path(folder))
        return len(paths) / (time.perf_counter() - begin)
