"""What a run leaves behind: checkpoints, config.json, metrics.jsonl, and copies for Weights & Biases and TensorBoard."""
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from checkpoints import serialise, write_checkpoint
from files import claim, write_whole
from utils import UserError, check_writable, optional_package, versions

OUTPUTS = ("*.ckpt", "config.json", "metrics.jsonl", "timings.jsonl", "training.png", "val_epoch=*", "tensorboard", "test")
LISTS = ("skipped", "val_psnr_per_frame")  # values of a row that are no single numbers


def plain(flags: dict) -> dict:
    """Flags as values that JSON and a checkpoint can hold: paths become text."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}


def read_metrics(path: Path) -> list[dict]:
    """The rows of metrics.jsonl, one per epoch; a half-written last line is passed over. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the metrics.jsonl of a run")
    rows = []
    lines = path.read_bytes().splitlines()
    for i, line in enumerate(lines):
        try:
            row = json.loads(line, parse_constant=lambda _: None)
        except (ValueError, RecursionError):  # no text, no JSON, or more digits or brackets than Python takes
            if i + 1 < len(lines):
                raise UserError(f"{path}: line {i + 1} is not JSON; expected one object per epoch") from None
            continue
        if not is_row(row):
            raise UserError(f"{path}: line {i + 1} is not an epoch's row; expected an object of numbers, one of them its epoch")
        rows.append(row)
    return rows


def is_row(row) -> bool:
    """Whether a value is what Records.add() writes of an epoch: numbers, and lists of them under the names LISTS."""
    if not isinstance(row, dict) or type(row.get("epoch")) is not int:
        return False
    lists = {name: value for name, value in row.items() if name in LISTS and isinstance(value, list)}
    numbers = [value for name, value in row.items() if name not in lists] + [value for some in lists.values() for value in some]
    return all(value is None or (isinstance(value, (int, float)) and abs(value) <= sys.float_info.max) for value in numbers)


def finite(value):
    """The same with None for every number that is not finite, which JSON does not know; looks into lists and dicts."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def lines_of(rows: list[dict]) -> bytes:
    """The content of a file of rows: one JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def describe(row: dict, epochs: int, best: float, seconds_left: float) -> str:
    """One line for the terminal about a finished epoch."""
    line = (f"epoch {row['epoch'] + 1}/{epochs}  loss {row['loss']:.5f}  mse {row['mse']:.5f}  kl {row['kl']:.1f} nats  "
            f"beta {row['beta']:.2f}  tfr {row['tfr']:.2f}  {row['frames_per_second']:.0f} frames/s")  # fmt: skip
    if row["skipped"]:
        line += f"  {len(row['skipped'])} steps left out"
    if "val_psnr" in row:
        closing = f"last 100 {row['val_closing']:.2f}, " if row["val_closing"] != row["val_psnr"] else ""
        line += f"  val {row['val_psnr']:.2f} dB ({closing}best {best:.2f})  ssim {row['val_ssim']:.3f}"
    return line + f"  left {int(seconds_left) // 60}m{int(seconds_left) % 60:02d}s"


