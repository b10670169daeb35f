"""Runs that go on, begin again or are made longer: nothing is lost, repeated or trained otherwise."""
import math
import shutil

import pytest
import torch
from conftest import refused

import Trainer
from checkpoints import load_checkpoint
from records import read_metrics

TIMES = ("seconds", "frames_per_second")  # what a row has that differs from run to run


@pytest.mark.parametrize("more", [[], ["--accumulate", "2", "--tfr_coin", "epoch", "--optim", "SGD", "--num_workers", "1", "--ema", "0"]])
def test_a_resumed_run_equals_one_that_was_not_cut(train_args, tmp_path, more):
    """Resume was seen to restart the schedules, to train the last epoch twice and to forget the optimiser."""
    flags = [*train_args, "--num_epoch", "4", "--tfr_sde", "1", "--tfr_d_step", "0.3", "--feedback_noise", "0.05", *more]
    Trainer.main([*flags, "--save_root", str(tmp_path / "whole"), "--per_save", "1"])
    Trainer.main([*flags, "--save_root", str(tmp_path / "cut"), "--ckpt_path", str(tmp_path / "whole" / "epoch=1.ckpt")])
    whole, cut = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "cut"))
    assert whole["epoch"] == cut["epoch"] == 4 and whole["step"] == cut["step"]
    for part in ("model", "ema"):
        assert all(torch.equal(value, cut[part][name]) for name, value in whole[part].items())
    for key, moments in whole["optimiser"]["state"].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(cut["optimiser"]["state"][key][n])) for n, v in moments.items() if v is not None)
    rows = {name: read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")}
    assert [row["epoch"] for row in rows["cut"]] == [0, 1, 2, 3]
    for a, b in zip(rows["whole"], rows["cut"]):
        assert a | dict.fromkeys(TIMES) == b | dict.fromkeys(TIMES)


def test_resuming_in_place_keeps_the_rows_before_and_repeats_none(train_args, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    flags = [flag for flag in train_args if flag not in ("--batch_size", "3")]
    Trainer.main([*flags, "--num_epoch", "3", "--ckpt_path", str(tmp_path / "run")])
    assert [row["epoch"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [0, 1, 2]
    assert not list((tmp_path / "run").glob("earlier-*"))


def test_a_finished_run_says_that_nothing_is_left(train_args, trained, capsys):
    message = refused(capsys, Trainer.main, [*train_args, "--ckpt_path", str(trained)])
    assert "has 2 epochs already" in message and "--num_epoch" in message


def test_a_second_run_in_the_same_folder_loses_nothing(train_args, tmp_path, capsys):
    for _ in range(3):
        Trainer.main([*train_args, "--num_epoch", "1"])
    assert "was moved to" in capsys.readouterr().out
    for name in ("earlier-1", "earlier-2", "."):
        assert {"best.ckpt", "last.ckpt", "metrics.jsonl", "config.json", "training.png"} <= {p.name for p in (tmp_path / "run" / name).iterdir()}


def scripted(monkeypatch, *scores: float) -> None:
    """Makes the validations of the runs that follow score these values, one after the other."""
    values = iter(scores)
    monkeypatch.setattr(Trainer.Trainer, "validate", lambda self: ({"val_psnr": next(values), "val_ssim": 0.5, "val_closing": 1.0}, []))


def test_best_is_kept_and_not_overwritten_by_worse_or_lost_numbers(train_args, tmp_path, monkeypatch):
    scripted(monkeypatch, 20.0, 25.0, math.nan, 24.0, 23.0, 24.5)
    Trainer.main([*train_args, "--num_epoch", "5", "--per_save", "2"])
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["epoch"] == 2
    assert sorted(path.name for path in (tmp_path / "run").glob("epoch=*")) == ["epoch=1.ckpt", "epoch=3.ckpt", "epoch=4.ckpt"]
    Trainer.main([*train_args, "--num_epoch", "6", "--ckpt_path", str(tmp_path / "run")])
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


def test_a_run_is_not_resumed_under_another_recipe(train_args, trained, capsys):
    """Stopped in the last epochs of a quick run, it would have become the first epochs of a long one."""
    message = refused(capsys, Trainer.main, [*train_args, "--num_epoch", "4", "--preset", "quick", "--ckpt_path", str(trained)])
    assert "was trained with --preset default, not quick" in message


def test_a_run_that_is_made_longer_does_not_go_back_to_true_frames(train_args, trained, tmp_path):
    """Two epochs begin to decay at 1; of six, the default would feed true frames back until epoch 3."""
    Trainer.main([*train_args, "--num_epoch", "6", "--ckpt_path", str(trained)])
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["tfr"] for row in rows] == [1, 0, 0, 0, 0, 0]
