"""Comparisons of small runs, and their states and reports."""

import contextlib
import importlib
import json
import time
from pathlib import Path

import Tester
from tests.helpers.runs import TINY
from tools import compare
from tools.comparing import runner
from tools.comparing.processes import Process

SIZES = {flag.removeprefix("--"): value for flag, value in zip(TINY[::2], TINY[1::2])}
SHORT = SIZES | {"epoch_size": 2, "num_epoch": 2, "val_every": 2, "per_save": 1}
SETTINGS = {"high": {"lr": 0.01}, "low": {"lr": 0.001, "fast_train": True}}


class InlineProcess(Process):
    """Runs the program in this process, which takes a tenth of the time."""

    def __init__(self, program, argv, *, log, environment):
        self.log, self.stop_requested = log, False
        with open(log, "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            self.log_start, self.code = file.tell(), 0
            try:
                importlib.import_module(program).main(argv)
            except SystemExit as stop:
                self.code = stop.code

    def exit_status(self):
        return self.code


def speed_up(monkeypatch) -> list[dict]:
    """Run programs in this process and draw nothing; return the list to which the arguments of every report will be added."""
    reports: list[dict] = []
    monkeypatch.setattr(
        runner, "make_report", lambda folders, out, **texts: reports.append({"runs": folders, "out": out} | texts)
    )
    monkeypatch.setattr(runner, "Process", InlineProcess)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0)
    monkeypatch.setattr(Tester, "write_visualizations", lambda *_, **__: None)
    monkeypatch.setattr("evaluation.results.draw_steps", lambda path, *_, **__: path.touch())
    return reports


def write(path: Path, settings: dict = SETTINGS, *, seeds: str = "[1, 2]", flags: dict = SHORT) -> Path:
    """Write the file of a comparison."""
    lines = ['title = "Rates"', 'question = "Which?"', f"seeds = {seeds}"]
    for name, table in [("flags", flags), *((f"settings.{name}", table) for name, table in settings.items())]:
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def states(capsys, argv: list[str]) -> dict[str, str]:
    """Return the state of each run that --dry_run prints."""
    capsys.readouterr()
    compare.main([*argv, "--dry_run"])
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines()[1:])


def reported_runs(reports: list[dict]) -> list[str]:
    """Return the names of the runs in the only report."""
    (report,) = reports
    return [folder.name for folder in report["runs"]]


def wait_for(path: Path) -> None:
    """Wait until the path exists, for at most four minutes."""
    deadline = time.monotonic() + 240
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()
