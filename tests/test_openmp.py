"""GNU OpenMP reads its settings when torch is loaded, so every program must import runtime.startup before torch."""

import os
import subprocess
import sys

import pytest

from tests.helpers.settings import ROOT

PROGRAMS = ["Trainer", "Tester", "benchmarks.common.point", *(
    f"{folder}.{path.stem}" for folder in ("tools", "benchmarks") for path in sorted((ROOT / folder).glob("[!_]*.py"))
)]  # fmt: skip
# Prints GOMP_SPINCOUNT at the moment of the first import of torch, which is prevented.
SCRIPT = """
import importlib, os, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT", ""))
            os._exit(0)

sys.path.insert(0, {root!r})
sys.meta_path.insert(0, NoTorch())
importlib.import_module({program!r})
print(os.environ.get("GOMP_SPINCOUNT", ""))
"""


def spin_count(program: str, **environment: str) -> str:
    """Return GOMP_SPINCOUNT at the moment when the program imports torch, or after its imports if it does not."""
    script = SCRIPT.format(root=str(ROOT), program=program)
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-u", "-c", script]
    return subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("program", PROGRAMS)
def test_waiting_threads_soon_sleep_in_every_program(program):
    """Most benchmarks once imported torch first, so they measured with another OpenMP setting than Trainer.py has."""
    assert int(spin_count(program)) < 100_000


@pytest.mark.parametrize("setting", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "123456"}])
def test_a_setting_of_the_user_is_kept(setting):
    assert spin_count("Trainer", **setting) == setting.get("GOMP_SPINCOUNT", "")


def test_a_program_that_imports_torch_first_is_found(tmp_path):
    (tmp_path / "late.py").write_text("import torch\nimport runtime.startup\n")
    assert spin_count("late", PYTHONPATH=str(tmp_path)) == ""
