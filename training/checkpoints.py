"""Checkpoints: one file of tensors and plain values that is all a run needs to go on and all a test needs to run."""

import io
import pickle
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from modules import build_model
from modules.base import VideoModel
from runtime.files import write_whole
from utils import UserError

# 2: PoseCVAE standardises pose images and sees a window of them; SVG is as in 1. 3: where a run stands within an epoch.
FORMAT = 3
KEYS = {
    "model_config": dict, "model": dict, "ema": dict, "optimiser": dict, "scaler": dict, "epoch": int, "step": int,
    "best_psnr": float, "flags": dict, "versions": dict, "progress": dict, "data": list, "history": list,
}  # fmt: skip


class NewerFormat(UserError):
    """The checkpoint is whole, but of a version to come."""


def serialise(state: dict) -> memoryview:
    """The bytes of a checkpoint, which have been read back once: a value that cannot be would not be missed until needed."""
    memory = io.BytesIO()  # torch's own writer to disk reports a full one as a RuntimeError about an archive
    torch.save({"format": FORMAT} | state, memory)
    parse(memory, Path("the new checkpoint"))
    return memory.getbuffer()


def write_checkpoint(path: Path, content: memoryview) -> None:
    """Writes what serialise() gave; `path` always holds a whole checkpoint, the earlier or the new one. The last.ckpt that stood
    there before stays as previous.ckpt. Raises OSError."""
    write_whole(path, content, keep=path.with_name("previous.ckpt") if path.name == "last.ckpt" else None)


def find_checkpoint(path: Path, *, prefer: str) -> Path:
    """`path` itself, or in a run folder its best or newest checkpoint, `prefer` ("best" or "last") first. Raises UserError."""
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"--ckpt_path {path}: no such file; expected a checkpoint or a run folder")
    for name in ["best", "last", "previous"] if prefer == "best" else ["last", "previous", "best"]:
        if (path / f"{name}.ckpt").is_file():
            return path / f"{name}.ckpt"
    raise UserError(f"--ckpt_path {path}: the folder holds no best.ckpt and no last.ckpt")


def load_newest(folder: Path) -> tuple[Path, dict, str]:
    """last.ckpt of a run folder, or previous.ckpt where that cannot be read; its state, and what was wrong ("": nothing).

    Raises UserError if neither can be read.
    """
    reasons = []
    for path in (folder / "last.ckpt", folder / "previous.ckpt"):
        try:
            return path, load_checkpoint(path), "; ".join(reasons)
        except FileNotFoundError:
            reasons.append(f"{path}: no such file")
        except NewerFormat:
            raise
        except UserError as error:
            reasons.append(str(error))
    raise UserError(f"{'; '.join(reasons)}; expected a whole one, or another with --ckpt_path")


def load_checkpoint(path: Path) -> dict:
    """The state that serialise() was given, tensors on the CPU. Only tensors and plain values are read; code in the file
    is never run. Raises UserError for anything that is not a whole checkpoint of this project."""
    with open(path, "rb") as file:
        return parse(file, path)


def parse(file: io.BufferedIOBase, path: Path) -> dict:
    """load_checkpoint() of an open file; `path` is for messages."""
    if problem := damage(file):
        raise UserError(f"{path}: is not a checkpoint that can be read ({problem})")
    file.seek(0)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        reason = "it holds more than tensors and plain values, which could run code"
        raise UserError(f"{path}: is not a checkpoint that can be read ({reason})") from None
    except Exception:  # torch raises whatever the bytes of a foreign file lead its reader to
        raise UserError(f"{path}: is not a checkpoint that can be read (an archive, but none of torch.save)") from None
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        weights = isinstance(state, dict) and any(isinstance(value, Tensor) for value in state.values())
        kind = "bare weights" if weights else "something else"
        raise UserError(f"{path}: is not a checkpoint of this project but {kind}; expected a file written by Trainer.py")
    return upgraded(state, path)


def damage(file: io.BufferedIOBase) -> str | None:
    """What is wrong with a file that torch.save should have written, a zip archive; None if nothing is.

    torch reads an archive without looking at its check sums: a weight with a flipped bit would go unnoticed.
    """
    file.seek(0)
    begin = file.read(4)
    if not begin:
        return "the file is empty"
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
        return broken and f"the check sum of {broken} is wrong: it was damaged after it was written"
    except Exception:  # a damaged directory leads zipfile to more than BadZipFile
        return "the file is cut short or damaged" if begin == b"PK\x03\x04" else "it is no archive of torch.save"


def upgraded(state: dict, path: Path) -> dict:
    """The state in today's format. Raises UserError for a format that this version cannot read, or an incomplete state."""
    found = state["format"]
    if found > FORMAT:
        raise NewerFormat(f"{path}: has checkpoint format {found}; this version reads up to {FORMAT}: take a newer one")
    config = state.get("model_config")
    if found < 1 or (found == 1 and not (isinstance(config, dict) and config.get("family") == "svg")):
        raise UserError(f"{path}: has checkpoint format {found}, of a model that has changed; expected {FORMAT}: train again")
    if found < FORMAT:  # was only ever written at the end of an epoch
        state |= {"progress": {}, "data": [], "history": []}
    for name, kind in KEYS.items():
        if not isinstance(state.get(name), kind):
            found = type(state[name]).__name__ if name in state else "nothing"
            raise UserError(f"{path}: is not a whole checkpoint: {name} is {found}; expected {kind.__name__}")
    return state


def load_weights(model: nn.Module, weights: dict, path: Path) -> None:
    """load_state_dict that says in one line what does not fit. Raises UserError."""
    try:
        model.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError) as error:  # the others for names that are no text
        first = str(error).strip().splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{path}: holds the weights of another model ({first[:160]})") from None


def model_from_checkpoint(state: dict, path: Path) -> VideoModel:
    """The model that a checkpoint describes, with its averaged (EMA) weights, in evaluation mode. Raises UserError."""
    try:
        model = build_model(state["model_config"])
    except Exception as error:  # whatever sizes that are none lead torch to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: holds no model that can be built ({reason[:160]})") from None
    load_weights(model, state["ema"], path)
    return model.eval()
