"""The blocks of the encoders and decoders, compared with plain computations."""

import pytest
import torch
from torch import nn

from modules import build_model
from modules.layers import JoinLayer, VGGBlock, VGGLayer, fold_time, halve, paint_over, unfold_time
from tests.helpers.settings import SMALL_POSE_CVAE
from tests.helpers.svg import SMALL_CONFIG

ROBOT = SMALL_CONFIG | {"learned_prior": True, "norm": "batch"}


@pytest.mark.parametrize("config", [SMALL_POSE_CVAE, ROBOT])
def test_the_activation_is_not_the_identity(config):
    """LeakyReLU(True), a common slip, has slope 1 and leaves the network linear."""
    for module in build_model(config).modules():
        if isinstance(module, nn.LeakyReLU):
            assert module.negative_slope == 0.2


@pytest.mark.parametrize("config", [SMALL_POSE_CVAE, ROBOT])
def test_no_module_hides_a_method_of_nn_module(config):
    """In public code, a method called eval() kept batch norm in training mode. Here, a submodule `half` once hid Module.half()."""
    for module in build_model(config).modules():
        own = set(vars(type(module))) if type(module).__module__.startswith("modules") else set()
        meant = {"forward", "__init__", "__doc__", "__module__", "__annotations__"}
        assert not (own | set(module._modules)) & set(vars(nn.Module)) - meant


def test_training_and_evaluation_mode_are_the_same_function():
    """Group norm has no batch statistics. Those of ground-truth frames would not fit a rollout."""
    layer, images = VGGLayer(inputs=3, outputs=8, norm="group"), torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(layer.train()(images), layer.eval()(images))
    torch.testing.assert_close(layer(images)[:1], layer(images[:1]))


def test_a_layer_is_convolution_normalization_and_activation():
    layer, images = VGGLayer(inputs=3, outputs=8, norm="group"), torch.randn(2, 3, 6, 6)
    convolved = nn.functional.conv2d(images, layer[0].weight, padding=1)
    grouped = convolved.reshape(2, 8, -1)  # 8 groups of one channel
    normed = (grouped - grouped.mean(-1, keepdim=True)) / (grouped.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    normed = normed.reshape(2, 8, 6, 6)
    torch.testing.assert_close(layer(images), torch.where(normed > 0, normed, 0.2 * normed), atol=1e-5, rtol=1e-4)


def test_a_block_stacks_layers():
    block = VGGBlock(widths=[3, 10, 10, 10], norm="group")
    assert [layer[0].in_channels for layer in block] == [3, 10, 10]


def test_folding_time_and_back_keeps_the_order():
    video = torch.arange(24).reshape(2, 3, 4)
    assert fold_time(video).tolist() == [row for clip in video.tolist() for row in clip]
    assert torch.equal(unfold_time(fold_time(video), batch=2), video)


def test_painting_over_a_canvas_is_exact_under_autocast():
    """The result is color * mask + canvas * (1 - mask). In bfloat16, a pixel would have fewer than 8 bits."""
    painted, canvas = torch.randn(2, 4, 3, 5).bfloat16(), torch.rand(2, 3, 3, 5)
    color, mask = torch.sigmoid(painted.double()).split([3, 1], dim=1)
    expected = color * mask + canvas * (1 - mask)
    torch.testing.assert_close(paint_over(painted, canvas), expected.float(), atol=1e-6, rtol=0)


def test_inputs_convolved_early_and_late_join_as_if_they_were_concatenated():
    """An input of 0 channels has no weights and changes nothing."""
    sizes = {"early": 3, "late": 5, "empty": 0}
    join = JoinLayer(inputs=sizes, outputs=8, norm="group")
    inputs = {name: torch.randn(2, channels, 6, 6) for name, channels in sizes.items()}
    weights = torch.cat([join.convolutions["early"].weight, join.convolutions["late"].weight], dim=1)
    convolved = nn.functional.conv2d(torch.cat([inputs["early"], inputs["late"]], dim=1), weights, padding=1)
    partial = join.partial(early=inputs["early"], empty=inputs["empty"])
    torch.testing.assert_close(join(partial, late=inputs["late"]), join.finish(convolved))
    assert set(join.convolutions) == {"early", "late"}


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 4, 6)])
def test_halving_takes_the_maximum_of_four_with_and_without_gradients(shape):
    x = torch.randn(shape)
    expected = torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(dim=0)
    assert torch.equal(halve(x.requires_grad_()), expected)
    with torch.no_grad():
        assert torch.equal(halve(x), expected)
