"""Where a run starts, from initial weights, from the run in its folder or from another checkpoint, and with which settings."""

import argparse
from pathlib import Path
from typing import NamedTuple

from data.images import find_dataset
from training.checkpoints import find_checkpoint, load_checkpoint, load_newest
from training.metrics_log import Row
from training.presets import PRESETS
from utils import UserError

MACHINE_FLAGS = ("device", "amp", "compile", "cache_dir", "num_workers")  # not taken over from a checkpoint
LOCAL_FLAGS = {*MACHINE_FLAGS, "DR", "save_root", "ckpt_path"}  # may differ between the processes of a run
# May differ each time a run resumes: where and how it runs, how long, and what it writes when.
FREE_FLAGS = {
    *MACHINE_FLAGS, "DR", "save_root", "ckpt_path", "resume", "overwrite", "test", "num_epoch", "per_save", "save_minutes",
    "val_every", "store_visualization", "use_wandb", "use_tensorboard", "log_video_every", "recompute", "skip_bad",
    "bad_steps",
}  # fmt: skip
# May differ when a checkpoint of another folder is trained further. All other flags decide what the data or the model are.
TRAINING_FLAGS = {
    "distortion", "accumulate", "lr", "lr_schedule", "lr_warmup", "lr_step", "lr_gamma", "lr_final", "beta1", "beta2",
    "weight_decay", "grad_clip", "ema", "tfr", "tfr_sde", "tfr_d_step", "tfr_floor", "tfr_interval", "tfr_coin",
    "feedback_noise", "kl_anneal_type", "kl_anneal_cycle", "kl_anneal_ratio", "kl_weight", "batch_size", "epoch_size", "minutes",
    "seed",
}  # fmt: skip
CLIP_ORDER_FLAGS = {"batch_size", "epoch_size", "seed"}  # with other values, an epoch has other clips or another order
SCHEDULE_FLAGS = {"tfr_sde", "tfr_d_step"}  # their defaults follow --num_epoch


class StartPoint(NamedTuple):
    """Where a run starts."""

    path: Path | None = None  # of the checkpoint
    checkpoint: dict = {}  # its content, empty for initial weights  # noqa: RUF012 (never changed)
    continues_run: bool = False  # whether the run in --save_root resumes
    messages: tuple[str, ...] = ()  # for the user
    restart_epoch: bool = False  # whether the checkpoint's unfinished epoch starts over, because its clips have changed

    def curves(self) -> list[Row]:
        """Return the checkpoint's rows of curves.jsonl, without those of an epoch that starts over."""
        rows = self.checkpoint.get("curves", [])
        return [row for row in rows if row["epoch"] <= self.checkpoint["epoch"]] if self.restart_epoch else rows

    def restarted(self) -> "StartPoint":
        """Return the same start point at the start of the checkpoint's epoch."""
        unfinished = self.checkpoint["progress"].get("clips") and not self.restart_epoch
        message = (f"epoch {self.checkpoint['epoch'] + 1} starts over, because its clips have changed",) if unfinished else ()
        return self._replace(restart_epoch=True, messages=(*self.messages, *message))


class SettingsComparison(NamedTuple):
    """The settings that differ from those of a checkpoint, each as a text, by flag."""

    allowed: dict[str, str]
    refused: dict[str, str]


def choose_start(args: argparse.Namespace, explicit: dict) -> StartPoint:
    """Return the start point that the flags and the content of --save_root ask for. `explicit` are the flags of the command line.

    A run in --save_root is neither resumed nor replaced unless a flag asks for it. Raises UserError then, and for a checkpoint
    that cannot be read or was trained with settings that must not change.
    """
    folder = args.save_root
    if args.test:
        best = find_checkpoint(args.ckpt_path, prefer="best")
        return StartPoint(best, load_checkpoint(best))
    if is_data_set(folder, args.DR):  # results of tests would be written into the data, and moved with them
        raise UserError(f"--save_root {folder}: expected a folder of its own, got the data set of --DR")
    holds_run = any(folder.glob("*.ckpt"))
    if args.resume and holds_run:
        return accept_settings(newest_in(folder), args, explicit)
    path: Path | None = find_checkpoint(args.ckpt_path, prefer="last") if args.ckpt_path else None
    if path and not args.overwrite and path.resolve() in {(folder / f"{name}.ckpt").resolve() for name in ("last", "previous")}:
        return accept_settings(newest_in(folder), args, explicit)
    if holds_run and not args.overwrite:
        raise UserError(
            f"--save_root {folder}: already contains a run; expected --resume to continue it, or --overwrite to start over, "
            "which moves it to a subfolder earlier-N/"
        )
    if path:
        return accept_settings(StartPoint(path, load_checkpoint(path)), args, explicit)
    return StartPoint(messages=(f"{folder} contains no checkpoint to resume; the run starts",) if args.resume else ())


