"""Batches of clips, and the loader that reads them."""

import pickle

import numpy as np
import pytest
import torch

from data.dance import DanceSplit
from dataloader import ClipBatches, build_loader
from tests.helpers.dance import SIZE, clips_of


@pytest.fixture
def split(rendered) -> DanceSplit:
    return DanceSplit.load(rendered, "train", **SIZE)


def test_an_epoch_is_shuffled_and_keeps_the_last_partial_batch(split):
    clips = clips_of(split)
    order = ClipBatches(len(clips), batch_size=3, accumulate=1, seed=1)
    loader = build_loader(clips, order, workers=0, pin=False)
    assert [len(batch["frames"]) for _, batch in loader] == [3, 3, 2]
    orders = []
    for epoch in (0, 1):
        order.set_epoch(epoch)
        orders.append([index for batch in order for _, index in batch])
        assert sorted(orders[-1]) == list(range(8))
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])


def test_fast_train_takes_a_part_of_the_clips(split):
    order = ClipBatches(8, batch_size=2, accumulate=1, seed=1)
    order.set_epoch(0, fraction=0.4)
    assert sorted(index for batch in order for _, index in batch) == [0, 1, 2] and len(order) == 2


def test_worker_processes_deliver_the_same_clips(split):
    batches = []
    for workers in (0, 2):
        clips = clips_of(split, flip=0.5)
        order = ClipBatches(len(clips), batch_size=3, accumulate=1, seed=1)
        loader = build_loader(clips, order, workers=workers, pin=False)
        batches.append([])
        for epoch in (0, 1):  # the second epoch must reach the same workers
            order.set_epoch(epoch)
            batches[-1] += [batch for _, batch in loader]
    assert len(batches[0]) == len(batches[1]) == 6
    assert all(torch.equal(a[name], b[name]) for a, b in zip(*batches) for name in a)
    assert len(pickle.dumps(split)) < 2000  # a pickled memory map would carry every pixel
    assert np.array_equal(pickle.loads(pickle.dumps(split)).images, split.images)
