"""Runs that go on, begin again or are made longer: nothing is lost, repeated or trained otherwise."""

import json
import math
import shutil
import signal

import pytest

import Trainer
from tests.helpers.refusals import refused
from tests.helpers.runs import TINY, run_differences
from tests.helpers.settings import SMALL_SVG
from training.checkpoints import load_checkpoint
from training.flags import trainer_parser
from training.learner import Learner
from training.metrics_log import read_metrics
from training.presets import MODELS
from training.resume import FREE_FLAGS, TRAINING_FLAGS

# By what is special: the batch in which the signal comes, flags of both runs, further ones of the resumed run.
CUTS = {
    "first batch": (1, [], []),
    "last batch of an epoch": (5, [], []),
    "second epoch": (8, [], []),
    "other workers": (8, ["--num_workers", "2"], ["--num_workers", "1"]),
    "between batches of a step": (3, ["--accumulate", "2", "--ema", "0.9", "--val_every", "2", "--per_save", "1"], []),
    "SGD, a coin an epoch": (8, ["--optim", "SGD", "--tfr_coin", "epoch", "--tfr", "0.5", "--ema", "0"], []),
    "fast_train, bfloat16": (4, ["--fast_train", "--fast_train_epoch", "2", "--recompute", "1", "--amp", "bfloat16"], []),
    "course": (9, ["--preset", "course", "--num_workers", "1"], []),
}


@pytest.fixture(autouse=True)
def curves_as_text(monkeypatch):
    """Half of a small run's time goes into its picture; here what would be drawn is written. test_kills.py compares pictures."""
    monkeypatch.setattr(Trainer, "draw_training", lambda runs, path: path.write_text(json.dumps(runs)))


def stop_after(monkeypatch, steps: int, number: int = signal.SIGTERM) -> None:
    """Lets the runs that follow get a signal in their batch of that number."""
    seen = []
    train_batch = Trainer.Trainer.train_batch

    def signalled(self, *args):
        seen.append(1)
        if len(seen) == steps:
            signal.raise_signal(number)
        return train_batch(self, *args)

    monkeypatch.setattr(Trainer.Trainer, "train_batch", signalled)


