"""Runs that are resumed, restarted or made longer: no step is lost or repeated, and the result is the same."""

import argparse
import copy
import json
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

import Trainer
from evaluation import validation
from tests.helpers.refusals import refused
from tests.helpers.runs import TINY, run_differences, run_in
from tests.helpers.settings import SMALL_SVG
from training.checkpoints import load_checkpoint
from training.flags import trainer_parser
from training.learner import Learner
from training.metrics_log import read_metrics
from training.presets import MODELS
from training.resume import (
    FREE_FLAGS,
    TRAINING_FLAGS,
    StartPoint,
    accept_settings,
    args_to_train,
    compare_data,
    compare_settings,
)

# For each name: the batch in which the signal arrives, the flags of both runs, and additional flags of the resumed run.
CUTS = {
    "first batch": (1, [], []),
    "last batch of an epoch": (5, [], []),
    "second epoch": (8, [], []),
    "other workers": (8, ["--num_workers", "2"], ["--num_workers", "1"]),
    "between batches of a step": (3, ["--accumulate", "2", "--ema", "0.9", "--val_every", "2", "--per_save", "1"], []),
    "SGD, a draw per epoch": (8, ["--optim", "SGD", "--tfr_coin", "epoch", "--tfr", "0.5", "--ema", "0"], []),
    "fast_train, bfloat16": (4, ["--fast_train", "--fast_train_epoch", "2", "--recompute", "1", "--amp", "bfloat16"], []),
    "course": (9, ["--preset", "course", "--num_workers", "1"], []),
}

SLOW_CUTS = ("second epoch", "last batch of an epoch", "between batches of a step", "course")


@pytest.fixture(autouse=True)
def curves_as_text(monkeypatch):
    """Write the values of a plot instead of drawing it, which would take half of a small run's time. test_kills.py compares plots."""
    monkeypatch.setattr(Trainer, "draw_training", lambda runs, path, curves: path.write_text(json.dumps([runs, curves])))


def stop_after(monkeypatch, steps: int, number: int = signal.SIGTERM) -> None:
    """Send a signal to the following runs in their `steps`-th batch."""
    seen = []
    train_step = Trainer.Trainer.train_step

    def signalled(self, *args, **flags):
        seen.append(1)
        if len(seen) == steps:
            signal.raise_signal(number)
        return train_step(self, *args, **flags)

    monkeypatch.setattr(Trainer.Trainer, "train_step", signalled)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW_CUTS else kind for kind in CUTS])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(rendered, tmp_path, monkeypatch, kind):
    """In other projects, resumed runs repeat or skip clips, restart schedules, or forget the optimizer state."""
    cut, more, after = CUTS[kind]
    argv = ["--DR", str(rendered), *TINY, "--epoch_size", "5", "--num_epoch", "2", *more]
    run_in(tmp_path / "whole", monkeypatch, argv)
    with monkeypatch.context() as patch:
        stop_after(patch, cut)
        run_in(tmp_path / "cut", patch, argv, status=143)
    run_in(tmp_path / "cut", monkeypatch, [*argv, *after, "--resume"])
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "cut" / "run") == []


@pytest.mark.parametrize("more", [[], ["--norm", "batch", "--ema", "0", "--kl_anneal_cyclical"]])
def test_a_resumed_run_of_the_robot_equals_an_uninterrupted_one_bit_for_bit(rendered_robot, tmp_path, monkeypatch, more):
    argv = ["--model", "svg_lp", "--DR", str(rendered_robot), *SMALL_SVG, "--frame_H", "32", "--frame_W", "32", *more]
    run_in(tmp_path / "whole", monkeypatch, argv)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        run_in(tmp_path / "cut", patch, argv, status=143)
    run_in(tmp_path / "cut", monkeypatch, [*argv, "--resume"])
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "cut" / "run") == []


def test_differences_are_found(rendered, tmp_path, monkeypatch):
    """The comparison above can fail: with another seed, EMA weights, metrics and plots differ."""
    for seed in ("1", "2"):
        run_in(
            tmp_path / seed, monkeypatch, ["--DR", str(rendered), *TINY, "--epoch_size", "2", "--num_epoch", "1", "--seed", seed]
        )
    found = run_differences(tmp_path / "1" / "run", tmp_path / "2" / "run")
    assert {"metrics.jsonl", "training.png"} <= set(found) and any("/ema/" in where for where in found)


