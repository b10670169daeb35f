"""Train a video predictor: python Trainer.py --DR LAB4_Dataset --save_root runs/first

An epoch is a pass over random clips and ends with a rollout of the validation split from prior samples. A stopped run
continues with --resume, bit for bit on a CPU. With torchrun, several processes share every batch.
"""

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.clips import sequences_hash
from dataloader import BatchPosition, build_batches, build_loader
from evaluation.validation import Validation, Validator
from modules import build_model
from runtime.devices import find_device, find_precision, warn_without_cuda
from runtime.distributed import Ranks
from runtime.program import one_line_errors
from runtime.signals import Interrupt, Stopped
from tasks import TASKS, read_data
from training.flags import parse_trainer_flags
from training.learner import GradientCheck, Learner, Losses
from training.loggers import Preview
from training.pacing import describe_estimate, epoch_size_within, measure_pace
from training.presets import LEAST_EPOCH
from training.progress import Progress, describe_batch, describe_epoch
from training.resume import (
    LOCAL_FLAGS,
    StartPoint,
    args_to_train,
    args_to_validate,
    check_model,
    choose_start,
    compare_data,
)
from training.run_folder import NoRunFolder, RunFolder, plain, versions
from training.schedules import Schedules, ends_curve_point
from utils import UserError, counted, seed_for
from visualization.training_curves import draw_training
from visualization.video_kinds import VIDEOS, video_kinds


