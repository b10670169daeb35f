"""Copies of a run for those who look on: TensorBoard and Weights & Biases get its numbers, curves and videos (T frames)."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from data.clips import Sequence
from utils import UserError, optional_package
from visualization.plots import draw_psnr_per_frame
from visualization.videos import draw_comparison, save_gif, save_videos

MOST_FRAMES = 100  # of a logged video, its last ones, where a roll-out that drifts shows it: 2 MB and 4 seconds of a CPU
GROUPS = dict.fromkeys(("beta", "tfr", "forced", "lr"), "schedule") | dict.fromkeys(("seconds", "frames_per_second"), "speed")


class Preview(NamedTuple):
    """The roll-out of one validation sequence."""

    video: Tensor  # (T, 3, H, W) in [0, 1]
    sequence: Sequence
    fps: float

    def save(self, path: Path, kinds: tuple[str, ...]) -> None:
        """Truth | pose | prediction as a file of each of `kinds`, with that ending behind `path`."""
        save_videos(path, draw_comparison([self.video], self.sequence), fps=self.fps, kinds=kinds)

    def gif(self) -> bytes:
        """The same as a GIF of the last frames."""
        parts = {name: getattr(self.sequence, name) for name in ("ground_truth", "conditions")}
        ends = {name: part[-MOST_FRAMES:] for name, part in parts.items() if part is not None}
        video = draw_comparison([self.video[-MOST_FRAMES:]], self.sequence._replace(**ends))
        return written(lambda file: save_gif(file, video, fps=self.fps))


def written(write: Callable[[io.BytesIO], None]) -> bytes:
    """What write(file) writes."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def psnr_picture(row: dict, earlier: list[dict]) -> bytes:
    """PSNR over the predicted frames of an epoch as a PNG, beside the best one of those before; rows of metrics.jsonl."""
    rows = {f"epoch {row['epoch']}": row}
    scored = [other for other in earlier if other.get("val_psnr") is not None and other.get("val_psnr_per_frame")]
    if scored:
        best = max(scored, key=lambda other: other["val_psnr"])
        rows[f"best before, epoch {best['epoch']}"] = best
    curves = {name: np.array(values["val_psnr_per_frame"], float) for name, values in rows.items()}
    title = "Validation roll-out, mean of the sequences"
    return written(lambda file: draw_psnr_per_frame(curves, file, title=title, size=(6, 3.4)))  # small, for a card among others


def named_for_logs(row: dict) -> dict[str, float]:
    """The single numbers of a row by the names that they have in the logs, which show a group/ together."""
    named = {}
    for name, value in row.items():
        if isinstance(value, (int, float)) and name != "epoch":  # which is their step
            group = "validation" if name.startswith("val_") else GROUPS.get(name, "training")
            named[f"{group}/{name.removeprefix('val_')}"] = value
    return named


class TensorBoard:
    """Event files in tensorboard/ of a run folder."""

    name = "tensorboard"

    def __init__(self):
        # Asked for by its own name first: torch's wrapper reports a missing tensorboard less clearly.
        optional_package("tensorboard", flag="--use_tensorboard")
        self.package = optional_package("torch.utils.tensorboard", flag="--use_tensorboard")
        self.summary = optional_package("tensorboard.compat.proto.summary_pb2", flag="--use_tensorboard").Summary
        self.board = None

    def log_in(self, folder: Path, flags: dict, run: str | None) -> None:
        """Nothing to do: who a run is, its folder says."""

    def begin(self, folder: Path, first_epoch: int | None) -> None:
        """Opens a file; of a run that goes on, what earlier ones say of `first_epoch` and later is no longer shown."""
        self.board = self.package.SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch)

    def write(self, epoch: int, scalars: dict[str, float], pictures: dict[str, bytes]) -> None:
        """Numbers, and PNGs and GIFs by name. TensorBoard hands a GIF to the browser as it is, which plays it; add_video()
        would need another package to make one."""
        for name, value in scalars.items():
            self.board.add_scalar(name, value, epoch)
        for name, content in pictures.items():
            width, height = Image.open(io.BytesIO(content)).size
            image = self.summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
            self.board.file_writer.add_summary(self.summary(value=[self.summary.Value(tag=name, image=image)]), epoch)
        self.board.flush()

    def close(self) -> None:
        """Ends the file."""
        if self.board:
            self.board.close()


class WeightsAndBiases:
    """A run of the project pose-video; a training that goes on is one run."""

    name = "wandb"

    def __init__(self):
        self.package = optional_package("wandb", flag="--use_wandb")

    def log_in(self, folder: Path, flags: dict, run: str | None) -> str | None:
        """Begins a run, or goes on with `run`; returns its id. Raises UserError, for want of a login for example."""
        again = {"id": run, "resume": "allow"} if run else {}
        try:
            self.package.init(project="pose-video", dir=str(folder), config=flags, **again)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(f"--use_wandb: {reason}; run wandb login first or set WANDB_MODE=offline") from None
        return getattr(self.package.run, "id", None)

    def begin(self, folder: Path, first_epoch: int | None) -> None:
        """Nothing to do; what a run has of an epoch, it keeps."""

    def write(self, epoch: int, scalars: dict[str, float], pictures: dict[str, bytes]) -> None:
        """Numbers, and PNGs and GIFs by name, as one step."""
        media = {}
        for name, content in pictures.items():
            moves = content.startswith(b"GIF")
            file = io.BytesIO(content)
            media[name] = self.package.Video(file, format="gif") if moves else self.package.Image(Image.open(file))
        self.package.log(scalars | media, step=epoch)

    def close(self) -> None:
        """Ends the run."""
        if self.package.run:
            self.package.finish()
