"""--minutes: the number of batches per epoch is determined once, before the first epoch."""

import json
from types import SimpleNamespace

import pytest

import Trainer
from runtime.distributed import Ranks
from tests.helpers.refusals import refused
from tests.helpers.runs import TINY, differences
from training import pacing
from training.checkpoints import load_checkpoint
from training.pacing import Estimate, Pace, describe_estimate, epoch_size_within, measure_pace


def test_the_run_of_the_chosen_size_just_fits():
    """With ratios 1, 0.5 and 0, one batch per epoch takes 2 + 3 + 4 s. Two validations of 6 s leave 588 of 600 s: 65 batches."""
    pace = Pace(teacher_forced=2.0, autoregressive=4.0, validation=6.0)
    assert epoch_size_within(600, pace, ratios=[1.0, 0.5, 0.0], val_every=2, processes=1).epoch_size == 65
    assert epoch_size_within(597, pace, ratios=[1.0, 0.5, 0.0], val_every=2, processes=1).epoch_size == 65
    assert epoch_size_within(596, pace, ratios=[1.0, 0.5, 0.0], val_every=2, processes=1).epoch_size == 64


def test_too_few_minutes_still_train_one_batch_an_epoch():
    """A batch of 2 or 4 s, 3 s on average, in one epoch, and the validation of 6 s take longer than was asked for."""
    assert epoch_size_within(1, Pace(2.0, 4.0, 6.0), ratios=[0.5], val_every=1, processes=1) == (1, 1, 9.0)


def test_processes_share_the_batches_of_an_epoch():
    """With two processes, a run once took half of the minutes. Each takes the 65 batches of the first test at the same time."""
    pace = Pace(teacher_forced=2.0, autoregressive=4.0, validation=6.0)
    assert epoch_size_within(600, pace, ratios=[1.0, 0.5, 0.0], val_every=2, processes=2).epoch_size == 130


def test_minutes_that_cannot_be_kept_are_reported():
    """A run of 80 s with --minutes 0.2 once gave no sign of it: its eleven validations alone took longer."""
    pace = Pace(0.3, 0.2, 3.2)
    chosen, warning = describe_estimate(0.2, Estimate(1, 11, 38.0), pace, spent=10)
    assert "--minutes 0.2: 1 batch an epoch; a batch takes 300 ms with teacher forcing and 200 ms without" in chosen
    assert "takes at least 0.8 minutes with 11 validations" in warning
    assert len(describe_estimate(0.9, Estimate(4, 11, 38.0), pace, spent=10)) == 1


def test_the_first_slow_batches_do_not_count(monkeypatch):
    """On this clock a batch takes 0.1 or 0.4 s, the first two of each kind take 5 s more, and a validation takes 2 s."""
    now, batches = [0.0], {True: 0, False: 0}

    def train(_batch, teacher_forced):
        batches[teacher_forced] += 1
        now[0] += (0.1 if teacher_forced else 0.4) + 5 * (batches[teacher_forced] <= 2)

    def validate():
        now[0] += 2.0

    monkeypatch.setattr(pacing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    pace = measure_pace(train, validate, iter(dict, None), Ranks())
    assert pace == pytest.approx(Pace(0.1, 0.4, 2.0), abs=1e-5)
    assert batches == {True: 3 + 30, False: 3 + 7}  # 3 s of each kind


def chosen_size(folder) -> int:
    return json.loads((folder / "config.json").read_text())["flags"]["epoch_size"]


def test_a_resumed_run_keeps_the_size_that_was_measured(rendered, tmp_path, monkeypatch, capsys):
    """The machine is twice as fast the second time. The run equals one with that --epoch_size, bit for bit."""
    argv = ["--DR", str(rendered), *TINY, "--tfr", "1", "--tfr_d_step", "0", "--num_epoch", "2"]
    minutes = [*argv, "--minutes", "0.5", "--save_root", str(tmp_path / "run"), "--resume"]
    for seconds_a_batch in (5.0, 2.5):
        monkeypatch.setattr(Trainer, "measure_pace", lambda *_, s=seconds_a_batch: Pace(s, s, 0.0))
        with monkeypatch.context() as patch:
            if seconds_a_batch == 5.0:
                patch.setattr(Trainer.Trainer, "validate", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
                assert refused_by_ctrl_c(minutes) == 130
            else:
                Trainer.main(minutes)
        assert chosen_size(tmp_path / "run") in (2, 3)  # the trial run takes a part of a second
    size = chosen_size(tmp_path / "run")
    assert f"--minutes 0.5: {size} batches an epoch" in capsys.readouterr().out
    Trainer.main([*argv, "--epoch_size", str(size), "--save_root", str(tmp_path / "whole")])
    resumed, whole = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("run", "whole"))
    assert [differences(resumed[part], whole[part]) for part in ("model", "ema", "optimiser")] == [[], [], []]
    message = refused(capsys, Trainer.main, [*minutes, "--minutes", "3"])
    assert "--minutes 3.0 (was 0.5)" in message


def refused_by_ctrl_c(argv: list[str]) -> int:
    """Run Trainer.main(argv), which must be stopped, and return its exit status."""
    with pytest.raises(SystemExit) as stop:
        Trainer.main(argv)
    return stop.value.code


def test_the_trial_run_leaves_no_trace(rendered, tmp_path, capsys):
    """A run after the measurement equals one without it, and the measurement writes no file of its own."""
    argv = ["--DR", str(rendered), *TINY, "--num_epoch", "1"]
    Trainer.main([*argv, "--minutes", "0.001", "--save_root", str(tmp_path / "measured")])
    assert chosen_size(tmp_path / "measured") == 1
    Trainer.main([*argv, "--epoch_size", "1", "--save_root", str(tmp_path / "plain")])
    assert {path.name for path in (tmp_path / "measured").iterdir()} == {path.name for path in (tmp_path / "plain").iterdir()}
    measured, plain = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("measured", "plain"))
    assert differences(measured["model"], plain["model"]) == differences(measured["curves"], plain["curves"]) == []
