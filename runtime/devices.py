"""The machine a model runs on: which device, in what precision, compiled or not."""

import torch
from torch import nn

from utils import UserError


def find_device(name: str, *, local_rank: int | None = None) -> torch.device:
    """`auto` is the first of cuda, mps, cpu that this machine has; any other name must exist. Raises UserError.

    Of several processes on a machine, each names itself by its `local_rank` and gets a GPU of its own.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name == "auto":
        name = available[0]
    if local_rank is not None and name.startswith("cuda:"):
        raise UserError(f"--device {name}: several processes would share it; expected auto or cuda, each takes a GPU of its own")
    if local_rank is not None and name == "cuda":
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: not a device; expected auto or one of {', '.join(available)}") from None
    if device.type not in available or (device.index or 0) >= max(1, torch.cuda.device_count()):
        found = f"; it has {torch.cuda.device_count()} GPUs, one is needed for each process" if local_rank else ""
        raise UserError(f"--device {name}: not on this machine{found}; expected auto or one of {', '.join(available)}")
    if local_rank is not None and device.type == "cuda":
        torch.cuda.set_device(device)  # for all that asks for the current one
    return device


def find_precision(name: str, device: torch.device) -> str:
    """What --amp `name` means here: `auto` is bfloat16 where the device has instructions for it, else none.

    Older torch cannot tell what a CPU has, and a CPU without such instructions is slower in bfloat16 than in float32.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "none"
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported") if device.type == "cpu" else ()
    return "bfloat16" if any(getattr(torch.cpu, probe, bool)() for probe in probes) else "none"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which convolutions and LSTMs run in bfloat16 or float16; `none` leaves float32."""
    dtype = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def compile_parts(model: nn.Module, device: torch.device) -> None:
    """Compiles each part of the model where it is called for the first time; weights and their names stay.

    Parts, because the loop over time as a whole would be one graph of every step. Where torch finds no compiler, says so
    and leaves the model as it is.
    """
    try:
        torch.compile(torch.square)(torch.ones(2, device=device))
    except Exception as error:  # whatever the missing compiler's absence leads to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"--compile: torch.compile does not work here ({reason[:100]}); going on without it")
        return
    for part in model.children():
        part.compile()
