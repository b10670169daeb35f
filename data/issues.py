"""Problems with the frames of a split: collected first, then raised together or skipped (--skip_bad)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from utils import UserError, counted, pronoun

WITHOUT_SKIPPING = "to list the reasons, run without --skip_bad"


@dataclass
class FrameIssues:
    """Problems with single frames of a folder. An image without a usable frame number counts as one more frame."""

    by_number: dict[int, list[str]] = field(default_factory=dict)
    by_name: dict[str, list[str]] = field(default_factory=dict)  # of images without a usable frame number

    def __len__(self) -> int:
        """Return the number of frames concerned."""
        return len(self.by_number) + len(self.by_name)

    def add(self, number: int, message: str) -> None:
        """Add a problem of a frame."""
        self.by_number.setdefault(number, []).append(message)

    def add_file(self, name: str, message: str) -> None:
        """Add a problem of an image without a usable frame number."""
        self.by_name.setdefault(name, []).append(message)

    def add_all(self, other: "FrameIssues") -> None:
        """Add the problems of another folder with the same frame numbers."""
        for number, messages in other.by_number.items():
            self.by_number.setdefault(number, []).extend(messages)
        for name, messages in other.by_name.items():
            self.by_name.setdefault(name, []).extend(messages)

    def messages(self) -> list[str]:
        """Return all problems."""
        return [message for messages in [*self.by_name.values(), *self.by_number.values()] for message in messages]


class SkippedFrames(NamedTuple):
    """The frames that --skip_bad removes from a split, and the consequences."""

    frames: int  # that cannot be used
    found: int  # all frames, the skipped ones included
    segments: list[int]  # lengths of the contiguous segments that remain
    intact_segments: list[int]  # their lengths if there were no problem

    def summary(self, clip_length: int | None) -> str:
        """Return the counts as text, with the number of lost positions for clips of `clip_length` frames."""
        text = f"skipped {self.frames} of {counted(self.found, 'frame')} that cannot be used"
        if clip_length is None:
            return f"{text}; {WITHOUT_SKIPPING}"
        remaining, intact = (
            sum(max(0, length - clip_length + 1) for length in lengths) for lengths in (self.segments, self.intact_segments)
        )
        lost = f"with {pronoun(self.frames)} {intact - remaining} of {intact} possible starts of a clip"
        return f"{text}, and {lost}; {WITHOUT_SKIPPING}"


class Issues(NamedTuple):
    """All problems of a split."""

    folder: Path
    messages: list[str]
    skipped: SkippedFrames  # the loss if the frames concerned are skipped

    def raise_or_skip(self, skip_bad: bool | None) -> SkippedFrames | None:
        """Return the frames that are skipped; None if there are no problems.

        Raises UserError with all problems unless `skip_bad`, and with `skip_bad` if no frame remains. `skip_bad` is None where
        frames cannot be skipped; the message then does not suggest it.
        """
        if not self.messages:
            return None
        count = f"{self.skipped.frames} of {counted(self.skipped.found, 'frame')} cannot be used"
        if not skip_bad:
            them = pronoun(self.skipped.frames)
            way_out = f"fix {them}" if skip_bad is None else f"fix {them}, or skip {them} with --skip_bad"
            raise UserError(f"{self.folder}: {count}; {way_out}:", self.messages)
        if not self.skipped.segments:
            raise UserError(f"{self.folder}: {count} and --skip_bad leaves none; fix at least one:", self.messages)
        return self.skipped
