"""The device that a model runs on, its precision, and compilation."""

import shutil
import subprocess

import torch
from torch import nn

from utils import RANK, UserError, counted

NVIDIA_SMI_TIMEOUT = 10  # seconds; it answers within one unless the driver hangs


def find_device(name: str, *, local_rank: int | None = None) -> torch.device:
    """Return the device called `name`; `auto` is the first available of cuda, mps and cpu.

    With several processes on a machine, each passes its `local_rank` and gets a GPU of its own. Raises UserError for a device
    that is not available.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name == "auto":
        name = available[0]
    if local_rank is not None and name.startswith("cuda:"):
        raise UserError(f"--device {name}: expected auto or cuda, so that each process gets its own GPU")
    if local_rank is not None and name == "cuda":
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: not a device; expected auto or one of {', '.join(available)}") from None
    if device.type not in available or (device.index or 0) >= max(1, torch.cuda.device_count()):
        gpus = f", which has {counted(torch.cuda.device_count(), 'GPU')}; each process needs one" if local_rank else ""
        raise UserError(f"--device {name}: not on this machine{gpus}; expected auto or one of {', '.join(available)}")
    if local_rank is not None and device.type == "cuda":
        torch.cuda.set_device(device)  # for library code that asks for the current device
    return device


def find_precision(name: str, device: torch.device) -> str:
    """Return the precision that --amp `name` means on the device: none, bfloat16 or float16.

    `auto` is a 16-bit format if the device has fast instructions for it, else none: without them it is slower than float32.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        # Tensor cores compute in float16 from Volta (7.0) on, in bfloat16 from Ampere (8.0) on.
        return "bfloat16" if major >= 8 else "float16" if major == 7 else "none"
    if device.type == "cpu":
        for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            if getattr(torch.cpu, probe, bool)():  # an older torch lacks the probe; bool() is False
                return "bfloat16"
    return "none"


def warn_without_cuda(device: str) -> None:
    """Print one line if --device `device` asks for a GPU and this machine has one by NVIDIA, but torch was built without CUDA.

    pip installs such a torch on Windows by default. Without nvidia-smi, this costs one search of PATH. Never raises.
    """
    wants_gpu = device == "auto" or device.split(":")[0] == "cuda"
    if RANK != "0" or not wants_gpu or torch.version.cuda is not None or torch.cuda.is_available():
        return
    if gpu := nvidia_gpu_name():
        print(f"--device {device}: this machine has an NVIDIA GPU ({gpu}), but the installed torch was built without CUDA and "
              "cannot use it; install torch with CUDA (see README, Install)", flush=True)  # fmt: skip


def nvidia_gpu_name() -> str | None:
    """Return the name of the first GPU that nvidia-smi lists; None without nvidia-smi, or if it fails or lists none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        listing = subprocess.run([program, "-L"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 timeout=NVIDIA_SMI_TIMEOUT, text=True, encoding="utf-8", errors="replace")  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    for line in listing.stdout.splitlines():
        index, _, name = line.partition(": ")  # "GPU 0: Tesla T4 (UUID: GPU-...)"
        if index.startswith("GPU ") and name.strip():
            return name.split(" (UUID")[0].strip()[:60]
    return None


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return a context in which convolutions and LSTMs run in `precision`, or in float32 with "none"."""
    dtype = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def compile_parts(model: nn.Module, device: torch.device) -> None:
    """Compile each child module at its first call, without changing the weights or their names.

    Compiled as a whole, the loop over time would become one graph with all its steps. If torch finds no compiler, print a line
    and leave the model as it is.
    """
    try:
        torch.compile(torch.square)(torch.ones(2, device=device))
    except Exception as error:  # a missing compiler shows in many ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"--compile: torch.compile does not work here ({reason[:100]}); the model is not compiled")
        return
    for part in model.children():
        part.compile()
