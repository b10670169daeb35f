"""The first moments of a program: Ctrl-C while it imports its packages, closed standard files, and refusals that need no package."""

import os
import subprocess
import sys

import pytest

from tests.helpers.runs import posix
from tests.helpers.settings import ROOT

PROGRAMS = ["Trainer.py", "Tester.py", "benchmarks/common/point.py", *(
    f"{folder}/{path.name}" for folder in ("tools", "benchmarks") for path in sorted((ROOT / folder).glob("[!_]*.py"))
)]  # fmt: skip
# Sends Ctrl-C to its process at the moment when the program imports the first of the modules $INTERRUPT_AT.
INTERRUPTER = """
import os, signal, sys

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name in os.environ["INTERRUPT_AT"].split():
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
"""
# Runs a program as a user does, and prints its status and which of two slow packages it has imported.
REFUSED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    print(stop.code, [name for name in ("torch", "matplotlib") if name in sys.modules])
"""


def interrupted(folder, at: str, program: str, *argv) -> None:
    """Run a program, which must end with one line at the Ctrl-C."""
    (folder / "sitecustomize.py").write_text(INTERRUPTER)  # Python imports it first
    environment = os.environ | {"PYTHONPATH": str(folder), "INTERRUPT_AT": at}
    run = subprocess.run([sys.executable, ROOT / program, *argv], env=environment, cwd=folder, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "stopped by Ctrl-C\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_ends_the_imports_of_every_program_with_one_line(tmp_path, program):
    """It once printed up to 64 lines of traceback."""
    interrupted(tmp_path, "torch runtime.cli", program)


@pytest.mark.parametrize("program, at", [("Trainer.py", "torch"), ("Tester.py", "torch._C"), ("Trainer.py", "numpy"),
                                         pytest.param("Trainer.py", "tasks", marks=pytest.mark.slow)])  # fmt: skip
def test_ctrl_c_within_the_import_of_a_large_package(tmp_path, program, at):
    interrupted(tmp_path, at, program)


def test_ctrl_c_within_an_import_that_follows_the_first_checks(tmp_path, trained):
    """Tools check their command lines before they import torch, and have left the first imports by then."""
    interrupted(tmp_path, "torch", "tools/report.py", trained)
    interrupted(tmp_path, "matplotlib", "tools/plot_curves.py", trained)


def test_ctrl_c_is_not_lost_where_an_import_catches_every_exception(tmp_path):
    (tmp_path / "greedy.py").write_text("try:\n    import numpy\nexcept BaseException:\n    pass\n")
    (tmp_path / "tools").mkdir()
    program = "import runtime.startup as s; s.is_program = lambda: True; s.begin_imports(); import greedy; print('continued')"
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTER)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "INTERRUPT_AT": "numpy"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "stopped by Ctrl-C\n")


def test_a_process_that_only_imports_a_program_keeps_its_own_ctrl_c():
    """A notebook or a test must not end at a Ctrl-C."""
    script = "import signal, tools.report; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@posix
def test_no_file_takes_the_place_of_a_closed_standard_file(tmp_path):
    """The first file that a program opened with 2>&- became its standard error, and received what libraries print there."""
    script = "import runtime.startup, sys; file = open('file', 'w'); file.write(str(file.fileno())); assert sys.stderr is None"
    command = ["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, script]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    assert int((tmp_path / "file").read_text()) > 2


@pytest.mark.parametrize("program, argv, status", [
    ("tools/report.py", ["nowhere"], 1), ("tools/report.py", ["empty"], 1), ("tools/report.py", ["--help"], 0),
    ("tools/plot_curves.py", ["nowhere"], 1), ("tools/plot_curves.py", ["empty", "--out", "a.xyz"], 1), ("tools/plot_curves.py", ["--runs"], 2),
    ("tools/compare.py", ["nowhere.toml", "--DR", ".", "--out", "runs"], 1), ("tools/compare.py", ["a.toml", "--DR", "nowhere", "--out", "runs"], 1),
    ("tools/make_demo_data.py", ["--out", "."], 1), ("tools/make_demo_data.py", ["--frames", "3"], 2),
    ("tools/convert_bair.py", ["--src", "nowhere", "--out", "bair"], 1),
])  # fmt: skip
def test_a_wrong_path_or_flag_is_refused_before_slow_packages_are_imported(tmp_path, program, argv, status):
    """Such a refusal once took five seconds, which torch needed to be imported."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.toml").write_text("seeds = [1]\n[settings.a]\nlr = 0.1\n")
    command = [sys.executable, "-c", REFUSED, ROOT / program, *argv]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == f"{status} []", run.stdout + run.stderr
