"""tools/compare.py: missing work is done, finished work is kept, failures are reported, and a stop loses nothing."""

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
from runtime.files import comparable_name, is_device_name, locked
from runtime.output import LOST_OUTPUT
from tests.helpers.comparisons import SETTINGS, SIZES, InlineProcess, reported_runs, speed_up, states, wait_for, write
from tests.helpers.refusals import refused_with_list
from tests.helpers.runs import posix
from tests.helpers.settings import ROOT
from tools import compare
from tools.comparing import runner
from training.metrics_log import read_metrics


@pytest.fixture(autouse=True)
def reports(monkeypatch) -> list[dict]:
    return speed_up(monkeypatch)


@pytest.fixture(scope="module")
def finished(rendered, tmp_path_factory) -> Path:
    """Return a folder with the file of a comparison, rates.toml, and its runs, runs/. No test may change them."""
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        reports = speed_up(patch)
        compare.main([str(write(folder / "rates.toml")), "--DR", str(rendered), "--out", str(folder / "runs")])
        assert len(reports) == 1
    return folder


@pytest.fixture
def again(finished, rendered, tmp_path) -> list[str]:
    """Return the command line that repeats the comparison in a copy of its runs, which the test may change."""
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


def test_finished_runs_are_not_repeated_and_the_report_is_written(again, tmp_path, reports, monkeypatch, capsys):
    monkeypatch.setattr(runner, "Process", lambda *_, **__: pytest.fail("started"))
    compare.main(again)
    names = ["high-seed1", "high-seed2", "low-seed1", "low-seed2"]
    folders = [tmp_path / "runs" / name for name in names]
    assert reports == [{"runs": folders, "out": tmp_path / "runs" / "report", "title": "Rates", "question": "Which?"}]
    assert capsys.readouterr().out.count("already tested, validation ") == 4


def test_a_dry_run_lists_the_progress_and_writes_nothing(again, tmp_path, capsys):
    runs = tmp_path / "runs"
    (runs / "high-seed1" / "epoch=0.ckpt").replace(runs / "high-seed1" / "last.ckpt")
    (runs / "low-seed1" / "test" / "compared.json").unlink()
    shutil.rmtree(runs / "high-seed2")
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    expected = {"high-seed1": "1 of 2 epochs", "low-seed1": "trained", "high-seed2": "not started", "low-seed2": "tested"}
    assert states(capsys, again) == expected
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    compare.main(again)
    assert set(states(capsys, again).values()) == {"tested"}


def test_a_manual_test_with_other_flags_is_repeated(again, tmp_path, capsys):
    """Its scores are in the same folder, so the report would compare tests with different settings."""
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


def test_non_finite_scores_are_printed_as_missing(again, tmp_path, capsys):
    """They are null in the file. Every later comparison once ended with a traceback."""
    test = tmp_path / "runs" / "low-seed1" / "test"
    scores = json.loads((test / "scores.json").read_text())
    scores["sequences"][-1]["psnr"] = None
    (test / "scores.json").write_text(json.dumps(scores))
    compare.main(again)
    assert "low-seed1: already tested, validation " in (output := capsys.readouterr().out) and ", test - dB" in output


def test_data_without_a_test_split_can_be_compared(dataset, tmp_path, reports, capsys):
    shutil.rmtree(dataset / "test")
    argv = [str(write(tmp_path / "a.toml", {"a": {}}, seeds="[1]")), "--DR", str(dataset), "--out", str(tmp_path / "runs")]
    compare.main(argv)
    output = capsys.readouterr()
    assert "no folder test/" in output.err and "nothing will be tested" in output.err and "done in" in output.out
    assert len(reports) == 1 and states(capsys, argv) == {"a-seed1": "trained"}


def test_a_failed_run_does_not_end_the_others(rendered, tmp_path, reports, capsys):
    """The report includes only finished training runs, because half a curve would look like a whole one."""
    file = write(tmp_path / "a.toml", {"bad": {"frame_H": 30}, "good": {}}, seeds="[1]")
    message, problems = refused_with_list(capsys, compare.main, [file, "--DR", rendered, "--out", tmp_path / "runs"])
    assert "1 of 2 runs failed" in message
    (problem,) = problems
    assert problem.startswith(f"bad-seed1: training failed ({tmp_path / 'runs' / 'bad-seed1' / 'log.txt'}): error: --frame_H, ")
    assert "frames of 30 x 64: expected multiples of 8" in problem
    assert reported_runs(reports) == ["good-seed1"]


