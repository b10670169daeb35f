"""The blocks that every encoder and decoder here is built of (C channels, H x W size)."""

from functools import reduce
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional


def normalisation(norm: str, channels: int, *, groups: int = 8) -> nn.Module:
    """`group` or `batch` normalisation of (N, channels, H, W), in as many groups, up to `groups`, as divide the channels.

    SVG (Denton and Fergus 2018) has batch normalisation. Groups do the same at any batch size and are the same function in
    training and in a roll-out, where batch statistics of teacher-forced frames would not fit. Raises ValueError.
    """
    if norm not in ("group", "batch"):
        raise ValueError(f"norm {norm!r} is not known; expected group or batch")
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(gcd(groups, channels), channels)


class VGGLayer(nn.Sequential):
    """Convolution 3x3, normalisation, LeakyReLU 0.2: (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, *, inputs: int, outputs: int, norm: str):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
            normalisation(norm, outputs),
            # The slope by name: LeakyReLU(True) reads as inplace but means slope 1, the identity.
            nn.LeakyReLU(negative_slope=0.2, inplace=True),
        )


class VGGBlock(nn.Sequential):
    """VGG layers in a row: (B, widths[0], H, W) -> (B, widths[-1], H, W)."""

    def __init__(self, *, widths: list[int], norm: str):
        super().__init__(*(VGGLayer(inputs=i, outputs=o, norm=norm) for i, o in zip(widths, widths[1:])))


class JoinLayer(nn.Module):
    """A VGG layer over several inputs {name: channels} of one size: -> (N, outputs, H, W).

    The convolution of joined inputs is the sum of a convolution of each, so inputs that are known sooner can be convolved
    sooner, many at once: their `partial` sum.
    """

    def __init__(self, *, inputs: dict[str, int], outputs: int, norm: str):
        super().__init__()
        convolutions = {name: nn.Conv2d(i, outputs, kernel_size=3, padding=1, bias=False) for name, i in inputs.items()}
        self.convolutions = nn.ModuleDict(convolutions)
        self.finish = nn.Sequential(normalisation(norm, outputs), nn.LeakyReLU(negative_slope=0.2, inplace=True))

    def partial(self, **inputs: Tensor) -> Tensor:
        """The sum over some of the inputs."""
        # Not sum(), which begins with 0 + x, a pass over x for nothing.
        return reduce(torch.add, (self.convolutions[name](x) for name, x in inputs.items()))

    def forward(self, partial: Tensor, **inputs: Tensor) -> Tensor:
        """The partial sum of all other inputs, and these."""
        return self.finish(partial + self.partial(**inputs))


def halve(x: Tensor) -> Tensor:
    """Half the size, the largest of every 2 x 2: (B, C, H, W) -> (B, C, H/2, W/2); H and W are even."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return functional.max_pool2d(x, 2)
    # Less than half the time in a CPU's roll-out; with gradients it would be five times as slow.
    rows = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def upsample(x: Tensor) -> Tensor:
    """Twice the size, nearest neighbour: (B, C, H, W) -> (B, C, 2H, 2W)."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def paint_over(painted: Tensor, known: Tensor) -> Tensor:
    """Colour and mask before the sigmoid (B, 4, H, W), a known frame (B, 3, H, W) -> frame (B, 3, H, W) in [0, 1].

    The mask decides where the known frame is painted over and where it shows, so that what does not move need not be
    painted again (a mask over known frames: CDNA, Finn et al. 2016).
    """
    # float32 under autocast too: bfloat16 has 8 bits for the mantissa, fewer than a pixel.
    colour, mask = torch.sigmoid(painted.float()).split([3, 1], dim=1)
    return mask * colour + (1 - mask) * known


def fold_time(video: Tensor) -> Tensor:
    """(B, T, ...) -> (B*T, ...): a clip as one batch, for what does not depend on the frame before."""
    return video.flatten(0, 1)


def unfold_time(frames: Tensor, *, batch: int) -> Tensor:
    """(B*T, ...) -> (B, T, ...), the inverse of fold_time."""
    return frames.unflatten(0, (batch, -1))
