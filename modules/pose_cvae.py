"""PoseCVAE: a dancer's video from one first frame and a pose image per frame.

A conditional VAE, one latent z per predicted frame. For frame t
    posterior  q(z | x_t, pose_t)                       looks at the true frame, in training only
    prior      N(0, I)                                  what a roll-out draws from
    decoder    p(x_t | x_{t-1}, pose_t, reference, z)   fusion and generator

Only x_{t-1} has to wait for the model's own output. Everything else is encoded before the first step, in one batch, up to the
sums that the decoder's convolutions begin with (`Prepared`), so that little is left to do frame by frame.

Letters of the shapes: B batch, T frames, H x W frame size, h x w = H/8 x W/8, F/L/Z/D channels of frame features, label
(pose) features, latent and fused features.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from modules.base import SequenceLoss, VideoModel, sequence_loss
from modules.gaussian import Gaussian, Noise, kl_divergence, standard_like
from modules.layers import JoinLayer, VGGBlock, VGGLayer, fold_time, halve, paint_over, unfold_time

STRIDE = 8  # between a frame and its coarsest features
NORM = "group"
POSES_AT_ONCE = 64  # time steps whose poses a roll-out encodes in one batch; bounds its memory


class ImageEncoder(nn.Module):
    """VGG-style encoder: (B, C, H, W) -> features at 1/2, 1/4 and 1/8 of the size, (B, width // 4 | width // 2 | width, ...).

    2x2 pixels become channels before the first convolution, so that nothing runs at full resolution: a fourth of the
    operations, with no information lost. `mean` and `scale` standardise the images, one value for each of C channels: a pose
    image is white but for a few thin, pale lines, and group normalisation would pass on the white instead of the lines.
    """

    def __init__(self, *, width: int, mean: list[float], scale: list[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1), persistent=False)
        self.at_half = VGGBlock(widths=[4 * len(mean)] + 2 * [width // 4], norm=NORM)
        self.at_quarter = VGGBlock(widths=[width // 4] + 2 * [width // 2], norm=NORM)
        self.at_eighth = VGGBlock(widths=[width // 2] + 2 * [width], norm=NORM)

    def forward(self, images: Tensor) -> list[Tensor]:
        standard = (images - self.mean) / self.scale
        half = self.at_half(functional.pixel_unshuffle(standard, 2))  # (B, width // 4, H/2, W/2)
        quarter = self.at_quarter(halve(half))  # (B, width // 2, H/4, W/4)
        eighth = self.at_eighth(halve(quarter))  # (B, width, h, w)
        return [half, quarter, eighth]


class FrameEncoder(ImageEncoder):
    """Features of a video frame; width F."""


class LabelEncoder(ImageEncoder):
    """Features of a pose image between its neighbours in time (B, 3 * window, H, W); width L.

    The neighbours say how the dancer moves, and even out what the pose detector got wrong in one frame.
    """


class GaussianPredictor(nn.Module):
    """The posterior q(z | x_t, pose_t): (B, F, h, w) and (B, L, h, w) -> Gaussian of (B, Z, h, w)."""

    def __init__(self, *, frame_dim: int, label_dim: int, latent_dim: int):
        super().__init__()
        self.block = VGGLayer(inputs=frame_dim + label_dim, outputs=frame_dim // 2, norm=NORM)
        self.parameters_of = nn.Conv2d(frame_dim // 2, 2 * latent_dim, kernel_size=1)

    def forward(self, target: Tensor, label: Tensor) -> Gaussian:
        joined = torch.cat([target, label], dim=1)  # (B, F + L, h, w)
        return Gaussian.from_parameters(self.parameters_of(self.block(joined)))


class Prepared(NamedTuple):
    """What the decoder knows of its frames before it begins: sums of convolutions, (..., C, height, width) each."""

    fused: Tensor  # (..., D, h, w) of pose, reference and z
    quarter: Tensor  # (..., D/2, H/4, W/4) of pose and reference
    half: Tensor  # (..., D/3, H/2, W/2) of pose and reference

    def each(self, change) -> "Prepared":
        """change(sum) for each of them."""
        return Prepared(*map(change, self))

    def steps(self) -> "list[Prepared]":
        """(B, T, C, ...) -> T times (B, C, ...)."""
        # Not x[:, t]: the gradient of each such slice is as large as x, so that a clip's time grew with its square.
        return [Prepared(*sums) for sums in zip(*(x.unbind(dim=1) for x in self))]


class DecoderFusion(nn.Module):
    """Joins previous frame, pose, reference and z at the coarsest size -> (N, D, h, w)."""

    def __init__(self, *, frame_dim: int, label_dim: int, latent_dim: int, fused_dim: int):
        super().__init__()
        inputs = {"label": label_dim, "reference": frame_dim, "z": latent_dim, "previous": frame_dim}
        inputs = {name: channels for name, channels in inputs.items() if channels}  # no z, no weights for it
        self.join = JoinLayer(inputs=inputs, outputs=fused_dim, norm=NORM)
        self.block = VGGLayer(inputs=fused_dim, outputs=fused_dim, norm=NORM)

    def forward(self, prepared: Tensor, previous: Tensor) -> Tensor:
        return self.block(self.join(prepared, previous=previous))


class Generator(nn.Module):
    """Fused features back to pixels: (N, D, h, w) with the skips of pose and reference -> (N, 3, H, W) in [0, 1].

    The skips carry the outlines of the pose and the unchanging background, which therefore need not pass through z or
    survive hundreds of steps in the previous frame (SVG takes its skips from the last given frame for the same reason).
    Where nothing moves, a mask copies the reference itself. Each stage doubles the size by pixel shuffle (Shi et al. 2016).
    """

    def __init__(self, *, frame_dim: int, label_dim: int, fused_dim: int):
        super().__init__()
        quarter, half = 4 * (fused_dim // 8), fused_dim // 3
        skips = [{"label": label_dim // n, "reference": frame_dim // n} for n in (2, 4)]
        self.at_quarter = JoinLayer(inputs=skips[0] | {"coarse": fused_dim // 4}, outputs=quarter, norm=NORM)
        self.quarter_block = VGGLayer(inputs=quarter, outputs=quarter, norm=NORM)
        self.at_half = JoinLayer(inputs=skips[1] | {"coarse": quarter // 4}, outputs=half, norm=NORM)
        self.half_block = VGGLayer(inputs=half, outputs=half, norm=NORM)
        self.to_pixels = nn.Conv2d(half, 4 * 4, kernel_size=3, padding=1)

    def forward(self, fused: Tensor, prepared: Prepared, reference: Tensor) -> Tensor:
        x = self.at_quarter(prepared.quarter, coarse=functional.pixel_shuffle(fused, 2))
        x = self.quarter_block(x)  # (N, D/2, H/4, W/4)
        x = self.at_half(prepared.half, coarse=functional.pixel_shuffle(x, 2))
        x = self.half_block(x)  # (N, D/3, H/2, W/2)
        painted = functional.pixel_shuffle(self.to_pixels(x), 2)  # (N, 4, H, W)
        return paint_over(painted, reference)  # (N, 3, H, W)


class PoseCVAE(VideoModel):
    """The whole model. Frames and poses (B, T, 3, H, W) in [0, 1]; H and W must be multiples of 8, fused_dim too.

    Of each frame the model sees a window of `pose_window` pose images, an odd number, its own in the middle. condition_mean
    and condition_scale are those of the pose images of training, a value per colour.

    With latent_dim 0 there is neither z nor posterior: the same decoder as a deterministic predictor, whose KL is 0.
    """

    context = 1

    def __init__(
        self, *, frame_dim: int, label_dim: int, latent_dim: int, fused_dim: int, pose_window: int,
        condition_mean: list[float], condition_scale: list[float],
    ):  # fmt: skip
        super().__init__()
        if fused_dim % 8:
            raise ValueError(f"fused_dim {fused_dim}: expected a multiple of 8")
        dims = {"frame_dim": frame_dim, "label_dim": label_dim}
        self.latent_dim, self.pose_window = latent_dim, pose_window
        self.frame_encoder = FrameEncoder(width=frame_dim, mean=3 * [0.5], scale=3 * [0.5])
        self.label_encoder = LabelEncoder(width=label_dim, mean=pose_window * condition_mean, scale=pose_window * condition_scale)
        self.posterior = GaussianPredictor(**dims, latent_dim=latent_dim) if latent_dim else None
        self.fusion = DecoderFusion(**dims, latent_dim=latent_dim, fused_dim=fused_dim)
        self.generator = Generator(**dims, fused_dim=fused_dim)

    @staticmethod
    def check_size(height: int, width: int) -> None:
        if height % STRIDE or width % STRIDE or min(height, width) < 2 * STRIDE:
            near = " x ".join(str(STRIDE * max(2, round(side / STRIDE))) for side in (height, width))
            raise ValueError(f"frames of {height} x {width}: expected multiples of {STRIDE}, at least {2 * STRIDE}, as {near}")

    def check_conditions(self, conditions: Tensor) -> None:
        if conditions.dim() != 4:
            raise ValueError(f"conditions of shape {tuple(conditions.shape)}: expected pose images")

    def windows(self, conditions: Tensor, length: int, steps: slice) -> Tensor:
        """(B, length, 3, H, W) pose images, or with pose_window // 2 more at either end, -> those that belong to the frames at
        `steps`, (B, S, 3 * pose_window, H, W). Where there are no more, the first and the last are repeated.
        """
        missing = (length + self.pose_window - 1 - conditions.shape[1]) // 2
        there = torch.arange(-missing, conditions.shape[1] + missing, device=conditions.device)
        there = there.clamp(0, conditions.shape[1] - 1).unfold(0, self.pose_window, 1)  # (length, pose_window)
        return conditions[:, there[steps]].flatten(2, 3)

    def joins(self) -> list[JoinLayer]:
        """Where poses and reference enter the decoder, from the finest features to the coarsest."""
        return [self.generator.at_half, self.generator.at_quarter, self.fusion.join]

    def know(self, reference: Tensor) -> Prepared:
        """What the known frame (B, 3, H, W) adds to every frame of its video: (B, 1, C, ...) each."""
        sums = [join.partial(reference=level) for join, level in zip(self.joins(), self.frame_encoder(reference))]
        return Prepared(*reversed(sums)).each(lambda x: x.unsqueeze(1))

    def prepare(self, label: list[Tensor], known: Prepared, z: Tensor) -> Prepared:
        """label: levels (B*T, ...), known: (B, 1, ...), z (B*T, Z, h, w) -> (B, T, C, ...) each."""
        sums = [join.partial(label=level) for join, level in zip(self.joins(), label)]
        if self.latent_dim:
            sums[-1] = sums[-1] + self.fusion.join.partial(z=z)
        batch = len(known.fused)
        return Prepared(*(unfold_time(x, batch=batch) + k for x, k in zip(reversed(sums), known)))

    def predict(self, previous: Tensor, prepared: Prepared, reference: Tensor) -> Tensor:
        """p(x_t | x_{t-1}, pose_t, reference, z): frames before (N, 3, H, W), what else is known of frames t -> (N, 3, H, W)."""
        fused = self.fusion(prepared.fused, self.frame_encoder(previous)[-1])  # (N, D, h, w)
        return self.generator(fused, prepared, reference)  # (N, 3, H, W)

    def forward(
        self, frames, conditions, reference=None, *, teacher_forcing, feedback_noise=0.0, seeds=None, recompute=0
    ) -> SequenceLoss:  # fmt: skip
        """As in VideoModel; reference (B, 3, H, W) is the known frame of the same video, where it is None the clip's first.

        Conditions may reach beyond the clip, see windows().

        With `recompute` N the clip is unrolled in pieces of N predicted frames whose activations are computed anew in the
        backward pass: memory for one piece instead of the whole clip, for a second forward pass (Chen et al. 2016).
        """
        reference = frames[:, 0] if reference is None else reference
        known, (batch, length, *pixels) = self.know(reference), frames.shape
        # Drawn for the whole clip at once, so that pieces of any length, computed once or twice, see the same.
        noise = Noise(seeds, batch=batch, device=frames.device)
        z_noise = noise.draw(length - 1, self.latent_dim, pixels[1] // STRIDE, pixels[2] // STRIDE)
        disturbance = feedback_noise * noise.draw(length - 1, *pixels) if feedback_noise else None
        previous, videos, kls = frames[:, 0], [], []
        for start in range(1, length, recompute or length):
            piece, drawn = slice(start, start + (recompute or length)), slice(start - 1, start - 1 + (recompute or length))
            poses = self.windows(conditions, length, piece)  # (B, S, 3 * pose_window, H, W)
            added = None if disturbance is None else disturbance[:, drawn]
            inputs = (previous, frames[:, piece], poses, known, reference, z_noise[:, drawn], added, teacher_forcing)
            recomputed = {"use_reentrant": False, "preserve_rng_state": False}
            video, kl = checkpoint(self.unroll, *inputs, **recomputed) if recompute else self.unroll(*inputs)
            previous = frames[:, piece][:, -1] if teacher_forcing else video[:, -1]
            videos.append(video)
            kls.append(kl)
        return sequence_loss(torch.cat(videos, dim=1), frames[:, 1:], torch.cat(kls).mean())

    def unroll(
        self, previous: Tensor, targets: Tensor, poses: Tensor, known: Prepared, reference: Tensor, z_noise: Tensor,
        disturbance: Tensor | None, teacher_forcing: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """From the frame before them (B, 3, H, W), predicts the frames of targets (B, S, 3, H, W) and of windows of poses
        (B, S, 3 * pose_window, H, W), z from the posterior with noise (B, S, Z, h, w): frames (B, S, 3, H, W) and the KL of
        each (B*S,). `disturbance` (B, S, 3, H, W) is added to the frames that are fed back."""
        batch, steps = targets.shape[:2]
        label = self.label_encoder(fold_time(poses))
        z_noise = fold_time(z_noise)  # (B*S, Z, h, w)
        q = Gaussian(z_noise, z_noise)  # without z these hold nothing
        if self.latent_dim:
            q = self.posterior(self.frame_encoder(fold_time(targets))[-1], label[-1])
        prepared = self.prepare(label, known, q.sample(z_noise))  # (B, S, C, ...)
        if teacher_forcing:
            # Every frame before is known, so all steps are one batch as well: the same numbers as the loop, sooner.
            before = torch.cat([previous.unsqueeze(1), targets[:, :-1]], dim=1)
            before = before if disturbance is None else before + disturbance
            everywhere = reference.repeat_interleave(steps, dim=0)
            video = unfold_time(self.predict(fold_time(before), prepared.each(fold_time), everywhere), batch=batch)
        else:
            predictions = []
            for t, step in enumerate(prepared.steps()):
                before = previous if disturbance is None else previous + disturbance[:, t]
                previous = self.predict(before, step, reference)
                predictions.append(previous)
            video = torch.stack(predictions, dim=1)
        return video, kl_divergence(q, standard_like(q))

    @torch.no_grad()
    def rollout(self, given, conditions, *, z_scale=1.0, seeds=None) -> Tensor:
        reference, known = given[:, 0], self.know(given[:, 0])
        length, video = conditions.shape[1], [reference]
        noise, (height, width) = Noise(seeds, batch=len(given), device=given.device), given.shape[-2:]
        for start in range(1, length, POSES_AT_ONCE):
            poses = self.windows(conditions, length, slice(start, start + POSES_AT_ONCE))
            label = self.label_encoder(fold_time(poses))
            z = z_scale * fold_time(noise.draw(poses.shape[1], self.latent_dim, height // STRIDE, width // STRIDE))
            for step in self.prepare(label, known, z).steps():
                video.append(self.predict(video[-1], step, reference))
        return torch.stack(video, dim=1)  # (B, T, 3, H, W)