@pytest.mark.parametrize("changed, expected", [
    ({"lr": 0.1}, "expected the settings that it was trained with, got --lr 0.1 (was 0.01)"),
    ({"num_epoch": 1}, "expected --num_epoch 2 as in the checkpoint, got 1"),
    ({"num_epoch": 4}, "expected --num_epoch 2 as in the checkpoint, got 4"),
])  # fmt: skip
def test_a_run_with_other_settings_than_the_file_is_refused(again, tmp_path, reports, capsys, changed, expected):
    """A finished run was once accepted although the file had since been changed to another length or other flags."""
    file = write(tmp_path / "rates.toml", SETTINGS | {"high": SETTINGS["high"] | changed})
    _, problems = refused_with_list(capsys, compare.main, [file, *again[1:]])
    assert len(problems) == 2 and all(problem.startswith("high-seed") and expected in problem for problem in problems)
    assert reported_runs(reports) == ["low-seed1", "low-seed2"]


BAD = {"bad": {"N_dim": -1}, "list": {"lr": [1, 2]}, "own": {"seed": 3}, "../a": {}}


@pytest.mark.parametrize("seeds, more", [("[1]", ["--only", "good"]), ("[]", ["--only", "good", "--seeds", "1"]),
                                         ("[1, 1]", ["--seeds", "1", "--only", "good"])])  # fmt: skip
def test_errors_in_other_settings_do_not_block_the_selected_runs(rendered, tmp_path, reports, capsys, seeds, more):
    """A dry run once accepted such a file, but the real run refused it after creating a folder."""
    file = write(
        tmp_path / "a.toml", {"good": {"num_epoch": 1}} | {json.dumps(name): table for name, table in BAD.items()}, seeds=seeds
    )
    argv = [str(file), "--DR", str(rendered), "--out", str(tmp_path / "runs"), *more]
    assert states(capsys, argv) == {"good-seed1": "not started"}
    compare.main(argv)
    assert states(capsys, argv) == {"good-seed1": "tested"}
    assert reported_runs(reports) == ["good-seed1"]


def test_the_report_includes_runs_trained_before(again, tmp_path, reports):
    """They may have other settings or seeds than the current command requests."""
    compare.main([*again, "--only", "low", "--seeds", "7"])
    assert reported_runs(reports) == ["high-seed1", "high-seed2", "low-seed1", "low-seed2", "low-seed7"]


def test_a_file_with_a_byte_order_mark(rendered, tmp_path, capsys):
    """Editors on Windows write one. In the copy it would follow the first line, where it is not valid TOML."""
    file = write(tmp_path / "a.toml", {"a": {"num_epoch": 1}}, seeds="[1]")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    compare.main([str(file), "--DR", str(rendered), "--out", str(tmp_path / "runs")])
    assert states(capsys, [str(tmp_path / "runs" / "a.toml"), "--DR", str(rendered), "--out", str(tmp_path / "runs")]) == {
        "a-seed1": "tested"
    }


def test_a_run_in_use_by_another_comparison_is_left_to_it(finished, again, tmp_path, reports, monkeypatch, capsys):
    """Cluster jobs with one run each were once refused, because one comparison locked the whole folder."""
    run = tmp_path / "runs" / "high-seed1"
    shutil.rmtree(run)
    (tmp_path / "runs" / "low-seed1" / "test" / "compared.json").unlink()
    other, naps = locked(run / ".compare.lock"), []

    def nap(_seconds) -> None:
        naps.append(1)
        if len(naps) == 5:  # the other comparison has finished the run
            shutil.copytree(finished / "runs" / run.name, run, dirs_exist_ok=True)
            other.release()

    monkeypatch.setattr(runner, "time", SimpleNamespace(sleep=nap, monotonic=time.monotonic))
    compare.main(again)
    output = capsys.readouterr().out
    assert output.count("high-seed1: in use by another comparison") == 1 and "high-seed1: started" not in output
    order = ["high-seed1: in use", "low-seed1: started (trained)", "low-seed1: done", "high-seed1: already tested"]
    assert sorted(order, key=output.index) == order
    assert len(reported_runs(reports)) == 4


def test_a_report_waits_for_another_report_and_excludes_runs_in_progress(again, finished, tmp_path, reports, monkeypatch, capsys):
    runs = tmp_path / "runs"
    shutil.rmtree(runs / "low-seed2")
    in_progress, reporting = locked(runs / "high-seed1" / ".compare.lock"), locked(runs / ".report.lock")

    def wait(path, *, timeout=0.0):
        if timeout:
            assert timeout == -1 and "another comparison is writing the report" in capsys.readouterr().out and reports == []
            shutil.copytree(
                finished / "runs" / "low-seed2", runs / "low-seed2"
            )  # of the other comparison, whose report may lack it
            reporting.release()
        return locked(path, timeout=timeout)

    monkeypatch.setattr(runner, "locked", wait)
    compare.main([*again, "--only", "low", "--seeds", "1"])
    assert reported_runs(reports) == ["high-seed2", "low-seed1", "low-seed2"]
    in_progress.release()
    assert locked(runs / ".report.lock") and locked(runs / "high-seed2" / ".compare.lock")  # released