def run_in(folder, monkeypatch, argv: list, *, status: int | None = None) -> None:
    """Trainer.main with the run folder "run" in `folder`; the exit status must be `status`."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    if status is None:
        Trainer.main([*argv, "--save_root", "run"])
    else:
        with pytest.raises(SystemExit) as stop:
            Trainer.main([*argv, "--save_root", "run"])
        assert stop.value.code == status


@pytest.mark.parametrize("kind", CUTS)
def test_a_run_that_is_cut_and_resumed_has_the_bits_of_one_that_is_not(rendered, tmp_path, monkeypatch, kind):
    """In the middle of an epoch, at its end, with other worker processes, between two batches of an optimizer step: resume was
    seen elsewhere to repeat or skip clips, to restart schedules and to forget the optimizer."""
    cut, more, after = CUTS[kind]
    argv = ["--DR", str(rendered), *TINY, "--epoch_size", "5", "--num_epoch", "2", *more]
    run_in(tmp_path / "whole", monkeypatch, argv)
    with monkeypatch.context() as patch:
        stop_after(patch, cut)
        run_in(tmp_path / "cut", patch, argv, status=143)
    run_in(tmp_path / "cut", monkeypatch, [*argv, *after, "--resume"])
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "cut" / "run") == []


@pytest.mark.parametrize("more", [[], ["--norm", "batch", "--ema", "0", "--kl_anneal_cyclical"]])
def test_a_robots_run_too(rendered_robot, tmp_path, monkeypatch, more):
    argv = ["--model", "svg_lp", "--DR", str(rendered_robot), *SMALL_SVG, "--frame_H", "32", "--frame_W", "32", *more]
    run_in(tmp_path / "whole", monkeypatch, argv)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        run_in(tmp_path / "cut", patch, argv, status=143)
    run_in(tmp_path / "cut", monkeypatch, [*argv, "--resume"])
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "cut" / "run") == []


def test_differences_are_found(rendered, tmp_path, monkeypatch):
    """The comparison above can fail: of another seed, weights, metrics and curves are others."""
    for seed in ("1", "2"):
        run_in(
            tmp_path / seed, monkeypatch, ["--DR", str(rendered), *TINY, "--epoch_size", "2", "--num_epoch", "1", "--seed", seed]
        )
    found = run_differences(tmp_path / "1" / "run", tmp_path / "2" / "run")
    assert {"metrics.jsonl", "training.png"} <= set(found) and any("/ema/" in where for where in found)


def test_stopped_in_the_validation_it_goes_on_there(train_args, tmp_path, monkeypatch):
    flags = [*train_args, "--num_epoch", "2", "--val_vi_len", "2"]
    monkeypatch.setattr(Trainer, "VALIDATION_BATCH", 1)
    Trainer.main([*flags, "--save_root", str(tmp_path / "a" / "run")])
    real, calls = Trainer.rollout_sequences, []
    monkeypatch.setattr(
        Trainer, "rollout_sequences", lambda *a, **k: calls.append(1) or signal.raise_signal(signal.SIGINT) or real(*a, **k)
    )
    with pytest.raises(SystemExit) as stop:
        Trainer.main([*flags, "--save_root", str(tmp_path / "b" / "run")])
    assert stop.value.code == 130 and len(calls) == 1
    state = load_checkpoint(tmp_path / "b" / "run" / "last.ckpt")
    assert state["epoch"] == 0 and state["progress"]["clips"] == 8
    monkeypatch.setattr(Trainer, "rollout_sequences", real)
    Trainer.main([*flags, "--save_root", str(tmp_path / "b" / "run"), "--resume"])
    names = [tmp_path / name / "run" / "metrics.jsonl" for name in "ab"]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_a_run_is_neither_begun_anew_nor_gone_on_with_unasked(train_args, trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for more in ([], ["--ckpt_path", str(trained)], ["--ckpt_path", str(run / "epoch=0.ckpt")]):
        message = refused(capsys, Trainer.main, [*train_args, *more])
        assert f"--save_root {run}: holds a run already" in message and "--resume" in message and "--overwrite" in message
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


def test_resume_begins_a_run_where_there_is_none_and_says_so(train_args, tmp_path, capsys):
    Trainer.main([*train_args, "--num_epoch", "1", "--resume", "auto"])
    assert "holds no checkpoint to resume; the run begins" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 1


def test_a_finished_run_has_nothing_left_to_do(train_args, tmp_path, capsys):
    """Killed behind its last checkpoint, only the curves can be missing; a cluster that starts it again must see success."""
    Trainer.main(train_args)
    (tmp_path / "run" / "training.png").unlink()
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    Trainer.main([*train_args, "--resume"])
    assert "no epoch is left to train" in capsys.readouterr().out
    assert (tmp_path / "run" / "training.png").exists() and (tmp_path / "run" / "last.ckpt").read_bytes() == before
    message = refused(capsys, Trainer.main, [*train_args, "--ckpt_path", str(tmp_path / "run")])
    assert "has 2 epochs already" in message and "--num_epoch" in message


def test_resuming_in_place_keeps_the_rows_before_and_repeats_none(train_args, tmp_path):
    Trainer.main(train_args)
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    Trainer.main([*train_args, "--num_epoch", "3", "--resume"])
    assert (tmp_path / "run" / "metrics.jsonl").read_text().startswith(rows)
    assert [row["epoch"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [0, 1, 2]
    assert not list((tmp_path / "run").glob("earlier-*"))


@pytest.mark.parametrize("flags, named", [
    (["--F_dim", "32", "--shift", "1", "--train_vi_len", "4"], ["--F_dim 16 there, 32 here", "--shift 2 there, 1 here", "--train_vi_len 5"]),
    (["--lr", "0.1", "--tfr", "0.5"], ["--lr 0.003 there, 0.1 here", "--tfr 1.0 there", "another --save_root"]),
    (["--optim", "SGD"], ["--optim AdamW there, SGD here"]),
    (["--preset", "quick"], ["--preset default, not quick"]),
    (["--frame_H", "16"], ["--frame_H 32 there, 16 here"]),
])  # fmt: skip
def test_a_run_goes_on_with_its_settings_only(train_args, trained, tmp_path, capsys, flags, named):
    shutil.copytree(trained, tmp_path / "run")
    message = refused(capsys, Trainer.main, [*train_args, "--batch_size", "4", "--resume", "--num_epoch", "4", *flags])
    assert all(text in message for text in named)


def test_settings_of_the_machine_and_of_saving_may_change(train_args, tmp_path):
    Trainer.main([*train_args, "--num_epoch", "1"])
    free = ["--num_epoch", "2", "--num_workers", "1", "--per_save", "1", "--save_minutes", "0", "--val_every", "2", "--amp", "bfloat16",
            "--recompute", "2", "--store_visualization"]  # fmt: skip
    Trainer.main([*train_args, "--resume", *free])
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 2


def test_another_folder_can_train_on_with_other_settings_which_it_says(train_args, trained, tmp_path, capsys):
    """The flags' learning rate and decay count, not those that lie in the optimizer's state; data and model stay."""
    argv = [*train_args, "--num_epoch", "3", "--ckpt_path", str(trained), "--optim", "AdamW"]
    Trainer.main([*argv, "--lr", "0.0007", "--weight_decay", "0.2", "--beta1", "0.8", "--lr_schedule", "constant"])
    said = capsys.readouterr().out
    assert "other settings: --lr 0.003 there, 0.0007 here" in said and "--batch_size 4 there, 3 here" in said
    (group,) = load_checkpoint(tmp_path / "run" / "last.ckpt")["optimiser"]["param_groups"]
    assert (group["lr"], group["weight_decay"], group["betas"][0]) == (0.0007, 0.2, 0.8)
    message = refused(
        capsys, Trainer.main, [*argv, "--save_root", str(tmp_path / "b"), "--flip", "0.5", "--lr", "0.1", "--F_dim", "32"]
    )
    assert "--flip 0.0 there, 0.5 here" in message and "--F_dim" in message and "--lr" not in message


@pytest.mark.parametrize("model", MODELS)
def test_every_flag_is_known_to_be_free_or_not(model):
    """A flag that somebody adds must be looked at: is the run still the same with another value?"""
    flags = {action.dest for action in trainer_parser(model, "default")._actions} - {"help", "print_config"}
    decide = {"model", "preset", "optim", "frame_H", "frame_W", "val_vi_len", "partial", "fast_train", "fast_partial", "fast_train_epoch",
              "shift", "train_vi_len", "reference", "flip", "pose_window", "F_dim", "L_dim", "N_dim", "D_out_dim", "n_past", "n_future",
              "windows", "cond_shift", "g_dim", "z_dim", "rnn_size", "predictor_rnn_layers", "posterior_rnn_layers", "prior_rnn_layers",
              "norm", "compose", "width", "last_frame_skip"}  # fmt: skip
    assert flags <= FREE_FLAGS | TRAINING_FLAGS | decide and not FREE_FLAGS & TRAINING_FLAGS


def scripted(monkeypatch, *scores: float) -> None:
    """Makes the validations of the runs that follow score these values, one after the other."""
    values = iter(scores)
    monkeypatch.setattr(
        Trainer.Trainer, "validate", lambda self: ({"val_psnr": next(values), "val_ssim": 0.5, "val_closing": 1.0}, [])
    )


def test_best_is_kept_and_not_overwritten_by_worse_or_lost_numbers(train_args, tmp_path, monkeypatch):
    scripted(monkeypatch, 20.0, 25.0, math.nan, 24.0, 23.0, 24.5)
    Trainer.main([*train_args, "--num_epoch", "5", "--per_save", "2"])
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["epoch"] == 2
    assert sorted(path.name for path in (tmp_path / "run").glob("epoch=*")) == ["epoch=1.ckpt", "epoch=3.ckpt", "epoch=4.ckpt"]
    Trainer.main([*train_args, "--num_epoch", "6", "--resume"])
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["epoch"] == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_never_the_best(train_args, tmp_path, monkeypatch, value):
    scripted(monkeypatch, value, 20.0)
    Trainer.main(train_args)
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["epoch"] == 2


def test_a_run_resumed_elsewhere_writes_its_own_best(train_args, trained, tmp_path, monkeypatch):
    """The best of the folder it came from is not here, so the first validation is the best one, however low."""
    scripted(monkeypatch, 1.0)
    Trainer.main([*train_args, "--num_epoch", "3", "--ckpt_path", str(trained)])
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["best_psnr"] == 1.0


def test_a_run_resumed_elsewhere_can_be_resumed_from_there_at_once(train_args, trained, tmp_path, monkeypatch):
    """Ctrl-C in its first epoch once said to go on from a folder that held no checkpoint."""
    monkeypatch.setattr(Trainer.Trainer, "train_epoch", lambda self, epoch: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit):
        Trainer.main([*train_args, "--num_epoch", "3", "--ckpt_path", str(trained / "epoch=0.ckpt")])
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 1
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 1


def test_a_run_that_is_made_longer_does_not_go_back_to_true_frames(train_args, trained, tmp_path):
    """Two epochs begin to decay at 1; of six, the default would feed true frames back until epoch 3."""
    Trainer.main([*train_args, "--num_epoch", "6", "--ckpt_path", str(trained)])
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["tfr"] for row in rows] == [1, 0, 0, 0, 0, 0]


def test_a_first_step_that_is_left_out_keeps_the_statistics_that_were_loaded(rendered_robot, tmp_path, monkeypatch):
    """Batch normalisation's were put back to those of a new model once, when the first step after a resume was bad."""
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
    left_out, step = [], Learner.step

    def third(self, *, leave_out):
        left_out.append(1)
        step(self, leave_out=len(left_out) == 3)

    monkeypatch.setattr(Learner, "step", third)
    run_in(tmp_path / "whole", monkeypatch, argv)
    left_out.clear()
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        run_in(tmp_path / "cut", patch, argv, status=143)
    run_in(tmp_path / "cut", monkeypatch, [*argv, "--resume"])
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "cut" / "run") == []


