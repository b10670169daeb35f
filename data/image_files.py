"""One rule for reading an image file: upright, RGB, 8 bits per channel, transparent pixels over white.

The course reads images with PIL's convert("RGB"). For ordinary images (8-bit RGB, gray or palette, opaque, no orientation in
their metadata) the result is exactly that.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from utils import RANK, UserError, counted, print_notice

ORIENTATION = 0x0112  # the tag of EXIF
TURN_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}  # modes
HIGHEST_VALUE = {"I;12": 4095}  # of 16-bit pixels, by the mode in the file; all others use the full range
KEY_SCALE = {"1": 255, "L;2": 85, "L;4": 17}  # PIL scales gray values of fewer than 8 bits, but not the transparent one
TRANSPARENT, ANIMATED = "transparent", "animated"
REMARKS = {TRANSPARENT: "transparent pixels are laid over white", ANIMATED: "of an animation, only the first image is used"}
WAYS_OUT = {
    TRANSPARENT: "for another background, save opaque images",
    ANIMATED: "to use the others, save each as an image of its own",
}
PRINTED: set[tuple[Path, str]] = set()  # folders and remarks


class UprightImage(NamedTuple):
    """An image as read from a file."""

    image: Image.Image  # RGB
    remarks: tuple[str, ...]  # keys of REMARKS: what is unusual about the file


class FolderRemark(NamedTuple):
    """A remark on several images of a data set."""

    kind: str  # a key of REMARKS
    images: int  # their number
    folder: str  # that contains them, relative to the data set; "" is the data set itself


def open_upright(path: Path) -> UprightImage:
    """Read an image file of any size and mode.

    Orientation: as EXIF or XMP says. Gray of 16 bits: round(value / 65535 * 255); PIL itself reduces 16-bit color to the upper 8
    bits. Transparent pixels: over white, before anything is resized. Raises ValueError with the reason, without the path.
    """
    try:
        with Image.open(path) as file:
            raw_mode = mode_in_file(file)
            image = file.copy()  # decodes it; counting the images may move on to another one
            image.format = file.format
            turn = TURN_UPRIGHT.get(orientation_of(file))
            animated = file.format != "MPO" and images_in(file) > 1  # MPO: a phone's photograph with further views of it
    except Exception as error:  # PIL raises errors of many kinds for a damaged file
        raise ValueError(f"cannot be read as an image ({reason_of(error, path)}); copy or save it again") from None
    rgb, transparent = over_white(to_eight_bits(image, raw_mode))
    if turn is not None:
        rgb = rgb.transpose(turn)
    present = {TRANSPARENT: transparent, ANIMATED: animated}
    return UprightImage(rgb, tuple(remark for remark in REMARKS if present[remark]))


def reason_of(error: Exception, path: Path) -> str:
    """Return why PIL cannot read a file, on one line.

    It is without the path, which PIL repeats: callers add it, and a cache may be moved together with its images.
    """
    reason = getattr(error, "strerror", None) or str(error).replace(f" {str(path)!r}", "") or type(error).__name__
    return " ".join(reason.split())


def read_upright(path: Path) -> np.ndarray:
    """Return an image as open_upright() reads it, (H, W, 3) uint8. Raises UserError if it cannot be read.

    A remark is printed once for all images of a folder.
    """
    try:
        image, remarks = open_upright(path)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    for remark in remarks:
        remark_once(path.parent, remark, path.name)
    return np.asarray(image)


def remark_once(folder: Path, remark: str, name: str) -> None:
    """Print a remark on the image `name` of a folder, unless this process printed it for another image of the folder."""
    if (folder, remark) not in PRINTED and RANK == "0":
        PRINTED.add((folder, remark))
        tqdm.write(f"{folder}: {REMARKS[remark]} (first in {name}); {WAYS_OUT[remark]}", file=sys.stderr)


def print_remarks(remarks: Iterable[FolderRemark], root: Path) -> None:
    """Print each kind of remark on images of the data set `root` in one line on stderr: the folder around them, their number."""
    remarks = list(remarks)
    for kind, text in REMARKS.items():
        own = [remark for remark in remarks if remark.kind == kind]
        if own:
            folder = root / os.path.commonpath([remark.folder for remark in own])
            count = counted(sum(remark.images for remark in own), "image")
            print_notice(f"{folder}: {text} ({count}); {WAYS_OUT[kind]}")


def mode_in_file(file: Image.Image) -> str:
    """Return how an image that is not yet loaded stores its pixels, such as "L;2" for 2 bits; "" if PIL does not say so."""
    tiles = getattr(file, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return mode if isinstance(mode, str) else ""


def orientation_of(file: Image.Image) -> int:
    """Return the orientation that the metadata of a loaded image state, 1 (upright) to 8; 1 if they cannot be read."""
    try:
        return int(file.getexif().get(ORIENTATION, 1))
    except Exception:  # PIL raises errors of many kinds for damaged metadata, which viewers ignore as well
        return 1


def images_in(file: Image.Image) -> int:
    """Return the number of images in a loaded file; 1 if the file is damaged after its first image."""
    try:
        return getattr(file, "n_frames", 1)
    except Exception:  # as above
        return 1


def to_eight_bits(image: Image.Image, raw_mode: str) -> Image.Image:
    """Return a loaded image of at most 8 bits per channel, whose transparent value, if it has one, is that of its pixels.

    Raises ValueError for pixels whose range the file does not define, which PIL would clip at 255.
    """
    key = image.info.get("transparency")
    if raw_mode == "RGB;16B" and key is not None:
        raise ValueError("expected 8 bits per channel, got 16 bits with a transparent color; convert it to RGBA")
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):  # "I": 16 bits in these two
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise ValueError(f"expected 8 or 16 bits per channel, got {kind} pixels, whose range is unknown; convert it to 8 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)  # (H, W)
        highest = HIGHEST_VALUE.get(raw_mode, 65535)
        gray = Image.fromarray(((values * 255 + highest // 2) // highest).astype(np.uint8))
        if key is not None:
            gray.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
        return gray
    if isinstance(key, int) and raw_mode in KEY_SCALE and key <= 255 // KEY_SCALE[raw_mode]:
        image.info["transparency"] = key * KEY_SCALE[raw_mode]
    return image


def over_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """Return an image of at most 8 bits per channel as RGB over white, and whether any pixel is transparent.

    Raises ValueError for a mode that PIL cannot convert.
    """
    palette_alpha = image.mode == "P" and image.palette is not None and image.palette.mode == "RGBA"
    try:
        if not (image.mode in WITH_ALPHA or palette_alpha or "transparency" in image.info):
            return image.convert("RGB"), False
        with_alpha = image.convert("LA") if image.mode == "La" else image
        with_alpha = with_alpha if with_alpha.mode == "RGBA" else with_alpha.convert("RGBA")
    except (ValueError, OSError):
        raise ValueError(f"expected RGB, gray, palette or CMYK pixels, got {image.mode}; convert it to RGB") from None
    transparent = bool(np.asarray(with_alpha.getchannel("A")).min() < 255)
    if transparent:
        with_alpha = Image.alpha_composite(Image.new("RGBA", image.size, "white"), with_alpha)
    return with_alpha.convert("RGB"), transparent
