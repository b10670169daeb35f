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

    What stood there before stays at `keep`, if given. Raises OSError; `path` is as it was then.
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
            second_name(path, keep)
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
        except OSError:  # some network drives cannot; the file itself is on the disk
            pass
        finally:
            os.close(handle)


def second_name(path: Path, name: Path) -> None:
    """Makes what is at `path` be at `name` too; where the file system has no links, it is moved there."""
    link = name.with_name(f".{name.name}.part")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        path.replace(name)
    else:
        link.replace(name)


def locked(path: Path, *, timeout: float = 0) -> FileLock | None:
    """The lock at `path`, held until it is released or this process ends, however it ends; None if another process has it for so
    many seconds yet, -1: as long as it takes. Where the file system has no locks it is not held, see its `is_locked`."""
    try:  # a lock that the system does not hold would outlive a killed run
        lock = FileLock(path, fallback_to_soft=False)
    except TypeError:  # older versions fall back to none
        lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return None
    except (OSError, RuntimeError):  # no locks; which of the two depends on filelock's version
        pass
    return lock


def claim(folder: Path, *, flag: str) -> FileLock:
    """Keeps other runs out of the folder until this process ends, however it ends. Raises UserError if one is in there."""
    lock = locked(folder / ".lock")
    if lock is None:
        print(f"{folder}: another run is writing there; waiting up to {WAIT} s for its end", flush=True)
        lock = locked(folder / ".lock", timeout=WAIT)
    if lock is None:
        raise UserError(f"{flag} {folder}: another run is writing there; expected a folder of its own for each run")
    if not lock.is_locked:
        print(f"{folder}: this file system has no locks, so take care that no other run writes there", file=sys.stderr)
    return lock


def check_writable(folder: Path, *, flag: str) -> None:
    """Makes the folder and a file in it, so that a result has a place before hours are spent on it. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # a process of the same number on another machine may have done it
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be written ({error.strerror}); choose another folder") from None
