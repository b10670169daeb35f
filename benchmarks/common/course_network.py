"""The course's network as a reference for speed: its training step and its rollout, as the course runs them, in float32.

The network is not part of this project. It is loaded from a file that defines CourseNetwork with label_encoder, decode and
forward, one frame at a time. Without that file the benchmark omits the network's rows.

B clips, T frames of a clip.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common.measure import Timing, time_work
from Trainer import Trainer
from utils import UserError

CLIPS, LENGTH = 2, 16  # the course's batch and clip length
LATENT_CHANNELS = 12  # of the course's z, which has the size of the frame
ROLLOUT_FRAMES = 30  # of a timed rollout; each frame costs the same


class CourseBenchmark:
    """The course's network at the frame size and on the device of a run. The pixels are noise, which costs the same."""

    def __init__(self, network: nn.Module, *, device: torch.device, height: int, width: int):
        self.device, self.size = device, (height, width)
        self.network: Any = network.to(device)  # Any: nn.Module declares neither decode nor label_encoder
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4)

    def time_training(self) -> Timing:
        """Time one autoregressive optimizer step on CLIPS clips of LENGTH frames."""
        self.network.train()
        frames, poses = torch.rand(2, LENGTH, CLIPS, 3, *self.size, device=self.device)
        return Timing(CLIPS * (LENGTH - 1), time_work(lambda: self.train_step(frames, poses), self.device))

    def train_step(self, frames: Tensor, poses: Tensor) -> None:
        """Take one optimizer step on frames and poses (T, B, 3, H, W)."""
        previous, loss = frames[0], torch.zeros((), device=self.device)
        for t in range(1, len(frames)):
            previous, mu, logvar = self.network(previous, poses[t], frames[t])
            kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / frames.shape[1]
            loss = loss + nn.functional.mse_loss(previous, frames[t]) + 1e-6 * kl
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()

    def time_rollout(self, batch_size: int) -> Timing:
        """Time the rollout of `batch_size` sequences of ROLLOUT_FRAMES frames."""
        self.network.eval()
        first = torch.rand(batch_size, 3, *self.size, device=self.device)
        poses = torch.rand(ROLLOUT_FRAMES, batch_size, 3, *self.size, device=self.device)
        return Timing(batch_size * ROLLOUT_FRAMES, time_work(lambda: self.rollout(first, poses), self.device))

    @torch.no_grad()
    def rollout(self, previous: Tensor, poses: Tensor) -> None:
        """Predict one frame per pose, from previous (B, 3, H, W) and poses (T, B, 3, H, W)."""
        for pose in poses:
            z = torch.randn(len(previous), LATENT_CHANNELS, *self.size, device=self.device)
            previous = self.network.decode(previous, self.network.label_encoder(pose), z).clamp(0, 1)


def load_course_network(path: Path, trainer: Trainer) -> tuple[CourseBenchmark | None, str]:
    """Return the course's network for a run, or None and the reason why its rows are omitted.

    Raises UserError for a file without such a network.
    """
    args = trainer.args
    if args.model != "pose_cvae":
        return None, f"omitted: --model {args.model} does not predict frames from pose images"
    if not path.is_file():
        return None, f"omitted: --yardstick {path.name}: no such file"
    spec = importlib.util.spec_from_file_location("course_network", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--yardstick {path}: expected a Python file that defines CourseNetwork")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "CourseNetwork"):
        raise UserError(f"--yardstick {path}: expected a definition of CourseNetwork, got none")
    network = CourseBenchmark(module.CourseNetwork(), device=trainer.device, height=args.frame_H, width=args.frame_W)
    return network, ""