def test_a_run_stopped_in_the_validation_repeats_it_when_resumed(train_args, tmp_path, monkeypatch):
    flags = [*train_args, "--num_epoch", "2", "--val_vi_len", "2"]
    monkeypatch.setattr(validation, "SIDE_BY_SIDE", 1)
    Trainer.main([*flags, "--save_root", str(tmp_path / "a" / "run")])
    real, calls = validation.rollout_sequences, []
    monkeypatch.setattr(
        validation, "rollout_sequences", lambda *a, **k: calls.append(1) or signal.raise_signal(signal.SIGINT) or real(*a, **k)
    )
    with pytest.raises(SystemExit) as stop:
        Trainer.main([*flags, "--save_root", str(tmp_path / "b" / "run")])
    assert stop.value.code == 130 and len(calls) == 1
    state = load_checkpoint(tmp_path / "b" / "run" / "last.ckpt")
    assert state["epoch"] == 0 and state["progress"]["clips"] == 8
    monkeypatch.setattr(validation, "rollout_sequences", real)
    Trainer.main([*flags, "--save_root", str(tmp_path / "b" / "run"), "--resume"])
    names = [tmp_path / name / "run" / "metrics.jsonl" for name in "ab"]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_a_run_is_neither_replaced_nor_resumed_without_a_flag(train_args, trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for more in ([], ["--ckpt_path", str(trained)], ["--ckpt_path", str(run / "epoch=0.ckpt")]):
        message = refused(capsys, Trainer.main, [*train_args, *more])
        assert f"--save_root {run}: already contains a run" in message and "--resume" in message and "--overwrite" in message
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    message = refused(capsys, Trainer.main, [*train_args, "--resume", "--overwrite"])
    assert "expected one of them, got both" in message


def test_overwriting_loses_nothing(train_args, tmp_path, capsys):
    for _ in range(3):
        Trainer.main([*train_args, "--num_epoch", "1", "--overwrite"])
    assert "was moved to" in capsys.readouterr().out
    for name in ("earlier-1", "earlier-2", "."):
        assert {"best.ckpt", "last.ckpt", "metrics.jsonl", "config.json", "training.png"} <= {
            p.name for p in (tmp_path / "run" / name).iterdir()
        }


def test_resume_starts_a_run_where_there_is_none_and_reports_it(train_args, tmp_path, capsys):
    Trainer.main([*train_args, "--num_epoch", "1", "--resume", "auto"])
    assert "contains no checkpoint to resume; the run starts" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 1


def test_a_finished_run_has_nothing_left_to_do(train_args, tmp_path, capsys):
    """Only the plot may be missing, if the run was killed after its last checkpoint. A cluster that restarts it must see success."""
    Trainer.main(train_args)
    (tmp_path / "run" / "training.png").unlink()
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    Trainer.main([*train_args, "--resume"])
    assert "no epoch is left to train" in capsys.readouterr().out
    assert (tmp_path / "run" / "training.png").exists() and (tmp_path / "run" / "last.ckpt").read_bytes() == before
    message = refused(capsys, Trainer.main, [*train_args, "--ckpt_path", str(tmp_path / "run")])
    assert "--num_epoch 2: expected more than the 2 epochs of" in message


def test_resuming_in_place_keeps_the_earlier_rows_and_repeats_none(train_args, tmp_path):
    Trainer.main(train_args)
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    Trainer.main([*train_args, "--num_epoch", "3", "--resume"])
    assert (tmp_path / "run" / "metrics.jsonl").read_text().startswith(rows)
    assert [row["epoch"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [0, 1, 2]
    assert not list((tmp_path / "run").glob("earlier-*"))


@pytest.mark.parametrize("flags, named", [
    (["--F_dim", "32", "--shift", "1", "--train_vi_len", "4"], ["--F_dim 32 (was 16)", "--shift 1 (was 2)", "--train_vi_len 4 (was 5)"]),
    (["--lr", "0.1", "--tfr", "0.5"], ["--lr 0.1 (was 0.003)", "--tfr 0.5 (was 1.0)", "another --save_root"]),
    (["--optim", "SGD"], ["--optim SGD (was AdamW)"]),
    (["--preset", "quick"], ["--preset quick (was default)"]),
    (["--frame_H", "16"], ["--frame_H 16 (was 32)"]),
])  # fmt: skip
def test_a_run_is_resumed_with_its_own_settings_only(train_args, trained, tmp_path, capsys, flags, named):
    shutil.copytree(trained, tmp_path / "run")
    message = refused(capsys, Trainer.main, [*train_args, "--batch_size", "4", "--resume", "--num_epoch", "4", *flags])
    assert all(text in message for text in named)


def test_settings_of_the_machine_and_of_saving_may_change(train_args, tmp_path):
    Trainer.main([*train_args, "--num_epoch", "1"])
    free = ["--num_epoch", "2", "--num_workers", "1", "--per_save", "1", "--save_minutes", "0", "--val_every", "2", "--amp", "bfloat16",
            "--recompute", "2", "--store_visualization"]  # fmt: skip
    Trainer.main([*train_args, "--resume", *free])
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 2


def test_a_run_continued_in_another_folder_may_have_other_settings(train_args, trained, tmp_path, capsys):
    """The flags' learning rate and weight decay are used, not those of the optimizer state. Data and model must not change."""
    argv = [*train_args, "--num_epoch", "3", "--ckpt_path", str(trained), "--optim", "AdamW"]
    Trainer.main([*argv, "--lr", "0.0007", "--weight_decay", "0.2", "--beta1", "0.8", "--lr_schedule", "constant"])
    printed = capsys.readouterr().out
    assert "training continues with other settings: " in printed and "--lr 0.0007 (was 0.003)" in printed
    assert "--batch_size 3 (was 4)" in printed and "--num_epoch 3 (was 2): the schedules follow it" in printed
    (group,) = load_checkpoint(tmp_path / "run" / "last.ckpt")["optimiser"]["param_groups"]
    assert (group["lr"], group["weight_decay"], group["betas"][0]) == (0.0007, 0.2, 0.8)
    message = refused(
        capsys, Trainer.main, [*argv, "--save_root", str(tmp_path / "b"), "--flip", "0.5", "--lr", "0.1", "--F_dim", "32"]
    )
    assert "--flip 0.5 (was 0.0)" in message and "--F_dim" in message and "--lr" not in message


@pytest.mark.parametrize("model", MODELS)
def test_every_flag_is_classified_as_free_or_not(model):
    """The author of a new flag must decide: is a run with another value still the same run?"""
    flags = {action.dest for action in trainer_parser(model, "default")._actions} - {"help", "print_config"}
    fixed = {"model", "preset", "optim", "frame_H", "frame_W", "val_vi_len", "partial", "fast_train", "fast_partial", "fast_train_epoch",
              "shift", "train_vi_len", "reference", "flip", "pose_window", "F_dim", "L_dim", "N_dim", "D_out_dim", "n_past", "n_future",
              "windows", "cond_shift", "g_dim", "z_dim", "rnn_size", "predictor_rnn_layers", "posterior_rnn_layers", "prior_rnn_layers",
              "norm", "compose", "width", "last_frame_skip"}  # fmt: skip
    assert flags <= FREE_FLAGS | TRAINING_FLAGS | fixed and not FREE_FLAGS & TRAINING_FLAGS


def test_a_run_resumed_elsewhere_can_be_resumed_there_at_once(train_args, trained, tmp_path, monkeypatch):
    """After Ctrl-C in its first epoch, the message once recommended to resume from a folder without a checkpoint."""
    monkeypatch.setattr(Trainer.Trainer, "train_epoch", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit):
        Trainer.main([*train_args, "--num_epoch", "3", "--ckpt_path", str(trained / "epoch=0.ckpt")])
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 1
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 1


def test_a_run_that_is_made_longer_does_not_return_to_teacher_forcing(train_args, trained, tmp_path):
    """With two epochs, the ratio decays after the first. With six, the default would teacher-force the first three."""
    Trainer.main([*train_args, "--num_epoch", "6", "--ckpt_path", str(trained)])
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["tfr"] for row in rows] == [1, 0, 0, 0, 0, 0]


def test_a_skipped_first_step_keeps_the_statistics_that_were_loaded(rendered_robot, tmp_path, monkeypatch):
    """If the first step after a resume was skipped, the statistics of batch normalization once became those of a new model."""
    argv = [
        "--model",
        "svg_fp",
        "--DR",
        str(rendered_robot),
        *SMALL_SVG,
        "--frame_H",
        "32",
        "--frame_W",
        "32",
        "--norm",
        "batch",
        "--ema",
        "0",
    ]
    steps, apply_step = [], Learner.apply_step

    def discard_third(self, check):
        steps.append(1)
        (self.discard_step if len(steps) == 3 else partial(apply_step, self))(check)

    monkeypatch.setattr(Learner, "apply_step", discard_third)
    run_in(tmp_path / "whole", monkeypatch, argv)
    steps.clear()
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        run_in(tmp_path / "cut", patch, argv, status=143)
    run_in(tmp_path / "cut", monkeypatch, [*argv, "--resume"])
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "cut" / "run") == []


def test_another_order_of_clips_restarts_the_epoch(rendered, tmp_path, monkeypatch, capsys):
    """Half an epoch of other batches once counted as done, so the epoch ended without a step."""
    argv = ["--DR", str(rendered), *TINY, "--epoch_size", "6", "--num_epoch", "1"]
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        run_in(tmp_path / "a", patch, argv, status=143)
    run_in(tmp_path / "b", monkeypatch, [*argv, "--batch_size", "1", "--ckpt_path", str(tmp_path / "a" / "run")])
    assert "epoch 1 starts over" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "b" / "run" / "last.ckpt")["step"] == 4 + 6


