"""Bad flags and data, which Trainer.py refuses with one line and a non-zero status; and its presets."""

import shutil
import sys
import types

import pytest

import Trainer
from tests.helpers.refusals import refused, refused_with_list
from tests.helpers.settings import SMALL
from training.flags import parse_trainer_flags, trainer_parser
from training.metrics_log import read_metrics
from training.presets import MODELS, PRESETS
from training.schedules import teacher_forcing_ratio


@pytest.mark.parametrize("package, flag", [("wandb", "--use_wandb"), ("tensorboard", "--use_tensorboard")])
def test_a_missing_extra_package_is_reported_first(train_args, capsys, monkeypatch, package, flag):
    monkeypatch.setitem(sys.modules, package, None)
    message = refused(capsys, Trainer.main, [*train_args, flag])
    assert f"{flag} needs the package {package}" in message and f"pip install {package}" in message


def test_wandb_without_a_login_is_reported_before_a_run_is_moved(train_args, trained, tmp_path, capsys, monkeypatch):
    shutil.copytree(trained, tmp_path / "run")
    fake = types.SimpleNamespace(run=None, init=lambda **_: (_ for _ in ()).throw(RuntimeError("No API key\nconfigured")))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    assert "--use_wandb: No API key configured" in refused(capsys, Trainer.main, [*train_args, "--overwrite", "--use_wandb"])
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 2 and not list((tmp_path / "run").glob("earlier-*"))


def test_another_frame_size_is_refused_on_resume(train_args, trained, capsys):
    message = refused(capsys, Trainer.main, [*train_args, "--frame_H", "64", "--frame_W", "128", "--ckpt_path", str(trained)])
    assert "--frame_H 64 (was 32), --frame_W 128 (was 64)" in message


WRONG_FLAGS = [
    (["--tfr", "1.5"], "argument --tfr: expected a number of at least 0 and at most 1, got 1.5"),
    (["--tfr_d_step", "-0.1"], "--tfr_d_step"),
    (["--partial", "0"], "--partial"),
    (["--lr", "nan"], "--lr"),
    (["--lr", "fast"], "expected a number above 0, got 'fast'"),
    (
        ["--seed", "-7\n"],
        "expected an integer of at least 0 and at most 18446744073709551615, got -7",
    ),  # int() and float() ignore the end of a line
    (["--nonsense", "a\nb"], "--nonsense: no such flag ("),
    (["a\nb"], "unrecognized arguments: a b"),
    # This once caused an OverflowError in a schedule.
    (["--num_epoch", "9" * 400], "expected an integer of at least 1 and at most 2147483647, got 9999"),
    (["--DR", ""], "--DR/--data_root: expected a path, got ''"),
    (["--save_root", " "], "--save_root/--log_dir: expected a path, got ' '"),  # this once trained in the current folder
    (["--save_root", "\udce9"], "expected a path of Unicode characters, got '\\udce9'"),  # a name that is not valid text
    (["--batch_size", "0"], "--batch_size"),
    (["--kl_anneal_ratio", "2"], "--kl_anneal_ratio"),
    (["--optim", "Lion"], "--optim"),
    (["--nonsense", "1"], "--nonsense"),
    (["--frame_H", "30"], "frames of 30 x 64: expected multiples of 8"),
    (["--frame_W", "8"], "frames of 32 x 8"),
    (["--device", "cuda:7"], "--device cuda:7"),
    (["--test"], "--test: expected --ckpt_path with it"),
    (["--resume", "--overwrite"], "--resume, --overwrite: expected one of them, got both"),
    (["--minutes", "0"], "argument --minutes: expected a number above 0, got 0"),
    (["--minutes", "5"], "--minutes, --epoch_size: expected one of them, got both"),  # SMALL sets --epoch_size
    (["--minutes", "5", "--test", "--ckpt_path", "nowhere"], "--minutes: expected without --test"),
    (["--ckpt_path", "nowhere"], "nowhere: no such file"),
    (["--train_vi_len", "21"], "got at most 20"),
]


