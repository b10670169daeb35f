"""SVG in training, compared with loops that follow the paper's formulas step by step."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as independent_kl

from modules import build_model
from modules.svg import FramePredictor, GaussianLSTM
from tests.helpers.svg import PAPER_CONFIG, by_hand, small


@pytest.fixture
def clip() -> tuple[Tensor, Tensor]:
    """Return frames (3, 6, 3, 32, 32) and conditions (3, 6, 3)."""
    return torch.rand(3, 6, 3, 32, 32), torch.randn(3, 6, 3)


@pytest.mark.parametrize("learned, millions", [(False, 22.24), (True, 22.83)])
def test_the_papers_size_has_the_parameters_of_the_course(learned, millions):
    """22.24 M with the fixed prior, 22.83 M with the learned prior, for 4 actions and 3 positions."""
    parameters = sum(p.numel() for p in build_model(PAPER_CONFIG | {"learned_prior": learned}).parameters())
    assert round(parameters / 1e6, 2) == millions


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_frame_predictor_is_a_stack_of_lstm_cells(layers):
    """Compare with torch.nn.LSTMCell of the same weights, step by step, between the original's linear layers and tanh."""
    predictor, inputs = FramePredictor(inputs=5, outputs=4, rnn_size=7, layers=layers), torch.randn(2, 3, 5)
    cells = []
    for layer in range(layers):
        cell = nn.LSTMCell(7, 7)
        cell.load_state_dict({name: getattr(predictor.lstm, f"{name}_l{layer}") for name in cell.state_dict()})
        cells.append(cell)
    states = [(torch.zeros(2, 7), torch.zeros(2, 7)) for _ in cells]
    expected = []
    for t in range(3):
        x = nn.functional.linear(inputs[:, t], predictor.embed.weight, predictor.embed.bias)
        for layer, cell in enumerate(cells):
            states[layer] = cell(x, states[layer])
            x = states[layer][0]
        expected.append(torch.tanh(nn.functional.linear(x, predictor.output.weight, predictor.output.bias)))
    torch.testing.assert_close(predictor(inputs, None)[0], torch.stack(expected, dim=1))


@pytest.mark.parametrize("kind", [FramePredictor, GaussianLSTM])
def test_the_state_is_a_value(kind):
    """A sequence in two parts, with the state passed from one to the other, equals the whole sequence.

    No call remembers an earlier one. Any batch size may follow any other; in SVG's code, the hidden state has a fixed batch size.
    """
    lstm = kind(inputs=5, outputs=4, rnn_size=7, layers=2)
    inputs = torch.randn(3, 6, 5)

    def values(result):  # (B, T, outputs)
        return result.mu if kind is GaussianLSTM else result

    whole, _ = lstm(inputs, None)
    head, state = lstm(inputs[:, :2], None)
    lstm(torch.randn(1, 4, 5), None)
    tail, _ = lstm(inputs[:, 2:], state)
    torch.testing.assert_close(torch.cat([values(head), values(tail)], dim=1), values(whole))


@pytest.mark.parametrize("changes", [{}, {"learned_prior": True}, {"compose": "none"}, {"last_frame_skip": True}, {"norm": "batch"},
                                     {"cond_shift": 0}, {"image_size": 64}])  # fmt: skip
@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_every_parameter_gets_a_gradient(changes, teacher_forcing):
    model = small(**changes)
    side = changes.get("image_size", 32)
    mse, kl, _ = model(torch.rand(2, 4, 3, side, side), torch.randn(2, 4, 3), teacher_forcing=teacher_forcing)
    (mse + kl).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("changes", [{}, {"context": 3}, {"cond_shift": 0}, {"last_frame_skip": True}, {"compose": "none"}])
