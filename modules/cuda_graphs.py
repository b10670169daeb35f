"""A function that is called many times with tensors of the same shapes, recorded once as a CUDA graph.

A step of a small model is dozens of short GPU operations, and starting each of them from Python takes longer than the operation.
A CUDA graph starts all of them at once. What is computed stays the same.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # calls before a function is recorded, in which CUDA's libraries choose and allocate
WORTHWHILE = 100  # calls from which on recording saves time


@contextlib.contextmanager
def recording(graph: torch.cuda.CUDAGraph, pool: Any = None) -> Iterator[None]:
    """A context whose GPU operations are recorded in a graph instead of run. Raises RuntimeError if that is impossible.

    Other threads, such as the one that pins batches, may use the GPU meanwhile.
    """
    # The outer context restores the stream; the inner one does not after an error.
    with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        yield


def recorded(function: Callable[..., Tensor], *example: Tensor, calls: int) -> Callable[..., Tensor]:
    """Return a function of tensors shaped like `example` that does the same faster, or the function itself.

    It stays itself outside of a GPU, for less `calls` than are worthwhile, and where CUDA cannot record it. The function must not
    draw random numbers or change anything; gradients are not recorded.
    """
    if example[0].device.type != "cuda" or calls < WORTHWHILE:
        return function
    inputs = [tensor.clone() for tensor in example]
    for _ in range(WARM_UP):
        function(*inputs)
    graph = torch.cuda.CUDAGraph()
    try:
        with recording(graph):
            output = function(*inputs)
    except RuntimeError:
        return function

    def replay(*given: Tensor) -> Tensor:
        for fixed, tensor in zip(inputs, given):
            fixed.copy_(tensor)
        graph.replay()
        return output.clone()

    return replay
