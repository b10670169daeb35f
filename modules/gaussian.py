"""Diagonal Gaussians: samples of z and KL divergence.

Shapes: B batch, Z latent channels; "..." are the axes of the latent, such as (Z, h, w).
"""

from typing import NamedTuple

import torch
from torch import Tensor

LOGVAR_BOUND = 8.0


class Noise:
    """Standard normal noise for a batch of B samples.

    With one seed per sample, its noise depends on that seed and on the earlier draws alone: neither on the rest of the batch
    nor on the number of processes that share it. Without seeds it comes from torch's global generator.
    `shapes` lists what has been drawn so far, without B. Raises ValueError unless there are B seeds.
    """

    def __init__(self, seeds: list[int] | None, *, batch: int, device: torch.device):
        if seeds is not None and len(seeds) != batch:
            raise ValueError(f"seeds: expected {batch}, one per sample of the batch, got {len(seeds)}")
        self.batch, self.device = batch, device
        self.shapes: list[tuple[int, ...]] = []
        self.generators = None if seeds is None else [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def draw(self, *shape: int) -> Tensor:
        """Return (B, *shape), float32."""
        self.shapes.append(shape)
        if self.generators is None:
            return torch.randn(self.batch, *shape, device=self.device)
        return torch.stack([torch.randn(shape, generator=generator, device=self.device) for generator in self.generators])


class Gaussian(NamedTuple):
    """N(mu, exp(logvar)), independent in every element; both tensors have one shape and are float32."""

    mu: Tensor
    logvar: Tensor

    @classmethod
    def from_parameters(cls, parameters: Tensor, *, dim: int = 1) -> "Gaussian":
        """Return the Gaussian whose mu and logvar are the two halves of `parameters`, of any dtype, along `dim`.

        tanh bounds logvar to +-LOGVAR_BOUND, so that exp(logvar) can neither overflow nor reach 0. Unlike a clamp it has a
        gradient everywhere.
        """
        # float32 even under autocast: KL sums thousands of small differences.
        mu, logvar = parameters.float().chunk(2, dim=dim)
        return cls(mu, LOGVAR_BOUND * torch.tanh(logvar / LOGVAR_BOUND))

    def sample(self, noise: Tensor | float) -> Tensor:
        """Return mu + sigma * noise: a sample if the noise, of mu's shape, is standard normal; the mean if it is 0.

        Gradients reach mu and logvar by reparameterization (Kingma and Welling 2014, section 2.4).
        """
        return self.mu + torch.exp(0.5 * self.logvar) * noise


def standard_like(gaussian: Gaussian) -> Gaussian:
    """Return N(0, I) of the same shape, on the same device."""
    return Gaussian(torch.zeros_like(gaussian.mu), torch.zeros_like(gaussian.logvar))


def kl_divergence(q: Gaussian, p: Gaussian, *, batch_dims: int = 1) -> Tensor:
    """Return KL(q || p) in nats, summed over the latent, that is all but the first `batch_dims` axes: (B, ...) -> (B,).

    Closed form of two diagonal Gaussians; for p = N(0, I) it is equation 10 of Kingma and Welling 2014.
    Raises ValueError if the shapes differ.
    """
    if q.mu.shape != p.mu.shape:
        raise ValueError(f"kl_divergence: expected q and p of one shape, got {tuple(q.mu.shape)} and {tuple(p.mu.shape)}")
    # exp of a difference stays finite where a quotient of two variances would not.
    variance_ratio = torch.exp(q.logvar - p.logvar)
    distance = (q.mu - p.mu).square() * torch.exp(-p.logvar)
    return 0.5 * (variance_ratio + distance - 1 - q.logvar + p.logvar).flatten(batch_dims).sum(batch_dims)
