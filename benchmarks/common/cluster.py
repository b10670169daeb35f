"""An epoch on N GPUs as arithmetic: a step's compute, loading and all-reduce, added up; scaling.py says what is assumed."""

import math
from typing import NamedTuple


class Work(NamedTuple):
    """One process's step: seconds of compute and of loading, whether loading goes on beside it, and what is in a batch."""

    compute: float
    loading: float
    aside: bool
    gradients: int  # bytes
    clips: int
    length: int  # frames of a clip


class Cluster(NamedTuple):
    """Assumed: bytes/s of a link within and between nodes, seconds of a hop, bytes of a collective."""

    node_gpus: int
    node: float
    net: float
    latency: float
    bucket: float


class Epoch(NamedTuple):
    """An epoch of N GPUs on paper: steps, bytes and seconds of communication of each, seconds in all."""

    steps: int
    sent: float
    communication: float
    apart: float  # no overlap of communication and compute
    overlapped: float


def steps_of_epoch(frames: int, *, length: int, clips: int, gpus: int) -> int:
    """Steps of one pass over the frames, `clips` a process and step."""
    return math.ceil(max(1, frames // length) / (clips * gpus))


def ring_bytes(size: float, gpus: int) -> float:
    """What each process of a ring all-reduce sends of `size` bytes."""
    return 2 * (gpus - 1) / gpus * size


def ring_seconds(size: float, gpus: int, cluster: Cluster) -> float:
    """A ring all-reduce of `size` bytes, one collective for each bucket of them."""
    link = cluster.node if gpus <= cluster.node_gpus else min(cluster.node, cluster.net)
    hops = 2 * (gpus - 1) * math.ceil(size / cluster.bucket)
    return ring_bytes(size, gpus) / link + hops * cluster.latency


def step_seconds(work: Work, communication: float, *, overlap: bool) -> float:
    """One step with the communication behind the compute or, with `overlap`, beside all of it."""
    busy = max(work.compute, communication) if overlap else work.compute + communication
    return max(busy, work.loading) if work.aside else busy + work.loading


def on_paper(work: Work, cluster: Cluster, *, gpus: int, frames: int) -> Epoch:
    """An epoch of so many frames on so many GPUs."""
    steps = steps_of_epoch(frames, length=work.length, clips=work.clips, gpus=gpus)
    communication = ring_seconds(work.gradients, gpus, cluster)
    apart, overlapped = (steps * step_seconds(work, communication, overlap=overlap) for overlap in (False, True))
    return Epoch(steps, ring_bytes(work.gradients, gpus), communication, apart, overlapped)


def efficiency(alone: float, together: float, gpus: int) -> float:
    """In percent; 100 where N GPUs are N times as fast as one."""
    return 100 * alone / (gpus * together)


def weighted(ratio: float, forced: float, own: float) -> float:
    """A step's cost over the recipe, in which the share `ratio` of the steps feeds true frames back."""
    return ratio * forced + (1 - ratio) * own


def compute_on_gpu(flop: float, operators: float, *, tflops: float, launch_us: float) -> float:
    """Seconds of a step on the assumed GPU; kernels run while the next are launched, so the longer of the two."""
    return max(flop / (tflops * 1e12), operators * launch_us / 1e6)
