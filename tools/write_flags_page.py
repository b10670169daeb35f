"""Write docs/flags.md, every flag of every program, from the programs' own parsers.

python tools/write_flags_page.py            # after a flag, its help text or its default has changed
python tools/write_flags_page.py --check    # write nothing; exit with status 1 if the page is out of date
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import argparse
import os
import re
from collections.abc import Callable
from importlib import import_module
from unittest import mock

from runtime.cli import HelpFormatter, Parser, location
from runtime.files import write_whole
from runtime.program import one_line_errors
from training.flags import TASK_FLAGS, trainer_parser
from training.presets import PRESETS
from utils import UserError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "flags.md"
# Imported by name: benchmarks/ is a higher layer than tools/.
PROGRAMS = ("Tester", "tools.prepare_video", "tools.make_demo_data", "tools.convert_bair", "tools.compare", "tools.report",
            "tools.plot_curves", "tools.write_flags_page", "benchmarks.quality", "benchmarks.rollouts", "benchmarks.ablation",
            "benchmarks.speed", "benchmarks.curves", "benchmarks.scaling", "benchmarks.turns", "benchmarks.overhead",
            "benchmarks.common.point")  # fmt: skip
TASK_MODELS = {task.name: task.models[0] for task in TASK_FLAGS}  # all models of a task have the same flags and presets
INTRODUCTION = """# All flags

Written by `python tools/write_flags_page.py` from the programs' parsers: do not edit. `--help` shows the main flags of a program,
`--help all` shows all of them. A name after a comma is a second spelling of the same flag. The default "off" belongs to a switch.
A flag with an empty default is not set.
"""
UNTITLED = ("positional arguments", "options", "optional arguments")  # argparse's own groups
HEADER = ["flag", "meaning", "default"]


class Parsed(BaseException):
    """Carries the parser out of a program's main() when it is about to parse its flags."""


def parser_of(main: Callable[[list[str]], None]) -> Parser:
    """Return the parser that a program builds in its main(argv)."""

    def stop(parser: Parser, *_args, **_kwargs):
        raise Parsed(parser)

    with mock.patch.object(Parser, "parse_args", stop):
        try:
            main([])
        except Parsed as parsed:
            return parsed.args[0]
    raise AssertionError(f"{main.__module__} parses no flags")


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def flags_of(parser: Parser) -> dict[str, list[argparse.Action]]:
    """Return the flags and arguments of a parser, except --help, by the title of their group."""
    groups = {group.title or "": group._group_actions for group in parser._action_groups}
    kept = {title: [action for action in actions if "--help" not in action.option_strings] for title, actions in groups.items()}
    return {title: actions for title, actions in kept.items() if actions}


def name_of(action: argparse.Action) -> str:
    """Return all spellings of a flag with its value, or the name of an argument, as code."""
    formatter = HelpFormatter("")
    if not action.option_strings:
        return f"`{formatter._format_args(action, action.dest)}`"
    value = "" if action.nargs == 0 else f" {formatter.value_of(action)}"
    return f"`{', '.join(action.option_strings)}{value}`"


def default_of(action: argparse.Action, value: object) -> str:
    """Return a default as a cell: empty if there is none or if the help text has it."""
    if action.required or value in (None, argparse.SUPPRESS) or "(default:" in (action.help or ""):
        return "required" if action.required and action.option_strings else ""
    if action.nargs == 0:
        return "off" if value is False else ""
    values = value if isinstance(value, list | tuple) else [value]
    return " ".join(plain(one) for one in values)


def plain(value: object) -> str:
    """Return one value as a user types it; absolute paths become "...", because they differ between machines."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))  # a frame size
    return "..." if Path(str(value)).is_absolute() else str(value)


def meaning_of(action: argparse.Action, parser: Parser) -> str:
    """Return the help text of a flag with its placeholders filled in."""
    return (action.help or "") % (vars(action) | {"prog": parser.prog})


def trainer_section() -> str:
    """Return the tables of the flags of Trainer.py and of its presets."""
    models = ", ".join(f"*{task.name}* is `--model {'` or `'.join(task.models)}`" for task in TASK_FLAGS)
    parsers = {task: trainer_parser(model, "default") for task, model in TASK_MODELS.items()}
    groups: dict[str, dict[str, argparse.Action]] = {}
    for parser in parsers.values():
        for title, actions in flags_of(parser).items():
            groups.setdefault(title, {}).update({name_of(action): action for action in actions})
    parts = ["## Trainer.py\n", f"Defaults are those of `--preset default`; {models}.\n"]
    for title, flags in groups.items():
        rows = [
            [name, meaning_of(flag, next(iter(parsers.values()))), default_by_task(flag, parsers)] for name, flag in flags.items()
        ]
        parts += [f"### {title[:1].upper()}{title[1:]}\n", table(HEADER, rows)]
    return "\n".join([*parts, *preset_tables()])


def default_by_task(action: argparse.Action, parsers: dict[str, Parser]) -> str:
    """Return a default of Trainer.py as a cell: one value, or one per task if they differ."""
    owners = {task: parser for task, parser in parsers.items() if action.option_strings[0] in parser._option_string_actions}
    values = {task: default_of(action, parser.get_default(action.dest)) for task, parser in owners.items()}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{task} {value}" for task, value in values.items() if value)


def preset_tables() -> list[str]:
    """Return one table per task with the defaults that --preset changes."""
    parts = ["### Presets\n", "Defaults that differ between presets. A flag with an empty cell is not set.\n"]
    for task, model in TASK_MODELS.items():
        parsers = {preset: trainer_parser(model, preset) for preset in PRESETS}
        rows = []
        for actions in flags_of(parsers["default"]).values():
            for action in actions:
                values = [parser.get_default(action.dest) for parser in parsers.values()]
                if action.dest != "preset" and any(value != values[0] for value in values):
                    cells = ["" if value is None else str(value) for value in values]
                    rows.append([f"`{action.option_strings[0]}`", *cells])
        parts.append(table([task, *(f"`--preset {preset}`" for preset in parsers)], rows))
    return parts


def program_section(name: str) -> str:
    """Return the tables of another program."""
    parser = parser_of(import_module(name).main)
    parts = [f"## {name.replace('.', '/')}.py\n", f"{parser.description}\n"]
    tables: dict[str, list[argparse.Action]] = {}
    for title, actions in flags_of(parser).items():
        tables.setdefault("" if title in UNTITLED else title, []).extend(actions)
    for title, actions in tables.items():
        rows = [[name_of(a), meaning_of(a, parser), default_of(a, a.default)] for a in actions]
        parts += [f"**{title[:1].upper()}{title[1:]}**\n"] if title else []
        parts.append(table(HEADER, rows))
    return "\n".join(parts)


def page() -> str:
    """Return the whole page, the same on every machine."""
    with mock.patch.object(os, "cpu_count", lambda: "all cores"):  # the number differs between machines
        sections = [program_section(name) for name in PROGRAMS]
    text = "\n".join([INTRODUCTION, trainer_section(), *sections])
    return re.sub(r"\n{3,}", "\n\n", text)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Write docs/flags.md, every flag of every program, from the parsers.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if the page is out of date")
    parser.add_argument("--out", type=location, default=PAGE, help="file to write (default: docs/flags.md)")
    args = parser.parse_args(argv)
    if not args.check:
        write_whole(args.out, page().encode())
        print(f"wrote {args.out}")
    elif not args.out.is_file() or args.out.read_text(encoding="utf-8") != page():
        raise UserError(
            f"{args.out}: expected the current flags, got a page that is out of date; run python tools/write_flags_page.py"
        )


if __name__ == "__main__":
    main()
