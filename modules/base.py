"""What every model family promises to Trainer and Tester (B batch, T frames, H x W frame size)."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

MSE_FLOOR = 1e-4  # 40 dB; from there on a frame is good enough, and its logarithm need not fall for ever


class SequenceLoss(NamedTuple):
    """Averages per predicted frame, so that their ratio does not depend on the clip length."""

    mse: Tensor  # per pixel, pixels in [0, 1]
    kl: Tensor  # nats, summed over the latent, averaged over the batch
    log_mse: Tensor  # natural logarithm of each frame's own mse, MSE_FLOOR added: the mean PSNR up to a factor of -10 / ln 10


def sequence_loss(predicted: Tensor, target: Tensor, kl: Tensor) -> SequenceLoss:
    """The loss of predicted frames against the true ones, (..., 3, H, W) each, float32."""
    frame_mse = (predicted - target).square().mean(dim=(-3, -2, -1))
    return SequenceLoss(functional.mse_loss(predicted, target), kl, torch.log(frame_mse + MSE_FLOOR).mean())


class VideoModel(nn.Module, ABC):
    """A model that predicts a video frame by frame, each from its own last prediction, a condition and a latent z.

    `context` is the number of frames that are given at the start of a sequence.
    """

    context: int

    @staticmethod
    @abstractmethod
    def check_size(height: int, width: int) -> None:
        """Raises ValueError for frames that no model of the family can take; asked before data are read."""

    @abstractmethod
    def check_conditions(self, conditions: Tensor) -> None:
        """Raises ValueError if conditions (T, ...) are not of the kind that this model was built for."""

    @abstractmethod
    def forward(
        self,
        frames: Tensor,
        conditions: Tensor,
        *,
        teacher_forcing: bool,
        feedback_noise: float = 0.0,
        seeds: list[int] | None = None,
    ) -> SequenceLoss:
        """The whole unrolled training pass over one clip, z from the posterior.

        frames (B, T, 3, H, W) in [0, 1] and conditions (B, T, ...) go together by t; a model may take more conditions, as many
        before the clip as behind it. With teacher_forcing the frame before is the true one, without it the model's own.
        feedback_noise is the standard deviation of what is added to it. `seeds`, one for each clip, decide all that is drawn
        at random, see Noise. What else a data set hands over with its clips, a model takes by name.
        """

    @abstractmethod
    def rollout(
        self, given: Tensor, conditions: Tensor, *, z_scale: float = 1.0, seeds: list[int] | None = None
    ) -> Tensor:  # fmt: skip
        """Predicts (B, T, 3, H, W) from given (B, context, 3, H, W) and conditions (B, T, ...); the given frames come first.

        z is a prior sample times z_scale: 1 samples, 0 takes the prior's mean. `seeds`, one for each sequence, decide the
        samples, see Noise. No gradients.
        """
