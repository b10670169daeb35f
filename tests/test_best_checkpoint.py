"""best.ckpt: it always has the best validation of its run, and is never replaced by a worse or non-finite one."""

import math

import pytest

import Trainer
from tests.helpers.runs import fill_up, script_validations
from training.checkpoints import load_checkpoint
from training.metrics_log import read_metrics


def test_the_best_checkpoint_is_the_one_with_the_best_validation(trained):
    scores = [row["val_psnr"] for row in read_metrics(trained / "metrics.jsonl")]
    state = load_checkpoint(trained / "best.ckpt")
    assert state["best_psnr"] == max(scores) and scores[state["epoch"] - 1] == max(scores)


def test_best_is_not_overwritten_by_worse_or_non_finite_scores(train_args, tmp_path, monkeypatch):
    script_validations(monkeypatch, 20.0, 25.0, math.nan, 24.0, 23.0, 24.5)
    Trainer.main([*train_args, "--num_epoch", "5", "--per_save", "2"])
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["epoch"] == 2
    assert sorted(path.name for path in (tmp_path / "run").glob("epoch=*")) == ["epoch=1.ckpt", "epoch=3.ckpt", "epoch=4.ckpt"]
    Trainer.main([*train_args, "--num_epoch", "6", "--resume"])
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["epoch"] == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_never_the_best(train_args, tmp_path, monkeypatch, value):
    script_validations(monkeypatch, value, 20.0)
    Trainer.main(train_args)
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["epoch"] == 2


def test_a_run_resumed_elsewhere_writes_its_own_best(train_args, trained, tmp_path, monkeypatch):
    """The best checkpoint is in the folder that it comes from, so the first validation is the best here, however low."""
    script_validations(monkeypatch, 1.0)
    Trainer.main([*train_args, "--num_epoch", "3", "--ckpt_path", str(trained)])
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["best_psnr"] == 1.0


def test_a_score_without_a_checkpoint_is_not_the_best(train_args, tmp_path, monkeypatch):
    script_validations(monkeypatch, 30.0, 20.0)
    fill_up(monkeypatch, {"best.ckpt"}, times=1)
    Trainer.main(train_args)
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["best_psnr"] == 20.0


def test_a_resumed_run_ignores_a_best_score_without_a_checkpoint(train_args, tmp_path, monkeypatch):
    """last.ckpt once had the score of epoch 2, whose best.ckpt failed. After a resume, best.ckpt stayed that of epoch 1 forever."""
    script_validations(monkeypatch, 25.0, 30.0, 28.0)
    Trainer.main([*train_args, "--num_epoch", "1"])
    with monkeypatch.context() as patch:
        fill_up(patch, {"best.ckpt"}, times=1)
        Trainer.main([*train_args, "--num_epoch", "2", "--resume"])
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["best_psnr"] == 25.0
    Trainer.main([*train_args, "--num_epoch", "3", "--resume"])
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["best_psnr"] == 28.0
