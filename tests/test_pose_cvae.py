"""PoseCVAE, compared with step-by-step computations. Most bugs in public solutions are a wrong index or a missing dependence."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from modules import build_model
from modules.base import VideoModel
from modules.gaussian import Gaussian, kl_divergence, standard_like
from modules.layers import JoinLayer
from modules.pose_cvae import PoseCVAE
from tests.helpers.settings import SMALL_POSE_CVAE


def small(**changes) -> PoseCVAE:
    model = build_model(SMALL_POSE_CVAE | changes)
    assert isinstance(model, PoseCVAE)
    return model


@pytest.fixture
def model() -> PoseCVAE:
    return small()


@pytest.fixture
def clip() -> tuple[Tensor, Tensor]:
    """Return frames (2, 4, 3, 16, 32) and pose images of the same shape."""
    return torch.rand(2, 4, 3, 16, 32), torch.rand(2, 4, 3, 16, 32)


@pytest.fixture
def mean_z(monkeypatch) -> None:
    """Take z = mu everywhere, so that two computations of the same thing can be compared."""
    monkeypatch.setattr(Gaussian, "sample", lambda self, noise: self.mu)


def joined(join: JoinLayer, **inputs: Tensor) -> Tensor:
    """Return a JoinLayer's output the textbook way: one convolution of the concatenated inputs."""
    weights = torch.cat([join.get_parameter(f"convolutions.{name}.weight") for name in inputs], dim=1)
    return join.finish(functional.conv2d(torch.cat(list(inputs.values()), dim=1), weights, padding=1))


def predict_by_hand(model: PoseCVAE, previous: Tensor, pose: Tensor, reference: Tensor, z: Tensor) -> Tensor:
    """Return one frame, computed from images and z with nothing prepared or shared."""
    fusion, generator, shuffle = model.fusion, model.generator, functional.pixel_shuffle
    before, label, skips = model.frame_encoder(previous)[-1], model.label_encoder(pose), model.frame_encoder(reference)
    fused = fusion.block(joined(fusion.join, previous=before, z=z, label=label[2], reference=skips[2]))
    x = generator.quarter_block(joined(generator.at_quarter, coarse=shuffle(fused, 2), label=label[1], reference=skips[1]))
    x = generator.half_block(joined(generator.at_half, reference=skips[0], label=label[0], coarse=shuffle(x, 2)))
    painted = torch.sigmoid(shuffle(generator.to_pixels(x), 2))
    return painted[:, 3:] * painted[:, :3] + (1 - painted[:, 3:]) * reference


def predict(model: PoseCVAE, previous: Tensor, pose: Tensor, reference: Tensor, z: Tensor) -> Tensor:
    """Return the same frame as the model computes it."""
    inputs = model.decoder_inputs(model.label_encoder(pose), z, model.encode_reference(reference))
    return model.predict(previous, inputs.map(lambda x: x[:, 0]))


def window(poses: Tensor, t: int) -> Tensor:
    """Return pose t between the poses before and after it, as channels; at the ends it is its own neighbor."""
    return torch.cat([poses[:, max(t - 1, 0)], poses[:, t], poses[:, min(t + 1, poses.shape[1] - 1)]], dim=1)


def by_hand(model: PoseCVAE, frames: Tensor, poses: Tensor, reference: Tensor, *, teacher_forcing: bool) -> tuple[Tensor, Tensor]:
    """Return mse and KL of the training pass, computed as in the formula: frame by frame, with nothing shared and z = mu."""
    assert model.posterior is not None
    previous, errors, kls = frames[:, 0], [], []
    for t in range(1, frames.shape[1]):
        q = model.posterior(model.frame_encoder(frames[:, t])[-1], model.label_encoder(window(poses, t))[-1])
        predicted = predict_by_hand(model, previous, window(poses, t), reference, q.mu)
        errors.append((predicted - frames[:, t]).square().mean())
        kls.append(kl_divergence(q, standard_like(q)).mean())
        previous = frames[:, t] if teacher_forcing else predicted
    return torch.stack(errors).mean(), torch.stack(kls).mean()


@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_forward_is_the_loop_over_the_clip(model, clip, mean_z, teacher_forcing):
    """KL of every step counts, pose t belongs to frame t, and the previous frame is ground truth or the model's own prediction."""
    loss = model(*clip, teacher_forcing=teacher_forcing)
    mse, kl = by_hand(model, *clip, clip[0][:, 0], teacher_forcing=teacher_forcing)
    torch.testing.assert_close(loss.mse, mse)
    torch.testing.assert_close(loss.kl, kl)


@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_gradients_flow_through_the_fed_back_frames(model, clip, mean_z, teacher_forcing):
    """The model's own output is fed back with its gradient. Detached frames would lead to other gradients."""
    names, parameters = zip(*model.named_parameters())
    losses = [model(*clip, teacher_forcing=teacher_forcing).mse]
    losses.append(by_hand(model, *clip, clip[0][:, 0], teacher_forcing=teacher_forcing)[0])
    gradients, expected = (torch.autograd.grad(loss, parameters, allow_unused=True) for loss in losses)
    for name, a, b in zip(names, gradients, expected):
        torch.testing.assert_close(a, b, msg=name, atol=1e-6, rtol=1e-3)