class Records:
    """The written side of one run, which has `folder` to itself. Raises UserError at once if the folder cannot be written, if
    another run writes there, or if a package for an extra log is missing.

    Once it has begun, a file that cannot be written, because the disk is full or the folder gone, does not end the training:
    it is said, and tried again with the next one.
    """

    def __init__(self, folder: Path, *, use_wandb: bool, use_tensorboard: bool):
        check_writable(folder, flag="--save_root")
        self.folder = folder
        self.lock = claim(folder, flag="--save_root")
        try:
            self.wandb = optional_package("wandb", flag="--use_wandb") if use_wandb else None
            # Asked for by its own name first: torch's wrapper reports a missing tensorboard less clearly.
            self.tensorboard = optional_package("tensorboard", flag="--use_tensorboard") if use_tensorboard else None
        except UserError:
            self.lock.release()
            raise
        self.board = None
        self.rows: dict[str, list[dict]] = {"metrics.jsonl": [], "timings.jsonl": []}
        self.failure = ""  # why the newest file could not be written
        self.unwritten: memoryview | None = None  # the checkpoint that could not be

    def begin(
        self, flags: dict, *, first_epoch: int = 0, resumed: Path | None = None, in_place: bool = False,
        history: list[dict] | None = None,
    ) -> Path | None:  # fmt: skip
        """Opens the logs and writes config.json. Raises UserError if an extra log does not open.

        A run resumed from the checkpoint `resumed` takes the rows before `first_epoch` along, those of metrics.jsonl as the
        checkpoint's `history` has them. Unless it goes on `in_place`, whatever run the folder holds is moved to earlier-N/,
        whose path is returned.
        """
        self.open_extra_logs(flags)
        for name, rows in self.rows.items():
            source = resumed.parent / name if resumed else self.folder / "none"
            rows[:] = [row for row in read_metrics(source) if row["epoch"] < first_epoch] if source.exists() else []
        if history:  # the file may have lost rows that were said to be written
            self.rows["metrics.jsonl"][:] = history
        earlier = None if in_place else self.set_aside()
        if in_place and resumed.name == "previous.ckpt" and (self.folder / "last.ckpt").exists():
            (self.folder / "last.ckpt").replace(self.folder / "damaged.ckpt")  # which must not become the next previous.ckpt
        config = json.dumps({"flags": flags, "versions": versions()}, indent=2) + "\n"
        self.attempt("config.json", lambda path: write_whole(path, config.encode()))
        self.write_rows()
        if self.tensorboard:  # opened last: its folder must not be taken for one of an earlier run
            writer = optional_package("torch.utils.tensorboard", flag="--use_tensorboard").SummaryWriter
            self.board = writer(str(self.folder / "tensorboard"), purge_step=first_epoch if resumed else None)
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
        metrics = self.folder / "metrics.jsonl"
        if not any(self.folder.glob("*.ckpt")) and not (metrics.exists() and read_metrics(metrics)):
            return None
        numbers = [int(path.name.split("-")[1]) for path in self.folder.glob("earlier-*") if path.name.split("-")[1].isdecimal()]
        earlier = self.folder / f"earlier-{max(numbers, default=0) + 1}"
        earlier.mkdir()
        for pattern in OUTPUTS:
            for path in self.folder.glob(pattern):
                path.rename(earlier / path.name)
        return earlier

    def attempt(self, name: str, write: Callable[[Path], None]) -> bool:
        """write(path of `name`); whether it could be written. What is in the way is said in one line, not raised."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
            write(self.folder / name)
        except OSError as error:
            self.failure = error.strerror or str(error)
            print(f"{self.folder / name}: cannot be written ({self.failure}); training goes on", file=sys.stderr)
            return False
        return True

    def write_rows(self) -> None:
        """Writes both files of rows whole: a line is never half there, and rows that a full disk refused come after all."""
        for name, rows in self.rows.items():
            self.attempt(name, lambda path, rows=rows: write_whole(path, lines_of(rows)))

    def add(self, row: dict, timing: dict) -> None:
        """One epoch's row of metrics.jsonl, the same whenever a run is repeated, and of timings.jsonl, which is not.

        Numbers that are not finite are written as null, which every JSON reader takes.
        """
        for name, values in zip(self.rows, (row, {"epoch": row["epoch"]} | timing)):
            self.rows[name].append(finite(values))
        self.write_rows()
        scalars = {name: value for name, value in finite(row | timing).items() if isinstance(value, (int, float))}
        self.attempt("the extra logs", lambda _: self.log(scalars, row["epoch"]))

    def log(self, scalars: dict[str, float], epoch: int) -> None:
        """To the extra logs."""
        if self.wandb:
            self.wandb.log(scalars, step=epoch)
        if self.board:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, epoch)

    def save(self, names: list[str], state: dict) -> list[str]:
        """Writes a checkpoint under each name; returns the names for which it could be done."""
        content = serialise(state)
        written = [name for name in names if self.attempt(name, lambda path: write_checkpoint(path, content))]
        self.unwritten = None if "last.ckpt" in written else content
        return written

    def rescue(self) -> None:
        """When a run ends and its newest checkpoint could not be written, writes it where there is room. Raises UserError that
        says where."""
        refuge = Path("the system's temporary folder")
        try:
            refuge = Path(tempfile.mkdtemp(prefix="pose-video-"))
            write_checkpoint(refuge / "last.ckpt", self.unwritten)
            for name, rows in self.rows.items():
                write_whole(refuge / name, lines_of(rows))
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({self.failure}), nor can {refuge} ({error.strerror})") from None
        raise UserError(
            f"{self.folder}: cannot be written ({self.failure}); the run is saved in {refuge}, go on with --ckpt_path {refuge}"
        )

    def close(self) -> None:
        """Ends the extra logs and leaves the folder to others."""
        try:
            if self.wandb and self.wandb.run:
                self.wandb.finish()
            if self.board:
                self.attempt("tensorboard", lambda _: self.board.close())
        finally:
            self.lock.release()


class NoRecords:
    """What every process but the first has in place of Records: nothing is written."""

    def begin(self, *_, **__) -> None:
        """Nothing."""

    add = rescue = close = begin
    rows: dict[str, list[dict]] = {"metrics.jsonl": []}  # noqa: RUF012

    def attempt(self, *_) -> bool:
        """Nothing, and nothing was in the way."""
        return True

    def save(self, names: list[str], _state: dict) -> list[str]:
        """Nothing, under any name."""
        return names
