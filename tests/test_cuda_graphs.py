"""Passes and rollouts recorded as CUDA graphs compute what Python would. Most of it needs a GPU."""

import itertools
import math

import pytest
import torch
from torch import nn

from modules import build_model
from modules.cuda_graphs import WARM_UP, recorded
from modules.gaussian import Noise
from tests.helpers.settings import SMALL_POSE_CVAE, SMALL_SVG
from tests.helpers.trainers import batch_of, make_trainer, position
from training import cuda_graphs
from training.cuda_graphs import FixedNoise, GraphedPass, Pass

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def test_fixed_noise_holds_the_numbers_that_the_seeds_determine():
    own, fixed = Noise([3, 4], batch=2, device=CPU), FixedNoise([(2, 5), (3,)], batch=2, device=CPU)
    fixed.fill(Noise([3, 4], batch=2, device=CPU))
    for shape in ((2, 5), (3,)):
        assert torch.equal(fixed.draw(*shape), own.draw(*shape))


def test_where_nothing_can_be_recorded_training_goes_on(monkeypatch, capsys):
    """Each pass is run as it is, and one line says why."""
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    weight = nn.Parameter(torch.ones(1))

    def fail(*_):
        weight.grad = torch.full((1,), math.nan)  # of the recording, which never ran
        raise RuntimeError("no\ngraphs")

    def run(given: Pass) -> torch.Tensor:
        weight.grad = (0.0 if weight.grad is None else weight.grad) + torch.ones(1)
        return given.inputs["frames"].sum()

    monkeypatch.setattr(cuda_graphs, "RecordedPass", fail)
    passes = GraphedPass(run, [weight])
    sums = []
    for number in range(WARM_UP + 3):
        given = Pass({"frames": torch.full((2, 3), float(number))}, Noise([1, 2], batch=2, device=CPU), True, 1.0, 1.0)
        weight.grad = None
        sums.append(passes(given).item())
        assert weight.grad == 1
    assert sums == [6.0 * number for number in range(WARM_UP + 3)]
    line = "CUDA graphs do not work here (no); training continues without them\n"
    assert capsys.readouterr().err == line


def test_outside_of_a_gpu_nothing_is_recorded():
    assert recorded(torch.square, torch.ones(2), calls=10**6) is torch.square


@needs_gpu
@pytest.mark.parametrize("amp", ["none", "bfloat16", "float16"])
@pytest.mark.parametrize("task", ["dance", "robot"])
def test_recorded_training_equals_training(request, train_args, rendered_robot, tmp_path, task, amp):
    """Losses and weights are equal over kinds and sizes of batches in turns."""
    flags = [*train_args, "--feedback_noise", "0.02"]
    if task == "robot":
        flags = ["--model", "svg_lp", "--DR", str(rendered_robot), "--save_root", str(tmp_path), *SMALL_SVG, "--norm", "group"]
    runs = []
    for records in (False, True):
        trainer = make_trainer(flags, "--device", "cuda", "--amp", amp)
        assert isinstance(trainer.learner.run_pass, GraphedPass)
        if not records:
            trainer.learner.run_pass = trainer.learner.forward_backward
        trainer.learner.model.train()
        losses = []
        for number, (forced, size) in enumerate(itertools.product([True, False] * 6, (2, 1))):
            batch = batch_of(trainer, range(size))
            losses.append(trainer.train_step(batch, position(number), teacher_forced=forced, beta=0.1 * number))
        runs.append((torch.tensor(losses), torch.cat([weight.flatten() for weight in trainer.learner.model.parameters()])))
    assert len(trainer.learner.run_pass.recorded) == 4
    (losses, weights), (graphed_losses, graphed_weights) = runs
    torch.testing.assert_close(graphed_losses, losses, rtol=1e-3, atol=1e-4)
    if amp != "none":  # in float32, cuDNN adds up gradients in changing order, so two runs without graphs differ as well
        torch.testing.assert_close(graphed_weights, weights, rtol=1e-3, atol=1e-4)


@needs_gpu
def test_a_recorded_rollout_equals_a_rollout(monkeypatch):
    model = build_model(SMALL_POSE_CVAE).cuda().eval()
    frames, poses = torch.rand(2, 1, 3, 16, 24, device="cuda"), torch.rand(2, 130, 3, 16, 24, device="cuda")
    quick = model.rollout(frames, poses, seeds=[1, 2])
    monkeypatch.setattr("modules.cuda_graphs.WORTHWHILE", 10**6)
    torch.testing.assert_close(quick, model.rollout(frames, poses, seeds=[1, 2]), rtol=1e-4, atol=1e-5)
