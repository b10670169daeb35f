"""The blocks of which every encoder and decoder is built.

Shapes: B batch (or B*T, a clip as one batch), T frames, C channels, H x W size.
"""

from functools import reduce
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional


def normalization(norm: str, channels: int, *, groups: int = 8) -> nn.Module:
    """Return `group` or `batch` normalization of (B, channels, H, W); the groups, at most `groups`, divide the channels.

    SVG (Denton and Fergus 2018) has batch normalization. Group normalization works at any batch size, and is the same
    function in training and in a rollout, which the batch statistics of teacher-forced frames would not fit.
    Raises ValueError for another name.
    """
    if norm not in ("group", "batch"):
        raise ValueError(f"norm: expected group or batch, got {norm!r}")
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(gcd(groups, channels), channels)


class VGGLayer(nn.Sequential):
    """Convolution 3x3, normalization, LeakyReLU 0.2: (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, *, inputs: int, outputs: int, norm: str):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
            normalization(norm, outputs),
            # The slope by name: LeakyReLU(True) looks like inplace=True but means slope 1, the identity.
            nn.LeakyReLU(negative_slope=0.2, inplace=True),
        )


class VGGBlock(nn.Sequential):
    """VGG layers in a row: (B, widths[0], H, W) -> (B, widths[-1], H, W)."""

    def __init__(self, *, widths: list[int], norm: str):
        super().__init__(*(VGGLayer(inputs=i, outputs=o, norm=norm) for i, o in zip(widths, widths[1:])))


class JoinLayer(nn.Module):
    """A VGG layer over several inputs {name: channels} of one size: -> (B, outputs, H, W).

    A convolution of concatenated inputs is the sum of one convolution per input. An input that is known early can therefore
    be convolved early, for a whole clip at once; `partial` sums these. An input of 0 channels has no weights.
    """

    def __init__(self, *, inputs: dict[str, int], outputs: int, norm: str):
        super().__init__()
        self.convolutions = nn.ModuleDict(
            {
                name: nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False)
                for name, channels in inputs.items()
                if channels
            }
        )
        self.finish = nn.Sequential(normalization(norm, outputs), nn.LeakyReLU(negative_slope=0.2, inplace=True))

    def partial(self, **inputs: Tensor) -> Tensor:
        """Return the sum of the convolutions of some of the inputs, (B, outputs, H, W)."""
        convolved = [self.convolutions[name](x) for name, x in inputs.items() if x.shape[1]]
        return reduce(torch.add, convolved)  # sum() would begin with 0 + x, a needless pass over x

    def forward(self, partial: Tensor, **inputs: Tensor) -> Tensor:
        """Return the layer's output for these inputs and the partial sum of all the others."""
        return self.finish(partial + self.partial(**inputs))


def halve(x: Tensor) -> Tensor:
    """Return x at half its size, 2x2 max pooling: (B, C, H, W) -> (B, C, H/2, W/2); H and W are even."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return functional.max_pool2d(x, 2)
    # On a CPU this takes less than half of max_pool2d's time in a rollout; with gradients it would take five times as long.
    rows = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def upsample(x: Tensor) -> Tensor:
    """Return x at twice its size, nearest neighbor: (B, C, H, W) -> (B, C, 2H, 2W)."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def paint_over(painted: Tensor, canvas: Tensor) -> Tensor:
    """Return mask * color + (1 - mask) * canvas, (B, 3, H, W) float32 in [0, 1].

    `painted` (B, 4, H, W) is color and mask before the sigmoid; `canvas` (B, 3, H, W) is an earlier frame. The mask leaves
    the canvas as it is wherever nothing moves (a mask over earlier frames: CDNA, Finn et al. 2016).
    """
    # float32 under autocast too: bfloat16 has a mantissa of 8 bits, too few for a pixel.
    color, mask = torch.sigmoid(painted.float()).split([3, 1], dim=1)
    return mask * color + (1 - mask) * canvas


def fold_time(video: Tensor) -> Tensor:
    """Return a clip as one batch, for layers that need no previous frame: (B, T, ...) -> (B*T, ...)."""
    return video.flatten(0, 1)


def unfold_time(frames: Tensor, *, batch: int) -> Tensor:
    """Return the inverse of fold_time: (B*T, ...) -> (B, T, ...)."""
    return frames.unflatten(0, (batch, -1))
