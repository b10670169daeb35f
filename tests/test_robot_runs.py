"""Trainer.py and Tester.py on robot data, as a user runs them."""

import csv
import json
import shutil

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

import Tester
import Trainer
from data.robot import RobotSplit, fixed_windows
from evaluation.image_metrics import psnr
from tasks import TASKS
from tests.helpers.refusals import refused
from tests.helpers.settings import ROOT, SMALL_SVG
from training.checkpoints import load_checkpoint
from training.metrics_log import read_metrics
from visualization.videos import GAP, ZOOM

REAL = ROOT.parent / "shared" / "data"


def train(data, folder, *more, model: str = "svg_lp") -> None:
    Trainer.main(["--model", model, "--DR", str(data), "--save_root", str(folder), *SMALL_SVG, *map(str, more)])


def run_tester(data, checkpoint, folder, *more) -> list[dict]:
    """Test a checkpoint and return the rows of scores.csv."""
    Tester.main(
        ["--DR", str(data), "--ckpt_path", str(checkpoint), "--save_root", str(folder), "--device", "cpu", *map(str, more)]
    )
    with open(folder / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("model", ["svg_fp", "svg_lp"])
@pytest.mark.parametrize("annealing", [["--kl_anneal_cyclical"], ["--kl_anneal_type", "Monotonic"], ["--kl_anneal_type", "None"]])
def test_both_priors_train_with_every_annealing_type(rendered_robot, tmp_path, model, annealing):
    train(rendered_robot, tmp_path / "run", *annealing, "--lr", "0.02", model=model)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert len(rows) == 2 and all(np.isfinite([row["loss"], row["kl"], row["val_psnr"]]).all() for row in rows)
    assert len(rows[0]["val_psnr_per_frame"]) == 3
    config = load_checkpoint(tmp_path / "run" / "last.ckpt")["model_config"]
    assert config["learned_prior"] == (model == "svg_lp") and len(config["condition_mean"]) == 7


def test_the_validation_score_is_the_mean_over_all_fixed_windows(rendered_robot, trained_robot):
    """Three sequences of 11 frames have two windows of 5 frames each. SVG's published code scored only the last batch."""
    row = read_metrics(trained_robot / "metrics.jsonl")[-1]
    split = RobotSplit.load(rendered_robot, "validate", height=64, width=64, shortest=5)
    windows = fixed_windows(split, context=2, length=5, most=None)
    assert len(windows) == 6
    copies = [psnr((w.ground_truth[1] / 255).expand(3, -1, -1, -1), w.ground_truth[2:] / 255) for w in windows]
    assert row["val_copy"] == pytest.approx(torch.cat(copies).mean().item(), abs=1e-4)
    assert np.mean(row["val_psnr_per_frame"]) == pytest.approx(row["val_psnr"], abs=0.01)


def test_a_run_learns(rendered_robot, tmp_path):
    train(
        rendered_robot, tmp_path / "run", "--niter", 8, "--epoch_size", 8, "--val_every", 8, "--kl_weight", "1e-5", "--ema", "0.5"
    )
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["mse"] < 0.6 * rows[0]["mse"]


def test_a_resumed_run_equals_an_uninterrupted_one(rendered_robot, tmp_path):
    flags = ["--niter", 3, "--per_save", 1, "--tfr_decay_step", 0.4, "--feedback_noise", 0.05]
    train(rendered_robot, tmp_path / "whole", *flags)
    train(rendered_robot, tmp_path / "cut", *flags, "--ckpt_path", tmp_path / "whole" / "epoch=0.ckpt")
    whole, cut = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "cut"))
    assert whole["step"] == cut["step"] == 6
    for part in ("model", "ema"):
        assert all(torch.equal(value, cut[part][name]) for name, value in whole[part].items())


def test_the_command_of_the_course_runs_unchanged(rendered_robot, tmp_path):
    """The command has every flag of Lab 5 by its name in the course."""
    Trainer.main(["--model", "svg_fp", "--data_root", str(rendered_robot), "--log_dir", str(tmp_path / "logs"), "--lr", "0.002", "--beta1", "0.9",
                  "--batch_size", "2", "--optimizer", "adam", "--niter", "1", "--epoch_size", "1", "--tfr", "1.0", "--tfr_start_decay_epoch", "0",
                  "--tfr_decay_step", "0.1", "--tfr_lower_bound", "0.2", "--kl_anneal_cyclical", "--kl_anneal_ratio", "0.5", "--kl_anneal_cycle",
                  "3", "--seed", "1", "--n_past", "2", "--n_future", "3", "--n_eval", "7", "--rnn_size", "8", "--posterior_rnn_layers", "1",
                  "--predictor_rnn_layers", "2", "--z_dim", "2", "--g_dim", "8", "--beta", "0.0001", "--last_frame_skip", "--num_workers", "0",
                  "--width", "4"])  # fmt: skip
    state = load_checkpoint(tmp_path / "logs" / "last.ckpt")
    flags = state["flags"]
    assert (flags["num_epoch"], flags["tfr_floor"], flags["kl_weight"], flags["optim"]) == (1, 0.2, 1e-4, "Adam")
    assert flags["kl_anneal_type"] == "Cyclical" and state["model_config"]["last_frame_skip"]
    assert (
        len(read_metrics(tmp_path / "logs" / "metrics.jsonl")[0]["val_psnr_per_frame"]) == 5
    )  # 7 frames, 2 of them context frames


