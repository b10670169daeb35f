"""README.md and docs/: links, commands, flags, paths and figures are correct, and all text is plain English."""

import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from runtime.cli import Parser
from tests.helpers.settings import ROOT
from tools.write_flags_page import PROGRAMS, parser_of
from training.flags import trainer_parser
from training.presets import MODELS

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
PACKAGES = [
    "modules",
    "data",
    "training",
    "evaluation",
    "visualization",
    "runtime",
    "poses",
    "tools",
    "benchmarks",
    "tests",
    "comparisons",
    "notebooks",
]
# Flags of other programs: pip, torchrun, sbatch, tensorboard, git, make and mypy.
FOREIGN_FLAGS = {"--index-url", "--standalone", "--nproc_per_node", "--nnodes", "--rdzv_backend", "--rdzv_endpoint", "--rdzv_id", "--max_restarts",
                 "--nodes", "--ntasks-per-node", "--gpus-per-node", "--cpus-per-task", "--time", "--signal", "--requeue", "--logdir",
                 "--ignore-missing-imports"}  # fmt: skip


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    """Return the text without code blocks and code spans, which contain no links or headings."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors_of(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    blocks_removed = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", blocks_removed, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_of(text: str) -> list[str]:
    """Return the lines of code blocks, with continued lines joined, and the code spans."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


class Command(NamedTuple):
    """A command line in a page that starts a program of this repository."""

    page: str
    program: str  # its file
    argv: list[str]
    complete: bool  # whether nothing is elided by "..."


def commands_of(page: Path) -> list[Command]:
    """Return the commands of a page that start a program of this repository, directly or through torchrun."""
    found = []
    for line in code_of(text_of(page)):
        if not re.search(r"(^|\s)(python|torchrun)\s", line) or "python -" in line:
            continue
        words = shlex.split(line.split(" > ")[0], comments=True)
        start = next((i for i, word in enumerate(words) if word.endswith(".py")), None)
        if start is None:
            continue
        argv = words[start + 1 :]
        kept = [word for before, word in zip([words[start], *argv], argv) if word != "..." or before.startswith("--")]
        found.append(Command(page.name, words[start], kept, len(kept) == len(argv)))
    return found


COMMANDS = [command for page in PAGES for command in commands_of(page)]


class Parsed(BaseException):
    """Ends a program as soon as its flags are parsed."""


def parse(monkeypatch, program: str, argv: list[str]) -> None:
    """Run a program's main() until its flags are parsed. A wrong flag raises SystemExit."""
    original = Parser.parse_args

    def parse_and_stop(parser, args=None, namespace=None):
        raise Parsed(original(parser, args, namespace))

    with monkeypatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(Parser, "parse_args", parse_and_stop)
        import_module(program.removesuffix(".py").replace("/", ".")).main(argv)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_relative_link_and_anchor_resolves(page):
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page)))
    broken = []
    for link in links:
        if link.startswith("http"):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not path.is_file() or (anchor and anchor not in anchors_of(text_of(path))):
            broken.append(link)
    assert not broken


def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", text_of(ROOT / "README.md")))
    assert linked == {name for name in NAMES if name.startswith("docs/")}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}-{command.program}")
def test_every_command_names_a_program_and_flags_that_it_has(command, monkeypatch):
    """The data need not exist. If a command has "..." in place of flags, the required flags are added."""
    assert (ROOT / command.program).is_file()
    argv = command.argv
    if any(word.startswith("@") for word in argv) or {"--help", "-h"} & {*argv}:
        return
    required = ["--DR", "data", "--save_root", "runs"]
    if command.program == "Trainer.py" and not command.complete:
        argv = [*argv, *required]
    parse(monkeypatch, command.program, argv)
    if "--" in argv:
        parse(monkeypatch, "Trainer.py", [*argv[argv.index("--") + 1 :], *required])


