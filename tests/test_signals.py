"""Runs that are asked to stop, and runs with non-finite losses or gradients."""

import math
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import Tensor

import dataloader
import Trainer
from dataloader import ClipBatches, build_loader
from modules import build_model
from modules.base import VideoModel
from runtime.signals import leave_stopping_to_the_main_process
from tests.helpers.dance import load_clips
from tests.helpers.runs import TINY, differences, finish, posix, run_differences, run_in, start, wait_for_checkpoint
from tests.helpers.settings import ROOT, SMALL_POSE_CVAE
from tests.helpers.svg import SMALL_CONFIG
from training.checkpoints import load_checkpoint
from training.learner import Learner
from training.metrics_log import read_metrics


@posix
@pytest.mark.parametrize("number, status, workers", [(signal.SIGINT, 130, 1), pytest.param(signal.SIGTERM, 143, 1, marks=pytest.mark.slow),
                                                     pytest.param(signal.SIGUSR1, 143, 0, marks=pytest.mark.slow)])  # fmt: skip
def test_a_signal_ends_the_run_after_the_step_and_everything_is_saved(rendered, tmp_path, number, status, workers):
    """The signal goes to the whole process group, as terminals and clusters send it.

    Ctrl-C once arrived inside another package's clean-up code, which printed a traceback and continued. A loader process that was
    ended by SIGTERM once ended the run within a step.
    """
    argv = ["--DR", str(rendered), "--save_root", "run", *TINY, "--num_workers", str(workers)]
    run = start(tmp_path, [*argv, "--epoch_size", "4", "--num_epoch", "10000"])
    wait_for_checkpoint(tmp_path, run)
    os.killpg(run.pid, number)
    errors = finish(run, status=status)
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert len(errors.splitlines()) == 1 and f"stopped by {name}" in errors and "continue it with --resume" in errors
    state = load_checkpoint(tmp_path / "run" / "last.ckpt")
    assert state["step"] == 4 * state["epoch"] + state["progress"]["clips"] // 2


def ignore_late(worker: int) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    leave_stopping_to_the_main_process(worker)
    signal.raise_signal(signal.SIGTERM)


@posix
def test_a_loader_process_survives_a_signal_that_arrives_while_it_starts(rendered, monkeypatch):
    """On a busy machine, a loader process was once killed before it ignored such signals, and the run ended with a traceback."""
    monkeypatch.setattr(dataloader, "leave_stopping_to_the_main_process", ignore_late)
    clips = load_clips(rendered)
    loader = build_loader(clips, ClipBatches(len(clips), batch_size=4, accumulate=1, seed=1), workers=1, pin=False)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert len(list(loader)) == math.ceil(len(clips) / 4)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@posix
def test_a_second_ctrl_c_ends_the_run_at_once(rendered, tmp_path):
    """The run ends even if the current step never does."""
    script = ("import sys, time, Trainer\n"
              "def endless(self, *_, **__):\n"
              "    print('in a step', flush=True)\n"
              "    while not self.interrupt.received: time.sleep(0.1)\n"
              "    print('asked to stop', flush=True)\n"
              "    while True: time.sleep(0.1)\n"
              "Trainer.Trainer.train_step = endless\n"
              "Trainer.main(sys.argv[1:])\n")  # fmt: skip
    command = [sys.executable, "-c", script, "--DR", str(rendered), "--save_root", "run", *TINY]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    for awaited in ("in a step", "asked to stop"):  # two signals that come too quickly are one
        assert any(awaited in line for line in run.stdout)
        assert run.poll() is None
        run.send_signal(signal.SIGINT)
    assert run.wait(timeout=10) == -signal.SIGINT
    run.stdout.close()


