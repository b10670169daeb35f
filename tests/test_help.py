"""--help, --print_config, @FILE, and the suggestions of error messages."""

import argparse
import shlex

import pytest

import Tester
import Trainer
from benchmarks import ablation, curves, overhead, quality, rollouts, scaling, speed, turns
from benchmarks.common import point
from runtime.cli import HelpFormatter, Parser
from tests.helpers.refusals import refused
from tools import compare, convert_bair, make_demo_data, plot_curves, prepare_video, report
from training.flags import MAIN_FLAGS, parse_trainer_flags, trainer_parser
from training.presets import MODELS, PRESETS

TOOLS = [plot_curves, make_demo_data, convert_bair, prepare_video, compare, report]
BENCHMARKS = [ablation, curves, overhead, point, quality, rollouts, scaling, speed, turns]
PROGRAMS = [Trainer, Tester, *TOOLS, *BENCHMARKS]


def printed(capsys, main, *argv: str) -> str:
    """Return the output of main(argv), which must end with status 0."""
    with pytest.raises(SystemExit) as stop:
        main([str(part) for part in argv])
    output = capsys.readouterr()
    assert not stop.value.code and not output.err
    return output.out


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_help_fits_on_a_page_and_begins_with_the_required_flags(capsys, monkeypatch, program):
    monkeypatch.setenv("COLUMNS", "100")
    lines = printed(capsys, program.main, "--help").splitlines()
    assert lines[0].startswith("usage: ") and "[flags]" in lines[0] and len(lines) < 55
    assert max(map(len, lines)) <= 100
    assert printed(capsys, program.main, "-h").splitlines() == lines


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_help_shows_no_empty_default(capsys, program):
    """tools/report.py once printed "(default: )" after a flag whose default is an empty text."""
    everything = ["--help", "all"] if program in (Trainer, Tester) else ["--help"]
    text = " ".join(printed(capsys, program.main, *everything).split())
    assert "(default: )" not in text and "(default: None)" not in text and "(default: [])" not in text


@pytest.mark.parametrize("default", ["", None, []])
def test_an_empty_default_is_not_shown(default):
    parser = Parser("A program.")
    parser.add_argument("--title", default=default, nargs="*", help="a title")
    parser.add_argument("--count", default=0, help="a count")
    text = parser.format_help()
    assert text.count("(default:") == 1 and "a count (default: 0)" in text


@pytest.mark.parametrize("model", MODELS)
def test_a_flag_has_one_default_in_help(model):
    """--tfr_sde once showed the default of another preset next to its own."""
    for preset in PRESETS:
        for action in trainer_parser(model, preset)._actions:
            formatter = HelpFormatter("Trainer.py")
            formatter.add_argument(action)
            assert formatter.format_help().count("default:") <= 1, action.option_strings


@pytest.mark.parametrize("model", MODELS)
def test_trainers_help_shows_the_main_flags_and_how_to_list_the_others(capsys, model):
    short, everything = (printed(capsys, Trainer.main, "--model", model, "--help", *more) for more in ([], ["all"]))
    names = {action.option_strings[0]: action for action in trainer_parser(model, "default")._actions}
    assert printed(capsys, Trainer.main, "--help=all", "--model", model) == everything
    shown = {name for name in names if f"  {name} " in short or f"  {name}," in short}
    assert shown - {"--help"} == {f"--{name}" for name in MAIN_FLAGS if f"--{name}" in names}
    assert all(f"  {name}" in everything for name in names) and len(names) > 60 > 3 * len(shown)
    assert "--DR FOLDER --save_root FOLDER [flags]" in short and f"--model {model} --help all" in short


def examples(parser: Parser) -> list[list[str]]:
    """Return the commands in the examples of --help, except for those that show more help."""
    return [line.split() for line in (parser.epilog or "").splitlines()[1:] if "--help" not in line]


@pytest.mark.parametrize("model", MODELS)
def test_trainers_examples_run_the_chosen_model(model):
    """--model svg_fp --help once showed the dance's examples first."""
    commands = examples(trainer_parser(model, "default"))
    assert len(commands) >= 2
    for python, script, *argv in commands:
        assert (python, script) == ("python", "Trainer.py") and parse_trainer_flags(argv).args.model == model


