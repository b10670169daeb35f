"""How much arithmetic something takes, and how much the machine can do."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common.measure import seconds


def count_gflop(work: Callable[[], object], frames: int) -> float:
    """1e9 floating-point operations per frame of `work`; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9 / frames


def training_gflop(model: nn.Module, inputs: dict[str, Tensor], *, forced: bool) -> float:
    """1e9 floating-point operations per predicted frame of forward and backward, true frames or the model's own fed back."""
    clips, length = inputs["frames"].shape[:2]

    def step() -> None:
        losses = model(**inputs, teacher_forcing=forced)
        (losses.mse + losses.kl).backward()

    return count_gflop(step, clips * (length - 1))


class OperatorCounter(TorchDispatchMode):
    """Counts the operators that torch runs and that touch values: views and empty tensors give a GPU nothing to do."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not (func.is_view or func.name().startswith("aten::empty"))
        return func(*args, **(kwargs or {}))


def count_operators(work: Callable[[], object]) -> int:
    """How many operators `work` runs, backward and optimizer included; on a GPU each is a launch at least."""
    with OperatorCounter() as counter:
        work()
    return counter.count


def matrix_rate(dtype: torch.dtype, device: torch.device, size: int, repeats: int = 8) -> float:
    """GFLOP/s of a product of two square matrices, the best of several."""
    a, b = torch.rand(2, size, size, device=device).to(dtype)
    times = [seconds(lambda: a @ b, device) for _ in range(repeats + 1)]
    return 2 * size**3 / min(times[1:]) / 1e9
