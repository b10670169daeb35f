"""Trainer.py as a user runs it, on a rendered data set of 40 training frames."""

import json
import math
import shutil

import pytest
import torch
from PIL import Image

import Trainer
from evaluation import validation
from tests.helpers.settings import SMALL
from tests.helpers.trainers import batch_of, make_trainer, position
from training import schedules
from training.checkpoints import load_checkpoint
from training.learner import Losses
from training.metrics_log import read_curves, read_metrics
from training.progress import Progress
from visualization import training_curves


def row_of(trainer, epoch: int) -> dict:
    """Train a whole epoch and return its row of metrics.jsonl."""
    trainer.epoch, trainer.progress = epoch, Progress()
    return trainer.train_epoch()[0]


def test_a_run_leaves_checkpoints_metrics_settings_and_plots(trained):
    assert {path.name for path in trained.iterdir()} == {
        "best.ckpt", "last.ckpt", "epoch=0.ckpt", "epoch=1.ckpt", "previous.ckpt", "config.json", "metrics.jsonl", "timings.jsonl", "curves.jsonl", "training.png",
        ".lock"}  # fmt: skip
    rows = read_metrics(trained / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [0, 1]
    for row in rows:
        assert row["mse"] < row["loss"] and 0 < row["mse"] < 1 and row["kl"] > 0
        assert math.isfinite(row["val_psnr"]) and -1 < row["val_ssim"] < 1
    config = json.loads((trained / "config.json").read_text())
    assert config["flags"]["F_dim"] == 16 and "torch" in config["versions"]


def test_the_training_curves_are_drawn_after_every_epoch(train_args, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        Trainer,
        "draw_training",
        lambda runs, path, **curves: (training_curves.draw_training(runs, path), sizes.append(Image.open(path).size)),
    )
    Trainer.main(train_args)
    assert sizes == [(1800, 800)] * 2


def test_every_predicted_frame_is_scored_and_the_context_frame_is_not(train_args):
    """Public solutions divide the PSNR by 630 or 628 frames instead of 629."""
    row, videos = make_trainer(train_args).validate()
    assert len(row["val_psnr_per_frame"]) == 11 == len(videos[0]) - 1
    assert sum(row["val_psnr_per_frame"]) / 11 == pytest.approx(row["val_psnr"], abs=0.01)


def test_validation_rolls_out_from_the_prior_with_the_ema_weights(train_args, monkeypatch):
    trainer = make_trainer(train_args)
    monkeypatch.setattr(trainer.learner.ema_model.posterior, "forward", lambda *_: pytest.fail("posterior used"))
    monkeypatch.setattr(trainer.learner.model, "rollout", lambda *_: pytest.fail("weights without EMA used"))
    first, _ = trainer.validate()
    second, _ = trainer.validate()
    assert first == second  # the same prior samples each time, so that epochs can be compared


def test_training_learns(train_args, tmp_path):
    Trainer.main([*train_args, "--num_epoch", "20", "--batch_size", "2", "--lr", "0.005", "--val_every", "20", "--ema", "0.5"])
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["mse"] < 0.5 * rows[0]["mse"]
    assert rows[-1]["val_psnr"] > 22


def test_accumulated_batches_give_the_gradient_of_one_large_batch(train_args, monkeypatch):
    """Five clips in batches of 2, 2 and 1 equal one batch of 5: the smaller last batch is weighted by its clips."""
    gradients = []
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    for size, groups in [("2", [[0, 1], [2, 3], [4]]), ("5", [[0, 1, 2, 3, 4]])]:
        torch.random.default_generator.manual_seed(3)
        trainer = make_trainer(train_args, "--batch_size", size, "--accumulate", "3")
        trainer.batches.clips = 5
        trainer.batches.set_epoch(0)
        places = list(trainer.batches.positions())
        seen = []
        monkeypatch.setattr(
            trainer.learner.optimizer,
            "step",
            lambda seen=seen, t=trainer: seen.append([p.grad.clone() for p in t.learner.model.parameters()]),
        )
        for index, group in enumerate(groups):
            trainer.train_step(batch_of(trainer, group), places[index], teacher_forced=True, beta=1.0)
        assert len(seen) == 1 and trainer.learner.steps == 1
        gradients.append(seen[0])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-3)