@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_the_training_pass_is_the_papers_loop(clip, monkeypatch, changes, teacher_forcing):
    """Every step of every sequence counts.

    Public code takes the skips one frame too early (edenton/svg issue 1), confuses condition[i] with condition[i-1], or scores only
    the last step or batch.
    """
    model = small(**changes)
    drawn = []
    monkeypatch.setattr("modules.gaussian.Gaussian.sample", lambda q, noise: drawn.append(q.mu) or q.mu)
    mse, *_ = model(*clip, teacher_forcing=teacher_forcing)
    expected = by_hand(model, *clip, drawn[0], true_until=5 if teacher_forcing else model.context)
    torch.testing.assert_close(mse, (expected - clip[0][:, 1:]).square().mean())


@pytest.mark.parametrize("teacher_forcing", [True, False])
@pytest.mark.parametrize("learned", [False, True])
def test_kl_is_that_of_the_posterior_against_its_prior_over_all_steps(clip, monkeypatch, learned, teacher_forcing):
    """Compare with torch.distributions: nats, summed over z, averaged over steps and batch. Public code counts the last step only."""
    model = small(learned_prior=learned)
    made = {"posterior": [], "prior": []}
    for name in made if learned else ["posterior"]:
        getattr(model, name).register_forward_hook(lambda _, __, result, name=name: made[name].append(result[0]))
    _, kl, _ = model(*clip, teacher_forcing=teacher_forcing)
    (q,) = made["posterior"]
    mu, logvar = torch.zeros(3, 5, 3), torch.zeros(3, 5, 3)
    if learned:
        mu, logvar = (torch.cat(parts, dim=1) for parts in zip(*made["prior"]))  # of one call over T-1 steps, or of T-1 calls
    per_value = independent_kl(Normal(q.mu, (q.logvar / 2).exp()), Normal(mu, (logvar / 2).exp()))
    torch.testing.assert_close(kl, per_value.sum(-1).mean())


