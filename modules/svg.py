"""SVG: a robot's video from a few given frames and its actions (Denton and Fergus 2018, arXiv 1802.07687).

A recurrent conditional VAE, one latent z per predicted frame. For frame t, with the condition c that leads to it,
    posterior  q(z | x_1..x_t)                  Gaussian LSTM; in training, and in a roll-out for the given frames
    prior      N(0, I), or p(z | x_<t, c)       fixed, or a Gaussian LSTM: what a roll-out draws from
    decoder    p(x_t | x_<t, c, z)              LSTM frame predictor between a VGG encoder and a VGG decoder

Letters of the shapes: B batch, T frames, H x W frame size, G frame vector, A condition values, R recurrent width, Z latent.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules.base import SequenceLoss, VideoModel, sequence_loss
from modules.gaussian import Gaussian, Noise, kl_divergence, standard_like
from modules.layers import VGGBlock, VGGLayer, fold_time, halve, normalisation, paint_over, unfold_time, upsample

LAYERS = {32: (2, 2, 3), 64: (2, 2, 3, 3), 128: (2, 2, 3, 3, 3)}  # of each stage, by frame size, down to 4 x 4 pixels
State = tuple[Tensor, Tensor]  # hidden and cell values of a stacked LSTM, (layers, B, R) each; None is all zeros


def stage_widths(image_size: int, width: int) -> list[int]:
    """Channels of each stage, from full resolution down: 64, 128, 256, 512 in the paper, where `width` is 64."""
    return [min(width * 2**stage, width * 8) for stage in range(len(LAYERS[image_size]))]


class VGGEncoder(nn.Module):
    """Frames (N, 3, H, W) in [0, 1] -> vectors (N, G) in [-1, 1], and the features of every stage, which the decoder skips to."""

    def __init__(self, *, image_size: int, width: int, g_dim: int, norm: str):
        super().__init__()
        widths = [3, *stage_widths(image_size, width)]
        self.stages = nn.ModuleList(
            VGGBlock(widths=[before, *[channels] * layers], norm=norm)
            for before, channels, layers in zip(widths, widths[1:], LAYERS[image_size])
        )
        # One group: in several, a vector of few values would have groups of one value, which normalising makes 0.
        self.to_vector = nn.Sequential(
            nn.Conv2d(widths[-1], g_dim, kernel_size=4), normalisation(norm, g_dim, groups=1), nn.Tanh()
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, levels = frames, []
        for stage in self.stages:
            levels.append(stage(x))  # (N, width, H, W), (N, 2 width, H/2, W/2), ...
            x = halve(levels[-1])
        return self.to_vector(x).flatten(1), levels


class VGGDecoder(nn.Module):
    """Vectors (N, G) and the encoder's stages -> (N, outputs, H, W), before the sigmoid."""

    def __init__(self, *, image_size: int, width: int, g_dim: int, norm: str, outputs: int):
        super().__init__()
        widths = stage_widths(image_size, width)
        self.from_vector = nn.Sequential(
            nn.ConvTranspose2d(g_dim, widths[-1], kernel_size=4), normalisation(norm, widths[-1]), nn.LeakyReLU(0.2)
        )
        # Each stage takes twice its width, half of it the skip, and ends with the width of the next finer one.
        self.stages = nn.ModuleList(
            VGGBlock(widths=[2 * channels, *[channels] * (layers - 1), after], norm=norm)
            for channels, layers, after in zip(widths[:0:-1], LAYERS[image_size][:0:-1], widths[-2::-1])
        )
        self.to_pixels = nn.Sequential(
            VGGLayer(inputs=2 * width, outputs=width, norm=norm), nn.ConvTranspose2d(width, outputs, kernel_size=3, padding=1)
        )

    def forward(self, vectors: Tensor, levels: list[Tensor]) -> Tensor:
        x = self.from_vector(vectors[..., None, None])  # (N, 8 width, 4, 4)
        for stage, level in zip([*self.stages, self.to_pixels], reversed(levels)):
            x = stage(torch.cat([upsample(x), level], dim=1))
        return x


class StackedLSTM(nn.Module):
    """Stacked LSTM between two linear layers: (B, T, inputs), state -> (B, T, outputs), state after the last step."""

    def __init__(self, *, inputs: int, outputs: int, rnn_size: int, layers: int):
        super().__init__()
        self.embed = nn.Linear(inputs, rnn_size)
        self.lstm = nn.LSTM(rnn_size, rnn_size, num_layers=layers, batch_first=True)
        self.output = nn.Linear(rnn_size, outputs)

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        hidden, state = self.lstm(self.embed(inputs), state)  # (B, T, R)
        return self.output(hidden), state


class FramePredictor(StackedLSTM):
    """Predicts the vector of the next frame: (B, T, inputs), state -> (B, T, G) in [-1, 1], state after the last step."""

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        vectors, state = super().forward(inputs, state)
        return torch.tanh(vectors), state