def test_beta_weights_the_kl_term_of_the_loss(train_args, monkeypatch):
    trainer = make_trainer(train_args, "--kl_weight", "0.01", "--grad_clip", "1e9")
    found = []
    monkeypatch.setattr(
        trainer.learner.optimizer, "step", lambda: found.append([p.grad.clone() for p in trainer.learner.model.parameters()])
    )
    batch = batch_of(trainer, [0, 1])
    for beta in (0.0, 0.5, 1.0):
        trainer.train_step(batch, position(0), teacher_forced=True, beta=beta)
    for none, half, full in zip(*found):
        torch.testing.assert_close(half, 0.5 * (none + full), atol=1e-6, rtol=1e-2)
    assert any(not torch.allclose(none, full) for none, full in zip(found[0], found[2]))


def test_the_gradient_is_clipped(train_args, monkeypatch):
    trainer = make_trainer(train_args, "--grad_clip", "0.001", "--batch_size", "8")
    norms = []
    monkeypatch.setattr(
        trainer.learner.optimizer,
        "step",
        lambda: norms.append(sum(p.grad.square().sum() for p in trainer.learner.model.parameters()).sqrt().item()),
    )
    trainer.train_step(batch_of(trainer, range(8)), position(0), teacher_forced=True, beta=1.0)
    assert norms == [pytest.approx(0.001, rel=1e-3)]


def test_the_ema_weights_follow_their_definition(train_args):
    trainer = make_trainer(train_args, "--ema", "0.6")
    expected = None
    for step in range(4):
        trainer.train_step(batch_of(trainer, [0, 1, 2]), position(step), teacher_forced=True, beta=1.0)
        weight = next(trainer.learner.model.parameters()).detach().clone()
        decay = min(0.6, (1 + step) / (10 + step))
        expected = weight if expected is None else decay * expected + (1 - decay) * weight
    torch.testing.assert_close(next(trainer.learner.ema_model.parameters()).detach(), expected)


def test_every_epoch_trains_with_its_own_values_of_the_schedules(train_args, monkeypatch):
    """In public solutions, beta is off by one epoch. This test compares the values that reach the batches."""
    flags = ["--num_epoch", "10", "--tfr_sde", "1", "--tfr_d_step", "0.1", "--kl_anneal_cycle", "2",
             "--lr", "0.002", "--lr_schedule", "cosine", "--lr_warmup", "0"]  # fmt: skip
    trainer = make_trainer(train_args, *flags)
    betas = []
    monkeypatch.setattr(trainer, "train_step", lambda *_, beta, **__: betas.append(beta) or Losses(0.7, 0.5, 2.0))
    for epoch, ratio in [(0, 1.0), (1, 0.9), (7, 0.3)]:
        betas.clear()
        row = row_of(trainer, epoch)
        expected = [((epoch + i / 8) % 5) / 5 for i in (0, 3, 6)]  # two cycles of five epochs, three batches of 8 clips in each
        assert betas == pytest.approx(expected) and row["tfr"] == pytest.approx(ratio) and row["epoch"] == epoch
        assert row["beta"] == pytest.approx((3 * expected[0] + 3 * expected[1] + 2 * expected[2]) / 8)  # batches of 3, 3, 2
        assert row["lr"] == pytest.approx(
            0.002 * 0.5 * (1 + math.cos(math.pi * (epoch + 7 / 8) / 10))
        )  # the middle of clips 6 to 8
        assert row["loss"] == pytest.approx(0.7) and row["mse"] == 0.5 and row["kl"] == 2.0


def test_curves_have_points_within_an_epoch(train_args, tmp_path):
    """Annealing with about one cycle per epoch was once drawn as a slow line, because only the mean of each epoch was kept.

    Two epochs of 8 clips in batches of 3, 3 and 2; beta rises from 0 to 1 over each half of an epoch.
    """
    Trainer.main([*train_args, "--kl_anneal_cycle", "4"])
    rows = read_curves(tmp_path / "run" / "curves.jsonl")
    ends = [3 / 8, 6 / 8, 1, 1 + 3 / 8, 1 + 6 / 8, 2]
    assert [row["epoch"] for row in rows] == pytest.approx(ends) and [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["beta"] for row in rows] == pytest.approx([0, 0.75, 0.5] * 2)  # where each batch starts
    for epoch, metrics in enumerate(read_metrics(tmp_path / "run" / "metrics.jsonl")):
        of_epoch = rows[3 * epoch : 3 * epoch + 3]
        for name in ("loss", "mse", "kl", "beta"):
            mean = sum(clips * row[name] for clips, row in zip((3, 3, 2), of_epoch)) / 8
            assert metrics[name] == pytest.approx(mean, rel=1e-5)
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["curves"] == rows


