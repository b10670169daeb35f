"""Errors that a user can fix, seeds, and conversions of values; used by all programs."""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import, and errors such as a wrong path must not wait for it
    import numpy as np
    import torch
    from torch import Tensor

RANK = os.environ.get("RANK", "0")  # the number of this process among those that torchrun started


class UserError(ValueError):
    """An error that the user can fix; the message is one line: where, what was expected, what was found, and the way out.

    If several things must be fixed, `problems` has a further line "path: error" for each.
    """

    def __init__(self, message: str, problems: Iterable[str] = ()):
        super().__init__(message)
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n  ".join(" ".join(line.split()) for line in [*self.args, *self.problems])


def shortened(text: str, most: int = 1000) -> str:
    """Return a text on one line, with the middle left out if it has more than `most` characters.

    An error begins with the place and ends with the way out.
    """
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    end = most // 3
    return f"{line[: most - end - 5]} ... {line[-end:]}"


def command_line(words: Iterable[str | Path], *, windows: bool = os.name == "nt") -> str:
    """Return a command as a line to type, quoted for cmd.exe on Windows and for a POSIX shell elsewhere."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if windows else shlex.join(texts)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one: 1 epoch, 2 epochs, 2 batches."""
    plural = f"{noun}es" if noun.endswith("tch") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def pronoun(count: int) -> str:
    """Return the word for one thing or for several that were counted: it, them."""
    return "it" if count == 1 else "them"


def print_notice(text: str) -> None:
    """Print a line on stderr about something unusual, once if there are several processes, all of which find the same."""
    if RANK == "0":
        print(text, file=sys.stderr)


def optional_package(name: str, *, flag: str) -> ModuleType:
    """Import and return a package that only `flag` needs. Raises UserError with the command that installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        message = f"{flag} needs the package {package}, which cannot be imported ({error}): pip install {package}"
        raise UserError(message) from None


def seed_for(*parts: int | str) -> int:
    """Return a 63-bit seed computed from the parts, the same on every machine: seed_for(seed, "step", epoch, step).

    Random numbers drawn after torch.manual_seed(seed_for(...)) depend on these parts alone, not on earlier draws. So a resumed
    run draws the same numbers as an uninterrupted one.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def to_model(batch: Tensor, device: torch.device) -> Tensor:
    """Return the batch on the device, with pixels (uint8) as float32 in [0, 1]. They are scaled there, after the transfer."""
    import torch

    moved = batch.to(device, non_blocking=True)
    return moved.float().div_(255) if batch.dtype == torch.uint8 else moved


def video_to_bytes(video: Tensor) -> np.ndarray:
    """Return a float video of any shape as uint8: rint(x * 255), clipped first because 1.01 would wrap around to black."""
    import torch

    return video.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def finite(value):
    """Return the value with None in place of every non-finite number, also in lists and dicts: JSON has no such numbers."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
