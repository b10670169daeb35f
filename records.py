"""What a run leaves to read: config.json, metrics.jsonl, and copies for Weights & Biases and TensorBoard."""
import json
import math
from pathlib import Path

from utils import UserError, check_writable, optional_package, versions

OUTPUTS = ("*.ckpt", "config.json", "metrics.jsonl", "training.png", "val_epoch=*.gif", "tensorboard")


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


def finite(value):
    """The same with None for every number that is not finite, which JSON does not know; looks into lists and dicts."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Records:
    """The written side of one run in `folder`. Raises UserError at once if the folder cannot be written or a package for
    an extra log is missing."""

    def __init__(self, folder: Path, *, use_wandb: bool, use_tensorboard: bool):
        check_writable(folder, flag="--save_root")
        self.folder, self.metrics = folder, folder / "metrics.jsonl"
        self.wandb = optional_package("wandb", flag="--use_wandb") if use_wandb else None
        # Asked for by its own name first: torch's wrapper reports a missing tensorboard less clearly.
        self.tensorboard = optional_package("tensorboard", flag="--use_tensorboard") if use_tensorboard else None
        self.board = None

    def begin(self, flags: dict, *, first_epoch: int = 0, resumed: Path | None = None) -> Path | None:
        """Opens the logs and writes config.json. Raises UserError if an extra log does not open.

        A run resumed from the checkpoint `resumed` takes the rows before `first_epoch` along. Unless it simply goes on
        from the last.ckpt of this folder, whatever run the folder holds is moved to earlier-N/, whose path is returned.
        """
        self.open_extra_logs(flags)
        source = resumed.parent / "metrics.jsonl" if resumed else None
        kept = [row for row in read_metrics(source) if row["epoch"] < first_epoch] if source and source.exists() else []
        goes_on = resumed is not None and resumed.resolve() == (self.folder / "last.ckpt").resolve()
        earlier = None if goes_on else self.set_aside()
        self.metrics.write_text("".join(json.dumps(row) + "\n" for row in kept))
        (self.folder / "config.json").write_text(json.dumps({"flags": flags, "versions": versions()}, indent=2) + "\n")
        if self.tensorboard:  # opened last: its folder must not be taken for one of an earlier run
            writer = optional_package("torch.utils.tensorboard", flag="--use_tensorboard").SummaryWriter
            self.board = writer(str(self.folder / "tensorboard"))
        return earlier

    def open_extra_logs(self, flags: dict) -> None:
        """Starts Weights & Biases, which can fail for want of a login; nothing has been moved or written by then."""
        if self.wandb:
            try:
                self.wandb.init(project="pose-video", dir=str(self.folder), config=flags)
            except Exception as error:
                reason = " ".join(str(error).split())
                raise UserError(f"--use_wandb: {reason}; run wandb login first or set WANDB_MODE=offline") from None

    def set_aside(self) -> Path | None:
        """Moves what a run wrote into a new folder earlier-N/ and returns it; None if there is nothing of worth."""
        if not any(self.folder.glob("*.ckpt")) and not (self.metrics.exists() and read_metrics(self.metrics)):
            return None
        numbers = [int(path.name.split("-")[1]) for path in self.folder.glob("earlier-*") if path.name.split("-")[1].isdigit()]
        earlier = self.folder / f"earlier-{max(numbers, default=0) + 1}"
        earlier.mkdir()
        for pattern in OUTPUTS:
            for path in self.folder.glob(pattern):
                path.rename(earlier / path.name)
        return earlier

    def add(self, row: dict) -> None:
        """Appends one epoch. Numbers that are not finite are written as null, which every JSON reader takes."""
        clean = finite(row)
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
