"""docs/flags.md has the flags, help texts and defaults of the parsers."""

import re
from pathlib import Path

from tests.helpers.refusals import refused
from tools import write_flags_page
from training.flags import trainer_parser
from training.presets import MODELS


def test_the_page_is_current():
    """If this fails, run `python tools/write_flags_page.py`."""
    write_flags_page.main(["--check"])


def test_an_outdated_page_and_a_missing_one_are_refused(tmp_path, capsys):
    page = tmp_path / "flags.md"
    message = refused(capsys, write_flags_page.main, ["--check", "--out", page])
    assert message.endswith("run python tools/write_flags_page.py")
    page.write_text(write_flags_page.PAGE.read_text(encoding="utf-8").replace("--num_epoch", "--num_epochs"), encoding="utf-8")
    assert refused(capsys, write_flags_page.main, ["--check", "--out", page]) == message


def test_the_page_has_every_flag_of_every_model_and_its_default():
    text = write_flags_page.PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(--\w+).*\| (.*) \|$", text.split("### Presets")[0], flags=re.MULTILINE))
    for model in MODELS:
        names = {action.option_strings[0] for action in trainer_parser(model, "default")._actions if action.option_strings}
        assert names - {"--help"} <= {*rows}
    assert (rows["--grad_clip"], rows["--num_epoch"], rows["--DR"]) == ("1.0", "dance 70, robot 300", "required")
    assert (rows["--skip_bad"], rows["--ckpt_path"]) == ("off", "")


def test_the_page_is_the_same_on_every_machine(monkeypatch):
    """Some defaults differ between machines: the number of processors, and absolute paths."""
    text = write_flags_page.PAGE.read_text(encoding="utf-8")
    assert str(Path.cwd()) not in text and str(Path(write_flags_page.__file__).parents[1]) not in text
    monkeypatch.setattr("os.cpu_count", lambda: 77)
    assert write_flags_page.page() == text