class GaussianLSTM(StackedLSTM):
    """A distribution of z at every step: (B, T, inputs), state -> Gaussian of (B*T, Z), state after the last step."""

    def __init__(self, *, outputs: int, **sizes: int):
        super().__init__(outputs=2 * outputs, **sizes)

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Gaussian, State]:
        parameters, state = super().forward(inputs, state)  # (B, T, 2Z)
        return Gaussian.from_parameters(fold_time(parameters)), state


class Known(NamedTuple):
    """What the decoder may copy from: a frame (N, 3, H, W) and the encoder's features of it, stage by stage."""

    frame: Tensor
    levels: list[Tensor]


class SVG(VideoModel):
    """The whole model. Frames (B, T, 3, H, W) in [0, 1], square, of 32, 64 or 128 pixels; conditions (B, T, A) as the data
    hold them.

    `context` frames are given. The decoder knows the last of them that lies before t, with `last_frame_skip` the frame before
    t: it gets that frame's features, and with `compose` "last" it paints over that frame, with "none" on an empty canvas, as
    in the paper. Frame t follows from the condition at t - `cond_shift`. Raises ValueError for sizes that do not exist.
    """

    def __init__(
        self, *, image_size: int, condition_mean: list[float], condition_scale: list[float], context: int, cond_shift: int,
        width: int, g_dim: int, z_dim: int, rnn_size: int, predictor_rnn_layers: int, posterior_rnn_layers: int,
        prior_rnn_layers: int, learned_prior: bool, norm: str, compose: str, last_frame_skip: bool,
    ):  # fmt: skip
        super().__init__()
        self.check_size(image_size, image_size)
        if compose not in ("none", "last"):
            raise ValueError(f"compose {compose!r} is not known; expected none or last")
        self.z_dim, self.context, self.cond_shift = z_dim, context, cond_shift
        self.paints_over, self.last_frame_skip = compose == "last", last_frame_skip
        # Actions of a few centimetres and positions of half a metre reach the linear layers at one scale.
        self.register_buffer("condition_mean", torch.tensor(condition_mean), persistent=False)
        self.register_buffer("condition_scale", torch.tensor(condition_scale), persistent=False)
        sizes = {"image_size": image_size, "width": width, "g_dim": g_dim, "norm": norm}
        seen = g_dim + len(condition_mean)
        self.encoder = VGGEncoder(**sizes)
        self.decoder = VGGDecoder(**sizes, outputs=4 if self.paints_over else 3)
        self.predictor = FramePredictor(inputs=seen + z_dim, outputs=g_dim, rnn_size=rnn_size, layers=predictor_rnn_layers)
        self.posterior = GaussianLSTM(inputs=g_dim, outputs=z_dim, rnn_size=rnn_size, layers=posterior_rnn_layers)
        self.prior = None
        if learned_prior:
            self.prior = GaussianLSTM(inputs=seen, outputs=z_dim, rnn_size=rnn_size, layers=prior_rnn_layers)

    @staticmethod
    def check_size(height: int, width: int) -> None:
        if height != width or height not in LAYERS:
            raise ValueError(f"frames of {height} x {width}: expected a square of {', '.join(map(str, LAYERS))} pixels a side")

    def check_conditions(self, conditions: Tensor) -> None:
        if conditions.shape[-1] != len(self.condition_mean):
            trained = len(self.condition_mean)
            raise ValueError(f"{conditions.shape[-1]} condition values a frame: expected the {trained} of training")

    def leading_conditions(self, conditions: Tensor) -> Tensor:
        """(B, T, A) -> (B, T-1, A), standardised: at t - 1 the condition that leads to frame t."""
        length = conditions.shape[1]
        conditions = (conditions - self.condition_mean) / self.condition_scale
        return conditions[:, 1 - self.cond_shift : length - self.cond_shift]

    def known_frame(self, t: int, context: int) -> int:
        """Which frame the decoder of frame t knows."""
        # min(t, context): a later frame would show it its own target, an earlier one is not the last given (svg issue 1).
        return (t if self.last_frame_skip else min(t, context)) - 1

    def paint(self, vectors: Tensor, known: Known) -> Tensor:
        """p(x_t | x_<t, c, z): vectors (N, G) of the frame predictor -> frames (N, 3, H, W) in [0, 1]."""
        painted = self.decoder(vectors, known.levels)  # (N, 3 or 4, H, W)
        return paint_over(painted, known.frame) if self.paints_over else torch.sigmoid(painted.float())

    def forward(self, frames, conditions, *, teacher_forcing, feedback_noise=0.0, seeds=None) -> SequenceLoss:
        batch, targets = len(frames), frames[:, 1:]
        noise = Noise(seeds, batch=batch, device=frames.device)
        z_noise = fold_time(noise.draw(targets.shape[1], self.z_dim))  # (B*(T-1), Z)
        disturbance = feedback_noise * noise.draw(*targets.shape[1:]) if feedback_noise else None
        # Every true frame is encoded once: for the posterior, as the frame before, and for the decoder to know.
        vectors, levels = self.encoder(fold_time(frames))
        vectors = unfold_time(vectors, batch=batch)  # (B, T, G)
        levels = [unfold_time(level, batch=batch) for level in levels]
        q, _ = self.posterior(vectors[:, 1:], None)
        z = unfold_time(q.sample(z_noise), batch=batch)  # (B, T-1, Z)
        previous = vectors[:, :-1]
        if disturbance is not None:
            previous = unfold_time(self.encoder(fold_time(frames[:, :-1] + disturbance))[0], batch=batch)
        conditions = self.leading_conditions(conditions)  # (B, T-1, A)
        true = Known(frames, levels)
        if teacher_forcing:
            predicted, p = self.predict_together(true, previous, conditions, z)
        else:
            predicted, p = self.predict_in_turn(true, previous, conditions, z, disturbance)
        kl = kl_divergence(q, standard_like(q) if p is None else p).mean()
        return sequence_loss(predicted, targets, kl)

    def predict_together(self, true: Known, previous: Tensor, conditions: Tensor, z: Tensor) -> tuple[Tensor, Gaussian | None]:
        """Teacher forcing: every frame before is a true one, so all steps go as one batch.

        true: frames and levels (B, T, ...); previous (B, T-1, G), conditions (B, T-1, A), z (B, T-1, Z) -> the predicted
        frames (B, T-1, 3, H, W), the learned prior of (B*(T-1), Z).
        """
        batch, steps = z.shape[:2]
        seen = torch.cat([previous, conditions], dim=2)  # (B, T-1, G + A)
        p = self.prior(seen, None)[0] if self.prior else None
        vectors, _ = self.predictor(torch.cat([seen, z], dim=2), None)  # (B, T-1, G)
        at = [self.known_frame(t, self.context) for t in range(1, steps + 1)]
        known = Known(fold_time(true.frame[:, at]), [fold_time(level[:, at]) for level in true.levels])
        return unfold_time(self.paint(fold_time(vectors), known), batch=batch), p

    def predict_in_turn(
        self, true: Known, previous: Tensor, conditions: Tensor, z: Tensor, disturbance: Tensor | None
    ) -> tuple[Tensor, Gaussian | None]:
        """Without teacher forcing: behind the given frames, each frame follows from the prediction before it, to which its
        disturbance (B, T-1, 3, H, W) is added."""
        state = prior_state = None
        video, priors = [true.frame[:, 0]], []
        for t in range(1, z.shape[1] + 1):
            if t <= self.context:
                vector, latest = previous[:, t - 1], Known(true.frame[:, t - 1], [level[:, t - 1] for level in true.levels])
            else:
                vector, levels = self.encoder(video[-1])  # (B, G)
                latest = Known(video[-1], levels)
                if disturbance is not None:  # on what is fed back, not on what the decoder knows
                    vector, _ = self.encoder(video[-1] + disturbance[:, t - 1])
            if self.known_frame(t, self.context) == t - 1:
                known = latest
            seen = torch.cat([vector, conditions[:, t - 1]], dim=1).unsqueeze(1)  # (B, 1, G + A)
            if self.prior:
                p, prior_state = self.prior(seen, prior_state)
                priors.append(p)
            predicted, state = self.predictor(torch.cat([seen, z[:, t - 1 : t]], dim=2), state)
            video.append(self.paint(predicted[:, 0], known))
        p = Gaussian(*(fold_time(torch.stack(parts, dim=1)) for parts in zip(*priors))) if self.prior else None
        return torch.stack(video[1:], dim=1), p

    @torch.no_grad()
    def rollout(self, given, conditions, *, z_scale=1.0, seeds=None) -> Tensor:
        conditions, context = self.leading_conditions(conditions), given.shape[1]
        noise = Noise(seeds, batch=len(given), device=given.device)
        state = prior_state = posterior_state = None
        video = list(given.unbind(dim=1))
        for t in range(1, conditions.shape[1] + 1):
            vector, levels = self.encoder(video[t - 1])  # (B, G)
            if self.known_frame(t, context) == t - 1:
                known = Known(video[t - 1], levels)
            seen = torch.cat([vector, conditions[:, t - 1]], dim=1).unsqueeze(1)  # (B, 1, G + A)
            p = Gaussian(*torch.zeros(2, len(given), self.z_dim, device=given.device))
            if self.prior:
                p, prior_state = self.prior(seen, prior_state)
            if t < context:  # a given frame, which the posterior may see
                q, posterior_state = self.posterior(self.encoder(video[t])[0].unsqueeze(1), posterior_state)
                z = q.sample(noise.draw(self.z_dim))
            else:
                z = p.sample(z_scale * noise.draw(self.z_dim))  # (B, Z)
            predicted, state = self.predictor(torch.cat([seen, z.unsqueeze(1)], dim=2), state)
            if t >= context:
                video.append(self.paint(predicted[:, 0], known))
        return torch.stack(video, dim=1)  # (B, T, 3, H, W)
