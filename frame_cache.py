"""The frame cache: every image of a split decoded and resized once, kept as one memory-mapped uint8 file."""
import contextlib
import hashlib
import os
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.lib.format import write_array_header_1_0
from PIL import Image
from tqdm import tqdm

from utils import UserError, check_writable

FOLDER = ".frame_cache"
IMAGES_PER_TASK = 32
RESIZE = 1  # the number of the resize rule below; a new rule needs a new number, so that old files are not believed


def read_image(path: Path, *, height: int, width: int) -> np.ndarray:
    """One image of any size and mode -> (3, H, W) uint8 RGB.

    Exactly what the course does: PIL's convert("RGB") and torchvision's Resize on the PIL image, which is PIL's bilinear
    filter with antialiasing; another filter differs by about 40 dB. Raises UserError if the file cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what PIL raises on a damaged file
        raise UserError(f"{path}: cannot be read as an image ({error}); expected an intact PNG") from None
    return np.asarray(resized).transpose(2, 0, 1)


def read_images(paths: list[Path], *, height: int, width: int) -> bytes:
    """The pixels of several images, one behind the other. Raises UserError."""
    return b"".join(read_image(path, height=height, width=width).tobytes() for path in paths)


def fingerprint(paths: list[Path], *, root: Path, height: int, width: int) -> str:
    """Changes when a file is added, removed, renamed, resized or rewritten; costs one stat per file, decodes nothing."""
    digest = hashlib.sha256(f"{RESIZE} {height}x{width}".encode())
    for path in paths:
        status = path.stat()
        digest.update(os.fsencode(f"{os.path.relpath(path, root)} {status.st_size} {status.st_mtime_ns}\n"))
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


def cached_frames(paths: list[Path], *, root: Path, name: str, height: int, width: int, folder: Path | None = None) -> np.ndarray:
    """All images as one read-only memory map (N, 3, H, W) uint8, decoded now if no valid cache file stands there.

    The file goes beside the data, into root/.frame_cache, or into the user's cache folder where that cannot be written;
    or into `folder`. It is moved into place when complete, so that a reader sees
    all of it or nothing, and two processes that build it at once both end with a whole file. Raises UserError.
    """
    # A folder that serves several data sets keeps them apart: their splits bear the same names.
    own = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    folders = [folder / own] if folder else [root / FOLDER, user_cache() / own]
    filename = f"{name}-{height}x{width}-{fingerprint(paths, root=root, height=height, width=width)}.npy"
    shape = (len(paths), 3, height, width)
    for place in folders:
        if (place / filename).is_file() and (frames := open_cache(place / filename, shape)) is not None:
            return frames
    place = writable_folder(folders)
    build_cache(paths, place / filename, shape)
    # Files of the same split and size with another fingerprint describe images that have changed since.
    for stale in place.glob(f"{name}-{height}x{width}-*.npy"):
        if stale.name != filename:
            with contextlib.suppress(OSError):  # Windows keeps a file that another process has mapped
                stale.unlink()
    return np.load(place / filename, mmap_mode="r")


def open_cache(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The memory map, or None where the file is not a whole array of that shape."""
    try:
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return frames if frames.shape == shape and frames.dtype == np.uint8 else None


def build_cache(paths: list[Path], path: Path, shape: tuple[int, ...]) -> None:
    """Decodes all images on all cores into a file beside `path`, then moves it there; leaves nothing behind on failure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    _, _, height, width = shape
    # Threads, not processes: PIL releases the interpreter lock while it decodes and resizes, and Windows starts no
    # process cheaply.
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    try:
        # Written as a stream: a full disk is then an error that can be told, where a memory map would die by a signal.
        with open(partial, "wb") as file:
            write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            # Many to a task: handing over each image by itself takes a third as long as decoding it.
            tasks = [paths[start : start + IMAGES_PER_TASK] for start in range(0, len(paths), IMAGES_PER_TASK)]
            name = path.name.split("-")[0]
            with tqdm(total=len(paths), desc=f"decoding {name}", unit="img", leave=False, disable=None) as bar:
                read = pool.map(lambda task: read_images(task, height=height, width=width), tasks)
                for task, pixels in zip(tasks, read):
                    file.write(pixels)
                    bar.update(len(task))
        try:
            partial.replace(path)
        except PermissionError:  # Windows: another process finished first and has it open
            if open_cache(path, shape) is None:
                raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        partial.unlink(missing_ok=True)
