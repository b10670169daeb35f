"""Files that tools/compare.py reads: those of this repository, and files with errors."""

import pytest

from tests.helpers.comparisons import write
from tests.helpers.refusals import refused_with_list
from tests.helpers.settings import ROOT
from tools import compare
from tools.comparing.spec import load_comparison

FILES = sorted((ROOT / "comparisons").glob("*.toml"))
WRONG = {
    "no such file": (None, "no such file; expected a comparison like those in comparisons/"),
    "not TOML": ("seeds = [1\n", "expected TOML: "),
    "not text": (b'title = "\xff"\n', "expected TOML: "),
    "no seeds": ("[settings.a]\n", "seeds: expected a list of at least one"),
    "empty seeds": ("seeds = []\n[settings.a]\n", "seeds: expected a list of at least one"),
    "twice": ("seeds = [1, 2, 1]\n[settings.a]\n", "seeds: expected each seed once, got seed 1 2 times"),
    "no number": (
        "seeds = [true]\n[settings.a]\n",
        "seeds: expected an integer of at least 0 and at most 18446744073709551615, got 'True'",
    ),
    "no settings": ("seeds = [1]\n", "settings: expected tables [settings.NAME]"),
    "not a table": ("seeds = [1]\nflags = 3\n[settings.a]\n", "[flags]: expected a table of flags"),
    "key": (
        "seed = [1]\nseeds = [1]\n[settings.a]\n",
        "seed: unknown key; expected one of title, question, seeds, flags, settings",
    ),
    "title": ("title = 1\nseeds = [1]\n[settings.a]\n", "title: expected text"),
    "name": ('seeds = [1]\n[settings."../a"]\n', "[settings.'../a']: expected a name of letters, digits and _ . + -"),
    "one name": (
        "seeds = [1]\n[settings.a]\n[settings.A]\n",
        "[settings.a]: expected a name of its own, got one that differs from A only in upper and lower case",
    ),
    "value": ("seeds = [1]\n[settings.a]\nlr = [1, 2]\n", "[settings.a]: lr: expected text, a number, true or false"),
    "forbidden": (
        "seeds = [1]\n[settings.a]\nlog_dir = 'b'\n",
        "[settings.a]: log_dir: not allowed here; the comparison sets the data, the folder, the seed and --resume of every run",
    ),
    "mistyped": ("seeds = [1]\n[settings.a]\nnum_epcoh = 3\n[settings.b]\n", "[settings.a]: --num_epcoh: no such flag"),
    "not for all": (
        "seeds = [1]\n[flags]\nlr = 'fast'\n[settings.a]\nlr = 1\n[settings.b]\n",
        "[settings.b]: argument --lr: expected a number above 0, got 'fast'",
    ),
    "another model's": ("seeds = [1]\n[settings.a]\nmodel = 'svg_fp'\nF_dim = 3\n", "[settings.a]: --F_dim: "),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_invalid_file_is_refused_before_anything_is_written(rendered, tmp_path, capsys, wrong):
    content, expected = WRONG[wrong]
    file = tmp_path / "comparison.toml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    message, problems = refused_with_list(capsys, compare.main, [file, "--DR", rendered, "--out", tmp_path / "runs"])
    assert str(file) in message and any(expected in line for line in [message, *problems])
    assert not (tmp_path / "runs").exists()


def test_all_errors_are_reported_at_once(rendered, tmp_path, capsys):
    file = write(tmp_path / "a.toml", {"a": {"lr": -1}, "b": {"nonsense": True}, "c": {"lr": -1}})
    _, problems = refused_with_list(capsys, compare.main, [file, "--DR", rendered, "--out", tmp_path / "runs"])
    assert len(problems) == 2 and problems[0].startswith("[settings.a], [settings.c]: argument --lr")


@pytest.mark.parametrize("more, expected", [
    (["--only", "low", "middle"], "--only middle: expected settings of"),
    (["--seeds", "2", "2"], "seeds: expected each seed once, got seed 2 2 times"),
    (["--seeds", "-2"], "--seeds"),
    (["--jobs", "0"], "--jobs: expected an integer of at least 1, got 0"),
    (["--", "--seed", "4"], "after --: seed: not allowed here; the comparison sets"),
    (["--", "--DR=elsewhere"], "after --: DR: not allowed here; the comparison sets"),
    (["--", "--nonsense"], "every setting: --nonsense: no such flag"),
    (["--DR", "nowhere"], "--DR nowhere: no such folder"),
])  # fmt: skip
def test_wrong_flags_are_refused(rendered, tmp_path, capsys, more, expected):
    argv = [write(tmp_path / "rates.toml"), "--DR", rendered, "--out", tmp_path / "runs", *more]
    message, problems = refused_with_list(capsys, compare.main, argv)
    assert any(expected in line for line in [message, *problems]) and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_comparisons_of_the_repository_are_valid(file, tmp_path):
    """Each of them has a question, at least two seeds, so that there is a deviation, and settings that differ."""
    comparison = load_comparison(file, data=tmp_path, out=tmp_path, seeds=None, only=None, extra_flags=[])
    assert comparison.title and comparison.question.endswith("?") and len({run.seed for run in comparison.runs}) >= 2
    settings = {
        run.setting: {name: value for name, value in vars(run.args).items() if name not in ("seed", "save_root")}
        for run in comparison.runs
    }
    assert len({str(flags) for flags in settings.values()}) == len(settings) >= 2


def test_the_repository_has_the_comparisons_of_the_course():
    assert {"kl_annealing", "teacher_forcing", "optimisers", "latent", "prior"} <= {file.stem for file in FILES}
