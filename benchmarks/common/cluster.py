"""Estimate an epoch on N GPUs from the compute, loading and all-reduce of one step; scaling.py lists the assumptions."""

import math
from typing import NamedTuple


class StepCost(NamedTuple):
    """The cost of one process's training step."""

    compute: float  # seconds
    loading: float  # seconds
    parallel_loading: bool  # whether worker processes load batches during the compute
    gradient_bytes: int
    clips: int  # of a batch
    length: int  # frames of a clip


class Cluster(NamedTuple):
    """The assumed hardware."""

    node_gpus: int
    node_bandwidth: float  # bytes/s between GPUs of a node
    network_bandwidth: float  # bytes/s between nodes
    hop_latency: float  # seconds
    bucket_bytes: float  # gradients of one collective


class EpochEstimate(NamedTuple):
    """The estimate of an epoch on N GPUs."""

    steps: int
    sent_bytes: float  # per process and step
    communication: float  # seconds per step
    sequential: float  # seconds of the epoch if communication follows compute
    overlapped: float  # seconds of the epoch if communication and compute overlap fully


def steps_per_epoch(frames: int, *, length: int, clips: int, gpus: int) -> int:
    """Return the steps of one pass over the frames, with `clips` clips per process and step."""
    return math.ceil(max(1, frames // length) / (clips * gpus))


def ring_bytes(size: float, gpus: int) -> float:
    """Return the bytes that each process sends in a ring all-reduce of `size` bytes."""
    return 2 * (gpus - 1) / gpus * size


def ring_seconds(size: float, gpus: int, cluster: Cluster) -> float:
    """Return the seconds of a ring all-reduce of `size` bytes, one collective per bucket."""
    link = cluster.node_bandwidth
    if gpus > cluster.node_gpus:
        link = min(link, cluster.network_bandwidth)
    hops = 2 * (gpus - 1) * math.ceil(size / cluster.bucket_bytes)
    return ring_bytes(size, gpus) / link + hops * cluster.hop_latency


def step_seconds(cost: StepCost, communication: float, *, overlap: bool) -> float:
    """Return the seconds of one step whose communication follows the compute or, with `overlap`, runs during all of it."""
    busy = max(cost.compute, communication) if overlap else cost.compute + communication
    return max(busy, cost.loading) if cost.parallel_loading else busy + cost.loading


def estimate_epoch(cost: StepCost, cluster: Cluster, *, gpus: int, frames: int) -> EpochEstimate:
    """Return the estimate for an epoch of `frames` frames on `gpus` GPUs."""
    steps = steps_per_epoch(frames, length=cost.length, clips=cost.clips, gpus=gpus)
    communication = ring_seconds(cost.gradient_bytes, gpus, cluster)
    return EpochEstimate(
        steps=steps,
        sent_bytes=ring_bytes(cost.gradient_bytes, gpus),
        communication=communication,
        sequential=steps * step_seconds(cost, communication, overlap=False),
        overlapped=steps * step_seconds(cost, communication, overlap=True),
    )


def efficiency(one_gpu: float, many_gpus: float, gpus: int) -> float:
    """Return the parallel efficiency in percent: 100 if N GPUs are N times as fast as one."""
    return 100 * one_gpu / (gpus * many_gpus)


def recipe_mean(ratio: float, forced: float, autoregressive: float) -> float:
    """Return the mean cost of a step over a recipe in which the share `ratio` of the steps is teacher-forced."""
    return ratio * forced + (1 - ratio) * autoregressive


def gpu_compute_seconds(flop: float, operators: float, *, tflops: float, launch_us: float) -> float:
    """Return the seconds of a step on the assumed GPU: the longer of arithmetic and kernel launches, which run in parallel."""
    return max(flop / (tflops * 1e12), operators * launch_us / 1e6)
