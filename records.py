"""What a run leaves to read: config.json, metrics.jsonl, and copies for Weights & Biases and TensorBoard."""
import json
import math
import shutil
from pathlib import Path

from utils import UserError, optional_package, versions

OUTPUTS = ("*.ckpt", "config.json", "metrics.jsonl", "*.png", "*.gif", "tensorboard")


def plain(flags: dict) -> dict:
    """Flags as values that JSON and a checkpoint can hold: paths become text."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}


def read_metrics(path: Path) -> list[dict]:
    """The rows of metrics.jsonl, one per epoch; a half-written last line is passed over. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the metrics.jsonl of a run")
    rows = []
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if i + 1 < len(lines):
                raise UserError(f"{path}: line {i + 1} is not JSON; expected one object per epoch") from None
    return rows


class Records:
    """The written side of one run in `folder`. Raises UserError at once if the folder cannot be written or a package for
    an extra log is missing."""

    def __init__(self, folder: Path, *, use_wandb: bool, use_tensorboard: bool):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".probe").touch()
            (folder / ".probe").unlink()
        except OSError as error:
            raise UserError(f"--save_root {folder}: cannot be written ({error.strerror}); choose another folder") from None
        self.folder, self.metrics = folder, folder / "metrics.jsonl"
        self.wandb = optional_package("wandb", flag="--use_wandb") if use_wandb else None
        # Asked for by its own name first: torch's wrapper reports a missing tensorboard less clearly.
        self.tensorboard = optional_package("tensorboard", flag="--use_tensorboard") if use_tensorboard else None
        self.board = None

    def begin(self, flags: dict, *, first_epoch: int = 0, resumed: Path | None = None) -> Path | None:
        """Opens the logs and writes config.json.

        A run resumed from a folder takes its rows before `first_epoch` along, and its best.ckpt. Any other run that the
        folder holds is moved to earlier-N/, whose path is returned.
        """
        kept = []
        if resumed and (resumed / "metrics.jsonl").exists():
            kept = [row for row in read_metrics(resumed / "metrics.jsonl") if row["epoch"] < first_epoch]
        in_place = resumed is not None and resumed.resolve() == self.folder.resolve()
        earlier = self.set_aside() if self.metrics.exists() and not in_place else None
        if resumed and not in_place and (resumed / "best.ckpt").exists():
            shutil.copy(resumed / "best.ckpt", self.folder)
        self.metrics.write_text("".join(json.dumps(row) + "\n" for row in kept))
        (self.folder / "config.json").write_text(json.dumps({"flags": flags, "versions": versions()}, indent=2) + "\n")
        if self.wandb:
            self.wandb.init(project="pose-video", dir=str(self.folder), config=flags)
        if self.tensorboard:
            writer = optional_package("torch.utils.tensorboard", flag="--use_tensorboard").SummaryWriter
            self.board = writer(str(self.folder / "tensorboard"))
        return earlier

    def set_aside(self) -> Path:
        """Moves what a run writes into a new folder earlier-N/."""
        numbers = [int(path.name.split("-")[1]) for path in self.folder.glob("earlier-*") if path.name.split("-")[1].isdigit()]
        earlier = self.folder / f"earlier-{max(numbers, default=0) + 1}"
        earlier.mkdir()
        for pattern in OUTPUTS:
            for path in self.folder.glob(pattern):
                path.rename(earlier / path.name)
        return earlier

    def add(self, row: dict) -> None:
        """Appends one epoch. Numbers that are not finite are written as null, which every JSON reader takes."""
        clean = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        with open(self.metrics, "a") as file:
            file.write(json.dumps(clean) + "\n")
        scalars = {name: value for name, value in clean.items() if isinstance(value, (int, float))}
        if self.wandb:
            self.wandb.log(scalars, step=row["epoch"])
        if self.board:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, row["epoch"])

    def close(self) -> None:
        """Ends the extra logs."""
        if self.wandb and self.wandb.run:
            self.wandb.finish()
        if self.board:
            self.board.close()
