"""How fast images become frames: into the frame cache, and by decoding and resizing alone, which it cannot beat."""

import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from data.frame_cache import cached_frames


def decoding_rate(paths: list[Path], *, height: int, width: int) -> float:
    """Images/s of PIL on all cores, the same kind of pool as the cache's; nothing is kept."""

    def decode(path: Path) -> None:
        with Image.open(path) as image:
            image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)

    begin = time.perf_counter()
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        list(pool.map(decode, paths))
    return len(paths) / (time.perf_counter() - begin)


def building_rate(paths: list[Path], *, root: Path, height: int, width: int) -> float:
    """Images/s of the frame cache in a new folder, which is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="frame-cache-"))
    try:
        begin = time.perf_counter()
        cached_frames(paths, root=root, name="train", height=height, width=width, folder=folder)
        return len(paths) / (time.perf_counter() - begin)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