def test_testers_examples_are_valid_commands():
    commands = examples(Tester.tester_parser())
    assert len(commands) >= 2
    for python, script, *argv in commands:
        assert (python, script) == ("python", "Tester.py") and Tester.tester_parser().parse_args(argv)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("preset", PRESETS)
def test_printed_settings_are_those_of_the_run_and_can_be_used_again(capsys, tmp_path, model, preset):
    flags = ["--model", model, "--preset", preset, "--lr", "0.125", "--num_epoch", "40", "--use_wandb"]
    flags += ["--DR", str(tmp_path / "two words")]
    text = printed(capsys, Trainer.main, *flags, "--print_config")
    (tmp_path / "settings.txt").write_text(text)
    args, given = parse_trainer_flags([*flags, "--save_root", "run"])
    again, _ = parse_trainer_flags([f"@{tmp_path / 'settings.txt'}", "--save_root", "run"])
    assert again == args
    marked = {line.split()[0].lstrip("-") for line in text.splitlines() if line.endswith(" # given")}
    assert marked == {*given} - {"save_root"}
    known = {name for name in vars(args) if f"\n--{name}" in text or f"\n# --{name}: " in text}
    assert known == {*vars(args)} and "# --save_root: not set" in text and "# --resume: not set" in text


def test_printed_settings_include_defaults_that_follow_from_other_flags(capsys):
    """Half of the run is teacher-forced, then the ratio falls to 0 within three tenths. A robot validates n_past + n_future frames."""
    text = printed(capsys, Trainer.main, "--print_config", "--num_epoch", "100")
    assert "\n--tfr_sde 50\n" in text and f"\n--tfr_d_step {1 / 30}\n" in text and "\n--flip 0.0\n" in text
    robot = ["--model", "svg_lp", "--n_past", "5", "--n_future", "12"]
    assert "\n--val_vi_len 17\n" in printed(capsys, Trainer.main, "--print_config", *robot)


def test_printed_settings_with_minutes_can_be_used_again(capsys, tmp_path):
    """--minutes and --epoch_size exclude each other, so only the first may be printed."""
    argv = ["--preset", "quick", "--minutes", "5", "--DR", "data", "--save_root", "run"]
    text = printed(capsys, Trainer.main, *argv, "--print_config")
    assert "\n# --epoch_size: not set\n" in text and "\n--minutes 5.0 " in text
    (tmp_path / "settings.txt").write_text(text)
    assert parse_trainer_flags([f"@{tmp_path / 'settings.txt'}"]).args == parse_trainer_flags(argv).args


def test_a_flag_is_explicit_even_if_it_repeats_the_default():
    args, explicit = parse_trainer_flags(["--DR", ".", "--save_root", "run", "--lr", "0.003", "--kl_anneal_cyclical", "--cuda"])
    assert args.lr == trainer_parser("pose_cvae", "default").get_default("lr")
    assert {*explicit} == {"DR", "save_root", "lr", "kl_anneal_type", "device"}
    assert (explicit["lr"], explicit["kl_anneal_type"], explicit["device"]) == (0.003, "Cyclical", "cuda")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_flag_after_a_file_of_flags_wins(tmp_path, encoding):
    """In Windows PowerShell, > writes UTF-16."""
    (tmp_path / "flags").write_text("--lr 0.5 --tfr 0.25  # half\n--save_root 'my run'\n", encoding=encoding)
    args, given = parse_trainer_flags(["--DR", ".", f"@{tmp_path / 'flags'}", "--lr", "0.1"])
    assert (args.lr, args.tfr, str(args.save_root)) == (0.1, 0.25, "my run") and {*given} == {"DR", "lr", "tfr", "save_root"}


@pytest.mark.parametrize(
    "content", [None, b"--lr '0.1", b"\x80\xfe"], ids=["missing", "unmatched quotation mark", "invalid text"]
)
def test_a_file_of_flags_that_cannot_be_read_is_named(tmp_path, capsys, content):
    path = tmp_path / "flags"
    if content:
        path.write_bytes(content)
    assert f"@{path}: cannot be read (" in refused(capsys, Trainer.main, [f"@{path}"])