def test_the_reference_may_be_another_frame_of_the_video(model, clip, mean_z):
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
def test_without_a_latent_the_decoder_is_the_same_and_deterministic(model, clip, teacher_forcing):
    """latent_dim 0 predicts as a decoder whose weights for z are 0. It draws nothing and has no unused parameter."""
    without = small(latent_dim=0)
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
    others = inputs | {changed: torch.rand_like(inputs[changed])}
    assert not torch.allclose(predict(model, **inputs), predict(model, **others))


def test_a_rollout_uses_pose_t_for_frame_t(clip):
    """Using label[i] for frame i+1 is a common bug. With windows of 1, a change of pose 2 must change frames 2 and 3 only."""
    frames, poses = clip
    changed = poses.clone()
    changed[:, 2] = torch.rand_like(changed[:, 2])
    model = small(pose_window=1)
    a, b = (model.rollout(frames[:, :1], p, z_scale=0) for p in (poses, changed))
    differs = [(x - y).abs().max().item() > 1e-7 for x, y in zip(a.transpose(0, 1), b.transpose(0, 1))]
    assert differs == [False, False, True, True]


def test_a_rollout_feeds_its_own_prediction_back(model, clip):
    """If the previous frame did not advance, equal poses would give equal frames."""
    frames, poses = clip
    same = poses[:, :1].expand(-1, 4, -1, -1, -1)
    video = model.rollout(frames[:, :1], same, z_scale=0)
    previous = frames[:, 0]
    for t in range(1, 4):
        previous = predict_by_hand(model, previous, window(same, t), frames[:, 0], torch.zeros(2, 2, 2, 4))
        torch.testing.assert_close(video[:, t], previous)
    assert not torch.allclose(video[:, 1], video[:, 2])


def test_a_rollout_does_not_call_the_posterior(model, clip, monkeypatch):
    """In validation, a z computed from the ground truth would be a leak."""
    monkeypatch.setattr(model.posterior, "forward", lambda *_: pytest.fail("posterior used"))
    video = model.rollout(clip[0][:, :1], clip[1])
    assert video.shape == (2, 4, 3, 16, 32) and torch.equal(video[:, 0], clip[0][:, 0])
    assert not video.requires_grad and video.min() >= 0 and video.max() <= 1


def test_z_scale_and_the_seed_determine_the_rollout(model, clip):
    def roll(seed, z_scale):
        torch.manual_seed(seed)
        return model.rollout(clip[0][:, :1], clip[1], z_scale=z_scale)

    assert torch.equal(roll(1, 1.0), roll(1, 1.0))
    assert not torch.equal(roll(1, 1.0), roll(2, 1.0))
    assert torch.equal(roll(1, 0.0), roll(2, 0.0))


def test_each_step_of_a_rollout_draws_its_own_z(model, clip, monkeypatch):
    drawn = []
    original = model.decoder_inputs
    monkeypatch.setattr(model, "decoder_inputs", lambda label, z, reference: drawn.extend(z) or original(label, z, reference))
    model.rollout(clip[0][:, :1], clip[1])
    assert len(drawn) == 2 * 3 and len({z.sum().item() for z in drawn}) == 2 * 3
    assert torch.stack(drawn).std() == pytest.approx(1, abs=0.3)


def test_the_mask_chooses_between_the_reference_and_the_painted_frame(model):
    """With its bias far to one side, the mask must give exactly the reference, or nothing of it."""
    (reference, previous), pose, z = torch.rand(2, 1, 3, 16, 32), torch.rand(1, 9, 16, 32), torch.rand(1, 2, 2, 4)
    inputs = model.decoder_inputs(model.label_encoder(pose), z, model.encode_reference(reference)).map(lambda x: x[:, 0])
    with torch.no_grad():
        model.generator.to_pixels.bias[12:] = -50
        torch.testing.assert_close(model.predict(previous, inputs), reference)
        model.generator.to_pixels.bias[12:] = 50
        painted = model.predict(previous, inputs)
        torch.testing.assert_close(painted, model.predict(previous, inputs._replace(canvas=1 - reference)))


def test_a_long_rollout_does_not_depend_on_how_many_poses_are_encoded_at_once(model, monkeypatch):
    frames, poses = torch.rand(1, 1, 3, 16, 16), torch.rand(1, 9, 3, 16, 16)
    whole = model.rollout(frames, poses, z_scale=0)
    monkeypatch.setattr("modules.pose_cvae.POSES_AT_ONCE", 3)
    torch.testing.assert_close(model.rollout(frames, poses, z_scale=0), whole)


@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_noise_on_the_fed_back_frame_changes_the_training_pass(model, clip, mean_z, teacher_forcing):
    clean, noisy = (model(*clip, teacher_forcing=teacher_forcing, feedback_noise=noise).mse for noise in (0.0, 0.3))
    assert clean != noisy


def test_autocast_keeps_loss_and_frames_in_float32(model, clip):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(*clip, teacher_forcing=False)
        video = model.rollout(clip[0][:, :1], clip[1])
    assert loss.mse.dtype == loss.kl.dtype == video.dtype == torch.float32


