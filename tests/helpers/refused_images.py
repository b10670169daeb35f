"""Images with faults, and a frame cache that cannot be written, for the table of messages; see refusal_table.py."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from data.frame_cache import writable_folder
from data.image_files import read_upright
from tests.helpers import png_files
from tests.helpers.faulty_data import (
    Step,
    dance,
    failing,
    faulty_dance,
    file,
    folder,
    image,
    images,
    load_dance,
    read_images,
    renamed,
    saved,
    steps,
)  # fmt: skip
from tests.helpers.refusal_table import Case

PLACE = "train/train_img/2.png"


def transparent_color(root: Path) -> None:
    """Write a PNG of 16 bits per channel with a transparent color."""
    png_files.write_png(
        root / PLACE, np.ones((16, 16, 3), dtype=int), depth=16, kind=png_files.RGB, chunks=[png_files.transparent(1, 1, 1)]
    )


def tiff(mode: str) -> Step:
    """Write frame 2 as a TIFF of another mode in the place of the PNG."""
    return steps(
        renamed(PLACE, "train/train_img/2.tif"), saved("train/train_img/2.tif", Image.new(mode, (16, 16)), format="TIFF")
    )


def video_with(*faults: Step) -> Step:
    """Write a folder of images with faults and list them as a video."""
    return steps(images("video", 0, 1), *faults, read_images("video"))


IMAGES = [
    Case("no such folder", read_images("video")),
    Case("no images", steps(file("video/notes.txt"), read_images("video"))),
    Case("images of another type", steps(file("video/0.heic"), file("video/1.heic"), read_images("video"))),
    Case("images one folder deeper", steps(images("video/inner", 0, 1), read_images("video"))),
    Case("a name without a number", video_with(image("video/cover.png"))),
    Case("too large a number", video_with(image(f"video/{2**62 + 1}.png"))),
    Case("two images with the same number", video_with(image("video/01.png"))),
    Case("one image of another type", video_with(file("video/2.heic"))),
    Case("a download that has not ended", video_with(file("video/2.png.part"))),
    Case("a folder with the name of an image", video_with(folder("video/2.png"))),
    Case("files that are not read", video_with(file("video/preview.gif"))),
    Case("a damaged image", faulty_dance(file(PLACE, "not an image"))),
    Case("pixels of unknown range", faulty_dance(tiff("F"))),
    Case("pixels of 32 bits", faulty_dance(tiff("I"))),
    Case("16 bits with a transparent color", faulty_dance(transparent_color)),
    Case("transparent pixels", faulty_dance(saved(PLACE, Image.new("RGBA", (16, 16))))),
    Case(
        "transparent pixels of a single image",
        steps(saved("first/me.png", Image.new("RGBA", (16, 16))), lambda root: read_upright(root / "first/me.png")),
    ),
    Case(
        "an animation among the images",
        faulty_dance(saved(PLACE, Image.new("RGB", (16, 16)), save_all=True, append_images=[Image.new("RGB", (16, 16), "red")])),
    ),
]
CACHE = [
    Case(
        "no folder that can be written",
        failing(Path, "touch", "Read-only file system", lambda root: writable_folder([root / ".frame_cache", root / "home"])),
    ),
    Case("a full disk", steps(dance(), failing(os, "fsync", "No space left on device", load_dance))),
]