def test_the_learned_prior_does_not_see_the_target(clip):
    model = small(learned_prior=True)
    seen = []
    model.prior.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    frames, conditions = clip
    model(frames, conditions, teacher_forcing=True)
    changed = frames.clone()
    changed[:, -1] = 0
    model(changed, conditions, teacher_forcing=True)
    torch.testing.assert_close(seen[0], seen[1])
    vectors = model.encoder(frames[:, 0])[0]
    torch.testing.assert_close(
        seen[0][:, 0], torch.cat([vectors, (conditions[:, 0] - model.condition_mean) / model.condition_scale], 1)
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_size_works_and_sequences_are_independent(clip, monkeypatch, batch):
    """In SVG's code, the hidden state has a fixed batch size, and the last, smaller batch is dropped."""
    monkeypatch.setattr("modules.gaussian.Gaussian.sample", lambda q, noise: q.mu)
    model, (frames, conditions) = small(learned_prior=True), clip
    whole = model.rollout(frames[:, :2], conditions)
    torch.testing.assert_close(model.rollout(frames[:batch, :2], conditions[:batch]), whole[:batch])
    for forced in (True, False):
        alone = [model(frames[i : i + 1], conditions[i : i + 1], teacher_forcing=forced) for i in range(batch)]
        together = model(frames[:batch], conditions[:batch], teacher_forcing=forced)
        torch.testing.assert_close(torch.stack([loss.mse for loss in alone]).mean(), together.mse)
        torch.testing.assert_close(torch.stack([loss.kl for loss in alone]).mean(), together.kl)


def test_a_short_vector_still_distinguishes_frames():
    """Group norm with groups of a single value once made every vector 0, so that the decoder saw only its skips."""
    vectors, _ = small().encoder(torch.rand(4, 3, 32, 32))
    assert vectors.std(dim=0).min() > 1e-4


@pytest.mark.parametrize("side, skips", [(32, 3), (64, 4), (128, 5)])
def test_each_size_has_its_stages(side, skips):
    model = small(image_size=side)
    vectors, levels = model.encoder(torch.rand(2, 3, side, side))
    assert vectors.shape == (2, 8) and vectors.abs().max() <= 1
    assert [level.shape[-1] for level in levels] == [side // 2**n for n in range(skips)]
    assert [level.shape[1] for level in levels] == [4, 8, 16, 32, 32][:skips]
    assert model.decoder(vectors, levels).shape == (2, 4, side, side)


@pytest.mark.parametrize("changes", [{}, {"last_frame_skip": True}])
@pytest.mark.parametrize("forced", [True, False])
def test_noise_is_added_to_every_fed_back_frame_but_not_to_the_skips(clip, monkeypatch, forced, changes):
    """The predictor sees five noisy vectors, the decoder the features of clean frames."""
    model = small(**changes)
    monkeypatch.setattr("modules.gaussian.Gaussian.sample", lambda q, noise: q.mu)
    seen, skips, losses = [], [], []
    model.predictor.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()[..., :8]))
    paint = model.paint
    monkeypatch.setattr(model, "paint", lambda vectors, taken: skips.append(taken) or paint(0 * vectors, taken))
    for noise in (0.0, 0.5):
        losses.append(model(*clip, teacher_forcing=forced, feedback_noise=noise).mse)
    clean, noisy = (torch.cat(half, dim=1) for half in (seen[: len(seen) // 2], seen[len(seen) // 2 :]))
    assert clean.shape == (3, 5, 8) and (clean != noisy).any(dim=2).all()
    # With the vector set to 0 the prediction depends on the skips alone, which must not have changed.
    torch.testing.assert_close(*losses)
    for before, after in zip(skips[: len(skips) // 2], skips[len(skips) // 2 :]):
        torch.testing.assert_close(before, after)


@pytest.mark.parametrize("forced", [True, False])
def test_the_posterior_of_frame_t_has_seen_frame_t(clip, forced):
    """In training, it sees frames 1 to t. Without frame t, z could not contain the new information in it."""
    model, (frames, conditions) = small(), clip
    seen = []
    model.posterior.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    model(frames, conditions, teacher_forcing=forced)
    expected = torch.stack([model.encoder(frames[:, t])[0] for t in range(1, 6)], dim=1)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], expected.detach())


def test_the_gradient_flows_through_the_models_own_frames(clip, monkeypatch):
    """Without teacher forcing, an error in frame t also stems from earlier frames, which detached frames would hide."""
    model, (frames, conditions) = small(), clip
    monkeypatch.setattr("modules.gaussian.Gaussian.sample", lambda q, noise: q.mu.detach())
    gradients = []
    for redo in (False, True):
        model.zero_grad()
        mse = model(frames, conditions, teacher_forcing=False).mse
        if redo:
            vectors = model.encoder(frames.flatten(0, 1))[0].unflatten(0, (3, 6))
            z = model.posterior(vectors[:, 1:], None)[0].mu.detach()
            mse = (by_hand(model, frames, conditions, z, true_until=2) - frames[:, 1:]).square().mean()
        mse.backward()
        gradients.append(
            [p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and "posterior" not in name]
        )
    for mine, expected in zip(*gradients):
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("learned", [True, False])
def test_loss_and_frames_stay_float32_under_autocast(clip, learned):
    model = small(learned_prior=learned)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = [part for forced in (True, False) for part in model(*clip, teacher_forcing=forced)]
        video = model.rollout(clip[0][:, :2], clip[1])
    assert all(loss.dtype == torch.float32 for loss in losses) and video.dtype == torch.float32
    assert video.min() >= 0 and video.max() <= 1
    # Where the mask is closed, the canvas shows through in full precision.
    with torch.no_grad():
        model.decoder.to_pixels[-1].weight.zero_()
        model.decoder.to_pixels[-1].bias.copy_(torch.tensor([0.0, 0.0, 0.0, -30.0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model.rollout(clip[0][:, :2], clip[1])[:, 2], clip[0][:, 1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("wrong", [{"image_size": 48}, {"norm": "layer"}, {"compose": "flow"}])
def test_unknown_sizes_and_names_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        small(**wrong)


def test_other_conditions_than_those_of_training_are_refused(clip):
    model, (_, conditions) = small(), clip
    model.check_conditions(conditions[0])
    with pytest.raises(ValueError, match="7 condition values per frame: expected 3, as in training"):
        model.check_conditions(torch.rand(6, 7))
