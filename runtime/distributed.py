"""The processes that train together: one alone, or those that torchrun starts, on one machine or several.

A run has one process per GPU, or per share of the CPU's cores. Each holds the whole model, takes its share of every batch,
and averages its gradients with the others (DistributedDataParallel). All of them leave the loop at the same step, and the
first alone writes.
"""

import os
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from utils import UserError

PATIENCE = timedelta(hours=2)  # for the others, who wait while the first decodes a large data set
T = TypeVar("T")


def fresh_store(rank: int, world: int) -> dist.Store:
    """The store through which processes find each other, a corner of it that is used by these very processes alone.

    torchrun's outlives a restart (torch 2.4 to 2.15): with it the addresses of processes that are gone, which the new ones would
    call. Here each says hello by a name of its own, and the first welcomes it to a corner named after itself.
    """
    store, *_ = next(dist.rendezvous("env://", timeout=PATIENCE))
    name = uuid.uuid4().hex
    if rank:
        store.set(f"hello/{rank}", name)
        corner = store.get(f"welcome/{name}").decode()  # waits for it
        store.add(f"met/{corner}", 1)
        return dist.PrefixStore(corner, store)
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while store.add(f"met/{name}", 0) < world - 1:
        if time.monotonic() > deadline:
            raise RuntimeError("not all of them came")
        for other in range(1, world):
            if store.check([f"hello/{other}"]):
                store.set(f"welcome/{store.get(f'hello/{other}').decode()}", name)
        time.sleep(0.02)
    return dist.PrefixStore(name, store)


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
                store = fresh_store(self.rank, self.world)
                dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.world, timeout=PATIENCE)
            except (RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise UserError(f"process {self.rank} of {self.world} cannot reach the others ({reason})") from None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def max_over_ranks(self, *values: int) -> list[int]:
        """The largest of each value over all processes."""
        if self.world == 1:
            return [int(value) for value in values]
        largest = torch.tensor([int(value) for value in values])
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest.tolist()

    def gather_object(self, value: T) -> list[T]:
        """What every process has, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: T) -> T:
        """What the first process has, to all."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def broadcast_tensors_(self, tensors: list[Tensor]) -> None:
        """Writes the first process's values into the tensors of all."""
        for tensor in tensors if self.world > 1 else []:
            dist.broadcast(tensor, src=0)

    def assert_same(self, **facts) -> None:
        """Raises UserError, in every process, if they do not all have the same facts."""
        first, *others = self.gather_object(facts)
        for rank, theirs in enumerate(others, start=1):
            for name, value in theirs.items():
                if value != first[name]:
                    raise UserError(f"process {rank} has {name} {value}, process 0 has {first[name]}; expected the same in all")

    def rank_zero_first(self, work: Callable[[], T]) -> T:
        """work(), in the first process before all others, then in the first one of each machine, then in the rest: what is
        built once and then found, as the frame cache."""
        turn = 0 if self.is_main else 1 if self.local == 0 else 2
        for now in range(3):
            if now == turn:
                result = work()
            if self.world > 1:
                dist.barrier()
        return result

    def is_peer_failure(self, error: RuntimeError) -> bool:
        """Whether the error comes from another process's end."""
        return self.world > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection closed" in str(error))

    def close(self) -> None:
        """Ends the group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
