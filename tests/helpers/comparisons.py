"""Comparisons of small runs, and what is said of them."""

import contextlib
import importlib
import json
import time
from pathlib import Path

import Tester
from tests.helpers.runs import TINY
from tools import compare
from tools.comparing.processes import Process

SIZES = {flag.removeprefix("--"): value for flag, value in zip(TINY[::2], TINY[1::2])}
SHORT = SIZES | {"epoch_size": 2, "num_epoch": 2, "val_every": 2, "per_save": 1}
SETTINGS = {"high": {"lr": 0.01}, "low": {"lr": 0.001, "fast_train": True}}


class InHere(Process):
    """The same program in this very process, which takes a tenth of the time."""

    def __init__(self, program, argv, *, log, environment):
        self.log, self.asked_to_stop = log, False
        with open(log, "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            self.before, self.code = file.tell(), 0
            try:
                importlib.import_module(program).main(argv)
            except SystemExit as stop:
                self.code = stop.code

    def status(self):
        return self.code


def hasten(monkeypatch) -> list[list[str]]:
    """Runs programs in here and draws nothing; returns the list of the reports that will be asked for."""
    reports: list[list[str]] = []
    monkeypatch.setattr(compare.report, "main", reports.append)
    monkeypatch.setattr(compare, "Process", InHere)
    monkeypatch.setattr(compare, "PAUSE", 0)
    monkeypatch.setattr(Tester, "write_visualizations", lambda *_, **__: None)
    monkeypatch.setattr("evaluation.results.draw_steps", lambda path, *_, **__: path.touch())
    return reports


def write(path: Path, settings: dict = SETTINGS, *, seeds: str = "[1, 2]", flags: dict = SHORT) -> Path:
    """A comparison's file."""
    lines = ['title = "Rates"', 'question = "Which?"', f"seeds = {seeds}"]
    for name, table in [("flags", flags), *((f"settings.{name}", table) for name, table in settings.items())]:
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def states(capsys, argv: list[str]) -> dict[str, str]:
    """What --dry_run says of each run."""
    capsys.readouterr()
    compare.main([*argv, "--dry_run"])
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines()[1:])


def shown(reports: list[list[str]]) -> list[str]:
    """Names of the runs in the only report."""
    (argv,) = reports
    return [Path(path).name for path in argv[: argv.index("--out")]]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 240
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()
