"""PoseCVAE: a dancer's video from one first frame and a pose image per frame.

A conditional VAE, one latent z per predicted frame. For frame t
    posterior  q(z | x_t, pose_t)                       looks at the true frame, in training only
    prior      N(0, I)                                  what a roll-out draws from
    decoder    p(x_t | x_{t-1}, pose_t, reference, z)   fusion and generator

Letters of the shapes: B batch, T frames, H x W frame size, h x w = H/8 x W/8, F/L/Z/D channels of frame features, label
(pose) features, latent and fused features.
"""
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from modules.base import SequenceLoss, VideoModel, sequence_loss
from modules.gaussian import Gaussian, kl_divergence, standard_like
from modules.layers import VGGBlock, VGGLayer, fold_time, paint_over, unfold_time, upsample

STRIDE = 8  # between a frame and its coarsest features
NORM = "group"
POSES_AT_ONCE = 64  # time steps whose poses a roll-out encodes in one batch; bounds its memory


class ImageEncoder(nn.Module):
    """VGG-style encoder: (B, 3, H, W) -> features at 1/2, 1/4 and 1/8 of the size, (B, width // 4 | width // 2 | width, ...).

    2x2 pixels become channels before the first convolution, so that nothing runs at full resolution: a fourth of the
    operations, with no information lost. `mean` and `scale` standardise the images, one value per colour: a pose image is
    white but for a few thin, pale lines, and group normalisation would pass on the white instead of the lines.
    """

    def __init__(self, *, width: int, mean: list[float], scale: list[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1), persistent=False)
        self.at_half = VGGBlock(widths=[12] + 2 * [width // 4], norm=NORM)
        self.at_quarter = VGGBlock(widths=[width // 4] + 2 * [width // 2], norm=NORM)
        self.at_eighth = VGGBlock(widths=[width // 2] + 2 * [width], norm=NORM)

    def forward(self, images: Tensor) -> list[Tensor]:
        standard = (images - self.mean) / self.scale
        half = self.at_half(functional.pixel_unshuffle(standard, 2))        # (B, width // 4, H/2, W/2)
        quarter = self.at_quarter(functional.max_pool2d(half, 2))           # (B, width // 2, H/4, W/4)
        eighth = self.at_eighth(functional.max_pool2d(quarter, 2))          # (B, width, h, w)
        return [half, quarter, eighth]


class FrameEncoder(ImageEncoder):
    """Features of a video frame; width F."""


class LabelEncoder(ImageEncoder):
    """Features of a pose image; width L."""


class GaussianPredictor(nn.Module):
    """The posterior q(z | x_t, pose_t): (B, F, h, w) and (B, L, h, w) -> Gaussian of (B, Z, h, w)."""

    def __init__(self, *, frame_dim: int, label_dim: int, latent_dim: int):
        super().__init__()
        self.block = VGGLayer(inputs=frame_dim + label_dim, outputs=frame_dim // 2, norm=NORM)
        self.parameters_of = nn.Conv2d(frame_dim // 2, 2 * latent_dim, kernel_size=1)

    def forward(self, target: Tensor, label: Tensor) -> Gaussian:
        joined = torch.cat([target, label], dim=1)                       # (B, F + L, h, w)
        return Gaussian.from_parameters(self.parameters_of(self.block(joined)))


class Reference(NamedTuple):
    """The known frame of the video (B, 3, H, W) and its features, computed once per clip."""

    frame: Tensor
    levels: list[Tensor]


class DecoderFusion(nn.Module):
    """Joins previous frame, pose, reference and z at the coarsest size -> (B, D, h, w)."""

    def __init__(self, *, frame_dim: int, label_dim: int, latent_dim: int, fused_dim: int):
        super().__init__()
        self.block = VGGBlock(widths=[2 * frame_dim + label_dim + latent_dim] + 2 * [fused_dim], norm=NORM)

    def forward(self, previous: Tensor, label: Tensor, reference: Tensor, z: Tensor) -> Tensor:
        return self.block(torch.cat([previous, label, reference, z], dim=1))


class Generator(nn.Module):
    """Fused features back to pixels: (B, D, h, w) with the skips of pose and reference -> (B, 3, H, W) in [0, 1].

    The skips carry the outlines of the pose and the unchanging background, which therefore need not pass through z or
    survive hundreds of steps in the previous frame (SVG takes its skips from the last given frame for the same reason).
    Where nothing moves, a mask copies the reference itself.
    """

    def __init__(self, *, frame_dim: int, label_dim: int, fused_dim: int):
        super().__init__()
        quarter, half = (frame_dim // n + label_dim // n for n in (2, 4))  # channels of the skips
        self.at_quarter = VGGBlock(widths=[fused_dim + quarter] + 2 * [fused_dim // 2], norm=NORM)
        self.at_half = VGGBlock(widths=[fused_dim // 2 + half] + 2 * [fused_dim // 3], norm=NORM)
        self.to_pixels = nn.Conv2d(fused_dim // 3, 4 * 4, kernel_size=3, padding=1)

    def forward(self, fused: Tensor, label: list[Tensor], reference: Reference) -> Tensor:
        x = self.at_quarter(torch.cat([upsample(fused), label[1], reference.levels[1]], dim=1))  # (B, D/2, H/4, W/4)
        x = self.at_half(torch.cat([upsample(x), label[0], reference.levels[0]], dim=1))         # (B, D/3, H/2, W/2)
        painted = functional.pixel_shuffle(self.to_pixels(x), 2)                                 # (B, 4, H, W)
        return paint_over(painted, reference.frame)                                                 # (B, 3, H, W)


class PoseCVAE(VideoModel):
    """The whole model. Frames and poses (B, T, 3, H, W) in [0, 1]; H and W must be multiples of 8.

    condition_mean and condition_scale are those of the pose images of training, a value per colour.
    """

    context = 1

    def __init__(
        self, *, frame_dim: int, label_dim: int, latent_dim: int, fused_dim: int, condition_mean: list[float],
        condition_scale: list[float],
    ):  # fmt: skip
        super().__init__()
        dims = {"frame_dim": frame_dim, "label_dim": label_dim}
        self.latent_dim = latent_dim
        self.frame_encoder = FrameEncoder(width=frame_dim, mean=3 * [0.5], scale=3 * [0.5])
        self.label_encoder = LabelEncoder(width=label_dim, mean=condition_mean, scale=condition_scale)
        self.posterior = GaussianPredictor(**dims, latent_dim=latent_dim)
        self.fusion = DecoderFusion(**dims, latent_dim=latent_dim, fused_dim=fused_dim)
        self.generator = Generator(**dims, fused_dim=fused_dim)

    @staticmethod
    def check_size(height: int, width: int) -> None:
        if height % STRIDE or width % STRIDE or min(height, width) < 2 * STRIDE:
            raise ValueError(f"frames of {height} x {width}: expected multiples of {STRIDE}, at least {2 * STRIDE}")

    def check_conditions(self, conditions: Tensor) -> None:
        if conditions.dim() != 4:
            raise ValueError(f"conditions of shape {tuple(conditions.shape)}: expected pose images")

    def know(self, frame: Tensor) -> Reference:
        """The features of the known frame (B, 3, H, W), beside it."""
        return Reference(frame, self.frame_encoder(frame))

    def predict(self, previous: Tensor, label: list[Tensor], reference: Reference, z: Tensor) -> Tensor:
        """p(x_t | x_{t-1}, pose_t, reference, z): coarsest features of the frame before, pose features, z -> (B, 3, H, W)."""
        fused = self.fusion(previous, label[-1], reference.levels[-1], z)  # (B, D, h, w)
        return self.generator(fused, label, reference)                   # (B, 3, H, W)

    def forward(self, frames, conditions, reference=None, *, teacher_forcing, feedback_noise=0.0) -> SequenceLoss:
        """As in VideoModel; reference (B, 3, H, W) is the known frame of the same video, where it is None the clip's first."""
        batch, length = frames.shape[:2]
        targets = frames[:, 1:]                                          # (B, T-1, 3, H, W)
        known = self.know(frames[:, 0] if reference is None else reference)
        # What does not depend on the model's own output: once for the whole clip, as one batch of B*(T-1).
        labels = self.label_encoder(fold_time(conditions[:, 1:]))
        q = self.posterior(self.frame_encoder(fold_time(targets))[-1], labels[-1])
        z = q.sample()                                                   # (B*(T-1), Z, h, w)
        kl = kl_divergence(q, standard_like(q)).mean()

        def noisy(previous: Tensor) -> Tensor:
            return previous + feedback_noise * torch.randn_like(previous) if feedback_noise else previous

        if teacher_forcing:
            # Every previous frame is known, so all steps are one batch as well: the same numbers as the loop, sooner.
            previous = self.frame_encoder(noisy(fold_time(frames[:, :-1])))[-1]
            levels = [level.repeat_interleave(length - 1, dim=0) for level in known.levels]
            known = Reference(known.frame.repeat_interleave(length - 1, dim=0), levels)
            return sequence_loss(self.predict(previous, labels, known, z), fold_time(targets), kl)

        labels = [unfold_time(level, batch=batch) for level in labels]
        z = unfold_time(z, batch=batch)
        predicted, predictions = frames[:, 0], []
        for t in range(length - 1):  # predicts frame t + 1, whose pose, z and target stand at index t
            previous = self.frame_encoder(noisy(predicted))[-1]          # (B, F, h, w)
            predicted = self.predict(previous, [level[:, t] for level in labels], known, z[:, t])
            predictions.append(predicted)
        return sequence_loss(torch.stack(predictions, dim=1), targets, kl)

    @torch.no_grad()
    def rollout(self, given: Tensor, conditions: Tensor, *, z_scale: float = 1.0) -> Tensor:
        length = conditions.shape[1]
        known = self.know(given[:, 0])
        video = [given[:, 0]]
        for start in range(1, length, POSES_AT_ONCE):
            poses = conditions[:, start : start + POSES_AT_ONCE]
            labels = [unfold_time(level, batch=len(poses)) for level in self.label_encoder(fold_time(poses))]
            for t in range(poses.shape[1]):
                previous = self.frame_encoder(video[-1])[-1]             # (B, F, h, w)
                label = [level[:, t] for level in labels]
                z = z_scale * torch.randn(len(previous), self.latent_dim, *previous.shape[2:], device=previous.device)
                video.append(self.predict(previous, label, known, z))
        return torch.stack(video, dim=1)                                 # (B, T, 3, H, W)
