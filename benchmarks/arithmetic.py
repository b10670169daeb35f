"""How much arithmetic something takes, and how much the machine can do."""
from collections.abc import Callable

import torch
from measure import seconds
from torch.utils.flop_counter import FlopCounterMode


def count_gflop(work: Callable[[], object], frames: int) -> float:
    """1e9 floating-point operations per frame of `work`; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9 / frames


def matrix_rate(dtype: torch.dtype, device: torch.device, size: int, repeats: int = 8) -> float:
    """GFLOP/s of a product of two square matrices, the best of several."""
    a, b = torch.rand(2, size, size, device=device).to(dtype)
    times = [seconds(lambda: a @ b, device) for _ in range(repeats + 1)]
    return 2 * size**3 / min(times[1:]) / 1e9
