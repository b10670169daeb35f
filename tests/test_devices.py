"""Devices, precisions and compilation, on machines that have them and on machines that do not."""

import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import Tester
import Trainer
from runtime import devices
from runtime.devices import autocast, compile_parts, find_device, find_precision, warn_without_cuda
from tests.helpers.refusals import refused
from utils import UserError

CPU = torch.device("cpu")
LISTING = "echo 'GPU 0: NVIDIA GeForce RTX 3060 (UUID: GPU-12345678-1234)'; echo 'GPU 1: Tesla T4 (UUID: GPU-2)'"


@pytest.mark.parametrize("name", ["cuda:99", "nonsense"])
def test_an_unavailable_device_is_refused(name):
    with pytest.raises(UserError, match=f"--device {name}"):
        find_device(name)


def test_auto_finds_a_device_and_cpu_is_always_available():
    assert find_device("auto").type in ("cuda", "mps", "cpu") and find_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    "amx, avx, expected", [(False, False, "none"), (True, False, "bfloat16"), (False, True, "bfloat16"), (None, None, "none")]
)
def test_auto_uses_bfloat16_only_on_a_cpu_with_instructions_for_it(monkeypatch, amx, avx, expected):
    """None means that torch is too old to have this check."""
    for probe, supported in (("_is_amx_tile_supported", amx), ("_is_avx512_bf16_supported", avx)):
        monkeypatch.delattr(torch.cpu, probe, raising=False)
        if supported is not None:
            monkeypatch.setattr(torch.cpu, probe, lambda supported=supported: supported, raising=False)
    assert find_precision("auto", CPU) == expected


@pytest.mark.parametrize("capability, expected", [
    ((5, 2), "none"), ((6, 1), "none"), ((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((8, 9), "bfloat16"), ((9, 0), "bfloat16"),
])  # fmt: skip
def test_auto_uses_the_precision_of_the_tensor_cores(monkeypatch, capability, expected):
    """A V100 (7.0) or T4 (7.5) has tensor cores for float16 but not for bfloat16; auto once meant float32 there."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert find_precision("auto", torch.device("cuda", 0)) == expected


@pytest.mark.parametrize("name", ["none", "float16", "bfloat16"])
def test_an_explicit_precision_is_used(name):
    assert find_precision(name, CPU) == name


@pytest.mark.parametrize("precision, dtype", [("none", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_computes_products_in_the_given_precision(precision, dtype):
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def write_nvidia_smi(folder: Path, commands: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{commands}\n")
    path.chmod(0o755)


@pytest.fixture
def without_cuda(monkeypatch, tmp_path) -> Path:
    """Make torch look as if it was built without CUDA, and return the only folder in PATH, still without nvidia-smi."""
    if os.name != "posix":
        pytest.skip("the fake nvidia-smi is a shell script")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_gpu_that_torch_cannot_use_is_reported(without_cuda, capsys, device):
    """On Windows, pip installs torch without CUDA by default. Such a torch trains on the CPU, and nothing was printed about it."""
    write_nvidia_smi(without_cuda, LISTING)
    warn_without_cuda(device)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"--device {device}: this machine has an NVIDIA GPU (NVIDIA GeForce RTX 3060), ")
    assert "built without CUDA" in line and line.endswith("install torch with CUDA (see README, Install)")


@pytest.mark.parametrize(
    "reason", ["--device cpu", "--device mps", "torch has CUDA", "torch has ROCm", "another process reports it"]
)
def test_nvidia_smi_is_called_only_if_needed(without_cuda, capsys, monkeypatch, reason):
    write_nvidia_smi(without_cuda, f"touch {without_cuda}/called; {LISTING}")
    if reason == "torch has CUDA":
        monkeypatch.setattr(torch.version, "cuda", "12.8")
    elif reason == "torch has ROCm":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    elif reason == "another process reports it":
        monkeypatch.setattr(devices, "RANK", "1")
    warn_without_cuda(reason.removeprefix("--device ") if reason.startswith("--device") else "auto")
    assert capsys.readouterr().out == "" and not (without_cuda / "called").exists()


@pytest.mark.parametrize("commands", [
    None, "", "exit 9", "echo GPU 0 Tesla T4", "echo GPU 0:", "echo No devices were found", "printf '\\377\\376GPU 0: \\000'", "exec sleep 60",
], ids=["no nvidia-smi", "no output", "failure", "no colon", "no name", "no device", "invalid text", "no answer"])  # fmt: skip
def test_looking_for_a_gpu_never_fails(without_cuda, capsys, monkeypatch, commands):
    monkeypatch.setattr(devices, "NVIDIA_SMI_TIMEOUT", 0.5)
    if commands is not None:
        write_nvidia_smi(without_cuda, commands)
    begin = time.monotonic()
    warn_without_cuda("auto")
    assert capsys.readouterr().out == "" and time.monotonic() - begin < 20


def test_a_program_called_nvidia_smi_that_cannot_run_is_ignored(without_cuda, capsys):
    (without_cuda / "nvidia-smi").write_bytes(b"\x7fELF damaged")
    (without_cuda / "nvidia-smi").chmod(0o755)
    warn_without_cuda("auto")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("program", [Trainer, Tester], ids=lambda program: program.__name__)
def test_trainer_and_tester_report_an_unusable_gpu_once(without_cuda, capsys, program):
    write_nvidia_smi(without_cuda, LISTING)
    argv = ["--DR", without_cuda / "nowhere", "--save_root", without_cuda / "out", "--ckpt_path", without_cuda / "nowhere"]
    with pytest.raises(SystemExit):
        program.main([str(part) for part in argv])
    assert capsys.readouterr().out.count("built without CUDA") == 1
    refused(capsys, program.main, [*argv, "--device", "cpu"])
    assert "built without CUDA" not in capsys.readouterr().out


def test_without_a_compiler_the_model_is_not_compiled(monkeypatch, capsys):
    def no_compiler(function):
        raise RuntimeError("no C++ compiler\nand a long explanation")

    monkeypatch.setattr(torch, "compile", no_compiler)
    model = nn.Sequential(nn.Linear(2, 2))
    monkeypatch.setattr(nn.Module, "compile", lambda part: pytest.fail("was compiled"))
    compile_parts(model, CPU)
    assert capsys.readouterr().out == "--compile: torch.compile does not work here (no C++ compiler); the model is not compiled\n"


def test_compiling_keeps_the_numbers_and_the_names_of_the_weights(monkeypatch):
    """The test uses only the compiler's front end, which needs no C++ compiler."""
    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **settings: compile_with(function, backend="eager"))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh())
    pixels, names = torch.rand(1, 3, 8, 8), list(model.state_dict())
    plain = model(pixels)
    compiled = []
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda part: (compiled.append(type(part)), original(part, backend="eager")))
    compile_parts(model, CPU)
    assert compiled == [nn.Conv2d, nn.Tanh] and list(model.state_dict()) == names
    torch.testing.assert_close(model(pixels), plain)
