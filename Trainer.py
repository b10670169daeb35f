"""Trains a video predictor: python Trainer.py --DR LAB4_Dataset --save_root runs/first

One epoch is a pass over random clips; every epoch ends with a roll-out of the validation split from prior samples. A run that
is stopped goes on with --resume, to the same bits on a CPU. With torchrun, several processes share every batch.
"""

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import argparse
import math
import os
import signal
import sys
import time
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.clips import identity_of
from dataloader import BatchPosition, ClipBatches, build_loader
from evaluation.rollout import rollout_sequences
from evaluation.scores import Score, mean_per_step, score, summary
from modules import build_model
from runtime.devices import find_device, find_precision, warn_without_cuda
from runtime.distributed import Ranks
from runtime.signals import Interrupt, Stopped
from tasks import TASKS, read_data
from training.flags import parse_trainer_flags
from training.learner import Learner
from training.loggers import Preview
from training.presets import PRESETS
from training.progress import Progress
from training.resume import ELSEWHERE, MACHINE_FLAGS, StartPoint, check_data, check_model, choose_start, keep_schedule
from training.run_folder import NoRunFolder, RunFolder, describe, plain, versions
from training.schedules import kl_weight, teacher_forcing_ratio
from utils import UserError, one_line_errors, seed_for
from visualization.plots import draw_training
from visualization.videos import VIDEOS, video_kinds

VALIDATION_BATCH = 8  # sequences rolled out side by side


