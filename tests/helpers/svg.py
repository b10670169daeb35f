"""SVG models of two sizes, and a rollout of one computed step by step."""

import torch
from torch import Tensor

from modules import build_model
from modules.svg import SVG

PAPER_CONFIG = {"family": "svg", "image_size": 64, "condition_mean": [0.0] * 7, "condition_scale": [1.0] * 7, "context": 2, "cond_shift": 1,
         "width": 64, "g_dim": 128, "z_dim": 64, "rnn_size": 256, "predictor_rnn_layers": 2, "posterior_rnn_layers": 1,
         "prior_rnn_layers": 1, "learned_prior": False, "norm": "batch", "compose": "none", "last_frame_skip": False}  # fmt: skip
SMALL_CONFIG = PAPER_CONFIG | {"image_size": 32, "condition_mean": [0.5, -1.0, 0.0], "condition_scale": [2.0, 1.0, 0.5], "width": 4, "g_dim": 8,
                 "z_dim": 3, "rnn_size": 16, "norm": "group", "compose": "last"}  # fmt: skip


def small(**changes) -> SVG:
    """Return a small SVG with seeded weights."""
    torch.manual_seed(0)
    model = build_model(SMALL_CONFIG | changes)
    assert isinstance(model, SVG)
    return model


def by_hand(model: SVG, frames: Tensor, conditions: Tensor, z: Tensor, *, true_until: int) -> Tensor:
    """Return the predictions of the paper's loop, one sequence at a time.

    Frame t follows from the previous frame, from the condition at t - cond_shift, and from z_t. The previous frame is ground truth
    up to t = `true_until`. Skips and canvas are from the newest context frame that precedes t.
    """
    conditions = (conditions - torch.tensor(SMALL_CONFIG["condition_mean"])) / torch.tensor(SMALL_CONFIG["condition_scale"])
    videos = []
    for n in range(len(frames)):
        state, video = None, [frames[n, 0]]
        for t in range(1, frames.shape[1]):
            before = frames[n, t - 1] if t <= true_until else video[t - 1]
            vector, _ = model.encoder(before[None])
            inputs = torch.cat([vector[0], conditions[n, t - model.cond_shift], z[n, t - 1]])
            predicted, state = model.predictor(inputs[None, None], state)
            canvas = frames[n, min(t, model.context) - 1]
            if model.last_frame_skip:
                canvas = before
            painted = model.decoder(predicted[0], model.encoder(canvas[None])[1])[0]
            if model.paints_over:
                color, mask = torch.sigmoid(painted[:3]), torch.sigmoid(painted[3:])
                video.append(mask * color + (1 - mask) * canvas)
            else:
                video.append(torch.sigmoid(painted))
        videos.append(torch.stack(video[1:]))
    return torch.stack(videos)
