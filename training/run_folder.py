"""The folder of a run: checkpoints, config.json, rows of numbers, and their copies in extra logs."""

import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from runtime.files import check_writable, claim, write_whole
from runtime.output import LOST_LINES, keep_lost_lines_in
from training.checkpoints import serialize, write_checkpoint
from training.loggers import Preview, TensorBoard, WeightsAndBiases, named_for_logs, psnr_plot
from training.metrics_log import Row, lines_of, read_curves, read_metrics
from utils import UserError, finite

ROW_FILES = ("metrics.jsonl", "timings.jsonl", "curves.jsonl")
OUTPUTS = ("*.ckpt", "config.json", *ROW_FILES, LOST_LINES, "training.png", "tensorboard", "val*", "test*", "train", "train_*")


def plain(flags: dict) -> dict:
    """Return flags as values that JSON and a checkpoint can hold: paths become text."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}


def one_line(error: Exception) -> str:
    """Return the message of an error, or its type, as at most 200 characters on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class RunFolder:
    """The writer of one run, which has `folder` to itself. Raises UserError at once if the folder cannot be written, if another
    run writes there, or if the package of an extra log is missing.

    After begin(), a file that cannot be written, because the disk is full or the folder is gone, does not end the training: it
    is reported, and written with the next one.
    """

    def __init__(self, folder: Path, *, use_wandb: bool, use_tensorboard: bool):
        check_writable(folder, flag="--save_root")
        self.folder = folder
        self.lock = claim(folder, flag="--save_root")
        self.logs: list[WeightsAndBiases | TensorBoard] = []
        try:
            if use_wandb:
                self.logs.append(WeightsAndBiases())
            if use_tensorboard:
                self.logs.append(TensorBoard())
        except UserError:
            self.lock.release()
            raise
        self.flags: dict = {}
        self.rows: dict[str, list[Row]] = {name: [] for name in ROW_FILES}
        self.failure = ""  # why the latest file could not be written
        self.unwritten: memoryview | None = None  # the newest checkpoint, if it could not be written

    def begin(
        self, flags: dict, *, first_epoch: int = 0, resumed: Path | None = None, in_place: bool = False,
        history: list[Row] | None = None, curves: list[Row] | None = None,
    ) -> Path | None:  # fmt: skip
        """Open the logs, write config.json and the rows so far. Return where an earlier run was moved. Raises UserError if an
        extra log does not open.

        A run resumed from the checkpoint `resumed` takes over the rows before `first_epoch`, those of metrics.jsonl and
        curves.jsonl as the checkpoint's `history` and `curves` have them. Unless it resumes `in_place`, a run that the folder
        contains is moved to earlier-N/.
        """
        config = self.read_config() if in_place else {"first_epoch": first_epoch}
        self.flags = flags
        log_runs = self.log_in(config)  # may fail; nothing has been moved or written yet
        self.take_over_rows(first_epoch, resumed, history, curves)
        earlier = None if in_place else self.move_earlier_run_aside()
        if in_place and resumed and resumed.name == "previous.ckpt":
            self.move_damaged_checkpoint_aside()
        keep_lost_lines_in(self.folder)
        self.write_config(config.get("first_epoch", 0), log_runs)
        self.write_rows()
        for log in self.logs:  # last, so that a folder of theirs is not taken for one of an earlier run
            log.begin(self.folder, first_epoch if resumed else None)
        return earlier

    def read_config(self) -> dict:
        """Return the content of config.json; empty if it is missing or cannot be read."""
        try:
            config = json.loads((self.folder / "config.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            config = None
        return config if isinstance(config, dict) else {}

    def log_in(self, config: dict) -> dict[str, str]:
        """Open a run in each extra log, the one in `config` again if there is one; return the ids of these runs by log."""
        runs = {log.name: log.log_in(self.folder, self.flags, config.get(log.name)) for log in self.logs}
        return {name: run for name, run in runs.items() if run}

    def take_over_rows(
        self, first_epoch: int, resumed: Path | None, history: list[Row] | None, curves: list[Row] | None
    ) -> None:  # fmt: skip
        """Set the rows to those that the run so far has written before `first_epoch`."""
        if not resumed:
            return
        for name in ("metrics.jsonl", "timings.jsonl"):
            path = resumed.with_name(name)
            rows = read_metrics(path) if path.exists() else []
            self.rows[name] = [row for row in rows if row["epoch"] < first_epoch]
        rows = read_curves(resumed.with_name("curves.jsonl"))
        self.rows["curves.jsonl"] = [row for row in rows if row["epoch"] <= first_epoch]  # the last one ends with an epoch
        # The files may lack rows that could not be written.
        if history:
            self.rows["metrics.jsonl"] = list(history)
        if curves:
            self.rows["curves.jsonl"] = list(curves)

    def move_earlier_run_aside(self) -> Path | None:
        """Move the results of a run into a new folder earlier-N/ and return it; None if there are none worth keeping."""
        metrics = self.folder / "metrics.jsonl"
        if not any(self.folder.glob("*.ckpt")) and not (metrics.exists() and read_metrics(metrics)):
            return None
        suffixes = [path.name.removeprefix("earlier-") for path in self.folder.glob("earlier-*")]
        numbers = [int(suffix) for suffix in suffixes if suffix.isdecimal()]
        earlier = self.folder / f"earlier-{max(numbers, default=0) + 1}"
        earlier.mkdir()
        outputs = {path for pattern in OUTPUTS for path in self.folder.glob(pattern)}
        outputs |= {path.parent for path in self.folder.glob("*/scores.json")}  # tests on splits of any name
        for path in outputs:
            path.rename(earlier / path.name)
        return earlier

    def move_damaged_checkpoint_aside(self) -> None:
        """Rename a last.ckpt that cannot be read, so that it does not become the next previous.ckpt."""
        if (self.folder / "last.ckpt").exists():
            (self.folder / "last.ckpt").replace(self.folder / "damaged.ckpt")

    def write_config(self, first_epoch: int, log_runs: dict[str, str]) -> None:
        """Write config.json. The rows of the run may begin before `first_epoch`, in another folder; its best.ckpt does not."""
        config = {"flags": self.flags, "first_epoch": first_epoch, "versions": versions()} | log_runs
        self.attempt("config.json", lambda path: write_whole(path, (json.dumps(config, indent=2) + "\n").encode()))

    def attempt(self, name: str, write: Callable[[Path], None]) -> bool:
        """Call write(path of `name`) and return whether it succeeded. An OSError is reported in one line, not raised."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # the folder may have been removed
            write(self.folder / name)
        except OSError as error:
            self.failure = error.strerror or str(error)
            print(f"{self.folder / name}: cannot be written ({self.failure}); training continues", file=sys.stderr)
            return False
        return True

    def write_rows(self, names: Iterable[str] = ROW_FILES) -> None:
        """Write files of rows whole: no line is ever half-written, and rows that a full disk refused are written at last."""
        for name in names:
            self.attempt(name, partial(write_whole, content=lines_of(self.rows[name])))

    def extend_curves(self, rows: Iterable[Row]) -> None:
        """Add rows to curves.jsonl. They are written with the next checkpoint or epoch.

        Numbers that are not finite become null, here and in add(), because JSON has no others.
        """
        self.rows["curves.jsonl"] += map(finite, rows)

    def add(self, row: Row, timing: Row, preview: Preview | None = None) -> None:
        """Write all rows to disk, with an epoch's new rows of metrics.jsonl and timings.jsonl.

        Only timings.jsonl differs when a run is repeated. The extra logs also get the rollout of a validation sequence, if
        there is one.
        """
        self.rows["metrics.jsonl"].append(finite(row))
        self.rows["timings.jsonl"].append(finite({"epoch": row["epoch"]} | timing))
        self.write_rows()
        if self.logs:
            self.log(row["epoch"], named_for_logs(finite(row | timing)), preview)

    def log(self, epoch: int, scalars: dict[str, float], preview: Preview | None) -> None:
        """Write an epoch to the extra logs. Errors are reported and do not end the training."""
        try:
            images = self.images(epoch, preview) if preview else {}
        except Exception as error:
            images = {}
            print(f"no images of epoch {epoch + 1} in the extra logs ({one_line(error)}); training continues", file=sys.stderr)
        for log in self.logs:
            try:
                log.write(epoch, scalars, images)
            except Exception as error:  # of any kind: these packages are not ours
                print(f"{log.name}: epoch {epoch + 1} is not logged ({one_line(error)}); training continues", file=sys.stderr)

    def images(self, epoch: int, preview: Preview) -> dict[str, bytes]:
        """Return the PSNR per frame of the latest validation, and with every --log_video_every-th and the last one a video."""
        *earlier, row = self.rows["metrics.jsonl"]
        images = {"validation/psnr_per_frame": psnr_plot(row, earlier)}
        every = self.flags.get("log_video_every", 1)
        validations = sum("val_psnr" in other for other in earlier)  # before this one, also those before a resume
        if every and (validations % every == 0 or epoch + 1 == self.flags.get("num_epoch")):
            images["validation/video"] = preview.gif()
        return images

    def save(self, names: list[str], state: dict) -> list[str]:
        """Write a checkpoint under each name; return the names for which that succeeded."""
        self.write_rows(["curves.jsonl"])
        content = serialize(state)
        written = [name for name in names if self.attempt(name, lambda path: write_checkpoint(path, content))]
        self.unwritten = None if "last.ckpt" in written else content
        return written

    def rescue(self) -> None:
        """Write the newest checkpoint, which could not be written at the end of the run, into a temporary folder.

        Raises UserError that names this folder.
        """
        assert self.unwritten is not None
        refuge = Path("the system's temporary folder")
        try:
            refuge = Path(tempfile.mkdtemp(prefix="nextframe-"))
            write_checkpoint(refuge / "last.ckpt", self.unwritten)
            for name, rows in self.rows.items():
                write_whole(refuge / name, lines_of(rows))
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({self.failure}), nor can {refuge} ({error.strerror})") from None
        raise UserError(
            f"{self.folder}: cannot be written ({self.failure}); the run is saved in {refuge}, continue with --ckpt_path {refuge}"
        )

    def close(self) -> None:
        """End the extra logs and release the folder."""
        for log in self.logs:
            try:
                log.close()
            except Exception as error:
                print(f"{log.name}: could not be closed ({one_line(error)})", file=sys.stderr)
        self.lock.release()


class NoRunFolder:
    """The stand-in for RunFolder in every process but the first: it writes nothing, and nothing fails."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {name: [] for name in ROW_FILES}

    def begin(self, flags: dict, **_: object) -> None:
        """Do nothing."""

    def attempt(self, name: str, write: Callable[[Path], None]) -> bool:
        """Return that nothing failed."""
        return True

    def extend_curves(self, rows: Iterable[Row]) -> None:
        """Do nothing."""

    def add(self, row: Row, timing: Row, preview: Preview | None = None) -> None:
        """Do nothing."""

    def save(self, names: list[str], state: dict) -> list[str]:
        """Return all names."""
        return names

    def rescue(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the packages, for config.json."""
    packages = ["torch", "numpy", "pillow", "imageio", "matplotlib"]
    return {"python": platform.python_version(), "platform": platform.platform()} | {name: version(name) for name in packages}
