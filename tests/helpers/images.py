"""Images written for a test."""

from pathlib import Path

import numpy as np
from PIL import Image

WHAT_IS_READ = "expected numbered .png, .jpg, .bmp, .webp or .tif"  # of a message


def write_image(path: Path, *, size: tuple[int, int] = (64, 32), mode: str = "RGB", seed: int = 0) -> Path:
    """Write a noise image of any PIL mode; `size` is (width, height). Returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path
