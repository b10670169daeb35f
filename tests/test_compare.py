"""tools/compare.py: what is missing is run, what is done is left alone, what fails is told, and nothing is lost on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import Tester
from runtime.files import locked
from tests.helpers.comparisons import SETTINGS, SIZES, hasten, shown, states, wait_for, write
from tests.helpers.refusals import refused_with_list
from tests.helpers.settings import ROOT
from tests.test_signals import posix
from tools import compare
from training.metrics_log import read_metrics


@pytest.fixture(autouse=True)
def reports(monkeypatch) -> list[list[str]]:
    return hasten(monkeypatch)


@pytest.fixture(scope="module")
def finished(rendered, tmp_path_factory) -> Path:
    """A folder with a comparison's file, rates.toml, and the comparison, runs/. No test changes them."""
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        reports = hasten(patch)
        compare.main([str(write(folder / "rates.toml")), "--DR", str(rendered), "--out", str(folder / "runs")])
        assert len(reports) == 1
    return folder


@pytest.fixture
def again(finished, rendered, tmp_path) -> list[str]:
    """A command line that asks for the comparison again, in a copy that the test may change."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    return [str(finished / "rates.toml"), "--DR", str(rendered), "--out", str(tmp_path / "runs")]


def test_every_setting_is_trained_with_every_seed_and_tested(finished):
    runs = {path.name for path in (finished / "runs").iterdir() if path.is_dir()}
    assert runs == {"high-seed1", "high-seed2", "low-seed1", "low-seed2"}
    for name in runs:
        flags = json.loads((finished / "runs" / name / "config.json").read_text())["flags"]
        assert flags["seed"] == int(name[-1]) and flags["batch_size"] == 2
        assert (flags["lr"], flags["fast_train"]) == ((0.01, False) if "high" in name else (0.001, True))
        assert len(read_metrics(finished / "runs" / name / "metrics.jsonl")) == 2
        assert json.loads((finished / "runs" / name / "test" / "scores.json").read_text())["test"]["checkpoint"] == "best.ckpt"
        log = (finished / "runs" / name / "log.txt").read_text()
        assert "epoch 2/2" in log and "results are in" in log
    copy = (finished / "runs" / "rates.toml").read_text()
    assert copy.startswith("# python tools/compare.py ") and copy.endswith((finished / "rates.toml").read_text())


def test_what_is_done_is_not_done_again_and_the_report_is_made(again, tmp_path, reports, monkeypatch, capsys):
    monkeypatch.setattr(compare, "Process", lambda *_, **__: pytest.fail("started"))
    compare.main(again)
    names = ["high-seed1", "high-seed2", "low-seed1", "low-seed2"]
    about = ["--out", str(tmp_path / "runs" / "report"), "--title=Rates", "--question=Which?"]
    assert reports == [[*(str(tmp_path / "runs" / name) for name in names), *about]]
    assert capsys.readouterr().out.count("tested already, validation ") == 4


def test_a_dry_run_tells_how_far_each_run_is_and_writes_nothing(again, tmp_path, capsys):
    runs = tmp_path / "runs"
    (runs / "high-seed1" / "epoch=0.ckpt").replace(runs / "high-seed1" / "last.ckpt")
    (runs / "low-seed1" / "test" / "compared.json").unlink()
    shutil.rmtree(runs / "high-seed2")
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    expected = {"high-seed1": "1 of 2 epochs", "low-seed1": "trained", "high-seed2": "missing", "low-seed2": "tested"}
    assert states(capsys, again) == expected
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    compare.main(again)
    assert set(states(capsys, again).values()) == {"tested"}


def test_a_test_by_hand_with_other_flags_is_not_the_comparisons(again, tmp_path, capsys):
    """It lies at the same place, with other scores, and would stand in the report beside those of the others."""
    run = tmp_path / "runs" / "high-seed1"
    before = (run / "test" / "scores.json").read_bytes()
    Tester.main([*again[1:3], "--ckpt_path", str(run), "--z_scale", "0"])
    assert states(capsys, again)["high-seed1"] == "trained"
    compare.main(again)
    assert (run / "test" / "scores.json").read_bytes() == before


def test_seeds_settings_and_flags_of_the_command_line(finished, rendered, tmp_path, capsys):
    argv = [str(finished / "rates.toml"), "--DR", str(rendered), "--out", str(tmp_path / "runs")]
    assert list(states(capsys, [*argv, "--seeds", "7", "3", "--only", "low"])) == ["low-seed7", "low-seed3"]
    compare.main([*argv, "--seeds", "7", "--only", "low", "--", "--num_epoch", "1", "--cache_dir", str(tmp_path / "cache")])
    assert len(read_metrics(tmp_path / "runs" / "low-seed7" / "metrics.jsonl")) == 1
    assert list((tmp_path / "cache").rglob("train*.npy")) and list((tmp_path / "cache").rglob("test*.npy"))
    assert "--num_epoch 1" in (tmp_path / "runs" / "rates.toml").read_text().splitlines()[0]


def test_scores_that_are_no_numbers_are_told_as_such(again, tmp_path, capsys):
    """They are null in the file, which ended every further try in a traceback."""
    test = tmp_path / "runs" / "low-seed1" / "test"
    scores = json.loads((test / "scores.json").read_text())
    scores["sequences"][-1]["psnr"] = None
    (test / "scores.json").write_text(json.dumps(scores))
    compare.main(again)
    assert "low-seed1: tested already, validation " in (said := capsys.readouterr().out) and ", test - dB" in said


def test_data_without_tests_are_trained_on(dataset, tmp_path, reports, capsys):
    shutil.rmtree(dataset / "test")
    argv = [str(write(tmp_path / "a.toml", {"a": {}}, seeds="[1]")), "--DR", str(dataset), "--out", str(tmp_path / "runs")]
    compare.main(argv)
    said = capsys.readouterr()
    assert "no folder test/" in said.err and "nothing is tested" in said.err and "done in" in said.out
    assert len(reports) == 1 and states(capsys, argv) == {"a-seed1": "trained"}


def test_a_run_that_fails_does_not_end_the_others(rendered, tmp_path, reports, capsys):
    """And the report is of those that were trained, in which half a run's curve would pass for a whole one's."""
    file = write(tmp_path / "a.toml", {"bad": {"frame_H": 30}, "good": {}}, seeds="[1]")
    message, problems = refused_with_list(capsys, compare.main, [file, "--DR", rendered, "--out", tmp_path / "runs"])
    assert "1 of 2 runs failed" in message
    (problem,) = problems
    assert problem.startswith(
        f"bad-seed1: its training failed ({tmp_path / 'runs' / 'bad-seed1' / 'log.txt'}): error: --frame_H, "
    )
    assert "frames of 30 x 64: expected multiples of 8" in problem
    assert shown(reports) == ["good-seed1"]


@pytest.mark.parametrize("changed, told", [
    ({"lr": 0.1}, "expected the settings that it was trained with, got --lr 0.1 (was 0.01)"),
    ({"num_epoch": 1}, "was trained with --num_epoch 2, not 1; expected the same"),
    ({"num_epoch": 4}, "was trained with --num_epoch 2, not 4; expected the same"),
])  # fmt: skip
def test_a_file_that_was_edited_does_not_mix_two_kinds_of_runs(again, tmp_path, reports, capsys, changed, told):
    """A finished run was taken for one of another length, or with other flags than those that the file had by then."""
    file = write(tmp_path / "rates.toml", SETTINGS | {"high": SETTINGS["high"] | changed})
    _, problems = refused_with_list(capsys, compare.main, [file, *again[1:]])
    assert len(problems) == 2 and all(problem.startswith("high-seed") and told in problem for problem in problems)
    assert shown(reports) == ["low-seed1", "low-seed2"]


BAD = {"bad": {"N_dim": -1}, "list": {"lr": [1, 2]}, "own": {"seed": 3}, "../a": {}}


@pytest.mark.parametrize("seeds, more", [("[1]", ["--only", "good"]), ("[]", ["--only", "good", "--seeds", "1"]),
                                         ("[1, 1]", ["--seeds", "1", "--only", "good"])])  # fmt: skip
def test_what_is_wrong_elsewhere_in_the_file_does_not_block_what_was_chosen(rendered, tmp_path, reports, capsys, seeds, more):
    """A dry run took it, and the run itself was refused, after it had made a folder."""
    file = write(
        tmp_path / "a.toml", {"good": {"num_epoch": 1}} | {json.dumps(name): table for name, table in BAD.items()}, seeds=seeds
    )
    argv = [str(file), "--DR", str(rendered), "--out", str(tmp_path / "runs"), *more]
    assert states(capsys, argv) == {"good-seed1": "missing"}
    compare.main(argv)
    assert states(capsys, argv) == {"good-seed1": "tested"}
    assert shown(reports) == ["good-seed1"]


def test_the_report_is_of_what_was_trained_before_too(again, tmp_path, reports):
    """With other settings or seeds than those asked for now."""
    compare.main([*again, "--only", "low", "--seeds", "7"])
    assert shown(reports) == ["high-seed1", "high-seed2", "low-seed1", "low-seed2", "low-seed7"]


def test_a_file_from_an_editor_on_windows(rendered, tmp_path, capsys):
    """It begins with a byte order mark, which amid the copy would be no TOML."""
    file = write(tmp_path / "a.toml", {"a": {"num_epoch": 1}}, seeds="[1]")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    compare.main([str(file), "--DR", str(rendered), "--out", str(tmp_path / "runs")])
    assert states(capsys, [str(tmp_path / "runs" / "a.toml"), "--DR", str(rendered), "--out", str(tmp_path / "runs")]) == {
        "a-seed1": "tested"
    }


def test_a_run_that_another_comparison_is_at_is_left_to_it(finished, again, tmp_path, reports, monkeypatch, capsys):
    """Jobs of a cluster that did a run each were refused, because the whole folder was one comparison's."""
    run = tmp_path / "runs" / "high-seed1"
    shutil.rmtree(run)
    (tmp_path / "runs" / "low-seed1" / "test" / "compared.json").unlink()
    other, naps = compare.locked(run / ".compare.lock"), []

    def nap(_seconds) -> None:
        naps.append(1)
        if len(naps) == 5:  # the other one has done the run
            shutil.copytree(finished / "runs" / run.name, run, dirs_exist_ok=True)
            other.release()

    monkeypatch.setattr(compare, "time", SimpleNamespace(sleep=nap, monotonic=time.monotonic))
    compare.main(again)
    said = capsys.readouterr().out
    assert said.count("high-seed1: another comparison is at it") == 1 and "high-seed1: begins" not in said
    order = ["high-seed1: another", "low-seed1: begins (trained)", "low-seed1: done", "high-seed1: tested already"]
    assert sorted(order, key=said.index) == order
    assert len(shown(reports)) == 4


