"""Checkpoints: one file of tensors and plain values that is all a run needs to go on and all a test needs to run."""
from pathlib import Path

import torch
from torch import nn

from modules import VideoModel, build_model
from utils import UserError

FORMAT = 2  # 2: PoseCVAE standardises pose images and sees a window of them; SVG is as in 1
KEYS = {"format", "model_config", "model", "ema", "optimiser", "scaler", "epoch", "step", "best_psnr", "flags", "versions"}


def save_checkpoint(path: Path, state: dict) -> None:
    """Writes the state beside `path` and moves it into place, so that `path` is always a whole checkpoint."""
    partial = path.with_name(f".{path.name}.part")
    try:
        torch.save({"format": FORMAT} | state, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def find_checkpoint(path: Path, *, prefer: str) -> Path:
    """`path` itself, or in a run folder its best.ckpt or last.ckpt, `prefer` ("best" or "last") first. Raises UserError."""
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"--ckpt_path {path}: no such file; expected a checkpoint or a run folder")
    for name in dict.fromkeys([prefer, "best", "last"]):
        if (path / f"{name}.ckpt").is_file():
            return path / f"{name}.ckpt"
    raise UserError(f"--ckpt_path {path}: the folder holds no best.ckpt and no last.ckpt")


def load_checkpoint(path: Path) -> dict:
    """The state that save_checkpoint wrote, tensors on the CPU. Only tensors and plain values are read; code in the file
    is never run. Raises UserError for anything that is not a checkpoint of this project."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises whatever the bytes of a foreign file lead its reader to
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: is not a checkpoint that can be read ({reason[:100]})") from None
    if not isinstance(state, dict) or "format" not in state:
        raise UserError(f"{path}: is not a checkpoint of this project; expected a file written by Trainer.py")
    known = state["format"] == FORMAT or (state["format"] == 1 and state.get("model_config", {}).get("family") == "svg")
    if not known or KEYS - state.keys():
        raise UserError(f"{path}: has checkpoint format {state['format']}; this version reads format {FORMAT}: train again")
    return state


def load_weights(model: nn.Module, weights: dict, path: Path) -> None:
    """load_state_dict that says in one line what does not fit. Raises UserError."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{path}: holds the weights of another model ({first[:160]})") from None


def model_from_checkpoint(state: dict, path: Path) -> VideoModel:
    """The model that a checkpoint describes, with its averaged (EMA) weights, in evaluation mode. Raises UserError."""
    try:
        model = build_model(state["model_config"])
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {error}") from None
    load_weights(model, state["ema"], path)
    return model.eval()
