"""Copies of a run's numbers, plots and videos (T frames) in TensorBoard and Weights & Biases."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from data.clips import Sequence
from training.metrics_log import Row
from utils import UserError, optional_package
from visualization.plots import draw_psnr_per_frame
from visualization.videos import draw_comparison, save_gif, save_videos

PROJECT = "nextframe"  # in Weights & Biases
MOST_FRAMES = 100  # of a logged video: the last ones, which show best whether a rollout drifts; 2 MB and 4 s on a CPU
GROUPS = dict.fromkeys(("beta", "tfr", "forced", "lr"), "schedule") | dict.fromkeys(("seconds", "frames_per_second"), "speed")


class Preview(NamedTuple):
    """The rollout of one validation sequence."""

    video: Tensor  # (T, 3, H, W) in [0, 1]
    sequence: Sequence
    fps: float

    def save(self, path: Path, kinds: tuple[str, ...]) -> None:
        """Write ground truth | pose | prediction as one file for each of `kinds`, which is appended to `path` as its suffix."""
        save_videos(path, draw_comparison([self.video], self.sequence), fps=self.fps, kinds=kinds)

    def gif(self) -> bytes:
        """Return the last MOST_FRAMES frames of the same comparison as a GIF."""
        parts = {name: getattr(self.sequence, name) for name in ("ground_truth", "conditions")}
        last = {name: part[-MOST_FRAMES:] for name, part in parts.items() if part is not None}
        video = draw_comparison([self.video[-MOST_FRAMES:]], self.sequence._replace(**last))
        return written_bytes(lambda file: save_gif(file, video, fps=self.fps))


def written_bytes(write: Callable[[io.BytesIO], None]) -> bytes:
    """Return what write(file) writes into its file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def psnr_plot(row: Row, earlier: list[Row]) -> bytes:
    """Return a PNG of an epoch's PSNR per predicted frame, and of the best earlier epoch's. Arguments: rows of metrics.jsonl."""
    rows = {f"epoch {row['epoch'] + 1}": row}
    scored = [other for other in earlier if other.get("val_psnr") is not None and other.get("val_psnr_per_frame")]
    if scored:
        best = max(scored, key=lambda other: other["val_psnr"])
        rows[f"best before, epoch {best['epoch'] + 1}"] = best
    curves = {name: np.array(values["val_psnr_per_frame"], float) for name, values in rows.items()}
    title = "Validation rollout, mean of the sequences"
    return written_bytes(lambda file: draw_psnr_per_frame(curves, file, title=title, size=(6, 3.4)))  # fits a log's card


def named_for_logs(row: Row) -> dict[str, float]:
    """Return the single numbers of a row by the names that they have in the logs, which show the names of a group/ together."""
    named = {}
    for name, value in row.items():
        if isinstance(value, (int, float)) and name != "epoch":  # the epoch is the step of a log
            group = "validation" if name.startswith("val_") else GROUPS.get(name, "training")
            named[f"{group}/{name.removeprefix('val_')}"] = value
    return named


class TensorBoard:
    """Event files in tensorboard/ of a run folder."""

    name = "tensorboard"

    def __init__(self) -> None:
        # Asked for by its own name first: torch's wrapper reports a missing tensorboard less clearly.
        optional_package("tensorboard", flag="--use_tensorboard")
        self.package = optional_package("torch.utils.tensorboard", flag="--use_tensorboard")
        self.summary = optional_package("tensorboard.compat.proto.summary_pb2", flag="--use_tensorboard").Summary
        self.board: Any = None

    def log_in(self, folder: Path, flags: dict, run: str | None) -> str | None:
        """Do nothing: the folder identifies the run."""
        return None

    def begin(self, folder: Path, first_epoch: int | None) -> None:
        """Open an event file. Entries of `first_epoch` and later in earlier files are no longer shown."""
        self.board = self.package.SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch)

    def write(self, epoch: int, scalars: dict[str, float], images: dict[str, bytes]) -> None:
        """Log the numbers of an epoch, and PNGs and GIFs by name.

        A GIF is logged as an image: TensorBoard passes its bytes on to the browser, which plays it. add_video() would need
        another package.
        """
        for name, value in scalars.items():
            self.board.add_scalar(name, value, epoch)
        for name, content in images.items():
            width, height = Image.open(io.BytesIO(content)).size
            image = self.summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
            self.board.file_writer.add_summary(self.summary(value=[self.summary.Value(tag=name, image=image)]), epoch)
        self.board.flush()

    def close(self) -> None:
        """Close the event file."""
        if self.board:
            self.board.close()


class WeightsAndBiases:
    """A run of PROJECT in Weights & Biases. A training that is stopped and resumed is one run there."""

    name = "wandb"

    def __init__(self) -> None:
        self.package: Any = optional_package("wandb", flag="--use_wandb")

    def log_in(self, folder: Path, flags: dict, run: str | None) -> str | None:
        """Start a run, or continue `run`; return its id. Raises UserError, for lack of a login for example."""
        resumed = {"id": run, "resume": "allow"} if run else {}
        try:
            self.package.init(project=PROJECT, dir=str(folder), config=flags, **resumed)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(f"--use_wandb: {reason}; run wandb login first or set WANDB_MODE=offline") from None
        return getattr(self.package.run, "id", None)

    def begin(self, folder: Path, first_epoch: int | None) -> None:
        """Do nothing: Weights & Biases keeps what it has of an epoch."""

    def write(self, epoch: int, scalars: dict[str, float], images: dict[str, bytes]) -> None:
        """Log the numbers of an epoch, and PNGs and GIFs by name, as one step."""
        media = {}
        for name, content in images.items():
            file = io.BytesIO(content)
            is_gif = content.startswith(b"GIF")
            media[name] = self.package.Video(file, format="gif") if is_gif else self.package.Image(Image.open(file))
        self.package.log(scalars | media, step=epoch)

    def close(self) -> None:
        """End the run."""
        if self.package.run:
            self.package.finish()
