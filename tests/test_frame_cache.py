import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torchvision.transforms as transforms
from conftest import ROOT, write_image
from PIL import Image

import frame_cache
from frame_cache import cached_frames, read_image
from utils import UserError


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return [write_image(tmp_path / "data" / f"{i}.png", seed=i) for i in range(5)]


def load(paths, **flags) -> np.ndarray:
    return cached_frames(paths, **{"root": paths[0].parent, "name": "train", "height": 32, "width": 64} | flags)


def cache_files(paths) -> list[Path]:
    return sorted((paths[0].parent / frame_cache.FOLDER).iterdir())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "1"])
@pytest.mark.parametrize("size", [(1024, 512), (64, 32), (50, 70)])
def test_an_image_is_resized_as_the_course_does(tmp_path, mode, size):
    path = write_image(tmp_path / "image.png", size=size, mode=mode)
    course = transforms.Compose([transforms.Resize((32, 64)), transforms.ToTensor()])
    expected = (course(Image.open(path).convert("RGB")).numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(read_image(path, height=32, width=64), expected)


def test_the_cache_holds_the_images_in_order(paths):
    frames = load(paths)
    assert frames.shape == (5, 3, 32, 64) and frames.dtype == np.uint8 and not frames.flags.writeable
    for path, frame in zip(paths, frames):
        assert np.array_equal(frame, np.asarray(Image.open(path)).transpose(2, 0, 1))


def test_a_valid_cache_is_used_without_touching_an_image(paths, monkeypatch):
    """1024x512 PNGs decoded again every epoch made training wait for the disk."""
    first = load(paths).copy()
    monkeypatch.setattr(frame_cache, "read_image", lambda *_, **__: pytest.fail("an image was decoded"))
    assert np.array_equal(load(paths), first)


@pytest.mark.parametrize("change", ["rewritten", "added", "removed", "renamed", "size"])
def test_a_changed_file_makes_a_new_cache_and_removes_the_old_one(paths, change):
    load(paths)
    flags = {}
    if change == "rewritten":
        before = paths[2].stat()
        write_image(paths[2], seed=99)
        os.utime(paths[2], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    elif change == "added":
        paths.append(write_image(paths[0].parent / "9.png", seed=9))
    elif change == "removed":
        paths.pop()
    elif change == "renamed":
        paths[4] = paths[4].rename(paths[4].with_name("8.png"))
    else:
        flags = {"height": 16, "width": 32}
    frames = load(paths, **flags)
    assert len(frames) == len(paths)
    assert np.array_equal(frames[2], read_image(paths[2], height=frames.shape[2], width=frames.shape[3]))
    # Another size is another cache; changed images replace theirs.
    assert len(cache_files(paths)) == (2 if change == "size" else 1)


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign"])
def test_a_damaged_cache_is_built_again(paths, damage):
    expected = load(paths).copy()
    (file,) = cache_files(paths)
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[:-1000], "empty": b"", "foreign": b"something else"}[damage])
    assert np.array_equal(load(paths), expected)


def test_a_failed_build_leaves_nothing_behind(paths):
    paths[3].write_bytes(paths[3].read_bytes()[:200])
    with pytest.raises(UserError, match=r"3\.png: cannot be read as an image"):
        load(paths)
    assert cache_files(paths) == []


def test_a_full_disk_is_reported_and_leaves_nothing_behind(paths, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame_cache, "write_array_header_1_0", full)
    with pytest.raises(OSError, match="No space left"):
        load(paths)
    assert cache_files(paths) == []


def test_two_processes_that_start_together_both_get_the_whole_cache(tmp_path):
    folder = tmp_path / "data"
    for i in range(60):
        write_image(folder / f"{i}.png", size=(256, 128), seed=i)
    code = (
        "import sys; from pathlib import Path; from frame_cache import cached_frames\n"
        "root = Path(sys.argv[1]); paths = sorted(root.glob('*.png'))\n"
        "print(cached_frames(paths, root=root, name='train', height=32, width=64).sum())"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = [run.communicate()[0].strip() for run in runs]
    assert sums[0] == sums[1] != "" and [run.returncode for run in runs] == [0, 0]
    assert len(list((folder / frame_cache.FOLDER).iterdir())) == 1


def test_data_that_cannot_be_written_is_cached_in_the_users_folder(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    (paths[0].parent / frame_cache.FOLDER).write_text("in the way, as a read-only folder would be")
    load(paths)
    assert len(list((tmp_path / "home").rglob("*.npy"))) == 1
    monkeypatch.setattr(frame_cache, "read_image", lambda *_, **__: pytest.fail("an image was decoded"))
    load(paths)
    # With nowhere to write, the way out is named.
    shutil.rmtree(tmp_path / "home")
    (tmp_path / "home").write_text("in the way")
    with pytest.raises(UserError, match="--cache_dir"):
        load(paths)


def test_a_chosen_folder_is_used(paths, tmp_path):
    load(paths, folder=tmp_path / "chosen")
    assert len(list((tmp_path / "chosen").rglob("train-32x64-*.npy"))) == 1
    assert not (paths[0].parent / frame_cache.FOLDER).exists()


def test_two_data_sets_can_share_a_chosen_folder(paths, tmp_path, monkeypatch):
    """Both have a split called train; neither may take the other's file for an old one of its own."""
    others = [write_image(tmp_path / "other" / "1.png", seed=7)]
    load(paths, folder=tmp_path / "chosen")
    load(others, folder=tmp_path / "chosen")
    monkeypatch.setattr(frame_cache, "read_image", lambda *_, **__: pytest.fail("an image was decoded"))
    assert len(load(paths, folder=tmp_path / "chosen")) == 5 and len(load(others, folder=tmp_path / "chosen")) == 1


def test_the_course_data_fit_in_300_megabytes(paths):
    """23,410 frames and as many poses; the file is its pixels and a short header."""
    load(paths)
    (file,) = cache_files(paths)
    header = file.stat().st_size - 5 * 3 * 32 * 64
    assert 2 * 23_410 * 3 * 32 * 64 + header < 300e6
