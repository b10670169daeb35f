"""Runs of Trainer.py as separate processes, rows of a run, and the comparison of two run folders bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import Trainer
from evaluation.validation import Validation
from runtime import files
from tests.helpers.settings import ROOT
from training.checkpoints import load_checkpoint
from training.run_folder import RunFolder

posix = pytest.mark.skipif(os.name == "nt", reason="signals to one process are POSIX")
# Flags of a run of one or two seconds.
TINY = ["--F_dim", "4", "--L_dim", "4", "--N_dim", "1", "--D_out_dim", "8", "--train_vi_len", "3", "--batch_size", "2", "--device", "cpu",
        "--amp", "none", "--shift", "1", "--feedback_noise", "0.02", "--flip", "0.5"]  # fmt: skip


def start(folder: Path, argv: list[str], *, processes: int = 1, torchrun: list[str] | None = None) -> subprocess.Popen:
    """Start Trainer.py in `folder` in a session of its own, through torchrun if it has `torchrun` flags or several processes."""
    folder.mkdir(exist_ok=True)
    launcher = [sys.executable]
    if processes > 1 or torchrun is not None:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), *(torchrun or [])]
    # One thread each: sums then come out in one order on every machine, and two processes do not wait for each other.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    return subprocess.Popen([*launcher, str(ROOT / "Trainer.py"), *argv], cwd=folder, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip


def wait_for_checkpoint(folder: Path, run: subprocess.Popen) -> None:
    """Wait until the run in `folder` has written its first checkpoint, just before it starts its loader processes.

    If it hangs, the assertion's text shows where each process is.
    """
    deadline = time.monotonic() + 180
    while not (folder / "run" / "last.ckpt").exists() and run.poll() is None:
        if time.monotonic() > deadline:
            os.killpg(run.pid, signal.SIGABRT)
            raise AssertionError(run.communicate(timeout=60)[1])
        time.sleep(0.002)


def finish(run: subprocess.Popen, *, status: int = 0) -> str:
    """Wait for the end of the run, which must have that exit status. Return its stderr."""
    _, errors = run.communicate(timeout=240)
    assert run.returncode == status, errors
    return errors


def run_in(folder, monkeypatch, argv: list, *, status: int | None = None) -> None:
    """Call Trainer.main with the run folder "run" in `folder`; the exit status must be `status`."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    if status is None:
        Trainer.main([*argv, "--save_root", "run"])
    else:
        with pytest.raises(SystemExit) as stop:
            Trainer.main([*argv, "--save_root", "run"])
        assert stop.value.code == status


def differences(a, b, where: str = "") -> list[str]:
    """Return where two states of nested dicts, lists, tensors and plain values are not equal bit for bit."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a for found in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [found for i, (x, y) in enumerate(zip(a, b)) for found in differences(x, y, f"{where}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [where]
    return [] if a == b else [f"{where}: {a} and {b}"]


def run_differences(a: Path, b: Path) -> list[str]:
    """Return where two run folders are not equal bit for bit, except for times and settings of the machine."""
    checkpoints = sorted(path.name for path in a.glob("*.ckpt"))
    found = [] if checkpoints == sorted(path.name for path in b.glob("*.ckpt")) else ["other checkpoints"]
    for name in set(checkpoints) - {"previous.ckpt"}:  # its content depends on when the previous checkpoint was written
        one, other = load_checkpoint(a / name), load_checkpoint(b / name)
        for state in (one, other):
            for flag in ("resume", "save_minutes", "num_workers"):
                state["flags"].pop(flag)
            state["progress"].pop("seconds")
        found += differences(one, other, where=name)
    names = ["metrics.jsonl", "curves.jsonl", "training.png"]
    return found + [name for name in names if (a / name).read_bytes() != (b / name).read_bytes()]


def script_validations(monkeypatch, *scores: float) -> None:
    """Make the validations of the following runs return these scores, in this order."""
    values = iter(scores)

    def validate(_trainer) -> Validation:
        return Validation({"val_psnr": next(values), "val_ssim": 0.5, "val_closing": 1.0}, [])

    monkeypatch.setattr(Trainer.Trainer, "validate", validate)


def fill_up(monkeypatch, names: set[str], *, times: int = 10**9) -> list[str]:
    """Make the first `times` writes of files with these names fail as on a full disk. Return the list of files that failed."""
    refused_names: list[str] = []
    real = files.write_whole

    def write(path, content, **more):
        if path.name in names and len(refused_names) < times and "run" in path.parts:
            refused_names.append(path.name)
            raise OSError(28, "No space left on device")
        real(path, content, **more)

    for module in ("training.checkpoints", "training.run_folder"):
        monkeypatch.setattr(f"{module}.write_whole", write)
    return refused_names


def metrics_row(epoch: int, **values) -> dict:
    """Return a row of metrics.jsonl."""
    return {
        "epoch": epoch,
        "loss": 0.1 / (epoch + 1),
        "mse": 0.09,
        "kl": 3.0,
        "beta": 0.5,
        "tfr": 1.0,
        "forced": 0.5,
        "lr": 0.001,
    } | values


def open_run_folder(folder, **resume) -> RunFolder:
    """Begin a run folder, release its lock so that another run can use it, and return it."""
    run_folder = RunFolder(folder, use_wandb=False, use_tensorboard=False)
    run_folder.begin({"lr": 0.001}, **resume)
    run_folder.close()
    return run_folder
