"""The course's network as a yardstick: its training and its roll-out, as the course runs them, in float32.

The network is no part of this project; it is loaded from a file that defines CourseNetwork with label_encoder, decode and
forward, one frame at a time, and where there is no such file its rows are left out.
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.common.measure import Timing, seconds
from Trainer import Trainer
from utils import UserError

CLIPS, LENGTH = 2, 16  # the course's batch and clip length
LATENT = 12  # channels of its z, which has the size of the frame
ROLLED = 30  # frames of a timed roll-out; each costs the same


class Course:
    """The network at the frame size of a run, on its device; pixels are noise, which costs the same."""

    def __init__(self, network: nn.Module, *, device: torch.device, height: int, width: int):
        self.device, self.size = device, (height, width)
        self.network = network.to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4)

    def training(self) -> Timing:
        """One optimizer step on CLIPS clips of LENGTH frames, frame by frame, own output fed back."""
        self.network.train()
        frames, poses = torch.rand(2, LENGTH, CLIPS, 3, *self.size, device=self.device)
        return Timing(CLIPS * (LENGTH - 1), seconds(lambda: self.step(frames, poses), self.device))

    def step(self, frames: Tensor, poses: Tensor) -> None:
        """frames and poses (T, B, 3, H, W)."""
        previous, loss = frames[0], torch.zeros((), device=self.device)
        for t in range(1, len(frames)):
            previous, mu, logvar = self.network(previous, poses[t], frames[t])
            kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / frames.shape[1]
            loss = loss + nn.functional.mse_loss(previous, frames[t]) + 1e-6 * kl
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()

    def rollout(self, side_by_side: int) -> Timing:
        """ROLLED frames of that many sequences, each frame from the one predicted before."""
        self.network.eval()
        first = torch.rand(side_by_side, 3, *self.size, device=self.device)
        poses = torch.rand(ROLLED, side_by_side, 3, *self.size, device=self.device)
        return Timing(side_by_side * ROLLED, seconds(lambda: self.roll(first, poses), self.device))

    @torch.no_grad()
    def roll(self, previous: Tensor, poses: Tensor) -> None:
        """From previous (B, 3, H, W) through poses (T, B, 3, H, W)."""
        for pose in poses:
            z = torch.randn(len(previous), LATENT, *self.size, device=self.device)
            previous = self.network.decode(previous, self.network.label_encoder(pose), z).clamp(0, 1)


def load_course(path: Path, trainer: Trainer) -> tuple[Course | None, str]:
    """The yardstick for a run, or None and why its rows are left out. Raises UserError for a file that holds no such network."""
    if trainer.args.model != "pose_cvae":
        return None, f"left out: --model {trainer.args.model} predicts no frames from pose images"
    if not path.is_file():
        return None, f"left out: no file {path.name} where --yardstick says"
    spec = importlib.util.spec_from_file_location("course_network", path)
    if spec is None:
        raise UserError(f"--yardstick {path}: is not a Python file; expected one that defines CourseNetwork")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "CourseNetwork"):
        raise UserError(f"--yardstick {path}: defines no CourseNetwork")
    args = trainer.args
    return Course(module.CourseNetwork(), device=trainer.device, height=args.frame_H, width=args.frame_W), ""
