"""The frame cache: every image of a split decoded and resized once, kept as one memory-mapped uint8 file.

The file is a .npy array and behind it, where numpy does not look, a trailer by which the file proves what it is: JSON, then its
length in 8 bytes.
"""

import contextlib
import hashlib
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import write_array_header_1_0
from PIL import Image
from tqdm import tqdm

from runtime.files import check_writable
from utils import UserError

FOLDER = ".frame_cache"
IMAGES_PER_TASK = 32
FORMAT = 2  # of the file and of the resize rule below; a change needs a new number, so that old files are not believed
ABANDONED = 3600  # seconds without a byte after which the part of a cache file is that of a build that died
LENGTH_BYTES = 8  # of the trailer's length


class CachedFrames(NamedTuple):
    """A whole cache."""

    images: np.memmap  # (N, 3, H, W) uint8, read-only
    digest: str  # sha256 of all pixels
    bad: dict[int, str]  # why an image could not be decoded, by its index; it is black in `images`


class BadImages(UserError):
    """Images cannot be decoded: `bad` says of each index why."""

    def __init__(self, paths: list[Path], bad: dict[int, str]):
        problems = [f"{paths[i]}: {why}" for i, why in bad.items()]
        super().__init__(f"{len(bad)} of {len(paths)} images cannot be decoded:", problems)
        self.bad = bad


def read_image(path: Path, *, height: int, width: int) -> np.ndarray:
    """One image of any size and mode -> (3, H, W) uint8 RGB.

    Exactly what the course does: PIL's convert("RGB") and torchvision's Resize on the PIL image, which is PIL's bilinear
    filter with antialiasing; another filter differs by about 40 dB. Raises ValueError, which says why, if the file cannot be
    decoded.
    """
    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what PIL raises on a damaged file
        # Without the path, which PIL repeats: whoever tells of it has it, and a cache may be moved with its images.
        why = getattr(error, "strerror", None) or str(error).replace(f" {str(path)!r}", "")
        raise ValueError(f"cannot be read as an image ({why}); expected an intact PNG") from None
    return np.asarray(resized).transpose(2, 0, 1)


def read_images(paths: list[Path], *, height: int, width: int) -> tuple[bytes, dict[int, str]]:
    """The pixels of several images, one behind the other; black for those that cannot be decoded, and by index why."""
    pixels, bad = [], {}
    for i, path in enumerate(paths):
        try:
            pixels.append(read_image(path, height=height, width=width).tobytes())
        except ValueError as error:
            pixels.append(bytes(3 * height * width))
            bad[i] = str(error)
    return b"".join(pixels), bad


def fingerprint(paths: list[Path], *, root: Path, height: int, width: int) -> str:
    """Changes when a file is added, removed, renamed, resized or rewritten; costs one stat per file, decodes nothing."""
    digest = hashlib.sha256(f"{FORMAT} {height}x{width}".encode())
    for path in paths:
        try:
            status = path.stat()
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:  # a link to nowhere or to itself, which is found again, and told, when it is decoded
            state = "unknown"
        digest.update(os.fsencode(f"{os.path.relpath(path, root)} {state}\n"))
    return digest.hexdigest()[:16]


def user_cache() -> Path:
    """The user's own cache folder, for data that lies where nothing can be written."""
    chosen = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    try:
        base = Path(chosen) if chosen else Path.home() / ".cache"
    except RuntimeError:  # a user without a home, as in some containers
        base = Path(tempfile.gettempdir())
    return base / "pose-video-frames"


def writable_folder(candidates: list[Path]) -> Path:
    """The first candidate that can be made and written. Raises UserError if there is none."""
    reasons = []
    for folder in candidates:
        try:
            check_writable(folder, flag="frame cache")
            return folder
        except UserError as error:
            reasons.append(str(error).split(";")[0])
    raise UserError(f"{' and '.join(reasons)}; choose a folder with --cache_dir")


def cached_frames(
    paths: list[Path], *, root: Path, name: str, height: int, width: int, folder: Path | None = None, skip_bad: bool = False
) -> CachedFrames:
    """All images (at least one), decoded now if no cache file stands there that proves itself to be theirs.

    The file goes beside the data, into root/.frame_cache, or into the user's cache folder where that cannot be written;
    or into `folder`. It is moved into place when complete, so that a reader sees all of it or nothing, and two processes that
    build it at once both end with a whole file.

    Raises UserError, and BadImages if some cannot be decoded, unless `skip_bad`. A cache that was made without them is made
    again as soon as one can be read.
    """
    # A folder that serves several data sets keeps them apart: their splits bear the same names.
    own = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    folders = [folder / own] if folder else [root / FOLDER, user_cache() / own]
    mark = fingerprint(paths, root=root, height=height, width=width)
    filename = f"{name}-{height}x{width}-{mark}.npy"
    shape = (len(paths), 3, height, width)
    for place in folders:
        remove_abandoned(place)
        cached = open_cache(place / filename, shape, mark)
        if cached and len(still_bad(paths, cached.bad, shape)) == len(cached.bad):
            if cached.bad and not skip_bad:
                raise BadImages(paths, cached.bad)
            return cached
    place = writable_folder(folders)
    build_cache(paths, place / filename, shape, mark, skip_bad=skip_bad)
    # Files of the same split and size with another fingerprint describe images that have changed since.
    for stale in place.glob(f"{name}-{height}x{width}-*.npy"):
        if stale.name != filename:
            with contextlib.suppress(OSError):  # Windows keeps a file that another process has mapped
                stale.unlink()
    if (cached := open_cache(place / filename, shape, mark)) is None:
        raise UserError(f"{place / filename}: was removed or changed as soon as it was written; start again")
    return cached