class Trainer:
    """One run: data, model, optimizer and run_folder, from flags that parse_trainer_flags() has checked. Raises UserError.

    `start` is the checkpoint that will be resumed or tested; only testing takes the whole model from it.
    """

    def __init__(self, args: argparse.Namespace, start: StartPoint, ranks: Ranks):
        self.args, self.ranks = args, ranks
        self.device = find_device(args.device, local_rank=self.ranks.local if self.ranks.world > 1 else None)
        args.amp = find_precision(args.amp, self.device)
        self.task = TASKS[args.model]
        try:
            self.task.model.check_size(args.frame_H, args.frame_W)
        except ValueError as error:
            raise UserError(f"--frame_H, --frame_W: {error}") from None
        self.validation, clips = self.ranks.rank_zero_first(lambda: read_data(args))
        if args.test:
            self.config = start.checkpoint["model_config"]
        else:
            self.config = self.task.model_config(args, clips, start.checkpoint and start.checkpoint["model_config"])
            self.data = [clips.identity, identity_of(self.validation)]
            self.batches = ClipBatches(len(clips), batch_size=args.batch_size, accumulate=args.accumulate, seed=args.seed,
                                       rank=self.ranks.rank, world=self.ranks.world)  # fmt: skip
            if self.batches.smallest(args.fast_partial if args.fast_train else 1.0) == 1 and self.config.get("norm") == "batch":
                raise UserError("--norm batch: a batch would hold one clip only, which has no statistics; expected --norm group")
            self.loader = build_loader(clips, self.batches, workers=args.num_workers, pin=self.device.type == "cuda")
        torch.manual_seed(seed_for(args.seed, "weights"))
        self.learner = Learner(build_model(self.config), args, self.device, together=self.ranks.world > 1 and not args.test)
        try:
            self.learner.model.check_conditions(self.validation[0].conditions)
        except ValueError as error:
            raise UserError(f"{args.DR}, {self.task.validation}: {error}") from None
        self.epoch, self.best_psnr = 0, -math.inf  # the epoch at hand, the best score so far
        self.progress = Progress()
        self.run_folder: RunFolder | NoRunFolder = NoRunFolder()
        self.interrupt = Interrupt()
        self.culprits: list[str] = []  # batches of the step at hand whose loss is not finite
        self.stop, self.due, self.saved_at = 0, 0, time.perf_counter()  # signal to stop, whether to save, newest checkpoint

    def resume(self, start: StartPoint) -> None:
        """Takes up the state of a checkpoint of choose_start(); training goes on where it was saved. Raises UserError."""
        check_model(self.config, start)
        self.learner.load(start.checkpoint, start.path, moments=not self.args.test)
        self.epoch, self.best_psnr = start.checkpoint["epoch"], start.checkpoint["best_psnr"]
        if not self.args.test and check_data(self.data, self.args, start):
            self.progress = Progress.from_state(start.checkpoint["progress"], self.ranks)

    def fit(self) -> None:
        """Trains the epochs that are left; each one ends with its row in the run_folder, its checkpoint and its plots."""
        args, begin, first = self.args, time.perf_counter(), self.epoch
        self.draw()
        while self.epoch < args.num_epoch:
            epoch, videos = self.epoch, []
            row, timing = self.train_epoch(epoch)
            last = epoch + 1 == args.num_epoch
            if last or (epoch + 1) % args.val_every == 0:
                validation, videos = self.validate()
                row |= validation
            self.epoch, self.progress = epoch + 1, Progress(in_a_row=self.progress.in_a_row)
            before, names = self.best_psnr, []
            if math.isfinite(row.get("val_psnr", math.nan)) and row["val_psnr"] > before:
                self.best_psnr, names = row["val_psnr"], ["best.ckpt"]
            if last or self.epoch % args.per_save == 0:
                names.append(f"epoch={epoch}.ckpt")
            preview = Preview(videos[0], self.validation[0], self.task.tester_defaults["fps"]) if videos else None
            self.run_folder.add(row, timing, preview)
            if args.store_visualization and preview and names[-1:] == [f"epoch={epoch}.ckpt"]:
                kinds = VIDEOS[args.store_visualization]
                self.run_folder.attempt(
                    f"val_epoch={epoch}", lambda path, preview=preview, kinds=kinds: preview.save(path, kinds)
                )
            saved = self.save(*names, "last.ckpt")  # behind all else, so that a run that is killed here writes it again
            if "best.ckpt" in names and "best.ckpt" not in saved:
                self.best_psnr = before  # the next good one may find room
            if last and "last.ckpt" not in saved:
                self.run_folder.rescue()
            self.draw()
            left = (time.perf_counter() - begin) / (self.epoch - first) * (args.num_epoch - self.epoch)
            if self.ranks.is_main:
                tqdm.write(describe(row | timing, args.num_epoch, self.best_psnr, left))
            (self.stop,) = self.ranks.max_over_ranks(self.interrupt.received)
            if self.stop and not last:
                self.leave()

    def draw(self) -> None:
        """The curves so far."""
        name = self.args.save_root.resolve().name
        if self.run_folder.rows["metrics.jsonl"]:
            self.run_folder.attempt(
                "training.png", lambda path: draw_training({name: self.run_folder.rows["metrics.jsonl"]}, path)
            )

    def train_epoch(self, epoch: int) -> tuple[dict, dict]:
        """What is left of one pass over the clips; returns the epoch's rows of metrics.jsonl and timings.jsonl."""
        args, batches, progress = self.args, self.batches, self.progress
        ratio = teacher_forcing_ratio(epoch, start=args.tfr, decay_start=args.tfr_sde, step=args.tfr_d_step,
                                      floor=args.tfr_floor, interval=args.tfr_interval)  # fmt: skip
        batches.epoch, batches.first = epoch, progress.clips
        batches.fraction = args.fast_partial if args.fast_train and epoch < args.fast_train_epoch else 1.0
        self.learner.model.train()
        frames, before, begin = 0, progress.seconds, time.perf_counter()
        bar = tqdm(zip(self.loader, batches.places()), desc=f"epoch {epoch + 1}/{args.num_epoch}", leave=False,
                   disable=None if self.ranks.is_main else True, total=len(batches))  # fmt: skip
        for batch, position in bar:
            coin = np.random.default_rng(seed_for(args.seed, "coin", epoch, position.index if args.tfr_coin == "batch" else 0))
            forced = bool(coin.random() < ratio)
            beta = kl_weight(epoch + position.first_clip / batches.total, epochs=args.num_epoch, kind=args.kl_anneal_type,
                             cycles=args.kl_anneal_cycle, ratio=args.kl_anneal_ratio)  # fmt: skip
            self.learner.learning_rate(epoch + (position.first_clip + position.end_clip) / 2 / batches.total)
            loss, mse, kl = self.train_batch(batch, position, forced, beta)
            clips, length = batch["frames"].shape[:2]
            frames += clips * (length - 1)
            progress.clips, progress.seconds = position.end_clip, before + time.perf_counter() - begin
            if position.loss_weight:
                progress.add(clips, loss, mse, kl, beta, float(forced))
            if position.completes_step:
                self.pause()
            rate = self.ranks.world * frames / (time.perf_counter() - begin)
            fed = "true" if forced else "own"
            bar.set_postfix_str(f"loss {loss:.5f}, beta {beta:.2f}, {fed} frames fed back, {rate:.0f} frames/s")
        self.learner.share_statistics(self.ranks)
        last = (batches.total - 1) // batches.together * batches.together  # where the last batch began
        lr = self.learner.learning_rate(epoch + (last + batches.total) / 2 / batches.total)
        row = {"epoch": epoch, "step": self.learner.steps, **progress.means(self.ranks), "tfr": ratio, "lr": lr,
               "skipped": progress.skipped}  # fmt: skip
        rate = self.ranks.world * frames / max(time.perf_counter() - begin, 1e-9)
        return row, {"seconds": round(progress.seconds, 2), "frames_per_second": round(rate, 1)}

    def train_batch(self, batch: dict[str, Tensor], position: BatchPosition, forced: bool, beta: float) -> tuple[float, ...]:
        """Learns from one batch, with the last batch of an optimizer step takes that step; returns loss, mse, kl. Raises
        UserError after --bad_steps steps in a row whose numbers are not finite."""
        # What a clip draws depends on its own seed; should anything else be drawn, it depends on where the run is.
        torch.manual_seed(seed_for(self.args.seed, "step", self.epoch, position.index))
        losses = self.learner.learn(
            batch, forced=forced, beta=beta, weight=position.loss_weight, waits=not position.completes_step
        )
        if not math.isfinite(losses[0]):
            self.culprits.append(f"batch {position.index + 1} with the loss {losses[0]}")
        if position.completes_step:
            good = self.learner.ready()
            bad, self.stop, self.due = self.ranks.max_over_ranks(not good, self.interrupt.received, self.save_is_due())
            self.learner.step(leave_out=bool(bad))
            self.progress.in_a_row = self.progress.in_a_row + 1 if bad else 0
            if bad:
                self.leave_out(position)
            self.culprits = []
        return losses

    def leave_out(self, position: BatchPosition) -> None:
        """Notes a step that was not taken. Raises UserError after --bad_steps of them in a row."""
        args, progress = self.args, self.progress
        progress.clips = position.end_clip
        progress.skipped.append(position.index)
        culprits = sorted({culprit for found in self.ranks.gather_object(self.culprits) for culprit in found})
        where = " and ".join(culprits) or f"batch {position.index + 1}"
        found = f"epoch {self.epoch + 1}, {where}: the gradient's norm is {self.learner.norm}"
        if progress.in_a_row >= args.bad_steps:
            self.save("bad.ckpt")
            raise UserError(
                f"{found}; {progress.in_a_row} such steps in a row, so training stopped. {args.save_root} keeps its "
                f"checkpoints, bad.ckpt is the state now; try --ckpt_path {args.save_root} with another --save_root and a lower "
                f"--lr than {args.lr}"
            )
        if self.ranks.is_main:
            tqdm.write(f"{found}; the step is left out", file=sys.stderr)

    def save_is_due(self) -> bool:
        """Whether --save_minutes have passed since the newest checkpoint, by the first process's clock."""
        return self.ranks.is_main and time.perf_counter() - self.saved_at >= 60 * self.args.save_minutes

    def pause(self) -> None:
        """Between two steps: saves when that is due, and stops when that was asked for, in all processes alike."""
        if self.stop:
            self.leave()
        elif self.due and not self.progress.in_a_row:  # a run of bad steps would replace the last good state
            self.save("last.ckpt")

    def leave(self) -> None:
        """Saves, and raises Stopped."""
        if not self.save("last.ckpt"):
            self.run_folder.rescue()
        done = f"after {self.epoch} epochs" if not self.progress.clips else f"in epoch {self.epoch + 1} of {self.args.num_epoch}"
        name = "Ctrl-C" if self.stop == signal.SIGINT else signal.Signals(self.stop).name
        raise Stopped(f"stopped by {name} {done}; all is saved in {self.args.save_root}, go on with --resume", self.stop)

    def validate(self) -> tuple[dict, list[Tensor]]:
        """Rolls out the validation split from prior samples with the averaged weights, each process its share of the sequences:
        scores of all, and the videos of this process. Raises Stopped between two batches of them."""
        own = self.validation[self.ranks.rank :: self.ranks.world]
        videos: list[Tensor] = []
        scores: list[Score] = []
        while len(videos) < len(own) and not self.interrupt.received:
            batch = own[len(videos) : len(videos) + VALIDATION_BATCH]
            seeds = [seed_for(self.args.seed, "validation", sequence.name) for sequence in batch]
            rolled = rollout_sequences(
                self.learner.ema.module,
                batch,
                seeds,
                device=self.device,
                precision=self.args.amp,
                z_scale=1.0,
                batch_size=VALIDATION_BATCH,
            )
            videos += rolled
            scores += map(score, rolled, batch)
        (self.stop,) = self.ranks.max_over_ranks(self.interrupt.received)
        if self.stop:
            self.leave()
        shares = zip_longest(*self.ranks.gather_object(scores))  # every process had each so-manieth sequence
        ordered = [found for turn in shares for found in turn if found is not None]
        means = {f"val_{name}": value for name, value in summary(ordered).items()}
        steps = mean_per_step([s.psnr for s in ordered])
        return means | {"val_psnr_per_frame": [round(value, 2) for value in steps.tolist()]}, videos

    def state(self) -> dict:
        """All that a resumed run needs; every process must ask for it."""
        return {
            "model_config": self.config, "epoch": self.epoch, "best_psnr": self.best_psnr, "data": self.data,
            "progress": self.progress.state(self.ranks), "flags": plain(vars(self.args)), "versions": versions(),
            "history": self.run_folder.rows["metrics.jsonl"],
        } | self.learner.state()  # fmt: skip

    def save(self, *names: str) -> list[str]:
        """Writes the state under each name; returns the names for which it could be done."""
        self.saved_at = time.perf_counter()
        return self.run_folder.save(list(names), self.state())