def test_only_validating_needs_no_flags_of_the_model(rendered_robot, trained_robot, tmp_path, capsys):
    checkpoint = str(trained_robot / "last.ckpt")
    Trainer.main(
        ["--DR", str(rendered_robot), "--save_root", str(tmp_path), "--ckpt_path", checkpoint, "--test", "--device", "cpu"]
    )
    row = read_metrics(trained_robot / "metrics.jsonl")[-1]
    assert f"val {row['val_psnr']:.2f} dB (by channel {row['val_channel_psnr']:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize("flags, message", [
    (["--F_dim", "8"], "--F_dim: is a flag of --model pose_cvae, not of"), (["--flip", "0.5"], "--flip: is a flag of --model pose_cvae"),
    (["--n_past", "9"], "every sequence is shorter than 12 frames"), (["--n_eval", "2"], "--n_eval 2: expected more frames than the 2"),
    (["--frame_H", "32"], "frames of 32 x 64: expected a square"), (["--frame_H", "48", "--frame_W", "48"], "expected a square of 32, 64, 128"),
    (["--norm", "batch", "--batch_size", "1"], "--norm batch: expected at least two clips in every batch, got one"),
    (["--norm", "batch", "--epoch_size", "3", "--fast_train", "--fast_partial", "0.5"], "--norm batch: expected at least two clips in every batch, got one"),
    (["--norm", "layer"], "--norm"), (["--g_dim", "1"], "argument --g_dim: expected an integer of at least 2, got 1"), (["--DR", "nowhere"], "no such folder"), (["--optimizer", "lion"], "expected one of Adam, AdamW, SGD, RMSprop, got 'lion'"),
])  # fmt: skip
def test_wrong_flags_end_in_one_line(rendered_robot, tmp_path, capsys, flags, message):
    argv = ["--model", "svg_fp", "--DR", rendered_robot, "--save_root", tmp_path, *SMALL_SVG, *flags]
    assert message in refused(capsys, Trainer.main, argv)


def test_a_wrong_size_is_refused_before_anything_is_decoded(rendered_robot, tmp_path, capsys):
    argv = ["--model", "svg_fp", "--DR", rendered_robot, "--save_root", tmp_path, "--cache_dir", tmp_path / "cache", *SMALL_SVG]
    refused(capsys, Trainer.main, [*argv, "--frame_H", "48", "--frame_W", "48"])
    assert not (tmp_path / "cache").exists()


def test_a_run_continued_with_other_data_keeps_the_scale_of_its_conditions(rendered_robot, tmp_path):
    data = shutil.copytree(rendered_robot, tmp_path / "data")
    train(data, tmp_path / "run", "--niter", 1)
    for name in ("actions.csv", "endeffector_positions.csv"):
        path = next(data.rglob(f"train/*/0/{name}"))
        np.savetxt(path, 3 * np.loadtxt(path, delimiter=","), delimiter=",")
    before = load_checkpoint(tmp_path / "run" / "last.ckpt")["model_config"]
    train(data, tmp_path / "more", "--niter", 2, "--ckpt_path", tmp_path / "run")
    after = load_checkpoint(tmp_path / "more" / "last.ckpt")
    assert after["epoch"] == 2 and after["model_config"] == before


def test_a_model_of_another_task_cannot_continue_a_run(rendered, trained_robot, tmp_path, capsys):
    message = refused(capsys, Trainer.main, ["--DR", rendered, "--save_root", tmp_path, "--ckpt_path", trained_robot])
    assert message.endswith("expected the settings that it was trained with, got --model pose_cvae (was svg_lp)")


def test_a_model_with_another_prior_cannot_continue_a_run(rendered_robot, trained_robot, tmp_path, capsys):
    argv = ["--model", "svg_fp", "--DR", rendered_robot, "--save_root", tmp_path, *SMALL_SVG]
    argv += ["--niter", "3", "--ckpt_path", trained_robot]
    assert "got --model svg_fp (was svg_lp)" in refused(capsys, Trainer.main, argv)


