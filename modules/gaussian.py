"""Diagonal Gaussians: what the posterior predicts, how z is drawn from it, and what it costs (B batch, ... latent axes)."""

from typing import NamedTuple

import torch
from torch import Tensor

LOGVAR_BOUND = 8.0


class Noise:
    """Standard normal numbers for a batch of B samples.

    With a seed for each sample, its numbers depend on that seed and on the draws before, not on what else is in the batch or
    on how many processes share it. Without seeds they come from torch's global generator. Raises ValueError for other than B.
    """

    def __init__(self, seeds: list[int] | None, *, batch: int, device: torch.device):
        if seeds is not None and len(seeds) != batch:
            raise ValueError(f"{len(seeds)} seeds for a batch of {batch}; expected one for each sample")
        self.batch, self.device = batch, device
        self.generators = None if seeds is None else [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def draw(self, *shape: int) -> Tensor:
        """(B, *shape), float32."""
        if self.generators is None:
            return torch.randn(self.batch, *shape, device=self.device)
        return torch.stack([torch.randn(shape, generator=own, device=self.device) for own in self.generators])


class Gaussian(NamedTuple):
    """N(mu, exp(logvar)), one independent value per latent element; both tensors (B, ...), float32."""

    mu: Tensor
    logvar: Tensor

    @classmethod
    def from_parameters(cls, parameters: Tensor) -> "Gaussian":
        """Splits (B, 2Z, ...) of any dtype into mu and logvar, (B, Z, ...) each.

        logvar is bent smoothly into +-LOGVAR_BOUND: exp() of it can then neither overflow nor reach 0, and unlike a
        clamp it keeps a gradient everywhere.
        """
        # float32 even under autocast: KL sums thousands of small differences.
        mu, logvar = parameters.float().chunk(2, dim=1)
        return cls(mu, LOGVAR_BOUND * torch.tanh(logvar / LOGVAR_BOUND))

    def sample(self, noise: Tensor) -> Tensor:
        """mu + sigma * noise, a draw if the noise (B, ...) is standard normal: gradients reach mu and logvar by
        reparameterisation (Kingma and Welling 2014, 2.4)."""
        return self.mu + torch.exp(0.5 * self.logvar) * noise


def standard_like(gaussian: Gaussian) -> Gaussian:
    """N(0, I) of the same shape and device."""
    return Gaussian(torch.zeros_like(gaussian.mu), torch.zeros_like(gaussian.logvar))


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats, summed over the latent: (B, ...) -> (B,).

    Closed form of two diagonal Gaussians; for p = N(0, I) it is equation 10 of Kingma and Welling 2014.
    Raises ValueError if the shapes differ.
    """
    if q.mu.shape != p.mu.shape:
        raise ValueError(f"kl_divergence: q has shape {tuple(q.mu.shape)} but p has {tuple(p.mu.shape)}")
    # The ratio is taken as one exponential of a difference, which stays finite where a quotient of two would not.
    variance_ratio = torch.exp(q.logvar - p.logvar)
    distance = (q.mu - p.mu).square() * torch.exp(-p.logvar)
    return 0.5 * (variance_ratio + distance - 1 - q.logvar + p.logvar).flatten(1).sum(1)