def test_a_run_can_be_resumed_before_its_first_epoch_ends(rendered, tmp_path, monkeypatch):
    """A run killed between best.ckpt and last.ckpt, or stopped by non-finite values at once, once had nothing to resume from."""
    argv = ["--DR", str(rendered), *TINY, "--epoch_size", "3", "--num_epoch", "1"]
    run_in(tmp_path / "whole", monkeypatch, argv)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer.Trainer, "train_step", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        run_in(tmp_path / "cut", patch, argv, status=130)
    run_in(tmp_path / "cut", monkeypatch, [*argv, "--resume"])
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "cut" / "run") == []


def test_rows_that_the_disk_lost_are_restored_from_the_checkpoint(train_args, tmp_path):
    Trainer.main(train_args)
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    Trainer.main([*train_args, "--num_epoch", "3", "--resume"])
    assert (tmp_path / "run" / "metrics.jsonl").read_text().startswith(rows)


def test_a_run_is_not_resumed_with_other_validation_data(dataset, tmp_path, capsys):
    argv = ["--DR", str(dataset), *TINY, "--epoch_size", "2", "--save_root", str(tmp_path / "run")]
    Trainer.main([*argv, "--num_epoch", "1"])
    for kind in ("img", "label"):
        sorted((dataset / "val" / f"val_{kind}").iterdir())[-1].unlink()
    message = refused(capsys, Trainer.main, [*argv, "--num_epoch", "2", "--resume"])
    assert "expected the validation data that the run in" in message


