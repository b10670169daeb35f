"""What a run leaves behind: checkpoints, config.json, metrics.jsonl, and copies for those who look on."""

import json
import platform
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from runtime.files import check_writable, claim, write_whole
from training.checkpoints import serialise, write_checkpoint
from training.loggers import Preview, TensorBoard, WeightsAndBiases, named_for_logs, psnr_picture
from training.metrics_log import lines_of, read_metrics
from utils import UserError, finite

OUTPUTS = ("*.ckpt", "config.json", "metrics.jsonl", "timings.jsonl", "training.png", "tensorboard", "val*", "test*", "train",
           "train_*")  # fmt: skip


def plain(flags: dict) -> dict:
    """Flags as values that JSON and a checkpoint can hold: paths become text."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}


def one_line(error: Exception) -> str:
    """What an error says, shortened to a part of a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


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


class RunFolder:
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
            self.logs = [log() for log, wanted in ((WeightsAndBiases, use_wandb), (TensorBoard, use_tensorboard)) if wanted]
        except UserError:
            self.lock.release()
            raise
        self.flags: dict = {}
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
        before = self.read_config() if in_place else {}
        # With which epoch the run began in this folder: it has the rows of earlier ones too, but its best.ckpt is of its own.
        began = before.get("first_epoch", 0) if in_place else first_epoch
        self.flags, config = flags, {"flags": flags, "first_epoch": began, "versions": versions()}
        for log in self.logs:  # which may fail; nothing has been moved or written by then
            run = log.log_in(self.folder, flags, before.get(log.name))
            config |= {log.name: run} if run else {}
        for name, rows in self.rows.items():
            source = resumed.parent / name if resumed else self.folder / "none"
            rows[:] = [row for row in read_metrics(source) if row["epoch"] < first_epoch] if source.exists() else []
        if history:  # the file may have lost rows that were said to be written
            self.rows["metrics.jsonl"][:] = history
        earlier = None if in_place else self.set_aside()
        if in_place and resumed.name == "previous.ckpt" and (self.folder / "last.ckpt").exists():
            (self.folder / "last.ckpt").replace(self.folder / "damaged.ckpt")  # which must not become the next previous.ckpt
        self.attempt("config.json", lambda path: write_whole(path, (json.dumps(config, indent=2) + "\n").encode()))
        self.write_rows()
        for log in self.logs:  # last: a folder of theirs must not be taken for one of an earlier run
            log.begin(self.folder, first_epoch if resumed else None)
        return earlier

    def read_config(self) -> dict:
        """The config.json that lies in the folder; empty if there is none that can be read."""
        try:
            config = json.loads((self.folder / "config.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            config = None
        return config if isinstance(config, dict) else {}

    def set_aside(self) -> Path | None:
        """Moves what a run wrote into a new folder earlier-N/ and returns it; None if there is nothing of worth."""
        metrics = self.folder / "metrics.jsonl"
        if not any(self.folder.glob("*.ckpt")) and not (metrics.exists() and read_metrics(metrics)):
            return None
        numbers = [int(path.name.split("-")[1]) for path in self.folder.glob("earlier-*") if path.name.split("-")[1].isdecimal()]
        earlier = self.folder / f"earlier-{max(numbers, default=0) + 1}"
        earlier.mkdir()
        found = {path for pattern in OUTPUTS for path in self.folder.glob(pattern)}
        found |= {path.parent for path in self.folder.glob("*/scores.json")}  # tests on splits of any name
        for path in found:
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

    def add(self, row: dict, timing: dict, preview: Preview | None = None) -> None:
        """One epoch's row of metrics.jsonl, the same whenever a run is repeated, and of timings.jsonl, which is not; for the
        extra logs the roll-out of a validation sequence, if there was one.

        Numbers that are not finite are written as null, which every JSON reader takes.
        """
        for name, values in zip(self.rows, (row, {"epoch": row["epoch"]} | timing)):
            self.rows[name].append(finite(values))
        self.write_rows()
        if self.logs:
            self.log(row["epoch"], named_for_logs(finite(row | timing)), preview)

    def log(self, epoch: int, scalars: dict[str, float], preview: Preview | None) -> None:
        """To the extra logs. Whatever goes wrong there is said and does not end the training."""
        try:
            pictures = self.pictures(epoch, preview) if preview else {}
        except Exception as error:
            pictures = {}
            print(f"no pictures of epoch {epoch + 1} for the extra logs ({one_line(error)}); training goes on", file=sys.stderr)
        for log in self.logs:
            try:
                log.write(epoch, scalars, pictures)
            except Exception as error:  # of any kind: the packages are not ours
                print(f"{log.name}: epoch {epoch + 1} is not logged ({one_line(error)}); training goes on", file=sys.stderr)

    def pictures(self, epoch: int, preview: Preview) -> dict[str, bytes]:
        """The PSNR over the frames of every validation, and a video with each --log_video_every-th and the last one."""
        *earlier, row = self.rows["metrics.jsonl"]
        found = {"validation/psnr_per_frame": psnr_picture(row, earlier)}
        every = self.flags.get("log_video_every", 1)
        count = sum("val_psnr" in other for other in earlier)  # rows that a resumed run took over among them
        if every and (count % every == 0 or epoch + 1 == self.flags.get("num_epoch")):
            found["validation/video"] = preview.gif()
        return found

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
        for log in self.logs:
            try:
                log.close()
            except Exception as error:
                print(f"{log.name}: could not be ended ({one_line(error)})", file=sys.stderr)
        self.lock.release()


class NoRunFolder:
    """What every process but the first has in place of RunFolder: nothing is written."""

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


def versions() -> dict[str, str]:
    """What a run was made with, for config.json."""
    packages = ["torch", "numpy", "pillow", "imageio", "matplotlib"]
    return {"python": platform.python_version(), "platform": platform.platform()} | {name: version(name) for name in packages}
