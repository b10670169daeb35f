"""PoseCVAE against step-by-step computations; most bugs seen in public solutions were an index or a missing dependence."""

import pytest
import torch
from torch import nn

from modules import build_model
from modules.base import VideoModel
from modules.gaussian import Gaussian, kl_divergence, standard_like
from tests.helpers.settings import SMALL_POSE_CVAE


@pytest.fixture
def model():
    return build_model(SMALL_POSE_CVAE)


@pytest.fixture
def clip():
    """frames (2, 4, 3, 16, 32) and poses of the same shape."""
    return torch.rand(2, 4, 3, 16, 32), torch.rand(2, 4, 3, 16, 32)


def fix_z(model, monkeypatch):
    """Takes z = mu everywhere, so that two ways of computing the same thing can be compared."""
    monkeypatch.setattr(Gaussian, "sample", lambda self, noise: self.mu)


def joined(join, **inputs):
    """A JoinLayer as it is written in the books: one convolution of all inputs, one behind the other."""
    weights = torch.cat([join.convolutions[name].weight for name in inputs], dim=1)
    return join.finish(nn.functional.conv2d(torch.cat(list(inputs.values()), dim=1), weights, padding=1))


def predict_by_hand(model, previous, pose, reference, z):
    """One frame from images and z; nothing is prepared or shared."""
    fusion, generator, shuffle = model.fusion, model.generator, nn.functional.pixel_shuffle
    before, label, known = model.frame_encoder(previous)[-1], model.label_encoder(pose), model.frame_encoder(reference)
    fused = fusion.block(joined(fusion.join, previous=before, z=z, label=label[2], reference=known[2]))
    x = generator.quarter_block(joined(generator.at_quarter, coarse=shuffle(fused, 2), label=label[1], reference=known[1]))
    x = generator.half_block(joined(generator.at_half, reference=known[0], label=label[0], coarse=shuffle(x, 2)))
    painted = torch.sigmoid(shuffle(generator.to_pixels(x), 2))
    return painted[:, 3:] * painted[:, :3] + (1 - painted[:, 3:]) * reference


def between(poses, t):
    """Pose t with the one before and the one after it as channels; at the ends, itself."""
    return torch.cat([poses[:, max(t - 1, 0)], poses[:, t], poses[:, min(t + 1, poses.shape[1] - 1)]], dim=1)


def by_hand(model, frames, poses, reference, *, teacher_forcing):
    """The training pass as the formula says it: one frame after the other, nothing shared, z = mu."""
    previous, errors, kls = frames[:, 0], [], []
    for t in range(1, frames.shape[1]):
        q = model.posterior(model.frame_encoder(frames[:, t])[-1], model.label_encoder(between(poses, t))[-1])
        predicted = predict_by_hand(model, previous, between(poses, t), reference, q.mu)
        errors.append((predicted - frames[:, t]).square().mean())
        kls.append(kl_divergence(q, standard_like(q)).mean())
        previous = frames[:, t] if teacher_forcing else predicted
    return torch.stack(errors).mean(), torch.stack(kls).mean()


@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_forward_is_the_loop_over_the_clip(model, clip, monkeypatch, teacher_forcing):
    """KL of every step counts, pose t goes with frame t, and the frame before is the true one or the model's own."""
    fix_z(model, monkeypatch)
    loss = model(*clip, teacher_forcing=teacher_forcing)
    mse, kl = by_hand(model, *clip, clip[0][:, 0], teacher_forcing=teacher_forcing)
    torch.testing.assert_close(loss.mse, mse)
    torch.testing.assert_close(loss.kl, kl)


@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_gradients_run_back_through_the_fed_back_frames(model, clip, monkeypatch, teacher_forcing):
    """What is fed back is the model's own output with its gradient; a detached one would train on other gradients."""
    fix_z(model, monkeypatch)
    parameters = list(model.parameters())
    found = torch.autograd.grad(model(*clip, teacher_forcing=teacher_forcing).mse, parameters, allow_unused=True)
    expected = torch.autograd.grad(
        by_hand(model, *clip, clip[0][:, 0], teacher_forcing=teacher_forcing)[0], parameters, allow_unused=True
    )
    for name, a, b in zip(dict(model.named_parameters()), found, expected):
        torch.testing.assert_close(a, b, msg=name, atol=1e-6, rtol=1e-3)