def still_bad(paths: list[Path], bad: dict[int, str], shape: tuple[int, ...]) -> dict[int, str]:
    """Those of the `bad` images that cannot be decoded now either: a network disk may only have had a hiccup."""
    return read_images([paths[i] for i in bad], height=shape[2], width=shape[3])[1]


def open_cache(path: Path, shape: tuple[int, ...], mark: str) -> CachedFrames | None:
    """The cache, its pixels not read; None where the file is not whole or not that of the images with this fingerprint."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        with open(path, "rb") as file:
            end = file.seek(-LENGTH_BYTES, os.SEEK_END)
            length = int.from_bytes(file.read(), "little")
            # Array, trailer and length fill the file exactly, or it was cut.
            if images.shape != shape or images.dtype != np.uint8 or images.offset + images.nbytes + length != end:
                return None
            file.seek(end - length)
            trailer = json.loads(file.read(length))
        bad = {int(i): why for i, why in trailer["bad"].items()}
        return CachedFrames(images, trailer["sha256"], bad) if trailer["fingerprint"] == mark else None
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):  # whatever a foreign file makes of these lines
        return None


def part_name(filename: str) -> str:
    """A name for the unfinished file that tells whose it is."""
    return f".{filename}@{platform.node()}@{os.getpid()}@{threading.get_ident()}.part"


def remove_abandoned(folder: Path) -> None:
    """Removes the unfinished files of builds that were killed, so that they do not fill the disk for good."""
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # another process has just removed it
            if is_dead(part.name) or time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink()


def is_dead(part: str) -> bool:
    """Whether the process that wrote a file of this part_name() ran on this machine and is gone."""
    _, host, pid, _ = part.split("@") if part.count("@") == 3 else ("", "", "", "")
    if os.name != "posix" or host != platform.node() or not pid.isdecimal():  # on Windows, os.kill would end the process
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's, which lives; no number of a process
        return False
    else:
        return False


def build_cache(paths: list[Path], path: Path, shape: tuple[int, ...], mark: str, *, skip_bad: bool) -> None:
    """Decodes all images into a file beside `path`, then moves it there; leaves nothing behind on failure.

    Raises UserError if the file cannot be written, BadImages unless `skip_bad`.
    """
    partial = path.with_name(part_name(path.name))
    try:
        # Written as a stream: a full disk is then an error that can be told, where a memory map would die by a signal.
        with open(partial, "wb") as file:
            write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            digest, bad = hashlib.sha256(), {}
            with contextlib.closing(decoded(paths, shape, path.name.split("-")[0])) as some:
                for pixels, damaged in some:
                    file.write(pixels)
                    digest.update(pixels)
                    bad |= damaged
            if bad and not skip_bad:
                raise BadImages(paths, bad)
            trailer = json.dumps({"fingerprint": mark, "sha256": digest.hexdigest(), "bad": bad}).encode()
            file.write(trailer + len(trailer).to_bytes(LENGTH_BYTES, "little"))
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave a file of the right length with holes in it
        try:
            partial.replace(path)
        except PermissionError:  # Windows: another process finished first and has it open
            if open_cache(path, shape, mark) is None:
                raise
    except OSError as error:
        size = f"{np.prod(shape) / 1e6:.0f} MB"
        raise UserError(f"{path.parent}: the frame cache of {size} cannot be written ({error.strerror or error}); "
                        "make room, or choose another folder with --cache_dir") from None  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def decoded(paths: list[Path], shape: tuple[int, ...], name: str) -> Generator[tuple[bytes, dict[int, str]], None, None]:
    """The pixels of all images in order, some at a time, with those of them that cannot be decoded; uses all cores."""
    _, _, height, width = shape
    # Threads, not processes: PIL releases the interpreter lock while it decodes and resizes, and Windows starts no
    # process cheaply.
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    try:
        # Many to a task: handing over each image by itself takes a third as long as decoding it.
        starts = range(0, len(paths), IMAGES_PER_TASK)
        tasks = [paths[start : start + IMAGES_PER_TASK] for start in starts]
        with tqdm(total=len(paths), desc=f"decoding {name}", unit="img", leave=False, disable=None) as bar:
            read = pool.map(lambda task: read_images(task, height=height, width=width), tasks)
            for start, task, (pixels, bad) in zip(starts, tasks, read):
                yield pixels, {start + i: why for i, why in bad.items()}
                bar.update(len(task))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
