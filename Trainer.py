"""Trains a video predictor: python Trainer.py --DR LAB4_Dataset --save_root runs/first

One epoch is a pass over random clips; every epoch ends with a roll-out of the validation split from prior samples.
"""
import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from checkpoints import find_checkpoint, load_checkpoint, load_weights, save_checkpoint
from dataloader import ClipSampler, build_loader
from devices import autocast, compile_parts, find_device, find_precision
from evaluation import mean_per_step, roll_out, score, summary
from families import FAMILIES
from flags import parse_trainer_flags
from modules import build_model
from pictures import comparison, save_gif
from plots import draw_training
from presets import PRESETS
from records import Records, plain, read_metrics
from schedules import kl_weight, learning_rate, teacher_forcing_ratio
from utils import Interrupt, UserError, one_line_errors, seed_for, to_model, versions

VALIDATION_BATCH = 8  # sequences rolled out side by side
MACHINE_FLAGS = ("device", "amp", "compile", "cache_dir", "num_workers")  # not taken over from where a checkpoint was trained


def build_optimiser(args: argparse.Namespace, model: torch.nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser that --optim names, in its one-kernel form where torch has one."""
    # AdamW decays weights apart from the gradient; for the others the same number would be a strong L2 penalty.
    decay = args.weight_decay if args.weight_decay is not None else 0.01 * (args.optim == "AdamW")
    common = {"lr": args.lr, "weight_decay": decay}
    fused = {"fused": True} if device.type in ("cuda", "cpu") else {}
    if args.optim == "SGD":
        return torch.optim.SGD(model.parameters(), momentum=args.beta1, **common, **fused)
    if args.optim == "RMSprop":
        return torch.optim.RMSprop(model.parameters(), alpha=args.beta2, **common)
    adam = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[args.optim]
    return adam(model.parameters(), betas=(args.beta1, args.beta2), **common, **fused)


def average(decay: float):
    """The EMA update for AveragedModel. Early on it forgets faster, so that the first random weights do not linger."""

    def update(averaged: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
        n = int(updates)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


class Trainer:
    """One run: data, model, optimiser and records, from flags that parse_trainer_flags() has checked. Raises UserError.

    `state` is the checkpoint that will be resumed or tested; only testing takes the whole model from it.
    """

    def __init__(self, args: argparse.Namespace, state: dict | None):
        self.args = args
        self.device = find_device(args.device)
        args.amp = find_precision(args.amp, self.device)
        self.family = FAMILIES[args.model]
        try:
            self.family.model.check_size(args.frame_H, args.frame_W)
        except ValueError as error:
            raise UserError(f"--frame_H, --frame_W: {error}") from None
        self.validation = self.family.sequences(args, self.family.validation)
        if args.test:
            self.config = state["model_config"]
        else:
            clips = self.family.clips(args)
            self.config = self.family.model_config(args, clips, state and state["model_config"])
            self.sampler = ClipSampler(len(clips), seed=args.seed)
            self.loader = build_loader(clips, self.sampler, batch_size=args.batch_size, workers=args.num_workers,
                                       pin=self.device.type == "cuda")  # fmt: skip
        if self.device.type == "mps" and "recompute" in args and args.recompute:
            raise UserError("--recompute: torch cannot draw the same z twice on mps; expected --device cpu or 0")
        torch.manual_seed(seed_for(args.seed, "weights"))
        self.model = build_model(self.config).to(self.device)
        try:
            self.model.check_conditions(self.validation[0].conditions)
        except ValueError as error:
            raise UserError(f"{args.DR}, {self.family.validation}: {error}") from None
        self.ema = AveragedModel(self.model, multi_avg_fn=average(args.ema))
        if args.compile:
            compile_parts(self.model, self.device)
        self.unrolling = {name: getattr(args, name) for name in ("feedback_noise", "recompute") if name in args}
        self.optimiser = build_optimiser(args, self.model, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=args.amp == "float16")
        self.epoch, self.step, self.best_psnr = 0, 0, -math.inf  # the next epoch, optimiser steps taken, best score
        self.interrupt = Interrupt()

    def resume(self, state: dict, path: Path) -> None:
        """Takes up the state of the checkpoint at `path`; training goes on with the epoch after it. Raises UserError."""
        preset = state["flags"].get("preset", self.args.preset)
        if preset != self.args.preset and not self.args.test:
            raise UserError(f"{path}: was trained with --preset {preset}, not {self.args.preset}")
        theirs, mine = state["model_config"], self.config
        if theirs["family"] != mine["family"]:
            raise UserError(f"{path}: is a checkpoint of {theirs['family']}; --model {self.args.model} is {mine['family']}")
        if theirs != mine:
            differ = [f"{k} {theirs.get(k)} there, {v} here" for k, v in mine.items() if theirs.get(k) != v]
            raise UserError(f"{path}: is a checkpoint of another model: {'; '.join(differ)}")
        for side in ("frame_H", "frame_W"):
            if state["flags"][side] != getattr(self.args, side):
                raise UserError(f"{path}: was trained with --{side} {state['flags'][side]}, not {getattr(self.args, side)}")
        load_weights(self.model, state["model"], path)
        load_weights(self.ema.module, state["ema"], path)
        self.ema.n_averaged.fill_(state["step"])
        if not self.args.test:
            if state["flags"]["optim"] != self.args.optim:
                raise UserError(f"{path}: was trained with --optim {state['flags']['optim']}, not {self.args.optim}")
            self.optimiser.load_state_dict(state["optimiser"])
            if state["scaler"]:  # empty where the run had no float16 before
                self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.best_psnr = state["epoch"], state["step"], state["best_psnr"]

    def fit(self, records: Records) -> None:
        """Trains the epochs that are left; each one ends with its row in the records, its checkpoint and its plots."""
        args, folder = self.args, self.args.save_root
        begin, first = time.perf_counter(), self.epoch
        while self.epoch < args.num_epoch:
            epoch = self.epoch
            row = self.train_epoch(epoch)
            self.epoch = epoch + 1
            last = self.epoch == args.num_epoch
            if last or self.epoch % args.val_every == 0:
                validation, videos = self.validate()
                row |= validation
                if math.isfinite(row["val_psnr"]) and row["val_psnr"] > self.best_psnr:
                    self.best_psnr = row["val_psnr"]
                    self.save(folder / "best.ckpt")
            if last or self.epoch % args.per_save == 0:
                self.save(folder / f"epoch={epoch}.ckpt")
                if args.store_visualization and "val_psnr" in row:
                    fps = self.family.tester_defaults["fps"]
                    save_gif(folder / f"val_epoch={epoch}.gif", comparison(videos[:1], self.validation[0]), fps=fps)
            records.add(row)
            self.save(folder / "last.ckpt")
            draw_training({folder.name: read_metrics(records.metrics)}, folder / "training.png")
            left = (time.perf_counter() - begin) / (self.epoch - first) * (args.num_epoch - self.epoch)
            tqdm.write(describe(row, args.num_epoch, self.best_psnr, left))

    def train_epoch(self, epoch: int) -> dict:
        """One pass over the clips; returns the epoch's row of metrics.jsonl."""
        args = self.args
        ratio = teacher_forcing_ratio(epoch, start=args.tfr, decay_start=args.tfr_sde, step=args.tfr_d_step,
                                      floor=args.tfr_floor, interval=args.tfr_interval)  # fmt: skip
        self.sampler.epoch = epoch
        self.sampler.fraction = args.fast_partial if args.fast_train and epoch < args.fast_train_epoch else 1.0
        self.model.train()
        sums, frames, begin = np.zeros(5), 0, time.perf_counter()  # loss, mse, kl, beta and forced, each times clips
        bar = tqdm(self.loader, desc=f"epoch {epoch + 1}/{args.num_epoch}", leave=False, disable=None)
        for index, batch in enumerate(bar):
            coin = np.random.default_rng(seed_for(args.seed, "coin", epoch, index if args.tfr_coin == "batch" else 0))
            forced = bool(coin.random() < ratio)
            beta = kl_weight(epoch + index / len(self.loader), epochs=args.num_epoch, kind=args.kl_anneal_type,
                             cycles=args.kl_anneal_cycle, ratio=args.kl_anneal_ratio)  # fmt: skip
            lr = self.learning_rate(epoch + (index + 0.5) / len(self.loader))
            loss, mse, kl = self.train_batch(batch, epoch, index, forced, beta)
            clips, length = batch["frames"].shape[:2]
            sums += clips * np.array([loss, mse, kl, beta, forced])
            frames += clips * (length - 1)
            if self.interrupt.requested:
                saved = f"{epoch} epochs are saved, go on with --ckpt_path {args.save_root}" if epoch else "nothing was saved yet"
                raise KeyboardInterrupt(f"stopped by Ctrl-C in epoch {epoch + 1}; {saved}")
            rate = frames / (time.perf_counter() - begin)
            fed = "true" if forced else "own"
            bar.set_postfix_str(f"loss {loss:.5f}, beta {beta:.2f}, {fed} frames fed back, {rate:.0f} frames/s")
        loss, mse, kl, beta, forced = (sums / len(self.sampler)).tolist()
        seconds = time.perf_counter() - begin
        return {
            "epoch": epoch, "step": self.step, "loss": loss, "mse": mse, "kl": kl, "beta": beta, "tfr": ratio, "forced": forced,
            "lr": lr, "seconds": round(seconds, 2), "frames_per_second": round(frames / seconds, 1),
        }  # fmt: skip

    def learning_rate(self, epoch: float) -> float:
        """Sets and returns the learning rate at a point of the run, 2.5 being the middle of the third epoch."""
        args = self.args
        lr = learning_rate(epoch, epochs=args.num_epoch, base=args.lr, kind=args.lr_schedule, warmup=args.lr_warmup,
                           step_epochs=args.lr_step, gamma=args.lr_gamma, final=args.lr_final)  # fmt: skip
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        return lr

    def train_batch(self, batch: dict[str, Tensor], epoch: int, index: int, forced: bool, beta: float) -> tuple[float, ...]:
        """Forward and backward of one batch, an optimiser step after every `accumulate` of them; returns loss, mse, kl."""
        args = self.args
        # Noise and z depend on where the run is, not on what was drawn before.
        torch.manual_seed(seed_for(args.seed, "step", epoch, index))
        inputs = {name: to_model(value, self.device) for name, value in batch.items()}
        with autocast(self.device, args.amp):
            mse, kl, log_mse = self.model(**inputs, teacher_forcing=forced, **self.unrolling)
        # Times 1e-3, a frame of that mse, 30 dB, weighs the same either way, and so does KL beside it.
        distortion = 1e-3 * log_mse if args.distortion == "log_mse" else mse
        loss = distortion + beta * args.kl_weight * kl
        # A group of batches counts by its clips, so that accumulation equals one large batch, the last smaller one included.
        first_of_group = index - index % args.accumulate
        group_clips = min(args.batch_size * args.accumulate, len(self.sampler) - first_of_group * args.batch_size)
        self.scaler.scale(loss * (len(batch["frames"]) / group_clips)).backward()
        if (index + 1) % args.accumulate == 0 or index + 1 == len(self.loader):
            self.scaler.unscale_(self.optimiser)
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), args.grad_clip)
            # float16 overflows now and then by design: the scaler skips such a step and lowers its scale.
            if not torch.isfinite(loss if self.scaler.is_enabled() else loss + norm):
                raise UserError(
                    f"epoch {epoch + 1}, batch {index + 1}: the loss is {loss.item()} and the gradient's norm {norm.item()}; "
                    f"training stopped, {args.save_root} keeps the checkpoints made so far; try a lower --lr than {args.lr}"
                )
            self.scaler.step(self.optimiser)
            self.scaler.update()
            self.optimiser.zero_grad(set_to_none=True)
            self.ema.update_parameters(self.model)
            self.step += 1
        return loss.item(), mse.item(), kl.item()

    def validate(self) -> tuple[dict, list[Tensor]]:
        """Rolls out the whole validation split from prior samples with the averaged weights: scores and the videos."""
        torch.manual_seed(seed_for(self.args.seed, "validation"))
        videos = roll_out(self.ema.module, self.validation, device=self.device, precision=self.args.amp,
                          z_scale=1.0, batch_size=VALIDATION_BATCH)  # fmt: skip
        scores = [score(video, sequence) for video, sequence in zip(videos, self.validation)]
        means = {f"val_{name}": value for name, value in summary(scores).items()}
        steps = mean_per_step([s.psnr for s in scores])
        return means | {"val_psnr_per_frame": [round(value, 2) for value in steps.tolist()]}, videos

    def save(self, path: Path) -> None:
        """Writes all that a resumed run needs."""
        save_checkpoint(path, {
            "model_config": self.config, "model": self.model.state_dict(), "ema": self.ema.module.state_dict(),
            "optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict(), "epoch": self.epoch, "step": self.step,
            "best_psnr": self.best_psnr, "flags": plain(vars(self.args)), "versions": versions(),
        })  # fmt: skip


