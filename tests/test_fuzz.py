"""Random command lines: each one runs, or is refused with one line and leaves no files behind."""

import argparse
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import Tester
import Trainer
from runtime.distributed import Ranks
from tests.helpers.fuzzing import cases, names, refused_in_one_line
from tests.helpers.settings import SMALL, SMALL_SVG
from tools import convert_bair, make_demo_data, plot_curves
from tools.write_flags_page import parser_of
from training.flags import parse_trainer_flags, trainer_parser
from training.presets import MODELS, PRESETS
from training.resume import StartPoint
from utils import UserError

NUMBERS = ["0", "1", "2", "3", "8", "32", "64", "100", "0.5", "1.0", "1e-9", "0.999999", "-1", "-0", "-0.0", "nan", "inf", "-inf", "1e400", "1e308",
           "5e-324", "1" * 400, "9" * 5000, "18446744073709551616", " 7 ", "7\n", "-7\n", "1_0", "٣", "²", "0x10", "1,5", "true", ""]  # fmt: skip
WORDS = ["auto", "none", "cpu", "cuda", "cuda:7", "cpu:3", "meta", "None", "Adam", "adam", "last", "run", "run/last.ckpt", "a file", "nowhere",
         "--", "-x", "%s", "{0}", "a\nb", "n" * 300]  # fmt: skip
TEXTS = st.sampled_from(NUMBERS) | st.sampled_from(WORDS) | names(max_size=8)
FOLDERS = st.sampled_from(["new", "new/inside", "a file", "run", "n" * 300, "\udc80"]) | names(min_size=1, max_size=8)


@st.composite
def command_lines(
    draw, parser: argparse.ArgumentParser, *, required: dict, never: tuple[str, ...] = (), most: int = 6
) -> list[str]:
    """Draw flags of a parser in any order, with valid and invalid values, sometimes with a misspelled name.

    The values of the `required` flags come from their own strategies.
    """
    actions = [action for action in parser._actions if action.option_strings and action.dest not in (*required, *never)]
    pairs = []
    for action in draw(st.lists(st.sampled_from(actions), max_size=most)):
        name = draw(st.sampled_from(action.option_strings))
        if draw(st.integers(0, 19)) == 0:
            name = draw(st.sampled_from([name[:-1], name + "s", name.upper(), name.replace("_", "-"), "-" + name[2:]]))
        valid = st.sampled_from([str(choice) for choice in action.choices]) if action.choices else st.sampled_from(NUMBERS[:8])
        few = 0 if action.nargs == 0 else 1
        values = draw(st.lists(valid | valid | TEXTS, min_size=few, max_size=few)) if draw(st.integers(0, 19)) else [draw(TEXTS)]
        pairs.append([f"{name}={values[0]}"] if values and draw(st.booleans()) else [name, *values])
    for name, strategy in required.items():
        if draw(st.integers(0, 29)):
            pairs.append([f"--{name}={draw(strategy)}"])
    return [part for pair in draw(st.permutations(pairs)) for part in pair]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Make a folder the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asks_to_print(text: str) -> bool:
    """Return whether a program with this flag only prints."""
    return text.split("=")[0] in ("-h", "--help", "--print_config")


def assert_rule(folder: Path, main, argv: list[str], *, runs: bool = False) -> None:
    """Assert the rule of all programs in a folder with a file and an invalid run, but no data set.

    Without data, only programs with `runs` may succeed.
    """
    place = folder / "two"
    shutil.rmtree(place, ignore_errors=True)
    (place / "run").mkdir(parents=True)
    (place / "a file").write_text("in the way")
    (place / "run" / "last.ckpt").write_text("no checkpoint")
    os.chdir(place)
    assert refused_in_one_line(main, argv, folder) or runs or any(asks_to_print(text) for text in argv)


def test_random_flags_of_the_trainer(here):
    """There is no data, so nothing is trained."""

    @cases(200)
    @given(st.data())
    def check(data):
        model, preset = data.draw(st.sampled_from(MODELS)), data.draw(st.sampled_from(list(PRESETS)))
        required = {"DR": FOLDERS, "save_root": FOLDERS, "model": st.just(model), "preset": st.just(preset)}
        argv = data.draw(command_lines(trainer_parser(model, preset), required=required))
        assert_rule(here, Trainer.main, argv)

    check()


@pytest.mark.parametrize("main, parser, required, count", [
    (Tester.main, Tester.tester_parser, ["DR", "save_root", "ckpt_path"], 80), (plot_curves.main, None, ["out"], 40), (convert_bair.main, None, ["src", "out"], 60),
], ids=["Tester", "plots", "convert_bair"])  # fmt: skip
def test_random_flags_of_the_other_programs(here, main, parser, required, count):
    """There are no checkpoints, runs or TFRecords."""
    parser = parser() if parser else parser_of(main)

    @cases(count)
    @given(st.data())
    def check(data):
        argv = data.draw(command_lines(parser, required=dict.fromkeys(required, FOLDERS)))
        argv += data.draw(st.lists(FOLDERS, max_size=2)) if main is plot_curves.main else []
        assert_rule(here, main, argv)

    check()


