"""What the scripts share and no model needs: refusing input, seeds, scores."""
import functools
import hashlib
import os
import platform
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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


# Ctrl-C; what kill, clusters and torchrun send; what a cluster sends when told to warn. Windows lacks the last.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


@contextmanager
def held_back(numbers: Iterable[int]) -> Iterator[None]:
    """Within, these signals wait; a process that is started within holds them back until it lets them through itself.

    It cannot die of one before it has said what it does about it. Windows has no such signals.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Stopped(KeyboardInterrupt):
    """The program was asked to stop by the signal `number` and did so in order; the message says what is left to do."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.status = 130 if number == signal.SIGINT else 143


class Interrupt:
    """Within `with Interrupt() as interrupt`, a signal to stop only sets `received`, its number; a second Ctrl-C ends at once.

    The loop asks at a place where it can stop cleanly. A KeyboardInterrupt may come up anywhere, in a library's
    clean-up code for one, where it is printed and lost.
    """

    received = 0

    def __enter__(self) -> "Interrupt":
        self.before = {number: signal.signal(number, self.note) for number in STOP_SIGNALS}
        return self

    def note(self, number: int, _frame) -> None:
        self.received = self.received or number
        # Not Python's own: it waits for the call at hand, and one that waits for other processes may never return.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def optional_package(name: str, *, flag: str) -> ModuleType:
    """The imported package, or an UserError that says which flag wanted it and how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        message = f"{flag} needs the package {package}, which cannot be imported ({error}): pip install {package}"
        raise UserError(message) from None


def check_writable(folder: Path, *, flag: str) -> None:
    """Makes the folder and a file in it, so that a result has a place before hours are spent on it. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # a process of the same number on another machine may have done it
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be written ({error.strerror}); choose another folder") from None


def seed_for(*parts: int | str) -> int:
    """One 63-bit seed from any parts, the same on every machine: seed_for(seed, "step", epoch, step).

    Randomness drawn after torch.manual_seed(seed_for(...)) depends on these parts alone, not on what ran before, so
    that a resumed run draws what an uninterrupted one would have.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def versions() -> dict[str, str]:
    """What a run was made with, for config.json."""
    packages = ["torch", "numpy", "pillow", "imageio", "matplotlib"]
    return {"python": platform.python_version(), "platform": platform.platform()} | {name: version(name) for name in packages}


def to_model(batch: Tensor, device: torch.device) -> Tensor:
    """Pixels (uint8) -> float32 in [0, 1] on the device, scaled there so that bytes travel; other values as they are."""
    moved = batch.to(device, non_blocking=True)
    return moved.float().div_(255) if batch.dtype == torch.uint8 else moved


def video_to_bytes(video: Tensor) -> np.ndarray:
    """Float video of any shape -> uint8, rint(x * 255), clipped first: unclipped, 1.01 would wrap around to black."""
    return video.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def psnr(predicted: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio per frame, in dB: (..., C, H, W) in [0, 1] -> (...).

    Equal frames give inf. Raises ValueError if the shapes differ (nothing is broadcast).
    """
    if predicted.shape != target.shape:
        raise ValueError(f"psnr: shapes differ, {tuple(predicted.shape)} and {tuple(target.shape)}")
    return -10 * torch.log10((predicted.float() - target.float()).square().mean(dim=(-3, -2, -1)))


def ssim(predicted: Tensor, target: Tensor) -> Tensor:
    """Structural similarity per frame: (..., C, H, W) in [0, 1] -> (...), 1 for equal frames.

    Gaussian window of 11 pixels and sigma 1.5, only where it fits, K1 = 0.01, K2 = 0.03, mean over pixels and channels
    (Wang et al. 2004). Raises ValueError if the shapes differ or a side is below 11 pixels.
    """
    if predicted.shape != target.shape or min(predicted.shape[-2:]) < 11:
        shapes = f"{tuple(predicted.shape)} and {tuple(target.shape)}"
        raise ValueError(f"ssim: needs equal shapes of at least 11 pixels a side, got {shapes}")
    offsets = torch.arange(11, device=predicted.device) - 5.0
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = window / window.sum()

    def blur(images: Tensor) -> Tensor:
        return functional.conv2d(functional.conv2d(images, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))

    x, y = (video.float().reshape(-1, 1, *video.shape[-2:]) for video in (predicted, target))
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_x + variance_y + 0.03**2)
    return (luminance * structure).reshape(*predicted.shape[:-3], -1).mean(-1)