class Trainer:
    """One run: data, model, optimizer and run folder, from the flags of parse_trainer_flags(). Raises UserError.

    `start` is the checkpoint that will be resumed or tested; only a test takes the model's sizes from it.
    """

    def __init__(self, args: argparse.Namespace, start: StartPoint, ranks: Ranks):
        self.args, self.ranks = args, ranks
        distributed = ranks.world > 1
        self.device = find_device(args.device, local_rank=ranks.local if distributed else None)
        args.amp = find_precision(args.amp, self.device)
        self.task = TASKS[args.model]
        try:
            self.task.model.check_size(args.frame_H, args.frame_W)
        except ValueError as error:
            raise UserError(f"--frame_H, --frame_W: {error}") from None
        self.validation, clips = ranks.rank_zero_first(lambda: read_data(args))
        if clips is None:  # --test
            self.config = start.checkpoint["model_config"]
        else:
            self.config = self.task.model_config(args, clips, start.checkpoint.get("model_config"))
            self.data = [clips.content_hash, sequences_hash(self.validation)]
            self.batches = build_batches(args, clips, ranks)
            self.loader = build_loader(clips, self.batches, workers=args.num_workers, pin=self.device.type == "cuda")
        torch.manual_seed(seed_for(args.seed, "weights"))
        self.learner = Learner(build_model(self.config), args, self.device, distributed=distributed and not args.test)
        if self.learner.statistics and not args.test:
            self.batches.require_statistics(args.fast_partial if args.fast_train else 1.0)
        try:
            self.learner.model.check_conditions(self.validation[0].conditions)
        except ValueError as error:
            raise UserError(f"{args.DR}, {self.task.validation}: {error}") from None
        self.schedules = Schedules(args)
        self.validator = Validator(self.validation, seed=args.seed, device=self.device, precision=args.amp)
        self.epoch, self.best_psnr = 0, -math.inf  # the current epoch, the best validation so far
        self.progress = Progress()
        self.bad_batches: list[str] = []  # batches of the current step whose loss is not finite
        self.run_folder: RunFolder | NoRunFolder = NoRunFolder()
        self.interrupt = Interrupt()
        # Agreed on by all processes after each step, see train_step().
        self.stop_signal, self.save_due = 0, 0
        self.saved_at = self.started_at = time.perf_counter()  # the newest checkpoint; fit()
        self.first_epoch = 0  # of fit()

    def resume(self, start: StartPoint) -> None:
        """Load the state of a checkpoint: training continues where it was saved, or at the start of that epoch if it starts over.

        Raises UserError for the weights of another model.
        """
        assert start.path is not None
        self.learner.load(start.checkpoint, start.path, for_training=not self.args.test)
        self.epoch, self.best_psnr = start.checkpoint["epoch"], start.checkpoint["best_psnr"]
        if not self.args.test and not start.restart_epoch:
            self.progress = Progress.from_state(start.checkpoint["progress"], self.ranks)

    def fit(self) -> None:
        """Train the remaining epochs. Raises Stopped after a signal, and UserError after too many non-finite steps."""
        self.first_epoch, self.started_at = self.epoch, time.perf_counter()
        self.draw_curves()
        while self.epoch < self.args.num_epoch:
            metrics, timing = self.train_epoch()
            validation = self.validate() if self.validation_due() else None
            self.finish_epoch(metrics, timing, validation)
            if self.stop_requested() and self.epoch < self.args.num_epoch:
                self.save_and_stop()

    def train_epoch(self) -> tuple[dict, dict]:
        """Train the rest of the current epoch. Return its rows of metrics.jsonl and timings.jsonl."""
        args, batches, progress, epoch = self.args, self.batches, self.progress, self.epoch
        fraction = args.fast_partial if args.fast_train and epoch < args.fast_train_epoch else 1.0
        batches.set_epoch(epoch, first_clip=progress.clips, fraction=fraction)
        self.learner.model.train()
        ratio = self.schedules.ratio_at(epoch)
        frames, seconds_before, started = 0, progress.seconds, time.perf_counter()
        title = f"epoch {epoch + 1}/{args.num_epoch}"
        quiet = None if self.ranks.is_main else True  # None: quiet unless a terminal is attached
        bar = tqdm(self.loader, desc=title, leave=False, disable=quiet, total=len(batches))
        for position, batch in bar:
            teacher_forced = self.draw_teacher_forcing(position.index, ratio)
            beta = self.schedules.beta_at(epoch + position.first_clip / batches.epoch_clips)
            lr = self.schedules.lr_at(epoch + batches.middle_of(position.first_clip))
            self.learner.set_lr(lr)
            losses = self.train_step(batch, position, teacher_forced=teacher_forced, beta=beta)
            clips, length = batch["frames"].shape[:2]
            frames += clips * (length - 1)
            progress.clips, progress.seconds = position.end_clip, seconds_before + time.perf_counter() - started
            if position.loss_weight:
                progress.add(clips, *losses, beta, float(teacher_forced))
            self.add_curve_point(position, ratio=ratio, lr=lr)
            if position.completes_step:
                self.save_or_stop_if_asked()
            rate = self.ranks.world * frames / (time.perf_counter() - started)
            bar.set_postfix_str(describe_batch(losses.mse, losses.kl, teacher_forced, rate))
        self.learner.broadcast_statistics(self.ranks)
        lr = self.schedules.lr_at(epoch + batches.middle_of(batches.epoch_clips - 1))
        self.learner.set_lr(lr)  # also when a resumed run has no batch left
        steps = {"epoch": epoch, "step": self.learner.steps}
        metrics = steps | progress.means(self.ranks) | {"tfr": ratio, "lr": lr, "skipped": progress.skipped}
        rate = self.ranks.world * frames / max(time.perf_counter() - started, 1e-9)
        return metrics, {"seconds": round(progress.seconds, 2), "frames_per_second": round(rate, 1)}

    def draw_teacher_forcing(self, batch: int, ratio: float) -> bool:
        """Return whether a batch of the epoch is teacher-forced (scheduled sampling): one draw per batch or per epoch."""
        seed = seed_for(self.args.seed, "coin", self.epoch, batch if self.args.tfr_coin == "batch" else 0)
        return bool(np.random.default_rng(seed).random() < ratio)

    def train_step(self, batch: dict[str, Tensor], position: BatchPosition, *, teacher_forced: bool, beta: float) -> Losses:
        """Accumulate the gradients of a batch; with the last batch of an optimizer step, apply or discard that step.

        Raises UserError after --bad_steps discarded steps in a row.
        """
        # Each clip draws from its own seed. Anything drawn besides depends on the position in the run only.
        torch.manual_seed(seed_for(self.args.seed, "step", self.epoch, position.index))
        losses = self.learner.accumulate_gradients(
            batch,
            teacher_forced=teacher_forced,
            beta=beta,
            loss_weight=position.loss_weight,
            completes_step=position.completes_step,
        )
        if not math.isfinite(losses.loss):
            self.bad_batches.append(f"batch {position.index + 1} with loss {losses.loss}")
        if not position.completes_step:
            return losses
        check = self.learner.clip_gradients()
        # One exchange for all three questions. A process that stopped or saved alone would leave the others waiting.
        discard, self.stop_signal, self.save_due = self.ranks.max_over_ranks(
            not check.usable, self.interrupt.received, self.save_is_due()
        )
        if discard:
            self.learner.discard_step(check)
            self.report_skipped_step(position, check)
        else:
            self.learner.apply_step(check)
            self.progress.in_a_row = 0
        self.bad_batches = []
        return losses

    def report_skipped_step(self, position: BatchPosition, check: GradientCheck) -> None:
        """Count and report a discarded step. Raises UserError after --bad_steps of them in a row."""
        args, progress = self.args, self.progress
        progress.clips = position.end_clip
        progress.skipped.append(position.index)
        progress.in_a_row += 1
        bad_batches = sorted({name for names in self.ranks.gather_object(self.bad_batches) for name in names})
        where = " and ".join(bad_batches) or f"batch {position.index + 1}"
        found = f"epoch {self.epoch + 1}, {where}: gradient norm {check.norm}"
        if progress.in_a_row >= args.bad_steps:
            self.save("bad.ckpt")
            raise UserError(
                f"{found}; training stopped after {progress.in_a_row} non-finite steps in a row. The checkpoints in "
                f"{args.save_root} are untouched, bad.ckpt holds the current state; try --ckpt_path {args.save_root} with "
                f"another --save_root and a lower --lr than {args.lr}"
            )
        if self.ranks.is_main:
            tqdm.write(f"{found}; step skipped", file=sys.stderr)

    def add_curve_point(self, position: BatchPosition, *, ratio: float, lr: float) -> None:
        """Add a row to curves.jsonl if one of the run's points ends with this batch."""
        start, end = (self.epoch + clip / self.batches.epoch_clips for clip in (position.first_clip, position.end_clip))
        if ends_curve_point(start, end, epochs=self.args.num_epoch):
            means = self.progress.end_point(self.ranks)
            row = {"epoch": round(end, 6), "step": self.learner.steps, **means, "tfr": ratio, "lr": lr}
            self.run_folder.extend_curves([row])

    def validation_due(self) -> bool:
        """Return whether the current epoch ends with a validation."""
        epochs = self.epoch + 1
        return epochs == self.args.num_epoch or epochs % self.args.val_every == 0

    def validate(self) -> Validation:
        """Roll out the validation split with the EMA weights. Raises Stopped after a signal."""
        validation = self.validator.validate(self.learner.ema_model, self.ranks, self.interrupt)
        if validation is None:
            self.stop_requested()
            self.save_and_stop()
        return validation

    def finish_epoch(self, metrics: dict, timing: dict, validation: Validation | None) -> None:
        """Count the epoch; write its rows, its checkpoints, its plots and its line in the terminal."""
        metrics = metrics | (validation.metrics if validation else {})
        self.epoch, self.progress = self.epoch + 1, self.progress.next_epoch()
        preview = None
        if validation and validation.videos:
            preview = Preview(validation.videos[0], self.validation[0], self.task.tester_defaults["fps"])
        self.run_folder.add(metrics, timing, preview)
        if preview and self.args.store_visualization and self.periodic_save_due():
            kinds = VIDEOS[self.args.store_visualization]
            self.run_folder.attempt(f"val_epoch={self.epoch - 1}", lambda path: preview.save(path, kinds))
        self.save_epoch(metrics.get("val_psnr", math.nan))
        self.draw_curves()
        if self.ranks.is_main:
            seconds_an_epoch = (time.perf_counter() - self.started_at) / (self.epoch - self.first_epoch)
            left = seconds_an_epoch * (self.args.num_epoch - self.epoch)
            tqdm.write(describe_epoch(metrics | timing, self.args.num_epoch, self.best_psnr, left))

    def periodic_save_due(self) -> bool:
        """Return whether the finished epochs are to be kept as an epoch=N.ckpt."""
        return self.epoch == self.args.num_epoch or self.epoch % self.args.per_save == 0

    def save_epoch(self, psnr: float) -> None:
        """Write the checkpoints after an epoch whose validation PSNR is `psnr`, nan without one. Raises UserError."""
        (is_best,) = self.ranks.max_over_ranks(self.ranks.is_main and math.isfinite(psnr) and psnr > self.best_psnr)
        if is_best:
            previous_best, self.best_psnr = self.best_psnr, psnr
            # last.ckpt must not claim a best.ckpt that could not be written, so it comes after it.
            if not self.save("best.ckpt"):
                self.best_psnr = previous_best
        names = [f"epoch={self.epoch - 1}.ckpt"] if self.periodic_save_due() else []
        # last.ckpt comes last: a run that is killed in between writes the others again.
        saved = self.save(*names, "last.ckpt")
        if self.epoch == self.args.num_epoch and "last.ckpt" not in saved:
            self.run_folder.rescue()

    def draw_curves(self) -> None:
        """Draw training.png from all rows so far."""
        name, rows = self.args.save_root.resolve().name, self.run_folder.rows
        if rows["metrics.jsonl"]:
            curves = {name: rows["curves.jsonl"]}
            self.run_folder.attempt(
                "training.png", lambda path: draw_training({name: rows["metrics.jsonl"]}, path, curves=curves)
            )

    def save_is_due(self) -> bool:
        """Return whether --save_minutes have passed since the newest checkpoint, by the main process's clock."""
        return self.ranks.is_main and time.perf_counter() - self.saved_at >= 60 * self.args.save_minutes

    def stop_requested(self) -> bool:
        """Return whether any process has received a signal to stop."""
        (self.stop_signal,) = self.ranks.max_over_ranks(self.interrupt.received)
        return bool(self.stop_signal)

    def save_or_stop_if_asked(self) -> None:
        """Between two steps, save if that is due, and stop after a signal, in all processes alike. Raises Stopped."""
        if self.stop_signal:
            self.save_and_stop()
        elif self.save_due and not self.progress.in_a_row:  # a series of skipped steps would replace the last good state
            self.save("last.ckpt")

    def save_and_stop(self) -> NoReturn:
        """Write last.ckpt and raise Stopped."""
        if not self.save("last.ckpt"):
            self.run_folder.rescue()
        finished = f"after {counted(self.epoch, 'epoch')}"
        if self.progress.clips:
            finished = f"in epoch {self.epoch + 1} of {self.args.num_epoch}"
        name = "Ctrl-C" if self.stop_signal == signal.SIGINT else signal.Signals(self.stop_signal).name
        message = f"stopped by {name} {finished}; the run is saved in {self.args.save_root}, continue it with --resume"
        raise Stopped(message, self.stop_signal)

    def state(self) -> dict:
        """Return all that a resumed run needs; all processes must call it."""
        return {
            "model_config": self.config,
            "epoch": self.epoch,
            "best_psnr": self.best_psnr,
            "data": self.data,
            "progress": self.progress.state(self.ranks),
            "flags": plain(vars(self.args)),
            "versions": versions(),
            "history": self.run_folder.rows["metrics.jsonl"],
            "curves": self.run_folder.rows["curves.jsonl"],
        } | self.learner.state()

    def save(self, *names: str) -> list[str]:
        """Write the current state under each name. Return the names that could be written, in all processes alike."""
        self.saved_at = time.perf_counter()
        return self.ranks.broadcast_object(self.run_folder.save(list(names), self.state()))


