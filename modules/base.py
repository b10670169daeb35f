"""The contract between every model and Trainer and Tester.

Shapes: B batch, T frames, H x W frame size, A condition values.
Video is (B, T, 3, H, W) float in [0, 1]. Conditions (B, T, ...) are pose images (B, T, 3, H, W) or actions (B, T, A).
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from modules.gaussian import Noise

MSE_FLOOR = 1e-4  # 40 dB; beyond it a frame is good enough, and its logarithm stays bounded


class SequenceLoss(NamedTuple):
    """Distortion and rate, averaged over the predicted frames, so that their ratio does not depend on the clip length."""

    mse: Tensor  # per pixel value, in [0, 1]
    kl: Tensor  # nats per frame, summed over the latent
    log_mse: Tensor  # natural logarithm of each frame's mse + MSE_FLOOR: mean PSNR times -ln 10 / 10


def sequence_loss(predicted: Tensor, target: Tensor, kl: Tensor) -> SequenceLoss:
    """Return the loss of predicted frames against target frames, (..., 3, H, W) float32 each, with the mean KL."""
    frame_mse = (predicted - target).square().mean(dim=(-3, -2, -1))
    return SequenceLoss(functional.mse_loss(predicted, target), kl, torch.log(frame_mse + MSE_FLOOR).mean())


class VideoModel(nn.Module, ABC):
    """A model that predicts video frame by frame, each frame from the previous one, a condition and a latent z.

    `context` is the number of context frames, which are given at the start of a sequence.
    """

    context: int

    @staticmethod
    @abstractmethod
    def check_size(height: int, width: int) -> None:
        """Raise ValueError for a frame size that no configuration of the model can take. Called before data are read."""

    @abstractmethod
    def check_conditions(self, conditions: Tensor) -> None:
        """Raise ValueError if conditions (T, ...) are not of the kind that this model was built for."""

    @abstractmethod
    def forward(
        self,
        frames: Tensor,
        conditions: Tensor,
        *,
        teacher_forcing: bool,
        feedback_noise: float = 0.0,
        noise: Noise | None = None,
    ) -> SequenceLoss:
        """Return the loss of one clip: the whole unrolled training pass, with z from the posterior.

        frames (B, T, 3, H, W) and conditions (B, T, ...) go together by t. Conditions may be longer than the clip, by the
        same number at either end. The previous frame is the true one with teacher_forcing, else the model's own prediction;
        Gaussian noise of standard deviation feedback_noise is added to it. All random draws come from `noise`; None
        draws them from torch's global generator. A model may take further entries of a data set's clips by name.
        """

    @abstractmethod
    def rollout(
        self, context_frames: Tensor, conditions: Tensor, *, z_scale: float = 1.0, seeds: list[int] | None = None
    ) -> Tensor:
        """Return video (B, T, 3, H, W) for context_frames (B, context, 3, H, W), which come first, and conditions (B, T, ...).

        z is the prior's mean plus z_scale times its noise: 1 samples the prior, 0 takes its mean. `seeds`, one per sequence,
        determine the samples, see Noise. Runs without gradients.
        """
