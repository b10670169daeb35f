"""The blocks that every encoder and decoder here is built of (C channels, H x W size)."""
from math import gcd

from torch import Tensor, nn


class VGGLayer(nn.Sequential):
    """Convolution 3x3, group normalisation, LeakyReLU 0.2: (B, inputs, H, W) -> (B, outputs, H, W).

    SVG (Denton and Fergus 2018) has batch normalisation here. Groups do the same at any batch size and are the same
    function in training and in a roll-out, where batch statistics of teacher-forced frames would not fit.
    """

    def __init__(self, *, inputs: int, outputs: int):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(gcd(8, outputs), outputs),
            # The slope by name: LeakyReLU(True) reads as inplace but means slope 1, the identity.
            nn.LeakyReLU(negative_slope=0.2, inplace=True),
        )


class VGGBlock(nn.Sequential):
    """`layers` VGG layers in a row: (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, *, inputs: int, outputs: int, layers: int):
        widths = [inputs] + [outputs] * layers
        super().__init__(*(VGGLayer(inputs=i, outputs=o) for i, o in zip(widths, widths[1:])))


def fold_time(video: Tensor) -> Tensor:
    """(B, T, ...) -> (B*T, ...): a clip as one batch, for what does not depend on the frame before."""
    return video.flatten(0, 1)


def unfold_time(frames: Tensor, *, batch: int) -> Tensor:
    """(B*T, ...) -> (B, T, ...), the inverse of fold_time."""
    return frames.unflatten(0, (batch, -1))