def test_the_other_tasks_data_are_recognized(rendered, rendered_robot, trained, trained_robot, tmp_path, capsys):
    """The messages name the flag, instead of a folder or a file that the other task does not have."""
    dance, robot = (
        f"for a {video} use --model {model}, or a checkpoint trained with it"
        for video, model in [("dance", "pose_cvae"), ("robot", "svg_fp")]
    )
    expected = "expected it there or one level below; got"
    run = ["--save_root", tmp_path / "run"]
    message = refused(capsys, Trainer.main, ["--DR", rendered_robot, *run])
    assert message == f"error: --DR {rendered_robot}: no folder val/; {expected} validate/ as in the data of a robot; {robot}"
    message = refused(capsys, Trainer.main, ["--model", "svg_fp", "--DR", rendered, *run])
    assert message == f"error: --DR {rendered}: no folder validate/; {expected} val/ as in the data of a dance; {dance}"
    message = refused(capsys, Tester.main, ["--DR", rendered_robot, "--ckpt_path", trained, *run])
    assert message == f"error: {rendered_robot / 'test'}: expected test_img/ and test_label/, got sequences of a robot; {robot}"
    message = refused(capsys, Tester.main, ["--DR", rendered, "--ckpt_path", trained_robot, *run, "--split", "train"])
    parts = "train_img, train_label of a dance"
    assert message == f"error: {rendered / 'train'}: expected sequences with actions.csv, got {parts}; {dance}"


def test_a_flag_of_the_other_task_is_refused(rendered, trained, rendered_robot, trained_robot, tmp_path, capsys):
    for data, checkpoint, flag in [(rendered, trained, "--windows"), (rendered_robot, trained_robot, "--gt")]:
        message = refused(capsys, Tester.main, ["--DR", data, "--ckpt_path", checkpoint, "--save_root", tmp_path, flag, "1"])
        assert message.startswith(f"error: {flag}: no such flag for the task of {checkpoint}")


def test_a_task_may_share_a_model_and_flags_with_another(rendered_robot, trained_robot, tmp_path, capsys, monkeypatch):
    """Tester took a checkpoint's task from the class of its model, so a third task with SVG was tested as the robot, and refused
    --windows as a flag of another task."""
    state = load_checkpoint(trained_robot / "last.ckpt")
    path = tmp_path / "last.ckpt"
    torch.save(state | {"flags": state["flags"] | {"model": "third"}}, path)
    argv = ["--DR", rendered_robot, "--ckpt_path", path, "--windows", "1", "--show", "1"]
    assert f"{path}: expected a checkpoint of --model pose_cvae or svg_fp or svg_lp, got 'third'" in refused(
        capsys, Tester.main, argv
    )
    splits, robot = [], TASKS["svg_lp"]
    third = robot._replace(sequences=lambda flags, split: splits.append(split) or robot.sequences(flags, split))
    monkeypatch.setitem(TASKS, "third", third)
    Tester.main([*map(str, argv)])
    assert splits == ["test"] and (tmp_path / "test" / "scores.csv").is_file()


def test_a_test_writes_all_its_results(rendered_robot, trained_robot, tmp_path):
    rows = run_tester(rendered_robot, trained_robot, tmp_path, "--show", 1)
    names = ["traj_0_to_1--0-0", "traj_0_to_1--0-5", "traj_0_to_1--1-0", "traj_0_to_1--1-5"]
    assert [row["sequence"] for row in rows] == [*names, "all"] and rows[-1]["frames"] == "12"
    images = {f"compare_seq{names[0]}.gif", f"strip_seq{names[0]}.png", f"psnr_seq{names[0]}.png"}
    assert {path.name for path in tmp_path.iterdir()} == images | {"psnr.png", "scores.csv", "scores.json"}
    # Ground truth next to prediction, and ground truth above prediction for every time step.
    assert iio.imread(tmp_path / f"compare_seq{names[0]}.gif", index=0).shape == (64 * ZOOM, 2 * 64 * ZOOM + GAP, 3)
    strip = np.asarray(Image.open(tmp_path / f"strip_seq{names[0]}.png"))
    assert strip.shape[0] / strip.shape[1] == pytest.approx((2 * 64 + GAP) / (5 * 64 + 4 * GAP))
    saved = json.loads((tmp_path / "scores.json").read_text())
    for value in ("psnr", "channel_psnr", "ssim", "copy"):
        assert len(saved["per_step"][value]) == 3 and np.mean(saved["per_step"][value]) == pytest.approx(
            float(rows[-1][value]), abs=1e-4
        )