def test_the_reference_may_be_another_frame_of_the_video(model, clip, monkeypatch):
    fix_z(model, monkeypatch)
    reference = torch.rand(2, 3, 16, 32)
    mse, _ = by_hand(model, *clip, reference, teacher_forcing=False)
    torch.testing.assert_close(model(*clip, reference, teacher_forcing=False).mse, mse)


@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_every_parameter_gets_a_gradient(model, clip, teacher_forcing):
    loss = model(*clip, teacher_forcing=teacher_forcing)
    (loss.mse + 1e-3 * loss.kl).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_without_z_it_is_the_same_decoder_without_chance(model, clip, teacher_forcing):
    """latent_dim 0: as if the decoder had no weights for z, whatever the posterior says; nothing is drawn, and nothing idle is left."""
    without = build_model(SMALL_POSE_CVAE | {"latent_dim": 0})
    nn.init.zeros_(model.fusion.join.convolutions["z"].weight)
    without.load_state_dict({name: value for name, value in model.state_dict().items() if name in without.state_dict()})
    loss, expected = without(*clip, teacher_forcing=teacher_forcing), model(*clip, teacher_forcing=teacher_forcing)
    torch.testing.assert_close(loss.mse, expected.mse)
    assert loss.kl == 0 and expected.kl > 0
    (loss.mse + loss.kl).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in without.parameters())
    videos = [without.rollout(clip[0][:, :1], clip[1], seeds=seeds) for seeds in ([1, 2], [3, 4])]
    assert torch.equal(*videos)


@pytest.mark.parametrize("changed", ["previous", "pose", "reference", "z"])
def test_the_prediction_depends_on_each_input(model, changed):
    inputs = {"previous": torch.rand(1, 3, 16, 32), "pose": torch.rand(1, 9, 16, 32), "reference": torch.rand(1, 3, 16, 32),
              "z": torch.randn(1, 2, 2, 4)}  # fmt: skip

    def predict(values):
        prepared = model.prepare(model.label_encoder(values["pose"]), model.know(values["reference"]), values["z"])
        return model.predict(values["previous"], prepared.each(lambda x: x[:, 0]), values["reference"])

    assert not torch.allclose(predict(inputs), predict(inputs | {changed: torch.rand_like(inputs[changed])}))


def test_a_roll_out_uses_pose_t_for_frame_t(model, clip):
    """label[i] used for frame i+1 is a classic: with windows of 1, changing pose 2 must change frames 2 and 3 and nothing before."""
    frames, poses = clip
    changed = poses.clone()
    changed[:, 2] = torch.rand_like(changed[:, 2])
    model = build_model(SMALL_POSE_CVAE | {"pose_window": 1})
    a, b = (model.rollout(frames[:, :1], p, z_scale=0) for p in (poses, changed))
    differs = [(x - y).abs().max().item() > 1e-7 for x, y in zip(a.transpose(0, 1), b.transpose(0, 1))]
    assert differs == [False, False, True, True]


def test_a_roll_out_feeds_its_own_prediction_back(model, clip):
    """With the previous frame not advanced, equal poses would give equal frames."""
    frames, poses = clip
    same = poses[:, :1].expand(-1, 4, -1, -1, -1)
    video = model.rollout(frames[:, :1], same, z_scale=0)
    previous = frames[:, 0]
    for t in range(1, 4):
        previous = predict_by_hand(model, previous, between(same, t), frames[:, 0], torch.zeros(2, 2, 2, 4))
        torch.testing.assert_close(video[:, t], previous)
    assert not torch.allclose(video[:, 1], video[:, 2])


def test_a_roll_out_never_asks_the_posterior(model, clip, monkeypatch):
    """z of the true frame in validation is a leak."""
    monkeypatch.setattr(model.posterior, "forward", lambda *_: pytest.fail("posterior used"))
    video = model.rollout(clip[0][:, :1], clip[1])
    assert video.shape == (2, 4, 3, 16, 32) and torch.equal(video[:, 0], clip[0][:, 0])
    assert not video.requires_grad and video.min() >= 0 and video.max() <= 1