def with_epoch_size(args: argparse.Namespace, ranks: Ranks) -> argparse.Namespace:
    """Return the flags with the --epoch_size that fits the run into --minutes, measured in a trial run. Raises UserError."""
    started = time.perf_counter()
    trial = Trainer(argparse.Namespace(**vars(args) | {"epoch_size": LEAST_EPOCH * ranks.world}), StartPoint(), ranks)
    trial.learner.model.train()
    position = BatchPosition(0, 0, 0, loss_weight=1.0, completes_step=True)

    def train(batch: dict[str, Tensor], teacher_forced: bool) -> None:
        trial.train_step(batch, position, teacher_forced=teacher_forced, beta=1.0)

    pace = measure_pace(train, trial.validate, (batch for _, batch in trial.loader), ranks)
    (spent,) = ranks.max_over_ranks(int(time.perf_counter() - started))
    ratios = [trial.schedules.ratio_at(epoch) for epoch in range(args.num_epoch)]
    estimate = epoch_size_within(60 * args.minutes - spent, pace, ratios=ratios, val_every=args.val_every, processes=ranks.world)
    if ranks.is_main:
        print(*describe_estimate(args.minutes, estimate, pace, spent), sep="\n")
    return argparse.Namespace(**vars(args) | {"epoch_size": estimate.epoch_size})


