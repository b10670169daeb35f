"""threads.py, which has to be there before torch is."""

import os
import subprocess
import sys

import pytest

from tests.helpers.settings import ROOT


def setting(program: str, **environment: str) -> str:
    """GOMP_SPINCOUNT at the moment when the program wants torch, which it cannot have here."""
    script = ("import os, sys\n"
              "sys.modules['torch'] = None\n"
              f"sys.path[:0] = [{str(ROOT)!r}]\n"
              f"try: import {program}\n"
              "except ImportError as error: assert 'torch' in str(error), error\n"
              "print(os.environ.get('GOMP_SPINCOUNT', ''))\n")  # fmt: skip
    cleaned = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", script], env=cleaned | environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("program", ["Trainer", "Tester", "tools.prepare_video"])
def test_threads_that_wait_sleep_soon(program):
    assert int(setting(program)) < 100_000


@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "123456"}])
def test_who_chose_otherwise_keeps_it(own):
    assert setting("Trainer", **own) == own.get("GOMP_SPINCOUNT", "")
