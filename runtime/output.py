"""Standard output and errors that cannot be written: the work continues, and the lines that are missing are kept.

A full disk, a closed file or a reader that has gone away must not end a training. Within capture_losses(), nothing that is
printed raises an error. Characters that the encoding of a stream lacks are written as escapes, such as \\u821e. Lines that cannot
be written are kept in a log, see keep_lost_lines_in(), and counted, so that the program can end with the status LOST_OUTPUT.
Progress bars do not count.
"""

import contextlib
import errno
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from utils import counted

LOST_OUTPUT = 74  # exit status of a program that did its work but lost output; EX_IOERR of sysexits.h
LOST_LINES = "unprinted.log"  # name of the log, in the folder of the results
MOST_KEPT = 1000  # lines in memory while there is no log


class Losses:
    """The lines that could not be written to standard output and errors."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()  # lines by the name of their stream
        self.reasons: dict[str, str] = {}  # the latest reason by the name of the stream
        self.unlogged: list[str] = []
        self.log: Path | None = None
        self.process = os.getpid()

    def add(self, stream: str, line: str, reason: str) -> None:
        """Count a line, and write it to the log."""
        if os.getpid() != self.process:  # a loader process: what it prints is printed by its parent too
            return
        self.counts[stream] += 1
        if self.reasons.get(stream) != reason:
            self.reasons[stream] = reason
            self.unlogged.append(f"[{stream} cannot be written: {reason}; these lines are missing there]")
        self.unlogged.append(line)
        self.write_log()

    def write_log(self) -> None:
        """Write the lines to the log. Those that cannot be written there either are kept for the next time."""
        if self.log is not None:
            with contextlib.suppress(OSError):
                with open(self.log, "a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write("".join(f"{line}\n" for line in self.unlogged))
                self.unlogged.clear()  # only now, because a full disk may be noticed when the file is closed
        del self.unlogged[MOST_KEPT:]

    def summary(self) -> str | None:
        """Return a line about standard output; None if nothing is missing, or if its reader has gone away.

        A reader such as `head` goes away when it has seen enough.
        """
        reason = self.reasons.get("stdout")
        if reason is None or reason == os.strerror(errno.EPIPE):
            return None
        place = f"; see {self.log}" if self.log is not None and not self.unlogged else ""
        return f"stdout: {counted(self.counts['stdout'], 'line')} could not be written ({reason}){place}"


class SafeStream:
    """A stream in the place of sys.stdout or sys.stderr, or of None if that is closed; its methods do not raise OSError.

    Each line is flushed, so that an error belongs to the line that is written.
    """

    def __init__(self, stream: TextIO | None, name: str, losses: Losses):
        self.stream, self.name, self.losses = stream, name, losses
        self.line = ""  # the unfinished line
        self.reason = ""  # why a part of it could not be written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        """Return whether the stream is a terminal, in which progress bars are shown."""
        return self.stream is not None and not self.stream.closed and self.stream.isatty()

    def write(self, text: str) -> int:
        """Write a text, or keep it as lost."""
        is_progress_bar = "\r" in text and "\n" not in text
        self.line = "" if is_progress_bar else self.line + text
        self.attempt(text)
        if "\n" in self.line:
            self.flush()
            self.end_line()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        self.write("".join(lines))

    def attempt(self, text: str) -> None:
        """Write a text to the stream."""
        try:
            if self.stream is None:
                raise OSError("it is closed")
            self.stream.write(encodable(text, self.stream))
        except (OSError, ValueError) as error:  # ValueError: a file that Python has closed
            self.reason = reason_of(error)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            if self.stream is not None:
                self.stream.flush()
        except (OSError, ValueError) as error:
            self.reason = reason_of(error)

    def end_line(self) -> None:
        """Record the line as lost if a part of it could not be written, and begin a new one."""
        if self.reason and self.line.strip():  # the end of a progress bar is an empty line
            for line in self.line.replace("\r", "").splitlines():
                self.losses.add(self.name, line, self.reason)
        self.line = self.reason = ""

    def finish(self) -> None:
        """End the last line. What the stream still holds but cannot write is dropped: Python would fail on it at the exit."""
        self.flush()
        self.end_line()
        if self.losses.counts[self.name] and self.stream in (sys.__stdout__, sys.__stderr__) and self.stream is not None:
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())
                self.stream.flush()


def encodable(text: str, stream: TextIO) -> str:
    """Return a text with an escape for each character that the encoding of the stream lacks."""
    encoding = getattr(stream, "encoding", None)
    if encoding:  # tried first: a failed write may leave a stream with shift sequences in the wrong state
        try:
            text.encode(encoding, stream.errors or "strict")
        except UnicodeError:
            return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def reason_of(error: OSError | ValueError) -> str:
    """Return the reason of an error as a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


current: Losses | None = None  # of the program that is running


@contextlib.contextmanager
def capture_losses() -> Iterator[Losses]:
    """A context in which standard output and errors are SafeStreams; yield the lines that they lose.

    A program that calls another one gets the losses of both; the other one gets none.
    """
    global current
    outer, losses = current, current or Losses()
    previous = sys.stdout, sys.stderr
    streams = [
        stream if isinstance(stream, SafeStream) else SafeStream(stream, name, losses)
        for stream, name in zip(previous, ("stdout", "stderr"))
    ]
    current = losses
    sys.stdout, sys.stderr = streams
    try:
        yield losses if outer is None else Losses()
    finally:
        if outer is None:
            finish(losses, *streams)
        sys.stdout, sys.stderr = previous
        current = outer


def finish(losses: Losses, stdout: SafeStream, stderr: SafeStream) -> None:
    """Finish both streams, with a line about the lost output."""
    stdout.finish()
    if (summary := losses.summary()) and os.getpid() == losses.process:
        stderr.attempt(f"{summary}\n")
    stderr.finish()


def keep_lost_lines_in(folder: Path) -> None:
    """Write the lines that this program cannot print, now and later, to LOST_LINES in the folder. Otherwise there is no file."""
    if current is not None:
        current.log = folder / LOST_LINES
        if current.unlogged:
            current.write_log()
