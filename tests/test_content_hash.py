"""The content hash of training data, and jobs whose data change while they run."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.robot import RobotClips, RobotSplit
from dataloader import ClipBatches, build_loader
from tests.helpers.dance import load_clips
from tests.helpers.images import write_image
from utils import UserError


def robot_clips(root) -> RobotClips:
    split = RobotSplit.load(root, "train", height=32, width=32, shortest=4)
    return RobotClips(split=split, length=4, clips_per_epoch=6, partial=1.0, seed=1, shift=0)


def change_spot(path) -> None:
    """Change a spot of an image that is large enough to remain visible when the image is resized."""
    pixels = np.array(Image.open(path))
    pixels[4:8, 4:8] ^= 64
    Image.fromarray(pixels).save(path)


def test_a_dance_has_the_same_hash_in_every_folder(dataset, tmp_path):
    before = load_clips(dataset).content_hash
    assert len(before) == 16 and int(before, 16) >= 0
    assert load_clips(dataset).content_hash == before  # from the cache file
    copy = shutil.copytree(dataset, tmp_path / "elsewhere", ignore=shutil.ignore_patterns(".frame_cache"))
    for path in copy.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    assert load_clips(copy).content_hash == before


@pytest.mark.parametrize("change", ["frame", "pose", "number", "skipped"])
def test_a_changed_dance_has_another_hash(dataset, change):
    before = load_clips(dataset).content_hash
    frame, pose = (dataset / "train" / f"train_{kind}" / "frame001039.png" for kind in ("img", "label"))
    if change in ("frame", "pose"):
        change_spot({"frame": frame, "pose": pose}[change])
    elif change == "number":  # the same images, but the last one after a cut
        for path in (frame, pose):
            path.rename(path.with_name("frame001050.png"))
    else:
        frame.write_bytes(b"")
    assert load_clips(dataset, skip_bad=change == "skipped").content_hash != before


def write_sequences(folder, lengths: list[int]) -> None:
    """Write sequences of these lengths; equal totals give the same images and actions in the same order."""
    t = 0
    for name, frames in enumerate(lengths):
        times = range(t, t + frames)
        for i, time in enumerate(times):
            write_image(folder / "train" / str(name) / f"{i}.png", size=(32, 32), seed=time)
        np.savetxt(folder / "train" / str(name) / "actions.csv", [[time, 1] for time in times], delimiter=",")
        t += frames


@pytest.mark.parametrize("change", ["nothing", "pixel", "action", "border"])
def test_the_hash_of_the_robots_data(tmp_path, change):
    write_sequences(tmp_path / "one", [5, 4])
    write_sequences(tmp_path / "two", [4, 5] if change == "border" else [5, 4])
    if change == "pixel":
        change_spot(tmp_path / "two" / "train" / "0" / "3.png")
    elif change == "action":
        table = tmp_path / "two" / "train" / "0" / "actions.csv"
        table.write_text(table.read_text().replace("1.000000000000000000e+00", "1.000001000000000000e+00", 1))
    one, two = (robot_clips(tmp_path / name).content_hash for name in ("one", "two"))
    assert (one == two) == (change == "nothing") and len(one) == 16


@pytest.mark.skipif(os.name == "nt", reason="Windows does not remove open files")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_running_job_keeps_the_pixels_it_started_with(dataset, workers):
    """Another process rebuilds the cache for changed images and removes the old file, also while workers read it."""
    clips = load_clips(dataset)
    expected = [[clips[epoch, index]["frames"] for index in range(len(clips))] for epoch in (0, 1)]
    batches = ClipBatches(len(clips), batch_size=1, accumulate=1, seed=1)
    loader = build_loader(clips, batches, workers=workers, pin=False)
    file, seen = Path(clips.split.images.filename), []
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        order = [index for ((_, index),) in batches]
        for index, (_, batch) in zip(order, loader):
            seen.append(torch.equal(batch["frames"][0], expected[epoch][index]))
        if epoch == 0:
            for path in (dataset / "train" / "train_img").iterdir():
                write_image(path, seed=5)
            assert load_clips(dataset).content_hash != clips.content_hash
            assert not file.exists()
    assert len(seen) == 2 * len(clips) and all(seen)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not remove open files")
def test_a_worker_without_a_cache_is_refused_in_one_line(dataset):
    """Processes that are not forked receive the clips as a pickle and open the cache by its name."""
    clips = load_clips(dataset)
    shutil.rmtree(dataset / ".frame_cache")
    with pytest.raises(UserError, match=r"\.npy: the frame cache was removed"):
        pickle.dumps(clips)
    loader = build_loader(clips, ClipBatches(len(clips), batch_size=1, accumulate=1, seed=1), workers=1, pin=False)
    loader.multiprocessing_context = "spawn"
    with pytest.raises(UserError, match=r"\.npy: the frame cache was removed"):
        iter(loader)