def poison(monkeypatch, batches: set[int], what: str) -> None:
    """Make the losses of these batches of a run nan if `what` is "loss"; otherwise make their gradients infinite."""
    real, count = Learner.accumulate_gradients, []

    def poisoned(self, batch, **more):
        count.append(1)
        if len(count) not in batches:
            return real(self, batch, **more)
        if what == "loss":
            return real(self, {**batch, "conditions": torch.full(batch["conditions"].shape, math.nan)}, **more)
        losses = real(self, batch, **more)
        next(iter(self.model.parameters())).grad.view(-1)[0] = math.inf
        return losses

    monkeypatch.setattr(Learner, "accumulate_gradients", poisoned)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_with_non_finite_values_is_skipped_and_reported(rendered, tmp_path, monkeypatch, capsys, what):
    """Such a step was once missing from the log, or spoiled the weights. The weights must equal those of a run without these steps."""
    argv = ["--DR", str(rendered), *TINY, "--epoch_size", "4", "--num_epoch", "2", "--optim", "SGD", "--ema", "0"]
    with monkeypatch.context() as patch:
        poison(patch, {2, 3, 7}, what)
        run_in(tmp_path / "poisoned", patch, argv)
    errors = capsys.readouterr().err
    for epoch, batch in [(1, 2), (1, 3), (2, 3)]:
        assert (
            f"epoch {epoch}, batch {batch}{' with loss nan: gradient norm nan' if what == 'loss' else ': gradient norm inf'}; step skipped"
            in errors
        )
    rows = read_metrics(tmp_path / "poisoned" / "run" / "metrics.jsonl")
    assert [row["skipped"] for row in rows] == [[1, 2], [2]] and [row["step"] for row in rows] == [2, 5]
    assert all(math.isfinite(row[name]) for row in rows for name in ("loss", "mse", "kl", "val_psnr"))
    steps, apply_step = [], Learner.apply_step

    def discard_some(self, check):
        steps.append(1)
        (self.discard_step if len(steps) in {2, 3, 7} else partial(apply_step, self))(check)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "apply_step", discard_some)
        run_in(tmp_path / "skipped", patch, argv)
    weights = [load_checkpoint(tmp_path / name / "run" / "last.ckpt")["model"] for name in ("poisoned", "skipped")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_batch_statistics_are_restored_after_a_bad_batch(rendered_robot, tmp_path, monkeypatch):
    """The forward pass updates them before the loss is known to be nan, and a running mean would stay nan forever."""
    poison(monkeypatch, {2}, "loss")
    run_in(tmp_path, monkeypatch, ["--model", "svg_fp", "--DR", str(rendered_robot), "--width", "4", "--g_dim", "8", "--z_dim", "2", "--rnn_size", "8",
                                   "--n_future", "3", "--epoch_size", "4", "--batch_size", "3", "--niter", "1", "--device", "cpu",
                                   "--norm", "batch", "--ema", "0", "--frame_H", "32", "--frame_W", "32"])  # fmt: skip
    state = load_checkpoint(tmp_path / "run" / "last.ckpt")
    assert all(torch.isfinite(value).all() for name, value in state["model"].items() if "running" in name)


def test_a_run_stops_after_bad_steps_in_a_row_and_keeps_the_last_good_state(train_args, tmp_path, capsys, monkeypatch):
    Trainer.main([*train_args, "--num_epoch", "1"])
    before = load_checkpoint(tmp_path / "run" / "last.ckpt")
    argv = [*train_args, "--num_epoch", "9", "--resume", "--bad_steps", "5", "--save_minutes", "0"]
    with monkeypatch.context() as patch:
        poison(patch, set(range(1, 99)), "loss")
        with pytest.raises(SystemExit) as stop:
            Trainer.main(argv)
    *skipped, message = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1 and len(skipped) == 4 and all("step skipped" in line for line in skipped)
    assert "epoch 3, batch 2 with loss nan" in message and "5 non-finite steps in a row" in message and "lower --lr" in message
    last, bad = (load_checkpoint(tmp_path / "run" / f"{name}.ckpt") for name in ("last", "bad"))
    assert last["step"] == 3 and bad["progress"]["in_a_row"] == 5
    assert (
        differences(last["model"], before["model"]) == differences(last["optimiser"]["state"], before["optimiser"]["state"]) == []
    )
    Trainer.main([*argv, "--num_epoch", "3"])  # from the last good state
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 3


@pytest.fixture
def clip_of_models() -> list[tuple[VideoModel, dict[str, Tensor]]]:
    """Return a model of each task, with the inputs of a clip."""
    frames = torch.rand(2, 3, 3, 32, 32)
    pose_cvae, svg = build_model(SMALL_POSE_CVAE), build_model(SMALL_CONFIG | {"learned_prior": True, "context": 1})
    return [
        (pose_cvae, {"frames": frames, "conditions": frames.flip(1)}),
        (svg, {"frames": frames, "conditions": torch.rand(2, 3, 3)}),
    ]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("forced", [True, False])
def test_kl_and_loss_are_float32_under_autocast(clip_of_models, precision, forced):
    """bfloat16 has eight bits of precision, too few for a KL of many small terms or a small error of pixels."""
    for model, inputs in clip_of_models:
        try:
            with torch.autocast("cpu", dtype=getattr(torch, precision)):
                losses = model(**inputs, teacher_forcing=forced)
        except RuntimeError as error:  # torch 2.4 on a processor without bfloat16
            pytest.skip(str(error))
        assert {part.dtype for part in losses} == {torch.float32}


def test_float16_lowers_its_scale_before_a_step_counts_as_bad(train_args, monkeypatch, tmp_path):
    """The scaler starts high on purpose and overflows at first. Such a step does not count as bad."""
    poison(monkeypatch, {1, 2}, "gradient")
    Trainer.main([*train_args, "--num_epoch", "2", "--amp", "float16", "--bad_steps", "1"])
    state = load_checkpoint(tmp_path / "run" / "last.ckpt")
    assert state["scaler"]["scale"] == 65536 / 4 and state["step"] == 6 - 2 and state["progress"]["skipped"] == []


@posix
@pytest.mark.slow
def test_a_run_stopped_by_a_signal_resumes_bit_for_bit(rendered, tmp_path):
    """The test has separate processes, Ctrl-C and plots, as in real use."""
    argv = [
        "--DR",
        str(rendered),
        "--save_root",
        "run",
        *TINY,
        "--epoch_size",
        "30",
        "--num_epoch",
        "2",
        "--save_minutes",
        "0.01",
    ]
    finish(start(tmp_path / "whole", argv))
    run = start(tmp_path / "stopped", argv)
    wait_for_checkpoint(tmp_path / "stopped", run)
    os.killpg(run.pid, signal.SIGINT)
    finish(run, status=130)
    finish(start(tmp_path / "stopped", [*argv, "--resume"]))
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "stopped" / "run") == []
