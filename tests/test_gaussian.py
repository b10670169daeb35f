"""KL and samples of diagonal Gaussians against torch.distributions and the VAE paper."""

import math

import pytest
import torch
from torch import distributions

from modules.gaussian import LOGVAR_BOUND, Gaussian, kl_divergence, standard_like


def random_gaussian(*shape: int) -> Gaussian:
    return Gaussian(torch.randn(shape), torch.randn(shape))


def test_kl_equals_torch_distributions():
    q, p = random_gaussian(3, 4, 2, 5), random_gaussian(3, 4, 2, 5)
    normal = [distributions.Normal(g.mu, (0.5 * g.logvar).exp()) for g in (q, p)]
    expected = distributions.kl_divergence(*normal).sum(dim=(1, 2, 3))
    torch.testing.assert_close(kl_divergence(q, p), expected)


def test_kl_keeps_the_requested_batch_axes():
    q, p = random_gaussian(3, 4, 2), random_gaussian(3, 4, 2)
    expected = torch.stack([kl_divergence(Gaussian(*a), Gaussian(*b)) for a, b in zip(zip(*q), zip(*p))])
    torch.testing.assert_close(kl_divergence(q, p, batch_dims=2), expected)


def test_kl_against_the_standard_normal_is_equation_10_of_the_vae_paper():
    q = random_gaussian(2, 6)
    expected = -0.5 * (1 + q.logvar - q.mu**2 - q.logvar.exp()).sum(1)
    torch.testing.assert_close(kl_divergence(q, standard_like(q)), expected)


def test_kl_of_a_gaussian_with_itself_is_zero():
    q = random_gaussian(2, 3)
    torch.testing.assert_close(kl_divergence(q, q), torch.zeros(2))


def test_kl_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match="shape"):
        kl_divergence(random_gaussian(2, 3), random_gaussian(1, 3))


def test_samples_have_the_mean_and_variance_of_their_gaussian():
    q = Gaussian(torch.full((100_000,), 3.0), torch.full((100_000,), math.log(0.25)))
    draws = q.sample(torch.randn(100_000))
    assert draws.mean().item() == pytest.approx(3, abs=0.01)
    assert draws.std().item() == pytest.approx(0.5, abs=0.01)


def test_a_sample_carries_gradients_to_both_parameters():
    """Without reparameterization the posterior would not learn."""
    mu, logvar = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    Gaussian(mu, logvar).sample(torch.randn(4)).sum().backward()
    torch.testing.assert_close(mu.grad, torch.ones(4))
    assert (logvar.grad != 0).all()


@pytest.mark.parametrize("extreme", [-1e30, -50.0, 50.0, 1e30])
def test_the_bounded_log_variance_keeps_kl_and_sample_finite(extreme):
    """Without annealing, the first steps can make logvar huge. Its exp() must become neither inf nor 0."""
    q = Gaussian.from_parameters(torch.full((1, 4, 2, 2), extreme))
    q = q._replace(mu=torch.zeros_like(q.mu))
    assert q.logvar.abs().max() <= LOGVAR_BOUND
    assert torch.isfinite(kl_divergence(q, standard_like(q))).all() and torch.isfinite(q.sample(torch.randn_like(q.mu))).all()


def test_parameters_split_into_mean_and_log_variance_in_float32():
    q = Gaussian.from_parameters(torch.arange(8.0).reshape(1, 8, 1, 1).bfloat16())
    assert q.mu.dtype == q.logvar.dtype == torch.float32
    assert q.mu.flatten().tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(q.logvar.flatten(), LOGVAR_BOUND * torch.tanh(torch.tensor([4.0, 5, 6, 7]) / LOGVAR_BOUND))