def test_another_order_of_clips_begins_the_epoch_anew(rendered, tmp_path, monkeypatch, capsys):
    """Half of an epoch of other batches was counted as done once: the epoch ended without a step."""
    argv = ["--DR", str(rendered), *TINY, "--epoch_size", "6", "--num_epoch", "1"]
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        run_in(tmp_path / "a", patch, argv, status=143)
    run_in(tmp_path / "b", monkeypatch, [*argv, "--batch_size", "1", "--ckpt_path", str(tmp_path / "a" / "run")])
    assert "epoch 1 is begun anew" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "b" / "run" / "last.ckpt")["step"] == 4 + 6


def test_a_run_can_be_resumed_before_its_first_epoch_ends(rendered, tmp_path, monkeypatch):
    """Killed after best.ckpt and before last.ckpt, or stopped by bad numbers at once, it had nothing to resume from."""
    argv = ["--DR", str(rendered), *TINY, "--epoch_size", "3", "--num_epoch", "1"]
    run_in(tmp_path / "whole", monkeypatch, argv)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer.Trainer, "train_batch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run_in(tmp_path / "cut", patch, argv, status=130)
    run_in(tmp_path / "cut", monkeypatch, [*argv, "--resume"])
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "cut" / "run") == []


def test_rows_that_the_disk_lost_come_back_with_the_checkpoint(train_args, tmp_path):
    Trainer.main(train_args)
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    Trainer.main([*train_args, "--num_epoch", "3", "--resume"])
    assert (tmp_path / "run" / "metrics.jsonl").read_text().startswith(rows)


def test_other_validation_data_are_not_the_same_run(dataset, tmp_path, capsys):
    argv = ["--DR", str(dataset), *TINY, "--epoch_size", "2", "--save_root", str(tmp_path / "run")]
    Trainer.main([*argv, "--num_epoch", "1"])
    for kind in ("img", "label"):
        sorted((dataset / "val" / f"val_{kind}").iterdir())[-1].unlink()
    message = refused(capsys, Trainer.main, [*argv, "--num_epoch", "2", "--resume"])
    assert "the validation data are not those that" in message


def test_a_restart_by_torchrun_begins_nothing_anew(train_args, tmp_path, monkeypatch):
    """With --overwrite in its command, each restart would have moved the run aside."""
    Trainer.main([*train_args, "--num_epoch", "1"])
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    Trainer.main([*train_args, "--overwrite"])
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["step"] == 6 and not list((tmp_path / "run").glob("earlier-*"))