def only_validate(args: argparse.Namespace, ranks: Ranks, start: StartPoint) -> None:
    """Score a checkpoint on the validation split."""
    trainer = Trainer(args, start, ranks)
    trainer.resume(start)
    row = trainer.validate().metrics
    if ranks.is_main:
        # The two means are equal if no sequence has more than 100 frames.
        last_100 = f", last 100 frames {row['val_closing']:.2f}" if row["val_closing"] != row["val_psnr"] else ""
        print(f"val {row['val_psnr']:.2f} dB (by channel {row['val_channel_psnr']:.2f}{last_100}), SSIM {row['val_ssim']:.3f}; "
              f"copy-last-frame baseline {row['val_copy']:.2f} dB, "
              f"median-frame baseline {row['val_background']:.2f} dB")  # fmt: skip


def train(args: argparse.Namespace, ranks: Ranks, start: StartPoint, run_folder: RunFolder | NoRunFolder) -> None:
    """Train a whole run, or the rest of one."""
    trainer = Trainer(args, start, ranks)
    if start.checkpoint:
        check_model(trainer.config, start)
        start = compare_data(trainer.data, args, start)
        trainer.resume(start)
        if trainer.epoch >= args.num_epoch and not (args.resume and start.continues_run):
            raise UserError(
                f"--num_epoch {args.num_epoch}: expected more than the {counted(trainer.epoch, 'epoch')} of {start.path}"
            )
    flags = plain(vars(trainer.args))
    ranks.assert_same(data=trainer.data, **{name: value for name, value in flags.items() if name not in LOCAL_FLAGS})
    earlier = run_folder.begin(flags, first_epoch=trainer.epoch, resumed=start.path, in_place=start.continues_run,
                               history=start.checkpoint.get("history"), curves=start.curves())  # fmt: skip
    if not (args.save_root / "best.ckpt").exists():
        trainer.best_psnr = -math.inf  # the first validation of this folder writes one
    trainer.run_folder = run_folder
    if ranks.is_main:
        print(*opening_lines(trainer, start, earlier), sep="\n", flush=True)
    with trainer.interrupt:
        if not start.continues_run:
            trainer.save("last.ckpt")  # from now on the run can be resumed
        trainer.fit()
    if ranks.is_main:
        print(f"best validation {trainer.best_psnr:.2f} dB; the run is in {args.save_root}, its curves in training.png")