def is_data_set(folder: Path, data: Path) -> bool:
    """Return whether the folder is the one that contains the training data."""
    try:
        return folder.resolve() == find_dataset(data, "train").resolve()
    except UserError:  # missing data are reported, with a way out, when they are read
        return False


def newest_in(folder: Path) -> StartPoint:
    """Return a start point that continues the run in the folder from its newest readable checkpoint. Raises UserError."""
    newest = load_newest(folder)
    messages = (f"{newest.problem}; resuming from {newest.path}",) if newest.problem else ()
    return StartPoint(newest.path, newest.state, continues_run=True, messages=messages)


def args_to_train(args: argparse.Namespace, explicit: dict, start: StartPoint) -> argparse.Namespace:
    """Return the flags that a run trains with, of which it keeps some from its checkpoint unless they are `explicit`.

    A longer run does not go back to teacher-forced epochs, and an --epoch_size that was measured for --minutes stays.
    """
    flags = start.checkpoint.get("flags", {})
    kept = SCHEDULE_FLAGS | ({"minutes", "epoch_size"} if flags.get("minutes") else set())
    return argparse.Namespace(**vars(args) | {name: flags[name] for name in (kept & {*flags}) - {*explicit}})


def args_to_validate(args: argparse.Namespace, explicit: dict, checkpoint: dict) -> argparse.Namespace:
    """Return the flags that a checkpoint is scored with: those that it was trained with, or `explicit` ones, on this machine."""
    trained = {name: value for name, value in checkpoint["flags"].items() if name not in MACHINE_FLAGS}
    merged = argparse.Namespace(**vars(args) | trained | explicit)
    merged.amp = explicit.get("amp", PRESETS[merged.preset][merged.model]["amp"])
    return merged


def compare_settings(args: argparse.Namespace, trained: dict, *, continues_run: bool) -> SettingsComparison:
    """Return the differences between the flags and those that a checkpoint was `trained` with, without the FREE_FLAGS."""
    differences = {
        name: f"--{name} {value} (was {trained[name]})"
        for name, value in vars(args).items()
        if name in trained and name not in FREE_FLAGS and trained[name] != value
    }
    allowed = {} if continues_run else {name: text for name, text in differences.items() if name in TRAINING_FLAGS}
    return SettingsComparison(allowed, {name: text for name, text in differences.items() if name not in allowed})


def accept_settings(start: StartPoint, args: argparse.Namespace, explicit: dict) -> StartPoint:
    """Return the start point with a message on the settings that differ from the checkpoint's.

    Raises UserError, with all differences, for those that must not change.
    """
    args, trained = args_to_train(args, explicit, start), start.checkpoint["flags"]
    allowed, refused = compare_settings(args, trained, continues_run=start.continues_run)
    # The defaults of all other flags depend on these two.
    if decisive := [refused[name] for name in ("model", "preset") if name in refused]:
        raise UserError(f"{start.path}: expected the settings that it was trained with, got {decisive[0]}")
    if refused:
        hint = "; to train on with these, use --ckpt_path with another --save_root" if {*refused} <= TRAINING_FLAGS else ""
        raise UserError(f"{start.path}: expected the settings that it was trained with, got {', '.join(refused.values())}{hint}")
    messages = [f"training continues with other settings: {', '.join(allowed.values())}"] if allowed else []
    if "num_epoch" in trained and trained["num_epoch"] != args.num_epoch:
        messages.append(f"--num_epoch {args.num_epoch} (was {trained['num_epoch']}): the schedules follow it")
    start = start._replace(messages=(*start.messages, *messages))
    return start.restarted() if CLIP_ORDER_FLAGS & {*allowed} else start


def check_model(config: dict, start: StartPoint) -> None:
    """Raise UserError, with all differences, if the checkpoint is of another model than `config`."""
    stored = start.checkpoint["model_config"]
    if stored != config:
        differences = [f"{name} {value} (got {stored.get(name)})" for name, value in config.items() if stored.get(name) != value]
        raise UserError(f"{start.path}: expected a checkpoint of a model with {', '.join(differences)}")


def compare_data(data: list[str], args: argparse.Namespace, start: StartPoint) -> StartPoint:
    """Return the start point, restarted if the training data are not those of the checkpoint.

    `data` are the content hashes of training and validation data. Raises UserError if a run would continue in its folder with
    other data.
    """
    stored = start.checkpoint["data"] or data  # formats 1 and 2 did not store them
    if stored != data and start.continues_run:
        split = "training" if stored[0] != data[0] else "validation"
        raise UserError(
            f"{args.DR}: expected the {split} data that the run in {args.save_root} was trained with, got others; to train on "
            f"with these, use --ckpt_path {start.path} with another --save_root"
        )
    if stored[0] == data[0]:
        return start
    message = f"training continues with other data than those of {start.path}"
    return start._replace(messages=(*start.messages, message)).restarted()
