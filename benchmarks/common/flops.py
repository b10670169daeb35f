"""Count the floating-point operations and the operators of some work, and measure the arithmetic rate of a device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common.measure import time_work


def count_gflop(work: Callable[[], object], frames: int) -> float:
    """Return the floating-point operations of `work` per frame, in units of 1e9; a multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9 / frames


def training_gflop(model: nn.Module, inputs: dict[str, Tensor], *, forced: bool) -> float:
    """Return the GFLOP of forward and backward per predicted frame, teacher-forced or autoregressive."""
    clips, length = inputs["frames"].shape[:2]

    def forward_and_backward() -> None:
        losses = model(**inputs, teacher_forcing=forced)
        (losses.mse + losses.kl).backward()

    return count_gflop(forward_and_backward, clips * (length - 1))


class OperatorCounter(TorchDispatchMode):
    """Counts the operators that touch values. Views and empty tensors do not count: they launch no kernel on a GPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not (func.is_view or func.name().startswith("aten::empty"))
        return func(*args, **(kwargs or {}))


def count_operators(work: Callable[[], object]) -> int:
    """Return the number of operators that `work` runs, backward included; on a GPU each launches at least one kernel."""
    with OperatorCounter() as counter:
        work()
    return counter.count


def matmul_gflops(dtype: torch.dtype, device: torch.device, size: int, repeats: int = 8) -> float:
    """Return the GFLOP/s of a product of two square matrices: the best of `repeats` products after one to warm up."""
    a, b = torch.rand(2, size, size, device=device).to(dtype)
    times = [time_work(lambda: a @ b, device) for _ in range(repeats + 1)]
    return 2 * size**3 / min(times[1:]) / 1e9