def test_with_several_samples_the_best_is_scored_next_to_the_first(rendered_robot, trained_robot, tmp_path):
    rows = run_tester(rendered_robot, trained_robot, tmp_path, "--n_sample", 5, "--show", 1, "--z_scale", 30)
    for row in rows:
        assert row["samples"] == "5" and all(
            float(row[f"best_{name}"]) >= float(row[name]) for name in ("psnr", "channel_psnr", "ssim")
        )
    assert float(rows[-1]["best_psnr"]) > float(rows[-1]["psnr"])
    assert (
        iio.imread(tmp_path / "compare_seqtraj_0_to_1--0-0.gif", index=0).shape[1] == 4 * 64 * ZOOM + 3 * GAP
    )  # ground truth, first, best, worst


@pytest.mark.slow
def test_a_second_test_removes_the_results_of_the_first_and_no_other_files(rendered_robot, trained_robot, tmp_path):
    run_tester(rendered_robot, trained_robot, tmp_path)
    (tmp_path / "psnr_of_my_paper.png").write_bytes(b"mine")
    run_tester(rendered_robot, trained_robot, tmp_path, "--windows", 1, "--show", 1)
    assert [path.name for path in tmp_path.glob("compare*")] == ["compare_seqtraj_0_to_1--0-0.gif"]
    assert (tmp_path / "psnr_of_my_paper.png").exists()


@pytest.mark.slow
def test_longer_rollouts_and_fewer_windows(rendered_robot, trained_robot, tmp_path):
    rows = run_tester(rendered_robot, trained_robot, tmp_path, "--n_eval", 11)
    assert [row["frames"] for row in rows] == ["9", "9", "18"]
    rows = run_tester(rendered_robot, trained_robot, tmp_path, "--windows", 1, "--split", "validate")
    assert [row["sequence"] for row in rows] == [f"traj_0_to_2--{k}-0" for k in range(3)] + ["all"]


def test_only_the_named_sequences_are_rolled_out(rendered_robot, trained_robot, tmp_path, capsys):
    rows = run_tester(rendered_robot, trained_robot, tmp_path, "--only", "traj_0_to_1--1-5", "traj_0_to_1--0-0")
    assert [row["sequence"] for row in rows] == ["traj_0_to_1--1-5", "traj_0_to_1--0-0", "all"]
    argv = ["--DR", rendered_robot, "--ckpt_path", trained_robot, "--save_root", tmp_path, "--only", "7"]
    assert "--only 7: no such sequence; expected one of traj_0_to_1--0-0" in refused(capsys, Tester.main, argv)


def test_the_actions_of_another_sequence_change_the_prediction(rendered_robot, trained_robot, tmp_path):
    flags = {"plain": [], "all": ["--shuffle_conditions"], "actions": ["--shuffle_conditions", 4]}
    scores = [
        run_tester(rendered_robot, trained_robot, tmp_path / name, "--z_scale", 0, *more)[-1] for name, more in flags.items()
    ]
    assert len({score["copy"] for score in scores}) == 1 and len({score["psnr"] for score in scores}) == 3


def test_data_without_positions_do_not_fit_a_model_trained_with_them(rendered_robot, trained_robot, tmp_path, capsys):
    data = shutil.copytree(rendered_robot, tmp_path / "data")
    for path in data.rglob("endeffector_positions.csv"):
        path.unlink()
    argv = ["--DR", data, "--ckpt_path", trained_robot, "--save_root", tmp_path / "out"]
    assert "4 condition values per frame: expected 7, as in training" in refused(capsys, Tester.main, argv)
    argv += ["--test"]
    assert "4 condition values per frame: expected 7, as in training" in refused(capsys, Trainer.main, argv)


@pytest.mark.skipif(not (REAL / "bair_sample").is_dir(), reason="the BAIR sequence is not on this machine")
def test_a_real_bair_sequence_can_be_tested(trained_robot, tmp_path):
    rows = run_tester(
        REAL / "bair_sample", trained_robot, tmp_path, "--n_eval", 12, "--windows", 1, "--cache_dir", tmp_path / "cache"
    )
    assert [row["frames"] for row in rows] == ["10", "10"]
    assert float(rows[0]["copy"]) == pytest.approx(24.02, abs=0.01)


@pytest.mark.skipif(not (REAL / "robot_sim").is_dir(), reason="the simulated episodes are not on this machine")
@pytest.mark.parametrize("split, expected", [("train", 32.1), ("validate", 32.5)])
def test_simulated_episodes_have_the_known_baseline_score(tmp_path, split, expected):
    data = RobotSplit.load(REAL / "robot_sim", split, height=64, width=64, shortest=12, cache_dir=tmp_path)
    windows = fixed_windows(data, context=2, length=12, most=None)
    copies = [psnr((w.ground_truth[1] / 255).expand(10, -1, -1, -1), w.ground_truth[2:] / 255) for w in windows]
    assert torch.cat(copies).mean().item() == pytest.approx(expected, abs=0.05)