def test_z_scale_and_seed_decide_the_roll_out(model, clip):
    def roll(seed, z_scale):
        torch.manual_seed(seed)
        return model.rollout(clip[0][:, :1], clip[1], z_scale=z_scale)

    assert torch.equal(roll(1, 1.0), roll(1, 1.0))
    assert not torch.equal(roll(1, 1.0), roll(2, 1.0))
    assert torch.equal(roll(1, 0.0), roll(2, 0.0))


def test_each_step_of_a_roll_out_draws_its_own_z(model, clip, monkeypatch):
    drawn = []
    prepare = model.prepare
    monkeypatch.setattr(model, "prepare", lambda label, known, z: drawn.extend(z) or prepare(label, known, z))
    model.rollout(clip[0][:, :1], clip[1])
    assert len(drawn) == 2 * 3 and len({z.sum().item() for z in drawn}) == 2 * 3
    assert torch.stack(drawn).std() == pytest.approx(1, abs=0.3)


def test_the_mask_decides_between_the_reference_and_what_is_painted(model):
    """Pushed to one side by its bias, the mask must give the reference itself or nothing of it."""
    (frame, previous), pose = torch.rand(2, 1, 3, 16, 32), torch.rand(1, 9, 16, 32)
    prepared = model.prepare(model.label_encoder(pose), model.know(frame), torch.rand(1, 2, 2, 4)).each(lambda x: x[:, 0])
    with torch.no_grad():
        model.generator.to_pixels.bias[12:] = -50
        torch.testing.assert_close(model.predict(previous, prepared, frame), frame)
        model.generator.to_pixels.bias[12:] = 50
        painted = model.predict(previous, prepared, frame)
        torch.testing.assert_close(painted, model.predict(previous, prepared, 1 - frame))


def test_a_long_roll_out_equals_the_same_poses_encoded_one_by_one(model, monkeypatch):
    """Poses are encoded in blocks; a block's border must not show."""
    frames, poses = torch.rand(1, 1, 3, 16, 16), torch.rand(1, 9, 3, 16, 16)
    whole = model.rollout(frames, poses, z_scale=0)
    monkeypatch.setattr("modules.pose_cvae.POSES_AT_ONCE", 3)
    torch.testing.assert_close(model.rollout(frames, poses, z_scale=0), whole)


def test_noise_on_the_fed_back_frame_changes_the_training_pass(model, clip, monkeypatch):
    fix_z(model, monkeypatch)
    for teacher_forcing in (True, False):
        clean, noisy = (model(*clip, teacher_forcing=teacher_forcing, feedback_noise=noise).mse for noise in (0.0, 0.3))
        assert clean != noisy


def test_autocast_keeps_loss_and_frames_in_float32(model, clip):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(*clip, teacher_forcing=False)
        video = model.rollout(clip[0][:, :1], clip[1])
    assert loss.mse.dtype == loss.kl.dtype == video.dtype == torch.float32


def test_a_family_without_a_roll_out_cannot_be_built():
    class Half(VideoModel):
        def forward(self, frames, conditions, reference=None, *, teacher_forcing, feedback_noise=0.0):
            return frames

    with pytest.raises(TypeError, match="rollout"):
        Half()


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match="'gan' is not known"):
        build_model({"family": "gan"})


def test_the_sizes_mean_what_they_say():
    model = build_model(SMALL_POSE_CVAE | {"frame_dim": 32, "label_dim": 16, "latent_dim": 5, "fused_dim": 48})
    image = torch.rand(1, 3, 32, 64)
    poses = image.repeat(1, 3, 1, 1)
    frame, label = model.frame_encoder(image)[-1], model.label_encoder(poses)[-1]
    q = model.posterior(frame, label)
    prepared = model.prepare(model.label_encoder(poses), model.know(image), q.mu).each(lambda x: x[:, 0])
    fused = model.fusion(prepared.fused, frame)
    assert [x.shape[1] for x in (frame, label, q.mu, fused)] == [32, 16, 5, 48]
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) > 10


