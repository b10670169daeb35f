"""Checkpoints: one file of tensors and plain values with all that a run needs to resume, and that a test needs."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor, nn

from modules import build_model
from modules.base import VideoModel
from runtime.files import write_whole
from utils import UserError

# 2: PoseCVAE standardizes pose images and sees a window of them; SVG is as in 1. 3: the position of a run within an epoch.
FORMAT = 3
KEYS = {
    "model_config": dict, "model": dict, "ema": dict, "optimiser": dict, "scaler": dict, "epoch": int, "step": int,
    "best_psnr": float, "flags": dict, "versions": dict, "progress": dict, "data": list, "history": list, "curves": list,
}  # fmt: skip


class NewerFormat(UserError):
    """The checkpoint is intact, but a later version of this program wrote it."""


class NewestCheckpoint(NamedTuple):
    """The newest readable checkpoint of a run."""

    path: Path
    state: dict
    problem: str  # why a newer one cannot be read, or ""


def serialize(state: dict) -> memoryview:
    """Return the bytes of a checkpoint. Raises UserError for a value that could not be read back when it is needed."""
    memory = io.BytesIO()  # torch's own writer reports a full disk as a RuntimeError about an archive
    torch.save({"format": FORMAT} | state, memory)
    deserialize(memory, Path("the new checkpoint"))
    return memory.getbuffer()


def write_checkpoint(path: Path, content: memoryview) -> None:
    """Write the bytes of serialize(). `path` is a whole checkpoint at any time, the earlier or the new one.

    An earlier last.ckpt is kept as previous.ckpt. Raises OSError.
    """
    write_whole(path, content, keep=path.with_name("previous.ckpt") if path.name == "last.ckpt" else None)


def find_checkpoint(path: Path, *, prefer: str) -> Path:
    """Return the path of a checkpoint: `path` or, if that is a run folder, its "best" or its "last" one, `prefer` first.

    Raises UserError if there is none.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"--ckpt_path {path}: no such file; expected a checkpoint or a run folder")
    for name in ["best", "last", "previous"] if prefer == "best" else ["last", "previous", "best"]:
        if (path / f"{name}.ckpt").is_file():
            return path / f"{name}.ckpt"
    raise UserError(f"--ckpt_path {path}: expected a run folder, got a folder without best.ckpt and last.ckpt")


def load_newest(folder: Path) -> NewestCheckpoint:
    """Load last.ckpt of a run folder, or previous.ckpt if that cannot be read. Raises UserError if neither can be read."""
    problems: list[str] = []
    for path in (folder / "last.ckpt", folder / "previous.ckpt"):
        try:
            return NewestCheckpoint(path, load_checkpoint(path), "; ".join(problems))
        except FileNotFoundError:
            problems.append(f"{path}: no such file")
        except NewerFormat:
            raise
        except UserError as error:
            problems.append(str(error))
    raise UserError(f"{'; '.join(problems)}; expected an intact checkpoint, choose another one with --ckpt_path")


def load_checkpoint(path: Path) -> dict:
    """Return the state that serialize() stored, tensors on the CPU.

    Only tensors and plain values are read; code in the file is never run. Raises UserError for anything that is not an intact
    checkpoint of this project.
    """
    with open(path, "rb") as file:
        return deserialize(file, path)


def deserialize(file: IO[bytes], path: Path) -> dict:
    """Return the state in an open checkpoint; `path` is for messages. Raises UserError, see load_checkpoint()."""
    if problem := find_corruption(file):
        raise UserError(f"{path}: cannot be read as a checkpoint ({problem})")
    file.seek(0)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        reason = "it contains more than tensors and plain values, which could run code"
        raise UserError(f"{path}: cannot be read as a checkpoint ({reason})") from None
    except Exception:  # torch raises errors of any kind for the bytes of a foreign file
        raise UserError(f"{path}: cannot be read as a checkpoint (an archive, but not one of torch.save)") from None
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        weights = isinstance(state, dict) and any(isinstance(value, Tensor) for value in state.values())
        kind = "weights alone" if weights else "another object"
        raise UserError(f"{path}: expected a checkpoint written by Trainer.py, got {kind}")
    return upgrade_format(state, path)


def find_corruption(file: IO[bytes]) -> str | None:
    """Return what is wrong with a file that torch.save should have written, which is a zip archive; None if it is intact.

    torch does not verify an archive's checksums: a weight with a flipped bit would go unnoticed.
    """
    file.seek(0)
    start = file.read(4)
    if not start:
        return "the file is empty"
    try:
        with zipfile.ZipFile(file) as archive:
            corrupted = archive.testzip()
    except Exception:  # a damaged directory makes zipfile raise more than BadZipFile
        return "the file is cut short or damaged" if start == b"PK\x03\x04" else "it is not an archive of torch.save"
    return f"the checksum of {corrupted} is wrong: it was damaged after it was written" if corrupted else None


def upgrade_format(state: dict, path: Path) -> dict:
    """Return the state in today's format. Raises UserError for a format that cannot be read, or an incomplete state."""
    version = state["format"]
    if version > FORMAT:
        raise NewerFormat(
            f"{path}: expected a checkpoint format up to {FORMAT}, got {version}; use a newer version of Trainer.py"
        )
    config = state.get("model_config")
    if version < 1 or (version == 1 and not (isinstance(config, dict) and config.get("family") == "svg")):
        raise UserError(f"{path}: expected checkpoint format {FORMAT}, got {version}, whose model has changed since; train again")
    if version < FORMAT:  # was only ever written at the end of an epoch
        state |= {"progress": {}, "data": [], "history": []}
    state.setdefault("curves", [])  # earlier versions of format 3 did not store them
    for name, kind in KEYS.items():
        if not isinstance(state.get(name), kind):
            got = type(state[name]).__name__ if name in state else "nothing"
            raise UserError(f"{path}: is not a complete checkpoint: expected {name} to be {kind.__name__}, got {got}")
    return state


def load_weights(model: nn.Module, weights: dict, path: Path) -> None:
    """Load a state dict. Raises UserError, with the first difference, for the weights of another model."""
    try:
        model.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError) as error:  # the last two for names that are not text
        first = str(error).strip().splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{path}: contains the weights of another model ({first[:160]})") from None


def model_from_checkpoint(state: dict, path: Path) -> VideoModel:
    """Return the model that a checkpoint describes, with its EMA weights, in evaluation mode. Raises UserError."""
    try:
        model = build_model(state["model_config"])
    except Exception as error:  # impossible sizes make torch raise errors of many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: contains no model that can be built ({reason[:160]})") from None
    load_weights(model, state["ema"], path)
    return model.eval()
