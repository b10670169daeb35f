"""SVG's rollouts: the frames that they see, the prior that they sample, and the states that they keep."""

import pytest
import torch
from torch import Tensor

from tests.helpers.svg import by_hand, small


@pytest.fixture
def clip() -> tuple[Tensor, Tensor]:
    """Return frames (3, 6, 3, 32, 32) and conditions (3, 6, 3)."""
    return torch.rand(3, 6, 3, 32, 32), torch.randn(3, 6, 3)


@pytest.mark.parametrize("learned", [False, True])
def test_the_posterior_sees_only_context_frames_in_a_rollout(clip, learned):
    """In validation, a z computed from the ground truth would be a leak. Only the context frames reach the model at all."""
    model, (frames, conditions) = small(learned_prior=learned), clip
    seen = []
    model.posterior.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()[:, 0]))
    video = model.rollout(frames[:, :2], conditions)
    assert video.shape == frames.shape and torch.equal(video[:, :2], frames[:, :2])
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], model.encoder(frames[:, 1])[0])


@pytest.mark.parametrize("cond_shift", [1, 0])
def test_the_first_predicted_frame_depends_on_each_input(clip, cond_shift):
    """After two context frames, frame 2 depends on both, on the condition that leads to it but on no later one, and on z."""
    model, (frames, conditions) = small(cond_shift=cond_shift), clip

    def first(frames=frames, conditions=conditions, seed=0):
        torch.manual_seed(seed)
        return model.rollout(frames[:, :2], conditions)[:, 2]

    def other(tensor, t):
        changed = tensor.clone()
        changed[:, t] = torch.rand_like(changed[:, t])
        return changed

    reference = first()
    assert torch.equal(first(), reference)
    assert not torch.equal(first(frames=other(frames, 0)), reference)
    assert not torch.equal(first(frames=other(frames, 1)), reference)
    assert not torch.equal(first(conditions=other(conditions, 2 - cond_shift)), reference)
    assert torch.equal(first(conditions=other(conditions, 3 - cond_shift)), reference)
    assert not torch.equal(first(seed=1), reference)


@pytest.mark.parametrize("changes", [{}, {"last_frame_skip": True}, {"learned_prior": True}, {"context": 3}])
def test_a_rollout_is_the_loop_on_its_own_predictions(clip, changes):
    """Public code does not advance the previous frame, or feeds back the ground truth. With z_scale 0, the loop can be repeated."""
    model, (frames, conditions) = small(**changes), clip
    made = []
    model.predictor.register_forward_hook(lambda _, inputs, __: made.append(inputs[0].detach()[:, 0, -3:]))
    context = model.context
    video = model.rollout(frames[:, :context], conditions, z_scale=0.0)
    expected = by_hand(model, frames, conditions, torch.stack(made, dim=1), true_until=context)
    torch.testing.assert_close(video[:, context:], expected[:, context - 1 :])


def test_a_rollout_draws_from_the_learned_prior(clip):
    """z_scale 0 takes its mean, 1 a sample with its own standard deviation."""
    model, (frames, conditions) = small(learned_prior=True), clip
    with torch.no_grad():
        model.prior.output.weight.zero_()
        model.prior.output.bias.copy_(torch.tensor([5.0, -4.0, 3.0, -20.0, -20.0, -20.0]))  # narrow: 8 tanh(-20/8) is -7.9
    drawn = []
    model.predictor.register_forward_hook(lambda _, inputs, __: drawn.append(inputs[0].detach()[:, 0, -3:]))
    for z_scale in (0.0, 1.0):
        drawn.clear()
        model.rollout(frames[:, :2], conditions, z_scale=z_scale)
        for z in drawn[1:]:  # the first is from the posterior
            assert torch.allclose(z, torch.tensor([5.0, -4.0, 3.0]), atol=0.2 if z_scale else 1e-6)
            assert torch.equal(z, torch.tensor([5.0, -4.0, 3.0]).expand_as(z)) == (z_scale == 0)


def test_group_norm_is_the_same_function_in_training_and_in_a_rollout(clip):
    """Batch statistics of ground-truth frames do not fit a rollout. In public code, a method called eval() also kept training mode on."""

    def rolled(model):
        torch.manual_seed(0)
        return model.rollout(clip[0][:, :2], clip[1], z_scale=0.0)

    torch.testing.assert_close(rolled(small().train()), rolled(small().eval()))
    assert not torch.allclose(rolled(small(norm="batch").train()), rolled(small(norm="batch").eval()))


def test_a_closed_mask_copies_the_last_context_frame(clip):
    model = small()
    with torch.no_grad():
        model.decoder.to_pixels[-1].weight.zero_()
        model.decoder.to_pixels[-1].bias.copy_(torch.tensor([0.0, 0.0, 0.0, -30.0]))
    video = model.rollout(clip[0][:, :2], clip[1])
    torch.testing.assert_close(video[:, 2:], clip[0][:, 1:2].expand(3, 4, 3, 32, 32))


@pytest.mark.parametrize("context", [1, 2, 4])
def test_prior_and_posterior_keep_their_states_in_a_rollout(clip, monkeypatch, context):
    """Passing the states from step to step equals one call over the whole sequence. The prior's state also advances through the context frames."""
    model, (frames, conditions) = small(learned_prior=True, context=context), clip
    used, calls = [], {"prior": [], "posterior": []}
    monkeypatch.setattr("modules.gaussian.Gaussian.sample", lambda q, noise: q.mu + 0.1)
    for name, made in calls.items():
        getattr(model, name).register_forward_hook(lambda _, inputs, __, made=made: made.append(inputs[0].detach()))
    hook = model.predictor.register_forward_hook(lambda _, inputs, __: used.append(inputs[0].detach()[:, 0, -3:]))
    model.rollout(frames[:, :context], conditions)
    hook.remove()
    assert len(calls["prior"]) == 5 and len(calls["posterior"]) == context - 1
    expected = []
    if context > 1:
        expected = [model.posterior(torch.cat(calls["posterior"], dim=1), None)[0].mu]
    expected.append(model.prior(torch.cat(calls["prior"], dim=1), None)[0].mu[:, context - 1 :])
    torch.testing.assert_close(torch.stack(used, dim=1), torch.cat(expected, dim=1).detach() + 0.1)
