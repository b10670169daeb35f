"""Where a run begins: anew, where the one in its folder stopped, or with a checkpoint; and with which settings it may go on."""

import argparse
from pathlib import Path
from typing import NamedTuple

from data.images import find_dataset
from training.checkpoints import find_checkpoint, load_checkpoint, load_newest
from utils import RANK, UserError

MACHINE_FLAGS = ("device", "amp", "compile", "cache_dir", "num_workers")  # not taken over from where a checkpoint was trained
ELSEWHERE = {*MACHINE_FLAGS, "DR", "save_root", "ckpt_path"}  # what may differ from one machine to the next
# What may be different each time a run goes on: where and how it runs, how long, and what it writes when.
FREE_FLAGS = {
    *MACHINE_FLAGS, "DR", "save_root", "ckpt_path", "resume", "overwrite", "test", "num_epoch", "per_save", "save_minutes",
    "val_every", "minutes", "store_visualization", "use_wandb", "use_tensorboard", "log_video_every", "recompute", "skip_bad",
    "bad_steps",
}  # fmt: skip
# What may be different when a checkpoint of another folder is trained on; the rest decides what the data or the model are.
TRAINING_FLAGS = {
    "distortion", "accumulate", "lr", "lr_schedule", "lr_warmup", "lr_step", "lr_gamma", "lr_final", "beta1", "beta2",
    "weight_decay", "grad_clip", "ema", "tfr", "tfr_sde", "tfr_d_step", "tfr_floor", "tfr_interval", "tfr_coin",
    "feedback_noise", "kl_anneal_type", "kl_anneal_cycle", "kl_anneal_ratio", "kl_weight", "batch_size", "epoch_size", "seed",
}  # fmt: skip


class StartPoint(NamedTuple):
    """What a run begins with."""

    path: Path | None = None  # the checkpoint; None: the first weights
    checkpoint: dict | None = None
    continues_run: bool = False  # whether it is the run of --save_root that goes on
    messages: tuple[str, ...] = ()  # what the user should know


def choose_start(args: argparse.Namespace, given: dict) -> StartPoint:
    """What the flags and the content of --save_root ask for; `given` are the flags of the command line. Never begins anew nor
    goes on unasked where a run lies: raises UserError then, and for a checkpoint that cannot be read or was trained with settings
    that must stay."""
    folder = args.save_root
    if args.test:
        path = find_checkpoint(args.ckpt_path, prefer="best")
        return StartPoint(path, load_checkpoint(path))
    if is_data_set(folder, args.DR):  # tests would be written among its own, and moved with them
        raise UserError(f"--save_root {folder}: holds the data set of --DR; expected a folder of its own")
    taken = any(folder.glob("*.ckpt"))
    if args.resume and taken:
        return checked(continued(folder), args, given)
    path = find_checkpoint(args.ckpt_path, prefer="last") if args.ckpt_path else None
    if path and not args.overwrite and path.resolve() in {(folder / f"{name}.ckpt").resolve() for name in ("last", "previous")}:
        return checked(continued(folder), args, given)
    if taken and not args.overwrite:
        raise UserError(
            f"--save_root {folder}: holds a run already; expected --resume to go on with it, or --overwrite to begin anew, "
            "which moves it to a folder earlier-N/ in there"
        )
    if path:
        return checked(StartPoint(path, load_checkpoint(path)), args, given)
    return StartPoint(messages=(f"{folder} holds no checkpoint to resume; the run begins",) if args.resume else ())


def is_data_set(folder: Path, data: Path) -> bool:
    """Whether the folder is the one that has what is trained on."""
    try:
        return folder.resolve() == find_dataset(data, "train").resolve()
    except UserError:  # which whoever reads the data tells with what can be done
        return False


def continued(folder: Path) -> StartPoint:
    """The newest whole checkpoint of a run folder, in place. Raises UserError."""
    path, state, trouble = load_newest(folder)
    return StartPoint(path, state, continues_run=True, messages=(f"{trouble}; going on from {path}",) if trouble else ())


def keep_schedule(args: argparse.Namespace, given: dict, start: StartPoint) -> None:
    """Sets the flags that were not given and that a run keeps when it is made longer: it does not go back to true frames."""
    for name in ("tfr_sde", "tfr_d_step"):
        if name not in given and name in start.checkpoint["flags"]:
            setattr(args, name, start.checkpoint["flags"][name])


def checked(start: StartPoint, args: argparse.Namespace, given: dict) -> StartPoint:
    """The same, with a note on every setting that differs from the checkpoint's and may. Raises UserError, with all differences,
    for those that must stay."""
    args = argparse.Namespace(**vars(args))
    keep_schedule(args, given, start)
    theirs = start.checkpoint["flags"]
    for name in ("model", "preset"):  # on which all others depend
        if theirs.get(name, getattr(args, name)) != getattr(args, name):
            raise UserError(f"{start.path}: was trained with --{name} {theirs[name]}, not {getattr(args, name)}")
    mine = {name: value for name, value in vars(args).items() if name in theirs and name not in FREE_FLAGS}
    differ = {name: f"--{name} {theirs[name]} there, {value} here" for name, value in mine.items() if theirs[name] != value}
    may = [] if start.continues_run else [name for name in differ if name in TRAINING_FLAGS]
    if fixed := [text for name, text in differ.items() if name not in may]:
        possible = set(differ) <= TRAINING_FLAGS
        other = "; with --ckpt_path and another --save_root, training can go on with others" if possible else ""
        raise UserError(f"{start.path}: was trained with other settings: {', '.join(fixed)}; expected the same{other}")
    notes = [f"trained on with other settings: {differ[name]}" for name in may]
    if {"seed", "batch_size", "epoch_size"} & set(may):  # other clips in another order
        notes += [f"epoch {start.checkpoint['epoch'] + 1} is begun anew"] if start.checkpoint["progress"].get("clips") else []
        start.checkpoint["progress"] = {}
    if "num_epoch" in theirs and theirs["num_epoch"] != args.num_epoch:
        notes.append(f"--num_epoch {theirs['num_epoch']} there, {args.num_epoch} here: the schedules follow it")
    return start._replace(messages=(*start.messages, *notes))


def check_model(config: dict, start: StartPoint) -> None:
    """Raises UserError, with all differences, if the checkpoint is of another model than `config`."""
    theirs = start.checkpoint["model_config"]
    if theirs != config:
        differ = [f"{name} {theirs.get(name)} there, {value} here" for name, value in config.items() if theirs.get(name) != value]
        raise UserError(f"{start.path}: is a checkpoint of another model: {', '.join(differ)}")


def check_data(data: list[str], args: argparse.Namespace, start: StartPoint) -> bool:
    """Whether the training clips are those that the checkpoint's epoch began with. Raises UserError if a run would go on in its
    folder with other data than it began with; `data` are the identities of training and validation."""
    theirs = start.checkpoint["data"] or data  # an older version did not write them down
    if theirs != data and start.continues_run:
        which = "training" if theirs[0] != data[0] else "validation"
        raise UserError(
            f"{args.DR}: the {which} data are not those that {args.save_root} was trained with; expected the same, or "
            f"--ckpt_path {start.path} with another --save_root to train on with these"
        )
    if theirs[0] != data[0] and RANK == "0":
        print(f"trained on with other data than those of {start.path}; epoch {start.checkpoint['epoch'] + 1} is begun anew")
    return theirs[0] == data[0]
