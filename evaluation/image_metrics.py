"""PSNR and SSIM of images and videos."""

import torch
from torch import Tensor
from torch.nn import functional


def psnr(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each frame, in dB: (..., C, H, W) in [0, 1] -> (...).

    Equal frames give inf. Raises ValueError if the shapes differ; they are not broadcast.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"psnr: shapes differ: {tuple(predicted.shape)} and {tuple(target.shape)}")
    return -10 * torch.log10((predicted.float() - target.float()).square().mean(dim=(-3, -2, -1)))


def ssim(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the structural similarity of each frame: (..., C, H, W) in [0, 1] -> (...), 1 for equal frames.

    The window is a Gaussian of 11 pixels and sigma 1.5, without padding; K1 = 0.01, K2 = 0.03; mean over pixels and channels.
    Raises ValueError if the shapes differ or a side has fewer than 11 pixels. (Wang et al. 2004.)
    """
    if predicted.shape != target.shape or min(predicted.shape[-2:]) < 11:
        shapes = f"{tuple(predicted.shape)} and {tuple(target.shape)}"
        raise ValueError(f"ssim: expected equal shapes of at least 11 pixels a side, got {shapes}")
    offsets = torch.arange(11, device=predicted.device) - 5.0
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = window / window.sum()

    def blur(images: Tensor) -> Tensor:
        return functional.conv2d(functional.conv2d(images, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))

    x, y = (video.float().reshape(-1, 1, *video.shape[-2:]) for video in (predicted, target))
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_x + variance_y + 0.03**2)
    return (luminance * structure).reshape(*predicted.shape[:-3], -1).mean(-1)