def describe(row: dict, epochs: int, best: float, seconds_left: float) -> str:
    """One line for the terminal about a finished epoch."""
    line = (f"epoch {row['epoch'] + 1}/{epochs}  loss {row['loss']:.5f}  mse {row['mse']:.5f}  kl {row['kl']:.1f} nats  "
            f"beta {row['beta']:.2f}  tfr {row['tfr']:.2f}  {row['frames_per_second']:.0f} frames/s")  # fmt: skip
    if "val_psnr" in row:
        closing = f"last 100 {row['val_closing']:.2f}, " if row["val_closing"] != row["val_psnr"] else ""
        line += f"  val {row['val_psnr']:.2f} dB ({closing}best {best:.2f})  ssim {row['val_ssim']:.3f}"
    return line + f"  left {int(seconds_left) // 60}m{int(seconds_left) % 60:02d}s"


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args, given = parse_trainer_flags(argv)
    if args.test and args.ckpt_path is None:
        raise UserError("--test: needs --ckpt_path, the checkpoint to validate")
    records = None if args.test else Records(args.save_root, use_wandb=args.use_wandb, use_tensorboard=args.use_tensorboard)
    checkpoint = find_checkpoint(args.ckpt_path, prefer="best" if args.test else "last") if args.ckpt_path else None
    state = load_checkpoint(checkpoint) if checkpoint else None
    if args.test:  # the checkpoint knows how it was trained; a student need not repeat it
        trained = {name: value for name, value in state["flags"].items() if name not in MACHINE_FLAGS}
        vars(args).update(trained | given)
        args.amp = given.get("amp", PRESETS[args.preset][args.model]["amp"])
    elif state:  # a run that is made longer does not go back to true frames
        schedule = {name: state["flags"][name] for name in ("tfr_sde", "tfr_d_step") if name not in given}
        vars(args).update(schedule)
    trainer = Trainer(args, state)
    if checkpoint:
        trainer.resume(state, checkpoint)
        if trainer.epoch >= args.num_epoch and not args.test:
            raise UserError(f"{checkpoint}: has {trainer.epoch} epochs already; expected fewer than --num_epoch {args.num_epoch}")
    if args.test:
        row, _ = trainer.validate()
        print(f"val {row['val_psnr']:.2f} dB (by channel {row['val_channel_psnr']:.2f}, last 100 {row['val_closing']:.2f}), "
              f"SSIM {row['val_ssim']:.3f}; copy of the last given frame {row['val_copy']:.2f} dB, "
              f"median background {row['val_background']:.2f} dB")  # fmt: skip
        return
    if earlier := records.begin(plain(vars(args)), first_epoch=trainer.epoch, resumed=checkpoint):
        print(f"the earlier run in {args.save_root} was moved to {earlier}")
    if not (args.save_root / "best.ckpt").exists():
        trainer.best_psnr = -math.inf  # the first validation of this folder writes one
    if checkpoint and not (args.save_root / "last.ckpt").exists():
        trainer.save(args.save_root / "last.ckpt")  # so that this folder can be resumed from before its first epoch ends
    parameters = sum(p.numel() for p in trainer.model.parameters())
    precision = "float32" if args.amp == "none" else args.amp
    print(f"{parameters:,} parameters on {trainer.device} in {precision}, {len(trainer.sampler)} clips an epoch, "
          f"epochs {trainer.epoch + 1} to {args.num_epoch}")  # fmt: skip
    try:
        with trainer.interrupt:
            trainer.fit(records)
    finally:
        records.close()
    print(f"best validation {trainer.best_psnr:.2f} dB; everything is in {args.save_root}, the curves in training.png")


if __name__ == "__main__":
    main()
