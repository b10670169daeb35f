"""The loss that all models share."""

import math

import pytest
import torch

from evaluation.image_metrics import psnr
from modules.base import sequence_loss
from modules.gaussian import Noise
from tests.helpers.trainers import batch_of, make_trainer, position


def test_log_mse_is_the_mean_psnr_up_to_a_factor():
    """It is the mean of the frames' logarithms, not the logarithm of their mean. The frames have 10 to 26 dB."""
    target = torch.rand(2, 4, 3, 8, 8)
    predicted = target + torch.tensor([0.05, 0.1, 0.2, 0.3])[:, None, None, None] * torch.randn_like(target).sign()
    loss = sequence_loss(predicted, target, torch.tensor(5.0))
    assert loss.mse.item() == pytest.approx((predicted - target).square().mean().item()) and loss.kl.item() == 5.0
    assert loss.log_mse.item() == pytest.approx(-math.log(10) / 10 * psnr(predicted, target).mean().item(), abs=0.03)


def test_equal_frames_have_a_finite_loss_and_gradient():
    predicted = torch.rand(1, 2, 3, 8, 8, requires_grad=True)
    loss = sequence_loss(predicted, predicted.detach().clone(), torch.tensor(0.0))
    loss.log_mse.backward()
    assert loss.mse == 0 and torch.isfinite(loss.log_mse) and torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize("distortion", ["mse", "log_mse"])
def test_the_loss_is_the_chosen_distortion_plus_weighted_kl(train_args, distortion):
    """log_mse has the factor 0.001, so that a frame of 30 dB has the same gradient as with mse."""
    trainer = make_trainer(train_args, "--distortion", distortion, "--kl_weight", "0.01")
    batch = batch_of(trainer, [0, 1])
    inputs = {name: value.float() / 255 for name, value in batch.items() if name != "seed"}
    noise = Noise(batch["seed"].tolist(), batch=2, device=torch.device("cpu"))
    mse, kl, log_mse = (part.item() for part in trainer.learner.model(**inputs, teacher_forcing=True, noise=noise))
    loss, *_ = trainer.train_step(batch, position(0), teacher_forced=True, beta=0.5)
    assert loss == pytest.approx((mse if distortion == "mse" else 1e-3 * log_mse) + 0.5 * 0.01 * kl, rel=1e-4)
