"""Files that are whole or not there, and folders that one run has to itself."""
import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from utils import UserError

CHUNK = 2**20
WAIT = 15  # seconds that a killed run's loader processes may take to notice, and to let go of the folder


def write_whole(path: Path, content: bytes | memoryview, *, keep: Path | None = None) -> None:
    """Writes beside `path`, flushes to the disk, reads again and then moves into place, so that `path` is always a whole file.

    What stood there before is moved to `keep`, if given. Raises OSError; nothing has changed then.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with open(partial, "rb") as file:
            for start in range(0, len(content), CHUNK):
                if file.read(CHUNK) != content[start : start + CHUNK]:
                    raise OSError(f"{path}: other bytes are read than were written; is the disk failing?")
        if keep and path.exists():
            path.replace(keep)
        partial.replace(path)
        flush_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Makes the names in a folder last; Windows does so by itself."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def claim(folder: Path, *, flag: str) -> FileLock:
    """Keeps other runs out of the folder until this process ends, however it ends. Raises UserError if one is in there."""
    lock = FileLock(folder / ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"{folder}: another run is writing there; waiting up to {WAIT} s for its end", flush=True)
            lock.acquire(timeout=WAIT)
    except Timeout:
        raise UserError(f"{flag} {folder}: another run is writing there; expected a folder of its own for each run") from None
    except NotImplementedError:
        print(f"{folder}: this file system has no locks, so take care that no other run writes there", file=sys.stderr)
    return lock