def test_a_report_comes_after_another_ones_and_leaves_out_what_is_under_way(
    again, finished, tmp_path, reports, monkeypatch, capsys
):
    runs = tmp_path / "runs"
    shutil.rmtree(runs / "low-seed2")
    under_way, reporting = compare.locked(runs / "high-seed1" / ".compare.lock"), compare.locked(runs / ".report.lock")

    def wait(path, *, timeout=0.0):
        if timeout:
            assert timeout == -1 and "does so after it" in capsys.readouterr().out and reports == []
            shutil.copytree(finished / "runs" / "low-seed2", runs / "low-seed2")  # the other one's, which its report may lack
            reporting.release()
        return locked(path, timeout=timeout)

    monkeypatch.setattr(compare, "locked", wait)
    compare.main([*again, "--only", "low", "--seeds", "1"])
    assert shown(reports) == ["high-seed2", "low-seed1", "low-seed2"]
    under_way.release()
    assert locked(runs / ".report.lock") and locked(runs / "high-seed2" / ".compare.lock")  # let go of


@pytest.mark.slow
def test_two_at_once_share_the_work(rendered, tmp_path):
    file = write(tmp_path / "a.toml", seeds="[1]", flags=SIZES | {"num_epoch": 1, "epoch_size": 2})
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), str(file), "--DR", str(rendered), "--out", "runs"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=os.environ | {"OMP_NUM_THREADS": "1"}) for _ in range(2)]  # fmt: skip
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for name in ("high-seed1", "low-seed1"):
        log = (tmp_path / "runs" / name / "log.txt").read_text()
        assert log.count("the run is in") == log.count("results are in") == 1
        assert sum(f"{name}: begins" in out for out, _ in said) == 1
    assert "2 runs in 2 settings" in said[0][0] + said[1][0]


