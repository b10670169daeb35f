"""Runs that are killed without warning at random moments, resumed each time, and compared with a run that was never killed."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.runs import TINY, finish, run_differences, start

pytestmark = pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX")

MOMENTS = ("training", "saving", "cache building")


def wait_for(condition, run, *, seconds: float = 240) -> bool:
    """Return whether the condition became true while the process was alive."""
    deadline = time.monotonic() + seconds
    while run.poll() is None and time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.0005)
    return False


def partial_files(folder: Path, moment: str) -> list[Path]:
    """Return the files that are being written: checkpoints, or the frame cache."""
    return list(folder.glob("run/.*.part" if moment == "saving" else "cache/*/.*.part"))


def kill_once(folder: Path, argv: list[str], moment: str, chance: random.Random) -> str:
    """Start the run and kill it at about that moment. Return the actual moment, or "finished" if the run had already ended."""
    if moment == "cache building":
        for path in folder.glob("cache/*/*.npy"):
            path.unlink()
    run = start(folder, argv)
    if moment == "training":
        before = (folder / "run" / "last.ckpt").stat().st_mtime_ns if (folder / "run" / "last.ckpt").exists() else 0
        wait_for(
            lambda: (folder / "run" / "last.ckpt").exists() and (folder / "run" / "last.ckpt").stat().st_mtime_ns != before, run
        )
        time.sleep(chance.uniform(0, 0.4))
    elif wait_for(lambda: partial_files(folder, moment), run):
        time.sleep(chance.choice([0, 0, 0.001, 0.003]))
    ended = run.poll() is not None
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    return "finished" if ended else moment if moment == "training" or partial_files(folder, moment) else "elsewhere"


def survive(rendered: Path, tmp_path: Path, kills: int, more: list[str], seed: int) -> Counter:
    """Kill a run `kills` times and assert that it ends bit for bit like one that was not killed.

    Return the number of kills at each moment.
    """
    argv = [
        "--DR",
        str(rendered),
        "--save_root",
        "run",
        "--cache_dir",
        "cache",
        *TINY,
        "--epoch_size",
        "6",
        "--num_epoch",
        "6",
        *more,
    ]
    finish(start(tmp_path / "whole", argv))
    chance = random.Random(seed)
    moments: Counter[str] = Counter()
    for number in range(kills):
        moments[kill_once(tmp_path / "killed", [*argv, "--resume", "--save_minutes", "0"], MOMENTS[number % 3], chance)] += 1
    errors = finish(start(tmp_path / "killed", [*argv, "--resume"]))
    assert "Traceback" not in errors
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "killed" / "run") == []
    left = [path for path in (tmp_path / "killed").rglob("*") if path.name.endswith(".part") and "cache" not in path.parts]
    assert left == []
    return moments


@pytest.mark.slow
def test_a_killed_run_loses_nothing(rendered, tmp_path):
    moments = survive(rendered, tmp_path, 3, ["--accumulate", "2"], seed=1)
    assert sum(moments.values()) - moments["finished"] >= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed, more", [(2, []), (3, ["--accumulate", "2", "--num_workers", "2"]), (4, ["--val_every", "2", "--per_save", "1"])]
)
def test_ten_kills_at_random_moments_lose_nothing(rendered, tmp_path, seed, more):
    moments = survive(rendered, tmp_path, 10, more, seed)
    print(f"killed in {dict(moments)}")
    assert sum(moments.values()) - moments["finished"] >= 8
