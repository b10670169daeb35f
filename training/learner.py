"""A model in training: its EMA copy, its optimizer, and a guard against non-finite values."""

import argparse
import contextlib
import copy
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from modules.base import SequenceLoss, VideoModel
from modules.gaussian import Noise
from runtime.devices import autocast, compile_parts
from runtime.distributed import Ranks
from training.checkpoints import load_weights
from training.cuda_graphs import GraphedPass, Pass
from utils import to_model


class Losses(NamedTuple):
    """The losses of a batch as plain numbers: what was minimized, mean squared error, and KL in nats per frame."""

    loss: float
    mse: float
    kl: float


class GradientCheck(NamedTuple):
    """The state of the gradients of an optimizer step, before it is applied or discarded."""

    norm: float  # before clipping
    usable: bool  # whether the step may be applied
    overflowed: bool  # whether float16 overflowed, for which the loss scale is lowered


def build_optimizer(args: argparse.Namespace, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer that --optim names, in its fused form where torch has one."""
    # AdamW decays weights apart from the gradient; for the others the same number would be a strong L2 penalty.
    decay = args.weight_decay if args.weight_decay is not None else 0.01 * (args.optim == "AdamW")
    fused = True if device.type in ("cuda", "cpu") else None
    if args.optim == "SGD":
        return torch.optim.SGD(model.parameters(), lr=args.lr, weight_decay=decay, momentum=args.beta1, fused=fused)
    if args.optim == "RMSprop":
        return torch.optim.RMSprop(model.parameters(), lr=args.lr, weight_decay=decay, alpha=args.beta2)
    adam = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[args.optim]
    return adam(model.parameters(), lr=args.lr, weight_decay=decay, betas=(args.beta1, args.beta2), fused=fused)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Load an optimizer's state of a checkpoint, but keep the settings that the flags gave."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(copy.deepcopy(state))  # without the copy they would share tensors
    for group, own in zip(optimizer.param_groups, settings):
        group.update(own)


def batch_statistics(model: nn.Module) -> list[Tensor]:
    """Return the running statistics of batch normalization, which every forward pass changes."""
    return [buffer for part in model.modules() if isinstance(part, _BatchNorm) for buffer in part.buffers()]


def model_inputs(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the tensors of a batch of clips that a model's forward takes, by name, on the device; the clips' seeds are not."""
    return {name: to_model(value, device) for name, value in batch.items() if name != "seed"}


def data_parallel(model: VideoModel) -> DistributedDataParallel:
    """Return the model wrapped for several processes, which average their gradients."""
    if next(model.parameters()).device.type != "cpu":
        return DistributedDataParallel(model)
    # Without the search for unused weights, of which there are none, the order in which gradients are sent changes after the
    # first step. A resumed run would change it later than an uninterrupted one, and sums over three processes would differ in
    # their last bits. torch warns once about the cost, which is small compared with a step on a CPU.
    return DistributedDataParallel(model, find_unused_parameters=True)


def uses_cuda_graphs(args: argparse.Namespace, device: torch.device, *, distributed: bool, statistics: bool) -> bool:
    """Return whether passes are recorded: on a GPU, unless a repetition would differ from the first pass."""
    # The gradients of several passes would replace each other, and warm-up passes would count as batches of the statistics.
    differs = args.accumulate > 1 or statistics or distributed
    return device.type == "cuda" and not differs and not args.compile and not getattr(args, "recompute", 0)


class Learner:
    """A model in training, with the flags of Trainer.py.

    An optimizer step is accumulate_gradients() for each of its batches, then clip_gradients(), then apply_step() or
    discard_step(). With `distributed`, other processes train the same model and average their gradients with this one.
    """

    def __init__(self, model: VideoModel, args: argparse.Namespace, device: torch.device, *, distributed: bool):
        self.args, self.device, self.model = args, device, model.to(device)
        self.ema_model = copy.deepcopy(self.model)
        for part in self.ema_model.modules():
            if isinstance(part, nn.RNNBase):
                part.flatten_parameters()  # cuDNN wants them in one piece, which copying has divided
        self.statistics = batch_statistics(self.model)
        if args.compile:
            compile_parts(self.model, device)
        # Only forward goes through the wrapper, which averages the gradients; everything else is asked of the model itself.
        self.parallel = data_parallel(self.model) if distributed else None
        self.optimizer = build_optimizer(args, self.model, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "float16")
        # Arguments of forward that are flags; a model without such an argument has no such flag.
        self.unroll_settings = {name: getattr(args, name) for name in ("feedback_noise", "recompute") if name in args}
        self.run_pass = self.forward_backward
        if uses_cuda_graphs(args, device, distributed=distributed, statistics=bool(self.statistics)):
            self.run_pass = GraphedPass(self.forward_backward, self.model.parameters())
        self.steps = 0  # applied so far
        self.begin_step()

    def begin_step(self) -> None:
        """Clear the gradients before the first batch of an optimizer step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.losses_finite = True
        self.statistics_before = [buffer.clone() for buffer in self.statistics]

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def accumulate_gradients(
        self, batch: dict[str, Tensor], *, teacher_forced: bool, beta: float, loss_weight: float, completes_step: bool
    ) -> Losses:
        """Run forward and backward on one batch, whose loss counts `loss_weight` times. Return its losses.

        The processes exchange gradients only with the batch that `completes_step`.
        """
        waits = self.parallel.no_sync() if self.parallel and not completes_step else contextlib.nullcontext()
        with waits:
            noise = Noise(batch["seed"].tolist(), batch=len(batch["seed"]), device=self.device)
            inputs = model_inputs(batch, self.device)
            losses = Losses(*self.run_pass(Pass(inputs, noise, teacher_forced, beta * self.args.kl_weight, loss_weight)).tolist())
        self.losses_finite = self.losses_finite and math.isfinite(losses.loss)
        return losses

    def forward_backward(self, given: Pass) -> Tensor:
        """Add to the gradients of the loss, distortion + beta KL. Return loss, mse and kl, (3,)."""
        with autocast(self.device, self.args.amp):
            settings = {"noise": given.noise, "teacher_forcing": given.teacher_forced} | self.unroll_settings
            terms = SequenceLoss(*(self.parallel or self.model)(**given.inputs, **settings))
        # With 1e-3 a frame of 30 dB has the same gradient in either distortion, and KL the same weight next to it.
        distortion = 1e-3 * terms.log_mse if self.args.distortion == "log_mse" else terms.mse
        loss = distortion + given.kl_weight * terms.kl
        self.scaler.scale(loss * given.loss_weight).backward()
        return torch.stack([loss, terms.mse, terms.kl]).detach()

    def clip_gradients(self) -> GradientCheck:
        """Clip the accumulated gradients to --grad_clip. Return whether the step may be applied."""
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.args.grad_clip).item()
        # float16 overflows by design, and the scaler answers with a lower scale while there is room for one.
        overflowed = not math.isfinite(norm) and self.scaler.is_enabled() and self.scaler.get_scale() > 1
        usable = self.losses_finite and (math.isfinite(norm) or overflowed)
        return GradientCheck(norm, usable, overflowed)

    def apply_step(self, check: GradientCheck) -> None:
        """Update the weights and their EMA, or only lower the loss scale if float16 overflowed."""
        if math.isfinite(check.norm):
            self.scaler.step(self.optimizer)
            self.update_ema()
            self.steps += 1
        self.end_step(check)

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the EMA weights towards the weights, faster at first, so that the initial ones do not linger."""
        decay = min(self.args.ema, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        averaged: list[Tensor] = list(self.ema_model.parameters())
        current: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for mine, its in zip(self.ema_model.buffers(), self.model.buffers()):
            mine.copy_(its)

    def discard_step(self, check: GradientCheck) -> None:
        """Leave weights and batch statistics as they were before the first batch of the step."""
        for buffer, value in zip(self.statistics, self.statistics_before):
            buffer.copy_(value)
        self.end_step(check)

    def end_step(self, check: GradientCheck) -> None:
        """Update the loss scale and begin the next step."""
        # Halved by hand: where only the norm overflows, and no element, the scaler has noticed nothing.
        self.scaler.update(self.scaler.get_scale() / 2 if check.overflowed else None)
        self.begin_step()

    def broadcast_statistics(self, ranks: Ranks) -> None:
        """Copy the batch statistics of the main process, whose model is saved, to all processes."""
        ranks.broadcast_tensors_([buffer for model in (self.model, self.ema_model) for buffer in batch_statistics(model)])

    def state(self) -> dict:
        """Return the entries of a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema_model.state_dict(),
            "optimiser": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.steps,
        }

    def load(self, state: dict, path: Path, *, for_training: bool) -> None:
        """Load the state of the checkpoint at `path`, the optimizer's only `for_training`. Raises UserError for other models."""
        load_weights(self.model, state["model"], path)
        load_weights(self.ema_model, state["ema"], path)
        self.steps = state["step"]
        self.begin_step()  # notes the loaded statistics
        if for_training:
            load_optimizer_state(self.optimizer, state["optimiser"])
            if state["scaler"] and self.scaler.is_enabled():  # empty where the run had no float16 before
                self.scaler.load_state_dict(state["scaler"])