def test_a_restart_by_torchrun_does_not_start_over(train_args, tmp_path, monkeypatch):
    """With --overwrite in the command, each restart would move the run aside."""
    Trainer.main([*train_args, "--num_epoch", "1"])
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    Trainer.main([*train_args, "--overwrite"])
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["step"] == 6 and not list((tmp_path / "run").glob("earlier-*"))


def test_the_comparison_of_settings_knows_which_may_differ():
    """--num_epoch is free, --lr may differ in another folder, and --F_dim never. A flag that the checkpoint lacks is not compared."""
    trained = {"lr": 0.1, "F_dim": 16, "num_epoch": 5, "tfr": 1.0}
    args = argparse.Namespace(lr=0.2, F_dim=32, num_epoch=6, tfr=1.0, seed=1)
    lr, size = {"lr": "--lr 0.2 (was 0.1)"}, {"F_dim": "--F_dim 32 (was 16)"}
    assert compare_settings(args, trained, continues_run=False) == (lr, size)
    assert compare_settings(args, trained, continues_run=True) == ({}, lr | size)


def test_an_epoch_with_other_clips_restarts_and_keeps_earlier_curves():
    """Other settings and other data are reported, and the restart only once. Neither the checkpoint nor the flags are changed."""
    curves = [{"epoch": 0.5, "step": 2}, {"epoch": 1.0, "step": 4}, {"epoch": 1.25, "step": 5}]
    flags = {"model": "svg_fp", "preset": "quick", "batch_size": 2, "tfr_sde": 3, "num_epoch": 4}
    checkpoint = {"epoch": 1, "progress": {"clips": 2}, "flags": flags, "data": ["a", "b"], "curves": curves}
    args = argparse.Namespace(**flags | {"batch_size": 3, "tfr_sde": 2})
    before = copy.deepcopy((vars(args), checkpoint))
    start = StartPoint(Path("last.ckpt"), checkpoint)
    assert not start.restart_epoch and start.curves() == curves
    start = accept_settings(start, args, {"batch_size": 3})
    restart = "epoch 2 starts over, because its clips have changed"
    assert start.restart_epoch and start.messages == ("training continues with other settings: --batch_size 3 (was 2)", restart)
    assert start.curves() == curves[:2]
    start = compare_data(["other", "b"], args, start)
    assert start.messages[2:] == ("training continues with other data than those of last.ckpt",) and start.messages[1] == restart
    assert compare_data(["a", "other"], args, StartPoint(Path("last.ckpt"), checkpoint)).restart_epoch is False
    assert before == (vars(args), checkpoint) and args_to_train(args, {}, start).tfr_sde == 3
