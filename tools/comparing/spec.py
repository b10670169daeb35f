"""The file of a comparison: its settings and seeds, and the Trainer.py flags of each of its runs."""

import argparse
import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from runtime.cli import SEED
from runtime.files import comparable_name, is_device_name
from training.flags import parse_trainer_flags
from utils import UserError

KEYS = ("title", "question", "seeds", "flags", "settings")
# Flags that the comparison sets itself or that would keep a run from training, with their second spellings.
RESERVED_FLAGS = {"DR", "data_root", "save_root", "log_dir", "seed", "resume", "overwrite", "test", "help", "h", "print_config"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


class PlannedRun(NamedTuple):
    """One setting with one seed."""

    setting: str
    seed: int
    folder: Path
    argv: list[str]  # the flags of Trainer.py
    args: argparse.Namespace  # as parse_trainer_flags() returns them
    explicit: dict[str, Any]  # the flags that argv sets

    @property
    def name(self) -> str:
        return self.folder.name


class Comparison(NamedTuple):
    """The runs of a comparison and the question that they answer."""

    title: str
    question: str
    runs: list[PlannedRun]  # the requested ones; the first seed of every setting comes before any second seed
    all_runs: list[PlannedRun]  # these and all other valid runs of the file, setting by setting


def load_comparison(
    path: Path, *, data: Path, out: Path, seeds: list[int] | None, only: list[str] | None, extra_flags: list[str]
) -> Comparison:  # fmt: skip
    """Load a comparison. Each of its runs gets a folder in `out`.

    `seeds` and `only`, names of settings, override the file; `extra_flags` follow the flags of every run. Raises UserError with
    all problems of the file and the flags. Settings and seeds excluded by `only` and `seeds` may be invalid; `all_runs` then
    lacks their runs.
    """
    table = read_toml(path)
    settings = table.get("settings")
    if isinstance(settings, dict) and only:
        for name in only:
            if name not in settings:
                raise UserError(f"--only {name}: expected settings of {path}: {', '.join(settings)}")
        settings = {name: flags for name, flags in settings.items() if name in only}
    requested = table | {"settings": settings, "seeds": table.get("seeds") if seeds is None else seeds}
    names = list(table["settings"]) if isinstance(table.get("settings"), dict) else []
    runs = plan_runs(requested, path=path, names=names, data=data, out=out, extra_flags=extra_flags)
    all_seeds = [run.seed for run in runs]
    if not seed_problems(table.get("seeds")):
        all_seeds = [*table["seeds"], *all_seeds]
    all_runs: list[PlannedRun] = []
    for name, flags in table["settings"].items():
        one_setting = table | {"settings": {name: flags}, "seeds": list(dict.fromkeys(all_seeds))}
        with contextlib.suppress(UserError):
            all_runs += plan_runs(one_setting, path=path, names=names, data=data, out=out, extra_flags=extra_flags)
    return Comparison(table.get("title", path.stem), table.get("question", ""), runs, all_runs)


def plan_runs(
    table: dict[str, Any], *, path: Path, names: list[str], data: Path, out: Path, extra_flags: list[str]
) -> list[PlannedRun]:
    """Return all runs of the table from the file at `path`, which has settings with these `names`.

    Raises UserError with all problems.
    """
    if problems := [*table_problems(table, names), *reserved_flag_problems("after --", extra_flags)]:
        raise UserError(f"{path}: not a valid comparison:", problems)
    flags: dict[str, list[str]] = {}
    for name, own in table["settings"].items():
        flags[name] = [*to_flags(table.get("flags", {}) | own), *extra_flags]
    check_flags(path, flags)
    runs = []
    for seed in table["seeds"]:
        for name in flags:
            folder = out / f"{name}-seed{seed}"
            argv = ["--DR", str(data), "--save_root", str(folder), "--seed", str(seed), "--resume", "auto", *flags[name]]
            runs.append(PlannedRun(name, seed, folder, argv, *parse_trainer_flags(argv)))
    return runs


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a comparison like those in comparisons/")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows write a byte order mark
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected TOML: {error}") from None


def table_problems(table: dict[str, Any], names: list[str]) -> list[str]:
    """Return the problems with the form of a comparison, one per line. check_flags() checks the values of flags.

    The table may lack some of the settings with these `names`.
    """
    problems = [f"{key}: unknown key; expected one of {', '.join(KEYS)}" for key in table if key not in KEYS]
    problems += [f"{key}: expected text" for key in ("title", "question") if not isinstance(table.get(key, ""), str)]
    problems += seed_problems(table.get("seeds"))
    settings = table.get("settings")
    if not isinstance(settings, dict) or not settings:
        return [*problems, "settings: expected tables [settings.NAME] of flags, one per setting"]
    problems += [problem for name in settings if (problem := name_problem(name, names))]
    problems += flag_table_problems("[flags]", table.get("flags", {}))
    for name, flags in settings.items():
        problems += flag_table_problems(f"[settings.{name}]", flags)
    return problems


def name_problem(name: str, names: list[str]) -> str | None:
    """Return why the folder of a setting cannot have this name, next to those of the other settings; None if it can."""
    if not NAME.fullmatch(name):
        return f"[settings.{name!r}]: expected a name of letters, digits and _ . + -"
    if is_device_name(name):
        return f"[settings.{name}]: expected a name that a folder can have on Windows, got that of a device"
    same = [other for other in names if other != name and comparable_name(other) == comparable_name(name)]
    if same:
        return (
            f"[settings.{name}]: expected a name of its own, got one that differs from {same[0]} only in upper and lower case; "
            "on Windows and macOS both would be one folder"
        )
    return None


def flag_table_problems(where: str, flags: Any) -> list[str]:
    """Return the problems with the form of one table of flags, one per line."""
    if not isinstance(flags, dict):
        return [f"{where}: expected a table of flags, such as num_epoch = 12"]
    problems = reserved_flag_problems(where, [f"--{name}" for name in flags])
    for name, value in flags.items():
        if not isinstance(value, (str, int, float)):
            problems.append(f"{where}: {name}: expected text, a number, true or false")
    return problems


def seed_problems(seeds: Any) -> list[str]:
    """Return the problems with the seeds, one per line."""
    if not isinstance(seeds, list) or not seeds:
        return ["seeds: expected a list of at least one, such as seeds = [1, 2, 3]"]
    repeated = {
        f"seeds: expected each seed once, got seed {seed} {seeds.count(seed)} times" for seed in seeds if seeds.count(seed) > 1
    }
    problems = sorted(repeated)
    for seed in seeds:
        try:
            SEED(str(seed))
        except argparse.ArgumentTypeError as error:
            problems.append(f"seeds: {error}")
    return problems


def reserved_flag_problems(where: str, flags: list[str]) -> list[str]:
    """Return a line for each of RESERVED_FLAGS."""
    names = [flag.lstrip("-").split("=")[0] for flag in flags if flag.startswith("--") or flag == "-h"]
    reason = "not allowed here; the comparison sets the data, the folder, the seed and --resume of every run"
    return [f"{where}: {name}: {reason}" for name in names if name in RESERVED_FLAGS]


def to_flags(table: dict[str, Any]) -> list[str]:
    """Return a table of flags as command-line flags: a switch is present if it is true."""
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in table.items() if value is not False]


def check_flags(path: Path, flags: dict[str, list[str]]) -> None:
    """Raise UserError with all errors that Trainer.py finds in the flags, each with the settings that have it."""
    settings_by_error: dict[str, list[str]] = {}
    for name, argv in flags.items():
        stderr = io.StringIO()
        try:
            with contextlib.redirect_stderr(stderr):
                parse_trainer_flags(["--DR", "data", "--save_root", "run", *argv])
        except SystemExit:
            error = stderr.getvalue().strip().removeprefix("error: ")
            settings_by_error.setdefault(error, []).append(f"[settings.{name}]")
    problems = []
    for error, settings in settings_by_error.items():
        where = "every setting" if len(settings) == len(flags) > 1 else ", ".join(settings)
        problems.append(f"{where}: {error}")
    if problems:
        raise UserError(f"{path}: flags that Trainer.py refuses:", problems)