def test_the_curves_of_a_long_run_have_a_fixed_number_of_points(train_args, tmp_path, monkeypatch):
    """Three epochs with batches of 3, 3 and 2 clips have four points. Each ends with the batch that passes three quarters of an epoch."""
    monkeypatch.setattr(schedules, "CURVE_POINTS", 4)
    Trainer.main([*train_args, "--num_epoch", "3"])
    rows = read_curves(tmp_path / "run" / "curves.jsonl")
    assert [row["epoch"] for row in rows] == pytest.approx([6 / 8, 1 + 6 / 8, 2 + 3 / 8, 3])
    clips, metrics = [6, 8, 5, 5], read_metrics(tmp_path / "run" / "metrics.jsonl")
    mean = sum(count * row["mse"] for count, row in zip(clips, rows)) / 24
    assert mean == pytest.approx(sum(row["mse"] for row in metrics) / 3, rel=1e-5)


def test_the_last_step_of_a_cosine_schedule_trains(train_args, tmp_path):
    """Each batch once had the learning rate at its end. That was 0 for the last batch, so a run of one batch did not train."""
    Trainer.main([*train_args, "--num_epoch", "1", "--batch_size", "8"])
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["lr"] > 0.0005


def test_flags_reach_the_parts_that_they_configure(train_args, monkeypatch):
    flags = ["--partial", "0.8", "--reference", "clip", "--flip", "0.25", "--shift", "3", "--weight_decay", "0.3", "--seed", "9",
             "--feedback_noise", "0.07", "--fast_train", "--fast_partial", "0.5", "--fast_train_epoch", "2", "--amp", "bfloat16"]  # fmt: skip
    trainer = make_trainer(train_args, *flags)
    clips = trainer.loader.dataset
    assert (clips.length, clips.reference, clips.flip, clips.shift, clips.seed, len(clips)) == (5, "clip", 0.25, 3, 9, 6)
    assert trainer.learner.optimizer.param_groups[0]["weight_decay"] == 0.3
    noise, forward = [], trainer.learner.model.forward
    monkeypatch.setattr(trainer.learner.model, "forward", lambda *a, **k: noise.append(k["feedback_noise"]) or forward(*a, **k))
    trainer.train_step(batch_of(trainer, [0]), position(0), teacher_forced=True, beta=1.0)
    assert noise == [0.07]
    rolled, rollout_sequences = {}, validation.rollout_sequences
    monkeypatch.setattr(validation, "rollout_sequences", lambda *a, **k: rolled.update(k) or rollout_sequences(*a, **k))
    trainer.validate()
    assert rolled["z_scale"] == 1.0 and rolled["precision"] == "bfloat16"
    seen = []
    monkeypatch.setattr(trainer, "train_step", lambda batch, *_, **__: seen.append(len(batch["frames"])) or Losses(0.0, 0.0, 0.0))
    for epoch in range(4):
        row_of(trainer, epoch)
    assert seen == [3, 3, 3, 3, 3, 3]  # 3 of 6 clips in the first two epochs, all in the others


@pytest.mark.parametrize("optim, decay", [("AdamW", 0.01), ("Adam", 0), ("SGD", 0), ("RMSprop", 0)])
def test_only_adamw_decays_weights_by_default(train_args, optim, decay):
    assert make_trainer(train_args, "--optim", optim).learner.optimizer.param_groups[0]["weight_decay"] == decay


def test_scheduled_sampling_draws_follow_the_ratio_per_batch_or_epoch(train_args, monkeypatch):
    for unit in ("batch", "epoch"):
        trainer = make_trainer(train_args, "--tfr", "0.5", "--tfr_d_step", "0", "--tfr_coin", unit, "--batch_size", "1")
        draws = []
        monkeypatch.setattr(
            trainer,
            "train_step",
            lambda *_, teacher_forced, draws=draws, **__: draws.append(teacher_forced) or Losses(0.0, 0.0, 0.0),
        )
        rows = [row_of(trainer, epoch) for epoch in range(20)]
        by_epoch = [draws[i : i + 8] for i in range(0, 160, 8)]
        assert 0.3 < sum(draws) / 160 < 0.7
        assert all(len(set(epoch)) == 1 for epoch in by_epoch) is (unit == "epoch")
        assert [row["forced"] for row in rows] == [sum(epoch) / 8 for epoch in by_epoch]