def only_validate(args: argparse.Namespace, given: dict, ranks: Ranks, start: StartPoint) -> None:
    """Scores the checkpoint, which knows how it was trained: a student need not repeat it."""
    trained = {name: value for name, value in start.checkpoint["flags"].items() if name not in MACHINE_FLAGS}
    vars(args).update(trained | given)
    args.amp = given.get("amp", PRESETS[args.preset][args.model]["amp"])
    trainer = Trainer(args, start, ranks)
    trainer.resume(start)
    row, _ = trainer.validate()
    if ranks.is_main:
        print(f"val {row['val_psnr']:.2f} dB (by channel {row['val_channel_psnr']:.2f}, last 100 {row['val_closing']:.2f}), "
              f"SSIM {row['val_ssim']:.3f}; copy of the last given frame {row['val_copy']:.2f} dB, "
              f"median background {row['val_background']:.2f} dB")  # fmt: skip


def train(args: argparse.Namespace, given: dict, ranks: Ranks, run_folder: RunFolder | NoRunFolder) -> None:
    """A whole run, or what is left of one."""
    start = ranks.broadcast_object(choose_start(args, given) if ranks.is_main else None)
    if start.checkpoint:
        keep_schedule(args, given, start)
    trainer = Trainer(args, start, ranks)
    if start.checkpoint:
        trainer.resume(start)
        if trainer.epoch >= args.num_epoch and not (args.resume and start.continues_run):
            raise UserError(f"{start.path}: has {trainer.epoch} epochs already; expected fewer than --num_epoch {args.num_epoch}")
    flags = plain(vars(args))
    ranks.assert_same(data=trainer.data, **{name: value for name, value in flags.items() if name not in ELSEWHERE})
    earlier = run_folder.begin(flags, first_epoch=trainer.epoch, resumed=start.path, in_place=start.continues_run,
                            history=start.checkpoint and start.checkpoint["history"])  # fmt: skip
    if not (args.save_root / "best.ckpt").exists():
        trainer.best_psnr = -math.inf  # the first validation of this folder writes one
    trainer.run_folder = run_folder
    precision = "float32" if args.amp == "none" else args.amp
    left = f"epochs {trainer.epoch + 1} to {args.num_epoch}" if trainer.epoch < args.num_epoch else "no epoch is left to train"
    lines = [*start.messages, earlier and f"the earlier run in {args.save_root} was moved to {earlier}",
             f"{sum(p.numel() for p in trainer.learner.model.parameters()):,} parameters on {trainer.device} in {precision}, "
             f"{trainer.batches.total} clips an epoch, {left}",
             ranks.world > 1 and f"{ranks.world} processes take {trainer.batches.together} clips a batch"]  # fmt: skip
    if ranks.is_main:
        print(*filter(None, lines), sep="\n", flush=True)
    with trainer.interrupt:
        if not start.continues_run:
            trainer.save("last.ckpt")  # from now on the folder can be resumed from
        trainer.fit()
    if ranks.is_main:
        print(f"best validation {trainer.best_psnr:.2f} dB; everything is in {args.save_root}, the curves in training.png")


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args, given = parse_trainer_flags(argv)
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":  # after an accident nothing is begun anew
        args.resume, args.overwrite = "auto", False
    warn_without_cuda(args.device)
    ranks = Ranks()
    run_folder: RunFolder | NoRunFolder = NoRunFolder()
    try:
        if args.test:
            only_validate(args, given, ranks, choose_start(args, given))
            return
        if ranks.is_main:
            video_kinds(args.store_visualization or "gif", flag="--store_visualization")
            run_folder = RunFolder(args.save_root, use_wandb=args.use_wandb, use_tensorboard=args.use_tensorboard)
        train(args, given, ranks, run_folder)
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