@posix
@pytest.mark.slow
def test_a_comparison_that_is_stopped_goes_on_at_the_very_step(rendered, tmp_path, reports, capsys):
    """As a process, with two runs at a time, amid an epoch that saves after every step: one line, the exit status of the signal,
    and in the end the rows of a comparison that was left alone."""
    file = write(
        tmp_path / "a.toml", {"high": {"lr": 0.01}, "low": {}}, seeds="[1]", flags=SIZES | {"num_epoch": 1, "epoch_size": 16}
    )
    argv = [str(file), "--DR", str(rendered), "--out"]
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), *argv, "cut", "--jobs", "2", "--", "--save_minutes", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    for name in ("high-seed1", "low-seed1"):
        wait_for(tmp_path / "cut" / name / "last.ckpt")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    assert errors.splitlines() == ["stopped by SIGTERM; all is saved in cut, the same command goes on"]
    cut = [str(file), "--DR", str(rendered), "--out", str(tmp_path / "cut")]
    assert "0 of 1 epochs" in states(capsys, cut).values()  # of the other one, if it began much sooner, it may be over
    compare.main(cut)
    compare.main([*argv, str(tmp_path / "whole")])
    for name in ("high-seed1", "low-seed1"):
        rows = [(tmp_path / out / name / "metrics.jsonl").read_bytes() for out in ("cut", "whole")]
        assert rows[0] == rows[1] and len(rows[0].splitlines()) == 1
    assert len(reports) == 2
