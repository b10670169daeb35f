"""The frame cache: all images of a split, decoded and resized once, in one memory-mapped uint8 file.

The file is a .npy array followed by a trailer, which numpy ignores. The trailer identifies the content: JSON, then its length in
8 bytes.
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

from data.image_files import REMARKS, FolderRemark, open_upright
from runtime.files import check_writable
from utils import UserError, counted

FOLDER = ".frame_cache"
IMAGES_PER_TASK = 32
FORMAT = 3  # of the file and of the rules for reading and resizing; increase it with every change, so that old files are not used
ABANDONED = 3600  # seconds without a write after which an unfinished cache file is considered abandoned
LENGTH_BYTES = 8  # of the trailer's length


class CachedFrames(NamedTuple):
    """A complete cache."""

    images: np.memmap  # (N, 3, H, W) uint8, read-only
    digest: str  # sha256 of all pixels
    bad: dict[int, str]  # why an image could not be decoded, by its index; it is black in `images`
    remarks: list[FolderRemark]  # on images that are unusual; the folders are relative to the data set


class BadImages(UserError):
    """Images cannot be decoded; `bad` holds the reasons by index."""

    def __init__(self, paths: list[Path], bad: dict[int, str]):
        problems = [f"{paths[index]}: {reason}" for index, reason in bad.items()]
        super().__init__(f"{len(bad)} of {counted(len(paths), 'image')} cannot be decoded:", problems)
        self.bad = bad


class Frame(NamedTuple):
    """An image, decoded and resized."""

    pixels: np.ndarray  # (3, H, W) uint8 RGB
    remarks: tuple[str, ...]  # what is unusual about the file; keys of REMARKS


class Batch(NamedTuple):
    """Several images, decoded and resized."""

    pixels: bytes  # of one image after another; an image with an error is black
    bad: dict[int, str]  # the errors by index
    remarks: list[tuple[str, int]]  # what is unusual about a file, and its index


def read_image(path: Path, *, height: int, width: int) -> Frame:
    """Read one image of any size and mode.

    The pixels are those of open_upright(), for ordinary images the course's convert("RGB"). They are resized as the course does,
    with torchvision's Resize on the PIL image, which is PIL's bilinear filter with antialiasing. Compared with it, the result of
    another filter has a PSNR of only about 40 dB. Raises ValueError with the reason if the file cannot be used.
    """
    image, remarks = open_upright(path)
    return Frame(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1), remarks)


def read_images(paths: list[Path], *, height: int, width: int, first_index: int = 0) -> Batch:
    """Read several images, whose indices begin with `first_index`."""
    pixels, bad, remarks = [], {}, []
    for index, path in enumerate(paths, start=first_index):
        try:
            frame = read_image(path, height=height, width=width)
            pixels.append(frame.pixels.tobytes())
            remarks += [(remark, index) for remark in frame.remarks]
        except ValueError as error:
            pixels.append(bytes(3 * height * width))
            bad[index] = str(error)
    return Batch(b"".join(pixels), bad, remarks)


def summarize_remarks(remarks: list[tuple[str, int]], paths: list[Path], root: Path) -> list[FolderRemark]:
    """Return each kind of remark once, with the number of images and the folder around them relative to `root`."""
    summary = []
    for kind in REMARKS:
        folders = [os.path.relpath(paths[index].parent, root) for remark, index in remarks if remark == kind]
        if folders:
            summary.append(FolderRemark(kind, len(folders), os.path.commonpath(folders)))
    return summary


def fingerprint_of(paths: list[Path], *, root: Path, height: int, width: int) -> str:
    """Return 16 hex digits that change when a file is added, removed, renamed, resized or rewritten; costs one stat per file."""
    digest = hashlib.sha256(f"{FORMAT} {height}x{width}".encode())
    for path in paths:
        try:
            status = path.stat()
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:  # a broken or circular link, which is reported when it is decoded
            state = "unknown"
        digest.update(os.fsencode(f"{os.path.relpath(path, root)} {state}\n"))
    return digest.hexdigest()[:16]


def user_cache() -> Path:
    """Return the user's own cache folder, for data sets that cannot be written to."""
    chosen = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    try:
        base = Path(chosen) if chosen else Path.home() / ".cache"
    except RuntimeError:  # a user without a home, as in some containers
        base = Path(tempfile.gettempdir())
    return base / "nextframe-frames"


def writable_folder(candidates: list[Path]) -> Path:
    """Return the first candidate that can be created and written to. Raises UserError if there is none."""
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
    """Return the cache of all images (at least one). They are decoded now unless a valid cache file exists.

    The file is written to `folder` if given, else to root/.frame_cache or, if that is impossible, to the user's cache folder. It
    is moved into place when complete: a reader sees all of it or nothing, and two processes that build it at the same time both
    end with a complete file.

    Raises BadImages if some images cannot be decoded, unless `skip_bad`, and UserError if the file cannot be written. A cache
    built without some images is rebuilt as soon as one of them can be decoded.
    """
    # In a folder for several data sets, each has a subfolder, because their splits have the same names.
    subfolder = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    folders = [folder / subfolder] if folder else [root / FOLDER, user_cache() / subfolder]
    fingerprint = fingerprint_of(paths, root=root, height=height, width=width)
    filename = f"{name}-{height}x{width}-{fingerprint}.npy"
    shape = (len(paths), 3, height, width)
    for candidate in folders:
        remove_abandoned(candidate)
        cached = open_cache(candidate / filename, shape, fingerprint)
        if cached and len(still_bad(paths, cached.bad, shape)) == len(cached.bad):
            if cached.bad and not skip_bad:
                raise BadImages(paths, cached.bad)
            return cached
    chosen = writable_folder(folders)
    build_cache(paths, chosen / filename, shape, fingerprint, root, skip_bad=skip_bad)
    # Files of the same split and size with another fingerprint belong to images that have changed since.
    for stale in chosen.glob(f"{name}-{height}x{width}-*.npy"):
        if stale.name != filename:
            with contextlib.suppress(OSError):  # Windows keeps a file that another process has mapped
                stale.unlink()
    if (cached := open_cache(chosen / filename, shape, fingerprint)) is None:
        raise UserError(f"{chosen / filename}: removed or changed by another program right after it was written; start again")
    return cached


