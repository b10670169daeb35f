"""A comparison as its file says it: settings x seeds, and the flags of Trainer.py that each of its runs has."""

import argparse
import contextlib
import io
import re
import sys
from pathlib import Path
from typing import NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from runtime.cli import SEED
from training.flags import parse_trainer_flags
from utils import UserError

KEYS = ("title", "question", "seeds", "flags", "settings")
# What sets one run of a comparison apart from another, or does not train at all; under both of its names.
OWN_FLAGS = {"DR", "data_root", "save_root", "log_dir", "seed", "resume", "overwrite", "test", "help", "h", "print_config"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")  # of a folder, on every system


class PlannedRun(NamedTuple):
    """One setting with one seed."""

    setting: str
    seed: int
    folder: Path
    argv: list[str]  # the flags of Trainer.py,
    args: argparse.Namespace  # what they say,
    given: dict  # and which of it was said, as parse_trainer_flags() gives both

    @property
    def name(self) -> str:
        """As its folder."""
        return self.folder.name


class Comparison(NamedTuple):
    """What is compared, and why; the first seed's run of every setting comes before any second one."""

    title: str
    question: str
    runs: list[PlannedRun]  # those asked for,
    whole: list[PlannedRun]  # and with them all others of the file that are understood, setting by setting


def comparison_of(
    path: Path, *, data: Path, out: Path, seeds: list[int] | None, only: list[str] | None, more: list[str]
) -> Comparison:  # fmt: skip
    """The comparison of a file, each run in a folder of its own in `out`. `seeds` and `only`, names of settings, go before what
    the file says; the flags `more` stand behind those of every run.

    Raises UserError, with all that is wrong with file and flags. Settings and seeds that `only` and `seeds` pass over may be
    wrong; their runs are then left out of `whole`.
    """
    table = load(path)
    settings = table.get("settings")
    if isinstance(settings, dict) and only:
        for name in only:
            if name not in settings:
                raise UserError(f"--only {name}: no such setting in {path}; expected some of {', '.join(settings)}")
        settings = {name: flags for name, flags in settings.items() if name in only}
    folders = {"path": path, "data": data, "out": out, "more": more}
    runs = planned(table | {"settings": settings, "seeds": table.get("seeds") if seeds is None else seeds}, **folders)
    asked = [run.seed for run in runs]
    known = asked if problems_of_seeds(table.get("seeds")) else [*table["seeds"], *asked]
    whole: list[PlannedRun] = []
    for name, flags in table["settings"].items():
        with contextlib.suppress(UserError):
            whole += planned(table | {"settings": {name: flags}, "seeds": list(dict.fromkeys(known))}, **folders)
    return Comparison(table.get("title", path.stem), table.get("question", ""), runs, whole)


def planned(table: dict, *, path: Path, data: Path, out: Path, more: list[str]) -> list[PlannedRun]:
    """All runs of a table, which the file at `path` holds. Raises UserError, with all that is wrong."""
    if problems := [*problems_of(table), *forbidden("behind --", more)]:
        raise UserError(f"{path}: is no comparison:", problems)
    flags = {name: [*as_flags(table.get("flags", {}) | own), *more] for name, own in table["settings"].items()}
    check_flags(path, flags)
    runs = []
    for seed in table["seeds"]:
        for name in flags:
            folder = out / f"{name}-seed{seed}"
            argv = ["--DR", str(data), "--save_root", str(folder), "--seed", str(seed), "--resume", "auto", *flags[name]]
            runs.append(PlannedRun(name, seed, folder, argv, *parse_trainer_flags(argv)))
    return runs


def load(path: Path) -> dict:
    """What a TOML file holds. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a comparison like those in comparisons/")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows write the mark
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not TOML: {error}") from None


def problems_of(table: dict) -> list[str]:
    """What is wrong with the form of a comparison, a line each; flags are looked at by their names only."""
    problems = [f"{key}: is not known; expected one of {', '.join(KEYS)}" for key in table if key not in KEYS]
    problems += [f"{key}: expected text" for key in ("title", "question") if not isinstance(table.get(key, ""), str)]
    problems += problems_of_seeds(table.get("seeds"))
    settings = table.get("settings")
    if not isinstance(settings, dict) or not settings:
        return [*problems, "settings: expected tables [settings.NAME] of flags, one for each that is compared"]
    folders = [name.lower() for name in settings]  # which some systems do not tell apart otherwise
    for name in settings:
        if not NAME.fullmatch(name) or folders.count(name.lower()) > 1:
            problems.append(f"[settings.{name!r}]: expected a name of its own, of letters, digits and _ . + -")
    tables = {"[flags]": table.get("flags", {})} | {f"[settings.{name}]": flags for name, flags in settings.items()}
    for where, flags in tables.items():
        if not isinstance(flags, dict):
            problems.append(f"{where}: expected a table of flags, as num_epoch = 12")
            continue
        problems += forbidden(where, [f"--{name}" for name in flags])
        problems += [f"{where}: {name}: expected text, a number, true or false"
                     for name, value in flags.items() if not isinstance(value, (str, int, float))]  # fmt: skip
    return problems


def problems_of_seeds(seeds) -> list[str]:
    """What is wrong with the seeds."""
    if not isinstance(seeds, list) or not seeds:
        return ["seeds: expected a list of at least one, as seeds = [1, 2, 3]"]
    problems = [f"seeds: {seed} stands there {seeds.count(seed)} times; expected each once" for seed in seeds]
    problems = sorted({problem for problem, seed in zip(problems, seeds) if seeds.count(seed) > 1})
    for seed in seeds:
        try:
            SEED(str(seed))
        except argparse.ArgumentTypeError as error:
            problems.append(f"seeds: {error}")
    return problems


def forbidden(where: str, flags: list[str]) -> list[str]:
    """A line for each flag that a comparison sets itself."""
    names = [flag.lstrip("-").split("=")[0] for flag in flags if flag.startswith("--") or flag == "-h"]
    return [f"{where}: {name}: is set by the comparison itself, for every run" for name in names if name in OWN_FLAGS]


def as_flags(table: dict) -> list[str]:
    """A table of flags as a command line has them: a switch stands there or does not."""
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in table.items() if value is not False]


def check_flags(path: Path, flags: dict[str, list[str]]) -> None:
    """Raises UserError with all that Trainer.py would refuse of the flags of each setting."""
    found: dict[str, list[str]] = {}
    for name, argv in flags.items():
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                parse_trainer_flags(["--DR", "data", "--save_root", "run", *argv])
        except SystemExit:
            found.setdefault(said.getvalue().strip().removeprefix("error: "), []).append(f"[settings.{name}]")
    if found:
        places = {what: "every setting" if len(where) == len(flags) > 1 else ", ".join(where) for what, where in found.items()}
        raise UserError(f"{path}: flags that Trainer.py refuses:", [f"{place}: {what}" for what, place in places.items()])
