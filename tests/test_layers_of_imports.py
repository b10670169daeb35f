"""The layers of docs/development.md: imports go only to a lower layer, or stay within a package, and never in a circle."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.settings import ROOT

LAYERS = [
    {"utils", "modules"},
    {"runtime"},
    {"data"},
    {"visualization"},
    {"training", "evaluation", "poses"},
    {"dataloader"},
    {"tasks"},
    {"Trainer", "Tester", "tools"},
    {"benchmarks"},
]
LAYER_OF = {unit: number for number, units in enumerate(LAYERS) for unit in units}
PACKAGES = {"modules", "runtime", "data", "visualization", "training", "evaluation", "poses", "tools", "benchmarks"}


def sources() -> dict[str, str]:
    """Return the source of every module of the repository, except for the tests, by its full name."""
    listing = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [Path(line) for line in listing.splitlines()]
    return {module_name(path): (ROOT / path).read_text(encoding="utf-8") for path in paths if path.parts[0] != "tests"}


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str) -> set[str]:
    """Return the full names of all modules, and of all names in modules, that a source imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; expected the full name"
            module = node.module or ""
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def own_imports(modules: dict[str, str]) -> dict[str, set[str]]:
    """Return the modules of the repository that each module imports."""
    return {name: (imported_modules(source) & {*modules}) - {name} for name, source in modules.items()}


def violations(modules: dict[str, str]) -> list[str]:
    """Return a line for each import that breaks the rule."""
    found = []
    for name, source in modules.items():
        unit = name.split(".")[0]
        if unit not in LAYER_OF:
            found.append(f"{name}: expected a file or package of one of the layers")
            continue
        for other in sorted({imported.split(".")[0] for imported in imported_modules(source)}):
            allowed = LAYER_OF.get(other, -1) < LAYER_OF[unit] or (other == unit and unit in PACKAGES)
            if not allowed:
                found.append(f"{name}: imports {other}; expected only lower layers")
            if unit == "modules" and other not in {"modules", "torch", *sys.stdlib_module_names}:
                found.append(f"{name}: imports {other}; expected only torch")
    return found + [f"{' -> '.join(circle)}: a circle of imports" for circle in circles(own_imports(modules))]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the circles that a depth-first search finds, each as a path that ends where it begins."""
    found, done = [], set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for other in sorted(graph[name]):
                visit(other, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def test_imports_keep_to_the_layers():
    assert violations(sources()) == []


@pytest.mark.parametrize("module, source, expected", [
    ("data.images", "from training.flags import parse_trainer_flags", "data.images: imports training; expected only lower layers"),
    ("training.learner", "def f():\n    import evaluation.scores", "training.learner: imports evaluation; expected only lower layers"),
    ("poses.scan", "from evaluation import scores", "poses.scan: imports evaluation; expected only lower layers"),
    ("evaluation.results", "import dataloader", "evaluation.results: imports dataloader; expected only lower layers"),
    ("runtime.cli", "if True:\n    from data import images", "runtime.cli: imports data; expected only lower layers"),
    ("tools.report", "import Trainer", "tools.report: imports Trainer; expected only lower layers"),
    ("utils", "from modules import build_model", "utils: imports modules; expected only lower layers"),
    ("modules.svg", "import utils", "modules.svg: imports utils; expected only torch"),
    ("modules.svg", "import numpy as np", "modules.svg: imports numpy; expected only torch"),
    ("helpers", "import torch", "helpers: expected a file or package of one of the layers"),
])  # fmt: skip
def test_a_new_violation_is_found(module, source, expected):
    """One more line in one file of the repository must be reported."""
    modules = sources()
    modules[module] = f"{modules.get(module, '')}\n{source}\n"
    assert expected in violations(modules)


def test_a_circle_within_a_package_is_found():
    modules = sources()
    modules["data.images"] += "\nfrom data.robot import RobotSplit\n"
    assert any(line.endswith("a circle of imports") and "data.images" in line for line in violations(modules))


def test_a_relative_import_is_found():
    with pytest.raises(AssertionError, match="relative import"):
        violations({"data.images": "from . import robot"})


def test_a_circle_is_reported_with_its_path():
    modules = {"data.a": "import data.b", "data.b": "from data import c", "data.c": "from data.a import x", "data": ""}
    assert violations(modules) == ["data.a -> data.b -> data.c -> data.a: a circle of imports"]


def test_every_package_has_one_sentence_on_its_job():
    """A folder without __init__.py is hidden by an installed package of the same name, for example one called tools."""
    modules = sources()
    packages = {".".join(name.split(".")[:i]) for name in modules for i in range(1, name.count(".") + 1)}
    assert {package.split(".")[0] for package in packages} == PACKAGES
    for package in packages | {"tests", "tests.helpers"}:
        path = ROOT / package.replace(".", "/") / "__init__.py"
        sentence = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert sentence and sentence.endswith(".") and len(sentence.splitlines()) == 1, package


def test_the_packages_of_the_repository_win_over_installed_ones(tmp_path):
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('an installed package was imported')\n")
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + "".join(f"import {package}\n" for package in sorted(PACKAGES))
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True)
