"""What the scripts share and no model needs: refusing input, seeds, scores."""

import functools
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

import numpy as np
import torch
from torch import Tensor

RANK = os.environ.get("RANK", "0")  # of this process among those that torchrun started


class UserError(ValueError):
    """What the user must mend; the message is one line that says where, what was found and what was expected.

    `problems` are lines like it, "path: what is wrong", where many things must be mended: they are told together.
    """

    def __init__(self, message: str, problems: Iterable[str] = ()):
        super().__init__(message)
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n  ".join(" ".join(line.split()) for line in [*self.args, *self.problems])


def one_line_errors(main):
    """Lets main(argv) end on bad input with one line on stderr, and one for each of its problems if they are many, and status 1;
    on Ctrl-C with status 130, when Stopped with its own."""

    @functools.wraps(main)
    def guarded(argv: list[str] | None = None) -> None:
        try:
            main(argv)
        except (UserError, OSError) as error:
            text = str(error) if isinstance(error, UserError) else " ".join(str(error).split())
            print(f"{'' if RANK == '0' else f'process {RANK}: '}error: {text}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt as stop:
            if RANK == "0":  # all stop together, one says it
                print(str(stop) or "stopped by Ctrl-C", file=sys.stderr)
            sys.exit(getattr(stop, "status", 130))

    return guarded


def command_line(words: Iterable[str | Path], *, windows: bool = os.name == "nt") -> str:
    """The words of a command as a line to be typed: cmd.exe takes the quotes of other shells for letters of a name."""
    words = [str(word) for word in words]
    return subprocess.list2cmdline(words) if windows else shlex.join(words)


def optional_package(name: str, *, flag: str) -> ModuleType:
    """The imported package, or an UserError that says which flag wanted it and how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        message = f"{flag} needs the package {package}, which cannot be imported ({error}): pip install {package}"
        raise UserError(message) from None


def seed_for(*parts: int | str) -> int:
    """One 63-bit seed from any parts, the same on every machine: seed_for(seed, "step", epoch, step).

    Randomness drawn after torch.manual_seed(seed_for(...)) depends on these parts alone, not on what ran before, so
    that a resumed run draws what an uninterrupted one would have.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def to_model(batch: Tensor, device: torch.device) -> Tensor:
    """Pixels (uint8) -> float32 in [0, 1] on the device, scaled there so that bytes travel; other values as they are."""
    moved = batch.to(device, non_blocking=True)
    return moved.float().div_(255) if batch.dtype == torch.uint8 else moved


def video_to_bytes(video: Tensor) -> np.ndarray:
    """Float video of any shape -> uint8, rint(x * 255), clipped first: unclipped, 1.01 would wrap around to black."""
    return video.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def finite(value):
    """The same with None for every number that is not finite, which JSON does not know; looks into lists and dicts."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