def test_random_flags_of_the_demo_data(here):
    """The data sets are small; their sizes may be invalid."""

    @cases(25)
    @given(st.data())
    def check(data):
        scene = data.draw(st.sampled_from([["--sequences=1"], ["--scene=robot", "--frames=2"], []]))
        argv = ["--train=2", "--val=2", "--test=2", *scene]
        flags = st.sampled_from(["train", "val", "test", "sequences", "frames", "seed", "scene"])
        for name in data.draw(st.lists(flags, max_size=3)):
            argv.append(f"--{name}={data.draw(st.sampled_from(['0', '1', '2', '3', 'nan', '-1', '²', '1_0', 'dance']))}")
        argv.append(f"--out={data.draw(FOLDERS)}")
        assert_rule(here, make_demo_data.main, argv, runs=True)
        assert not list(here.rglob(".*.part"))

    check()


SIZES = {"F_dim": [4, 5, 9, 16], "L_dim": [4, 7, 8], "N_dim": [0, 1, 3], "D_out_dim": [8, 16, 24], "train_vi_len": [2, 5, 20, 21], "frame_H": [8, 16, 24, 30],
         "frame_W": [16, 40, 64], "val_vi_len": [2, 3, 12, 5000], "pose_window": [1, 3, 9], "recompute": [0, 1, 50], "reference": ["clip", "video"],
         "flip": [0, 1]}  # fmt: skip
ROBOT_SIZES = {"n_past": [1, 2, 3, 10], "n_future": [1, 3, 9, 10], "n_eval": [2, 5, 11, 12], "windows": [1, 50], "cond_shift": [0, 1], "g_dim": [1, 3, 8],
               "z_dim": [1, 2], "rnn_size": [1, 16], "predictor_rnn_layers": [1, 2], "posterior_rnn_layers": [1, 2], "norm": ["group", "batch"],
               "compose": ["none", "last"], "width": [1, 3, 4], "frame_H": [32], "frame_W": [32, 64]}  # fmt: skip
COMMON = {"epoch_size": [0, 1, 2], "batch_size": [1, 2, 3, 100000, 2**31 - 1], "accumulate": [1, 3, 1000], "partial": ["1e-9", 0.5, 1],
          "fast_partial": ["1e-9", 1], "shift": [0, 1, 100, 2**31 - 1], "seed": [0, 2**64 - 1], "lr": ["1e-300", 0.01, "1e300"], "ema": [0, 1],
          "optim": ["Adam", "AdamW", "SGD", "RMSprop"], "beta1": [0, 0.99], "beta2": [0, 0.99], "weight_decay": [0, "1e300"], "grad_clip": ["1e-300", "1e300"],
          "feedback_noise": [0, "1e-300", "1e300"], "kl_weight": [0, "1e300"], "lr_warmup": [0, "1e-300", "1e300"], "tfr_interval": [1, 2**31 - 1],
          "num_epoch": [1, 2**31 - 1], "kl_anneal_ratio": ["1e-300"], "kl_anneal_cycle": [2**31 - 1], "tfr": [0, 1]}  # fmt: skip


@pytest.mark.parametrize("model, count", [("pose_cvae", 30), ("svg_fp", 15), ("svg_lp", 15)])
def test_unusual_combinations_of_flags(rendered, rendered_robot, tmp_path, model, count):
    """With flags that the parser accepts, a Trainer takes a step and validates, or refuses them when it is constructed."""
    small, root = (SMALL, rendered) if model == "pose_cvae" else (["--model", model, *SMALL_SVG], rendered_robot)
    known = COMMON | (SIZES if model == "pose_cvae" else ROBOT_SIZES)

    @cases(count)
    @given(st.data())
    def check(data):
        argv = ["--DR", str(root), "--save_root", str(tmp_path / "run"), "--cache_dir", str(tmp_path / "cache"), *small]
        argv += ["--frame_H", "32", "--frame_W", "32"] if model != "pose_cvae" else []
        argv += data.draw(
            st.sampled_from([[], ["--fast_train"], ["--last_frame_skip"] if model != "pose_cvae" else ["--skip_bad"]])
        )
        for name in data.draw(st.lists(st.sampled_from(sorted(known)), max_size=8, unique=True)):
            argv.append(f"--{name}={data.draw(st.sampled_from(known[name]))}")
        args, _ = parsed(argv)
        if args is None:
            return
        try:
            trainer = Trainer.Trainer(args, StartPoint(), Ranks())
        except UserError as error:
            assert "--" in str(error) or str(root) in str(error)
            return
        if args.batch_size < 10:
            position, batch = next(iter(trainer.loader))
            trainer.learner.set_lr(trainer.schedules.lr_at(0.5))
            trainer.train_step(batch, position, teacher_forced=True, beta=1.0)
            trainer.validation = trainer.validation[:1]
            trainer.validate()

    check()
    assert not (tmp_path / "run").exists()


def parsed(argv: list[str]):
    """Return the result of parse_trainer_flags(); None for both parts if it refuses."""
    try:
        return parse_trainer_flags(argv)
    except SystemExit:
        return None, None
