"""Files that are either complete or absent, and folders that only one run at a time may write to."""

import os
import re
import sys
import unicodedata
from pathlib import Path

from filelock import FileLock, Timeout

from utils import UserError

DEVICES = re.compile(r"con|prn|aux|nul|com[1-9\u00b9\u00b2\u00b3]|lpt[1-9\u00b9\u00b2\u00b3]", re.IGNORECASE)  # on Windows
CHUNK = 2**20  # bytes compared at a time
WAIT = 15  # seconds; the loader processes of a killed run may take that long to notice, and to release its folder


def write_whole(path: Path, content: bytes | memoryview, *, keep: Path | None = None) -> None:
    """Write a file so that `path` is complete at every moment, whatever happens.

    The content is written to a temporary file next to `path`, flushed to the disk, read back, compared, and moved into place. The
    previous file is kept at `keep`, if given. If writing fails, `path` stays unchanged, and OSError is raised.
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
                    raise OSError(f"{path}: the bytes read back differ from those written; is the disk failing?")
        if keep and path.exists():
            second_name(path, keep)
        partial.replace(path)
        flush_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk. Windows does this by itself."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError:  # not supported by some network drives; the file's content is on the disk
            pass
        finally:
            os.close(handle)


def second_name(path: Path, name: Path) -> None:
    """Give the file at `path` the second name `name`; on a file system without links, move the file there."""
    link = name.with_name(f".{name.name}.part")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        path.replace(name)
    else:
        link.replace(name)


def comparable_name(name: str) -> str:
    """Return a key that is equal for two names which name the same file on Windows or macOS."""
    composed = unicodedata.normalize("NFC", name).casefold()
    return unicodedata.normalize("NFC", composed).rstrip(". ")  # Windows drops these


def is_device_name(name: str) -> bool:
    """Return whether Windows takes a file name for that of a device, such as `con` or `aux.1`."""
    return DEVICES.fullmatch(name.split(".")[0].rstrip(" ")) is not None


def locked(path: Path, *, timeout: float = 0) -> FileLock | None:
    """Return the lock at `path`; None if another process still holds it after `timeout` seconds (-1: wait without limit).

    The lock is held until it is released or this process ends in any way. On a file system without locks it is not held, and its
    `is_locked` is False.
    """
    try:  # a lock file without a lock of the system would outlive a killed run
        lock = FileLock(path, fallback_to_soft=False)
    except TypeError:  # an older filelock has no such fallback
        lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return None
    except (OSError, RuntimeError):  # no locks; which error depends on the version of filelock
        pass
    return lock


def claim(folder: Path, *, flag: str) -> FileLock:
    """Keep other runs out of the folder until this process ends. Raises UserError if another run is writing there."""
    lock = locked(folder / ".lock")
    if lock is None:
        print(f"{folder}: another run is writing there; waiting up to {WAIT} s for it to end", flush=True)
        lock = locked(folder / ".lock", timeout=WAIT)
    if lock is None:
        raise UserError(f"{flag} {folder}: another run is writing there; expected a folder of its own for each run")
    if not lock.is_locked:
        print(f"{folder}: this file system has no locks; make sure that no other run writes there", file=sys.stderr)
    return lock


def check_writable(folder: Path, *, flag: str) -> None:
    """Create the folder and a file in it, so that a run does not fail after hours when it writes. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # a process with the same number on another machine may have removed it
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be written ({error.strerror}); choose another folder") from None