@pytest.mark.parametrize("sizes", [(4, 4, 1, 8), (15, 9, 3, 24), (128, 32, 12, 192)])
def test_any_width_builds_a_model(sizes):
    names = ("frame_dim", "label_dim", "latent_dim", "fused_dim")
    model = build_model(SMALL_POSE_CVAE | dict(zip(names, sizes)))
    assert model(*torch.rand(2, 1, 2, 3, 16, 16), teacher_forcing=False).mse > 0


def test_poses_reach_the_first_convolution_standardised(model, clip, monkeypatch):
    """Raw, a pose image is white with a few pale lines: group normalisation then passes on the white (on real frames held
    out of training 27.8 against 29.4 dB after the same 800 steps)."""
    seen = []
    monkeypatch.setattr(model.label_encoder.at_half, "forward", lambda x: seen.append(x) or torch.zeros(len(x), 2, 8, 16))
    model.label_encoder(torch.cat(3 * [clip[1][0]], dim=1))
    mean, scale = (torch.tensor(SMALL_POSE_CVAE[f"condition_{name}"]).view(3, 1, 1) for name in ("mean", "scale"))
    expected = torch.cat(3 * [(clip[1][0] - mean) / scale], dim=1)
    torch.testing.assert_close(nn.functional.pixel_shuffle(seen[0], 2), expected)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_windows_hold_the_poses_around_each_frame(window):
    """At a clip's ends the poses beyond it, where they are handed over, else the last one again."""
    model, reach = build_model(SMALL_POSE_CVAE | {"pose_window": window}), window // 2
    poses = torch.arange(9.0).view(1, 9, 1, 1, 1).expand(1, 9, 3, 16, 16)
    inside = model.windows(poses, 9 - 2 * reach, slice(None))[0, :, ::3, 0, 0]
    assert inside.tolist() == [list(range(t, t + window)) for t in range(9 - 2 * reach)]
    ends = model.windows(poses, 9, slice(None))[0, :, ::3, 0, 0]
    assert ends.tolist() == [[min(max(i, 0), 8) for i in range(t - reach, t + reach + 1)] for t in range(9)]
    assert torch.equal(model.windows(poses, 9, slice(3, 7)), model.windows(poses, 9, slice(None))[:, 3:7])


@pytest.mark.parametrize("teacher_forcing", [True, False])
@pytest.mark.parametrize("recompute", [1, 2, 5])
def test_recomputing_changes_memory_and_nothing_else(model, clip, monkeypatch, teacher_forcing, recompute):
    """Pieces of 1, 2 (the last one shorter) and more frames than the clip has: the same losses and gradients."""
    fix_z(model, monkeypatch)
    results = []
    for pieces in (0, recompute):
        loss = model(*clip, teacher_forcing=teacher_forcing, recompute=pieces)
        gradients = torch.autograd.grad(loss.mse + loss.kl, list(model.parameters()))
        results.append([loss.mse, loss.kl, loss.log_mse, *gradients])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_recomputing_draws_the_same_z_and_noise_again(model, clip):
    """Other draws in the backward pass would give gradients of another loss: those of a seed must be those of the seed."""
    gradients = []
    for recompute in (0, 9):
        torch.manual_seed(3)
        loss = model(*clip, teacher_forcing=False, feedback_noise=0.1, recompute=recompute)
        gradients.append(torch.autograd.grad(loss.mse, list(model.parameters()), allow_unused=True))
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-3)


def test_recomputing_keeps_fewer_activations(model, clip):
    def kept(recompute):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            model(*clip, teacher_forcing=False, recompute=recompute)
        return sum(sizes)

    assert kept(1) < 0.5 * kept(0)


def test_the_work_of_a_long_clip_grows_with_its_length_and_not_with_its_square(model):
    """Bytes that the backward pass of four times the frames allocates; each slice of a clip once had a gradient of its size."""

    def allocated(length):
        frames, poses = torch.rand(2, 1, length, 3, 16, 16)
        loss = model(frames, poses, teacher_forcing=False).mse
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            loss.backward()
        return sum(max(0, event.self_cpu_memory_usage) for event in profile.key_averages())

    assert allocated(33) / allocated(9) < 4.4