def still_bad(paths: list[Path], bad: dict[int, str], shape: tuple[int, ...]) -> dict[int, str]:
    """Return those of the `bad` images that still cannot be decoded: an error of a network disk may have been temporary."""
    return read_images([paths[index] for index in bad], height=shape[2], width=shape[3]).bad


def open_cache(path: Path, shape: tuple[int, ...], fingerprint: str) -> CachedFrames | None:
    """Open a cache file without reading its pixels; return None if it is incomplete or belongs to other images."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        with open(path, "rb") as file:
            end = file.seek(-LENGTH_BYTES, os.SEEK_END)
            length = int.from_bytes(file.read(), "little")
            # Array, trailer and length fill a complete file exactly.
            if images.shape != shape or images.dtype != np.uint8 or images.offset + images.nbytes + length != end:
                return None
            file.seek(end - length)
            trailer = json.loads(file.read(length))
        bad = {int(index): reason for index, reason in trailer["bad"].items()}
        remarks = [FolderRemark(*remark) for remark in trailer["remarks"]]
        return CachedFrames(images, trailer["sha256"], bad, remarks) if trailer["fingerprint"] == fingerprint else None
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):  # a foreign file may cause any of these
        return None


def part_name(filename: str) -> str:
    """Return the name of an unfinished file, which identifies the process that writes it."""
    return f".{filename}@{platform.node()}@{os.getpid()}@{threading.get_ident()}.part"


def remove_abandoned(folder: Path) -> None:
    """Remove the unfinished files of builds that were killed, which would fill the disk permanently."""
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # another process has just removed it
            if writer_is_dead(part.name) or time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink()


def writer_is_dead(part: str) -> bool:
    """Return whether the process named in an unfinished file's part_name() ran on this machine and has ended."""
    _, host, pid, _ = part.split("@") if part.count("@") == 3 else ("", "", "", "")
    if os.name != "posix" or host != platform.node() or not pid.isdecimal():  # on Windows, os.kill would end the process
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # a live process of another user; not a process number
        return False
    else:
        return False


def build_cache(
    paths: list[Path], path: Path, shape: tuple[int, ...], fingerprint: str, root: Path, *, skip_bad: bool
) -> None:  # fmt: skip
    """Decode all images into a file next to `path`, then move it there. No file remains after an error.

    Raises UserError if the file cannot be written and, unless `skip_bad`, BadImages if some images cannot be decoded.
    """
    partial = path.with_name(part_name(path.name))
    try:
        # Written as a stream: a full disk is then an error to report, whereas with a memory map a signal would end the process.
        with open(partial, "wb") as file:
            write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            digest = hashlib.sha256()
            bad: dict[int, str] = {}
            remarks: list[tuple[str, int]] = []
            with contextlib.closing(decode_in_order(paths, shape, path.name.split("-")[0])) as batches:
                for batch in batches:
                    file.write(batch.pixels)
                    digest.update(batch.pixels)
                    bad |= batch.bad
                    remarks += batch.remarks
            if bad and not skip_bad:
                raise BadImages(paths, bad)
            content = {"fingerprint": fingerprint, "sha256": digest.hexdigest(), "bad": bad}
            trailer = json.dumps(content | {"remarks": summarize_remarks(remarks, paths, root)}).encode()
            file.write(trailer + len(trailer).to_bytes(LENGTH_BYTES, "little"))
            file.flush()
            os.fsync(file.fileno())  # without it, a power failure may leave a file of the right length with gaps
        try:
            partial.replace(path)
        except PermissionError:  # Windows: another process finished first and has it open
            if open_cache(path, shape, fingerprint) is None:
                raise
    except OSError as error:
        size = f"{max(1, round(np.prod(shape) / 1e6))} MB"
        raise UserError(f"{path.parent}: the frame cache of {size} cannot be written ({error.strerror or error}); "
                        "free some space, or choose another folder with --cache_dir") from None  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def decode_in_order(paths: list[Path], shape: tuple[int, ...], name: str) -> Generator[Batch, None, None]:
    """Yield all images in order, several at a time. All cores are used."""
    _, _, height, width = shape
    # Threads, not processes: PIL releases the interpreter lock while it decodes and resizes, and processes start slowly on
    # Windows.
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    try:
        # A task has many images, because handing over a single one takes a third as long as decoding it.
        starts = range(0, len(paths), IMAGES_PER_TASK)

        def read(start: int) -> Batch:
            task = paths[start : start + IMAGES_PER_TASK]
            return read_images(task, height=height, width=width, first_index=start)

        with tqdm(total=len(paths), desc=f"decoding {name}", unit="img", leave=False, disable=None) as bar:
            for start, batch in zip(starts, pool.map(read, starts)):
                yield batch
                bar.update(min(IMAGES_PER_TASK, len(paths) - start))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
