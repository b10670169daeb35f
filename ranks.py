"""The processes that train together: one alone, or those that torchrun starts, on one machine or several.

A run has one process per GPU, or per share of the CPU's cores. Each holds the whole model, takes its share of every batch,
and averages its gradients with the others (DistributedDataParallel). All of them leave the loop at the same step, and the
first alone writes.
"""
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from utils import UserError

PATIENCE = timedelta(hours=2)  # for the others, who wait while the first decodes a large data set
T = TypeVar("T")


class Ranks:
    """This process among `world`: `rank` counts through all machines, `local` on this one. Raises UserError if the others
    cannot be reached."""

    def __init__(self):
        self.rank, self.local, self.world = (int(os.environ.get(name, default)) for name, default in
                                             [("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 1)])  # fmt: skip
        if self.world > 1:
            # Flags and scores travel by gloo between CPUs, gradients by NCCL where there are GPUs.
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
            try:
                dist.init_process_group(backend, timeout=PATIENCE)
            except (RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise UserError(f"process {self.rank} of {self.world} cannot reach the others ({reason})") from None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def highest(self, *values: int) -> list[int]:
        """The largest of each value over all processes."""
        if self.world == 1:
            return [int(value) for value in values]
        largest = torch.tensor([int(value) for value in values])
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest.tolist()

    def gather(self, value: T) -> list[T]:
        """What every process has, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def share(self, value: T) -> T:
        """What the first process has, to all."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def in_turns(self, work: Callable[[], T]) -> T:
        """work(), in the first process before all others, then in the first one of each machine, then in the rest: what is
        built once and then found, as the frame cache."""
        turn = 0 if self.leads else 1 if self.local == 0 else 2
        for now in range(3):
            if now == turn:
                result = work()
            if self.world > 1:
                dist.barrier()
        return result

    def close(self) -> None:
        """Ends the group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