def opening_lines(trainer: Trainer, start: StartPoint, earlier: Path | None) -> list[str]:
    """Return what is printed before the first epoch; `earlier` is the folder that an earlier run was moved to."""
    args, world = trainer.args, trainer.ranks.world
    lines = list(start.messages)
    if earlier:
        lines.append(f"the earlier run in {args.save_root} was moved to {earlier}")
    parameters = sum(p.numel() for p in trainer.learner.model.parameters())
    precision = "float32" if args.amp == "none" else args.amp
    left = f"epochs {trainer.epoch + 1} to {args.num_epoch}" if trainer.epoch < args.num_epoch else "no epoch is left to train"
    if trainer.progress.clips:
        left += f", epoch {trainer.epoch + 1} after its first {counted(trainer.progress.clips, 'clip')}"
    amount = f"{counted(trainer.batches.epoch_clips, 'clip')} an epoch"
    lines.append(f"{parameters:,} parameters on {trainer.device} in {precision}, {amount}, {left}")
    if world > 1:
        lines.append(f"{world} processes, {trainer.batches.global_batch_size} clips a batch")
    return lines


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Train or, with --test, score a checkpoint."""
    args, explicit = parse_trainer_flags(argv)
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":  # after a failed process torchrun restarts all; none starts over
        args = argparse.Namespace(**vars(args) | {"resume": "auto", "overwrite": False})
    warn_without_cuda(args.device)
    ranks = Ranks()
    run_folder: RunFolder | NoRunFolder = NoRunFolder()
    try:
        if args.test:
            start = choose_start(args, explicit)
            only_validate(args_to_validate(args, explicit, start.checkpoint), ranks, start)
            return
        if ranks.is_main:
            video_kinds(args.store_visualization or "gif", flag="--store_visualization")
            run_folder = RunFolder(args.save_root, use_wandb=args.use_wandb, use_tensorboard=args.use_tensorboard)
        start = ranks.broadcast_object(choose_start(args, explicit) if ranks.is_main else StartPoint())
        args = args_to_train(args, explicit, start)
        if "minutes" in explicit and not start.continues_run:
            args = with_epoch_size(args, ranks)
            start = start.restarted() if start.checkpoint else start
        train(args, ranks, start, run_folder)
    except RuntimeError as error:
        if not ranks.is_peer_failure(error):
            raise
        print(f"process {ranks.rank}: ended, because another one did", file=sys.stderr)
        sys.exit(1)
    finally:
        run_folder.close()
        ranks.close()


if __name__ == "__main__":
    main()