def test_a_model_without_a_rollout_cannot_be_built():
    class Half(VideoModel):
        def forward(self, frames, conditions, reference=None, *, teacher_forcing, feedback_noise=0.0):
            return frames

    with pytest.raises(TypeError, match="rollout"):
        Half()


def test_an_unknown_model_is_refused_by_name():
    with pytest.raises(ValueError, match="model family: expected one of pose_cvae, svg, got 'gan'"):
        build_model({"family": "gan"})


def test_the_sizes_are_the_channels_of_the_features():
    model = small(frame_dim=32, label_dim=16, latent_dim=5, fused_dim=48)
    image = torch.rand(1, 3, 32, 64)
    labels = model.label_encoder(image.repeat(1, 3, 1, 1))
    frame, label = model.frame_encoder(image)[-1], labels[-1]
    q = model.posterior(frame, label)
    inputs = model.decoder_inputs(labels, q.mu, model.encode_reference(image))
    fused = model.fusion(inputs.fused[:, 0], frame)
    assert [x.shape[1] for x in (frame, label, q.mu, fused)] == [32, 16, 5, 48]
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) > 10


@pytest.mark.parametrize("sizes", [(4, 4, 1, 8), (15, 9, 3, 24), (128, 32, 12, 192)])
def test_any_width_builds_a_model(sizes):
    names = ("frame_dim", "label_dim", "latent_dim", "fused_dim")
    model = small(**dict(zip(names, sizes)))
    assert model(*torch.rand(2, 1, 2, 3, 16, 16), teacher_forcing=False).mse > 0


def test_poses_reach_the_first_convolution_standardized(model, clip, monkeypatch):
    """A raw pose image is white with a few pale lines, and group normalization does not remove the white. After 800 steps, real
    held-out frames had 27.8 dB with raw pose images and 29.4 dB with standardized ones."""
    seen = []
    monkeypatch.setattr(model.label_encoder.at_half, "forward", lambda x: seen.append(x) or torch.zeros(len(x), 2, 8, 16))
    model.label_encoder(torch.cat(3 * [clip[1][0]], dim=1))
    mean, scale = (torch.tensor(SMALL_POSE_CVAE[f"condition_{name}"]).view(3, 1, 1) for name in ("mean", "scale"))
    expected = torch.cat(3 * [(clip[1][0] - mean) / scale], dim=1)
    torch.testing.assert_close(functional.pixel_shuffle(seen[0], 2), expected)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_windows_hold_the_poses_around_each_frame(size):
    """At the ends of a clip, they contain the poses outside the clip if these are given, else the first or last pose again."""
    model, reach = small(pose_window=size), size // 2
    poses = torch.rand(1, 9, 3, 16, 16)
    inside = model.pose_windows(9 - 2 * reach, poses)
    assert inside.tolist() == [list(range(t, t + size)) for t in range(9 - 2 * reach)]
    ends = model.pose_windows(9, poses)
    assert ends.tolist() == [[min(max(i, 0), 8) for i in range(t - reach, t + reach + 1)] for t in range(9)]


def test_poses_outside_the_clip_reach_the_training_pass(model, clip, mean_z):
    """Frame 1 of a clip sees poses 0 to 2. With one more pose at either end, the indices shift by one."""
    frames, poses = clip
    longer = torch.cat([torch.rand_like(poses[:, :1]), poses, poses[:, -1:]], dim=1)
    expected = model(frames, poses, teacher_forcing=True)
    torch.testing.assert_close(model(frames, longer, teacher_forcing=True).mse, expected.mse)
    longer[:, -1] = 0  # the right neighbor of the last frame
    assert model(frames, longer, teacher_forcing=True).mse != expected.mse


@pytest.mark.parametrize("teacher_forcing", [True, False])
@pytest.mark.parametrize("recompute", [1, 2, 5])
def test_recomputing_changes_neither_loss_nor_gradients(model, clip, mean_z, teacher_forcing, recompute):
    """The segments have one frame, two frames (the last one is shorter), or more frames than the clip."""
    results = []
    for length in (0, recompute):
        loss = model(*clip, teacher_forcing=teacher_forcing, recompute=length)
        gradients = torch.autograd.grad(loss.mse + loss.kl, list(model.parameters()))
        results.append([loss.mse, loss.kl, loss.log_mse, *gradients])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_recomputing_sees_the_same_z_and_noise(model, clip):
    """Other draws in the backward pass would give the gradients of another loss."""
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


def test_the_work_for_a_long_clip_grows_with_its_length_not_its_square(model):
    """The test compares the bytes that the backward pass allocates for four times the frames.

    Each slice of a clip once had a gradient of the clip's size.
    """

    def allocated(length):
        frames, poses = torch.rand(2, 1, length, 3, 16, 16)
        loss = model(frames, poses, teacher_forcing=False).mse
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            loss.backward()
        return sum(max(0, event.self_cpu_memory_usage) for event in profile.key_averages())

    assert allocated(33) / allocated(9) < 4.4