@pytest.mark.parametrize("wrong, meant", [
    ("--num_epochs", "--num_epoch"), ("--num-epoch", "--num_epoch"), ("--dr", "--DR"), ("-lr", "--lr"), ("--LR", "--lr"), ("--saveroot", "--save_root"),
    ("--kl_aneal_type", "--kl_anneal_type"), ("--workers", "--num_workers"), ("--hlp", "--help"),
])  # fmt: skip
def test_a_misspelled_flag_gets_a_suggestion(capsys, wrong, meant):
    """With and without a value, with and without the required flags."""
    for argv in ([wrong, "1"], [f"{wrong}=1", "--DR", "data", "--save_root", "run"]):
        message = refused(capsys, Trainer.main, argv)
        assert message.startswith(f"error: {wrong}: no such flag; did you mean {meant}")
        assert message.endswith("(--help all lists all flags)")


def test_a_flag_like_no_other_gets_no_suggestion(capsys):
    assert refused(capsys, Trainer.main, ["--xyzzy"]) == "error: --xyzzy: no such flag (--help all lists all flags)"
    assert "did you mean" not in refused(capsys, Trainer.main, ["--" + "q" * 100_000])


@pytest.mark.parametrize("program, wrong, meant", [
    (Tester, "--n_samples", "--n_sample"), (plot_curves, "--output", "--out"), (make_demo_data, "--scenes", "--scene"), (convert_bair, "--worker", "--workers"),
    (quality, "--seed", "--seeds"),
])  # fmt: skip
def test_every_program_makes_suggestions(capsys, program, wrong, meant):
    assert f"{wrong}: no such flag; did you mean {meant}" in refused(capsys, program.main, [wrong, "1"])


@pytest.mark.parametrize("argv, message", [
    (["--preset", "quik"], "argument --preset: expected one of default, course, quick, got 'quik'; did you mean quick? ("),
    (["--model", "svg"], "expected one of pose_cvae, svg_fp, svg_lp, got 'svg'; did you mean svg_"),
    (["--optim", "adamv"], "expected one of Adam, AdamW, SGD, RMSprop, got 'adamv'; did you mean Adam or AdamW?"),
    (["--kl_anneal_type", "cyclic"], "; did you mean Cyclical?"),
    (["--amp", "int4"], "expected one of auto, none, bfloat16, float16, got 'int4' ("),
])  # fmt: skip
def test_a_misspelled_value_gets_a_suggestion(capsys, argv, message):
    assert message in refused(capsys, Trainer.main, ["--DR", "data", "--save_root", "run", *argv])


@pytest.mark.parametrize("model, flag, owners", [
    ("pose_cvae", "--n_past", "svg_fp and svg_lp"), ("pose_cvae", "--width", "svg_fp and svg_lp"), ("svg_lp", "--train_vi_len", "pose_cvae"),
])  # fmt: skip
def test_a_flag_of_another_model_is_named_as_such(capsys, model, flag, owners):
    message = refused(capsys, Trainer.main, ["--model", model, flag, "2"])
    assert message.startswith(f"error: {flag}: is a flag of --model {owners}, not of --model {model} (")


@pytest.mark.parametrize("model, scene", [("pose_cvae", []), ("svg_fp", ["--scene", "robot"])])
def test_without_data_the_message_names_a_command_that_renders_some(tmp_path, capsys, monkeypatch, model, scene):
    """The command must be valid."""
    monkeypatch.chdir(tmp_path)
    for argv in ([], ["--DR", "nowhere", "--save_root", "run"]):
        message = refused(capsys, Trainer.main, ["--model", model, *argv])
        command = shlex.split(message.split("no data yet? " if not argv else "No data yet? ")[1].split(" renders some")[0])
        assert command[:2] == ["python", "tools/make_demo_data.py"] and command[2:-2] == scene and command[-2] == "--out"
    assert "--DR and --save_root: required" in refused(capsys, Trainer.main, [])
    assert refused(capsys, Trainer.main, ["--DR", "."]) == "error: --save_root: required (--help all lists all flags)"
    assert isinstance(make_demo_data.parse_flags(command[2:])[0], argparse.Namespace)


def test_a_negative_number_and_words_after_a_double_dash_are_not_flags(capsys):
    message = refused(capsys, Trainer.main, ["--DR", ".", "--save_root", ".", "--tfr", "-0.1"])
    assert "expected a number of at least 0 and at most 1, got -0.1" in message
    parser = Parser("A program that passes flags to another one.")
    parser.add_argument("trainer_flags", nargs="*")
    assert parser.parse_args(["--", "--lr", "0.1"]).trainer_flags == ["--lr", "0.1"]
