"""A model that learns: its averaged copy, its optimizer, and a guard against numbers that are none."""

import argparse
import contextlib
import copy
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from modules.base import VideoModel
from runtime.devices import autocast, compile_parts
from runtime.distributed import Ranks
from training.checkpoints import load_weights
from training.schedules import learning_rate
from utils import to_model


def build_optimizer(args: argparse.Namespace, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer that --optim names, in its one-kernel form where torch has one."""
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


def load_moments(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Takes up an optimizer's state of a checkpoint, but keeps the settings that the flags gave."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(copy.deepcopy(state))  # which else would share its tensors
    for group, own in zip(optimizer.param_groups, settings):
        group.update(own)


def average(decay: float):
    """The EMA update for AveragedModel. Early on it forgets faster, so that the first random weights do not linger."""

    def update(averaged: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
        n = int(updates)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def statistics_of(model: nn.Module) -> list[Tensor]:
    """The running statistics of batch normalisation, which every forward pass changes."""
    return [buffer for part in model.modules() if isinstance(part, _BatchNorm) for buffer in part.buffers()]


def inputs_of(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """What a model's forward takes of a batch of clips, by name; the clips' seeds are no tensors to compute with."""
    return {name: to_model(value, device) for name, value in batch.items() if name != "seed"}


def in_parallel(model: VideoModel) -> DistributedDataParallel:
    """The model, called by several processes that average their gradients."""
    if next(model.parameters()).device.type != "cpu":
        return DistributedDataParallel(model)
    # Looking for unused weights, of which there are none, keeps the order in which gradients are sent; else it is changed after
    # the first step, a resumed run changes it later than one that was not cut, and sums over three processes get other bits.
    # torch warns once of what that costs, which is little beside a step on a CPU.
    return DistributedDataParallel(model, find_unused_parameters=True)


class Learner:
    """A model in training, with flags of Trainer.py. `together`: other processes learn the same, and average their gradients."""

    def __init__(self, model: VideoModel, args: argparse.Namespace, device: torch.device, *, together: bool):
        self.args, self.device, self.model = args, device, model.to(device)
        self.ema = AveragedModel(self.model, multi_avg_fn=average(args.ema))
        self.statistics = statistics_of(self.model)
        if args.compile:
            compile_parts(self.model, device)
        # All processes call this one, which averages the gradients; all else is asked of the model itself.
        self.parallel = in_parallel(self.model) if together else self.model
        self.optimizer = build_optimizer(args, self.model, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "float16")
        self.unrolling = {name: getattr(args, name) for name in ("feedback_noise", "recompute") if name in args}
        self.steps = 0  # that the optimizer has taken
        self.begin_step()

    def begin_step(self) -> None:
        """Before the first batch of an optimizer step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.finite, self.norm = True, math.nan  # whether all losses of the step are finite; the norm of its gradient
        self.before = [buffer.clone() for buffer in self.statistics]

    def learning_rate(self, epoch: float) -> float:
        """Sets and returns the learning rate at a point of the run, 2.5 being the middle of the third epoch."""
        args = self.args
        lr = learning_rate(epoch, epochs=args.num_epoch, base=args.lr, kind=args.lr_schedule, warmup=args.lr_warmup,
                           step_epochs=args.lr_step, gamma=args.lr_gamma, final=args.lr_final)  # fmt: skip
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def learn(self, batch: dict[str, Tensor], *, forced: bool, beta: float, weight: float, waits: bool) -> tuple[float, ...]:
        """Forward and backward of one batch, whose loss counts `weight` times; returns loss, mse, kl. `waits`: more batches of
        the same optimizer step follow, so that the processes need not exchange gradients yet."""
        inputs = inputs_of(batch, self.device)
        alone = self.parallel is self.model or not waits
        with contextlib.nullcontext() if alone else self.parallel.no_sync():
            with autocast(self.device, self.args.amp):
                losses = self.parallel(**inputs, seeds=batch["seed"].tolist(), teacher_forcing=forced, **self.unrolling)
            mse, kl, log_mse = losses
            # Times 1e-3, a frame of that mse, 30 dB, weighs the same either way, and so does KL beside it.
            distortion = 1e-3 * log_mse if self.args.distortion == "log_mse" else mse
            loss = distortion + beta * self.args.kl_weight * kl
            self.scaler.scale(loss * weight).backward()
        value = loss.item()
        self.finite = self.finite and math.isfinite(value)
        return value, mse.item(), kl.item()

    def ready(self) -> bool:
        """Clips the gradient of the batches learnt from; whether its step can be taken."""
        self.scaler.unscale_(self.optimizer)
        self.norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.args.grad_clip).item()
        return self.finite and (math.isfinite(self.norm) or self.overflows())

    def overflows(self) -> bool:
        """Whether a gradient that is not finite is float16's, by design: the scaler then lowers its scale, while there is
        something to lower."""
        return not math.isfinite(self.norm) and self.scaler.is_enabled() and self.scaler.get_scale() > 1

    def step(self, *, leave_out: bool) -> None:
        """The optimizer's step and the average's, unless it must be left out; then all is as before its first batch."""
        if not leave_out and math.isfinite(self.norm):
            self.scaler.step(self.optimizer)
            self.ema.update_parameters(self.model)
            self.steps += 1
        if leave_out:
            for buffer, value in zip(self.statistics, self.before):
                buffer.copy_(value)
        # Halved by hand: where only the norm overflows, and no element, the scaler has seen nothing.
        self.scaler.update(self.scaler.get_scale() / 2 if self.overflows() else None)
        self.begin_step()

    def share_statistics(self, ranks: Ranks) -> None:
        """Gives all processes the running statistics of the first, whose model is saved."""
        ranks.broadcast_tensors_([buffer for model in (self.model, self.ema.module) for buffer in statistics_of(model)])

    def state(self) -> dict:
        """For a checkpoint."""
        return {"model": self.model.state_dict(), "ema": self.ema.module.state_dict(), "optimiser": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(), "step": self.steps}  # fmt: skip

    def load(self, state: dict, path: Path, *, moments: bool) -> None:
        """Takes up the state of the checkpoint at `path`; `moments`: to train on. Raises UserError for another model's."""
        load_weights(self.model, state["model"], path)
        load_weights(self.ema.module, state["ema"], path)
        self.steps = state["step"]
        self.ema.n_averaged.fill_(self.steps)
        self.begin_step()  # which notes the statistics that were loaded
        if moments:
            load_moments(self.optimizer, state["optimiser"])
            if state["scaler"] and self.scaler.is_enabled():  # empty where the run had no float16 before
                self.scaler.load_state_dict(state["scaler"])
