"""Run folders that fill up, vanish, cannot be written or are in use: the problem is reported, and nothing is lost."""

import errno
import inspect
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import Trainer
from tests.helpers.refusals import refused
from tests.helpers.runs import TINY, fill_up, finish, metrics_row, open_run_folder, run_differences, start
from tests.helpers.settings import ROOT, SMALL
from training.checkpoints import load_checkpoint
from training.metrics_log import read_curves, read_metrics
from training.progress import describe_epoch
from training.run_folder import NoRunFolder, RunFolder


def test_training_continues_on_a_full_disk_and_writes_everything_later(train_args, tmp_path, monkeypatch, capsys):
    """The earlier checkpoint stays whole. Rows that could not be written are written with the next ones."""
    argv = [*train_args, "--num_epoch", "3", "--val_every", "3"]
    Trainer.main([*argv, "--save_root", str(tmp_path / "whole" / "run")])
    with monkeypatch.context() as patch:
        failed = fill_up(patch, {"metrics.jsonl", "last.ckpt"}, times=4)
        Trainer.main(argv)
    errors = capsys.readouterr().err
    assert len(failed) == 4 and errors.count("cannot be written (No space left on device); training continues") == 4
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 3
    rows = [(folder / "metrics.jsonl").read_bytes() for folder in (tmp_path / "whole" / "run", tmp_path / "run")]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_that_ends_on_a_full_disk_is_saved_elsewhere(train_args, tmp_path, monkeypatch, capsys, stopped):
    """Hours of training must not be lost because the disk is full when they end, or when they are stopped."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Trainer.main([*train_args, "--num_epoch", "1"])
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        fill_up(patch, {"last.ckpt", "epoch=1.ckpt", "metrics.jsonl"})
        if stopped:
            patch.setattr(Trainer.Trainer, "save_is_due", lambda self: setattr(self.interrupt, "received", 15) or False)
        with pytest.raises(SystemExit) as stop:
            Trainer.main([*train_args, "--num_epoch", "2", "--resume"])
    message = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 1 and "error: " in message and "the run is saved in" in message and "--ckpt_path" in message
    refuge = Path(message.split("--ckpt_path ")[1])
    state = load_checkpoint(refuge / "last.ckpt")
    assert (state["epoch"], state["step"]) == ((1, 5) if stopped else (2, 6))
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before
    Trainer.main([*train_args, "--num_epoch", "3", "--ckpt_path", str(refuge), "--save_root", str(tmp_path / "b")])
    assert [row["epoch"] for row in read_metrics(tmp_path / "b" / "metrics.jsonl")] == [0, 1, 2]


def test_a_folder_that_vanishes_is_created_again_with_the_whole_run(train_args, tmp_path, monkeypatch):
    train_epoch = Trainer.Trainer.train_epoch

    def vanish(self):
        if self.epoch == 1:
            shutil.rmtree(tmp_path / "run")
        return train_epoch(self)

    monkeypatch.setattr(Trainer.Trainer, "train_epoch", vanish)
    Trainer.main([*train_args, "--num_epoch", "3"])
    assert [row["epoch"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [0, 1, 2]
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 3 and (tmp_path / "run" / "training.png").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_becomes_read_only(train_args, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Trainer.main([*train_args, "--num_epoch", "1"])
    (tmp_path / "run").chmod(0o500)
    assert "cannot be written" in refused(capsys, Trainer.main, [*train_args, "--resume"])


def test_two_runs_do_not_write_into_one_folder(train_args, trained, tmp_path, monkeypatch, capsys):
    """The second run reports it and touches nothing. When the first run has ended, even by a kill, the folder is free."""
    monkeypatch.setattr("runtime.files.WAIT", 0.1)
    shutil.copytree(trained, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    holder = subprocess.Popen([sys.executable, "-c", "import sys, time; from pathlib import Path; from runtime.files import claim\n"
                               f"lock = claim(Path({str(tmp_path / 'run')!r}), flag='--save_root'); print('has it', flush=True); time.sleep(100)"],
                              cwd=ROOT, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert holder.stdout.readline() == "has it\n"
    for more in (["--resume"], ["--overwrite"], []):
        assert "another run is writing there" in refused(capsys, Trainer.main, [*train_args, *more])
    holder.kill()
    holder.communicate()
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    Trainer.main([*train_args, "--batch_size", "4", "--num_epoch", "3", "--resume"])
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 3


def test_a_file_system_without_locks_is_reported_and_used(tmp_path, monkeypatch, capsys):
    fcntl = pytest.importorskip("fcntl")

    def unable(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unable)
    run_folder = RunFolder(tmp_path, use_wandb=False, use_tensorboard=False)
    run_folder.close()
    assert "no locks" in capsys.readouterr().err


def test_a_half_written_last_line_does_not_count_as_an_epoch_and_is_replaced(train_args, tmp_path):
    """Earlier versions left such a line if they were killed."""
    Trainer.main([*train_args, "--num_epoch", "1"])
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 1, "los')
    Trainer.main([*train_args, "--num_epoch", "2", "--resume"])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]


def test_a_run_is_not_resumed_with_other_data(dataset, tmp_path, capsys):
    """Data that changed between two starts are refused in the same folder, and reported if a run in another folder continues."""
    argv = ["--DR", str(dataset), *TINY, "--epoch_size", "3"]
    Trainer.main([*argv, "--save_root", str(tmp_path / "run"), "--num_epoch", "1"])
    frames = sorted((dataset / "train" / "train_img").iterdir())
    shutil.copy(frames[4], frames[5])
    message = refused(capsys, Trainer.main, [*argv, "--save_root", str(tmp_path / "run"), "--num_epoch", "2", "--resume"])
    assert "expected the training data that the run in" in message and "another --save_root" in message
    Trainer.main([*argv, "--save_root", str(tmp_path / "b"), "--num_epoch", "2", "--ckpt_path", str(tmp_path / "run")])
    assert "training continues with other data" in capsys.readouterr().out


def test_a_run_is_resumed_with_the_same_data_in_another_folder(dataset, tmp_path, monkeypatch):
    argv = [*TINY, "--epoch_size", "3", "--save_root", str(tmp_path / "run")]
    Trainer.main(["--DR", str(dataset), *argv, "--num_epoch", "1"])
    moved = dataset.rename(tmp_path / "elsewhere")
    for path in moved.rglob("*.png"):
        os.utime(path, (1, 1))
    Trainer.main(["--DR", str(moved), *argv, "--num_epoch", "2", "--resume"])
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 2


@pytest.mark.slow
def test_data_that_change_during_a_run_do_not_change_it(dataset, tmp_path):
    """It reads the pixels that it started with, although another run has rebuilt the cache."""
    argv = ["--DR", str(dataset), "--save_root", "run", *TINY, "--epoch_size", "60", "--num_epoch", "4", "--num_workers", "1"]
    finish(start(tmp_path / "whole", argv))
    run = start(tmp_path / "changed", argv)
    while not (tmp_path / "changed" / "run" / "last.ckpt").exists():
        assert run.poll() is None
        time.sleep(0.01)
    for path in (dataset / "train" / "train_img").iterdir():
        shutil.copy(next(iter(sorted((dataset / "val" / "val_img").iterdir()))), path)
    Trainer.main(
        [
            "--DR",
            str(dataset),
            "--save_root",
            str(tmp_path / "other"),
            *TINY,
            "--epoch_size",
            "1",
            "--num_epoch",
            "1",
            *SMALL[-2:],
        ]
    )
    assert run.poll() is None  # else nothing was tested
    finish(run)
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "changed" / "run") == []


def test_resuming_drops_the_epochs_that_are_trained_again(tmp_path):
    run_folder = open_run_folder(tmp_path)
    for epoch in range(4):
        run_folder.add(metrics_row(epoch), {})
    open_run_folder(tmp_path, first_epoch=2, resumed=tmp_path / "last.ckpt", in_place=True)
    assert [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1]


def test_resuming_into_another_folder_copies_the_history(tmp_path):
    for folder, epochs in [("a", 4), ("b", 7)]:
        run_folder = open_run_folder(tmp_path / folder)
        for epoch in range(epochs):
            run_folder.add(metrics_row(epoch, loss=float(len(folder) + epochs)), {})
        (tmp_path / folder / "best.ckpt").write_text(folder)
    open_run_folder(tmp_path / "b", first_epoch=3, resumed=tmp_path / "a" / "last.ckpt")
    assert [r["loss"] for r in read_metrics(tmp_path / "b" / "metrics.jsonl")] == [5.0] * 3
    assert (tmp_path / "b" / "earlier-1" / "best.ckpt").read_text() == "b" and not (tmp_path / "b" / "best.ckpt").exists()
    assert len(read_metrics(tmp_path / "b" / "earlier-1" / "metrics.jsonl")) == 7


def test_going_back_to_an_earlier_epoch_moves_the_later_ones_aside(tmp_path):
    run_folder = open_run_folder(tmp_path)
    for epoch in range(5):
        run_folder.add(metrics_row(epoch), {})
    (tmp_path / "epoch=1.ckpt").touch()
    earlier = open_at_epoch_2(tmp_path)
    assert earlier == tmp_path / "earlier-1" and len(read_metrics(earlier / "metrics.jsonl")) == 5
    assert [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1]


def open_at_epoch_2(folder):
    return RunFolder(folder, use_wandb=False, use_tensorboard=False).begin({}, first_epoch=2, resumed=folder / "epoch=1.ckpt")


def test_a_run_that_never_began_is_not_kept_and_other_files_are_not_touched(tmp_path):
    open_run_folder(tmp_path)
    (tmp_path / "holiday.png").touch()
    open_run_folder(tmp_path).add(metrics_row(0), {})
    assert not list(tmp_path.glob("earlier-*"))
    open_run_folder(tmp_path)
    assert (tmp_path / "holiday.png").exists() and (tmp_path / "earlier-1" / "metrics.jsonl").exists()


def test_a_folder_with_a_similar_name_does_not_count_as_an_earlier_run(tmp_path):
    """str.isdigit() accepts a superscript two, but int() does not."""
    (tmp_path / "earlier-²").mkdir()
    open_run_folder(tmp_path).add(metrics_row(0), {})
    open_run_folder(tmp_path)
    assert (tmp_path / "earlier-1" / "metrics.jsonl").exists()


def curve_row(epoch: float, step: int) -> dict:
    return {"epoch": epoch, "step": step, "beta": 0.5, "tfr": 1.0, "lr": 0.001, "loss": 0.1, "mse": 0.1, "kl": 2.0}


CURVES = [curve_row(0.5, 3), curve_row(1.0, 6), curve_row(1.5, 9), curve_row(2.0, 12)]


def test_rows_of_curves_are_written_with_each_epoch_and_each_checkpoint(tmp_path, trained):
    run_folder = open_run_folder(tmp_path)
    run_folder.extend_curves(CURVES[:1])
    assert read_curves(tmp_path / "curves.jsonl") == []
    run_folder.save(["last.ckpt"], load_checkpoint(trained / "last.ckpt"))
    assert read_curves(tmp_path / "curves.jsonl") == CURVES[:1]
    run_folder.extend_curves([CURVES[1], CURVES[2] | {"kl": float("nan")}])
    run_folder.add(metrics_row(0), {})
    assert read_curves(tmp_path / "curves.jsonl") == [*CURVES[:2], CURVES[2] | {"kl": None}] == run_folder.rows["curves.jsonl"]


def test_a_resumed_run_has_the_rows_of_curves_of_its_checkpoint(tmp_path):
    """The file has rows that were written after the checkpoint, or lacks rows that could not be written."""
    run_folder = open_run_folder(tmp_path)
    run_folder.extend_curves(CURVES)
    run_folder.write_rows()
    for in_checkpoint, expected in [(CURVES[:3], CURVES[:3]), (CURVES, CURVES), (None, CURVES[:2])]:  # None: those of its epochs
        open_run_folder(tmp_path, first_epoch=1, resumed=tmp_path / "last.ckpt", in_place=True, curves=in_checkpoint)
        assert read_curves(tmp_path / "curves.jsonl") == expected


def test_the_rows_of_curves_of_an_earlier_run_are_moved_with_it(tmp_path):
    earlier = open_run_folder(tmp_path)
    earlier.extend_curves(CURVES[:2])
    earlier.add(metrics_row(0), {})
    open_run_folder(tmp_path)
    assert read_curves(tmp_path / "earlier-1" / "curves.jsonl") == CURVES[:2] and read_curves(tmp_path / "curves.jsonl") == []


def test_the_line_of_an_epoch_ends_with_the_loss():
    """The line once began with the loss, which is negative with --distortion log_mse and means little to a reader.

    By hand: -10 log10(0.001) = 30 dB, -10 log10(0.0002) = 10 * (4 - log10 2) = 36.99 dB; 833 s = 13 min 53 s.
    """
    row = {
        "epoch": 2,
        "loss": -0.007964,
        "mse": 0.001,
        "kl": 0.0249,
        "beta": 0.457,
        "tfr": 1.0,
        "skipped": [],
        "frames_per_second": 447.4,
    }
    expected = "epoch 3/11  train 30.0 dB  kl 0.02 nats/frame  beta 0.46  tfr 1.00  447 frames/s"
    assert describe_epoch(row, 11, 35.4, 833.9) == f"{expected}  left 13m53s  loss -0.00796"
    row |= {"mse": 0.0002, "skipped": [4, 9], "val_psnr": 35.401, "val_closing": 35.8, "val_ssim": 0.9716}
    expected = (
        expected.replace("30.0", "37.0") + "  2 skipped steps  val 35.40 dB (last 100 frames 35.80, best 35.40)  ssim 0.972"
    )
    assert describe_epoch(row, 11, 35.4, 833.9) == f"{expected}  left 13m53s  loss -0.00796"
    row |= {"mse": float("nan"), "val_closing": 35.401}
    assert "train nan dB" in describe_epoch(row, 11, 35.4, 0) and "val 35.40 dB (best 35.40)" in describe_epoch(row, 11, 35.4, 0)
    assert "train inf dB" in describe_epoch(row | {"mse": 0.0}, 11, 35.4, 0)


def test_the_stand_in_of_other_processes_has_all_methods_of_a_run_folder(tmp_path):
    """A method that only the first process has would end the other processes with an AttributeError."""
    used = {"begin", "attempt", "extend_curves", "add", "save", "rescue", "close"}
    for name in used:
        own, stand_in = (inspect.signature(getattr(kind, name)).parameters for kind in (RunFolder, NoRunFolder))
        assert list(own) == list(stand_in) or name == "begin"
    stand_in = NoRunFolder()
    stand_in.begin({}, first_epoch=1, curves=[])
    stand_in.extend_curves([{}])
    stand_in.add({}, {}, None)
    assert stand_in.save(["last.ckpt"], {}) == ["last.ckpt"] and stand_in.attempt("a", Path.touch)
    assert stand_in.rows.keys() == open_run_folder(tmp_path).rows.keys() and not any(stand_in.rows.values())
