"""Devices, precisions and compiling, on machines that have them and on machines that do not."""

import pytest
import torch
from torch import nn

from runtime.devices import autocast, compile_parts, find_device, find_precision
from utils import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "cpu"])
def test_a_device_that_is_not_there_is_refused(name):
    if name == "cpu":
        assert find_device("auto").type in ("cuda", "mps", "cpu") and find_device("cpu").type == "cpu"
    else:
        with pytest.raises(UserError, match=f"--device {name}"):
            find_device(name)


@pytest.mark.parametrize(
    "amx, avx, expected", [(False, False, "none"), (True, False, "bfloat16"), (False, True, "bfloat16"), (None, None, "none")]
)
def test_auto_takes_bfloat16_only_where_the_cpu_has_instructions_for_it(monkeypatch, amx, avx, expected):
    """None: a torch that is too old to tell."""
    for probe, there in (("_is_amx_tile_supported", amx), ("_is_avx512_bf16_supported", avx)):
        monkeypatch.delattr(torch.cpu, probe, raising=False)
        if there is not None:
            monkeypatch.setattr(torch.cpu, probe, lambda there=there: there, raising=False)
    assert find_precision("auto", CPU) == expected


@pytest.mark.parametrize("capability, expected", [((7, 5), "none"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_auto_takes_bfloat16_on_graphics_cards_from_ampere_on(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert find_precision("auto", torch.device("cuda", 0)) == expected


@pytest.mark.parametrize("name", ["none", "float16", "bfloat16"])
def test_a_precision_that_is_asked_for_is_taken(name):
    assert find_precision(name, CPU) == name


@pytest.mark.parametrize("precision, dtype", [("none", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_runs_products_in_the_precision_asked_for(precision, dtype):
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_compiling_without_a_compiler_says_so_and_leaves_the_model_alone(monkeypatch, capsys):
    def no_compiler(function):
        raise RuntimeError("no C++ compiler\nand a long explanation")

    monkeypatch.setattr(torch, "compile", no_compiler)
    model = nn.Sequential(nn.Linear(2, 2))
    monkeypatch.setattr(nn.Module, "compile", lambda part: pytest.fail("was compiled"))
    compile_parts(model, CPU)
    assert capsys.readouterr().out == "--compile: torch.compile does not work here (no C++ compiler); going on without it\n"


def test_compiling_keeps_the_numbers_and_the_names_of_the_weights(monkeypatch):
    """With the compiler's front alone, which needs no C++ compiler."""
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