@pytest.mark.parametrize("flags, expected", WRONG_FLAGS, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_flags_end_in_one_line(train_args, capsys, flags, expected):
    assert expected in refused(capsys, Trainer.main, [*train_args, *flags])


DAMAGES = {
    "missing folder": "no such folder",
    "empty folder": "no folder val/",
    "frames without labels": "no such folder",
    "labels without frames": "holds no images",
}
DAMAGED_FRAMES = {
    "one label missing": "train_label: no pose image for frame000007.png",
    "truncated PNG": "frame000003.png: cannot be read as an image",
    "not an image": "frame000003.png: cannot be read as an image",
}


@pytest.mark.parametrize("damage", DAMAGES | DAMAGED_FRAMES)
def test_wrong_data_end_in_one_line_that_names_the_place(dataset, tmp_path, capsys, damage):
    frames, labels = sorted((dataset / "train" / "train_img").iterdir()), sorted((dataset / "train" / "train_label").iterdir())
    if damage in ("missing folder", "empty folder"):
        shutil.rmtree(dataset)
        if damage == "empty folder":
            dataset.mkdir()
    elif damage == "frames without labels":
        shutil.rmtree(dataset / "train" / "train_label")
    elif damage == "labels without frames":
        for frame in frames:
            frame.unlink()
    elif damage == "one label missing":
        labels[7].unlink()
    elif damage == "truncated PNG":
        frames[3].write_bytes(frames[3].read_bytes()[:3000])
    else:
        frames[3].write_text("not an image")
    argv = ["--DR", dataset, "--save_root", tmp_path / "run", *SMALL]
    if damage in DAMAGES:
        message = refused(capsys, Trainer.main, argv)
        assert DAMAGES[damage] in message and str(dataset) in message
    else:
        message, (problem,) = refused_with_list(capsys, Trainer.main, argv)
        assert f"{dataset / 'train'}: 1 of 40 frames cannot be used" in message and DAMAGED_FRAMES[damage] in problem
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock"}


def test_a_checkpoint_of_another_model_is_refused_with_the_differences(train_args, trained, capsys):
    message = refused(capsys, Trainer.main, [*train_args, "--F_dim", "32", "--ckpt_path", str(trained)])
    assert "expected the settings that it was trained with, got --F_dim 32 (was 16)" in message
    assert "--optim SGD (was AdamW)" in refused(
        capsys, Trainer.main, [*train_args, "--optim", "SGD", "--ckpt_path", str(trained)]
    )


def test_a_save_root_that_cannot_be_written_is_refused_first(train_args, tmp_path, capsys):
    (tmp_path / "run").write_text("a file is in the way")
    assert "--save_root" in refused(capsys, Trainer.main, [*train_args, "--DR", "nowhere"])


@pytest.mark.parametrize("named", ["the data set", "its parent folder"])
def test_a_run_in_the_folder_of_its_data_set_is_refused(train_args, dataset, capsys, named):
    """The run would share its folder test/ with the data set, and --overwrite would move the training frames away."""
    (dataset / "last.ckpt").touch()
    data = dataset if named == "the data set" else dataset.parent
    argv = [*train_args, "--DR", str(data), "--save_root", str(dataset), "--overwrite"]
    assert f"--save_root {dataset}: expected a folder of its own, got the data set of --DR" in refused(capsys, Trainer.main, argv)
    assert (dataset / "train" / "train_img").is_dir()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("preset", PRESETS)
def test_help_lists_every_flag_with_its_default(capsys, model, preset):
    with pytest.raises(SystemExit) as stop:
        Trainer.main(["--model", model, "--preset", preset, "--help", "all"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    for action in trainer_parser(model, preset)._actions:
        assert action.help and f"{action.option_strings[-1]}" in text
    assert f"(default: {PRESETS[preset][model]['lr']})" in text and "None)" not in text
    assert set(PRESETS[preset][model]) <= {action.dest for action in trainer_parser(model, preset)._actions}


@pytest.mark.parametrize("preset, epochs", [("course", 70), ("quick", PRESETS["quick"]["pose_cvae"]["num_epoch"])])
def test_a_preset_sets_defaults_and_a_flag_wins_over_it(preset, epochs):
    args, given = parse_trainer_flags(["--DR", ".", "--save_root", ".", "--lr", "0.5", "--preset", preset])
    assert (args.num_epoch, args.lr) == (epochs, 0.5) and given["preset"] == preset and "num_epoch" not in given


def test_the_course_preset_has_the_defaults_of_the_exercise():
    """The flags and defaults are those of the course's handout."""
    args, _ = parse_trainer_flags(["--DR", ".", "--save_root", ".", "--preset", "course"])
    course = {"batch_size": 2, "lr": 0.001, "optim": "Adam", "num_epoch": 70, "train_vi_len": 16, "val_vi_len": 630, "frame_H": 32,
              "frame_W": 64, "F_dim": 128, "L_dim": 32, "N_dim": 12, "D_out_dim": 192, "tfr": 1.0, "tfr_sde": 10, "tfr_d_step": 0.1,
              "kl_anneal_type": "Cyclical", "kl_anneal_cycle": 10, "kl_anneal_ratio": 1}  # fmt: skip
    assert {name: getattr(args, name) for name in course} == course


@pytest.mark.parametrize("epochs", [1, 2, 20, 60, 333])
def test_teacher_forcing_adapts_to_the_length_of_the_run(epochs):
    """The first half of a run is teacher-forced, and the last fifth is autoregressive. A short run once ended before any decay."""
    args, _ = parse_trainer_flags(["--DR", ".", "--save_root", ".", "--num_epoch", str(epochs)])
    ratios = [teacher_forcing_ratio(epoch, start=args.tfr, decay_start=args.tfr_sde, step=args.tfr_d_step, floor=args.tfr_floor,
                                    interval=args.tfr_interval) for epoch in range(epochs)]  # fmt: skip
    assert all(ratio == 1 for ratio in ratios[: epochs // 2]) and all(ratio < 1 for ratio in ratios[epochs // 2 :])
    if epochs > 2:
        assert ratios.count(0) == pytest.approx(epochs / 5, abs=2)
