"""The processes that train together: a single one, or those that torchrun starts, on one machine or several.

A run has one process per GPU, or per share of the CPU's cores. Each holds the whole model, takes its share of every batch,
and averages its gradients with the others (DistributedDataParallel). All of them leave the loop at the same step, and only
the main process writes.
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

PATIENCE = timedelta(hours=2)  # the other processes wait while the main one decodes a large data set
T = TypeVar("T")


def fresh_store(rank: int, world: int) -> dist.Store:
    """Return the store through which the processes find each other, under a prefix that only these processes use.

    torchrun's store outlives a restart (torch 2.4 to 2.15), and so do the addresses of ended processes, which the new ones would
    try to reach. Therefore each process announces itself under a unique name, and the main process answers with its own name,
    which becomes the prefix.
    """
    store, *_ = next(dist.rendezvous("env://", timeout=PATIENCE))
    name = uuid.uuid4().hex
    if rank:
        store.set(f"hello/{rank}", name)
        prefix = store.get(f"welcome/{name}").decode()  # waits until it is set
        store.add(f"met/{prefix}", 1)
        return dist.PrefixStore(prefix, store)
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while store.add(f"met/{name}", 0) < world - 1:
        if time.monotonic() > deadline:
            raise RuntimeError("some processes did not start")
        for other in range(1, world):
            if store.check([f"hello/{other}"]):
                store.set(f"welcome/{store.get(f'hello/{other}').decode()}", name)
        time.sleep(0.02)
    return dist.PrefixStore(name, store)


class Ranks:
    """This process: number `rank` of `world` over all machines, and number `local` on this machine.

    Raises UserError if the other processes cannot be reached.
    """

    def __init__(self):
        self.rank = int(os.environ.get("RANK", 0))
        self.local = int(os.environ.get("LOCAL_RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))
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
        """Return the maximum of each value over all processes."""
        if self.world == 1:
            return [int(value) for value in values]
        maxima = torch.tensor([int(value) for value in values])
        dist.all_reduce(maxima, dist.ReduceOp.MAX)
        return maxima.tolist()

    def gather_object(self, value: T) -> list[T]:
        """Return the values of all processes, ordered by rank."""
        if self.world == 1:
            return [value]
        values: list = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: T) -> T:
        """Return the main process's value."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def broadcast_tensors_(self, tensors: list[Tensor]) -> None:
        """Overwrite the tensors of all processes with those of the main process."""
        for tensor in tensors if self.world > 1 else []:
            dist.broadcast(tensor, src=0)

    def assert_same(self, **facts) -> None:
        """Raise UserError, in every process, unless all processes pass the same values."""
        first, *others = self.gather_object(facts)
        for rank, theirs in enumerate(others, start=1):
            for name, value in theirs.items():
                if value != first[name]:
                    raise UserError(f"{name}: expected the same in all processes, got {first[name]} in 0 and {value} in {rank}")

    def rank_zero_first(self, work: Callable[[], T]) -> T:
        """Return work(), done by the main process first, then by the first process of each machine, then by all others.

        The earlier ones build files, such as the frame cache, that the later ones then find.
        """
        turn = 0 if self.is_main else 1 if self.local == 0 else 2
        for current in range(3):
            if current == turn:
                result = work()
            if self.world > 1:
                dist.barrier()
        return result

    def is_peer_failure(self, error: RuntimeError) -> bool:
        """Return whether the error was caused by the end of another process."""
        if self.world == 1:
            return False
        return isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection closed" in str(error)

    def close(self) -> None:
        """Leave the process group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
