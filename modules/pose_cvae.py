"""PoseCVAE: video of a dancer from one reference frame and a pose image per frame.

A conditional VAE (Kingma and Welling 2014, arXiv 1312.6114; Sohn et al. 2015) with one latent z per predicted frame:

    symbol                                  meaning                         code
    x_t                                     frame t                         frames, targets
    p_t                                     pose image t and its neighbors  pose_windows
    r                                       reference frame                 encode_reference
    q(z | x_t, p_t)                         posterior, training only        GaussianPredictor, sample_posterior
    p(z) = N(0, I)                          prior, sampled in a rollout     Noise, standard_like
    z = mu + sigma * epsilon                reparameterized sample          Gaussian.sample, z_noise
    mean of p(x_t | x_t-1, p_t, r, z)       prediction                      predict: DecoderFusion, Generator
    KL(q || p)                              rate, in nats                   kl_divergence
    distortion + beta KL                    loss                            sequence_loss; the sum in Learner

Only x_t-1 has to wait for the model's own output. Everything else is computed for the whole clip as one batch, up to the
sums with which the decoder's convolutions begin (DecoderInputs), so that little is left to do frame by frame.

Shapes: B batch, T frames, S successive frames of a clip, N frames of any clips, H x W frame size, h x w = H/8 x W/8 feature
size, F/L/Z/D channels of frame features, label (pose) features, latent and fused features, P = pose_window.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from modules.base import SequenceLoss, VideoModel, sequence_loss
from modules.cuda_graphs import recorded
from modules.gaussian import Gaussian, Noise, kl_divergence, standard_like
from modules.layers import JoinLayer, VGGBlock, VGGLayer, fold_time, halve, paint_over, unfold_time

STRIDE = 8  # frame size / feature size
NORM = "group"
POSES_AT_ONCE = 64  # frames whose poses a rollout encodes as one batch; bounds its memory


class ImageEncoder(nn.Module):
    """VGG-style encoder of C channels: (B, C, H, W) -> features at 1/2, 1/4 and 1/8 of the size.

    2x2 pixels become channels before the first convolution: nothing runs at full resolution, which takes a fourth of the
    operations and loses no information. `mean` and `scale`, one value per channel, standardize the images: a pose image is
    white except for a few thin, pale lines, and group normalization would pass on the white instead of the lines.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, *, width: int, mean: list[float], scale: list[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1), persistent=False)
        self.at_half = VGGBlock(widths=[4 * len(mean)] + 2 * [width // 4], norm=NORM)
        self.at_quarter = VGGBlock(widths=[width // 4] + 2 * [width // 2], norm=NORM)
        self.at_eighth = VGGBlock(widths=[width // 2] + 2 * [width], norm=NORM)

    def forward(self, images: Tensor) -> list[Tensor]:
        # fmt: off
        pixels = functional.pixel_unshuffle((images - self.mean) / self.scale, 2)  # (B, 4C, H/2, W/2)
        half = self.at_half(pixels)                                                # (B, width/4, H/2, W/2)
        quarter = self.at_quarter(halve(half))                                     # (B, width/2, H/4, W/4)
        eighth = self.at_eighth(halve(quarter))                                    # (B, width, h, w)
        # fmt: on
        return [half, quarter, eighth]


class FrameEncoder(ImageEncoder):
    """Features of a frame (B, 3, H, W); width F."""


class LabelEncoder(ImageEncoder):
    """Features of a window of pose images (B, 3P, H, W), that of the frame in the middle; width L.

    The neighbors show how the dancer moves, and even out errors of the pose detector in single frames.
    """


class GaussianPredictor(nn.Module):
    """The posterior q(z | x_t, p_t): features (B, F, h, w) and (B, L, h, w) -> Gaussian of (B, Z, h, w)."""

    def __init__(self, *, frame_dim: int, label_dim: int, latent_dim: int):
        super().__init__()
        self.block = VGGLayer(inputs=frame_dim + label_dim, outputs=frame_dim // 2, norm=NORM)
        self.parameters_of = nn.Conv2d(frame_dim // 2, 2 * latent_dim, kernel_size=1)

    def forward(self, target: Tensor, label: Tensor) -> Gaussian:
        joined = torch.cat([target, label], dim=1)  # (B, F + L, h, w)
        return Gaussian.from_parameters(self.parameters_of(self.block(joined)))


class DecoderInputs(NamedTuple):
    """All that the decoder needs for a frame except x_t-1: partial sums of its three JoinLayers, and the reference frame.

    The leading axes are (B,), (B, S) or (B*S,).
    """

    # fmt: off
    half: Tensor     # (..., D/3, H/2, W/2)  of pose and reference
    quarter: Tensor  # (..., D/2, H/4, W/4)  of pose and reference
    fused: Tensor    # (..., D, h, w)        of pose, reference and z
    canvas: Tensor   # (..., 3, H, W)        the reference frame, which the generator paints over
    # fmt: on

    def map(self, change: Callable[[Tensor], Tensor]) -> "DecoderInputs":
        """Return the inputs with `change` applied to each tensor."""
        return DecoderInputs(*(change(x) for x in self))

    def unbind_time(self) -> "list[DecoderInputs]":
        """Return the inputs of each frame: (B, S, ...) -> S times (B, ...)."""
        # Not x[:, t]: the gradient of each such slice is as large as x, so the work would grow with the square of S.
        return [DecoderInputs(*tensors) for tensors in zip(*(x.unbind(dim=1) for x in self))]


class TrainingInputs(NamedTuple):
    """What training knows in advance of S successive frames, (B, S, ...) each."""

    # fmt: off
    targets: Tensor                # (B, S, 3, H, W)
    poses: Tensor                  # (B, S, 3P, H, W)
    z_noise: Tensor                # (B, S, Z, h, w)  epsilon of each frame
    feedback_noise: Tensor | None  # (B, S, 3, H, W)  added to the previous frames
    # fmt: on


class DecoderFusion(nn.Module):
    """Joins previous frame, pose, reference and z at the coarsest size -> (B, D, h, w)."""

    def __init__(self, *, frame_dim: int, label_dim: int, latent_dim: int, fused_dim: int):
        super().__init__()
        inputs = {"label": label_dim, "reference": frame_dim, "z": latent_dim, "previous": frame_dim}
        self.join = JoinLayer(inputs=inputs, outputs=fused_dim, norm=NORM)
        self.block = VGGLayer(inputs=fused_dim, outputs=fused_dim, norm=NORM)

    def forward(self, partial: Tensor, previous: Tensor) -> Tensor:
        return self.block(self.join(partial, previous=previous))


class Generator(nn.Module):
    """Fused features back to pixels: (B, D, h, w) and the skips of pose and reference -> (B, 3, H, W) in [0, 1].

    The skips carry the outlines of the pose and the still background, which therefore need neither pass through z nor
    survive hundreds of steps in the previous frame (SVG takes its skips from the last context frame for the same reason).
    Where nothing moves, a mask copies the reference frame. Each stage doubles the size by pixel shuffle (Shi et al. 2016).
    """

    def __init__(self, *, frame_dim: int, label_dim: int, fused_dim: int):
        super().__init__()
        quarter, half = 4 * (fused_dim // 8), fused_dim // 3
        quarter_inputs = {"label": label_dim // 2, "reference": frame_dim // 2, "coarse": fused_dim // 4}
        half_inputs = {"label": label_dim // 4, "reference": frame_dim // 4, "coarse": quarter // 4}
        self.at_quarter = JoinLayer(inputs=quarter_inputs, outputs=quarter, norm=NORM)
        self.quarter_block = VGGLayer(inputs=quarter, outputs=quarter, norm=NORM)
        self.at_half = JoinLayer(inputs=half_inputs, outputs=half, norm=NORM)
        self.half_block = VGGLayer(inputs=half, outputs=half, norm=NORM)
        self.to_pixels = nn.Conv2d(half, 4 * 4, kernel_size=3, padding=1)

    def forward(self, fused: Tensor, inputs: DecoderInputs) -> Tensor:
        # fmt: off
        x = self.at_quarter(inputs.quarter, coarse=functional.pixel_shuffle(fused, 2))  # (B, D/2, H/4, W/4)
        x = self.quarter_block(x)
        x = self.at_half(inputs.half, coarse=functional.pixel_shuffle(x, 2))            # (B, D/3, H/2, W/2)
        x = self.half_block(x)
        painted = functional.pixel_shuffle(self.to_pixels(x), 2)                        # (B, 4, H, W)
        return paint_over(painted, inputs.canvas)                                       # (B, 3, H, W)
        # fmt: on


class PoseCVAE(VideoModel):
    """The whole model. Frames and poses are (B, T, 3, H, W) in [0, 1]; H, W and fused_dim must be multiples of 8.

    For each frame the model sees a window of `pose_window` pose images, an odd number, its own in the middle. condition_mean
    and condition_scale are mean and standard deviation of the training set's pose images, one value per color.

    With latent_dim 0 there is neither z nor posterior: the decoder is a deterministic predictor, and KL is 0.
    """

    context = 1

    def __init__(
        self, *, frame_dim: int, label_dim: int, latent_dim: int, fused_dim: int, pose_window: int,
        condition_mean: list[float], condition_scale: list[float],
    ):  # fmt: skip
        super().__init__()
        if fused_dim % 8:
            raise ValueError(f"fused_dim {fused_dim}: expected a multiple of 8")
        self.latent_dim, self.pose_window = latent_dim, pose_window
        self.frame_encoder = FrameEncoder(width=frame_dim, mean=3 * [0.5], scale=3 * [0.5])
        self.label_encoder = LabelEncoder(width=label_dim, mean=pose_window * condition_mean, scale=pose_window * condition_scale)
        self.posterior = None
        if latent_dim:
            self.posterior = GaussianPredictor(frame_dim=frame_dim, label_dim=label_dim, latent_dim=latent_dim)
        self.fusion = DecoderFusion(frame_dim=frame_dim, label_dim=label_dim, latent_dim=latent_dim, fused_dim=fused_dim)
        self.generator = Generator(frame_dim=frame_dim, label_dim=label_dim, fused_dim=fused_dim)

    @staticmethod
    def check_size(height: int, width: int) -> None:
        if height % STRIDE or width % STRIDE or min(height, width) < 2 * STRIDE:
            nearest = " x ".join(str(STRIDE * max(2, round(side / STRIDE))) for side in (height, width))
            raise ValueError(
                f"frames of {height} x {width}: expected multiples of {STRIDE}, at least {2 * STRIDE}, such as {nearest}"
            )

    def check_conditions(self, conditions: Tensor) -> None:
        if conditions.dim() != 4:
            raise ValueError(f"conditions of shape {tuple(conditions.shape)}: expected pose images (T, 3, H, W)")

    def forward(
        self,
        frames: Tensor,
        conditions: Tensor,
        reference: Tensor | None = None,
        *,
        teacher_forcing: bool,
        feedback_noise: float = 0.0,
        noise: Noise | None = None,
        recompute: int = 0,
    ) -> SequenceLoss:
        """Return the loss of one clip, as in VideoModel.

        The reference frame (B, 3, H, W) may be any frame of the same video; None takes the clip's first. For conditions
        longer than the clip see pose_windows().

        With `recompute` N the clip is unrolled in segments of N predicted frames, whose activations are recomputed in the
        backward pass: memory for one segment instead of the whole clip, at the cost of a second forward pass (Chen et al. 2016).
        """
        from_reference = self.encode_reference(frames[:, 0] if reference is None else reference)
        noise = noise or Noise(None, batch=len(frames), device=frames.device)
        segment_length = recompute or frames.shape[1] - 1
        previous, videos, kls = frames[:, 0], [], []
        for segment in self.segments(frames, conditions, noise, feedback_noise=feedback_noise, length=segment_length):
            inputs = (previous, segment, from_reference, teacher_forcing)
            if recompute:
                video, kl = checkpoint(self.unroll, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                video, kl = self.unroll(*inputs)
            previous = segment.targets[:, -1] if teacher_forcing else video[:, -1]
            videos.append(video)
            kls.append(kl)
        return sequence_loss(torch.cat(videos, dim=1), frames[:, 1:], torch.cat(kls).mean())

    def segments(
        self, frames: Tensor, conditions: Tensor, noise: Noise, *, feedback_noise: float, length: int
    ) -> Iterator[TrainingInputs]:
        """Yield the inputs for frames 1 to T-1 of a clip, `length` frames at a time."""
        targets = frames[:, 1:]  # (B, T-1, 3, H, W)
        steps, _, height, width = targets.shape[1:]
        # Drawn for the whole clip at once, so that segments of any length, computed once or twice, see the same noise.
        z_noise = noise.draw(steps, self.latent_dim, height // STRIDE, width // STRIDE)
        added = feedback_noise * noise.draw(steps, 3, height, width) if feedback_noise else None
        windows = self.pose_windows(steps + 1, conditions)[1:]  # (T-1, P)
        for start in range(0, steps, length):
            of_segment = slice(start, start + length)
            yield TrainingInputs(
                targets=targets[:, of_segment],
                poses=conditions[:, windows[of_segment]].flatten(2, 3),
                z_noise=z_noise[:, of_segment],
                feedback_noise=None if added is None else added[:, of_segment],
            )

    def pose_windows(self, length: int, conditions: Tensor) -> Tensor:
        """Return the indices (T, P) into conditions of the pose images around each of T = `length` frames.

        conditions (B, T, 3, H, W) may have up to pose_window // 2 more images at either end. Where it has fewer, its first
        and last image are repeated.
        """
        available = conditions.shape[1]
        missing = (length + self.pose_window - 1 - available) // 2  # at either end
        indices = torch.arange(-missing, available + missing, device=conditions.device)
        return indices.clamp(0, available - 1).unfold(0, self.pose_window, 1)

    def encode_reference(self, reference: Tensor) -> DecoderInputs:
        """Return what the reference frame (B, 3, H, W) contributes to every frame of its video, (B, ...) each."""
        half, quarter, eighth = self.frame_encoder(reference)
        return DecoderInputs(
            half=self.generator.at_half.partial(reference=half),
            quarter=self.generator.at_quarter.partial(reference=quarter),
            fused=self.fusion.join.partial(reference=eighth),
            canvas=reference,
        )

    def decoder_inputs(self, label: list[Tensor], z: Tensor, from_reference: DecoderInputs) -> DecoderInputs:
        """Return (B, S, ...) from pose features (B*S, ...) at three sizes, z (B*S, Z, h, w) and the reference frame (B, ...)."""
        half, quarter, eighth = label
        batch = len(from_reference.canvas)
        steps = len(eighth) // batch

        def add(partial: Tensor, reference: Tensor) -> Tensor:  # (B*S, C, ...), (B, C, ...) -> (B, S, C, ...)
            return unfold_time(partial, batch=batch) + reference.unsqueeze(1)

        return DecoderInputs(
            half=add(self.generator.at_half.partial(label=half), from_reference.half),
            quarter=add(self.generator.at_quarter.partial(label=quarter), from_reference.quarter),
            fused=add(self.fusion.join.partial(label=eighth, z=z), from_reference.fused),
            canvas=from_reference.canvas.unsqueeze(1).expand(-1, steps, -1, -1, -1),
        )

    def sample_posterior(self, targets: Tensor, label: Tensor, z_noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (N, Z, h, w) of q(z | x_t, p_t) and its KL (N,) from the prior, for N = B*S frames (N, 3, H, W) and
        pose features (N, L, h, w). Without a latent, z is empty and KL is 0.
        """
        if self.posterior is None:
            return z_noise, z_noise.new_zeros(len(z_noise))
        q = self.posterior(self.frame_encoder(targets)[-1], label)
        return q.sample(z_noise), kl_divergence(q, standard_like(q))

    def predict(self, previous: Tensor, inputs: DecoderInputs) -> Tensor:
        """Return the mean of p(x_t | x_t-1, p_t, r, z), (N, 3, H, W), from N previous frames and inputs (N, ...)."""
        fused = self.fusion(inputs.fused, self.frame_encoder(previous)[-1])  # (N, D, h, w)
        return self.generator(fused, inputs)

    def predict_from_parts(self, previous: Tensor, *inputs: Tensor) -> Tensor:
        """Return predict() of the inputs given one by one."""
        return self.predict(previous, DecoderInputs(*inputs))

    def unroll(
        self, previous: Tensor, segment: TrainingInputs, from_reference: DecoderInputs, teacher_forcing: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the predicted frames (B, S, 3, H, W) of a segment and the KL of each, (B*S,), z from the posterior.

        `previous` (B, 3, H, W) is the frame before the segment.
        """
        label = self.label_encoder(fold_time(segment.poses))  # (B*S, L/4 | L/2 | L, ...)
        z, kl = self.sample_posterior(fold_time(segment.targets), label[-1], fold_time(segment.z_noise))
        inputs = self.decoder_inputs(label, z, from_reference)  # (B, S, ...)
        predict = self.predict_teacher_forced if teacher_forcing else self.predict_autoregressive
        return predict(previous, segment, inputs), kl

    def predict_teacher_forced(self, previous: Tensor, segment: TrainingInputs, inputs: DecoderInputs) -> Tensor:
        """Return (B, S, 3, H, W). All previous frames are true ones, so one batch does the work of the loop."""
        true_frames = torch.cat([previous.unsqueeze(1), segment.targets[:, :-1]], dim=1)
        if segment.feedback_noise is not None:
            true_frames = true_frames + segment.feedback_noise
        predicted = self.predict(fold_time(true_frames), inputs.map(fold_time))  # (B*S, 3, H, W)
        return unfold_time(predicted, batch=len(previous))

    def predict_autoregressive(self, previous: Tensor, segment: TrainingInputs, inputs: DecoderInputs) -> Tensor:
        """Return (B, S, 3, H, W), each frame predicted from the prediction of the previous one."""
        video = []
        for step, inputs_t in enumerate(inputs.unbind_time()):
            if segment.feedback_noise is not None:
                previous = previous + segment.feedback_noise[:, step]
            previous = self.predict(previous, inputs_t)
            video.append(previous)
        return torch.stack(video, dim=1)

    @torch.no_grad()
    def rollout(
        self, context_frames: Tensor, conditions: Tensor, *, z_scale: float = 1.0, seeds: list[int] | None = None
    ) -> Tensor:
        reference = context_frames[:, 0]  # (B, 3, H, W)
        batch, _, height, width = reference.shape
        from_reference = self.encode_reference(reference)
        noise = Noise(seeds, batch=batch, device=reference.device)
        windows = self.pose_windows(conditions.shape[1], conditions)[1:]  # (T-1, P)
        video, predict = [reference], None
        for start in range(0, len(windows), POSES_AT_ONCE):
            poses = conditions[:, windows[start : start + POSES_AT_ONCE]].flatten(2, 3)  # (B, S, 3P, H, W)
            label = self.label_encoder(fold_time(poses))
            z_noise = noise.draw(poses.shape[1], self.latent_dim, height // STRIDE, width // STRIDE)
            z = fold_time(z_scale * z_noise)  # a sample of N(0, I)
            for inputs in self.decoder_inputs(label, z, from_reference).unbind_time():
                predict = predict or recorded(self.predict_from_parts, reference, *inputs, calls=len(windows))
                video.append(predict(video[-1], *inputs))
        return torch.stack(video, dim=1)  # (B, T, 3, H, W)