@pytest.mark.parametrize("optim", ["Adam", "AdamW", "SGD", "RMSprop"])
@pytest.mark.parametrize("schedule", ["constant", "step", "exponential", "cosine"])
def test_every_optimizer_and_schedule_takes_a_step(train_args, optim, schedule):
    trainer = make_trainer(train_args, "--optim", optim, "--lr_schedule", schedule, "--lr_warmup", "0.5")
    before = next(trainer.learner.model.parameters()).clone()
    trainer.learner.set_lr(trainer.schedules.lr_at(1.0))
    trainer.train_step(batch_of(trainer, range(3)), position(0), teacher_forced=False, beta=1.0)
    trainer.train_step(batch_of(trainer, range(3)), position(1), teacher_forced=True, beta=1.0)
    assert not torch.equal(before, next(trainer.learner.model.parameters()))


@pytest.mark.parametrize("kind", ["Cyclical", "Monotonic", "None"])
def test_ten_times_the_learning_rate_stays_finite_or_stops_with_a_message(train_args, tmp_path, capsys, kind):
    try:
        Trainer.main([*train_args, "--kl_anneal_type", kind, "--lr", "0.03", "--num_epoch", "4"])
    except SystemExit:
        assert "training stopped" in capsys.readouterr().err
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert all(math.isfinite(row["loss"]) for row in rows)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_autocast_trains(train_args, tmp_path, precision):
    Trainer.main([*train_args, "--amp", precision, "--num_epoch", "1"])
    (row,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert math.isfinite(row["loss"]) and math.isfinite(row["val_psnr"])


def test_the_course_commands_run_unchanged(rendered, tmp_path, monkeypatch):
    """Only num_epoch, clips and model are smaller, and every run has a folder of its own, because a folder holds one run."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(rendered, tmp_path / "LAB4_Dataset")
    flags = ["--DR", "LAB4_Dataset", "--save_root", "checkpoints", "--num_epoch", "1", "--per_save", "1", "--num_workers", "2",
             "--batch_size", "8", "--kl_anneal_ratio", "0.5", "--tfr_sde", "20", "--tfr_d_step", "0.05"]  # fmt: skip
    small = [*SMALL[:10], "--epoch_size", "2", "--device", "cpu"]
    Trainer.main([*flags, *small])
    for kind in ("Monotonic", "Cyclical", "None"):
        Trainer.main([*flags, *small, "--fast_train", "--kl_anneal_type", kind, "--save_root", kind])
        assert (tmp_path / kind / "best.ckpt").exists()


def test_test_only_validates(train_args, trained, tmp_path, capsys):
    without_sizes = [*train_args[: -len(SMALL)], "--device", "cpu", "--amp", "none"]  # the checkpoint contains them
    Trainer.main([*without_sizes, "--test", "--ckpt_path", str(trained)])
    best = max(row["val_psnr"] for row in read_metrics(trained / "metrics.jsonl"))
    assert f"val {best:.2f} dB" in capsys.readouterr().out and not (tmp_path / "run").exists()


def test_store_visualization_writes_a_gif_for_every_saved_epoch(train_args, tmp_path):
    Trainer.main([*train_args, "--store_visualization", "--per_save", "1"])
    assert {path.name for path in (tmp_path / "run").glob("*.gif")} == {"val_epoch=0.gif", "val_epoch=1.gif"}


def test_tensorboard_and_wandb_receive_the_metrics(train_args, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    pytest.importorskip("wandb")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    Trainer.main([*train_args, "--use_tensorboard", "--use_wandb"])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [event.value for event in events.Scalars("validation/psnr")] == pytest.approx([row["val_psnr"] for row in rows])
    (offline,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    media = offline / "files" / "media"
    assert (
        len(list(media.rglob("*.png"))) == 2 and len(list(media.rglob("*.gif"))) == 2
    )  # a plot of each epoch; a video of the first and the last
    assert offline.name.endswith(json.loads((tmp_path / "run" / "config.json").read_text())["wandb"])


def test_compile_applies_to_the_trained_model_only(train_args, monkeypatch):
    """The EMA copy is not compiled, because it rolls out with other shapes."""
    compiled = []
    monkeypatch.setattr("training.learner.compile_parts", lambda model, device: compiled.append(model))
    make_trainer(train_args)
    assert not compiled
    trainer = make_trainer(train_args, "--compile")
    assert compiled == [trainer.learner.model]
