"""Tester.py on dance data, as a user runs it."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import Tester
from data.dance_sequences import load_test_sequences
from data.truth_csv import read_frames
from evaluation import scores as evaluation_scores
from evaluation.submission import write_submission
from tests.helpers.refusals import refused
from tests.helpers.settings import ROOT
from training.checkpoints import load_checkpoint
from training.run_folder import RunFolder


def run(dataset, trained, folder, *more: str) -> None:
    Tester.main(["--DR", str(dataset), "--ckpt_path", str(trained), "--save_root", str(folder), "--device", "cpu", *more])


def scores(folder) -> list[dict]:
    with open(folder / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_test_writes_all_its_results(rendered, trained, tmp_path, capsys):
    run(rendered, trained, tmp_path, "--strip_every", "3")
    expected = {f"{kind}_seq{i}.{suffix}" for i in (0, 1) for kind, suffix in
                [("pred", "gif"), ("compare", "gif"), ("strip", "png"), ("psnr", "png")]}  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == expected | {"submission.csv", "scores.csv", "scores.json", "psnr.png"}
    lines = (tmp_path / "submission.csv").read_text().splitlines()
    assert lines[0].split(",")[:2] == ["id", "0"] and lines[0].endswith(",6143") and len(lines) == 1 + 2 * 9
    assert [line.split(",")[0] for line in lines[1:]] == [str(i) for i in range(18)]
    assert Image.open(tmp_path / "pred_seq0.gif").size == (64, 32)
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("grader PSNR (frames 1 to 600): overall "))
    assert "public" in line and "private" not in line and "nan" not in line  # there are two sequences


def test_the_context_frame_is_the_first_row(rendered, trained, tmp_path):
    run(rendered, trained, tmp_path)
    first = load_test_sequences(rendered, height=32, width=64)[1].context_frames[0]
    assert np.array_equal(read_frames(tmp_path / "submission.csv")[9], first.numpy().flatten())


def test_scores_are_the_psnr_of_the_written_frames(rendered, trained, tmp_path):
    """Frames 1 to 8 of 9 are scored. The bytes of the submission are the rounded rollout."""
    run(rendered, trained, tmp_path)
    rows = read_frames(tmp_path / "submission.csv").astype(float)
    for i, sequence in enumerate(load_test_sequences(rendered, height=32, width=64)):
        error = rows[9 * i + 1 : 9 * i + 9] - sequence.ground_truth[1:].flatten(1).numpy()
        expected = (-10 * np.log10((error**2).mean(1) / 255**2)).mean()
        found = scores(tmp_path)[i]
        assert float(found["psnr"]) == pytest.approx(expected, abs=0.02) and found["frames"] == "8"
    saved = json.loads((tmp_path / "scores.json").read_text())
    assert len(saved["per_frame"]["0"]["psnr"]) == 8 and saved["course"]["private"] is None
    assert saved["test"] == {
        "checkpoint": "best.ckpt",
        "epoch": 2,
        "split": "test",
        "seed": 1,
        "z_scale": 1.0,
        "samples": 1,
        "fps": 20.0,
    }


def test_a_partial_test_does_not_replace_the_full_one(rendered, trained, tmp_path):
    run_folder = shutil.copytree(trained, tmp_path / "run")
    argv = ["--DR", str(rendered), "--ckpt_path", str(run_folder), "--device", "cpu"]
    Tester.main(argv)
    before = (run_folder / "test" / "scores.json").read_bytes()
    Tester.main([*argv, "--only", "1"])
    Tester.main([*argv, "--shuffle_conditions"])
    assert (run_folder / "test" / "scores.json").read_bytes() == before and (run_folder / "test" / "submission.csv").is_file()
    assert all((run_folder / name / "scores.json").is_file() for name in ("test_only", "test_shuffled"))


def test_results_are_in_the_run_by_default_and_move_with_it(rendered, trained, tmp_path, monkeypatch):
    """The report looks for them there, and --overwrite moves those of every split together with the run.

    The folder train/ once stayed behind, and the report then showed it as a result of the new run.
    """
    run_folder = shutil.copytree(trained, tmp_path / "run")
    monkeypatch.setattr(Tester, "write_visualizations", lambda *_, **__: None)
    monkeypatch.setattr(Tester, "run_tests", lambda *_, **__: [])
    monkeypatch.setitem(Tester.TASKS, "pose_cvae", Tester.TASKS["pose_cvae"]._replace(
        sequences=lambda *_: load_test_sequences(rendered, height=32, width=64), write_submission=lambda *_: {}))  # fmt: skip
    argv = ["--DR", str(rendered), "--ckpt_path", str(run_folder / "last.ckpt"), "--device", "cpu"]
    for split in ("test", "train", "val", "validate", "Demo/extra"):
        for more in ([], ["--only", "0"], ["--shuffle_conditions"]):
            Tester.main([*argv, "--split", split, *more])
    (run_folder / "train" / "scores.json").unlink()  # as after an interrupted test
    results = {path.name for path in run_folder.iterdir() if path.is_dir()}
    assert len(results) == 15 and {"test", "train", "val_only", "Demo-extra_shuffled"} < results
    assert RunFolder(run_folder, use_wandb=False, use_tensorboard=False).move_earlier_run_aside() == run_folder / "earlier-1"
    assert [path.name for path in run_folder.iterdir() if path.is_dir()] == ["earlier-1"]
    assert results == {path.name for path in (run_folder / "earlier-1").iterdir() if path.is_dir()}


def test_a_run_folder_is_tested_with_the_ema_weights_of_its_best_checkpoint(rendered, trained, tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(
        evaluation_scores, "rollout_sequences", lambda model, *_, **__: used.append(model) or [torch.zeros(9, 3, 32, 64)] * 2
    )
    run(rendered, trained, tmp_path)
    state = load_checkpoint(trained / "best.ckpt")
    assert all(torch.equal(value, state["ema"][name]) for name, value in used[0].state_dict().items())


@pytest.mark.slow
def test_the_seed_and_z_scale_determine_the_result(rendered, trained, tmp_path):
    def submission(*flags) -> bytes:
        run(rendered, trained, tmp_path, *flags)
        return (tmp_path / "submission.csv").read_bytes()

    drawn = submission("--seed", "3", "--z_scale", "40")
    assert submission("--seed", "3", "--z_scale", "40") == drawn != submission("--seed", "4", "--z_scale", "40")
    assert submission("--seed", "3", "--z_scale", "0") == submission("--seed", "4", "--z_scale", "0")


@pytest.mark.parametrize("where", ["--gt", "Demo_Test"])
def test_ground_truth_in_csv_files_gives_the_same_scores(dataset, trained, tmp_path, where):
    run(dataset, trained, tmp_path / "folders")
    truth = [sequence.ground_truth.numpy() for sequence in load_test_sequences(dataset, height=32, width=64)]
    shutil.rmtree(dataset / "test" / "test_gt")
    more = []
    if where == "--gt":
        write_submission(tmp_path / "gt.csv", truth)
        more = ["--gt", str(tmp_path / "gt.csv")]
    else:
        (dataset / "Demo_Test").mkdir()
        for i, video in enumerate(truth):
            write_submission(dataset / "Demo_Test" / f"GT{i}.csv", [video])
    run(dataset, trained, tmp_path / "csv", *more)
    assert scores(tmp_path / "csv") == scores(tmp_path / "folders")


def test_without_ground_truth_everything_but_the_scores_is_written(dataset, trained, tmp_path, capsys):
    shutil.rmtree(dataset / "test" / "test_gt")
    shutil.rmtree(dataset / "train")
    run(dataset, trained, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"submission.csv", "pred_seq1.gif", "compare_seq1.gif"} <= names and "scores.csv" not in names
    assert "no scores: there is no ground truth" in capsys.readouterr().out


def test_both_scripts_run_from_another_folder(rendered, trained, tmp_path):
    command = [sys.executable, str(ROOT / "Tester.py"), "--DR", str(rendered), "--ckpt_path", str(trained), "--save_root", "out"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "out" / "submission.csv").is_file()
    subprocess.run([sys.executable, str(ROOT / "Trainer.py"), "--help"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("wrong, expected", [
    ("checkpoint missing", "no such file"), ("no checkpoint", "cannot be read as a checkpoint"), ("no test", "no folder test/"), ("no poses", "no sequences"),
    ("gt missing", "--gt"), ("gt too short", "expected 18 frames"), ("save_root", "--save_root"), ("fps", "--fps"),
])  # fmt: skip
def test_wrong_input_ends_in_one_line(dataset, trained, tmp_path, capsys, wrong, expected):
    checkpoint, more = trained, []
    if wrong == "checkpoint missing":
        checkpoint = tmp_path / "nowhere.ckpt"
    elif wrong == "no checkpoint":
        checkpoint = tmp_path / "text.ckpt"
        checkpoint.write_text("text")
    elif wrong == "no test":
        shutil.rmtree(dataset / "test")
    elif wrong == "no poses":
        shutil.rmtree(dataset / "test" / "test_label")
    elif wrong == "gt missing":
        more = ["--gt", str(tmp_path / "gt.csv")]
    elif wrong == "gt too short":
        write_submission(tmp_path / "gt.csv", [np.zeros((5, 3, 32, 64), np.uint8)])
        more = ["--gt", str(tmp_path / "gt.csv")]
    elif wrong == "save_root":
        (tmp_path / "out").write_text("in the way")
    elif wrong == "fps":
        more = ["--fps", "0"]
    assert expected in refused(
        capsys, Tester.main, ["--DR", dataset, "--ckpt_path", checkpoint, "--save_root", tmp_path / "out", *more]
    )