def test_commands_are_found():
    """The tests above must not become empty when the form of the pages changes."""
    programs = [command.program for command in COMMANDS]
    assert len(COMMANDS) > 50 and programs.count("Trainer.py") > 15 and programs.count("Tester.py") > 8
    assert {"tools/compare.py", "tools/prepare_video.py", "benchmarks/quality.py", "benchmarks/common/point.py"} <= {*programs}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_training_commands_of_a_page_have_a_folder_each(page):
    """README's first three commands once shared one --save_root, so that the second and the third were refused."""
    trainings = [command.argv for command in commands_of(page) if command.program == "Trainer.py" and command.complete]
    fresh = [argv for argv in trainings if not {"--resume", "--overwrite", "--test", "--print_config"} & {*argv}]
    folders = [argv[argv.index(name) + 1] for argv in fresh for name in ("--save_root", "--log_dir") if name in argv]
    assert len(folders) == len({*folders})


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_flag_that_is_mentioned_exists(page):
    parsers = [
        *(trainer_parser(model, "default") for model in MODELS),
        *(parser_of(import_module(name).main) for name in PROGRAMS),
    ]
    known = {name for parser in parsers for name in parser._option_string_actions} | FOREIGN_FLAGS
    mentioned = set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", " ".join(code_of(text_of(page)))))
    assert not mentioned - known


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_file_that_is_named_exists(page):
    """Files are written out, as in data/images.py, or share a folder, as in data/images.py, clips.py."""
    folders = "|".join(PACKAGES)
    listed = re.findall(rf"(?<![\w/])((?:{folders})(?:/\w+)*)/(\w+\.(?:py|toml|ipynb))((?:, \w+\.py)*)", text_of(page))
    named = [f"{folder}/{name}" for folder, first, others in listed for name in [first, *others.split(", ")[1:]]]
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_every_make_target_that_is_mentioned_exists():
    targets = re.search(r"^\.PHONY: (.*)$", text_of(ROOT / "Makefile"), flags=re.MULTILINE)[1].split()
    mentioned = {match for page in PAGES for line in code_of(text_of(page)) for match in re.findall(r"^make ([\w-]+)", line)}
    assert mentioned and mentioned <= {*targets}


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 200


def test_the_figures_of_the_readme_are_those_of_the_results():
    section = text_of(ROOT / "README.md").split("## Results")[1].split("\n## ")[0]
    figures = [number for line in section.splitlines() if line.startswith("|") for number in re.findall(r"\d+\.\d+", line)]
    results = set(re.findall(r"(?<![\d.])\d+\.\d+", text_of(ROOT / "docs" / "results.md")))
    # Some figures have more digits in the results.
    assert len(figures) > 15 and all(
        any(exact.startswith(figure) or f"{float(exact):.3f}" == figure for exact in results) for figure in figures
    )


# Habits that a fluent reader stumbles over, see "Language" in docs/development.md.
HABITS = [
    r"\b(is|are|was|were|be) told\b", r"\b(is|are|was|were|be) said\b", r"\btells? (whether|which|what|how|that)\b",
    r"\b(goes|go|going|went|gone) on\b(?! and off)", r"\banew\b", r"\bmend(s|ed|ing)?\b", r"\broll-outs?\b", r"\bat hand\b",
    r"\bwhoever\b", r"\bso-manieth\b", r"\bfor want of\b", r"\bof each the\b", r"\bto the (same )?bits?\b", r"\bsome \d+ (minutes|seconds|frames|GB)\b",
    r"\b(known|given) frames?\b", r"\bframes? before\b(?! (it|the|that|each))", r"\baveraged weights\b", r"\bsteps? (is|are) left out\b",
    r"\bfound, .* expected\b", r"\bz (dies|died|is dead)\b", r'(?<!")\bcoins?\b', r"\bhands? in\b", r"\bnumbers? that (is|are) none\b",
    r'"""(Itself|Nothing|The same)\b', r"\bthe same, with\b", r"\bis no (comparison|archive|table|data set|checkpoint)\b",
]  # fmt: skip
TEXT = {".py", ".md", ".ipynb", ".toml", ".html", ".yml", ".yaml", ".cff", ".txt"}
NOT_PROSE = {"tests/test_docs.py"}


def test_no_text_falls_back_into_old_habits():
    """Every match is listed as file:line, with the words."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile("|".join(f"(?:{habit})" for habit in HABITS))
    matches = []
    for name in listing.stdout.splitlines():
        path = ROOT / name
        if (path.suffix in TEXT or path.name == "Makefile") and name not in NOT_PROSE and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            matches += [f"{name}:{i}: {match[0]}" for i, line in enumerate(lines, 1) for match in pattern.finditer(line)]
    assert not matches, "\n" + "\n".join(matches)
