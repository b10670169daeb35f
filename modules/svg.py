"""SVG: video of a robot from a few context frames and its actions (Denton and Fergus 2018, arXiv 1802.07687).

A recurrent conditional VAE with one latent z_t per predicted frame. The first frame is frame 0.

    symbol                               meaning                                           code
    x_t                                  frame t                                           frames, targets
    c_t                                  condition that leads to frame t, not in the paper leading_conditions
    h_t = Enc(x_t)                       frame vector                                      VGGEncoder
    q(z_t | x_1..x_t), LSTM_phi          posterior: training, context frames of a rollout  posterior, GaussianLSTM
    N(0, I) or p(z_t | x_<t, c_<=t)      prior, fixed (SVG-FP) or learned (SVG-LP)         prior, GaussianLSTM
    z_t = mu_t + sigma_t * epsilon       reparameterized sample                            Gaussian.sample, z_noise
    g_t = LSTM_theta(h_t-1, c_t, z_t)    frame predictor                                   predictor, FramePredictor
    Dec(g_t, skips), mean of p(x_t | ..) prediction                                        VGGDecoder, paint
    KL(q || p)                           rate, in nats                                     kl_divergence
    distortion + beta KL                 loss                                              sequence_loss; the sum in Learner

`step` is the recurrence: the prior and the predictor, over one time step or, with teacher forcing, over all at once.

Shapes: B batch, T frames, S successive time steps, N frames of any clips, H x W frame size, G frame vector, A condition values,
R recurrent width, Z latent.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules.base import SequenceLoss, VideoModel, sequence_loss
from modules.gaussian import Gaussian, Noise, kl_divergence
from modules.layers import VGGBlock, VGGLayer, fold_time, halve, normalization, paint_over, unfold_time, upsample

LAYERS = {32: (2, 2, 3), 64: (2, 2, 3, 3), 128: (2, 2, 3, 3, 3)}  # VGG layers per stage, by frame size, down to 4 x 4 pixels
LSTMState = tuple[Tensor, Tensor]  # hidden and cell values of a stacked LSTM, (layers, B, R) each


def stage_widths(image_size: int, width: int) -> list[int]:
    """Return the channels of each stage, from full resolution down: in the paper, with width 64, 64, 128, 256, 512."""
    return [min(width * 2**stage, width * 8) for stage in range(len(LAYERS[image_size]))]


class VGGEncoder(nn.Module):
    """Frames (N, 3, H, W) in [0, 1] -> vectors (N, G) in [-1, 1], and the features of every stage, for the decoder's skips."""

    def __init__(self, *, image_size: int, width: int, g_dim: int, norm: str):
        super().__init__()
        widths = [3, *stage_widths(image_size, width)]
        self.stages = nn.ModuleList(
            VGGBlock(widths=[previous, *[channels] * layers], norm=norm)
            for previous, channels, layers in zip(widths, widths[1:], LAYERS[image_size])
        )
        # One group: with several, a short vector would have groups of one value, which normalization makes 0.
        self.to_vector = nn.Sequential(
            nn.Conv2d(widths[-1], g_dim, kernel_size=4), normalization(norm, g_dim, groups=1), nn.Tanh()
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, levels = frames, []
        for stage in self.stages:
            levels.append(stage(x))  # (N, width, H, W), (N, 2 width, H/2, W/2), ...
            x = halve(levels[-1])
        return self.to_vector(x).flatten(1), levels


class VGGDecoder(nn.Module):
    """Vectors (N, G) and the features of the encoder's stages -> (N, outputs, H, W), before the sigmoid."""

    def __init__(self, *, image_size: int, width: int, g_dim: int, norm: str, outputs: int):
        super().__init__()
        widths, layers = stage_widths(image_size, width), LAYERS[image_size]
        self.from_vector = nn.Sequential(
            nn.ConvTranspose2d(g_dim, widths[-1], kernel_size=4), normalization(norm, widths[-1]), nn.LeakyReLU(0.2)
        )
        # Each stage takes twice its width, half of it from the skip, and ends with the width of the next finer stage.
        self.stages = nn.ModuleList(
            VGGBlock(widths=[2 * widths[i], *[widths[i]] * (layers[i] - 1), widths[i - 1]], norm=norm)
            for i in reversed(range(1, len(widths)))
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
    """A stacked LSTM between two linear layers. Its state is a value, passed in and returned; None is all zeros."""

    def __init__(self, *, inputs: int, outputs: int, rnn_size: int, layers: int):
        super().__init__()
        self.embed = nn.Linear(inputs, rnn_size)
        self.lstm = nn.LSTM(rnn_size, rnn_size, num_layers=layers, batch_first=True)
        self.output = nn.Linear(rnn_size, outputs)

    def unroll(self, inputs: Tensor, state: LSTMState | None) -> tuple[Tensor, LSTMState]:
        """Return the outputs (B, S, outputs) for inputs (B, S, inputs), and the state after the last step."""
        hidden, state = self.lstm(self.embed(inputs), state)  # (B, S, R)
        return self.output(hidden), state


class FramePredictor(StackedLSTM):
    """The vector g_t of the next frame: (B, S, inputs), state -> (B, S, G) in [-1, 1], state after the last step."""

    def forward(self, inputs: Tensor, state: LSTMState | None) -> tuple[Tensor, LSTMState]:
        vectors, state = self.unroll(inputs, state)
        return torch.tanh(vectors), state


class GaussianLSTM(StackedLSTM):
    """A distribution of z_t: (B, S, inputs), state -> Gaussian of (B, S, Z), state after the last step."""

    def __init__(self, *, inputs: int, outputs: int, rnn_size: int, layers: int):
        super().__init__(inputs=inputs, outputs=2 * outputs, rnn_size=rnn_size, layers=layers)

    def forward(self, inputs: Tensor, state: LSTMState | None) -> tuple[Gaussian, LSTMState]:
        parameters, state = self.unroll(inputs, state)  # (B, S, 2Z)
        return Gaussian.from_parameters(parameters, dim=2), state


class Skips(NamedTuple):
    """What the decoder takes from earlier frames: the frames, to paint over, and the features of the encoder's stages."""

    # fmt: off
    canvas: Tensor        # (N, 3, H, W) or (B, T, 3, H, W)
    levels: list[Tensor]  # (N, width, H, W), (N, 2 width, H/2, W/2), ... or (B, T, ...)
    # fmt: on

    def at(self, t: int | Tensor) -> "Skips":
        """Return the skips of frame t, or of several frames: (B, T, ...) -> (B, ...), or (B, len(t), ...)."""
        return Skips(self.canvas[:, t], [level[:, t] for level in self.levels])

    def fold_time(self) -> "Skips":
        """Return the skips of clips as those of one batch: (B, T, ...) -> (B*T, ...)."""
        return Skips(fold_time(self.canvas), [fold_time(level) for level in self.levels])


class TrainingInputs(NamedTuple):
    """What training knows in advance of a clip. Time step t - 1 of T-1 belongs to frame t."""

    # fmt: off
    skips: Skips                   # (B, T, ...)         of every true frame
    vectors: Tensor                # (B, T-1, G)         of the true previous frames, with noise
    conditions: Tensor             # (B, T-1, A)
    z: Tensor                      # (B, T-1, Z)         samples of the posterior
    feedback_noise: Tensor | None  # (B, T-1, 3, H, W)   added to the previous frames
    # fmt: on


class State(NamedTuple):
    """The state of the recurrence between two time steps."""

    predictor: LSTMState | None = None
    prior: LSTMState | None = None


class Step(NamedTuple):
    """The result of S time steps."""

    # fmt: off
    vectors: Tensor  # (B, S, G)   of the predicted frames
    prior: Gaussian  # (B, S, Z)
    state: State     # after the last step
    # fmt: on


class SVG(VideoModel):
    """The whole model. Frames (B, T, 3, H, W) in [0, 1], square, of 32, 64 or 128 pixels; conditions (B, T, A) in the data's
    own units.

    `context` is the number of context frames. The decoder takes its skips from the newest context frame that precedes t, with
    `last_frame_skip` from frame t-1. With `compose` "last" it paints over that frame, with "none" on an empty canvas, as in
    the paper. The condition at t - `cond_shift` leads to frame t. Raises ValueError for an unknown size or name.
    """

    condition_mean: Tensor
    condition_scale: Tensor

    def __init__(
        self, *, image_size: int, condition_mean: list[float], condition_scale: list[float], context: int, cond_shift: int,
        width: int, g_dim: int, z_dim: int, rnn_size: int, predictor_rnn_layers: int, posterior_rnn_layers: int,
        prior_rnn_layers: int, learned_prior: bool, norm: str, compose: str, last_frame_skip: bool,
    ):  # fmt: skip
        super().__init__()
        self.check_size(image_size, image_size)
        if compose not in ("none", "last"):
            raise ValueError(f"compose: expected none or last, got {compose!r}")
        self.z_dim, self.context, self.cond_shift = z_dim, context, cond_shift
        self.paints_over, self.last_frame_skip = compose == "last", last_frame_skip
        # Actions of a few centimeters and positions of half a meter reach the linear layers at one scale.
        self.register_buffer("condition_mean", torch.tensor(condition_mean), persistent=False)
        self.register_buffer("condition_scale", torch.tensor(condition_scale), persistent=False)
        seen = g_dim + len(condition_mean)
        outputs = 4 if self.paints_over else 3
        self.encoder = VGGEncoder(image_size=image_size, width=width, g_dim=g_dim, norm=norm)
        self.decoder = VGGDecoder(image_size=image_size, width=width, g_dim=g_dim, norm=norm, outputs=outputs)
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
            expected = len(self.condition_mean)
            raise ValueError(f"{conditions.shape[-1]} condition values per frame: expected {expected}, as in training")

    def leading_conditions(self, conditions: Tensor) -> Tensor:
        """Return the standardized conditions that lead to frames 1 to T-1: (B, T, A) -> (B, T-1, A)."""
        length = conditions.shape[1]
        standardized = (conditions - self.condition_mean) / self.condition_scale
        return standardized[:, 1 - self.cond_shift : length - self.cond_shift]

    def skip_frame(self, t: int, context: int) -> int:
        """Return the index of the frame that the decoder of frame t takes its skips from."""
        # min(t, context): a later frame would show the decoder its own target, an earlier one is not the last context frame
        # (edenton/svg issue 1).
        return t - 1 if self.last_frame_skip else min(t, context) - 1

    def step(
        self, state: State, vectors: Tensor, conditions: Tensor, z: Tensor | None, *, prior_noise: Tensor | float = 0.0
    ) -> Step:
        """Advance the recurrence by S time steps: previous frames' vectors (B, S, G), conditions (B, S, A), z (B, S, Z).

        Where z is None it is mu + sigma * prior_noise of the prior.
        """
        seen = torch.cat([vectors, conditions], dim=2)  # (B, S, G + A)
        if self.prior is None:
            zeros = torch.zeros(*vectors.shape[:2], self.z_dim, device=vectors.device)
            prior, prior_state = Gaussian(zeros, zeros), None
        else:
            prior, prior_state = self.prior(seen, state.prior)
        z = prior.sample(prior_noise) if z is None else z  # (B, S, Z)
        predicted, predictor_state = self.predictor(torch.cat([seen, z], dim=2), state.predictor)  # (B, S, G)
        return Step(predicted, prior, State(predictor_state, prior_state))

    def paint(self, vectors: Tensor, skips: Skips) -> Tensor:
        """Return the frames (N, 3, H, W) in [0, 1] of predicted vectors (N, G): the mean of p(x_t | x_<t, c_<=t, z_<=t)."""
        painted = self.decoder(vectors, skips.levels)  # (N, 3 or 4, H, W)
        return paint_over(painted, skips.canvas) if self.paints_over else torch.sigmoid(painted.float())

    def forward(
        self,
        frames: Tensor,
        conditions: Tensor,
        *,
        teacher_forcing: bool,
        feedback_noise: float = 0.0,
        noise: Noise | None = None,
    ) -> SequenceLoss:
        """Return the loss of one clip, as in VideoModel."""
        batch, targets = len(frames), frames[:, 1:]
        noise = noise or Noise(None, batch=batch, device=frames.device)
        z_noise = noise.draw(targets.shape[1], self.z_dim)  # (B, T-1, Z)
        added = feedback_noise * noise.draw(*targets.shape[1:]) if feedback_noise else None  # (B, T-1, 3, H, W)
        # Every true frame is encoded once: for the posterior, as the previous frame, and for the skips.
        encoded, levels = self.encoder(fold_time(frames))
        vectors = unfold_time(encoded, batch=batch)  # (B, T, G)
        skips = Skips(frames, [unfold_time(level, batch=batch) for level in levels])  # (B, T, ...)
        q, _ = self.posterior(vectors[:, 1:], None)  # (B, T-1, Z)
        z = q.sample(z_noise)
        previous = vectors[:, :-1]  # (B, T-1, G)
        if added is not None:
            noisy, _ = self.encoder(fold_time(frames[:, :-1] + added))
            previous = unfold_time(noisy, batch=batch)
        inputs = TrainingInputs(skips, previous, self.leading_conditions(conditions), z, added)
        predict = self.predict_teacher_forced if teacher_forcing else self.predict_autoregressive
        predicted, p = predict(inputs)
        return sequence_loss(predicted, targets, kl_divergence(q, p, batch_dims=2).mean())

    def predict_teacher_forced(self, clip: TrainingInputs) -> tuple[Tensor, Gaussian]:
        """Return the predicted frames (B, T-1, 3, H, W) and their priors (B, T-1, Z).

        All previous frames are true ones, so the LSTMs run over the whole clip and the decoder takes it as one batch.
        """
        batch, steps = clip.z.shape[:2]
        predicted, prior, _ = self.step(State(), clip.vectors, clip.conditions, clip.z)
        sources = torch.arange(steps, device=clip.z.device)  # skip_frame() of each t; a list would be copied to the GPU
        if not self.last_frame_skip:
            sources = sources.clamp(max=self.context - 1)
        skips = clip.skips.at(sources).fold_time()  # (B*(T-1), ...)
        return unfold_time(self.paint(fold_time(predicted), skips), batch=batch), prior

    def predict_autoregressive(self, clip: TrainingInputs) -> tuple[Tensor, Gaussian]:
        """Return the predicted frames (B, T-1, 3, H, W) and their priors (B, T-1, Z).

        After the context frames each frame is predicted from the prediction of the previous one.
        """
        state, video, priors = State(), [clip.skips.canvas[:, 0]], []
        for t in range(1, clip.z.shape[1] + 1):
            now = slice(t - 1, t)
            if t <= self.context:
                vector, previous = clip.vectors[:, t - 1], clip.skips.at(t - 1)
            else:
                vector, levels = self.encoder(video[-1])
                previous = Skips(video[-1], levels)
                if clip.feedback_noise is not None:  # for the predictor, not for the skips
                    vector, _ = self.encoder(video[-1] + clip.feedback_noise[:, t - 1])
            if self.skip_frame(t, self.context) == t - 1:
                skips = previous
            step = self.step(state, vector.unsqueeze(1), clip.conditions[:, now], clip.z[:, now])
            state = step.state
            priors.append(step.prior)
            video.append(self.paint(step.vectors[:, 0], skips))
        prior = Gaussian(*(torch.cat(parts, dim=1) for parts in zip(*priors)))
        return torch.stack(video[1:], dim=1), prior

    @torch.no_grad()
    def rollout(
        self, context_frames: Tensor, conditions: Tensor, *, z_scale: float = 1.0, seeds: list[int] | None = None
    ) -> Tensor:
        context, conditions = context_frames.shape[1], self.leading_conditions(conditions)  # (B, T-1, A)
        noise = Noise(seeds, batch=len(context_frames), device=context_frames.device)
        state, posterior_state = State(), None
        video = list(context_frames.unbind(dim=1))
        for t in range(1, conditions.shape[1] + 1):
            vector, levels = self.encoder(video[t - 1])  # (B, G)
            if self.skip_frame(t, context) == t - 1:
                skips = Skips(video[t - 1], levels)
            z, z_noise = None, noise.draw(1, self.z_dim)  # (B, 1, Z)
            if t < context:  # frame t is given, so the posterior may see it
                target, _ = self.encoder(video[t])
                q, posterior_state = self.posterior(target.unsqueeze(1), posterior_state)
                z = q.sample(z_noise)
            step = self.step(state, vector.unsqueeze(1), conditions[:, t - 1 : t], z, prior_noise=z_scale * z_noise)
            state = step.state
            if t >= context:
                video.append(self.paint(step.vectors[:, 0], skips))
        return torch.stack(video, dim=1)  # (B, T, 3, H, W)