@pytest.mark.slow
def test_two_comparisons_at_once_share_the_work(rendered, tmp_path):
    file = write(tmp_path / "a.toml", seeds="[1]", flags=SIZES | {"num_epoch": 1, "epoch_size": 2})
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), str(file), "--DR", str(rendered), "--out", "runs"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=os.environ | {"OMP_NUM_THREADS": "1"}) for _ in range(2)]  # fmt: skip
    output = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    for name in ("high-seed1", "low-seed1"):
        log = (tmp_path / "runs" / name / "log.txt").read_text()
        assert log.count("the run is in") == log.count("results are in") == 1
        assert sum(f"{name}: started" in out for out, _ in output) == 1
    assert "2 runs in 2 settings" in output[0][0] + output[1][0]


@posix
@pytest.mark.slow
def test_a_stopped_comparison_resumes_at_the_same_step(rendered, tmp_path, reports, capsys):
    """A process with two parallel runs is stopped within an epoch. It prints one line and exits with the status of the signal.

    After resuming, the rows equal those of an uninterrupted comparison.
    """
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
    assert errors.splitlines() == ["stopped by SIGTERM; everything is saved in cut, the same command resumes"]
    cut = [str(file), "--DR", str(rendered), "--out", str(tmp_path / "cut")]
    assert "0 of 1 epoch" in states(capsys, cut).values()  # the other run may be finished if it started much earlier
    compare.main(cut)
    compare.main([*argv, str(tmp_path / "whole")])
    for name in ("high-seed1", "low-seed1"):
        rows = [(tmp_path / out / name / "metrics.jsonl").read_bytes() for out in ("cut", "whole")]
        assert rows[0] == rows[1] and len(rows[0].splitlines()) == 1
    assert len(reports) == 2


@pytest.mark.parametrize("names, only, problem", [
    (["a", "A"], [], "[settings.a]: expected a name of its own, got one that differs from A only in upper and lower case; on Windows and macOS both would be one folder"),
    (["a", "b", "A"], ["--only", "A"], "[settings.A]: expected a name of its own, got one that differs from a only in upper and lower case; on Windows and macOS both would be one folder"),
    (["con.x"], [], "[settings.con.x]: expected a name that a folder can have on Windows, got that of a device"),
    (["LPT1.2", "ok"], [], "[settings.LPT1.2]: expected a name that a folder can have on Windows, got that of a device"),
    (["a b"], [], "[settings.'a b']: expected a name of letters, digits and _ . + -"),
    (["舞"], [], "[settings.'舞']: expected a name of letters, digits and _ . + -"),
])  # fmt: skip
def test_a_name_that_is_no_folder_of_its_own_everywhere_is_refused_with_the_reason(tmp_path, capsys, names, only, problem):
    """[settings.a] and [settings.A] were refused as if their letters were wrong."""
    file = write(tmp_path / "a.toml", {json.dumps(name, ensure_ascii=False): {} for name in names})
    message, problems = refused_with_list(capsys, compare.main, [file, "--DR", tmp_path, "--out", tmp_path / "runs", *only])
    assert message == f"error: {file}: not a valid comparison:" and problems[0] == problem


def test_names_are_compared_as_file_systems_do():
    assert comparable_name("Straße") == comparable_name("STRASSE") and comparable_name("e\u0301.. ") == comparable_name("É")
    assert comparable_name("a-1") != comparable_name("a_1")
    assert [name for name in ("con", "Nul.txt", "aux .b", "COM1", "com¹", "lpt0", "con-seed1", "console", "com10") if is_device_name(name)] == [
        "con", "Nul.txt", "aux .b", "COM1", "com¹"]  # fmt: skip


def test_a_run_whose_log_could_not_be_written_is_complete(rendered, tmp_path, reports, monkeypatch, capsys):
    """Trainer.py and Tester.py end with a status of their own when they lose output, after they have done their work."""

    def exit_status(self) -> int | None:
        return self.code or LOST_OUTPUT

    monkeypatch.setattr(InlineProcess, "exit_status", exit_status)
    argv = [
        str(write(tmp_path / "a.toml", {"a": {"num_epoch": 1}}, seeds="[1]")),
        "--DR",
        str(rendered),
        "--out",
        str(tmp_path / "runs"),
    ]
    compare.main(argv)
    assert capsys.readouterr().out.splitlines()[-1].endswith(" dB (log.txt lacks lines)")
    assert states(capsys, argv) == {"a-seed1": "tested"} and reported_runs(reports) == ["a-seed1"]
